"""Review labels: list and draw confident disagreements with a trained model."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ecg.data.class_tables import ClassTable
from ecg.data.corrections import (
    correct_labels,
    correction_table,
    describe_corrections,
    is_decided,
    load_corrections,
    match_corrections,
)
from ecg.data.headers import RecordError, read_header
from ecg.data.labels import CHALLENGE_CLASSES, find_single_labels
from ecg.data.patients import record_names
from ecg.data.preprocessing import correct_gains
from ecg.data.records import read_raw_signal, record_name, require_records
from ecg.models.saved_classes import find_model_classes
from ecg.reports.training_charts import draw_disagreements
from ecg.reports.training_tables import disagreement_table
from ecg.runtime.console import (
    Progress,
    describe_error,
    escape_unprintable,
    format_table,
    remove_record_name,
    wrap_line,
)
from ecg.runtime.files import atomic_path, check_replaceable, write_csv
from ecg.systems.label_cleaning import CleaningSettings
from ecg.systems.label_comparison import (
    MAX_DRAWN,
    Disagreement,
    LabelledRecordings,
    ReviewSources,
    compare_labels,
    label_masks,
    make_review_sources,
)

if TYPE_CHECKING:
    from ecg.models.bundle import Bundle

LOGGER = logging.getLogger("ecg")

TABLE, CORRECTED = "disagreements.csv", "corrected_labels.csv"
FIGURE_NAME = r"[0-9]{2,}_.+_[A-Za-z0-9_+-]+\.png"


class ReviewPredictions(NamedTuple):
    """Predictions of a model for recordings, and why others are missing.

    Attributes:
        paths: Header of each recording below the data folder, n_recordings of them.
        labels: Classes by the header, (n_recordings, C) bool.
        probabilities: (n_recordings, C).
        outputs: Predicted classes, (n_recordings, C) bool.
        thresholds: (n_recordings, C), NaN if there is none.
        covered: Classes that the model predicts for this recording, (n_recordings, C) bool.
        early_gains: Whether the gains of early 2020 were corrected.
        undiagnosed: Number of headers without a diagnosis.
        ambiguous: Number of headers with none or several of the model's exclusive classes.
        failed: Names of recordings that were not predicted, by the reason.
        classes: The C classes of the model.
    """

    paths: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    outputs: np.ndarray
    thresholds: np.ndarray
    covered: np.ndarray
    early_gains: bool
    undiagnosed: int
    ambiguous: int
    failed: dict[str, list[str]]
    classes: ClassTable = CHALLENGE_CLASSES

    def describe_failures(self) -> list[str]:
        """Return a message for each reason: first recording, number of others."""
        return [
            f"{names[0]}{f' and {len(names) - 1:,} more' * bool(names[1:])}: {reason}"
            for reason, names in self.failed.items()
        ]


def review(
    model: Path,
    data: Path,
    output: Path,
    sources: ReviewSources | None = None,
    figures: int = MAX_DRAWN,
    early_gains: bool = False,
    corrections: Path | None = None,
) -> int:
    """Compare the labels of a data folder with the predictions of a model.

    A label is listed if training would mask it: it is present with a probability below 0.1, or absent with one above
    0.9. Only the classes that the default system trains are compared, or all of a table of your own, and only those
    that the model predicts for the recording. A class that a partially labelled source omits is compared only if it is
    labelled. Recordings without a diagnosis are excluded. So are those with none or several of a model's exclusive
    classes.

    Args:
        model: Folder of the model.
        data: Folder of the recordings.
        output: Folder for disagreements.csv, the most confident disagreement first, and for the drawn recordings. With
            corrections it has corrected_labels.csv, too. It replaces an earlier review.
        sources: What is known of the sources. None: what is known of the Challenge's, if the classes are its.
        figures: How many of the most confident disagreements are drawn.
        early_gains: Whether to correct the gains of early 2020, even if the model was trained without.
        corrections: Folder of reviews. Labels that most reviewers have decided on are not listed.

    Returns:
        The number of disagreements.

    Raises:
        FileNotFoundError: `data` has no header.
        FileExistsError: `output` has files that are not of a review.
        RecordError: No recording could be reviewed, or the corrections cannot be used.
        ValueError: A source has a class that the model's table lacks.
    """
    data, folder = Path(data), Path(output).resolve()
    unlisted: list[tuple[str, str]] = []
    paths = require_records(data, unlisted)
    classes = find_model_classes(model)
    sources = sources or make_review_sources(classes)
    CleaningSettings((), sources.partially_labelled).check(classes)
    votes = load_corrections(corrections, record_names(data, paths), classes) if corrections else {}
    check_replaceable(folder, TABLE, f"{re.escape(TABLE)}|{re.escape(CORRECTED)}|{FIGURE_NAME}", "a review")
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)  # first, so that no work is lost if nothing can be written
        predictions = predict_records(model, data, paths, early_gains)
        failures = predictions.describe_failures()
        if not predictions.paths:
            none = "none or several of the model's exclusive classes" if predictions.ambiguous else "no diagnosis"
            reason = escape_unprintable(failures[0]) if failures else f"their headers have {none}"
            raise RecordError(f"{data}: none of {len(paths):,} recordings can be reviewed, {reason}")
        for message in (*failures, *(f"{path}: {reason}" for path, reason in unlisted)):
            LOGGER.warning(message)
        names = [record_name(Path(path)) for path in predictions.paths]
        reviewed = match_corrections(votes, names, predictions.labels, classes)
        verdicts = reviewed.verdicts
        labels = correct_labels(predictions.labels, verdicts)
        if corrections:
            write_csv(temporary / CORRECTED, correction_table(reviewed, names, classes))
        trained = classes.trained
        masks = label_masks(labels[:, trained], predictions.probabilities[:, trained])
        masks[is_decided(verdicts[:, trained])] = 1
        predictions = predictions._replace(labels=labels)
        origins = sources.find(predictions.paths)
        recordings = LabelledRecordings(data, predictions.paths, origins, labels, classes)
        rules, probabilities = sources.partially_labelled, predictions.probabilities
        compared, rows, disagreements = compare_labels(recordings, probabilities, masks, rules, predictions.covered)
        header, *lines = disagreement_table(disagreements)
        write_csv(temporary / TABLE, [header, *((*line, f"{probability:.6g}") for *line, probability in lines)])
        first = rows[:figures]
        drawn = draw_disagreements(temporary, disagreements[:figures], predictions.thresholds[first],
                                   predictions.outputs[first], predictions.early_gains)  # fmt: skip
    counts = wrap_line(describe_corrections(reviewed)) if corrections else []
    for line in [*counts, *review_lines(predictions, compared, disagreements)]:
        LOGGER.info(line)
    LOGGER.info(f"{output}: {TABLE} and {drawn:,} figures")
    return len(disagreements)


def predict_records(
    model: Path, data: Path, paths: Sequence[Path], early_gains: bool = False, only_comparable: bool = True
) -> ReviewPredictions:
    """Predict recordings, one at a time, with the networks for their leads.

    Args:
        model: Folder of the model.
        data: Folder of the recordings.
        paths: Their headers.
        early_gains: Whether to correct the gains of early 2020, even if the model was trained without.
        only_comparable: Whether to exclude recordings whose labels cannot be compared with predictions.
    """
    from ecg.models.bundle_cache import BundleCache
    from ecg.models.config import ModelError
    from ecg.models.numpy_network import use_one_thread_per_network

    use_one_thread_per_network()
    bundles, classes = BundleCache(model), find_model_classes(model)
    predicted: list[tuple] = []
    failed: dict[str, list[str]] = {}
    undiagnosed = ambiguous = 0
    any_corrected = False
    with Progress("review", len(paths), "recordings") as progress:
        for path in paths:
            relative = path.relative_to(data)
            try:
                header = read_header(path)
                if only_comparable and not classes.has_diagnosis(header.codes):
                    undiagnosed += 1
                elif only_comparable and not can_compare(bundles.load(header.lead_names), header.codes):
                    ambiguous += 1
                else:
                    bundle = bundles.load(header.lead_names)
                    if bundle.classes != classes:
                        raise ModelError(f"{model}: the model of {len(bundle.leads)} leads has other classes")
                    corrects = early_gains or bundle.early_gains
                    recording = read_raw_signal(path, header).samples
                    corrected = correct_gains(header, recording)[0] if corrects else header
                    any_corrected |= corrects
                    prediction = bundle.predict_recording(corrected, recording)
                    predicted.append((relative.as_posix(), classes.encode(header.codes), *prediction))
            except (RecordError, ModelError, OSError) as error:
                reason = remove_record_name(describe_error(error), path)
                failed.setdefault(reason, []).append(str(relative.with_suffix("")))
            progress.advance()
    labels, probabilities, outputs, thresholds, covered = (
        np.array([values[index] for values in predicted]) for index in range(1, 6)
    )
    return ReviewPredictions([values[0] for values in predicted], labels, probabilities, outputs, thresholds, covered,
                             any_corrected, undiagnosed, ambiguous, failed, classes)  # fmt: skip


def can_compare(bundle: "Bundle", codes: Sequence[str]) -> bool:
    """Return whether the predictions of a model can agree with the codes of a header."""
    labels = bundle.classes.encode(codes)[np.newaxis], bundle.classes.encode_additional(codes)[np.newaxis]
    return not bundle.exclusive or bool(find_single_labels(bundle.columns, *labels)[0])


def review_lines(
    predictions: ReviewPredictions, compared: np.ndarray, disagreements: Sequence[Disagreement]
) -> list[str]:
    """Summarise a review for the console.

    Args:
        predictions: What the model predicted.
        compared: Which labels were compared, (n_recordings, n_trained_classes) bool.
        disagreements: What was found.
    """
    records = len({item.path for item in disagreements})
    failed = sum(map(len, predictions.failed.values()))
    lines = [f"{len(predictions.paths):,} recordings reviewed, {predictions.undiagnosed:,} have no diagnosis, "
             f"{failed:,} cannot be read or predicted"]  # fmt: skip
    if predictions.ambiguous:
        lines.append(f"{predictions.ambiguous:,} have none or several of the model's exclusive classes")
    lines.append(f"{compared.sum():,} labels compared, {len(disagreements):,} disagreements in {records:,} recordings")
    rows: list[tuple] = [("class", "present", "doubted", "absent", "doubted")]
    for index, column in enumerate(predictions.classes.trained):
        labels = predictions.labels[compared[:, index], column]
        if doubted := [item.labelled for item in disagreements if item.column == column]:
            counts = int(labels.sum()), sum(doubted), int((~labels).sum()), len(doubted) - sum(doubted)
            rows.append((predictions.classes.abbreviations[column], *counts))
    return [*lines, *(format_table(rows) if disagreements else [])]
