"""What can be trusted: nothing that is read is run, nothing leaves the machine, nothing is written elsewhere."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.io
import wfdb
from result_helpers import make_bundle

import team_code
import test_model as script
from ecg.data.labels import CHALLENGE_CLASSES, TRAINED
from ecg.data.leads import LEAD_SETS, standard_name
from ecg.data.records import find_records
from ecg.models.bundle import save_bundle

ROOT = Path(__file__).parents[2]
SOURCES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in [*ROOT.glob("ecg/*.py"), *ROOT.glob("*.py")]}

# Modules that run what they read, start programs or speak to other machines.
MODULES = set(
    "pickle cPickle cloudpickle dill marshal shelve subprocess pty socket socketserver ssl urllib http requests ftplib "
    "smtplib poplib imaplib telnetlib xmlrpc aiohttp asyncio multiprocessing code codeop runpy imp".split()
)
BUILT_IN = {"eval", "exec", "compile", "__import__"}
CALLS = ("os.system", "os.popen", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "importlib.import_module",
         "keras.models", "keras.saving", "keras.config.enable_unsafe", "joblib.load", "joblib.dump", "joblib.Memory",
         "wfdb.dl", "wfdb.io.dl", "np.fromregex", "np.genfromtxt")  # fmt: skip


def dotted(node):
    """A name with those of what it is an attribute of, as in `os.system`."""
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def faults(text):
    """What of a program's text runs what it reads, starts programs, or speaks to other machines."""
    hits = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            above = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names = [above + alias.name for alias in node.names]
            hits += [name for name in names if name.split(".")[0] in MODULES or name.startswith(CALLS)]
        elif isinstance(node, ast.Attribute):
            hits += [dotted(node)] * dotted(node).startswith(CALLS)
        elif isinstance(node, ast.Name):
            hits += [node.id] * (node.id in BUILT_IN)
        elif isinstance(node, ast.Call) and dotted(node.func).endswith(".load"):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            hits += [dotted(node.func)] * (given.get("allow_pickle") != "False")
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell", "pn_dir"):
            hits += [node.arg] * (ast.unparse(node.value) not in ("None", "False"))
    return hits


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_nothing_that_is_read_is_run_and_nothing_speaks_to_other_machines(name):
    ours = {"importlib.import_module"} if name == "ecg/__init__.py" else set()  # of our own modules
    assert set(faults(SOURCES[name])) <= ours


def test_what_must_not_be_there_would_be_found():
    for text in (
        "import pickle", "from urllib import request", "import http.client as h", "from os import system",
        "os.system('x')", "eval('1')", "list(map(exec, x))", "np.load(x)", "np.load(x, allow_pickle=True)",
        "f(allow_pickle=1)", "from joblib import load", "joblib.dump(x, y)", "keras.models.load_model(x)",
        "from keras.saving import load_model", "run(x, shell=True)", "wfdb.rdrecord(x, pn_dir='mitdb')",
    ):  # fmt: skip
        assert faults(text), text
    for text in ("import os", "re.compile(x)", "network.compile(x)", "np.load(x, allow_pickle=False)", "json.load"):
        assert not faults(text), text


def listing(folder):
    """Everything in a folder and below it: names, and what files hold."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def model(small_network, tmp_path_factory):
    """A model folder with untrained networks for all lead sets."""
    folder = tmp_path_factory.mktemp("model")
    for count, leads in LEAD_SETS.items():
        keras.utils.set_random_seed(count)
        network = small_network.build(count, None, len(TRAINED))
        save_bundle(make_bundle(leads, small_network, np.full(26, 0.5), network), folder)
    return folder


def test_names_from_headers_and_of_files_never_become_paths(model, headers, tmp_path, monkeypatch, capsys):
    data, outputs, inside = tmp_path / "data", tmp_path / "outputs", tmp_path / "working"
    for folder in (data, inside):
        folder.mkdir()
    text, samples = headers[0].read_text(), headers[0].with_suffix(".mat").read_bytes()
    stem, elsewhere = headers[0].stem, tmp_path / "elsewhere"
    elsewhere.with_suffix(".mat").write_bytes(samples)
    (tmp_path / "link.csv").symlink_to(elsewhere)
    records = ["../../x", "..", ".", "/etc/passwd", str(elsewhere), "..\\x", "~", "x\0y", "$(touch x)", "x;touch x"]
    files = ["../elsewhere.mat", str(elsewhere.with_suffix(".mat")), "..", ".", "/dev/zero", "http://localhost/x.mat"]
    names = ["-rf", "$(touch x)", "a;b", "%2e%2fx", "x\n", "C:\\x", "NUL", "x.csv", "é" * 100]
    first, *lines = text.splitlines()
    for number, name in enumerate(records):
        names.append(f"record{number}")
        (data / f"record{number}.hea").write_text("\n".join([first.replace(stem, name, 1), *lines]))
    for number, name in enumerate(files):
        names.append(f"file{number}")
        (data / f"file{number}.hea").write_text(text.replace(f"{stem}.mat", name))
    for name in names[: -len(records) - len(files)]:
        (data / f"{name}.hea").write_text(text)
    for name in names:
        (data / f"{name}.mat").write_bytes(samples)
    before = listing(tmp_path)

    monkeypatch.chdir(inside)
    with pytest.raises(SystemExit) as stopped:
        script.main([str(model), str(data), str(outputs)])
    after = listing(tmp_path)
    assert stopped.value.code == 0 and "recordings predicted" in capsys.readouterr().out
    written = {path for path in after if path not in before} - {outputs}
    assert written == {outputs / f"{name}.csv" for name in names}
    assert {path: after[path] for path in before} == before
    for name in names:
        assert (outputs / f"{name}.csv").read_text().count("\n") >= 4


# Trains and answers, and tells what was done meanwhile that reaches out: sockets, programs, pickles, files written.
AUDITED = """
import json, os, sys

