"""The two hosts of the trials of a cluster, and which of its processes is killed."""

import os
import shutil
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import cluster_trials
from benchmarks.cluster_trials import ADDRESSES, choose_victim, connect_hosts, find_children

LISTEN = f"import socket; s = socket.create_server(('{ADDRESSES[1]}', 5555)); print('listens', flush=True); s.accept()"
CONNECT = f"""
import socket
while True:
    try:
        socket.create_connection(('{ADDRESSES[1]}', 5555), timeout=1)
        break
    except OSError:
        print("not connected", flush=True)
"""


def can_make_namespaces():
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    made = subprocess.run(["ip", "netns", "add", f"try{os.getpid()}"], check=False, capture_output=True)
    subprocess.run(["ip", "netns", "delete", f"try{os.getpid()}"], check=False, capture_output=True)
    return made.returncode == 0


@pytest.mark.skipif(not can_make_namespaces(), reason="network namespaces need root, iproute2 and a kernel with them")
def test_two_hosts_reach_each_other_only_while_their_link_is_whole(tmp_path):
    with connect_hosts() as hosts:
        listener = hosts.start(1, tmp_path / "listener.log", "-c", LISTEN)
        try:
            while "listens" not in (tmp_path / "listener.log").read_text():
                assert listener.poll() is None
                time.sleep(0.05)
            cut = threading.Thread(target=hosts.cut, args=(8,))
            cut.start()
            time.sleep(1)
            client = hosts.start(0, tmp_path / "client.log", "-c", CONNECT)
            assert client.wait(60) == 0
            assert "not connected" in (tmp_path / "client.log").read_text()
            cut.join()
        finally:
            listener.kill()
            listener.wait()
    names = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    assert not any(name in names for name in hosts.names)


def test_writers_of_shards_are_killed_first_and_then_workers_and_trainings_in_turns(tmp_path, monkeypatch):
    cluster = SimpleNamespace(workers=[SimpleNamespace(pid=1), SimpleNamespace(pid=2)])
    children = {1: [11], 2: [12], 11: [111], 12: []}
    monkeypatch.setattr(cluster_trials, "find_children", children.get)
    monkeypatch.setattr(cluster_trials, "find_writers", lambda cluster, folder: [12])
    generator = np.random.default_rng(1)
    assert choose_victim(cluster, tmp_path, 0, generator) == ("writes a shard", 12)
    (tmp_path / "stages" / "general_2").mkdir(parents=True)
    for number in range(6):
        kind, process = choose_victim(cluster, tmp_path, number, generator)
        assert (kind, process in (11, 12), process == 111) in (("is a worker", True, False), ("trains", False, True))
        assert (kind == "trains") == bool(number % 2)
    children[11] = []
    assert choose_victim(cluster, tmp_path, 1, generator) == ("trains", None)


def test_children_are_found_until_their_parent_has_ended():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.pid in find_children(os.getpid())
    child.communicate(b"\n")
    assert find_children(child.pid) == []
