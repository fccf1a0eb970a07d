import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from ecg.data.labels import ABBREVIATIONS, CLASS_INDEX, TRAINED_CLASSES
from ecg.models.decision import Rule
from ecg.runtime.executors import ONE_PROCESS
from ecg.web.access import Access
from ecg.web.app import create_app
from ecg.web.catalogue import load_catalogue
from ecg.web.prediction_worker import LeadSetModel, ModelFacts
from ecg.web.predictions import PredictionTable, RecordPrediction
from ecg.web.review_book import ReviewBook
from ecg.web.sessions import SessionSigner
from ecg.web.workbench import ReviewSettings, Workbench

TESTS = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ORIGIN = "http://127.0.0.1:8000"
METHODS = {"NSR": ("occlusion",)}
COVERED = np.isin(ABBREVIATIONS, TRAINED_CLASSES)


def make_prediction(**probabilities):
    """A prediction with these probabilities by class, and 0.5 for others, of a model with thresholds of 0.6."""
    values = np.where(COVERED, 0.5, 0).astype(np.float32)
    for name, value in probabilities.items():
        values[CLASS_INDEX[name]] = value
    return RecordPrediction(values, (values >= 0.6) & COVERED, COVERED, 12)


class StandInRunner:
    """Answers tasks at once, by a function of the task's name and arguments."""

    def __init__(self, perform=lambda name, *arguments: make_prediction(NSR=0.7)):
        self.perform, self.tasks, self.lock = perform, [], threading.Lock()

    def submit(self, name, *arguments):
        future = Future()
        with self.lock:
            self.tasks.append((name, *arguments))
        try:
            future.set_result(self.perform(name, *arguments))
        except Exception as error:  # noqa: BLE001
            future.set_exception(error)
        return future

    def wake(self):
        pass

    def close(self):
        pass


@pytest.fixture(scope="session")
def catalogue(synthetic_recordings, tmp_path_factory):
    return load_catalogue(synthetic_recordings, tmp_path_factory.mktemp("catalogue"), executor=ONE_PROCESS)


@pytest.fixture
def make_bench(catalogue, tmp_path):
    """A function that returns a workbench of the synthetic recordings, or of other ones."""

    def make(recordings=catalogue, runner=None, rule=None, methods=METHODS, **settings):
        model = LeadSetModel(TRAINED_CLASSES, rule or Rule(np.full(26, 0.6)), False, False)
        facts = ModelFacts("cai2021", {12: model}, "key", methods)
        table = PredictionTable(recordings, tmp_path / "reviews" / ".cache" / "predictions", "key", np.empty(0, int))
        book, signer = ReviewBook(tmp_path / "reviews"), SessionSigner(b"k" * 32)
        return Workbench(recordings, table, facts, book, signer, ReviewSettings(**settings), runner or StandInRunner())

    return make


@pytest.fixture
def make_client():
    """A function that returns a client of a workbench, as a browser on this machine.

    The default reviewer of the workbench, if it has one, has logged in.
    """
    clients = []

    def make(bench, access=Access(), logs_in=True, **options):  # noqa: B008
        client = TestClient(create_app(bench, access), base_url=ORIGIN, raise_server_exceptions=False, **options)
        clients.append(client)
        if bench.settings.reviewer and logs_in:
            assert client.post("/api/login", json={"reviewer": bench.settings.reviewer}).status_code == 200
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(make_client, make_bench):
    return make_client(make_bench())


def launch_server(data, folder, host="127.0.0.1", **options):
    """Start a server in a process of its own; return the process, its port and its token (see `stand_in_server`)."""
    settings = [f"{name}={value}" for name, value in options.items()]
    arguments = [sys.executable, "-m", "web.stand_in_server", data, folder / "reviews", host, *settings]
    path = f"{TESTS}:{TESTS.parent}"
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path})
    lines = iter(process.stdout.readline, "")
    port, token = next(line for line in lines if line[0].isdigit()).rstrip("\n").split(" ")
    return process, int(port), token


def stop_server(process):
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def start_server(synthetic_recordings, tmp_path):
    """A function that starts a server; see `launch_server`."""
    processes = []

    def start(data=synthetic_recordings, **options):
        server = launch_server(data, tmp_path, **options)
        processes.append(server[0])
        return server

    yield start
    for process in processes:
        stop_server(process)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
