"""Predict and explain in a subprocess that holds the networks."""

import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ecg.data.class_tables import ClassTable
from ecg.data.headers import Header, RecordError, parse_header, read_header
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.leads import LEAD_SETS
from ecg.data.preprocessing import leads_first
from ecg.data.records import decode_mat, read_raw_signal
from ecg.models.decision import Rule
from ecg.models.saved_classes import find_model_classes
from ecg.runtime import console
from ecg.runtime.cache import fingerprint, source_hash
from ecg.runtime.keras_startup import start_keras
from ecg.web.predictions import RecordPrediction, failed_prediction

if TYPE_CHECKING:
    from ecg.models.bundle_cache import BundleCache

LOGGER = logging.getLogger("ecg")

BIN_SECONDS = 0.02
TASK_SECONDS = 40.0  # of an urgent task
EXPLAINED_SECONDS = 6.0  # of a recording in a second, by the default's networks on two cores
START_SECONDS = 10.0  # of an urgent task, for Keras to start
LONGEST_EXPLAINED = (TASK_SECONDS - START_SECONDS) * EXPLAINED_SECONDS
LONGEST_UPLOAD = 3600.0  # seconds of a recording that a program sends
NICENESS = 5  # so that the server answers while all cores predict


class LeadSetModel(NamedTuple):
    """The model for one lead set.

    Attributes:
        classes: Abbreviations of the classes that it predicts.
        rule: How probabilities become predicted classes.
        exclusive: Whether its classes exclude each other.
        early_gains: Whether it corrects the gains of headers of early 2020.
    """

    classes: tuple[str, ...]
    rule: Rule
    exclusive: bool
    early_gains: bool


class ModelFacts(NamedTuple):
    """What a model folder holds.

    Attributes:
        system: Name of the system.
        lead_sets: The models by their numbers of leads.
        key: Fingerprint of the model and of the code that predicts.
        methods: Names of the methods that explain each class.
        classes: All C classes that are scored.
        untested: Abbreviations of the classes whose explanations have no tests.
    """

    system: str
    lead_sets: dict[int, LeadSetModel]
    key: str
    methods: dict[str, tuple[str, ...]]
    classes: ClassTable = CHALLENGE_CLASSES
    untested: tuple[str, ...] = ()


class PackedEvidence(NamedTuple):
    """Where the evidence for a class lies in a recording.

    Attributes:
        leads: Names of the leads.
        strengths: From 0 to 255, (n_leads, n_bins) uint8.
        bin_seconds: Length of a bin.
        by_lead: What each lead adds to the logit, (n_leads,).
    """

    leads: tuple[str, ...]
    strengths: np.ndarray
    bin_seconds: float
    by_lead: np.ndarray


class TaskError(Exception):
    """A task failed for a reason that its caller can be told."""


class RecordingTooLong(TaskError):
    """A recording that a program sends is too long."""


