"""From settings to a Keras model: the SE-ResNet of the method, in one precision or another."""

from contextlib import contextmanager
from dataclasses import dataclass

import keras
from keras import layers

from ecg.layers import activation, convolution, residual_block

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # weights are float32 in both


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the network; the defaults are the method's, or what was decided where the paper gives none."""

    width: int = 32  # filters of the first convolution and the first pair of blocks; doubles from pair to pair
    first_kernel: int = 16
    first_stride: int = 2
    kernels: tuple[int, ...] = (11, 9, 7, 5)  # one for each pair of residual blocks
    squeeze_ratio: int = 16
    dropout: float = 0.2
    hidden: int = 256  # units of the first of the two fully connected layers


@contextmanager
def computing_in(precision):
    """Have the networks that are built within compute in a precision, one of POLICIES."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_network(settings, leads, classes):
    """Return the SE-ResNet for a number of leads and of classes (Cai et al. 2021).

    Input (B, T, leads) float32, mV at 250 Hz, T any; output (B, classes) probabilities.
    """
    signal = keras.Input((None, leads))
    x = activation(convolution(signal, settings.width, settings.first_kernel, settings.first_stride))
    x = layers.MaxPooling1D(2, padding="same")(x)
    for pair, kernel in enumerate(settings.kernels):
        for block in range(2):
            stride = 2 if pair > 0 and block == 0 else 1
            filters = settings.width * 2**pair
            x = residual_block(x, filters, kernel, stride, settings.squeeze_ratio, settings.dropout)
    x = layers.GlobalMaxPooling1D()(x)
    x = activation(layers.Dense(settings.hidden, kernel_initializer="he_normal")(x))
    # In single precision, whatever the rest computes in: near 0 and 1 half of it would tell few probabilities apart.
    probabilities = layers.Dense(classes, activation="sigmoid", dtype="float32")(x)
    network = keras.Model(signal, probabilities, name="se_resnet")
    # Names that do not tell what else the process has built, for they are saved with the weights.
    for place, layer in enumerate(network.layers):
        layer.name = f"{place:03}_{type(layer).__name__}"
    return network
