"""Predict all recordings of a folder by several processes, resumably."""

import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ecg.commands.output_files import (
    ModelFunctions,
    RecordResult,
    call_safely,
    describe_outcome,
    find_recordings,
    make_output_folder,
    predict_to_file,
    report_failure,
)
from ecg.commands.prediction_journal import (
    FOLDER,
    Entry,
    Journal,
    find_configs,
    fingerprint_model,
    hash_output,
    record_state,
)
from ecg.data.headers import RecordError, read_header
from ecg.data.leads import find_lead_sets
from ecg.runtime.executors import ALL_CORES, Executor
from ecg.runtime.locks import lock_folder
from ecg.runtime.processes import allow_large_worker

if TYPE_CHECKING:
    import numpy as np

    from ecg.models.bundle import Bundle
    from ecg.models.bundle_cache import BundleCache

LOGGER = logging.getLogger("ecg")
PREDICTING = threading.Lock()  # a worker of a cluster can have several threads, and they share the models


class PredictionError(Exception):
    """No recording can be predicted. The message says why."""


class RecordingCheck(NamedTuple):
    """What is known of a recording before it is predicted.

    Attributes:
        state: State of its files; see `record_state`. Empty if its header cannot be read.
        lead_sets: The lead sets that its leads fill; see `find_lead_sets`.
        leads: Names of its leads; empty if they fill no lead set.
        output: Hash of its output file; empty if there is none.
    """

    state: str
    lead_sets: tuple[int, ...]
    leads: tuple[str, ...]
    output: str


class PredictionJob(NamedTuple):
    """What all recordings of a run have in common.

    Attributes:
        model: Folder of the model.
        model_key: Fingerprint of the model.
        data: Folder of the recordings.
        outputs: Folder of the output files.
        lead_names: The names of the leads of a recording for each combination of lead sets that occurs.
    """

    model: Path
    model_key: str
    data: Path
    outputs: Path
    lead_names: tuple[tuple[str, ...], ...]


class FileResult(NamedTuple):
    """The result of a recording, from the process that has predicted it.

    Attributes:
        record: What became of the recording.
        output: Hash of its output file.
        messages: What was logged meanwhile.
    """

    record: RecordResult
    output: str
    messages: tuple[str, ...]


def predict_folder(model: Path, data: Path, outputs: Path, executor: Executor = ALL_CORES) -> bool:
    """Predict the recordings in a folder and below it, as `test_model.py` does.

    `outputs` gets the file NAME.csv for the header NAME.hea. A recording that fails gets an empty file, and the reason
    is printed on standard error. Files that an earlier run has written are kept if they are unchanged and of the same
    model, program and recording. The files do not depend on the number of processes.

    Args:
        model: Folder of the model.
        data: Folder of the recordings.
        outputs: Folder of the output files.
        executor: Predicts the recordings.

    Returns:
        Whether at least one recording has a prediction.

    Raises:
        PredictionError: There is no model for any recording.
        BlockingIOError: Another process predicts into this folder.
        ChildProcessError: A recording has ended its process again and again.
        ClusterError: The cluster is lost.
        OSError: `data` has no recordings, `outputs` cannot be written, or the disk is full.
    """
    headers, excluded = find_recordings(data)
    names = [path.relative_to(data).as_posix() for path in headers]
    del headers  # paths need more memory than names
    model_key = fingerprint_model(model)
    make_output_folder(outputs)
    with lock_folder(outputs / FOLDER), Journal(outputs, model_key) as journal:
        executor.check_shared(outputs / FOLDER, [data / names[0], *find_configs(model)])
        for name, reason in excluded:
            report_failure(name, reason)
        return _predict_recordings(PredictionJob(model, model_key, data, outputs, ()), names, journal, executor)


