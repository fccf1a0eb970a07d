"""The benchmark of PTB-XL's superclasses, by the commands of its page: from the folder to the macro AUROC."""

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ecg.__main__ import main
from tests.ptb_xl_files import record_path, write_ptb_xl, write_table

PAGE = (Path(__file__).parents[2] / "docs" / "ptb-xl.md").read_text("utf-8")
NAMES = ("NORM", "MI", "STTC", "CD", "HYP")
# The recordings of each fold: statements, and their superclasses by the published table of statements.
KINDS = (
    ("{'NORM': 100.0, 'SR': 0.0}", {"NORM"}), ("{'IMI': 35.0, 'ABQRS': 0.0}", {"MI"}),
    ("{'NDT': 0.0, 'AFIB': 0.0}", {"STTC"}), ("{'CLBBB': 100.0, 'ASMI': 15.0}", {"CD", "MI"}),
    ("{'LVH': 50.0, 'ISC_': 100.0}", {"HYP", "STTC"}), ("{'SR': 0.0, 'PVC': 100.0}", set()),
)  # fmt: skip
# What makes the training small. Nothing else differs from the page.
SMALL = ["--width", "2", "--epochs", "1", "--batch", "16", "--jobs", "1"]


def block(language, containing):
    """Return the block of code of the page that contains a text, without its margin."""
    blocks = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", PAGE, re.MULTILINE | re.DOTALL)
    [(margin, code)] = [(margin, code) for margin, kind, code in blocks if kind == language and containing in code]
    return re.sub(rf"^{margin}", "", code, flags=re.MULTILINE)


@pytest.fixture
def folds(tmp_path):
    """Write a folder like PTB-XL; return fold and superclasses of each recording, by name."""
    rows = {}
    for fold in range(1, 11):
        for statements, _ in KINDS:
            number = len(rows) + 1
            rows[number] = (number, 60.0, number % 2, "", "", "", statements, "", "", True, "", fold)
    write_ptb_xl(tmp_path / "PTB-XL", rows)
    write_table(tmp_path / "PTB-XL", rows)
    return {record_path(number, 500): (row[-1], KINDS[(number - 1) % len(KINDS)][1]) for number, row in rows.items()}


@pytest.mark.slow
def test_the_commands_lead_from_the_folder_to_the_macro_auroc_of_the_superclasses(folds, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("split_ptb_xl.py").write_text(block("python", "strat_fold"))
    Path("superclasses.csv").write_text(block("text", "abbreviation,name,code"))
    for line in block("", "split_ptb_xl.py PTB-XL").splitlines():
        program, *arguments = shlex.split(line)
        if program == "python":
            subprocess.run([sys.executable, *arguments], check=True)
        else:
            capsys.readouterr()
            main([*arguments, *(SMALL if arguments[0] == "train" else ())])

    with open("MODEL/report/split.csv", newline="") as file:
        splits = {row["record"]: row["split"] for row in csv.DictReader(file)}
    assert splits == {
        name: "validation" if fold == 9 else "training"
        for name, (fold, superclasses) in folds.items()
        if superclasses and fold != 10
    }
    tested = {name: superclasses for name, (fold, superclasses) in folds.items() if superclasses and fold == 10}
    outputs = {path.relative_to("OUTPUT").with_suffix("").as_posix(): path for path in Path("OUTPUT").rglob("*.csv")}
    assert outputs.keys() == tested.keys() and len(tested) == 5
    labels = np.array([[name in superclasses for name in NAMES] for superclasses in tested.values()])
    lines = [outputs[name].read_text().splitlines() for name in tested]
    assert {codes for _, codes, *_ in lines} == {",".join(f"PTB-XL:{name}" for name in NAMES)}
    probabilities = np.array([[float(value) for value in line.split(",")] for _, _, _, line in lines])
    header, values = capsys.readouterr().out.splitlines()
    printed = dict(zip(header.split(","), map(float, values.split(",")), strict=True))
    assert printed["AUROC"] == pytest.approx(roc_auc_score(labels, probabilities, average="macro"), abs=6e-4)
