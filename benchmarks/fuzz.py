"""Damaged records, thousands of them: each is answered, or refused with a RecordError, in bounded time and memory.

python -m benchmarks.fuzz [--cases N] [--seed S] [--jobs N] [--seconds S] [--folder FOLDER]

Synthetic records of 12, 8, 6, 3 and 2 leads are damaged by benchmarks.damage, and untrained networks of a few hundred
weights predict what remains. Each is also audited and put into a store. Prints the table of
benchmarks/README.md, and leaves in FOLDER/faults each case that ended in another way, with the reason in fault.txt.
Memory is measured as Linux tells it.
"""

import argparse
import multiprocessing
import random
import re
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.damage import DAMAGE, damaged
from benchmarks.drafts import undamaged
from ecg.commands.audit import FATAL, audit_recording
from ecg.data.headers import LONGEST_MESSAGE, RecordError, read_header_text
from ecg.data.leads import LEAD_SETS, lead_set
from ecg.data.records import read_record
from ecg.data.store import build_store, open_store
from ecg.runtime.console import Progress
from ecg.runtime.keras_startup import start_keras

LIMIT = 500  # MB above what the process has before
FUSE = 2000  # MB of addresses above it, where an allocation fails
ANSWERED = "predicted"
PROCESSES = multiprocessing.get_context("spawn")


class Outcome(NamedTuple):
    """What became of a case: `end` is ANSWERED, the name of the error that refused it, or "" where it is a fault."""

    number: int
    kinds: tuple[str, ...]
    end: str
    fault: str = ""
    trace: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0


def draw_case(records, seed, number):
    """Return the kinds of damage of a case, by their names, and the Case: the same for the same numbers."""
    rng = random.Random(f"{seed} {number}")
    kinds = rng.choices(list(DAMAGE), k=rng.choice((1, 1, 1, 2, 2, 3)))
    return tuple(kinds), damaged(rng.choice(records), kinds, rng)


def networks():
    """Return an untrained Bundle for each lead set: number of leads -> Bundle."""
    start_keras()
    from ecg.data.labels import TRAINED
    from ecg.models.bundle import Bundle
    from ecg.models.resnets import NetworkSettings

    settings = NetworkSettings(width=4, kernels=(5,), squeeze_ratio=2, hidden=8)
    half = np.full(26, 0.5)
    return {
        count: Bundle.from_network(leads, settings, half, settings.build(count, None, len(TRAINED)))
        for count, leads in LEAD_SETS.items()
    }


def end_of(path, bundles):
    """Return ANSWERED or the name of the RecordError that refused a record.

    Any other exception is a fault. So are a prediction without 26 probabilities and a refusal for lack of memory.
    """
    try:
        header, recording = read_record(path)
        count = lead_set(header.lead_names) or min(LEAD_SETS)  # whose answer says what is missing
        _, outputs, probabilities = bundles[count].predict(read_header_text(path), recording)
    except RecordError as error:
        if wanted_memory(error):
            raise
        return type(error).__name__
    if not (len(outputs) == len(probabilities) == 26 and all(0 <= value <= 1 for value in probabilities)):
        raise ArithmeticError(f"the answer is {probabilities}")
    return ANSWERED


def audit(path):
    """Audit a record, which must raise no error; a very long reason is a fault."""
    defects = audit_recording(path.parent, path).defects
    longest = max((len(detail) for kind, detail in defects if kind in FATAL), default=0)
    if longest > LONGEST_MESSAGE:
        raise ArithmeticError(f"a reason of {longest:,} characters")


def store(folder):
    """Build a store of a folder as in training and open it again; only a RecordError may end it.

    What the built store lists must equal what the opened one does.
    """
    path = folder / "store"
    try:
        built = build_store(folder, path, jobs=1)
    except RecordError as error:
        if wanted_memory(error):
            raise
        return
    opened = open_store(path)
    for name in ("excluded", "repaired", "unknown_codes", "digest"):
        if getattr(built, name) != getattr(opened, name):
            raise ArithmeticError(f"{name} of a store is read back as {getattr(opened, name)!r:.200}")
    if not opened.microvolts.any():
        raise ArithmeticError("a store holds a recording without any signal")


def wanted_memory(error):
    """Return whether an error, or one that led to it, is a MemoryError."""
    return error is not None and (isinstance(error, MemoryError) or wanted_memory(error.__cause__ or error.__context__))


