"""Translate Keras networks, layer by layer, for files that only predict.

Batch normalisation is folded into the weights before it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

WEIGHTED = ("Conv1D", "Conv2D", "Dense")  # layers that a batch normalisation is folded into


class ExportError(RuntimeError):
    """A model cannot be written as a file for other programs; the message says why."""


class LayerCall(NamedTuple):
    """A layer of a network, to be translated.

    Attributes:
        layer: The Keras layer or operation.
        inputs: What its inputs became.
        normalisation: Batch normalisation that is folded into its weights, or None.
    """

    layer: Any
    inputs: tuple[Any, ...]
    normalisation: keras.layers.BatchNormalization | None = None

    @property
    def rank(self) -> int:
        """Number of axes of the first input in Keras, with that of the batch."""
        return len(keras.tree.flatten(self.layer.input)[0].shape)


def translate_network(
    network: keras.Model, inputs: Sequence[Any], translators: Mapping[str, Callable[[LayerCall], Any]], operators: str
) -> Any:
    """Translate a network, and return what its first output became.

    Layers that only other outputs need are not translated.

    Args:
        network: A functional network.
        inputs: What its inputs became.
        translators: How layers and operations are translated, by the names of their classes.
        operators: What they become, for messages, such as "ONNX operators".

    Raises:
        ExportError: A layer cannot be translated.
    """
    network = keras.Model(network.inputs, network.outputs[0])
    translated = dict(zip(map(id, network.inputs), inputs, strict=True))
    folded = find_folded_normalisations(network)
    for layer in network.operations:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        kind, tensors = type(layer).__name__, keras.tree.flatten(layer.input)
        translate = translators.get(kind)
        if translate is None or any(id(tensor) not in translated for tensor in tensors):
            raise ExportError(f"the layer {layer.name} is a {kind}, which cannot be written as {operators}")
        if layer in folded.values():
            translated[id(layer.output)] = translated[id(tensors[0])]
        else:
            layer_inputs = tuple(translated[id(tensor)] for tensor in tensors)
            translated[id(layer.output)] = translate(LayerCall(layer, layer_inputs, folded.get(id(layer.output))))
    return translated[id(network.outputs[0])]


def find_folded_normalisations(network: keras.Model) -> dict[int, keras.layers.BatchNormalization]:
    """Return the batch normalisations that only scale the weights before them.

    These are the ones that alone take the output of a convolution or fully connected layer without activation.

    Returns:
        The normalisation by the id of the tensor that it takes.
    """
    takers: dict[int, list[Any]] = {}
    linear = set()
    for layer in network.operations:
        for tensor in keras.tree.flatten(layer.input):
            takers.setdefault(id(tensor), []).append(layer)
        if type(layer).__name__ in WEIGHTED and layer.activation is keras.activations.linear:
            linear.add(id(layer.output))
    return {
        tensor: layer
        for tensor, (layer, *further_takers) in takers.items()
        if tensor in linear and not further_takers and isinstance(layer, keras.layers.BatchNormalization)
    }


def fold_weights(
    layer: Any, normalisation: keras.layers.BatchNormalization | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return kernel and bias of a layer, with a batch normalisation folded in.

    Args:
        layer: A convolution or fully connected layer.
        normalisation: The batch normalisation after it, or None.

    Returns:
        Kernel (..., inputs, filters) and bias (filters,) or None, float64.
    """
    kernel = to_double(layer.kernel)
    bias = to_double(layer.bias) if layer.use_bias else None
    if normalisation is not None:
        scale, shift = scale_and_shift(normalisation)
        kernel, bias = kernel * scale, shift if bias is None else bias * scale + shift
    return kernel, bias


def scale_and_shift(normalisation: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Return factor and summand of a batch normalisation, (C,) float64 each."""
    variance = to_double(normalisation.moving_variance) + normalisation.epsilon
    scale = (to_double(normalisation.gamma) if normalisation.scale else 1.0) / np.sqrt(variance)
    shift = -to_double(normalisation.moving_mean) * scale
    return scale, shift + to_double(normalisation.beta) if normalisation.center else shift


def to_double(weights: Any) -> np.ndarray:
    """Return weights as float64, so that products are rounded once."""
    return keras.ops.convert_to_numpy(weights).astype(np.float64)
