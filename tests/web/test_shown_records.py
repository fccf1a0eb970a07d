"""What reviewers have been shown is remembered, whatever happens to its file."""

import os

import pytest
from helpers import capture_log

from ecg.web.shown_records import SHOWN_FILE, ShownRecords


def test_servers_of_one_folder_know_what_another_has_shown(tmp_path):
    first, second = ShownRecords(tmp_path / "reviews"), ShownRecords(tmp_path / "reviews")
    assert not first.has("Ann", "a/A1")
    first.add("Ann", ["a/A1", "a/A1", os.fsdecode(b"a/\xff")])
    second.add("Bob", ["b"])
    first.add("ANN", ["c"])
    for shown in (first, second, ShownRecords(tmp_path / "reviews")):
        for reviewer, record in (("ann", "a/A1"), ("Ann", os.fsdecode(b"a/\xff")), ("bob", "b"), ("Ann", "c")):
            assert shown.has(reviewer, record)
        assert not shown.has("Ann", "b") and not shown.has("Bob", "c")
    assert (tmp_path / "reviews" / SHOWN_FILE).read_bytes().count(b"\n") == 4, "each once"


@pytest.mark.parametrize("damage", [b"[1, 2, 3]\n", b"nonsense\n", b"\xff\n", b"[[], {}]\n", b'["ann", "a', b"{}\n"])
def test_a_damaged_line_is_skipped(tmp_path, damage):
    ShownRecords(tmp_path).add("Ann", ["a"])
    with open(tmp_path / SHOWN_FILE, "ab") as file:
        file.write(damage)
    ShownRecords(tmp_path).add("Ann", ["b"])
    shown = ShownRecords(tmp_path)
    assert shown.has("Ann", "a") and shown.has("Ann", "b")


def test_a_file_that_is_replaced_is_read_anew(tmp_path):
    shown = ShownRecords(tmp_path)
    shown.add("Ann", ["a", "b", "c"])
    (tmp_path / SHOWN_FILE).write_text('["ann", "d"]\n')
    assert shown.has("Ann", "d") and shown.has("Ann", "a")


def test_what_cannot_be_written_is_logged_once_and_written_later(tmp_path):
    (tmp_path / SHOWN_FILE).mkdir()
    shown, log = ShownRecords(tmp_path), capture_log()
    shown.add("Ann", ["a"])
    shown.add("Ann", ["b"])
    assert shown.has("Ann", "a") and len(log) == 1 and SHOWN_FILE in log[0]
    (tmp_path / SHOWN_FILE).rmdir()
    shown.add("Ann", ["b"])
    assert ShownRecords(tmp_path).has("Ann", "a") and ShownRecords(tmp_path).has("Ann", "b")
