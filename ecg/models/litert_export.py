"""Write a trained model as a LiteRT file, and run it.

LiteRT was called TensorFlow Lite. The networks are a flat buffer. The description of the model follows it as a zip
archive with one file, as TensorFlow Lite attaches files to a model: LiteRT ignores what follows the buffer, every
language can read a zip archive, and model and description cannot be separated.

LiteRT convolves and pools planes only. Keras' layers along time would become planes, be convolved and become lines
again, each for itself, and a bias would be an operator of its own. Here a signal is a plane of one row throughout the
networks: (batch, 1, samples, channels). Tensors without time are as in Keras.
"""

import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from ecg.data.preprocessing import N_DEMOGRAPHICS
from ecg.models.bundle import Bundle
from ecg.models.ensemble import Member, uses_demographics
from ecg.models.export_contract import BY_NETWORK, DEMOGRAPHICS, PROBABILITIES, SIGNAL, describe_contract
from ecg.models.translation import ExportError, LayerCall, fold_weights, scale_and_shift, translate_network
from ecg.runtime.keras_startup import hide_standard_error

DESCRIPTION = "ecg.json"  # name of the description in the archive
LITERT_PACKAGES = ("ai-edge-litert", "tensorflow")


def write_litert_file(bundle: Bundle, path: Path) -> None:
    """Write a model as a LiteRT file.

    Args:
        bundle: A model that can be exported; see `ecg.models.export_contract.check_exportable`.
        path: The file.

    Raises:
        ExportError: A layer of a network cannot be written, or Keras does not run on TensorFlow.
        OSError: The file cannot be written.
    """
    general = bundle.ensemble.general
    path.write_bytes(convert_to_litert(build_litert_model(general.members, len(general.members[0].leads))))
    entry = zipfile.ZipInfo(DESCRIPTION)  # of 1980, so that the same model gives the same bytes
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(entry, describe_contract(bundle, LITERT_PACKAGES), zipfile.ZIP_DEFLATED)


def load_litert_file(path: Path) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Return a function that predicts with a LiteRT file.

    Args:
        path: The file.

    Returns:
        What `ecg.models.export_contract.compare_with_keras` takes.
    """
    from ai_edge_litert.interpreter import Interpreter

    with hide_standard_error():  # it reports its delegate
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()  # for each length it resizes the inputs
    names = runner.get_input_details()
    return lambda inputs: runner(**{name: inputs[name] for name in names})[BY_NETWORK]


def build_litert_model(members: Sequence[Member], n_leads: int) -> keras.Model:
    """Build a Keras model of networks that averages their probabilities.

    Args:
        members: The networks. They see the same leads.
        n_leads: Number of leads of the signal.

    Returns:
        A model with the inputs and outputs of `ecg.models.onnx_export.build_onnx_model`, by name. It has no batch
        normalisation that could be folded into weights.

    Raises:
        ExportError: A layer of a network cannot be translated.
    """
    inputs = {SIGNAL: keras.Input((None, n_leads), name=SIGNAL)}
    if any(uses_demographics(member.network) for member in members):
        inputs[DEMOGRAPHICS] = keras.Input((N_DEMOGRAPHICS,), name=DEMOGRAPHICS)
    signal, outputs = keras.ops.expand_dims(inputs[SIGNAL], 1), []
    for number, member in enumerate(members, 1):
        given = [signal, inputs[DEMOGRAPHICS]] if uses_demographics(member.network) else [signal]
        outputs.append(translate_for_litert(member.network, given, f"network{number}_"))
    by_network = keras.ops.stack(outputs, axis=1)
    predictions = {PROBABILITIES: keras.ops.mean(by_network, axis=1), BY_NETWORK: by_network}
    return keras.Model(inputs, predictions, name="ecg")


def convert_to_litert(model: keras.Model) -> bytes:
    """Convert a Keras model to the content of a LiteRT file.

    Args:
        model: The model; see `build_litert_model`.

    Raises:
        ExportError: Keras does not run on TensorFlow, whose converter is used.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(f"LiteRT files are written by TensorFlow, but Keras runs on {keras.backend.backend()}: set "
                          "KERAS_BACKEND=tensorflow")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, hide_standard_error():
        path = Path(folder, "model.tflite")
        model.export(path, format="litert", verbose=False)
        return path.read_bytes()


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
