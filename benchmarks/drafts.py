"""Records that are synthesised, changed, encoded and written to files."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import scipy.io

from ecg.data.leads import LEADS
from ecg.data.records import find_records, read_record
from ecg.data.synthetic import SyntheticSettings, synthesize

LEAD_COUNTS = (LEADS, (*LEADS[:2], *LEADS[6:]), LEADS[:6], ("I", "II", "V2"), ("I", "II"))
MARK = b"MATLAB 5.0".ljust(116)  # first bytes of a file of version 5, without its time
SOURCES = dict.fromkeys(("CPSC", "Georgia", "INCART", "PTB-XL"), 1.0)


class Record(NamedTuple):
    """An undamaged record: the header's text and the integers (L, T)."""

    name: str
    text: str
    recording: np.ndarray


class Case(NamedTuple):
    """A damaged record: the bytes of its header and of its signal file.

    Attributes:
        name: Name of the record.
        header: Bytes of the header.
        file: Name of the signal file.
        content: Bytes of the signal file; None if there is none.
        size: Minimum size of the signal file, which zeros fill up.
        folder: Whether the signal file is a folder.
    """

    name: str
    header: bytes
    file: str
    content: bytes | None
    size: int = 0
    folder: bool = False

    def write(self, folder):
        """Write the record into an empty folder, and return the header's path."""
        path = folder / f"{self.name}.hea"
        path.write_bytes(self.header)
        if self.folder:
            (folder / self.file).mkdir()
        elif self.content is not None:
            with open(folder / self.file, "wb") as file:
                file.write(self.content)
                file.truncate(max(self.size, len(self.content)))
        return path


@dataclass
class Draft:
    """A record that is being damaged, before it becomes a Case.

    Attributes:
        name: Name of the record.
        lines: Lines of the header.
        recording: Samples, (L, T).
        file: Name of the signal file.
        end: Line end.
        encode: Function that turns the header's text into bytes.
        save: Function that turns the samples into bytes.
        header_bytes: Functions that change the header's bytes.
        file_bytes: Functions that change the signal file's bytes.
        size: Minimum size of the signal file.
        missing: Whether there is no signal file.
        folder: Whether the signal file is a folder.
    """

    name: str
    lines: list[str]
    recording: np.ndarray
    file: str
    end: str = "\n"
    encode: Callable = partial(str.encode, encoding="utf-8")
    save: Callable = field(default_factory=lambda: matlab_4)
    header_bytes: list[Callable] = field(default_factory=list)
    file_bytes: list[Callable] = field(default_factory=list)
    size: int = 0
    missing: bool = False
    folder: bool = False

    def to_case(self):
        """Return the damaged record."""
        header = self.encode(self.end.join(self.lines) + self.end)
        content = None if self.missing else self.save(self.recording)
        for change in self.header_bytes:
            header = change(header)
        for change in self.file_bytes if content is not None else ():
            content = change(content)
        return Case(self.name, header, self.file, content, self.size, self.folder)

    def fields(self, row):
        """Return the fields of a line: row 0 is the record line, the next ones are leads."""
        return self.lines[row].split(" ")

    def set_field(self, index, text, rows=None):
        """Replace a field of the record line (row 0), or of the lines of these rows."""
        for row in (0,) if rows is None else rows:
            words = self.fields(row)
            if index < len(words):
                words[index] = text
                self.lines[row] = " ".join(words)

    @property
    def leads(self):
        """Rows of the existing lead lines."""
        return range(1, min(len(self.recording) + 1 if self.recording.ndim else 1, len(self.lines)))


def synthesize_records(folder, seed=0):
    """Synthesise four records of each of five lead sets: a list of Record."""
    records = []
    for number, leads in enumerate(LEAD_COUNTS):
        synthesize(folder / str(len(leads)), 4, seed + number, SyntheticSettings(sources=SOURCES, leads=leads))
        for path in find_records(folder / str(len(leads))):
            records.append(Record(path.stem, path.read_text(), read_record(path)[1]))
    return records


def matlab_4(recording, key="val"):
    """Return a MATLAB file of version 4, or of version 5 if 4 cannot hold the type."""
    if recording.ndim != 2 or recording.dtype.str[1:] not in ("i2", "u2", "i4", "u1", "f4", "f8"):
        return matlab_5(recording, key)
    file = io.BytesIO()
    scipy.io.savemat(file, {key: recording}, format="4")
    return file.getvalue()


def matlab_5(recording, key="val", compressed=False, other_matrices=None):
    """Return a MATLAB file of version 5 with this matrix after other ones."""
    file = io.BytesIO()
    names = {**(other_matrices or {}), key: np.ascontiguousarray(recording)}  # scipy needs contiguous text
    scipy.io.savemat(file, names, format="5", do_compression=compressed)
    return MARK + file.getvalue()[len(MARK) :]


def interleave(recording):
    """Return the samples as 16-bit integers, interleaved by lead."""
    return np.ascontiguousarray(recording.T).astype("<i2").tobytes() if recording.dtype.kind in "iu" else bytes(1000)


def size_of_zeros(leads, samples):
    """Return the size of a MATLAB file (4) of zeros, and the bytes before them."""
    return 24 + 2 * leads * samples, struct.pack("<5i4s", 30, leads, samples, 0, 4, b"val\0")


@lru_cache(maxsize=8)
def compress_zeros(leads, samples):
    """Return 0 and a compressed MATLAB file of version 5 of zeros of this shape.

    Decompressed it is a thousand times as large. It needs no further zeros, hence the 0.
    """
    length = 2 * leads * samples
    data = struct.pack("<IIIIII", 14, 48 + length + -length % 8, 6, 8, 10, 0)  # a matrix of 16-bit integers
    data += struct.pack("<IIii", 5, 8, leads, samples) + struct.pack("<HH4s", 1, 3, b"val\0")
    data += struct.pack("<II", 3, length)
    # Repeating a block that is compressed once is much faster than compressing all blocks.
    packer, zeros = zlib.compressobj(wbits=-15), bytes(2**20)
    blocks, rest = divmod(length + -length % 8, len(zeros))
    blocks_to_compress = data, zeros, zeros[:rest]
    first, block, last = (packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH) for content in blocks_to_compress)
    checksum = zlib.adler32(data)
    for content in [zeros] * blocks + [zeros[:rest]]:
        checksum = zlib.adler32(content, checksum)
    compressed = b"\x78\x01" + first + block * blocks + last + packer.flush() + struct.pack(">I", checksum)
    return 0, MARK.ljust(124) + struct.pack("<H2sII", 0x0100, b"IM", 15, len(compressed)) + compressed
