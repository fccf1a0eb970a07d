"""Resample and filter leads as the training of a model did, from what its file says."""

from fractions import Fraction

import numpy as np
from scipy import fft


def preprocess(millivolts, frequency, model):
    """Return leads (samples, leads) in mV at `frequency` Hz as the model takes them."""
    rate, taps = model["preprocessing"]["rate"], np.array(model["filter_taps"])
    down, up = (Fraction(frequency) / rate).limit_denominator(5000).as_integer_ratio()
    samples, reach = len(millivolts), len(taps) // 2
    lead_in = -(-reach // up)
    steps = fft.next_fast_len(2 * lead_in + -(-samples // down), real=True)
    around = (lead_in * down, (steps - lead_in) * down - samples)
    centred = (millivolts - millivolts.mean(axis=0)).astype(np.float32)
    extended = np.pad(centred, (around, (0, 0)), mode="reflect", reflect_type="odd")
    response = fft.rfft(np.roll(np.pad(taps, (0, steps * up - len(taps))), -reach)).real * up / down
    spectrum = fft.rfft(extended, axis=0)[: len(response)]
    filtered = fft.irfft(spectrum * response[: len(spectrum), np.newaxis], steps * up, axis=0)[lead_in * up :]
    rounded = np.rint(filtered[: -(-samples * up // down)] / model["resolution"]) * model["resolution"]
    return rounded.clip(-model["largest"], model["largest"]).astype(np.float32)
