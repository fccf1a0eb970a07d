import threading
import time
from dataclasses import replace

import keras
import numpy as np
import pytest
from result_helpers import StandInNetwork

from ecg.commands.holdout import predict_stores
from ecg.data.batches import DEFAULT_VIEW, ZEROS_IN_FRONT, View, Window
from ecg.data.leads import LEAD_SETS, LEADS, lead_indices
from ecg.data.records import SignalError
from ecg.data.resampling import DEFAULT_PREPROCESSING, Preprocessing
from ecg.models.ensemble import (
    Ensemble,
    Group,
    Member,
    Segment,
    align_classes,
    average_rows,
    count_inputs,
    uses_demographics,
)
from ecg.models.network_settings import (
    NETWORK_KINDS,
    AttentionSettings,
    DCNetSettings,
    LeadWeightedSettings,
    LiSettings,
    NetworkSettings,
    RhythmSettings,
)
from ecg.models.numpy_network import Threads
from ecg.systems.recipes import RECIPES

CLASSES = ("NSR", "AF", "PVC")
PERSON = np.array([0.6, 1, 0, 0, 0], np.float32)
SLOW = Preprocessing(100, None)


def member(answer, leads=LEAD_SETS[2], view=DEFAULT_VIEW, inputs=1):
    network = StandInNetwork(lambda signals, *demographics: [answer(signal) for signal in signals], inputs)
    return Member(tuple(leads), None, network, "sigmoid", view)


def sure(*probabilities):
    """What says these probabilities of everything."""
    return lambda signal: probabilities


