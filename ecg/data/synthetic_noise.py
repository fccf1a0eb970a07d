"""Noise of synthetic recordings: muscles, movement and mains."""

from typing import NamedTuple

import numpy as np
from scipy.fft import next_fast_len

ROOM = 10  # s by which noise is longer than a recording, so that its end is not like its beginning


def draw_noise(samples: int, frequency: int, mains: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the noise of muscles, movement and mains at nine electrodes.

    Args:
        samples: Number of samples T.
        frequency: Sampling frequency in Hz.
        mains: Mains frequency in Hz.
        rng: Random generator.

    Returns:
        The noise, (T, 9), mV.
    """
    time = np.arange(samples, dtype=np.float32) / frequency
    scale = rng.lognormal(0, 0.5)
    burst = draw_burst(time, rng)  # each electrode has noise of its own
    noise = rng.standard_normal((samples, 9), np.float32)
    noise *= burst[:, None] * (0.007 * scale * rng.lognormal(0, 0.4, 9)).astype(np.float32)
    slow = np.array([0.07, 0.17, 0.29, 0.41]) * rng.uniform(0.7, 1.3, 4)  # Hz: electrode drift and breathing
    waves = np.sin(2 * np.pi * (np.outer(time, [*slow, mains * rng.normal(1, 0.0005)]) + rng.random(5)))
    amplitudes = [0.06, 0.04, 0.04, 0.02, 0.15 * rng.lognormal(-4, 1)]
    return noise + waves @ (scale * np.array(amplitudes)[:, None] * rng.normal(size=(5, 9)))


def draw_burst(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the factor of muscle noise over time (T,), in s: a fifth have a burst."""
    return 1 + 4 * (rng.random() < 0.2) * np.exp(-0.5 * ((time - rng.uniform(0, time[-1])) / 1.5) ** 2)


class Recorder(NamedTuple):
    """What the electrocardiographs of a source add to the heart's potentials.

    Attributes:
        muscle: Median deviation of the noise of muscles, µV.
        wander: Median deviation of the wander, µV.
        mains: Median amplitude of the mains, µV.
        mains_spread: Logarithmic standard deviation of the latter.
        filtered: Share of recordings without noise above about 45 Hz.
        step: Resolution, µV.
    """

    muscle: float
    wander: float
    mains: float
    mains_spread: float = 1.0
    filtered: float = 0.0
    step: float = 1.0


RECORDERS = {
    "CPSC": Recorder(4.6, 10, 0.1, filtered=0.35),
    "CPSC-Extra": Recorder(4.6, 10, 0.1, filtered=0.3),
    "INCART": Recorder(9, 40, 1.5),
    "PTB": Recorder(9, 40, 1.5),
    "PTB-XL": Recorder(3.2, 37, 0.4, step=5.0),
    "Georgia": Recorder(4.8, 30, 1.2, step=4.88),
    "Chapman-Shaoxing": Recorder(6.3, 18, 0.8, step=4.88),
    "Ningbo": Recorder(9, 25, 1.0, mains_spread=1.5, step=4.88),
}


def draw_realistic_noise(
    recorder: Recorder, samples: int, frequency: int, mains: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw the noise of muscles, movement and mains at nine electrodes.

    Muscle noise falls with the frequency. The strengths of the three are independent.

    Args:
        recorder: What the source's electrocardiographs add.
        samples: Number of samples T.
        frequency: Sampling frequency in Hz.
        mains: Mains frequency in Hz.
        rng: Random generator.

    Returns:
        The noise, (T, 9), mV.
    """
    time = np.arange(samples) / frequency

    def draw(low: float, high: float, order: int) -> np.ndarray:
        """Draw noise of unit variance that begins at `low` and falls above `high` Hz."""
        length = next_fast_len(samples + ROOM * frequency, real=True)
        bins = np.fft.rfftfreq(length, 1 / frequency)
        gain = (bins >= low) / np.sqrt(1 + (bins / high) ** (2 * order))
        spectrum = gain[:, np.newaxis] * (rng.standard_normal((len(bins), 9, 2)) @ (1, 1j))
        return np.fft.irfft(spectrum, length, axis=0)[:samples] * length / (2 * np.linalg.norm(gain))

    muscle = draw(1, 38, 8) if rng.random() < recorder.filtered else draw(1, rng.uniform(10, 45), 1)
    muscle *= draw_burst(time, rng)[:, None] * recorder.muscle * rng.lognormal(0, 0.55) * rng.lognormal(0, 0.3, 9)
    breath = np.sin(2 * np.pi * (rng.uniform(0.18, 0.35) * time + rng.random()))
    wander = draw(0.05, 0.12, 2) * rng.lognormal(0, 0.35, 9) + 0.5 * rng.normal(size=9) * breath[:, None]
    wander *= recorder.wander * rng.lognormal(0, 0.65)
    hum = np.sin(2 * np.pi * (mains * rng.normal(1, 0.0003) * time + rng.random()))
    hum = hum[:, None] * recorder.mains * rng.lognormal(0, recorder.mains_spread) * rng.normal(size=9)
    return 1e-3 * (muscle + wander + hum)
