import json

import keras
import numpy as np
import pytest

import team_code
from ecg.bundle import CLASSES, Bundle, ModelError, load_bundle, save_bundle
from ecg.labels import COLUMN, DROPPED, TRAINED, expand
from ecg.leads import LEAD_SETS, LEADS
from ecg.networks import NetworkSettings, build_network
from ecg.records import SignalError, find_records, read_record
from ecg.training import predict


@pytest.fixture(scope="module")
def model(small, tmp_path_factory):
    """A model folder with untrained networks for 12 and 2 leads."""
    folder = tmp_path_factory.mktemp("model")
    for count in (12, 2):
        keras.utils.set_random_seed(count)
        thresholds = np.linspace(0.2, 0.8, 26)
        save_bundle(Bundle(LEAD_SETS[count], small, thresholds, build_network(small, count, len(TRAINED))), folder)
    return folder


def text_of(path):
    return path.read_text()


def test_a_bundle_comes_back_as_it_was_saved(small, tmp_path):
    network = build_network(small, 2, len(TRAINED))
    saved = Bundle(LEAD_SETS[2], small, np.random.default_rng(0).random(26), network)
    save_bundle(saved, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2_leads.json", "2_leads.weights.h5"]
    loaded = load_bundle(tmp_path, LEAD_SETS[2])
    assert loaded.leads == saved.leads and loaded.settings == saved.settings
    np.testing.assert_array_equal(loaded.thresholds, saved.thresholds)
    for a, b in zip(loaded.network.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_bundle_is_no_larger_than_its_weights(tmp_path):
    settings = NetworkSettings(width=48, kernels=(5, 3))
    network = build_network(settings, 2, len(TRAINED))
    network.compile("adam", "mse")
    network.optimizer.build(network.trainable_variables)
    save_bundle(Bundle(LEAD_SETS[2], settings, np.full(26, 0.5), network), tmp_path)
    assert (tmp_path / "2_leads.weights.h5").stat().st_size < 1.5 * 4 * network.count_params()


def test_an_answer_is_the_stores_answer(model, store, headers):
    """What is written for a recording equals what training computed for it, and nothing else in the folder matters."""
    bundle = team_code.load_model(model, list(LEADS))
    expected = expand(predict(bundle.network, store, np.arange(len(store)), tuple(range(12)), "checking"))
    paths = {path.stem: path for path in headers}
    for record, name in enumerate(store.names[:20]):
        codes, outputs, probabilities = team_code.run_model(bundle, text_of(paths[name]), read_record(paths[name])[1])
        assert codes == list(CLASSES)
        np.testing.assert_allclose(probabilities, expected[record], atol=1e-5)
        np.testing.assert_array_equal(outputs, probabilities >= bundle.thresholds)
        assert not probabilities[[COLUMN[name] for name in DROPPED]].any()


def test_the_order_and_the_gain_of_the_leads_play_no_part(model, headers):
    bundle = load_bundle(model, LEADS)
    header, recording = read_record(headers[0])
    lines = text_of(headers[0]).splitlines()
    expected = bundle.answer("\n".join(lines), recording)[2]
    order = np.random.default_rng(0).permutation(12)
    shuffled = [lines[0], *(lines[1 + place] for place in order), *lines[13:]]
    np.testing.assert_allclose(bundle.answer("\n".join(shuffled), recording[order])[2], expected, atol=1e-5)
    for old, new in (("1000/mV", "4000/mV"), ("1000.0(0)/mV", "4000.0(0)/mV")):
        lines = [line.replace(f" {old} ", f" {new} ") for line in lines]
    np.testing.assert_allclose(bundle.answer("\n".join(lines), recording.astype(int) * 4)[2], expected, atol=1e-5)


def test_the_richest_lead_set_that_the_leads_hold_is_loaded(model):
    assert load_bundle(model, [lead.upper() for lead in reversed(LEADS)]).leads == LEAD_SETS[12]
    assert load_bundle(model, ["II", "X", "i"]).leads == LEAD_SETS[2]
    with pytest.raises(ModelError, match="leads I and II are the least"):
        load_bundle(model, ["II", "V2"])
    with pytest.raises(ModelError, match="no model for 6 leads, 6_leads.json is missing"):
        load_bundle(model, LEAD_SETS[6])


def test_a_foreign_description_is_refused(model, small, tmp_path):
    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    description = json.loads((tmp_path / "2_leads.json").read_text())
    (tmp_path / "2_leads.json").write_text(json.dumps(description | {"sampling_frequency": 500}))
    with pytest.raises(ModelError, match="are not this program's"):
        load_bundle(tmp_path, LEAD_SETS[2])


def test_a_recording_that_cannot_be_used_is_an_error_with_its_name(model, headers):
    bundle = load_bundle(model, LEADS)
    header, recording = read_record(headers[0])
    with pytest.raises(SignalError, match=header.name):
        bundle.answer(text_of(headers[0]), recording[:5])


def test_real_recordings_are_answered(model, real_data):
    bundle = load_bundle(model, LEADS)
    for path in find_records(real_data / "dialects"):
        _, outputs, probabilities = bundle.answer(text_of(path), read_record(path)[1])
        assert np.isfinite(probabilities).all() and len(outputs) == 26, path
