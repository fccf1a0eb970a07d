"""The benchmark of corrections: it reviews the most suspected labels by the truth, and tabulates what that brings."""

import json
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import corrections
from ecg.data.labels import TRAINED
from ecg.models.network_settings import NetworkSettings
from ecg.systems import recipes
from ecg.training.settings import TrainingSettings


def make_measures(metric, n_found=0, n_reviewed=0):
    values = dict.fromkeys(corrections.METRICS, metric)
    return values | {"found": n_found, "reviewed": n_reviewed, "wrong": 50, "labels": 1000}


def test_the_table_has_the_shares_and_the_recovered_metric():
    seeds = [
        {"100": make_measures(0.5 + step, 20, 100), "0": make_measures(0.4 + step),
         corrections.CEILING: make_measures(0.6 + step, 50, 50)} for step in (0.0, 0.1)
    ]  # fmt: skip
    _, _, none, reviewed, ceiling = corrections.format_lines(seeds)
    assert none.startswith("| 0 | 0% (0 of 100) | 0.0% | 0.450 (0.400 to 0.500) |") and none.endswith("|  |")
    assert reviewed.startswith("| 100 | 40% (40 of 100) | 10.0% |") and reviewed.endswith("| 50% |")
    assert ceiling.startswith("| true labels | all |  |") and ceiling.endswith("| 100% |")


def test_the_first_labels_of_an_order_are_masked():
    order = np.array([[2, 1], [0, 3], [1, 1]])
    assert np.argwhere(corrections.mask_first(order, 2, (3, 4))).tolist() == [[0, 3], [2, 1]]
    assert not corrections.mask_first(order, 0, (3, 4)).any()


@pytest.mark.slow
@pytest.mark.keras
def test_a_small_measurement_reviews_finds_and_resumes(tmp_path, monkeypatch, capsys):
    training = TrainingSettings(epochs=1, batch=16, steps=2)
    monkeypatch.setattr(corrections, "NETWORK", NetworkSettings(width=4, kernels=(), hidden=8))
    monkeypatch.setattr(corrections, "Settings", lambda **given: replace(
        recipes.Settings(**given), training=training, resamples=2))  # fmt: skip
    arguments = ["--records", "48", "--held-out", "24", "--seeds", "1", "--jobs", "1", "--folder", str(tmp_path),
                 "--folds", "2"]  # fmt: skip
    corrections.main([*arguments, "--reviewed", "0", "1000"])
    (measures,) = json.loads((tmp_path / "corrections.json").read_text()).values()
    assert list(measures) == ["0", "1000", corrections.CEILING] and measures["0"]["folds"] == 2
    everything, ceiling = measures["1000"], measures[corrections.CEILING]
    assert everything["reviewed"] == 1000 and 0 < everything["found"] <= everything["wrong"] <= ceiling["reviewed"]
    assert ceiling["found"] == ceiling["reviewed"]
    assert "| true labels | all |" in capsys.readouterr().out
    corrections.main([*arguments, "--reviewed", "0", "1000"])
    assert "epoch 1" not in capsys.readouterr().out
    with pytest.raises(SystemExit, match="another number of folds"):
        corrections.main([*arguments, "--folds", "0"])


@pytest.mark.slow
@pytest.mark.keras
@pytest.mark.parametrize("folds", [0, 2])
def test_labels_are_ranked_by_probabilities_of_all_recordings(tmp_path, monkeypatch, folds):
    monkeypatch.setattr(corrections, "NETWORK", NetworkSettings(width=4, kernels=(), hidden=8))
    options = Namespace(records=40, held_out=10, jobs=1, masks=False)
    recordings = corrections.prepare_recordings(1, tmp_path, options)
    training = TrainingSettings(epochs=1, batch=16, steps=2)
    recordings = replace(recordings, settings=replace(recordings.settings, training=training, resamples=2))
    order = corrections.rank_labels(recordings, folds)
    probabilities = np.load(tmp_path / f"probabilities {folds} folds.npy")[:, TRAINED]
    assert np.isfinite(probabilities).all() and len(order) == probabilities.size
    suspicion = np.abs(recordings.store.labels - np.load(tmp_path / f"probabilities {folds} folds.npy"))
    assert (np.diff(suspicion[tuple(order.T)]) <= 0).all()
    monkeypatch.setattr(corrections, "train", None)  # is not needed again
    np.testing.assert_array_equal(corrections.rank_labels(recordings, folds), order)
