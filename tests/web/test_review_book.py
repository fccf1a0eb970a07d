"""The reviews in memory are those of the files, as other commands read them."""

import fcntl
import os
import time
import unicodedata

from helpers import capture_log

from ecg.data.reviews import Review, Verdict, append_review, read_reviews
from ecg.web import review_book
from ecg.web.review_book import ReviewBook

HEADER = "record,class,verdict,comment,time,version,blinded\n"


def write_file(folder, reviewer, *lines):
    folder.mkdir(exist_ok=True)
    (folder / f"{reviewer}.csv").write_text(HEADER + "".join(f"{line}\n" for line in lines))


def sort_reviews(reviews):
    return sorted(reviews, key=lambda review: (review.reviewer, review.record, review.abbreviation))


def test_two_spellings_of_a_name_are_one_reviewer(tmp_path):
    folder = tmp_path / "reviews"
    book = ReviewBook(folder)
    write_file(folder, "ada", "r1,AF,absent,,2026-01-01T00:00:03Z,1,no", "r2,AF,present,,2026-01-01T00:00:01Z,1,no")
    assert {review.reviewer for review in book.compared_reviews()} == {"ada"}
    write_file(folder, "Ada", "r1,AF,present,,2026-01-01T00:00:02Z,1,no")
    write_file(folder, "Bob", "r1,AF,present,,2026-01-01T00:00:02Z,1,no")
    reviews = book.compared_reviews()
    assert [(review.reviewer, review.record, review.verdict) for review in sort_reviews(reviews)] == [
        ("Ada", "r1", "absent"), ("Ada", "r2", "present"), ("Bob", "r1", "present")
    ]  # fmt: skip
    assert sort_reviews(reviews) == sort_reviews(read_reviews(folder))
    assert book.verdicts("ADA")["r1"]["AF"].verdict == Verdict.ABSENT
    assert book.count_others("ada", "r1") == 1


def test_compared_are_blinded_reviews_and_shown_the_last_ones(tmp_path):
    book = ReviewBook(tmp_path)
    write_file(tmp_path, "Ann", "r1,AF,absent,,2026-01-01T00:00:01Z,1,yes", "r1,AF,present,,2026-01-01T00:00:02Z,1,no",
               "r2,AF,absent,,2026-01-01T00:00:03Z,1,no")  # fmt: skip
    assert [(review.record, review.verdict) for review in book.compared_reviews()] == [
        ("r1", "absent"),
        ("r2", "absent"),
    ]
    assert sort_reviews(book.compared_reviews()) == sort_reviews(read_reviews(tmp_path, prefers_blinded=True))
    assert book.verdicts("Ann")["r1"]["AF"].verdict == Verdict.PRESENT


def test_names_in_decomposed_characters_are_one_reviewer(tmp_path):
    book, name = ReviewBook(tmp_path), unicodedata.normalize("NFD", "Jürgen")
    write_file(tmp_path, name, "r1,AF,absent,,2026-01-01T00:00:01Z,1,yes")
    assert book.known_name("JÜRGEN") == "Jürgen" and book.verdicts("jürgen")["r1"]["AF"].reviewer == "Jürgen"
    book.append("Jürgen", Review("r2", "AF", Verdict.PRESENT))
    assert set(book.verdicts("Jürgen")) == {"r1", "r2"} and len(list(tmp_path.iterdir())) == 1


def test_lines_of_other_programs_and_removed_files_are_noticed(tmp_path):
    book = ReviewBook(tmp_path)
    saved = book.append("Ann", Review("r1", "AF", Verdict.PRESENT))
    assert book.compared_reviews() == [saved]
    version, later = book.version, append_review(tmp_path, "ann", Review("r1", "AF", Verdict.UNSURE))
    assert book.compared_reviews() == [later] and book.version > version
    os.unlink(tmp_path / "Ann.csv")
    assert book.compared_reviews() == [] and book.verdicts("Ann") == {}


def test_a_locked_file_keeps_nobody_waiting_and_is_read_later(tmp_path, monkeypatch):
    monkeypatch.setattr(review_book, "RETRY_SECONDS", 0.3)
    book = ReviewBook(tmp_path)
    saved, second = (book.append(name, Review("r1", "AF", Verdict.PRESENT)) for name in ("Ann", "Bob"))
    assert book.compared_reviews() == [saved, second]
    later = book.append("Ann", Review("r2", "AF", Verdict.PRESENT))
    log, start = capture_log(), time.monotonic()
    with open(tmp_path / "Ann.csv", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for _ in range(50):
            assert book.compared_reviews() == [saved, second], "what was read before counts"
            assert book.verdicts("Bob")["r1"]["AF"] == second
    assert time.monotonic() - start < 5
    assert log == [f"{tmp_path / 'Ann.csv'}: locked by another program; what was read of it before counts until it can "
                   "be read"]  # fmt: skip
    time.sleep(0.4)
    assert book.compared_reviews() == [saved, later, second]


def test_pipes_and_folders_that_are_called_as_reviewers_keep_nobody_waiting(tmp_path):
    book = ReviewBook(tmp_path)
    saved = book.append("Ann", Review("r1", "AF", Verdict.PRESENT))
    os.mkfifo(tmp_path / "Bob.csv")
    (tmp_path / "Cho.csv").mkdir()
    assert book.compared_reviews() == [saved] and book.verdicts("Bob") == {} and book.known_name("bob") == "bob"


def test_a_folder_that_cannot_be_listed_loses_no_review(tmp_path, unprivileged):
    book = ReviewBook(tmp_path)
    saved = book.append("Ann", Review("r1", "AF", Verdict.PRESENT))
    assert book.compared_reviews() == [saved]
    tmp_path.chmod(0)
    log = capture_log()
    with unprivileged():
        assert book.compared_reviews() == [saved] == book.compared_reviews()
    tmp_path.chmod(0o700)
    assert len(log) == 1 and "Permission denied" in log[0]
