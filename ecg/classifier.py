"""A classifier for scikit-learn that trains the published systems."""

import os
from collections.abc import Collection, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ecg.api import predict
from ecg.data.class_tables import ClassTable
from ecg.data.inputs import AnyRecording, Recording, check_labels, encode_label_sets, has_label_sets, resolve_leads
from ecg.data.leads import LEAD_SETS, describe_missing_leads, find_lead_set
from ecg.data.memory_stores import LabelledRecording, build_labelled_stores
from ecg.data.patients import number_groups
from ecg.data.store import check_trainable
from ecg.data.wave_peaks import load_all_wave_peaks, neurokit_version
from ecg.evaluation.metrics import challenge_score
from ecg.runtime.cache import fingerprint, manifest_differences, write_manifest
from ecg.runtime.executors import ONE_PROCESS
from ecg.runtime.keras_startup import start_keras
from ecg.runtime.limits import TimeBudget
from ecg.runtime.locks import lock_folder

if TYPE_CHECKING:  # imports Keras
    from ecg.models.bundle import Bundle, Prediction
    from ecg.systems.own_classes import LabelledSystem
    from ecg.systems.recipes import Settings
    from ecg.systems.stage_runner import Stores

Labels = ArrayLike | Sequence[Collection[str]]  # a matrix, or a set of names for each recording


