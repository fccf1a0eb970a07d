import os
import subprocess
import sys
import time

import numpy as np

from ecg.runtime.processes import MemoryMonitor, memory_of


def test_memory_is_that_of_a_process_and_of_all_that_it_started():
    code = "import subprocess, sys; x = bytes(range(250)) * 400_000; {}; print(flush=True); sys.stdin.read()"
    inner = code.format("pass")
    outer = code.format(f"child = subprocess.Popen([sys.executable, '-c', {inner!r}])")
    sizes = []
    for text in (inner, outer):
        with subprocess.Popen([sys.executable, "-c", text], stdin=-1, stdout=-1) as process:
            for _ in range(1 + (text == outer)):
                process.stdout.readline()
            sizes.append(memory_of(process.pid))
            process.stdin.close()
    assert (sizes[0] > 100).all() and (sizes[0] < sizes[1] - 100).all() and (sizes[1] < 260).all()
    assert not memory_of(process.pid).any()  # it has ended
    assert (memory_of(os.getpid()) > 0).all()


def test_the_peak_is_kept_until_it_is_read(monkeypatch):
    monkeypatch.setattr("ecg.runtime.processes.EVERY", 0.001)
    with MemoryMonitor() as peak:
        before = peak.taken()
        held = np.ones(12_500_000)  # 100 MB
        end = time.monotonic() + 30
        while peak.most[0] < before + 90 and time.monotonic() < end:
            time.sleep(0.001)
        del held
        assert before + 90 < peak.taken() < before + 150
        assert peak.taken() < before + 50
    assert not peak.thread.is_alive()


def test_a_peak_is_reported_once_though_a_look_takes_long(monkeypatch):
    held = [100.0]

    def slow(process):
        found = np.full(2, held[0])
        time.sleep(0.02)
        return found

    monkeypatch.setattr("ecg.runtime.processes.EVERY", 0.001)
    monkeypatch.setattr("ecg.runtime.processes.memory_of", slow)
    with MemoryMonitor() as peak:
        for _ in range(5):  # the thread looks nearly all the time
            held[0] = 100.0
            assert peak.taken() == 100
            held[0] = 10.0
            time.sleep(0.005)
            peak.taken()
            time.sleep(0.05)
            assert peak.taken() == 10
