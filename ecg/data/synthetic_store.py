"""A store of synthetic recordings, without files of their own, for pretraining."""

from functools import partial
from pathlib import Path

import numpy as np

from ecg.data.headers import RecordError, parse_header
from ecg.data.loading import LoadedRecording, prepare_recording
from ecg.data.resampling import Preprocessing
from ecg.data.shards import HASH, short_hash
from ecg.data.store import Store, write_store
from ecg.data.store_content import StoreContent
from ecg.data.synthetic import SyntheticSettings, make_recording, plan_recordings
from ecg.runtime.console import describe_error
from ecg.runtime.executors import ALL_CORES, Executor
from ecg.runtime.files import to_json


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
