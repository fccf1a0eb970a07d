import gc
import hashlib
import json
import re
import tracemalloc
import weakref
from dataclasses import replace

import keras
import numpy as np
import pytest
from helpers import capture_log
from result_helpers import StandInNetwork, get_network, make_bundle

import team_code
from ecg.commands.holdout import predict_group, predict_members, predict_stores
from ecg.data.batches import REPEATED, Dataset, View, Window
from ecg.data.class_files import load_weights
from ecg.data.labels import ABBREVIATIONS, CHALLENGE_CLASSES, CLASS_INDEX, DROPPED, TRAINED, TRAINED_CLASSES
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.preprocessing import INVALID_VALUE, SKIPPED, encode_demographics, preprocess, split_segments
from ecg.data.records import SignalError, find_records, read_record
from ecg.data.resampling import DEFAULT_PREPROCESSING, Preprocessing
from ecg.data.store import build_store
from ecg.evaluation.expected_credit import choose_classes
from ecg.models.bundle import Bundle, load_bundle, save_bundle
from ecg.models.config import FORMAT, ModelError
from ecg.models.decision import Rule
from ecg.models.ensemble import Ensemble, Group, Member
from ecg.models.network_settings import AttentionSettings, LeadWeightedSettings, LiSettings, NetworkSettings
from ecg.runtime.executors import ONE_PROCESS
from ecg.systems.recipes import SYSTEMS
from ecg.training.trainer import predict_dataset

CODES = CHALLENGE_CLASSES.code_lists


@pytest.fixture(scope="module")
def model(small_network, tmp_path_factory):
    """A model folder with untrained networks for 12 and 2 leads."""
    folder = tmp_path_factory.mktemp("model")
    for count in (12, 2):
        keras.utils.set_random_seed(count)
        thresholds = np.linspace(0.2, 0.8, 26)
        save_bundle(
            make_bundle(LEAD_SETS[count], small_network, thresholds, small_network.build(count, None, len(TRAINED))),
            folder,
        )
    return folder


def text_of(path):
    return path.read_text()


