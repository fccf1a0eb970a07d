"""The JSON file of a saved model: what it says of its networks and of their answers, checked before it is believed."""

import hashlib
import json
from dataclasses import asdict, fields
from importlib.metadata import version
from types import NoneType
from typing import NamedTuple, get_args, get_origin

import numpy as np

from ecg.data.batches import View, Window
from ecg.data.labels import SCORED, UNSCORED_CLASSES, select_scored
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.resampling import Preprocessing
from ecg.models.decision import Rule
from ecg.models.ensemble import KIND_OF, KINDS
from ecg.runtime.files import read_bytes, to_json

FORMAT = 3
CLASSES = tuple("|".join(diagnosis.codes) for diagnosis in SCORED)
NAMES = tuple(diagnosis.abbreviation for diagnosis in (*SCORED, *UNSCORED_CLASSES))
GROUPS = (("general",), ("general", "special", "gate"))  # that a model may have
ANSWERS = ("sigmoid", "softmax")
LARGEST_JSON = 2**20  # bytes
LARGEST_SIZE, MOST = 2**16, 64  # of anything in a network, and in a list
MOST_BLOCKS = 256  # of a network; the most of any here are 50


class ModelError(RuntimeError):
    """A model folder that cannot answer for the leads asked for; the message says what is missing or foreign."""


class NetworkSpec(NamedTuple):
    """What is said of a network: the leads that it sees, its settings, how it sees them, its SHA-256."""

    leads: tuple[str, ...]
    settings: object
    view: View
    output_activation: str
    weights: str


class ModelSpec(NamedTuple):
    """What is said of a model: its system, its Rule, and its groups by name: the classes and a list of Described."""

    system: str
    rule: Rule
    groups: dict


def network_entry(member, weights):
    """Return what the JSON file says of a Member, whose file of weights has this SHA-256."""
    return {
        "kind": KIND_OF[type(member.settings)],
        "settings": asdict(member.settings),
        "answer": member.output_activation,
        "leads": list(member.leads),
        "preparation": asdict(member.view.preparation),
        "window": asdict(member.view.window),
        "weights": weights,
    }


def write_config(count, system, rule, groups):
    """Return the text of the JSON file for a lead set's model: its system, its Rule, and what is said of its groups.

    Raises ValueError where a threshold is not a number.
    """
    saved = _program(count) | {
        "system": system,
        "rule": asdict(rule) | {"thresholds": dict(zip(CLASSES, rule.thresholds.tolist(), strict=True))},
        "groups": groups,
        "versions": {name: version(name) for name in ("keras", "numpy", "scipy")},
    }
    saved = json.loads(to_json(saved, allow_nan=False))  # tuples become lists, as they come back
    return to_json(saved | {"digest": _digest(saved)}, indent=1) + "\n"


