"""Write and read the JSON file that describes the model for a lead set."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from ecg.data.batches import View, Window
from ecg.data.class_tables import ClassTable, parse_class_table, write_class_table
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.resampling import Preprocessing
from ecg.models.decision import Rule, read_rule, write_rule
from ecg.models.ensemble import Member
from ecg.models.network_settings import NETWORK_KINDS, AnyNetworkSettings
from ecg.runtime.files import read_bytes, to_json

FORMAT = 7  # raise it with every change of the keys, so that older models are refused by one clear message
FORMAT_WITHOUT_CLASSES = 6  # the same, but without the table of classes, which are the Challenge's
OUTPUT_ACTIVATIONS = ("sigmoid", "softmax")
GROUPS = ("general", "special", "gate")  # files of weights are numbered in this order
MAX_JSON_BYTES = 2**20
# What malformed content raises.
INVALID = (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RecursionError)


class ModelError(RuntimeError):
    """A model folder cannot be used; the message names the file and the reason."""


class NetworkSpec(NamedTuple):
    """Description of a saved network.

    Attributes:
        leads: Names of the leads that it sees.
        settings: Its architecture.
        view: How it sees recordings.
        output_activation: "sigmoid" or "softmax".
        weights: SHA-256 of its file of weights.
    """

    leads: tuple[str, ...]
    settings: AnyNetworkSettings
    view: View
    output_activation: str
    weights: str


class ModelSpec(NamedTuple):
    """Description of a saved model.

    Attributes:
        system: Name of the system.
        rule: How probabilities become predicted classes.
        groups: Classes and networks of each group, by its name, in the order of GROUPS.
    """

    system: str
    rule: Rule
    groups: dict[str, tuple[tuple[str, ...], list[NetworkSpec]]]


def model_files(folder: Path, n_leads: int, network_index: int = 1) -> tuple[Path, Path]:
    """Return the paths of a network's weights and of its model's JSON file.

    Args:
        folder: Model folder.
        n_leads: Number of leads.
        network_index: Index of the network, from 1.
    """
    suffix = f".{network_index}" if network_index > 1 else ""
    return folder / f"{n_leads}_leads{suffix}.weights.h5", folder / f"{n_leads}_leads.json"


def network_entry(member: Member, weights: str) -> dict[str, Any]:
    """Describe a network for the JSON file.

    Args:
        member: The network.
        weights: SHA-256 of its file of weights.
    """
    return {
        "kind": next(name for name, kind in NETWORK_KINDS.items() if kind is type(member.settings)),
        "settings": asdict(member.settings),
        "output_activation": member.output_activation,
        "leads": member.leads,
        "preparation": asdict(member.view.preparation),
        "window": asdict(member.view.window),
        "weights": weights,
    }


def write_config(n_leads: int, system: str, rule: Rule, groups: Mapping[str, Any]) -> str:
    """Return the text of the JSON file for a model.

    Args:
        n_leads: Number of leads of the lead set.
        system: Name of the system.
        rule: How probabilities become predicted classes.
        groups: By name, the classes and the entries of the networks.

    Raises:
        ValueError: If a threshold is not finite.
    """
    content = _header(n_leads, rule.classes) | {
        "class_table": write_class_table(rule.classes),
        "system": system,
        "rule": write_rule(rule),
        "groups": groups,
        "versions": {name: version(name) for name in ("keras", "numpy", "scipy")},
    }
    content = json.loads(to_json(content, allow_nan=False))  # tuples become lists, as they are when read
    return to_json(content | {"digest": _digest(content)}, indent=1) + "\n"


def read_config(path: Path, n_leads: int) -> ModelSpec:
    """Read the JSON file of a model.

    Args:
        path: The file.
        n_leads: Number of leads of the lead set.

    Raises:
        ModelError: If it is missing, damaged, edited, or written by another version of this package.
    """
    try:
        content = json.loads(read_bytes(path, MAX_JSON_BYTES, ModelError))
        require_value(isinstance(content, dict), path, "content", content, "an object")
        given_format = content.get("format")
        classes = parse_class_table(content["class_table"]) if given_format == FORMAT else CHALLENGE_CLASSES
        for key, expected in _header(n_leads, classes, given_format).items():
            require_value(content.get(key) == expected, path, key, content.get(key), expected)
        digest = _digest({key: value for key, value in content.items() if key != "digest"})
        given = content.get("digest")
        require_value(given == digest, path, "digest", given, f"{digest} by its content")
        groups = {
            name: (
                tuple(content["groups"][name]["classes"]),
                list(map(read_network_entry, content["groups"][name]["members"])),
            )
            for name in GROUPS
            if name in content["groups"]
        }
        return ModelSpec(content["system"], read_rule(content["rule"], classes), groups)
    except INVALID as error:
        raise invalid_config(path, error) from error


def invalid_config(path: Path, error: Exception) -> ModelError:
    """Return the error for a JSON file with malformed content."""
    return ModelError(f"{path}: no valid description of a model: {type(error).__name__}: {error}")


def require_value(condition: bool, path: Path, name: str, value: object, expected: object) -> None:
    """Raise ModelError unless a condition on a value in a file holds."""
    if not condition:
        raise ModelError(f"{path}: {name} is {value!r:.200}, expected {expected}")


def hash_bytes(data: bytes | bytearray) -> str:
    """Return the SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _header(n_leads: int, classes: ClassTable, given: object = FORMAT) -> dict[str, Any]:
    """Return the entries that this package expects in every file for a lead set.

    Args:
        n_leads: Number of leads of the lead set.
        classes: The scored classes.
        given: Format of the file.
    """
    readable = given if given == FORMAT_WITHOUT_CLASSES else FORMAT
    return {"format": readable, "leads": list(LEAD_SETS[n_leads]), "classes": list(classes.code_lists)}


def _digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the content of a JSON file, whatever its layout."""
    return hash_bytes(to_json(content, sort_keys=True, allow_nan=False).encode())


def _tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry with lists as tuples, as dataclasses have them."""

    def convert(value: Any) -> Any:
        return tuple(map(convert, value)) if isinstance(value, list) else value

    return {key: convert(value) for key, value in entry.items()}


def read_network_entry(entry: Mapping[str, Any]) -> NetworkSpec:
    """Return the description of a network from its entry."""
    view = View(Preprocessing(**_tuples(entry["preparation"])), Window(**_tuples(entry["window"])))
    settings = NETWORK_KINDS[entry["kind"]](**_tuples(entry["settings"]))
    leads, activation = tuple(entry["leads"]), entry["output_activation"]
    if unknown := set(leads).difference(LEADS):
        raise ValueError(f"leads have {', '.join(map(str, unknown))}, expected some of {', '.join(LEADS)}")
    if activation not in OUTPUT_ACTIVATIONS:
        raise ValueError(f"output_activation is {activation!r}, expected {' or '.join(OUTPUT_ACTIVATIONS)}")
    return NetworkSpec(leads, settings, view, activation, entry["weights"])
