"""Measure how fast predictions are decided and scored, and thresholds searched."""

import io
import os
from contextlib import redirect_stdout
from itertools import cycle

import numpy as np

import evaluate_model
from benchmarks import reference
from benchmarks.timing import Row, format_seconds, prepare_recordings
from ecg.data.class_files import load_weights
from ecg.data.headers import parse_codes
from ecg.data.labels import CHALLENGE_CLASSES, TRAINED
from ecg.data.records import find_records
from ecg.evaluation.calibration import fit_calibration
from ecg.evaluation.metrics import SINUS
from ecg.evaluation.thresholds import search_thresholds
from ecg.models.decision import Rule

DECIDED, LABELLED = 256, 1.6  # recordings that are decided at once, and their mean number of labelled classes
PLAIN_CLASSES = 1  # number of trained classes for which the plain search is timed


def measure_evaluation(bench):
    """Score predictions, and compare with reading the same files and with loops."""
    names, weights = load_weights()
    texts = [path.read_text() for path in find_records(prepare_recordings(bench))]
    folders = bench.folder / "labels", bench.folder / "outputs"
    for folder in folders:
        folder.mkdir(exist_ok=True)
    labels = np.array([CHALLENGE_CLASSES.encode(parse_codes(text)) for text in texts])[
        np.arange(bench.files) % len(texts)
    ]
    probabilities = draw_probabilities(labels, np.random.default_rng(1))
    for number, (text, row) in enumerate(zip(cycle(texts), probabilities, strict=False)):
        lines = (names, (row >= 0.5).astype(int), row)
        output = "\n".join([f"#A{number:05}", *(",".join(map(str, values)) for values in lines), ""])
        (folders[0] / f"A{number:05}.hea").write_text(text)
        (folders[1] / f"A{number:05}.csv").write_text(output)
    files = [entry.path for folder in folders for entry in os.scandir(folder)]
    records = [f"A{number:05}" for number in range(bench.files)]
    classes = [name.split("|") for name in names]

    def read_files():
        for file in files:
            number = os.open(file, os.O_RDONLY)
            os.read(number, 2**16)
            os.close(number)

    def evaluate():
        with redirect_stdout(io.StringIO()):
            evaluate_model.main(list(map(str, folders)))

    def evaluate_plainly():
        reference.evaluate(records, *folders, classes, weights)

    seconds = yield {"whole": evaluate, "read": read_files, "plain": evaluate_plainly}
    duration, loops = seconds["whole"], seconds["plain"]
    what = f"evaluate_model.py on {bench.files:,} recordings, {format_seconds(duration)}"
    yield Row(what, f"reading the same bytes, {format_seconds(seconds['read'])}", duration / seconds["read"], 4)
    yield Row(
        what, f"loops over recordings and classes, {format_seconds(loops)}", loops / duration, 15, is_minimum=True
    )


def draw_probabilities(labels, generator):
    """Return good probabilities of labels, both (N, 26); 0 of dropped classes."""
    odds = generator.normal(np.where(labels, 1.0, -3.0), 1.5)
    return CHALLENGE_CLASSES.expand((1 / (1 + np.exp(-odds))).astype(np.float32)[:, TRAINED])


def measure_threshold_search(bench):
    """Search thresholds, and compare with a matrix product for each candidate."""
    generator, weights = np.random.default_rng(1), load_weights()[1]
    labels = generator.random((bench.validation, len(weights))) < generator.uniform(0.01, 0.2, len(weights))
    probabilities = draw_probabilities(labels, generator)
    expected = reference.search_thresholds(labels, probabilities, weights, TRAINED, SINUS, anew=False)
    np.testing.assert_array_equal(search_thresholds(labels, probabilities, weights).by_class, expected)

    def search_plainly(anew):
        return lambda: reference.search_thresholds(labels, probabilities, weights, TRAINED[:PLAIN_CLASSES], SINUS, anew)

    search = "search"
    searches = {
        "the metric": search_plainly(True),
        "the metric, with the labels' products computed once": search_plainly(False),
    }
    seconds = yield {search: lambda: search_thresholds(labels, probabilities, weights), **searches}
    timed, candidates = (9 + 61 * count for count in (PLAIN_CLASSES, len(TRAINED)))
    for name in searches:
        duration = seconds[name] * candidates / timed
        yield Row(f"searching thresholds on {bench.validation:,} recordings, {format_seconds(seconds[search])}",
                  f"{name}, for each of {candidates:,} candidates, {format_seconds(duration)} by {timed} of them",
                  duration / seconds[search], 200, is_minimum=True)  # fmt: skip


def measure_decision(bench):
    """Decide by expected credit, for recordings together and for each alone."""
    generator = np.random.default_rng(1)
    rates = generator.uniform(0, 2 * LABELLED / len(TRAINED), len(TRAINED))
    labels = CHALLENGE_CLASSES.expand(generator.random((bench.validation, len(TRAINED))) < rates)
    probabilities = draw_probabilities(labels, generator)
    calibration = fit_calibration(labels, probabilities, probabilities > 0)
    rule = Rule(np.full(len(labels[0]), 0.5), "expected_credit", calibration=calibration)
    chosen = probabilities[:DECIDED, TRAINED]
    n_predicted = rule.decide(chosen).sum(axis=1).mean()
    seconds = yield {
        "together": lambda: rule.decide(chosen),
        "alone": lambda: [rule.decide(row) for row in chosen],
    }
    what = f"deciding a recording by expected credit, {n_predicted:.1f} classes predicted"
    for name, how, bound in (("together", f"{len(chosen)} at once", 0.3), ("alone", "one alone", 1)):
        yield Row(f"{what}, {how}", "the clock", 1000 * seconds[name] / len(chosen), bound, unit=" ms")
