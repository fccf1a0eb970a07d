"""Explanations find evidence of known place, add up to the logit, and keep to the leads and times of a recording."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from result_helpers import make_bundle

from ecg.data.batches import REPEATED, ZEROS_IN_FRONT, View, Window
from ecg.data.class_tables import ClassTable, Diagnosis
from ecg.data.labels import ABBREVIATIONS, TRAINED, TRAINED_CLASSES
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.preprocessing import encode_demographics
from ecg.data.records import SignalError, read_record
from ecg.data.resampling import BUTTERWORTH, Preprocessing
from ecg.data.synthetic_evidence import INTERVALS
from ecg.models.bundle import Bundle
from ecg.models.decision import Rule
from ecg.models.ensemble import Ensemble, Group, Member
from ecg.models.layers import LeadPresence
from ecg.models.network_settings import (
    AttentionSettings,
    DCNetSettings,
    LeadWeightedSettings,
    LiSettings,
    NetworkSettings,
    RhythmSettings,
)
from ecg.systems.attribution import (
    METHODS,
    Example,
    build_logit_network,
    compute_logits,
    find_occlusions,
    integrate_gradients,
    scale_window,
)
from ecg.systems.explanation_methods import (
    INTEGRATED_GRADIENTS,
    OCCLUSION,
    OFFERED,
    ExplanationError,
    choose_method,
    find_tested_class,
    offered_methods,
)
from ecg.systems.explanations import (
    Explanation,
    TimeGrid,
    compute_shading,
    explain,
    resample_relevance,
    smooth_relevance,
)

ROOT = Path(__file__).parents[3]
COMPILED_QUICKLY = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
SMALL = {
    "se_resnet": NetworkSettings(width=4, kernels=(5, 5), squeeze_ratio=2, hidden=8),
    "li": LiSettings(stages=(1, 1), width=4),
    "demographics": LeadWeightedSettings(widths=(4, 4)),
    "deformable": DCNetSettings(filters=(4, 4), plain=1),
    "unit range": RhythmSettings(depth=18, width=4),
    "second head": AttentionSettings(width=8, blocks=2, heads=2, hidden=8),
    "no second head": AttentionSettings(width=8, blocks=2, attention=False, second_head=False),
}
VIEWS = {
    "demographics": View(Preprocessing(257, None, linear=True), Window(1024, overlap=256)),
    "deformable": View(Preprocessing(250, None), Window(3000, REPEATED)),
    "unit range": View(Preprocessing(200, None), Window(2400, REPEATED)),
    "second head": View(Preprocessing(250, (1.0, 47.0), kind=BUTTERWORTH),
                        Window(3000, ZEROS_IN_FRONT, first_only=True, standardised=True)),
}  # fmt: skip


def make_member(kind, leads=LEADS, n_outputs=3, activation="sigmoid", seed=1):
    """A member with a small random network whose batch normalisation has seen a signal."""
    keras.utils.set_random_seed(seed)
    return Member.build(leads, SMALL[kind], n_outputs, activation, VIEWS.get(kind, View()))


def make_ensemble_bundle(*members, classes=("AF", "PVC", "NSR"), **groups):
    return Bundle(LEADS, Ensemble(Group(classes, members), **groups), Rule(np.full(26, 0.5)))


def make_example(network, leads=12, samples=1000, window=None, demographics=None, seed=0):
    """A smooth random signal in a window of a network, and the network of its logits."""
    random = np.random.default_rng(seed).normal(size=(samples + 20, leads))
    signal = np.array([np.convolve(lead, np.ones(21) / 5, "valid") for lead in random.T]).T.astype(np.float32)
    window = window or Window()
    logits = build_logit_network(network)
    length = window.length or samples
    example = Example(signal, 0.0, demographics, window, length, 250)
    if logits.scaling is None:
        return example, logits.network
    points, baseline = scale_window(logits.scaling, np.asarray(example.pad(signal[np.newaxis]))[0])
    return example._replace(signal=points[:samples], baseline=baseline), logits.network


@pytest.mark.parametrize("kind", SMALL)
def test_integrated_gradients_add_up_to_the_logit_above_that_of_a_flat_signal(kind):
    member = make_member(kind)
    person = encode_demographics(60, "Male") if kind == "demographics" else None
    window = replace(member.view.window, standardised=False)
    example, network = make_example(member.network, window=window, demographics=person)
    # A lead with the least signal counts as present; a flat one does not, which no path attributes to a time.
    flat = example.baseline + 1e-5 * (example.signal - example.baseline)
    logit, flat_logit = (float(compute_logits(network, example, x[np.newaxis], 1)[0]) for x in (example.signal, flat))
    attribution = integrate_gradients(network, example, 1)
    assert attribution.relevance.shape == example.signal.shape
    assert abs(logit - flat_logit) > 0.003
    assert attribution.relevance.sum() == pytest.approx(logit - flat_logit, abs=0.03 * abs(logit - flat_logit) + 0.001)
    np.testing.assert_allclose(attribution.by_input, attribution.relevance.sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("kind", SMALL)
def test_logits_are_log_odds_and_the_network_stays_as_it_is(kind, activation, synthetic_recordings):
    member = make_member(kind, activation=activation)
    header, recording = read_record(sorted(synthetic_recordings.glob("HR*.hea"))[0])
    bundle = make_ensemble_bundle(member)
    segments, _ = bundle.prepare_segments(header, recording)
    windows = member.split_windows(segments[0].signal(member.view.preparation, member.leads))[:1]
    before = [member.network.get_weights(), [layer.name for layer in member.network.layers]]
    logits, samples = build_logit_network(member.network), min(2500, windows.shape[1])
    points, baseline = scale_window(logits.scaling, windows[0])
    person = encode_demographics(header.age, header.sex)
    example = Example(points[:samples], baseline, person if kind == "demographics" else None, Window(), samples, 250)
    inputs = (windows, person[np.newaxis]) if kind == "demographics" else windows
    if samples == windows.shape[1]:
        values = [compute_logits(logits.network, example, points[np.newaxis], column)[0] for column in range(3)]
        probabilities = keras.ops.convert_to_numpy(member.network(inputs, training=False))[0]
        np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-np.array(values))), atol=1e-5)
    explanation = explain(bundle, header, recording, "PVC")
    assert np.isfinite(explanation.relevance).all() and np.ptp(explanation.relevance) > 0
    for old, new in zip(before[0], member.network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert before[1] == [layer.name for layer in member.network.layers]


@pytest.mark.parametrize("method", METHODS)
def test_what_exclusive_classes_have_in_common_is_no_evidence(method):
    """Lead 0 adds the same to all classes; the probability of class 0 depends on lead 1 alone."""
    signal = keras.Input((None, 2))
    kernel = np.zeros((2, 3), np.float32)
    kernel[0], kernel[1, 0] = 5, 2
    features = layers.GlobalMaxPooling1D()(signal)
    network = keras.Model(signal, layers.Dense(3, "softmax", name="classes")(features))
    network.layers[-1].set_weights([kernel, np.zeros(3, np.float32)])
    values = np.zeros((500, 2), np.float32)
    values[200, 0] = values[300, 1] = 1
    network = build_logit_network(network).network
    attribution = METHODS[method](network, Example(values, 0.0, None, Window(), 500, 250), 0)
    assert abs(attribution.by_input[0]) < 1e-4 < 1 < attribution.by_input[1]
    assert np.abs(attribution.relevance[:, 0]).max() < 1e-4


def make_seeing_network(lead, leads=12):
    """A network whose first logit is the mean of the squares of one lead, and whose second is the negative one."""
    signal = keras.Input((None, leads))
    squares = layers.GlobalAveragePooling1D()(layers.Multiply()([signal, signal]))
    network = keras.Model(signal, layers.Dense(2, "sigmoid")(squares))
    kernel = np.zeros((leads, 2), np.float32)
    kernel[lead] = 100, -100
    network.layers[-1].set_weights([kernel, np.zeros(2, np.float32)])
    return network


@pytest.mark.parametrize("method", METHODS)
def test_a_method_finds_the_wave_and_the_lead_that_the_network_sees(method):
    signal = np.random.default_rng(0).normal(0, 0.01, (2500, 12)).astype(np.float32)
    for beat in range(200, 2500, 200):
        signal[beat - 10 : beat + 10] += np.hanning(20)[:, np.newaxis]
    signal[990:1010, 7] *= 3  # the wave at 4 s is the highest of V2
    example = Example(signal, 0.0, None, Window(), 2500, 250)
    network = build_logit_network(make_seeing_network(7)).network
    relevance, by_input = METHODS[method](network, example, 0)
    smoothed = np.apply_along_axis(np.convolve, 0, relevance, np.ones(12) / 12, "same")
    sample, lead = np.unravel_index(smoothed.argmax(), relevance.shape)
    assert lead == 7 and abs(sample - 1000) < 30
    assert by_input.argmax() == 7
    against, _ = METHODS[method](network, example, 1)
    np.testing.assert_allclose(against, -relevance, atol=1e-4 * abs(relevance).max())


def test_occlusion_measures_by_how_much_the_logit_falls():
    member = make_member("se_resnet")
    example, network = make_example(member.network)
    waves, _ = find_occlusions(example.signal, 250)
    attribution = METHODS[OCCLUSION](network, example, 1)
    begin, end = waves[1:3]
    occluded = example.signal.copy()
    occluded[begin:end] = np.linspace(occluded[begin], occluded[end - 1], end - begin)
    logits = compute_logits(network, example, np.array([example.signal, occluded]), 1)
    assert attribution.relevance[begin:end].sum() == pytest.approx(logits[0] - logits[1], abs=1e-4)
    flat = example.signal.copy()
    flat[:, 3] = 0
    assert attribution.by_input[3] == pytest.approx(
        logits[0] - compute_logits(network, example, flat[np.newaxis], 1)[0], abs=1e-4
    )


@pytest.mark.parametrize("seconds", [1, 10, 144])
def test_occlusions_cover_a_signal_once_and_are_not_too_many(seconds):
    beats = np.zeros((seconds * 250, 2))
    beats[100::200] = 1
    for signal in (beats, np.zeros_like(beats)):
        for edges, most in zip(find_occlusions(signal, 250), (120, 20), strict=True):
            assert edges[0] == 0 and edges[-1] == len(signal) and (np.diff(edges) > 0).all()
            assert len(edges) <= most + 1


def test_an_explanation_is_the_mean_over_members_on_the_rate_of_the_first(synthetic_recordings):
    header, recording = read_record(sorted(synthetic_recordings.glob("HR*.hea"))[0])
    members = make_member("se_resnet"), make_member("unit range", ("II",), seed=2)
    both = explain(make_ensemble_bundle(*members), header, recording, "PVC")
    single = [explain(make_ensemble_bundle(member), header, recording, "PVC") for member in members]
    assert both.rate == 250 and single[1].rate == 200
    assert both.relevance.shape == (2500, 12) and single[1].relevance.shape == (2000, 12)
    assert both.relevance.dtype == both.by_lead.dtype == np.float32
    assert both.seconds == 10 and both.leads == LEADS
    assert both.logit == pytest.approx(np.mean([explanation.logit for explanation in single]))
    np.testing.assert_allclose(
        both.relevance.sum(axis=0), np.mean([e.relevance.sum(axis=0) for e in single], axis=0), atol=1e-5
    )
    assert not np.delete(single[1].relevance, LEADS.index("II"), axis=1).any()


def test_long_recordings_are_explained_segment_by_segment(make_header):
    random = np.random.default_rng(0)
    samples = 300 * 250
    recording = (100 * random.normal(size=(12, samples)).cumsum(axis=1) % 3000).astype(np.int16)
    recording[:, : samples // 3] = 0  # without a signal in the first of three segments
    header = make_header(frequency=250.0, samples=samples)
    member = Member.build(LEADS, NetworkSettings(width=2, kernels=(3,), squeeze_ratio=None, hidden=4), 3)
    explanation = explain(make_ensemble_bundle(member), header, recording, "PVC")
    assert explanation.relevance.shape == (samples, 12) and explanation.seconds == 300
    thirds = np.abs(explanation.relevance).sum(axis=1).reshape(3, -1).sum(axis=1)
    assert thirds[0] == 0 and (thirds[1:] > 0).all()
    recording[:] = 0
    with pytest.raises(SignalError):
        explain(make_ensemble_bundle(member), header, recording, "PVC")


@pytest.mark.parametrize("count", [2, 12])
def test_the_leads_are_those_of_the_lead_set(count, small_network, synthetic_recordings):
    header, recording = read_record(sorted(synthetic_recordings.glob("E*.hea"))[0])
    network = small_network.build(count, None, len(TRAINED))
    bundle = make_bundle(LEAD_SETS[count], small_network, np.full(26, 0.5), network)
    explanation = explain(bundle, header, recording, TRAINED_CLASSES[0], OCCLUSION)
    assert explanation.leads == LEAD_SETS[count] and explanation.by_lead.shape == (count,)
    assert explanation.relevance.shape[1] == count


def test_what_cannot_be_explained_is_said(synthetic_recordings):
    header, recording = read_record(sorted(synthetic_recordings.glob("E*.hea"))[0])
    member, gate = make_member("se_resnet"), make_member("se_resnet", n_outputs=1)
    gate.network.layers[-1].bias.assign([100.0])  # says that every recording is from the gate's source
    special = Group(("AF",), (make_member("se_resnet", n_outputs=1),))
    bundle = make_ensemble_bundle(member, special=special, gate=Group((), (gate,)))
    explain(bundle, header, recording, "AF")
    for name, method, reason in (("PVC", OCCLUSION, "networks for its source do not predict PVC"),
                                 ("LBBB", OCCLUSION, "the model does not predict LBBB"),
                                 ("AF", "guess", "method is 'guess', expected one of")):  # fmt: skip
        with pytest.raises(ExplanationError, match=reason):
            explain(bundle, header, recording, name, method)


@pytest.mark.parametrize(("rate", "grid_rate", "begin"), [(250, 250, 0.0), (500, 250, 2.0), (257, 500, 1.3)])
def test_resampling_keeps_sums_and_times(rate, grid_rate, begin):
    relevance = np.random.default_rng(0).normal(size=(4 * rate, 2))
    relevance[:, 1] = np.arange(4 * rate) == 2 * rate
    grid = TimeGrid(grid_rate, 8 * grid_rate, 8.0)
    placed = resample_relevance(relevance, rate, begin, grid)
    assert placed.shape == (8 * grid_rate, 2)
    np.testing.assert_allclose(placed.sum(axis=0), relevance.sum(axis=0), atol=1e-9)
    assert placed[:, 1].argmax() / grid_rate == pytest.approx(begin + 2, abs=1 / grid_rate)
    if rate == grid_rate and begin == 0:
        np.testing.assert_allclose(placed[: 4 * rate], relevance, atol=1e-12)


def test_shading_is_the_positive_part_of_the_smoothed_relevance():
    relevance = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    explanation = Explanation("AF", OCCLUSION, ("I", "II"), 250, 2.0, relevance, relevance.sum(axis=0), 0.0)
    shading, smoothed = compute_shading(explanation), smooth_relevance(explanation)
    assert smoothed[100, 0] == pytest.approx(relevance[94:106, 0].mean(), abs=0.2)
    assert np.ptp(np.diff(smoothed, axis=0)) < np.ptp(np.diff(relevance, axis=0)) / 4
    assert shading.min() == 0 and shading.max() == 1 and shading.dtype == np.float32
    assert (shading[smoothed <= 0] == 0).all()
    assert not compute_shading(explanation._replace(relevance=-np.abs(relevance))).any()


@pytest.mark.parametrize("method", METHODS)
def test_an_absent_lead_stays_absent(method):
    """A network that sees something only if its second lead is present has no evidence without it."""
    signal = keras.Input((None, 2))
    both = layers.Multiply()([layers.GlobalMaxPooling1D()(signal), LeadPresence()(signal)[:, ::-1]])
    network = keras.Model(signal, layers.Dense(1, "sigmoid")(both))
    values = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    for present in (True, False):
        values[:, 1] *= present
        attribution = METHODS[method](
            build_logit_network(network).network, Example(values, 0.0, None, Window(), 500, 250), 0
        )
        assert attribution.relevance[:, 0].any() == present
        assert attribution.relevance[:, 1].any() == present


def test_a_method_that_is_not_offered_is_not_chosen(monkeypatch):
    assert choose_method("PVC") == offered_methods("PVC")[0] and choose_method("PVC", OCCLUSION) == OCCLUSION
    offered = {"PVC": (OCCLUSION,), "PAC": (OCCLUSION, INTEGRATED_GRADIENTS)}
    monkeypatch.setattr("ecg.systems.explanation_methods.OFFERED", offered)
    assert offered_methods("PVC") == (OCCLUSION,) and choose_method("PVC") == OCCLUSION
    assert choose_method("PAC") == OCCLUSION and choose_method("PAC", INTEGRATED_GRADIENTS) == INTEGRATED_GRADIENTS
    with pytest.raises(ExplanationError, match="PVC is explained by occlusion, received 'smoothgrad'"):
        choose_method("PVC", "smoothgrad")
    with pytest.raises(ExplanationError, match="RBBB is not explained: no method has passed"):
        choose_method("RBBB")


def test_only_tested_methods_of_testable_classes_are_offered():
    assert OFFERED.keys() <= INTERVALS.keys() <= set(ABBREVIATIONS)
    assert all(offered_methods(name) and set(offered_methods(name)) <= METHODS.keys() for name in OFFERED)
    for name in ABBREVIATIONS:
        if name not in INTERVALS:
            assert offered_methods(name) == ()
            with pytest.raises(ExplanationError, match=f"{name} is not explained: no part of a synthetic beat"):
                choose_method(name, OCCLUSION)


OWN = ClassTable((
    Diagnosis("VES", ("427172004", "extra beat"), ""), Diagnosis("Flimmer", ("164889003",), ""),
    Diagnosis("PVC", ("SCP:PVC",), ""), Diagnosis("Block", ("164909002", "59118001"), ""),
    Diagnosis("Wide", ("164909002x", "698252002", "1"), ""),
))  # fmt: skip


def test_a_class_with_the_codes_of_a_tested_class_has_its_methods():
    assert find_tested_class("VES", OWN) == "PVC" and offered_methods("VES", OWN) == offered_methods("PVC")
    assert choose_method("VES", classes=OWN) == choose_method("PVC")
    assert find_tested_class("Flimmer", OWN) == "AF" and offered_methods("Flimmer", OWN) == ()
    with pytest.raises(ExplanationError, match="Flimmer is not explained: no part of a synthetic beat"):
        choose_method("Flimmer", classes=OWN)


@pytest.mark.parametrize("name", ["PVC", "Block", "Wide"])
def test_a_class_that_is_none_of_the_challenges_has_all_methods_untested(name):
    """The abbreviation alone, several classes in one, and a code more than the Challenge's make another class."""
    assert find_tested_class(name, OWN) is None and offered_methods(name, OWN) == tuple(METHODS)
    assert choose_method(name, OCCLUSION, OWN) == OCCLUSION
    assert choose_method(name, classes=OWN) == INTEGRATED_GRADIENTS
    with pytest.raises(ExplanationError, match=f"{name} is explained by .*, received 'guess'"):
        choose_method(name, "guess", OWN)


@pytest.mark.slow
def test_explanations_are_the_same_on_jax():
    """The tests of this file run there, too."""
    code = "import sys, pytest; sys.exit(pytest.main(['-q', *sys.argv[1:]]))"
    chosen = "finds or falls or (add_up and demographics)"
    ended = subprocess.run([sys.executable, "-c", code, "-k", chosen, __file__], cwd=ROOT,
                           env=os.environ | {"KERAS_BACKEND": "jax", **COMPILED_QUICKLY}, capture_output=True,
                           text=True)  # fmt: skip
    assert ended.returncode == 0 and "5 passed" in ended.stdout, ended.stdout
