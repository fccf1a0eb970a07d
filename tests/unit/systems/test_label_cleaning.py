from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecg.data.labels import ABBREVIATIONS, CHALLENGE_CLASSES, CLASS_INDEX, DROPPED, TRAINED, TRAINED_CLASSES
from ecg.systems.label_cleaning import (
    ADDED,
    FEWEST,
    CleaningSettings,
    ConflatedClasses,
    PartiallyLabelledSource,
    Relabelling,
    source_masks,
)
from ecg.systems.label_comparison import LabelledRecordings, compare_labels, label_masks

AF, AFL, NSR, TAB = (CLASS_INDEX[name] for name in ("AF", "AFL", "NSR", "TAb"))

TABLE = CHALLENGE_CLASSES


def rows(*findings):
    """Labels (N, 26) of recordings with these findings, each a text of abbreviations."""
    return np.array([np.isin(ABBREVIATIONS, text.split()) for text in findings])


def many(*groups):
    """Sources and labels of groups: how many recordings, their source, their findings."""
    sources = np.repeat([source for _, source, _ in groups], [count for count, _, _ in groups])
    return rows(*(text for count, _, text in groups for _ in range(count))), sources


ENOUGH = ((40, "Georgia", "AF TAb"), (FEWEST, "PTB-XL", "AFL"), (7, "PTB-XL", "NSR"), (2, "Georgia", "AF AFL"))


def test_conflated_classes_are_learned_from_recordings_of_other_sources_with_exactly_one_of_them():
    labels, sources = many((3, "Ningbo", "AFL"), *ENOUGH, (5, "Ningbo", "AF"))
    lessons = ConflatedClasses().training_data(labels, sources, ["Ningbo"])
    assert lessons.skip_reason == ""
    assert lessons.candidates.tolist() == [0, 1, 2]
    assert lessons.records.tolist() == list(range(3, 3 + 40 + FEWEST))
    assert lessons.targets[:, 0].tolist() == [1] * 40 + [0] * FEWEST


def test_both_of_two_lumped_classes_weigh_the_same_and_a_label_counts_one_on_the_average():
    labels, sources = many((1, "Ningbo", "AFL"), *ENOUGH)
    lessons = ConflatedClasses().training_data(labels, sources, ["Ningbo"])
    present = lessons.targets == 1
    assert lessons.weights[present].sum() == pytest.approx(lessons.weights[~present].sum())
    assert lessons.weights.mean() == pytest.approx(1)


def test_a_network_does_not_learn_from_sources_with_the_same_kind_of_habit():
    settings = CleaningSettings(
        conflated_classes=(
            ConflatedClasses(),
            ConflatedClasses(("Mine",), ("AF", "AFL")),
            ConflatedClasses(("Other",), ("SB", "NSR")),
        ),
        partially_labelled=(PartiallyLabelledSource(relabel=False), PartiallyLabelledSource(("Sparse",), ("AF",))),
    )
    assert settings.excluded_sources(ConflatedClasses()) == ["Ningbo", "Mine"]
    assert settings.excluded_sources(PartiallyLabelledSource(("Sparse",), ("AF",))) == ["CPSC", "Sparse"]


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        (ENOUGH, "no recordings of Ningbo with AFL alone"),
        (((9, "Ningbo", "AFL"), (40, "Georgia", "AF")), "0 of AFL and 40 of AF, 20 of each needed"),
        (((9, "Ningbo", "AFL"), (40, "Georgia", "AFL"), (19, "CPSC", "AF")), "40 of AFL and 19 of AF"),
        (((9, "Ningbo", "AFL AF"), *ENOUGH), "no recordings of Ningbo with AFL alone"),
    ],
)
def test_too_few_recordings_to_separate_conflated_classes_are_reported_with_the_reason(groups, reason):
    assert reason in ConflatedClasses().training_data(*many(*groups), ["Ningbo"]).skip_reason


def test_a_lumped_recording_gets_the_likelier_class_and_keeps_all_others():
    labels = rows("AFL TAb", "AFL", "AFL RBBB", "AFL", "AFL AF", "NSR")
    sources = np.array(["Ningbo", "Ningbo", "Ningbo", "Georgia", "Ningbo", "Ningbo"])
    probabilities = np.array([[0.5, 0.5], [0.51, 0.49], [0.1, 0.9]])
    after = ConflatedClasses().update_labels(labels, sources, probabilities)
    np.testing.assert_array_equal(after, rows("AF TAb", "AFL", "AF RBBB", "AFL", "AFL AF", "NSR"))
    np.testing.assert_array_equal(labels, rows("AFL TAb", "AFL", "AFL RBBB", "AFL", "AFL AF", "NSR"))


def test_cpsc_omits_fifteen_of_the_trained_classes():
    unlabelled = {ABBREVIATIONS[column] for column in PartiallyLabelledSource().find_columns()}
    assert len(unlabelled) == 15
    assert set(TRAINED_CLASSES) - unlabelled == {"AF", "IAVB", "LBBB", "NSR", "PAC", "RBBB", "PVC"}