class ECGClassifier(ClassifierMixin, BaseEstimator):
    """A system that is trained on recordings and labels in memory.

    `fit` trains the networks of a system by its stages, as `ecg train` does, for one lead set. It relabels and masks
    labels as the system does: by the sources that the names of records tell, and by the network of round 1. If `y`
    lacks a class of the system, the system is trained for the others, and labels are used as they are.

    X is a list of recordings: arrays (n_samples, n_leads) in millivolts, paths of records, or `ecg.Recording` with age
    and sex. An array (n_recordings, n_samples, n_leads) is as good. The labels are those of y, never of a header. y is
    a 0/1 matrix, (n_recordings, n_classes), or a set of class names for each recording. A recording that cannot be used
    is an error.

    Example:
        >>> from ecg import ECGClassifier
        >>> classifier = ECGClassifier("cai2021", classes=["AF", "NSR"], leads=2, frequency=500, epochs=10)
        >>> classifier
        ECGClassifier(classes=['AF', 'NSR'], epochs=10, frequency=500, leads=2)
        >>> ECGClassifier(classes=["normal", "infarct"], checkpoint_folder="fit")
        ECGClassifier(checkpoint_folder='fit', classes=['normal', 'infarct'])

    Args:
        system: Name of a system, or its settings (`ecg.systems.recipes.Settings`) with other sizes or decisions.
        classes: Names of the columns of y. If all are abbreviations of the Challenge's 26 classes, these are meant.
            Otherwise all are your own: up to 12 letters, digits, '_', '+' and '-'. Or a table of your own classes
            (`ecg.data.class_tables.ClassTable`), or the path of its CSV file. None: the 26 classes in their order, or
            those of the settings.
        leads: Leads of arrays, column by column: names, or the number of leads of a lead set in its standard order.
            The networks are those of the richest lead set that these fill.
        frequency: Sampling frequency of arrays in Hz.
        epochs: Epochs of each training, at most; None: those of the system.
        batch: Recordings in a step; None: that of the system.
        random_state: Seed of the training; None: that of the system. The same seed gives the same networks.
        weights: Credit of each prediction in the metric: (n_classes, n_classes), a row for each labelled class, or the
            path of a CSV file. None: the Challenge's weights, or for your own classes 1 for a hit.
        checkpoint_folder: Folder of one fit. A fit that was interrupted goes on there, to the same result. None: it
            begins anew.

    Attributes:
        classes_: Names of the columns of y, (n_classes,).
        bundle_: The trained model (`ecg.models.bundle.Bundle`), as for `ecg.predict`.
    """

    classes_: np.ndarray
    bundle_: "Bundle"

    def __init__(
        self,
        system: "str | Settings" = "cai2021",
        classes: ClassTable | str | os.PathLike | Sequence[str] | None = None,
        leads: int | Sequence[str] = 12,
        frequency: float | None = None,
        epochs: int | None = None,
        batch: int | None = None,
        random_state: int | None = None,
        weights: str | os.PathLike | ArrayLike | None = None,
        checkpoint_folder: str | os.PathLike | None = None,
    ) -> None:
        self.system = system
        self.classes = classes
        self.leads = leads
        self.frequency = frequency
        self.epochs = epochs
        self.batch = batch
        self.random_state = random_state
        self.weights = weights
        self.checkpoint_folder = checkpoint_folder

    def fit(
        self, X: Sequence[AnyRecording] | np.ndarray, y: Labels, groups: Sequence[Hashable] | np.ndarray | None = None
    ) -> "ECGClassifier":
        """Train the system.

        Args:
            X: The recordings, two or more.
            y: Whether each recording has each class, (n_recordings, n_classes), or a set of names for each recording.
            groups: The patient of each recording, as a number or a name, (n_recordings,). The recordings of a patient
                stay in one fold, or in one part of the split. None: each recording counts as a patient, and so does a
                recording whose group is None or NaN.

        Raises:
            RecordError: A recording cannot be used, or too few can be trained on. The message says which and why.
            ValueError: A parameter, X, y or groups is invalid.
            TrainingError: The loss is not finite, the memory is too small, or the checkpoint folder holds another fit.
            BlockingIOError: Another fit is at work in the checkpoint folder.
            NeuroKitMissing: The system needs wave peaks, and NeuroKit2 is missing.
        """
        if y is None:
            raise ValueError("ECGClassifier requires y to be passed, but the target y is None")
        if not has_label_sets(y):
            check_classification_targets(y)
        recordings = self._list_recordings(X)
        n_leads = find_lead_set(leads := resolve_leads(self.leads))
        if not n_leads:
            raise ValueError(describe_missing_leads(leads))
        start_keras()
        settings, classes = self._choose_system(n_leads)
        labels, table = make_label_matrix(y, classes), settings.class_table
        check_consistent_length(recordings, labels, groups)
        labelled = [
            LabelledRecording(number, recording, table.expand(row, table.indices(classes)))
            for number, (recording, row) in enumerate(zip(recordings, labels, strict=True))
        ]
        patients = None if groups is None else number_groups(groups)
        self.bundle_ = train_bundle(FitInputs(settings, n_leads, labelled, patients), self.checkpoint_folder)
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

    def score(self, X: Sequence[AnyRecording] | np.ndarray, y: Labels) -> float:
        """Return the Challenge metric of the predicted classes, or that of your own.

        Args:
            X: The recordings.
            y: Whether each recording has each class, (n_recordings, n_classes), or a set of names for each recording.

        Returns:
            1 for the labels themselves; 0 for sinus rhythm in each recording, or for no class if your own classes have
            no sinus rhythm.

        Raises:
            RecordError: A recording cannot be used.
            ValueError: X or y is invalid.
        """
        check_is_fitted(self)
        labels, outputs = make_label_matrix(y, self.classes_.tolist()), self.predict(X) > 0
        check_consistent_length(labels, outputs)
        table = self.bundle_.classes
        labels, outputs = (table.expand(values, self._columns) for values in (labels, outputs))
        return challenge_score(labels, outputs, self.bundle_.rule.weight_array, table.sinus)

    @property
    def _columns(self) -> np.ndarray:
        """Indices of the classes among the scored ones, (n_classes,)."""
        return self.bundle_.classes.indices(self.classes_.tolist())

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

    def _choose_system(self, n_leads: int) -> "LabelledSystem":
        """Return the settings of the training, and the names of the columns of y.

        Args:
            n_leads: Number of leads of the lead set.

        Raises:
            ValueError: A parameter is invalid.
        """
        from ecg.commands.settings import change_training, find_system, without_none
        from ecg.systems.own_classes import adapt_to_labels, select_weights

        settings = find_system(self.system) if isinstance(self.system, str) else self.system
        settings = change_training(settings, without_none(epochs=self.epochs, batch=self.batch))
        if self.random_state is not None:
            settings = replace(settings, seed=self.random_state)
        used = settings.leads_of(n_leads)  # relabelling networks, which usually see 12 leads, have no others
        settings = replace(settings, lead_sets=(n_leads,), leads_used=((12, used), (n_leads, used)))
        system = adapt_to_labels(settings, self.classes)
        return system if self.weights is None else system._replace(settings=select_weights(system, self.weights))

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


