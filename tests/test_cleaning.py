import numpy as np

from ecg.cleaning import label_masks


def test_masks_are_where_the_network_is_sure_of_the_opposite():
    targets = np.array([[0, 0, 0, 1, 1, 1]], np.float32)
    probabilities = np.array([[0.95, 0.9, 0.2, 0.05, 0.1, 0.99]])
    np.testing.assert_array_equal(label_masks(targets, probabilities), [[0, 1, 1, 0, 1, 1]])
    assert label_masks(targets, probabilities).dtype == np.float32