def test_omitted_classes_are_trained_on_all_sources_that_omit_none():
    labels, sources = many((2, "CPSC", "AF"), (FEWEST, "Georgia", "TAb AF"), (3, "Sparse", "AF"), (1, "PTB-XL", "NSR"))
    lessons = PartiallyLabelledSource().training_data(labels, sources, ["CPSC", "Sparse"])
    assert lessons.skip_reason == "" and lessons.candidates.tolist() == [0, 1]
    assert lessons.records.tolist() == [*range(2, 2 + FEWEST), 5 + FEWEST]
    assert (lessons.weights == 1).all() and lessons.targets.shape == (FEWEST + 1, 15)
    np.testing.assert_array_equal(lessons.targets, labels[lessons.records][:, PartiallyLabelledSource().find_columns()])


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        (((30, "Georgia", "NSR"),), "no recordings of CPSC"),
        (((30, "CPSC", "NSR"), (19, "Georgia", "NSR")), "19 recordings of other sources, 20 needed"),
    ],
)
def test_where_there_is_too_little_to_learn_omitted_classes_the_reason_is_given(groups, reason):
    assert reason in PartiallyLabelledSource().training_data(*many(*groups), ["CPSC"]).skip_reason


def test_an_omitted_class_is_added_above_the_bound_and_none_is_ever_removed():
    rule = PartiallyLabelledSource()
    labels = rows("AF", "NSR TAb", "NSR", "TAb")
    sources = np.array(["CPSC", "CPSC", "Georgia", "CPSC"])
    place = rule.find_columns().tolist().index(TAB)
    probabilities = np.zeros((3, 15))
    probabilities[:, place] = (ADDED + 0.01, 0.0, ADDED)
    probabilities[2, rule.find_columns().tolist().index(AFL)] = 1.0
    np.testing.assert_array_equal(
        rule.update_labels(labels, sources, probabilities), rows("AF TAb", "NSR TAb", "NSR", "TAb AFL")
    )
    assert (rule.update_labels(labels, sources, np.zeros((3, 15))) == labels).all()


def test_the_methods_rules_are_for_ningbo_then_for_cpsc():
    settings = CleaningSettings()
    assert settings.masks
    assert [rule.title for rule in settings.rules] == ["AFL or AF in Ningbo", "classes omitted by CPSC"]


def test_sources_with_the_same_habit_share_a_rule():
    settings = CleaningSettings(
        conflated_classes=(ConflatedClasses(), ConflatedClasses(("Mine",)), ConflatedClasses(("Mine",), ("SB", "NSR"))),
        partially_labelled=(
            PartiallyLabelledSource(("X",), ("NSR", "AF")),
            PartiallyLabelledSource(("Y",), ("AF", "NSR")),
            PartiallyLabelledSource(),
        ),
    )
    assert [(type(rule), rule.sources) for rule in settings.rules] == [
        (ConflatedClasses, ("Ningbo", "Mine")),
        (ConflatedClasses, ("Mine",)),
        (PartiallyLabelledSource, ("X", "Y")),
        (PartiallyLabelledSource, ("CPSC",)),
    ]


def test_a_source_that_is_not_relabelled_has_no_rule():
    settings = CleaningSettings(
        (ConflatedClasses(relabel=False),),
        (PartiallyLabelledSource(relabel=False), PartiallyLabelledSource(("Mine",), ("AF",))),
    )
    assert [rule.sources for rule in settings.rules] == [("Mine",)]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            lambda: ConflatedClasses(("Mine",), ("AFL", "VT")).check(TABLE),
            "VT: expected one of the trained classes AF, AFL",
        ),
        (
            lambda: ConflatedClasses(("Mine",), ("AFL", "AFL")),
            "Mine: expected two conflated classes, received AFL, AFL",
        ),
        (lambda: ConflatedClasses(("Mine",), ("AFL",)), "two conflated classes"),
        (lambda: ConflatedClasses(("Mine",), ("AFL", "AF", "AF")), "two conflated classes"),
        (
            lambda: CleaningSettings((), (PartiallyLabelledSource(), PartiallyLabelledSource(("CPSC",), ("AF",)))),
            "CPSC: its labelled classes given twice",
        ),
        (
            lambda: CleaningSettings((ConflatedClasses(), ConflatedClasses(classes=("AF", "AFL")))),
            "Ningbo: AF and AFL given twice",
        ),
        (
            lambda: PartiallyLabelledSource(("Mine",), ("NSR", "PRWP")).check(TABLE),
            "PRWP: expected one of the trained classes",
        ),
        (
            lambda: PartiallyLabelledSource(("Mine",), tuple(np.array(ABBREVIATIONS)[TRAINED])).check(
                CHALLENGE_CLASSES
            ),
            "Mine: all classes are labelled",
        ),
    ],
)
def test_rules_that_make_no_sense_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        rule()


