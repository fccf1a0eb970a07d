"""Samples of errors: as many as wanted, of the class, and without a hint of their kind."""

import numpy as np
import pytest
from helpers import capture_log

from ecg.commands import sample as module
from ecg.commands.review import ReviewPredictions
from ecg.commands.sample import ErrorSample, write_sample
from ecg.data.headers import RecordError
from ecg.data.labels import CLASS_INDEX
from ecg.data.review_lists import read_review_list
from ecg.data.source_tables import DeclaredSource, SourceTable

COLUMN = CLASS_INDEX["LAD"]
COUNT = 120


@pytest.fixture
def predictions(monkeypatch):
    """Random labels and predictions of recordings of Georgia, and of CPSC, which does not label the class."""
    random = np.random.default_rng(0)
    labels, outputs = random.random((2, COUNT, 26)) < 0.5
    paths = [f"x/{'A' if row % 4 == 0 else 'E'}{row:05}.hea" for row in range(COUNT)]
    covered = np.ones((COUNT, 26), bool)
    covered[1::8, COLUMN] = False
    probabilities = outputs.astype(np.float32)
    made = ReviewPredictions(paths, labels, probabilities, outputs, probabilities, covered, False, 0, 0, {})
    monkeypatch.setattr(module, "require_records", lambda data: paths)
    monkeypatch.setattr(module, "predict_records", lambda model, data, paths: made)
    return made


def draw(tmp_path, sources=None, **settings):
    """Write a sample, and return the rows of its recordings."""
    write_sample("model", "data", tmp_path / "new" / "list.csv", ErrorSample("LAD", **settings), sources)
    names = [f"x/{'A' if row % 4 == 0 else 'E'}{row:05}" for row in range(COUNT)]
    rows = read_review_list(tmp_path / "new" / "list.csv", names)
    assert {abbreviation for _, abbreviation in rows} == {"LAD"}
    return np.array([names.index(name) for name, _ in rows])


def test_only_errors_that_can_be_told_are_drawn(predictions, tmp_path):
    labels, outputs = predictions.labels[:, COLUMN], predictions.outputs[:, COLUMN]
    rows = draw(tmp_path, false_positives=COUNT, false_negatives=COUNT)
    is_cpsc = np.arange(COUNT) % 4 == 0
    expected = (labels != outputs) & predictions.covered[:, COLUMN] & ~(is_cpsc & ~labels)
    assert sorted(rows.tolist()) == np.flatnonzero(expected).tolist()
    assert rows.tolist() != sorted(rows.tolist())


def test_only_the_labels_that_a_table_of_sources_declares_can_be_wrong(predictions, tmp_path):
    labels, outputs = predictions.labels[:, COLUMN], predictions.outputs[:, COLUMN]
    errors = (labels != outputs) & predictions.covered[:, COLUMN]
    is_even = np.arange(COUNT) % 2 == 0
    sources = SourceTable((DeclaredSource("Even", ".*[02468]$", ("AF", "NSR")), DeclaredSource("Odd", ".")))
    rows = draw(tmp_path, sources, false_positives=COUNT, false_negatives=COUNT)
    assert sorted(rows.tolist()) == np.flatnonzero(errors & ~(is_even & ~labels)).tolist()
    rows = draw(tmp_path, SourceTable((DeclaredSource("All", "."),)), false_positives=COUNT, false_negatives=COUNT)
    assert sorted(rows.tolist()) == np.flatnonzero(errors).tolist(), "CPSC is none of these sources"
    with pytest.raises(ValueError, match="Mine: labels Mine, expected some of"):
        draw(tmp_path, SourceTable((DeclaredSource("Mine", ".", ("AF", "Mine")),)))


def test_as_many_of_each_kind_are_drawn_and_the_log_counts_them(predictions, tmp_path):
    log = capture_log()
    rows = draw(tmp_path, false_positives=7, false_negatives=5, seed=3)
    assert predictions.outputs[rows, COLUMN].sum() == 7 and len(rows) == 12
    assert rows.tolist() == draw(tmp_path, false_positives=7, false_negatives=5, seed=3).tolist()
    assert any(line.endswith("7 and 5 drawn") for line in log) and any(
        "12 recordings to review" in line for line in log
    )


def test_a_model_without_errors_writes_no_list(predictions, tmp_path):
    predictions.outputs[:] = predictions.labels
    with pytest.raises(RecordError, match="no such error of LAD"):
        draw(tmp_path)
    assert not (tmp_path / "new" / "list.csv").exists()


@pytest.mark.parametrize("settings", [{"false_positives": -1}, {"seed": -1}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError):
        ErrorSample(**{"abbreviation": "LAD", **settings})
