"""Write a trained model as an ONNX file, and run it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import ecg
from ecg.data.leads import LEADS, lead_indices
from ecg.data.preprocessing import N_DEMOGRAPHICS
from ecg.models.bundle import Bundle
from ecg.models.ensemble import Member, serves_all_lead_sets, uses_demographics
from ecg.models.export_contract import BY_NETWORK, DEMOGRAPHICS, PROBABILITIES, SIGNAL, describe_contract
from ecg.models.onnx_graph import Node, OnnxGraph, write_network

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

METADATA = "ecg"  # key of the description in the file's metadata
ONNX_PACKAGES = ("onnx", "onnxruntime")


def write_onnx_file(bundle: Bundle, path: Path) -> None:
    """Write a model as an ONNX file.

    Args:
        bundle: A model that can be exported; see `ecg.models.export_contract.check_exportable`.
        path: The file.

    Raises:
        ExportError: A layer of a network cannot be written.
        OSError: The file cannot be written.
    """
    import onnx

    general = bundle.ensemble.general
    model = build_onnx_model(general.members, len(general.members[0].leads), len(general.classes))
    model.producer_name, model.producer_version = "reduced-lead-ecg", ecg.__version__
    onnx.helper.set_model_props(model, {METADATA: describe_contract(bundle, ONNX_PACKAGES)})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def load_onnx_file(path: Path) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Return a function that predicts with an ONNX file.

    Args:
        path: The file.

    Returns:
        What `ecg.models.export_contract.compare_with_keras` takes.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return lambda inputs: session.run([BY_NETWORK], {name: inputs[name] for name in names})[0]


def build_onnx_model(members: Sequence[Member], n_leads: int, n_classes: int) -> "ModelProto":
    """Write networks as one graph that averages their probabilities.

    Args:
        members: The networks. They see the same leads.
        n_leads: Number of leads of the signal.
        n_classes: Number of classes.

    Returns:
        A model from `signal` (batch, samples, n_leads) float32, in mV, and `demographics` (batch, 5) float32, if a
        network sees them, to `probabilities` (batch, n_classes) float32 and `network_probabilities` (batch, M,
        n_classes) float32. There can be any number of samples.

    Raises:
        ExportError: A layer of a network cannot be written.
    """
    from onnx import TensorProto, helper

    graph = OnnxGraph()
    signal, outputs = graph.apply("Transpose", SIGNAL, perm=[0, 2, 1]), []
    for number, member in enumerate(members, 1):
        graph.prefix = f"network{number}/"
        placed = signal
        if serves_all_lead_sets(member.settings) and n_leads < len(LEADS):
            placed = graph.convolve(signal, np.eye(len(LEADS))[np.newaxis, list(lead_indices(member.leads))])
        inputs = [placed, DEMOGRAPHICS] if uses_demographics(member.network) else [placed]
        outputs.append(write_network(graph, member.network, inputs))
    graph.prefix = ""
    rows = [graph.reshape(output, (0, 1, n_classes)) for output in outputs]
    graph.nodes.append(Node("Concat", tuple(rows), BY_NETWORK, {"axis": 1}))
    axes = graph.add_constant([1], np.int64)
    graph.nodes.append(Node("ReduceMean", (BY_NETWORK, axes), PROBABILITIES, {"keepdims": 0}))

    def describe(name: str, *shape: str | int) -> "ValueInfoProto":
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    signals = [describe(SIGNAL, "batch", "samples", n_leads)]
    if any(uses_demographics(member.network) for member in members):
        signals.append(describe(DEMOGRAPHICS, "batch", N_DEMOGRAPHICS))
    predictions = [describe(PROBABILITIES, "batch", n_classes),
                   describe(BY_NETWORK, "batch", len(members), n_classes)]  # fmt: skip
    return graph.to_model(signals, predictions)
