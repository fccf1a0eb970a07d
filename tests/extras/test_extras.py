"""Each extra does what it is for in an environment without anything else, installed as a user installs it.

An environment holds the package's wheel, what this requires, and one extra or none, in the versions of the lock file.
The tests write files and models here and run the commands there.
"""

import json
import os
import platform
import subprocess
import sys
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest
from device_files import FORMATS
from export_helpers import SHALLOW, check_prediction, make_exported_bundle, run_example
from hospital_files import LEADS, MILLIVOLTS, WRITERS
from lock_files import read_lock

import ecg
from ecg.data.labels import TRAINED
from ecg.data.records import read_record
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.models.bundle import save_bundle

pytestmark = pytest.mark.extras
ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
# What each extra installs, as Python imports it.
PACKAGES = {
    "distributed": ("distributed", "dask"),
    "formats": ("ecgdatakit", "pydicom"),
    "litert": ("ai_edge_litert",),
    "onnx": ("onnx", "onnxruntime"),
    "peaks": ("neurokit2",),
    "web": ("starlette", "uvicorn", "python_multipart"),
}
# Settings that the start of Keras leaves in this process, and what would make this checkout importable.
NOT_HANDED_ON = ("TF_", "KERAS_", "JAX_", "XLA_", "PYTHON")


