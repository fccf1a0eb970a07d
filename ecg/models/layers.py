"""Building blocks of the networks.

Every function takes and returns symbolic tensors of shape (batch, samples, channels).
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import KerasTensor, layers, ops

# Momentum of batch normalisation. With Keras' 0.99, an epoch of 50 steps would still remember the start.
BATCH_MOMENTUM = 0.9
PACKAGE = "ecg"  # of the names in files that `keras.Model.save` writes


@ops.custom_gradient
def _mish_with_gradient(x: Any) -> tuple[Any, Callable]:
    """Return x tanh(softplus(x)) and its gradient.

    With e = exp(x), tanh(softplus(x)) is n / (n + 2), where n = e (e + 2): one exponential. Beyond 20 it is 1 in single
    precision, and the bound keeps e * e from overflowing. The gradient, n / (n + 2) + 4 x e (e + 1) / (n + 2)^2, needs
    x alone, so that no intermediate result is stored.
    """

    def exponentials() -> tuple[Any, Any]:
        e = ops.exp(ops.minimum(x, 20.0))
        return e, e * (e + 2.0)

    def gradient(*above: Any, upstream: Any = None) -> Any:
        e, n = exponentials()
        part = 1.0 / (n + 2.0)
        # Backends differ in how they pass the gradient from above.
        return (above[0] if upstream is None else upstream) * part * (n + 4.0 * x * (e * (e + 1.0) * part))

    _, n = exponentials()
    return x * (n / (n + 2.0)), gradient


# Keras finds a registered function by its name. What `custom_gradient` returns has none of its own.
@keras.saving.register_keras_serializable(PACKAGE)
def mish(x: Any) -> Any:
    """Return x tanh(softplus(x)), the activation of Misra 2020."""
    return _mish_with_gradient(x)


@keras.saving.register_keras_serializable(PACKAGE)
def leaky_relu(x: Any) -> Any:
    """Return x if it is positive, else x / 100 (Nejedly et al. 2021)."""
    return ops.leaky_relu(x, negative_slope=0.01)


ACTIVATIONS: dict[str, Any] = {"mish": mish, "relu": "relu", "leaky_relu": leaky_relu}  # by their names in settings


@keras.saving.register_keras_serializable(PACKAGE)
class UnitRange(layers.Layer):
    """Scales each recording to the range from 0 to 1.

    All leads of (batch, samples, leads) have the same minimum and maximum. A constant recording becomes 0.
    """

    def call(self, x: Any) -> Any:
        """Return the scaled recordings."""
        minimum = ops.min(x, axis=(1, 2), keepdims=True)
        return ops.divide_no_nan(x - minimum, ops.max(x, axis=(1, 2), keepdims=True) - minimum)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the input."""
        return shape


@keras.saving.register_keras_serializable(PACKAGE)
class LeadPresence(layers.Layer):
    """Returns 1 for each lead that has a signal, and 0 for one that is 0 throughout.

    From (batch, samples, leads) to (batch, leads).
    """

    def call(self, x: Any) -> Any:
        """Return the indicators."""
        return ops.cast(ops.any(x != 0, axis=1), self.compute_dtype)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the input without the samples."""
        return shape[0], shape[2]


def activate(x: KerasTensor, activation: str) -> KerasTensor:
    """Apply an activation, one of ACTIVATIONS, as a layer of its own."""
    return layers.Activation(ACTIVATIONS[activation])(x)


def normalise(x: KerasTensor) -> KerasTensor:
    """Apply batch normalisation."""
    return layers.BatchNormalization(momentum=BATCH_MOMENTUM)(x)


def bare_convolution(x: KerasTensor, filters: int, kernel: int, stride: int = 1) -> KerasTensor:
    """Convolve along time, without the bias that batch normalisation adds."""
    return layers.Conv1D(filters, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)


def convolution(x: KerasTensor, filters: int, kernel: int, stride: int = 1) -> KerasTensor:
    """Convolve along time, then apply batch normalisation."""
    return normalise(bare_convolution(x, filters, kernel, stride))


def subsample(x: KerasTensor, stride: int) -> KerasTensor:
    """Return every sample of x that a convolution of one tap with a stride would see.

    Subsamples in its own layer: in TensorFlow 2.21 with oneDNN the gradient of a strided 1x1 convolution with fewer
    than 16 channels writes out of bounds.
    """
    return layers.MaxPooling1D(1, stride)(x) if stride > 1 else x


def squeeze_excitation(x: KerasTensor, ratio: int | None, activation: str = "mish") -> KerasTensor:
    """Weight each channel by squeeze-and-excitation (Hu et al. 2018).

    The gate is computed from all channels' means over time. If the ratio is None, x stays unchanged.
    """
    if ratio is None:
        return x
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling1D(keepdims=True)(x)
    gate = layers.Dense(max(channels // ratio, 1), activation=ACTIVATIONS[activation])(gate)
    gate = layers.Dense(channels, activation="sigmoid")(gate)
    return layers.Multiply()([x, gate])


def residual_block(
    x: KerasTensor, filters: int, kernel: int, stride: int, ratio: int | None, dropout: float, activation: str = "mish"
) -> KerasTensor:
    """Apply a residual block of two convolutions (He et al. 2016).

    Where stride or filters change the shape, the shortcut is a convolution of one tap.
    """
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = convolution(subsample(x, stride), filters, 1)
    x = activate(convolution(x, filters, kernel, stride), activation)
    x = layers.Dropout(dropout)(x)
    x = squeeze_excitation(convolution(x, filters, kernel), ratio, activation)
    return activate(layers.Add()([x, shortcut]), activation)


def pooled_residual_block(x: KerasTensor, filters: int, kernel: int, activation: str) -> KerasTensor:
    """Apply a residual block that halves the number of steps in time.

    The shortcut is average pooling and a convolution of one tap. No activation follows the sum.
    """
    shortcut = bare_convolution(layers.AveragePooling1D(2, padding="same")(x), filters, 1)
    for stride in (2, 1):
        x = activate(convolution(x, filters, kernel, stride), activation)
    return layers.Add()([x, shortcut])


def preactivated_block(
    x: KerasTensor,
    taps: tuple[tuple[int, int], ...],
    stride: int,
    ratio: int | None,
    begins: bool,
    activation: str = "relu",
) -> KerasTensor:
    """Apply a pre-activation residual block (He et al. 2016b).

    Each convolution follows batch normalisation and activation.

    Args:
        x: Input.
        taps: Filters and kernel of each convolution; the first of two or the second of three has the stride.
        stride: Stride of the block.
        ratio: Of squeeze-and-excitation; None for none.
        begins: Whether the block begins a stage. Its first activation then precedes the shortcut, which is a
            convolution of one tap if the shape changes.
        activation: One of ACTIVATIONS.
    """
    shortcut, filters = x, taps[-1][0]
    strided = (len(taps) - 1) // 2
    for index, (width, kernel) in enumerate(taps):
        x = activate(normalise(x), activation)
        if index == 0 and begins:
            shortcut = x
            if stride > 1 or x.shape[-1] != filters:
                shortcut = bare_convolution(subsample(x, stride), filters, 1)
        x = bare_convolution(x, width, kernel, stride if index == strided else 1)
    return layers.Add()([squeeze_excitation(x, ratio, activation), shortcut])
