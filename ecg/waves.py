"""The waves of a made-up heartbeat: bumps of the heart vector, and their shapes by the way the heart is activated.

The heart vector points to the left (x), the feet (y) and the back (z), in mV. Lead vectors project it to the leads:
Dower, Machado and Osborne, "On deriving the electrocardiogram from vectorcardiographic leads", Clin. Cardiol. 3, 1980.
A shape is a table of Gaussian parts, one a row: centre and width (standard deviation) as fractions of the wave's
duration, then x, y and z.
"""

from typing import NamedTuple

import numpy as np

LEAD_VECTORS = np.array(
    [
        [0.632, -0.235, 0.059],  # I
        [0.235, 1.066, -0.132],  # II
        [-0.515, 0.157, -0.917],  # V1
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],  # V6
    ]
)

SINUS_P = np.array([[0.36, 0.14, 0.025, 0.095, -0.055], [0.64, 0.15, 0.070, 0.055, 0.045]])
ECTOPIC_P = np.array([[[0.45, 0.15, 0.06, -0.17, 0.03]], [[0.45, 0.14, -0.10, 0.08, 0.10]]])  # low atrium, left atrium
FLUTTER = np.array([[0.40, 0.15, -0.03, -0.24, 0.05], [0.78, 0.09, 0.02, 0.17, -0.20]])  # of one cycle: a sawtooth


class Conduction(NamedTuple):
    """How the ventricles are activated, in three groups of parts.

    `early` parts lie where they are, `main` parts are turned in the frontal plane until the electrical axis is as
    wanted, `late` parts lie where they are and do not count for the axis. `duration`: range for the QRS complex, s.
    """

    duration: tuple[float, float]
    early: list
    main: list
    late: list = []


CONDUCTION = {
    "bifascicular": Conduction(  # RBBB and LAnFB
        (0.130, 0.155),
        [(0.12, 0.05, -0.22, 0.38, -0.25)],
        [(0.34, 0.09, 0.90, -0.80, 0.20), (0.50, 0.08, 0.10, -0.40, 0.25)],
        [(0.68, 0.12, -0.62, -0.10, -0.80), (0.87, 0.10, -0.20, 0.0, -0.25)],
    ),
    "IRBBB": Conduction(
        (0.104, 0.118),
        [(0.14, 0.06, -0.13, 0.03, -0.28)],
        [(0.37, 0.09, 0.95, 0.80, 0.22), (0.54, 0.08, 0.0, -0.08, 0.45)],
        [(0.80, 0.085, -0.34, -0.06, -0.42)],
    ),
    "RBBB": Conduction(
        (0.128, 0.155),
        [(0.12, 0.05, -0.13, 0.03, -0.30)],
        [(0.30, 0.08, 0.95, 0.80, 0.22), (0.44, 0.07, 0.05, -0.08, 0.32)],
        [(0.66, 0.12, -0.58, -0.08, -0.55), (0.86, 0.10, -0.20, 0.0, -0.18)],
    ),
    "LBBB": Conduction(
        (0.138, 0.168),
        [(0.10, 0.05, 0.02, 0.02, -0.06)],
        [(0.29, 0.115, 0.80, 0.35, 0.80), (0.65, 0.13, 0.85, 0.25, 1.00)],
    ),
    "NSIVCB": Conduction(
        (0.124, 0.148),
        [(0.13, 0.05, -0.10, 0.03, -0.26)],
        [(0.34, 0.09, 0.80, 0.65, 0.15), (0.58, 0.10, 0.35, 0.35, 0.50), (0.82, 0.08, 0.15, -0.25, 0.35)],
    ),
    "LAnFB": Conduction(
        (0.098, 0.114),
        [(0.15, 0.065, -0.24, 0.40, -0.22)],
        [(0.50, 0.12, 0.85, -0.80, 0.20), (0.78, 0.085, 0.10, -0.40, 0.40)],
    ),
    "PR": Conduction((0.150, 0.180), [], [(0.32, 0.12, 0.20, -0.80, 0.50), (0.64, 0.14, 0.25, -0.90, 0.75)]),
    "RAD": Conduction(
        (0.084, 0.102),
        [(0.16, 0.06, -0.08, 0.0, -0.22)],
        [(0.40, 0.11, 0.65, 0.95, 0.15), (0.68, 0.10, -1.00, 0.48, 0.50)],
    ),
    "normal": Conduction(
        (0.082, 0.100),
        [(0.17, 0.07, -0.12, 0.03, -0.24)],
        [(0.44, 0.12, 0.90, 0.80, 0.25), (0.68, 0.105, -0.05, -0.08, 0.60)],
    ),
}
# Ventricular foci: right outflow tract, right apex, left free wall.
FOCI = np.array(
    [
        [[0.33, 0.12, 0.20, 1.10, 0.60], [0.64, 0.13, 0.25, 0.90, 0.85]],
        [[0.33, 0.12, 0.60, -1.00, 0.60], [0.64, 0.13, 0.60, -0.80, 0.80]],
        [[0.33, 0.12, -0.70, 0.45, -0.70], [0.64, 0.13, -0.60, 0.30, -0.75]],
    ]
)
# What a scar leaves of the first 40 ms: inferior, anterior, lateral.
SCARS = np.array([[0.24, 0.09, 0.05, -0.62, 0.05], [0.26, 0.11, -0.05, 0.05, 0.70], [0.24, 0.09, -0.75, 0.05, 0.05]])