def _predict_recordings(job: PredictionJob, names: list[str], journal: Journal, executor: Executor) -> bool:
    """Predict the recordings that have no valid output yet; see `predict_folder`."""
    waiting: list[str] = []
    states: list[str] = []
    repairs, lead_names = Counter[str](), dict[tuple[int, ...], tuple[str, ...]]()
    check = partial(check_recording, job.data, job.outputs if journal.entries else None)
    with closing(executor.map(check, names, "headers")) as checks:
        for name, facts in zip(names, checks, strict=True):
            if facts.lead_sets:
                lead_names.setdefault(facts.lead_sets, facts.leads)
            if journal.is_valid(name, facts.state, facts.output):
                repairs.update(journal.entries[name].repairs)
            else:
                waiting.append(name)
                states.append(facts.state)
    if len(waiting) < len(names):
        LOGGER.info(f"{len(names) - len(waiting):,} of {len(names):,} outputs of an earlier run are kept")
    failed, messages = 0, set[str]()
    predict = partial(predict_recording_to_file, job._replace(lead_names=tuple(lead_names.values())))
    with closing(executor.map(predict, waiting, "predictions")) as results:
        for name, state, result in zip(waiting, states, results, strict=True):
            for message in result.messages:
                if message not in messages:
                    LOGGER.warning(message)
            messages.update(result.messages)
            repairs.update(result.record.repairs)
            if result.record.reason:
                failed += 1
                report_failure(name, result.record.reason)
            else:
                journal.add(name, Entry(state, result.output, result.record.repairs))
    for line in describe_outcome(len(names), failed, repairs):
        LOGGER.info(line)
    return failed < len(names)


def output_path(outputs: Path, name: str) -> Path:
    """Return the path of the output file of a recording.

    Args:
        outputs: Folder of the output files.
        name: Path of the recording's header below the data folder.
    """
    return outputs.joinpath(name).with_suffix(".csv")


def check_recording(data: Path, outputs: Path | None, name: str) -> RecordingCheck:
    """Read the header of a recording, and look at its other files.

    Args:
        data: Folder of the recordings.
        outputs: Folder of the output files; None if they are not looked at.
        name: Path of its header below the data folder.
    """
    path = data / name
    output = "" if outputs is None else hash_output(output_path(outputs, name))
    try:
        header = read_header(path)
    except (RecordError, OSError):
        return RecordingCheck("", (), (), output)  # its reason is reported when it is predicted
    lead_sets = find_lead_sets(header.lead_names)
    return RecordingCheck(record_state(path, header), lead_sets, header.lead_names if lead_sets else (), output)


def predict_recording_to_file(job: PredictionJob, name: str) -> FileResult:
    """Predict a recording in a process that keeps the models for the next one.

    Args:
        job: What all recordings have in common.
        name: Path of its header below the data folder.

    Raises:
        PredictionError: There is no model for any recording.
        OSError: The disk is full or read-only.
    """
    repairs: list[str] = []

    def run_model(
        bundle: "Bundle", header: str, recording: "np.ndarray"
    ) -> tuple[list[str], "np.ndarray", "np.ndarray"]:
        bundle.repaired.clear()
        outputs = bundle.predict(header, recording)
        repairs.extend(bundle.repaired)
        return outputs

    output_file = output_path(job.outputs, name)
    with PREDICTING, _collected_messages() as messages:
        functions = ModelFunctions(_load_models(job).load, run_model)
        result = predict_to_file(job.data / name, output_file, functions)
    record = result._replace(repairs=(*result.repairs, *repairs))
    return FileResult(record, "" if result.reason else hash_output(output_file), tuple(messages))


@lru_cache(maxsize=1)
def _load_models(job: PredictionJob) -> "BundleCache":
    """Return the models, which are loaded when a recording needs them.

    Raises:
        PredictionError: There is no model for any recording.
    """
    allow_large_worker()
    from ecg.models.bundle_cache import BundleCache
    from ecg.models.numpy_network import use_one_thread_per_network

    use_one_thread_per_network()

    models, reasons = BundleCache(job.model), []
    for leads in job.lead_names:
        _, reason = call_safely(models.load, leads)
        if reason is None:
            return models
        reasons.append(reason)
    if reasons:
        folder = os.fspath(job.model)
        raise PredictionError(reasons[0] if folder in reasons[0] else f"{folder}: {reasons[0]}")
    return models


class _MessageList(logging.Handler):
    """Collects log messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _collected_messages() -> Iterator[list[str]]:
    """Collect what this package logs in the block, in place of other handlers."""
    handler, handlers = _MessageList(), LOGGER.handlers
    LOGGER.handlers = [handler]
    try:
        yield handler.messages
    finally:
        LOGGER.handlers = handlers