def try_case(number, kinds, case, folder, bundles):
    """Write a case into a folder, made anew, have it answered, examined and stored, and return its Outcome."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = case.write(folder)
    before, begun = measured_anew(), time.perf_counter()
    end = fault = trace = ""
    try:
        with fuse():
            end = end_of(path, bundles)
            audit(path)
            store(folder)
    except Exception as error:  # noqa: BLE001 - any other is what is looked for
        fault, trace = " ".join(f"{type(error).__name__}: {error}".split())[:300], traceback.format_exc()
        end = ""
    seconds, megabytes = time.perf_counter() - begun, megabytes_of("VmHWM") - before
    if megabytes > LIMIT and not fault:
        end, fault = "", f"{megabytes:.0f} MB were used"
    return Outcome(number, kinds, end, fault, trace, seconds, megabytes)


@contextmanager
def fuse():
    """Let allocations fail that would take more than FUSE within the block, for a machine has other work to do."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int((megabytes_of("VmSize") + FUSE) * 1e6), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def measured_anew():
    """Let the most memory of this process be measured from now on, and return what it has, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return megabytes_of("VmRSS")


def megabytes_of(name):
    """Return a line of what Linux tells of this process's memory, in MB."""
    return int(re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)[1]) / 1000


def work(results, records, seed, numbers, seconds, folder):
    """Try cases in a process of their own, and send the Outcome of each; one that takes too long ends the process."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "The inplace keyword in DataFrame.set_index")  # wfdb, when imported
    bundles = networks()
    for number in numbers:
        with fuse():
            kinds, case = draw_case(records, seed, number)
        signal.setitimer(signal.ITIMER_REAL, seconds)  # no handler, which would have to wait for what hangs
        outcome = try_case(number, kinds, case, folder, bundles)
        signal.setitimer(signal.ITIMER_REAL, 0)
        results.send(outcome)


def outcomes(records, seed, numbers, seconds, folder):
    """Yield the Outcome of each case, in processes one after the other: a new one where a case has ended the last."""
    numbers = list(numbers)
    while numbers:
        results, sender = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=work, args=(sender, records, seed, numbers, seconds, folder))
        process.start()
        sender.close()
        done = 0
        try:
            while True:
                yield results.recv()
                done += 1
        except EOFError:
            process.join()
        numbers = numbers[done:]
        if process.exitcode > 0:
            raise RuntimeError(f"the process that tries cases failed before case {numbers[0]}")
        if process.exitcode < 0:
            ended = signal.Signals(-process.exitcode).name
            fault = f"not done after {seconds:g} s" if ended == "SIGALRM" else f"ended the process by {ended}"
            yield Outcome(numbers[0], draw_case(records, seed, numbers[0])[0], "", fault, seconds=seconds)
            numbers = numbers[1:]


def run(cases, seed, jobs, seconds, folder):
    """Try so many cases in so many processes at a time: a list of Outcome, faults kept below the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    records, found = undamaged(folder / "records", seed), []

    def part(job):
        for outcome in outcomes(records, seed, range(job, cases, jobs), seconds, folder / f"job {job}"):
            if outcome.fault:
                keep(outcome, draw_case(records, seed, outcome.number)[1], folder / "faults" / str(outcome.number))
            found.append(outcome)
            progress.advance(note=f"{sum(bool(outcome.fault) for outcome in found):,} faults")

    with Progress("fuzzing", cases, "cases") as progress, ThreadPoolExecutor(jobs) as pool:
        list(pool.map(part, range(jobs)))
    return found


def keep(outcome, case, folder):
    """Keep a case that is a fault, and its reason, in a folder of its own."""
    folder.mkdir(parents=True)
    case.write(folder)
    (folder / "fault.txt").write_text(f"{', '.join(outcome.kinds)}\n{outcome.fault}\n\n{outcome.trace}")


def lines(found):
    """Yield the lines of the table, in Markdown, a case of several kinds of damage in each of them; then the faults."""
    ends = sorted({outcome.end for outcome in found} - {ANSWERED, ""})
    yield f"| damage | cases | predicted | {' | '.join(ends)} | faults | slowest | most memory |"
    yield "|---" * (6 + len(ends)) + "|"
    groups = {kind: [outcome for outcome in found if kind in outcome.kinds] for kind in DAMAGE}
    for name, group in [*groups.items(), ("all", found)]:
        counts = Counter(outcome.end for outcome in group)
        counted = [f"{counts[end]:,}" for end in (ANSWERED, *ends, "")]
        slowest = max((outcome.seconds for outcome in group), default=0)
        most = max((outcome.megabytes for outcome in group), default=0)
        yield f"| {name} | {len(group):,} | {' | '.join(counted)} | {slowest:.2f} s | {most:.0f} MB |"
    for outcome in sorted(found):
        if outcome.fault:
            yield f"case {outcome.number} ({', '.join(outcome.kinds)}): {outcome.fault}"


def main():
    """Try the cases, print what became of them, and exit with 1 where one is a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seconds", type=float, default=30.0, help="that a case may take")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    options = parser.parse_args()
    found = run(options.cases, options.seed, options.jobs, options.seconds, options.folder)
    print("\n".join(lines(found)))
    sys.exit(any(outcome.fault for outcome in found))


if __name__ == "__main__":
    main()
