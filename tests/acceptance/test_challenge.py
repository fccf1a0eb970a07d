"""The stand-ins for the Challenge's scripts, and what counts as lost on the whole way."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
from result_helpers import make_bundle

from benchmarks.challenge import (
    AUDITED,
    Outcome,
    check_audit,
    check_outputs,
    check_scores,
    check_training,
    copy_entry,
    describe_outcome,
)
from ecg.commands.audit import audit
from ecg.data.labels import TRAINED
from ecg.data.leads import LEAD_SETS
from ecg.data.store import build_store
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.data.synthetic_defects import DEFECTS
from ecg.models.bundle import save_bundle
from ecg.runtime.executors import ONE_PROCESS

ROOT = Path(__file__).parents[2]
SOURCE_OF_LEADS = dict(zip(LEAD_SETS, ("Georgia", "PTB-XL", "CPSC", "CPSC-Extra", "Ningbo"), strict=True))


@pytest.fixture(scope="module")
def dirty(tmp_path_factory):
    """A folder of 60 recordings with every defect, and the truth about them."""
    folder = tmp_path_factory.mktemp("dirty")
    return folder, synthesize(folder, 60, seed=8)


@pytest.mark.slow
def test_the_stand_in_and_our_script_write_the_same_outputs_in_all_lead_sets(small_network, tmp_path):
    """300 recordings with every defect, 60 of each lead set, in one flat folder."""
    data, model, entry = tmp_path / "data", tmp_path / "model", tmp_path / "entry"
    truths = []
    for count, leads in LEAD_SETS.items():
        keras.utils.set_random_seed(count)
        network = small_network.build(count, None, len(TRAINED))
        save_bundle(make_bundle(leads, small_network, np.full(26, 0.5), network), model)
        truths += synthesize(
            data, 60, seed=count, settings=SyntheticSettings(leads=leads, sources={SOURCE_OF_LEADS[count]: 1.0})
        )
    assert {name for expected in truths for name in expected.defects} == {defect.name for defect in DEFECTS}
    copy_entry(entry)
    for script, outputs in ((entry / "test_model.py", "theirs"), (ROOT / "test_model.py", "ours")):
        command = [sys.executable, script, model, data, tmp_path / outputs]
        run = subprocess.run(command, cwd=entry, capture_output=True, text=True)
        assert run.returncode == 0 and "Traceback" not in run.stderr, run.stderr
    assert "300 of 300 recordings predicted, 0 failed" in run.stdout
    assert len(list((tmp_path / "theirs").iterdir())) == 300
    assert check_outputs(tmp_path / "theirs", tmp_path / "ours", truths) == []
    shutil.copy(tmp_path / "ours" / f"{truths[0].name}.csv", tmp_path / "ours" / f"{truths[1].name}.csv")
    (tmp_path / "theirs" / f"{truths[2].name}.csv").write_text("#x\n\n\n\n")
    faults = check_outputs(tmp_path / "theirs", tmp_path / "ours", truths)
    assert [fault.split(" ")[1] for fault in faults] == [
        f"ours/{truths[1].name}.csv", f"theirs/{truths[2].name}.csv", f"ours/{truths[2].name}.csv"]  # fmt: skip


def test_every_defect_is_listed_by_the_audit_and_one_that_is_not_is_a_fault(dirty, tmp_path):
    data, truths = dirty
    audit(data, tmp_path / "audit", executor=ONE_PROCESS)
    assert check_audit(tmp_path / "audit", truths) == []
    table = tmp_path / "audit" / "defects.csv"
    lines = table.read_text().splitlines()
    kept = [line for line in lines if "marked invalid" not in line]
    assert len(kept) < len(lines)
    table.write_text("\n".join(kept) + "\n")
    missing = [expected.name for expected in truths if "marked samples" in expected.defects]
    assert check_audit(tmp_path / "audit", truths) == [
        f"audit: {name} is not listed as {AUDITED['marked samples']}" for name in missing
    ]


def test_every_recording_and_repair_is_in_the_report_and_one_that_is_not_is_a_fault(dirty, tmp_path):
    data, truths = dirty
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    report = {
        "excluded": [{"record": name, "reason": reason} for name, reason in store.excluded],
        "split": [{"record": name} for name in store.names.tolist()],
        "repaired": [{"record": name, "kind": repair.kind} for name, repair in store.repaired],
        "unknown_codes": [{"code": code} for code, _ in store.unknown_codes],
    }
    report = json.loads(json.dumps(report))
    assert check_training(report, truths) == []
    lost = report["split"].pop()["record"]
    assert check_training(report, truths) == [f"training: {lost} is not used"]
    assert len(check_training(report | {"repaired": []}, truths)) > 4
    assert any("unknown code" in fault for fault in check_training(report | {"unknown_codes": []}, truths))


@pytest.mark.parametrize("line", ["0.500,0.100,0.000,0.200,nan", "0.500,0.100,0.000,0.200", "0,0,0,0,inf"])
def test_a_metric_that_is_no_number_is_a_fault(line):
    assert check_scores("0.500,nan,0.000,0.200,-0.250", 12) == []
    assert check_scores(line, 12) == [f"scores: {line} with 12 leads"]


def test_faults_are_counted_and_listed_last():
    outcome = Outcome({12: "0.5,0.1,0,0.2,-0.25"}, {"audit": 1.0}, Counter(), Counter(), ["lost", "different"])
    assert describe_outcome(outcome)[-3:] == ["2 faults", "lost", "different"]
    assert describe_outcome(outcome._replace(faults=[]))[-1] == "0 faults"
