"""A classifier for scikit-learn that trains the published systems."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ecg.api import predict
from ecg.data.inputs import AnyRecording, Recording, resolve_leads
from ecg.data.labels import ABBREVIATIONS, CHALLENGE_CLASSES
from ecg.data.leads import LEAD_SETS, describe_missing_leads, find_lead_set
from ecg.data.memory_stores import LabelledRecording, build_labelled_stores
from ecg.data.store import check_trainable
from ecg.data.wave_peaks import load_all_wave_peaks
from ecg.evaluation.metrics import challenge_score
from ecg.runtime.executors import ONE_PROCESS
from ecg.runtime.keras_startup import start_keras
from ecg.runtime.limits import TimeBudget

if TYPE_CHECKING:  # imports Keras
    from ecg.models.bundle import Bundle, Prediction
    from ecg.systems.recipes import Settings


class ECGClassifier(ClassifierMixin, BaseEstimator):
    """A system that is trained on recordings and labels in memory.

    `fit` trains the networks of a system by its stages, as `ecg train` does, for one lead set. It relabels and masks
    labels as the system does: by the sources that the names of records tell, and by the network of round 1. If `y`
    lacks a class of the system, the system is trained for the others, and labels are used as they are.

    X is a list of recordings: arrays (n_samples, n_leads) in millivolts, paths of records, or `ecg.Recording` with age
    and sex. An array (n_recordings, n_samples, n_leads) is as good. The labels are those of y, never of a header. y is
    a 0/1 matrix, (n_recordings, n_classes). A recording that cannot be used is an error.

    Example:
        >>> from ecg import ECGClassifier
        >>> classifier = ECGClassifier("cai2021", classes=["AF", "NSR"], leads=2, frequency=500, epochs=10)
        >>> classifier
        ECGClassifier(classes=['AF', 'NSR'], epochs=10, frequency=500, leads=2)

    Args:
        system: Name of a system, or its settings (`ecg.systems.recipes.Settings`) with other sizes or decisions.
        classes: Abbreviations of the columns of y, among the Challenge's 26 classes; None: all of them in their order.
        leads: Leads of arrays, column by column: names, or the number of leads of a lead set in its standard order.
            The networks are those of the richest lead set that these fill.
        frequency: Sampling frequency of arrays in Hz.
        epochs: Epochs of each training, at most; None: those of the system.
        batch: Recordings in a step; None: that of the system.
        random_state: Seed of the training; None: that of the system. The same seed gives the same networks.

    Attributes:
        classes_: Abbreviations of the columns of y, (n_classes,).
        bundle_: The trained model (`ecg.models.bundle.Bundle`), as for `ecg.predict`.
    """

    classes_: np.ndarray
    bundle_: "Bundle"

    def __init__(
        self,
        system: "str | Settings" = "cai2021",
        classes: Sequence[str] | None = None,
        leads: int | Sequence[str] = 12,
        frequency: float | None = None,
        epochs: int | None = None,
        batch: int | None = None,
        random_state: int | None = None,
    ) -> None:
        self.system = system
        self.classes = classes
        self.leads = leads
        self.frequency = frequency
        self.epochs = epochs
        self.batch = batch
        self.random_state = random_state

    def fit(self, X: Sequence[AnyRecording] | np.ndarray, y: np.ndarray) -> "ECGClassifier":
        """Train the system.

        Args:
            X: The recordings, two or more.
            y: Whether each recording has each class, (n_recordings, n_classes).

        Raises:
            RecordError: A recording cannot be used, or too few can be trained on. The message says which and why.
            ValueError: A parameter, X or y is invalid.
            TrainingError: The loss is not finite, or the memory is too small.
            NeuroKitMissing: The system needs wave peaks, and NeuroKit2 is missing.
        """
        if y is None:
            raise ValueError("ECGClassifier requires y to be passed, but the target y is None")
        check_classification_targets(y)
        recordings, classes = self._list_recordings(X), self._choose_classes()
        labels = check_labels(y, classes)
        check_consistent_length(recordings, labels)
        n_leads = find_lead_set(leads := resolve_leads(self.leads))
        if not n_leads:
            raise ValueError(describe_missing_leads(leads))
        start_keras()
        settings = self._choose_settings(classes, n_leads)
        labelled = [
            LabelledRecording(number, recording, CHALLENGE_CLASSES.expand(row, CHALLENGE_CLASSES.indices(classes)))
            for number, (recording, row) in enumerate(zip(recordings, labels, strict=True))
        ]
        self.bundle_ = train_bundle(settings, n_leads, labelled)
        self.classes_ = np.array(classes)
        return self

    def predict_proba(self, X: Sequence[AnyRecording] | np.ndarray) -> np.ndarray:
        """Return the probability of each class.

        Args:
            X: The recordings.

        Returns:
            (n_recordings, n_classes) float32; 0 for a class that the system does not predict.

        Raises:
            RecordError: A recording cannot be used.
            ValueError: X is invalid.
        """
        return np.array([prediction.probabilities[self._columns] for prediction in self._predict(X)])

    def predict(self, X: Sequence[AnyRecording] | np.ndarray) -> np.ndarray:
        """Return the classes that the system decides on.

        Args:
            X: The recordings.

        Returns:
            0 or 1, (n_recordings, n_classes).

        Raises:
            RecordError: A recording cannot be used.
            ValueError: X is invalid.
        """
        return np.array([prediction.outputs[self._columns] for prediction in self._predict(X)]).astype(int)

    def score(self, X: Sequence[AnyRecording] | np.ndarray, y: np.ndarray) -> float:
        """Return the Challenge metric of the predicted classes.

        Args:
            X: The recordings.
            y: Whether each recording has each class, (n_recordings, n_classes).

        Returns:
            1 for the labels themselves, 0 for sinus rhythm in each recording.

        Raises:
            RecordError: A recording cannot be used.
            ValueError: X or y is invalid.
        """
        check_is_fitted(self)
        labels, outputs = check_labels(y, self.classes_.tolist()), self.predict(X) > 0
        check_consistent_length(labels, outputs)
        labels, outputs = (CHALLENGE_CLASSES.expand(values, self._columns) for values in (labels, outputs))
        return challenge_score(labels, outputs, self.bundle_.rule.weight_array)

    @property
    def _columns(self) -> np.ndarray:
        """Indices of the classes among the scored ones, (n_classes,)."""
        return CHALLENGE_CLASSES.indices(self.classes_.tolist())

    def _predict(self, X: Sequence[AnyRecording] | np.ndarray) -> "list[Prediction]":
        """Predict recordings."""
        check_is_fitted(self)
        return predict(self.bundle_, self._list_recordings(X))

    def _list_recordings(self, X: Sequence[AnyRecording] | np.ndarray) -> list[AnyRecording]:
        """Return the recordings of X, arrays as `Recording`.

        Raises:
            TypeError: X is sparse.
            ValueError: X is no list of recordings, or empty.
        """
        if issparse(X):
            raise TypeError("X: expected a list of recordings; sparse input is not supported")
        if isinstance(X, np.ndarray) and np.iscomplexobj(X):
            raise ValueError("X: expected numbers in mV. Complex data not supported")
        if isinstance(X, str | bytes | os.PathLike) or getattr(X, "ndim", 1) not in (1, 3):
            received = f"an array of {X.ndim} dimensions" if isinstance(X, np.ndarray) else type(X).__name__
            raise ValueError(
                f"X: expected a list of recordings, or (recordings, samples, leads); received {received}. A table of "
                f"features is no recording"
            )
        recordings = list(X)
        if not recordings:
            raise ValueError("X: expected at least one recording")
        return [
            Recording(recording, self.leads, self.frequency) if isinstance(recording, np.ndarray) else recording  # type: ignore[arg-type]  # is checked
            for recording in recordings
        ]

    def _choose_classes(self) -> tuple[str, ...]:
        """Return the abbreviations of the columns of y.

        Raises:
            ValueError: A class is unknown or there twice.
        """
        classes = ABBREVIATIONS if self.classes is None else tuple(map(str, self.classes))
        if unknown := [name for name in classes if name not in ABBREVIATIONS]:
            raise ValueError(f"classes: {', '.join(unknown)} unknown, expected some of {', '.join(ABBREVIATIONS)}")
        if len(set(classes)) < len(classes):
            raise ValueError(f"classes: {', '.join(classes)} has a class twice")
        return classes

    def _choose_settings(self, classes: Sequence[str], n_leads: int) -> "Settings":
        """Return the settings of the training.

        Args:
            classes: Abbreviations of the columns of y.
            n_leads: Number of leads of the lead set.

        Raises:
            ValueError: A parameter is invalid.
        """
        from ecg.commands.settings import change_training, find_system, without_none

        settings = find_system(self.system) if isinstance(self.system, str) else self.system
        settings = change_training(settings, without_none(epochs=self.epochs, batch=self.batch))
        if self.random_state is not None:
            settings = replace(settings, seed=self.random_state)
        used = settings.leads_of(n_leads)  # relabelling networks, which usually see 12 leads, have no others
        settings = replace(settings, lead_sets=(n_leads,), leads_used=((12, used), (n_leads, used)))
        return select_classes(settings, classes)

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters, and a trained model as the bytes of its files."""
        state = dict(super().__getstate__())
        if "bundle_" in state:
            from ecg.models.bundle import save_bundle

            with TemporaryDirectory() as folder:
                save_bundle(self.bundle_, folder)
                files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
            state["bundle_"] = (self.bundle_.leads, files)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load a trained model from the bytes of its files."""
        state = dict(state)
        if "bundle_" in state:
            start_keras()
            from ecg.models.bundle import load_bundle

            leads, files = state["bundle_"]
            with TemporaryDirectory() as folder:
                for name, content in files.items():
                    Path(folder, name).write_bytes(content)
                state["bundle_"] = load_bundle(folder, leads, fallback=False)
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn what X and y are."""
        tags = super().__sklearn_tags__()
        tags.input_tags = InputTags(
            one_d_array=True, two_d_array=False, three_d_array=True, string=True, allow_nan=True
        )
        tags.target_tags = TargetTags(required=True, two_d_labels=True, single_output=False)
        tags.classifier_tags = ClassifierTags(poor_score=True, multi_class=False, multi_label=True)
        return tags


