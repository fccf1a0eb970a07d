import json

import numpy as np
import pytest

from ecg.data.class_files import load_class_weights, read_class_table
from ecg.data.class_tables import ClassTable, Diagnosis, parse_class_table, write_class_table
from ecg.data.labels import CHALLENGE_CLASSES, code_status, find_diagnosis, load_own_classes, load_own_weights

RHYTHMS = ClassTable(
    (Diagnosis("SR", ("426783006", "Sinus rhythm"), "sinus rhythm"), Diagnosis("AFib", ("164889003",), "fibrillation"),
     Diagnosis("Pace", ("pacemaker",), "paced rhythm")),
    additional=(Diagnosis("Odd", ("odd",), "irregular"),), merged=(("flutter", "AFib"),), untrained=("Pace",),
)  # fmt: skip


def write_table(folder, text):
    path = folder / "classes.csv"
    path.write_text(text)
    return path


def test_the_challenges_table_is_an_instance_like_any_other():
    assert len(CHALLENGE_CLASSES) == 26 and CHALLENGE_CLASSES.abbreviations[CHALLENGE_CLASSES.sinus] == "NSR"
    assert CHALLENGE_CLASSES.all_abbreviations[26:] == ("STD", "STE") and len(CHALLENGE_CLASSES.trained) == 22
    saved = json.loads(json.dumps(write_class_table(CHALLENGE_CLASSES)))
    assert parse_class_table(saved) == CHALLENGE_CLASSES
    assert parse_class_table(json.loads(json.dumps(write_class_table(RHYTHMS)))) == RHYTHMS


def test_codes_become_classes_for_training_and_for_an_evaluation():
    codes = ["Sinus rhythm", "flutter", "odd", "12345"]
    assert RHYTHMS.encode(codes).tolist() == [True, True, False]
    assert RHYTHMS.encode_as_scored(codes).tolist() == [True, False, False]
    assert RHYTHMS.encode_additional(codes).tolist() == [True]
    assert RHYTHMS.has_diagnosis(["pacemaker"]) and RHYTHMS.has_diagnosis(["1"]) and not RHYTHMS.has_diagnosis(["x"])
    assert RHYTHMS.code_lists == ("426783006|Sinus rhythm", "164889003", "pacemaker")


def test_values_are_arranged_by_the_indices_of_their_classes():
    indices = RHYTHMS.indices(("Odd", "SR"))
    assert indices.tolist() == [3, 0] and RHYTHMS.trained.tolist() == [0, 1]
    assert RHYTHMS.expand(np.array([[0.1, 0.2]]), indices).tolist() == [[0.2, 0, 0]]
    assert RHYTHMS.expand(np.array([0.1, 0.2])).tolist() == [0.1, 0.2, 0]
    assert RHYTHMS.scatter(np.array([0.1, 0.2]), indices).tolist() == [0.2, 0, 0, 0.1]
    assert RHYTHMS.add_implied_labels([False, True, False], [("AFib", "Pace")]).tolist() == [False, True, True]
    assert (RHYTHMS.find_name(" afib "), RHYTHMS.select_scored(("Odd", "Pace"))) == ("AFib", ("Pace",))
    with pytest.raises(ValueError, match="expected one of SR, AFib, Pace, received 'Odd'"):
        RHYTHMS.find_name("Odd")
    with pytest.raises(ValueError):
        RHYTHMS.indices(("AF",))


def test_without_weights_only_a_hit_counts():
    np.testing.assert_array_equal(RHYTHMS.make_weight_array(), np.eye(3))
    weights = ((1, 0.5, 0), (0.5, 1, 0), (0, 0, 2))
    np.testing.assert_array_equal(RHYTHMS.make_weight_array(weights), weights)
    for wrong in (weights[:2], ((1, 2), (3, 4), (5, 6)), ((1, 0, 0), (0, 1, 0), (0, 0, 1e7)), (("1",) * 3,) * 3):
        with pytest.raises(ValueError, match="weights: expected 3 rows of 3 numbers up to 1,000,000"):
            RHYTHMS.make_weight_array(wrong)
    assert RHYTHMS.sinus == 0 and ClassTable(RHYTHMS.scored[1:]).sinus is None


def test_a_status_and_a_diagnosis_are_of_the_own_classes_first():
    assert [code_status(code, RHYTHMS) for code in ("pacemaker", "odd", "164909002", "x")] == [
        "scored", "unscored", "unscored", "unknown"]  # fmt: skip
    names = [find_diagnosis(code, RHYTHMS).abbreviation for code in ("164889003", "164909002", "429622005", "x")]
    assert names == ["AFib", "LBBB", "STD", "x"]


