import math

import numpy as np
import pytest

from ecg.data.preprocessing import N_DEMOGRAPHICS, encode_demographics


@pytest.mark.parametrize(
    ("age", "sex", "expected"),
    [
        (50.0, "Female", [0.5, 1, 0, 0, 0]),
        (0.0, "Male", [0, 0, 1, 0, 0]),
        (math.nan, "Male", [0, 0, 1, 1, 0]),
        (109.0, "Unknown", [1, 0, 0, 0, 1]),
        (math.nan, "Unknown", [0, 0, 0, 1, 1]),
    ],
)
def test_demographics_are_five_numbers_with_flags_for_unknown(age, sex, expected):
    got = encode_demographics(age, sex)
    assert got.shape == (N_DEMOGRAPHICS,) and got.dtype == np.float32
    np.testing.assert_array_equal(got, np.array(expected, np.float32))
