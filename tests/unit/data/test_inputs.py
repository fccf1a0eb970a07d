import numpy as np
import pytest
from helpers import read_millivolts
from scipy.sparse import csr_array

from ecg.data.headers import RecordError
from ecg.data.inputs import (
    Recording,
    check_labels,
    encode_label_sets,
    has_label_sets,
    open_recording,
    resolve_leads,
    set_demographics,
)
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.preprocessing import NOT_FINITE, REJECTED, preprocess
from ecg.data.records import SignalError, read_record


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_array_is_preprocessed_as_the_record_that_it_was_read_from(headers, dtype):
    for path in headers[::10]:
        header, integers = read_record(path)
        recording = read_millivolts(path)
        opened = open_recording(Recording(recording.signal.astype(dtype), LEADS, recording.frequency))
        expected = preprocess(header, integers, LEADS).microvolts.astype(int)
        prepared = preprocess(opened.header, opened.samples, LEADS).microvolts.astype(int)
        assert prepared.shape == expected.shape and abs(prepared - expected).max() <= 1


def test_a_record_is_opened_by_its_path_with_or_without_extension(headers):
    header, integers = read_record(headers[0])
    for path in (headers[0], str(headers[0]), headers[0].with_suffix("")):
        opened = open_recording(path)
        assert opened.header == header and opened.warnings == ()
        np.testing.assert_array_equal(opened.samples, integers)


def test_leads_are_given_by_number_or_by_names_in_any_spelling():
    for count, names in LEAD_SETS.items():
        assert resolve_leads(count) == resolve_leads(np.int64(count)) == names
    assert resolve_leads(["ii", "Lead I", "C2", "AVR"]) == ("II", "I", "V2", "aVR")
    assert resolve_leads(iter(["I"])) == ("I",)


@pytest.mark.parametrize(("leads", "message"), [
    (5, "leads: expected names or one of 12, 6, 4, 3, 2, received 5"),
    ("II", "leads: expected several names or a number of leads, received 'II'"),
    (2.0, "received 2.0"),
    (["I", "V7", "x"], "leads: 'V7', 'x' unknown, expected some of I, II, III"),
    (["I", "II", "i"], "leads: I there twice"),
])  # fmt: skip
def test_unknown_leads_are_an_error_that_names_them(leads, message):
    with pytest.raises(ValueError, match=message):
        resolve_leads(leads)


GOOD = np.random.default_rng(0).normal(size=(1000, 2))


@pytest.mark.parametrize(("signal", "message"), [
    (GOOD.T, r"mine: expected the shape \(samples, 2\) for I, II, received \(2, 1000\); transpose it"),
    (GOOD[:, :1], r"expected the shape \(samples, 2\) for I, II, received \(1000, 1\)$"),
    (GOOD[:, 0], r"received \(1000,\)$"),
    (GOOD[np.newaxis], r"received \(1, 1000, 2\)$"),
    (GOOD[:0], r"received \(0, 2\)$"),
    (GOOD.astype(complex), "mine: expected numbers in mV, received complex128"),
    (GOOD > 0, "received bool"),
    (GOOD.astype(str), "received <U32"),
])  # fmt: skip
def test_a_signal_of_another_shape_or_type_is_an_error(signal, message):
    with pytest.raises(SignalError, match=message):
        open_recording(Recording(signal, 2, 500), "mine")


@pytest.mark.parametrize("frequency", [None, "500", 0, -500, 9.9, 10001, np.nan, np.inf])
def test_an_impossible_frequency_is_an_error(frequency):
    with pytest.raises(RecordError, match="mine: expected a sampling frequency from 10 to 10,000 Hz, received"):
        open_recording(Recording(GOOD, 2, frequency), "mine")


def test_something_else_is_an_error():
    with pytest.raises(TypeError, match="mine: expected a path, an array .* or a Recording, received list"):
        open_recording([1.0, 2.0], "mine")
    with pytest.raises(RecordError, match="nowhere.hea"):
        open_recording("nowhere")