@pytest.mark.parametrize("without", [{}, {"activation": "relu", "squeeze_ratio": None}])
def test_a_bundle_comes_back_as_it_was_saved(without, small_network, tmp_path):
    settings = replace(small_network, **without)
    network = settings.build(2, None, len(TRAINED))
    saved = make_bundle(LEAD_SETS[2], settings, np.random.default_rng(0).random(26), network)
    save_bundle(saved, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2_leads.json", "2_leads.weights.h5"]
    loaded = load_bundle(tmp_path, LEAD_SETS[2])
    assert loaded.leads == saved.leads and loaded.ensemble.general.members[0].settings == settings
    np.testing.assert_array_equal(loaded.rule.thresholds, saved.rule.thresholds)
    for a, b in zip(get_network(loaded).get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_prediction_is_that_of_the_store(model, store, headers):
    """What is written for a recording equals what training computed for it, and nothing else in the folder matters."""
    bundle = team_code.load_model(model, list(LEADS))
    expected = CHALLENGE_CLASSES.expand(
        predict_dataset(get_network(bundle), Dataset(store, np.arange(len(store)), tuple(range(12))), "checking")
    )
    paths = {path.stem: path for path in headers}
    for record, name in enumerate(store.names[:20]):
        codes, outputs, probabilities = team_code.run_model(bundle, text_of(paths[name]), read_record(paths[name])[1])
        assert codes == list(CODES)
        np.testing.assert_allclose(probabilities, expected[record], atol=1e-5)
        np.testing.assert_array_equal(outputs, probabilities >= bundle.rule.thresholds)
        assert not probabilities[[CLASS_INDEX[name] for name in DROPPED]].any()


def test_the_order_and_the_gain_of_the_leads_play_no_part(model, headers):
    bundle = load_bundle(model, LEADS)
    header, recording = read_record(headers[0])
    lines = text_of(headers[0]).splitlines()
    expected = bundle.predict("\n".join(lines), recording)[2]
    order = np.random.default_rng(0).permutation(12)
    shuffled = [lines[0], *(lines[1 + place] for place in order), *lines[13:]]
    np.testing.assert_allclose(bundle.predict("\n".join(shuffled), recording[order])[2], expected, atol=1e-5)
    for old, new in (("1000/mV", "4000/mV"), ("1000.0(0)/mV", "4000.0(0)/mV")):
        lines = [line.replace(f" {old} ", f" {new} ") for line in lines]
    np.testing.assert_allclose(bundle.predict("\n".join(lines), recording.astype(int) * 4)[2], expected, atol=1e-5)


def test_the_richest_lead_set_that_the_leads_fill_is_loaded(model):
    assert load_bundle(model, [lead.upper() for lead in reversed(LEADS)]).leads == LEAD_SETS[12]
    assert load_bundle(model, iter(["II", "V1", "i", "V2", "V3", "V4", "V5", "V6", "Resp"])).leads == LEAD_SETS[12]
    assert load_bundle(model, ["II", "X", "i", "II"]).leads == LEAD_SETS[2]
    assert load_bundle(model, ["aVF", "aVR"]).leads == LEAD_SETS[2]  # there is no model for 6


def test_the_next_richest_is_loaded_where_the_folder_has_no_other(model, tmp_path):
    for leads in (LEAD_SETS[6], LEAD_SETS[4], LEAD_SETS[3]):
        assert load_bundle(model, leads).leads == LEAD_SETS[2]
    for path in model.glob("12_*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="no model for 2 or 3 or 4 or 6 leads, 3_leads.json is missing"):
        load_bundle(tmp_path, LEAD_SETS[3])
    with pytest.raises(ModelError, match="12_leads.json is missing"):
        load_bundle(tmp_path / "nowhere", LEADS)


def test_no_smaller_model_is_loaded_without_fallback(model):
    lines = capture_log()
    with pytest.raises(ModelError, match="no model for 3 leads, 3_leads.json is missing"):
        load_bundle(model, LEAD_SETS[3], fallback=False)
    assert load_bundle(model, LEADS, fallback=False).leads == LEAD_SETS[12]
    assert load_bundle(model, LEAD_SETS[2], fallback=False).leads == LEAD_SETS[2]
    assert not lines


@pytest.mark.parametrize(("leads", "missing"), [
    (["II", "v2"], "leads II, v2 fill none of the lead sets: 1 of I, III, aVR, aVL, aVF is missing"),
    (["V1", "MLII"], "leads V1, MLII fill none of the lead sets: 2 of I, II, III, aVR, aVL, aVF are missing"),
    ([], "leads none fill none of the lead sets: 2 of I"),
])  # fmt: skip
def test_leads_that_fill_no_set_are_an_error_that_names_what_is_missing(leads, missing, model):
    with pytest.raises(ModelError, match=missing):
        load_bundle(model, leads)


@pytest.mark.parametrize("names", [("I", "II"), ("aVL", "III"), LEADS[1:6]])
def test_computed_leads_are_predicted_as_recorded_ones(names, model, headers):
    """For recordings of the limb leads named and the chest leads, the network for 12 leads answers as for all."""
    header, recording = read_record(headers[0])
    lines = text_of(headers[0]).splitlines()
    rows = [header.lead_names.index(name) for name in (*names, *LEADS[6:])]
    few = "\n".join([lines[0].replace(" 12 ", f" {len(rows)} ", 1), *(lines[1 + row] for row in rows)])
    bundle = team_code.load_model(model, [header.lead_names[row] for row in rows])
    assert bundle.leads == LEADS
    expected = bundle.predict(text_of(headers[0]), recording)[2]
    np.testing.assert_allclose(bundle.predict(few, recording[rows])[2], expected, atol=2e-3)
    two_lead_text = "\n".join([lines[0].replace(" 12 ", " 2 ", 1), *(lines[1 + row] for row in rows[-2:])])
    with pytest.raises(SignalError, match="no lead I, II, III, aVR, aVL, aVF, V1, V2, V3, V4 among V5, V6"):
        bundle.predict(two_lead_text, recording[rows[-2:]])


@pytest.fixture
def copied(model, tmp_path):
    """The model for 2 leads in a folder of its own: its JSON and its weights."""
    paths = tmp_path / "2_leads.json", tmp_path / "2_leads.weights.h5"
    for path in paths:
        path.write_bytes((model / path.name).read_bytes())
    return paths


def refusal(paths):
    """Why the model is refused, in a message that says which file it is."""
    with pytest.raises(ModelError) as error:
        load_bundle(paths[0].parent, LEAD_SETS[2])
    assert re.match(r"(\S*/)?2_leads\.(json|weights\.h5): ", str(error.value))
    return str(error.value)


def describe(paths, change, weights=None):
    """Change the JSON file, or the weights, as one would who wants it believed: with the digests that belong to it."""
    saved = json.loads(paths[0].read_text())
    change(saved)
    if weights is not None:
        paths[1].write_bytes(weights)
        saved["groups"]["general"]["members"][0]["weights"] = hashlib.sha256(weights).hexdigest()
    saved.pop("digest", None)
    saved["digest"] = hashlib.sha256(json.dumps(saved, sort_keys=True).encode()).hexdigest()
    paths[0].write_text(json.dumps(saved))


def setting(key, value, *path):
    def change(saved):
        for name in path:
            saved = saved[name]
        saved[key] = value

    return change


MEMBER = ("groups", "general", "members", 0)
SIZES = (*MEMBER, "settings")
CALIBRATION = ("rule", "calibration")


def test_a_description_that_only_looks_different_is_read(copied):
    describe(copied, lambda saved: None)
    assert load_bundle(copied[0].parent, LEAD_SETS[2]).leads == LEAD_SETS[2]


@pytest.mark.parametrize(("text", "reason"), [
    ("", "no valid description"), ("{", "no valid description"), ("\0\0", "no valid description"),
    ("[" * 100_000, "no valid description"), ("[1, 2]", r"content is \[1, 2\], expected an object"),
    ("null", "expected an object"), ("{}", f"format is None, expected {FORMAT}"),
    ('{"format": NaN}', f"format is nan, expected {FORMAT}"),
    ('{"format": 3, "leads": ["I", "II"]}', f"format is 3, expected {FORMAT}"), (" " * 2**20 + "{}", "1,048,578 bytes"),
])  # fmt: skip
def test_what_is_no_description_is_refused(text, reason, copied):
    copied[0].write_text(text)
    assert re.search(reason, refusal(copied))


INVALID = "no valid description of a model"


@pytest.mark.parametrize(("change", "reason"), [
    (setting("leads", list(LEAD_SETS[3])), "leads is .*'V2'.*, expected"),
    (setting("leads", "I,II"), "leads is 'I,II', expected"),
    (setting("classes", list(CODES[::-1])), "classes is"),
    (setting("rate", 0, *MEMBER, "preparation"), "the pass band .* is not within what 0 Hz hold"),
    (setting("band", [45, 0.5], *MEMBER, "preparation"), "the pass band .* is not within what 250 Hz hold"),
    (setting("band", [0.5], *MEMBER, "preparation"), INVALID),
    (setting("length", "10", *MEMBER, "window"), INVALID),
    (setting("fill", "ones", *MEMBER, "window"), "filled with 'ones'"),
    (setting("overlap", 1, *MEMBER, "window"), "overlap 1"),
    (setting("kind", "transformer", *MEMBER), INVALID),
    (setting("kind", ["se_resnet"], *MEMBER), INVALID),
    (setting("groups", {"general": 3}), INVALID),
    (setting("rule", [0.5] * 26), INVALID),
    (setting("thresholds", [0.5] * 26, "rule"), INVALID),
    (setting(CODES[3], 10**400, "rule", "thresholds"), INVALID),
    (setting(CODES[3], "0.5", "rule", "thresholds"), f"{INVALID}: TypeError: '0.5' is not a number"),
    (setting("decision", "guess", "rule"), f"{INVALID}: ValueError: decision: expected one of .*'guess'"),
    (setting("decision", ["half"], "rule"), INVALID),
    (setting("calibration", 1, "rule"), INVALID),
    (lambda saved: saved["rule"].pop("calibration"), f"{INVALID}: KeyError: 'calibration'"),
    (setting("slope", 0.0, *CALIBRATION), "expected a positive slope"),
    (setting("slope", True, *CALIBRATION), "True is not a number"),
    (setting("scale", 1.0, *CALIBRATION), "unexpected keyword argument 'scale'"),
    (setting("intercepts", [0.0] * 26, *CALIBRATION), INVALID),
    (setting("unknown", 0.0, *CALIBRATION, "intercepts"), "27 classes, expected the 26 scored ones"),
    (setting(CODES[3], None, *CALIBRATION, "intercepts"), "None is not a number"),
    (setting("weights", [[1.0] * 26] * 25, "rule"), "weights: expected 26 rows of 26 numbers"),
    (setting("weights", [[1.0] * 26] * 25 + [["1"] * 26], "rule"), "weights: expected 26 rows"),
    (setting("weights", [[1.0] * 26] * 25 + [[1e7] * 26], "rule"), "weights: expected 26 rows"),
    (setting("weights", "identity", "rule"), INVALID),
    (setting("settings", None, *MEMBER), INVALID),
    (setting("depth", 3, *SIZES), INVALID),
    (setting("activation", "gelu", *SIZES), "activation is 'gelu', expected one of mish, relu"),
    (setting("dropout", 1.0, *SIZES), "dropout is 1.0, expected a number from 0 to below 1"),
    (setting("hidden", 60, *SIZES), "not the weights of the network"),
    (setting("width", 5, *SIZES), "not the weights of the network"),
    (setting("weights", "0" * 64, *MEMBER), "SHA-256 is '[0-9a-f]{64}', expected 0000"),
    (setting("weights", None, *MEMBER), "SHA-256 is"),
    (setting("leads", ["I", "V9"], *MEMBER), f"{INVALID}: ValueError: leads have V9"),
    (setting("leads", 2, *MEMBER), INVALID),
    (setting("classes", ["unknown"] * 22, "groups", "general"), INVALID),
    (setting("members", [], "groups", "general"), f"{INVALID}: ValueError: a group has no networks"),
    (setting("groups", {}), f"{INVALID}: TypeError"),
    (lambda saved: saved["groups"].update(special={"classes": ["unknown"], "members": []}), INVALID),
    (lambda saved: saved["groups"].update(gate={"classes": [], "members": []}), "a group has no networks"),
    (setting("fallback", "unknown", "rule"), f"{INVALID}: ValueError: fallback is 'unknown'"),
    (setting("pairs", [["AF", "unknown"]], "rule"), f"{INVALID}: ValueError: pairs have unknown"),
    (setting("pairs", 3, "rule"), INVALID),
])  # fmt: skip
def test_a_foreign_description_is_refused_though_its_digest_is_right(change, reason, copied):
    describe(copied, change)
    assert re.search(reason, refusal(copied))


def test_an_edited_description_is_refused(copied):
    text = copied[0].read_text()
    edited = re.sub(r'("164889003": )0\.2,', r"\g<1>0.9,", text)
    assert edited != text
    copied[0].write_text(edited)
    assert "digest is" in refusal(copied) and "by its content" in refusal(copied)
    copied[0].write_text(text)
    load_bundle(copied[0].parent, LEAD_SETS[2])


@pytest.mark.parametrize("damage", [
    lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"", lambda data: b"not HDF5",
    lambda data: data[:3000] + bytes([data[3000] ^ 1]) + data[3001:],
])  # fmt: skip
def test_weights_that_are_not_those_saved_are_refused(damage, copied):
    copied[1].write_bytes(damage(copied[1].read_bytes()))
    assert "2_leads.weights.h5: SHA-256 is" in refusal(copied)
    copied[1].unlink()
    assert "2_leads.weights.h5: cannot be read: No such file" in refusal(copied)
    copied[1].mkdir()
    assert "a folder, expected a file" in refusal(copied)


def weights_of(folder, width=4, change=lambda values: values):
    """Bytes of the file that Keras writes for a network like that of `small`, of random weights."""
    network = NetworkSettings(width=width, kernels=(5,), squeeze_ratio=2, hidden=8).build(2, None, len(TRAINED))
    network.set_weights([change(values) for values in network.get_weights()])
    network.save_weights(folder / "other.weights.h5")
    return (folder / "other.weights.h5").read_bytes()


FOREIGN = "not the weights of the network that the JSON file describes$"


@pytest.mark.parametrize(("made", "reason"), [
    (lambda folder: bytes(70_000), FOREIGN),
    (lambda folder: weights_of(folder)[:30_000] + bytes(40_000), FOREIGN),
    (lambda folder: weights_of(folder, width=8), FOREIGN),
    (lambda folder: weights_of(folder, change=lambda values: values * np.nan), "not finite.*expected finite numbers"),
])  # fmt: skip
def test_foreign_weights_are_refused_though_their_digest_is_right(made, reason, copied, tmp_path_factory):
    describe(copied, lambda saved: None, made(tmp_path_factory.mktemp("other")))
    assert re.search(f"2_leads.weights.h5: .*{reason}", refusal(copied), re.DOTALL)


def test_new_weights_with_an_old_description_are_refused(copied, small_network):
    """What is left where saving over another model is cut off."""
    keras.utils.set_random_seed(99)
    another_bundle = make_bundle(
        LEAD_SETS[2], small_network, np.full(26, 0.5), small_network.build(2, None, len(TRAINED))
    )
    text = copied[0].read_text()
    save_bundle(another_bundle, copied[0].parent)
    copied[0].write_text(text)
    assert "SHA-256" in refusal(copied)


@pytest.mark.slow
def test_the_same_bundle_is_saved_as_the_same_bytes_whatever_else_was_built(small_network, tmp_path):
    bundle = make_bundle(
        LEAD_SETS[3], small_network, np.full(26, 0.5), small_network.build(3, None, len(TRAINED)), "NSR"
    )
    save_bundle(bundle, tmp_path / "one")
    small_network.build(4, None, len(TRAINED))
    save_bundle(bundle, tmp_path / "two")
    again = small_network.build(3, None, len(TRAINED))
    again.set_weights(get_network(bundle).get_weights())
    save_bundle(make_bundle(LEAD_SETS[3], small_network, np.full(26, 0.5), again, "NSR"), tmp_path / "three")
    save_bundle(load_bundle(tmp_path / "one", LEAD_SETS[3]), tmp_path / "four")
    for name in ("3_leads.json", "3_leads.weights.h5"):
        assert len({(tmp_path / folder / name).read_bytes() for folder in ("one", "two", "three", "four")}) == 1


def test_a_bundle_that_cannot_be_saved_leaves_the_one_that_was(copied, small_network):
    before = [path.read_bytes() for path in copied]
    network, thresholds = small_network.build(2, None, len(TRAINED)), np.full(26, np.nan)
    with pytest.raises(ValueError, match="expected finite numbers"):
        save_bundle(make_bundle(LEAD_SETS[2], small_network, thresholds, network), copied[0].parent)
    assert [path.read_bytes() for path in copied] == before
    assert len(list(copied[0].parent.iterdir())) == 2


def half_network(keep=None):
    """A network that predicts 0.5 for each class."""
    return StandInNetwork(lambda signals: np.full((len(signals), 22), 0.5), keep=keep)


def test_a_long_recording_is_predicted_in_equal_segments_with_the_maximum_of_each_class(make_header, small_network):
    rng = np.random.default_rng(0)
    network_outputs = rng.random((3, 22)).astype(np.float32)
    network = StandInNetwork(lambda signals: network_outputs[len(network.seen) - 1 : len(network.seen)])
    recording = rng.integers(-500, 500, (2, 100 * 400)).astype(np.int16)
    header = make_header(["I", "II"], 100.0)
    bundle = make_bundle(LEAD_SETS[2], small_network, np.full(26, 0.5), network)
    probabilities = bundle.predict_recording(header, recording).probabilities
    np.testing.assert_array_equal(probabilities, CHALLENGE_CLASSES.expand(network_outputs.max(axis=0)))
    assert [signals.shape[1] for (signals,) in network.seen] == [33333, 33333, 33335]


def test_a_model_can_be_decided_anew_by_expected_credit(model, make_header):
    bundle, recording = load_bundle(model, LEAD_SETS[2]), np.random.default_rng(0).integers(-900, 900, (2, 5000))
    rule = replace(bundle.rule, decision="expected_credit")
    before, after = (
        replace(bundle, rule=chosen).predict_recording(make_header(LEAD_SETS[2]), recording)
        for chosen in (bundle.rule, rule)
    )
    np.testing.assert_array_equal(after.probabilities, before.probabilities)
    assert np.isfinite(before.thresholds).any() and np.isnan(after.thresholds).all()
    calibrated = np.where(after.probabilities > 0, rule.calibration.apply(after.probabilities), 0)
    np.testing.assert_array_equal(after.outputs, choose_classes(calibrated[np.newaxis], load_weights()[1])[0])
    assert (after.outputs != before.outputs).any()


def test_no_threshold_decides_between_classes_that_exclude_each_other(make_header, small_network):
    """The likeliest is answered, also below its threshold, and none where it is no scored one."""
    for network_outputs, predicted in (((0.2, 0.3, 0.1), ["AF"]), ((0.2, 0.3, 0.6), [])):
        group = Group(
            ("NSR", "AF", "STE"),
            (
                Member(
                    LEAD_SETS[2],
                    small_network,
                    StandInNetwork(lambda signals, network_outputs=network_outputs: [network_outputs]),
                ),
            ),
        )
        bundle = Bundle(LEAD_SETS[2], Ensemble(group), Rule(np.full(26, 0.5), decision="argmax"))
        prediction = bundle.predict_recording(make_header(["I", "II"], 100.0), np.arange(400).reshape(2, 200))
        assert np.isnan(prediction.thresholds).all()
        assert [ABBREVIATIONS[column] for column in np.flatnonzero(prediction.outputs)] == predicted
        assert [ABBREVIATIONS[column] for column in np.flatnonzero(prediction.covered)] == ["AF", "NSR"]


@pytest.mark.parametrize("turned", [False, True])
def test_all_segments_of_a_recording_have_the_gain_of_its_beginning(turned, make_header, small_network):
    """The header's gain is a wrong one of early 2020, and what follows is too small to show that by itself."""
    network = half_network()
    member = Member(LEAD_SETS[2], small_network, network, view=View(Preprocessing(early_gains=True)))
    bundle = Bundle(LEAD_SETS[2], Ensemble(Group(TRAINED_CLASSES, (member,))), Rule(np.full(26, 0.5)))
    recording = np.random.default_rng(0).integers(-500, 500, (2, 100 * 400)).astype(np.int16)
    recording[:, 14_400:] //= 50
    header = replace(make_header(["I", "II"], 100.0, gain=200.0), name="HR00015")
    bundle.predict_recording(header, recording.T if turned else recording)
    bundle.predict_recording(make_header(["I", "II"], 100.0, gain=1000.0), recording)
    assert len(network.seen) == 6
    for piece in range(3):
        np.testing.assert_array_equal(network.seen[piece][0], network.seen[3 + piece][0])


def test_a_recording_of_144_seconds_and_less_is_predicted_in_one_segment(make_header, small_network):
    network = half_network()
    bundle = make_bundle(LEAD_SETS[2], small_network, np.full(26, 0.5), network)
    for samples in (100, 200, 14400):
        recording = np.random.default_rng(0).integers(-500, 500, (2, samples))
        header = make_header(["I", "II"], 100.0)
        bundle.predict_recording(header, recording)
        np.testing.assert_array_equal(network.seen[-1][0][0], preprocess(header, recording, LEAD_SETS[2]).signal)
    assert len(network.seen) == 3


def test_a_segment_without_signal_does_not_count(make_header, small_network):
    network = half_network()
    bundle = make_bundle(LEAD_SETS[2], small_network, np.full(26, 0.5), network)
    recording = np.random.default_rng(0).integers(-500, 500, (2, 100 * 400)).astype(np.int16)
    recording[:, 13000:27000] = -32768  # a little of the first and the last segment, too
    assert bundle.predict_recording(make_header(["I", "II"], 100.0), recording).probabilities[0] == 0.5
    assert len(network.seen) == 2
    assert bundle.repaired == {INVALID_VALUE: 1, SKIPPED: 1}
    recording[:] = -32768
    with pytest.raises(SignalError, match="made: no sample was recorded"):
        bundle.predict_recording(make_header(["I", "II"], 100.0), recording)


def test_of_half_an_hour_one_segment_at_a_time_is_in_memory(make_header, small_network):
    network = half_network(keep=1)
    bundle = make_bundle(LEADS, small_network, np.full(26, 0.5), network)
    recording = np.random.default_rng(0).integers(-500, 500, (12, 250 * 1800), dtype=np.int16)
    tracemalloc.start()
    try:
        bundle.predict_recording(make_header(LEADS, 250.0), recording)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 20e6  # the whole in float64 would take 43


@pytest.mark.parametrize("flat", [slice(0, 14_000), slice(None)])
def test_a_recording_with_unusable_segments_is_freed_at_once(flat, make_header, small_network):
    bundle = make_bundle(LEAD_SETS[2], small_network, np.full(26, 0.5), half_network())
    recording = np.random.default_rng(0).integers(-500, 500, (2, 100 * 400)).astype(np.int16)
    recording[:, flat] = 0
    freed = weakref.ref(recording)
    gc.disable()  # what has no cycle is freed without it
    try:
        try:
            bundle.predict_recording(make_header(["I", "II"], 100.0), recording)
        except SignalError as error:
            assert "every lead is flat" in str(error)
        del recording
        assert freed() is None
    finally:
        gc.enable()


def test_an_empty_prediction_is_left_empty_or_is_the_class_that_was_set(small_network, tmp_path, headers):
    text, recording = text_of(headers[0]), read_record(headers[0])[1]
    bundle = make_bundle(
        LEAD_SETS[2], small_network, np.full(26, 0.5), StandInNetwork(lambda signals: np.full((len(signals), 22), 0.4))
    )
    _, outputs, probabilities = bundle.predict(text, recording)
    assert bundle.rule.fallback is None and not outputs.any()
    _, declared, same = replace(bundle, rule=replace(bundle.rule, fallback="SB")).predict(text, recording)
    assert list(np.flatnonzero(declared)) == [CLASS_INDEX["SB"]]
    np.testing.assert_array_equal(same, probabilities)
    save_bundle(
        make_bundle(LEAD_SETS[2], small_network, np.full(26, 0.5), small_network.build(2, None, len(TRAINED)), "SB"),
        tmp_path,
    )
    assert load_bundle(tmp_path, LEAD_SETS[2]).rule.fallback == "SB"


@pytest.mark.parametrize("empty", ["nsr", "BBB", "426783006", 14, ""])
def test_only_a_class_that_is_trained_can_stand_for_an_empty_prediction(empty, small_network):
    with pytest.raises(ValueError, match="expected None or one of AF"):
        make_bundle(LEAD_SETS[2], small_network, np.full(26, 0.5), None, empty)


def test_a_recording_that_cannot_be_used_is_an_error_with_its_name(model, headers):
    bundle = load_bundle(model, LEADS)
    header, recording = read_record(headers[0])
    with pytest.raises(SignalError, match=header.name):
        bundle.predict(text_of(headers[0]), recording[:5])


def test_real_recordings_are_predicted(model, real_data):
    bundle = load_bundle(model, LEADS)
    for path in find_records(real_data / "dialects"):
        _, outputs, probabilities = bundle.predict(text_of(path), read_record(path)[1])
        assert np.isfinite(probabilities).all() and len(outputs) == 26, path


SLOW = Preprocessing(100, None, linear=True)
TOLD = LeadWeightedSettings(widths=(4,), squeeze_ratio=None, dropout=0.0)
LI = LiSettings(stages=(1,), width=2, squeeze_ratio=None)
PLAIN = NetworkSettings(width=4, kernels=(3,), squeeze_ratio=None, hidden=8)
PIECES = View(DEFAULT_PREPROCESSING, Window(1100, overlap=100))


@pytest.fixture(scope="module")
def stores(synthetic_recordings, store, tmp_path_factory):
    """The made-up recordings in two preparations."""
    return {
        DEFAULT_PREPROCESSING: store,
        SLOW: build_store(synthetic_recordings, tmp_path_factory.mktemp("slow"), ONE_PROCESS, SLOW),
    }


@pytest.fixture(scope="module")
def system(stores, tmp_path_factory):
    """A model folder of two folds that see persons and another view, a gate, and one that answers behind it."""
    keras.utils.set_random_seed(7)
    classes, leads = ("STE", "NSR", "AF", "PVC"), LEAD_SETS[3]
    general = [Member.build(leads, TOLD, 4, view=PIECES) for _ in range(2)]
    general.append(Member.build(("II", "I"), PLAIN, 4, "softmax", View(SLOW, Window(1200, REPEATED))))
    special = [Member.build(leads, PLAIN, 2, view=PIECES), Member.build(leads, PLAIN, 2)]
    gate = Member.build(leads, LI, 1, view=PIECES)
    ensemble = Ensemble(Group(classes, tuple(general)), Group(("AF", "NSR"), tuple(special)), Group((), (gate,)))
    # So that the gate is sure of every other recording.
    gate_probabilities = predict_group(ensemble.gate, stores, np.arange(60), "gate")[:, 0]
    *kernels, bias = gate.network.get_weights()
    gate.network.set_weights(
        [*kernels, bias - np.log(np.median(gate_probabilities) / (1 - np.median(gate_probabilities)))]
    )
    folder = tmp_path_factory.mktemp("system")
    rule = Rule(np.full(26, 0.5), pairs=(("AF", "PVC"),), fallback="NSR")
    save_bundle(Bundle(leads, ensemble, rule, "mine"), folder)
    return folder, ensemble


@pytest.fixture(scope="module")
def loaded(system):
    """The bundle that is loaded of it."""
    return load_bundle(system[0], LEAD_SETS[3])


def test_an_ensemble_predicts_after_it_was_saved_as_it_predicts_from_stores(system, loaded, stores, headers):
    (_, ensemble), bundle = system, loaded
    assert (bundle.system, bundle.leads, list(bundle.ensemble.groups)) == (
        "mine", LEAD_SETS[3], ["general", "special", "gate"])  # fmt: skip
    assert bundle.ensemble.parameters == ensemble.parameters
    records = np.arange(0, 60, 5)
    expected = predict_stores(ensemble, stores, records, "checking")
    gates = predict_group(ensemble.gate, stores, records, "checking")[:, 0]
    assert 2 <= (gates > 0.5).sum() <= 10 and np.abs(gates - 0.5).min() > 1e-5
    paths = {path.stem: path for path in headers}
    for record, probabilities in zip(records, expected, strict=True):
        path = paths[stores[DEFAULT_PREPROCESSING].names[record]]
        codes, outputs, bundle_probabilities = bundle.predict(text_of(path), read_record(path)[1])
        np.testing.assert_allclose(
            bundle_probabilities, CHALLENGE_CLASSES.expand(probabilities, bundle.columns), atol=1e-5
        )
        sure = bundle_probabilities >= 0.5
        sure[CLASS_INDEX["PVC"]] |= sure[CLASS_INDEX["AF"]]
        sure[CLASS_INDEX["NSR"]] |= not sure.any()
        np.testing.assert_array_equal(outputs, sure)


def test_a_recording_is_prepared_once_for_a_gate_and_whom_it_asks(loaded, headers, monkeypatch):
    prepared = []

    def watched(header, piece, leads, recording, preparation):
        prepared.append((preparation, tuple(leads)))
        return preprocess(header, piece, leads, recording, preparation)

    monkeypatch.setattr("ecg.models.bundle.preprocess", watched)
    for path in headers[:10]:
        loaded.predict(text_of(path), read_record(path)[1])
        assert len(prepared) == len(set(prepared)) and (DEFAULT_PREPROCESSING, LEAD_SETS[3]) in prepared
        prepared.clear()


def test_an_ensemble_comes_back_as_it_was_saved_network_by_network(system, loaded):
    folder, ensemble = system
    for name, group in ensemble.groups.items():
        assert loaded.ensemble.groups[name].classes == group.classes
        for saved_member, loaded_member in zip(group.members, loaded.ensemble.groups[name].members, strict=True):
            for field in ("leads", "settings", "output_activation", "view"):
                assert getattr(saved_member, field) == getattr(loaded_member, field)
            for a, b in zip(saved_member.network.get_weights(), loaded_member.network.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"3_leads.{number}.weights.h5" for number in range(2, 7)), "3_leads.json", "3_leads.weights.h5"]  # fmt: skip


def test_age_and_sex_of_the_header_play_a_part_where_networks_see_them(loaded, headers):
    bundle = replace(loaded, ensemble=Ensemble(loaded.ensemble.general))
    text, recording = text_of(headers[0]), read_record(headers[0])[1]
    lines = [line for line in text.splitlines() if not re.match("# ?(Age|Sex)", line)]
    predictions = [bundle.predict("\n".join([*lines, *comments]), recording)[2]
            for comments in ([], ["#Age: 80"], ["#Sex: Male"], ["#Age: NaN", "#Sex: Unknown"])]  # fmt: skip
    assert len({probabilities_row.tobytes() for probabilities_row in predictions}) == 3
    np.testing.assert_array_equal(predictions[0], predictions[3])


def test_of_a_long_recording_all_windows_of_all_parts_count(loaded, make_header):
    """Windows where networks see one length, the surest part where they see any."""
    bundle = loaded
    recording = np.random.default_rng(0).integers(-500, 500, (3, 250 * 300)).astype(np.int16)
    header = make_header(LEAD_SETS[3], 250.0)
    parts = list(split_segments(header, recording))
    assert len(parts) == 3
    groups, group_probabilities = bundle.ensemble.groups, {}
    for name, group in groups.items():
        answers = []
        for member in group.members:
            signals = [preprocess(header, part, member.leads, recording, member.view.preparation).signal
                       for part in parts]  # fmt: skip
            gate_probabilities = np.concatenate(
                [member.predict(signal, encode_demographics(np.nan, "Unknown")) for signal in signals]
            )
            assert len(gate_probabilities) == 3 if member.view.window.length is None else len(gate_probabilities) > 6
            answers.append(
                gate_probabilities.max(axis=0) if member.view.window.length is None else gate_probabilities.mean(axis=0)
            )
        group_probabilities[name] = np.mean(answers, axis=0)
    general = CHALLENGE_CLASSES.expand(
        group_probabilities["general"], CHALLENGE_CLASSES.indices(groups["general"].classes)
    )
    special = CHALLENGE_CLASSES.expand(
        group_probabilities["special"], CHALLENGE_CLASSES.indices(groups["special"].classes)
    )
    expected = special if group_probabilities["gate"][0] > 0.5 else general
    gate_probabilities = bundle.predict_recording(header, recording)
    np.testing.assert_allclose(gate_probabilities.probabilities, expected, atol=1e-6)
    chosen_group = groups["special" if group_probabilities["gate"][0] > 0.5 else "general"]
    columns = CHALLENGE_CLASSES.indices(chosen_group.classes)
    np.testing.assert_array_equal(np.flatnonzero(gate_probabilities.covered), np.sort(columns[columns < 26]))
    np.testing.assert_array_equal(
        gate_probabilities.thresholds, np.where(gate_probabilities.covered, bundle.rule.thresholds, np.nan)
    )
    alone = Ensemble(groups["special" if group_probabilities["gate"][0] <= 0.5 else "general"])
    alone = replace(bundle, ensemble=alone, rule=Rule(bundle.rule.thresholds))
    chosen = general if group_probabilities["gate"][0] > 0.5 else special
    np.testing.assert_allclose(alone.predict_recording(header, recording).probabilities, chosen, atol=1e-6)


@pytest.fixture
def taken(system, tmp_path):
    """A copy of the model folder."""
    for path in system[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_a_missing_or_exchanged_file_of_weights_is_reported_by_its_name(taken):
    third, fourth = taken / "3_leads.3.weights.h5", taken / "3_leads.4.weights.h5"
    content = third.read_bytes()
    third.write_bytes(fourth.read_bytes())
    with pytest.raises(ModelError, match="3_leads.3.weights.h5: SHA-256 is"):
        load_bundle(taken, LEAD_SETS[3])
    third.unlink()
    with pytest.raises(ModelError, match="3_leads.3.weights.h5: cannot be read: No such file"):
        load_bundle(taken, LEAD_SETS[3])
    third.write_bytes(content)
    assert load_bundle(taken, LEAD_SETS[3]).leads == LEAD_SETS[3]


(VIEW_2021,) = SYSTEMS["nejedly2021"].views


@pytest.fixture(scope="module")
def shared(synthetic_recordings, tmp_path_factory):
    """A model folder in which three networks serve and vote for all lead sets, their rules, and a store for them."""
    folder, rng = tmp_path_factory.mktemp("shared"), np.random.default_rng(0)
    store = build_store(synthetic_recordings, tmp_path_factory.mktemp("store"), ONE_PROCESS, VIEW_2021.preparation)
    keras.utils.set_random_seed(3)
    settings, rules, weights = AttentionSettings(width=8, blocks=3, heads=2), {}, []
    for leads in LEAD_SETS.values():
        members = [Member.build(leads, settings, 26, view=VIEW_2021) for _ in range(3)]
        weights = weights or [member.network.get_weights() for member in members]
        for member, values in zip(members, weights, strict=True):
            member.network.set_weights(values)
        ensemble = Ensemble(Group(ABBREVIATIONS, tuple(members)))
        medians = np.median(predict_members(ensemble.general, stores_of(store), np.arange(60), "checking"), axis=1)
        thresholds = medians + rng.normal(0, 1e-3, (3, 26))
        rules[leads] = Rule(np.full(26, 0.5), "vote", member_thresholds=thresholds)
        save_bundle(Bundle(leads, ensemble, rules[leads], "shared"), folder)
    return folder, rules, store


def stores_of(store):
    return {VIEW_2021.preparation: store}


def reduce_record(path, leads):
    """The header's text and the recording of a file that has some leads alone."""
    header, recording = read_record(path)
    first, *lines = path.read_text().splitlines()
    rows = [header.lead_names.index(lead) for lead in leads]
    name, _, *facts = first.split()
    kept = [" ".join([name, str(len(leads)), *facts]), *(lines[row] for row in rows), *lines[len(header.leads) :]]
    return "\n".join(kept), recording[rows]


@pytest.mark.slow
def test_a_shared_network_predicts_files_of_each_lead_set_as_it_predicts_from_a_store(shared, headers):
    folder, rules, store = shared
    paths, records, votes = {path.stem: path for path in headers}, np.arange(0, 60, 4), []
    for leads, rule in rules.items():
        bundle = load_bundle(folder, leads)
        assert bundle.leads == leads and bundle.ensemble.general.members[0].leads == leads
        members = predict_members(bundle.ensemble.general, stores_of(store), records, "checking")
        outputs = rule.decide(members.mean(axis=0), bundle.columns, members)
        for index, record in enumerate(records):
            path = paths[store.names[record]]
            for text, recording in ((text_of(path), read_record(path)[1]), reduce_record(path, leads)):
                _, predicted, probabilities = bundle.predict(text, recording)
                np.testing.assert_allclose(probabilities, members[:, index].mean(axis=0), atol=1e-5)
                near = (np.abs(members[:, index] - rule.member_thresholds) < 1e-5).any(axis=0)
                np.testing.assert_array_equal(predicted[~near], outputs[index, ~near])
        assert 0.2 < outputs.mean() < 0.8
        votes.append(members)
    assert len({array.tobytes() for array in votes}) == 5


@pytest.mark.slow
def test_a_lead_that_is_not_of_the_lead_set_changes_nothing(shared, headers):
    bundle = load_bundle(shared[0], LEAD_SETS[3])
    header, recording = read_record(headers[0])
    changed = recording.copy()
    changed[[row for row, lead in enumerate(header.lead_names) if lead not in LEAD_SETS[3]]] //= 2
    before, after = (bundle.predict(text_of(headers[0]), values)[2] for values in (recording, changed))
    np.testing.assert_array_equal(before, after)


def test_a_vote_needs_the_thresholds_of_each_network_and_no_gate(small_network):
    members = tuple(Member(LEAD_SETS[2], small_network, None) for _ in range(3))
    general = Group(ABBREVIATIONS, members)
    thresholds = np.full((3, 26), 0.5)
    Bundle(LEAD_SETS[2], Ensemble(general), Rule(np.full(26, 0.5), "vote", member_thresholds=thresholds))
    for ensemble, values in ((Ensemble(general), None), (Ensemble(general), thresholds[:2]),
                             (Ensemble(general, general, Group((), members[:1])), thresholds)):  # fmt: skip
        with pytest.raises(ValueError, match="a vote of 3 networks needs thresholds for each of them, and no gate"):
            Bundle(LEAD_SETS[2], ensemble, Rule(np.full(26, 0.5), "vote", member_thresholds=values))
    with pytest.raises(ValueError, match="expected finite numbers"):
        Bundle(LEAD_SETS[2], Ensemble(general), Rule(np.full(26, 0.5), "vote", member_thresholds=thresholds * np.nan))


def test_a_prediction_does_not_depend_on_the_recordings_before_it(headers, small_network, tmp_path):
    save_bundle(
        make_bundle(LEADS, NetworkSettings(), np.full(26, 0.5), NetworkSettings().build(12, None, 22)), tmp_path
    )
    records = [read_record(path) for path in headers]
    records = list({recording.shape[1] / header.sampling_frequency: (header, recording)
                    for header, recording in records}.values())[:3]  # fmt: skip
    assert len(records) == 3
    forward, backward = (load_bundle(tmp_path, LEADS) for _ in range(2))
    expected = [forward.predict_recording(*record).probabilities for record in records]
    predicted = [backward.predict_recording(*record).probabilities for record in records[::-1]][::-1]
    np.testing.assert_array_equal(predicted, expected)
