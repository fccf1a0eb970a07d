"""Let processes that train one network together work in step.

Process 0 leads: it alone reads and writes results, and it sends the others what they need (`ecg.runtime.rendezvous`
connects them). If a process ends before the work does, all end, each with one line.
"""

import atexit
import math
import os
import pickle
import queue
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn, TypeVar

from ecg.runtime import peer_guard
from ecg.runtime.console import RESUME_ADVICE
from ecg.runtime.processes import end_idle_workers

Value = TypeVar("Value")

DONE = b""  # the last message of process 0
CLOSE_SECONDS = 20.0  # for other processes to end after the work


class PeerError(RuntimeError):
    """The processes of a training cannot work together; the message says why."""


class Peer(NamedTuple):
    """What a process tells process 0 about itself.

    Attributes:
        process: Its number.
        host: Name of its machine.
        versions: Versions of this program and of what it uses, by name.
        gpus: Its CUDA_VISIBLE_DEVICES; None if it is not set.
        n_gpus: Number of GPUs of its machine.
    """

    process: int
    host: str
    versions: dict[str, str]
    gpus: str | None
    n_gpus: int

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class Welcome(NamedTuple):
    """What process 0 tells a process once all have connected.

    Attributes:
        coordinator: Host and port at which JAX of process 0 is to listen.
        gpus: CUDA_VISIBLE_DEVICES of the process; None if it stays as it is.
    """

    coordinator: str
    gpus: str | None


class Peers:
    """The processes that train together. This base class is for one process alone.

    Attributes:
        process: Number of this process.
        count: Number of processes.
        welcome: What process 0 has told this one.
    """

    process, count = 0, 1
    welcome = Welcome("", None)

    def share(self, value: Value) -> Value:
        """Return the value that process 0 gives; the others give any value.

        All processes must call it in the same order.
        """
        return value


ALONE = Peers()


class Leader(Peers):
    """Process 0 of several."""

    def __init__(self, peers: Sequence[Peer], channels: Sequence[socket.socket], guards: Sequence[socket.socket],
                 welcome: Welcome, program: str) -> None:  # fmt: skip
        """Watch the other processes from now on.

        Args:
            peers: All processes, this one first.
            channels: Connection to each of the others.
            guards: Connection to the guard of each of the others.
            welcome: What this process is told.
            program: Name of the command, for messages.
        """
        self.count, self.peers, self.channels, self.guards = len(peers), peers, channels, guards
        self.welcome, self.program = welcome, program
        self._ending = threading.Lock()  # held by the thread that ends the work
        self._ended = [threading.Event() for _ in channels]
        for arguments in zip(peers[1:], channels, self._ended, strict=True):
            threading.Thread(target=self._watch, args=arguments, daemon=True).start()

    def share(self, value: Value) -> Value:
        """Send a value to all other processes, and return it."""
        message = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        with suppress(OSError):  # a process that has ended is noticed by the thread that watches it
            for channel in self.channels:
                send_message(channel, message)
        return value

    def close(self, done: bool) -> None:
        """Let the other processes end without a line, and wait until they have.

        Args:
            done: Whether the work is done. Then they get None and end well, otherwise they end with status 1.
        """
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()  # another thread ends this process
        if done:
            self.share(None)
            with suppress(OSError):
                for channel in self.channels:
                    send_message(channel, DONE)
        self._tell_guards(peer_guard.QUIET)
        for channel in self.channels:
            with suppress(OSError):
                channel.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + CLOSE_SECONDS
        for ended in self._ended:
            ended.wait(max(deadline - time.monotonic(), 0))

    def _watch(self, peer: Peer, channel: socket.socket, ended: threading.Event) -> None:
        """End all processes if one ends before the work does."""
        with suppress(OSError):
            channel.recv(1)  # it sends nothing
        ended.set()
        if self._ending.acquire(blocking=False):
            line = f"{self.program}: error: {peer} has ended; {RESUME_ADVICE}"
            self._tell_guards(line)
            exit_with_line(line)

    def _tell_guards(self, line: str) -> None:
        for guard in self.guards:
            with suppress(OSError):
                guard.sendall(f"{line}\n".encode())


class Follower(Peers):
    """Another process than process 0."""

    def __init__(self, me: Peer, count: int, channel: socket.socket, welcome: Welcome) -> None:
        """Receive what process 0 sends from now on.

        Args:
            me: This process.
            count: Number of processes.
            channel: Connection to process 0.
            welcome: What this process is told.
        """
        self.process, self.count, self.me, self.welcome = me.process, count, me, welcome
        self._messages = queue.SimpleQueue[bytes]()
        threading.Thread(target=self._receive, args=(channel,), daemon=True).start()

    def share(self, value: Value) -> Value:
        """Return the next value that process 0 sends."""
        # Its sender is process 0, which has written its address and the key into the model folder.
        return pickle.loads(self._messages.get())

    def _receive(self, channel: socket.socket) -> None:
        """Put messages into the queue; end this process after the last one."""
        with suppress(OSError, EOFError):
            while (message := receive_message(channel)) != DONE:
                self._messages.put(message)
            return
        os._exit(1)  # the guard reports it


def send_message(channel: socket.socket, message: bytes) -> None:
    """Send bytes after their number."""
    channel.sendall(len(message).to_bytes(8, "big") + message)


def receive_message(channel: socket.socket, longest: float = math.inf) -> bytes:
    """Receive bytes after their number.

    Raises:
        EOFError: The connection ends before.
        ValueError: They are more than `longest`.
    """
    size = int.from_bytes(receive_bytes(channel, 8), "big")
    if size > longest:
        raise ValueError(f"a message of {size:,} bytes")
    return receive_bytes(channel, size)


def receive_bytes(channel: socket.socket, size: int) -> bytes:
    """Receive a number of bytes; raise EOFError if the connection ends before."""
    received = bytearray(size)
    view = memoryview(received)
    while view:
        n_bytes = channel.recv_into(view)
        if not n_bytes:
            raise EOFError
        view = view[n_bytes:]
    return bytes(received)


def exit_with_line(line: str) -> NoReturn:
    """End this process, from any thread, with a line on standard error.

    What libraries have registered for the end is done first, such as deleting temporary files.
    """
    os.write(2, f"{line}\n".encode())
    limit = threading.Timer(CLOSE_SECONDS, os._exit, (1,))
    limit.daemon = True
    limit.start()
    with suppress(Exception):
        end_idle_workers()
        atexit._run_exitfuncs()
    os._exit(1)


class EarlyExit:
    """Ends this process before libraries that were imported earlier clean up.

    JAX would wait for processes that have ended.

    Attributes:
        status: Status of this process at its end.
    """

    def __init__(self) -> None:
        self.status = 1
        atexit.register(self._exit)  # called before what was registered earlier

    def _exit(self) -> None:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(self.status)
