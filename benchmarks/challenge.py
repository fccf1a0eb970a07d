"""Audit, train, predict and score as in the Challenge, with defective recordings.

python -m benchmarks.challenge [--records N] [--test-records N] [--seed S] [--folder FOLDER] [setting of ecg train ...]

Synthetic recordings with the defects of the real databases are audited and trained on. Then stand-ins for the
Challenge's own scripts (benchmarks/drivers) replace those of the entry, and predict other such recordings in all five
lead sets. A recording or defect that is lost without a report is a fault. The training by the stand-in has the settings
of `ecg train` that are given.
"""

import argparse
import csv
import json
import math
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ecg.data.labels import DISCARDED_SOURCES, SCORED, source_of
from ecg.data.leads import LEAD_SETS
from ecg.data.synthetic import SyntheticSettings, Truth, synthesize
from ecg.runtime.console import format_duration

ROOT = Path(__file__).parents[1]
# The audit's name for each defect of ecg.data.synthetic_defects that it can detect.
AUDITED = {
    "constant lead": "flat lead", "spike at the first sample": "beyond 20 mV",
    "spike at the last sample": "beyond 20 mV",
    "spike at inner samples": "beyond 20 mV", "marked samples": "marked invalid", "age unknown": "age unknown",
    "sex unknown": "sex unknown", "repeated code": "diagnosis repeated", "unknown code": "diagnosis unknown",
}  # fmt: skip
REPAIRED = ("flat lead", "beyond 20 mV", "marked invalid")  # defects that a training also lists
# Run a script that trains, with other settings than the entry has: python -c CODE SCRIPT DATA MODEL [setting ...]
TRAIN_WITH_SETTINGS = """
import argparse, runpy, sys
from ecg.runtime.keras_startup import start_keras
start_keras()
from ecg.commands.options import add_settings
from ecg.commands.settings import training_settings
from ecg.systems.recipes import RECIPES
from team_code import SYSTEM

parser = argparse.ArgumentParser()
add_settings(parser)
script, data, model, *settings = sys.argv[1:]
RECIPES[SYSTEM] = training_settings(parser.parse_args(settings))
sys.argv = [script, data, model]
runpy.run_path(script, run_name="__main__")
"""


class Outcome(NamedTuple):
    """Result of a run.

    Attributes:
        scores: The line of scores by the number of leads.
        seconds: Duration of each step, by its name.
        defects: Number of training recordings with each kind of defect.
        excluded: Number of recordings that the training excludes, by reason.
        faults: What was lost without being listed.
    """

    scores: dict[int, str]
    seconds: dict[str, float]
    defects: Counter
    excluded: Counter
    faults: list[str]


def run_challenge(folder: Path, records: int, test_records: int, seed: int, options: list[str]) -> Outcome:
    """Audit, train, predict and score in a new folder.

    Args:
        folder: Folder of recordings, entry, model and outputs; an old one is deleted.
        records: Number of recordings to train on.
        test_records: Number of recordings to predict in each lead set.
        seed: Seed of the recordings; those to predict have the next one.
        options: Options of `python -m ecg train` that choose other settings than the default ones.
    """
    shutil.rmtree(folder, ignore_errors=True)
    data, model, entry = folder / "training_data", folder / "model", folder / "entry"
    seconds: dict[str, float] = {}
    copy_entry(entry)

    def run_step(name: str, *command: object) -> str:
        begun = time.monotonic()
        done = subprocess.run([sys.executable, *map(str, command)], cwd=entry, capture_output=True, text=True)
        seconds[name] = time.monotonic() - begun
        if done.returncode:
            raise RuntimeError(f"{name} ended with status {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    recordings = synthesize(data, records, seed)
    audit = folder / "audit"
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "ecg", "audit", data, "--output", audit], cwd=entry, capture_output=True)
    seconds["audit"] = time.monotonic() - begun
    run_step("training", "-c", TRAIN_WITH_SETTINGS, "train_model.py", data, model, *options)
    report = json.loads((model / "report" / "report.json").read_text())
    faults = [*check_audit(audit, recordings), *check_training(report, recordings)]
    scores = {}
    for count, leads in LEAD_SETS.items():
        test_data = folder / f"test_data_{count}"
        test_truths = synthesize(test_data, test_records, seed + 1, SyntheticSettings(leads=leads))
        theirs, ours = folder / f"outputs_{count}", folder / f"own_outputs_{count}"
        run_step(f"predictions, {count} leads", "test_model.py", model, test_data, theirs)
        run_step(f"predictions by our script, {count} leads", ROOT / "test_model.py", model, test_data, ours)
        faults += check_outputs(theirs, ours, test_truths)
        printed = run_step(f"scores, {count} leads", ROOT / "evaluate_model.py", test_data, theirs)
        scores[count] = printed.splitlines()[-1]
        faults += check_scores(scores[count], count)
    defects = Counter(name for recording in recordings for name in recording.defects)
    excluded = Counter(row["reason"] for row in report["excluded"])
    return Outcome(scores, seconds, defects, excluded, faults)