def segments_of(*signals):
    """Segments of a recording, and a list of what is prepared of them; None stands for one without a valid sample."""

    def segment(signal):
        def prepare(preparation, leads):
            prepared.append((preparation, leads))
            if signal is None:
                raise SignalError("no sample was recorded")
            return signal[:: DEFAULT_PREPROCESSING.rate // preparation.rate, : len(leads)]

        return Segment(prepare)

    prepared = []
    return list(map(segment, signals)), prepared


SIGNAL = np.random.default_rng(0).normal(size=(1000, 12)).astype(np.float32)


def test_every_kind_of_network_of_a_recipe_has_a_name_for_files():
    kinds = list(NETWORK_KINDS.values())
    assert len(set(kinds)) == len(kinds)
    for recipe in RECIPES.values():
        assert type(recipe.network) in kinds and (recipe.gate is None or type(recipe.gate.network) in kinds)


def test_a_view_is_called_by_what_it_sees():
    assert (DEFAULT_VIEW.title, View(SLOW, Window(1250)).title) == ("250 Hz", "100 Hz, 12 s")


def test_a_member_is_built_by_its_settings_for_its_leads_and_window(small_network):
    built_member = Member.build(LEAD_SETS[3], small_network, 5, "softmax", View(window=Window(500)))
    assert built_member.network.input_shape == (None, 500, 3) and built_member.network.output_shape == (None, 5)
    assert built_member.network.layers[-1].activation.__name__ == "softmax"
    settings = LeadWeightedSettings(widths=(4,), squeeze_ratio=None)
    assert uses_demographics(settings.build(2, 500, 3)) and not uses_demographics(built_member.network)


def test_a_member_predicts_each_window_with_the_demographics():
    view = View(window=Window(400, overlap=100))
    three_lead_member = member(lambda signal: signal[0], ("I", "II", "V2"), view, inputs=2)
    outputs = three_lead_member.predict(SIGNAL[:, :3], PERSON)
    windows, demographics = three_lead_member.source.seen[0]
    assert len(windows) == len(demographics) == 3  # of 400 samples that overlap by 100 at the least
    np.testing.assert_array_equal(windows, view.window.segments(SIGNAL[:, :3]))
    np.testing.assert_array_equal(demographics, [PERSON] * 3)
    np.testing.assert_array_equal(outputs, SIGNAL[[0, 300, 600], :3])


def test_of_parts_the_surest_counts_and_of_windows_their_mean():
    outputs = np.array([[0.1, 0.8], [0.5, 0.2], [0.3, 0.2]])
    np.testing.assert_array_equal(member(None).pool_windows(outputs), [0.5, 0.8])
    np.testing.assert_allclose(member(None, view=View(window=Window(9))).pool_windows(outputs), [0.3, 0.4])


def test_a_network_for_all_lead_sets_sees_zeros_for_the_leads_that_are_not_read():
    shared = replace(member(lambda signal: signal[-1], ("I", "II", "V2")), settings=AttentionSettings(),
                     view=View(window=Window(300, ZEROS_IN_FRONT, first_only=True)))  # fmt: skip
    (outputs,) = shared.predict(SIGNAL[:, [0, 1, 7]], PERSON)
    expected = np.zeros(12)
    expected[[0, 1, 7]] = SIGNAL[299, [0, 1, 7]]
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    assert Member.build(LEAD_SETS[2], AttentionSettings(width=4, blocks=1), 5).network.input_shape == (None, None, 12)


def test_a_network_of_the_first_window_predicts_the_first_valid_segment_alone():
    first = member(lambda signal: signal[0, :1], view=View(window=Window(200, first_only=True)))
    averaged = member(lambda signal: signal[0, :1], view=View(window=Window(200)))
    segments, prepared = segments_of(None, SIGNAL[500:], SIGNAL[:500])
    members = Group(("AF",), (first, averaged)).predict_each(segments, PERSON)
    assert members[0, 0] == pytest.approx(SIGNAL[500, 0])
    assert len(first.source.seen) == 1 and len(averaged.source.seen) == 2
    expected = np.concatenate([windows[:, 0, 0] for (windows,) in averaged.source.seen]).mean()
    assert members[1, 0] == pytest.approx(expected)
    segments, prepared = segments_of(SIGNAL, SIGNAL, SIGNAL)
    Group(("AF",), (first,)).predict_each(segments, PERSON)
    assert len(prepared) == 1  # the others are not even preprocessed


def test_the_mean_of_all_networks_counts_and_each_sees_the_recording_its_own_way():
    first = member(sure(0.2, 0.4, 0.0))
    second = member(sure(0.6, 0.0, 1.0), LEAD_SETS[3], View(SLOW, Window(300)))
    segments, prepared = segments_of(SIGNAL)
    prediction = Group(CLASSES, (first, second)).predict(segments, PERSON)
    np.testing.assert_allclose(prediction, [0.4, 0.2, 0.5], rtol=1e-6)
    assert prepared == [(DEFAULT_PREPROCESSING, LEAD_SETS[2]), (SLOW, LEAD_SETS[3])]
    np.testing.assert_array_equal(first.source.seen[0][0], SIGNAL[np.newaxis, :, :2])
    np.testing.assert_array_equal(second.source.seen[0][0], View(SLOW, Window(300)).window.segments(SIGNAL[::2, :3]))


def test_networks_that_are_computed_at_the_same_time_keep_their_order(monkeypatch):
    monkeypatch.setattr(Threads, "networks", 3)
    threads = []

    def predict(number):
        def wait(signal):
            threads.append(threading.current_thread())
            time.sleep(0.02 * (4 - number))
            return number, signal[0, 0]

        return wait

    members = tuple(member(predict(number)) for number in range(4))
    probabilities = Group(("AF", "NSR"), members).predict_each(segments_of(SIGNAL)[0], PERSON)
    np.testing.assert_array_equal(probabilities[:, 0], range(4))
    np.testing.assert_array_equal(probabilities[:, 1], np.float32(SIGNAL[0, 0]))
    assert 1 < len(set(threads)) <= 3 and threading.current_thread() not in threads


def test_all_windows_of_all_segments_count_alike_and_an_unusable_segment_does_not_count():
    """Three windows in the first part, one in the last: their mean, not that of two means."""
    windowed = member(lambda signal: signal[0], view=View(window=Window(400, overlap=100)))
    segments, _ = segments_of(SIGNAL, None, SIGNAL[:400] + 1)
    expected = np.mean([*SIGNAL[[0, 300, 600], :2], SIGNAL[0, :2] + 1], axis=0)
    np.testing.assert_allclose(Group(("AF", "NSR"), (windowed,)).predict(segments, PERSON), expected, rtol=1e-5)
    with pytest.raises(SignalError, match="no sample was recorded"):
        Group(("AF", "NSR"), (windowed,)).predict(segments_of(None, None)[0], PERSON)


def gated(gate):
    """An ensemble whose gate says this of everything."""
    return Ensemble(
        Group(CLASSES, (member(sure(0.1, 0.2, 0.3)),)),
        Group(("PVC", "NSR"), (member(sure(0.9, 0.7)),)),
        Group((), (member(sure(gate)),)),
    )


@pytest.mark.parametrize(("gate", "expected"), [(0.51, [0.7, 0, 0.9]), (0.5, [0.1, 0.2, 0.3]), (0.0, [0.1, 0.2, 0.3])])
def test_the_gate_chooses_the_group_and_the_other_groups_do_not_run(gate, expected):
    ensemble = gated(gate)
    probabilities, classes = ensemble.predict(segments_of(SIGNAL)[0], PERSON)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-6)
    assert classes.tolist() == [True, gate <= 0.5, True]
    asked = {name: len(group.members[0].source.seen) for name, group in ensemble.groups.items()}
    assert asked == {"gate": 1, "special": int(gate > 0.5), "general": int(gate <= 0.5)}


def test_without_a_gate_there_is_one_group():
    assert list(gated(0.1).groups) == ["general", "special", "gate"]
    alone = Ensemble(gated(0.1).general)
    assert list(alone.groups) == ["general"]
    probabilities, classes = alone.predict(segments_of(SIGNAL)[0], PERSON)
    np.testing.assert_allclose(probabilities, [0.1, 0.2, 0.3], rtol=1e-6)
    assert classes.all()


