"""Recordings of many hours are shown by windows and an envelope, in bounded memory."""

import struct
import tracemalloc
from urllib.parse import unquote

import numpy as np
import pytest
import scipy.io
import wfdb

from ecg.data.headers import read_header
from ecg.data.leads import LEADS
from ecg.data.records import SignalError, read_record
from ecg.data.windows import open_samples
from ecg.runtime.executors import ONE_PROCESS
from ecg.web.catalogue import load_catalogue
from ecg.web.envelopes import FINE_BLOCK, MOST_BLOCKS, choose_block, measure_envelope
from ecg.web.signals import INVALID, MOST_WHOLE, read_facts

SAMPLES = MOST_WHOLE // 2 + 1001  # of each of two leads
GAINS = (1000, -200)
DAY = 24 * 3600 * 500


def write_header(folder, file, kind, n_samples, leads=("I", "II"), gains=GAINS):
    lines = [f"L {len(leads)} 500 {n_samples}"]
    lines += [f"{file} {kind} {gain}/mV 16 0 0 0 0 {lead}" for lead, gain in zip(leads, gains, strict=True)]
    (folder / "L.hea").write_text("\n".join(lines) + "\n")
    return folder / "L.hea"


def write_empty_day(folder, file):
    """Write a recording of 24 h with 12 leads at 500 Hz, a file of 1 GB whose zeros take no space on the disk."""
    with open(folder / file, "wb") as opened:
        opened.write(struct.pack("<5i", 30, 12, DAY, 0, 4) + b"val\0")
        opened.truncate(24 + 24 * DAY)
    return write_header(folder, file, "16+24", DAY, LEADS, [1000] * 12)


@pytest.fixture(scope="module")
def long_signal():
    """(2, SAMPLES) int16 of all sizes, with invalid samples; the second lead has none between 1 and 2 million."""
    rng = np.random.default_rng(1)
    signal = np.cumsum(rng.normal(0, 9, (2, SAMPLES)), axis=1).clip(-32767, 32767).astype(np.int16)
    signal[0, rng.integers(0, SAMPLES, 500)] = INVALID
    signal[1, 1_000_000:2_000_000] = INVALID
    return signal


def write_long(folder, kind, signal):
    """Write a signal in a form of file, and return the path of its header."""
    if kind.startswith("wfdb"):
        form = kind.partition(" ")[2]
        digital = signal.T.astype(np.int64) // (16 if form == "212" else 1)
        if form == "61":  # wfdb does not write it
            digital.astype(">i2").tofile(folder / "L.dat")
        else:
            wfdb.wrsamp("L", 500, ["mV"] * 2, ["I", "II"], d_signal=digital, fmt=[form] * 2, adc_gain=[1000] * 2,
                        baseline=[0, 0], write_dir=str(folder))  # fmt: skip
        return write_header(folder, "L.dat", form, SAMPLES)
    content = {"val": signal.T if kind == "transposed" else signal}
    version = "4" if kind == "version 4" else "5"
    scipy.io.savemat(folder / "L.mat", content, format=version, do_compression=kind == "compressed")
    return write_header(folder, "L.mat", "16", SAMPLES)


