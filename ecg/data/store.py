"""All preprocessed recordings of a data folder in one memory-mapped file, each read and filtered once."""

import hashlib
import json
import logging
import mmap
import os
import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.headers import Header, RecordError, read_header
from ecg.data.labels import (
    DISCARDED_SOURCES,
    UNDIAGNOSED,
    class_indices,
    code_status,
    encode,
    encode_as_scored,
    encode_unscored,
    select_labels,
    source_of,
)
from ecg.data.leads import LEADS
from ecg.data.preprocessing import Repair, crop_to_max_duration, encode_demographics, preprocess, to_millivolts
from ecg.data.records import read_raw_signal, require_records
from ecg.data.resampling import DEFAULT_PREPROCESSING, Preprocessing
from ecg.runtime.cache import DAMAGED, fingerprint, source_hash
from ecg.runtime.console import abbreviated_list, describe_error, format_duration, wrap_line
from ecg.runtime.files import atomic_path, to_json
from ecg.runtime.processes import parallel_map

LOGGER = logging.getLogger("ecg")

SIGNALS, INDEX = "signals.int16", "index.npz"
# A row for each recording.
RECORDING_FIELDS = (
    "names",
    "paths",
    "sources",
    "labels",
    "as_scored",
    "unscored",
    "demographics",
    "undiagnosed",
    "starts",
    "lengths",
)


class LoadedRecording(NamedTuple):
    """What one recording comes to: its header as far as it was read, and either what the store takes or why it is not.

    labels (26,) bool, and as they are scored (26,) bool, those beside (2,) bool, age and sex (5,) (ecg.data.preprocessing),
    microvolts (T, 12) int16, what was mended, and the reason why it is left out, a text. `stored` are the numbers of
    the file (L, n), where it was read and they were asked for. undiagnosed: whether the header has no diagnosis that
    the Challenge knows, scored or not; unknown_codes: those that it does not know.
    """

    path: Path
    header: Header | None = None
    labels: np.ndarray | None = None
    as_scored: np.ndarray | None = None
    unscored: np.ndarray | None = None
    demographics: np.ndarray | None = None
    microvolts: np.ndarray | None = None
    repairs: tuple[Repair, ...] = ()
    reason: str | None = None
    integers: np.ndarray | None = None
    undiagnosed: bool = False
    unknown_codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Store:
    """N recordings: whole microvolts in the standard order of leads, one after the other.

    names (N,) text, what tells recordings apart: the header's path below the data folder without its extension, paths
    (N,) text, the headers' below the data folder, sources (N,) text, labels (N, 26) bool to
    learn from, as_scored (N, 26) bool: those of the Challenge's evaluator, beside (N, 2) bool: classes beside the
    scored ones, persons (N, 5) (ecg.data.preprocessing), starts and lengths (N,): rows of the memory map, microvolts (rows, 12)
    int16, dropped: pairs of a record's name and why it is not among them, repaired: pairs of a record's name and a
    Repair (ecg.data.preprocessing), digest: text that is another as soon as a sample, a name, a label, a length, an age or a sex
    is, preparation: how the signals were made of what is stored, undiagnosed (N,) bool: whether a header has no known
    diagnosis, unknown_codes: pairs of a code that the Challenge does not know and how many recordings have it.
    """

    names: np.ndarray
    paths: np.ndarray
    sources: np.ndarray
    labels: np.ndarray
    as_scored: np.ndarray
    unscored: np.ndarray
    demographics: np.ndarray
    undiagnosed: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    microvolts: np.ndarray
    excluded: tuple[tuple[str, str], ...] = ()
    repaired: tuple[tuple[str, Repair], ...] = ()
    digest: str = ""
    preparation: Preprocessing = DEFAULT_PREPROCESSING
    unknown_codes: tuple[tuple[str, int], ...] = ()

    def __len__(self):
        return len(self.names)

    def subset(self, records):
        """Return a Store of some of the recordings alone, by their places (n,); nothing is copied but facts."""
        parts = {name: getattr(self, name)[records] for name in RECORDING_FIELDS}
        return replace(
            self,
            **parts,
            excluded=(),
            repaired=(),
            unknown_codes=(),
            digest=fingerprint(self.digest, np.asarray(records)),
        )

    def signal(self, record, columns=slice(None), start=0, length=None, out=None):
        """Return `length` samples from `start` of one recording, or all: (T, leads) float32, mV.

        They are put into `out` where there is such an array.
        """
        first = self.starts[record] + start
        last = first + (self.lengths[record] - start if length is None else length)
        return to_millivolts(self.microvolts[first:last, columns], out)

    def advise_read(self, records, starts, lengths):
        """Have the system read so many samples of some recordings from the disk, all at once and ahead of their use.

        Where the store is larger than memory, the next batch is as a rule on the disk, and would be read a few pages
        after the others, each waited for.
        """
        if isinstance(self.microvolts.base, mmap.mmap):
            rows = self.starts[records] + starts
            width = self.microvolts.strides[0]
            for first, last in zip(rows * width, (rows + lengths) * width, strict=True):
                page = first - first % mmap.PAGESIZE
                self.microvolts.base.madvise(mmap.MADV_WILLNEED, int(page), int(last - page))

    def release(self):
        """Let go of what was read: the system keeps it as long as it has room, but it counts as this process's no more.

        Without this, a process that has been through a store of any size seems to hold all of it.
        """
        if isinstance(self.microvolts.base, mmap.mmap):
            self.microvolts.base.madvise(mmap.MADV_DONTNEED)


