from dataclasses import dataclass

import numpy as np
import pytest

from ecg.runtime.shared_arrays import SMALLEST, SharedArrays, unpack_value


@dataclass(frozen=True)
class Values:
    name: str
    arrays: tuple
    nested: dict


ARRAYS = [
    np.arange(30_000),
    np.linspace(0, 1, 20_000, dtype=np.float32).reshape(100, 200),
    np.asfortranarray(np.arange(20_000.0).reshape(100, 200)),
    np.arange(40_000)[::2],
    np.array(["Georgia", "Ningbo", "CPSC"] * 5000),
    np.tile([True, False], 50_000),
    np.zeros((0, 26)),
    np.array(2.5),
]


def equal(first, second):
    return first.dtype == second.dtype and first.shape == second.shape and (first == second).all()


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_an_array_is_the_same_after_packing(array, tmp_path):
    packed = SharedArrays(tmp_path / "arrays").pack(array)
    assert equal(unpack_value(packed), array) and type(unpack_value(packed)) is np.ndarray
    assert len(list(tmp_path.glob("arrays/*"))) == (array.nbytes >= SMALLEST)


def test_a_value_keeps_its_structure_and_is_small(tmp_path):
    value = Values("a value", tuple(ARRAYS), {"first": ARRAYS[0], "objects": np.array([None, "a"], object)})
    packed = SharedArrays(tmp_path).pack(value)
    unpacked = unpack_value(packed)
    assert len(packed) < 2000
    assert unpacked.name == value.name and unpacked.nested["objects"].tolist() == [None, "a"]
    assert all(equal(*pair) for pair in zip(unpacked.arrays, value.arrays, strict=True))
    assert equal(unpacked.nested["first"], ARRAYS[0])


def test_an_array_of_several_values_is_written_once(tmp_path):
    arrays = SharedArrays(tmp_path)
    for value in (ARRAYS[0], {"same": ARRAYS[0]}, ARRAYS[0].copy()):
        arrays.pack(value)
    (path,) = tmp_path.iterdir()
    before = path.stat().st_mtime_ns
    SharedArrays(tmp_path).pack(ARRAYS[0])
    assert path.stat().st_mtime_ns == before


def test_arrays_that_differ_in_their_type_or_shape_alone_are_told_apart(tmp_path):
    arrays = [np.arange(20_000), np.arange(20_000).view(np.uint64), np.arange(20_000).reshape(2, -1)]
    unpacked = unpack_value(SharedArrays(tmp_path).pack(arrays))
    assert len(list(tmp_path.iterdir())) == 3 and all(equal(*pair) for pair in zip(unpacked, arrays, strict=True))


def test_large_arrays_are_mapped_and_cannot_be_changed(tmp_path):
    array = unpack_value(SharedArrays(tmp_path).pack(ARRAYS[0]))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_a_missing_file_is_named(tmp_path):
    packed = SharedArrays(tmp_path).pack(ARRAYS[0])
    (path,) = tmp_path.iterdir()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        unpack_value(packed)
