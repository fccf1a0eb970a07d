"""An executor of several slots on this machine: each task in a process of its own, as a cluster's workers have them."""

from contextlib import suppress

from ecg.runtime.processes import Call, Subprocess


class ProcessTask:
    """A call that runs in a process of its own as soon as it is made."""

    def __init__(self, call, where):
        self.where, self.process = where, Subprocess(call)

    def result(self):
        return self.process.result().unwrap()

    def cancel(self):
        with suppress(OSError):
            self.process.kill()


class ProcessPool:
    """Starts tasks at once; its users must not start more than it has slots.

    Attributes:
        tasks: All tasks that were started.
    """

    is_local = False
    jobs = 1

    def __init__(self, n_slots):
        self.n_slots, self.tasks = n_slots, []

    def start(self, function, *arguments, prepare, slots=1, progress=int):
        self.tasks.append(ProcessTask(Call.pack(prepare, function, *arguments), f"slot {len(self.tasks)}"))
        return self.tasks[-1]

    def check_shared(self, folder=None, files=()):
        pass
