"""Records on their way from good ones to damaged files: what is made up, changed, encoded and written."""

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
MARK = b"MATLAB 5.0".ljust(116)  # what a file of version 5 begins with, else its time
SOURCES = dict.fromkeys(("CPSC", "Georgia", "INCART", "PTB-XL"), 1.0)


class Record(NamedTuple):
    """A record as it was: the header's text and the integers (L, T)."""

    name: str
    text: str
    recording: np.ndarray


class Case(NamedTuple):
    """A damaged record: the header's bytes, and what lies at the name of the file of samples.

    content: None where nothing lies there; size: to which zeros lengthen it, where larger; folder: it is one.
    """

    name: str
    header: bytes
    file: str
    content: bytes | None
    size: int = 0
    folder: bool = False

    def write(self, folder):
        """Write it into an empty folder and return the header's path."""
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
    """A record on its way to a Case: the header's lines and (L, T) numbers, which become bytes by what is named here.

    encode turns the header's text, and save the numbers, into bytes, both of which what is in the two lists changes.
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

    def case(self):
        """Return the Case that it comes to."""
        header = self.encode(self.end.join(self.lines) + self.end)
        content = None if self.missing else self.save(self.recording)
        for change in self.header_bytes:
            header = change(header)
        for change in self.file_bytes if content is not None else ():
            content = change(content)
        return Case(self.name, header, self.file, content, self.size, self.folder)

    def fields(self, row):
        """Return the fields of a line: row 0 is the record line, then come the leads."""
        return self.lines[row].split(" ")

    def say(self, place, text, rows=None):
        """Put a text in the place of a field of the record line (row 0), or of the lines of the rows given."""
        for row in (0,) if rows is None else rows:
            words = self.fields(row)
            if place < len(words):
                words[place] = text
                self.lines[row] = " ".join(words)

    @property
    def leads(self):
        """Rows of the lead lines that are there."""
        return range(1, min(len(self.recording) + 1 if self.recording.ndim else 1, len(self.lines)))


def undamaged(folder, seed=0):
    """Make up four records of each of five sets of leads, below a folder, and return them: a list of Record."""
    records = []
    for number, leads in enumerate(LEAD_COUNTS):
        synthesize(folder / str(len(leads)), 4, seed + number, SyntheticSettings(sources=SOURCES, leads=leads))
        for path in find_records(folder / str(len(leads))):
            records.append(Record(path.stem, path.read_text(), read_record(path)[1]))
    return records


def matlab_4(recording, key="val"):
    """Return a MATLAB file of version 4 or, of what that cannot hold, of version 5."""
    if recording.ndim != 2 or recording.dtype.str[1:] not in ("i2", "u2", "i4", "u1", "f4", "f8"):
        return matlab_5(recording, key)
    file = io.BytesIO()
    scipy.io.savemat(file, {key: recording}, format="4")
    return file.getvalue()


def matlab_5(recording, key="val", packed=False, others=None):
    """Return a MATLAB file of version 5 with the matrix of this name after others."""
    file = io.BytesIO()
    names = {**(others or {}), key: np.ascontiguousarray(recording)}  # scipy needs text in one piece
    scipy.io.savemat(file, names, format="5", do_compression=packed)
    return MARK + file.getvalue()[len(MARK) :]


def interleaved(recording):
    """Return the samples of all leads, one time after the other, as 16-bit integers."""
    return np.ascontiguousarray(recording.T).astype("<i2").tobytes() if recording.dtype.kind in "iu" else bytes(1000)


def zeros_to_come(leads, samples):
    """Return the size of a MATLAB file of version 4 with zeros of this shape, and what is in it before them."""
    return 24 + 2 * leads * samples, struct.pack("<5i4s", 30, leads, samples, 0, 4, b"val\0")


@lru_cache(maxsize=8)
def packed_zeros(leads, samples):
    """Return 0, for it is whole, and a MATLAB file of version 5 that unpacks to zeros of this shape, a thousandfold."""
    length = 2 * leads * samples
    data = struct.pack("<IIIIII", 14, 48 + length + -length % 8, 6, 8, 10, 0)  # a matrix of 16-bit integers
    data += struct.pack("<IIii", 5, 8, leads, samples) + struct.pack("<HH4s", 1, 3, b"val\0")
    data += struct.pack("<II", 3, length)
    # A block that is packed by itself can be repeated, which is much faster than to pack them all.
    packer, zeros = zlib.compressobj(wbits=-15), bytes(2**20)
    blocks, rest = divmod(length + -length % 8, len(zeros))
    parts = data, zeros, zeros[:rest]
    first, block, last = (packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH) for part in parts)
    checksum = zlib.adler32(data)
    for part in [zeros] * blocks + [zeros[:rest]]:
        checksum = zlib.adler32(part, checksum)
    packed = b"\x78\x01" + first + block * blocks + last + packer.flush() + struct.pack(">I", checksum)
    return 0, MARK.ljust(124) + struct.pack("<H2sII", 0x0100, b"IM", 15, len(packed)) + packed
