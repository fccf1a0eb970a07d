"""Translate networks into one Keras model that LiteRT's converter turns into few operators.

LiteRT convolves and pools planes only. Keras' layers along time would become planes, be convolved and become lines
again, each for itself, and a bias would be an operator of its own. Here a signal is a plane of one row throughout:
(batch, 1, samples, channels). Tensors without time are as in Keras.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from ecg.models.translation import LayerCall, fold_weights, scale_and_shift, translate_network


def translate_for_litert(network: keras.Model, inputs: Sequence[keras.KerasTensor], prefix: str) -> keras.KerasTensor:
    """Translate a network into layers of planes, and return its first output.

    Args:
        network: A functional network.
        inputs: Its inputs; signals are (batch, 1, samples, channels).
        prefix: Begins the names of the new layers, so that they are unique.

    Raises:
        ExportError: A layer cannot be translated.
    """

    def name_call(translate: Callable[[LayerCall, str], Any]) -> Callable[[LayerCall], Any]:
        return lambda call: translate(call, prefix + call.layer.name)

    translators = {kind: name_call(translate) for kind, translate in TRANSLATORS.items()}
    return translate_network(network, inputs, translators, "LiteRT operators")


def _apply_with_weights(layer: Any, x: keras.KerasTensor, *weights: np.ndarray | None) -> keras.KerasTensor:
    output = layer(x)
    layer.set_weights([array for array in weights if array is not None])
    return output


def _translate_convolution(call: LayerCall, name: str) -> keras.KerasTensor:
    layer = call.layer
    kernel, bias = fold_weights(layer, call.normalisation)
    plane = layers.Conv2D(
        layer.filters, (1, *layer.kernel_size), (1, *layer.strides), layer.padding, groups=layer.groups,
        dilation_rate=(1, *layer.dilation_rate), activation=layer.activation, use_bias=bias is not None, name=name,
    )  # fmt: skip
    return _apply_with_weights(plane, call.inputs[0], kernel[np.newaxis], bias)


def _translate_dense(call: LayerCall, name: str) -> keras.KerasTensor:
    """Translate a fully connected layer; along time it is a convolution of one tap."""
    layer = call.layer
    kernel, bias = fold_weights(layer, call.normalisation)
    options = {"activation": layer.activation, "use_bias": bias is not None, "name": name}
    if call.rank == 2:
        return _apply_with_weights(layers.Dense(layer.units, **options), call.inputs[0], kernel, bias)
    plane = layers.Conv2D(layer.units, 1, **options)
    return _apply_with_weights(plane, call.inputs[0], kernel[np.newaxis, np.newaxis], bias)


def _translate_normalisation(call: LayerCall, name: str) -> keras.KerasTensor:
    """Translate a batch normalisation that could not be folded into weights."""
    scale, shift = scale_and_shift(call.layer)
    unchanged = np.zeros_like(shift), np.ones_like(shift)  # moving mean and variance
    layer = layers.BatchNormalization(epsilon=0.0, name=name)
    return _apply_with_weights(layer, call.inputs[0], scale, shift, *unchanged)


def _translate_pooling(call: LayerCall, name: str) -> keras.KerasTensor:
    layer = call.layer
    sizes = (1, *layer.pool_size), (1, *layer.strides)
    return layers.MaxPooling2D(*sizes, layer.padding, name=name)(call.inputs[0])


def _translate_global_pooling(kind: Any) -> Callable[[LayerCall, str], keras.KerasTensor]:
    return lambda call, name: kind(keepdims=call.layer.keepdims, name=name)(call.inputs[0])


# How layers and operations are translated, by the names of their classes: those of networks that see whole recordings.
TRANSLATORS: dict[str, Callable[[LayerCall, str], Any]] = {
    "Conv1D": _translate_convolution,
    "Dense": _translate_dense,
    "BatchNormalization": _translate_normalisation,
    "Activation": lambda call, name: layers.Activation(call.layer.activation, name=name)(call.inputs[0]),
    "MaxPooling1D": _translate_pooling,
    "GlobalMaxPooling1D": _translate_global_pooling(layers.GlobalMaxPooling2D),
    "GlobalAveragePooling1D": _translate_global_pooling(layers.GlobalAveragePooling2D),
    "Add": lambda call, name: layers.Add(name=name)(call.inputs),
    "Multiply": lambda call, name: layers.Multiply(name=name)(call.inputs),
    "Concatenate": lambda call, name: layers.Concatenate(name=name)(call.inputs),
    "Dropout": lambda call, name: call.inputs[0],
}
