"""What is saved of a trained network, loaded again, and answers for one recording: weights plus JSON."""

import hashlib
import json
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from ecg.files import aside, read_bytes
from ecg.headers import parse_header
from ecg.labels import EMPTY, SCORED, TRAINED, expand
from ecg.layers import ACTIVATIONS
from ecg.leads import LEAD_SETS, LIMB, lead_set, standard_name
from ecg.networks import NetworkSettings
from ecg.records import SignalError
from ecg.resampling import RATE
from ecg.scoring import decide
from ecg.signals import by_leads, pieces, preprocess

FORMAT = 2  # of the JSON file
CLASSES = tuple("|".join(diagnosis.codes) for diagnosis in SCORED)
LARGEST_JSON, LARGEST_WEIGHTS = 2**20, 2**31  # bytes of the two files
LARGEST_SIZE, MOST_PAIRS = 2**16, 16  # of anything in a network, and of its pairs of blocks
# What Keras raises over weights that are damaged, or another network's.
DAMAGED = (OSError, RuntimeError, ValueError, LookupError, TypeError, ArithmeticError, MemoryError,
           UserWarning)  # fmt: skip


class ModelError(RuntimeError):
    """A model folder that cannot answer for the leads asked for; the message says what is missing or foreign."""


@dataclass(frozen=True)
class Bundle:
    """A network for a lead set, its settings, and the thresholds (26,) of the classes: all that an answer needs.

    `empty` is the class, by its abbreviation, that is answered where none reaches its threshold; None, the method's,
    leaves that answer empty. `mended` counts the recordings answered so far in which faults of a kind were mended
    (ecg.signals.Repair). ValueError where `empty` is not a class that is trained.
    """

    leads: tuple[str, ...]
    settings: NetworkSettings
    thresholds: np.ndarray
    network: keras.Model
    empty: str | None = None
    mended: Counter = field(default_factory=Counter, compare=False)

    def __post_init__(self):
        if self.empty not in (None, *EMPTY):
            raise ValueError(f"empty is {self.empty!r}, expected None or one of {', '.join(EMPTY)}")

    def probabilities(self, header, recording):
        """Return the probabilities of the 26 classes, (26,) float32, for a Header and its stored integers (L, T).

        A recording of more than 144 s, the longest that training sees, is answered in equal parts, one at a time in
        memory, all with the gain that its beginning shows to be right, and a class's probability is the greatest of
        theirs: a finding counts wherever it is, as within a part by the network's global max pooling. A part without a
        valid sample says nothing. Raises SignalError where the recording cannot be used.
        """
        recording = by_leads(header, recording)
        answers, kinds, reason = [], set(), None
        for piece in pieces(header, recording):
            try:
                prepared = preprocess(header, piece, self.leads, recording)
            except SignalError as error:
                reason = error
            else:
                kinds.update(repair.kind for repair in prepared.repairs)
                answers.append(self.network.predict_on_batch(prepared.signal[np.newaxis])[0])
        if not answers:
            raise reason
        self.mended.update(kinds)
        return expand(np.max(answers, axis=0))

    def answer(self, header_text, recording):
        """Return the codes of the 26 classes, 0 or 1 for each, and its probability, as the Challenge's drivers ask.

        Raises HeaderError or SignalError where the recording cannot be used.
        """
        name = next(iter(header_text.split(maxsplit=1)), "header")
        probabilities = self.probabilities(parse_header(header_text, name), recording)
        return list(CLASSES), decide(probabilities, self.thresholds, self.empty).astype(int), probabilities


def save_bundle(bundle, folder):
    """Write a bundle into a model folder: N_leads.weights.h5, and N_leads.json, which comes last and makes it whole.

    The same bundle gives the same bytes, whatever else the process has built. The JSON file holds the SHA-256 of the
    weights' file and of its own content, so that neither is taken for what it is not.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights, description = model_files(folder, len(bundle.leads))
    with aside(weights) as part:
        # Keras saves a trained network's optimizer with it, twice as large; a fresh one has none.
        network = bundle.settings.build(len(bundle.leads), None, len(TRAINED))
        network.set_weights(bundle.network.get_weights())
        network.save_weights(part)
        saved = _program(len(bundle.leads)) | {
            "thresholds": dict(zip(CLASSES, bundle.thresholds.tolist(), strict=True)),
            "empty": bundle.empty,
            "network": asdict(bundle.settings),
            "versions": {name: version(name) for name in ("keras", "numpy", "scipy")},
            "weights": _sha256(part.read_bytes()),
        }
        saved["digest"] = _digest(saved)
    with aside(description) as part:
        part.write_text(json.dumps(saved, indent=1) + "\n")


def load_bundle(folder, leads):
    """Load the network of the richest lead set that leads of these names fill and the folder holds a model for.

    Names are in any order and case, and limb leads that follow from two others count as there. Nothing but text and
    numbers is read. Raises ModelError where the leads fill none of the five sets, where the folder holds no model for
    any that they fill, and where a file of the model is missing, damaged, edited or of another program.
    """
    folder, leads = Path(folder), list(leads)
    if not lead_set(leads):
        limb = LIMB.keys() & set(map(standard_name, leads))
        others = f"{2 - len(limb)} of {', '.join(lead for lead in LIMB if lead not in limb)} is missing"
        raise ModelError(f"leads {', '.join(leads) or 'none'} fill none of the lead sets: {others}")
    count = lead_set(leads, [count for count in LEAD_SETS if model_files(folder, count)[1].exists()])
    if not count:
        description = model_files(folder, lead_set(leads))[1]
        raise ModelError(f"{folder}: no model for leads {', '.join(leads)}, {description.name} is missing")
    weights, description = model_files(folder, count)
    saved = _read_description(description, count)
    data = read_bytes(weights, LARGEST_WEIGHTS, ModelError)
    _check(_sha256(data) == saved["weights"], weights, "SHA-256", _sha256(data), f"{saved['weights']} by the JSON file")
    settings = _network_settings(saved["network"], description, count, len(data))
    network = settings.build(count, None, len(TRAINED))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # in place of which Keras leaves out what it does not find
            network.load_weights(weights)
    except DAMAGED as error:
        # Keras tells how it goes through its own file, which helps nobody here.
        raise ModelError(f"{weights}: not the weights of the network that the JSON file describes") from error
    finite = all(np.isfinite(values).all() for values in network.get_weights())
    _check(finite, weights, "a weight", "not a number", "finite numbers")
    thresholds = np.array([saved["thresholds"][name] for name in CLASSES], np.float64)
    return Bundle(LEAD_SETS[count], settings, thresholds, network, saved["empty"])


def model_files(folder, count):
    """Return where a lead set's model is in a folder: its weights, and the description that makes it whole."""
    return folder / f"{count}_leads.weights.h5", folder / f"{count}_leads.json"


