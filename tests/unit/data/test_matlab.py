import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg.data.matlab import EMPTY, MOST_BYTES, MOST_MATRICES, NUMERIC, MatlabError, iter_matrices

TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
NUMBERS = np.random.default_rng(0).integers(-(2**15), 2**15, (3, 50)).astype(np.int16)
CONTENT = NUMBERS.tobytes(order="F")


def save_matlab(version="5", compressed=False, **matrices):
    """The bytes of a MATLAB file that scipy writes."""
    file = io.BytesIO()
    scipy.io.savemat(file, matrices, format=version, do_compression=compressed)
    return file.getvalue()


def element(kind, content, order="<"):
    return struct.pack(f"{order}2I", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix_5(name=b"val", shape=(3, 50), flags=10, number=3, content=CONTENT, order="<"):
    """A matrix of version 5, of int16 by default; its head may be wrong."""
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


def compress(content):
    return struct.pack("<2I", 15, len(content := zlib.compress(content))) + content


def read_matrices(data):
    return {matrix.name: matrix for matrix in iter_matrices(bytearray(data))}


def peak_memory(function):
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("type", TYPES)
def test_numbers_of_version_5_come_back_as_they_were_written(type, compressed):
    written = {"val": NUMBERS.astype(type), "other": NUMBERS[:1, :7].astype(type), "cube": np.ones((2, 3, 4), type)}
    matrices = read_matrices(save_matlab(compressed=compressed, **written))
    assert list(matrices) == list(written)
    for name, values in written.items():
        numbers = matrices[name].numbers()
        assert numbers.dtype == values.dtype and matrices[name].shape == values.shape
        assert np.array_equal(numbers, values)
        numbers[:] = 0  # a copy


@pytest.mark.parametrize("type", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_numbers_of_version_4_come_back_as_they_were_written(type):
    values = NUMBERS.astype(type)
    matrices = read_matrices(save_matlab("4", first=values[:2], val=values))
    assert list(matrices) == ["first", "val"] and matrices["val"].numbers().dtype == values.dtype
    assert np.array_equal(matrices["val"].numbers(), values) and np.array_equal(matrices["first"].numbers(), values[:2])


def test_numbers_of_the_other_byte_order_are_the_same():
    head = struct.pack(">5i", 1030, 3, 50, 0, 4) + b"val\0"
    version_4 = head + NUMBERS.astype(">i2").tobytes(order="F")
    version_5 = file_5(matrix_5(content=NUMBERS.astype(">i2").tobytes(order="F"), order=">"), order=">")
    for data in (version_4, version_5):
        assert np.array_equal(read_matrices(data)["val"].numbers(), NUMBERS)
        assert np.array_equal(scipy.io.loadmat(io.BytesIO(data))["val"], NUMBERS)


def test_files_that_matlab_wrote_read_as_scipy_reads_them():
    folder = Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"
    files = [file for file in sorted(folder.glob("*.mat")) if file.name.startswith(("test", "one", "small", "big"))]
    if not files:
        pytest.skip("scipy is installed without its tests")
    compared = 0
    for file in files:
        if "hdf5" in file.name:
            continue
        expected = scipy.io.loadmat(file)
        for name, matrix in read_matrices(file.read_bytes()).items():
            if matrix.kind == NUMERIC and name in expected:
                assert matrix.numbers().dtype == expected[name].dtype
                np.testing.assert_array_equal(matrix.numbers(), expected[name])
                compared += 1
    assert compared > 20


def test_a_file_with_a_damaged_end_is_read_up_to_it():
    for data in (save_matlab("4", val=NUMBERS) + b"ruins", save_matlab(val=NUMBERS) + b"\x0e\0\0\0\xff\xff\xff\xff"):
        assert np.array_equal(next(iter_matrices(data)).numbers(), NUMBERS)
        with pytest.raises(MatlabError):
            read_matrices(data)


def test_other_content_than_real_numbers_is_reported():
    table = np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")])
    written = {"complex": NUMBERS * 1j, "chars": "text", "cell": np.array([1, "a"], object), "table": table,
               "nothing": np.zeros((3, 0)), "sparse": scipy.sparse.eye_array(3).tocsc()}  # fmt: skip
    expected = {"complex": "complex numbers", "chars": "text", "cell": "cells", "table": "a structure",
                "nothing": EMPTY, "sparse": "a sparse matrix"}  # fmt: skip
    for compressed in (False, True):
        matrices = read_matrices(save_matlab(compressed=compressed, **written))
        assert {name: matrix.kind for name, matrix in matrices.items()} == expected
    for name, kind in expected.items():
        with pytest.raises(MatlabError, match=f"{name} is {kind}, expected real numbers"):
            matrices[name].numbers()
    matrices_4 = read_matrices(
        save_matlab("4", **{name: written[name] for name in ("complex", "chars", "nothing", "sparse")})
    )
    assert all(matrix.kind == expected[name] for name, matrix in matrices_4.items()) and len(matrices_4) == 4


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "it is empty"),
        (bytes(1000), "no matrix of MATLAB's version 4 begins at byte 0"),
        (b"text" * 100, "it does not begin as a MATLAB file does"),
        (b"MATLAB 7.3".ljust(512) + b"\x89HDF\r\n\x1a\n", r"a damaged file of version 7\.3 \(HDF5\)"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), r"a damaged file of version 7\.3 \(HDF5\)"),
        (save_matlab("4", val=NUMBERS)[:19], "it ends at byte 19, within the head of a matrix"),
        (save_matlab("4", val=NUMBERS)[:-1], r"val \(3, 50\) int16 ends at byte 324, the file at 323"),
        (struct.pack("<5i", 30, -3, 50, 0, 4) + b"val\0", "no matrix of MATLAB's version 4 begins"),
        (struct.pack("<5i", 2030, 3, 50, 0, 4) + b"val\0", "no matrix of MATLAB's version 4 begins"),
        (struct.pack("<5i", 30, 3, 50, 0, 2**31 - 1) + b"val\0", "ends at byte"),
        (save_matlab(val=NUMBERS)[:140], "a matrix ends at byte 488, the file at 140"),
        (save_matlab(val=NUMBERS)[:130], "it ends at byte 130, within the head"),
        (file_5(element(6, bytes(8))), "content of type 6 at byte 128, expected a matrix"),
        (file_5(compress(element(6, bytes(80)))), "content of type 6 at byte 128, expected a matrix"),
        (file_5(matrix_5(shape=(-3, -50))), r"a matrix of shape \(-3, -50\)"),
        (file_5(matrix_5(shape=(3,))), r"a matrix of shape \(3,\)"),
        (file_5(matrix_5(shape=(1,) * 70)), "a matrix of shape"),
        (file_5(matrix_5(shape=(3, 51))), "300 bytes of int16, expected 306 for 153 numbers"),
        (file_5(matrix_5(shape=(2**31 - 1,) * 2)), "300 bytes of int16, expected 9,22"),
        (file_5(matrix_5(number=77)), "content of type 77, expected numbers"),
        (file_5(compress(matrix_5())[:8] + b"not compressed".ljust(200)), "a matrix ends at byte"),
        (file_5(element(15, b"not compressed")), "a compressed matrix is damaged"),
        (file_5(element(15, zlib.compress(matrix_5())[:-20])), "bytes of int16, expected 300"),
        (file_5(compress(struct.pack("<2I", 14, 2**32 - 1) + matrix_5()[8:])), "4,294,967,295 bytes, expected 209,"),
        (b"".join(struct.pack("<5i", 50, 1, 1, 0, 1) + b"\0\7" for _ in range(MOST_MATRICES + 1)), "more than 1,000"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_reported(data, reason):
    with pytest.raises(MatlabError, match=reason):
        for matrix in iter_matrices(data):
            matrix.numbers()


def test_damage_that_checksums_show_is_reported():
    content = bytearray(file_5(compress(matrix_5(content=bytes(300)))))
    content[-1] ^= 1
    with pytest.raises(MatlabError, match="a compressed matrix is damaged"):
        read_matrices(content)["val"].numbers()


def test_names_are_short_and_can_be_printed():
    matrices = read_matrices(file_5(matrix_5(name=b"\x1b[2J"), matrix_5(name=b"n" * 99)))
    assert list(matrices) == ["'\\x1b[2J'", "n" * 63]


def test_objects_of_newer_versions_are_skipped():
    newer = element(14, element(6, struct.pack("<2I", 17, 0)) + element(1, b"name") + element(1, b"MCOS"))
    matrices = read_matrices(file_5(newer, matrix_5()))
    assert matrices[""].kind == "an object" and np.array_equal(matrices["val"].numbers(), NUMBERS)


def test_a_file_that_claims_what_it_does_not_hold_takes_no_memory():
    count = 10**9
    for data in (
        struct.pack("<5i", 30, 1, count, 0, 4) + b"val\0" + bytes(72),
        file_5(matrix_5(shape=(1, count))),
        file_5(compress(matrix_5(shape=(1, count)))),
        file_5(compress(struct.pack("<2I", 14, MOST_BYTES) + matrix_5(shape=(1, count))[8:])),
    ):

        def read(data=data):
            with pytest.raises(MatlabError):
                next(iter_matrices(data)).numbers()

        assert peak_memory(read) < 2**20


def test_an_extremely_compressed_file_takes_no_more_than_its_matrix():
    zeros = 30 * 2**20
    bomb = file_5(compress(matrix_5(shape=(3, 10), content=bytes(zeros))))
    assert len(bomb) < zeros / 500

    def read(bomb=bomb):
        matrix = next(iter_matrices(bomb))
        assert matrix.shape == (3, 10)
        with pytest.raises(MatlabError, match="31,457,280 bytes of int16, expected 60"):
            matrix.numbers()

    assert peak_memory(lambda: next(iter_matrices(bomb))) < 2**20
    assert peak_memory(read) < 1.5 * zeros
    honest = file_5(compress(matrix_5(shape=(12, zeros // 24), content=bytes(zeros))))
    assert peak_memory(lambda: next(iter_matrices(honest)).numbers()) < 1.5 * zeros


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    data=st.sampled_from(
        [save_matlab("4", val=NUMBERS), save_matlab(val=NUMBERS, b="text"), save_matlab(compressed=True, val=NUMBERS)]
    ),
    damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    end=st.integers(0, 500),
)
def test_any_damage_gives_numbers_or_a_matlab_error(data, damage, end):
    data = bytearray(data[:end] if end < 450 else data)
    for index, byte in damage:
        data[index % len(data) if data else 0 : index % len(data) + 1 if data else 0] = [byte]
    try:
        for matrix in iter_matrices(data):
            assert matrix.kind != NUMERIC or matrix.numbers().shape == matrix.shape
    except MatlabError:
        pass


def file_73(write):
    """A file of version 7.3, as MATLAB writes it: 512 bytes of text, then HDF5 that a function fills."""
    file = io.BytesIO()
    with h5py.File(file, "w", userblock_size=512) as content:
        write(content)
    text = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"
    return text.ljust(512, b"\0") + file.getvalue()[512:]


def add_73(content, name, numbers, kind=None, **settings):
    """Add a matrix, with its dimensions in C's order."""
    dataset = content.create_dataset(name, data=np.asarray(numbers).T, **settings)
    dataset.attrs["MATLAB_class"] = np.bytes_(kind or {"float64": "double", "float32": "single"}.get(
        str(dataset.dtype), str(dataset.dtype)))  # fmt: skip
    return dataset


@pytest.mark.parametrize("settings", [{}, {"compression": "gzip", "chunks": True, "shuffle": True}])
@pytest.mark.parametrize("kind", TYPES)
def test_matrices_of_version_7_3_are_read(kind, settings):
    numbers = (NUMBERS % 100).astype(kind)
    matrices = read_matrices(file_73(lambda content: add_73(content, "val", numbers, **settings)))
    read = matrices["val"].numbers()
    assert (matrices["val"].shape, matrices["val"].kind, read.dtype) == (numbers.shape, NUMERIC, numbers.dtype)
    np.testing.assert_array_equal(read, numbers)


def test_what_is_not_numbers_in_a_file_of_version_7_3_is_named():
    def write(content):
        add_73(content, "chars", np.full((1, 3), 65, np.uint16), "char")
        add_73(content, "cells", np.zeros((1, 2), np.uint64), "cell")
        add_73(content, "complex", np.zeros((2, 2), [("real", "f8"), ("imag", "f8")]), "double")
        add_73(content, "nothing", np.array([0, 0], np.uint64), "double").attrs["MATLAB_empty"] = np.uint8(1)
        content.create_group("struct").attrs["MATLAB_class"] = np.bytes_("struct")
        content.create_group("sparse").attrs["MATLAB_sparse"] = np.uint64(3)
        content.create_group("#refs#")
        content["link"] = h5py.SoftLink("/chars")
        content["outside"] = h5py.ExternalLink("/etc/passwd", "/x")
        add_73(content, "flags", np.ones((1, 2), np.uint8), "logical")
        content.create_dataset("other_program", data=np.ones((3, 2)))

    matrices = read_matrices(file_73(write))
    assert {name: matrix.kind for name, matrix in matrices.items()} == {
        "chars": "text", "cells": "cells", "complex": "complex numbers", "nothing": EMPTY, "struct": "a structure",
        "sparse": "a sparse matrix", "flags": NUMERIC, "other_program": NUMERIC,
    }  # fmt: skip
    assert matrices["other_program"].numbers().shape == (2, 3)
    with pytest.raises(MatlabError, match="struct is a structure, expected real numbers"):
        matrices["struct"].numbers()


def test_numbers_in_another_file_are_not_read(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(100)))
    source = h5py.VirtualSource("elsewhere.h5", "x", (3, 2))
    layout = h5py.VirtualLayout((3, 2), "f8")
    layout[:] = source

    def write(content):
        content.create_dataset("external", (10,), "u1", external=[(str(secret), 0, 100)])
        content.create_virtual_dataset("virtual", layout)

    for name, matrix in read_matrices(file_73(write)).items():
        with pytest.raises(MatlabError, match=f"the numbers of {name} are in another file"):
            matrix.numbers()


@pytest.mark.parametrize("chunks", [None, (2**14, 2**14)])
def test_a_small_file_of_version_7_3_cannot_exhaust_the_memory(chunks):
    shape = (2**16, 2**16) if chunks is None else (4, 4)

    def write(content):
        if chunks is None:
            content.create_dataset("val", shape, "f8", chunks=(16, 16), compression="gzip")  # never written
        else:
            content.create_dataset("val", (4, 4), "f8", maxshape=(None, None), chunks=chunks, compression="gzip")

    (matrix,) = read_matrices(file_73(write)).values()
    assert matrix.shape == shape

    def read():
        with pytest.raises(MatlabError, match="a matrix of [0-9,]+ bytes, expected 209,715,200 or fewer"):
            matrix.numbers()

    assert peak_memory(read) < 2**20


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_damaged_file_of_version_7_3_is_read_or_reported(data):
    content = bytearray(INTACT_73)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(512, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(520, len(content))) :]
    try:
        for matrix in iter_matrices(content):
            matrix.numbers()
    except MatlabError:
        pass


INTACT_73 = file_73(lambda content: add_73(content, "val", NUMBERS, compression="gzip"))
