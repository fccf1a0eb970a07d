from dataclasses import replace

import numpy as np
import pytest

from ecg.data.class_tables import ClassTable, Diagnosis
from ecg.data.labels import ABBREVIATIONS, CHALLENGE_CLASSES, CHALLENGE_SOURCES, LETTERS, make_own_classes
from ecg.data.source_tables import DeclaredSource, SourceTable
from ecg.systems.label_cleaning import CleaningSettings, ConflatedClasses, PartiallyLabelledSource
from ecg.systems.own_classes import adapt_to_labels, select_classes, select_weights, use_classes, use_sources
from ecg.systems.pretraining import select_synthetic_classes
from ecg.systems.recipes import CAI2021, RECIPES, SYSTEMS

RHYTHMS = ClassTable(tuple(Diagnosis(name, (name,), name) for name in ("NSR", "AF", "AFL", "Pace")))
OWN = SourceTable((DeclaredSource("Mine", "M", ("NSR", "AF")), DeclaredSource("Yours", "Y", (), ("AFL", "AF"))))


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_can_be_used_for_every_table(name):
    settings = use_classes(SYSTEMS[name], RHYTHMS)
    assert settings.classes == RHYTHMS.abbreviations and settings.sources == LETTERS
    assert settings.columns.tolist() == [0, 1, 2, 3] and settings.weight_array.tolist() == [
        [float(row == column) for column in range(4)] for row in range(4)]  # fmt: skip
    assert settings.gate is None and not settings.implies and not settings.answer_pairs and not settings.cleaning.rules
    assert settings.fallback in (None, "NSR") and settings.network == SYSTEMS[name].network
    back = select_synthetic_classes(settings)
    assert back.class_table == CHALLENGE_CLASSES and back.classes == CHALLENGE_CLASSES.trained_classes
    assert select_synthetic_classes(SYSTEMS[name]) is SYSTEMS[name]


def test_the_default_system_knows_the_challenges_sources_as_a_table():
    assert use_sources(CAI2021, CHALLENGE_SOURCES, CAI2021) == CAI2021


def test_a_system_relabels_your_sources_as_it_relabels_those_of_its_recipe():
    relabelled = use_sources(use_classes(CAI2021, RHYTHMS), OWN, CAI2021)
    conflated, partially = (
        ConflatedClasses(("Yours",), ("AFL", "AF")),
        PartiallyLabelledSource(("Mine",), ("NSR", "AF")),
    )
    assert relabelled.cleaning == CleaningSettings((conflated,), (partially,))
    zhao = SYSTEMS["zhao2022"]
    kept = use_sources(use_classes(zhao, RHYTHMS), OWN, zhao)
    assert not kept.cleaning.rules and kept.cleaning.partially_labelled[0].labelled == ("NSR", "AF")
    assert kept.sources == OWN and not kept.cleaning.masks


def test_the_gate_predicts_what_its_source_labels():
    li = SYSTEMS["li2021"]
    cpsc = SourceTable((DeclaredSource("CPSC", "A", ("AF", "SB")),))
    assert use_sources(li, cpsc, li).gate == replace(li.gate, classes=("AF", "SB"))
    assert use_sources(li, OWN, li).gate == li.gate


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (DeclaredSource("Mine", "M", ("NSR", "VT")), "Mine: labels VT, expected some of NSR, AF, AFL, Pace"),
        (DeclaredSource("Mine", "M", RHYTHMS.abbreviations), "Mine: all classes are labelled"),
        (DeclaredSource("Mine", "M", (), ("AF", "VT")), "VT: expected one of the trained classes NSR, AF, AFL, Pace"),
    ],
)
def test_sources_with_unknown_classes_are_refused(source, reason):
    with pytest.raises(ValueError, match=reason):
        use_sources(use_classes(CAI2021, RHYTHMS), SourceTable((source,)), CAI2021)


