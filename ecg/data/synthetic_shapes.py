"""Shapes of waves: tables of Gaussian bumps of the heart vector, and lead vectors.

A shape is a table (K, 5) of bumps: centre and width as fractions of a duration, and the vector x, y, z in mV. Placed
shapes have centre and width in s.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

VENTRICLES, REPOLARISATION, ATRIA = "QRS", "T", "P"  # the waves that a shape belongs to
# Factors of the leads I, II, V1 to V6 for each wave. The atria are farther from the chest leads than the ventricles.
LEAD_FACTORS = {
    VENTRICLES: (1.0, 1.0, 1.0, 1.55, 1.4, 1.25, 1.2, 1.15),
    REPOLARISATION: (1.0, 1.0, 0.75, 0.80, 0.62, 0.60, 0.68, 0.72),
    ATRIA: (1.15, 1.0, 0.55, 0.45, 0.35, 0.36, 0.40, 0.50),
}

# I, II, V1 to V6.
LEAD_VECTORS = np.array([
    [0.632, -0.235, 0.059], [0.235, 1.066, -0.132], [-0.515, 0.157, -0.917], [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277], [1.213, 0.127, -0.601], [1.125, 0.127, -0.086], [0.831, 0.076, 0.230],
])  # fmt: skip

SINUS_P = np.array([[0.36, 0.14, 0.025, 0.095, -0.055], [0.64, 0.15, 0.070, 0.055, 0.045]])
ECTOPIC_P = np.array([[[0.45, 0.15, 0.06, -0.17, 0.03]], [[0.45, 0.14, -0.10, 0.08, 0.10]]])  # low atrium, left atrium
FLUTTER = np.array([[0.40, 0.15, -0.03, -0.24, 0.05], [0.78, 0.09, 0.02, 0.17, -0.20]])  # one cycle of a sawtooth


class Conduction(NamedTuple):
    """How the ventricles are activated.

    Attributes:
        duration: Range of the duration of the QRS complex, s.
        early: Bumps of fixed direction.
        main: Bumps that are turned in the frontal plane to get the electrical axis.
        late: Bumps of fixed direction that do not count for the axis.
    """

    duration: tuple[float, float]
    early: Sequence[tuple[float, ...]]
    main: Sequence[tuple[float, ...]]
    late: Sequence[tuple[float, ...]] = ()


CONDUCTION = {
    "bifascicular": Conduction(  # RBBB and LAnFB
        (0.130, 0.155), [(0.12, 0.05, -0.22, 0.38, -0.25)],
        [(0.34, 0.09, 0.90, -0.80, 0.20), (0.50, 0.08, 0.10, -0.40, 0.25)],
        [(0.68, 0.12, -0.62, -0.10, -0.80), (0.87, 0.10, -0.20, 0.0, -0.25)]),
    "IRBBB": Conduction(
        (0.104, 0.118), [(0.14, 0.06, -0.13, 0.03, -0.28)],
        [(0.37, 0.09, 0.95, 0.80, 0.22), (0.54, 0.08, 0.0, -0.08, 0.45)], [(0.80, 0.085, -0.34, -0.06, -0.42)]),
    "RBBB": Conduction(
        (0.128, 0.155), [(0.12, 0.05, -0.13, 0.03, -0.30)],
        [(0.30, 0.08, 0.95, 0.80, 0.22), (0.44, 0.07, 0.05, -0.08, 0.32)],
        [(0.66, 0.12, -0.58, -0.08, -0.55), (0.86, 0.10, -0.20, 0.0, -0.18)]),
    "LBBB": Conduction(
        (0.138, 0.168), [(0.10, 0.05, 0.02, 0.02, -0.06)],
        [(0.29, 0.115, 0.80, 0.35, 0.80), (0.65, 0.13, 0.85, 0.25, 1.00)]),
    "NSIVCB": Conduction(
        (0.124, 0.148), [(0.13, 0.05, -0.10, 0.03, -0.26)],
        [(0.34, 0.09, 0.80, 0.65, 0.15), (0.58, 0.10, 0.35, 0.35, 0.50), (0.82, 0.08, 0.15, -0.25, 0.35)]),
    "LAnFB": Conduction(
        (0.098, 0.114), [(0.15, 0.065, -0.24, 0.40, -0.22)],
        [(0.50, 0.12, 0.85, -0.80, 0.20), (0.78, 0.085, 0.10, -0.40, 0.40)]),
    "PR": Conduction((0.150, 0.180), [], [(0.32, 0.12, 0.20, -0.80, 0.50), (0.64, 0.14, 0.25, -0.90, 0.75)]),
    "RAD": Conduction(
        (0.084, 0.102), [(0.16, 0.06, -0.08, 0.0, -0.22)],
        [(0.40, 0.11, 0.65, 0.95, 0.15), (0.68, 0.10, -1.00, 0.48, 0.50)]),
    "normal": Conduction(
        (0.082, 0.100), [(0.17, 0.07, -0.12, 0.03, -0.24)],
        [(0.44, 0.12, 0.90, 0.80, 0.25), (0.68, 0.105, -0.05, -0.08, 0.60)]),
}  # fmt: skip
# Ventricular foci: right outflow tract, right apex, left free wall.
FOCI = np.array([
    [[0.33, 0.12, 0.20, 1.10, 0.60], [0.64, 0.13, 0.25, 0.90, 0.85]],
    [[0.33, 0.12, 0.60, -1.00, 0.60], [0.64, 0.13, 0.60, -0.80, 0.80]],
    [[0.33, 0.12, -0.70, 0.45, -0.70], [0.64, 0.13, -0.60, 0.30, -0.75]],
])  # fmt: skip
# First 40 ms with a scar: inferior, anterior, lateral.
SCARS = np.array([[0.24, 0.09, 0.05, -0.62, 0.05], [0.26, 0.11, -0.05, 0.05, 0.70], [0.24, 0.09, -0.75, 0.05, 0.05]])

T_WAVE = np.array([0.30, 0.20, -0.10])
INVERTED_T = np.array([[-0.30, -0.14, 0.22], [-0.22, -0.32, 0.0], [-0.12, -0.06, 0.34]])  # lateral, inferior, anterior
# Means of realistic patients (ecg.data.synthetic_style).
REALISTIC_P = np.array([[0.34, 0.14, 0.075, 0.080, -0.110], [0.62, 0.15, 0.150, 0.060, 0.045]])
REALISTIC_T = np.array([0.46, 0.12, -0.38])


def place_waves(parts: np.ndarray, onsets: np.ndarray, duration: np.ndarray | float = 1.0) -> np.ndarray:
    """Place a shape at onsets.

    Args:
        parts: The shape, (K, 5), or (K, 10) if it is projected on leads.
        onsets: Onsets in s, (B,).
        duration: Durations in s that the shape is stretched to, (B,) or one for all.

    Returns:
        Placed shapes, (B * K, 5) or (B * K, 10).
    """
    onsets = np.asarray(onsets)
    duration = np.broadcast_to(duration, onsets.shape)[:, None]
    table = np.repeat(parts[None], onsets.size, axis=0)
    table[:, :, 0] = table[:, :, 0] * duration + onsets[:, None]
    table[:, :, 1] *= duration
    return table.reshape(-1, parts.shape[1])


def sum_heart_vector(table: np.ndarray, samples: int, frequency: float) -> np.ndarray:
    """Sum placed shapes into a heart vector.

    Args:
        table: Placed shapes, (K, 5), or (K, 10) if they are projected on leads.
        samples: Number of samples T.
        frequency: Sampling frequency in Hz.

    Returns:
        The heart vector, (T, 3), or its projections, (T, 8), mV.
    """
    centre, width = table[:, 0] * frequency, table[:, 1] * frequency
    first, count = np.ceil(centre - 4 * width).astype(int), np.floor(8 * width).astype(int) + 1
    which = np.repeat(np.arange(count.size), count)
    at = np.arange(which.size) + np.repeat(first - np.cumsum(count) + count, count)
    inside = (at >= 0) & (at < samples)
    which, at = which[inside], at[inside]
    height = np.exp(-0.5 * ((at - centre[which]) / width[which]) ** 2)
    return np.stack([np.bincount(at, height * column[which], samples) for column in table.T[2:]], axis=1)