done = []
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
CHANGES = {"os.remove": (1,), "os.rmdir": (1,), "os.mkdir": (2,), "os.rename": (2, 3), "os.link": (2, 3),
           "os.symlink": (), "os.truncate": (), "os.chmod": ()}  # and where they tell in which folder that is
REACHING = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.", "urllib.")

def place(path, folder=-1):
    below = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else ""
    return os.path.abspath(os.path.join(below, os.fsdecode(path)))

def note(event, arguments):
    if event.startswith(REACHING):
        done.append((event, repr(arguments)))
    elif event in CHANGES:
        folders = [arguments[where] for where in CHANGES[event]] or [-1]
        done.extend((event, place(path, folder)) for path, folder in zip(arguments, folders))
    elif event == "open" and not isinstance(arguments[0], int) and (arguments[2] or 0) & WRITING:
        done.append((event, place(arguments[0])))

from ecg.runtime.keras_startup import start_keras

start_keras()
import joblib, keras, matplotlib.pyplot, wfdb  # what libraries do when they are imported is theirs
import test_model
from ecg.commands import train as pipeline
from ecg.systems.label_cleaning import CleaningSettings
from ecg.models.network_settings import NetworkSettings
from ecg.training.trainer import TrainingSettings

data, model, outputs = sys.argv[1:]
sys.addaudithook(note)
network = NetworkSettings(width=4, kernels=(5,), squeeze_ratio=2, hidden=8)
cleaning, training = CleaningSettings((), (), masks=False), TrainingSettings(epochs=1, steps=1)
settings = pipeline.Settings(cleaning=cleaning, network=network, training=training, lead_sets=(12,))
pipeline.train(data, model, settings)
try:
    test_model.main([model, data, outputs])
except SystemExit as stop:
    assert not stop.code
print(json.dumps(done))
"""


@pytest.mark.slow
def test_training_and_prediction_use_no_network_and_write_to_their_folders_alone(synthetic_recordings, tmp_path):
    """In one process: joblib hands work to others, which are ours too, through pipes and pickles."""
    model, outputs, temporary = tmp_path / "model", tmp_path / "outputs", tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-c", AUDITED, synthetic_recordings, model, outputs]
    before = listing(synthetic_recordings)
    run = subprocess.run(command, cwd=ROOT, env=os.environ | {"TMPDIR": str(temporary)}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    done = json.loads(run.stdout.splitlines()[-1])
    reached = [(event, what) for event, what in done if not what.startswith(f"{tmp_path}{os.sep}")]
    assert reached == []
    written = {Path(what).name for event, what in done if event == "open"}
    assert {"12_leads.json", "report.json"} <= {name.removeprefix(".part.") for name in written}
    assert listing(synthetic_recordings) == before and sorted(temporary.iterdir()) == []
    assert len(list(outputs.iterdir())) == 60


def as_driven(path, leads):
    """A header's text and the integers of some of its leads, in its order, as the organisers' driver gives them."""
    with open(path) as file:
        first, *lines = file.read().splitlines()
    name, count, rest = first.split(" ", 2)
    lines, comments = lines[: int(count)], lines[int(count) :]
    rows = [row for row, line in enumerate(lines) if standard_name(line.split(" ")[-1]) in leads]
    text = "\n".join([f"{name} {len(rows)} {rest}", *(lines[row] for row in rows), *comments]) + "\n"
    matrix = path.with_suffix(".mat")
    if matrix.exists():
        return text, scipy.io.loadmat(matrix)["val"][rows]
    return text, wfdb.rdrecord(matrix.with_suffix(""), physical=False).d_signal.T[rows]


@pytest.mark.parametrize("all_sets", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_real_recording_is_predicted(model, real_data, all_sets):
    """Each with the five lead sets or, to save time, every 16th with one of them in turn."""
    sets = list(LEAD_SETS.values())
    models = {leads: team_code.load_model(model, leads) for leads in sets}
    paths = find_records(real_data)
    assert {path.relative_to(real_data).parts[0] for path in paths} == {"train", "heldout", "dialects"}
    for number, path in enumerate(paths if all_sets else paths[::16]):
        for leads in sets if all_sets else [sets[number % len(sets)]]:
            classes, labels, probabilities = team_code.run_model(models[leads], *as_driven(path, leads))
            assert classes == list(CHALLENGE_CLASSES.code_lists) and len(labels) == len(probabilities) == 26, path
            assert set(labels) <= {0, 1} and all(0 <= probability <= 1 for probability in probabilities), path
