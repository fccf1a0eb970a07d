"""Read parts of long recordings, without the rest of their files in memory."""

import mmap
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.headers import Header
from ecg.data.matlab import MOST_BYTES, is_hdf5
from ecg.data.records import (
    MOST_FILE_BYTES,
    SignalError,
    count_wfdb_samples,
    locate_files,
    read_wfdb,
    view_matrix,
)
from ecg.runtime.files import check_file_size

PLAIN_TYPES = {"16": "<i2", "32": "<i4", "61": ">i2"}  # of numbers in files, by WFDB's format


class SampleReader(NamedTuple):
    """Reads parts of a recording.

    Attributes:
        n_samples: Number of samples of a lead.
        files: The files of samples.
        read: Returns the samples from a first one to the one before a last, (L, n). It raises SignalError if the files
            have changed so that they cannot be read.
    """

    n_samples: int
    files: tuple[Path, ...]
    read: Callable[[int, int], np.ndarray]


def open_samples(path: Path, header: Header) -> SampleReader:
    """Prepare to read parts of a recording; only the heads of its files are read.

    A MATLAB file that is compressed or of version 7.3 is read as a whole, up to the limit of `ecg.data.matlab`.

    Args:
        path: The header's path.
        header: Its content.

    Raises:
        SignalError: The files are missing, unreadable or not as the header says.
    """
    files, header, is_mat = locate_files(path, header)
    if is_mat:
        return _open_mat(path, files[0], header)
    n_samples = count_wfdb_samples(path, files, header)
    dtype = _find_plain_type(header)
    if dtype is None:
        return SampleReader(n_samples, tuple(files), partial(_read_wfdb_window, path, files, header))
    shape = len(header.leads), n_samples
    return SampleReader(
        n_samples, tuple(files), partial(_read_numbers, files[0], header.leads[0].offset, dtype, shape, True)
    )


def _find_plain_type(header: Header) -> np.dtype | None:
    """Return the type of the numbers of a plain file, or None for others.

    A plain file has all leads, sample by sample, in numbers of whole bytes.

    Such a file is read several times as fast without wfdb.
    """
    file, kind, offset = header.leads[0].file, header.leads[0].format, header.leads[0].offset
    layouts = {(lead.file, lead.format, lead.offset, lead.samples_per_frame, lead.skew) for lead in header.leads}
    is_plain = layouts == {(file, kind, offset, 1, 0)} and kind in PLAIN_TYPES
    return np.dtype(PLAIN_TYPES[kind]) if is_plain else None


def _read_wfdb_window(path: Path, files: list[Path], header: Header, first: int, last: int) -> np.ndarray:
    if first == last:  # wfdb would refuse it
        return np.empty((len(header.leads), 0), np.int64)
    return read_wfdb(path, files, header, (first, last))


def _open_mat(path: Path, file: Path, header: Header) -> SampleReader:
    if not check_file_size(file, MOST_FILE_BYTES, SignalError):
        raise SignalError(f"{file.name}: not to be read as a MATLAB file: it is empty")
    try:
        with open(file, "rb") as opened:
            content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise SignalError(f"{file.name}: cannot be read: {error.strerror}") from error
    if is_hdf5(content):  # h5py gets a copy of the content
        check_file_size(file, MOST_BYTES, SignalError)
    matrix, _ = view_matrix(content, header, file.name, path.name)
    offset = matrix.ctypes.data - np.frombuffer(content, np.uint8).ctypes.data
    if not 0 <= offset < len(content):  # it was compressed
        return SampleReader(matrix.shape[1], (file,), lambda first, last: matrix[:, first:last])
    # Parts are read, not mapped: if a mapped file becomes shorter, the process that reads it ends.
    is_interleaved = matrix.strides[0] == matrix.itemsize
    read = partial(_read_numbers, file, offset, matrix.dtype, matrix.shape, is_interleaved)
    return SampleReader(matrix.shape[1], (file,), read)


def _read_numbers(
    file: Path, offset: int, dtype: np.dtype, shape: tuple[int, int], is_interleaved: bool, first: int, last: int
) -> np.ndarray:
    """Read samples of a matrix in a file.

    Args:
        file: The file.
        offset: Its bytes before the matrix.
        dtype: Type of the numbers.
        shape: Leads and samples.
        is_interleaved: Whether the leads of a sample are neighbours, not the samples of a lead.
        first: First sample.
        last: The sample after the last.

    Returns:
        (L, last - first).
    """
    (n_leads, n_samples), count = shape, last - first
    starts = [first * n_leads] if is_interleaved else [lead * n_samples + first for lead in range(n_leads)]
    length = count * n_leads if is_interleaved else count
    try:
        with open(file, "rb") as opened:
            parts = []
            for start in starts:
                opened.seek(offset + start * dtype.itemsize, os.SEEK_SET)
                parts.append(np.fromfile(opened, dtype, length))
    except OSError as error:
        raise SignalError(f"{file.name}: cannot be read: {error.strerror}") from error
    if any(len(part) < length for part in parts):
        raise SignalError(f"{file.name}: shorter than when it was opened")
    return parts[0].reshape(count, n_leads).T if is_interleaved else np.stack(parts)
