"""The four scripts, with a made-up team_code in the place of ours: nothing is trained here."""

import errno
import math
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest
import scipy.io
from helpers import evaluate_by_loops, exact
from result_helpers import make_bundle

import evaluate_model
import helper_code
import team_code
from ecg.data.class_files import load_weights
from ecg.data.headers import HeaderError, RecordError, parse_codes, parse_header
from ecg.data.labels import CHALLENGE_CLASSES, SCORED, TRAINED
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.records import SignalError, read_matrix
from ecg.data.store import build_store
from ecg.evaluation.outputs import from_diagnoses, parse_scores, read_text
from ecg.models.bundle import save_bundle
from ecg.runtime.executors import ONE_PROCESS

ROOT = Path(__file__).parents[2]
NAMES, _ = load_weights()
CODES = [name.split("|") for name in NAMES]
AF, AFL, SINUS = "164889003", "164890007", "426783006"


def header_text(name="A0001", leads=LEADS, codes=AF, samples=20, gain="1000/mV"):
    lines = [f"{name} {len(leads)} 500 {samples} 05-Feb-2020 11:39:16"]
    lines += [f"{name}.mat 16+24 {gain} 16 0 28 -1716 0 {lead}" for lead in leads]
    return "\n".join([*lines, "#Age: 74", "#Sex: Male", f"#Dx: {codes}", "#Rx: Unknown"]) + "\n"


def write_record(folder, name, leads=LEADS, **settings):
    """Write a record whose first integers are the places of its leads in the standard order; return these rows."""
    folder.mkdir(exist_ok=True)
    recording = np.zeros((len(leads), 20), np.int16)
    recording[:, 0] = [LEADS.index(lead) if lead in LEADS else -1 for lead in leads]
    (folder / f"{name}.hea").write_text(header_text(name, leads, **settings))
    scipy.io.savemat(folder / f"{name}.mat", {"val": recording}, format="4")
    return recording


@pytest.fixture
def team(monkeypatch):
    """Put a team_code in place that notes its calls and answers with the first class where lead I comes first."""
    team = ModuleType("team_code")
    team.trained, team.loaded, team.run = [], [], []
    team.failing, team.modelless = {}, {}

    def load_model(model_directory, leads):
        team.loaded.append((model_directory, leads))
        if leads in team.modelless:
            raise team.modelless[leads]
        return leads

    def run_model(model, header, recording):
        team.run.append((model, header, recording))
        name = header.split()[0]
        if name in team.failing:
            raise team.failing[name]
        return [AF, "713427006|59118001"], np.array([1, 0]), np.array([0.75, 0.125], np.float32)

    team.training_code = lambda *directories: team.trained.append(directories)
    team.load_model, team.run_model = load_model, run_model
    monkeypatch.setitem(sys.modules, "team_code", team)
    return team