@dataclass(frozen=True)
class FitInputs:
    """What a system is trained on, for one lead set.

    Attributes:
        settings: Settings of the system, with this lead set alone.
        n_leads: Number of leads of the lead set.
        labelled: The recordings.
        patients: Number of each recording's patient, (n_recordings,); None: each recording counts as a patient.
    """

    settings: "Settings"
    n_leads: int
    labelled: Sequence[LabelledRecording]
    patients: np.ndarray | None = None


def make_label_matrix(y: Labels, classes: Sequence[str]) -> np.ndarray:
    """Return labels, a matrix or sets of names, as an array.

    Args:
        y: The labels.
        classes: Names of the classes.

    Returns:
        (n_recordings, n_classes) bool.

    Raises:
        ValueError: A name is unknown, or the matrix has another shape, or a value that is neither 0 nor 1.
    """
    return encode_label_sets(y, classes) if has_label_sets(y) else check_labels(y, classes)  # type: ignore[arg-type]


def train_bundle(inputs: FitInputs, checkpoint_folder: str | os.PathLike | None = None) -> "Bundle":
    """Train a system on recordings with labels, or resume an interrupted training.

    Args:
        inputs: What it is trained on.
        checkpoint_folder: Folder that keeps recordings and networks; None: a temporary one.

    Raises:
        RecordError: A recording cannot be used, or too few can be trained on.
        TrainingError: The loss is not finite, the memory is too small, or the folder holds another training.
        BlockingIOError: Another process trains in the folder.
        NeuroKitMissing: The system needs wave peaks, and NeuroKit2 is missing.
    """
    from ecg.models.bundle import Bundle
    from ecg.systems.method import train_system
    from ecg.systems.stage_runner import StageRunner
    from ecg.systems.training_manifest import check_checkpoint_folder

    settings, leads = inputs.settings, LEAD_SETS[inputs.n_leads]
    if settings.peaks:
        neurokit_version()  # raises now instead of after the preprocessing
    with ExitStack() as stack:
        if checkpoint_folder is None:
            folder = Path(stack.enter_context(TemporaryDirectory()))
        else:
            check_checkpoint_folder(folder := Path(checkpoint_folder))
            stack.enter_context(lock_folder(folder))
        stores = prepare_labelled_stores(inputs, folder)
        peaks = load_all_wave_peaks(stores, folder, ONE_PROCESS) if settings.peaks else {}
        runner = StageRunner(stores, folder, settings.seed, TimeBudget(settings.hours), ONE_PROCESS)
        trained = train_system(settings, runner, peaks, folder)
    return Bundle(leads, trained.ensemble(settings.leads_of(inputs.n_leads)), trained.results.rule(inputs.n_leads),
                  settings.system)  # fmt: skip


def prepare_labelled_stores(inputs: FitInputs, folder: Path) -> "Stores":
    """Preprocess the recordings of a fit into its folder, and write the manifest.

    What the folder holds of the same fit is not read again.

    Raises:
        RecordError: A recording cannot be used, or too few can be trained on.
        TrainingError: The folder holds another fit.
    """
    from ecg.systems.training_manifest import FIT_MANIFEST, describe_training, raise_if_different

    settings, labelled = inputs.settings, inputs.labelled
    manifest = describe_training(settings) | {
        "records": fingerprint([recording.identity for recording in labelled]),
        "labels": fingerprint(np.array([recording.labels for recording in labelled])),
        "patients": None if inputs.patients is None else fingerprint(inputs.patients),
    }
    raise_if_different(manifest_differences(folder / FIT_MANIFEST, manifest), folder)
    stores = build_labelled_stores(folder, labelled, LEAD_SETS[inputs.n_leads], settings.preparations,
                                   settings.class_table, settings.sources)  # fmt: skip
    check_trainable("X", next(iter(stores.values())), settings.classes)
    manifest["recordings"] = [store.digest for store in stores.values()]
    raise_if_different(manifest_differences(folder / FIT_MANIFEST, manifest), folder)
    write_manifest(folder / FIT_MANIFEST, manifest)
    return {preparation: replace(store, patients=inputs.patients) for preparation, store in stores.items()}
