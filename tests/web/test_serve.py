"""The command `serve` with a real model: it predicts, resumes, and ends as it should."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
import scipy.io
from result_helpers import make_bundle

from ecg.commands.sample import ErrorSample, write_sample
from ecg.commands.serve import ServerError, ServerSettings, WebPackagesMissing, check_packages, open_listener
from ecg.data.labels import ABBREVIATIONS
from ecg.data.leads import LEAD_SETS
from ecg.data.records import find_records, read_record
from ecg.models.bundle import load_bundle, save_bundle
from ecg.models.bundle_cache import BundleCache
from ecg.web.prediction_worker import LONGEST_EXPLAINED, RecordingTooLong, TaskError, WorkerState, _do_task

ROOT = Path(__file__).parents[2]
NAMES = np.array(ABBREVIATIONS)


@pytest.fixture(scope="module")
def model(small_network, tmp_path_factory):
    """A model for 12 and for 2 leads, with random weights."""
    folder = tmp_path_factory.mktemp("model")
    for n_leads in (12, 2):
        leads = LEAD_SETS[n_leads]
        thresholds = np.random.default_rng(n_leads).uniform(0.4, 0.6, 26)
        save_bundle(make_bundle(leads, small_network, thresholds, small_network.build(n_leads, None, 22)), folder)
    return folder


@pytest.fixture
def serve(model, tmp_path):
    """A function that starts `ecg serve` and returns the process and a client."""
    started = []

    def start(data, *options, model=model):
        command = [sys.executable, "-m", "ecg", "serve", model, data, "--reviews", tmp_path / "reviews", "--port", "0"]
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
        lines = []
        for line in iter(process.stdout.readline, ""):
            lines.append(line)
            if line.startswith("http://"):
                break
        else:
            pytest.fail("".join(lines))
        url, _, token = line.strip().partition("?token=")
        client = httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=60)
        started.append((process, client))
        return process, client

    yield start
    for process, client in started:
        process.kill()
        process.wait()
        process.stdout.close()
        client.close()


@pytest.fixture
def data(synthetic_recordings, tmp_path):
    """The first twelve recordings, one of two leads, and one that cannot be predicted."""
    folder = tmp_path / "data"
    folder.mkdir()
    for path in find_records(synthetic_recordings)[:12]:
        shutil.copy(path, folder)
        shutil.copy(path.with_suffix(".mat"), folder)
    lines = ["E09001 2 500 5000", *(f"E09001.mat 16+24 1000/mV 16 0 0 0 0 {lead}" for lead in ("I", "II")), ""]
    (folder / "E09001.hea").write_text("\n".join(lines))
    signal_values = np.random.default_rng(0).normal(0, 300, (2, 5000)).astype(np.int16)
    scipy.io.savemat(folder / "E09001.mat", {"val": signal_values}, format="4")
    (folder / "E09002.hea").write_text("\n".join(lines).replace("E09001", "E09002"))
    return folder


def wait_until(is_done, seconds=90):
    end = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < end
        time.sleep(0.1)


def counts(client):
    return client.get("/api/session").json()["counts"]


def predicted(client, record):
    return client.get("/api/recording", params={"record": record}).json()["probabilities"]


def expected(model, path):
    header, recording = read_record(path)
    prediction = load_bundle(model, header.lead_names).predict_recording(header, recording)
    return prediction.probabilities, prediction.outputs, prediction.covered


@pytest.mark.slow
def test_all_recordings_are_predicted_and_the_predictions_are_kept(serve, data, model, tmp_path):
    before = {path: path.stat().st_mtime_ns for folder in (data, model) for path in [folder, *folder.iterdir()]}
    process, client = serve(data)
    wait_until(lambda: counts(client) == {"recordings": 14, "predicted": 13, "failed": 1})
    items = {item["record"]: item for item in client.get("/api/recordings?limit=200").json()["items"]}
    for path in find_records(data):
        if path.stem != "E09002":
            probabilities, outputs, covered = expected(model, path)
            received = predicted(client, path.stem)
            assert received == pytest.approx(dict(zip(NAMES[covered], probabilities[covered], strict=True)), abs=1e-5)
            assert items[path.stem]["predicted"] == NAMES[outputs].tolist()
    broken = client.get("/api/recording", params={"record": "E09002"}).json()
    assert "no such file" in broken["unusable"] and broken["probabilities"] is None and items["E09002"]["failed"]
    assert client.get("/api/signal", params={"record": "E09002"}).status_code == 422
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (128 + signal.SIGTERM, "")
    assert before == {path: path.stat().st_mtime_ns for folder in (data, model) for path in [folder, *folder.iterdir()]}
    _, client = serve(data)
    assert counts(client) == {"recordings": 14, "predicted": 13, "failed": 1}, "at once"


@pytest.mark.slow
def test_what_failed_for_a_reason_outside_of_the_recording_is_tried_again(serve, data, model, tmp_path):
    copy, weights = tmp_path / "model", "2_leads.weights.h5"
    shutil.copytree(model, copy)
    (copy / weights).unlink()
    process, client = serve(data, model=copy)
    wait_until(lambda: counts(client) == {"recordings": 14, "predicted": 12, "failed": 2})
    assert weights in client.get("/api/recording", params={"record": "E09001"}).json()["unusable"]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    shutil.copy(model / weights, copy)
    _, client = serve(data, model=copy)
    assert counts(client)["failed"] == 1, "the recording without samples"
    wait_until(lambda: counts(client) == {"recordings": 14, "predicted": 13, "failed": 1})


@pytest.mark.slow
def test_long_recordings_are_explained_up_to_a_limit(serve, data):
    header, rng = (data / "E09001.hea").read_text(), np.random.default_rng(0)
    for name, seconds in (("E09003", LONGEST_EXPLAINED), ("E09004", LONGEST_EXPLAINED + 1)):
        samples = round(500 * seconds)
        (data / f"{name}.hea").write_text(header.replace("E09001", name).replace(" 5000", f" {samples}"))
        values = rng.normal(0, 300, (2, samples)).astype(np.int16)
        scipy.io.savemat(data / f"{name}.mat", {"val": values}, format="4")
    _, client = serve(data)
    [method, *_] = client.get("/api/session").json()["methods"]["RBBB"]
    parameters = {"record": "E09003", "class": "RBBB", "method": method}
    answer = client.get("/api/explanation", params=parameters)
    assert answer.status_code == 200, answer.text
    seconds = int(answer.headers["X-Bins"]) * float(answer.headers["X-Seconds-Per-Bin"])
    assert seconds == pytest.approx(LONGEST_EXPLAINED, abs=0.1)
    answer = client.get("/api/explanation", params=parameters | {"record": "E09004"})
    limit = f"recordings of more than {LONGEST_EXPLAINED:g} s are not explained"
    assert (answer.status_code, answer.json()["error"]) == (422, f"The recording cannot be explained: {limit}")


@pytest.mark.slow
def test_programs_get_what_the_model_predicts_from_the_bytes_alone(serve, data, model, tmp_path):
    _, client = serve(data)
    path, decoy = find_records(data)[3], find_records(data)[4]
    text = path.read_text().replace(f"{path.stem}.mat", f"{decoy.stem}.mat")  # a file of the server has this name
    answer = client.post(
        "/api/predict", files={"header": text.encode(), "signal": path.with_suffix(".mat").read_bytes()}
    )
    assert answer.status_code == 200, answer.text
    probabilities, outputs, covered = expected(model, path)
    assert [item["probability"] for item in answer.json()["classes"]] == pytest.approx(probabilities[covered], abs=1e-5)
    assert [item["predicted"] for item in answer.json()["classes"]] == outputs[covered].tolist()
    assert answer.json()["lead_set"] == 12
    for content in (b"", b"nonsense", bytes(1000), decoy.read_bytes()):
        answer = client.post("/api/predict", files={"header": text.encode(), "signal": content})
        assert answer.status_code == 422 and "cannot be predicted" in answer.json()["error"]
    lines = ["x 1 500 5000", "x.mat 16+24 1000/mV 16 0 0 0 0 V1", ""]
    answer = client.post("/api/predict", files={"header": "\n".join(lines).encode(), "signal": b"x"})
    assert answer.status_code == 422


@pytest.mark.slow
def test_the_evidence_covers_the_recording(serve, data):
    _, client = serve(data)
    session = client.get("/api/session").json()
    assert session["methods"]["NSR"] == [] and session["methods"]["RBBB"]
    for method in session["methods"]["RBBB"]:
        parameters = {"record": "E09001", "class": "RBBB", "method": method}
        answer = client.get("/api/explanation", params=parameters)
        assert answer.status_code == 200, answer.text
        shape = len(answer.headers["X-Leads"].split(",")), int(answer.headers["X-Bins"])
        strengths = np.frombuffer(answer.content, np.uint8).reshape(shape)
        assert strengths.max() in (0, 255) and shape[0] == len(answer.headers["X-By-Lead"].split(",")) == 2
        assert shape[1] * float(answer.headers["X-Seconds-Per-Bin"]) == pytest.approx(10, abs=0.03)
    assert client.get("/api/explanation", params=parameters | {"record": "E09002"}).status_code == 422


@pytest.mark.slow
def test_a_killed_prediction_process_is_replaced(serve, data):
    process, client = serve(data)
    wait_until(lambda: counts(client)["predicted"] == 13)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)
    path = find_records(data)[0]
    files = {"header": path.read_bytes(), "signal": path.with_suffix(".mat").read_bytes()}
    answers = [client.post("/api/predict", files=files) for _ in range(2)]
    assert answers[1].status_code == 200, answers[1].text


@pytest.mark.slow
def test_ctrl_c_ends_it_in_one_line_and_nothing_goes_on(serve, data):
    process, client = serve(data)
    children = [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output.splitlines() == ["stopped; every review is on the disk"]
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 10)


@pytest.mark.slow
def test_the_printed_address_opens_logged_in(serve, data):
    for options, reviewer in ((["--reviewer", "Ann"], "Ann"), ([], None)):
        process, client = serve(data, *options)
        token = client.headers.pop("authorization").removeprefix("Bearer ")
        assert len(token) >= 43, "32 random bytes"
        for path in ("/", "/api/session", "/static/main.js"):
            assert client.get(path).status_code == 401
        page = client.get(f"/?token={token}", follow_redirects=True)
        assert (page.status_code, page.url.query) == (200, b"") and "<!doctype html>" in page.text.lower()
        assert client.get("/api/session").json()["reviewer"] == reviewer
        process.kill()


@pytest.mark.slow
def test_without_a_token_all_users_of_this_machine_are_let_in(serve, data):
    process, client = serve(data, "--no-token")
    assert client.headers["authorization"] == "Bearer "
    del client.headers["authorization"]
    assert client.get("/api/session").status_code == 200
    process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_counts_though_a_library_loses_its_exception(tmp_path, number):
    """Code that is imported after the address was printed may lose any exception."""
    (tmp_path / "uvicorn.py").write_text(
        f"import os\ntry:\n    os.kill(os.getpid(), {number:d})\n    for _ in range(10): pass\nexcept BaseException:\n"
        f"    pass\nimport sys\nsys.path.remove({str(tmp_path)!r})\ndel sys.modules['uvicorn']\nimport uvicorn\n"
    )
    code = f"""