def test_masks_are_where_the_network_is_sure_of_the_opposite():
    targets = np.array([[0, 0, 0, 1, 1, 1]], np.float32)
    probabilities = np.array([[0.95, 0.9, 0.2, 0.05, 0.1, 0.99]])
    np.testing.assert_array_equal(label_masks(targets, probabilities), [[0, 1, 1, 0, 1, 1]])
    assert label_masks(targets, probabilities).dtype == np.float32


def test_the_most_confident_disagreement_comes_first_and_only_masked_labels_disagree():
    classes = TRAINED[:3]
    labels, probabilities = np.zeros((2, 26), bool), np.full((2, 26), 0.5, np.float32)
    labels[:, classes] = [[1, 0, 0], [1, 1, 0]]
    probabilities[:, classes] = [[0.02, 0.999, 0.95], [0.01, 0.99, 0.5]]
    masks, paths = label_masks(labels[:, TRAINED], probabilities[:, TRAINED]), ["JS1.hea", "JS2.hea"]
    recordings = LabelledRecordings(Path("data"), paths, np.array(["Chapman-Shaoxing"] * 2), labels)
    compared, places, disagreements = compare_labels(recordings, probabilities, masks, ())
    columns = [disagreement.column for disagreement in disagreements]
    assert compared.all() and columns == classes[[1, 0, 0, 2]].tolist() and places.tolist() == [0, 1, 0, 0]
    nothing = compare_labels(recordings, probabilities, np.ones((2, 22)), ())
    assert nothing[2] == [] and len(nothing[1]) == 0


def test_a_label_counts_where_its_source_labels_the_class():
    """CPSC's classes are known; of another source they are those that it has a recording of."""
    findings = ["AF TInv", "NSR", "SB", "AF", "NSR", "SB TInv"]
    sources = np.array(["CPSC", "CPSC", "Georgia", "Georgia", "Mine", "CPSC"])
    columns = np.array([AF, NSR, CLASS_INDEX["SB"], CLASS_INDEX["TInv"], 27])
    additional = np.array([[False, place in (1, 3)] for place in range(6)])  # STE, which Omission does not tell of
    targets = np.hstack([rows(*findings), additional])[:, columns]
    partially_labelled = (
        PartiallyLabelledSource(relabel=False),
        PartiallyLabelledSource(("Mine",), ("NSR",), relabel=False),
    )
    masks = source_masks(targets, sources, columns, partially_labelled)
    assert masks.dtype == np.float32
    expected = {"CPSC": [1, 1, 0, 0, 1], "Georgia": [1, 0, 1, 0, 1], "Mine": [0, 1, 0, 0, 0]}
    np.testing.assert_array_equal(masks, [expected[source] for source in sources])


def test_a_source_whose_omitted_classes_were_added_labels_these_too():
    """Whether one was found in it or not; the dropped ones it still omits."""
    targets, sources = rows("AF SB", "NSR"), np.array(["CPSC", "CPSC"])
    masks = source_masks(targets, sources, np.arange(26), (PartiallyLabelledSource(),))
    assert {ABBREVIATIONS[column] for column in np.flatnonzero(masks[1] == 0)} == set(DROPPED)
    np.testing.assert_array_equal(masks[0], masks[1])


def test_a_source_counts_as_relabelled_only_where_a_network_could_be_trained():
    mine, yours = PartiallyLabelledSource(("Mine", "His"), ("AF",)), PartiallyLabelledSource(("Yours",), ("AF", "NSR"))
    settings = CleaningSettings((ConflatedClasses(),), (PartiallyLabelledSource(), mine, yours))
    none, skipped = [np.empty(0)] * 5, {ConflatedClasses().title, mine.title}
    relabellings = [Relabelling(rule.title, *none, "too few" * (rule.title in skipped)) for rule in settings.rules]
    assert settings.without_skipped(relabellings) == replace(
        settings, partially_labelled=(PartiallyLabelledSource(), replace(mine, relabel=False), yours)
    )
    assert settings.without_skipped([relabelling._replace(skip_reason="") for relabelling in relabellings]) == settings


def test_a_source_that_is_not_relabelled_may_label_any_scored_class():
    assert PartiallyLabelledSource(("Mine",), ("AF", "BBB"), relabel=False).find_columns().tolist() == [
        column for column, name in enumerate(ABBREVIATIONS) if name not in ("AF", "BBB")
    ]
    for classes, relabel in ((("AF", "BBB"), True), (("AF", "STD"), False)):
        with pytest.raises(ValueError, match=f"{classes[1]}: expected one of the trained classes AF, AFL"):
            PartiallyLabelledSource(("Mine",), classes, relabel).check(TABLE)
    with pytest.raises(ValueError, match="Mine: all classes are labelled"):
        PartiallyLabelledSource(("Mine",), ABBREVIATIONS, relabel=False).check(TABLE)
