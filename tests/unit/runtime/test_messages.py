import os
from pathlib import Path

import pytest

from ecg.runtime.console import (
    WIDTH,
    abbreviated_list,
    escape_unprintable,
    group_reasons,
    remove_record_name,
    wrap_line,
)


def test_reasons_are_grouped_by_their_kind_the_most_frequent_first():
    excluded = [
        ("S0001", "source PTB is not trained on"),
        ("A1", "A1.hea line 3: gain 'x' is not NUMBER[(BASELINE)][/UNITS]"),
        ("A2", "A2.hea line 7: gain '1000(/mV' is not NUMBER[(BASELINE)][/UNITS]"),
        ("A3", "0.52 s is shorter than 1 s"),
        ("A4", "0.5 s is shorter than 1 s"),
        ("A5", "A5: no lead V1 among I, II"),
        ("A6", "A6: no lead V1 among I, II"),
        ("A7", "A7: no lead V1 among I, II"),
        ("A8", "A8.mat: no such file beside A8.hea, which names it"),
        ("A9", "A9.mat: int16 (2, 20), expected (12, 20) numbers by A9.hea"),
        ("B1", "B1.mat: int16 (3, 20), expected (12, 20) numbers by B1.hea"),
    ]
    assert group_reasons(excluded) == [
        ("no lead V1 among I, II", ["A5", "A6", "A7"]),
        ("gain ... is not NUMBER[(BASELINE)][/UNITS]", ["A1", "A2"]),
        ("... s is shorter than ... s", ["A3", "A4"]),
        ("int16 (..., ...), expected (..., ...) numbers by NAME.hea", ["A9", "B1"]),
        ("source PTB is not trained on", ["S0001"]),
        ("no such file beside NAME.hea, which names it", ["A8"]),
    ]
    assert group_reasons([]) == []


def test_reasons_of_nested_recordings_are_of_one_kind_whatever_their_names():
    excluded = [
        ("georgia/g1/E00005", "E00005.hea: UTF-16 text, expected UTF-8, ASCII or Latin-1"),
        ("georgia/g1/E00006", "E00006.HEA: UTF-16 text, expected UTF-8, ASCII or Latin-1"),
        ("p001/A8", "A8.mat: no such file beside A8.hea, which names it"),
        ("p002/A9", "A9.mat: no such file beside A9.hea, which names it"),
    ]
    assert group_reasons(excluded) == [
        ("UTF-16 text, expected UTF-8, ASCII or Latin-1", ["georgia/g1/E00005", "georgia/g1/E00006"]),
        ("no such file beside NAME.hea, which names it", ["p001/A8", "p002/A9"]),
    ]


def test_the_first_names_are_listed_with_dots_for_more():
    assert abbreviated_list([]) == "" and abbreviated_list(["A1", "A2", "A3"]) == "A1, A2, A3"
    assert abbreviated_list(f"A{number}" for number in range(1, 5)) == "A1, A2, A3, ..."


def test_lines_are_wrapped_and_can_be_written_to_any_stream():
    name = os.fsdecode(b"HR\xff8")
    assert escape_unprintable(name) == "HR\\udcff8" and escape_unprintable("Zo\u00eb") == "Zo\u00eb"
    assert escape_unprintable("A\x1b[2J\n\r\t1") == r"A\x1b[2J\n\r\t1"
    lines = wrap_line(f"3 excluded: {'a long reason ' * 10}({name * 50})")
    assert len(lines) > 2 and max(map(len, lines)) <= WIDTH and all(line.startswith("  ") for line in lines[1:])
    assert "".join(lines).encode().count(rb"\udcff") >= 40


@pytest.mark.parametrize(("reason", "expected"), [
    ("A1: every lead is flat", "every lead is flat"),
    ("A1.HEA: no record line", "no record line"),
    ("A1.HEA line 2: gain", "A1.HEA line 2: gain"),
    ("A12: every lead is flat", "A12: every lead is flat"),
    ("A1.mat: no such file beside A1.HEA", "A1.mat: no such file beside A1.HEA"),
])  # fmt: skip
def test_a_line_that_begins_with_a_recording_does_not_name_it_twice(reason, expected):
    assert remove_record_name(reason, Path("data/p1/A1.HEA")) == expected


def test_the_reason_of_a_folder_stays_as_it_is():
    reason = "cannot be read: Permission denied"
    assert group_reasons([("records/", reason), ("below/a/", reason)]) == [(reason, ["records/", "below/a/"])]
