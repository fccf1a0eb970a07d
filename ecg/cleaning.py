"""Which labels are not to be believed: masks from the first round's network."""

import numpy as np

SURE_PRESENT = 0.9  # above it, an absent label is masked
SURE_ABSENT = 0.1  # below it, a present label is masked


def label_masks(targets, probabilities):
    """Return where the labels count: (N, K) float32, 0 where the network is sure of the opposite, else 1.

    Takes targets (N, K), 0 or 1, and the probabilities (N, K) of the network of round 1.
    Cai et al. 2021.
    """
    present = np.asarray(targets, bool)
    doubtful = np.where(present, probabilities < SURE_ABSENT, probabilities > SURE_PRESENT)
    return (~doubtful).astype(np.float32)
