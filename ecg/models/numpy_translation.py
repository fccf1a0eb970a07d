"""Translate Keras networks into operations on numpy arrays."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from ecg.models import layers
from ecg.models.numpy_network import NumpyNetwork, Operation
from ecg.models.translation import ExportError, LayerCall, translate_network

ACTIVATIONS_BY_FUNCTION = {  # their names in ecg.models.numpy_kernels.ACTIVATION_KERNELS
    keras.activations.linear: "linear",
    keras.activations.relu: "relu",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.softmax: "softmax",
    layers.mish: "mish",
    layers.leaky_relu: "leaky_relu",
}


class OperationList:
    """Operations of a network that grow by one at a time.

    Attributes:
        operations: The operations.
        weights: The index of each weight in Keras' order, by its id.
        n_inputs: Number of the network's inputs.
    """

    def __init__(self, network: keras.Model) -> None:
        self.operations: list[Operation] = []
        self.weights = {id(weight): index for index, weight in enumerate(network.weights)}
        self.n_inputs = len(network.inputs)

    def apply(self, kind: str, call: LayerCall, weights: Mapping[str, Any] | None = None, **options: Any) -> int:
        """Add an operation, and return the index of its output.

        Args:
            kind: Name of the operation.
            call: The layer that it stands for.
            weights: Keras variables by name; those that are None are excluded.
            **options: What else it needs.
        """
        indices = {name: self.weights[id(weight)] for name, weight in (weights or {}).items() if weight is not None}
        self.operations.append(Operation(kind, tuple(call.inputs), options, indices))
        return self.n_inputs + len(self.operations) - 1


def translate_for_numpy(network: keras.Model) -> NumpyNetwork:
    """Translate a network, with the weights that it has now.

    Args:
        network: A functional network; its first output is translated.

    Raises:
        ExportError: A layer cannot be translated.
    """
    operations = OperationList(network)
    translators = {kind: _bind(translate, operations) for kind, translate in TRANSLATORS.items()}
    translate_network(network, range(operations.n_inputs), translators, "numpy operations")
    return NumpyNetwork(operations.n_inputs, tuple(operations.operations), network.get_weights())


def _bind(
    translate: Callable[[OperationList, LayerCall], int], operations: OperationList
) -> Callable[[LayerCall], int]:
    return lambda call: translate(operations, call)


def _name_activation(layer: Any) -> str:
    if layer.activation not in ACTIVATIONS_BY_FUNCTION:
        name = getattr(layer.activation, "__name__", layer.activation)
        raise ExportError(f"the layer {layer.name} has the activation {name}, which numpy does not know")
    return ACTIVATIONS_BY_FUNCTION[layer.activation]


def _normalisation_weights(normalisation: Any) -> dict[str, Any]:
    if normalisation is None:
        return {}
    if normalisation.axis not in (-1, len(normalisation.input.shape) - 1):
        raise ExportError(f"the layer {normalisation.name} normalises the axis {normalisation.axis}, expected the last")
    return {name: getattr(normalisation, name) for name in ("gamma", "beta", "moving_mean", "moving_variance")}


def _add_weighted_layer(operations: OperationList, kind: str, call: LayerCall, **options: Any) -> int:
    """Add a layer with weights, and the batch normalisation after it."""
    layer, normalisation = call.layer, call.normalisation
    weights = {"kernel": layer.kernel, "bias": layer.bias} | _normalisation_weights(normalisation)
    epsilon = 0.0 if normalisation is None else normalisation.epsilon
    return operations.apply(kind, call, weights, activation=_name_activation(layer), epsilon=epsilon, **options)


def _translate_convolution(operations: OperationList, call: LayerCall) -> int:
    layer = call.layer
    _check_layout(layer)
    if layer.groups != 1 or set(layer.dilation_rate) != {1}:
        raise ExportError(f"the layer {layer.name} has groups or dilated taps, which numpy does not know")
    return _add_weighted_layer(operations, "convolution", call, strides=layer.strides, padding=layer.padding)


def _translate_deformable_convolution(operations: OperationList, call: LayerCall) -> int:
    layer = call.layer
    weights = {"kernel": layer.kernel, "bias": layer.bias, "offsets_kernel": layer.offsets.kernel,
               "offsets_bias": layer.offsets.bias}  # fmt: skip
    return operations.apply("deformable convolution", call, weights, activation=_name_activation(layer))


def _check_layout(layer: Any) -> None:
    """Raise ExportError for another axis of channels, or another padding."""
    if layer.data_format != "channels_last" or layer.padding not in ("same", "valid"):
        layout = f"{layer.data_format} and the padding {layer.padding}"
        raise ExportError(f"the layer {layer.name} has {layout}, which numpy does not know")


def _translate_normalisation(operations: OperationList, call: LayerCall) -> int:
    return operations.apply("normalisation", call, _normalisation_weights(call.layer), epsilon=call.layer.epsilon)


def _translate_pooling(is_mean: bool) -> Callable[[OperationList, LayerCall], int]:
    def translate(operations: OperationList, call: LayerCall) -> int:
        layer = call.layer
        _check_layout(layer)
        return operations.apply("pooling", call, size=layer.pool_size, strides=layer.strides, padding=layer.padding,
                                mean=is_mean)  # fmt: skip

    return translate


def _translate_global_pooling(is_mean: bool) -> Callable[[OperationList, LayerCall], int]:
    return lambda operations, call: operations.apply(
        "reduction", call, axes=tuple(range(1, call.rank - 1)), keepdims=call.layer.keepdims, mean=is_mean
    )


def _translate_attention(operations: OperationList, call: LayerCall) -> int:
    layer = call.layer
    parts = {"query": layer.query_dense, "key": layer.key_dense, "value": layer.value_dense,
             "output": layer.output_dense}  # fmt: skip
    weights = {f"{name}_kernel": dense.kernel for name, dense in parts.items()}
    return operations.apply("attention", call, weights | {f"{name}_bias": dense.bias for name, dense in parts.items()})


def _skip(operations: OperationList, call: LayerCall) -> int:
    return call.inputs[0]


# How layers and operations are translated, by the names of their classes.
TRANSLATORS: dict[str, Callable[[OperationList, LayerCall], int]] = {
    "Conv1D": _translate_convolution,
    "Conv2D": _translate_convolution,
    "DeformableConv2D": _translate_deformable_convolution,
    "Dense": lambda operations, call: _add_weighted_layer(operations, "dense", call),
    "BatchNormalization": _translate_normalisation,
    "Activation": lambda operations, call: operations.apply(
        "activation", call, activation=_name_activation(call.layer)
    ),
    "MaxPooling1D": _translate_pooling(is_mean=False),
    "MaxPooling2D": _translate_pooling(is_mean=False),
    "AveragePooling1D": _translate_pooling(is_mean=True),
    "GlobalMaxPooling1D": _translate_global_pooling(is_mean=False),
    "GlobalAveragePooling1D": _translate_global_pooling(is_mean=True),
    "GlobalAveragePooling2D": _translate_global_pooling(is_mean=True),
    "Add": lambda operations, call: operations.apply("addition", call),
    "Multiply": lambda operations, call: operations.apply("multiplication", call),
    "Concatenate": lambda operations, call: operations.apply("concatenation", call, axis=call.layer.axis),
    "Permute": lambda operations, call: operations.apply("transposition", call, axes=(0, *call.layer.dims)),
    "Reshape": lambda operations, call: operations.apply("reshaping", call, shape=call.layer.target_shape),
    "UnitRange": lambda operations, call: operations.apply("unit range", call),
    "LeadPresence": lambda operations, call: operations.apply("lead presence", call),
    "MultiHeadAttention": _translate_attention,
    "Dropout": _skip,
    "StopGradient": _skip,
}