def test_age_and_sex_are_those_of_a_header():
    header = open_recording(Recording(GOOD, 2, 500, 61, "weiblich")).header
    assert (header.age, header.sex) == (61.0, "Female")
    header = set_demographics(header, None, "m")
    assert (header.age, header.sex) == (61.0, "Male")
    unknown = open_recording(Recording(GOOD, 2, 500)).header
    assert np.isnan(unknown.age) and unknown.sex == "Unknown"
    assert np.isnan(set_demographics(header, np.nan, None).age)
    for age in (-1, 131, "60", np.inf):
        with pytest.raises(RecordError, match="recording: expected an age from 0 to 130 years, received"):
            set_demographics(header, age, None)


def test_samples_that_are_not_finite_are_repaired_rejected_or_refused():
    leads, signal = ("I", "II", "III"), np.random.default_rng(1).normal(size=(1000, 3))
    signal[10:20, 0] = np.nan
    signal[5, 0] = np.inf
    opened = open_recording(Recording(signal, leads, 500))
    prepared = preprocess(opened.header, opened.samples, LEAD_SETS[2])
    assert prepared.repairs == ((NOT_FINITE, ("I",), 11),)
    signal[:100, 0] = np.nan
    opened = open_recording(Recording(signal, leads, 500))
    assert (REJECTED, ("I",), 1) in preprocess(opened.header, opened.samples, LEAD_SETS[2]).repairs
    signal[:100] = np.nan
    opened = open_recording(Recording(signal, leads, 500), "mine")
    with pytest.raises(SignalError, match="mine: more than 1 in 20 samples of .* are faulty"):
        preprocess(opened.header, opened.samples, LEAD_SETS[2])


def test_microvolts_are_refused_as_a_wrong_unit():
    opened = open_recording(Recording(1000 * GOOD, 2, 500), "mine")
    with pytest.raises(SignalError, match="a unit or a gain is likely wrong"):
        preprocess(opened.header, opened.samples, LEAD_SETS[2])


def test_sets_of_names_are_told_from_a_matrix():
    sets = [{"AF", "NSR"}, set(), ["AF"], ("NSR",)]
    assert has_label_sets(sets) and has_label_sets(tuple(sets)) and has_label_sets(np.array(sets, object))
    matrices = np.eye(2), np.eye(2).tolist(), csr_array(np.eye(2)), np.array([["1", "0"]])
    for y in (*matrices[:3], ["AF", "NSR"], "AF", [], [{1}], None, np.array(["AF"])):
        assert not has_label_sets(y), y


def test_sets_of_names_become_a_matrix():
    encoded = encode_label_sets([{"AF", "NSR"}, [], ["AF", "AF"]], ["NSR", "PVC", "AF"])
    assert encoded.dtype == bool and encoded.tolist() == [[True, False, True], [False] * 3, [False, False, True]]
    with pytest.raises(ValueError, match=r"^y\[1\]: VT, X not among the classes NSR, AF$"):
        encode_label_sets([["AF"], ["X", "NSR", "VT"]], ["NSR", "AF"])


def test_a_matrix_of_labels_has_a_column_for_each_class():
    expected = [[True, False], [False, True]]
    for y in (np.eye(2), np.eye(2).tolist(), csr_array(np.eye(2)), np.eye(2, dtype=bool)):
        assert check_labels(y, ["a", "b"]).tolist() == expected
    for y in (np.eye(3), np.ones(2), ["a", "b"], csr_array(np.eye(3))):
        with pytest.raises(ValueError, match=r"^y: expected the shape \(recordings, 2\), .* received \("):
            check_labels(y, ["a", "b"])
    for y in (2 * np.eye(2), np.array([["1", "0"]]), np.array([[np.nan, 1]])):
        with pytest.raises(ValueError, match="^y: expected 0 or 1 for each class$"):
            check_labels(y, ["a", "b"])