import signal, sys
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}]
from ecg.commands import serve
from ecg.runtime.console import interruptible
from ecg.web.access import Access
from ecg.runtime.executors import ONE_PROCESS
from ecg.web.catalogue import load_catalogue
from ecg.web.predictions import PredictionTable
from ecg.web.review_book import ReviewBook
from ecg.web.workbench import Workbench
import numpy as np
sys.path[:0] = [{str(tmp_path)!r}]
signal.signal(signal.SIGTERM, serve._exit_cleanly)
data, cache = Path(sys.argv[1]), Path(sys.argv[2])
catalogue = load_catalogue(data, cache, executor=ONE_PROCESS)
table = PredictionTable(catalogue, cache, "key", np.empty(0, int))
bench = Workbench(catalogue, table, None, ReviewBook(cache), None)
with interruptible("stopped"):
    serve.answer_requests(bench, Access(), serve.open_listener("127.0.0.1", 0))
"""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "A0001.hea").write_text("A0001 1 500 5000\nA0001.mat 16+24 1000/mV 16 0 0 0 0 I\n")
    command = [sys.executable, "-c", code, tmp_path / "data", tmp_path / "cache"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr.splitlines()[-1:] == (["stopped"] if number == signal.SIGINT else [])


@pytest.mark.slow
def test_a_sample_is_that_of_the_command_and_a_list_is_served_in_its_order(serve, data, model, tmp_path):
    write_sample(model, data, tmp_path / "list.csv", ErrorSample("NSR", 2, 2, seed=5))
    rows = [line.split(",") for line in (tmp_path / "list.csv").read_text().split()[1:]]
    assert rows
    for options in (["--list", tmp_path / "list.csv"], ["--sample", "nsr", "2", "2", "--seed", "5"]):
        _, client = serve(data, "--reviewer", "Ann", *options)
        items = client.get("/api/recordings").json()["items"]
        assert [[item["record"], *item["classes_to_review"]] for item in items] == rows
        assert client.get("/api/session").json()["listed"] == len(rows)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "message"), [
    (["--reviews", "data/reviews"], r"data/reviews: is in .*data, where nothing is written; choose --reviews FOLDER"),
    (["--reviewer", "../x"], r"\.\./x: expected letters.*"),
    (["--sample", "LAD", "50", "x"], r"argument --sample: expected an integer from 0 to 1,000,000, received 'x'"),
    (["--sample", "LADY", "50", "50"], r"argument --sample: expected one of AF, .*, received 'LADY'"),
    (["--list", "nowhere.csv"], r"nowhere\.csv: .*"),
    (["--host", "0.0.0.0", "--no-token"], r"--no-token is for a server that only this machine reaches; .*"),
    (["--host", "192.0.2.1"], r"192\.0\.2\.1:8123: Cannot assign requested address"),
    (["--host", "no such host"], r"no such host:8123: .*"),
])  # fmt: skip
def test_a_server_that_cannot_start_says_why_in_one_line(data, model, tmp_path, options, message):
    command = [sys.executable, "-m", "ecg", "serve", model, "data", "--port", "8123", *options]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.fullmatch(f"python -m ecg: error: {message}\n", done.stderr), done.stderr


@pytest.mark.slow
def test_an_address_in_use_and_a_folder_without_a_model_are_errors(data, model, tmp_path):
    listener = open_listener("127.0.0.1", 0)
    port = str(listener.getsockname()[1])
    for arguments, message in (([model, data, "--port", port], f"127.0.0.1:{port}: Address already in use"),
                               ([data, data, "--port", "0"], f"{data}: no model in this folder"),
                               ([model, model, "--port", "0"], f"{model}: no header ")):  # fmt: skip
        command = [sys.executable, "-m", "ecg", "serve", *arguments, "--reviews", tmp_path / "reviews"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    listener.close()


@pytest.mark.parametrize(("samples", "line"), [(360_000, "1 100"), (360_001, "1 100"), (360_001, "1 100 360001")])
def test_the_samples_that_a_program_sends_last_an_hour_at_most(samples, line):
    """The header may not say how many there are."""
    content, text = BytesIO(), f"x {line}\nx.mat 16 1000/mV 16 0 0 0 0 I\n"
    scipy.io.savemat(content, {"val": np.zeros((1, samples), np.int8)}, do_compression=True)
    worker = WorkerState(Path("model"), BundleCache(Path("no model")))
    with pytest.raises(RecordingTooLong if samples > 360_000 else TaskError) as caught:
        worker.predict_upload(text, content.getvalue())
    succeeded, error = _do_task(worker.predict_upload, (text, content.getvalue()))
    assert not succeeded and type(error) is type(caught.value) and str(error) == str(caught.value)


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch):
    check_packages()
    monkeypatch.setattr("ecg.commands.serve.PACKAGES", ("numpy", "no_such_package"))
    with pytest.raises(WebPackagesMissing, match=r"^no_such_package not installed: pip install .*\[web\]"):
        check_packages()
    assert issubclass(ServerError, RuntimeError)


def test_reviews_are_never_in_the_folders_of_model_and_data(tmp_path):
    model, data = tmp_path / "model", tmp_path / "data"
    for reviews in (model, data, data / "x", tmp_path / "x" / ".." / "data", model / ".." / "model" / "y"):
        with pytest.raises(ValueError, match="nothing is written"):
            ServerSettings(model, data, reviews)
    (tmp_path / "link").symlink_to(data)
    with pytest.raises(ValueError, match="nothing is written"):
        ServerSettings(model, data, tmp_path / "link" / "reviews")
    assert ServerSettings(model, data, tmp_path / "data2").reviews == tmp_path / "data2"
