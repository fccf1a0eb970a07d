import keras
import numpy as np
import pytest
from result_helpers import StandInNetwork, WindowNetwork

from ecg.data.batches import View, Window
from ecg.data.inputs import Recording, open_recording
from ecg.data.labels import ABBREVIATIONS, CPSC_SCORED, TRAINED_CLASSES
from ecg.data.leads import LEADS
from ecg.data.preprocessing import NOT_FINITE
from ecg.data.records import read_record
from ecg.data.resampling import DEFAULT_PREPROCESSING, Preprocessing
from ecg.models.bundle import Bundle
from ecg.models.decision import Rule
from ecg.models.ensemble import Ensemble, Group, Member
from ecg.models.network_settings import AttentionSettings, LeadWeightedSettings, NetworkSettings
from ecg.models.numpy_translation import translate_for_numpy

WHOLE, WINDOWED = View(), View(Preprocessing(257, None), Window(1000, overlap=100))
FIRST = View(DEFAULT_PREPROCESSING, Window(1000, first_only=True, standardised=True))


def make_group(classes, views, seed=0, sees_demographics=False):
    """A group of networks without weights."""
    networks = [WindowNetwork((seed, number), max(len(classes), 1), sees_demographics) for number in range(len(views))]
    pairs = zip(networks, views, strict=True)
    return Group(classes, tuple(Member(LEADS, NetworkSettings(), network, view=view) for network, view in pairs))


def make_gated():
    network = StandInNetwork(lambda signals: signals[:, :1, 0] > 0)
    gate = Group((), (Member(LEADS, NetworkSettings(), network, view=WHOLE),))
    return Ensemble(make_group(ABBREVIATIONS, [WINDOWED, WHOLE]), make_group(CPSC_SCORED, [WHOLE], 3), gate)


def test_a_prediction_names_classes_and_repairs():
    gated = Bundle(LEADS, make_gated(), Rule(np.full(26, 0.5), fallback="NSR"))
    signal = np.random.default_rng(0).normal(size=(2500, 12))
    signal[5, 3] = np.nan
    results = []
    for sign in (1, -1):  # the gate decides on the first sample
        opened = open_recording(Recording(sign * np.abs(signal).cumsum(axis=0)[::-1] / 1000, LEADS, 250))
        results.append(gated.predict_recording(opened.header, opened.samples))
    for prediction, classes in zip(results, (CPSC_SCORED, ABBREVIATIONS), strict=True):
        assert set(prediction.by_class) == set(classes)
        for name, probability in prediction.by_class.items():
            assert probability == prediction.probabilities[ABBREVIATIONS.index(name)]
        assert [ABBREVIATIONS.index(name) for name in prediction.predicted_classes] == np.flatnonzero(
            prediction.outputs
        ).tolist()
        assert prediction.predicted_classes
    opened = open_recording(Recording(signal, LEADS, 250))
    assert gated.predict_recording(opened.header, opened.samples).repairs == ((NOT_FINITE, ("aVR",), 1),)


SETTINGS = {
    "hidden layer": NetworkSettings(width=4, kernels=(5,), squeeze_ratio=2, hidden=8),
    "demographics": LeadWeightedSettings(widths=(4,), squeeze_ratio=None),
    "second head": AttentionSettings(width=4, blocks=1, heads=2, hidden=6),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_last_layer_makes_the_probabilities_of_the_features(name):
    keras.utils.set_random_seed(1)
    network, random = SETTINGS[name].build(12, None, 22), np.random.default_rng(0)
    inputs = [random.normal(size=(3, 500, 12)).astype(np.float32), random.random((3, 5)).astype(np.float32)]
    inputs = inputs[: len(network.inputs)]
    translated = translate_for_numpy(network)
    features = translated.features.predict(*inputs)
    kernel, bias = network.layers[-1].get_weights()
    expected = keras.ops.convert_to_numpy(network(inputs if len(inputs) > 1 else inputs[0], training=False))
    np.testing.assert_allclose(1 / (1 + np.exp(-(features @ kernel + bias))), expected, atol=1e-6)
    assert features.shape == (3, len(kernel)) and np.ptp(features, axis=0).max() > 0


def test_features_of_networks_follow_each_other(headers):
    keras.utils.set_random_seed(2)
    settings = SETTINGS["hidden layer"]
    members = tuple(Member(LEADS, settings, settings.build(12, None, 22)) for _ in range(2))
    bundle = Bundle(LEADS, Ensemble(Group(TRAINED_CLASSES, members)), Rule(np.full(26, 0.5)))
    header, recording = read_record(headers[0])
    features = bundle.embed_recording(header, recording)
    assert features.shape == (2 * settings.hidden,) and features.dtype == np.float32
    for member, columns in zip(members, np.split(features, 2), strict=True):
        kernel, bias = member.network.layers[-1].get_weights()
        alone = Bundle(LEADS, Ensemble(Group(TRAINED_CLASSES, (member,))), Rule(np.full(26, 0.5)))
        expected = list(alone.predict_recording(header, recording).by_class.values())
        order = np.argsort([ABBREVIATIONS.index(name) for name in TRAINED_CLASSES])
        predicted = 1 / (1 + np.exp(-(columns @ kernel + bias)))
        np.testing.assert_allclose(predicted[order], expected, atol=1e-5)
