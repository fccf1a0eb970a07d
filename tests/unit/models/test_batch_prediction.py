import keras
import numpy as np
import pytest
from helpers import read_millivolts
from result_helpers import WindowNetwork

from ecg.data.batches import View, Window
from ecg.data.inputs import Recording, open_recording
from ecg.data.labels import ABBREVIATIONS, CPSC_SCORED, TRAINED_CLASSES
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.preprocessing import NOT_FINITE, SKIPPED
from ecg.data.records import SignalError
from ecg.data.resampling import DEFAULT_PREPROCESSING, Preprocessing
from ecg.models.batch_prediction import BATCH
from ecg.models.bundle import Bundle
from ecg.models.decision import VOTE, Rule
from ecg.models.ensemble import Ensemble, Group, Member, build_feature_network
from ecg.models.resnets import AttentionSettings, LeadWeightedSettings, NetworkSettings

WHOLE, WINDOWED = View(), View(Preprocessing(257, None), Window(1000, overlap=100))
FIRST = View(DEFAULT_PREPROCESSING, Window(1000, first_only=True, standardised=True))


def make_group(classes, views, seed=0, sees_demographics=False):
    """A group of networks without weights."""
    networks = [WindowNetwork((seed, number), max(len(classes), 1), sees_demographics) for number in range(len(views))]
    pairs = zip(networks, views, strict=True)
    return Group(classes, tuple(Member(LEADS, NetworkSettings(), network, view=view) for network, view in pairs))


def make_gated():
    gate = make_group((), [WHOLE], 4)
    gate.members[0].network.predict_on_batch = lambda signals: np.array(
        [[signal[0, 0] > 0] for signal in signals], np.float32
    )
    return Ensemble(make_group(ABBREVIATIONS, [WINDOWED, WHOLE]), make_group(CPSC_SCORED, [WHOLE], 3), gate)


ENSEMBLES = {
    "whole recordings": Ensemble(make_group(TRAINED_CLASSES, [WHOLE])),
    "windows and demographics": Ensemble(make_group(TRAINED_CLASSES, [WINDOWED, WINDOWED], 1, sees_demographics=True)),
    "first windows": Ensemble(make_group(TRAINED_CLASSES, [FIRST, FIRST, FIRST], 2)),
    "gate": make_gated(),
}


