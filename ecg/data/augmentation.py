"""Augment training batches: random changes that keep the diagnosis.

All functions change signals of a batch (n, T, n_leads), in mV, in place. Leads and samples that are zero throughout,
because a lead is absent or a recording is padded, stay zero. The ranges are ours; see the benchmarks for what each
change brings.

Several processes that train one network read a part of each batch each. Random numbers are drawn for the whole batch,
so that a recording is changed in the same way whatever the number of processes.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

MAX_GAIN = 1.25  # the factor is from 1 / MAX_GAIN to MAX_GAIN
NOISE_MILLIVOLTS = (0.003, 0.03)  # standard deviation of the noise of a lead
LOG_NOISE = (math.log(NOISE_MILLIVOLTS[0]), math.log(NOISE_MILLIVOLTS[1]))
WANDER_HERTZ, WANDER_MILLIVOLTS = (0.15, 0.7), 0.1  # frequencies and largest amplitude of the two waves of a lead
DROPOUT_SHARE = 0.1  # of the leads
MASK_SECONDS = (0.2, 2.0)  # duration of the masked interval
MIXUP_SHAPE = 0.2  # both parameters of the beta distribution (Zhang et al. 2018)


class Part(NamedTuple):
    """Some of the recordings of a batch: those of `rows`, out of `size`."""

    rows: slice
    size: int


def scale_signals(signals: np.ndarray, part: Part, rate: int, generator: np.random.Generator) -> None:
    """Multiply each recording by a gain, the same for all of its leads."""
    gains = np.exp(generator.uniform(-np.log(MAX_GAIN), np.log(MAX_GAIN), (part.size, 1, 1)))[part.rows]
    signals *= gains.astype(np.float32)


def add_noise(signals: np.ndarray, part: Part, rate: int, generator: np.random.Generator) -> None:
    """Add white noise to each lead. Its standard deviation is drawn for each lead."""
    deviations = np.exp(generator.uniform(*LOG_NOISE, (part.size, 1, signals.shape[2])))[part.rows]
    noise = generator.standard_normal((part.size, *signals.shape[1:]), np.float32)[part.rows]
    noise *= deviations.astype(np.float32) * is_present(signals)
    signals += noise


def add_wander(signals: np.ndarray, part: Part, rate: int, generator: np.random.Generator) -> None:
    """Add baseline wander: two slow sine waves to each lead."""
    shape = (2, part.size, 1, signals.shape[2])
    frequencies, phases, amplitudes = (
        generator.uniform(lowest, highest, shape)[:, part.rows].astype(np.float32)
        for lowest, highest in (WANDER_HERTZ, (0.0, 2 * np.pi), (0.0, WANDER_MILLIVOLTS))
    )
    seconds = (np.arange(signals.shape[1], dtype=np.float32) / np.float32(rate))[:, np.newaxis]
    waves = sum(
        a * np.sin(2 * np.pi * f * seconds + p) for a, f, p in zip(amplitudes, frequencies, phases, strict=True)
    )
    signals += waves * is_present(signals)


def drop_leads(signals: np.ndarray, part: Part, rate: int, generator: np.random.Generator) -> None:
    """Set some leads of each recording to zero, never all that are present."""
    chances = generator.random((part.size, 1, signals.shape[2]))[part.rows]
    largest = np.where(signals.any(axis=1, keepdims=True), chances, 0).max(axis=2, keepdims=True)
    signals *= (chances >= np.minimum(DROPOUT_SHARE, largest)).astype(np.float32)


def mask_interval(signals: np.ndarray, part: Part, rate: int, generator: np.random.Generator) -> None:
    """Set an interval of each recording to zero in all leads, at most half of it."""
    samples = signals.shape[1]
    durations = np.minimum(generator.uniform(*MASK_SECONDS, part.size) * rate, samples / 2).astype(int)
    starts = generator.integers(0, samples - durations, endpoint=True)[part.rows]
    durations = durations[part.rows]
    offsets = np.arange(samples) - starts[:, np.newaxis]
    signals[(offsets >= 0) & (offsets < durations[:, np.newaxis])] = 0


def is_present(signals: np.ndarray) -> np.ndarray:
    """Return 1 for leads and samples that are present, (B, T, n_leads) float32.

    A lead is absent if it is zero throughout, and a sample if all leads are zero there.
    """
    present = np.logical_and(signals.any(axis=1, keepdims=True), signals.any(axis=2, keepdims=True))
    return np.asarray(present, np.float32)


# By their names in settings, in the order in which they are applied.
CHANGES: dict[str, Callable[[np.ndarray, Part, int, np.random.Generator], None]] = {
    "gain": scale_signals,
    "noise": add_noise,
    "wander": add_wander,
    "lead_dropout": drop_leads,
    "time_mask": mask_interval,
}
MIXUP = "mixup"  # also mixes the labels
AUGMENTATIONS = (*CHANGES, MIXUP)


def augment_signals(
    signals: np.ndarray, names: Sequence[str], rate: int, generator: np.random.Generator, part: Part | None = None
) -> None:
    """Apply the named changes to recordings of a batch, in the order of `CHANGES`.

    Args:
        signals: (n, T, n_leads) float32 in mV, changed in place.
        names: Some of `AUGMENTATIONS`.
        rate: Sampling frequency in Hz.
        generator: Random generator.
        part: Which recordings of the batch they are; None: all of them.
    """
    part = part or Part(slice(None), len(signals))
    for name, change in CHANGES.items():
        if name in names:
            change(signals, part, rate, generator)


def mix_examples(
    inputs: Sequence[np.ndarray], targets: np.ndarray, masks: np.ndarray, generator: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Mix each recording of a batch with another one (mixup, Zhang et al. 2018).

    Args:
        inputs: Arrays (B, ...) float32.
        targets: Labels, (B, K).
        masks: Weights of the labels, (B, K). A label that is masked in one of the two recordings is masked.
        generator: Random generator.

    Returns:
        The mixed inputs, labels and masks.
    """
    order = generator.permutation(len(targets))
    shares = generator.beta(MIXUP_SHAPE, MIXUP_SHAPE, len(targets)).astype(np.float32)
    shares = np.maximum(shares, 1 - shares)

    def mix(values: np.ndarray) -> np.ndarray:
        share = shares.reshape(-1, *[1] * (values.ndim - 1))
        return share * values + (1 - share) * values[order]

    return [mix(values) for values in inputs], mix(targets), np.minimum(masks, masks[order])