@pytest.fixture
def get_signal(make_client, make_bench, tmp_path):
    """A function that returns what the server answers for the signal of the recording L."""
    clients = []

    def get(status=200, **parameters):
        if not clients:
            clients.append(make_client(make_bench(load_catalogue(tmp_path, tmp_path / "cache", executor=ONE_PROCESS))))
        answer = clients[0].get("/api/signal", params={"record": "L", **parameters})
        assert answer.status_code == status, answer.text
        if status != 200:
            return answer.json()["error"]
        block, samples = (int(answer.headers[f"x-{name}"]) for name in ("block", "samples"))
        units = np.array([float(unit) for unit in answer.headers["x-microvolts-per-unit"].split(",")])
        shape = (len(units), -1) if block == 1 else (len(units), 2, -1)
        integers = np.frombuffer(answer.content, "<i2").reshape(shape)
        assert integers.shape[-1] == -(-samples // block)
        return integers, units, unquote(answer.headers["x-leads"]).split(","), block

    return get


@pytest.mark.parametrize(
    "kind", ["version 4", "version 5", "transposed", "compressed", "wfdb 16", "wfdb 32", "wfdb 61", "wfdb 212"]
)
def test_parts_of_a_recording_are_those_of_the_whole(tmp_path, long_signal, kind):
    path = write_long(tmp_path, kind, long_signal[:, :5000])
    path.write_text(path.read_text().replace(str(SAMPLES), "5000"))
    reader = open_samples(path, read_header(path))
    _, integers = read_record(path)
    assert reader.n_samples == 5000
    for first, last in ((0, 5000), (0, 1), (4999, 5000), (1234, 2345), (700, 700)):
        np.testing.assert_array_equal(reader.read(first, last), integers[:, first:last])


def test_a_file_that_has_become_shorter_is_an_error(tmp_path, long_signal):
    path = write_long(tmp_path, "version 4", long_signal)
    reader = open_samples(path, read_header(path))
    with open(tmp_path / "L.mat", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(SignalError, match="shorter"):
        reader.read(4000, 5000)


@pytest.mark.parametrize("kind", ["version 4", "transposed", "wfdb 16"])
def test_the_envelope_and_the_windows_show_the_samples(tmp_path, long_signal, get_signal, kind):
    write_long(tmp_path, kind, long_signal)
    envelope, units, leads, block = get_signal()
    assert leads == ["I", "II"] and block == choose_block(SAMPLES)
    microvolts = np.where(long_signal == INVALID, np.nan, 1000.0 * long_signal / np.array(GAINS)[:, np.newaxis])
    window = np.concatenate([get_signal(first=first, count=65536)[0] for first in range(0, SAMPLES, 65536)], axis=1)
    shown = np.where(window == INVALID, np.nan, window * units[:, np.newaxis])
    shifts = np.nanmedian(microvolts - shown, axis=1, keepdims=True)
    np.testing.assert_array_equal(np.isnan(shown), np.isnan(microvolts))
    assert np.all(np.nanmax(np.abs(microvolts - shown - shifts), axis=1) <= 1.001 * units)
    assert np.all(np.abs(np.nanmedian(shown, axis=1)) < 0.02 * np.nanstd(shown, axis=1))
    padded = np.pad(window, ((0, 0), (0, -SAMPLES % block)), constant_values=INVALID).reshape(2, -1, block)
    np.testing.assert_array_equal(envelope[:, 1], padded.max(axis=2))
    np.testing.assert_array_equal(envelope[:, 0], np.where(padded == INVALID, 32767, padded).min(axis=2))
    fine, *_ = get_signal(first=65536, count=65536 * FINE_BLOCK, block=FINE_BLOCK)
    padded = window[:, 65536 : 65536 * (FINE_BLOCK + 1)].reshape(2, -1, FINE_BLOCK)
    np.testing.assert_array_equal(fine[:, 1], padded.max(axis=2))
    np.testing.assert_array_equal(fine[:, 0], np.where(padded == INVALID, 32767, padded).min(axis=2))


def test_windows_end_with_the_recording_and_have_a_largest_size(tmp_path, long_signal, get_signal):
    write_long(tmp_path, "version 4", long_signal)
    assert get_signal(first=SAMPLES - 10, count=100)[0].shape == (2, 10)
    assert get_signal(first=SAMPLES + 10, count=100)[0].shape == (2, 0)
    for parameters in ({"count": 65537}, {"count": 65536 * 16 + 1, "block": 16}, {"block": 2}, {"first": -1}):
        get_signal(400, **parameters)
    assert "too long to be filtered" in get_signal(413, kind="filtered")


def test_an_envelope_knows_that_its_file_has_changed(tmp_path, long_signal):
    path = write_long(tmp_path, "version 4", long_signal)
    envelope = measure_envelope(path, early_gains=False)
    assert envelope.is_current(path)
    write_long(tmp_path, "version 4", long_signal[:, ::-1])
    assert not envelope.is_current(path)


@pytest.mark.parametrize("file", ["L.mat", "L.dat"])
def test_a_day_of_twelve_leads_is_shown_in_bounded_memory(tmp_path, get_signal, file):
    path = write_empty_day(tmp_path, file)
    tracemalloc.start()
    try:
        envelope, *_, block = get_signal()
        get_signal(first=DAY // 2, count=65536)
        get_signal(first=DAY // 2, count=65536 * FINE_BLOCK, block=FINE_BLOCK)
        assert read_facts(path, False).samples == DAY
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert envelope.shape == (12, 2, DAY // block) and envelope.shape[2] <= MOST_BLOCKS
    assert peak < 300 * 2**20


def test_an_envelope_has_a_largest_size():
    for samples in (1, 256, 10**6, DAY, 48 * 3600 * 1000, 10**9):
        assert -(-samples // choose_block(samples)) <= MOST_BLOCKS
