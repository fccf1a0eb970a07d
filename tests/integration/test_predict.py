"""The command `predict`: the files of test_model.py, by several processes, kept when it runs again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from helpers import capture_log
from result_helpers import make_bundle

from ecg.__main__ import main
from ecg.commands.predict import PredictionError, predict_folder
from ecg.commands.prediction_journal import FOLDER, JOURNAL
from ecg.data.labels import TRAINED
from ecg.data.leads import LEAD_SETS
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.models.bundle import save_bundle
from ecg.runtime.executors import ONE_PROCESS
from ecg.runtime.locks import lock_folder

ROOT = Path(__file__).parents[2]
COUNT = 12  # recordings of `recordings`


def save_models(folder, small_network, *sizes, threshold=0.5):
    """Save an untrained model for each of these numbers of leads."""
    for size in sizes:
        network = small_network.build(size, None, len(TRAINED))
        save_bundle(make_bundle(LEAD_SETS[size], small_network, np.full(26, threshold), network), folder)
    return folder


@pytest.fixture(scope="module")
def model(small_network, tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("model"), small_network, 12, 2)


@pytest.fixture
def recordings(tmp_path):
    synthesize(tmp_path / "data", COUNT, seed=1)
    return tmp_path / "data"


def run(*arguments):
    """Run a program."""
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)


def messages_of(done):
    """Return what a program has printed on standard error, without the progress that a slow machine shows."""
    return [
        line for line in done.stderr.splitlines() if not re.match(r"(headers|models|predictions): [\d,]+ of ", line)
    ]


def read_outputs(folder):
    """Return the content of all output files by their path below the folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.csv"))}


def modified_outputs(folder, before):
    """Return the names of the output files that have been written since `times_of`."""
    return {name for name, time_ns in times_of(folder).items() if before.get(name) != time_ns}


