"""How fast answers are scored and thresholds searched: figures of benchmarks.speed."""

import io
import os
from contextlib import redirect_stdout
from itertools import cycle

import numpy as np

import evaluate_model
from benchmarks import plainly
from benchmarks.timing import Row, recordings, told
from ecg.data.headers import parse_codes
from ecg.data.labels import TRAINED, encode, expand
from ecg.data.records import find_records
from ecg.evaluation.metrics import SINUS, load_weights
from ecg.evaluation.thresholds import search_thresholds

PLAIN_CLASSES = 1  # of the trained ones, for which the plain search is timed


def evaluate(bench):
    """Score answers, against reading the same files, and against loops over recordings and classes."""
    names, weights = load_weights()
    texts = [path.read_text() for path in find_records(recordings(bench))]
    folders = bench.place / "labels", bench.place / "answers"
    for folder in folders:
        folder.mkdir(exist_ok=True)
    labels = np.array([encode(parse_codes(text)) for text in texts])[np.arange(bench.files) % len(texts)]
    probabilities = likely(labels, np.random.default_rng(1))
    for number, (text, row) in enumerate(zip(cycle(texts), probabilities, strict=False)):
        lines = (names, (row >= 0.5).astype(int), row)
        answer = "\n".join([f"#A{number:05}", *(",".join(map(str, values)) for values in lines), ""])
        (folders[0] / f"A{number:05}.hea").write_text(text)
        (folders[1] / f"A{number:05}.csv").write_text(answer)
    files = [entry.path for folder in folders for entry in os.scandir(folder)]
    records = [f"A{number:05}" for number in range(bench.files)]
    classes = [name.split("|") for name in names]

    def read():
        for file in files:
            number = os.open(file, os.O_RDONLY)
            os.read(number, 2**16)
            os.close(number)

    def whole():
        with redirect_stdout(io.StringIO()):
            evaluate_model.main(list(map(str, folders)))

    def plain():
        plainly.evaluate(records, *folders, classes, weights)

    seconds = yield {"whole": whole, "read": read, "plain": plain}
    taken, loops = seconds["whole"], seconds["plain"]
    what = f"evaluate_model.py on {bench.files:,} recordings, {told(taken)}"
    yield Row(what, f"reading the same bytes, {told(seconds['read'])}", taken / seconds["read"], 4)
    yield Row(what, f"loops over recordings and classes, {told(loops)}", loops / taken, 15, least=True)


def likely(labels, generator):
    """Return probabilities that tell labels (N, 26) well, though not always: (N, 26) float32, 0 of dropped classes."""
    odds = generator.normal(np.where(labels, 1.0, -3.0), 1.5)
    return expand((1 / (1 + np.exp(-odds))).astype(np.float32)[:, TRAINED])


def thresholds(bench):
    """Search thresholds, against the metric evaluated by a matrix product for each candidate."""
    generator, weights = np.random.default_rng(1), load_weights()[1]
    labels = generator.random((bench.validation, len(weights))) < generator.uniform(0.01, 0.2, len(weights))
    probabilities = likely(labels, generator)
    found = plainly.search(labels, probabilities, weights, TRAINED, SINUS, anew=False)
    np.testing.assert_array_equal(search_thresholds(labels, probabilities, weights).by_class, found)

    def plain(anew):
        return lambda: plainly.search(labels, probabilities, weights, TRAINED[:PLAIN_CLASSES], SINUS, anew)

    search = "search"
    pieces = {"the metric": plain(True), "the metric, what depends on labels alone computed once": plain(False)}
    seconds = yield {search: lambda: search_thresholds(labels, probabilities, weights), **pieces}
    timed, every = (9 + 61 * count for count in (PLAIN_CLASSES, len(TRAINED)))
    for name in pieces:
        taken = seconds[name] * every / timed
        yield Row(f"searching thresholds on {bench.validation:,} recordings, {told(seconds[search])}",
                  f"{name}, for each of {every:,} candidates, {told(taken)} by {timed} of them",
                  taken / seconds[search], 200, least=True)  # fmt: skip
