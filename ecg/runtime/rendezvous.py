"""Let the processes of a training find each other, by a file in the model folder.

Process 0 writes its address and a key into the file, and the others connect to it. All must see the same folder.
"""

import hmac
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ecg.runtime import peer_guard
from ecg.runtime.cache import read_manifest
from ecg.runtime.console import RESUME_ADVICE
from ecg.runtime.files import atomic_path, check_writable, to_json
from ecg.runtime.peers import Follower, Leader, Peer, PeerError, Welcome, receive_message, send_message
from ecg.runtime.processes import block_interrupts

RENDEZVOUS = ".processes.json"  # file in the model folder, until all processes have connected
LOOPBACK = "127.0.0.1"
# Variables with the number of a process and the count of processes: of torchrun and others, Slurm's srun, Open MPI.
LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
             ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"))  # fmt: skip
LEADER = "MASTER_ADDR"  # variable with the address of process 0; by default its host name
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
WAIT_SECONDS = 300.0  # for all processes to connect
RETRY_SECONDS = 0.5
HANDSHAKE_SECONDS = 10.0
LONGEST_HELLO = 1_000_000  # bytes
# A connection is lost if the other machine does not answer for about 20 s.
KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}


def find_process_number(count: int, environment: Mapping[str, str]) -> int | None:
    """Return the number of this process among those that a launcher has started.

    Args:
        count: Number of processes that the user wants.
        environment: Variables of the environment; see LAUNCHERS.

    Returns:
        The number, from 0, or None if no launcher has started several processes.

    Raises:
        PeerError: A launcher has started another number of processes.
    """
    for number, total in LAUNCHERS:
        if environment.get(total, "1") in ("", "1") or number not in environment:
            continue
        if environment[total] != str(count) or environment[number] not in map(str, range(count)):
            raise PeerError(f"--processes is {count}, but the launcher has set {total}={environment[total]} and "
                            f"{number}={environment[number]}")  # fmt: skip
        return int(environment[number])
    return None


def assign_gpus(peers: Sequence[Peer]) -> list[str | None]:
    """Divide the GPUs of each machine among its processes.

    Args:
        peers: All processes.

    Returns:
        VISIBLE_GPUS of each; None if it stays as it is, because the process is alone on its machine, the launcher has
        divided the GPUs already, or there are none.

    Raises:
        PeerError: A machine has fewer GPUs than processes.
    """
    assigned: list[str | None] = []
    for peer in peers:
        mates = [mate for mate in peers if mate.host == peer.host]
        visible = list(map(str, range(peer.n_gpus))) if peer.gpus is None else list(filter(None, peer.gpus.split(",")))
        if len(mates) == 1 or not visible or any(mate.gpus != peer.gpus for mate in mates):
            assigned.append(None)
        elif len(visible) < len(mates):
            raise PeerError(f"{peer.host} has {len(mates)} processes and {len(visible)} GPUs; start at most one "
                            f"process for each GPU")  # fmt: skip
        else:
            assigned.append(",".join(visible[mates.index(peer) :: len(mates)]))
    return assigned


def connect_peers(model: Path, count: int, versions: dict[str, str], program: str) -> Leader | Follower:
    """Connect to the other processes; start them on this machine if no launcher has.

    Args:
        model: Model folder, which all processes see.
        count: Number of processes.
        versions: Versions of this program and of what it uses; those of all processes must be equal.
        program: Name of the command, for messages.

    Raises:
        PeerError: Not all processes have come, or they differ.
        OSError: The model folder is not writable.
    """
    number = find_process_number(count, os.environ)
    address = LOOPBACK if number is None else os.environ.get(LEADER) or socket.gethostname()
    n_gpus = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    me = Peer(number or 0, socket.gethostname(), versions, os.environ.get(VISIBLE_GPUS), n_gpus)
    if number:
        return follow_leader(model / RENDEZVOUS, me, count, program)
    check_writable(model)
    model.mkdir(parents=True, exist_ok=True)
    with socket.create_server((LOOPBACK if address == LOOPBACK else "", 0), backlog=2 * count) as server:
        gathering = Gathering(me, count, secrets.token_hex())
        with atomic_path(model / RENDEZVOUS) as temporary:
            temporary.touch(0o600)
            temporary.write_text(to_json({"host": address, "port": server.getsockname()[1], "key": gathering.key}))
        try:
            children = start_processes(count) if number is None else []
            gathering.accept_all(server, children)
            return gathering.lead(address, program)
        except BaseException:
            gathering.dismiss()
            raise
        finally:
            (model / RENDEZVOUS).unlink(missing_ok=True)


def start_processes(count: int) -> list[subprocess.Popen]:
    """Start this command again, once for each process but this one.

    Ctrl-C reaches this process only.
    """
    environment = os.environ | {"WORLD_SIZE": str(count), LEADER: LOOPBACK}
    command = [sys.executable, *sys.orig_argv[1:]]
    with block_interrupts():
        return [subprocess.Popen(command, env=environment | {"RANK": str(number)}, stdin=subprocess.DEVNULL)
                for number in range(1, count)]  # fmt: skip


