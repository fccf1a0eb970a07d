"""How much memory a process and all that it has started hold, at a moment and at the most, as Linux tells it."""

import os
import re
import threading
from pathlib import Path

import numpy as np

EVERY = 0.1  # s between two looks
ANONYMOUS, RESIDENT = ("RssAnon", "RssShmem"), ("VmRSS",)  # what is summed, of the lines in /proc/PID/status


def memory_of(process):
    """Return the anonymous and the resident memory of a process and of all that it has started: (2,) MB.

    Pages of files count for the resident alone: the system takes them back when it needs them. Zeros where the process
    has ended, or the system does not tell.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
        children = started_by(process)
    except OSError:  # it has ended meanwhile
        return np.zeros(2)
    lines = dict(re.findall(r"^(\w+):\s+(\d+) kB", status, re.MULTILINE))
    own = [sum(int(lines.get(name, 0)) for name in names) / 1000 for names in (ANONYMOUS, RESIDENT)]
    return np.array(own) + sum(map(memory_of, children))


def started_by(process):
    """Return the numbers of the processes that a process has started and that live; OSError where it ends meanwhile."""
    texts = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")]
    return [int(child) for text in texts for child in text.split()]


class Peak:
    """Watches the memory of this process and of all that it has started, while the block of a `with` runs."""

    def __init__(self):
        self.most = np.zeros(2)
        self.looking = threading.Lock()  # a look that began before the most is forgotten must not bring it back after
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.ended.set()
        self.thread.join()

    def taken(self):
        """Return the most anonymous memory since this was asked before, in MB; 0 where the system does not tell."""
        with self.looking:
            most = np.maximum(self.most, memory_of(os.getpid()))
            self.most = np.zeros(2)
        return float(most[0])

    def _watch(self):
        while not self.ended.wait(EVERY):
            with self.looking:
                self.most = np.maximum(self.most, memory_of(os.getpid()))
