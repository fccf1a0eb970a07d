import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ecg.runtime import peer_guard, rendezvous
from ecg.runtime.peers import ALONE, Peer, PeerError
from ecg.runtime.rendezvous import (
    HANDSHAKE_SECONDS,
    LEADER,
    RENDEZVOUS,
    Gathering,
    assign_gpus,
    connect_peers,
    connect_to_leader,
    find_process_number,
)

ROOT = Path(__file__).parents[3]
VERSIONS = {"Keras": "3"}
# A process that connects, says so, and then leads until it is given a line, or follows until it receives None.
PROCESS = """
import sys, time
from pathlib import Path
import numpy as np
from ecg.runtime.peers import EarlyExit, Leader
from ecg.runtime.rendezvous import connect_peers

peers = connect_peers(Path(sys.argv[1]), int(sys.argv[2]), {"the program": sys.argv[3]}, "test")
print(f"process {peers.process} of {peers.count}", flush=True)
if isinstance(peers, Leader):
    peers.share({"array": np.arange(3), "text": "x" * 1_000_000})
    sys.stdin.readline() or time.sleep(60)
    peers.close(done=True)
    EarlyExit().status = 3
else:
    value = peers.share(None)
    print(value["array"].tolist(), len(value["text"]), flush=True)
    assert peers.share(1) is None
    sys.exit(0)
"""


def make_peer(process=0, host="a", gpus=None, n_gpus=0, versions=VERSIONS):
    return Peer(process, host, versions, gpus, n_gpus)


