"""Write recordings in the Challenge's format: a WFDB header and a MATLAB file."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.runtime.files import atomic_path

# Header of a MATLAB version 4 file: type, rows, columns, no imaginary part, length of the name, name. Samples follow.
MAT_HEADER = struct.Struct("<5i4s")
MAT_TYPES = {np.dtype("<i2"): 30, np.dtype("<i4"): 20}  # of little-endian integers, stored by column
MAT_OFFSET = MAT_HEADER.size


class LeadScale(NamedTuple):
    """How the integers of a lead become millivolts: (integer - baseline) / gain.

    Attributes:
        name: Name of the lead.
        gain: Integers per mV.
        baseline: The integer for 0 mV.
    """

    name: str
    gain: float
    baseline: int = 0


class WrittenRecord(NamedTuple):
    """What is written of a recording.

    Attributes:
        name: Name of the record.
        frequency: Sampling frequency in Hz.
        leads: The L leads.
        integers: Samples, (T, L) int16 or int32; the smallest integer of the type means no value.
        age: Age in years, or None.
        sex: "Male", "Female" or "Unknown".
        codes: Codes of the diagnoses.
    """

    name: str
    frequency: float
    leads: Sequence[LeadScale]
    integers: np.ndarray
    age: int | None = None
    sex: str = "Unknown"
    codes: Sequence[str] = ()


def pack_matrix(integers: np.ndarray) -> bytes:
    """Return the bytes of a MATLAB file with the matrix `val` of samples.

    Args:
        integers: (T, L) int16 or int32.
    """
    kind = integers.dtype.newbyteorder("<")
    head = MAT_HEADER.pack(MAT_TYPES[kind], *integers.shape[::-1], 0, 4, b"val\0")
    return head + integers.astype(kind, copy=False).tobytes()


def format_header(record: WrittenRecord) -> str:
    """Return the text of a record's header."""
    integers = record.integers
    bits = 8 * integers.dtype.itemsize
    checksums = integers.sum(axis=0, dtype=np.int64).astype(np.int16)  # modulo 2 ** 16, as in WFDB
    lines = [f"{record.name} {len(record.leads)} {format_number(record.frequency)} {len(integers)}"]
    for lead, first, checksum in zip(record.leads, integers[0], checksums, strict=True):
        scale = f"{format_number(lead.gain)}({lead.baseline})/mV"
        lines.append(f"{record.name}.mat {bits}+{MAT_OFFSET} {scale} {bits} 0 {first} {checksum} 0 {lead.name}")
    age = "Unknown" if record.age is None else str(record.age)
    comments = {"Age": age, "Sex": record.sex, "Dx": ",".join(record.codes) or "Unknown"}
    return "\n".join([*lines, *(f"# {key}: {value}" for key, value in comments.items())]) + "\n"


def format_number(value: float) -> str:
    """Return a number as text without loss, without a point if it is an integer."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def write_record(folder: Path, record: WrittenRecord) -> None:
    """Write a record's files. The header is written last: it completes the record."""
    with atomic_path(folder / f"{record.name}.mat") as path:
        path.write_bytes(pack_matrix(record.integers))
    with atomic_path(folder / f"{record.name}.hea") as path:
        path.write_text(format_header(record), encoding="utf-8", newline="\n")
