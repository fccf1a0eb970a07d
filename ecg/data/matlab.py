"""Read the matrices of MATLAB files of versions 4 to 7 and 7.3 (HDF5).

A file states how large its matrices are. Memory is only taken for bytes that are really there, so that a small file,
damaged or malicious, cannot exhaust it. Format: MAT-File Format, The MathWorks 2023. Version 7.3 is read by h5py.
"""

import io
import math
import mmap
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import h5py

MOST_BYTES = 200 * 2**20  # in a file, or a matrix: twelve leads of 16 bits for two hours at 1,000 Hz
MOST_MATRICES = 1000  # in one file
HDF5 = b"\x89HDF\r\n\x1a\n"
LONGEST_NAME = 63  # MATLAB's; the rest is dropped
MOST_DIMENSIONS = 32
NUMERIC, TEXT, SPARSE, COMPLEX, EMPTY = "numbers", "text", "a sparse matrix", "complex numbers", "empty"

# Version 4: consecutive matrices, each with five integers, its name, and its numbers.
HEAD_4 = 20  # bytes in the integers
FIRST_4 = (*range(100), *range(1000, 1100))  # valid first integers; others are of VAX and Cray
NUMBERS_4 = ("f8", "f4", "i4", "i2", "u2", "u1")  # by the tens digit
KINDS_4 = (NUMERIC, TEXT, SPARSE)  # by the ones digit

# Versions 5 to 7: elements with a type, a size and content. The content of a matrix are elements, too.
START_5 = 128  # bytes before the first element
HEAD_5 = 4096  # decompressed bytes that reach to a matrix's numbers
CHUNK = 2**20  # bytes that are decompressed at once
MATRIX, COMPRESSED = 14, 15
NUMBERS_5 = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
KINDS_5 = {1: "cells", 2: "a structure", 3: "an object", 4: TEXT, 5: SPARSE} | dict.fromkeys(range(6, 16), NUMERIC)
COMPLEX_FLAG = 0x800

# Version 7.3: an HDF5 file. A matrix is a dataset, whose class MATLAB writes as an attribute.
NUMBERS_73 = ("double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
KINDS_73 = {"char": TEXT, "cell": KINDS_5[1], "struct": KINDS_5[2]} | dict.fromkeys(NUMBERS_73, NUMERIC)
# What h5py raises over a damaged file.
DAMAGED_73 = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, NotImplementedError)


class MatlabError(ValueError):
    """A MATLAB file cannot be read; the message does not name the file."""


