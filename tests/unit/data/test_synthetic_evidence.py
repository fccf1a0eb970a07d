"""The simulator says where a class shows, and the signal agrees."""

import numpy as np
import pytest

from ecg.data.labels import ABBREVIATIONS
from ecg.data.leads import LEADS
from ecg.data.synthetic import SyntheticSettings, make_recording, plan_recordings
from ecg.data.synthetic_evidence import INTERVALS, Evidence, find_evidence
from ecg.data.synthetic_heart import compute_potentials, draw_patient
from ecg.data.wave_peaks import find_beats

RATE, SECONDS = 250, 12.0


def simulate(findings, seed):
    """The potentials of a patient, (T, 9), and the evidence for the findings."""
    rng = np.random.default_rng(seed)
    patient = draw_patient(findings, rng)
    potentials, times = compute_potentials(patient, round(SECONDS * RATE), RATE, rng)
    return potentials, find_evidence(findings, times, SECONDS)


@pytest.mark.parametrize("realistic", [False, True])
def test_recordings_know_the_evidence_for_all_classes_that_a_beat_shows(realistic):
    settings = SyntheticSettings(realistic=realistic)
    seen = set()
    for item in enumerate(plan_recordings(120, 4, settings)):
        header, integers, facts = make_recording(4, settings, item)
        present = {ABBREVIATIONS[index] for index in np.flatnonzero(facts.classes)}
        # A finding shows in every recording, except a beat that defects cut off.
        assert set(facts.evidence) == present & INTERVALS.keys() or facts.defects
        for intervals, leads in facts.evidence.values():
            frequency = float(header.split()[2])
            assert (intervals >= 0).all() and (intervals <= len(integers) / frequency).all()
            assert (intervals[:, 1] > intervals[:, 0]).all() and (np.diff(intervals[:, 0]) > 0).all()
            assert leads and set(leads) <= set(LEADS)
        seen |= facts.evidence.keys()
    assert len(seen) > 12


@pytest.mark.parametrize("seed", range(3))
def test_a_premature_beat_lies_in_its_evidence_and_the_others_do_not(seed):
    for name in ("PVC", "PAC"):
        potentials, evidence = simulate({"NSR", name}, seed)
        beats = find_beats(potentials, RATE) / RATE
        premature = evidence[name].cover(beats)
        before = np.diff(beats, prepend=np.nan)
        usual = np.nanmedian(before[~premature])
        assert premature.sum() == len(evidence[name].intervals)
        inside = premature & np.isfinite(before)
        assert inside.any() and (before[inside] < 0.85 * usual).all()


@pytest.mark.parametrize("name", ["RBBB", "LBBB", "LAD", "LQRSV", "QAb"])
def test_the_evidence_of_the_qrs_complex_holds_each_beat_and_little_else(name):
    potentials, evidence = simulate({"NSR", name}, 2)
    beats = find_beats(potentials, RATE) / RATE
    assert evidence[name].cover(beats, 0.02).all()
    assert abs(len(beats) - len(evidence[name].intervals)) <= 1
    share = evidence[name].cover(np.arange(0, SECONDS, 0.001)).mean()
    assert 0.05 < share < 0.25


def test_pr_intervals_are_as_long_as_the_finding_says():
    _, evidence = simulate({"NSR", "IAVB"}, 3)
    inner = evidence["IAVB"].intervals[1:-1]
    assert ((np.diff(inner, axis=1) > 0.2) & (np.diff(inner, axis=1) < 0.34)).all()


def test_the_evidence_of_an_inverted_t_wave_holds_what_differs_from_a_usual_one():
    for seed in range(3):
        (inverted, evidence), (usual, _) = (simulate(findings, seed) for findings in ({"NSR", "TInv"}, {"NSR"}))
        difference = np.square(inverted - usual).sum(axis=1)
        inside = evidence["TInv"].cover(np.arange(len(difference)) / RATE)
        strongest = difference.argsort()[-50:]
        assert inside.mean() < 0.6 and inside[strongest].mean() > 0.9


def test_no_interval_shows_a_class_of_the_rhythm():
    assert not {"AF", "AFL", "NSR", "SB", "STach", "SA", "Brady"} & INTERVALS.keys()
    assert simulate({"AF"}, 0)[1] == {}
    assert set(simulate({"AF", "RBBB"}, 0)[1]) == {"RBBB"}


def test_evidence_covers_times_as_its_intervals_do():
    rng = np.random.default_rng(0)
    begins = np.sort(rng.uniform(0, 10, 12))
    evidence = Evidence(np.column_stack([begins, begins + rng.uniform(0.1, 2, 12)]))  # some overlap
    times = rng.uniform(0, 12, 500)
    for tolerance in (0.0, 0.1):
        expected = [
            any(begin - tolerance <= time < end + tolerance for begin, end in evidence.intervals) for time in times
        ]
        np.testing.assert_array_equal(evidence.cover(times, tolerance), expected)