def _program(count):
    """Return what the JSON file of a lead set's model says of the program that wrote it."""
    classes = {"classes": list(CLASSES), "trained": [CLASSES[column] for column in TRAINED]}
    return {"format": FORMAT, "leads": list(LEAD_SETS[count]), "sampling_frequency": RATE} | classes


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def _digest(saved):
    """Return the SHA-256 of what a JSON file says, however it is laid out."""
    return _sha256(json.dumps(saved, sort_keys=True, allow_nan=False).encode())


def _check(holds, path, what, found, expected):
    if not holds:
        raise ModelError(f"{path}: {what} is {found!r:.200}, expected {expected}")


def _refuse(name):
    raise ValueError(f"{name} is not a number of JSON")


def _read_description(path, count):
    """Read the JSON file of a lead set's model, and check all but the sizes of the network."""
    try:
        saved = json.loads(read_bytes(path, LARGEST_JSON, ModelError), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not to be read as JSON: {error}") from error
    _check(isinstance(saved, dict), path, "what it holds", saved, "an object")
    for key, expected in _program(count).items():
        _check(saved.get(key) == expected, path, key, saved.get(key), expected)
    kinds = {"thresholds": dict, "empty": str | None, "network": dict, "versions": dict, "weights": str, "digest": str}
    keys = sorted({**_program(count), **kinds})
    _check(sorted(saved) == keys, path, "the list of its keys", sorted(saved), keys)
    for key, kind in kinds.items():
        _check(isinstance(saved[key], kind), path, key, saved[key], f"{kind}")
    digest = _digest({key: value for key, value in saved.items() if key != "digest"})
    _check(saved["digest"] == digest, path, "digest", saved["digest"], f"{digest}, which is that of its content")
    _check(saved["empty"] in (None, *EMPTY), path, "empty", saved["empty"], f"null or one of {', '.join(EMPTY)}")
    thresholds = saved["thresholds"]
    _check(sorted(thresholds) == sorted(CLASSES), path, "the list of thresholds", list(thresholds), list(CLASSES))
    for name, value in thresholds.items():
        _check(_is_number(value) and 0 <= value <= 1, path, f"threshold of {name}", value, "a number from 0 to 1")
    return saved


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _network_settings(saved, path, count, size):
    """Return NetworkSettings as saved, sizes checked: `size` bytes hold their weights, so that nothing absurd is built.

    What counts is the least of weights that the settings come to.
    """
    names = sorted(field.name for field in fields(NetworkSettings))
    _check(sorted(saved) == names, path, "the list of the network's settings", sorted(saved), names)
    for name in names:
        value = saved[name]
        if name == "dropout":
            _check(_is_number(value) and 0 <= value < 1, path, name, value, "a number from 0 to below 1")
            continue
        if name == "activation":
            _check(value in [*ACTIVATIONS], path, name, value, f"one of {', '.join(ACTIVATIONS)}")
            continue
        if name == "squeeze_ratio" and value is None:
            continue
        sizes = value if name == "kernels" else [value]
        good = isinstance(sizes, list) and 1 <= len(sizes) <= MOST_PAIRS and all(type(each) is int for each in sizes)
        good = good and all(1 <= each <= LARGEST_SIZE for each in sizes)
        _check(good, path, name, value, f"1 to {LARGEST_SIZE:,}{f', {MOST_PAIRS} at most' * (name == 'kernels')}")
    settings = NetworkSettings(**saved | {"kernels": tuple(saved["kernels"])})
    least = settings.least(count, len(TRAINED))
    _check(4 * least <= size, path, "the network", saved, f"one whose weights are {size:,} bytes")
    return settings
