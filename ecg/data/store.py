"""All preprocessed recordings of a data folder in one memory-mapped file."""

import hashlib
import json
import logging
import mmap
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ecg.data import labels
from ecg.data.corrections import Corrections, ReviewedLabels, correct_labels, match_corrections
from ecg.data.headers import RecordError
from ecg.data.leads import LEADS
from ecg.data.loading import IndexRow, LoadedRecording, load_training_recording
from ecg.data.preprocessing import RESOLUTION, Repair
from ecg.data.records import record_name, require_records
from ecg.data.resampling import DEFAULT_PREPROCESSING, FIR, Preprocessing
from ecg.runtime.cache import DAMAGED, fingerprint, source_hash
from ecg.runtime.console import abbreviated_list, format_duration, wrap_line
from ecg.runtime.executors import ALL_CORES, Executor
from ecg.runtime.files import atomic_path, to_json

LOGGER = logging.getLogger("ecg")

SIGNALS, INDEX = "signals.int16", "index.npz"


@dataclass(frozen=True)
class Store:
    """N recordings in microvolts, one after the other, leads in the standard order.

    Attributes:
        names: Paths of the headers without extension, relative to the data folder, (N,) str. They are unique.
        paths: Paths of the headers relative to the data folder, (N,) str.
        sources: Source databases, (N,) str.
        labels: Scored classes to train on, (N, 26) bool.
        as_scored: Scored classes by the Challenge's evaluator, (N, 26) bool.
        additional: Additional classes, (N, 2) bool.
        demographics: Age and sex, (N, 5) float32 (`encode_demographics`).
        undiagnosed: Whether a header has no diagnosis that the Challenge knows, (N,) bool.
        starts: First row of each recording in `microvolts`, (N,).
        lengths: Number of rows of each recording, (N,).
        frequencies: Sampling frequencies of the files in Hz, (N,).
        recorded_leads: Standard leads that the files have, (N, 12) bool.
        microvolts: Memory-mapped samples, (n_rows, 12) int16.
        excluded: Name and reason of each recording that cannot be used.
        repaired: Name of a recording and what was repaired in it.
        digest: Hash of samples, names, labels, lengths and demographics.
        preparation: How the signals were preprocessed.
        unknown_codes: Codes that the Challenge does not know, with their numbers of recordings.
        patients: Number of each recording's patient, (N,) int; None: each recording counts as a patient.
        reviewed: Reviewers' verdicts, which have replaced labels; None: there are none.
    """

    names: np.ndarray
    paths: np.ndarray
    sources: np.ndarray
    labels: np.ndarray
    as_scored: np.ndarray
    additional: np.ndarray
    demographics: np.ndarray
    undiagnosed: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    frequencies: np.ndarray
    recorded_leads: np.ndarray
    microvolts: np.ndarray
    excluded: tuple[tuple[str, str], ...] = ()
    repaired: tuple[tuple[str, Repair], ...] = ()
    digest: str = ""
    preparation: Preprocessing = DEFAULT_PREPROCESSING
    unknown_codes: tuple[tuple[str, int], ...] = ()
    patients: np.ndarray | None = None
    reviewed: ReviewedLabels | None = None

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, records: np.ndarray) -> "Store":
        """Return a store of some recordings (n,) over the same memory map."""
        fields = {name: getattr(self, name)[records] for name in (*IndexRow._fields, "starts")}
        digest = fingerprint(self.digest, np.asarray(records))
        patients = None if self.patients is None else self.patients[records]
        reviewed = self.reviewed and self.reviewed.subset(records)
        return replace(self, **fields, excluded=(), repaired=(), unknown_codes=(), digest=digest, patients=patients,
                       reviewed=reviewed)  # fmt: skip

    @property
    def verdicts(self) -> np.ndarray | None:
        """Reviewers' verdicts, (N, 26) int8 (`ecg.data.reviews`), or None."""
        return None if self.reviewed is None else self.reviewed.verdicts

    def correct(self, corrections: Corrections) -> "Store":
        """Return a store with labels by reviewers' verdicts; its digest is another."""
        reviewed = match_corrections(corrections, self.names.tolist(), self.labels)
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
        first = self.starts[record] + start
        last = first + (self.lengths[record] - start if length is None else length)
        return np.multiply(self.microvolts[first:last, leads], RESOLUTION, out=out)

    def advise_read(self, records: np.ndarray, starts: np.ndarray, lengths: np.ndarray | int) -> None:
        """Let the system read segments of recordings ahead of use (madvise WILLNEED).

        The next batch of a store larger than memory is usually on the disk. Without this, a few pages are read at a
        time, each waited for.

        Args:
            records: Indices of the recordings, (n,).
            starts: First sample of each segment, (n,).
            lengths: Number of samples of each segment, (n,) or one for all.
        """
        if isinstance(self.microvolts.base, mmap.mmap):
            rows = self.starts[records] + starts
            width = self.microvolts.strides[0]
            for first, last in zip(rows * width, (rows + lengths) * width, strict=True):
                page = first - first % mmap.PAGESIZE
                self.microvolts.base.madvise(mmap.MADV_WILLNEED, int(page), int(last - page))

    def release(self) -> None:
        """Stop counting what was read as memory of this process (madvise DONTNEED).

        The system keeps it as long as it has room. Without this, a process that has read a store seems to hold all of
        it.
        """
        if isinstance(self.microvolts.base, mmap.mmap):
            self.microvolts.base.madvise(mmap.MADV_DONTNEED)


