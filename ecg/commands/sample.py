"""Draw a random sample of a model's errors as a list of labels to review."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg.commands.review import predict_records
from ecg.data.headers import RecordError
from ecg.data.records import record_name, require_records
from ecg.data.review_lists import ReviewList, write_review_list
from ecg.data.source_tables import SourceTable
from ecg.evaluation.agreement import sample_errors
from ecg.models.saved_classes import find_model_classes
from ecg.runtime.files import check_writable
from ecg.runtime.limits import check_limits
from ecg.systems.label_comparison import labelled_mask, make_review_sources

LOGGER = logging.getLogger("ecg")


@dataclass(frozen=True)
class ErrorSample:
    """A random sample of a model's errors.

    Attributes:
        abbreviation: Abbreviation of a class of the model, in any case.
        false_positives: Number of recordings that the model predicts to have the class, without the label.
        false_negatives: Number of recordings with the label that the model predicts not to have the class.
        seed: Seed of the choice and the order.

    Raises:
        ValueError: A number is out of its range.
    """

    abbreviation: str
    false_positives: int = 50
    false_negatives: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        check_limits(false_positives=self.false_positives, false_negatives=self.false_negatives, seed=self.seed)


def write_sample(
    model: Path, data: Path, path: Path, sample: ErrorSample, source_table: SourceTable | None = None
) -> int:
    """Write a random sample of a model's errors as a list of labels to review.

    Args:
        model: Folder of the model.
        data: Folder of the recordings.
        path: File of the list, which is replaced.
        sample: What is drawn.
        source_table: The sources of records; None: those that are known for the model's classes.

    Returns:
        The number of recordings in the list.

    Raises:
        FileNotFoundError: `data` has no header.
        RecordError: The model has no such class, predicts no recording, or makes no such error.
        OSError: The list cannot be written.
        ValueError: A source labels a class that the model's table lacks.
    """
    check_writable(Path(path).parent)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    rows = draw_sample(model, data, sample, source_table)
    write_review_list(path, rows)
    LOGGER.info(f"{path}: {len(rows):,} recordings to review")
    return len(rows)


def draw_sample(model: Path, data: Path, sample: ErrorSample, source_table: SourceTable | None = None) -> ReviewList:
    """Draw a random sample of a model's errors; see `write_sample`.

    A class that the recording's source does not label, or that the model does not predict, is no error.
    """
    paths, classes = require_records(data), find_model_classes(model)
    try:
        abbreviation = classes.find_name(sample.abbreviation)
    except ValueError as error:
        raise RecordError(f"{model}: {error}") from None
    sources = make_review_sources(classes, source_table)
    predictions = predict_records(model, data, paths)
    for failure in predictions.describe_failures():
        LOGGER.warning(failure)
    if not predictions.paths:
        raise RecordError(f"{data}: none of {len(paths):,} recordings can be compared with a prediction")
    labels, outputs, column = predictions.labels, predictions.outputs, classes.index[abbreviation]
    is_labelled = labelled_mask(labels, sources.find(predictions.paths), sources.partially_labelled, classes)
    comparable = np.flatnonzero((predictions.covered & is_labelled)[:, column])
    labels, outputs = labels[comparable], outputs[comparable]
    chosen = sample_errors(labels, outputs, column, sample.false_positives, sample.false_negatives, sample.seed)
    counts = [int((outputs & ~labels)[:, column].sum()), int((labels & ~outputs)[:, column].sum())]
    LOGGER.info(f"{abbreviation}: {counts[0]:,} false positives and {counts[1]:,} false negatives in "
                f"{len(comparable):,} recordings; {min(counts[0], sample.false_positives):,} and "
                f"{min(counts[1], sample.false_negatives):,} drawn")  # fmt: skip
    if not len(chosen):
        raise RecordError(f"{data}: no such error of {abbreviation} in {len(comparable):,} recordings")
    return [(record_name(Path(predictions.paths[row])), abbreviation) for row in comparable[chosen].tolist()]
