"""Write preprocessed recordings into shards, by several processes.

A shard is a file of samples and an index of up to 512 recordings. It is written once and never changed. Its name is a
hash of what it is made of, so that a process that still writes an older shard cannot damage a newer one.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecg.data.loading import IndexRow, LoadedRecording
from ecg.data.preprocessing import Repair
from ecg.data.records import record_name
from ecg.data.samples import SAMPLES, WIDTH, MappedFiles
from ecg.runtime.cache import DAMAGED
from ecg.runtime.executors import Executor
from ecg.runtime.files import atomic_path, to_json

PREFIX, INDEX = "shard_", ".npz"
# Recordings of a shard. Few recordings make smaller shards, up to SPREAD of them, so that all processes have work.
FEWEST, MOST, SPREAD = 64, 512, 64
HASH = "S16"  # type of a hash; numpy omits zeros at the end, but compares hashes as if they were there


def short_hash(*parts: str | bytes) -> bytes:
    """Return a hash of 16 bytes of strings and bytes."""
    encoded = (part.encode(errors="surrogateescape") if isinstance(part, str) else part for part in parts)
    return hashlib.sha256(b"\n".join(encoded)).digest()[:16]


class ShardContext(NamedTuple):
    """What the tasks of a store have in common. It can be pickled.

    Attributes:
        load: Loads the recording of an item.
        data: Folder that the names of records are relative to.
        folder: Folder of the store.
        program: Fingerprint of what turns an item into a recording: source code and settings.
    """

    load: Callable[[Any], LoadedRecording]
    data: Path | str
    folder: Path
    program: str


class ShardTask(NamedTuple):
    """The n recordings of a new shard.

    Attributes:
        items: What each is loaded from, such as the path of its header.
        keys: Hashes of the recording's own files, and of all files in its folder, (n, 2) S16.
        copied: Name of an earlier shard that holds the recording, and its index there; None if it is to be loaded.
    """

    items: list
    keys: np.ndarray
    copied: list[tuple[str, int] | None]


class ShardSummary(NamedTuple):
    """A shard that was written: its name, and its recordings, usable and excluded."""

    name: str
    recordings: int
    excluded: int


class ShardEntry(NamedTuple):
    """A recording in the index of a shard.

    Attributes:
        key: Hash of what it is made of: the first of the task's if the header names only files called like itself.
        name: Its name.
        row: Its row of the index; None if it is excluded.
        digest: Hash of its samples.
        reason: Why it is excluded.
        repairs: What was repaired.
        unknown_codes: Codes that the Challenge does not know.
    """

    key: bytes
    name: str
    row: IndexRow | None
    digest: bytes
    reason: str | None
    repairs: tuple[Repair, ...]
    unknown_codes: tuple[str, ...]


@dataclass(frozen=True)
class Shard:
    """The index of a shard with n recordings, m of them usable.

    Attributes:
        name: Name of its files, without extension.
        keys: Hashes of what the recordings are made of, (n,) S16.
        digests: Hashes of their samples, (n,) S16.
        rows: Index of each recording among the usable ones; -1 if it is excluded: (n,).
        fields: The rows of the index, by the names of `IndexRow`, (m, ...) each.
        excluded: Name and reason of excluded recordings, by their index.
        repaired: Name and repairs of repaired recordings, by their index.
        unknown_codes: Codes that the Challenge does not know, by the index of their recording.
    """

    name: str
    keys: np.ndarray
    digests: np.ndarray
    rows: np.ndarray
    fields: Mapping[str, np.ndarray]
    excluded: Mapping[int, tuple[str, str]]
    repaired: Mapping[int, tuple[str, tuple[Repair, ...]]]
    unknown_codes: Mapping[int, tuple[str, ...]]

    @property
    def starts(self) -> np.ndarray:
        """First sample of each usable recording, and the number of samples: (m + 1,)."""
        return np.concatenate([[0], np.cumsum(self.fields["lengths"], dtype=np.int64)])

    def entry(self, index: int) -> ShardEntry:
        """Return the entry of a recording."""
        row = None if self.rows[index] < 0 else IndexRow(*(column[self.rows[index]] for column in self.fields.values()))
        name, reason = self.excluded.get(index, (None if row is None else row.names, None))
        _, repairs = self.repaired.get(index, (name, ()))
        codes = self.unknown_codes.get(index, ())
        return ShardEntry(self.keys[index], str(name), row, self.digests[index], reason, repairs, codes)


class StoredAt(NamedTuple):
    """Where N recordings are stored: number of the shard, and index there, (N,).

    The number is -1 for a recording that no shard holds.
    """

    shards: np.ndarray
    indices: np.ndarray


def build_shards(
    context: ShardContext, items: Sequence, keys: np.ndarray, executor: Executor, title: str
) -> tuple[list[Shard], StoredAt]:
    """Write the recordings that no shard of the store holds into new shards.

    Shards that were made by another program, or are damaged, are deleted first.

    Args:
        context: The store.
        items: What each recording is loaded from, in the order of the store.
        keys: Their hashes, as in `ShardTask`, (N, 2) S16.
        executor: Writes the shards.
        title: What the progress line calls the work.

    Returns:
        All shards of the store, and where the recordings are.
    """
    shards = find_shards(context)
    delete_unused(context.folder, [shard.name for shard in shards])
    tasks, kept = plan_shards(items, keys, shards)
    sizes = [len(task.items) for task in tasks]
    with closing(executor.map(partial(write_shard, context), tasks, title, sizes)) as summaries:
        kept += [read_shard(context, summary.name) for summary in summaries]
    located = locate_recordings(keys, kept)
    assert (located.shards >= 0).all()
    return kept, located


def find_shards(context: ShardContext) -> list[Shard]:
    """Return the undamaged shards of this program in the folder of a store."""
    shards = []
    for path in sorted(context.folder.glob(f"{PREFIX}*{INDEX}")):
        try:
            shards.append(read_shard(context, path.stem))
        except DAMAGED:
            continue  # written anew
    return shards


def delete_unused(folder: Path, names: Sequence[str]) -> None:
    """Delete what the folder of a store holds except shards of these names.

    Files of other kinds, such as wave peaks, stay. Deleted are shards, signals of earlier versions of this program, and
    what killed processes left.
    """
    used = {f"{name}{extension}" for name in names for extension in (SAMPLES, INDEX)}
    for pattern in (f"{PREFIX}*", f".part.*{PREFIX}*", "signals.int16", ".part.signals.int16"):
        for path in folder.glob(pattern):
            if path.name not in used:
                path.unlink(missing_ok=True)


def locate_recordings(keys: np.ndarray, shards: Sequence[Shard]) -> StoredAt:
    """Find recordings in shards by either of their hashes, (N, 2) S16."""
    stored = np.concatenate([np.array([], HASH), *(shard.keys for shard in shards)])
    counts = [len(shard.keys) for shard in shards]
    order = np.argsort(stored, kind="stable")
    numbers, indices = np.full(len(keys), -1), np.zeros(len(keys), int)
    if len(stored):
        starts = np.cumsum([0, *counts[:-1]])
        owners = np.repeat(np.arange(len(shards)), counts)
        for column in keys.T:
            nearest = order[np.searchsorted(stored, column, sorter=order).clip(max=len(stored) - 1)]
            present = stored[nearest] == column
            numbers[present] = owners[nearest[present]]
            indices[present] = (nearest - starts[owners[nearest]])[present]
    return StoredAt(numbers, indices)


def plan_shards(items: Sequence, keys: np.ndarray, shards: Sequence[Shard]) -> tuple[list[ShardTask], list[Shard]]:
    """Plan new shards for the recordings that are in none.

    Shards of which less than half is in use, or that are less than half as large as usual, are replaced: their
    recordings are copied into new ones. The number of shards therefore stays small however often recordings are added
    and removed, and at most half of the disk's space is lost.

    Args:
        items: What each recording is loaded from.
        keys: Hashes of the recordings, (N, 2) S16.
        shards: The present shards.

    Returns:
        The tasks, and the present shards that stay.
    """
    located, size = locate_recordings(keys, shards), shard_size(len(keys))
    missing = located.shards < 0
    used = np.bincount(located.shards[~missing], minlength=len(shards))
    present = np.array([len(shard.keys) for shard in shards], int)
    replaced = 2 * used < np.maximum(present, size)
    remaining = replaced & (used > 0)
    if not missing.any() and remaining.sum() == 1 and used[remaining] == present[remaining]:
        replaced &= ~remaining  # one small shard alone would become the same again
    waiting = np.flatnonzero(missing | np.append(replaced, False)[located.shards])
    tasks = []
    for records in np.array_split(waiting, -(-len(waiting) // size)) if len(waiting) else ():
        copied = [
            None if number < 0 else (shards[number].name, int(index))
            for number, index in zip(located.shards[records], located.indices[records], strict=True)
        ]
        tasks.append(ShardTask([items[record] for record in records], keys[records], copied))
    return tasks, [shard for shard, is_replaced in zip(shards, replaced, strict=True) if not is_replaced]


def shard_size(records: int) -> int:
    """Return the number of recordings of a shard, given that of the store."""
    return min(max(-(-records // SPREAD), FEWEST), MOST)


def write_shard(context: ShardContext, task: ShardTask) -> ShardSummary:
    """Load the recordings of a task and write their shard, the index last.

    One recording is in memory at a time. Several processes may do the same task at the same time.

    Returns:
        What was written.
    """
    name = f"{PREFIX}{short_hash(context.program, task.keys.tobytes()).hex()}"
    writer, entries = uuid.uuid4().hex, []
    with atomic_path(context.folder / f"{name}{SAMPLES}", writer) as temporary, open(temporary, "wb") as file:
        for entry, samples in _iter_entries(context, task):
            file.write(samples)
            entries.append(entry)
    with atomic_path(context.folder / f"{name}{INDEX}", writer) as temporary:
        np.savez(temporary, program=context.program, **_index_arrays(entries))  # type: ignore[arg-type]
    usable = sum(entry.row is not None for entry in entries)
    return ShardSummary(name, usable, len(entries) - usable)


def _iter_entries(context: ShardContext, task: ShardTask) -> Iterator[tuple[ShardEntry, bytes]]:
    """Yield entry and samples of each recording of a task, loaded or copied."""
    names = sorted({source[0] for source in task.copied if source is not None})
    shards, files = {name: read_shard(context, name) for name in names}, MappedFiles(context.folder, names)
    for item, keys, source in zip(task.items, task.keys, task.copied, strict=True):
        if source is None:
            yield _load_entry(context, item, keys)
            continue
        name, index = source
        entry, samples = shards[name].entry(index), b""
        if entry.row is not None:
            first, last = shards[name].starts[shards[name].rows[index] :][:2]
            samples = files[names.index(name)][first:last].tobytes()
            files.release()
        yield entry, samples


def _load_entry(context: ShardContext, item: object, keys: np.ndarray) -> tuple[ShardEntry, bytes]:
    """Load the recording of an item; return its entry and its samples."""
    recording = context.load(item)
    path = recording.path.relative_to(context.data)
    name, row, samples = record_name(path), recording.row, b""
    if row is not None and recording.microvolts is not None:
        row = row._replace(names=name, paths=path.as_posix())
        samples = recording.microvolts.tobytes()
    leads = () if recording.header is None else recording.header.leads
    names_other_files = any(os.path.splitext(lead.file)[0] != path.stem for lead in leads)
    entry = ShardEntry(keys[int(names_other_files)], name, row, short_hash(samples), recording.reason,
                       recording.repairs, recording.unknown_codes)  # fmt: skip
    return entry, samples


def _index_arrays(entries: Sequence[ShardEntry]) -> dict[str, np.ndarray]:
    """Return the arrays of an index, all but the program."""
    usable = np.array([entry.row is not None for entry in entries])
    rows = [entry.row for entry in entries if entry.row is not None]
    details = {
        "excluded": [(i, entry.name, entry.reason) for i, entry in enumerate(entries) if entry.row is None],
        "repaired": [(i, entry.name, entry.repairs) for i, entry in enumerate(entries) if entry.row and entry.repairs],
        "unknown_codes": [(i, entry.unknown_codes) for i, entry in enumerate(entries) if entry.unknown_codes],
    }
    columns = zip(*rows, strict=True) if rows else ([] for _ in IndexRow._fields)
    return dict(zip(IndexRow._fields, map(np.array, columns), strict=True)) | {
        "shard_keys": np.array([entry.key for entry in entries], HASH),
        "shard_digests": np.array([entry.digest for entry in entries], HASH),
        "shard_rows": np.where(usable, np.cumsum(usable) - 1, -1),
        "shard_details": encode_details(details),
    }


def encode_details(details: object) -> np.ndarray:
    """Encode what JSON can hold as an array of bytes (n,) uint8, for an index."""
    return np.frombuffer(to_json(details).encode(), np.uint8)


def decode_details(content: np.ndarray) -> dict[str, Any]:
    """Decode what `encode_details` encoded."""
    return json.loads(content.tobytes())


def read_shard(context: ShardContext, name: str) -> Shard:
    """Read the index of a shard.

    Args:
        context: The store.
        name: Name of the shard.

    Raises:
        ValueError: The shard is of another program or damaged; or another exception of `DAMAGED`.
    """
    path = context.folder / f"{name}{INDEX}"
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        index = {key: arrays[key] for key in arrays.files}
    details = decode_details(index["shard_details"])
    shard = Shard(
        name, index["shard_keys"], index["shard_digests"], index["shard_rows"],
        {field: index[field] for field in IndexRow._fields},
        {i: (name, reason) for i, name, reason in details["excluded"]},
        {i: (name, decode_repairs(repairs)) for i, name, repairs in details["repaired"]},
        {i: tuple(codes) for i, codes in details["unknown_codes"]},
    )  # fmt: skip
    check_samples(context.folder, name, int(shard.starts[-1]))
    if str(index["program"]) != context.program:
        raise ValueError(f"{path}: this shard is of another program")
    return shard


def decode_repairs(repairs: Sequence) -> tuple[Repair, ...]:
    """Return repairs as they were before they became JSON."""
    return tuple(Repair(kind, tuple(leads), count) for kind, leads, count in repairs)


def check_samples(folder: Path, name: str, rows: int) -> None:
    """Check that a shard's file of samples has this number of rows.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file has another size.
    """
    path = folder / f"{name}{SAMPLES}"
    if (size := os.path.getsize(path)) != rows * WIDTH:
        raise ValueError(f"{path}: {size:,} bytes, expected {rows * WIDTH:,}")
