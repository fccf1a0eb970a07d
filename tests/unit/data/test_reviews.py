"""Reviews: nothing that was appended is lost, mixed or half read, and names are no paths."""

import csv
import errno
import fcntl
import multiprocessing
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from helpers import capture_log
from hypothesis import given, settings
from hypothesis import strategies as st

import ecg
from ecg.data.class_tables import ClassTable, Diagnosis
from ecg.data.reviewers import find_review_files, review_path
from ecg.data.reviews import (
    COLUMNS,
    Review,
    Verdict,
    append_review,
    read_review_file,
    read_reviews,
)
from ecg.runtime import locks
from ecg.runtime.console import describe_error


def is_number(text):
    """Whether a spreadsheet takes a text as a number."""
    try:
        return bool(float(text)) or True
    except ValueError:
        return False


REVIEW = Review("a/A0001", "LAD", Verdict.ABSENT, "axis 10°")


def append_many(folder, reviewer, writer, count):
    for number in range(count):
        append_review(folder, reviewer, Review(f"{writer}/{number}", "AF", Verdict.PRESENT, f"{writer} " * 30))


def test_a_review_is_read_as_it_was_appended_and_says_when_and_by_which_version(tmp_path):
    saved = append_review(tmp_path / "new", "Anna", replace(REVIEW, blinded=True))
    assert read_reviews(tmp_path / "new") == [saved]
    assert replace(saved, time="") == replace(REVIEW, blinded=True, version=ecg.__version__, reviewer="Anna")
    header, line, rest = (tmp_path / "new" / "Anna.csv").read_text("utf-8").split("\n")
    assert (header.split(","), rest) == (list(COLUMNS), "")
    assert line == f"a/A0001,LAD,absent,axis 10°,{saved.time},{ecg.__version__},yes"


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=30), st.text(max_size=200))
def test_any_name_of_a_record_and_any_comment_fit_into_one_line(tmp_path_factory, record, comment):
    folder = tmp_path_factory.mktemp("reviews")
    record = record.replace("\0", "") or "A"
    append_review(folder, "Anna", Review(record, "AF", Verdict.UNSURE, comment))
    append_review(folder, "Anna", REVIEW)
    first, second = read_reviews(folder)
    assert (first.record, second.record) == (record, REVIEW.record)
    assert first.comment == "".join(char if char.isprintable() else " " for char in comment)


FORMULAS = [
    "=1+1",
    "+1+1",
    "-5 mV",
    "@SUM(A1)",
    "=cmd|' /C calc'!A0",
    "\uff1d1",
    "'=1",
    "''-x",
    "'quoted'",
    "-5",
    "+",
    "''",
]


@pytest.mark.parametrize("cell", FORMULAS)
def test_no_spreadsheet_runs_a_comment_or_the_name_of_a_record(tmp_path, cell):
    saved = append_review(tmp_path, "Anna", Review(cell, "AF", Verdict.PRESENT, cell))
    assert read_reviews(tmp_path) == [saved] and (saved.record, saved.comment) == (cell, cell)
    with open(tmp_path / "Anna.csv", newline="", encoding="utf-8") as file:
        written = list(csv.reader(file))[1]
    for value in (written[0], written[3]):
        assert value[0] not in "=+-@\uff1d" or is_number(value)


def test_lines_that_are_not_escaped_are_read_as_they_are(tmp_path):
    append_review(tmp_path, "Anna", REVIEW)
    with open(tmp_path / "Anna.csv", "a") as file:
        file.write("=A1,AF,present,-5 mV,2026-01-01T00:00:00Z,1,no\n")
    assert (read_reviews(tmp_path)[1].record, read_reviews(tmp_path)[1].comment) == ("=A1", "-5 mV")


def test_file_names_that_are_not_utf8_keep_their_bytes(tmp_path):
    record = os.fsdecode(b"a/\xff01")
    append_review(tmp_path, "Anna", replace(REVIEW, record=record, comment="\ud800"))
    (review,) = read_reviews(tmp_path)
    assert (review.record, review.comment) == (record, " ")


def test_the_last_verdict_of_each_reviewer_counts(tmp_path):
    for reviewer, verdict in (("Anna", "present"), ("Ben", "absent"), ("Anna", "unsure"), ("anna", "absent")):
        append_review(tmp_path, reviewer, replace(REVIEW, verdict=Verdict(verdict)))
    append_review(tmp_path, "Anna", replace(REVIEW, abbreviation="AF"))
    verdicts = [(review.reviewer, review.abbreviation, review.verdict) for review in read_reviews(tmp_path)]
    assert verdicts == [("Anna", "LAD", "absent"), ("Anna", "AF", "absent"), ("Ben", "LAD", "absent")]
    assert len(read_review_file(tmp_path / "Anna.csv")) == 4