@pytest.fixture
def script(monkeypatch):
    """Run a script as Python does; return its exit status, 0 where it just ends."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / name), run_name="__main__")
        except SystemExit as stop:
            if isinstance(stop.code, str):  # what the interpreter does with a text
                print(stop.code, file=sys.stderr)
                return 1
            return int(stop.code or 0)
        return 0

    return run


@pytest.mark.parametrize(
    "name, counts", [("train_model.py", {2}), ("test_model.py", {3}), ("evaluate_model.py", {2, 3, 4})]
)
def test_wrong_argument_counts_give_a_usage_line_and_status_2(team, script, capsys, name, counts):
    for count in set(range(7)) - counts:
        assert script(name, *["x"] * count) == 2
        output = capsys.readouterr()
        assert output.out == "" and re.fullmatch(f"usage: python {name} .*\n", output.err)
    assert not team.trained and not team.loaded


@pytest.mark.parametrize("name", ["train_model.py", "evaluate_model.py"])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_printed_on_standard_output(team, script, capsys, name, option):
    assert script(name, option) == 0
    output = capsys.readouterr()
    usage, empty, *explanation = output.out.splitlines()
    assert usage.startswith(f"usage: python {name} ") and not empty and 1 <= len(explanation) <= 3
    assert output.err == "" and not team.trained


def test_errors_of_a_training_are_the_path_and_the_reason(team, script, capsys, tmp_path):
    write_record(tmp_path / "data", "A0001")
    file = tmp_path / "model" / "file"

    def fails(*directories):
        open(file)

    team.training_code = fails
    assert script("train_model.py", tmp_path / "data", tmp_path / "model") == 1
    assert capsys.readouterr().err == f"{file}: No such file or directory\n"
    assert script("evaluate_model.py", tmp_path / "missing", tmp_path) == 1
    assert capsys.readouterr().err == f"{tmp_path / 'missing'}: No such file or directory\n"


def test_scores_on_a_full_device_are_reported_with_its_name(script, capsys, tmp_path):
    labels, outputs = hand_made(tmp_path)
    assert script("evaluate_model.py", labels, outputs, "/dev/full") == 1
    assert capsys.readouterr() == ("", "/dev/full: No space left on device\n")


def test_training_is_given_the_two_folders(team, script, tmp_path):
    write_record(tmp_path / "data", "A0001")
    assert script("train_model.py", tmp_path / "data", tmp_path / "model") == 0
    assert team.trained == [(str(tmp_path / "data"), str(tmp_path / "model"))]


def test_training_on_recordings_below_the_folder(team, script, tmp_path):
    write_record(tmp_path / "below", "A0001")
    assert script("train_model.py", tmp_path, tmp_path / "model") == 0 and team.trained


@pytest.mark.parametrize("name", ["train_model.py", "test_model.py"])
def test_no_data_is_reported_in_one_line(team, script, capsys, tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a_file").touch()
    for folder, reason in (("empty", "no recordings"), ("missing", "No such file"), ("a_file", "Not a directory")):
        folders = {"DATA": tmp_path / folder, "MODEL": tmp_path / "model", "OUTPUTS": tmp_path / "outputs"}
        order = ("DATA", "MODEL") if name == "train_model.py" else ("MODEL", "DATA", "OUTPUTS")
        assert script(name, *(folders[role] for role in order)) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and str(tmp_path / folder) in error and reason in error
    assert not team.trained and not team.loaded


def test_data_that_training_cannot_use_is_reported_in_one_line(team, script, capsys, tmp_path):
    def training_code(data, model):
        raise SignalError("no recording of these can be used")

    write_record(tmp_path / "data", "A0001")
    team.training_code = training_code
    assert script("train_model.py", tmp_path / "data", tmp_path / "model") == 1
    assert capsys.readouterr().err == "no recording of these can be used\n"


def test_every_recording_is_predicted_by_the_model_of_its_leads(team, script, capsys, tmp_path):
    sets = {f"A{count:04d}": LEAD_SETS[count] for count in LEAD_SETS}
    sets |= {"B1": LEADS[::-1], "B2": ("V2", "II", "I")}  # the order in the file does not matter
    written = {name: write_record(tmp_path / "data", name, leads) for name, leads in sets.items()}
    (tmp_path / "data/D1.hea").mkdir()
    assert script("test_model.py", tmp_path / "model", tmp_path / "data", tmp_path / "outputs") == 0

    assert sorted(team.loaded) == sorted((str(tmp_path / "model"), leads) for leads in LEAD_SETS.values())
    assert len(team.run) == len(sets)
    for model, header, recording in team.run:
        name = header.split()[0]
        assert header == (tmp_path / "data" / f"{name}.hea").read_text()
        assert model == helper_code.sort_leads(sets[name])
        assert recording.dtype == np.int16 and np.array_equal(recording, written[name])
    files = sorted((tmp_path / "outputs").iterdir())
    assert [file.name for file in files] == sorted(f"{name}.csv" for name in sets)
    for file in files:
        assert file.read_text() == f"#{file.stem}\n{AF},713427006|59118001\n1,0\n0.75,0.125\n"
    output = capsys.readouterr()
    assert output.out == "7 of 7 recordings predicted, 0 failed\n" and output.err == ""


def test_nested_recordings_are_mirrored_in_the_outputs(team, script, capsys, tmp_path):
    data, outside = tmp_path / "data", tmp_path / "elsewhere"
    for folder in ("", "p001", "p002/first"):
        (data / folder).mkdir(parents=True, exist_ok=True)
        write_record(data / folder, "ecg")
    (data / "p002/first/ecg.hea").rename(data / "p002/first/ecg.HEA")
    (data / "p002/first/ecg.mat").rename(data / "p002/first/ecg.MAT")
    write_record(outside, "linked")
    (data / "georgia").symlink_to(outside)
    (outside / "back").symlink_to(data)
    (data / "nowhere").symlink_to(tmp_path / "missing")
    shutil.copy(data / "ecg.mat", data / "p001" / "alone.mat")
    assert script("test_model.py", tmp_path / "model", data, tmp_path / "outputs") == 0
    output = capsys.readouterr()
    assert output.out == "4 of 4 recordings predicted, 0 failed\n"
    assert output.err == "nowhere: a link that leads nowhere\np001/alone.mat: no header names it\n"
    files = sorted(path.relative_to(tmp_path / "outputs").as_posix() for path in (tmp_path / "outputs").rglob("*.csv"))
    assert files == ["ecg.csv", "georgia/linked.csv", "p001/ecg.csv", "p002/first/ecg.csv"]
    assert all((tmp_path / "outputs" / file).read_text().splitlines()[2] == "1,0" for file in files)
    assert script("evaluate_model.py", data, tmp_path / "outputs") == 0


def test_a_folder_whose_recordings_all_fail_is_mirrored_with_empty_outputs(team, script, capsys, tmp_path):
    for folder in ("p001", "p002"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        write_record(tmp_path / "data" / folder, "ecg")
    (tmp_path / "data/p002/ecg.mat").unlink()
    assert script("test_model.py", tmp_path / "model", tmp_path / "data", tmp_path / "outputs") == 0
    assert capsys.readouterr().err == "p002/ecg.hea: ecg.mat: no such file beside ecg.hea, which names it\n"
    assert (tmp_path / "outputs/p002/ecg.csv").read_text() == "#ecg\n\n\n\n"
    assert script("evaluate_model.py", tmp_path / "data", tmp_path / "outputs") == 0


def test_a_recording_that_no_lead_set_fits_is_reported_with_its_own_leads(team, script, capsys, tmp_path):
    """Two of them have no model for the same reason, but other leads."""
    write_record(tmp_path / "data", "A1")
    write_record(tmp_path / "data", "A2", ("ECG",))
    write_record(tmp_path / "data", "A3", ("MLII", "V5"))
    team.modelless = {
        leads: RecordError(f"nothing for {leads}") for leads in (("ECG",), ("MLII", "V5"), ("V5", "MLII"))
    }
    assert script("test_model.py", tmp_path / "model", tmp_path / "data", tmp_path / "outputs") == 0
    limbs = "2 of I, II, III, aVR, aVL, aVF are missing"
    assert capsys.readouterr().err.splitlines() == [
        f"A2.hea: leads ECG fill none of the lead sets: {limbs}",
        f"A3.hea: leads MLII, V5 fill none of the lead sets: {limbs}",
    ]


def test_a_smaller_model_than_the_leads_allow_is_reported_once(
    script, capsys, caplog, small_network, headers, tmp_path
):
    network = small_network.build(2, None, len(TRAINED))
    save_bundle(make_bundle(LEAD_SETS[2], small_network, np.full(26, 0.5), network), tmp_path / "model")
    data = tmp_path / "data"
    data.mkdir()
    for path in headers[:3]:
        shutil.copy(path, data)
        shutil.copy(path.with_suffix(".mat"), data)
    assert script("test_model.py", tmp_path / "model", data, tmp_path / "outputs") == 0
    expected = (
        f"{tmp_path}/model/12_leads.json is missing: recordings of 12 leads are predicted with the model of 2 leads"
    )
    assert caplog.messages == [expected]
    assert capsys.readouterr().out.startswith("3 of 3 recordings predicted")


def test_a_recording_that_training_cannot_use_gets_an_empty_output(script, capsys, small_network, headers, tmp_path):
    network = small_network.build(12, None, len(TRAINED))
    save_bundle(
        make_bundle(LEADS, small_network, np.zeros(26), network), tmp_path / "model"
    )  # all classes are positive
    data = tmp_path / "data"
    data.mkdir()
    for name, recording in (("zeros", np.zeros((12, 5000))), ("short", np.arange(12)[:, np.newaxis])):
        (data / f"{name}.hea").write_text(header_text(name, samples=recording.shape[1]))
        scipy.io.savemat(data / f"{name}.mat", {"val": recording.astype(np.int16)}, format="4")
    for path in headers[:1]:
        shutil.copy(path, data)
        shutil.copy(path.with_suffix(".mat"), data)
    assert script("test_model.py", tmp_path / "model", data, tmp_path / "outputs") == 0
    for name in ("zeros", "short"):
        assert (tmp_path / "outputs" / f"{name}.csv").read_text() == f"#{name}\n\n\n\n"
    assert "1" in (tmp_path / "outputs" / f"{headers[0].stem}.csv").read_text().splitlines()[2]
    reasons = capsys.readouterr().err.splitlines()
    assert reasons == ["short.hea: 0.00 s is shorter than 1 s", "zeros.hea: every lead is flat"]
    assert [reason.replace(".hea: ", ": ") for reason in reasons] == [
        reason for _, reason in build_store(data, tmp_path / "store", executor=ONE_PROCESS).excluded
    ]


def test_odd_files_are_repaired_and_counted(script, capsys, small_network, headers, tmp_path):
    network = small_network.build(12, None, len(TRAINED))
    save_bundle(make_bundle(LEADS, small_network, np.full(26, 0.5), network), tmp_path / "model")
    data = tmp_path / "data"
    data.mkdir()
    path = headers[0]
    values = read_matrix(path.with_suffix(".mat"))
    for name, key, matrix in (("turned", "val", values.T), ("called", "ecg", values), ("renamed", "val", values)):
        (data / f"{name}.hea").write_text(path.read_text().replace(path.stem, "gone" if name == "renamed" else name))
        scipy.io.savemat(data / f"{name}.mat", {key: matrix}, format="4")
    assert script("test_model.py", tmp_path / "model", data, tmp_path / "outputs") == 0
    lines = capsys.readouterr().out.splitlines()
    kinds = ("transposed", "matrix not called val", "file not called as in the header")
    assert set(lines[1:]) >= {f"repaired: {kind} in 1 recordings" for kind in kinds}


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="a folder into which even root cannot write")
def test_outputs_that_cannot_be_written_are_one_error(team, script, capsys, tmp_path):
    for name in ("A1", "A2"):
        write_record(tmp_path / "data", name)
    assert script("test_model.py", tmp_path / "model", tmp_path / "data", "/sys/kernel") == 1
    assert capsys.readouterr().err == "/sys/kernel: Permission denied\n" and not team.run


def test_a_model_is_loaded_once_for_all_leads_that_it_serves(team, script, capsys, tmp_path):
    for number in range(5):  # each with another lead that nobody knows
        write_record(tmp_path / "data", f"A{number}", (*LEADS, f"X{number}"))
    write_record(tmp_path / "data", "B1", ("I", "II"))
    assert script("test_model.py", tmp_path / "model", tmp_path / "data", tmp_path / "outputs") == 0
    assert [leads for _, leads in team.loaded] == [(*LEADS, "X0"), ("I", "II")] and len(team.run) == 6


def test_what_was_repaired_is_summed_up(script, capsys, small_network, headers, tmp_path):
    save_bundle(
        make_bundle(LEADS, small_network, np.full(26, 0.5), small_network.build(12, None, len(TRAINED))),
        tmp_path / "model",
    )
    data = tmp_path / "data"
    data.mkdir()
    for number, path in enumerate(headers[:3]):
        shutil.copy(path, data)
        values = read_matrix(path.with_suffix(".mat"))
        values[3] = 7 if number else values[3]
        values[0, 10] = -(2**15)
        scipy.io.savemat(data / f"{path.stem}.mat", {"val": values}, format="4")
    assert script("test_model.py", tmp_path / "model", data, tmp_path / "outputs") == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "3 of 3 recordings predicted, 0 failed",
        "repaired: flat lead in 2 recordings",
        "repaired: marked invalid in 3 recordings",
    ]


@pytest.mark.parametrize("name", ["train_model.py", "test_model.py"])
def test_no_name_is_a_command_to_the_terminal(team, script, capsys, tmp_path, name):
    folder = tmp_path / "\x1b[31mdata"
    arguments = [folder, tmp_path] if name == "train_model.py" else [tmp_path, folder, tmp_path]

    def failure_message():
        assert script(name, *arguments) == 1
        return capsys.readouterr().err

    assert r"\x1b[31mdata" in failure_message()
    write_record(folder, "A1", (*LEADS[:2], "\x1b]0;x\x07"))
    team.load_model = team.training_code = lambda *_: raise_(RecordError("leads I, \x1b]0;x\x07"))
    line = failure_message()
    assert r"\x1b]0;x\x07" in line and not {"\x1b", "\x07"} & set(line)


def raise_(error):
    raise error


def test_a_recording_that_fails_gets_an_empty_prediction_and_its_reason_is_reported(team, script, capsys, tmp_path):
    data = tmp_path / "data"
    for name in ("good", "fails", "no_matrix", "bad_matrix", "no_model", "bad_answer"):
        write_record(data, name, leads=LEADS[:2] if name == "no_model" else LEADS)
    (data / "broken.hea").write_text("broken 12 500\nbroken.mat 16+24 1000(/mV\n")
    (data / "empty.hea").touch()
    (data / "no_matrix.mat").unlink()
    (data / "bad_matrix.mat").write_bytes(b"\0" * 64)
    team.failing["fails"] = ZeroDivisionError("division by zero")
    team.modelless[LEADS[:2]] = RuntimeError("no weights")
    run_model = team.run_model
    team.run_model = lambda model, header, recording: (
        (None, 1) if header.startswith("bad_answer") else run_model(model, header, recording)
    )
    assert script("test_model.py", tmp_path / "model", data, tmp_path / "outputs") == 0

    for file in data.glob("*.hea"):
        text = (tmp_path / "outputs" / f"{file.stem}.csv").read_text()
        assert (text == f"#{file.stem}\n\n\n\n") == (file.stem != "good")
    assert sorted(path.suffix for path in (tmp_path / "outputs").iterdir()) == [".csv"] * 8
    output = capsys.readouterr()
    assert output.out.splitlines()[-1] == "1 of 8 recordings predicted, 7 failed"
    reasons = dict(line.split(": ", 1) for line in output.err.splitlines())
    assert reasons == {
        "bad_answer.hea": reasons["bad_answer.hea"],
        "bad_matrix.hea": reasons["bad_matrix.hea"],
        "broken.hea": "broken.hea line 2: gain '1000(/mV' is not NUMBER[(BASELINE)][/UNITS]",
        "empty.hea": "no record line, which should read NAME LEADS [FREQUENCY [SAMPLES]]",
        "fails.hea": "ZeroDivisionError: division by zero",
        "no_matrix.hea": "no_matrix.mat: no such file beside no_matrix.hea, which names it",
        "no_model.hea": "RuntimeError: no weights",
    }
    assert reasons["bad_answer.hea"].startswith("TypeError: ")
    assert reasons["bad_matrix.hea"].startswith("bad_matrix.mat: ")


def test_the_status_is_1_where_all_recordings_failed(team, script, capsys, tmp_path):
    for name in ("A1", "A2"):
        write_record(tmp_path / "data", name)
        team.failing[name] = ValueError("bad")
    assert script("test_model.py", tmp_path / "model", tmp_path / "data", tmp_path / "outputs") == 1
    assert capsys.readouterr().out == "0 of 2 recordings predicted, 2 failed\n"
    assert (tmp_path / "outputs/A2.csv").read_text() == "#A2\n\n\n\n"


def test_a_folder_without_models_is_reported_before_anything_is_written(team, script, capsys, tmp_path):
    write_record(tmp_path / "data", "A1")
    team.modelless[LEADS] = FileNotFoundError("12_leads.json is missing")
    assert script("test_model.py", tmp_path / "model", tmp_path / "data", tmp_path / "outputs") == 1
    assert capsys.readouterr().err == f"{tmp_path / 'model'}: 12_leads.json is missing\n"
    assert not (tmp_path / "outputs").exists()


def test_an_interrupted_run_leaves_no_output_by_half(team, script, capsys, tmp_path):
    for name in ("A1", "A2"):
        write_record(tmp_path / "data", name)
    team.failing["A2"] = KeyboardInterrupt()
    assert script("test_model.py", tmp_path / "model", tmp_path / "data", tmp_path / "outputs") == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["A1.csv"]


def test_a_record_whose_name_is_no_text_or_as_long_as_can_be_is_predicted_or_reported(team, script, capsys, tmp_path):
    data, strange, long = tmp_path / "data", os.fsdecode(b"HR\xff8"), "L" * 251
    for name in ("A1", strange, f"{strange}_fails", long):
        write_record(data, "A1")
        shutil.copy(data / "A1.hea", tmp_path / "header")
        (data / f"{name}.hea").write_text((tmp_path / "header").read_text())
    (data / f"{strange}_fails.hea").write_text("nonsense")
    assert script("test_model.py", tmp_path / "model", data, tmp_path / "outputs") == 0
    assert capsys.readouterr().out == "3 of 4 recordings predicted, 1 failed\n"
    names = sorted(os.listdir(os.fsencode(tmp_path / "outputs")))
    assert names == [b"A1.csv", b"HR\xff8.csv", b"HR\xff8_fails.csv", long.encode() + b".csv"]
    empty = tmp_path / "outputs" / f"{strange}_fails.csv"
    assert empty.read_bytes() == b"#HR\xff8_fails\n\n\n\n"
    assert helper_code.load_outputs(empty)[0] == f"{strange}_fails"


def test_a_prediction_that_cannot_be_written_is_reported_and_the_next_is_given(team, script, capsys, tmp_path):
    for name in ("A1", "A2"):
        write_record(tmp_path / "data", name)
    (tmp_path / "outputs" / "A1.csv").mkdir(parents=True)
    assert script("test_model.py", tmp_path / "model", tmp_path / "data", tmp_path / "outputs") == 0
    output = capsys.readouterr()
    assert output.out == "1 of 2 recordings predicted, 1 failed\n"
    assert output.err == f"A1.hea: {tmp_path}/outputs/A1.csv: Is a directory\n"
    assert (tmp_path / "outputs" / "A2.csv").is_file()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_fault_of_the_disk_ends_the_run_with_one_line(team, script, capsys, tmp_path, monkeypatch, number):
    def full(self, *_, **__):
        raise OSError(number, os.strerror(number))

    for name in ("A1", "A2"):
        write_record(tmp_path / "data", name)
    monkeypatch.setattr(Path, "write_text", full)
    assert script("test_model.py", tmp_path / "model", tmp_path / "data", tmp_path / "outputs") == 1
    output = capsys.readouterr()
    file = tmp_path / "outputs" / "A1.csv"
    assert output.out == "" and output.err == f"{file}: {os.strerror(number)}\n"
    assert len(team.run) == 1 and not file.exists()


def test_a_folder_of_outputs_that_cannot_be_made_is_reported_in_one_line(team, script, capsys, tmp_path):
    write_record(tmp_path / "data", "A1")
    (tmp_path / "a_file").touch()
    for outputs, reason in ((tmp_path / "a_file", "File exists"), (tmp_path / "a_file/below", "Not a directory")):
        assert script("test_model.py", tmp_path / "model", tmp_path / "data", outputs) == 1
        assert capsys.readouterr().err == f"{outputs}: {reason}\n"
    assert not team.run


def test_numbers_and_their_texts():
    for value, number, integer, finite in (
        (1, True, True, True),
        ("1.0", True, True, True),
        (" 2e0 ", True, True, True),
        ("0.5", True, False, True),
        ("nan", True, False, False),
        ("-inf", True, False, False),
        (np.float32(3), True, True, True),
        ("", False, False, False),
        ("one", False, False, False),
        (None, False, False, False),
        ([1, 2], False, False, False),
    ):
        answers = helper_code.is_number(value), helper_code.is_integer(value), helper_code.is_finite_number(value)
        assert answers == (number, integer, finite), value


def test_leads_are_sorted_into_standard_order_unknown_ones_after_them():
    assert helper_code.sort_leads(("V1", "Z", "aVF", "II", "A", "I")) == ("I", "II", "aVF", "V1", "Z", "A")
    assert helper_code.sort_leads(list(LEADS[::-1])) == LEADS
    assert helper_code.sort_leads(["V6", "AVR", "i"]) == ("i", "AVR", "V6")


ALIASES = (
    "MDC_ECG_LEAD_I",
    "Lead II",
    "DIII",
    "lead avr",
    "AVL",
    "Lead-aVF",
    *(f"C{number}" for number in range(1, 7)),
)


def test_leads_by_other_names_are_sorted_and_found_and_keep_their_names(tmp_path):
    shuffled = (*ALIASES[::-1], "V7")
    assert helper_code.sort_leads(shuffled) == (*ALIASES, "V7")
    recording = write_record(tmp_path, "A0001", LEADS)
    header = header_text(leads=ALIASES)
    assert helper_code.get_leads(header) == ALIASES
    for names in (LEADS, ALIASES):
        assert np.array_equal(
            helper_code.choose_leads(recording[::-1], header_text(leads=names[::-1]), LEADS), recording
        )
        assert np.array_equal(helper_code.choose_leads(recording, header_text(), names), recording)
    assert helper_code.get_adc_gains(header, ["V1", "c1", "V7"]).tolist() == [1000, 1000, 0]


def test_of_two_leads_of_one_name_the_one_with_that_spelling_is_chosen_or_else_the_first():
    header, recording = header_text(leads=("C1", "V1", "c2", "C2")), np.arange(4)[:, np.newaxis]
    chosen = helper_code.choose_leads(recording, header, ["V1", "C1", "Lead V1", "V2", "C2"])
    assert chosen[:, 0].tolist() == [1, 0, 1, 2, 3]


@pytest.mark.slow
def test_leads_by_other_names_are_predicted_as_the_standard_ones(script, small_network, headers, tmp_path):
    bundle = make_bundle(LEADS, small_network, np.full(26, 0.5), small_network.build(12, None, len(TRAINED)))
    save_bundle(bundle, tmp_path / "model")
    for folder, names in (("plain", LEADS), ("other", ALIASES)):
        (tmp_path / folder).mkdir()
        for path in headers[:3]:
            text = path.read_text()
            for lead, name in zip(LEADS, names, strict=True):
                text = text.replace(f" {lead}\n", f" {name}\n")
            (tmp_path / folder / path.name).write_text(text)
            shutil.copy(path.with_suffix(".mat"), tmp_path / folder)
        assert script("test_model.py", tmp_path / "model", tmp_path / folder, tmp_path / f"{folder}_outputs") == 0
    for path in headers[:3]:
        plain, renamed = (tmp_path / f"{folder}_outputs/{path.stem}.csv" for folder in ("plain", "other"))
        assert plain.read_bytes() == renamed.read_bytes() and plain.read_text().count(",") > 50
    # Other drivers sort by exact names and pass the names as they are written.
    model = team_code.load_model(tmp_path / "model", tuple(sorted(ALIASES, key=lambda name: name in LEADS)))
    text = (tmp_path / "other" / headers[0].name).read_text()
    _, _, probabilities = team_code.run_model(model, text, read_matrix(headers[0].with_suffix(".mat")))
    last = (tmp_path / f"plain_outputs/{headers[0].stem}.csv").read_text().splitlines()[-1]
    assert ",".join(map(str, probabilities)) == last


def test_challenge_files_are_pairs_in_the_folder(tmp_path):
    for name in ("b.hea", "b.mat", "a.hea", "a.mat", "lone.hea", "lonely.mat", ".hidden.hea", ".hidden.mat"):
        (tmp_path / name).touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below/c.hea").touch()
    headers, recordings = helper_code.find_challenge_files(str(tmp_path))
    assert headers == [str(tmp_path / "a.hea"), str(tmp_path / "b.hea")]
    assert recordings == [str(tmp_path / "a.mat"), str(tmp_path / "b.mat")]


def test_challenge_files_may_have_their_extensions_in_any_case(tmp_path):
    for name in ("a.HEA", "a.mat", "b.hea", "b.MAT", "c.Hea", "c.mAt", "d.HEA", "e.hea", "e.HEA", "e.mat", "e.MAT",
                 "F.hea", "f.mat", ".g.HEA", ".g.MAT"):  # fmt: skip
        (tmp_path / name).touch()
    (tmp_path / "d.MAT").mkdir()
    (tmp_path / "h.HEA").symlink_to("h.HEA")
    headers, recordings = helper_code.find_challenge_files(tmp_path)
    assert [os.path.basename(path) for path in headers] == ["a.HEA", "b.hea", "c.Hea", "e.hea"]
    assert [os.path.basename(path) for path in recordings] == ["a.mat", "b.MAT", "c.mAt", "e.mat"]
    assert all(os.path.dirname(path) == str(tmp_path) for path in headers + recordings)


def test_a_header_is_summarised(tmp_path):
    path = tmp_path / "A0001.hea"
    path.write_bytes(header_text(leads=("I", "AVR", "X"), codes="1, 2,PVC").replace("\n", "\r\n").encode())
    header = helper_code.load_header(str(path))
    assert header == header_text(leads=("I", "AVR", "X"), codes="1, 2,PVC")
    assert helper_code.get_recording_id(header) == "A0001"
    assert helper_code.get_leads(header) == ("I", "AVR", "X")
    assert (helper_code.get_age(header), helper_code.get_sex(header)) == (74.0, "Male")
    assert helper_code.get_labels(header) == ["1", "2", "PVC"]
    for function, number in (("get_num_leads", 3), ("get_num_samples", 20), ("get_frequency", 500)):
        value = getattr(helper_code, function)(header)
        assert type(value) is float and value == number
    with pytest.raises(HeaderError):
        helper_code.get_leads("A0001 twelve 500 20\n")


def test_names_and_facts_are_as_the_header_has_them():
    header = header_text("A0001.mat", codes="2, 1,2,,PVC ").replace("Male", "M").replace("74", "NaN")
    assert helper_code.get_recording_id(header) == "A0001.mat"
    assert helper_code.get_sex(header) == "M" and math.isnan(helper_code.get_age(header))
    assert helper_code.get_labels(header) == ["2", "1", "2", "", "PVC"]


def test_a_header_without_comments_is_summarised():
    header = "A0001 1\nA0001.mat 16\n"
    assert helper_code.get_age(header) is None and helper_code.get_sex(header) is None
    assert helper_code.get_labels(header) == [] and helper_code.get_labels(f"{header}#Dx:\n") == []
    assert helper_code.get_num_samples(header) is None and helper_code.get_num_samples("A 1 500 0\nA.mat 16\n") is None
    assert helper_code.get_frequency(header) == 250 and helper_code.get_leads(header) == ("",)
    assert helper_code.get_adc_gains(header, [""]) == [200] and helper_code.get_baselines(header, [""]) == [0]


def test_both_dialects_of_headers_are_read_alike():
    header = header_text(codes="1,2")
    spaced = header.replace("#", "# ").replace("16+24 1000/mV", "16x1+24 1000.0(0)/mV")
    for name in ("recording_id", "leads", "age", "sex", "num_leads", "frequency", "num_samples", "labels"):
        function = getattr(helper_code, f"get_{name}")
        assert function(header) == function(spaced)
    for function in (helper_code.get_adc_gains, helper_code.get_baselines):
        assert function(header, LEADS).tolist() == function(spaced, LEADS).tolist()


def test_gains_and_baselines_of_leads_in_any_order():
    header = (
        "A 3 500 20\nA.mat 16+24 1000/mV 16 0 0 0 0 I\nA.mat 16x1+24 500.5(-7)/mV 16 0 0 0 0 II\n"
        "A.mat 16+24 200/mV 16 3 0 0 0 AVR\n"
    )
    leads = ("aVR", "V6", "II", "I")
    for function in (helper_code.get_adc_gains, helper_code.get_baselines):
        assert function(header, leads).dtype == np.float64
    assert helper_code.get_adc_gains(header, leads).tolist() == [200.0, 0.0, 500.5, 1000.0]
    assert helper_code.get_baselines(header, leads).tolist() == [3.0, 0.0, -7.0, 0.0]


def test_recordings_are_loaded_whole_or_by_their_leads(tmp_path):
    written = write_record(tmp_path, "A0001", ("II", "I", "V2"))
    file, header = str(tmp_path / "A0001.mat"), header_text(leads=("II", "I", "V2"))
    assert np.array_equal(helper_code.load_recording(file), written)
    chosen = helper_code.load_recording(file, header, ("I", "V3", "V2"))
    assert chosen.dtype == np.int16 and chosen[:, 0].tolist() == [0, 0, 7]
    assert np.array_equal(chosen, helper_code.choose_leads(written, header, ["I", "V3", "V2"]))
    assert helper_code.choose_leads(written, header, ["V3"]).shape == (1, 20)
    header = header.replace(" V2\n", " v2\n")
    assert helper_code.choose_leads(written, header, ["ii", "V2", "v2"])[:, 0].tolist() == [1, 7, 7]
    scipy.io.savemat(tmp_path / "other.mat", {"samples": written}, format="4")
    assert np.array_equal(helper_code.load_recording(tmp_path / "other.mat", key="samples"), written)
    with pytest.raises(SignalError, match="no matrix val"):
        helper_code.load_recording(tmp_path / "other.mat")
    for name in ("A0001.mat", "A0001.hea"):
        (tmp_path / name).rename(tmp_path / name.replace(name[-3:], name[-3:].upper()))
    for name in ("A0001.MAT", "A0001.dat"):  # the second one is looked up in the header
        assert np.array_equal(helper_code.load_recording(tmp_path / name), written)


def test_real_recordings_of_other_formats_are_loaded(real_data):
    recording = helper_code.load_recording(real_data / "dialects/ptb-xl-raw/00003_hr.dat")
    assert recording.shape == (12, 5000) and recording[:3, 0].tolist() == [-35, -70, -35]


def test_outputs_are_saved_as_they_are_loaded(tmp_path):
    file = str(tmp_path / "A0001.csv")
    probabilities = np.array([0.12, 1e-9, math.nan, math.inf], np.float32)
    helper_code.save_outputs(file, "A0001", ["1", "2", 3, "4|5"], np.array([1, 0, 1, 0]), probabilities)
    assert Path(file).read_text() == "#A0001\n1,2,3,4|5\n1,0,1,0\n0.12,1e-09,nan,inf\n"
    recording, classes, labels, loaded = helper_code.load_outputs(file)
    assert (recording, classes, labels) == ("A0001", ("1", "2", "3", "4|5"), ("1", "0", "1", "0"))
    assert np.array_equal(loaded, [0.12, 1e-9, math.nan, math.nan], equal_nan=True)
    helper_code.save_outputs(file, "A0001", (), (), ())
    assert Path(file).read_text() == "#A0001\n\n\n\n"
    recording, classes, labels, loaded = helper_code.load_outputs(file)
    assert (recording, classes, labels) == ("A0001", ("",), ("",)) and math.isnan(*loaded)
    assert [path.name for path in tmp_path.iterdir()] == ["A0001.csv"]


def write_case(folder, labels, outputs):
    """Write label files from codes and output files from lines, by name; return the two folders."""
    for name, codes in labels.items():
        path = folder / "labels" / f"{name}.hea"
        path.parent.mkdir(exist_ok=True)
        path.write_text(header_text(name, codes=codes))
    for name, lines in outputs.items():
        path = folder / "outputs" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join([f"#{name}", *lines]) + "\n")
    return folder / "labels", folder / "outputs"


def hand_made(folder):
    """Three recordings, AF, AFL and sinus rhythm, of which the second is answered AF as well."""
    codes = f"{AF},{AFL},{SINUS}"
    return write_case(
        folder,
        {"A1": AF, "A2": f"{AFL},999", "A3": SINUS},
        {
            "A1": (codes, "1,0,0", "0.9,0.4,0.1"),
            "A2": (codes, "1,1,0", "0.9,0.3,0.2"),
            "A3": (codes, "0,0,1", "0.1,0.3,0.8"),
        },
    )


def test_hand_computed_scores(script, capsys, tmp_path):
    labels, outputs = hand_made(tmp_path)
    # AF: both scores 0.9, one of them right. AFL: 0.4 wrong, then 0.3 twice, one of them right. Sinus: in order.
    auroc = {AF: 0.75, AFL: 0.25, SINUS: 1}
    auprc = {AF: 0.5, AFL: 1 / 3, SINUS: 1}
    measures = {AF: 2 / 3, AFL: 1, SINUS: 1}
    inactive, right = 0.25 / 2 + 0.25 / 2 + 1, 3
    metric = ((1 + (0.5 + 1) / 2 + 1) - inactive) / (right - inactive)
    scores = (*(sum(values.values()) / 3 for values in (auroc, auprc)), 2 / 3, sum(measures.values()) / 3, metric)
    first = "AUROC,AUPRC,Accuracy,F-measure,Challenge metric\n" + ",".join(f"{score:.3f}" for score in scores)

    assert script("evaluate_model.py", labels, outputs) == 0
    assert capsys.readouterr().out == first + "\n"
    assert script("evaluate_model.py", labels, outputs, tmp_path / "scores.csv") == 0
    assert script("evaluate_model.py", labels, outputs, tmp_path / "both.csv", tmp_path / "classes.csv") == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "scores.csv").read_text() == (tmp_path / "both.csv").read_text() == first

    lines = [line.split(",") for line in (tmp_path / "classes.csv").read_text().split("\n")]
    assert [line[0] for line in lines] == ["Classes", "AUROC", "AUPRC", "F-measure"]
    assert lines[0][1:] == ["|".join(sorted(codes)) for codes in CODES] and "164909002|733534002" in lines[0]
    for line, values in zip(lines[1:], (auroc, auprc, measures), strict=True):
        expected = [f"{values[codes[0]]:.3f}" if codes[0] in values else "nan" for codes in CODES]
        assert line[1:] == expected


def test_scores_are_nan_or_zero_where_there_is_nothing_to_score(script, capsys, tmp_path):
    labels, outputs = write_case(tmp_path, {"A1": "Unknown"}, {"A1": ("", "", "")})
    assert script("evaluate_model.py", labels, outputs) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nan,nan,1.000,nan,0.000"


def test_a_missing_output_file_is_named(script, capsys, tmp_path):
    labels, outputs = hand_made(tmp_path)
    (outputs / "A2.csv").unlink()
    with pytest.raises(OSError, match=r"A2\.csv not found in .* for label file A2\.hea"):
        evaluate_model.evaluate_model(labels, outputs)
    assert script("evaluate_model.py", labels, outputs, tmp_path / "scores.csv") == 1
    error = capsys.readouterr().err
    assert "A2.csv" in error and "A2.hea" in error and error.count("\n") == 1
    assert not (tmp_path / "scores.csv").exists()


def test_a_folder_is_no_output_file(script, capsys, tmp_path):
    labels, outputs = hand_made(tmp_path)
    (outputs / "A2.csv").unlink()
    (outputs / "A2.csv").mkdir()
    assert script("evaluate_model.py", labels, outputs) == 1
    assert re.fullmatch(r"output file A2\.csv not found in .* for label file A2\.hea\n", capsys.readouterr().err)


def test_scores_that_cannot_be_written_are_reported_in_one_line(script, capsys, tmp_path):
    labels, outputs = hand_made(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for place, reason in (("folder", "Is a directory"), ("missing/scores.csv", "No such file or directory"),
                          ("file/scores.csv", "Not a directory")):  # fmt: skip
        for files in ([tmp_path / place], [tmp_path / "scores.csv", tmp_path / place]):
            assert script("evaluate_model.py", labels, outputs, *files) == 1
            assert capsys.readouterr() == ("", f"{tmp_path / place}: {reason}\n")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["file", "folder", "labels", "outputs", "scores.csv"] and not list((tmp_path / "folder").iterdir())


def test_no_label_files_is_an_error_and_what_is_hidden_is_no_label_file(script, tmp_path):
    labels, outputs = hand_made(tmp_path)
    (labels / ".A4.hea").write_text(header_text("A4"))
    (labels / "A6.hea").mkdir()
    (outputs / "A5.csv").write_text("#A5\n\n\n\n")
    assert evaluate_model.evaluate_model(labels, outputs)[5] == 2 / 3
    with pytest.raises(OSError, match="no label files"):
        evaluate_model.evaluate_model(outputs, outputs)
    assert script("evaluate_model.py", tmp_path / "missing", outputs) == 1


def test_both_dialects_of_labels_count(tmp_path):
    labels, outputs = hand_made(tmp_path)
    before = evaluate_model.evaluate_model(labels, outputs)
    for path in labels.iterdir():
        path.write_bytes(path.read_text().replace("#", "# ").replace("\n", "\r\n").encode())
    assert str(evaluate_model.evaluate_model(labels, outputs)) == str(before)


def scores_by_loops(label_codes, output_lines):
    """The results of the evaluator after the names of the classes, one recording, class and threshold at a time."""
    labels, answers, scores = [], [], []
    for codes, (classes, binary, scalar) in zip(label_codes, output_lines, strict=True):
        present = [code.strip() for code in codes.split(",")]
        labels.append([any(code in present for code in equivalent) for equivalent in CODES])
        answer, score = [], []
        for equivalent in CODES:
            positives, values = [], []
            for place, entry in enumerate(classes.split(",")):
                if not set(part.strip() for part in entry.split("|")) & set(equivalent):
                    continue
                text = (binary.split(",") + [""] * 99)[place].strip()
                value = (scalar.split(",") + [""] * 99)[place].strip()
                positives.append(text in ("True", "true", "T", "t", "1", "1.0", "01", "1e0"))
                finite = re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", value)
                values.append(float(value) if finite else 0.0)
            answer.append(any(positives))
            score.append(np.mean(values) if values else 0.0)
        answers.append(answer)
        scores.append(score)

    return evaluate_by_loops(*map(np.array, (labels, answers, scores)))


def messy_case(seed, recordings=25):
    """Random labels, and outputs with every oddity that the rules speak of."""
    random = np.random.default_rng(seed)
    every = [code for equivalent in CODES for code in equivalent]

    def pick(*texts):
        return str(random.choice(texts))

    label_codes, output_lines = [], []
    for _ in range(recordings):
        known = [str(code) for code in random.choice(every, random.integers(4))]
        label_codes.append(pick(",", ", ").join([*known, *["999"] * random.integers(2)]) or "Unknown")
        columns = [pick(*codes, *NAMES[k : k + 1]) for k, codes in enumerate(CODES) if random.random() < 0.8]
        columns += [str(code) for code in random.choice(every, random.integers(4))]  # further columns of a class
        columns += [pick("12345", "999", "", "164889003|164890007", "a|b")] * random.integers(3)
        columns = [str(column) for column in random.permutation(columns)]
        binary = [
            pick("0", "0", "0", "1", "1.0", "True", "T", "t", "true", "01", "2", "TRUE", "nan", "") for _ in columns
        ]
        odd, numbers = ("nan", "", "inf", "-inf", "high", "1e-3"), [str(eighth / 8) for eighth in range(9)]
        scalar = [pick(*(odd if random.random() < 0.2 else numbers)) for _ in columns]
        if random.random() < 0.1:
            columns, binary, scalar = [], [], []
        if random.random() < 0.1:  # cut short
            binary, scalar = binary[:-3], scalar[:-5]
        comma = pick(",", ", ")
        output_lines.append(tuple(comma.join(line) for line in (columns, binary, scalar)))
    return label_codes, output_lines


@pytest.mark.parametrize("seed", range(12))
def test_messy_cases_score_as_one_step_at_a_time(seed, tmp_path):
    label_codes, output_lines = messy_case(seed)
    names = [f"A{number:03d}" for number in range(len(label_codes))]
    labels, outputs = write_case(
        tmp_path, dict(zip(names, label_codes, strict=True)), dict(zip(names, output_lines, strict=True))
    )
    classes, *actual = evaluate_model.evaluate_model(labels, outputs)
    expected = scores_by_loops(label_codes, output_lines)
    assert classes == ["|".join(sorted(codes)) for codes in CODES]
    for value, reference in zip(actual, expected, strict=True):
        assert exact(value) == exact(reference)


def test_scores_are_what_float_reads_of_them():
    for odd in ("", "nan", "inf", "1e400", "1_0", " .5 ", "0.5\x1c", "0.5\r", "\x0b1", "\xa00.5", "½", "1 2", "-1"):
        try:
            value = float(odd) if math.isfinite(float(odd)) else 0
        except ValueError:
            value = 0
        for lines, expected in ((["0.1,0.7", f"{odd},0.2"], [[0.1, 0.7], [value, 0.2]]), ([odd], [[value, 0]])):
            assert parse_scores(lines, 2).tolist() == expected, odd


def test_scores_that_are_too_few_or_too_many_for_the_codes():
    for lines, expected in (
        (["1,2,3", "4,5,6"], [[1, 2], [4, 5]]),
        (["1", "4"], [[1, 0], [4, 0]]),
        (["1", "4,5"], [[1, 0], [4, 5]]),
        (["", ""], [[0, 0], [0, 0]]),
        (["1,2", ""], [[1, 2], [0, 0]]),
    ):
        assert parse_scores(lines, 2).tolist() == expected


def test_no_diagnosis_is_overlooked_where_a_header_is_cut():
    texts = ["dx1 1\n#Age: 1\n#Dx: 1,2\n#Rx: 3", "A 1\n\t# DX :1\n#dx:2", "A 1\n#Sex: Dx: 1", "A 1\nx #Dx: 1\n#Dx: 2",
             "#Dx: 1", "A 1\r\n#Dx: 1, 2\r\n", "A 1\n#Rx: 1\n", "\n", ""]  # fmt: skip
    for text in texts:
        assert parse_codes(from_diagnoses(text)) == parse_codes(text)


def test_files_of_whatever_size_are_read_whole(tmp_path, monkeypatch):
    file = tmp_path / "file"
    monkeypatch.setattr("ecg.evaluation.outputs.CHUNK", 4)
    read = os.read
    for least in (4, 1):  # a system may give less than it is asked for
        monkeypatch.setattr("os.read", lambda number, most, least=least: read(number, min(most, least)))
        for size in range(10):
            file.write_bytes(b"0123456\xe9\r\n"[:size])
            assert read_text(file) == "0123456é\r\n"[:size]


def test_an_entry_of_two_classes_counts_for_both(tmp_path):
    labels, outputs = write_case(tmp_path, {"A1": f"{AF},{AFL}"}, {"A1": (f"{AF}|{AFL}", "1", "0.5")})
    assert evaluate_model.evaluate_model(labels, outputs)[5] == 1


def test_output_files_that_end_early_are_negative(tmp_path):
    labels, outputs = hand_made(tmp_path)
    for text in ("", "#A1", "#A1\n", f"#A1\n{AF}", f"#A1\n{AF}\n", "#A1\n\n\n\n"):
        (outputs / "A1.csv").write_text(text)
        assert evaluate_model.evaluate_model(labels, outputs)[5] == 1 / 3


def test_the_scripts_run_from_any_folder(tmp_path):
    labels, outputs = hand_made(tmp_path)
    command = [sys.executable, ROOT / "evaluate_model.py", labels, outputs]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[0] == "AUROC,AUPRC,Accuracy,F-measure,Challenge metric" and result.stderr == ""


def test_the_codes_of_the_table_are_those_of_the_labels():
    assert [set(codes) for codes in CODES] == [set(diagnosis.codes) for diagnosis in SCORED]
    assert parse_header(header_text(codes=",".join(NAMES))).codes == NAMES


# What drivers other than ours do with team_code.py, with nothing of ours beside it but the package.
DRIVER = """
import os, sys
from scipy.io import loadmat
from team_code import load_model, run_model