class Environment(NamedTuple):
    """A virtual environment with the package.

    Attributes:
        folder: Its folder.
        work: The folder in which its programs run.
    """

    folder: Path
    work: Path

    @property
    def python(self):
        return self.folder / "bin" / "python"

    def start(self, program, *arguments, **options):
        """Start a program of the environment."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(NOT_HANDED_ON)}
        command = [self.folder / "bin" / program, *map(str, arguments)]
        return subprocess.Popen(command, cwd=self.work, env=variables, text=True, stdin=subprocess.DEVNULL, **options)

    def fail(self, *arguments):
        """Run a program that ends with status 1 and prints one line, and return this."""
        with self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            printed, errors = process.communicate()
        assert (process.returncode, printed, errors.count("\n")) == (1, "", 1), errors
        return errors.strip()

    def run(self, *arguments):
        """Run a program that succeeds, and return what it printed."""
        with self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            printed, errors = process.communicate()
        assert process.returncode == 0, errors
        return printed

    def find_packages(self, names):
        """Return those of these packages that can be imported."""
        code = "import sys, importlib.util; print(*filter(importlib.util.find_spec, sys.argv[1:]))"
        return set(self.run("python", "-c", code, *names).split())

    def list_distributions(self):
        """Return the versions of what is installed, by name."""
        printed = run_uv("pip", "list", "--quiet", "--format", "json", "--python", self.python)
        return {item["name"].lower(): item["version"] for item in json.loads(printed)}


def run_uv(*arguments):
    """Run uv without a configuration of the user's, and return what it printed."""
    done = subprocess.run([UV, *map(str, arguments), "--no-config"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def make_environment(wheel, tmp_path_factory):
    """A function that makes an environment with the package and an extra, or none.

    uv links the files from its cache, so that an environment takes seconds and little of the disk.
    """

    def make(extra=""):
        name = extra or "none"
        environment = Environment(ROOT / "build" / "extras" / name, tmp_path_factory.mktemp(name))
        requirement = f"reduced-lead-ecg{f'[{extra}]' * bool(extra)} @ {wheel.as_uri()}"
        run_uv("venv", "--quiet", "--clear", "--python", sys.executable, environment.folder)
        run_uv("pip", "install", "--quiet", "--python", environment.python, "--constraints", ROOT / "locks/dev.txt",
               requirement)  # fmt: skip
        assert environment.find_packages(sum(PACKAGES.values(), ())) == set(PACKAGES.get(extra, ()))
        return environment

    return make


@pytest.fixture(scope="module")
def without_extra(make_environment):
    """An environment with the required packages alone."""
    return make_environment()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of four recordings without faults."""
    folder = tmp_path_factory.mktemp("data")
    synthesize(folder, 4, 1, SyntheticSettings(clean=True))
    return folder


@pytest.fixture(scope="module")
def record(data):
    """The path of the header of one of them."""
    return min(data.glob("*.hea"))


@pytest.fixture(scope="module")
def bundle():
    """A model of two leads with random weights."""
    return make_exported_bundle(2, SHALLOW)


@pytest.fixture(scope="module")
def model(bundle, tmp_path_factory):
    """The folder of the model."""
    folder = tmp_path_factory.mktemp("model")
    save_bundle(bundle, folder)
    return folder


def test_every_extra_is_tested():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(PACKAGES) == set(extras) - {"cuda", "dev", "docs"}


def test_the_package_alone_stays_at_the_required_packages(without_extra):
    locked = read_lock("cpu", platform.python_version())
    assert without_extra.list_distributions() == locked | {"reduced-lead-ecg": ecg.__version__}


def test_without_an_extra_recordings_are_made_predicted_and_scored(without_extra, model, bundle):
    assert without_extra.run("python", "-m", "ecg", "--help").startswith("usage: python -m ecg ")
    without_extra.run("ecg", "synthesize", "data", "--records", 3, "--clean", "--leads", 2)
    without_extra.run("ecg", "predict", model, "data", "outputs", "--jobs", 1)
    without_extra.run("ecg", "evaluate", "data", "outputs")
    records = [*(without_extra.work / "data").glob("*.hea")]
    assert len(records) == 3
    for record in records:
        rows = (without_extra.work / "outputs" / f"{record.stem}.csv").read_text().splitlines()
        expected = bundle.predict_recording(*read_record(record))
        np.testing.assert_allclose([float(cell) for cell in rows[3].split(",")], expected.probabilities, atol=1e-5)


@pytest.mark.parametrize("extra", PACKAGES)
def test_a_command_without_its_extra_names_it_in_one_line(extra, without_extra, model, data, record):
    command = {
        "distributed": ("audit", data, "--cluster", "127.0.0.1:1"),
        "formats": ("convert", data, "--output", "converted"),
        "litert": ("export", model, "--leads", 2, "--output", "model.tflite"),
        "onnx": ("export", model, "--leads", 2, "--output", "model.onnx"),
        "peaks": ("plot", record, "--peaks"),
        "web": ("serve", model, data),
    }[extra]
    line = without_extra.fail("ecg", *command)
    assert line.startswith("ecg: error: ") and "pip install '" in line and line.endswith(f"[{extra}]'")
    assert any(package in line.lower() for package in PACKAGES[extra])


def test_formats_converts_files_of_hospitals(make_environment, tmp_path):
    for kind, (write, ending, *_) in (WRITERS | FORMATS).items():
        write(tmp_path / f"{kind.replace(' ', '_').replace(',', '')}{ending}")
    environment = make_environment("formats")
    environment.run("ecg", "convert", tmp_path, "--output", "records", "--keep-identity")
    headers = sorted((environment.work / "records").glob("*.hea"))
    assert len(headers) == len(WRITERS | FORMATS)
    for path in headers:
        header, samples = read_record(path)
        gains, baselines = (np.array([[getattr(lead, name)] for lead in header.leads]) for name in ("gain", "baseline"))
        expected = MILLIVOLTS.T[[LEADS.index(lead) for lead in header.lead_names]]
        np.testing.assert_allclose((samples - baselines) / gains, expected, atol=5e-3)


@contextmanager
def cluster_of(environment):
    """Run a scheduler and a worker of the environment, as the page on clusters starts them; yield the address."""
    file, log = environment.work / "scheduler.json", environment.work / "cluster.log"
    scheduler = ("scheduler", "--host", "127.0.0.1", "--port", 0)
    worker = ("worker", "--nthreads", 1, "--local-directory", environment.work)
    with open(log, "w") as output:
        started = [environment.start("dask", *arguments, "--scheduler-file", file, "--no-dashboard", stdout=output,
                                     stderr=output) for arguments in (scheduler, worker)]  # fmt: skip
        try:
            while not (file.exists() and file.read_text().endswith("}")):
                assert started[0].poll() is None, log.read_text()
                time.sleep(0.1)
            yield json.loads(file.read_text())["address"]
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(60)


def test_distributed_reads_recordings_by_the_workers_of_a_cluster(make_environment, data):
    environment = make_environment("distributed")
    environment.run("ecg", "audit", data, "--output", "by_process", "--jobs", 1)
    with cluster_of(environment) as address:
        environment.run("ecg", "audit", data, "--output", "by_cluster", "--cluster", address)
    tables = [{path.name: path.read_text() for path in (environment.work / folder).glob("*.csv")}
              for folder in ("by_process", "by_cluster")]  # fmt: skip
    assert "recordings.csv" in tables[0] and tables[0] == tables[1]


@pytest.mark.parametrize(("extra", "ending"), [("onnx", ".onnx"), ("litert", ".tflite")])
def test_exports_write_files_that_predict_without_keras(extra, ending, make_environment, model, bundle, record):
    environment = make_environment(extra)
    environment.run("ecg", "export", model, "--leads", 2, "--output", f"model{ending}")
    file = environment.work / f"model{ending}"
    predicted = run_example(f"predict_{extra}.py", file, record, python=environment.python)
    check_prediction(bundle, record, *predicted)


def test_peaks_marks_the_peaks_of_waves(make_environment, record):
    environment = make_environment("peaks")
    environment.run("ecg", "plot", record, "--output", "plain.png")
    environment.run("ecg", "plot", record, "--output", "peaks.png", "--peaks")
    plain, marked = ((environment.work / name).read_bytes() for name in ("plain.png", "peaks.png"))
    assert plain.startswith(b"\x89PNG") and marked.startswith(b"\x89PNG") and marked != plain


def test_web_serves_the_page_a_recording_and_predictions_for_programs(make_environment, model, bundle, data, record):
    environment = make_environment("web")
    files = {"header": record.read_bytes(), "signal": record.with_suffix(".mat").read_bytes()}
    expected = bundle.predict_recording(*read_record(record))
    arguments = ("ecg", "serve", model, data, "--reviews", "reviews", "--port", 0)
    with environment.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            lines = []
            while not (lines and lines[-1].startswith("http://")):
                lines.append(process.stdout.readline())
                assert lines[-1], "".join(lines)
            address, _, token = lines[-1].strip().partition("?token=")
            with httpx.Client(base_url=address, headers={"authorization": f"Bearer {token}"}, timeout=60) as client:
                page, described = client.get("/"), client.get("/api/recording", params={"record": record.stem})
                answer = client.post("/api/predict", files=files)
        finally:
            process.terminate()
    assert page.status_code == described.status_code == answer.status_code == 200, answer.text
    assert "<html" in page.text and described.json()["record"] == record.stem
    probabilities = [item["probability"] for item in answer.json()["classes"]]
    np.testing.assert_allclose(probabilities, expected.probabilities[TRAINED], atol=1e-5)