@dataclass
class WorkerState:
    """What the subprocess holds.

    Attributes:
        model: Folder of the model.
        bundles: Its models that have been loaded.
    """

    model: Path
    bundles: "BundleCache"

    def describe_model(self) -> ModelFacts:
        """Describe the model folder.

        Raises:
            TaskError: It has no model, or a damaged one.
        """
        from ecg.models.config import ModelError, model_files, read_config
        from ecg.systems.explanation_methods import find_tested_class, offered_methods

        lead_sets, texts, system = {}, [], ""
        for n_leads in LEAD_SETS:
            path = model_files(self.model, n_leads)[1]
            if path.exists():
                try:
                    spec = read_config(path, n_leads)
                except ModelError as error:
                    raise TaskError(str(error)) from error
                names, networks = spec.groups["general"]
                view, activation = networks[0].view, networks[0].output_activation
                lead_sets[n_leads] = LeadSetModel(
                    names, spec.rule, activation == "softmax", view.preparation.early_gains
                )
                texts.append(path.read_text())
                system = spec.system
        if not lead_sets:
            raise TaskError(f"{self.model}: no model in this folder")
        classes = next(iter(lead_sets.values())).rule.classes
        if any(model.rule.classes != classes for model in lead_sets.values()):
            raise TaskError(f"{self.model}: its models have different classes")
        predicted = dict.fromkeys(name for model in lead_sets.values() for name in model.classes)
        methods = {name: offered_methods(name, classes) for name in predicted}
        untested = tuple(name for name in predicted if find_tested_class(name, classes) is None)
        key = fingerprint(*texts, source_hash("data", "models"))
        return ModelFacts(system, lead_sets, key, methods, classes, untested)

    def predict_record(self, path: Path) -> RecordPrediction:
        """Predict a recording by the path of its header.

        If the recording itself cannot be used, the prediction says why.

        Raises:
            TaskError: It cannot be predicted now, such as if a file could not be read.
        """
        from ecg.models.config import ModelError

        try:
            header = read_header(path)
            recording = read_raw_signal(path, header).samples
            return self._predict(header, recording)
        except (RecordError, ModelError, OSError) as error:
            reason = console.remove_record_name(console.describe_error(error), path)
            if isinstance(error, RecordError) and not isinstance(error.__cause__, OSError):
                return failed_prediction(reason, len(find_model_classes(self.model)))
            raise TaskError(reason) from error

    def predict_upload(self, header_text: str, content: bytes) -> RecordPrediction:
        """Predict a recording from the text of a header and the bytes of its MATLAB file.

        Raises:
            RecordingTooLong: It is too long.
            TaskError: It cannot be predicted.
        """
        from ecg.models.config import ModelError

        try:
            header = parse_header(header_text)
            recording = decode_mat(content, header, "signal").samples
            check_upload_length(header, recording.shape[1])
            return self._predict(header, recording)
        except (RecordError, ModelError) as error:
            raise TaskError(console.describe_error(error)) from error

    def explain_record(self, path: Path, abbreviation: str, method: str) -> PackedEvidence:
        """Explain the prediction of a class for a recording.

        Args:
            path: The header's path.
            abbreviation: Abbreviation of the class.
            method: Name of the method.

        Raises:
            TaskError: It cannot be explained.
        """
        from ecg.models.config import ModelError
        from ecg.systems.explanation_methods import ExplanationError, choose_method

        try:
            header = read_header(path)
            check_explained_length(header, header.samples or 0)
            recording = leads_first(header, read_raw_signal(path, header).samples)
            check_explained_length(header, recording.shape[1])
            bundle = self.bundles.load(header.lead_names)
            chosen = choose_method(abbreviation, method, bundle.classes)
            start_keras()
            from ecg.systems.explanations import compute_shading, explain

            explanation = explain(bundle, header, recording, abbreviation, chosen)
            shades = compute_shading(explanation)
        except (RecordError, ModelError, ExplanationError, OSError) as error:
            raise TaskError(console.remove_record_name(console.describe_error(error), path)) from error
        step = max(round(BIN_SECONDS * explanation.rate), 1)
        bins = np.maximum.reduceat(shades, np.arange(0, len(shades), step), axis=0)
        pixels = np.ascontiguousarray(np.rint(255 * bins).T.astype(np.uint8))
        return PackedEvidence(explanation.leads, pixels, step / explanation.rate, explanation.by_lead)

    def _predict(self, header: Header, recording: np.ndarray) -> RecordPrediction:
        bundle = self.bundles.load(header.lead_names)
        bundle.repaired.clear()
        prediction = bundle.predict_recording(header, recording)
        values = prediction.probabilities, prediction.outputs, prediction.covered
        return RecordPrediction(*values, len(bundle.leads), tuple(bundle.repaired))


def check_explained_length(header: Header, samples: int) -> None:
    """Check that a recording is not too long to be explained in time.

    Raises:
        TaskError: It is.
    """
    if samples > LONGEST_EXPLAINED * header.sampling_frequency:
        raise TaskError(f"recordings of more than {LONGEST_EXPLAINED:g} s are not explained")


def check_upload_length(header: Header, samples: int) -> None:
    """Check that a recording that a program sends is not too long.

    Raises:
        RecordingTooLong: It is.
    """
    if samples > LONGEST_UPLOAD * header.sampling_frequency:
        raise RecordingTooLong(f"The recording lasts more than {LONGEST_UPLOAD / 3600:g} h.")


def run_worker(connection: Connection, model: Path) -> None:
    """Do tasks until the server ends.

    The first message says that the process is ready. Each task is the name of a method of WorkerState and its
    arguments. The answer is a pair: True and the result, or False and a TaskError.

    Args:
        connection: To the server.
        model: Folder of the model.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    console.start_logging()
    from ecg.models.bundle_cache import BundleCache
    from ecg.models.numpy_network import use_one_thread_per_network

    use_one_thread_per_network()
    state = WorkerState(model, BundleCache(model))
    connection.send(True)
    while True:
        try:
            task, arguments = connection.recv()
        except EOFError:  # the server ended
            return
        connection.send(_do_task(getattr(state, task), arguments))


def _do_task(task: Callable[..., Any], arguments: tuple) -> tuple[bool, Any]:
    """Call a method, and return whether it succeeded, and its result or the error."""
    try:
        return True, task(*arguments)
    except TaskError as error:
        return False, error.with_traceback(None)
    except MemoryError as error:
        return False, TaskError(console.describe_error(error))