def times_of(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.csv")}


def test_files_and_messages_are_those_of_the_challenge_script(model, small_network, tmp_path):
    """Nested folders, lead sets with and without a model, and recordings that fail; by two processes."""
    data = tmp_path / "data"
    for folder, size, count in (("", 12, 70), ("p1", 2, 12), ("p1/first", 6, 6), ("p2", 3, 6)):
        synthesize(data / folder, count, seed=size, settings=SyntheticSettings(leads=LEAD_SETS[size]))
    headers = sorted(data.glob("*.hea"))
    headers[0].write_text("nonsense")
    headers[1].with_suffix(".mat").unlink()
    headers[2].with_suffix(".mat").write_bytes(b"\0" * 64)
    headers[40].write_text(re.sub(r" (I+|aV[RLF])$", r" other\1", headers[40].read_text(), flags=re.MULTILINE))
    (data / "p1/alone.mat").touch()
    (data / "nowhere").symlink_to(tmp_path / "missing")
    written = run("test_model.py", model, data, tmp_path / "theirs")
    predicted = run("-m", "ecg", "predict", model, data, tmp_path / "ours", "--jobs", "2")
    assert (written.returncode, predicted.returncode) == (0, 0), predicted.stderr
    theirs, ours = read_outputs(tmp_path / "theirs"), read_outputs(tmp_path / "ours")
    assert len(theirs) == 94 and sum(output.count(b",") > 50 for output in theirs.values()) == 90
    assert ours == theirs
    assert predicted.stdout.splitlines()[-len(written.stdout.splitlines()) :] == written.stdout.splitlines()
    assert re.fullmatch("90 of 94 recordings predicted, 4 failed", written.stdout.splitlines()[0])
    reported = messages_of(written)
    failures = [line for line in reported if "_leads.json is missing" not in line]
    fallbacks = set(reported).difference(failures)
    assert len(failures) == 6 and len(fallbacks) == 2
    assert messages_of(predicted) == failures
    assert sorted(line for line in predicted.stdout.splitlines() if "is missing" in line) == sorted(fallbacks)


def test_a_second_run_predicts_only_what_is_new_or_changed(model, recordings, tmp_path):
    outputs, lines = tmp_path / "outputs", capture_log()
    assert predict_folder(model, recordings, outputs, ONE_PROCESS)
    first, times = read_outputs(outputs), times_of(outputs)
    assert len(first) == COUNT and lines[0] == f"{COUNT} of {COUNT} recordings predicted, 0 failed"
    assert predict_folder(model, recordings, outputs, ONE_PROCESS)
    assert modified_outputs(outputs, times) == set()
    assert lines[len(lines) // 2] == f"{COUNT} of {COUNT} outputs of an earlier run are kept"

    names = sorted(path.stem for path in recordings.glob("*.hea"))
    for extension in (".hea", ".mat"):
        (recordings / f"new{extension}").write_bytes((recordings / f"{names[0]}{extension}").read_bytes())
    header = recordings / "new.hea"
    header.write_text(header.read_text().replace(names[0], "new"))
    shutil.copy(recordings / f"{names[1]}.mat", tmp_path / "copy")  # another time, the same content
    os.replace(tmp_path / "copy", recordings / f"{names[1]}.mat")
    (outputs / f"{names[2]}.csv").write_bytes(first[f"{names[2]}.csv"][:-9])
    (outputs / f"{names[3]}.csv").unlink()
    assert predict_folder(model, recordings, outputs, ONE_PROCESS)
    changed = {f"{name}.csv" for name in ("new", *names[1:4])}
    assert modified_outputs(outputs, times) == changed
    assert read_outputs(outputs) == first | {"new.csv": (outputs / "new.csv").read_bytes()}


def test_repairs_of_kept_outputs_are_counted_and_failures_are_tried_again(model, recordings, tmp_path, capsys):
    header = sorted(recordings.glob("*.hea"))[0]
    header.with_suffix(".mat").rename(tmp_path / "signal")
    lines = capture_log()
    assert predict_folder(model, recordings, tmp_path / "outputs", ONE_PROCESS)
    once = list(lines)
    assert once[0] == f"{COUNT - 1} of {COUNT} recordings predicted, 1 failed" and len(once) > 1
    failure = f"{header.name}: {header.stem}.mat: no such file beside {header.name}, which names it\n"
    assert capsys.readouterr().err == failure
    assert predict_folder(model, recordings, tmp_path / "outputs", ONE_PROCESS)
    assert lines[len(once) + 1 :] == once and capsys.readouterr().err == failure
    (tmp_path / "signal").rename(header.with_suffix(".mat"))
    assert predict_folder(model, recordings, tmp_path / "outputs", ONE_PROCESS)
    assert f"{COUNT} of {COUNT} recordings predicted, 0 failed" in lines and capsys.readouterr().err == ""


def test_another_model_predicts_all_anew_and_a_wrong_one_loses_nothing(model, small_network, recordings, tmp_path):
    outputs, second_model = tmp_path / "outputs", save_models(tmp_path / "other", small_network, 12, threshold=0.0)
    predict_folder(model, recordings, outputs, ONE_PROCESS)
    first, times, journal = read_outputs(outputs), times_of(outputs), outputs / FOLDER / JOURNAL
    noted = journal.read_bytes()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty: no model in this folder"):
        predict_folder(tmp_path / "empty", recordings, outputs, ONE_PROCESS)
    damaged = shutil.copytree(model, tmp_path / "damaged")
    for path in damaged.glob("*.json"):
        path.write_text("{}")
    with pytest.raises(PredictionError, match="12_leads.json"):
        predict_folder(damaged, recordings, outputs, ONE_PROCESS)
    assert modified_outputs(outputs, times) == set() and journal.read_bytes() == noted
    predict_folder(second_model, recordings, outputs, ONE_PROCESS)
    assert modified_outputs(outputs, times) == times.keys()
    assert all(output != first[name] for name, output in read_outputs(outputs).items())


def test_half_a_line_in_the_journal_is_predicted_again(model, recordings, tmp_path):
    outputs = tmp_path / "outputs"
    predict_folder(model, recordings, outputs, ONE_PROCESS)
    first, times, journal = read_outputs(outputs), times_of(outputs), outputs / FOLDER / JOURNAL
    content = journal.read_bytes()
    assert content.count(b"\n") == COUNT + 1
    journal.write_bytes(content[:-7])
    last = Path(json.loads(content.splitlines()[-1])[0]).stem
    predict_folder(model, recordings, outputs, ONE_PROCESS)
    assert modified_outputs(outputs, times) == {f"{last}.csv"} and read_outputs(outputs) == first
    times = times_of(outputs)
    predict_folder(model, recordings, outputs, ONE_PROCESS)  # what is noted after half a line is found again
    assert modified_outputs(outputs, times) == set()


@pytest.mark.slow
def test_a_killed_run_goes_on_with_what_is_missing(model, tmp_path):
    data, outputs = tmp_path / "data", tmp_path / "outputs"
    synthesize(data, 400, seed=2)
    command = [sys.executable, "-m", "ecg", "predict", str(model), str(data), str(outputs), "--jobs", "2"]
    for finished in (60, 200):  # killed twice
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            with suppress(FileNotFoundError):
                if (outputs / FOLDER / JOURNAL).read_bytes().count(b"\n") > finished:
                    break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(3)  # the workers end soon after their parent
    complete_lines = (outputs / FOLDER / JOURNAL).read_bytes().split(b"\n")[1:-1]
    noted = {f"{Path(json.loads(line)[0]).stem}.csv" for line in complete_lines}
    times = times_of(outputs)
    assert 200 <= len(noted) < 400 and noted <= times.keys()
    done = run(*command[1:])
    assert done.returncode == 0 and done.stdout.startswith(f"{len(noted)} of 400 outputs of an earlier run are kept\n")
    assert not modified_outputs(outputs, times) & noted
    run("test_model.py", model, data, tmp_path / "whole")
    assert read_outputs(outputs) == read_outputs(tmp_path / "whole") and len(read_outputs(outputs)) == 400


def run_to_end(capsys, *arguments):
    """Return the exit status of the command, and what it has printed on standard error."""
    with pytest.raises(SystemExit) as ended:
        main(["predict", *map(str, arguments), "--jobs", "1"])
    return ended.value.code, capsys.readouterr().err


def test_what_ends_a_run_is_one_line(model, recordings, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    program, outputs = "python -m ecg: error: ", tmp_path / "outputs"
    assert run_to_end(capsys, model, recordings, tmp_path / "file")[0] == f"{program}{tmp_path}/file: File exists"
    reason = f"{program}{tmp_path}/missing: No such file or directory"
    assert run_to_end(capsys, model, tmp_path / "missing", outputs)[0] == reason
    assert run_to_end(capsys, tmp_path / "missing", recordings, outputs)[0] == reason
    assert not outputs.exists()
    with lock_folder(outputs / FOLDER):
        assert "another process" in run_to_end(capsys, model, recordings, outputs)[0]


def test_the_status_is_1_if_no_recording_has_a_prediction(model, recordings, tmp_path, capsys):
    for path in recordings.glob("*.mat"):
        path.unlink()
    status, reasons = run_to_end(capsys, model, recordings, tmp_path / "outputs")
    assert status == 1 and reasons.count("no such file beside") == COUNT
    assert set(read_outputs(tmp_path / "outputs").values()) == {
        f"#{path.stem}\n\n\n\n".encode() for path in recordings.glob("*.hea")
    }


@pytest.mark.slow
def test_workers_of_a_cluster_write_the_same_files(cluster, model, tmp_path):
    synthesize(tmp_path / "data", 100, seed=3)
    run("test_model.py", model, tmp_path / "data", tmp_path / "theirs")
    cluster.wait()
    done = run("-m", "ecg", "predict", model, tmp_path / "data", tmp_path / "ours", "--cluster", cluster.address)
    assert done.returncode == 0, done.stderr
    assert read_outputs(tmp_path / "ours") == read_outputs(tmp_path / "theirs")
