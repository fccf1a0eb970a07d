"""What a store is to hold, and the index of all its shards."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg.data.class_tables import ClassTable, write_class_table
from ecg.data.headers import RecordError
from ecg.data.labels import CHALLENGE_CLASSES, CHALLENGE_SOURCES
from ecg.data.loading import IndexRow, LoadedRecording
from ecg.data.preprocessing import Repair
from ecg.data.ptb_xl import describe_database
from ecg.data.resampling import Preprocessing
from ecg.data.shards import HASH, Shard, StoredAt, encode_details, short_hash
from ecg.data.source_tables import SourceTable
from ecg.runtime.cache import fingerprint, source_hash


@dataclass(frozen=True)
class StoreContent:
    """What a store is to hold: N recordings, and what is excluded already.

    Attributes:
        load: Loads the recording of an item; can be pickled.
        items: What each recording is loaded from, in the order of the store.
        keys: Hashes of what each recording is made of, as in `ShardTask`, (N, 2) S16.
        preparation: How the signals are preprocessed.
        data: Folder that the names of records are relative to.
        excluded: Name and reason of what is excluded already.
        classes: The classes of the labels.
        sources: The sources of records.
    """

    load: Callable[[Any], LoadedRecording]
    items: Sequence
    keys: np.ndarray
    preparation: Preprocessing
    data: Path | str = ""
    excluded: Sequence[tuple[str, str]] = ()
    classes: ClassTable = CHALLENGE_CLASSES
    sources: SourceTable = CHALLENGE_SOURCES

    @property
    def program(self) -> str:
        """Hash of what makes a recording: code, preprocessing, classes, sources."""
        return fingerprint(source_hash("data"), self.preparation, self.classes, self.sources)

    @property
    def origin(self) -> str:
        """Hash of all that the store depends on."""
        return fingerprint(self.program, self.excluded, short_hash(self.keys.tobytes()).hex())


def hash_recordings(data: Path | str, paths: Sequence[Path]) -> np.ndarray:
    """Return hashes of the files that recordings are made of.

    A hash covers the names, sizes and times of the files, and the path of the header.

    Args:
        data: Data folder.
        paths: Paths of the headers.

    Returns:
        A hash of the files that are called like the header, and one of all files in its folder: (N, 2) S16.
    """
    members = defaultdict(list)
    for record, path in enumerate(paths):
        members[path.parent].append(record)
    hashes = np.zeros((len(paths), 2), HASH)
    for folder, records in members.items():
        states = _list_file_states(folder)
        table = [state] if (state := describe_database(folder)) else []  # labels of PTB-XL are in a table
        of_folder = short_hash(*(state for stem in sorted(states) for state in states[stem]))
        for record in records:
            path = paths[record]
            of_recording = short_hash(path.relative_to(data).as_posix(), *states.get(path.stem, ()), *table)
            hashes[record] = of_recording, short_hash(of_recording, of_folder)
    return hashes


def _list_file_states(folder: Path) -> dict[str, list[str]]:
    """Return the files in a folder by their names without extension.

    Each has its name, size and times. They are sorted.
    """
    states = defaultdict(list)
    with os.scandir(folder) as files:
        for file in files:
            if not file.is_dir():
                status = file.stat(follow_symlinks=os.path.exists(file.path))
                times = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
                states[os.path.splitext(file.name)[0]].append(f"{file.name}\n{times}")
    return {stem: sorted(lines) for stem, lines in states.items()}


def join_shards(shards: Sequence[Shard], located: StoredAt, content: StoreContent) -> dict[str, np.ndarray]:
    """Return the arrays of a store's index, in the order of the store.

    Raises:
        RecordError: No recording can be used.
    """
    counts = np.array([[len(shard.keys), len(shard.fields["lengths"])] for shard in shards])
    first_entry, first_row = (np.cumsum(counts, axis=0) - counts).T
    entries = first_entry[located.shards] + located.indices
    positions = np.full(counts[:, 0].sum(), -1)  # of entries in the order of the store; -1 if they are of no use
    positions[entries] = np.arange(len(entries))
    details = _join_details(shards, first_entry, positions)
    rows = np.concatenate([shard.rows for shard in shards])[entries]
    if (rows < 0).all():
        name, reason = details["excluded"][0]
        raise RecordError(f"{content.data}: none of {len(rows)} recordings can be used, such as {name}: {reason}")
    numbers, entries = located.shards[rows >= 0], entries[rows >= 0]
    rows = first_row[numbers] + rows[rows >= 0]
    used = [shard for shard in shards if len(shard.fields["lengths"])]  # empty arrays have no type
    fields = {name: np.concatenate([shard.fields[name] for shard in used])[rows] for name in IndexRow._fields}
    digests = np.concatenate([shard.digests for shard in shards])[entries]
    details |= {"excluded": [*content.excluded, *details["excluded"]], "preparation": content.preparation,
                "classes": write_class_table(content.classes)}  # fmt: skip
    return fields | {
        "shards": np.array([shard.name for shard in shards]),
        "shard_lengths": np.array([shard.starts[-1] for shard in shards]),
        "numbers": numbers,
        "starts": np.concatenate([shard.starts[:-1] for shard in shards])[rows],
        "details": encode_details(details),
        "origin": np.array(content.origin),
        "digest": np.array(_digest(fields, digests)),
    }


def _join_details(shards: Sequence[Shard], first_entry: np.ndarray, positions: np.ndarray) -> dict[str, Any]:
    """Return what is excluded, repaired and unknown, in the order of the store.

    Args:
        shards: The shards.
        first_entry: Number of the first entry of each, all entries being numbered one after the other.
        positions: Position of each entry in the order of the store; -1 if it is of no use.
    """
    excluded: dict[int, tuple[str, str]] = {}
    repaired: dict[int, tuple[str, tuple[Repair, ...]]] = {}
    unknown_codes = Counter[str]()
    for first, shard in zip(first_entry.tolist(), shards, strict=True):
        excluded |= {int(positions[first + index]): pair for index, pair in shard.excluded.items()}
        repaired |= {int(positions[first + index]): pair for index, pair in shard.repaired.items()}
        for index, codes in shard.unknown_codes.items():
            unknown_codes.update(codes if positions[first + index] >= 0 else ())
    return {
        "excluded": [excluded[position] for position in sorted(excluded) if position >= 0],
        "repaired": [(repaired[position][0], repair) for position in sorted(repaired) if position >= 0
                     for repair in repaired[position][1]],
        "unknown_codes": sorted(unknown_codes.items(), key=lambda pair: (-pair[1], pair[0])),
    }  # fmt: skip


def _digest(fields: Mapping[str, np.ndarray], digests: np.ndarray) -> str:
    """Return the digest of a store, which does not depend on its shards.

    Args:
        fields: The rows of its index.
        digests: Hashes of the samples of its recordings, (N,) S16.
    """
    digest = hashlib.sha256(digests.tobytes())
    digest.update("\n".join(fields["paths"]).encode(errors="surrogateescape"))
    bits = [np.packbits(fields[name]) for name in ("labels", "as_scored", "additional")]
    for array in (*bits, fields["demographics"], fields["lengths"]):
        digest.update(array.tobytes())
    return digest.hexdigest()
