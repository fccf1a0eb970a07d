"""A made-up patient: from findings to rhythm, beats and the potentials of the nine electrodes.

Findings are named by the abbreviations of ``ecg.labels``; the shapes of the waves are those of ``ecg.waves``.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ecg import waves

RATIOS = ((2,), (3,), (4,), (4,), (2, 4), (3, 4, 5))  # flutter cycles to one beat, fixed or changing
SPIKE = 0.0012  # s, width of a pacemaker's spike

NORMAL, ATRIAL, VENTRICULAR = range(3)  # kinds of beat: the rhythm's own, premature from the atria or the ventricles


@dataclass(frozen=True)
class Patient:
    """One made-up patient: findings, person and heart; times in s, `axis` in degrees, `height` in mV."""

    findings: frozenset[str]
    age: int
    sex: str
    conduction: str  # a key of CONDUCTION
    rate: float  # beats in a minute
    pr: float
    qrs: float
    qt: float  # at 60 beats in a minute
    axis: float
    height: float  # QRS complex from peak to peak in the limb lead where it is tallest
    cycle: float  # of the atria in flutter
    ratios: tuple[int, ...]  # flutter cycles to one beat
    leads: np.ndarray  # (8, 3) lead vectors of this torso


class Beats(NamedTuple):
    """The beats of a recording: QRS onset, interval before it, how early it is (all s) and its kind: (B,) each."""

    onset: np.ndarray
    interval: np.ndarray
    early: np.ndarray
    kind: np.ndarray


def draw_patient(findings, rng):
    """Draw a patient who has the findings (abbreviations) and no others.

    Rate and intervals lie on the right side of the limits by which the findings are diagnosed, with a margin.
    """
    findings = frozenset(findings)

    def limits(ranges, otherwise):
        return next((ranges[name] for name in ranges if name in findings), otherwise)

    conduction = next((name for name in waves.CONDUCTION if name in findings), "normal")
    conduction = "bifascicular" if {"RBBB", "LAnFB"} <= findings else conduction
    cycle = 60 / rng.uniform(260, 330)
    ratios = RATIOS[rng.integers(len(RATIOS))]
    rates = {"Brady": (38, 54), "SB": (41, 57), "STach": (104, 145), "PR": (58, 82), "AF": (62, 140)}
    rate = 60 / (cycle * np.mean(ratios)) if "AFL" in findings else rng.uniform(*limits(rates, (63, 94)))
    axes = {"PR": (-88, -62), "LAnFB": (-70, -48), "LAD": (-58, -37), "RAD": (104, 135), "LBBB": (-20, 40)}
    qrs = rng.uniform(*waves.CONDUCTION[conduction].duration) + (0.012 if "QAb" in findings else 0)
    sex = ("Female", "Male")[rng.integers(2)]
    qt = rng.uniform(*limits({"LQT": (0.500, 0.570)}, (0.385, 0.425))) + max(qrs - 0.095, 0) + 0.01 * (sex == "Female")
    height = rng.uniform(0.28, 0.42) if "LQRSV" in findings else np.clip(rng.lognormal(0.22, 0.22), 0.8, 2.2)
    yaw, pitch = np.radians(rng.normal(-25 if "PRWP" in findings else 0, (8, 5)))
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return Patient(
        findings=findings,
        age=int(np.clip(rng.normal(60, 17), 18, 92)),
        sex=sex,
        conduction=conduction,
        rate=rate,
        pr=rng.uniform(*limits({"IAVB": (0.240, 0.330)}, (0.130, 0.185))),
        qrs=qrs,
        qt=qt,
        axis=rng.uniform(*limits(axes, (-8, 78))),
        height=height,
        cycle=cycle,
        ratios=ratios,
        leads=waves.LEAD_VECTORS * rng.lognormal(0, 0.08, waves.LEAD_VECTORS.shape) @ about_y @ about_x,
    )


def draw_beats(patient, seconds, rng):
    """Draw the beats of a patient from before a recording's start until after its end."""
    findings, rr = patient.findings, 60 / patient.rate
    count = int((seconds + 5) / 0.33)
    if "PR" in findings:
        interval = rr * rng.normal(1, 0.001, count)
    elif "AFL" in findings:
        interval = patient.cycle * rng.choice(patient.ratios, count)
    elif "AF" in findings:
        interval = np.clip(rr * rng.lognormal(0, rng.uniform(0.19, 0.30), count), 0.34, 2.2)
    elif "SA" in findings:
        breath = 2 * np.pi * (rr / rng.uniform(3.5, 6.0) * np.arange(count) + rng.uniform())
        interval = rr * (rng.normal(1, 0.02, count) + rng.uniform(0.17, 0.28) * np.sin(breath))
    else:
        interval = rr * rng.normal(1, 0.015, count)
    start = -2 - rr * rng.uniform()
    early, kind = np.zeros(count), np.full(count, NORMAL)
    kinds = [number for name, number in (("PAC", ATRIAL), ("PVC", VENTRICULAR)) if name in findings]
    if kinds:
        # One of each kind lies well inside the shortest recording; others come every few beats, or do not.
        middle = np.searchsorted(start + np.cumsum(interval), seconds * rng.uniform(0.2, 0.4))
        least = 2 if rng.uniform() < 0.2 else 3
        gaps = rng.integers(least, 2 * least + 1, (2, count // 2))
        gaps[1, 0] = 2 if len(kinds) > 1 else gaps[1, 0]
        at = middle + np.concatenate([-np.cumsum(gaps[0])[::-1], [0], np.cumsum(gaps[1])])
        sure = (at >= middle) & (at <= middle + gaps[1, 0] * (len(kinds) - 1))
        at = at[(at > 0) & (at < count - 1) & (sure | (rng.uniform(size=at.size) < rng.uniform(0.3, 1)))]
        kind[at] = np.resize(kinds, at.size)
        atrial = kind[at] == ATRIAL
        early[at] = rr * np.where(atrial, rng.uniform(0.32, 0.45, at.size), rng.uniform(0.34, 0.45, at.size))
        interval[at] = np.maximum(interval[at], 0.9 * rr) - early[at]
        # The pause is full after a ventricular beat; an atrial one sets the sinus node back.
        interval[at + 1] += np.where(atrial, rr * rng.uniform(0.02, 0.18, at.size), early[at])
    onset = start + np.cumsum(interval)
    keep = onset < seconds + 1
    return Beats(onset[keep], interval[keep], early[keep], kind[keep])


def potentials(patient, samples, frequency, rng):
    """Return the potentials of a patient's electrodes RA, LA, LL, V1 to V6: (T, 9), mV against Wilson's terminal."""
    seconds = samples / frequency
    beats = draw_beats(patient, seconds, rng)
    table = np.concatenate([*_ventricles(patient, beats, rng), *_atria(patient, beats, seconds, rng)])
    breath = np.sin(2 * np.pi * (rng.uniform(0.18, 0.30) / frequency * np.arange(samples) + rng.uniform()))
    vector = waves.heart_vector(table, samples, frequency) * (1 + rng.uniform(0.01, 0.06) * breath[:, None])
    first, second, *chest = patient.leads
    limbs = [-(first + second) / 3, (2 * first - second) / 3, (2 * second - first) / 3]
    return vector @ np.array([*limbs, *chest]).T


def _ventricles(patient, beats, rng):
    """Yield the bumps of the QRS complexes, the T waves and a pacemaker's spikes."""
    own = beats.kind != VENTRICULAR
    # Repolarisation follows the heart rate slowly and the last interval at once; the cube root is Fridericia's.
    qt = patient.qt * (0.6 * np.cbrt(60 / patient.rate) + 0.4 * np.cbrt(np.clip(beats.interval, 0.35, 1.6)))
    qrs = waves.qrs_complex(patient, rng)
    yield waves.place(qrs, beats.onset[own], patient.qrs)
    yield waves.place(waves.t_wave(patient, qrs, rng), beats.onset[own], qt[own])
    if not own.all():
        ectopic = waves.ectopic_complex(patient, rng)
        yield waves.place(ectopic, beats.onset[~own], rng.uniform(0.145, 0.175))
        yield waves.place(waves.discordant_t(ectopic, 0.40), beats.onset[~own], rng.uniform(0.40, 0.46))
    if "PR" in patient.findings:
        spike = np.array([[0, SPIKE, *rng.uniform((0.2, -1.2, 0.0), (0.8, -0.5, 0.8))]])
        yield waves.place(spike, beats.onset - 0.004)


def _atria(patient, beats, seconds, rng):
    """Yield the bumps of the P waves, or of fibrillation or flutter."""
    findings = patient.findings
    if "AF" in findings:
        count = int((seconds + 2) / 0.1)
        at = -1 + np.cumsum(np.clip(rng.normal(0.140, 0.025, count), 0.1, 0.22))
        size = rng.uniform(0.05, 0.12) * rng.normal(size=(count, 3)) * (0.5, 0.8, 1.0)
        yield np.column_stack([at, rng.uniform(0.022, 0.034, count), size])
    elif "AFL" in findings:
        # The ventricles keep step with the flutter, at a fixed delay.
        at = beats.onset[0] + patient.cycle * (rng.uniform() + np.arange(-5, (seconds + 5) / patient.cycle))
        size = rng.uniform(0.7, 1.3)
        yield waves.place(waves.scaled(waves.FLUTTER, size), at, patient.cycle)
    else:
        own = beats.kind != ATRIAL
        size = rng.lognormal(0, 0.2) * (0.8 if "LQRSV" in findings else 1)
        duration = rng.uniform(0.095, 0.115)
        # A ventricular beat leaves the sinus node alone: its P wave comes when it is due.
        due = beats.onset + np.where(beats.kind == VENTRICULAR, beats.early, 0) - patient.pr
        yield waves.place(waves.scaled(waves.SINUS_P, size), due[own], duration)
        ectopic = waves.ECTOPIC_P[rng.integers(len(waves.ECTOPIC_P))]
        yield waves.place(waves.scaled(ectopic, size), due[~own], duration * rng.uniform(0.8, 1.0))
