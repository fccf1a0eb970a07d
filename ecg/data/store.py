"""All preprocessed recordings of a data folder, in shards."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ecg.data.class_tables import ClassTable, parse_class_table
from ecg.data.corrections import Corrections, ReviewedLabels, correct_labels, match_corrections
from ecg.data.headers import RecordError
from ecg.data.labels import CHALLENGE_CLASSES, CHALLENGE_SOURCES, select_labels
from ecg.data.loading import IndexRow, load_training_recording
from ecg.data.preprocessing import Repair
from ecg.data.records import require_records
from ecg.data.resampling import DEFAULT_PREPROCESSING, FIR, Preprocessing
from ecg.data.samples import MappedFiles, Samples
from ecg.data.shards import ShardContext, build_shards, check_samples, decode_details, decode_repairs, delete_unused
from ecg.data.source_tables import SourceTable
from ecg.data.store_content import StoreContent, hash_recordings, join_shards
from ecg.runtime.cache import DAMAGED, fingerprint
from ecg.runtime.console import abbreviated_list, format_duration, wrap_line
from ecg.runtime.executors import ALL_CORES, Executor
from ecg.runtime.files import atomic_path

LOGGER = logging.getLogger("ecg")

INDEX = "index.npz"


@dataclass(frozen=True)
class Store:
    """N recordings in microvolts, leads in the standard order, with their labels.

    Attributes:
        names: Paths of the headers without extension, relative to the data folder, (N,) str. They are unique.
        paths: Paths of the headers relative to the data folder, (N,) str.
        sources: Source databases, (N,) str.
        labels: Scored classes to train on, (N, C) bool.
        as_scored: Scored classes by the Challenge's evaluator, (N, C) bool.
        additional: Additional classes, (N, A) bool.
        demographics: Age and sex, (N, 5) float32 (`encode_demographics`).
        undiagnosed: Whether a header has no diagnosis that the Challenge knows, (N,) bool.
        lengths: Number of samples of each recording, (N,).
        frequencies: Sampling frequencies of the files in Hz, (N,).
        recorded_leads: Standard leads that the files have, (N, 12) bool.
        microvolts: The samples, in memory-mapped files.
        excluded: Name and reason of each recording that cannot be used.
        repaired: Name of a recording and what was repaired in it.
        digest: Hash of samples, names, labels, lengths and demographics.
        preparation: How the signals were preprocessed.
        unknown_codes: Codes that neither the classes nor the Challenge know, with their numbers of recordings.
        patients: Number of each recording's patient, (N,) int; None: each recording counts as a patient.
        folds: Published fold of each recording, from 1, (N,) int; 0: none. None: no folds are published.
        reviewed: Reviewers' verdicts, which have replaced labels; None: there are none.
        classes: The C scored and A additional classes of the labels.
    """

    names: np.ndarray
    paths: np.ndarray
    sources: np.ndarray
    labels: np.ndarray
    as_scored: np.ndarray
    additional: np.ndarray
    demographics: np.ndarray
    undiagnosed: np.ndarray
    lengths: np.ndarray
    frequencies: np.ndarray
    recorded_leads: np.ndarray
    microvolts: Samples
    excluded: tuple[tuple[str, str], ...] = ()
    repaired: tuple[tuple[str, Repair], ...] = ()
    digest: str = ""
    preparation: Preprocessing = DEFAULT_PREPROCESSING
    unknown_codes: tuple[tuple[str, int], ...] = ()
    patients: np.ndarray | None = None
    folds: np.ndarray | None = None
    reviewed: ReviewedLabels | None = None
    classes: ClassTable = CHALLENGE_CLASSES

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, records: np.ndarray) -> "Store":
        """Return a store of some recordings (n,), over the same files."""
        fields: dict[str, Any] = {name: getattr(self, name)[records] for name in IndexRow._fields}
        fields["microvolts"] = self.microvolts.subset(records)
        digest = fingerprint(self.digest, np.asarray(records))
        patients = None if self.patients is None else self.patients[records]
        folds = None if self.folds is None else self.folds[records]
        reviewed = self.reviewed and self.reviewed.subset(records)
        return replace(self, **fields, excluded=(), repaired=(), unknown_codes=(), digest=digest, patients=patients,
                       folds=folds, reviewed=reviewed)  # fmt: skip

    @property
    def verdicts(self) -> np.ndarray | None:
        """Reviewers' verdicts, (N, C) int8 (`ecg.data.reviews`), or None."""
        return None if self.reviewed is None else self.reviewed.verdicts

    def correct(self, corrections: Corrections) -> "Store":
        """Return a store with labels by reviewers' verdicts; its digest is another."""
        reviewed = match_corrections(corrections, self.names.tolist(), self.labels, self.classes)
        return replace(self, reviewed=reviewed, labels=correct_labels(self.labels, reviewed.verdicts),
                       as_scored=correct_labels(self.as_scored, reviewed.verdicts),
                       digest=fingerprint(self.digest, reviewed.verdicts))  # fmt: skip

    def signal(
        self,
        record: int,
        leads: Sequence[int] | slice | int = slice(None),
        start: int = 0,
        length: int | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return a recording or a segment of it.

        Args:
            record: Index of the recording.
            leads: Indices of the leads, or one index.
            start: First sample.
            length: Number of samples; None for all until the end.
            out: Array for the result, (T, n_leads) float32.

        Returns:
            Millivolts, (T, n_leads) float32.
        """
        return self.microvolts.signal(record, leads, start, length, out)

    def advise_read(self, records: np.ndarray, starts: np.ndarray, lengths: np.ndarray | int) -> None:
        """Let the system read segments of recordings ahead of use (`Samples.advise_read`)."""
        self.microvolts.advise_read(records, starts, lengths)

    def release(self) -> None:
        """Stop counting what was read as memory of this process (`Samples.release`)."""
        self.microvolts.release()


def build_store(
    data: Path | str,
    folder: Path | str,
    executor: Executor = ALL_CORES,
    preparation: Preprocessing = DEFAULT_PREPROCESSING,
    classes: ClassTable = CHALLENGE_CLASSES,
    sources: SourceTable = CHALLENGE_SOURCES,
) -> Store:
    """Read, preprocess and store every recording of a data folder.

    Recordings that cannot be used are excluded with their reason, and so are folders that cannot be listed. What is in
    `folder` of the same files, by size and times, is not read again: after an interruption, and after recordings were
    added to the data folder or removed from it.

    Args:
        data: Data folder.
        folder: Folder for the store.
        executor: Reads and prepares the recordings.
        preparation: How the signals are preprocessed.
        classes: The classes of the labels.
        sources: The sources of records.

    Raises:
        FileNotFoundError: The data folder holds no header.
        RecordError: No recording can be used.
    """
    excluded: list[tuple[str, str]] = []
    paths = require_records(data, excluded)
    load = partial(load_training_recording, preparation=preparation, classes=classes, sources=sources)
    content = StoreContent(load, paths, hash_recordings(data, paths), preparation, data, excluded, classes, sources)
    return write_store(content, folder, executor, "reading")


def write_store(content: StoreContent, folder: Path | str, executor: Executor, title: str) -> Store:
    """Write a store, or open the one of the same content.

    Args:
        content: What it is to hold.
        folder: Folder for the store.
        executor: Makes the recordings and writes them.
        title: What the progress line calls the work.

    Raises:
        RecordError: No recording can be used.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return open_store(folder, content.origin)
    except DAMAGED:
        (folder / INDEX).unlink(missing_ok=True)  # first, because shards without it are no store
    context = ShardContext(content.load, content.data, folder, content.program)
    shards, located = build_shards(context, content.items, content.keys, executor, title)
    arrays = join_shards(shards, located, content)
    with atomic_path(folder / INDEX) as temporary:  # last
        np.savez(temporary, **arrays)  # type: ignore[arg-type]
    delete_unused(folder, [shard.name for shard in shards])
    return open_store(folder)


def open_store(folder: Path | str, origin: str | None = None) -> Store:
    """Open a store.

    Args:
        folder: Folder of the store.
        origin: `StoreContent.origin` of what it must hold.

    Raises:
        FileNotFoundError: There is no store.
        ValueError: The store is of other files or damaged.
    """
    folder = Path(folder)
    with open(folder / INDEX, "rb") as file, np.load(file, allow_pickle=False) as index:
        if origin not in (None, str(index["origin"])):
            raise ValueError(f"{folder}: this store is of other files")
        fields = {name: index[name] for name in IndexRow._fields}
        details, digest = decode_details(index["details"]), str(index["digest"])
        names, numbers, starts = index["shards"].tolist(), index["numbers"], index["starts"]
        for name, length in zip(names, index["shard_lengths"].tolist(), strict=True):
            check_samples(folder, name, length)
    band = details["preparation"].pop("band")
    return Store(
        **fields,
        microvolts=Samples(MappedFiles(folder, names), numbers, starts, fields["lengths"]),
        excluded=tuple((name, reason) for name, reason in details["excluded"]),
        repaired=tuple((name, *decode_repairs([repair])) for name, repair in details["repaired"]),
        digest=digest,
        preparation=Preprocessing(**details["preparation"], band=band and tuple(band)),
        unknown_codes=tuple((code, count) for code, count in details["unknown_codes"]),
        classes=parse_class_table(details["classes"]),
    )


def diagnosis_lines(store: Store) -> list[str]:
    """Return log messages that count undiagnosed recordings and unknown codes."""
    lines = []
    if count := int(store.undiagnosed.sum()):
        names = abbreviated_list(store.names[store.undiagnosed].tolist())
        lines += wrap_line(f"{count:,} recordings without a diagnosis that the Challenge knows ({names})")
    if store.unknown_codes:
        codes = [f"{code} in {number:,} recordings" for code, number in store.unknown_codes]
        lines += wrap_line(f"diagnoses that the Challenge does not know: {abbreviated_list(codes)}")
    return lines


def store_folder(folder: Path, preparation: Preprocessing) -> Path:
    """Return the folder of the store of a preprocessing, 'store' for the default."""
    if preparation == DEFAULT_PREPROCESSING:
        return folder / "store"
    band = "_{:g}_to_{:g}".format(*preparation.band) if preparation.band else "_unfiltered"
    kind = f"_{preparation.kind}" * (preparation.band is not None and preparation.kind != FIR)
    options = "_linear" * preparation.linear + "_early_gains" * preparation.early_gains
    return folder / f"store_{preparation.rate}_hz{band}{kind}{options}"


def build_stores(
    data: Path | str,
    folder: Path,
    preparations: Sequence[Preprocessing],
    executor: Executor = ALL_CORES,
    classes: ClassTable = CHALLENGE_CLASSES,
    sources: SourceTable = CHALLENGE_SOURCES,
) -> dict[Preprocessing, Store]:
    """Build or open a store for each preprocessing, all of the same data folder.

    Args:
        data: Data folder.
        folder: Folder that gets a folder for each store.
        preparations: Ways of preprocessing.
        executor: Reads and prepares the recordings.
        classes: The classes of the labels.
        sources: The sources of records.

    Returns:
        The stores by their preprocessing. They may exclude different recordings (see `intersect_stores`).

    Raises:
        FileNotFoundError: The data folder holds no header.
        RecordError: No recording can be used.
    """
    stores = {}
    for preparation in preparations:
        start = time.monotonic()
        store = build_store(data, store_folder(folder, preparation), executor, preparation, classes, sources)
        rate = "" if preparation == DEFAULT_PREPROCESSING else f" at {preparation.rate} Hz"
        LOGGER.info(f"{len(store):,} recordings stored{rate}, {len(store.excluded):,} excluded, "
                    f"{format_duration(time.monotonic() - start)}")  # fmt: skip
        stores[preparation] = store
    for line in diagnosis_lines(store):
        LOGGER.info(line)
    return stores


def add_corrections(
    stores: Mapping[Preprocessing, Store], corrections: Corrections | None
) -> dict[Preprocessing, Store]:
    """Return stores with labels by reviewers' verdicts, if there are any."""
    if corrections is None:
        return dict(stores)
    return {key: store.correct(corrections) for key, store in stores.items()}


def check_trainable(data: Path | str, store: Store, classes: Sequence[str]) -> None:
    """Raise RecordError unless a network can be trained and validated on a store.

    Args:
        data: Data folder, for the message.
        store: The store.
        classes: Abbreviations of the classes to train. At least one recording must have one of them.
    """
    if len(store) < 2:
        raise RecordError(f"{data}: {store.names[0]} alone can be used, and training needs another to validate")
    if not select_labels(store.classes.indices(classes), store.labels, store.additional).any():
        raise RecordError(f"{data}: none of {len(store):,} recordings has a diagnosis that is trained")