class Matrix(NamedTuple):
    """A matrix of a file.

    Attributes:
        name: Its name.
        shape: Its shape.
        kind: NUMERIC, or another kind of content.
        read: Reads the numbers, if it is numeric, as one column after another.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    read: Callable[[], np.ndarray]

    def numbers(self) -> np.ndarray:
        """Read the numbers, in the matrix's shape.

        Raises:
            MatlabError: The matrix is not numeric, or damaged.
        """
        if self.kind != NUMERIC:
            raise MatlabError(f"{self.name} is {self.kind}, expected real numbers")
        return self.read().reshape(self.shape, order="F")


def is_hdf5(content: bytes | bytearray | memoryview | mmap.mmap) -> bool:
    """Return whether the content of a file is that of version 7.3."""
    return HDF5 in (content[: len(HDF5)], content[512 : 512 + len(HDF5)])


def iter_matrices(content: bytes | bytearray | mmap.mmap) -> Iterator[Matrix]:
    """Yield the matrices of a MATLAB file in their order.

    Raises:
        MatlabError: The file or the next matrix is damaged.
    """
    data = memoryview(content)
    if not data:
        raise MatlabError("it is empty")
    if is_hdf5(data):
        matrices = _matrices_73(content)
    else:
        matrices = _matrices_4(data) if b"\0" in bytes(data[:4]) else _matrices_5(data)
    for number, matrix in enumerate(matrices):
        if number == MOST_MATRICES:
            raise MatlabError(f"more than {MOST_MATRICES:,} matrices")
        yield matrix


def _matrices_4(data: memoryview) -> Iterator[Matrix]:
    order = "<" if int.from_bytes(data[:4], "little") < 5000 else ">"
    offset = 0
    while offset < len(data):
        form, rows, columns, imaginary, length = _unpack(f"{order}5i", data, offset)
        number, content = form // 10 % 10, form % 10
        known = form in FIRST_4 and number < len(NUMBERS_4) and content < len(KINDS_4)
        if not known or min(rows, columns) < 0 or length < 1:
            raise MatlabError(f"no matrix of MATLAB's version 4 begins at byte {offset}")
        start = offset + HEAD_4 + length
        name = _name(data[offset + HEAD_4 : start])
        numbers = np.dtype(order + NUMBERS_4[number])
        offset = start + rows * columns * numbers.itemsize * (2 if imaginary else 1)
        if offset > len(data):
            raise MatlabError(f"{name} {rows, columns} {numbers} ends at byte {offset:,}, the file at {len(data):,}")
        kind = _kind(KINDS_4[content], (rows, columns), imaginary)
        yield Matrix(name, (rows, columns), kind, partial(np.frombuffer, data, numbers, rows * columns, start))


def _matrices_5(data: memoryview) -> Iterator[Matrix]:
    if bytes(data[126:128]) not in (b"IM", b"MI"):
        raise MatlabError("it does not begin as a MATLAB file does")
    order = "<" if data[126:128] == b"IM" else ">"
    offset = START_5
    while offset < len(data):
        kind, start, size = _element(data, offset, order)
        if start + size > len(data):
            raise MatlabError(f"a matrix ends at byte {start + size:,}, the file at {len(data):,}")
        head = content = data[start : start + size]
        read: Callable[[], memoryview] = partial(memoryview, content)  # type: ignore[arg-type]
        if kind == COMPRESSED:
            head = _decompress(content, HEAD_5)
            kind, size_unpacked = _unpack(f"{order}2I", head, 0)
            head, read = head[8:], partial(_decompress_matrix, content, size_unpacked)
        if kind != MATRIX:
            raise MatlabError(f"content of type {kind} at byte {offset}, expected a matrix")
        yield _matrix_5(head, order, read)
        offset = start + size


def _matrix_5(head: memoryview, order: str, read: Callable[[], memoryview]) -> Matrix:
    """Parse a matrix of version 5 to 7.

    Args:
        head: The beginning of its content, at least up to the numbers.
        order: Byte order, "<" or ">".
        read: Returns all of the content.
    """
    (flags,) = _unpack(f"{order}I", head, 8)
    if flags & 0xFF not in KINDS_5:  # MATLAB's newer objects, which have another order of elements
        return Matrix("", (), "an object", lambda: np.empty(0))
    _, start, size = _element(head, 16, order)  # after the flags, which have a fixed length
    shape = _unpack(f"{order}{min(size, HEAD_5) // 4}i", head, start)
    if not 2 <= len(shape) <= MOST_DIMENSIONS or min(shape) < 0:
        raise MatlabError(f"a matrix of shape {shape[: MOST_DIMENSIONS + 1]}")
    kind = _kind(KINDS_5[flags & 0xFF], shape, flags & COMPLEX_FLAG)
    _, start, size = _element(head, _after(start, size), order)
    offset, count = _after(start, size), math.prod(shape)
    return Matrix(_name(head[start : start + size]), shape, kind, lambda: _numbers_5(read(), offset, order, count))


def _numbers_5(content: memoryview, offset: int, order: str, count: int) -> np.ndarray:
    kind, start, size = _element(content, offset, order)
    if kind not in NUMBERS_5:
        raise MatlabError(f"content of type {kind}, expected numbers")
    numbers = np.dtype(order + NUMBERS_5[kind])
    if size != count * numbers.itemsize or start + size > len(content):
        available = min(size, len(content) - start)
        expected = f"{count * numbers.itemsize:,} for {count:,} numbers"
        raise MatlabError(f"{available:,} bytes of {numbers}, expected {expected}")
    return np.frombuffer(content, numbers, count, start)


def _matrices_73(content: bytes | bytearray | mmap.mmap) -> Iterator[Matrix]:
    import h5py  # few files need it, and its import takes a quarter of a second

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            names = [name for name in file if not name.startswith("#")]  # others are parts of cells and objects
            # Another link could lead to a file that somebody else must not read.
            names = [name for name in names if isinstance(file.get(name, getlink=True), h5py.HardLink)]
            matrices = [_matrix_73(file[name], name, content) for name in names[: MOST_MATRICES + 1]]
    except DAMAGED_73 as error:
        raise MatlabError(f"it is a damaged file of version 7.3 (HDF5): {error}") from error
    yield from matrices


def _matrix_73(item: "h5py.Dataset | h5py.Group", name: str, content: bytes | bytearray | mmap.mmap) -> Matrix:
    """Describe a dataset; its numbers are read when they are asked for."""
    kind = bytes(item.attrs.get("MATLAB_class", b"")).decode("latin-1")
    dtype, shape = getattr(item, "dtype", None), getattr(item, "shape", None) or ()
    if "MATLAB_sparse" in item.attrs:
        kind_of_content = SPARSE
    elif dtype is None:  # a group
        kind_of_content = KINDS_5[2]
    elif item.attrs.get("MATLAB_empty", 0):
        kind_of_content = EMPTY
    elif not kind and dtype.kind in "iuf":  # written by another program
        kind_of_content = NUMERIC
    else:
        kind_of_content = COMPLEX if dtype.names else KINDS_73.get(kind, "an object")
    # The dimensions of a dataset are in C's order, those of a matrix in Fortran's.
    matrix_shape = shape[::-1]
    return Matrix(_printable(name[:LONGEST_NAME]), matrix_shape, _kind(kind_of_content, matrix_shape, 0),
                  partial(_numbers_73, content, name))  # fmt: skip


def _numbers_73(content: bytes | bytearray | mmap.mmap, name: str) -> np.ndarray:
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            dataset = file[name]
            if dataset.external or dataset.is_virtual:
                raise MatlabError(f"the numbers of {_printable(name)} are in another file")
            shapes = (dataset.shape, dataset.chunks or ())
            size = max(math.prod(shape) for shape in shapes) * dataset.dtype.itemsize
            if size > MOST_BYTES:
                raise MatlabError(f"a matrix of {size:,} bytes, expected {MOST_BYTES:,} or fewer")
            return dataset[()].reshape(-1)
    except MatlabError:
        raise
    except DAMAGED_73 as error:
        raise MatlabError(f"{_printable(name)} is damaged: {error}") from error


def _name(data: memoryview) -> str:
    return _printable(bytes(data[:LONGEST_NAME]).partition(b"\0")[0].decode("latin-1"))


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)


def _kind(kind: str, shape: tuple[int, ...], is_complex: int) -> str:
    if kind == NUMERIC and 0 in shape:
        return EMPTY
    return COMPLEX if kind == NUMERIC and is_complex else kind


def _element(data: memoryview, offset: int, order: str) -> tuple[int, int, int]:
    """Return an element's type, and the offset and size of its content."""
    kind, size = _unpack(f"{order}2I", data, offset)
    return (kind & 0xFFFF, offset + 4, kind >> 16) if kind >> 16 else (kind, offset + 8, size)