def copy_entry(folder: Path) -> None:
    """Copy the entry into a folder, with the stand-ins for the Challenge's scripts."""
    shutil.copytree(ROOT / "ecg", folder / "ecg", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("team_code.py", "weights.csv"):
        shutil.copy(ROOT / name, folder)
    for path in Path(__file__).with_name("drivers").glob("*.py"):
        shutil.copy(path, folder)


def check_audit(folder: Path, recordings: list[Truth]) -> list[str]:
    """Return a line for each defect of a recording that an audit does not list."""
    with open(folder / "defects.csv", newline="") as file:
        reported = {(row["record"], row["kind"]) for row in csv.DictReader(file)}
    expected = (
        (recording.name, AUDITED[name]) for recording in recordings for name in recording.defects if name in AUDITED
    )
    return [f"audit: {record} is not listed as {kind}" for record, kind in expected if (record, kind) not in reported]


def check_training(report: dict, recordings: list[Truth]) -> list[str]:
    """Return a line for each recording or repair that a training does not list."""
    excluded = {row["record"] for row in report["excluded"]}
    used = {row["record"] for row in report["split"]}
    repaired = {(row["record"], row["kind"]) for row in report["repaired"]}
    unknown = {row["code"] for row in report["unknown_codes"]}
    faults = []
    for recording in recordings:
        trained = source_of(recording.name) not in DISCARDED_SOURCES
        if (recording.name in used) != trained or (recording.name in excluded) == trained:
            faults.append(f"training: {recording.name} is {'not used' if trained else 'not listed'}")
        expected = {AUDITED.get(name) for name in recording.defects} & set(REPAIRED) if trained else ()
        faults += [f"training: {recording.name} is not listed as {kind}" for kind in expected
                   if (recording.name, kind) not in repaired]  # fmt: skip
        if trained and "unknown code" in recording.defects and not unknown & set(recording.codes):
            faults.append(f"training: the unknown code of {recording.name} is not listed")
    return faults


def check_outputs(entry_folder: Path, own_folder: Path, recordings: list[Truth]) -> list[str]:
    """Return a line for each recording with an incomplete or different output."""
    faults = []
    for recording in recordings:
        text = (entry_folder / f"{recording.name}.csv").read_text()
        if [len(line.split(",")) for line in text.splitlines()] != [1, *[len(SCORED)] * 3]:
            faults.append(f"outputs: {entry_folder.name}/{recording.name}.csv is not of {len(SCORED)} classes")
        if text != (own_folder / f"{recording.name}.csv").read_text():
            faults.append(f"outputs: {own_folder.name}/{recording.name}.csv differs from {entry_folder.name}")
    return faults


def check_scores(line: str, n_leads: int) -> list[str]:
    """Return a line if a line of five scores does not end with a number, the Challenge metric."""
    scores = line.split(",")
    if len(scores) == 5 and math.isfinite(float(scores[-1])):
        return []
    return [f"scores: {line} with {n_leads} leads"]


def describe_outcome(outcome: Outcome) -> list[str]:
    """Return the lines of benchmarks/README.md, and the faults after them."""
    lines = ["| leads | AUROC,AUPRC,Accuracy,F-measure,Challenge metric |", "|---|---|"]
    lines += [f"| {count} | {scores} |" for count, scores in outcome.scores.items()]
    lines += ["", "| step | time |", "|---|---|"]
    lines += [f"| {name} | {format_duration(seconds)} |" for name, seconds in outcome.seconds.items()]
    lines += ["", "| defect | recordings |", "|---|---|"]
    lines += [f"| {name} | {count:,} |" for name, count in outcome.defects.most_common()]
    lines += ["", *(f"{count:,} excluded: {reason}" for reason, count in outcome.excluded.items())]
    return [*lines, f"{len(outcome.faults):,} faults", *outcome.faults]


def main() -> None:
    """Run, print the tables, and exit with status 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--test-records", type=int, default=400, help="in each of the five lead sets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("build/challenge"))
    known, options = parser.parse_known_args()
    outcome = run_challenge(known.folder.resolve(), known.records, known.test_records, known.seed, options)
    print("\n".join(describe_outcome(outcome)))
    sys.exit(bool(outcome.faults))


if __name__ == "__main__":
    main()
