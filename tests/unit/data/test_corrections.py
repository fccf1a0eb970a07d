"""Corrections: the majority of reviewers decides, and only what they have decided on changes."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import capture_log, write_reviews

from ecg.data.corrections import (
    LabelVotes,
    correct_labels,
    correction_table,
    count_votes,
    describe_corrections,
    fingerprint_corrections,
    load_corrections,
)
from ecg.data.headers import RecordError
from ecg.data.labels import CLASS_INDEX
from ecg.data.resampling import DEFAULT_PREPROCESSING
from ecg.data.reviews import ABSENT, PRESENT, UNDECIDED, UNSURE, Review, Verdict
from ecg.data.store import add_corrections


@pytest.fixture
def corrected(store):
    """The synthetic store with a verdict on AF in four recordings, and the votes."""
    names = store.names.tolist()
    verdicts = [LabelVotes(2, 1), LabelVotes(0, 1), LabelVotes(1, 1), LabelVotes(n_unsure=1)]
    corrections = {(name, "AF"): votes for name, votes in zip(names, verdicts, strict=False)}
    corrections["not/there", "AF"] = LabelVotes(1)
    return store.correct(corrections)


@pytest.mark.parametrize(
    ("votes", "verdict"),
    [((1, 0, 0), "present"), ((0, 1, 0), "absent"), ((0, 0, 1), "unsure"), ((2, 1, 0), "present"),
     ((1, 2, 0), "absent"), ((1, 1, 0), "unsure"), ((1, 0, 1), "unsure"), ((2, 1, 1), "unsure"),
     ((3, 1, 1), "present")],
)  # fmt: skip
def test_more_than_half_of_the_reviewers_decide(votes, verdict):
    assert LabelVotes(*votes).verdict == verdict


def test_the_last_verdict_of_each_reviewer_is_a_vote(tmp_path):
    reviews = write_reviews(
        tmp_path, ("Anna", "a", "AF", "absent"), ("Ben", "a", "AF", "present"), ("Anna", "a", "AF", "present"),
        ("Cleo", "a", "AF", "unsure"), ("Anna", "b/c", "LAD", "absent"),
    )  # fmt: skip
    votes = load_corrections(reviews, ["a", "b/c"])
    assert votes == {("a", "AF"): LabelVotes(2, 0, 1), ("b/c", "LAD"): LabelVotes(0, 1, 0)}


def test_unknown_recordings_are_reported_and_all_unknown_are_an_error(tmp_path):
    reviews = write_reviews(tmp_path, ("Anna", "a", "AF", "absent"), ("Anna", "moved/b", "AF", "absent"))
    log = capture_log()
    assert list(load_corrections(reviews, ["a", "b"])) == [("a", "AF")]
    assert "1 reviewed recording not among the recordings (moved/b)" in " ".join(" ".join(log).split())
    with pytest.raises(RecordError, match="2 reviewed recordings such as a, but none of the 1 recordings, such as x"):
        load_corrections(reviews, ["x"])


def test_a_folder_without_reviews_is_an_error(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RecordError, match=str(folder)):
            load_corrections(folder, ["a"])


def test_present_and_absent_replace_labels_and_unsure_keeps_them(store, corrected):
    column = CLASS_INDEX["AF"]
    assert corrected.verdicts[:5, column].tolist() == [PRESENT, ABSENT, UNSURE, UNSURE, UNDECIDED]
    for name in ("labels", "as_scored"):
        labels, expected = getattr(corrected, name), getattr(store, name).copy()
        expected[:2, column] = True, False
        np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(corrected.reviewed.labels, store.labels)
    assert corrected.digest != store.digest


def test_a_subset_keeps_its_verdicts(corrected):
    records = np.array([3, 0])
    subset = corrected.subset(records)
    np.testing.assert_array_equal(subset.verdicts, corrected.verdicts[records])
    np.testing.assert_array_equal(subset.reviewed.labels, corrected.reviewed.labels[records])
    assert correction_table(subset.reviewed, subset.names)[2][:2] == (str(corrected.names[0]), "AF")


def test_without_corrections_stores_and_labels_are_the_same_objects(store):
    assert add_corrections({DEFAULT_PREPROCESSING: store}, None)[DEFAULT_PREPROCESSING] is store
    assert correct_labels(store.labels, store.verdicts) is store.labels
    assert fingerprint_corrections(None) is None


def test_the_fingerprint_depends_on_verdicts_alone():
    votes = {("a", "AF"): LabelVotes(1), ("b", "AF"): LabelVotes(0, 1)}
    reordered = {("b", "AF"): LabelVotes(1, 3), ("a", "AF"): LabelVotes(2, 1)}
    assert fingerprint_corrections(votes) == fingerprint_corrections(reordered)
    assert fingerprint_corrections(votes) != fingerprint_corrections(votes | {("b", "AF"): LabelVotes(1)})


def test_what_is_reported_counts_verdicts_and_changed_labels(corrected):
    column, labels = CLASS_INDEX["AF"], corrected.reviewed.labels
    added, removed = int(not labels[0, column]), int(labels[1, column])
    assert describe_corrections(corrected.reviewed) == (
        f"Corrections: 4 labels of 4 recordings reviewed; 1 present, {added} of them not so labelled; "
        f"1 absent, {removed} of them not so labelled; 2 unsure."
    )
    record, name, label, verdict, *votes = correction_table(corrected.reviewed, corrected.names)[1]
    assert (record, name, verdict, votes) == (str(corrected.names[0]), "AF", "present", [2, 1, 0])
    assert label == ("present" if labels[0, column] else "absent")


def test_votes_of_several_classes_are_counted_apart():
    review = Review("a", "AF", Verdict.PRESENT, reviewer="Anna")
    votes = count_votes([review, replace(review, abbreviation="LAD"), replace(review, reviewer="Ben")])
    assert votes == {("a", "AF"): LabelVotes(2), ("a", "LAD"): LabelVotes(1)}
