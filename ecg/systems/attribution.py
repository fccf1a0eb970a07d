"""Attribute a logit to the samples of a window: gradients and occlusion."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from ecg.data.batches import REPEATED, Window
from ecg.data.wave_peaks import find_beats
from ecg.models.layers import UnitRange
from ecg.models.network_settings import LOGITS
from ecg.systems.explanation_methods import INTEGRATED_GRADIENTS, OCCLUSION, SMOOTHGRAD
from ecg.training.backend import input_gradients

STEPS = 32  # from the flat signal to the recording, or noisy copies of the recording
NOISE = 0.1  # standard deviation of the noise, as a share of the range of the signal
SEED = 0  # of the noise
EXCLUDED = -1e9  # is added to a logit that a sum of exponentials leaves out
BATCH_SAMPLES = 80_000  # in a batch: 32 recordings of 10 s at 250 Hz
# Occlusion, in s: half a QRS complex, the longest time from there to the end of the T wave, and a window if there are
# no beats. The T wave ends by this share of the time to the next QRS complex.
HALF_COMPLEX, T_WAVE_END, FIXED_WINDOW = 0.09, 0.38, 0.2
T_WAVE_SHARE = 0.6
MOST_WINDOWS, MOST_GROUPS = 120, 20  # that are occluded in all leads, and in single leads


class LogitNetwork(NamedTuple):
    """A network that predicts log odds, and the layer that scales its signals, if any."""

    network: keras.Model
    scaling: layers.Layer | None


class Example(NamedTuple):
    """The signal of a recording in a window of a network.

    Attributes:
        signal: (n_samples, n_inputs) float32, without padding.
        baseline: Value of a flat signal, which also pads the window.
        demographics: (5,), or None if the network does not see them.
        window: The window.
        length: Its samples.
        rate: Sampling frequency in Hz.
    """

    signal: np.ndarray
    baseline: float
    demographics: np.ndarray | None
    window: Window
    length: int
    rate: int

    def pad(self, signals: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """Return the network's inputs for signals (B, n_samples, n_inputs)."""
        samples = len(self.signal)
        if self.window.fill == REPEATED:
            padded = np.take(signals, np.arange(self.length) % samples, axis=1).astype(np.float32)
        else:
            padded = np.full((len(signals), self.length, signals.shape[2]), self.baseline, np.float32)
            padded[:, self.window.signal_slice(self.length, samples)] = signals
        if self.demographics is None:
            return padded
        return padded, np.repeat(self.demographics[np.newaxis], len(signals), axis=0)

    def unpad(self, values: np.ndarray) -> np.ndarray:
        """Return a window's values as those of the signal; repetitions are summed."""
        samples = len(self.signal)
        if self.window.fill != REPEATED:
            return values[self.window.signal_slice(self.length, samples)]
        total = np.zeros((samples, values.shape[1]), values.dtype)
        np.add.at(total, np.arange(self.length) % samples, values)
        return total

    @property
    def batch_size(self) -> int:
        """Number of signals in a batch: a power of two, at most STEPS."""
        return min(2 ** int(np.log2(max(BATCH_SAMPLES // self.length, 1))), STEPS)


class Attribution(NamedTuple):
    """What samples and leads add to a logit.

    Attributes:
        relevance: Of each sample, (n_samples, n_inputs).
        by_input: Of each lead, (n_inputs,).
    """

    relevance: np.ndarray
    by_input: np.ndarray


def build_logit_network(network: keras.Model) -> LogitNetwork:
    """Build the network that predicts the log odds of a network of probabilities.

    A copy of the last layer has no activation; its outputs are the log odds of independent classes. Those of classes
    that exclude each other are z_k - log(sum of exp(z_j) over the other classes): a number that all z have in common
    changes no probability, so that z_k alone says nothing.

    Gradients pass from a second head to the first, which the loss of ecg.models.resnets.AttentionSettings prevents. A
    network that scales its signals to the range from 0 to 1 begins after that: its prediction does not depend on their
    size, so that no path from a flat signal would lead to it. The given network stays as it is.
    """
    output = network.layers[-1]
    features = output.input
    if second := [layer for layer in network.layers if layer.name == LOGITS]:
        hidden = network.layers[network.layers.index(second[0]) + 1]
        features = keras.Model(hidden.input, features)(second[0].output)
    linear = layers.Dense(output.units, dtype="float32")
    logits = linear(features)
    linear.set_weights(output.get_weights())
    if output.activation is keras.activations.softmax:
        itself = np.where(np.eye(output.units), EXCLUDED, 0).astype(np.float32)
        logits = logits - ops.logsumexp(ops.expand_dims(logits, 1) + itself, axis=2)
    scaling = next((layer for layer in network.layers if isinstance(layer, UnitRange)), None)
    inputs = network.inputs if scaling is None else [scaling.output]
    return LogitNetwork(keras.Model(inputs[0] if len(inputs) == 1 else tuple(inputs), logits), scaling)


def scale_window(scaling: layers.Layer | None, values: np.ndarray) -> tuple[np.ndarray, float]:
    """Scale a window as its network does.

    Args:
        scaling: The layer that scales, if any.
        values: The window, (length, n_inputs).

    Returns:
        The scaled window, and the value of a flat signal in it.
    """
    if scaling is None:
        return values, 0.0
    spread = float(np.ptp(values))
    return ops.convert_to_numpy(scaling(values[np.newaxis]))[0], -float(values.min()) / spread if spread else 0.0


def compute_logits(network: keras.Model, example: Example, signals: np.ndarray, column: int) -> np.ndarray:
    """Return the logits of a class for other signals in an example's window.

    Args:
        network: Predicts logits.
        example: The example.
        signals: (B, n_samples, n_inputs).
        column: Index of the class.

    Returns:
        (B,).
    """
    return ops.convert_to_numpy(network(example.pad(signals), training=False)[:, column])


def integrate_gradients(network: keras.Model, example: Example, column: int) -> Attribution:
    """Attribute a logit by integrated gradients (Sundararajan et al. 2017).

    The path is the straight line from a flat signal. The integral is a sum by the midpoint rule. The relevance adds up
    to the difference of the logits at both ends.
    """
    positions = (np.arange(STEPS, dtype=np.float32) + 0.5) / STEPS
    difference = example.signal - np.float32(example.baseline)
    total = np.zeros(difference.shape)
    for part in positions.reshape(-1, example.batch_size):
        signals = example.baseline + part[:, np.newaxis, np.newaxis] * difference
        total += _sum_gradients(network, example, signals, column)
    relevance = difference * total / STEPS
    return Attribution(relevance, relevance.sum(axis=0))


def smooth_gradients(network: keras.Model, example: Example, column: int) -> Attribution:
    """Attribute a logit by SmoothGrad times the signal (Smilkov et al. 2017).

    The gradient is the mean over copies of the signal with noise. Flat leads stay flat, because a network may see
    which leads are present.
    """
    rng = np.random.default_rng(SEED)
    deviation = NOISE * np.ptp(example.signal) * (np.ptp(example.signal, axis=0) > 0)
    total = np.zeros(example.signal.shape)
    for _ in range(STEPS // example.batch_size):
        noise = rng.normal(0, deviation, (example.batch_size, *example.signal.shape))
        total += _sum_gradients(network, example, example.signal + noise, column)
    relevance = (example.signal - example.baseline) * total / STEPS
    return Attribution(relevance, relevance.sum(axis=0))


def _sum_gradients(network: keras.Model, example: Example, signals: np.ndarray, column: int) -> np.ndarray:
    """Return the sum of the gradients at several signals, (n_samples, n_inputs)."""
    _, gradients = input_gradients(network, example.pad(signals), column)
    return example.unpad(gradients.sum(axis=0, dtype=np.float64))


def occlude(network: keras.Model, example: Example, column: int) -> Attribution:
    """Attribute a logit by occlusion (Zeiler and Fergus 2014).

    A straight line from its beginning to its end replaces each wave in all leads. The wave's relevance is by how much
    the logit falls. The leads share it by how much the logit falls if the beat is occluded in one lead
    alone. The relevance of a lead is by how much the logit falls if all of it is flat.
    """
    waves, beats = find_occlusions(example.signal - example.baseline, example.rate)
    inputs = np.flatnonzero(np.ptp(example.signal, axis=0))
    if not len(inputs):
        return Attribution(np.zeros(example.signal.shape), np.zeros(example.signal.shape[1]))
    occlusions: list[tuple] = [(*wave, inputs) for wave in pairwise(waves)]
    occlusions += [(*beat, [lead]) for beat in pairwise(beats) for lead in inputs]
    occlusions += [(0, len(example.signal), [lead]) for lead in inputs]
    n_waves = len(waves) - 1
    falls = _measure_falls(network, example, column, occlusions)
    wave_falls, lead_falls = falls[:n_waves], falls[n_waves:].reshape(-1, len(inputs))
    relevance, by_input = np.zeros(example.signal.shape), np.zeros(example.signal.shape[1])
    for (begin, end), fall in zip(pairwise(waves), wave_falls, strict=True):
        beat = np.searchsorted(beats, (begin + end) / 2) - 1
        shares = np.maximum(np.sign(fall) * lead_falls[beat], 0)
        shares = shares / shares.sum() if shares.any() else np.full(len(inputs), 1 / len(inputs))
        relevance[begin:end, inputs] = fall * shares / (end - begin)
    by_input[inputs] = lead_falls[-1]
    return Attribution(relevance, by_input)


def find_occlusions(signal: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Divide a signal into waves, and into beats, for occlusion.

    A beat has three parts: until its QRS complex, the QRS complex, and until the end of the T wave. A signal with fewer
    than two beats is divided into equal windows. In a long signal, neighbours are joined.

    Args:
        signal: (T, n_inputs).
        rate: Sampling frequency in Hz.

    Returns:
        Edges of the waves and of the beats, both from 0 to T.
    """
    centres = find_beats(signal, rate)
    if len(centres) < 2:
        beats = np.append(np.arange(0, len(signal), max(round(FIXED_WINDOW * rate), 1)), len(signal))
        return _join_neighbours(beats, MOST_WINDOWS), _join_neighbours(beats, MOST_GROUPS)
    begins, ends = centres - round(HALF_COMPLEX * rate), centres + round(HALF_COMPLEX * rate)
    between = ends[:-1] + np.minimum(T_WAVE_SHARE * (begins[1:] - ends[:-1]), T_WAVE_END * rate).astype(int)
    beats = np.array([0, *between, len(signal)])
    waves = np.unique(np.concatenate([beats, begins, ends]).clip(0, len(signal)))
    return _join_neighbours(waves, MOST_WINDOWS), _join_neighbours(beats, MOST_GROUPS)


def _join_neighbours(edges: np.ndarray, most: int) -> np.ndarray:
    """Return edges of at most so many intervals."""
    return edges[np.rint(np.linspace(0, len(edges) - 1, min(most + 1, len(edges)))).astype(int)]


def _measure_falls(
    network: keras.Model, example: Example, column: int, occlusions: Sequence[tuple[int, int, Any]]
) -> np.ndarray:
    """Return by how much the logit falls by each occlusion: begin, end, inputs."""
    falls = []
    reference = compute_logits(network, example, example.signal[np.newaxis], column)[0]
    for first in range(0, len(occlusions), example.batch_size):
        chosen = occlusions[first : first + example.batch_size]
        signals = np.repeat(example.signal[np.newaxis], len(chosen), axis=0)
        for signal, (begin, end, inputs) in zip(signals, chosen, strict=True):
            if end - begin == len(signal):
                signal[:, inputs] = example.baseline
            else:
                signal[begin:end, inputs] = np.linspace(signal[begin, inputs], signal[end - 1, inputs], end - begin)
        falls.append(reference - compute_logits(network, example, signals, column))
    return np.concatenate(falls)


Attribute = Callable[[keras.Model, Example, int], Attribution]
METHODS: dict[str, Attribute] = {
    INTEGRATED_GRADIENTS: integrate_gradients,
    SMOOTHGRAD: smooth_gradients,
    OCCLUSION: occlude,
}