def build_store(data, folder, jobs=None, preparation=DEFAULT_PREPROCESSING):
    """Read, preprocess and store every recording below the folder `data`, by `jobs` processes; return the Store.

    The Preparation (ecg.data.resampling) is the method's as a rule.

    A recording that cannot be used, or a folder that cannot be listed, is left out with its reason. A store that is in
    `folder` already and holds the same files, of the same size and time, is returned as it is. Raises FileNotFoundError
    where `data` holds no header at all, and RecordError where no recording could be used.
    """
    excluded = []
    paths = require_records(data, excluded)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    origin = source_fingerprint(paths, preparation)
    try:
        return open_store(folder, origin)
    except DAMAGED:
        (folder / INDEX).unlink(missing_ok=True)  # first: signals without an index are not a store
    kept, dropped, repaired, unknown_codes, digest = [], excluded, [], Counter(), hashlib.sha256()
    with (
        atomic_path(folder / SIGNALS) as part,
        open(part, "wb") as file,
        closing(
            parallel_map(partial(load_training_recording, preparation=preparation), paths, jobs, "reading")
        ) as recordings,
    ):
        for one in recordings:
            below = one.path.relative_to(data)
            name = below.with_suffix("").as_posix()
            if one.reason:
                dropped.append((name, one.reason))
                continue
            samples = one.microvolts.tobytes()
            file.write(samples)
            digest.update(samples)
            kept.append((name, below.as_posix(), source_of(one.path.stem), one.labels, one.as_scored, one.unscored,
                         one.demographics, one.undiagnosed, len(one.microvolts)))  # fmt: skip
            unknown_codes.update(one.unknown_codes)
            repaired += [(name, repair) for repair in one.repairs]
    if not kept:
        name, reason = dropped[0]
        raise RecordError(f"{data}: none of {len(paths)} recordings can be used, such as {name}: {reason}")
    *columns, lengths = map(np.array, zip(*kept, strict=True))
    facts = dict(zip(RECORDING_FIELDS, (*columns, np.cumsum((0, *lengths[:-1])), lengths), strict=True))
    digest.update("\n".join(facts["paths"]).encode(errors="surrogateescape"))
    bits = [np.packbits(facts[name]) for name in ("labels", "as_scored", "unscored")]
    for array in (*bits, facts["demographics"], lengths):
        digest.update(array.tobytes())
    texts = {"dropped": dropped, "repaired": repaired, "preparation": asdict(preparation),
             "unknown_codes": unknown_codes.most_common()}  # fmt: skip
    texts = {name: to_json(value) for name, value in texts.items()}
    with atomic_path(folder / INDEX) as part:  # last: a store without an index is not a store
        np.savez(part, **facts, **texts, origin=origin, digest=digest.hexdigest())
    return open_store(folder)


def open_store(folder, origin=None):
    """Open a store that was built in this folder, of these files (see `origin_of`) where given.

    Raises FileNotFoundError where there is none, and ValueError where it is of other files or not whole.
    """
    folder = Path(folder)
    with open(folder / INDEX, "rb") as file, np.load(file, allow_pickle=False) as index:
        if origin not in (None, str(index["origin"])):
            raise ValueError(f"{folder}: this store is of other files")
        facts = {name: index[name] for name in RECORDING_FIELDS}
        dropped = tuple((name, reason) for name, reason in json.loads(str(index["dropped"])))
        rows = json.loads(str(index["repaired"]))
        repaired = tuple((name, Repair(kind, tuple(leads), count)) for name, (kind, leads, count) in rows)
        unknown_codes = tuple((code, count) for code, count in json.loads(str(index["unknown_codes"])))
        digest, prepared = str(index["digest"]), json.loads(str(index["preparation"]))
    preparation = Preprocessing(**prepared | {"band": prepared["band"] and tuple(prepared["band"])})
    microvolts = np.memmap(folder / SIGNALS, np.int16, "r", shape=(int(facts["lengths"].sum()), len(LEADS)))
    return Store(**facts, microvolts=microvolts, excluded=dropped, repaired=repaired, digest=digest,
                 preparation=preparation, unknown_codes=unknown_codes)  # fmt: skip


