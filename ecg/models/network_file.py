"""Write and read the file of a network: weights and operations.

The weights are as Keras saves them. The operations, by which numpy predicts, are a JSON text in the dataset OPERATIONS,
which Keras ignores. Files that earlier versions wrote have weights only; their networks are built by Keras.
"""

import io
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ecg.data.preprocessing import N_DEMOGRAPHICS
from ecg.models.config import NetworkSpec, network_entry, read_network_entry
from ecg.models.ensemble import Member
from ecg.models.numpy_network import NumpyNetwork, Operation
from ecg.runtime.files import to_json

OPERATIONS = "operations"
DTYPE = np.dtype(np.float32)  # of all weights


def write_network_file(member: Member, path: Path) -> None:
    """Write a network into a file.

    Args:
        member: The network.
        path: The file; it ends with .weights.h5.
    """
    from ecg.models.numpy_translation import translate_for_numpy

    network = translate_for_numpy(member.network)
    member.network.save_weights(path)
    with h5py.File(path, "r+") as file:
        content = {
            "network": network_entry(member, ""),
            "n_inputs": network.n_inputs,
            "n_outputs": network.n_outputs,
            "weights": find_datasets(file, network.weights),
            "operations": [operation._asdict() for operation in network.operations],
        }
        file[OPERATIONS] = to_json(content, allow_nan=False)


def find_datasets(file: h5py.File, arrays: Sequence[np.ndarray]) -> list[str]:
    """Return the dataset that holds each of some arrays.

    The content decides, so that no rule for the names of Keras' datasets is needed. Of equal ones, any will do.

    Args:
        file: An open file.
        arrays: The arrays.

    Raises:
        LookupError: No dataset holds an array.
    """
    names: dict[tuple[tuple[int, ...], bytes], str] = {}

    def note(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            names.setdefault((item.shape, item[()].tobytes()), name)

    file.visititems(note)
    try:
        return [names[array.shape, array.tobytes()] for array in arrays]
    except KeyError:
        raise LookupError("the file lacks weights of the network") from None


def read_network_file(content: bytes, spec: NetworkSpec, n_outputs: int) -> Member:
    """Read a network from the content of its file.

    Args:
        content: The file.
        spec: The network's description in the model's JSON file.
        n_outputs: Number of its outputs.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, OSError, RuntimeError: The file is damaged, or has another
            network.
    """
    with h5py.File(io.BytesIO(content)) as file:
        if OPERATIONS not in file:
            return _build_with_keras(content, spec, n_outputs)
        described = json.loads(file[OPERATIONS][()])
        weights = _read_weights(file, described["weights"], len(content))
    if read_network_entry(described["network"])._replace(weights=spec.weights) != spec:
        raise ValueError(f"the file has the network {described['network']}, expected {spec}")
    if described["n_outputs"] != n_outputs:
        raise ValueError(f"the file has {described['n_outputs']} outputs, expected {n_outputs}")
    network = NumpyNetwork(described["n_inputs"], tuple(map(_read_operation, described["operations"])), weights)
    member = Member(spec.leads, spec.settings, network, spec.output_activation, spec.view)
    shape = _predict_flat_signal(member).shape
    if shape != (1, n_outputs):
        raise ValueError(f"the network gives outputs of shape {shape}, expected {(1, n_outputs)}")
    return member


def _read_weights(file: h5py.File, names: Sequence[str], most_bytes: int) -> list[np.ndarray]:
    """Read weights of a file, unless they claim more memory than the file has bytes."""
    datasets = [file[name] for name in names]
    for dataset in datasets:
        if not isinstance(dataset, h5py.Dataset) or dataset.dtype != DTYPE or dataset.external or dataset.is_virtual:
            raise ValueError(f"{dataset.name}: no weights of the type {DTYPE}")
    if sum(dataset.nbytes for dataset in datasets) > most_bytes:
        raise ValueError(f"the weights are larger than the file of {most_bytes} bytes")
    return [dataset[()] for dataset in datasets]


def _predict_flat_signal(member: Member) -> np.ndarray:
    """Predict a flat signal of a second, to see that a network can be computed."""
    signal = np.zeros((member.view.preparation.rate, len(member.leads)), np.float32)
    return member.predict(signal, np.zeros(N_DEMOGRAPHICS, np.float32))


def _read_operation(entry: Mapping[str, Any]) -> Operation:
    return Operation(entry["kind"], tuple(entry["inputs"]), entry["options"], entry["weights"])


def _build_with_keras(content: bytes, spec: NetworkSpec, n_outputs: int) -> Member:
    """Build the network of a file that has no operations."""
    member = Member.build(spec.leads, spec.settings, n_outputs, spec.output_activation, spec.view)
    with (
        tempfile.NamedTemporaryFile(suffix=".weights.h5") as file,
        warnings.catch_warnings(action="error", category=UserWarning),  # Keras only warns of missing weights
    ):
        file.write(content)
        file.flush()
        member.network.load_weights(file.name)
    return member