ORDER = "I II III aVR aVL aVF V1 V2 V3 V4 V5 V6".split()
model_folder, *pairs = sys.argv[1:]
for data, outputs in zip(pairs[::2], pairs[1::2]):
    os.mkdir(outputs)
    headers = {}
    for name in sorted(os.listdir(data)):
        if name.endswith(".hea"):
            with open(os.path.join(data, name)) as file:
                headers[name[:-4]] = file.read()
    lead_sets = {}
    for name, header in headers.items():
        first, *lines = header.split("\\n")
        leads = [line.split(" ")[-1] for line in lines[: int(first.split(" ")[1])]]
        lead_sets[name] = tuple(sorted(leads, key=ORDER.index))
    models = {leads: load_model(model_folder, leads) for leads in set(lead_sets.values())}
    for name, header in headers.items():
        recording = loadmat(os.path.join(data, name + ".mat"))["val"]
        classes, labels, probabilities = run_model(models[lead_sets[name]], header, recording)
        with open(os.path.join(outputs, name + ".csv"), "w") as file:
            print("#" + header.split(" ")[0], file=file)
            for values in (classes, labels, probabilities):
                print(",".join(str(value) for value in values), file=file)
print(sorted({"train_model", "test_model", "helper_code", "evaluate_model"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_other_drivers_run_the_package_without_our_scripts(small_network, headers, tmp_path):
    shutil.copytree(ROOT / "ecg", tmp_path / "code/ecg", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "team_code.py", tmp_path / "code")
    (tmp_path / "code/driver.py").write_text(DRIVER)
    model, arguments = tmp_path / "model", []
    for count in (12, 2):
        keras.utils.set_random_seed(count)
        network = small_network.build(count, None, len(TRAINED))
        save_bundle(make_bundle(LEAD_SETS[count], small_network, np.linspace(0.2, 0.8, 26), network), model)
        data, outputs = tmp_path / f"data_{count}", tmp_path / f"outputs_{count}"
        data.mkdir()
        for path in headers[:5]:  # the first leads of a recording, in reverse
            first, *lines = path.read_text().splitlines()
            name, _, rest = first.split(" ", 2)
            lines = [f"{name} {count} {rest}", *lines[:count][::-1], *lines[12:]]
            (data / path.name).write_text("\n".join(lines) + "\n")
            values = read_matrix(path.with_suffix(".mat"))[:count][::-1]
            scipy.io.savemat(data / f"{path.stem}.mat", {"val": values}, format="4")
        arguments += [data, outputs]
    command = [sys.executable, "driver.py", model, *arguments]
    done = subprocess.run(command, cwd=tmp_path / "code", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")

    for count, data, outputs in ((12, *arguments[:2]), (2, *arguments[2:])):
        loaded = team_code.load_model(model, LEAD_SETS[count])
        assert sorted(path.stem for path in outputs.iterdir()) == sorted(path.stem for path in headers[:5])
        for path in outputs.iterdir():
            name, classes, labels, probabilities = path.read_text().splitlines()
            recording = scipy.io.loadmat(data / f"{path.stem}.mat")["val"]
            _, *expected = team_code.run_model(loaded, (data / f"{path.stem}.hea").read_text(), recording)
            assert name == f"#{path.stem}" and classes == ",".join(CHALLENGE_CLASSES.code_lists)
            assert labels == ",".join(map(str, expected[0]))
            np.testing.assert_allclose([float(value) for value in probabilities.split(",")], expected[1], atol=1e-5)
    scores = evaluate_model.evaluate_model(arguments[0], arguments[1])
    assert math.isfinite(scores[-1])
