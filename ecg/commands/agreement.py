"""Measure the agreement of reviewers, labels and models, and report it."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ecg.commands.review import predict_records
from ecg.data.class_tables import ClassTable
from ecg.data.headers import RecordError, read_header
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.patients import record_names
from ecg.data.records import record_name, require_records
from ecg.data.reviewers import LABELS, reviewer_key
from ecg.data.reviews import UNDECIDED, Review, read_reviews
from ecg.data.source_tables import SourceTable
from ecg.evaluation.agreement import AgreementStudy, build_study, encode_verdicts
from ecg.evaluation.bootstrap import RESAMPLES
from ecg.evaluation.outputs import load_outputs
from ecg.models.saved_classes import find_model_classes
from ecg.reports.agreement_report import (
    AGREEMENT_FIGURE,
    AGREEMENT_PAGE,
    AGREEMENT_TABLES,
    describe_pair,
    write_agreement,
)
from ecg.runtime.console import abbreviated_list, log_wrapped, pluralise
from ecg.runtime.files import check_replaceable, check_writable
from ecg.systems.label_comparison import ReviewSources, labelled_mask, make_review_sources
from ecg.systems.training_overlap import describe_overlap, read_training_content

LOGGER = logging.getLogger("ecg")

FILE_NAMES = "|".join([f"({'|'.join(AGREEMENT_TABLES)})\\.csv", AGREEMENT_PAGE, AGREEMENT_FIGURE])


@dataclass(frozen=True)
class AgreementSources:
    """What reviewers are compared with.

    Attributes:
        data: Folder of the recordings, whose labels are compared; None: no labels.
        models: Folders of models, which predict the reviewed recordings of `data`.
        outputs: Folders of output files of further models.
        given_classes: The classes; None: those of the first model, or of the Challenge.
        source_table: The sources of the recordings; None: those that are known for the classes.

    Raises:
        ValueError: There is a model or a table of sources without recordings, a folder is given twice, a model has
            other classes, or a source labels a class that is not compared.
    """

    data: Path | None = None
    models: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()
    given_classes: ClassTable | None = None
    source_table: SourceTable | None = None

    def __post_init__(self) -> None:
        if self.models and not self.data:
            raise ValueError("a model needs the recordings that it is to predict: --data DATA")
        if self.source_table is not None and not self.data:
            raise ValueError("a table of sources needs the recordings whose labels are compared: --data DATA")
        folders = [folder.resolve() for folder in (*self.models, *self.outputs)]
        if repeated := [folder for folder in folders if folders.count(folder) > 1]:
            raise ValueError(f"{repeated[0]}: expected each model once")
        for model in self.models:
            if find_model_classes(model).scored != self.classes.scored:
                raise ValueError(f"{model}: predicts other classes than {', '.join(self.classes.abbreviations)}")
        _ = self.review_sources  # raises now instead of after the predictions

    @cached_property
    def classes(self) -> ClassTable:
        """The classes that are compared."""
        if self.given_classes is not None:
            return self.given_classes
        return find_model_classes(self.models[0]) if self.models else CHALLENGE_CLASSES

    @cached_property
    def review_sources(self) -> ReviewSources:
        """What is known of the sources of the recordings."""
        return make_review_sources(self.classes, self.source_table)


def agreement(reviews: Path, output: Path, sources: AgreementSources | None = None, seed: int = 0) -> AgreementStudy:
    """Measure the agreement of reviewers, and write a report.

    Args:
        reviews: Folder of the reviews.
        output: Folder for the report, which replaces an earlier one.
        sources: What reviewers are compared with besides each other.
        seed: Seed of the bootstrap resamples.

    Raises:
        RecordError: There are no reviews, or none of the recordings.
        FileNotFoundError: The data folder holds no header, or a folder is missing.
        FileExistsError: `output` has other files.
    """
    sources = sources or AgreementSources()
    check_writable(Path(output).absolute().parent)
    check_replaceable(Path(output), AGREEMENT_PAGE, FILE_NAMES, "a report on agreement")
    try:
        given = read_reviews(reviews, prefers_blinded=True, classes=sources.classes)
    except ValueError as error:
        raise RecordError(str(error)) from error
    if not given:
        raise RecordError(f"{reviews}: no reviews in this folder")
    names, labels, predictions = load_raters(given, sources)
    study = build_study(given, names, labels, predictions, seed=seed, classes=sources.classes)
    caveats = find_overlaps(study, sources)
    for caveat in caveats:
        log_wrapped(f"{caveat}.", logging.WARNING)
    facts = {
        "reviews": str(reviews),
        **({} if sources.data is None else {"data": str(sources.data)}),
        **{f"model {rater.name}": str(folder)
           for rater, folder in zip(study.models, (*sources.models, *sources.outputs), strict=True)},
        "recordings": f"{len(study.names):,}",
        "reviewed recordings not in data": f"{len({review.record for review in given}) - len(study.names):,}",
        "bootstrap": f"{RESAMPLES:,} resamples, seed {seed}",
    }  # fmt: skip
    path = write_agreement(Path(output).resolve(), study, facts, caveats)
    for pair in study.pairs:
        log_wrapped(describe_pair(pair))
    LOGGER.info(f"{Path(output) / path.name}: {pluralise(len(study.reviewers), 'reviewer')}, "
                f"{pluralise(len(study.names), 'recording')}, {len(study.list_contested()):,} contested")  # fmt: skip
    return study


def find_overlaps(study: AgreementStudy, sources: AgreementSources) -> list[str]:
    """Warn of models that were trained on reviewed recordings or on verdicts."""
    raters = zip(study.models, sources.models, strict=False)  # those with output files come last
    caveats = (describe_overlap(rater.name, read_training_content(model), study.reviews) for rater, model in raters)
    return [caveat for caveat in caveats if caveat]


def load_raters(
    reviews: Sequence[Review], sources: AgreementSources
) -> tuple[list[str], np.ndarray | None, dict[str, np.ndarray]]:
    """Load the labels and predictions of the reviewed recordings.

    Returns:
        Names of n recordings; their labels as verdicts, (n, C) int8, or None; and the predictions of each model.

    Raises:
        RecordError: None of the reviewed recordings is in the data folder.
    """
    reviewed = dict.fromkeys(review.record for review in reviews)
    folders = name_folders([*sources.models, *sources.outputs], {review.reviewer for review in reviews})
    if sources.data is None:
        return (
            [*reviewed],
            None,
            {folders[folder]: read_predictions([*reviewed], folder, sources.classes) for folder in sources.outputs},
        )
    paths = require_records(sources.data)
    all_paths = dict(zip(record_names(sources.data, paths), paths, strict=True))
    chosen = {name: path for name, path in all_paths.items() if name in reviewed}
    if not chosen:
        raise RecordError(f"{sources.data}: has none of {pluralise(len(reviewed), 'reviewed recording')}, such as "
                          f"{next(iter(reviewed))}")  # fmt: skip
    if missing := [name for name in reviewed if name not in chosen]:
        log_wrapped(
            f"{sources.data}: {len(missing):,} reviewed recordings are not there ({abbreviated_list(missing)})",
            logging.WARNING,
        )
    predictions = {folders[model]: predict_verdicts(chosen, model, sources.data) for model in sources.models}
    predictions |= {
        folders[outputs]: read_predictions([*chosen], outputs, sources.classes) for outputs in sources.outputs
    }
    return [*chosen], read_labels(chosen, sources.review_sources, sources.classes), predictions


def name_folders(folders: Sequence[Path], reviewers: Iterable[str]) -> dict[Path, str]:
    """Return a name of each model that no other rater has.

    It is the name of the folder. Folders of the same name also have the names of those above them.

    Args:
        folders: Different folders of models or outputs.
        reviewers: Names of the reviewers.
    """
    parts = {folder: folder.resolve().parts for folder in folders}
    taken = {reviewer_key(name) for name in (LABELS, *reviewers)}
    names: dict[Path, str] = {}
    for folder in folders:
        length = 1
        while sum(parts[folder][-length:] == path[-length:] for path in parts.values()) > 1:
            length += 1
        name = "/".join(parts[folder][-length:])
        names[folder] = f"{name} (model)" if reviewer_key(name) in taken else name  # no reviewer's name has brackets
    return names


def read_labels(paths: dict[str, Path], sources: ReviewSources, classes: ClassTable = CHALLENGE_CLASSES) -> np.ndarray:
    """Return the labels of headers as verdicts, (n, C) int8.

    A class that the source does not label is undecided, and so is each class of a header without a diagnosis.

    Args:
        paths: Paths of the headers by name of the recording.
        sources: What is known of their sources.
        classes: The C classes.
    """
    labels, is_diagnosed = np.zeros((2, len(paths), len(classes)), bool)
    for row, path in enumerate(paths.values()):
        try:
            header = read_header(path)
            labels[row], is_diagnosed[row] = classes.encode(header.codes), classes.has_diagnosis(header.codes)
        except (RecordError, OSError) as error:
            log_wrapped(f"{path}: {error}", logging.WARNING)
    is_labelled = labelled_mask(labels, sources.find(paths.values()), sources.partially_labelled, classes)
    return encode_verdicts(labels, is_diagnosed & is_labelled)


def predict_verdicts(paths: dict[str, Path], model: Path, data: Path) -> np.ndarray:
    """Return the classes that a model predicts as verdicts, (n, C) int8.

    Args:
        paths: Paths of the headers by name of the recording.
        model: Folder of the model.
        data: Folder of the recordings.

    Raises:
        RecordError: It can predict none of the recordings.
    """
    predictions = predict_records(model, data, [*paths.values()], only_comparable=False)
    for failure in predictions.describe_failures():
        log_wrapped(failure, logging.WARNING)
    if not predictions.paths:
        raise RecordError(
            f"{model}: predicts none of the {len(paths):,} reviewed recordings, {[*predictions.failed][0]}"
        )
    rows = {name: row for row, name in enumerate(paths)}
    verdicts = np.full((len(paths), len(predictions.classes)), UNDECIDED, np.int8)
    chosen = [rows[record_name(Path(path))] for path in predictions.paths]
    verdicts[chosen] = encode_verdicts(predictions.outputs, predictions.covered)
    return verdicts


def read_predictions(names: Sequence[str], outputs: Path, classes: ClassTable = CHALLENGE_CLASSES) -> np.ndarray:
    """Return the classes in output files as verdicts, (n, C) int8.

    Args:
        names: Names of the recordings.
        outputs: Folder of output files. A recording without one is undecided.
        classes: The C classes.

    Raises:
        FileNotFoundError: There is none of the output files.
    """
    files = {row: path for row, name in enumerate(names) if (path := outputs / f"{name}.csv").is_file()}
    if not files:
        raise FileNotFoundError(
            f"{outputs}: has no output file of the {len(names):,} recordings, such as {names[0]}.csv"
        )
    if missing := [name for row, name in enumerate(names) if row not in files]:
        log_wrapped(
            f"{outputs}: {len(missing):,} recordings have no output file ({abbreviated_list(missing)})", logging.WARNING
        )
    verdicts = np.full((len(names), len(classes)), UNDECIDED, np.int8)
    predicted, _ = load_outputs([str(path) for path in files.values()], classes.evaluated_class_of_code, len(classes))
    verdicts[[*files]] = predicted
    return verdicts