def build_store(
    data: Path | str,
    folder: Path | str,
    executor: Executor = ALL_CORES,
    preparation: Preprocessing = DEFAULT_PREPROCESSING,
) -> Store:
    """Read, preprocess and store every recording of a data folder.

    Recordings that cannot be used are excluded with their reason, and so are folders that cannot be listed. A store in
    `folder` of the same files, by size and times, is opened instead.

    Args:
        data: Data folder.
        folder: Folder for the store.
        executor: Reads and prepares the recordings.
        preparation: How the signals are preprocessed.

    Raises:
        FileNotFoundError: The data folder holds no header.
        RecordError: No recording can be used.
    """
    excluded: list[tuple[str, str]] = []
    paths = require_records(data, excluded)
    origin = source_fingerprint(paths, preparation)
    if store := open_store_of(folder, origin):
        return store
    load_one = partial(load_training_recording, preparation=preparation)
    with closing(executor.map(load_one, paths, "reading")) as recordings:
        return write_store(recordings, data, folder, preparation, origin, excluded)


def write_store(
    recordings: Iterable[LoadedRecording],
    data: Path | str,
    folder: Path | str,
    preparation: Preprocessing,
    origin: str,
    excluded: Sequence[tuple[str, str]] = (),
) -> Store:
    """Write recordings to a new store, one after the other, and open it.

    Args:
        recordings: The recordings; each without a signal is excluded.
        data: Folder that the names of records are relative to.
        folder: Folder for the store.
        preparation: How the signals are preprocessed.
        origin: Fingerprint of what the recordings are made of.
        excluded: Name and reason of recordings that are excluded already.

    Raises:
        RecordError: No recording can be used.
    """
    folder, excluded, n_before = Path(folder), list(excluded), len(excluded)
    rows, repaired, unknown_codes, digest = [], [], Counter[str](), hashlib.sha256()
    with atomic_path(folder / SIGNALS) as temporary, open(temporary, "wb") as file:
        for recording in recordings:
            path = recording.path.relative_to(data)
            name = record_name(path)
            if recording.microvolts is None or recording.row is None:
                excluded.append((name, str(recording.reason)))
                continue
            samples = recording.microvolts.tobytes()
            file.write(samples)
            digest.update(samples)
            rows.append(recording.row._replace(names=name, paths=path.as_posix()))
            unknown_codes.update(recording.unknown_codes)
            repaired += [(name, repair) for repair in recording.repairs]
    if not rows:
        name, reason = excluded[n_before]
        n_recordings = len(excluded) - n_before
        raise RecordError(f"{data}: none of {n_recordings} recordings can be used, such as {name}: {reason}")
    fields = dict(zip(IndexRow._fields, map(np.array, zip(*rows, strict=True)), strict=True))
    digest.update("\n".join(fields["paths"]).encode(errors="surrogateescape"))
    bits = [np.packbits(fields[name]) for name in ("labels", "as_scored", "additional")]
    for array in (*bits, fields["demographics"], fields["lengths"]):
        digest.update(array.tobytes())
    details = {"excluded": excluded, "repaired": repaired, "preparation": preparation,
               "unknown_codes": unknown_codes.most_common()}  # fmt: skip
    with atomic_path(folder / INDEX) as temporary:  # last, because signals without an index are no store
        arrays = fields | {"details": to_json(details), "origin": origin, "digest": digest.hexdigest()}
        np.savez(temporary, **arrays)  # type: ignore[arg-type]
    return open_store(folder)


