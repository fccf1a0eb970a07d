"""Find and read WFDB records: a header NAME.hea and the file of integers it speaks of."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from ecg.headers import RecordError, read_header

# What scipy and wfdb raise over files that are damaged or not of their format.
UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError, EOFError,
              OverflowError, MemoryError, struct.error)  # fmt: skip


class SignalError(RecordError):
    """A file of samples that is missing, unreadable or not of the shape its header gives."""


def find_records(folder):
    """Return the headers in a folder or nested below it: sorted paths, none with a name that begins with a dot.

    Raises OSError where the folder, or one below it, cannot be listed.
    """
    found = []
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(place, name) for name in files if name.endswith(".hea") and not name.startswith(".")]
    return [Path(path) for path in sorted(found)]


def _raise(error):
    raise error


def read_record(path):
    """Read a record by its header's path: the Header and the stored integers, (L, T), rows in the header's order.

    Raises HeaderError and SignalError.
    """
    header = read_header(path)
    return header, read_signal(path, header)


def read_signal(path, header):
    """Read the stored integers that belong to a header and its path: (L, T), rows in the header's order.

    Files named *.mat are read as the Challenge's (matrix `val`), all others by wfdb. Raises SignalError where the
    samples are missing, unreadable or not of the header's shape.
    """
    path = Path(path)
    file = path.parent / header.leads[0].file
    if not file.is_file() and path.with_suffix(".mat").exists():  # a record whose files were renamed together
        file = path.with_suffix(".mat")
    if not file.is_file():
        raise SignalError(f"{file.name}: no such file beside {path.name}, which names it")
    recording = read_matrix(file) if file.suffix == ".mat" else _read_wfdb(path, file)
    fits = recording.ndim == 2 and len(recording) == len(header.leads) and header.samples in (0, recording.shape[1])
    if not fits or not recording.size or recording.dtype.kind not in "iuf":
        expected = f"({len(header.leads)}, {header.samples or 'T'}) numbers"
        raise SignalError(f"{file.name}: {recording.dtype} {recording.shape}, expected {expected} by {path.name}")
    return recording


def read_matrix(path, key="val"):
    """Read the matrix of this name from a MATLAB file as it is stored; SignalError where that cannot be done."""
    try:
        return np.asarray(scipy.io.loadmat(path, variable_names=[key])[key])
    except KeyError:
        raise SignalError(f"{Path(path).name}: no matrix {key} in it") from None
    except (*UNREADABLE, MatReadError, zlib.error) as error:
        raise SignalError(f"{Path(path).name}: not to be read as a MATLAB file: {error}") from error


def _read_wfdb(path, file):
    import wfdb

    try:
        return wfdb.rdrecord(str(path.with_suffix("")), physical=False).d_signal.T
    except UNREADABLE as error:
        raise SignalError(f"{file.name}: not to be read with {path.name} by wfdb: {error}") from error
