"""Draws that make synthetic recordings resemble real ones.

They are those of `SyntheticSettings.realistic`. `benchmarks.realism` measures the resemblance. The numbers were chosen
by its table of 927 real recordings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ecg.data.synthetic_shapes import LEAD_FACTORS, REALISTIC_P, REALISTIC_T

if TYPE_CHECKING:
    from ecg.data.synthetic_heart import Patient

LEAD_SPREAD = 0.15  # log-normal, of each factor
# Deviation of a bump in a lead from that of a heart vector, as a share of the lead's largest possible height.
# Neighbouring chest leads deviate alike.
DEVIATION = 0.08
ALIKE = np.eye(8)
ALIKE[2:, 2:] = 0.7 ** abs(np.subtract.outer(np.arange(6), np.arange(6)))
MIXING = np.linalg.cholesky(ALIKE)
QRS_FACTOR = 0.85  # of the duration of QRS complexes


@dataclass(frozen=True)
class Style:
    """How a realistic patient differs from a usual one.

    Attributes:
        rr_deviation: Standard deviation of sinus rhythm's intervals, as a share of their mean.
        breathing: Amplitude of sinus arrhythmia, as a share of the mean interval.
        swell: Amplitude of the waves' swing by breathing, as a share of their height.
        fibrillation: Logarithmic standard deviation of fibrillation's intervals.
        ectopy: Probability of each premature beat besides the certain one.
        qrs_width: Factor of the width of the bumps of QRS complexes.
        p_wave: Bumps of the sinus P wave.
        t_wave: Heart vector of the T wave, mV.
        factors: Factors of the leads I, II, V1 to V6, by wave, (8,).
    """

    rr_deviation: float
    breathing: float
    swell: float
    fibrillation: float
    ectopy: float
    qrs_width: float
    p_wave: np.ndarray
    t_wave: np.ndarray
    factors: Mapping[str, np.ndarray]

    def project(self, parts: np.ndarray, leads: np.ndarray, wave: str, rng: np.random.Generator) -> np.ndarray:
        """Project the bumps of a shape on leads, where they deviate from a dipole's.

        Args:
            parts: The shape, (K, 5).
            leads: Lead vectors, (8, 3).
            wave: VENTRICLES, REPOLARISATION or ATRIA.
            rng: Random generator.

        Returns:
            Centres, widths and heights in the leads I, II, V1 to V6, (K, 10).
        """
        heights = parts[:, 2:] @ leads.T
        largest = np.linalg.norm(leads, axis=1) * np.linalg.norm(parts[:, 2:], axis=1).max()
        heights = heights + DEVIATION * largest * (rng.normal(size=heights.shape) @ MIXING.T)
        return np.column_stack([parts[:, :2], heights * self.factors[wave]])


def make_realistic(patient: "Patient", rng: np.random.Generator) -> "Patient":
    """Return a patient with other rate, QRS complexes, leads and style.

    Args:
        patient: A patient of the usual kind.
        rng: Random generator.
    """
    findings = patient.findings
    style = Style(
        rr_deviation=float(np.clip(rng.lognormal(np.log(0.020), 0.9), 0.002, 0.06)),
        breathing=rng.uniform(0.09, 0.18),
        swell=rng.uniform(0.01, 0.10),
        fibrillation=rng.uniform(0.12, 0.30),
        ectopy=rng.uniform(0.0, 0.4),
        qrs_width=float(np.clip(rng.lognormal(np.log(0.60), 0.18), 0.4, 1.0)),
        p_wave=REALISTIC_P * np.concatenate([[1, 1], rng.lognormal(0, 0.3, 3)]) * (1, rng.uniform(0.9, 1.1), 1, 1, 1),
        t_wave=REALISTIC_T * rng.lognormal(0, 0.3) * rng.lognormal(0, 0.25, 3),
        factors={wave: np.array(factors) * rng.lognormal(0, LEAD_SPREAD, 8) for wave, factors in LEAD_FACTORS.items()},
    )
    height = patient.height
    if "LQRSV" not in findings:
        height = float(np.clip(rng.lognormal(0.26, 0.33), 0.65, 3.5))
    rate = patient.rate if "AFL" in findings else draw_rate(findings, rng)
    axis = patient.axis
    if not findings & {"PR", "LAnFB", "LAD", "RAD", "LBBB"}:
        axis = float(np.clip(rng.normal(38, 28), -26, 86))
    leads = patient.leads * rng.lognormal(0, 0.15, patient.leads.shape)
    return replace(patient, rate=rate, qrs=QRS_FACTOR * patient.qrs, axis=axis, height=height, leads=leads, style=style)


def draw_rate(findings: frozenset[str], rng: np.random.Generator) -> float:
    """Draw a heart rate as real recordings with these labels have, per minute."""
    if "Brady" in findings:
        return rng.uniform(38, 56)
    if "SB" in findings:
        return float(np.clip(59.5 - rng.gamma(1.6, 3.2), 36, 59.5))
    if "STach" in findings:
        return float(np.clip(100.5 + rng.gamma(1.3, 9), 100.5, 170))
    if "PR" in findings:
        return rng.uniform(58, 82)
    if "AF" in findings:
        return float(np.clip(rng.lognormal(np.log(100), 0.32), 48, 180))
    return float(np.clip(rng.lognormal(np.log(71), 0.17), 56, 99))


def draw_burden(rng: np.random.Generator) -> float:
    """Draw the factor of the probabilities of a patient's findings; most have few."""
    return float(rng.choice((0.2, 0.9, 2.0), p=(0.60, 0.30, 0.10)))