def read_config(path, count):
    """Read and check the JSON file of a lead set's model: a Description. Raises ModelError where it is not one."""
    try:
        saved = json.loads(read_bytes(path, LARGEST_JSON, ModelError), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not to be read as JSON: {error}") from error
    check(isinstance(saved, dict), path, "what it holds", saved, "an object")
    for key, expected in _program(count).items():
        check(saved.get(key) == expected, path, key, saved.get(key), expected)
    kinds = {"system": str, "rule": dict, "groups": dict, "versions": dict, "digest": str}
    _check_keys(saved, {**_program(count), **kinds}, path, "the list of its keys")
    for key, kind in kinds.items():
        check(isinstance(saved[key], kind), path, key, saved[key], f"{kind}")
    digest = _digest({key: value for key, value in saved.items() if key != "digest"})
    check(saved["digest"] == digest, path, "digest", saved["digest"], f"{digest}, which is that of its content")
    check(tuple(saved["groups"]) in GROUPS, path, "the list of groups", list(saved["groups"]), "general or all three")
    groups = {name: _group(name, group, path) for name, group in saved["groups"].items()}
    known, leads = groups["general"][0], LEAD_SETS[count]
    for name, (classes, members) in groups.items():
        check(set(classes) <= set(known), path, f"classes of {name}", classes, f"some of {', '.join(known)}")
        for one in members:
            check(set(one.leads) <= set(leads), path, "leads", one.leads, f"some of {', '.join(leads)}")
    return ModelSpec(saved["system"], _rule(saved["rule"], known, path), groups)


def check(holds, path, what, found, expected):
    """Raise ModelError where something about a file is not as expected."""
    if not holds:
        raise ModelError(f"{path}: {what} is {found!r:.200}, expected {expected}")


def sha256(data):
    """Return the SHA-256 of bytes, as text."""
    return hashlib.sha256(data).hexdigest()


def _program(count):
    """Return what the JSON file of a lead set's model says of the program that wrote it."""
    return {"format": FORMAT, "leads": list(LEAD_SETS[count]), "classes": list(CLASSES)}


def _digest(saved):
    """Return the SHA-256 of what a JSON file says, however it is laid out."""
    return sha256(to_json(saved, sort_keys=True, allow_nan=False).encode())


def _refuse(name):
    raise ValueError(f"{name} is not a number of JSON")


def _check_keys(saved, expected, path, what):
    check(isinstance(saved, dict) and sorted(saved) == sorted(expected), path, what,
          sorted(saved) if isinstance(saved, dict) else saved, sorted(expected))  # fmt: skip


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list_of(value, names, most=MOST):
    return isinstance(value, list) and 0 < len(value) <= most and all(each in names for each in value)


def _rule(saved, classes, path):
    """Return the Rule that a JSON file has, of a model that tells these classes."""
    known = select_scored(classes)
    _check_keys(saved, [field.name for field in fields(Rule)], path, "the list of the rule's parts")
    check(isinstance(saved["exclusive"], bool), path, "exclusive", saved["exclusive"], "true or false")
    check(
        saved["fallback"] in (None, *known), path, "fallback", saved["fallback"], f"null or one of {', '.join(known)}"
    )
    pairs = saved["pairs"]
    good = isinstance(pairs, list) and all(_is_list_of(pair, known, 2) and len(pair) == 2 for pair in pairs)
    check(good, path, "pairs", pairs, f"a list of pairs of {', '.join(known)}")
    thresholds = saved["thresholds"]
    _check_keys(thresholds, CLASSES, path, "the list of thresholds")
    for name, value in thresholds.items():
        check(_is_number(value) and 0 <= value <= 1, path, f"threshold of {name}", value, "a number from 0 to 1")
    values = np.array([thresholds[name] for name in CLASSES], np.float64)
    return Rule(values, saved["exclusive"], tuple(map(tuple, pairs)), saved["fallback"])


def _group(name, saved, path):
    """Return the classes of a group, a tuple, and its list of Described."""
    _check_keys(saved, ("classes", "members"), path, f"what is said of group {name}")
    classes, members = saved["classes"], saved["members"]
    good = classes == [] if name == "gate" else _is_list_of(classes, NAMES) and len(set(classes)) == len(classes)
    check(good, path, f"classes of {name}", classes, "a list of abbreviations, each once, none for a gate")
    check(isinstance(members, list) and 0 < len(members) <= MOST, path, f"networks of {name}", members, f"1 to {MOST}")
    return tuple(classes), [_described(member, path) for member in members]


def _described(saved, path):
    """Return the Described that a JSON file has."""
    keys = ("kind", "settings", "answer", "leads", "preparation", "window", "weights")
    _check_keys(saved, keys, path, "what is said of a network")
    check(saved["kind"] in list(KINDS), path, "kind", saved["kind"], f"one of {', '.join(KINDS)}")
    check(saved["answer"] in ANSWERS, path, "answer", saved["answer"], f"one of {', '.join(ANSWERS)}")
    check(_is_list_of(saved["leads"], LEADS), path, "leads", saved["leads"], f"some of {', '.join(LEADS)}")
    check(isinstance(saved["weights"], str), path, "weights", saved["weights"], f"{str}")
    view = View(_restored(Preprocessing, saved["preparation"], path), _restored(Window, saved["window"], path))
    settings = _restored(KINDS[saved["kind"]], saved["settings"], path)
    check(settings.blocks <= MOST_BLOCKS, path, "number of blocks", settings.blocks, f"{MOST_BLOCKS} at the most")
    check(not getattr(settings, "peaks", False), path, "peaks", True, "false, for saved networks tell classes alone")
    return NetworkSpec(tuple(saved["leads"]), settings, view, saved["answer"], saved["weights"])


def _restored(kind, saved, path):
    """Return the dataclass of a kind that a JSON object has the fields of, each of its type and of bounded size."""
    _check_keys(saved, [field.name for field in fields(kind)], path, f"the list of {kind.__name__}'s parts")
    values = {}
    for field in fields(kind):
        value, types = saved[field.name], get_args(field.type) if NoneType in get_args(field.type) else (field.type,)
        good, expected = any(_fits(value, one, field.default) for one in types), _expectation(types)
        check(good, path, field.name, value, expected)
        values[field.name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**values)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from error


def _fits(value, kind, default):
    """Return whether a value of JSON is one of a type, bounded: whole numbers from 1 on, or 0 where that is usual."""
    if kind is NoneType:
        return value is None
    if get_origin(kind) is tuple:
        one, other = get_args(kind)
        fewest, most = (1, MOST) if other is Ellipsis else (2, 2)
        return isinstance(value, list) and fewest <= len(value) <= most and all(_fits(each, one, 1) for each in value)
    if kind is int:
        return type(value) is int and min(default or 0, 1) <= value <= LARGEST_SIZE
    if kind is float:
        return _is_number(value) and 0 <= value <= LARGEST_SIZE
    return isinstance(value, kind)


def _expectation(types):
    """Return in words what `_fits` takes."""
    names = {int: f"1 to {LARGEST_SIZE:,}", float: "a number from 0 on", bool: "true or false", str: "a text"}
    return " or ".join(
        "null" if kind is NoneType
        else f"{names[get_args(kind)[0]]}, {MOST} at most" if get_origin(kind) is tuple
        else names[kind]
        for kind in types
    )  # fmt: skip