@pytest.fixture(scope="module")
def records(headers):
    """Records of several lengths, one of them in three segments, one of which has no signal."""
    signal = np.random.default_rng(0).normal(size=(40_000, 12))
    signal[len(signal) // 3 : 2 * len(signal) // 3 + 1] = np.nan
    recordings = [*map(read_millivolts, headers[:9]), Recording(signal, LEADS, 100, 50, "m")]
    opened = [open_recording(recording, f"number {number}") for number, recording in enumerate(recordings)]
    records = [(recording.header, recording.samples) for recording in opened]
    assert len({len(samples.T) / header.sampling_frequency for header, samples in records}) > 2
    return [*records[:4], records[9], *records[4:9]]


@pytest.mark.parametrize("name", ENSEMBLES)
def test_several_recordings_are_predicted_as_each_of_them(name, records):
    ensemble = ENSEMBLES[name]
    rule = Rule(np.full(26, 0.5))
    if name == "first windows":
        rule = Rule(np.full(26, 0.5), decision=VOTE, member_thresholds=np.random.default_rng(0).random((3, 26)))
    bundle = Bundle(LEADS, ensemble, rule)
    expected = [bundle.predict_recording(*record) for record in records]
    counted = dict(bundle.repaired)
    bundle.repaired.clear()
    predicted = bundle.predict_recordings(records)
    assert bundle.repaired == counted and counted.get(SKIPPED, 0) == (name != "first windows")
    for alone, together_with in zip(expected, predicted, strict=True):
        for field in ("probabilities", "outputs", "thresholds", "covered"):
            np.testing.assert_array_equal(getattr(together_with, field), getattr(alone, field))
        assert together_with.repairs == alone.repairs and together_with.leads == alone.leads == LEADS
    if name == "gate":
        assert len({prediction.covered.sum() for prediction in predicted}) == 2


def test_recordings_of_a_length_share_batches():
    network = WindowNetwork(0, 22)
    bundle = Bundle(LEAD_SETS[2], Ensemble(Group(TRAINED_CLASSES, (Member(LEAD_SETS[2], NetworkSettings(), network),))),
                    Rule(np.full(26, 0.5)))  # fmt: skip
    random = np.random.default_rng(0)
    opened = [
        open_recording(Recording(random.normal(size=(250 * (2 + row % 2), 2)), 2, 250)) for row in range(2 * BATCH)
    ]
    bundle.predict_recordings([(recording.header, recording.samples) for recording in opened])
    assert network.shapes == [(BATCH, 500, 2), (BATCH, 750, 2)]
    assert bundle.predict_recordings([]) == []


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


def test_an_unusable_recording_among_others_is_an_error_that_names_it(records):
    bundle = Bundle(LEADS, ENSEMBLES["whole recordings"], Rule(np.full(26, 0.5)))
    flat = open_recording(Recording(np.zeros((5000, 12)), LEADS, 500), "the flat one")
    with pytest.raises(SignalError, match="the flat one: every lead is flat"):
        bundle.predict_recordings([records[0], (flat.header, flat.samples)])


SETTINGS = {
    "hidden layer": NetworkSettings(width=4, kernels=(5,), squeeze_ratio=2, hidden=8),
    "demographics": LeadWeightedSettings(widths=(4,), squeeze_ratio=None),
    "second head": AttentionSettings(width=4, blocks=1, heads=2, hidden=6),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_the_last_layer_makes_the_probabilities_of_the_features(name):
    keras.utils.set_random_seed(1)
    network, random = SETTINGS[name].build(12, None, 22), np.random.default_rng(0)
    inputs = [random.normal(size=(3, 500, 12)).astype(np.float32), random.random((3, 5)).astype(np.float32)]
    inputs = tuple(inputs[: len(network.inputs)])
    inputs = inputs[0] if len(inputs) == 1 else inputs
    features = keras.ops.convert_to_numpy(build_feature_network(network)(inputs, training=False))
    kernel, bias = network.layers[-1].get_weights()
    expected = keras.ops.convert_to_numpy(network(inputs, training=False))
    np.testing.assert_allclose(1 / (1 + np.exp(-(features @ kernel + bias))), expected, atol=1e-6)
    assert features.shape == (3, len(kernel)) and np.ptp(features, axis=0).max() > 0


@pytest.mark.slow
def test_features_of_networks_follow_each_other_and_do_not_depend_on_the_batch(records):
    keras.utils.set_random_seed(2)
    settings = SETTINGS["hidden layer"]
    members = tuple(Member(LEADS, settings, settings.build(12, None, 22)) for _ in range(2))
    bundle = Bundle(LEADS, Ensemble(Group(TRAINED_CLASSES, members)), Rule(np.full(26, 0.5)))
    features = bundle.embed_recordings(records)
    assert features.shape == (len(records), 2 * settings.hidden) and features.dtype == np.float32
    single = np.concatenate([bundle.embed_recordings([record]) for record in records[3:6]])
    np.testing.assert_allclose(features[3:6], single, atol=1e-4)
    for member, columns in zip(members, np.hsplit(features, 2), strict=True):
        kernel, bias = member.network.layers[-1].get_weights()
        alone = Bundle(LEADS, Ensemble(Group(TRAINED_CLASSES, (member,))), Rule(np.full(26, 0.5)))
        expected = [list(prediction.by_class.values()) for prediction in alone.predict_recordings(records[:4])]
        order = np.argsort([ABBREVIATIONS.index(name) for name in TRAINED_CLASSES])
        predicted = 1 / (1 + np.exp(-(columns[:4] @ kernel + bias)))
        np.testing.assert_allclose(predicted[:, order], expected, atol=1e-5)
