import shutil
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
from helpers import capture_log

from ecg.data import wave_peaks
from ecg.data.headers import Header, Lead
from ecg.data.records import SignalError
from ecg.data.resampling import RATE
from ecg.data.store import build_store
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.data.synthetic_heart import compute_potentials, draw_beats, draw_patient
from ecg.data.wave_peaks import (
    WAVES,
    NeuroKitMissing,
    PeakList,
    WavePeaks,
    find_beats,
    find_peaks,
    find_record_peaks,
    load_wave_peaks,
)
from ecg.runtime.executors import ONE_PROCESS

P, Q, R, S, T = range(5)
SECONDS = 10


def synthetic_lead(findings, rate=RATE, seed=3):
    """Return lead II of a synthetic patient, (T,) mV, the patient and the beats."""
    patient = draw_patient(findings, np.random.default_rng(seed))
    beats = draw_beats(patient, SECONDS, np.random.default_rng(seed))  # compute_potentials draws them first
    electrodes = compute_potentials(patient, SECONDS * rate, rate, np.random.default_rng(seed))[0]
    return (electrodes[:, 2] - electrodes[:, 0]).astype(np.float32), patient, beats


@pytest.mark.parametrize(("findings", "rate"), [({"NSR"}, 250), ({"AF"}, 250), ({"NSR", "RBBB"}, 500), ({"SB"}, 257)])
def test_every_beat_has_its_r_peak_and_there_is_no_other(findings, rate):
    signal, patient, beats = synthetic_lead(findings, rate)
    peaks = find_peaks(signal, rate)
    seconds = peaks.samples[peaks.waves == R] / rate
    onsets = beats.onset[(beats.onset > 0.4) & (beats.onset < SECONDS - 0.4)]
    in_beat = (seconds > onsets[:, None]) & (seconds < onsets[:, None] + patient.qrs)
    assert (in_beat.sum(axis=1) == 1).all()
    inside = (seconds > 0.5) & (seconds < SECONDS - 0.5)
    assert in_beat.any(axis=0)[inside].all()


def test_the_waves_of_a_beat_are_in_order_and_in_its_intervals():
    signal, patient, beats = synthetic_lead({"NSR"})
    samples, waves = find_peaks(signal, RATE)
    for onset in beats.onset[(beats.onset > 0.5) & (beats.onset < SECONDS - 1)]:
        in_beat = (samples > (onset - patient.pr) * RATE) & (samples < (onset + patient.qt) * RATE)
        assert [WAVES[wave] for wave in waves[in_beat]] == list("PQRST")


def test_inverted_t_waves_are_found():
    signal, patient, beats = synthetic_lead({"NSR", "LBBB"})
    samples, waves = find_peaks(signal, RATE)
    after = beats.onset[(beats.onset > 0.5) & (beats.onset < SECONDS - 1)] + patient.qrs
    late = samples[waves == T] / RATE
    in_beat = (late > after[:, None]) & (late < after[:, None] + 0.4)
    assert (in_beat.sum(axis=1) == 1).mean() > 0.8
    assert (signal[samples[waves == T]][in_beat.any(axis=0)] < 0).mean() > 0.8


def draw_beats_as_bells(*seconds, length=SECONDS):
    time = np.arange(length * RATE)[:, None] / RATE
    return np.exp(-0.5 * ((time - seconds) / 0.015) ** 2).sum(axis=1).astype(np.float32)


NOISE = np.random.default_rng(0).normal(0, 0.1, 2500).astype(np.float32)


@pytest.mark.parametrize(
    ("signal", "waves"),
    [
        (np.zeros(2500, np.float32), ""),
        (np.ones(250, np.float32), ""),
        (np.arange(2500, dtype=np.float32) / 2500, ""),
        (NOISE[:40], ""),
        (NOISE[:1], ""),
        (NOISE[:0], ""),
        (draw_beats_as_bells(4.8), "R"),
        (draw_beats_as_bells(4.8, 6.8), WAVES),
        (synthetic_lead({"NSR"})[0][:RATE], WAVES),
        (NOISE, WAVES),
    ],
    ids="flat level slope 40 one none beat two second noise".split(),
)
def test_signals_with_few_beats_have_few_peaks_and_no_error(signal, waves):
    samples, wave_numbers = find_peaks(signal, RATE)
    assert len(samples) == len(wave_numbers) and (np.diff(samples) >= 0).all()
    assert set(wave_numbers) <= {WAVES.index(wave) for wave in waves}
    assert ((0 <= samples) & (samples < len(signal))).all()
    assert waves != "R" or abs(samples - 4.8 * RATE) <= 2


@pytest.fixture(scope="module")
def small_store(tmp_path_factory):
    """A store of five recordings, one with a flat lead II, and its folder."""
    data = tmp_path_factory.mktemp("few")
    synthesize(data, 5, seed=2, settings=SyntheticSettings(sources={"PTB-XL": 1.0}))
    mat = data / "HR00003.mat"
    content = bytearray(mat.read_bytes())
    np.frombuffer(content, "<i2", offset=24).reshape(-1, 12)[:, 1] = 0
    mat.write_bytes(content)
    folder = tmp_path_factory.mktemp("few_stored")
    return build_store(data, folder, executor=ONE_PROCESS), folder


def are_equal(first, second):
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("starts", "samples", "waves"))


