"""Names of reviewers: one person has one name, which can be seen, and files that are not read are reported."""

import os
import unicodedata

import pytest
from helpers import capture_log

from ecg.data.reviewers import check_reviewer_name, find_review_files, review_path, reviewer_key, reviewer_of
from ecg.data.reviews import Review, Verdict, append_review, read_reviews

REVIEW = Review("a/A0001", "LAD", Verdict.ABSENT)
DECOMPOSED = unicodedata.normalize("NFD", "Jürgen")


def write_file(folder, name, verdict="absent", time="2026-01-01T00:00:00Z"):
    folder.mkdir(exist_ok=True)
    header = "record,class,verdict,comment,time,version,blinded"
    (folder / name).write_text(f"{header}\na,AF,{verdict},,{time},1,no\n")


@pytest.mark.parametrize("name", ["Anna", "Jürgen O'Neil-Ω", "李小龍", "नीति", "محمد", "Dr. B_2", "x" * 60, "7"])
def test_names_of_any_language_are_those_of_reviewers(tmp_path, name):
    assert check_reviewer_name(f" {name} ") == name
    assert append_review(tmp_path, name, REVIEW).reviewer == name
    assert [review.reviewer for review in read_reviews(tmp_path)] == [name]


@pytest.mark.parametrize("code", [
    0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x200B, 0x200D, 0x200E, 0x202E, 0x2066, 0x2800, 0x3164, 0xFE0F,
    0xFEFF, 0xFFA0, 0x00AD, 0xE0100,
])  # fmt: skip
def test_names_with_invisible_characters_are_refused(tmp_path, code):
    for name in (chr(code), f"Anna{chr(code)}", chr(code) * 3):
        with pytest.raises(ValueError):
            append_review(tmp_path, name, REVIEW)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("name", ["-", "_", "'", "- -", "\u0301", "-.-", "\u0308\u0301"])
def test_a_name_needs_a_letter_or_digit(name):
    with pytest.raises(ValueError, match="at least one letter or digit"):
        check_reviewer_name(name)


def test_spellings_of_a_name_are_one_person():
    assert reviewer_key("JÜRGEN") == reviewer_key(DECOMPOSED) == reviewer_key("jürgen") != reviewer_key("Jurgen")
    assert reviewer_key("İnci") == reviewer_key(unicodedata.normalize("NFD", "İnci"))
    assert unicodedata.is_normalized("NFC", reviewer_key("ΐ"))  # its folded form is not composed


def test_a_file_name_in_decomposed_characters_is_the_same_person(tmp_path):
    write_file(tmp_path, f"{DECOMPOSED}.csv")
    assert [review.reviewer for review in read_reviews(tmp_path)] == ["Jürgen"]
    append_review(tmp_path, "jürgen", REVIEW)
    assert [path.name for path in tmp_path.iterdir()] == [f"{DECOMPOSED}.csv"]
    write_file(tmp_path, "JÜRGEN.csv", "present", "2026-01-02T00:00:00Z")
    first, second = read_reviews(tmp_path)
    assert first.reviewer == second.reviewer and (first.record, first.verdict) == ("a", "present")
    assert review_path(tmp_path, "jürgen").name in (f"{DECOMPOSED}.csv", "JÜRGEN.csv")
    assert reviewer_of(tmp_path / f"{DECOMPOSED}.csv") == "Jürgen"


def test_an_extension_in_capital_letters_is_read(tmp_path):
    write_file(tmp_path, "Anna.CSV")
    assert [review.reviewer for review in read_reviews(tmp_path)] == ["Anna"]
    assert review_path(tmp_path, "anna").name == "Anna.CSV"


@pytest.mark.parametrize(
    "name", ["a&b.csv", "Anna (copy).csv", "labels.csv", " Anna.csv", "MODEL.CSV", "Anna\u200b.csv"]
)
def test_a_table_that_is_not_read_is_reported_once(tmp_path, name):
    write_file(tmp_path, name)
    log = capture_log()
    assert read_reviews(tmp_path) == find_review_files(tmp_path) == []
    assert len(log) == 1 and "not read as reviews" in log[0] and str(tmp_path) in log[0]


def test_other_files_are_ignored_in_silence(tmp_path):
    for name in (".hidden.csv", "notes.txt", "Anna.csv~", ".session.key"):
        (tmp_path / name).write_text("a,AF,present,,2026-01-01T00:00:00Z,1,no\n")
    os.mkdir(tmp_path / "figures")
    log = capture_log()
    assert read_reviews(tmp_path) == [] and not log
