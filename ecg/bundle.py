"""What is saved of a trained network, loaded again, and answers for one recording: weights plus JSON."""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from ecg.files import aside
from ecg.headers import parse_header
from ecg.labels import SCORED, TRAINED, expand
from ecg.leads import LEAD_SETS, standard_name
from ecg.networks import NetworkSettings, build_network
from ecg.signals import RATE, preprocess

FORMAT = 1  # of the JSON file
CLASSES = tuple("|".join(diagnosis.codes) for diagnosis in SCORED)


class ModelError(RuntimeError):
    """A model folder that cannot answer for the leads asked for; the message says what is missing or foreign."""


@dataclass(frozen=True)
class Bundle:
    """A network for a lead set, its settings, and the thresholds (26,) of the classes: all that an answer needs."""

    leads: tuple[str, ...]
    settings: NetworkSettings
    thresholds: np.ndarray
    network: keras.Model

    def probabilities(self, header, recording):
        """Return the probabilities of the 26 classes, (26,) float32, for a Header and its stored integers (L, T).

        Raises SignalError where the recording cannot be used.
        """
        signal = preprocess(header, recording, self.leads)
        return expand(self.network.predict_on_batch(signal[np.newaxis])[0])

    def answer(self, header_text, recording):
        """Return the codes of the 26 classes, 0 or 1 for each, and its probability, as the Challenge's drivers ask.

        Raises HeaderError or SignalError where the recording cannot be used.
        """
        name = next(iter(header_text.split(maxsplit=1)), "header")
        probabilities = self.probabilities(parse_header(header_text, name), np.asarray(recording))
        return list(CLASSES), (probabilities >= self.thresholds).astype(int), probabilities


def save_bundle(bundle, folder):
    """Write a bundle into a model folder: N_leads.weights.h5, and N_leads.json, which comes last and makes it whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights, description = _files(folder, len(bundle.leads))
    # Keras saves a trained network's optimizer with it, twice as large; a fresh one has none.
    network = build_network(bundle.settings, len(bundle.leads), len(TRAINED))
    network.set_weights(bundle.network.get_weights())
    with aside(weights) as part:
        network.save_weights(part)
    text = json.dumps(
        {
            "format": FORMAT,
            "leads": bundle.leads,
            "sampling_frequency": RATE,
            "classes": CLASSES,
            "trained": [CLASSES[column] for column in TRAINED],
            "thresholds": dict(zip(CLASSES, bundle.thresholds.tolist(), strict=True)),
            "network": asdict(bundle.settings),
            "versions": {name: version(name) for name in ("keras", "numpy", "scipy")},
        },
        indent=1,
    )
    with aside(description) as part:
        part.write_text(text + "\n")


def load_bundle(folder, leads):
    """Load the network of the richest lead set among `leads`, names in any order and case.

    Raises ModelError where the leads hold none of the five sets, or the folder holds no model for it.
    """
    known = set(map(standard_name, leads))
    count = next((count for count, chosen in LEAD_SETS.items() if known.issuperset(chosen)), None)
    if count is None:
        raise ModelError(f"leads {', '.join(leads)} hold none of the lead sets: leads I and II are the least")
    weights, description = _files(Path(folder), count)
    if not description.exists():
        raise ModelError(f"{folder}: no model for {count} leads, {description.name} is missing")
    saved = json.loads(description.read_text())
    expected = (FORMAT, list(LEAD_SETS[count]), list(CLASSES), RATE)
    if (saved["format"], saved["leads"], saved["classes"], saved["sampling_frequency"]) != expected:
        raise ModelError(f"{description}: format, leads, classes or sampling frequency are not this program's")
    settings = NetworkSettings(**saved["network"] | {"kernels": tuple(saved["network"]["kernels"])})
    network = build_network(settings, count, len(TRAINED))
    network.load_weights(weights)
    return Bundle(LEAD_SETS[count], settings, np.array([saved["thresholds"][name] for name in CLASSES]), network)


def _files(folder, count):
    return folder / f"{count}_leads.weights.h5", folder / f"{count}_leads.json"
