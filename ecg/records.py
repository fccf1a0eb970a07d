"""Find and read WFDB records: a header NAME.hea and the file of integers it speaks of."""

import errno
import math
import os
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.files import checked_size, read_bytes
from ecg.headers import RecordError, read_header
from ecg.matlab import MOST_BYTES, NUMERIC, MatlabError, matrices

KEY = "val"  # the Challenge's name of the matrix
TRANSPOSED, OTHER_KEY, OTHER_FILE = "transposed", f"matrix not called {KEY}", "file not called as in the header"
SHOWN = 5  # matrices that a message names

# Bytes of a sample in the formats of WFDB; in the compressed ones, FLAC, that depends on the samples.
BYTES = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": Fraction(3, 2), "310": Fraction(4, 3),
         "311": Fraction(4, 3)}  # fmt: skip
COMPRESSED = ("508", "516", "524")
MOST_SAMPLES = MOST_BYTES // 8  # of all leads together, in the formats that wfdb unpacks
# What wfdb raises over files that are damaged or not of their format.
UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError,
              RuntimeError, EOFError, ImportError, MemoryError)  # fmt: skip


class SignalError(RecordError):
    """A file of samples that is missing, unreadable or not of the shape its header gives."""


class Stored(NamedTuple):
    """The stored integers, (L, T), rows in the header's order, and what of the file was not as it should be."""

    integers: np.ndarray
    oddities: tuple[str, ...]


