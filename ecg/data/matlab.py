"""The matrices of a MATLAB file of version 4 to 7: what they are called, of what shape, and their numbers.

A file says itself how large its matrices are. Here it is believed only as far as it reaches, so that no file of a few
bytes, damaged or packed on purpose, takes more memory than there is. Format: MAT-File Format, The MathWorks 2023.
"""

import math
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

MOST_BYTES = 200 * 2**20  # of a file, or of a matrix in it: twelve leads of 16 bits for two hours at 1,000 Hz
MOST_MATRICES = 1000  # in one file
HDF5 = b"\x89HDF\r\n\x1a\n"
LONGEST_NAME = 63  # MATLAB's; what goes on is cut off
MOST_DIMENSIONS = 32
NUMERIC, TEXT, SPARSE, COMPLEX, EMPTY = "numbers", "text", "a sparse matrix", "complex numbers", "empty"

# Version 4: matrices one after the other, each of five integers, its name, and its numbers.
HEAD_4 = 20  # bytes of the integers
FIRST_4 = (*range(100), *range(1000, 1100))  # what the first of them can be: others are of VAX and Cray
NUMBERS_4 = ("f8", "f4", "i4", "i2", "u2", "u1")  # by its tens
KINDS_4 = (NUMERIC, TEXT, SPARSE)  # by its ones

# Versions 5 to 7: elements of a type, a size and content; that of a matrix is elements again.
START_5 = 128  # bytes before the first element
HEAD_5 = 4096  # decompressed bytes that are enough for all that comes before a matrix's numbers
PIECE = 2**20  # bytes that are decompressed at once
MATRIX, COMPRESSED = 14, 15
NUMBERS_5 = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
KINDS_5 = {1: "cells", 2: "a structure", 3: "an object", 4: TEXT, 5: SPARSE} | dict.fromkeys(range(6, 16), NUMERIC)
COMPLEX_FLAG = 0x800


class MatlabError(ValueError):
    """A MATLAB file that cannot be read; the message says what is wrong with it, and not which file it is."""


class Matrix(NamedTuple):
    """A matrix of a file: its name, its shape, what kind of content it has, and what reads that if it is NUMERIC."""

    name: str
    shape: tuple[int, ...]
    kind: str
    read: Callable[[], np.ndarray]

    def numbers(self):
        """Return the numbers as they are stored, in the matrix's shape; MatlabError where it holds none."""
        if self.kind != NUMERIC:
            raise MatlabError(f"{self.name} is {self.kind}, expected real numbers")
        return self.read().reshape(self.shape, order="F")


def iter_matrices(data):
    """Yield each Matrix of a MATLAB file's bytes, in their order; MatlabError once it comes to a damaged one."""
    data = memoryview(data)
    if not data:
        raise MatlabError("it is empty")
    if HDF5 in (data[: len(HDF5)], data[512 : 512 + len(HDF5)]):
        raise MatlabError("it is of MATLAB's version 7.3 (HDF5), expected 4 to 7, which save(..., '-v7') writes")
    found = _matrices_4(data) if b"\0" in bytes(data[:4]) else _matrices_5(data)
    for number, matrix in enumerate(found):
        if number == MOST_MATRICES:
            raise MatlabError(f"more than {MOST_MATRICES:,} matrices")
        yield matrix


def _matrices_4(data):
    order = "<" if int.from_bytes(data[:4], "little") < 5000 else ">"
    place = 0
    while place < len(data):
        kind, rows, columns, imaginary, length = _unpack(f"{order}5i", data, place)
        number, content = kind // 10 % 10, kind % 10
        known = kind in FIRST_4 and number < len(NUMBERS_4) and content < len(KINDS_4)
        if not known or min(rows, columns) < 0 or length < 1:
            raise MatlabError(f"no matrix of MATLAB's version 4 begins at byte {place}")
        start = place + HEAD_4 + length
        name = _name(data[place + HEAD_4 : start])
        numbers = np.dtype(order + NUMBERS_4[number])
        place = start + rows * columns * numbers.itemsize * (2 if imaginary else 1)
        if place > len(data):
            raise MatlabError(f"{name} {rows, columns} {numbers} ends at byte {place:,}, the file at {len(data):,}")
        kind = _kind(KINDS_4[content], (rows, columns), imaginary)
        yield Matrix(name, (rows, columns), kind, partial(np.frombuffer, data, numbers, rows * columns, start))