def test_the_last_blinded_verdict_is_preferred_if_asked_for(tmp_path):
    for record, verdicts in {"a": "Pp", "b": "PpA", "c": "pa", "d": "aPAp"}.items():
        for verdict in verdicts:
            given = Verdict("present" if verdict in "pP" else "absent")
            append_review(tmp_path, "Anna", Review(record, "AF", given, verdict, blinded=verdict.isupper()))
    counted = {prefers: {review.record: review.comment for review in read_reviews(tmp_path, prefers)}
               for prefers in (False, True)}  # fmt: skip
    assert counted == {False: {"a": "p", "b": "A", "c": "a", "d": "p"}, True: {"a": "P", "b": "A", "c": "a", "d": "A"}}


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("prefix", ["", "\ufeff", "sep={}\n"])
def test_a_file_with_other_delimiters_is_an_error_that_names_file_and_line(tmp_path, delimiter, prefix):
    append_review(tmp_path, "Anna", REVIEW)
    path = tmp_path / "Anna.csv"
    content = prefix.format(delimiter) + path.read_text("utf-8").replace(",", delimiter)
    path.write_text(content, "utf-8")
    for call in (lambda: read_reviews(tmp_path), lambda: append_review(tmp_path, "Anna", REVIEW)):
        with pytest.raises((ValueError, OSError), match="commas") as info:
            call()
        assert f"{path}, line {1 + prefix.count(chr(10))}" in describe_error(info.value)
    assert path.read_text("utf-8") == content, "nothing was appended"


def test_a_single_line_with_semicolons_is_that_error_too(tmp_path):
    append_review(tmp_path, "Anna", REVIEW)
    with open(tmp_path / "Anna.csv", "a") as file:
        file.write("a;AF;present;;2026-01-01T00:00:00Z;1;no\n")
    with pytest.raises(ValueError, match=r"Anna\.csv, line 3: .*expected commas"):
        read_reviews(tmp_path)


def test_two_files_of_one_name_are_one_person_by_time(tmp_path):
    lines = {"anna": "present,,2026-01-02T00:00:00Z", "ANNA": "absent,,2026-01-01T00:00:00Z"}
    for name, cells in lines.items():
        (tmp_path / f"{name}.csv").write_text(f"{','.join(COLUMNS)}\nA,AF,{cells},1,no\n")
    (review,) = read_reviews(tmp_path)
    assert (review.reviewer, review.verdict) == ("ANNA", "present")
    assert review_path(tmp_path, "Anna").stem == "ANNA"


def test_processes_and_threads_that_append_at_once_lose_and_mix_nothing(tmp_path):
    spawn, writers = multiprocessing.get_context("fork"), range(4)
    processes = [spawn.Process(target=append_many, args=(tmp_path, "Anna", f"p{n}", 40)) for n in writers]
    for process in processes:
        process.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: append_many(tmp_path, "anna", f"t{n}", 40), writers))
    for process in processes:
        process.join()
    saved = [review for path in find_review_files(tmp_path) for review in read_review_file(path)]
    expected = [f"{kind}{n}/{number}" for kind in "pt" for n in writers for number in range(40)]
    assert sorted(review.record for review in saved) == sorted(expected)
    assert all(review.comment.split() == [review.record.split("/")[0]] * 30 for review in saved)


def test_every_beginning_of_a_line_is_malformed_or_the_whole_line(tmp_path):
    append_review(tmp_path, "Anna", replace(REVIEW, comment='a "quoted", word'))
    path = tmp_path / "Anna.csv"
    content = path.read_bytes()
    head = content.index(b"\n") + 1
    for end in range(head + 1, len(content) - 1):
        path.write_bytes(content[:end])
        log = capture_log()
        assert read_reviews(tmp_path) == []
        assert "line 2" in "".join(log)


def test_a_line_cut_by_power_loss_leaves_the_next_one_whole(tmp_path):
    append_review(tmp_path, "Anna", REVIEW)
    path = tmp_path / "Anna.csv"
    path.write_bytes(path.read_bytes()[:-9])
    append_review(tmp_path, "Anna", replace(REVIEW, abbreviation="AF"))
    log = capture_log()
    assert [review.abbreviation for review in read_reviews(tmp_path)] == ["AF"]
    assert "Anna.csv, line 2: skipped" in "".join(log)


@pytest.mark.parametrize(
    "line",
    ["x", "a,AF,present", "a,ZZ,present,,2026-01-01T00:00:00Z,1,no", "a,AF,maybe,,2026-01-01T00:00:00Z,1,no",
     "a,AF,present,,yesterday,1,no", ",AF,present,,2026-01-01T00:00:00Z,1,no",
     "a,AF,present,,2026-01-01T00:00:00Z,1,no,more", '"a,AF', "\0\0\0"],
)  # fmt: skip
def test_malformed_lines_are_reported_and_the_rest_is_read(tmp_path, line):
    append_review(tmp_path, "Anna", REVIEW)
    with open(tmp_path / "Anna.csv", "a") as file:
        file.write(f"{line}\n")
    append_review(tmp_path, "Anna", replace(REVIEW, abbreviation="AF"))
    log = capture_log()
    assert [review.abbreviation for review in read_reviews(tmp_path)] == ["LAD", "AF"]
    assert "Anna.csv, line 3: skipped" in "".join(log)