@pytest.mark.parametrize(
    ("count", "environment", "number"),
    [
        (2, {}, None),
        (4, {"RANK": "3", "WORLD_SIZE": "4"}, 3),
        (4, {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4"}, 0),
        (2, {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, 1),
        (4, {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, None),  # in a batch script, outside srun
        (2, {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, None),  # in a shell that srun has started
        (2, {"WORLD_SIZE": "2"}, None),
    ],
)
def test_the_number_of_a_process_is_the_launchers(count, environment, number):
    assert find_process_number(count, environment) == number


@pytest.mark.parametrize(("number", "count"), [("0", "3"), ("2", "2"), ("x", "2"), ("1", "two")])
def test_another_number_of_processes_is_an_error_that_names_the_variables(number, count):
    with pytest.raises(PeerError, match=f"--processes is 2.*WORLD_SIZE={count} and RANK={number}"):
        find_process_number(2, {"RANK": number, "WORLD_SIZE": count})


@pytest.mark.parametrize(
    ("peers", "assigned"),
    [
        ([("a", None, 0), ("a", None, 0)], [None, None]),
        ([("a", None, 8), ("b", None, 8)], [None, None]),  # a process alone uses all
        ([("a", None, 4), ("a", None, 4)], ["0,2", "1,3"]),
        ([("a", "5,2,GPU-7", 8), ("b", None, 2), ("a", "5,2,GPU-7", 8), ("b", None, 2)], ["5,GPU-7", "0", "2", "1"]),
        ([("a", "0", 2), ("a", "1", 2)], [None, None]),  # the launcher has divided them
        ([("a", "", 2), ("a", "", 2)], [None, None]),
    ],
)
def test_the_gpus_of_a_machine_are_divided_among_its_processes(peers, assigned):
    assert assign_gpus([make_peer(number, *peer) for number, peer in enumerate(peers)]) == assigned


def test_more_processes_than_gpus_are_an_error():
    with pytest.raises(PeerError, match="a has 2 processes and 1 GPUs"):
        assign_gpus([make_peer(0, "a", None, 1), make_peer(1, "a", None, 1)])


def test_a_process_alone_shares_with_nobody():
    value = object()
    assert ALONE.share(value) is value and (ALONE.process, ALONE.count) == (0, 1)


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def write_address(folder, server, key):
    path = folder / RENDEZVOUS
    path.write_text(json.dumps({"host": "127.0.0.1", "port": server.getsockname()[1], "key": key}))
    return path


def test_only_a_process_that_knows_the_key_is_accepted(server, tmp_path):
    gathering = Gathering(make_peer(), 2, "secret")
    connected = []
    for message in (b"", b"\xff" * 9, b"\0" * 7 + b"\5hello"):
        stranger = socket.create_connection(server.getsockname())
        stranger.sendall(message)
        stranger.shutdown(socket.SHUT_WR)
        connected.append(stranger)
    wrong = connect_to_leader(write_address(tmp_path, server, "guessed"), make_peer(1))
    right = connect_to_leader(write_address(tmp_path, server, "secret"), make_peer(1))
    assert wrong and right
    start = time.monotonic()
    gathering.accept_all(server, [])
    assert time.monotonic() - start < HANDSHAKE_SECONDS
    assert list(gathering.channels) == list(gathering.guards) == [1] and gathering.peers[1] == make_peer(1)
    assert wrong[0].recv(1) == b""
    gathering.dismiss()
    assert (right[0].recv(1), right[1].recv(9)) == (b"", f"{peer_guard.QUIET}\n".encode())
    for connection in (*connected, *wrong, *right):
        connection.close()


def test_another_version_is_an_error_that_names_the_process(server, tmp_path):
    gathering, path = Gathering(make_peer(), 2, "secret"), write_address(tmp_path, server, "secret")
    connections = connect_to_leader(path, make_peer(1, "b", versions={"Keras": "4"}))
    with pytest.raises(PeerError, match="process 1 on b has Keras 4, process 0 on a has 3"):
        gathering.accept_all(server, [])
    gathering.dismiss()
    assert connections is not None
    for connection in connections:
        connection.close()


def test_processes_that_do_not_come_are_named(server, monkeypatch):
    monkeypatch.setattr(rendezvous, "WAIT_SECONDS", 0.0)
    with pytest.raises(PeerError, match="of 3 processes, number 1, 2 did not come"):
        Gathering(make_peer(), 3, "secret").accept_all(server, [])


def test_a_process_that_ends_before_it_connects_is_an_error(server):
    child = subprocess.Popen(["sh", "-c", "exit 3"])
    child.wait()
    with pytest.raises(PeerError, match="process 1 has ended before it connected, with status 3"):
        Gathering(make_peer(), 2, "secret").accept_all(server, [child])


def test_process_0_that_is_not_there_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(rendezvous, "WAIT_SECONDS", 0.0)
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), (LEADER, "127.0.0.1")):
        monkeypatch.setenv(name, value)
    (tmp_path / RENDEZVOUS).write_text('{"host": "127.0.0.1", "port": 1, "key": ""}')  # of a process that was killed
    with pytest.raises(PeerError, match=f"did not find process 0.*{RENDEZVOUS}"):
        connect_peers(tmp_path, 2, VERSIONS, "test")


@pytest.mark.parametrize(("sent", "written"), [(b".\n", ""), (b"the reason\n", "the reason\n"), (b"", "gone\n")])
def test_the_guard_writes_one_line_unless_all_is_well(sent, written):
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-S", peer_guard.__file__, str(theirs.fileno()), "gone"]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True) as guard:
        theirs.close()
        ours.sendall(sent)
        ours.close()
        assert guard.communicate(timeout=60) == (None, written)


class Pair:
    """Two processes that have connected, or are about to."""

    def __init__(self, folder, versions=("1", "1")):
        self.processes = [self._start(folder, number, version) for number, version in enumerate(versions)]

    def _start(self, folder, number, version):
        variables = {"RANK": str(number), "WORLD_SIZE": "2", LEADER: "127.0.0.1"}
        return subprocess.Popen([sys.executable, "-c", PROCESS, str(folder), "2", version], cwd=ROOT, text=True,
                                env=os.environ | variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)  # fmt: skip

    def read_line(self, number):
        return self.processes[number].stdout.readline()

    def end(self, number):
        """Wait for the end; return the status, and what was written to standard error."""
        _, errors = self.processes[number].communicate(timeout=60)
        return self.processes[number].returncode, errors


@pytest.mark.slow
def test_processes_share_values_and_end_together_without_a_word(tmp_path):
    pair = Pair(tmp_path / "model")
    assert [pair.read_line(number) for number in (0, 1)] == ["process 0 of 2\n", "process 1 of 2\n"]
    assert pair.read_line(1) == "[0, 1, 2] 1000000\n"
    assert not (tmp_path / "model" / RENDEZVOUS).exists()
    pair.processes[0].stdin.write("\n")
    pair.processes[0].stdin.flush()
    assert [pair.end(number) for number in (0, 1)] == [(3, ""), (0, "")]


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "line"), [(1, "process 1 on {} has ended;"),
                                              (0, "process 1 on {} ends, because process 0 has ended;")])  # fmt: skip
def test_if_a_process_is_killed_the_other_ends_with_one_line(tmp_path, victim, line):
    pair = Pair(tmp_path / "model")
    assert pair.read_line(0) and pair.read_line(1) and pair.read_line(1)
    start = time.monotonic()
    pair.processes[victim].kill()
    status, errors = pair.end(1 - victim)
    assert time.monotonic() - start < 30
    assert status == 1 and errors.count("\n") == 1
    assert errors.startswith(f"test: error: {line.format(socket.gethostname())}"), errors
    assert pair.end(victim)[0] == -signal.SIGKILL