def source_fingerprint(headers, preparation=DEFAULT_PREPROCESSING):
    """Return a text that is another as soon as a file beside one of these headers, paths, or what is done here is.

    Files are told apart by name, size and times.
    """
    entries = [source_hash("data"), asdict(preparation)]
    for folder in sorted({path.parent for path in headers}):
        with os.scandir(folder) as files:
            found = sorted(
                (file.name, file.stat(follow_symlinks=os.path.exists(file.path))) for file in files if not file.is_dir()
            )
        for name, status in found:
            entries.append([str(folder / name), status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    return fingerprint(*entries)


def load_training_recording(path, preparation=DEFAULT_PREPROCESSING):
    """Return what the recording of a header comes to in training; no fault of it raises an error.

    It is a Loaded without header and numbers, which would take as long to hand over as to read.
    """
    source = source_of(path.stem)
    if source in DISCARDED_SOURCES:
        return LoadedRecording(path, reason=f"source {source} is not trained on")
    return load_recording(path, preparation)._replace(header=None, integers=None)


def load_recording(path, preparation=DEFAULT_PREPROCESSING):
    """Return what the recording of a header comes to, of whatever source, and what is stored of it: a Loaded."""
    loaded = LoadedRecording(path)
    try:
        loaded = loaded._replace(header=(header := read_header(path)))
        recording, warnings = read_raw_signal(path, header)
        loaded = loaded._replace(integers=recording)
        microvolts, repairs = preprocess(
            header, crop_to_max_duration(header, recording), LEADS, preparation=preparation
        )
    except (RecordError, OSError) as error:
        return loaded._replace(reason=describe_error(error))
    loaded = loaded._replace(repairs=(*(Repair(warning, (), 1) for warning in warnings), *repairs))
    codes = [code for code in header.codes if code.casefold() not in UNDIAGNOSED]
    kinds = [code_status(code) for code in codes]
    return loaded._replace(
        labels=encode(header.codes),
        as_scored=encode_as_scored(header.evaluated),
        unscored=encode_unscored(header.codes),
        demographics=encode_demographics(header.age, header.sex),
        microvolts=microvolts,
        undiagnosed=not {"scored", "unscored"} & set(kinds),
        unknown_codes=tuple(code for code, kind in zip(codes, kinds, strict=True) if kind == "unknown"),
    )


def diagnosis_lines(store: Store) -> list[str]:
    """Return lines that count the recordings without a known diagnosis and the unknown codes, if there are any."""
    lines = []
    if count := int(store.undiagnosed.sum()):
        names = abbreviated_list(store.names[store.undiagnosed].tolist())
        lines += wrap_line(f"{count:,} recordings without a diagnosis that the Challenge knows ({names})")
    if store.unknown_codes:
        codes = [f"{code} in {number:,} recordings" for code, number in store.unknown_codes]
        lines += wrap_line(f"diagnoses that the Challenge does not know: {abbreviated_list(codes)}")
    return lines


def store_folder(folder, preparation):
    """Return where the store of a Preparation is in a folder: 'store' for the method's, else a name that tells it."""
    if preparation == DEFAULT_PREPROCESSING:
        return folder / "store"
    band = "_{:g}_to_{:g}".format(*preparation.band) if preparation.band else "_unfiltered"
    return (
        folder
        / f"store_{preparation.rate}_hz{band}{'_linear' * preparation.linear}{'_early_gains' * preparation.early_gains}"
    )


def build_stores(data, folder, preparations, jobs):
    """Build or open a store for each preprocessing, all of the same data folder.

    Args:
        data: Data folder.
        folder: Folder that gets a folder for each store.
        preparations: Ways of preprocessing, `Preprocessing` each.
        jobs: Number of processes; None for one per core.

    Returns:
        The stores by their preprocessing. They may exclude different recordings (see `intersect_stores`).

    Raises:
        FileNotFoundError: The data folder holds no header.
        RecordError: No recording can be used.
    """
    stores = {}
    for preparation in preparations:
        start = time.monotonic()
        store = build_store(data, store_folder(folder, preparation), jobs, preparation)
        rate = "" if preparation == DEFAULT_PREPROCESSING else f" at {preparation.rate} Hz"
        LOGGER.info(f"{len(store):,} recordings stored{rate}, {len(store.excluded):,} excluded, "
            f"{format_duration(time.monotonic() - start)}")  # fmt: skip
        stores[preparation] = store
    for line in diagnosis_lines(store):
        LOGGER.info(line)
    return stores


def check_trainable(data, store, classes):
    """Raise RecordError unless a network can be trained and validated on a store.

    Args:
        data: Data folder, for the message.
        store: The store.
        classes: Abbreviations of the classes to train. At least one recording must have one of them.
    """
    if len(store) < 2:
        raise RecordError(f"{data}: {store.names[0]} alone can be used, and training needs another to validate")
    if not select_labels(class_indices(classes), store.labels, store.unscored).any():
        raise RecordError(f"{data}: none of {len(store):,} recordings has a diagnosis that is trained")