T_WAVE = np.array([0.30, 0.20, -0.10])
INVERTED_T = np.array([[-0.30, -0.14, 0.22], [-0.22, -0.32, 0.0], [-0.12, -0.06, 0.34]])  # lateral, inferior, anterior


def qrs_complex(patient, rng):
    """Return the shape of a patient's own QRS complex, with the patient's axis and height: (K, 5)."""
    _, early, main, late = CONDUCTION[patient.conduction]
    if "QAb" in patient.findings:
        early, late = [], [SCARS[rng.integers(len(SCARS))]]
    early, main, late = (np.reshape(parts, (-1, 5)).astype(float) for parts in (early, main, late))
    if "PRWP" in patient.findings:
        early = scaled(early, 0.2)
    fixed, turned = (parts[:, 1] @ parts[:, 2:] for parts in (early, main))
    angle = np.radians(np.arange(-180, 180))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    area = np.vstack([np.einsum("ija,j->ia", turn, turned[:2]), np.full(angle.size, turned[2])]) + fixed[:, None]
    first, second = patient.leads[:2] @ area
    axis = np.arctan2((2 * second - first) / np.sqrt(3), first)  # from leads I and aVF, which is 2/sqrt(3) too short
    best = np.argmin(np.abs(np.angle(np.exp(1j * (axis - np.radians(patient.axis))))))
    main[:, 2:4] = main[:, 2:4] @ turn[:, :, best].T
    parts = np.vstack([early, main, late])
    parts[:, 2:] *= rng.lognormal(0, 0.06, (len(parts), 3))
    parts[:, 2:] *= patient.height / height_of(parts, patient.leads)
    return parts


def ectopic_complex(patient, rng):
    """Return the shape of a patient's ventricular ectopic beats: (K, 5)."""
    parts = FOCI[rng.integers(len(FOCI))].copy()
    parts[:, 2:] *= rng.uniform(1.1, 1.5) * max(patient.height, 1.0) / height_of(parts, patient.leads)
    return parts


def height_of(parts, leads):
    """Return the largest height of a shape in the limb leads, from peak to peak, given (8, 3) lead vectors."""
    time = np.linspace(0, 1.1, 56)[:, None]
    vector = np.exp(-0.5 * ((time - parts[:, 0]) / parts[:, 1]) ** 2) @ parts[:, 2:]
    first, second = leads[:2] @ vector.T
    limbs = np.stack([first, second, second - first, (first + second) / 2, first - second / 2, second - first / 2])
    return np.ptp(limbs, axis=1).max()


def t_wave(patient, qrs, rng):
    """Return the shape of a patient's T wave, in fractions of QT, after a QRS complex of the given shape: (K, 5)."""
    findings = patient.findings
    if patient.conduction in ("LBBB", "PR"):
        return discordant_t(qrs, rng.uniform(0.25, 0.38))
    vector = T_WAVE * rng.lognormal(0, 0.2) * rng.lognormal(0, 0.12, 3)
    vector[2] += {"RBBB": 0.16, "IRBBB": 0.05}.get(patient.conduction, 0)
    share = np.array([0.45, 0.70])  # of the slow rise and of the fall
    if "TInv" in findings:
        vector = rng.uniform(0.8, 1.5) * INVERTED_T[rng.integers(len(INVERTED_T))]
    elif "TAb" in findings:  # flat, or of two phases
        share = share * rng.uniform(-0.05, 0.18) if rng.uniform() < 0.5 else np.array([0.55, -0.60])
    if "LQRSV" in findings:
        vector = 0.6 * vector
    return np.column_stack([(0.66, 0.79), (0.12, 0.075), share[:, None] * vector])


def discordant_t(qrs, ratio):
    """Return the T wave opposite to a wide QRS complex, with the slope of the ST segment that leads to it: (3, 5)."""
    area = qrs[:, 1] @ qrs[:, 2:]
    vector = -ratio * area * np.abs(qrs[:, 2:]).max() / np.abs(area).max()
    return np.column_stack([(0.48, 0.68, 0.78), (0.09, 0.11, 0.075), np.outer((0.25, 0.55, 0.55), vector)])


def scaled(parts, size):
    """Return a shape or shapes with the vectors multiplied by a number."""
    return parts * np.array([1, 1, size, size, size])


def place(parts, onsets, duration=1.0):
    """Put a shape (K, 5) at onsets (B,), stretched to durations (B,) or to one for all: (B * K, 5), s and mV."""
    onsets = np.asarray(onsets)
    duration = np.broadcast_to(duration, onsets.shape)[:, None]
    table = np.repeat(parts[None], onsets.size, axis=0)
    table[:, :, 0] = table[:, :, 0] * duration + onsets[:, None]
    table[:, :, 1] *= duration
    return table.reshape(-1, 5)


def heart_vector(table, samples, frequency):
    """Sum placed bumps (centre and width in s; x, y, z in mV) into a heart vector: (T, 3), mV."""
    centre, width = table[:, 0] * frequency, table[:, 1] * frequency
    first, count = np.ceil(centre - 4 * width).astype(int), np.floor(8 * width).astype(int) + 1
    which = np.repeat(np.arange(count.size), count)
    at = np.arange(which.size) + np.repeat(first - np.cumsum(count) + count, count)
    inside = (at >= 0) & (at < samples)
    which, at = which[inside], at[inside]
    height = np.exp(-0.5 * ((at - centre[which]) / width[which]) ** 2)
    return np.stack([np.bincount(at, height * table[which, column], samples) for column in (2, 3, 4)], axis=1)
