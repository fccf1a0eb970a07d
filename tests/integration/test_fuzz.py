"""A few hundred damaged records, tried as in benchmarks/fuzz.py."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.damage import DAMAGE, damage_record
from benchmarks.drafts import Case, synthesize_records
from benchmarks.fuzz import (
    MEMORY_LIMIT,
    PREDICTED,
    Outcome,
    build_bundles,
    draw_case,
    format_lines,
    main,
    try_case,
    try_cases,
)
from ecg.commands.audit import FATAL
from ecg.data.headers import HeaderError
from ecg.data.records import SignalError

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured by Linux")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return synthesize_records(tmp_path_factory.mktemp("undamaged"))


@pytest.fixture(scope="module")
def bundles():
    return build_bundles()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cases") / "case"


SLOW_KINDS = ("enormous files", "a header's field replaced")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW_KINDS else kind for kind in DAMAGE]
)
@settings(max_examples=15, derandomize=True, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_a_damaged_record_is_predicted_or_refused(records, bundles, folder, kind, rng):
    outcome = try_case(0, (kind,), damage_record(rng.choice(records), [kind], rng), folder, bundles)
    assert not outcome.fault, outcome.trace


def test_a_record_without_damage_is_predicted(records, bundles, folder):
    assert {len(record.recording) for record in records} == {12, 8, 6, 3, 2}
    for record in records:
        assert try_case(0, (), damage_record(record, [], None), folder, bundles).end == PREDICTED


def test_a_case_depends_only_on_its_numbers_and_leaves_the_record_unchanged(records):
    before = [record.recording.copy() for record in records]
    first, again = ([draw_case(records, 1, number) for number in range(200)] for _ in range(2))
    assert [(kinds, case) for kinds, case in first] == again
    assert {kind for kinds, _ in first for kind in kinds} == set(DAMAGE)
    assert len({case.header + (case.content or b"") for _, case in first}) > 180
    assert draw_case(records, 2, 0) != first[0]
    for record, recording in zip(records, before, strict=True):
        np.testing.assert_array_equal(record.recording, recording)


def make_failing_predictor(error, cause=None):
    def predict(header, recording):
        raise error from cause

    return predict


def make_predictor(*probabilities):
    return lambda header, recording: (None, probabilities, probabilities)


def predict_with_much_memory(header, recording):
    return None, range(26), np.ones(MEMORY_LIMIT * 150_000)[:26]  # numbers of eight bytes


@pytest.mark.parametrize(
    "predict, end, fault",
    [
        (make_predictor(*[0.5] * 26), PREDICTED, ""),
        (make_failing_predictor(SignalError("bad")), "SignalError", ""),
        (make_failing_predictor(HeaderError("bad")), "HeaderError", ""),
        (make_failing_predictor(KeyError("x")), "", "KeyError: 'x'"),
        (make_failing_predictor(SignalError("bad"), MemoryError()), "", "SignalError: bad"),
        (make_predictor(*[0.5] * 25), "", "ArithmeticError: the prediction is"),
        (make_predictor(*[0.5] * 25, float("nan")), "", "ArithmeticError: the prediction is"),
        (make_predictor(*[0.5] * 25, 1.5), "", "ArithmeticError: the prediction is"),
        (predict_with_much_memory, "", "MB were used"),
    ],
)
def test_what_is_neither_a_prediction_nor_a_refusal_is_a_fault(records, folder, monkeypatch, predict, end, fault):
    class Stub:
        pass

    Stub.predict = staticmethod(predict)
    outcome = try_case(7, ("none",), damage_record(records[0], [], None), folder, dict.fromkeys((12, 6, 4, 3, 2), Stub))
    assert (outcome.number, outcome.end, bool(outcome.fault)) == (7, end, bool(fault)) and fault in outcome.fault


def test_an_allocation_that_a_machine_might_not_survive_fails(records, folder):
    class Stub:
        @staticmethod
        def predict(header, recording):
            return None, range(26), np.ones(2**32)[:26]

    outcome = try_case(7, (), damage_record(records[0], [], None), folder, dict.fromkeys((12, 6, 4, 3, 2), Stub))
    assert "MemoryError" in outcome.fault and outcome.megabytes < 100


def test_a_case_is_written_with_its_damage(tmp_path):
    for name, case in {
        "whole": Case("A1", b"header", "A1.mat", b"content"),
        "longer": Case("A1", b"header", "A1.mat", b"content", 1000),
        "missing": Case("A1", b"header", "A1.mat", None),
        "folder": Case("A1", b"header", "A1.dat", b"content", folder=True),
    }.items():
        (tmp_path / name).mkdir()
        assert case.write(tmp_path / name).read_bytes() == b"header"
    assert (tmp_path / "whole/A1.mat").read_bytes() == b"content"
    assert (tmp_path / "longer/A1.mat").read_bytes() == b"content" + bytes(993)
    assert [path.name for path in (tmp_path / "missing").iterdir()] == ["A1.hea"]
    assert (tmp_path / "folder/A1.dat").is_dir()


def test_the_table_counts_each_case_in_each_of_its_kinds_and_lists_the_faults():
    first, second, *_ = DAMAGE
    text = list(format_lines([
        Outcome(0, (first,), PREDICTED, seconds=0.5, megabytes=3.0),
        Outcome(3, (first, second), "", "KeyError: 'x'", seconds=0.25, megabytes=70.4),
        Outcome(2, (second,), "SignalError", seconds=1.25),
        Outcome(1, (second,), "HeaderError"),
    ]))  # fmt: skip
    assert text[0].split(" | ")[1:] == ["cases", "predicted", "HeaderError", "SignalError", "faults", "slowest",
                                        "most memory |"]  # fmt: skip
    assert f"| {first} | 2 | 1 | 0 | 0 | 1 | 0.50 s | 70 MB |" in text
    assert f"| {second} | 3 | 0 | 1 | 1 | 1 | 1.25 s | 70 MB |" in text
    assert text[-2:] == ["| all | 4 | 1 | 1 | 1 | 1 | 1.25 s | 70 MB |", f"case 3 ({first}, {second}): KeyError: 'x'"]


@pytest.mark.slow
def test_cases_are_tried_from_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fuzz", "--cases", "40", "--jobs", "2", "--folder", str(tmp_path / "fuzz")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert "| all | 40 |" in capsys.readouterr().out and stopped.value.code == 0


@pytest.mark.slow
def test_a_case_that_does_not_end_is_a_fault_and_the_next_one_is_tried(records, tmp_path):
    results = list(try_cases(records, 1, range(2), 1e-4, tmp_path))
    assert [(outcome.number, outcome.fault) for outcome in results] == [(0, "not done after 0.0001 s"),
                                                                      (1, "not done after 0.0001 s")]  # fmt: skip


def test_an_audit_that_fails_or_a_reason_that_fills_pages_is_a_fault(records, bundles, folder, monkeypatch):
    case = damage_record(records[0], [], None)
    for examined, fault in (
        (lambda *_: 1 / 0, "ZeroDivisionError"),
        (lambda *_: SimpleNamespace(defects=((FATAL[1], "x" * 10_000),)), "a reason of 10,000 characters"),
    ):
        monkeypatch.setattr("benchmarks.fuzz.audit_recording", examined)
        outcome = try_case(0, (), case, folder, bundles)
        assert fault in outcome.fault and not outcome.end
