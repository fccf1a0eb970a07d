import pytest

from ecg.data.labels import code_of, code_status
from ecg.data.statements import DOUBTS, _code_by_phrase, find_all_codes, find_codes, normalise_phrase


@pytest.mark.parametrize(
    "statement, abbreviations, is_covered",
    [
        ("Sinus rhythm with 1st degree AV block", ["NSR", "IAVB"], True),
        ("*** Marked SINUS bradycardia ***", ["SB"], True),
        ("Left axis deviation, Incomplete right bundle branch block", ["LAD", "IRBBB"], True),
        ("Right bundle branch block and left anterior fascicular block", ["RBBB", "LAnFB"], True),
        ("Frequent premature ventricular complexes.", ["PVC"], True),
        ("Nonspecific T wave abnormality", ["TAb"], True),
        ("Atrial fibrillation with rapid ventricular response", ["AF"], False),
        ("AV sequential or dual chamber electronic pacemaker", ["PR"], True),
        ("Normal ECG", [], False),
        ("", [], False),
    ],
)
def test_codes_of_statements(statement, abbreviations, is_covered):
    assert find_codes(statement) == (tuple(map(code_of, abbreviations)), is_covered)


@pytest.mark.parametrize("word", DOUBTS)
def test_a_doubted_or_denied_diagnosis_has_no_code(word):
    assert find_codes(f"{word} atrial fibrillation") == ((), False)
    assert find_codes(f"sinus rhythm, atrial flutter {word.upper()} excluded") == ((), False)


def test_every_phrase_is_normalised_and_has_a_code_of_the_challenge():
    for phrase, code in _code_by_phrase().items():
        assert phrase == normalise_phrase(phrase) and code_status(code) != "unknown", phrase


def test_statements_that_codes_do_not_cover_are_listed_once():
    statements = ["Sinus rhythm", "Normal ECG", "Normal ECG", "Sinus rhythm, LBBB", "..."]
    assert find_all_codes(statements) == ((code_of("NSR"), code_of("LBBB")), ("Normal ECG",))
