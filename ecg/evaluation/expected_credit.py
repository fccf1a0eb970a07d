"""Choose the classes with the highest expected credit in the Challenge metric.

The metric gives a recording the sum of weights[j, k] over its true classes j and predicted classes k, divided by the
number of classes that are true or predicted. If classes occur independently with the calibrated probabilities p, a set
A of predicted classes has the expected credit

    sum over all j and over k in A of weights[j, k] p_j E[1 / (|A or {j}| + X)]

X is the number of the other classes that are true. E[1 / (c + X)] is the integral over t from 0 to 1 of t^(c - 1) times
the product of (1 - p_l + p_l t) over these other classes l. The integrand is a polynomial of a degree below the number
of classes C. Gauss-Legendre quadrature with ceil(C / 2) nodes is therefore exact, and nothing is sampled.
"""

from functools import cache

import numpy as np

MIN_GAIN = 1e-12  # a smaller gain, as a share of the largest weight, is a rounding error
CHUNK = 128  # recordings at once, few enough for their arrays to stay in the processor's cache


@cache
def quadrature(n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes and weights of an exact quadrature from 0 to 1.

    Args:
        n_classes: Number of classes C. The integrand is a polynomial of degree C - 1 at most.

    Returns:
        Nodes and weights, (ceil(C / 2),) each.
    """
    nodes, weights = np.polynomial.legendre.leggauss(max((n_classes + 1) // 2, 1))
    return (nodes + 1) / 2, weights / 2


def expected_credit(probabilities: np.ndarray, outputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the expected credit of sets of predicted classes.

    Args:
        probabilities: Calibrated probability of each class, (N, C).
        outputs: Predicted classes, (N, C) bool.
        weights: Credit of each prediction, (C, C), labels by row.

    Returns:
        Expected credit of each recording, (N,) float64; 0 for an empty set.
    """
    p, outputs = np.asarray(probabilities, np.float64), np.asarray(outputs, bool)
    nodes, node_weights = quadrature(p.shape[1])
    present = 1 - p[:, np.newaxis] * (1 - nodes[:, np.newaxis])  # (N, Q, C)
    credit = p * np.einsum("nk,jk->nj", outputs.astype(np.float64), weights)
    product = np.where(outputs[:, np.newaxis], 1, present).prod(axis=2)
    inside = (credit * outputs).sum(axis=1, keepdims=True)
    outside = ((credit * ~outputs)[:, np.newaxis] / present).sum(axis=2)
    size = np.maximum(outputs.sum(axis=1, keepdims=True), 1)
    return (node_weights * product * nodes ** (size - 1) * (inside + nodes * outside)).sum(axis=1)


def choose_classes(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Choose the classes to predict, greedily by expected credit.

    Starting from the empty set, the class with the largest gain is added until no class gains. Each recording is
    computed on its own: its result does not depend on the others, nor on their order. The set is the best one in nearly
    all cases (docs/decision.md has the numbers).

    Args:
        probabilities: Calibrated probability of each class, (N, C). A class with probability 0 is never chosen.
        weights: Credit of each prediction, (C, C), labels by row.

    Returns:
        Chosen classes, (N, C) bool.
    """
    p = np.asarray(probabilities, np.float64)
    outputs = np.zeros(p.shape, bool)
    for start in range(0, len(p), CHUNK):
        chunk = slice(start, start + CHUNK)
        _add_classes(outputs[chunk], p[chunk], np.asarray(weights, np.float64))
    return outputs


def _add_classes(outputs: np.ndarray, p: np.ndarray, weights: np.ndarray) -> None:
    """Set the chosen classes of some recordings in `outputs`; see `choose_classes`."""
    nodes, node_weights = quadrature(p.shape[1])
    own_credit, rows = np.diagonal(weights), np.arange(len(p))
    min_gain = MIN_GAIN * abs(weights).max(initial=0)
    # By recording and node t: "inverse" is 1 / (1 - p + p t), and "odds" is p times it. "product" is the product of
    # 1 - p + p t over the classes that are not chosen, times the node's weight and power.
    inverse = 1 / (1 - p[:, np.newaxis] * (1 - nodes[:, np.newaxis]))  # (N, Q, C)
    odds = p[:, np.newaxis] * inverse
    product = node_weights / inverse.prod(axis=2)  # (N, Q)
    # Credit for true classes, "inside" if they are chosen, "outside" if not: of each further class and in total.
    outside, outside_total = np.matmul(odds, weights), np.zeros(product.shape)
    inside, inside_total = np.zeros(p.shape), np.zeros(len(p))
    chosen_credit = np.zeros(p.shape)  # of all chosen classes, if a class is true
    best, excluded = np.zeros(len(p)), p == 0
    for _ in range(p.shape[1]):
        credit = chosen_credit + own_credit
        new_inside = inside_total[:, np.newaxis] + inside + p * credit
        new_outside = outside_total[:, :, np.newaxis] + outside - odds * credit[:, np.newaxis]
        credits = new_inside[:, np.newaxis] + nodes[:, np.newaxis] * new_outside
        values = np.einsum("nq,nqc->nc", product, credits * inverse)
        values[excluded] = -np.inf
        chosen = values.argmax(axis=1)
        gains = values.max(axis=1) > best + min_gain
        if not gains.any():
            break
        if not gains.all():  # recordings without a gain are finished, and leave the arrays
            rows, p, inverse, odds, product, outside, inside, chosen_credit, excluded = (
                array[gains] for array in (rows, p, inverse, odds, product, outside, inside, chosen_credit, excluded)
            )
            values, new_inside, new_outside, chosen = (
                array[gains] for array in (values, new_inside, new_outside, chosen)
            )
        every = np.arange(len(rows))
        outputs[rows, chosen] = excluded[every, chosen] = True
        best, inside_total = values[every, chosen], new_inside[every, chosen]
        outside_total = new_outside[every, :, chosen]
        inside += p[every, chosen][:, np.newaxis] * weights[chosen]
        outside -= odds[every, :, chosen][:, :, np.newaxis] * weights[chosen][:, np.newaxis]
        product *= nodes * inverse[every, :, chosen]
        chosen_credit += weights[:, chosen].T
