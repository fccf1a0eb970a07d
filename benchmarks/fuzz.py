"""Predict thousands of damaged records, or refuse them with a RecordError.

python -m benchmarks.fuzz [--cases N] [--seed S] [--jobs N] [--seconds S] [--folder FOLDER]

Synthetic records of 12, 8, 6, 3 and 2 leads are damaged by benchmarks.damage, and untrained networks of a few hundred
weights predict them, within limits of time and memory. Each is also audited and put into a store. Prints the table of
benchmarks/README.md, and leaves in FOLDER/faults each case that ended in another way, with the reason in fault.txt.
Memory is measured by /proc, so Linux is needed.
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

from benchmarks.damage import DAMAGE, damage_record
from benchmarks.drafts import synthesize_records
from ecg.commands.audit import FATAL, audit_recording
from ecg.data.headers import LONGEST_MESSAGE, RecordError, read_header_text
from ecg.data.leads import LEAD_SETS, find_lead_set
from ecg.data.records import read_record
from ecg.data.store import build_store, open_store
from ecg.runtime.console import Progress
from ecg.runtime.executors import ONE_PROCESS
from ecg.runtime.keras_startup import start_keras

MEMORY_LIMIT = 500  # MB above the memory before
ADDRESS_LIMIT = 2000  # MB of addresses above those before; an allocation beyond fails
PREDICTED = "predicted"
PROCESSES = multiprocessing.get_context("spawn")


class Outcome(NamedTuple):
    """Result of a case.

    Attributes:
        number: Number of the case.
        kinds: Names of its kinds of damage.
        end: PREDICTED, the name of the error that refused it, or "" if it is a fault.
        fault: What is wrong, or an empty string.
        trace: Traceback of an unexpected error.
        seconds: Duration.
        megabytes: Memory above that before.
    """

    number: int
    kinds: tuple[str, ...]
    end: str
    fault: str = ""
    trace: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0


def draw_case(records, seed, number):
    """Return a case's kinds of damage and the Case, by its seed and number."""
    rng = random.Random(f"{seed} {number}")
    kinds = rng.choices(list(DAMAGE), k=rng.choice((1, 1, 1, 2, 2, 3)))
    return tuple(kinds), damage_record(rng.choice(records), kinds, rng)


def build_bundles():
    """Return an untrained Bundle for each lead set: number of leads -> Bundle."""
    start_keras()
    from ecg.data.labels import TRAINED_CLASSES
    from ecg.models.bundle import Bundle
    from ecg.models.decision import Rule
    from ecg.models.ensemble import Ensemble, Group, Member
    from ecg.models.network_settings import NetworkSettings

    settings, rule = NetworkSettings(width=4, kernels=(5,), squeeze_ratio=2, hidden=8), Rule(np.full(26, 0.5))

    def build(leads):
        group = Group(TRAINED_CLASSES, (Member.build(leads, settings, len(TRAINED_CLASSES)),))
        return Bundle(leads, Ensemble(group), rule)

    return {count: build(leads) for count, leads in LEAD_SETS.items()}


def predict_record(path, bundles):
    """Return PREDICTED, or the name of the RecordError that refused a record.

    Any other exception is a fault. So are a prediction without 26 probabilities and a refusal for lack of memory.
    """
    try:
        header, recording = read_record(path)
        count = find_lead_set(header.lead_names) or min(LEAD_SETS)  # its error names the missing leads
        _, outputs, probabilities = bundles[count].predict(read_header_text(path), recording)
    except RecordError as error:
        if is_memory_error(error):
            raise
        return type(error).__name__
    if not (len(outputs) == len(probabilities) == 26 and all(0 <= value <= 1 for value in probabilities)):
        raise ArithmeticError(f"the prediction is {probabilities}")
    return PREDICTED


def check_audit(path):
    """Audit a record, which must raise no error; a very long reason is a fault."""
    defects = audit_recording(path.parent, path).defects
    longest = max((len(detail) for kind, detail in defects if kind in FATAL), default=0)
    if longest > LONGEST_MESSAGE:
        raise ArithmeticError(f"a reason of {longest:,} characters")


def check_store(folder):
    """Build and open a store of a folder; only a RecordError may end it.

    The opened store must list the same as the built one.
    """
    path = folder / "store"
    try:
        store = build_store(folder, path, ONE_PROCESS)
    except RecordError as error:
        if is_memory_error(error):
            raise
        return
    opened_store = open_store(path)
    for name in ("excluded", "repaired", "unknown_codes", "digest"):
        if getattr(store, name) != getattr(opened_store, name):
            raise ArithmeticError(f"{name} of a store is read back as {getattr(opened_store, name)!r:.200}")
    if not all(opened_store.signal(record).any() for record in range(len(opened_store))):
        raise ArithmeticError("a store holds a recording without any signal")


def is_memory_error(error):
    """Return whether an error, or one that led to it, is a MemoryError."""
    return error is not None and (
        isinstance(error, MemoryError) or is_memory_error(error.__cause__ or error.__context__)
    )