def test_a_system_is_trained_for_the_classes_that_are_labelled():
    for name, settings in RECIPES.items():
        if set(settings.classes) <= set(ABBREVIATIONS):
            assert select_classes(settings, ABBREVIATIONS) is settings
        selected = select_classes(settings, ["AF", "NSR", "TAb"])
        assert set(selected.classes) == {"AF", "NSR", "TAb"} & set(settings.classes), name
        assert not selected.cleaning.rules and not selected.cleaning.masks
    assert "STD" not in select_classes(RECIPES["xie2022"], ABBREVIATIONS).classes
    with pytest.raises(ValueError, match="classes: cai2021 predicts none of PRWP, BBB"):
        select_classes(RECIPES["cai2021"], ["PRWP", "BBB"])


def test_a_system_is_adapted_to_the_names_that_recordings_are_labelled_with(tmp_path):
    assert adapt_to_labels(CAI2021, None) == adapt_to_labels(CAI2021, CHALLENGE_CLASSES) == (CAI2021, ABBREVIATIONS)
    selected = adapt_to_labels(CAI2021, np.array(["AF", "PRWP", "NSR"]))
    assert selected == (select_classes(CAI2021, ["AF", "NSR"]), ("AF", "PRWP", "NSR"))
    renamed = adapt_to_labels(CAI2021, ["AF", "infarct"])
    assert renamed == (use_classes(CAI2021, make_own_classes(["AF", "infarct"])), ("AF", "infarct"))
    assert adapt_to_labels(CAI2021, RHYTHMS) == (use_classes(CAI2021, RHYTHMS), RHYTHMS.abbreviations)
    assert adapt_to_labels(renamed.settings, None) == renamed
    assert adapt_to_labels(renamed.settings, ["infarct"]).settings.class_table == renamed.settings.class_table
    path = tmp_path / "classes.csv"
    path.write_text("abbreviation,code\ninfarct,I21\nAF,AF\n")
    for classes in (path, str(path)):
        settings, names = adapt_to_labels(CAI2021, classes)
        assert names == settings.classes == ("infarct", "AF")
        assert settings.class_table.scored[1].codes == ("AF", "164889003")


@pytest.mark.parametrize(("classes", "message"), [
    (["AF", "AF", "NSR"], "^classes: AF, AF, NSR has a class twice$"),
    (["AF", "atrial flutter"], "^classes: abbreviation 'atrial flutter': expected up to 12 letters"),
    (["BBB", "PRWP"], "^classes: cai2021 predicts none of BBB, PRWP$"),
    ([], "^classes: cai2021 predicts none of "),
    ("nowhere.csv", "^nowhere.csv: "),
])  # fmt: skip
def test_classes_that_no_system_can_be_adapted_to_are_an_error(classes, message):
    with pytest.raises(ValueError, match=message):
        adapt_to_labels(CAI2021, classes)


def test_weights_are_those_of_the_labelled_classes(tmp_path):
    given = np.array([[1, 0.5], [0.25, 1]])
    renamed = adapt_to_labels(CAI2021, ["infarct", "block"])
    assert select_weights(renamed, given).weight_array.tolist() == given.tolist()
    assert select_weights(renamed, np.eye(2)) == renamed.settings
    selected = adapt_to_labels(CAI2021, ["AF", "NSR"])
    weights, indices = select_weights(selected, given.tolist()).weight_array, CHALLENGE_CLASSES.indices(["AF", "NSR"])
    assert weights[np.ix_(indices, indices)].tolist() == given.tolist() and weights.sum() == given.sum()
    path = tmp_path / "weights.csv"
    path.write_text(",block,infarct\nblock,1,0.25\ninfarct,0.5,1\n")
    for file in (path, str(path)):
        assert select_weights(renamed, file).weight_array.tolist() == given.tolist()
    for weights, message in (
        (np.eye(3), r"^weights: expected 2 rows of 2 numbers, .* received the shape \(3, 3\)$"),
        ([["a", "b"], ["c", "d"]], "^weights: expected 2 rows of 2 numbers"),
        ([[1, 0], [np.nan, 1]], "^weights: expected 2 rows of 2 numbers up to 1,000,000$"),
    ):
        with pytest.raises(ValueError, match=message):
            select_weights(renamed, weights)