def open_store_of(folder: Path | str, origin: str) -> Store | None:
    """Open the store in a folder if it is of this origin; else prepare for a new one.

    Args:
        folder: Folder of the store, created if missing.
        origin: Fingerprint of what its recordings are made of.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return open_store(folder, origin)
    except DAMAGED:
        (folder / INDEX).unlink(missing_ok=True)  # first, because signals without an index are no store
        return None


def open_store(folder: Path | str, origin: str | None = None) -> Store:
    """Open a store.

    Args:
        folder: Folder of the store.
        origin: `source_fingerprint` of the files that it must be built of.

    Raises:
        FileNotFoundError: There is no store.
        ValueError: The store is of other files or damaged.
    """
    folder = Path(folder)
    with open(folder / INDEX, "rb") as file, np.load(file, allow_pickle=False) as index:
        if origin not in (None, str(index["origin"])):
            raise ValueError(f"{folder}: this store is of other files")
        fields = {name: index[name] for name in IndexRow._fields}
        details, digest = json.loads(str(index["details"])), str(index["digest"])
    band = details["preparation"].pop("band")
    return Store(
        **fields,
        starts=np.cumsum((0, *fields["lengths"][:-1])),
        microvolts=np.memmap(folder / SIGNALS, np.int16, "r", shape=(int(fields["lengths"].sum()), len(LEADS))),
        excluded=tuple((name, reason) for name, reason in details["excluded"]),
        repaired=tuple((name, Repair(kind, tuple(leads), n)) for name, (kind, leads, n) in details["repaired"]),
        digest=digest,
        preparation=Preprocessing(**details["preparation"], band=band and tuple(band)),
        unknown_codes=tuple((code, count) for code, count in details["unknown_codes"]),
    )


def source_fingerprint(headers: Sequence[Path], preparation: Preprocessing = DEFAULT_PREPROCESSING) -> str:
    """Return a hash of the files that a store is built of.

    It covers name, size and times of all files in the folders of the headers, the preprocessing, and its source code.
    """
    entries: list[object] = [source_hash("data"), preparation]
    for folder in sorted({path.parent for path in headers}):
        with os.scandir(folder) as files:
            regular = [file for file in files if not file.is_dir()]
            statuses = sorted((file.name, file.stat(follow_symlinks=os.path.exists(file.path))) for file in regular)
        for name, status in statuses:
            entries.append([str(folder / name), status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    return fingerprint(*entries)


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
    data: Path | str, folder: Path, preparations: Sequence[Preprocessing], executor: Executor = ALL_CORES
) -> dict[Preprocessing, Store]:
    """Build or open a store for each preprocessing, all of the same data folder.

    Args:
        data: Data folder.
        folder: Folder that gets a folder for each store.
        preparations: Ways of preprocessing.
        executor: Reads and prepares the recordings.

    Returns:
        The stores by their preprocessing. They may exclude different recordings (see `intersect_stores`).

    Raises:
        FileNotFoundError: The data folder holds no header.
        RecordError: No recording can be used.
    """
    stores = {}
    for preparation in preparations:
        start = time.monotonic()
        store = build_store(data, store_folder(folder, preparation), executor, preparation)
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
    if not labels.select_labels(labels.class_indices(classes), store.labels, store.additional).any():
        raise RecordError(f"{data}: none of {len(store):,} recordings has a diagnosis that is trained")