def try_case(number, kinds_of_damage, case, folder, bundles):
    """Write a case into a new folder, predict, audit and store it: its Outcome."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = case.write(folder)
    before, begun = reset_peak_memory(), time.perf_counter()
    end = fault = trace = ""
    try:
        with limit_memory():
            end = predict_record(path, bundles)
            check_audit(path)
            check_store(folder)
    except Exception as error:  # noqa: BLE001 - any other error is a fault
        fault, trace = " ".join(f"{type(error).__name__}: {error}".split())[:300], traceback.format_exc()
        end = ""
    seconds, megabytes = time.perf_counter() - begun, memory_megabytes("VmHWM") - before
    if megabytes > MEMORY_LIMIT and not fault:
        end, fault = "", f"{megabytes:.0f} MB were used"
    return Outcome(number, kinds_of_damage, end, fault, trace, seconds, megabytes)


@contextmanager
def limit_memory():
    """Let allocations beyond ADDRESS_LIMIT fail within the block."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int((memory_megabytes("VmSize") + ADDRESS_LIMIT) * 1e6), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def reset_peak_memory():
    """Reset the peak of this process's memory, and return its memory in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_megabytes("VmRSS")


def memory_megabytes(name):
    """Return a line of this process's status in MB."""
    return int(re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)[1]) / 1000


def send_outcomes(results, records, seed, numbers, seconds, folder):
    """Try cases and send their Outcomes; a case that takes too long ends this process."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "The inplace keyword in DataFrame.set_index")  # wfdb, when imported
    bundles = build_bundles()
    for number in numbers:
        with limit_memory():
            damage, case = draw_case(records, seed, number)
        signal.setitimer(signal.ITIMER_REAL, seconds)  # no handler, which a hanging call would delay
        outcome = try_case(number, damage, case, folder, bundles)
        signal.setitimer(signal.ITIMER_REAL, 0)
        results.send(outcome)


def try_cases(records, seed, numbers, seconds, folder):
    """Yield the Outcome of each case; a subprocess that a case ends is replaced."""
    numbers = list(numbers)
    while numbers:
        results, sender = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=send_outcomes, args=(sender, records, seed, numbers, seconds, folder))
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
            signal_name = signal.Signals(-process.exitcode).name
            fault = (
                f"not done after {seconds:g} s" if signal_name == "SIGALRM" else f"ended the process by {signal_name}"
            )
            yield Outcome(numbers[0], draw_case(records, seed, numbers[0])[0], "", fault, seconds=seconds)
            numbers = numbers[1:]


def run_jobs(cases, seed, jobs, seconds, folder):
    """Try cases in parallel: a list of Outcome; faults are saved below the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    records, outcomes = synthesize_records(folder / "records", seed), []

    def run_job(job):
        for outcome in try_cases(records, seed, range(job, cases, jobs), seconds, folder / f"job {job}"):
            if outcome.fault:
                save_fault(
                    outcome, draw_case(records, seed, outcome.number)[1], folder / "faults" / str(outcome.number)
                )
            outcomes.append(outcome)
            progress.advance(note=f"{sum(bool(outcome.fault) for outcome in outcomes):,} faults")

    with Progress("fuzzing", cases, "cases") as progress, ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run_job, range(jobs)))
    return outcomes


def save_fault(outcome, case, folder):
    """Save a faulty case and its reason in a folder."""
    folder.mkdir(parents=True)
    case.write(folder)
    (folder / "fault.txt").write_text(f"{', '.join(outcome.kinds)}\n{outcome.fault}\n\n{outcome.trace}")


def format_lines(outcomes):
    """Yield the lines of the table in Markdown, then the faults.

    A case of several kinds of damage counts in each of their lines.
    """
    ends = sorted({outcome.end for outcome in outcomes} - {PREDICTED, ""})
    yield f"| damage | cases | predicted | {' | '.join(ends)} | faults | slowest | most memory |"
    yield "|---" * (6 + len(ends)) + "|"
    groups = {kind: [outcome for outcome in outcomes if kind in outcome.kinds] for kind in DAMAGE}
    for name, group in [*groups.items(), ("all", outcomes)]:
        counts = Counter(outcome.end for outcome in group)
        counted = [f"{counts[end]:,}" for end in (PREDICTED, *ends, "")]
        slowest = max((outcome.seconds for outcome in group), default=0)
        most_memory = max((outcome.megabytes for outcome in group), default=0)
        yield f"| {name} | {len(group):,} | {' | '.join(counted)} | {slowest:.2f} s | {most_memory:.0f} MB |"
    for outcome in sorted(outcomes):
        if outcome.fault:
            yield f"case {outcome.number} ({', '.join(outcome.kinds)}): {outcome.fault}"


def main():
    """Try the cases, print the table, and exit with status 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seconds", type=float, default=30.0, help="time limit of a case")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    options = parser.parse_args()
    outcomes = run_jobs(options.cases, options.seed, options.jobs, options.seconds, options.folder)
    print("\n".join(format_lines(outcomes)))
    sys.exit(any(outcome.fault for outcome in outcomes))


if __name__ == "__main__":
    main()
