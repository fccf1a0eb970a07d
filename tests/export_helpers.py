"""Networks and models with random weights, to be exported, and the examples of the page; they need Keras."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import scipy.io
from result_helpers import make_bundle

from ecg.data.labels import TRAINED, TRAINED_CLASSES
from ecg.data.leads import LEAD_SETS, LEADS, lead_indices
from ecg.data.preprocessing import N_DEMOGRAPHICS
from ecg.data.records import read_record
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.models.ensemble import Ensemble, Group, Member, serves_all_lead_sets, uses_demographics
from ecg.models.network_settings import (
    AttentionSettings,
    DCNetSettings,
    LeadWeightedSettings,
    LiSettings,
    NetworkSettings,
    RhythmSettings,
)
from ecg.systems.recipes import RECIPES

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
# Settings that make the networks of the recipes small. Their kinds of layers stay.
SMALL = {
    NetworkSettings: {"width": 4, "hidden": 8},
    LiSettings: {"stages": (1, 2), "width": 16},
    LeadWeightedSettings: {"widths": (16, 16, 32)},
    RhythmSettings: {"width": 4, "depth": 18},
    AttentionSettings: {"width": 8, "blocks": 2, "heads": 2, "hidden": 8},
    DCNetSettings: {"filters": (4, 8), "plain": 1},
}
RECIPE_NETWORKS = {settings.network: name for name, settings in reversed(RECIPES.items())}
EXPORTABLE = {name: replace(network, **SMALL[type(network)]) for network, name in RECIPE_NETWORKS.items()
              if not getattr(network, "deformable", False)}  # fmt: skip
SHALLOW = replace(EXPORTABLE["cai2021"], kernels=(7, 5))  # four blocks, which TensorFlow converts in some seconds


def randomise(network, seed=0):
    """Move all weights of a network from their first values, those of batch normalisation too."""
    random = np.random.default_rng(seed)
    limits = {"moving_variance": (1, 3), "gamma": (0.4, 1.2), "moving_mean": (-0.5, 0.5), "beta": (-0.5, 0.5)}
    for weight in network.weights:
        name = weight.path.rsplit("/", 1)[-1]
        if name in limits:
            weight.assign(random.uniform(*limits[name], weight.shape))
        else:
            weight.assign_add(random.normal(0, 0.3 if name == "bias" else 0.02, weight.shape))


def make_member(settings, leads, seed=0, n_classes=5, output_activation="sigmoid"):
    """A member with random weights that sees recordings of any length."""
    keras.utils.set_random_seed(seed)
    member = Member.build(tuple(leads), settings, n_classes, output_activation)
    randomise(member.network, seed)
    return member


def predict_with_keras(member, signals, demographics):
    if serves_all_lead_sets(member.settings):
        placed = np.zeros((*signals.shape[:2], len(LEADS)), np.float32)
        placed[..., list(lead_indices(member.leads))] = signals
        signals = placed
    inputs = (signals, demographics) if uses_demographics(member.network) else signals
    outputs = member.network(inputs, training=False)
    return keras.ops.convert_to_numpy(outputs[0] if isinstance(outputs, list | tuple) else outputs)


def draw_inputs(member, batch, samples, seed=1):
    random = np.random.default_rng(seed)
    signals = random.normal(0, 0.5, (batch, samples, len(member.leads))).astype(np.float32)
    return signals, random.random((batch, N_DEMOGRAPHICS), np.float32)


def make_exported_bundle(n_leads, settings=EXPORTABLE["cai2021"], **rule):
    """A model of a lead set with random weights that predicts some classes and not others."""
    network = make_member(settings, LEAD_SETS[n_leads], n_classes=len(TRAINED_CLASSES)).network
    return make_bundle(LEAD_SETS[n_leads], settings, np.linspace(0.3, 0.7, 26), network, **rule)


def with_member(bundle, **changes):
    """The bundle with one network, changed so."""
    (member,) = bundle.ensemble.general.members
    return replace(bundle, ensemble=Ensemble(Group(TRAINED_CLASSES, (replace(member, **changes),))))


def write_examples(folder, seed, seconds):
    """Write recordings without faults of 10 s and of another length; return the paths of their headers."""
    synthesize(folder, 1, seed, SyntheticSettings(clean=True, realistic=True))
    (header,) = folder.glob("*.hea")
    return header, write_longer(header, seconds, folder / "longer")


def write_longer(header_path, seconds, path):
    """Write a recording as one of another length, repeated as often as needed; return the path of its header."""
    header, recording = read_record(header_path)
    samples = round(seconds * header.sampling_frequency)
    longer = np.tile(recording, -(-samples // recording.shape[1]))[:, :samples].astype(np.int16)
    text = header_path.read_text().replace(f" {recording.shape[1]} ", f" {samples} ", 1)
    path.with_suffix(".hea").write_text(text.replace(f"{header.name}.mat", f"{path.name}.mat"))
    scipy.io.savemat(path.with_suffix(".mat"), {"val": longer}, format="4")
    return path.with_suffix(".hea")


def run_example(script, model, record, forbidden=("keras", "tensorflow", "ecg"), python=sys.executable):
    """Run an example of the page by a Python: probabilities (22,), and which classes are predicted."""
    code = f"import runpy, sys\nsys.argv[1:] = {[str(model), str(record.with_suffix(''))]}\n"
    code += f"sys.path.insert(0, {str(EXAMPLES)!r})\nrunpy.run_path({str(EXAMPLES / script)!r})\n"
    code += f"assert not {set(forbidden)} & set(sys.modules)\n"
    done = subprocess.run([python, "-c", code], cwd=EXAMPLES.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split(maxsplit=3) for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == list(TRAINED_CLASSES)
    return np.array([float(row[1]) for row in rows]), np.array([row[2] == "1" for row in rows])


def check_prediction(bundle, record, probabilities, decisions, tolerance=1e-5):
    """Check that probabilities and decisions for the trained classes are those of the model, some of each kind."""
    expected = bundle.predict_recording(*read_record(record))
    np.testing.assert_allclose(probabilities, expected.probabilities[TRAINED], atol=tolerance)
    np.testing.assert_array_equal(decisions, expected.outputs[TRAINED])
    assert decisions.any() and not decisions.all()
