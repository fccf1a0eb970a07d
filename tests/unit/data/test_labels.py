import csv
from pathlib import Path

import numpy as np
import pytest

from ecg.data import labels


def test_classes_are_those_of_the_weights_in_their_order():
    with open(Path(__file__).parents[3] / "weights.csv", newline="") as file:
        header = next(csv.reader(file))[1:]
    assert ["|".join(diagnosis.codes) for diagnosis in labels.SCORED] == header


def test_facts_agree_with_the_challenges_table(real_data):
    with open(real_data / "challenge" / "dx_mapping_scored.csv", newline="") as file:
        rows = {row["SNOMEDCTCode"]: row for row in csv.DictReader(file)}
    assert {code for diagnosis in labels.SCORED for code in diagnosis.codes} == set(rows)
    rare = set()
    for diagnosis in labels.SCORED:
        assert diagnosis.abbreviation in {rows[code]["Abbreviation"] for code in diagnosis.codes}
        if sum(int(rows[code]["Total"]) for code in diagnosis.codes) < 700:
            rare.add(diagnosis.abbreviation)
    assert rare == set(labels.DROPPED)


def test_the_unscored_diagnoses_are_the_challenges(real_data):
    with open(real_data / "challenge" / "dx_mapping_unscored.csv", newline="") as file:
        rows = [(row["SNOMEDCTCode"], row["Abbreviation"], " ".join(row["Dx"].split())) for row in csv.DictReader(file)]
    diagnoses = [
        (code, diagnosis.abbreviation, diagnosis.name) for code, diagnosis in labels.unscored_diagnoses().items()
    ]
    assert diagnoses == rows
    assert all(diagnosis.codes == (code,) for code, diagnosis in labels.unscored_diagnoses().items())


def test_abbreviations_of_the_challenge_in_any_case_are_codes(real_data):
    rows = []
    for table in ("scored", "unscored"):
        with open(real_data / "challenge" / f"dx_mapping_{table}.csv", newline="") as file:
            rows += list(csv.DictReader(file))
    for row in rows:
        for text in (row["Abbreviation"], row["Abbreviation"].upper(), row["Abbreviation"].lower()):
            assert labels.code_of(text) == row["SNOMEDCTCode"]
    assert len({row["Abbreviation"].casefold() for row in rows}) == len(rows)


def test_names_of_2020_become_codes_and_unknown_ones_stay():
    nine = {"Normal": "NSR", "AF": "AF", "I-AVB": "IAVB", "LBBB": "LBBB", "RBBB": "RBBB", "PAC": "PAC", "PVC": "PVC"}
    for text, name in nine.items():
        assert labels.CLASS_OF_CODE[labels.code_of(text)] == labels.CLASS_INDEX[name]
    assert (labels.code_of("STD"), labels.code_of("STE")) == ("429622005", "164931005")
    for text in ("Unknown", "", "164889003", "12345", "sinus"):
        assert labels.code_of(text) == text


def test_codes_are_scored_unscored_or_unknown():
    for code in labels.CLASS_OF_CODE:
        assert labels.code_status(code) == "scored"
    for code in labels.unscored_diagnoses():
        assert labels.code_status(code) == ("scored" if code in dict(labels.MERGED) else "unscored")
    for code in ("12345", "Unknown", "", "AF"):
        assert labels.code_status(code) == "unknown"


@pytest.mark.parametrize(
    ("codes", "names"),
    [
        (["713427006"], ["RBBB"]),
        (["59118001", "713427006"], ["RBBB"]),
        (["63593006", "17338001"], ["PAC", "PVC"]),
        (["164884008"], ["PVC"]),
        (["429622005", "nonsense"], []),
        ([], []),
        (["365413008"], ["PRWP"]),
    ],
)
def test_encode(codes, names):
    assert [labels.ABBREVIATIONS[column] for column in np.flatnonzero(labels.CHALLENGE_CLASSES.encode(codes))] == names


@pytest.mark.parametrize(
    ("codes", "names"),
    [
        (["164884008"], []),
        (["164884008", "17338001"], ["PVC"]),
        (["59118001", "713427006", "10370003"], ["RBBB", "PR"]),
    ],
)
def test_the_evaluator_knows_ventricular_ectopic_beats_as_no_class(codes, names):
    assert [
        labels.ABBREVIATIONS[column] for column in np.flatnonzero(labels.CHALLENGE_CLASSES.encode_as_scored(codes))
    ] == names


def test_twenty_two_classes_are_trained_and_expand_puts_zeros_between():
    assert len(labels.TRAINED) == 22
    wide = labels.CHALLENGE_CLASSES.expand(np.arange(1.0, 45.0).reshape(2, 22))
    assert wide.shape == (2, 26)
    np.testing.assert_array_equal(wide[:, labels.TRAINED], np.arange(1.0, 45.0).reshape(2, 22))
    assert not wide[:, [labels.CLASS_INDEX[name] for name in labels.DROPPED]].any()


