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

MIN_GAIN = 1e-12  # a smaller gain is a rounding error


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
    computed on its own: its result does not depend on the others, nor on their order. On small random cases the set is
    the best one in almost all cases (see the tests).

    Args:
        probabilities: Calibrated probability of each class, (N, C). A class with probability 0 is never chosen.
        weights: Credit of each prediction, (C, C), labels by row.

    Returns:
        Chosen classes, (N, C) bool.
    """
    p = np.asarray(probabilities, np.float64)
    outputs, every = np.zeros(p.shape, bool), np.arange(len(p))
    nodes, node_weights = quadrature(p.shape[1])
    t, own_credit = nodes[:, np.newaxis], np.diagonal(weights)
    present = 1 - p[:, np.newaxis] * (1 - t)  # (N, Q, C)
    odds = p[:, np.newaxis] / present
    # By recording and node: the product over the classes that are not chosen, times the node's weight and power, and
    # the credit for true classes, "inside" if they are chosen, "outside" if not: of each further class and in total.
    product = node_weights * present.prod(axis=2)  # (N, Q)
    outside, outside_total = np.matmul(odds, weights), np.zeros((*product.shape, 1))
    inside, inside_total = np.zeros(p.shape), np.zeros((len(p), 1))
    chosen_credit = np.zeros(p.shape)  # of all chosen classes, if a class is true
    best, excluded, active = np.zeros(len(p)), p == 0, np.ones(len(p), bool)
    for _ in range(p.shape[1]):
        credit = chosen_credit + own_credit
        new_inside = inside_total + inside + p * credit
        new_outside = outside_total + outside - odds * credit[:, np.newaxis]
        values = np.einsum("nq,nqc->nc", product, (new_inside[:, np.newaxis] + t * new_outside) / present)
        values[excluded] = -np.inf
        chosen = values.argmax(axis=1)
        active &= values[every, chosen] > best + MIN_GAIN
        if not active.any():
            break
        # A recording that has ended is updated like the others, without effect on its outputs.
        outputs[every, chosen] |= active
        excluded[every, chosen] = True
        best, inside_total = values[every, chosen], new_inside[every, chosen][:, np.newaxis]
        outside_total = new_outside[every, :, chosen][:, :, np.newaxis]
        inside += p[every, chosen][:, np.newaxis] * weights[chosen]
        outside -= odds[every, :, chosen][:, :, np.newaxis] * weights[chosen][:, np.newaxis]
        product *= nodes / present[every, :, chosen]
        chosen_credit += weights[:, chosen].T
    return outputs
