"""Lists to review: what is written is read again, and what cannot be used is named."""

import pytest
from helpers import capture_log

from ecg.data.headers import RecordError
from ecg.data.review_lists import read_review_list, write_review_list

NAMES = ["a/A0001", "a/A0002", "b,c/ü"]


def test_a_list_is_read_as_it_was_written(tmp_path):
    rows = [("b,c/ü", "LAD"), ("a/A0001", "AF"), ("a/A0001", "LAD")]
    write_review_list(tmp_path / "list.csv", rows)
    assert read_review_list(tmp_path / "list.csv", NAMES) == rows


@pytest.mark.parametrize("name", ["=1+1", "-a/A0001", "@x", "'=x", "+1", "'x"])
def test_names_that_spreadsheets_take_for_formulas_are_read_as_they_were_written(tmp_path, name):
    write_review_list(tmp_path / "list.csv", [(name, "AF")])
    assert read_review_list(tmp_path / "list.csv", [name, *NAMES]) == [(name, "AF")]
    assert not (tmp_path / "list.csv").read_text().splitlines()[1].startswith(("=", "@", "-"))


def test_other_spellings_and_columns_are_the_same_list(tmp_path):
    (tmp_path / "list.csv").write_text("rank;Class;Record\n1;lad;a\\A0001.hea\n2;LAD;a/A0001\n3;af;./a/A0002.mat\n")
    assert read_review_list(tmp_path / "list.csv", NAMES) == [("a/A0001", "LAD"), ("a/A0002", "AF")]


def test_recordings_that_are_not_there_are_reported(tmp_path):
    write_review_list(tmp_path / "list.csv", [("x", "AF"), ("a/A0001", "AF")])
    log = capture_log()
    assert read_review_list(tmp_path / "list.csv", NAMES) == [("a/A0001", "AF")]
    assert "1 names are of no recording (x)" in " ".join(" ".join(log).split())
    with pytest.raises(RecordError, match="lists none of 1 recording, such as y"):
        read_review_list(tmp_path / "list.csv", ["y"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("record,class\na/A0001,XYZ\n", "line 2: 'XYZ', expected one of"), ("record\na/A0001\n", "line 1: expected"),
     ("", "an empty file"), ("record,class\n", "lists none of 3 recordings")],
)  # fmt: skip
def test_a_table_that_is_no_list_is_an_error_that_names_the_line(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(RecordError, match=message):
        read_review_list(tmp_path / "list.csv", NAMES)
