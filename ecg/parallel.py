"""Work on many recordings by several processes at once: in order, in bounded memory, with progress."""

from joblib import Parallel, cpu_count, delayed

from ecg.progress import Progress

CHUNK = 32  # recordings that a process takes at once
ROUND = 64  # chunks under way before all of them are handed over, which bounds the memory


def each(function, items, jobs, title):
    """Yield what a function makes of each item, in their order, by `jobs` processes, one a core where None.

    `title` is what the progress is of. An iteration that is not finished is to be closed (contextlib.closing), which
    ends the processes.
    """
    chunks = [items[first : first + CHUNK] for first in range(0, len(items), CHUNK)]
    with (
        Progress(title, len(items)) as progress,
        Parallel(min(jobs or cpu_count(), max(len(chunks), 1)), return_as="generator") as parallel,
    ):
        for first in range(0, len(chunks), ROUND):
            for results in parallel(delayed(_all)(function, chunk) for chunk in chunks[first : first + ROUND]):
                yield from results
                progress.advance(len(results))


def _all(function, items):
    return [function(item) for item in items]