def test_an_abbreviation_of_the_table_is_never_that_of_another_code():
    classes = ClassTable((Diagnosis("MI", ("PTB-XL:MI",), "infarction"), Diagnosis("AF", ("own",), "flimmer")))
    names = {code: find_diagnosis(code, classes).abbreviation for code in ("PTB-XL:MI", "own", "427172004")}
    assert names == {"PTB-XL:MI": "MI", "own": "AF", "427172004": "PVC"}
    for code, abbreviation, name in (
        ("164865005", "MI", "myocardial infarction"),
        ("164889003", "AF", "atrial fibrillation"),
    ):
        assert find_diagnosis(code).abbreviation == abbreviation, "a diagnosis of the Challenge"
        assert find_diagnosis(code, classes) == Diagnosis(code, (code,), name)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"scored": ()}, "expected at least one class"),
        ({"scored": (Diagnosis("A B", ("1",), ""),)}, "abbreviation 'A B': expected up to 12 letters"),
        ({"scored": (Diagnosis("A=B", ("1",), ""),)}, "abbreviation 'A=B'"),
        ({"scored": (Diagnosis("ABCDEFGHIJKLM", ("1",), ""),)}, "abbreviation 'ABCDEFGHIJKLM'"),
        ({"additional": (Diagnosis("sr", ("1",), ""),)}, "abbreviation 'sr' is there twice"),
        ({"additional": (Diagnosis("X", (), ""),)}, "X: expected a code"),
        ({"additional": (Diagnosis("X", ("a,b",), ""),)}, "X: code 'a,b' cannot be written in a header"),
        ({"additional": (Diagnosis("X", (" a",), ""),)}, "X: code ' a' cannot be written"),
        ({"additional": (Diagnosis("X", ("Unknown",), ""),)}, "X: code 'Unknown' cannot be written"),
        ({"additional": (Diagnosis("X", ("164889003",), ""),)}, "code '164889003' is of two classes, AFib and X"),
        ({"untrained": ("Odd", "XY")}, "Odd, XY: not a scored class"),
        ({"merged": (("1", "AF"),)}, "AF: not a scored class"),
        ({"weights": ((1.0,),)}, "weights: expected 3 rows of 3 numbers"),
    ],
)
def test_a_table_that_cannot_be_is_refused(fields, reason):
    with pytest.raises(ValueError, match=reason):
        ClassTable(**{"scored": RHYTHMS.scored, **fields})


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_own_classes_are_read_as_spreadsheets_write_them(tmp_path, delimiter):
    lines = ["Code,Name,Abbreviation,Equivalents,Notes", "Sinus rhythm,sinus rhythm,SR,426783006|sinus,x",
             "164889003|AFib,,AFib,,", ",,,,", "pacemaker,paced,Pace,,"]  # fmt: skip
    table = load_own_classes(write_table(tmp_path, "\ufeff" + "\r\n".join(lines).replace(",", delimiter)))
    assert table.scored == (
        Diagnosis("SR", ("Sinus rhythm", "426783006", "sinus"), "sinus rhythm"),
        Diagnosis("AFib", ("164889003", "AFib"), "AFib"),
        Diagnosis("Pace", ("pacemaker",), "paced"),
    )
    assert table.sinus == 0 and table.trained_classes == ("SR", "AFib", "Pace") and table.additional == ()


def test_an_abbreviation_of_the_challenge_is_equivalent_to_its_code(tmp_path):
    """A header may have either, and its abbreviations become codes when it is read."""
    table = load_own_classes(write_table(tmp_path, "abbreviation,code\nFib,AF\n"))
    assert table.scored == (Diagnosis("Fib", ("AF", "164889003"), "Fib"),)
    path = write_table(tmp_path, "abbreviation,code\nFib,AF\nOther,164889003\n")
    with pytest.raises(ValueError, match="classes.csv: code '164889003' is of two classes, Fib and Other"):
        load_own_classes(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ", line 1: expected the columns abbreviation and code, each once, received an empty file"),
        ("abbreviation,name\nA,b\n", ", line 1: expected the columns"),
        ("abbreviation,code,name,name\nA,1,b,c\n", ", line 1: expected the columns"),
        ("abbreviation,code\n", ": no class in this table"),
        ("abbreviation,code\nA,1\nB,2\na,3\nC C,4\n", ", line 4: abbreviation 'a' is there twice"),
        ("abbreviation,code\nA,1\n\nB,1\n", ", line 4: code '1' is of two classes, A and B"),
        ("abbreviation,code\nA,|\n", ", line 2: A: expected a code"),
        ("abbreviation,code\nA\n", ", line 2: expected 2 values, received 1"),
    ],
)
def test_a_file_that_is_no_table_of_classes_is_refused_with_its_line(tmp_path, text, reason):
    path = write_table(tmp_path, text)
    with pytest.raises(ValueError) as refusal:
        read_class_table(path)
    assert str(refusal.value).startswith(f"{path}{reason}")


def test_weights_of_own_classes_name_a_class_by_code_or_abbreviation(tmp_path):
    path = tmp_path / "weights.csv"
    path.write_text(",Pace,Sinus rhythm,164889003\nPace,1,2,3\nSinus rhythm,4,5,6\n164889003,7,8,9\n")
    assert load_class_weights(path, RHYTHMS) == ((5, 6, 4), (8, 9, 7), (2, 3, 1))
    assert load_own_weights(path, RHYTHMS) == ((5, 6, 4), (8, 9, 7), (2, 3, 1))
    path.write_text(",Pace,SR,AFib\nPace,1,0,0\nSR,0,1,0\nAFib,0,0,1\n")
    assert load_own_weights(path, RHYTHMS) is None
    path.write_text(",Pace,SR\nPace,1,0\nSR,0,1\n")
    with pytest.raises(ValueError, match="weights.csv, first row: no column for AFib"):
        load_own_weights(path, RHYTHMS)
