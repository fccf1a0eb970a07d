"""The benchmark of pretraining scores a network with and without real recordings."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import pretraining
from ecg.data.synthetic import synthesize
from ecg.models.network_settings import NetworkSettings
from ecg.training.settings import TrainingSettings

QUICK = TrainingSettings(epochs=1, batch=16, steps=2)


def test_perfect_and_empty_predictions_have_their_scores():
    labels = np.zeros((40, 26), bool)
    labels[np.arange(40), np.arange(40) % 4] = True
    perfect = pretraining.score(labels, labels * 0.8 + 0.1, labels, labels, np.arange(4))
    assert perfect == pretraining.Scores(1.0, 1.0, 1.0, 1.0, 1.0)
    nothing = pretraining.score(labels, labels * 0.8 + 0.1, labels, np.zeros_like(labels), np.arange(4))
    assert nothing.credit < 0.5 and nothing.classes == 0


def test_a_row_has_mean_and_range():
    rows = pretraining.format_rows({"a": [pretraining.Scores(*[x] * 5) for x in (0.1, 0.2, 0.6)]})
    assert rows == [("variant", "auroc", "auprc", "thresholds", "credit", "classes"),
                    ("a", *["0.300 [0.100, 0.600]"] * 5)]  # fmt: skip


@pytest.mark.slow
@pytest.mark.keras
def test_a_variant_is_measured_and_its_splits_share_the_pretraining(tmp_path, monkeypatch, capsys):
    synthesize(tmp_path / "data", 48, 1)
    small = {"network": NetworkSettings(width=4, kernels=(3, 3), hidden=8), "training": QUICK, "resamples": 2}
    variant = replace(pretraining.pretrained(20, training=QUICK), **small)
    monkeypatch.setattr(pretraining, "VARIANTS", {"small": variant})
    monkeypatch.setattr(pretraining, "CALIBRATED_ON", 10)
    arguments = [
        str(tmp_path / "data"),
        str(tmp_path / "folder"),
        "--variants",
        "small",
        "--splits",
        "2",
        "--jobs",
        "1",
    ]
    pretraining.main([*arguments, "--leads", "2"])
    assert "small, no real recording" in capsys.readouterr().out
    path = tmp_path / "folder/scores_2_leads.json"
    first = path.read_text()
    assert [len(rows) for rows in json.loads(first).values()] == [2, 2]
    assert len(list((tmp_path / "folder/2_leads").glob("pretraining*"))) == 1
    pretraining.main([*arguments, "--leads", "2"])
    assert path.read_text() == first
    assert "round 2, 2 leads: loaded from cache" in capsys.readouterr().out
