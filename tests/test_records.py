import numpy as np
import pytest
import wfdb

from ecg.headers import HeaderError, RecordError
from ecg.records import SignalError, find_records, read_record

RECORD_LINE = "A0001 2 500 7500 05-Feb-2020 11:39:16"
LEAD_LINES = ("A0001.mat 16+24 1000/mV 16 0 28 -1716 0 I", "A0001.mat 16+24 1000/mV 16 0 7 2029 0 II")
COMMENTS = ("#Age: 74", "#Sex: Male", "#Dx: 59118001,164889003", "#Rx: Unknown", "#Hx: Unknown", "#Sx: Unknown")


def header_text(record=RECORD_LINE, leads=LEAD_LINES, comments=COMMENTS):
    return "\n".join((record, *leads, *comments)) + "\n"


def test_real_records_hold_the_integers_that_wfdb_reads(real_data):
    for path in find_records(real_data / "dialects"):
        header, recording = read_record(path)
        assert recording.shape == (12, header.samples)
        first_values = [int(line.split()[5]) for line in path.read_text().splitlines()[1:13]]
        assert recording[:, 0].tolist() == first_values
    digital = wfdb.rdrecord(str(real_data / "dialects/ptb-xl-raw/00003_hr"), physical=False).d_signal
    assert np.array_equal(read_record(real_data / "dialects/ptb-xl-raw/00003_hr.hea")[1], digital.T)


def test_find_records_sorts_goes_below_and_passes_over_what_is_hidden(tmp_path):
    for name in ("b.hea", "a.hea", "a.mat", ".c.hea", "below/deeper/A.hea", ".git/x.hea", "d.hea.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert find_records(tmp_path) == [tmp_path / name for name in ("a.hea", "b.hea", "below/deeper/A.hea")]
    assert find_records(tmp_path / "below") == [tmp_path / "below/deeper/A.hea"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_records(tmp_path / "nowhere")


def test_a_matrix_comes_back_as_it_was_written(write):
    recording = np.random.default_rng(0).integers(-(2**15), 2**15, (2, 7500)).astype(np.int16)
    header, read = read_record(write(header_text(), recording))
    assert header.name == "A0001" and read.dtype == np.int16 and np.array_equal(read, recording)
    unstated = write(header_text("A0001 2"), recording)
    assert read_record(unstated)[1].shape == (2, 7500)


def test_a_renamed_record_is_read_from_the_file_beside_its_header(write):
    recording = np.arange(15000, dtype=np.int16).reshape(2, 7500)
    header, read = read_record(write(header_text(), recording, name="renamed"))
    assert header.name == "A0001" and np.array_equal(read, recording)


def test_samples_that_do_not_fit_the_header_are_told(write):
    with pytest.raises(SignalError, match="A0001.mat: no such file beside A0001.hea"):
        read_record(write(header_text()))
    for recording in (np.zeros((7500, 2)), np.zeros((2, 7499)), np.zeros((1, 7500))):
        with pytest.raises(SignalError, match=r"A0001.mat: float64 \(.*\), expected \(2, 7500\) numbers by A0001.hea"):
            read_record(write(header_text(), recording))
    with pytest.raises(SignalError, match="A0001.mat: no matrix val in it"):
        read_record(write(header_text(), other=np.zeros((2, 7500))))
    path = write(header_text(), np.ones((2, 7500), np.int16))
    whole = path.with_suffix(".mat").read_bytes()
    for damaged in (b"", b"\x00" * 100, whole[:19], whole[:2000], b"text" * 100):
        path.with_suffix(".mat").write_bytes(damaged)
        with pytest.raises(SignalError, match="A0001.mat: "):
            read_record(path)
    assert issubclass(SignalError, RecordError) and issubclass(HeaderError, RecordError)


def test_a_file_name_that_is_a_folder_is_no_file(write):
    for name in (".", ".."):
        with pytest.raises(SignalError, match="no such file beside A0001.hea"):
            read_record(write(header_text(leads=[line.replace("A0001.mat", name) for line in LEAD_LINES])))
