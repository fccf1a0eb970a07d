"""A model or recordings that change while the server runs are noticed, and versions never mix."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from web import stand_in_worker
from web.conftest import StandInRunner, make_prediction

from ecg.commands.serve import ServerSettings, open_workbench
from ecg.data.labels import CLASS_INDEX, TRAINED_CLASSES
from ecg.data.records import find_records
from ecg.models.decision import Rule
from ecg.runtime.executors import ONE_PROCESS
from ecg.web import predictor as predictor_module
from ecg.web.catalogue import CHANGED, load_catalogue
from ecg.web.changes import DataWatch, ModelChanged, ModelWatch
from ecg.web.prediction_worker import LeadSetModel, ModelFacts, PackedEvidence
from ecg.web.predictions import FAILED, PREDICTED, UNKNOWN
from ecg.web.predictor import BackgroundTask, Predictor


@pytest.fixture
def data(synthetic_recordings, tmp_path):
    """Five recordings."""
    folder = tmp_path / "data"
    folder.mkdir()
    for path in find_records(synthetic_recordings)[:5]:
        shutil.copy2(path, folder)
        shutil.copy2(path.with_suffix(".mat"), folder)
    return folder


@pytest.fixture
def bench(data, make_bench, tmp_path):
    evidence = PackedEvidence(("I",), np.zeros((1, 2), np.uint8), 0.02, np.zeros(1))
    runner = StandInRunner(lambda name, *_: evidence if name == "explain_record" else make_prediction(NSR=0.7))
    return make_bench(load_catalogue(data, tmp_path / "cache", executor=ONE_PROCESS), runner, reviewer="Ann")


def edit(path):
    path.write_bytes(path.read_bytes() + b"#\n")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


class TestData:
    @pytest.mark.parametrize("extension", [".hea", ".mat"])
    @pytest.mark.parametrize("change", [edit, Path.unlink])
    def test_a_recording_that_changed_is_not_shown_with_what_was_known_of_it(
        self, bench, make_client, extension, change
    ):
        client, keys = make_client(bench), bench.catalogue.keys
        explained = {"class": "NSR", "method": "occlusion"}
        assert client.get("/api/explanation", params={"record": keys[1]} | explained).status_code == 200, "and is kept"
        change(bench.catalogue.path(1).with_suffix(extension))
        for path, parameters in (("recording", {}), ("signal", {}), ("signal", {"kind": "filtered"}),
                                 ("explanation", explained)):  # fmt: skip
            answer = client.get(f"/api/{path}", params={"record": keys[1]} | parameters)
            assert (answer.status_code, answer.json()) == (409, {"error": CHANGED}), path
            assert client.get(f"/api/{path}", params={"record": keys[0]} | parameters).status_code == 200
        review = {"record": keys[1], "class": "AF", "verdict": "absent"}
        assert client.post("/api/reviews", json=review).status_code == 201, "what was seen before can be judged"

    def test_a_prediction_of_another_version_is_not_stored(self, bench):
        tasks = [bench.find_background_task() for _ in range(2)]
        edit(bench.catalogue.path(0).with_suffix(".mat"))
        for task in tasks:
            task.store(make_prediction(NSR=0.7))
        assert bench.predictions.state.tolist() == [FAILED, PREDICTED, UNKNOWN, UNKNOWN, UNKNOWN]
        assert bench.predictions.reasons[0] == CHANGED
        edit(bench.catalogue.path(2))
        bench.predict_row(2)
        assert bench.predictions.state[2] == FAILED

    def test_the_server_says_what_was_added_removed_and_changed(self, bench, data, make_client):
        bench.data_watch, client = DataWatch(bench.catalogue), make_client(bench)
        bench.data_watch.look()
        assert client.get("/api/session").json()["notices"] == []
        paths = find_records(data)
        for number in range(2):
            shutil.copy(paths[0], data / f"X{number}.hea")
        paths[0].unlink()
        edit(paths[1].with_suffix(".mat"))
        bench.data_watch.look()
        assert client.get("/api/session").json()["notices"] == [
            "Since the server started: 2 recordings added, 1 recording removed, 1 recording changed. Start the server "
            "again to take this up."
        ]
        shutil.move(data, data.with_name("moved"))
        bench.data_watch.look()
        assert "cannot be listed" in bench.data_watch.notice

    def test_a_file_of_samples_may_have_another_extension(self, data, tmp_path):
        path = find_records(data)[0]
        path.with_suffix(".mat").rename(path.with_suffix(".MAT"))
        catalogue = load_catalogue(data, tmp_path / "cache", executor=ONE_PROCESS)
        assert not catalogue.is_changed(0)
        edit(path.with_suffix(".MAT"))
        assert catalogue.is_changed(0)


class TestModel:
    @pytest.fixture
    def model(self, tmp_path):
        folder = tmp_path / "model"
        folder.mkdir()
        for name in ("12_leads.json", "12_leads.weights.h5", "12_leads.2.weights.h5", "report.html"):
            (folder / name).write_text(name)
        return folder

    @pytest.mark.parametrize("name", ["12_leads.json", "12_leads.2.weights.h5", "2_leads.json"])
    def test_another_model_counts_as_changed_for_ever(self, model, name):
        watch, moved = ModelWatch(model), model.with_name("moved")
        edit(model / "report.html")
        watch.check()
        shutil.copytree(model, moved)
        (model / name).write_text("another")
        with pytest.raises(ModelChanged):
            watch.check()
        shutil.rmtree(model)
        moved.rename(model)
        with pytest.raises(ModelChanged, match="Start the server again"):
            watch.check()

    @pytest.mark.slow
    def test_nothing_is_predicted_by_another_model(self, model, bench, make_client, monkeypatch):
        monkeypatch.setattr(predictor_module, "run_worker", stand_in_worker.run_worker)
        predictor, stored = Predictor(model), []
        predictor.start()
        try:
            assert predictor.submit("echo", 1).result(timeout=60)[0] == 1
            running = predictor.submit("sleep", 1.5)
            edit(model / "12_leads.json")
            with pytest.raises(ModelChanged):
                running.result(timeout=60)
            with pytest.raises(ModelChanged):
                predictor.submit("echo", 1).result(timeout=60)
            task = BackgroundTask(Path("x"), stored.append, stored.append, lambda: None)
            predictor.find_background_task = lambda: task
            predictor.wake()
            bench.runner, bench.model_watch, client = predictor, predictor.watch, make_client(bench)
            parameters = {"record": bench.catalogue.keys[0], "class": "NSR", "method": "occlusion"}
            answer = client.get("/api/explanation", params=parameters)
            assert answer.status_code == 409 and "The model has changed" in answer.json()["error"]
            assert client.get("/api/recording", params=parameters).json()["probabilities"] is None
            [notice] = client.get("/api/session").json()["notices"]
            assert notice.startswith("The model has changed") and "earlier model" in notice
            assert not stored
        finally:
            predictor.close()


def test_predictions_are_kept_apart_for_folders_of_the_same_name(data, tmp_path):
    """Names, sizes and times of their files may be the same, too, as of files from an archive."""

    def start(folder):
        model = LeadSetModel(TRAINED_CLASSES, Rule(np.full(26, 0.6)), False, False)
        runner = StandInRunner(lambda *task: ModelFacts("cai2021", {12: model}, "key" * 9, {}))
        runner.watch = ModelWatch(tmp_path)
        settings = ServerSettings(tmp_path / "model", folder, tmp_path / "reviews")
        bench = open_workbench(settings, runner)
        bench.data_watch.close()
        return bench

    other_data = tmp_path / "x" / "data"
    shutil.copytree(data, other_data)
    bench = start(data)
    bench.predictions.store(0, make_prediction(NSR=0.9))
    bench.predictions.save()
    assert start(other_data).predictions.counts()["predicted"] == 0
    link = tmp_path / "link"
    link.symlink_to(data)
    for folder in (data, link, tmp_path / "x" / ".." / "data"):
        assert start(folder).predictions.probabilities[0, CLASS_INDEX["NSR"]] == np.float32(0.9)
