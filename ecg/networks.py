"""From settings to a Keras model: the SE-ResNet of the default method, in one precision or another."""

from contextlib import contextmanager
from dataclasses import dataclass

import keras
from keras import layers

from ecg.layers import ACTIVATIONS, activate, convolution, residual_block

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # weights are float32 in both


@contextmanager
def computing_in(precision):
    """Have the networks that are built within compute in a precision, one of POLICIES."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def named(network, before=""):
    """Name a network's layers by their place and kind, after what comes `before`, and return it.

    Names that do not tell what else the process has built, for they are saved with the weights.
    """
    for place, layer in enumerate(network.layers):
        layer.name = f"{before}{place:03}_{type(layer).__name__}"
    return network


def check_settings(settings):
    """Raise ValueError where a network's settings have an activation that is none, or a dropout that leaves nothing."""
    if settings.activation not in [*ACTIVATIONS]:
        raise ValueError(f"activation is {settings.activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    if not 0 <= getattr(settings, "dropout", 0) < 1:
        raise ValueError(f"dropout is {settings.dropout!r}, expected a number from 0 to below 1")


def answering(x, classes, answer):
    """Return the probabilities of classes by a fully connected layer with an activation, "sigmoid" or "softmax".

    In single precision, whatever the rest computes in: near 0 and 1 half of it would tell few probabilities apart.
    """
    return layers.Dense(classes, activation=answer, dtype="float32")(x)


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the SE-ResNet of Cai et al. 2021; the defaults are the method's, or ours where the paper gives none."""

    width: int = 32  # filters of the first convolution and the first pair of blocks; doubles from pair to pair
    first_kernel: int = 16
    first_stride: int = 2
    kernels: tuple[int, ...] = (11, 9, 7, 5)  # one for each pair of residual blocks
    squeeze_ratio: int | None = 16  # None: without squeeze-and-excitation
    dropout: float = 0.2
    hidden: int = 256  # units of the first of the two fully connected layers
    activation: str = "mish"  # of ecg.layers.ACTIVATIONS

    def __post_init__(self):
        check_settings(self)

    @property
    def blocks(self):
        """How many blocks follow one another."""
        return 2 * len(self.kernels)

    def build(self, leads, length, classes, answer="sigmoid"):
        """Return the network for numbers of leads, of samples (None: any) and of classes.

        Input (B, T, leads) float32, mV, by the method at 250 Hz; output (B, classes) probabilities.
        """
        signal = keras.Input((length, leads))
        x = activate(convolution(signal, self.width, self.first_kernel, self.first_stride), self.activation)
        x = layers.MaxPooling1D(2, padding="same")(x)
        for pair, kernel in enumerate(self.kernels):
            for block in range(2):
                stride = 2 if pair > 0 and block == 0 else 1
                filters = self.width * 2**pair
                x = residual_block(x, filters, kernel, stride, self.squeeze_ratio, self.dropout, self.activation)
        x = layers.GlobalMaxPooling1D()(x)
        x = activate(layers.Dense(self.hidden, kernel_initializer="he_normal")(x), self.activation)
        return named(keras.Model(signal, answering(x, classes, answer), name="se_resnet"))

    def least(self, leads, classes):
        """Return a number of weights that the network has at the least, without building it.

        That of the first convolution, of one convolution of each pair of blocks, and of the fully connected layers.
        """
        filters = [self.width << pair for pair in range(len(self.kernels))]
        blocks = sum(kernel * each**2 for kernel, each in zip(self.kernels, filters, strict=True))
        last = filters[-1] if filters else self.width
        return self.first_kernel * leads * self.width + blocks + self.hidden * (last + classes)