class Gathering:
    """The processes that have connected to process 0 so far.

    Attributes:
        me: Process 0.
        count: Number of processes that are to come, process 0 included.
        key: What each must know from the file in the model folder.
        peers: Processes by number.
        channels: Connection to each of the others, by number.
        guards: Connection to the guard of each of the others, by number.
    """

    def __init__(self, me: Peer, count: int, key: str) -> None:
        self.me, self.count, self.key = me, count, key
        self.peers = {me.process: me}
        self.channels: dict[int, socket.socket] = {}
        self.guards: dict[int, socket.socket] = {}

    def accept_all(self, server: socket.socket, children: Sequence[subprocess.Popen]) -> None:
        """Accept connections until all processes are there.

        Args:
            server: Socket that listens.
            children: Processes that this one has started.

        Raises:
            PeerError: One of them has ended, or some have not come, or a process has other versions.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        server.settimeout(RETRY_SECONDS)
        while len(self.channels) + len(self.guards) < 2 * (self.count - 1):
            for number, child in enumerate(children, 1):
                if child.poll() is not None:
                    raise PeerError(f"process {number} has ended before it connected, with status {child.returncode}")
            if time.monotonic() > deadline:
                missing = ", ".join(str(number) for number in range(1, self.count) if number not in self.guards)
                raise PeerError(f"of {self.count} processes, number {missing} did not come within "
                                f"{WAIT_SECONDS:.0f} s")  # fmt: skip
            with suppress(TimeoutError):
                self.accept(server.accept()[0])

    def accept(self, channel: socket.socket) -> None:
        """Accept a connection if it knows the key; raise PeerError if versions differ."""
        configure_socket(channel)
        channel.settimeout(HANDSHAKE_SECONDS)
        try:
            hello = json.loads(receive_message(channel, LONGEST_HELLO))
            peer, kind = Peer(*hello["peer"]), {"channel": self.channels, "guard": self.guards}[hello["kind"]]
            is_known = hmac.compare_digest(str(hello["key"]), self.key) and 0 < peer.process < self.count
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            is_known = False
        if not is_known:
            channel.close()
            return
        channel.settimeout(None)
        if earlier := kind.pop(peer.process, None):  # its process has ended, or was too slow
            earlier.close()
        kind[peer.process], self.peers[peer.process] = channel, peer
        for name, version in self.me.versions.items():
            if peer.versions.get(name) != version:
                raise PeerError(f"{peer} has {name} {peer.versions.get(name)}, {self.me} has {version}")

    def lead(self, address: str, program: str) -> Leader:
        """Tell all processes that the work begins, and lead them.

        Args:
            address: Address of this process.
            program: Name of the command, for messages.

        Raises:
            PeerError: A machine has fewer GPUs than processes.
        """
        peers = [self.peers[number] for number in range(self.count)]
        channels, guards = ([sockets[number] for number in range(1, self.count)]
                            for sockets in (self.channels, self.guards))  # fmt: skip
        with socket.create_server(("", 0)) as free:
            coordinator = f"{address}:{free.getsockname()[1]}"
        welcomes = [Welcome(coordinator, gpus) for gpus in assign_gpus(peers)]
        for channel, welcome in zip(channels, welcomes[1:], strict=True):
            with suppress(OSError):  # a process that has ended is noticed by the thread that watches it
                send_message(channel, to_json(welcome).encode())
        return Leader(peers, channels, guards, welcomes[0], program)

    def dismiss(self) -> None:
        """Let the processes end without a line."""
        for guard in self.guards.values():
            with suppress(OSError):
                guard.sendall(f"{peer_guard.QUIET}\n".encode())
        for channel in (*self.channels.values(), *self.guards.values()):
            channel.close()


def follow_leader(path: Path, me: Peer, count: int, program: str) -> Follower:
    """Connect to process 0.

    Args:
        path: The file in which process 0 writes its address.
        me: This process.
        count: Number of processes.
        program: Name of the command, for messages.

    Raises:
        PeerError: Process 0 was not found, or has ended.
    """
    parent, deadline = os.getppid(), time.monotonic() + WAIT_SECONDS
    while (connections := connect_to_leader(path, me)) is None:
        if time.monotonic() > deadline or os.getppid() != parent:
            raise PeerError(f"{me} did not find process 0 within {WAIT_SECONDS:.0f} s by the file {path}; all "
                            f"processes must see the same model folder")  # fmt: skip
        time.sleep(RETRY_SECONDS)
    channel, guard = connections
    with guard:
        line = f"{program}: error: {me} ends, because process 0 has ended; {RESUME_ADVICE}"
        subprocess.Popen([sys.executable, "-S", peer_guard.__file__, str(guard.fileno()), line],
                         pass_fds=[guard.fileno()], stdin=subprocess.DEVNULL)  # fmt: skip
    try:
        channel.settimeout(WAIT_SECONDS)
        welcome = Welcome(*json.loads(receive_message(channel, LONGEST_HELLO)))
        channel.settimeout(None)
    except (OSError, EOFError):
        os._exit(1)  # the guard reports it
    return Follower(me, count, channel, welcome)


def connect_to_leader(path: Path, me: Peer) -> tuple[socket.socket, socket.socket] | None:
    """Return connections to process 0, for this process and its guard, if it is there."""
    place = read_manifest(path)
    if not {"host", "port", "key"} <= place.keys():
        return None
    connections = []
    try:
        for kind in ("channel", "guard"):
            channel = socket.create_connection((str(place["host"]), int(str(place["port"]))), HANDSHAKE_SECONDS)
            connections.append(channel)
            configure_socket(channel)
            send_message(channel, to_json({"kind": kind, "key": place["key"], "peer": me}).encode())
            channel.settimeout(None)
    except (OSError, ValueError):
        for channel in connections:
            channel.close()
        return None
    return connections[0], connections[1]


def configure_socket(channel: socket.socket) -> None:
    """Let a connection notice within about 20 s that the other machine is gone."""
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in KEEPALIVE.items():
        if option := getattr(socket, name, None):
            channel.setsockopt(socket.IPPROTO_TCP, option, value)