def test_peaks_of_a_store_are_cached(small_store, tmp_path, monkeypatch):
    store, folder = small_store[0], shutil.copytree(small_store[1], tmp_path / "copy")
    lines = capture_log()
    peaks = load_wave_peaks(store, RATE, folder, executor=ONE_PROCESS)
    assert lines == ["peaks at 250 Hz: none but R in 1 of 5 recordings: HR00003"]
    for record in range(len(store)):
        expected = find_peaks(store.signal(record, 1), RATE)
        assert all(map(np.array_equal, peaks.recording(record), expected))
    assert len(peaks.samples) == peaks.starts[-1] > 100 and not len(peaks.recording(2).samples)

    rates = []
    monkeypatch.setattr(
        wave_peaks, "find_peaks", lambda signal, rate: rates.append(rate) or PeakList(*np.ones((2, 1), int))
    )
    assert are_equal(load_wave_peaks(store, RATE, folder, executor=ONE_PROCESS), peaks)
    assert not rates and len(lines) == 1

    for changed in ({"digest": "another"}, {}):  # the second time, since the first has replaced the cache
        assert not are_equal(load_wave_peaks(replace(store, **changed), RATE, folder, executor=ONE_PROCESS), peaks)
    assert len(rates) == 2 * len(store)
    load_wave_peaks(store, 500, folder, executor=ONE_PROCESS)
    monkeypatch.setattr(metadata, "version", lambda name: "0.0.1")
    load_wave_peaks(store, 500, folder, executor=ONE_PROCESS)
    assert rates[2 * len(store) :] == [500] * 2 * len(store)


def test_missing_neurokit_is_an_error_with_the_command_to_install_it(small_store, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    for call in (
        lambda: find_peaks(NOISE, RATE),
        lambda: load_wave_peaks(small_store[0], RATE, small_store[1], executor=ONE_PROCESS),
    ):
        with pytest.raises(NeuroKitMissing, match=r"^neurokit2 is missing: pip install 'reduced-lead-ecg\[peaks\]'$"):
            call()


def test_peaks_of_a_recording_are_found_in_lead_two_at_its_own_frequency():
    signal, *_ = synthetic_lead({"NSR"}, 500)
    leads = tuple(Lead(name, "R.mat", "16", 24, 200.0, -3, "mV") for name in ("V1", "II"))
    header = Header("R", 500.0, 0, leads, 60.0, "Female", ())
    recording = np.rint(np.stack([np.zeros_like(signal), signal]) * 200 - 3).astype(np.int16)
    samples, waves = find_record_peaks(header, recording)
    expected = find_peaks(signal, 500)
    assert np.array_equal(waves, expected.waves) and np.abs(samples - expected.samples).max() <= 5
    with pytest.raises(SignalError, match="R: peaks are those of lead II"):
        find_record_peaks(replace(header, leads=leads[:1]), recording[:1])


def test_peaks_of_selected_recordings_keep_the_given_order():
    rng = np.random.default_rng(0)
    counts = np.array([3, 0, 5, 1, 0, 4])
    starts = np.cumsum([0, *counts])
    stored = WavePeaks(starts, rng.integers(0, 999, starts[-1], np.int32), rng.integers(0, 5, starts[-1], np.int8))
    for records in ([0, 1, 2, 3, 4, 5], [5, 0], [1], [2, 4, 3, 1], []):
        selected = stored.select_recordings(np.array(records, int))
        assert len(selected.starts) == len(records) + 1 and selected.starts[-1] == len(selected.samples) == len(
            selected.waves
        )
        assert (selected.samples.dtype, selected.waves.dtype) == (np.int32, np.int8)
        for index, record in enumerate(records):
            assert all(map(np.array_equal, selected.recording(index), stored.recording(record)))


@pytest.mark.parametrize("findings", [{"NSR"}, {"AF"}, {"AFL"}, {"NSR", "LBBB"}, {"NSR", "PVC"}, {"PR"}, {"SB", "LQT"}])
def test_beats_are_found_without_lead_ii(findings):
    for seed in range(4):
        patient = draw_patient(findings, np.random.default_rng(seed))
        beats = draw_beats(patient, SECONDS, np.random.default_rng(seed))
        electrodes = compute_potentials(patient, SECONDS * RATE, RATE, np.random.default_rng(seed))[0]
        signal = electrodes + np.random.default_rng(seed).normal(0, 0.01, electrodes.shape)
        # A single lead may show flutter waves or spikes best, and premature beats hardly.
        for leads in (slice(None),) if findings & {"AFL", "PR", "PVC"} else (slice(None), [5]):
            seconds = find_beats(signal[:, leads], RATE) / RATE
            onsets = beats.onset[(beats.onset > 0.2) & (beats.onset < SECONDS - 0.3)]
            in_beat = (seconds > onsets[:, None] - 0.02) & (seconds < onsets[:, None] + max(patient.qrs, 0.15))
            assert (in_beat.sum(axis=1) == 1).mean() >= 0.9
            inside = (seconds > 0.3) & (seconds < SECONDS - 0.4)
            assert in_beat.any(axis=0)[inside].mean() > 0.9


def test_a_flat_signal_has_no_beats():
    assert not len(find_beats(np.zeros((2500, 3)), RATE))
    assert not len(find_beats(np.zeros((2, 3)), RATE))
