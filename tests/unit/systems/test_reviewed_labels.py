"""Reviewed labels: they survive all cleaning, are never masked, and unsure ones train no network."""

import zlib
from dataclasses import replace

import numpy as np
import pytest

from ecg.data.corrections import LabelVotes
from ecg.data.labels import ABBREVIATIONS, CHALLENGE_CLASSES, CLASS_INDEX, CPSC_LABELS, TRAINED
from ecg.data.resampling import DEFAULT_PREPROCESSING
from ecg.data.reviews import ABSENT, PRESENT, UNDECIDED, UNSURE
from ecg.runtime.cache import fingerprint
from ecg.runtime.limits import TimeBudget
from ecg.systems.label_cleaning import CleaningSettings, ConflatedClasses, PartiallyLabelledSource
from ecg.systems.method import train_system
from ecg.systems.recipes import Settings
from ecg.systems.reviewed_labels import keep_reviewed_labels, keep_reviewed_masks, mask_unsure_labels
from ecg.systems.stage_runner import Outcome, StageRunner

RULES = CleaningSettings().rules


class ConfidentRunner(StageRunner):
    """A runner that trains nothing: each stage predicts nearly 0 or 1 at random."""

    def train_or_load(self, stage):
        self.__dict__.setdefault("stages", {})[stage.title] = stage
        random = np.random.default_rng(zlib.crc32(stage.key.encode()))
        shape = len(stage.to_predict), stage.targets.shape[1]
        return Outcome([], [], np.where(random.random(shape) < 0.5, 0.99, 0.01).astype(np.float32), "")


@pytest.fixture
def train_fake(tmp_path, monkeypatch):
    """A function that trains a system on a store without training; it returns the results and the stages."""
    monkeypatch.setattr("ecg.systems.label_cleaning.FEWEST", 2)

    def train_on(store, **settings):
        settings = replace(Settings(), lead_sets=(12,), resamples=0, **settings)
        runner = ConfidentRunner({DEFAULT_PREPROCESSING: store}, tmp_path, 0, TimeBudget(None))
        return train_system(settings, runner, {}, tmp_path).results, runner.stages

    return train_on


@pytest.fixture(scope="module")
def corrected(store):
    """The synthetic store with a verdict on every third label, at random."""
    random, corrections = np.random.default_rng(0), {}
    kinds = [LabelVotes(1), LabelVotes(0, 1), LabelVotes(0, 0, 1)]
    for name in store.names.tolist():
        for abbreviation in ABBREVIATIONS:
            if random.random() < 1 / 3:
                corrections[name, abbreviation] = kinds[random.integers(3)]
    return store.correct(corrections)


@pytest.mark.parametrize("source_masks", [False, True])
def test_reviewed_labels_survive_cleaning_and_unsure_ones_are_masked_in_each_stage(
    store, corrected, train_fake, source_masks
):
    results, stages = train_fake(corrected, source_masks=source_masks)
    verdicts = corrected.verdicts
    decided, unsure = np.isin(verdicts, (PRESENT, ABSENT)), verdicts == UNSURE
    assert any((made.before != made.after).any() for made in results.relabellings)  # the rules did something
    np.testing.assert_array_equal(results.labels[decided], verdicts[decided] == PRESENT)
    np.testing.assert_array_equal(results.labels[unsure], store.labels[unsure])
    np.testing.assert_array_equal(results.store.labels[unsure], store.labels[unsure])
    columns = CHALLENGE_CLASSES.indices(results.settings.classes)
    masks = results.masks
    assert (masks[decided[:, columns]] == 1).all() and (masks[unsure[:, columns]] == 0).all()
    assert (masks[verdicts[:, columns] == UNDECIDED] == 0).any()
    general = [title for title, stage in stages.items() if len(stage.records) == len(store)]
    assert len(general) == 2  # round 1 and the final network
    for title in general:
        assert (stages[title].masks[unsure[:, columns]] == 0).all()
        assert (stages[title].masks[decided[:, columns]] == 1).all()
        np.testing.assert_array_equal(stages[title].targets[decided[:, columns]], (verdicts == PRESENT)[:, columns][
            decided[:, columns]])  # fmt: skip
    rule = RULES[1]
    weights = stages[rule.title].masks
    assert (weights[unsure[np.ix_(stages[rule.title].records, rule.find_columns())]] == 0).all() and weights.any()
    doubted = {(item.name, ABBREVIATIONS[item.column]) for item in results.disagreements}
    rows = zip(*np.nonzero(verdicts != UNDECIDED), strict=True)
    assert doubted and not doubted & {(str(store.names[row]), ABBREVIATIONS[column]) for row, column in rows}


