"""Stores of synthetic recordings, and of recordings that programs pass."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.headers import RecordError, parse_header
from ecg.data.inputs import AnyRecording, open_recording
from ecg.data.labels import ADDITIONAL_CLASSES
from ecg.data.loading import LoadedRecording, prepare_recording
from ecg.data.preprocessing import Repair
from ecg.data.resampling import Preprocessing
from ecg.data.shards import HASH, short_hash
from ecg.data.store import Store, store_folder, write_store
from ecg.data.store_content import StoreContent
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
        labels: Scored classes, (26,) bool.
    """

    number: int
    recording: AnyRecording
    labels: np.ndarray

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"recordings[{self.number}]"


def build_labelled_stores(
    folder: Path,
    recordings: Sequence[LabelledRecording],
    leads: Sequence[str],
    preparations: Sequence[Preprocessing],
) -> dict[Preprocessing, Store]:
    """Preprocess recordings and store them with the given labels, not their own.

    Args:
        folder: Folder that gets a folder for each store. It must be empty.
        recordings: The recordings.
        leads: Names of the leads that are needed, in the standard order. The others are 0.
        preparations: Ways of preprocessing.

    Returns:
        The stores by their preprocessing.

    Raises:
        RecordError: A recording cannot be used; the message names the first one.
    """
    hashes = np.array([short_hash(str(labelled.number)) for labelled in recordings], HASH)
    keys, stores = np.stack([hashes, hashes], axis=1), {}
    for preparation in preparations:
        load = partial(load_labelled_recording, tuple(leads), preparation)
        content = StoreContent(load, recordings, keys, preparation)
        store = write_store(content, store_folder(folder, preparation), ONE_PROCESS, "reading")
        if store.excluded:
            count = f"{len(store.excluded):,} of {len(recordings):,} recordings cannot be used, such as "
            raise RecordError(f"{count if len(store.excluded) > 1 else ''}{store.excluded[0][1]}")
        stores[preparation] = store
    return stores


def load_labelled_recording(
    leads: Sequence[str], preparation: Preprocessing, labelled: LabelledRecording
) -> LoadedRecording:
    """Read and preprocess a recording; faults raise no error.

    Args:
        leads: Names of the leads that are needed, in the standard order.
        preparation: How the signal is preprocessed.
        labelled: The recording and its labels.
    """
    stem = Path(labelled.recording).stem if isinstance(labelled.recording, str | Path) else IN_MEMORY
    path = Path(f"{labelled.number:09}", f"{stem}.hea")  # the folder makes the name unique
    try:
        header, samples, warnings = open_recording(labelled.recording, labelled.title)
    except (RecordError, OSError) as error:
        return LoadedRecording(path, reason=describe_error(error))
    loaded = prepare_recording(path, header, samples, preparation, leads)
    if loaded.row is None:
        return LoadedRecording(path, reason=loaded.reason)
    row = loaded.row._replace(
        labels=labelled.labels,
        as_scored=labelled.labels,
        additional=np.zeros(len(ADDITIONAL_CLASSES), bool),
        undiagnosed=not labelled.labels.any(),
    )
    repairs = (*(Repair(warning, (), 1) for warning in warnings), *loaded.repairs)
    return LoadedRecording(path, microvolts=loaded.microvolts, repairs=repairs, row=row)
