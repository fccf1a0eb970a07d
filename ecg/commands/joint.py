"""Connect the processes of a training, and end all of them together."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import keras

from ecg.runtime.cache import KEY_LENGTH, fingerprint, source_hash
from ecg.runtime.console import describe_error
from ecg.runtime.keras_startup import hide_standard_output
from ecg.runtime.peers import EarlyExit, Follower, Leader, PeerError, exit_with_line
from ecg.runtime.rendezvous import VISIBLE_GPUS, connect_peers
from ecg.systems.joint_training import LeadingRunner, follow_stages
from ecg.systems.stage_runner import STAGE_SOURCES, StageRunner, program_versions
from ecg.training.distribution import connect_devices

LOGGER = logging.getLogger("ecg")

GRACE_SECONDS = 5.0  # after an error, for the end of the process that caused it


@contextmanager
def leading_runner(model: Path, count: int, program: str) -> Iterator[Callable[..., StageRunner]]:
    """Connect the processes of a training; run the block in process 0 only.

    Other processes train the networks that process 0 sends, and end with the block.

    Args:
        model: Model folder.
        count: Number of processes.
        program: Name of the command, for messages.

    Yields:
        What makes the runner of the stages, with the arguments of a StageRunner.

    Raises:
        PeerError: The backend is not JAX, not all processes have come, or they differ.
        OSError: The model folder is not writable.
    """
    peers = join_peers(model, count, program)
    if isinstance(peers, Follower):
        follow_training(peers, program)
    ending = EarlyExit()
    try:
        connect_devices_of(peers)
        hosts = Counter(peer.host for peer in peers.peers)
        places = ", ".join(f"{number} on {host}" for host, number in hosts.items())
        LOGGER.info(f"{count} processes train each network together: {places}")
        yield partial(LeadingRunner, peers=peers)
        ending.status = 0
    except BaseException as error:
        ending.status = exit_status(error)
        if not isinstance(error, SystemExit | PeerError):
            time.sleep(GRACE_SECONDS)  # if another process has ended, this process ends here
        raise
    finally:
        peers.close(done=ending.status == 0)


def join_peers(model: Path, count: int, program: str) -> Leader | Follower:
    """Connect to the other processes; see `leading_runner`."""
    if keras.backend.backend() != "jax":
        raise PeerError(f"--processes needs JAX, but the backend of Keras is {keras.backend.backend()}; set "
                        f"KERAS_BACKEND=jax in the environment of all processes")  # fmt: skip
    program_hash, _, _, jax_version = program_versions(*STAGE_SOURCES)
    versions = {"the program": fingerprint(source_hash("runtime", "commands"), program_hash)[:KEY_LENGTH],
                "Keras": keras.version(), "JAX": jax_version}  # fmt: skip
    return connect_peers(model, count, versions, program)


def connect_devices_of(peers: Leader | Follower) -> None:
    """Connect the devices of all processes, after dividing those of a machine.

    Raises:
        PeerError: The processes do not reach each other.
    """
    if peers.welcome.gpus is not None:
        os.environ[VISIBLE_GPUS] = peers.welcome.gpus
    try:
        with hide_standard_output():  # to which the connections of processors write
            connect_devices(peers.welcome.coordinator, peers.count, peers.process)
    except RuntimeError as error:
        raise PeerError(f"JAX does not reach the other processes: {describe_error(error)}") from error


def follow_training(peers: Follower, program: str) -> NoReturn:
    """Train with process 0 until it ends, then end this process."""
    terminal = os.dup(2)
    with open(os.devnull, "w") as nothing:  # JAX would print a stack trace if process 0 is killed
        os.dup2(nothing.fileno(), 2)
    try:
        connect_devices_of(peers)
        follow_stages(peers)
    except SystemExit as error:  # interrupted, as process 0 is
        os._exit(exit_status(error))
    except BaseException as error:  # noqa: BLE001 - whatever it is, process 0 must not wait for this process
        time.sleep(GRACE_SECONDS)  # if process 0 has the same error or has ended, this process ends here
        os.dup2(terminal, 2)
        exit_with_line(f"{program}: error: {peers.me}: {describe_error(error)}")
    os._exit(0)


def exit_status(error: BaseException) -> int:
    """Return the status with which Python ends for an exception."""
    code = error.code if isinstance(error, SystemExit) else 1
    return code if isinstance(code, int) else int(code is not None)
