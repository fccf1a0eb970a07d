import numpy as np
import pytest

from ecg.data.labels import CLASS_INDEX, class_indices
from ecg.models.decision import Rule

EVERY = np.arange(26)


def test_what_is_predicted_follows_from_probabilities_and_thresholds():
    rng = np.random.default_rng(0)
    probabilities, thresholds = rng.random((50, 26)), rng.uniform(0.8, 1, 26)
    plain = Rule(thresholds).decide(probabilities, EVERY)
    np.testing.assert_array_equal(plain, probabilities >= thresholds)
    empty = ~plain.any(axis=1)
    assert 0 < empty.sum() < 50
    rule = Rule(thresholds, fallback="NSR")
    declared = rule.decide(probabilities, EVERY)
    np.testing.assert_array_equal(declared[~empty], plain[~empty])
    assert all(list(np.flatnonzero(row)) == [CLASS_INDEX["NSR"]] for row in declared[empty])
    np.testing.assert_array_equal(declared, [rule.decide(row, EVERY) for row in probabilities])


def test_classes_that_are_not_known_are_not_predicted():
    columns = class_indices(["AF", "TAb"])
    answers = Rule(np.full(26, 0.5)).decide(np.array([[0.9, 0.1], [0.2, 0.5]]), columns)
    assert answers.shape == (2, 26)
    np.testing.assert_array_equal(np.argwhere(answers), [[0, CLASS_INDEX["AF"]], [1, CLASS_INDEX["TAb"]]])


@pytest.mark.parametrize("empty", [None, "NSR"])
def test_what_implies_another_is_predicted_with_it(empty):
    columns = class_indices(["TInv", "TAb", "NSR"])
    rule = Rule(np.full(26, 0.5), pairs=(("TInv", "TAb"),), fallback=empty)
    answers = rule.decide(np.array([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.1], [0.6, 0.1, 0.6]]), columns)
    expected = [{"TInv", "TAb"}, {"TAb"}, {empty} - {None}, {"TInv", "TAb", "NSR"}]
    assert [{name for name in ("TInv", "TAb", "NSR") if row[CLASS_INDEX[name]]} for row in answers] == expected
    assert answers.sum() == sum(map(len, expected))


def test_of_exclusive_classes_the_most_probable_is_predicted_if_it_is_scored():
    columns = class_indices(["NSR", "STD", "AF", "STE"])
    probabilities = np.array([[0.3, 0.2, 0.4, 0.1], [0.3, 0.4, 0.2, 0.1], [0.9, 0.0, 0.1, 0.0]], np.float32)
    answers = Rule(np.full(26, 0.99), exclusive=True).decide(probabilities, columns)
    np.testing.assert_array_equal(np.argwhere(answers), [[0, CLASS_INDEX["AF"]], [2, CLASS_INDEX["NSR"]]])
    declared = Rule(np.full(26, 0.99), exclusive=True, fallback="NSR").decide(probabilities, columns)
    np.testing.assert_array_equal(
        np.argwhere(declared), [[0, CLASS_INDEX["AF"]], [1, CLASS_INDEX["NSR"]], [2, CLASS_INDEX["NSR"]]]
    )