def test_recordings_of_a_store_are_predicted_by_the_group_that_the_gate_chooses(store, monkeypatch):
    """Each network says of a recording what a table has for it; which table, its name says."""
    rng, tables, asked = np.random.default_rng(0), {}, []
    monkeypatch.setattr("ecg.commands.holdout.uses_demographics", lambda network: network.startswith("special"))

    def predicts(network, examples, title, size):
        assert size == 8
        asked.append((network, examples.leads, examples.window, examples.demographics, examples.store.digest))
        return tables[network][examples.records]

    monkeypatch.setattr("ecg.commands.holdout.predict_dataset", predicts)
    groups, slow_store = {}, replace(store, digest="at another frequency")
    for name, classes, count in (("general", CLASSES, 2), ("special", ("PVC", "NSR"), 2), ("gate", (), 1)):
        members = []
        for number, view in enumerate((DEFAULT_VIEW, View(SLOW, Window(300)))[:count]):
            tables[f"{name} {number}"] = rng.random((len(store), max(len(classes), 1))).astype(np.float32)
            members.append(Member(LEAD_SETS[3], None, f"{name} {number}", "sigmoid", view))
        groups[name] = Group(classes, tuple(members))
    records = np.array([7, 0, 33, 12, 59, 4])
    predicted = predict_stores(
        Ensemble(**groups), {DEFAULT_PREPROCESSING: store, SLOW: slow_store}, records, "checking", 8
    )
    for row, record in enumerate(records):
        if tables["gate 0"][record] > 0.5:
            ventricular, sinus = np.mean([tables[f"special {number}"][record] for number in (0, 1)], axis=0)
            expected = [sinus, 0, ventricular]
        else:
            expected = np.mean([tables[f"general {number}"][record] for number in (0, 1)], axis=0)
        np.testing.assert_allclose(predicted[row], expected, rtol=1e-6)
    assert 0 < (tables["gate 0"][records] > 0.5).sum() < len(records)
    columns = lead_indices(LEAD_SETS[3])
    assert asked[2:] == [
        ("special 0", columns, DEFAULT_VIEW.window, True, store.digest),
        ("special 1", columns, Window(300), True, "at another frequency"),
        ("gate 0", columns, DEFAULT_VIEW.window, False, store.digest),
    ]


def test_its_parameters_are_those_of_all_networks(small_network):
    first = Member.build(LEAD_SETS[2], small_network, 3)
    group = Group(CLASSES, (first, first))
    assert Ensemble(group).parameters == 2 * sum(array.size for array in first.network.get_weights())
    assert Ensemble(group, group, Group((), (first,))).parameters == 5 * first.network.count_params()


def test_chosen_classes_are_put_in_all_classes_and_the_rest_are_absent():
    wide = align_classes(
        np.array([[0.1, 0.2], [0.3, 0.4]]),
        ("PVC", "AF"),
        ("AF", "STD", "PVC"),
    )
    np.testing.assert_array_equal(wide, [[0.2, 0, 0.1], [0.4, 0, 0.3]])
    with pytest.raises(ValueError, match="not in list"):
        align_classes(np.ones((1, 1)), ("SB",), ("AF",))


def test_rows_that_several_networks_predicted_have_their_mean():
    rng = np.random.default_rng(0)
    parts = [(np.sort(rng.choice(9, 5, replace=False)), rng.random((5, 3)).astype(np.float32)) for _ in range(4)]
    averaged = average_rows((9, 3), parts)
    for row in range(9):
        row_values = [answers[rows == row][0] for rows, answers in parts if row in rows]
        np.testing.assert_allclose(averaged[row], np.mean(row_values, axis=0) if row_values else 0, rtol=1e-6)


KERAS_FILES = {
    "se_resnet": NetworkSettings(width=8, kernels=(5, 3), hidden=16),
    "li_se_resnet": LiSettings(stages=(1, 1), width=8, peaks=False),
    "lead_weighted_resnet": LeadWeightedSettings(widths=(4, 8)),
    "dcnet": DCNetSettings(filters=(4, 4), plain=1),
    "rhythm_se_resnet": RhythmSettings(depth=18, width=4),
    "residual_attention": AttentionSettings(width=8, blocks=2, heads=2),
}


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_a_network_of_each_kind_is_the_same_after_keras_saved_and_loaded_it(kind, tmp_path):
    settings = KERAS_FILES[kind]
    assert type(settings) is NETWORK_KINDS[kind]
    network = settings.build(count_inputs(settings, LEADS), 512, 5)
    random = np.random.default_rng(0)
    for weight in network.weights:  # as after a training, so that no layer leaves its input as it is
        weight.assign(weight + 0.05 * np.abs(random.normal(size=weight.shape)))
    inputs = [random.normal(size=(2, *tensor.shape[1:])).astype(np.float32) for tensor in network.inputs]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in network.layers]
    np.testing.assert_array_equal(loaded.predict_on_batch(inputs), network.predict_on_batch(inputs))