def test_a_class_that_is_not_in_the_table_makes_a_line_malformed(tmp_path):
    append_review(tmp_path, "Anna", replace(REVIEW, abbreviation="af"))
    append_review(tmp_path, "Anna", REVIEW)
    log = capture_log()
    assert [review.abbreviation for review in read_reviews(tmp_path)] == ["LAD"]
    assert "Anna.csv, line 2: skipped, class 'af': expected one of AF, AFL" in "".join(log)
    table = ClassTable((Diagnosis("af", ("1",), "fibrillation"),))
    assert [review.abbreviation for review in read_reviews(tmp_path, classes=table)] == ["af"]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_review_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch, call):
    append_review(tmp_path, "Anna", REVIEW)
    before, original = (tmp_path / "Anna.csv").read_bytes(), os.write

    def write_part(descriptor, content):
        return original(descriptor, content[:7])

    def fail(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, write_part if call == "write" else fail)
    with pytest.raises(OSError):
        append_review(tmp_path, "Anna", REVIEW)
    monkeypatch.undo()
    assert (tmp_path / "Anna.csv").read_bytes() == before


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", ".hidden", "../x", "a/b", "a\\b", "a\0b", "a\nb", "<b>", "x" * 61, "labels", "Model"]
)
def test_other_names_are_refused_and_write_nothing(tmp_path, name):
    with pytest.raises(ValueError):
        append_review(tmp_path, name, REVIEW)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("field", [{"record": ""}, {"record": "a\0b"}, {"verdict": "yes"}, {"comment": "x" * 1001}])
def test_reviews_with_unknown_values_cannot_be_made(field):
    with pytest.raises(ValueError):
        replace(REVIEW, **field)


class TestOddFiles:
    """Whatever is called as a reviewer's file never makes a program wait, and hides no other file."""

    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        """A folder with a reviewer's file, and odd entries that are called as others' files."""
        append_review(tmp_path, "Anna", REVIEW)
        os.mkfifo(tmp_path / "Pipe.csv")
        (tmp_path / "Folder.csv").mkdir()
        (tmp_path / "Link.csv").symlink_to(tmp_path / "nowhere" / "x.csv")
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("Socket.csv")
        return tmp_path

    def test_they_are_skipped_with_a_warning_each(self, folder):
        log = capture_log()
        assert [review.reviewer for review in read_reviews(folder)] == ["Anna"]
        kinds = {"Folder": "a folder", "Link": "a link that leads nowhere", "Pipe": "no regular file",
                 "Socket": "no regular file"}  # fmt: skip
        expected = [f"{folder / name}.csv: skipped, {kind}, expected a file of reviews" for name, kind in kinds.items()]
        assert log == expected
        read_reviews(folder)
        assert log == expected, "a server reads the folder often"

    @pytest.mark.parametrize("name", ["Pipe", "Folder", "Link", "Socket"])
    def test_nothing_is_appended_to_them(self, folder, name):
        start = time.monotonic()
        with pytest.raises(OSError) as caught:
            append_review(folder, name, REVIEW)
        assert caught.value.filename == str(folder / f"{name}.csv") and time.monotonic() - start < 2

    def test_a_file_that_another_program_keeps_locked_is_an_error(self, folder, monkeypatch):
        monkeypatch.setattr(locks, "LOCK_SECONDS", 0.1)
        with open(folder / "Anna.csv", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for function, arguments in ((read_reviews, ()), (append_review, ("Anna", REVIEW))):
                with pytest.raises(BlockingIOError, match="locked by another program: .*Anna.csv"):
                    function(folder, *arguments)
        assert len(read_reviews(folder)) == 1 and append_review(folder, "Anna", REVIEW)

    def test_a_lock_that_ends_in_time_is_waited_for(self, folder):
        file = open(folder / "Anna.csv", "rb")  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as pool:
            saved = pool.submit(append_review, folder, "Anna", REVIEW)
            time.sleep(0.2)
            assert not saved.done()
            file.close()
            assert saved.result(timeout=10).reviewer == "Anna"

    def test_a_file_system_without_locks_is_an_error(self, folder, monkeypatch):
        def fail(descriptor, operation):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("fcntl.flock", fail)
        for function, arguments in ((read_reviews, ()), (append_review, ("Anna", REVIEW))):
            with pytest.raises(OSError, match="cannot be locked: No locks available: .*Anna.csv"):
                function(folder, *arguments)

    def test_a_file_that_cannot_be_read_is_an_error_that_names_it(self, folder, unprivileged):
        folder.chmod(0o755)
        (folder / "Anna.csv").chmod(0)
        with unprivileged(), pytest.raises(PermissionError, match=r"Anna\.csv"):
            read_reviews(folder)
