"""Stores of synthetic recordings, and of recordings that programs pass."""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.class_tables import ClassTable
from ecg.data.headers import RecordError, parse_header
from ecg.data.inputs import AnyRecording, open_recording
from ecg.data.labels import CHALLENGE_CLASSES, CHALLENGE_SOURCES
from ecg.data.loading import LoadedRecording, prepare_recording
from ecg.data.preprocessing import Repair
from ecg.data.records import find_header
from ecg.data.resampling import Preprocessing
from ecg.data.shards import HASH, short_hash
from ecg.data.source_tables import SourceTable
from ecg.data.store import Store, store_folder, write_store
from ecg.data.store_content import StoreContent, hash_recordings
from ecg.data.synthetic import SyntheticSettings, make_recording, plan_recordings
from ecg.runtime.console import describe_error
from ecg.runtime.executors import ALL_CORES, ONE_PROCESS, Executor
from ecg.runtime.files import to_json

IN_MEMORY = "recording"  # name of each recording in memory; that of a record tells its source


def build_synthetic_store(
    folder: Path,
    records: int,
    seed: int,
    settings: SyntheticSettings,
    preparation: Preprocessing,
    executor: Executor = ALL_CORES,
) -> Store:
    """Make recordings and store them preprocessed, or open the store of the same ones.

    The signals and labels are those that `ecg.data.synthetic.synthesize` writes to files.

    Args:
        folder: Folder for the store.
        records: Number of recordings.
        seed: Seed of all random draws.
        settings: What the recordings are like.
        preparation: How the signals are preprocessed.
        executor: Makes the recordings.

    Raises:
        RecordError: No recording can be used.
    """
    plan = list(enumerate(plan_recordings(records, seed, settings)))
    basis = to_json([seed, settings])
    hashes = np.array([short_hash(basis, to_json(item)) for item in plan], HASH)
    load = partial(_make_training_recording, seed, settings, preparation)
    content = StoreContent(load, plan, np.stack([hashes, hashes], axis=1), preparation)
    return write_store(content, folder, executor, "synthesized")


def _make_training_recording(
    seed: int, settings: SyntheticSettings, preparation: Preprocessing, item: tuple[int, tuple[str, str]]
) -> LoadedRecording:
    """Make and preprocess a recording of a plan; faults raise no error."""
    text, integers, facts = make_recording(seed, settings, item)
    path = Path(f"{facts.name}.hea")
    try:
        header = parse_header(text, path.name)
    except RecordError as error:
        return LoadedRecording(path, reason=describe_error(error))
    return prepare_recording(path, header, integers.T, preparation)._replace(header=None, integers=None)


class LabelledRecording(NamedTuple):
    """A recording and its labels.

    Attributes:
        number: Its position among the recordings of the store.
        recording: Path of a record, or a recording in memory.
        labels: Scored classes, (C,) bool.
    """

    number: int
    recording: AnyRecording
    labels: np.ndarray

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"recordings[{self.number}]"

    @property
    def identity(self) -> str:
        """The name of a record, or a hash of a recording in memory."""
        if isinstance(self.recording, str | os.PathLike):
            return Path(self.recording).stem
        try:
            header, samples, _ = open_recording(self.recording, self.title)
        except RecordError as error:  # is raised again when the recording is read
            return describe_error(error)
        facts = header.lead_names, header.sampling_frequency, header.age, header.sex, samples.dtype, samples.shape
        return short_hash(str(facts), samples.T.tobytes()).hex()


def build_labelled_stores(
    folder: Path,
    recordings: Sequence[LabelledRecording],
    leads: Sequence[str],
    preparations: Sequence[Preprocessing],
    classes: ClassTable = CHALLENGE_CLASSES,
    sources: SourceTable = CHALLENGE_SOURCES,
) -> dict[Preprocessing, Store]:
    """Preprocess recordings and store them with the given labels, not their own.

    What the folder holds of the same recordings, leads and labels is not read again. It holds those of an interrupted
    training.

    Args:
        folder: Folder that gets a folder for each store.
        recordings: The recordings.
        leads: Names of the leads that are needed, in the standard order. The others are 0.
        preparations: Ways of preprocessing.
        classes: The classes of the labels.
        sources: The sources of records.

    Returns:
        The stores by their preprocessing.

    Raises:
        RecordError: A recording cannot be used; the message names the first one.
    """
    keys, stores = hash_labelled_recordings(recordings, leads), {}
    for preparation in preparations:
        load = partial(load_labelled_recording, tuple(leads), preparation, classes, sources)
        content = StoreContent(load, recordings, keys, preparation, classes=classes, sources=sources)
        store = write_store(content, store_folder(folder, preparation), ONE_PROCESS, "reading")
        if store.excluded:
            count = f"{len(store.excluded):,} of {len(recordings):,} recordings cannot be used, such as "
            raise RecordError(f"{count if len(store.excluded) > 1 else ''}{store.excluded[0][1]}")
        stores[preparation] = store
    return stores


def hash_labelled_recordings(recordings: Sequence[LabelledRecording], leads: Sequence[str]) -> np.ndarray:
    """Return hashes of what the rows of a store are made of.

    Args:
        recordings: The recordings. The hash of a record covers the sizes and times of its files.
        leads: Names of the leads that are needed.

    Returns:
        Two hashes of each recording, as `ecg.data.store_content.hash_recordings` returns them, (N, 2) S16.
    """
    paths: dict[int, Path] = {}
    for index, labelled in enumerate(recordings):
        if isinstance(labelled.recording, str | os.PathLike):
            with suppress(RecordError, OSError):  # is raised again when the recording is read
                path = find_header(labelled.recording).absolute()
                if path.exists():
                    paths[index] = path
    of_files = dict(zip(paths, hash_recordings(Path("/"), list(paths.values())), strict=True))
    keys = np.zeros((len(recordings), 2), HASH)
    for index, labelled in enumerate(recordings):
        row = short_hash(f"{labelled.number} {tuple(leads)} {labelled.identity}", labelled.labels.tobytes())
        keys[index] = [short_hash(row, key) for key in of_files.get(index, (b"", b""))]
    return keys


def load_labelled_recording(
    leads: Sequence[str],
    preparation: Preprocessing,
    classes: ClassTable,
    sources: SourceTable,
    labelled: LabelledRecording,
) -> LoadedRecording:
    """Read and preprocess a recording; faults raise no error.

    Args:
        leads: Names of the leads that are needed, in the standard order.
        preparation: How the signal is preprocessed.
        classes: The classes of its labels.
        sources: The sources of records.
        labelled: The recording and its labels.
    """
    stem = Path(labelled.recording).stem if isinstance(labelled.recording, str | os.PathLike) else IN_MEMORY
    path = Path(f"{labelled.number:09}", f"{stem}.hea")  # the folder makes the name unique
    try:
        header, samples, warnings = open_recording(labelled.recording, labelled.title)
    except (RecordError, OSError) as error:
        return LoadedRecording(path, reason=describe_error(error))
    loaded = prepare_recording(path, header, samples, preparation, leads, classes, sources)
    if loaded.row is None:
        return LoadedRecording(path, reason=loaded.reason)
    row = loaded.row._replace(
        labels=labelled.labels,
        as_scored=labelled.labels,
        additional=np.zeros(len(classes.additional), bool),
        undiagnosed=not labelled.labels.any(),
    )
    repairs = (*(Repair(warning, (), 1) for warning in warnings), *loaded.repairs)
    return LoadedRecording(path, header, microvolts=loaded.microvolts, repairs=repairs, row=row)
