import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import team_code
from ecg import synthetic
from ecg.bundle import load_bundle
from ecg.labels import LEAD_SETS, LEADS, expand
from ecg.pipeline import Settings, columns_of, publish, scored_part, split, train
from ecg.records import RecordError, find_records, read_record
from ecg.scoring import challenge_score, load_weights, search_thresholds
from ecg.store import open_store
from ecg.training import TrainingSettings, predict

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def trained(made_up, small, tmp_path_factory):
    """A model folder for 12 and 2 leads, trained for two epochs, its stages kept, and the lines logged."""
    folder, lines = tmp_path_factory.mktemp("model"), []
    settings = Settings(network=small, training=TrainingSettings(epochs=2), lead_sets=(12, 2), keep_stages=True, jobs=1)
    train(made_up, folder, settings, lines.append)
    return folder, settings, lines


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_leaves_models_and_a_report_and_says_what_it_did(trained):
    folder, _, lines = trained
    assert sorted(path.name for path in folder.iterdir()) == [
        "12_leads.json", "12_leads.weights.h5", "2_leads.json", "2_leads.weights.h5", "report", "stages"]  # fmt: skip
    text = "\n".join(lines)
    for said in ("stored", "for validation", "round 1, 12 leads, epoch 2: loss", "masked", "round 2, 2 leads"):
        assert said in text


def test_thresholds_and_scores_are_those_of_the_validation_set(trained):
    folder, settings, _ = trained
    store = open_store(folder / "stages" / "store")
    training, validation = split(len(store), settings)
    assert {row["record"]: row["part"] for row in table(folder / "report" / "split.csv")} == {
        **{str(name): "training" for name in store.names[training]},
        **{str(name): "validation" for name in store.names[validation]},
    }
    weights = load_weights()[1]
    scores = {int(row["leads"]): row for row in table(folder / "report" / "scores.csv")}
    for count in settings.lead_sets:
        bundle = load_bundle(folder, LEAD_SETS[count])
        probabilities = expand(predict(bundle.network, store, validation, columns_of(count), "checking"))
        found = search_thresholds(store.labels[validation], probabilities, weights, settings.resamples, settings.seed)
        np.testing.assert_allclose(bundle.thresholds, found.thresholds)
        score = challenge_score(store.labels[validation], probabilities >= bundle.thresholds, weights)
        assert float(scores[count]["score at 0.5"]) == pytest.approx(found.score_at_half, abs=1e-5)
        assert float(scores[count]["score with one threshold"]) == pytest.approx(found.score_common, abs=1e-5)
        assert float(scores[count]["score with one for each class"]) == pytest.approx(found.score_by_class, abs=1e-5)
        assert float(scores[count]["score as answered"]) == pytest.approx(score, abs=1e-5)


def test_training_and_answering_agree(trained, headers):
    folder, _, _ = trained
    store = open_store(folder / "stages" / "store")
    paths = {path.stem: path for path in headers}
    for leads in ((*reversed(LEADS),), ("II", "I")):
        model = team_code.load_model(folder, leads)
        expected = expand(predict(model.network, store, np.arange(9), columns_of(len(leads)), "checking"))
        for record, name in enumerate(store.names[:9]):
            text, recording = paths[name].read_text(), read_record(paths[name])[1]
            np.testing.assert_allclose(team_code.run_model(model, text, recording)[2], expected[record], atol=1e-5)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_earlier_training_stays_until_the_new_one_is_done(trained, made_up, tmp_path, monkeypatch):
    folder, settings, _ = trained
    model = tmp_path / "model"
    shutil.copytree(folder, model, ignore=shutil.ignore_patterns("stages"))
    before = contents(model)

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr("ecg.pipeline.write_report", fails)
    again = replace(settings, lead_sets=(2,), seed=1, training=TrainingSettings(epochs=1))
    with pytest.raises(OSError, match="disk full"):
        train(made_up, model, again, [].append)
    after = contents(model)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in set(after) - set(before)} == {"stages"}


def test_a_training_is_published_as_a_whole(tmp_path):
    model, finished = tmp_path / "model", tmp_path / "finished"
    for folder, text, names in ((model, "old", ("12_leads", "2_leads")), (finished, "new", ("2_leads",))):
        (folder / "report").mkdir(parents=True)
        (folder / "report" / f"{text}.csv").write_text(text)
        for name in names:
            (folder / f"{name}.json").write_text(text)
            (folder / f"{name}.weights.h5").write_text(text)
    publish(finished, model)
    assert contents(model) == dict.fromkeys(["2_leads.json", "2_leads.weights.h5", "report/new.csv"], b"new")


def test_one_recording_is_too_few_and_two_are_enough_to_part(tmp_path):
    synthetic.synthesize(tmp_path, 1, sources={"Georgia": 1})
    with pytest.raises(RecordError, match="E00001 alone can be used"):
        train(tmp_path, tmp_path / "model", Settings(jobs=1))
    assert [len(part) for part in split(2, Settings())] == [1, 1]


def test_the_split_is_four_to_one_and_depends_on_the_seed_alone():
    training, validation = split(1000, Settings())
    assert len(training) == 800 and sorted([*training, *validation]) == list(range(1000))
    np.testing.assert_array_equal(split(1000, Settings())[1], validation)
    assert (split(1000, Settings(seed=1))[1] != validation).any()


def test_the_score_is_taken_on_georgia_where_there_is_enough_of_it():
    sources = np.array(["Georgia"] * 200 + ["PTB-XL"] * 300)
    assert scored_part(sources, Settings()).sum() == 200
    assert scored_part(sources[1:], Settings()).sum() == 499


def test_columns_of_a_lead_set_are_its_leads():
    for count, leads in LEAD_SETS.items():
        assert tuple(LEADS[column] for column in columns_of(count)) == leads


def run(*arguments):
    """Run a script of ours as a user does; return what it printed."""
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_the_whole_entry_on_made_up_recordings(tmp_path):
    """Default settings, 1,000 recordings; the truth would score 1, or less where headers do not tell it."""
    data, held_out, model, outputs = (tmp_path / name for name in ("data", "held_out", "model", "outputs"))
    synthetic.synthesize(data, 1000, seed=1, jobs=2)
    synthetic.synthesize(held_out, 400, seed=2, jobs=2)
    said = run("train_model.py", data, model)
    assert said.stderr == "" or all(line.endswith("left") or ", loss " in line for line in said.stderr.splitlines())
    run("test_model.py", model, held_out, outputs)
    scores = run("evaluate_model.py", held_out, outputs).stdout.splitlines()[-1].split(",")
    assert float(scores[-1]) > 0.6
    assert len(os.listdir(outputs)) == len(find_records(held_out))
    assert set(json.loads((model / "12_leads.json").read_text())["leads"]) == set(LEADS)
