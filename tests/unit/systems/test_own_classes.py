from dataclasses import replace

import pytest

from ecg.data.class_tables import ClassTable, Diagnosis
from ecg.data.labels import CHALLENGE_CLASSES, CHALLENGE_SOURCES, LETTERS
from ecg.data.source_tables import DeclaredSource, SourceTable
from ecg.systems.label_cleaning import CleaningSettings, ConflatedClasses, PartiallyLabelledSource
from ecg.systems.own_classes import use_classes, use_sources
from ecg.systems.pretraining import select_synthetic_classes
from ecg.systems.recipes import CAI2021, SYSTEMS

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
