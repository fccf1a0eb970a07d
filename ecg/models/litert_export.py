"""Write a trained model as a LiteRT file, and run it.

LiteRT was called TensorFlow Lite. The networks are a flat buffer. The description of the model follows it as a zip
archive with one file, as TensorFlow Lite attaches files to a model: LiteRT ignores what follows the buffer, every
language can read a zip archive, and model and description cannot be separated.
"""

import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from ecg.data.preprocessing import N_DEMOGRAPHICS
from ecg.models.bundle import Bundle
from ecg.models.ensemble import Member, uses_demographics
from ecg.models.export_contract import BY_NETWORK, DEMOGRAPHICS, PROBABILITIES, SIGNAL, describe_contract
from ecg.models.litert_graph import translate_for_litert
from ecg.models.translation import ExportError
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
    """Return a function that predicts with a LiteRT file; see `ecg.models.export_contract.compare_with_keras`."""
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