def test_no_verdict_changes_no_stage(store, train_fake):
    empty = store.correct({})
    for settings in ({}, {"source_masks": True}):
        (first, before), (second, after) = train_fake(store, **settings), train_fake(empty, **settings)
        assert list(before) == list(after)
        for title in before:
            assert fingerprint(*before[title].cache_parts()) == fingerprint(*after[title].cache_parts())
        np.testing.assert_array_equal(first.labels, second.labels)


def test_implied_labels_do_not_contradict_a_reviewer(store, train_fake):
    implies = (("TInv", "TAb"),)
    row = int(np.flatnonzero(store.sources != "CPSC")[0])
    votes = {(str(store.names[row]), "TInv"): LabelVotes(1), (str(store.names[row]), "TAb"): LabelVotes(0, 1)}
    assert CHALLENGE_CLASSES.add_implied_labels(store.correct(votes).labels, implies)[row, CLASS_INDEX["TAb"]]
    results, _ = train_fake(store.correct(votes), implies=implies)
    assert results.labels[row, [CLASS_INDEX["TInv"], CLASS_INDEX["TAb"]]].tolist() == [True, False]


@pytest.mark.parametrize("reviewed", [("AFL", PRESENT), ("AF", ABSENT), ("AF", UNSURE)])
def test_a_reviewed_class_of_two_conflated_ones_keeps_both(reviewed):
    rule = ConflatedClasses()
    before, verdicts = np.zeros((3, 26), bool), np.full((3, 26), UNDECIDED, np.int8)
    before[:, CLASS_INDEX["AFL"]] = True
    verdicts[1, CLASS_INDEX[reviewed[0]]] = reviewed[1]
    sources = np.array(["Ningbo"] * 3)
    after = rule.update_labels(before, sources, np.array([[0.1, 0.9]] * 3))
    kept = keep_reviewed_labels(rule, before, after, verdicts)
    assert kept[:, rule.find_columns()].tolist() == [[False, True], [True, False], [False, True]]


def test_a_reviewed_class_of_a_partially_labelled_source_says_nothing_of_its_others():
    rule = PartiallyLabelledSource()
    before, verdicts = np.zeros((2, 26), bool), np.full((2, 26), UNDECIDED, np.int8)
    verdicts[0, rule.find_columns()[0]] = ABSENT
    after = rule.update_labels(before, np.array(["CPSC"] * 2), np.ones((2, len(rule.find_columns()))))
    kept = keep_reviewed_labels(rule, before, after, verdicts)
    assert (
        not kept[0, rule.find_columns()[0]] and kept[:, rule.find_columns()].sum() == 2 * len(rule.find_columns()) - 1
    )


def test_one_unsure_class_of_two_conflated_ones_masks_their_target():
    rule, random = ConflatedClasses(), np.random.default_rng(0)
    labels, verdicts = np.zeros((60, 26), bool), np.full((60, 26), UNDECIDED, np.int8)
    labels[np.arange(60), np.where(random.random(60) < 0.5, *rule.find_columns())] = True
    verdicts[5, rule.find_columns()[0]] = UNSURE
    data = rule.training_data(labels, np.array(["Georgia"] * 60), rule.sources)
    masked = mask_unsure_labels(rule, data, verdicts)
    assert masked.weights.dtype == np.float32 and masked.weights[5] == 0
    np.testing.assert_array_equal(np.delete(masked.weights, 5, axis=0), np.delete(data.weights, 5, axis=0))


def test_a_correction_does_not_make_its_source_label_the_class(store, train_fake):
    """A class that no recording of Georgia has stays masked in its others."""
    (rows,) = np.nonzero(store.sources == "Georgia")
    column = next(column for column in TRAINED if not store.labels[rows, column].any())
    corrected = store.correct({(str(store.names[rows[0]]), ABBREVIATIONS[column]): LabelVotes(1)})
    results, _ = train_fake(corrected, source_masks=True, cleaning=CleaningSettings((), (), masks=False))
    masks = results.masks[:, CHALLENGE_CLASSES.indices(results.settings.classes) == column]
    assert masks[rows[0]] == 1 and not masks[rows[1:]].any()


def test_columns_of_additional_classes_keep_their_masks():
    verdicts = np.full((4, 26), ABSENT, np.int8)
    columns = CHALLENGE_CLASSES.indices((*CPSC_LABELS, "STD", "STE"))
    masks = keep_reviewed_masks(np.zeros((4, len(columns)), np.float32), verdicts, columns)
    assert (masks[:, :-2] == 1).all() and not masks[:, -2:].any()