@pytest.mark.parametrize(
    ("name", "source"),
    [("A0001", "CPSC"), ("Q3581", "CPSC-Extra"), ("I0074", "INCART"), ("S0549", "PTB"), ("HR21837", "PTB-XL"),
     ("E10344", "Georgia"), ("JS10646", "Chapman-Shaoxing"), ("JS10647", "Ningbo"), ("LUDB014", "LUDB"),
     ("00003_hr", "PTB-XL"), ("JS", "JS")],
)  # fmt: skip
def test_source_of(name, source):
    assert labels.source_of(name) == source


@pytest.mark.parametrize(
    ("text", "source"),
    [("georgia", "Georgia"), ("PTB-xl", "PTB-XL"), ("NINGBO", "Ningbo"), ("chapman-shaoxing", "Chapman-Shaoxing"),
     ("Mine", "Mine"), ("mine", "mine")],
)  # fmt: skip
def test_a_source_is_called_by_its_name_in_any_case(text, source):
    assert labels.find_source(text) == source


def test_the_table_of_unscored_diagnoses_is_read_once(monkeypatch):
    assert labels.code_of("STD") == "429622005"
    monkeypatch.setattr(labels, "unscored_diagnoses", lambda: pytest.fail("gone through again"))
    assert [labels.code_of(f"word {number}") for number in range(2000)] == [f"word {number}" for number in range(2000)]
    assert labels.code_of("ste") == "164931005"


def test_unscored_classes_have_the_indices_after_the_scored_ones():
    assert labels.CHALLENGE_CLASSES.indices(labels.ABBREVIATIONS).tolist() == list(range(26))
    assert labels.CHALLENGE_CLASSES.indices(("STE", "NSR", "STD")).tolist() == [27, labels.CLASS_INDEX["NSR"], 26]
    with pytest.raises(ValueError, match="not in tuple"):
        labels.CHALLENGE_CLASSES.indices(("LVH",))


@pytest.mark.parametrize(
    ("codes", "unscored"),
    [(["429622005"], [True, False]), (["164931005", "426783006"], [False, True]), (["426783006", "x"], [False] * 2),
     (["429622005", "164931005"], [True, True]), ([], [False, False])],
)  # fmt: skip
def test_additional_classes_are_read_from_the_codes(codes, unscored):
    assert labels.CHALLENGE_CLASSES.encode_additional(codes).tolist() == unscored


def test_values_of_any_classes_are_scattered_and_unscored_ones_dropped():
    columns = labels.CHALLENGE_CLASSES.indices(("STE", "NSR", "AF"))
    wide = labels.CHALLENGE_CLASSES.expand(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), columns)
    expected = np.zeros((2, 26))
    expected[:, labels.CLASS_INDEX["NSR"]], expected[:, labels.CLASS_INDEX["AF"]] = (2, 5), (3, 6)
    np.testing.assert_array_equal(wide, expected)
    assert labels.CHALLENGE_CLASSES.expand(np.ones(3, bool), columns).dtype == bool
    assert labels.CHALLENGE_CLASSES.expand(np.ones((4, 5, 3)), columns).sum() == 4 * 5 * 2


def test_implied_labels_are_added_to_a_copy():
    labels_before = np.zeros((3, 26), bool)
    lbbb, bbb, tinv, tab = (labels.CLASS_INDEX[name] for name in ("LBBB", "BBB", "TInv", "TAb"))
    labels_before[0, lbbb], labels_before[1, tinv], labels_before[2, tab] = True, True, True
    before = labels_before.copy()
    with_implied = labels.CHALLENGE_CLASSES.add_implied_labels(labels_before, (("LBBB", "BBB"), ("TInv", "TAb")))
    assert [np.flatnonzero(row).tolist() for row in with_implied] == [sorted([lbbb, bbb]), sorted([tinv, tab]), [tab]]
    np.testing.assert_array_equal(labels_before, before)
    np.testing.assert_array_equal(labels.CHALLENGE_CLASSES.add_implied_labels(labels_before, ()), labels_before)


def test_selected_labels_are_in_the_order_of_their_classes_also_unscored_ones():
    scored, unscored = np.eye(26, dtype=bool), np.eye(26, 2, dtype=bool)
    classes = labels.CHALLENGE_CLASSES.indices(["STE", "PVC", "AF"])
    selected = labels.select_labels(classes, scored, unscored)
    assert selected.argmax(axis=0).tolist() == [1, labels.CLASS_INDEX["PVC"], labels.CLASS_INDEX["AF"]]
    assert selected.sum() == 3


def test_names_alone_make_a_table_of_your_own_classes():
    table = labels.make_own_classes(["infarct", "NSR", "Normal"])
    assert table.abbreviations == ("infarct", "NSR", "Normal") and table.sinus == 1
    assert table.scored[0].codes == ("infarct",) and table.scored[1].codes == ("NSR", "426783006")
    assert table.encode(["426783006", "infarct"]).tolist() == [True, True, False]
    np.testing.assert_array_equal(table.make_weight_array(), np.eye(3))
    for names, reason in (
        (["a b"], "abbreviation 'a b': expected up to 12"),
        (["a", "A"], "there twice"),
        ([], "least"),
    ):
        with pytest.raises(ValueError, match=reason):
            labels.make_own_classes(names)
