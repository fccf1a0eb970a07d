"""Predictions of a model for the recordings of a catalogue, and their cache."""

import logging
import threading
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.headers import RecordError
from ecg.data.labels import find_single_labels
from ecg.evaluation.agreement import sample_errors
from ecg.runtime.cache import ResultCache
from ecg.runtime.console import describe_error
from ecg.systems.label_comparison import label_masks, labelled_mask, make_review_sources
from ecg.web.catalogue import Catalogue

LOGGER = logging.getLogger("ecg")

UNKNOWN, PREDICTED, FAILED = range(3)
BLOCK = 64  # recordings in a file of the cache
COLUMNS = ("state", "probabilities", "outputs", "covered", "lead_set")


class RecordPrediction(NamedTuple):
    """What a model predicts for a recording.

    Attributes:
        probabilities: (C,) float32; zeros if it failed.
        outputs: Predicted classes, (C,) bool.
        covered: Classes that the networks predict, (C,) bool.
        lead_set: Number of leads of the model that was used; 0 if it failed.
        repairs: Kinds of its repairs.
        reason: Why the recording cannot be predicted, or an empty string.
    """

    probabilities: np.ndarray
    outputs: np.ndarray
    covered: np.ndarray
    lead_set: int
    repairs: tuple[str, ...] = ()
    reason: str = ""


def failed_prediction(reason: str, n_classes: int) -> RecordPrediction:
    """Return the prediction of a recording that cannot be predicted."""
    nothing = np.zeros(n_classes, bool)
    return RecordPrediction(np.zeros(n_classes, np.float32), nothing, nothing, 0, reason=reason)