def check_labels(y: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return labels as an array.

    Args:
        y: Whether each recording has each class, (n_recordings, n_classes).
        classes: Abbreviations of the classes.

    Returns:
        (n_recordings, n_classes) bool.

    Raises:
        ValueError: y has another shape, or a value that is neither 0 nor 1.
    """
    labels = np.asarray(y)
    if labels.ndim != 2 or labels.shape[1] != len(classes):
        expected = f"(recordings, {len(classes)}), a column for each of the classes"
        raise ValueError(f"y: expected the shape {expected}, received {labels.shape}")
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        raise ValueError("y: expected 0 or 1 for each class")
    return labels.astype(bool)


def select_classes(settings: "Settings", classes: Sequence[str]) -> "Settings":
    """Return a system that predicts only those of its classes that are labelled.

    Args:
        settings: Settings of the system.
        classes: Abbreviations of the labelled classes.

    Returns:
        The settings themselves if all classes of the system are labelled. Otherwise labels are used as they are.

    Raises:
        ValueError: The system predicts none of the classes.
    """
    from ecg.systems.recipes import AS_LABELLED

    used = tuple(name for name in settings.classes if name in classes)
    if used == settings.classes:
        return settings
    if not used:
        raise ValueError(f"classes: {settings.system} predicts none of {', '.join(classes)}")
    implies, answer_pairs = (
        tuple(pair for pair in pairs if set(pair) <= set(used)) for pairs in (settings.implies, settings.answer_pairs)
    )
    return replace(
        settings,
        classes=used,
        cleaning=AS_LABELLED,
        source_masks=False,
        implies=implies,
        answer_pairs=answer_pairs,
        gate=settings.gate if settings.gate and set(settings.gate.classes) <= set(used) else None,
        fallback=settings.fallback if settings.fallback in used else None,
    )


def train_bundle(settings: "Settings", n_leads: int, labelled: Sequence[LabelledRecording]) -> "Bundle":
    """Train a system for one lead set on recordings with labels.

    Args:
        settings: Settings of the system, with this lead set alone.
        n_leads: Number of leads of the lead set.
        labelled: The recordings.

    Raises:
        RecordError: A recording cannot be used, or too few can be trained on.
        TrainingError: The loss is not finite, or the memory is too small.
        NeuroKitMissing: The system needs wave peaks, and NeuroKit2 is missing.
    """
    from ecg.models.bundle import Bundle
    from ecg.systems.method import train_system
    from ecg.systems.stage_runner import StageRunner

    with TemporaryDirectory() as name:
        folder = Path(name)
        stores = build_labelled_stores(folder, labelled, LEAD_SETS[n_leads], settings.preparations)
        check_trainable("X", next(iter(stores.values())), settings.classes)
        peaks = load_all_wave_peaks(stores, folder, ONE_PROCESS) if settings.peaks else {}
        runner = StageRunner(stores, folder, settings.seed, TimeBudget(settings.hours), ONE_PROCESS)
        trained = train_system(settings, runner, peaks, folder)
    rule = trained.results.rule(n_leads)
    return Bundle(LEAD_SETS[n_leads], trained.ensemble(settings.leads_of(n_leads)), rule, settings.system)