def find_records(folder, unlisted=None):
    """Return the headers in a folder or nested below it: sorted paths, none with a name that begins with a dot.

    Folders below that cannot be listed are passed over, and folders are no headers whatever they are called:
    `unlisted`, a list, takes pairs of the place of each and the reason. Raises OSError where the folder itself cannot
    be listed.
    """
    found, failures = [], []
    for place, folders, files in os.walk(folder, onerror=failures.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        failures += [IsADirectoryError(errno.EISDIR, "a folder, expected a header", os.path.join(place, name))
                     for name in folders if name.endswith(".hea")]  # fmt: skip
        found += [os.path.join(place, name) for name in files if name.endswith(".hea") and not name.startswith(".")]
    if failures and Path(failures[0].filename) == Path(folder):
        raise failures[0]
    if unlisted is not None:
        unlisted += [
            (f"{Path(error.filename).relative_to(folder)}/", f"cannot be read: {error.strerror}") for error in failures
        ]
    return [Path(path) for path in sorted(found)]


def some_records(folder, unlisted=None):
    """Return what find_records does; FileNotFoundError where that is nothing."""
    paths = find_records(folder, unlisted)
    if not paths:
        raise FileNotFoundError(f"{folder}: no header (*.hea) in this folder or below it")
    return paths


def read_record(path):
    """Read a record by its header's path: the Header and the stored integers, (L, T), rows in the header's order.

    Raises HeaderError and SignalError.
    """
    header = read_header(path)
    return header, read_signal(path, header)


def read_signal(path, header):
    """Read the stored integers that belong to a header and its path: (L, T), rows in the header's order.

    Raises SignalError where they are missing, unreadable or not of the header's shape.
    """
    return read_stored(path, header).integers


def read_stored(path, header):
    """Read the integers of a header and its path, and tell what was odd about their file: a Stored.

    A file named *.mat is read as the Challenge's: its matrix `val`, or else the only one that fits the header, either
    as it is or transposed. All others are read by wfdb. Raises SignalError.
    """
    path, names = Path(path), tuple(dict.fromkeys(lead.file for lead in header.leads))
    files = [path.parent / name for name in names]
    if not os.path.exists(files[0]) and os.path.exists(path.with_suffix(".mat")):
        stored = _read_mat(path, path.with_suffix(".mat"), header)  # a record whose files were renamed together
        return Stored(stored.integers, (OTHER_FILE, *stored.oddities))
    for file in files:
        if not os.path.lexists(file):
            raise SignalError(f"{file.name}: no such file beside {path.name}, which names it")
    if not any(file.suffix.lower() == ".mat" for file in files):
        return Stored(_read_wfdb(path, files, header), ())
    if len(files) > 1:
        raise SignalError(f"{path.name}: leads in {names[0]} and {names[1]}, expected all of them in one .mat file")
    return _read_mat(path, files[0], header)


def read_matrix(path, key=KEY):
    """Read the matrix of this name from a MATLAB file as it is stored; SignalError where that cannot be done."""
    with _told(path, "as a MATLAB file", MatlabError):
        return np.ascontiguousarray(_find_matrix(path, key, lambda matrix: False).numbers())


def _read_mat(path, file, header):
    """Return what is Stored in a .mat file: its matrix, leads as rows."""

    def straight(shape):
        return len(shape) == 2 and shape[0] == len(header.leads) and header.samples in (0, shape[1])

    def fits(matrix):
        return matrix.kind == NUMERIC and (straight(matrix.shape) or straight(matrix.shape[::-1]))

    with _told(file, "as a MATLAB file", MatlabError):
        matrix = _find_matrix(file, KEY, fits)
        if not fits(matrix):
            expected = f"({len(header.leads)}, {header.samples or 'T'}) numbers"
            raise SignalError(f"{file.name}: {matrix.name} is {_said(matrix)}, expected {expected} by {path.name}")
        recording, oddities = matrix.numbers(), () if matrix.name == KEY else (OTHER_KEY,)
    del matrix  # and with it what it was unpacked from, before there is a copy
    if not straight(recording.shape):
        recording, oddities = recording.T, (*oddities, TRANSPOSED)
    # Row by row in memory, as other drivers have it: sums differ in their last bit by the order of what is summed.
    return Stored(np.ascontiguousarray(recording), oddities)


def _find_matrix(file, key, fits):
    """Return the Matrix of this name, or else the only one that fits."""
    found = []
    for matrix in matrices(read_bytes(file, MOST_BYTES, SignalError)):
        if matrix.name == key:
            return matrix
        found.append(matrix)
    fitting = [matrix for matrix in found if fits(matrix)]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(f"{matrix.name} of {_said(matrix)}" for matrix in found[:SHOWN]) or "nothing"
    raise SignalError(f"{Path(file).name}: no matrix {key} in it, but {there}{', ...' if found[SHOWN:] else ''}")


def _said(matrix):
    return f"{matrix.shape} {matrix.kind}"


def _read_wfdb(path, files, header):
    """Return what wfdb reads from the files that a header names: (L, T) integers."""
    leads = header.leads
    samples = _checked_samples(path, files, header)
    with _told(files[0], f"with {path.name} by wfdb", *UNREADABLE):
        # What wfdb.rdrecord does once it has read the header: that is read already, and by one grammar only.
        from wfdb.io._signal import _rd_segment

        signals = _rd_segment(
            file_name=[lead.file for lead in leads],
            dir_name=str(path.parent.absolute()),
            pn_dir=None,
            fmt=[lead.format for lead in leads],
            n_sig=len(leads),
            sig_len=samples,
            byte_offset=[lead.offset for lead in leads],
            samps_per_frame=[lead.samples_per_frame for lead in leads],
            skew=[lead.skew for lead in leads],
            init_value=[lead.first_value for lead in leads],
            sampfrom=0,
            sampto=samples,
            channels=list(range(len(leads))),
            ignore_skew=False,
        )
        frames = [signal.reshape(samples, -1) for signal in signals]
        means = [frame[:, 0] if frame.shape[1] == 1 else frame.mean(axis=1).astype(frame.dtype) for frame in frames]
        return np.stack(means)


def _checked_samples(path, files, header):
    """Return the samples of a lead, once the files are known to hold so many and the memory to bear them."""
    samples = header.samples
    for file in files:
        leads = [lead for lead in header.leads if lead.file == file.name]
        kind, offset, frame = leads[0].format, leads[0].offset, sum(lead.samples_per_frame for lead in leads)
        formats = sorted({lead.format for lead in leads})
        if formats != [kind] or kind not in (*BYTES, *COMPRESSED):
            expected = f"one of {', '.join((*BYTES, *COMPRESSED))}"
            raise SignalError(f"{file.name}: format {' and '.join(formats)} by {path.name}, expected {expected}")
        size = checked_size(file, MOST_BYTES, SignalError)
        if kind in BYTES:
            samples = samples or max(size - offset, 0) // (BYTES[kind] * frame)
            needed = offset + math.ceil(BYTES[kind] * frame * max(samples, 1))
            if size < needed:
                raise SignalError(f"{file.name}: {size:,} bytes, expected {needed:,} for {path.name}")
    if samples == 0:
        raise SignalError(f"{path.name}: no number of samples, which files of format {', '.join(COMPRESSED)} need")
    frame = sum(lead.samples_per_frame for lead in header.leads)
    together = frame * (samples + max(lead.skew for lead in header.leads))
    if together > MOST_SAMPLES:
        raise SignalError(f"{path.name}: {together:,} samples of all leads, expected {MOST_SAMPLES:,} or fewer")
    return samples


@contextmanager
def _told(file, how, *kinds):
    """Raise SignalError with a file's name where one of these errors leaves the block."""
    try:
        yield
    except RecordError:
        raise
    except kinds as error:
        raise SignalError(f"{Path(file).name}: not to be read {how}: {error}") from error


def find_header(path: str | os.PathLike) -> Path:
    """Return the path of a recording's header, where the recording is named with or without an extension.

    Args:
        path: `NAME`, `NAME.hea` or `NAME.mat`, the extension in any case; NAME may contain dots.

    Returns:
        The header beside it, whose extension may be in any case; `NAME.hea` where there is none.
    """
    path = Path(path)
    name = path.stem if path.suffix.lower() in (".hea", ".mat") else path.name
    try:
        names = os.listdir(path.parent)
    except OSError:
        names = []
    for stem in dict.fromkeys((name, path.name)):  # a record may itself be called NAME.mat
        # Of several, the one that was named, then that in lower case.
        found = [other for other in names if other[-4:].lower() == ".hea" and other[:-4] == stem]
        found.sort(key=lambda other: (other != path.name, other != f"{stem}.hea", other))
        if found:
            return path.with_name(found[0])
    return path.with_name(f"{name}.hea")