def _matrices_5(data):
    if bytes(data[126:128]) not in (b"IM", b"MI"):
        raise MatlabError("it does not begin as a MATLAB file does")
    order = "<" if data[126:128] == b"IM" else ">"
    place = START_5
    while place < len(data):
        kind, start, size = _element(data, place, order)
        if start + size > len(data):
            raise MatlabError(f"a matrix ends at byte {start + size:,}, the file at {len(data):,}")
        head = content = data[start : start + size]
        read = partial(memoryview, content)
        if kind == COMPRESSED:
            head = _decompressed(content, HEAD_5)
            kind, whole = _unpack(f"{order}2I", head, 0)
            head, read = head[8:], partial(_whole, content, whole)
        if kind != MATRIX:
            raise MatlabError(f"content of type {kind} at byte {place}, expected a matrix")
        yield _matrix_5(head, order, read)
        place = start + size


def _matrix_5(head, order, read):
    """Return the Matrix whose content begins with `head`, up to its numbers at least; `read()` returns it whole."""
    (flags,) = _unpack(f"{order}I", head, 8)
    if flags & 0xFF not in KINDS_5:  # MATLAB's newer objects, whose content is in an order of its own
        return Matrix("", (), "an object", bytes)
    _, start, size = _element(head, 16, order)  # after the flags, which are always so long
    shape = _unpack(f"{order}{min(size, HEAD_5) // 4}i", head, start)
    if not 2 <= len(shape) <= MOST_DIMENSIONS or min(shape) < 0:
        raise MatlabError(f"a matrix of shape {shape[: MOST_DIMENSIONS + 1]}")
    kind = _kind(KINDS_5[flags & 0xFF], shape, flags & COMPLEX_FLAG)
    _, start, size = _element(head, _after(start, size), order)
    place, count = _after(start, size), math.prod(shape)
    return Matrix(_name(head[start : start + size]), shape, kind, lambda: _numbers_5(read(), place, order, count))


def _numbers_5(content, place, order, count):
    kind, start, size = _element(content, place, order)
    if kind not in NUMBERS_5:
        raise MatlabError(f"content of type {kind}, expected numbers")
    numbers = np.dtype(order + NUMBERS_5[kind])
    if size != count * numbers.itemsize or start + size > len(content):
        found = min(size, len(content) - start)
        raise MatlabError(f"{found:,} bytes of {numbers}, expected {count * numbers.itemsize:,} for {count:,} numbers")
    return np.frombuffer(content, numbers, count, start)


def _name(data):
    name = bytes(data[:LONGEST_NAME]).partition(b"\0")[0].decode("latin-1")
    return name if name.isprintable() else ascii(name)


def _kind(kind, shape, is_complex):
    if kind == NUMERIC and 0 in shape:
        return EMPTY
    return COMPLEX if kind == NUMERIC and is_complex else kind


def _element(data, place, order):
    """Return the type of the element at a place, and where its content begins and how many bytes it has."""
    kind, size = _unpack(f"{order}2I", data, place)
    return (kind & 0xFFFF, place + 4, kind >> 16) if kind >> 16 else (kind, place + 8, size)


def _after(start, size):
    """Return where the element after one whose content begins there begins: at a multiple of eight bytes."""
    return -(-(start + size) // 8) * 8


def _unpack(form, data, place):
    try:
        return struct.unpack_from(form, data, place)
    except struct.error:
        raise MatlabError(f"it ends at byte {len(data):,}, within the head of a matrix") from None


def _whole(packed, size):
    """Return a compressed matrix of so many bytes, which are without its own type and size."""
    if size > MOST_BYTES:
        raise MatlabError(f"a matrix of {size:,} bytes, expected {MOST_BYTES:,} or fewer")
    return _decompressed(packed, 8 + size + 1)[8 : 8 + size]  # one byte more makes zlib check what it has read


def _decompressed(packed, most):
    """Return at most so many bytes of what was compressed: in memory there is never much more than is returned."""
    decompressor, data = zlib.decompressobj(), bytearray()
    try:
        for start in range(0, len(packed), PIECE):
            rest, piece = packed[start : start + PIECE], None
            while len(data) < most and not decompressor.eof and (rest or piece):
                piece = decompressor.decompress(rest, min(PIECE, most - len(data)))
                data += piece
                rest = decompressor.unconsumed_tail
    except zlib.error as error:
        raise MatlabError(f"a compressed matrix is damaged: {error}") from error
    return memoryview(data)