def _after(start: int, size: int) -> int:
    """Return the offset of the element after some content, a multiple of eight."""
    return -(-(start + size) // 8) * 8


def _unpack(form: str, data: memoryview, offset: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, data, offset)
    except struct.error:
        raise MatlabError(f"it ends at byte {len(data):,}, within the head of a matrix") from None


def _decompress_matrix(packed: memoryview, size: int) -> memoryview:
    """Decompress a matrix of `size` bytes, without its type and size."""
    if size > MOST_BYTES:
        raise MatlabError(f"a matrix of {size:,} bytes, expected {MOST_BYTES:,} or fewer")
    return _decompress(packed, 8 + size + 1)[8 : 8 + size]  # one more byte makes zlib verify its checksum


def _decompress(packed: memoryview, most: int) -> memoryview:
    """Decompress at most `most` bytes, never with much more in memory."""
    decompressor, data = zlib.decompressobj(), bytearray()
    try:
        for start in range(0, len(packed), CHUNK):
            rest: memoryview | bytes = packed[start : start + CHUNK]
            chunk = b""
            while len(data) < most and not decompressor.eof and (rest or chunk):
                chunk = decompressor.decompress(rest, min(CHUNK, most - len(data)))
                data += chunk
                rest = decompressor.unconsumed_tail
    except zlib.error as error:
        raise MatlabError(f"a compressed matrix is damaged: {error}") from error
    return memoryview(data)
