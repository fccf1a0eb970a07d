from functools import cache

import keras
import numpy as np
import pytest

from ecg.models.network_settings import SOURCE_GATE, LeadWeightedSettings, LiSettings, RhythmSettings

SMALL = LiSettings(stages=(1, 1, 1, 1), width=4, first_kernel=3, kernel=3, squeeze_ratio=2, peak_units=4)
RNG = np.random.default_rng(0)


@cache
def build_network(settings, *asked):
    """A network that several tests look at and none changes."""
    return settings.build(*asked)


def answers(network, inputs):
    """What a network says in inference, without compiling it."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, network(inputs, training=False))


def lengths_and_filters(network, kind):
    return [layer.output.shape[1:] for layer in network.layers if isinstance(layer, kind)]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(("settings", "leads", "length", "classes", "answer", "parameters"), [
    (LiSettings(peaks=True), 8, 4992, 26, "sigmoid", 12_123_355),
    (SOURCE_GATE, 8, 4992, 1, "sigmoid", 719_615),
    (LeadWeightedSettings(), 12, 4096, 24, "sigmoid", 8_848_700),
    (RhythmSettings(18), 1, 2000, 7, "softmax", 3_942_591),
    pytest.param(RhythmSettings(50), 1, 2000, 7, "softmax", 18_537_335, marks=SLOW),
    pytest.param(RhythmSettings(18, squeeze=False), 1, 2000, 7, "softmax", 3_853_511, marks=SLOW),
    pytest.param(RhythmSettings(34), 1, 2000, 7, "softmax", 7_396_467, marks=SLOW),
    pytest.param(RhythmSettings(101), 1, 2000, 7, "softmax", 33_143_735, marks=SLOW),
    pytest.param(RhythmSettings(152), 1, 2000, 7, "softmax", 45_179_767, marks=SLOW),
    pytest.param(RhythmSettings(152, squeeze=False), 1, 2000, 7, "softmax", 38_550_727, marks=SLOW),
])  # fmt: skip
def test_number_of_parameters(settings, leads, length, classes, answer, parameters):
    network = build_network(settings, leads, length, classes, answer)
    assert network.count_params() == parameters
    assert network.outputs[0].shape == (None, classes)


def test_lengths_and_blocks_of_li():
    network = build_network(LiSettings(peaks=True), 8, 4992, 26, "sigmoid")
    assert network.output_shape == [(None, 26), (None, 156, 3, 7)]
    assert keras.Model(network.inputs, network.outputs[0]).count_params() == 12_102_854
    pooled = lengths_and_filters(network, keras.layers.MaxPooling1D)
    assert pooled == [(1248, 64), (624, 64), (312, 64), (156, 128), (78, 256)]
    convolutions = [layer for layer in network.layers if getattr(layer, "kernel_size", ()) == (5,)]
    assert [layer.filters for layer in convolutions] == [64] * 6 + [128] * 8 + [256] * 12 + [512] * 6
    assert sum(isinstance(layer, keras.layers.Multiply) for layer in network.layers) == 16


@pytest.mark.parametrize(("leads", "length", "cells"), [(8, 7488, 234), (3, 4992, 156), (2, None, None)])
def test_peaks_are_predicted_for_every_cell(leads, length, cells):
    network = LiSettings(**vars(SMALL) | {"peaks": True}).build(leads, length, 5)
    assert network.output_shape == [(None, 5), (None, cells, 3, 7)]
    probabilities, peaks = answers(network, RNG.normal(size=(2, length or 320, leads)).astype(np.float32))
    assert probabilities.shape == (2, 5) and peaks.shape == (2, cells or 10, 3, 7)
    assert all(values.dtype == np.float32 for values in (probabilities, peaks))
    assert all((values >= 0).all() and (values <= 1).all() for values in (probabilities, peaks))


def test_a_cell_of_peaks_sees_its_own_samples():
    """And those about it, as many before as after; without the gates, through which it sees all."""
    keras.utils.set_random_seed(1)
    network = LiSettings(**vars(SMALL) | {"peaks": True, "squeeze_ratio": None}).build(2, 3200, 5)
    signal = np.random.default_rng(1).normal(size=(8, 3200, 2)).astype(np.float32)
    modified = signal.copy()
    modified[:, 1600:1632] += 1
    changed = np.flatnonzero(np.abs(answers(network, signal)[1] - answers(network, modified)[1]).max(axis=(0, 2, 3)))
    assert changed.tolist() == list(range(45, 56))


def test_peaks_leave_the_way_to_the_probabilities_as_it_is():
    networks = []
    for peaks in (False, True):
        keras.utils.set_random_seed(1)
        networks.append(LiSettings(**vars(SMALL) | {"peaks": peaks}).build(3, 640, 5))
    plain, full = networks
    classifier = keras.Model(full.inputs, full.outputs[0])
    assert [layer.name for layer in classifier.layers] == [layer.name for layer in plain.layers]
    for plain_weights, classifier_weights in zip(plain.get_weights(), classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(plain_weights, classifier_weights)
    added = [layer.name for layer in full.layers if layer not in classifier.layers]
    assert added == ["peaks_001_Dense", "peaks_002_Activation", "peaks_003_Conv1D", "peaks_004_Reshape"]
    signal = RNG.normal(size=(2, 640, 3)).astype(np.float32)
    np.testing.assert_array_equal(answers(plain, signal), answers(full, signal)[0])


def test_a_length_of_broken_cells_is_refused():
    with pytest.raises(ValueError, match="5000 samples, expected a multiple of 32"):
        LiSettings(peaks=True).build(8, 5000, 26)


def test_blocks_of_zhao():
    network = build_network(LeadWeightedSettings(), 12, 4096, 24, "sigmoid")
    blocks = [(1024, 64), (512, 128), (256, 256), (128, 512)]
    assert lengths_and_filters(network, keras.layers.Add) == [block for block in blocks for _ in range(2)]
    assert [layer.output.shape for layer in network.layers if isinstance(layer, keras.layers.Concatenate)] == [
        (None, 522)
    ]
    assert sum(isinstance(layer, keras.layers.Dropout) and layer.rate == 0.2 for layer in network.layers) == 8


def test_demographics_count_and_may_be_missing():
    network = LeadWeightedSettings(widths=(4, 4, 8), kernel=3, squeeze_ratio=2, demographic_units=4).build(2, 256, 5)
    signal = np.repeat(RNG.normal(size=(1, 256, 2)), 3, axis=0).astype(np.float32)
    person = np.array([[0.6, 1, 0, 0, 0], [0.6, 0, 1, 0, 0], [0, 0, 0, 1, 1]], np.float32)
    probabilities = answers(network, (signal, person))
    assert (probabilities >= 0).all() and (probabilities <= 1).all()
    assert (np.ptp(probabilities, axis=0) > 1e-6).any()


@pytest.mark.parametrize(("depth", "filters"), [
    (18, (64, 128, 256, 512)), pytest.param(50, (256, 512, 1024, 2048), marks=SLOW),
])  # fmt: skip
def test_stages_of_the_rhythm_networks(depth, filters):
    network = build_network(RhythmSettings(depth), 1, 2000, 7, "softmax")
    blocks = (2, 2, 2, 2) if depth == 18 else (3, 4, 6, 3)
    stages = list(zip((500, 250, 125, 63), filters, strict=True))
    expected = [stage for stage, count in zip(stages, blocks, strict=True) for _ in range(count)]
    assert lengths_and_filters(network, keras.layers.Add) == expected
    shortcuts = 3 if depth == 18 else 4
    weighted = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv1D | keras.layers.Dense)]
    gates = 2 * sum(blocks)
    assert len(weighted) - gates - shortcuts == depth


def test_the_rhythm_of_a_recording_does_not_depend_on_its_unit():
    network = RhythmSettings(18, width=4).build(1, 400, 7, "softmax")
    signal = RNG.normal(size=(3, 400, 1)).astype(np.float32)
    probabilities = answers(network, signal)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(answers(network, 200 * signal - 7), probabilities, atol=1e-5)
    assert np.isfinite(answers(network, np.full((1, 400, 1), 3, np.float32))).all()


def test_a_depth_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="depth is 19, expected one of 18, 34, 50, 101, 152"):
        RhythmSettings(19)


@pytest.mark.parametrize("settings", [SMALL, LeadWeightedSettings((4, 4, 8)), RhythmSettings(18, width=4)])
def test_names_do_not_depend_on_networks_built_before(settings):
    names = [[layer.name for layer in settings.build(2, 256, 5).layers] for _ in range(2)]
    assert names[0] == names[1] and names[0][0] == "000_InputLayer"