class PredictionTable:
    """Predictions by recording, kept in memory and in files.

    Attributes:
        catalogue: The recordings, n_recordings of them, with their C classes.
        state: UNKNOWN, PREDICTED or FAILED for each recording.
        probabilities: (n_recordings, C) float32.
        outputs: Predicted classes, (n_recordings, C) bool.
        covered: Classes that the networks predict, (n_recordings, C) bool.
        lead_set: Number of leads of the model that was used.
        reasons: Why a recording failed, by its row.
        suspicion: Largest difference between a label and its probability, NaN if unknown: (n_recordings,) float32.
        suspected: Labels that the model contradicts with confidence, (n_recordings, C) bool.
        version: Number of changes so far.
    """

    def __init__(self, catalogue: Catalogue, folder: Path, model_key: str, exclusive: np.ndarray) -> None:
        """Load what is cached.

        Args:
            catalogue: The recordings.
            folder: Folder of the cache.
            model_key: Fingerprint of the model.
            exclusive: Indices of the classes that exclude each other (see `ClassTable.indices`), or none. Recordings
                with none or several of them are not compared with their labels.
        """
        count, size = len(catalogue), len(catalogue.classes)
        self.catalogue, self.version = catalogue, 0
        self.state, self.lead_set = np.zeros(count, np.int8), np.zeros(count, np.int8)
        self.probabilities = np.zeros((count, size), np.float32)
        self.outputs, self.covered, self.suspected = (np.zeros((count, size), bool) for _ in range(3))
        self.suspicion = np.full(count, np.nan, np.float32)
        self.reasons: dict[int, str] = {}
        self._lock = threading.Lock()
        self._unsaved: list[int] = []
        self._is_warned = False
        self._folder, self._model_key = folder, model_key
        self._comparable = _comparable_recordings(catalogue, exclusive)
        classes, sources = catalogue.classes, np.array(catalogue.sources)
        rules = make_review_sources(classes, catalogue.source_table).partially_labelled
        labelled = labelled_mask(catalogue.columns["labels"], sources, rules, classes)
        self._is_trained = np.isin(np.arange(size), classes.trained)
        self._labelled = labelled & catalogue.columns["diagnosed"][:, np.newaxis]
        self._record_keys = catalogue.file_keys
        self._load()

    def fail(self, row: int, reason: str) -> None:
        """Note why a recording cannot be predicted until the next start."""
        with self._lock:
            self._set(row, failed_prediction(reason, len(self.catalogue.classes)))
            self.version += 1

    def store(self, row: int, prediction: RecordPrediction) -> None:
        """Store the prediction of a recording, or why it has none; a full block is saved."""
        with self._lock:
            self._set(row, prediction)
            self.version += 1
            self._unsaved.append(row)
            if len(self._unsaved) >= BLOCK:
                self._save()

    def save(self) -> None:
        """Save what is not saved yet."""
        with self._lock:
            self._save()

    def counts(self) -> dict[str, int]:
        """Return how many recordings there are, are predicted, and failed."""
        counts = np.bincount(self.state, minlength=3).tolist()
        return {"recordings": len(self.state), "predicted": counts[PREDICTED], "failed": counts[FAILED]}

    def comparable_mask(self, rows: np.ndarray) -> np.ndarray:
        """Return which labels of n recordings can agree with the model, (n, C) bool."""
        comparable = self._comparable[rows] & (self.state[rows] == PREDICTED)
        return self._labelled[rows] & self.covered[rows] & comparable[:, np.newaxis]

    def labelled_mask(self, rows: np.ndarray) -> np.ndarray:
        """Return which classes the sources of n recordings label, (n, C) bool."""
        return self._labelled[rows]

    def sample_errors(self, abbreviation: str, n_positive: int, n_negative: int, seed: int) -> list[tuple[int, str]]:
        """Draw a random sample of the model's errors, as the command `sample` does.

        Args:
            abbreviation: Abbreviation of a class, in any case.
            n_positive: Number of false positives.
            n_negative: Number of false negatives.
            seed: Seed of the choice and the order.

        Returns:
            Pairs of a row and the class.

        Raises:
            RecordError: There is no such class or error.
        """
        try:
            abbreviation = self.catalogue.classes.find_name(abbreviation)
        except ValueError as error:
            raise RecordError(str(error)) from None
        column = self.catalogue.classes.index[abbreviation]
        rows = np.flatnonzero(self.comparable_mask(np.arange(len(self.state)))[:, column])
        labels, outputs = self.catalogue.columns["labels"][rows], self.outputs[rows]
        drawn = rows[sample_errors(labels, outputs, column, n_positive, n_negative, seed)]
        if not len(drawn):
            raise RecordError(f"{self.catalogue.folder}: no such error of {abbreviation} in {len(rows):,} recordings")
        return [(row, abbreviation) for row in drawn.tolist()]

    def _set(self, row: int, prediction: RecordPrediction) -> None:
        for name in COLUMNS[1:]:
            getattr(self, name)[row] = getattr(prediction, name)
        if prediction.reason:
            self.reasons[row] = prediction.reason
        self.state[row] = FAILED if prediction.reason else PREDICTED  # last, since other threads read
        self._suspect(np.array([row]))

    def _suspect(self, rows: np.ndarray) -> None:
        """Compare labels with predictions, as the command `review` does."""
        labels, probabilities = self.catalogue.columns["labels"][rows], self.probabilities[rows]
        compared = self.comparable_mask(rows) & self._is_trained
        self.suspected[rows] = compared & (label_masks(labels, probabilities) == 0)
        differences = np.where(compared, np.abs(labels - probabilities), 0).max(axis=1)
        self.suspicion[rows] = np.where(self.state[rows] == PREDICTED, differences, np.nan)

    def _load(self) -> None:
        """Load the files of the cache, and merge them into one."""
        files = sorted(self._folder.glob("*.npz")) if self._folder.is_dir() else []
        rows_of_key = {key: row for row, key in enumerate(self._record_keys.tolist())}
        for file in files:
            arrays = ResultCache(self._folder, self._model_key).load(file.stem)
            if arrays is not None:
                self._merge(arrays, rows_of_key)
        self._suspect(np.flatnonzero(self.state))
        if len(files) > 1:
            self._unsaved = np.flatnonzero(self.state).tolist()
            self._save()
            for file in files if not self._unsaved else ():
                file.unlink(missing_ok=True)

    def _merge(self, arrays: dict[str, np.ndarray], rows_of_key: dict[int, int]) -> None:
        known = [(index, rows_of_key[key]) for index, key in enumerate(arrays["keys"].tolist()) if key in rows_of_key]
        if known:
            indices, rows = map(np.array, zip(*known, strict=True))
            for name in COLUMNS:
                getattr(self, name)[rows] = arrays[name][indices]
            reasons = arrays["reasons"].tobytes().decode().split("\n")
            self.reasons |= {row: reasons[index] for index, row in known if self.state[row] == FAILED}

    def _save(self) -> None:
        if self._unsaved:
            rows = np.array(self._unsaved)
            reasons = "\n".join(self.reasons.get(row, "").replace("\n", " ") for row in self._unsaved)
            arrays = {name: getattr(self, name)[rows] for name in COLUMNS}
            arrays |= {"keys": self._record_keys[rows]}
            arrays |= {"reasons": np.frombuffer(reasons.encode("utf-8", "replace"), np.uint8)}
            try:
                ResultCache(self._folder, self._model_key).save(uuid.uuid4().hex, arrays)
                self._unsaved = []
            except OSError as error:  # such as a full disk; they are saved with the next ones
                if not self._is_warned:
                    LOGGER.warning(f"predictions cannot be kept for the next start: {describe_error(error)}")
                self._is_warned = True


def _comparable_recordings(catalogue: Catalogue, exclusive: np.ndarray) -> np.ndarray:
    """Return which recordings can agree with a model: (n_recordings,) bool."""
    comparable = catalogue.columns["diagnosed"].copy()
    if len(exclusive):
        columns = catalogue.columns
        comparable &= find_single_labels(exclusive, columns["labels"], columns["additional"])
    return comparable
