import csv
from pathlib import Path

import numpy as np
import pytest

from ecg import labels


def test_classes_are_those_of_the_weights_in_their_order():
    with open(Path(__file__).parents[1] / "weights.csv", newline="") as file:
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
    assert [labels.ABBREVIATIONS[column] for column in np.flatnonzero(labels.encode(codes))] == names


def test_twenty_two_classes_are_trained_and_expand_puts_zeros_between():
    assert len(labels.TRAINED) == 22
    wide = labels.expand(np.arange(1.0, 45.0).reshape(2, 22))
    assert wide.shape == (2, 26)
    np.testing.assert_array_equal(wide[:, labels.TRAINED], np.arange(1.0, 45.0).reshape(2, 22))
    assert not wide[:, [labels.COLUMN[name] for name in labels.DROPPED]].any()


@pytest.mark.parametrize(
    ("name", "source"),
    [("A0001", "CPSC"), ("Q3581", "CPSC-Extra"), ("I0074", "INCART"), ("S0549", "PTB"), ("HR21837", "PTB-XL"),
     ("E10344", "Georgia"), ("JS10646", "Chapman-Shaoxing"), ("JS10647", "Ningbo"), ("LUDB014", "LUDB"),
     ("00003_hr", "unknown"), ("JS", "JS")],
)  # fmt: skip
def test_source_of(name, source):
    assert labels.source_of(name) == source
