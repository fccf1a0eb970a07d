from dataclasses import replace

import numpy as np
import pytest
import scipy.io
from helpers import capture_log, read_millivolts
from result_helpers import save_untrained_models

from ecg import Recording, embed, load, predict
from ecg.data.headers import RecordError
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.preprocessing import NOT_FINITE
from ecg.data.records import TRANSPOSED, SignalError, read_record
from ecg.models.bundle import load_bundle
from ecg.models.config import ModelError

HIDDEN = 8  # units of the layer before the last


@pytest.fixture(scope="module")
def folder(small_network, tmp_path_factory):
    """A model folder with untrained networks for 12 and 2 leads."""
    folder = tmp_path_factory.mktemp("model")
    save_untrained_models(folder, small_network)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


class HeaderModel:
    """A model that returns the headers that it is asked to predict."""

    def predict_recording(self, header, samples):
        return header


@pytest.fixture
def seen(monkeypatch):
    """A function that returns the header that a model sees for the arguments of `predict`."""
    monkeypatch.setattr("ecg.api._add_warnings", lambda prediction, opened: prediction)
    return lambda *arguments, **options: predict(HeaderModel(), *arguments, **options)


@pytest.mark.slow
def test_a_model_is_loaded_by_number_or_names_of_leads_or_is_the_largest(folder, tmp_path):
    assert load(folder).leads == load(str(folder), 12).leads == LEADS
    assert load(folder, 2).leads == load(folder, ["ii", "Lead I"]).leads == load(folder, iter("I II".split())).leads
    assert load(folder, 2).leads == LEAD_SETS[2]
    for path in folder.glob("2_*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    lines = capture_log()
    assert load(tmp_path).leads == LEAD_SETS[2] and not lines
    assert load(tmp_path, LEADS).leads == LEAD_SETS[2] and "12_leads.json is missing" in " ".join(lines)


def test_a_model_that_is_not_there_is_an_error(folder, tmp_path):
    with pytest.raises(ModelError, match="no model for 12 leads, 12_leads.json is missing"):
        load(tmp_path)
    with pytest.raises(ModelError, match="no model for 3 leads, 3_leads.json is missing"):
        load(folder, 3)
    with pytest.raises(ModelError, match="leads V1 fill none of the lead sets: 2 of I, II, III"):
        load(folder, ["V1"])
    with pytest.raises(ValueError, match="'Resp' unknown, expected some of I, II"):
        load(folder, ["I", "II", "Resp"])
    with pytest.raises(ValueError, match="expected names or one of 12, 6, 4, 3, 2, received 1"):
        load(folder, 1)


def test_a_record_is_predicted_as_by_its_bundle(folder, model, headers):
    expected = load_bundle(folder, LEADS).predict_recording(*read_record(headers[0]))
    for path in (headers[0], headers[0].with_suffix("").as_posix()):
        prediction = predict(model, path)
        np.testing.assert_array_equal(prediction.probabilities, expected.probabilities)
        np.testing.assert_array_equal(prediction.outputs, expected.outputs)
        assert prediction.leads == LEADS and prediction.repairs == expected.repairs


def test_an_array_is_predicted_as_its_record(model, headers):
    for path in headers[:3]:
        expected, recording = predict(model, path), read_millivolts(path)
        arguments = {"frequency": recording.frequency, "age": recording.age, "sex": recording.sex}
        order = np.random.default_rng(0).permutation(12)
        names = [LEADS[index].upper() for index in order]
        for prediction in (
            predict(model, recording),
            predict(model, recording.signal, leads=12, **arguments),
            predict(model, recording.signal[:, order], leads=names, **arguments),
        ):
            np.testing.assert_allclose(prediction.probabilities, expected.probabilities, atol=1e-3)


def test_several_recordings_are_predicted_in_their_order(model, headers):
    recordings = [*headers[:5], *map(read_millivolts, headers[5:9])]
    expected = [predict(model, recording) for recording in recordings]
    for collection in (recordings, tuple(recordings)):
        for prediction, alone in zip(predict(model, collection), expected, strict=True):
            np.testing.assert_array_equal(prediction.probabilities, alone.probabilities)
            assert prediction.repairs == alone.repairs
    assert predict(model, []) == []
    signals = [recording.signal for recording in recordings[5:]]
    for prediction, alone in zip(predict(model, signals, 12, recordings[5].frequency), expected[5:], strict=True):
        np.testing.assert_array_equal(prediction.probabilities, alone.probabilities)


def test_repairs_of_files_and_of_samples_are_told(model, headers, tmp_path):
    header, integers = read_record(headers[0])
    text = headers[0].read_text().replace(headers[0].stem, "A0001")
    (tmp_path / "A0001.hea").write_text(text)
    scipy.io.savemat(tmp_path / "A0001.mat", {"val": integers.T}, format="4")
    assert (TRANSPOSED, (), 1) in predict(model, tmp_path / "A0001").repairs
    recording = read_millivolts(headers[0])
    recording.signal[7:9, 2] = np.nan
    for prediction in (predict(model, recording), *predict(model, [recording])):
        assert (NOT_FINITE, ("III",), 2) in prediction.repairs


def test_age_and_sex_of_the_call_replace_those_of_the_record(seen, headers):
    header, _ = read_record(headers[0])
    assert seen(headers[0]) == header
    changed = seen(headers[0], age=17, sex="F")
    assert (changed.age, changed.sex) == (17, "Female") and replace(changed, age=header.age, sex=header.sex) == header
    signal = np.zeros((500, 2))
    assert (seen(signal, 2, 500, 30, "m").age, seen(signal, 2, 500, 30, "m").sex) == (30, "Male")
    several = seen([Recording(signal, 2, 500, 40), headers[0], Recording(signal, 2, 250, sex="m")])
    assert [(facts.age, facts.sex) for facts in several[:2]] == [(40, "Unknown"), (header.age, header.sex)]
    assert [facts.name for facts in several] == ["recordings[0]", headers[0].stem, "recordings[2]"]
    with pytest.raises(ValueError, match="age and sex: only for one recording"):
        seen([headers[0]], age=17)
    with pytest.raises(RecordError, match="recording: expected an age from 0 to 130 years, received 300"):
        seen(signal, 2, 500, 300)


def test_arguments_that_do_not_fit_are_errors(seen, headers):
    signal = np.zeros((500, 2))
    with pytest.raises(ValueError, match="recording: an array needs leads="):
        seen(signal, frequency=500)
    with pytest.raises(RecordError, match="recording: expected a sampling frequency .* received None"):
        seen(signal, ["I", "II"])
    with pytest.raises(SignalError, match=r"recordings\[1\]: expected the shape \(samples, 2\) .* transpose it"):
        seen([signal, signal.T], 2, 500)
    for options in ({"leads": 2}, {"frequency": 500}):
        for recording in (headers[0], str(headers[0]), Recording(signal, 2, 500), [headers[0]]):
            with pytest.raises(ValueError, match="leads and frequency are for arrays"):
                seen(recording, **options)
    for recording in ({"signal": signal}, 5, None, [[0.0, 1.0]]):
        with pytest.raises(TypeError, match="expected a path, an array"):
            seen(recording)


def test_a_recording_with_too_few_leads_is_an_error_that_names_them(model):
    signal = np.random.default_rng(0).normal(size=(5000, 2))
    with pytest.raises(SignalError, match="recording: no lead V1, V2, V3, V4, V5, V6 among I, II"):
        predict(model, signal, 2, 500)
    with pytest.raises(SignalError, match=r"recordings\[0\]: 0.50 s is shorter than 1 s"):
        predict(model, [np.zeros((250, 12))], 12, 500)


def test_recordings_are_embedded_as_rows(model, headers):
    features = embed(model, headers[:5])
    assert features.shape == (5, HIDDEN) and features.dtype == np.float32 and np.ptp(features, axis=0).all()
    np.testing.assert_array_equal(embed(model, tuple(headers[:2])), features[:2])
    recording = read_millivolts(headers[4])
    similar = embed(model, [recording.signal], 12, recording.frequency)
    np.testing.assert_allclose(similar, features[4:], atol=0.02 * np.abs(features).max())
    with pytest.raises(ValueError, match="recordings: expected at least one"):
        embed(model, [])
    for recordings in (headers[0], recording, recording.signal):
        with pytest.raises(TypeError, match="recordings: expected a list or tuple, received"):
            embed(model, recordings)
