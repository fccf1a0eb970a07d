import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg.data.matlab import EMPTY, MOST_BYTES, MOST_MATRICES, NUMERIC, MatlabError, iter_matrices

TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
NUMBERS = np.random.default_rng(0).integers(-(2**15), 2**15, (3, 50)).astype(np.int16)
CONTENT = NUMBERS.tobytes(order="F")


def saved(version="5", packed=False, **matrices):
    """The bytes of a MATLAB file that scipy writes."""
    file = io.BytesIO()
    scipy.io.savemat(file, matrices, format=version, do_compression=packed)
    return file.getvalue()


def element(kind, content, order="<"):
    return struct.pack(f"{order}2I", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix_5(name=b"val", shape=(3, 50), flags=10, number=3, content=CONTENT, order="<"):
    """A matrix of version 5, of int16 by default, which may say what is not so."""
    head = element(6, struct.pack(f"{order}2I", flags, 0), order)
    head += element(5, struct.pack(f"{order}{len(shape)}i", *shape), order) + element(1, name, order)
    return element(14, head + element(number, content, order), order)


def file_5(*elements, order="<"):
    return (
        b"MATLAB 5.0".ljust(124)
        + struct.pack(f"{order}H", 0x100)
        + (b"IM" if order == "<" else b"MI")
        + b"".join(elements)
    )


def packed(content):
    return struct.pack("<2I", 15, len(content := zlib.compress(content))) + content


def found_in(data):
    return {matrix.name: matrix for matrix in iter_matrices(bytearray(data))}


def peak_of(function):
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("type", TYPES)
def test_numbers_of_version_5_come_back_as_they_were_written(type, packed):
    written = {"val": NUMBERS.astype(type), "other": NUMBERS[:1, :7].astype(type), "cube": np.ones((2, 3, 4), type)}
    found = found_in(saved(packed=packed, **written))
    assert list(found) == list(written)
    for name, values in written.items():
        numbers = found[name].numbers()
        assert numbers.dtype == values.dtype and found[name].shape == values.shape
        assert np.array_equal(numbers, values)
        numbers[:] = 0  # is one's own


@pytest.mark.parametrize("type", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_numbers_of_version_4_come_back_as_they_were_written(type):
    values = NUMBERS.astype(type)
    found = found_in(saved("4", first=values[:2], val=values))
    assert list(found) == ["first", "val"] and found["val"].numbers().dtype == values.dtype
    assert np.array_equal(found["val"].numbers(), values) and np.array_equal(found["first"].numbers(), values[:2])


def test_numbers_of_the_other_byte_order_are_the_same():
    head = struct.pack(">5i", 1030, 3, 50, 0, 4) + b"val\0"
    four = head + NUMBERS.astype(">i2").tobytes(order="F")
    five = file_5(matrix_5(content=NUMBERS.astype(">i2").tobytes(order="F"), order=">"), order=">")
    for data in (four, five):
        assert np.array_equal(found_in(data)["val"].numbers(), NUMBERS)
        assert np.array_equal(scipy.io.loadmat(io.BytesIO(data))["val"], NUMBERS)


def test_files_that_matlab_wrote_read_as_scipy_reads_them():
    folder = Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"
    files = [file for file in sorted(folder.glob("*.mat")) if file.name.startswith(("test", "one", "small", "big"))]
    if not files:
        pytest.skip("scipy has come without its tests")
    compared = 0
    for file in files:
        if "hdf5" in file.name:
            continue
        expected = scipy.io.loadmat(file)
        for name, matrix in found_in(file.read_bytes()).items():
            if matrix.kind == NUMERIC and name in expected:
                assert matrix.numbers().dtype == expected[name].dtype
                np.testing.assert_array_equal(matrix.numbers(), expected[name])
                compared += 1
    assert compared > 20


def test_a_file_that_goes_on_in_ruins_is_read_as_far_as_it_is_whole():
    for data in (saved("4", val=NUMBERS) + b"ruins", saved(val=NUMBERS) + b"\x0e\0\0\0\xff\xff\xff\xff"):
        assert np.array_equal(next(iter_matrices(data)).numbers(), NUMBERS)
        with pytest.raises(MatlabError):
            found_in(data)


def test_other_content_than_real_numbers_is_reported():
    table = np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")])
    written = {"complex": NUMBERS * 1j, "chars": "text", "cell": np.array([1, "a"], object), "table": table,
               "nothing": np.zeros((3, 0)), "sparse": scipy.sparse.eye_array(3).tocsc()}  # fmt: skip
    kinds = {"complex": "complex numbers", "chars": "text", "cell": "cells", "table": "a structure", "nothing": EMPTY,
             "sparse": "a sparse matrix"}  # fmt: skip
    for packed in (False, True):
        found = found_in(saved(packed=packed, **written))
        assert {name: matrix.kind for name, matrix in found.items()} == kinds
    for name, kind in kinds.items():
        with pytest.raises(MatlabError, match=f"{name} is {kind}, expected real numbers"):
            found[name].numbers()
    four = found_in(saved("4", **{name: written[name] for name in ("complex", "chars", "nothing", "sparse")}))
    assert all(matrix.kind == kinds[name] for name, matrix in four.items()) and len(four) == 4


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "it is empty"),
        (bytes(1000), "no matrix of MATLAB's version 4 begins at byte 0"),
        (b"text" * 100, "it does not begin as a MATLAB file does"),
        (b"MATLAB 7.3".ljust(512) + b"\x89HDF\r\n\x1a\n", r"version 7\.3 \(HDF5\), expected 4 to 7"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), r"version 7\.3 \(HDF5\)"),
        (saved("4", val=NUMBERS)[:19], "it ends at byte 19, within the head of a matrix"),
        (saved("4", val=NUMBERS)[:-1], r"val \(3, 50\) int16 ends at byte 324, the file at 323"),
        (struct.pack("<5i", 30, -3, 50, 0, 4) + b"val\0", "no matrix of MATLAB's version 4 begins"),
        (struct.pack("<5i", 2030, 3, 50, 0, 4) + b"val\0", "no matrix of MATLAB's version 4 begins"),
        (struct.pack("<5i", 30, 3, 50, 0, 2**31 - 1) + b"val\0", "ends at byte"),
        (saved(val=NUMBERS)[:140], "a matrix ends at byte 488, the file at 140"),
        (saved(val=NUMBERS)[:130], "it ends at byte 130, within the head"),
        (file_5(element(6, bytes(8))), "content of type 6 at byte 128, expected a matrix"),
        (file_5(packed(element(6, bytes(80)))), "content of type 6 at byte 128, expected a matrix"),
        (file_5(matrix_5(shape=(-3, -50))), r"a matrix of shape \(-3, -50\)"),
        (file_5(matrix_5(shape=(3,))), r"a matrix of shape \(3,\)"),
        (file_5(matrix_5(shape=(1,) * 70)), "a matrix of shape"),
        (file_5(matrix_5(shape=(3, 51))), "300 bytes of int16, expected 306 for 153 numbers"),
        (file_5(matrix_5(shape=(2**31 - 1,) * 2)), "300 bytes of int16, expected 9,22"),
        (file_5(matrix_5(number=77)), "content of type 77, expected numbers"),
        (file_5(packed(matrix_5())[:8] + b"not compressed".ljust(200)), "a matrix ends at byte"),
        (file_5(element(15, b"not compressed")), "a compressed matrix is damaged"),
        (file_5(element(15, zlib.compress(matrix_5())[:-20])), "bytes of int16, expected 300"),
        (file_5(packed(struct.pack("<2I", 14, 2**32 - 1) + matrix_5()[8:])), "4,294,967,295 bytes, expected 209,"),
        (b"".join(struct.pack("<5i", 50, 1, 1, 0, 1) + b"\0\7" for _ in range(MOST_MATRICES + 1)), "more than 1,000"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_reported(data, reason):
    with pytest.raises(MatlabError, match=reason):
        for matrix in iter_matrices(data):
            matrix.numbers()


def test_damage_that_checksums_show_is_reported():
    whole = bytearray(file_5(packed(matrix_5(content=bytes(300)))))
    whole[-1] ^= 1
    with pytest.raises(MatlabError, match="a compressed matrix is damaged"):
        found_in(whole)["val"].numbers()


def test_names_are_short_and_can_be_printed():
    found = found_in(file_5(matrix_5(name=b"\x1b[2J"), matrix_5(name=b"n" * 99)))
    assert list(found) == ["'\\x1b[2J'", "n" * 63]


def test_objects_of_newer_versions_are_passed_over():
    newer = element(14, element(6, struct.pack("<2I", 17, 0)) + element(1, b"name") + element(1, b"MCOS"))
    found = found_in(file_5(newer, matrix_5()))
    assert found[""].kind == "an object" and np.array_equal(found["val"].numbers(), NUMBERS)


def test_a_file_that_claims_what_it_does_not_hold_takes_no_memory():
    many = 10**9
    for data in (
        struct.pack("<5i", 30, 1, many, 0, 4) + b"val\0" + bytes(72),
        file_5(matrix_5(shape=(1, many))),
        file_5(packed(matrix_5(shape=(1, many)))),
        file_5(packed(struct.pack("<2I", 14, MOST_BYTES) + matrix_5(shape=(1, many))[8:])),
    ):

        def read(data=data):
            with pytest.raises(MatlabError):
                next(iter_matrices(data)).numbers()

        assert peak_of(read) < 2**20


def test_what_was_packed_to_a_thousandth_takes_its_own_size_and_no_more():
    zeros = 30 * 2**20
    bomb = file_5(packed(matrix_5(shape=(3, 10), content=bytes(zeros))))
    assert len(bomb) < zeros / 500

    def read(bomb=bomb):
        matrix = next(iter_matrices(bomb))
        assert matrix.shape == (3, 10)
        with pytest.raises(MatlabError, match="31,457,280 bytes of int16, expected 60"):
            matrix.numbers()

    assert peak_of(lambda: next(iter_matrices(bomb))) < 2**20
    assert peak_of(read) < 1.5 * zeros
    honest = file_5(packed(matrix_5(shape=(12, zeros // 24), content=bytes(zeros))))
    assert peak_of(lambda: next(iter_matrices(honest)).numbers()) < 1.5 * zeros


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    data=st.sampled_from([saved("4", val=NUMBERS), saved(val=NUMBERS, b="text"), saved(packed=True, val=NUMBERS)]),
    damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    end=st.integers(0, 500),
)
def test_whatever_the_damage_there_are_numbers_or_the_one_error(data, damage, end):
    data = bytearray(data[:end] if end < 450 else data)
    for place, byte in damage:
        data[place % len(data) if data else 0 : place % len(data) + 1 if data else 0] = [byte]
    try:
        for matrix in iter_matrices(data):
            assert matrix.kind != NUMERIC or matrix.numbers().shape == matrix.shape
    except MatlabError:
        pass
