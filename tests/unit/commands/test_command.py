import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from matplotlib.figure import Figure
from result_helpers import make_bundle, make_own_bundle

from ecg.__main__ import COMMANDS, main
from ecg.commands.protocol import Protocol
from ecg.data.batches import View
from ecg.data.class_files import load_weights
from ecg.data.class_tables import ClassTable, Diagnosis
from ecg.data.headers import RecordError
from ecg.data.labels import CHALLENGE_CLASSES, CHALLENGE_SOURCES, CLASS_INDEX, TRAINED_CLASSES
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.records import read_record
from ecg.data.resampling import Preprocessing
from ecg.data.source_tables import DeclaredSource, SourceTable
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.data.wave_peaks import NeuroKitMissing
from ecg.models.bundle import Bundle, save_bundle
from ecg.models.decision import Rule
from ecg.models.ensemble import Ensemble, Group, Member
from ecg.reports.ecg_paper import draw_record
from ecg.runtime.console import escape_unprintable
from ecg.runtime.executors import LocalExecutor
from ecg.systems.explanations import compute_shading, explain
from ecg.systems.label_cleaning import PartiallyLabelledSource
from ecg.systems.label_comparison import ReviewSources
from ecg.systems.recipes import ABLATIONS, RECIPES, Settings
from ecg.systems.stage_runner import StageRunner
from ecg.training.trainer import TrainingError

ROOT = Path(__file__).parents[3]


def ends_with(arguments):
    """The one line with which the command ends."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    line = ended.value.code
    assert line.startswith("python -m ecg: error: ")
    assert "\n" not in line
    return line


def test_help_names_every_command_and_loads_neither_keras_nor_matplotlib():
    code = (
        "import sys; from ecg.__main__ import main\n"
        "try: main(['--help'])\n"
        "finally: print('loaded', *{'keras', 'tensorflow', 'matplotlib', 'scipy'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "loaded"
    names = [add_command.__name__.removeprefix("add_").removesuffix("_command") for add_command in COMMANDS]
    assert "train" in names and all(f"    {name}" in printed for name in names)


def test_figures_are_drawn_without_pyplot():
    code = "import sys, ecg.reports.ecg_paper, ecg.reports.training_report\n"
    code += "print(*{'keras', 'matplotlib.pyplot'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == ""


def test_an_error_is_one_line_on_standard_error_and_status_1(tmp_path):
    command = [sys.executable, "-m", "ecg", "plot", str(tmp_path / "A0001")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "python -m ecg: error: A0001.hea: cannot be read: No such file or directory\n"


@pytest.fixture
def trained(monkeypatch):
    """What training is called with, in place of a training."""
    calls = []
    monkeypatch.setattr("ecg.commands.train.train", lambda *arguments, executor: calls.append((*arguments, executor)))
    return calls


def test_training_without_flags_is_the_methods(trained):
    main(["train", "data", "model"])
    assert trained == [(Path("data"), Path("model"), Settings(), StageRunner, LocalExecutor())]


def test_an_estimate_is_of_the_training_that_the_same_flags_begin(trained, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "ecg.commands.estimate.estimate", lambda *arguments, executor: calls.append((*arguments, executor))
    )
    flags = "--seed 3 --leads 2 12 --width 16 --epochs 3 --batch 8 --hours 1 --jobs 3 --no-masks --fallback NSR".split()
    main(["estimate", "data", *flags])
    main(["train", "data", "model", *flags])
    main(["estimate", "data"])
    assert calls == [(Path("data"), trained[0][2], LocalExecutor(3)), (Path("data"), Settings(), LocalExecutor())]
    assert trained[0][3:] == (StageRunner, LocalExecutor(3))


@pytest.mark.parametrize(
    ("called", "command"),
    [
        ("train.train", ("train", "data", "model")),
        ("estimate.estimate", ("estimate", "data")),
        ("compare.compare", ("compare", "data", "report")),
        ("audit.audit", ("audit", "data")),
    ],
)
def test_commands_get_the_table_of_patients(called, command, monkeypatch):
    given = []
    monkeypatch.setattr(f"ecg.commands.{called}", lambda *_, executor=None, **options: given.append(options) or True)
    main([*command, "--groups", "a/groups.csv"])
    main([*command])
    tables = {"classes": CHALLENGE_CLASSES, "sources": CHALLENGE_SOURCES} if command[0] == "audit" else {}
    assert given == [{"groups": Path("a/groups.csv")} | tables, tables]


@pytest.mark.parametrize(
    ("called", "command"),
    [
        ("train.train", ("train", "data", "model")),
        ("estimate.estimate", ("estimate", "data")),
        ("compare.compare", ("compare", "data", "report")),
        ("review.review", ("review", "model", "data")),
    ],
)
def test_commands_get_the_folder_of_corrections(called, command, monkeypatch):
    given = []
    monkeypatch.setattr(f"ecg.commands.{called}", lambda *_, executor=None, **options: given.append(options) or True)
    main([*command, "--corrections", "a/reviews"])
    main([*command])
    assert given == [{"corrections": Path("a/reviews")}, {}]


@pytest.mark.parametrize("command", ["train", "estimate", "compare"])
def test_corrections_that_cannot_be_used_are_reported_in_one_line(command, synthetic_recordings, tmp_path):
    outputs = [tmp_path / "other"] * (command != "estimate")
    line = ends_with([command, synthetic_recordings, *outputs, "--corrections", tmp_path / "reviews"])
    assert line.endswith("reviews: reviews cannot be read: No such file or directory")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train", "estimate", "compare", "audit"])
def test_a_table_of_patients_that_is_wrong_is_reported_in_one_line(command, synthetic_recordings, tmp_path):
    groups, outputs = tmp_path / "groups.csv", [tmp_path / "other"] * (command in ("train", "compare"))
    groups.write_text("record,patient\nA0001,\n")
    options = ["--output", tmp_path / "audit"] * (command == "audit")
    line = ends_with([command, synthetic_recordings, *outputs, "--groups", groups, *options])
    assert line.endswith("groups.csv, line 2: no patient")
    assert [path.name for path in tmp_path.iterdir()] == ["groups.csv"]


def test_an_estimate_of_nothing_gives_the_reason(tmp_path):
    assert "no header" in ends_with(["estimate", tmp_path])
    assert "nowhere" in ends_with(["estimate", tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--lumping Mine=AFL", "Mine: expected two conflated classes"),
        ("--omission Mine=VT", "VT: expected one of the trained classes"),
        ("--omission CPSC=AF --omission CPSC=NSR", "CPSC: its labelled classes given twice"),
    ],
)
def test_source_options_that_make_no_sense_are_reported_in_one_line(trained, flags, message):
    assert message in ends_with(["train", "data", "model", *flags.split()])
    assert not trained


@pytest.mark.parametrize(
    "error", [RecordError("none can\n  be used"), TrainingError("none can be used"), OSError("none can be used")]
)
def test_a_training_that_fails_is_reported_in_one_line(monkeypatch, error):
    def fail(*arguments, executor):
        raise error

    monkeypatch.setattr("ecg.commands.train.train", fail)
    assert ends_with(["train", "data", "model"]).endswith("error: none can be used")


@pytest.fixture
def compared(monkeypatch):
    """What a comparison is called with, in place of one."""
    calls = []
    monkeypatch.setattr("ecg.commands.compare.compare", lambda *given, executor: calls.append((*given, executor)))
    return calls


def test_what_is_compared_is_as_flags_say(compared):
    main(["compare", "data", "report"])
    flags = (
        "--systems cai2021 se_resnet_rhythm --leads 12 2 12 --hours 3 --seed 0 --jobs 1 --batch 8 --precision bfloat16"
    )
    main(["compare", "data", "report", *flags.split(), *"--folds 2 --width 4 --depth 18 --epochs 7".split()])
    main(["compare", "data", "report", "--systems", "ablations", "--leave-out", "georgia"])
    systems = RECIPES["cai2021"], RECIPES["se_resnet_rhythm"]
    many = Protocol(systems, (12, 2), 2, None, 3.0, 7, 8, "bfloat16", 4, 18, 0)
    ablations = Protocol((systems[0], *ABLATIONS.values()), leave_out="Georgia")
    main(["compare", "data", "report", "--systems", "xie2022", "se_resnet_rhythm", "--omission", "mine=AF,SB"])
    adjusted = []
    for name, classes in (("xie2022", ("AF",)), ("se_resnet_rhythm", ("AF", "SB"))):
        recipe = RECIPES[name]
        omissions = (*recipe.cleaning.partially_labelled, PartiallyLabelledSource(("mine",), classes, relabel=False))
        adjusted.append(replace(recipe, cleaning=replace(recipe.cleaning, partially_labelled=omissions)))
    adjusted = Protocol(tuple(adjusted))
    assert compared == [
        (Path("data"), Path("report"), protocol, LocalExecutor(jobs))
        for protocol, jobs in ((Protocol(), None), (many, 1), (ablations, None), (adjusted, None))
    ]


def test_systems_are_compared_by_your_own_weights(compared, tmp_path):
    names, weights = load_weights()
    weights[5, 3] = -2.5
    rows = [["", *names], *([name, *map(str, row)] for name, row in zip(names, weights.tolist(), strict=True))]
    (tmp_path / "mine.csv").write_text("\n".join(map(",".join, rows)))
    main(["compare", "data", "report", "--systems", "xie2022", "--weights", str(tmp_path / "mine.csv")])
    main(["compare", "data", "report", "--weights", str(ROOT / "weights.csv")])
    (_, _, first, _), (_, _, second, _) = compared
    assert first == Protocol((RECIPES["xie2022"],), weights=tuple(map(tuple, weights.tolist())))
    assert second == Protocol()
    line = ends_with(["compare", "data", "report", "--weights", tmp_path / "none.csv"])
    assert line.endswith("none.csv: cannot be read: No such file or directory")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--systems vgg", "expected a system, one of cai2021"),
        ("--omission mine=AF --omission mine=SB", "mine: its labelled classes given twice"),
        (
            "--systems xie2022 se_resnet_rhythm --omission mine=AF,RAD",
            "RAD: expected one of the trained classes NSR, AF",
        ),
        ("--systems cai2021 xie2022 --depth 18", "no network of cai2021, xie2022 has a depth"),
        ("--depth 19", "depth is 19, expected one of 18, 34"),
    ],
)
def test_comparisons_that_make_no_sense_are_reported_in_one_line(compared, flags, message):
    assert message in ends_with(["compare", "data", "report", *flags.split()])
    assert not compared


@pytest.mark.parametrize("flags", ["--folds 2 --leave-out georgia", "--folds 1", "--leads 5", "--batch 0", "--hours 0"])
def test_flags_of_a_comparison_that_cannot_be_are_reported_with_its_usage(compared, flags, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "data", "report", *flags.split()])
    assert f"error: argument {flags.split()[-2]}" in capsys.readouterr().err and not compared


@pytest.mark.parametrize(
    "error",
    [RecordError("none"), TrainingError("none"), NeuroKitMissing("none"), BlockingIOError("none")],
)
def test_a_comparison_that_fails_is_reported_in_one_line(monkeypatch, error):
    def fail(*arguments, executor):
        raise error

    monkeypatch.setattr("ecg.commands.compare.compare", fail)
    assert ends_with(["compare", "data", "report"]).endswith("error: none")


def test_a_comparison_does_not_take_an_error_of_the_program_itself_for_the_users(monkeypatch):
    monkeypatch.setattr("ecg.commands.compare.compare", lambda *arguments, executor: [].index(0))
    with pytest.raises(ValueError, match="list"):
        main(["compare", "data", "report"])


@pytest.mark.parametrize(
    ("called", "command"),
    [
        ("commands.train.train", ("train", "data", "model", "--system", "li2021")),
        ("commands.estimate.estimate", ("estimate", "data", "--system", "li2021")),
        ("commands.compare.compare", ("compare", "data", "report", "--systems", "li2021")),
        ("data.wave_peaks.find_record_peaks", ("plot", "RECORD", "--peaks")),
    ],
)
def test_what_finds_peaks_is_named_in_one_line_where_it_is_missing(headers, monkeypatch, called, command):
    def fail(*arguments, executor=None):
        raise NeuroKitMissing("pip install neurokit2")

    monkeypatch.setattr(f"ecg.{called}", fail)
    command = [str(headers[0]) if word == "RECORD" else word for word in command]
    assert ends_with(command).endswith("error: pip install neurokit2")


def test_an_error_of_the_program_itself_is_not_hidden(monkeypatch):
    monkeypatch.setattr("ecg.commands.train.train", lambda *arguments, executor: [][0])
    with pytest.raises(IndexError):
        main(["train", "data", "model"])


def test_data_that_are_not_there_are_named(tmp_path):
    assert str(tmp_path / "data") in ends_with(["train", tmp_path / "data", tmp_path / "model"])


@pytest.mark.parametrize("ending", ["", ".hea", ".mat"])
def test_a_recording_is_plotted_by_its_path_with_either_ending_or_none(headers, tmp_path, monkeypatch, capsys, ending):
    monkeypatch.chdir(tmp_path)
    main(["plot", f"{headers[0].with_suffix('')}{ending}"])
    assert capsys.readouterr().out == f"{headers[0].stem}.png\n"
    assert (tmp_path / f"{headers[0].stem}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["a.b", "$x$ 心", "n" * 251, "-x", "\udcff"])
@pytest.mark.parametrize("extension", ["hea", "HEA"])
def test_a_recording_of_any_name_is_plotted_whatever_the_case_of_its_extension(
    headers, tmp_path, monkeypatch, capsys, name, extension
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    shutil.copy(headers[0], tmp_path / f"data/{name}.{extension}")
    shutil.copy(headers[0].with_suffix(".mat"), tmp_path / "data")
    for ending in ("", ".hea", ".MAT"):
        main(["plot", f"data/{name}{ending}"])
        assert capsys.readouterr().out == f"{escape_unprintable(name)}.png\n"
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        (tmp_path / f"{name}.png").unlink()
        # The page is the same for every ending; drawing it takes most of the time.
        monkeypatch.setattr("ecg.reports.ecg_paper.draw_record", lambda *_, **__: Figure((1, 1)))


RESPIRATION = {
    "RESP (ohm)": "{name}.mat 16+24 100/ohm 16 0 0 0 0 RESP",
    "RESP": "{name}.mat 16+24 0/mV 16 0 0 0 0 RESP",
    "no file": "missing.dat 16 100/mV 16 0 0 0 0 no file",
}


def with_respiration(path, folder, kind):
    """Copy a recording with a thirteenth lead, and the others by other names; return the header's path."""
    header, recording = read_record(path)
    first, *lines = path.read_text().splitlines()
    names = ("DI", "Lead II", "MDC_ECG_LEAD_III", *LEADS[3:6], *(f"C{number}" for number in range(1, 7)))
    lines[:12] = [f"{line.rpartition(' ')[0]} {name}" for line, name in zip(lines[:12], names, strict=True)]
    lines.insert(12, RESPIRATION[kind].format(name=path.stem))
    first = first.replace(" 12 ", " 13 ", 1)
    (folder / path.name).write_text("\n".join([first, *lines]) + "\n")
    recording = recording if kind == "no file" else np.vstack([recording, recording[:1]])
    scipy.io.savemat(folder / f"{path.stem}.mat", {"val": recording}, format="4")
    return folder / path.name


@pytest.mark.parametrize(
    ("kind", "switch"),
    [
        ("RESP", ()),
        *(pytest.param(kind, (), marks=pytest.mark.slow) for kind in RESPIRATION if kind != "RESP"),
        pytest.param("RESP (ohm)", ("--peaks",), marks=pytest.mark.slow),
        pytest.param("no file", ("--model",), marks=pytest.mark.slow),
    ],
)
def test_a_recording_with_a_lead_that_nobody_needs_is_plotted(headers, small_network, tmp_path, kind, switch):
    path = with_respiration(headers[0], tmp_path, kind)
    if switch == ("--model",):
        save_bundle(make_bundle(LEADS, small_network, np.full(26, 0.5), small_network.build(12, None, 22)), tmp_path)
        switch = ("--model", str(tmp_path))
    pages = []
    for record in (path, headers[0]):
        main(["plot", str(record), *switch, "--output", str(tmp_path / "page.Svg")])
        pages.append((tmp_path / "page.Svg").read_text())
    assert f"<!-- not drawn: {kind} -->" in pages[0] and "not drawn" not in pages[1]
    traces = [[line for line in page.splitlines() if " row " in line or ' peaks"' in line] for page in pages]
    assert traces[0] == traces[1] and len(traces[0]) >= 13


def test_a_plot_is_written_to_the_output_path(headers, tmp_path, capsys):
    output = tmp_path / "page.svg"
    main(["plot", str(headers[0]), "--start", "2.5", "--output", str(output)])
    assert capsys.readouterr().out == f"{output}\n"
    assert "<svg" in output.read_text()
    with pytest.raises(SystemExit, match="2"):
        main(["plot", str(headers[0]), "--output", "page.txt"])


def test_a_plot_marks_wave_peaks_with_the_option(headers, tmp_path, monkeypatch):
    drawn = []

    def draw(*arguments, model, peaks, shading):
        drawn.append(peaks)
        return draw_record(*arguments, shading=shading)

    monkeypatch.setattr("ecg.reports.ecg_paper.draw_record", draw)
    for switch in ((), ("--peaks",)):
        main(["plot", str(headers[0]), *switch, "--output", str(tmp_path / "page.png")])
    assert drawn[0] is None and set(drawn[1].waves) == set(range(5))


def test_a_plot_with_a_model_shows_what_the_model_says(headers, small_network, tmp_path, monkeypatch):
    thresholds = np.linspace(0.2, 0.8, 26)
    bundle = make_bundle(LEADS, small_network, thresholds, small_network.build(12, None, 22))
    save_bundle(bundle, tmp_path)
    shown = {}

    def draw(*arguments, model, peaks, shading):
        shown.update(model._asdict())
        return draw_record(*arguments, model=model)

    monkeypatch.setattr("ecg.reports.ecg_paper.draw_record", draw)
    main(["plot", str(headers[0]), "--model", str(tmp_path), "--output", str(tmp_path / "page.png")])
    prediction = bundle.predict_recording(*read_record(headers[0]))
    assert np.array_equal(shown["thresholds"], np.where(prediction.covered, thresholds, np.nan), equal_nan=True)
    assert np.allclose(shown["probabilities"], prediction.probabilities, atol=1e-6)
    assert np.array_equal(shown["outputs"], prediction.outputs)


def test_a_plot_shades_the_evidence_for_a_class(headers, small_network, tmp_path, monkeypatch, capsys):
    bundle = make_bundle(LEADS, small_network, np.full(26, 0.5), small_network.build(12, None, 22))
    save_bundle(bundle, tmp_path)
    shown = []

    def draw(*arguments, model, peaks, shading):
        shown.append((model, shading))
        return draw_record(*arguments, model=model, shading=shading)

    monkeypatch.setattr("ecg.reports.ecg_paper.draw_record", draw)
    plot = ["plot", str(headers[0]), "--output", str(tmp_path / "page.png"), "--explain", "pvc"]
    main([*plot, "--model", str(tmp_path), "--method", "occlusion"])
    ((model, shading),) = shown
    expected = explain(bundle, *read_record(headers[0]), "PVC", "occlusion")
    assert model.highlighted == CLASS_INDEX["PVC"] and shading.leads == LEADS and shading.rate == 250
    assert shading.note == f"evidence for PVC by occlusion, logit {expected.logit:+.1f}"
    np.testing.assert_allclose(shading.values, compute_shading(expected), atol=1e-4)
    assert "PRWP is not explained: no method has passed" in ends_with([*plot[:-1], "PRWP", "--model", tmp_path])
    assert "AF is not explained: no part of a synthetic beat" in ends_with([*plot[:-1], "AF", "--model", tmp_path])
    for arguments, reason in (
        (plot, "--explain: needs --model"),
        ((*plot[:4], "--method", "occlusion"), "needs --explain"),
        ((*plot, "--model", tmp_path, "--method", "guess"), "received 'guess'"),
    ):
        with pytest.raises(SystemExit):
            main([*map(str, arguments)])
        assert reason in capsys.readouterr().err


def test_a_plot_shades_the_evidence_for_a_class_of_your_own(headers, small_network, tmp_path, monkeypatch):
    classes = ClassTable((Diagnosis("Normal", ("426783006",), ""), Diagnosis("VES", ("427172004",), ""),
                          Diagnosis("Scar", ("scar",), "")))  # fmt: skip
    bundle = make_own_bundle(LEADS, small_network, classes)
    save_bundle(bundle, tmp_path)
    shown = []

    def draw(*arguments, model, peaks, shading):
        shown.append((model, shading))
        return draw_record(*arguments, model=model, shading=shading)

    monkeypatch.setattr("ecg.reports.ecg_paper.draw_record", draw)
    plot = ["plot", str(headers[0]), "--output", str(tmp_path / "page.png"), "--model", str(tmp_path), "--explain"]
    main([*plot, "ves", "--method", "smoothgrad"])
    main([*plot, "scar", "--method", "occlusion"])
    for (model, shading), name, method, end in zip(shown, ("VES", "Scar"), ("smoothgrad", "occlusion"),
                                                   ("", ", not tested for this class"), strict=True):  # fmt: skip
        expected = explain(bundle, *read_record(headers[0]), name, method)
        assert (model.classes, model.highlighted) == (classes, classes.index[name])
        assert shading.note == f"evidence for {name} by {method}, logit {expected.logit:+.1f}{end}"
        np.testing.assert_allclose(shading.values, compute_shading(expected), atol=1e-4)
        assert shading.values.max() == 1
    assert "Normal is not explained: no part of a synthetic beat" in ends_with([*plot, "NORMAL"])
    assert "expected one of Normal, VES, Scar, received 'AF'" in ends_with([*plot, "AF"])


def test_a_plot_with_a_model_corrects_gains_as_its_training_did(headers, small_network, tmp_path, monkeypatch):
    corrected = []
    monkeypatch.setattr(
        "ecg.data.preprocessing.correct_gains", lambda header, _: (corrected.append(header.name) or header, ())
    )
    monkeypatch.setattr("ecg.reports.ecg_paper.draw_record", lambda *_, **__: Figure((1, 1)))
    for early_gains in (False, True):
        view = View(Preprocessing(early_gains=early_gains))
        member = Member(LEADS, small_network, small_network.build(12, None, 22), view=view)
        bundle = Bundle(LEADS, Ensemble(Group(TRAINED_CLASSES, (member,))), Rule(np.full(26, 0.5)))
        save_bundle(bundle, tmp_path)
        main(["plot", str(headers[0]), "--model", str(tmp_path), "--output", str(tmp_path / "page.png")])
        assert bool(corrected) == early_gains == bundle.early_gains


def test_a_plot_into_a_missing_folder_ends_before_the_recording_is_read(tmp_path):
    ended = ends_with(["plot", tmp_path / "A0001", "--output", tmp_path / "missing/page.png"])
    assert f"{tmp_path / 'missing'}: No such file or directory" in ended


def test_a_plot_that_cannot_be_drawn_gives_the_reason(headers, tmp_path):
    (tmp_path / "A0001.hea").write_text("A0001 12 500 x\n")
    assert "A0001.hea line 1: number of samples 'x'" in ends_with(["plot", tmp_path / "A0001"])
    assert "no signal at 999 s" in ends_with(["plot", headers[0], "--start", "999"])
    assert "no_folder" in ends_with(["plot", headers[0], "--output", tmp_path / "no_folder" / "page.png"])
    assert "12_leads.json is missing" in ends_with(["plot", headers[0], "--model", tmp_path])


@pytest.fixture
def reviewed(monkeypatch):
    """What the review of labels is called with, in its place."""
    calls = []
    monkeypatch.setattr(
        "ecg.commands.review.review", lambda *arguments, **keywords: calls.append((*arguments, keywords))
    )
    return calls


def test_a_review_is_called_as_the_flags_say(reviewed):
    main(["review", "model", "data"])
    main(["review", "model", "data", "--output", "a/b", "--figures", "0"])
    main(["review", "model", "data", "--omission", "Mine=AF, BBB", "--omission", "CPSC=AF,SB"])
    known = (PartiallyLabelledSource(relabel=False),)
    keywords = (
        PartiallyLabelledSource(("Mine",), ("AF", "BBB"), relabel=False),
        PartiallyLabelledSource(labelled=("AF", "SB"), relabel=False),
    )
    assert reviewed == [
        (Path("model"), Path("data"), Path("review"), ReviewSources(CHALLENGE_SOURCES, known), {}),
        (Path("model"), Path("data"), Path("a/b"), ReviewSources(CHALLENGE_SOURCES, known), {"figures": 0}),
        (Path("model"), Path("data"), Path("review"), ReviewSources(CHALLENGE_SOURCES, keywords), {}),
    ]
    with pytest.raises(SystemExit, match="2"):
        main(["review", "model", "data", "--figures", "-1"])


@pytest.mark.parametrize(
    ("called", "command"),
    [
        ("sample.write_sample", ("sample", "model", "data", "list.csv", "--class", "LAD")),
        ("agreement.agreement", ("agreement", "reviews", "--data", "data")),
        ("serve.serve", ("serve", "model", "data")),
    ],
)
def test_commands_get_the_table_of_sources(called, command, monkeypatch, tmp_path):
    given, table = [], SourceTable((DeclaredSource("Mine", "M", ("AF", "NSR")),))
    monkeypatch.setattr(f"ecg.commands.{called}", lambda *arguments, **_: given.append(arguments))
    (tmp_path / "sources.csv").write_text("source,pattern,labelled\nMine,M,AF|NSR\n")
    main([*command, "--sources", str(tmp_path / "sources.csv")])
    main([*command])

    def find_table(arguments):
        return next((getattr(value, "source_table", value) for value in arguments
                     if isinstance(value, SourceTable) or hasattr(value, "source_table")), None)  # fmt: skip

    assert [find_table(arguments) for arguments in given] == [table, None]
    (tmp_path / "sources.csv").write_text("source,pattern,labelled\nMine,M,AF|Scar\n")
    if command[0] != "sample":  # which knows the classes when it draws
        assert "Mine: labels Scar, expected some of " in ends_with([*command, "--sources", tmp_path / "sources.csv"])
    (tmp_path / "sources.csv").write_text("source,pattern\nMine,(\n")
    assert "sources.csv, line 2: Mine: '(' is no regular" in ends_with(
        [*command, "--sources", tmp_path / "sources.csv"]
    )


def test_a_review_that_fails_gives_the_reason(headers, synthetic_recordings, tmp_path):
    review, output = ["review", tmp_path, synthetic_recordings, "--output"], tmp_path / "out"
    assert "none of 60 recordings can be reviewed" in (line := ends_with([*review, output]))
    assert f"{headers[0].stem} and 59 more: " in line and "12_leads.json is missing" in line
    assert "which is not from a review" in ends_with([*review, synthetic_recordings])
    assert "no header" in ends_with(["review", tmp_path, tmp_path, "--output", output])
    assert not output.exists()


@pytest.fixture
def audited(monkeypatch):
    """What the audit is called with, in its place; each finds all usable that is not in a folder called bad."""
    calls = []
    monkeypatch.setattr(
        "ecg.commands.audit.audit",
        lambda *arguments, classes, sources: calls.append((*arguments, classes, sources)) or arguments[0].name != "bad",
    )
    return calls


def test_an_audit_gets_its_options_and_its_exit_status_is_whether_all_is_usable(audited):
    main(["audit", "data"])
    main(["audit", "data", "--output", "a/b", "--jobs", "3"])
    with pytest.raises(SystemExit) as ended:
        main(["audit", "bad"])
    assert ended.value.code == 1
    assert audited == [
        (Path("data"), Path("audit"), LocalExecutor(), CHALLENGE_CLASSES, CHALLENGE_SOURCES),
        (Path("data"), Path("a/b"), LocalExecutor(3), CHALLENGE_CLASSES, CHALLENGE_SOURCES),
        (Path("bad"), Path("audit"), LocalExecutor(), CHALLENGE_CLASSES, CHALLENGE_SOURCES),
    ]
    with pytest.raises(SystemExit, match="2"):
        main(["audit", "data", "--jobs", "0"])


def test_an_audit_that_fails_gives_the_reason(synthetic_recordings, tmp_path):
    assert "no header" in ends_with(["audit", tmp_path, "--output", tmp_path / "out"])
    assert "which is not from an audit" in ends_with(["audit", synthetic_recordings, "--output", synthetic_recordings])
    assert "nowhere" in ends_with(["audit", tmp_path / "nowhere", "--output", tmp_path / "out"])
    assert not (tmp_path / "out").exists()


def test_an_audit_without_keras_reads_a_folder_and_ends_with_status_0(synthetic_recordings, tmp_path):
    code = (
        "import sys; from ecg.__main__ import main\n"
        f"main(['audit', {str(synthetic_recordings)!r}, '--output', {str(tmp_path / 'out')!r}, '--jobs', '1'])\n"
        "print('loaded', *{'keras', 'tensorflow', 'matplotlib'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    first, *_, last, loaded = ended.stdout.splitlines()
    assert first.startswith("60 recordings, ") and " usable, 0 not" in first
    assert last.startswith(f"{tmp_path / 'out'}: ") and loaded == "loaded"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ("", {}),
        ("--leads 3", {"leads": LEAD_SETS[3]}),
        ("--seed 4 --noise 0.5 --jobs 1", {"seed": 4, "noise": 0.5}),
        ("--no-cpsc-omits --sources CPSC", {"cpsc_omits": False, "sources": {"CPSC": 1}}),
        ("--wrong-labels 0.5", {"wrong_labels": 0.5}),
        ("--clean", {"clean": True}),
        ("--no-ningbo-flutter --sources Ningbo=3 CPSC", {"ningbo_flutter": False, "sources": {"Ningbo": 3, "CPSC": 1}}),
        ("--sources georgia=2 ptb-xl", {"sources": {"Georgia": 2, "PTB-XL": 1}}),
    ],
)
def test_recordings_are_synthesized_by_the_options(tmp_path, capsys, flags, options):
    main(["synthesize", str(tmp_path / "flags"), "--records", "5", *flags.split()])
    assert capsys.readouterr().out == f"{tmp_path / 'flags'}: 5 synthetic recordings\n"
    synthesize(tmp_path / "options", 5, options.pop("seed", 0), SyntheticSettings(**options))
    assert files(tmp_path / "flags") == files(tmp_path / "options")
    assert len(files(tmp_path / "flags")) == 10


@pytest.mark.parametrize("source", ["Atlantis", "CPSC=0", "CPSC=x", "CPSC=nan", "CPSC=inf", "CPSC="])
def test_unknown_sources_and_empty_shares_are_usage_errors(tmp_path, capsys, source):
    with pytest.raises(SystemExit, match="2"):
        main(["synthesize", str(tmp_path / "folder"), "--records", "5", "--sources", source])
    assert source.split("=")[0] in capsys.readouterr().err
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("wrong", ["-0.1", "1.1", "nan", "x"])
def test_a_share_of_wrong_labels_beyond_0_to_1_is_a_usage_error(tmp_path, capsys, wrong):
    with pytest.raises(SystemExit, match="2"):
        main(["synthesize", str(tmp_path / "folder"), "--records", "5", "--wrong-labels", wrong])
    assert "--wrong-labels" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "folder").exists()


def test_a_reader_that_has_had_enough_is_no_error(synthetic_recordings, tmp_path):
    command = [sys.executable, "-m", "ecg", "audit", synthetic_recordings, "--output", tmp_path / "out", "--jobs", "1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert b"rror" not in process.stderr.read()
    assert process.returncode == 1


def test_names_that_the_console_cannot_show_are_escaped(synthetic_recordings, tmp_path):
    command = [
        sys.executable,
        "-m",
        "ecg",
        "audit",
        synthetic_recordings,
        "--output",
        tmp_path / "\u00e4udit",
        "--jobs",
        "1",
    ]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert r"\xe4udit" in done.stdout and (tmp_path / "\u00e4udit" / "summary.csv").exists()


@pytest.mark.parametrize("command", ["audit", "review", "compare", "train", "synthesize", "plot"])
def test_an_output_that_cannot_be_written_is_one_error_before_the_work(command, tmp_path, unprivileged):
    """The recordings are never read: an error of one of them would come first."""
    import ecg.commands.audit
    import ecg.commands.estimate
    import ecg.commands.review  # noqa: F401 - nobody cannot read the files of root's Python

    tmp_path.chmod(0o755)
    data = tmp_path / "data"
    data.mkdir()
    for number in range(5):
        (data / f"A000{number}.hea").write_text("no header\n")
    (tmp_path / "closed").mkdir(0o555)
    output = tmp_path / "closed" / ("new.png" if command == "plot" else "new")
    arguments = {
        "audit": [data, "--output", output],
        "review": [tmp_path / "model", data, "--output", output],
        "compare": [data, output],
        "train": [data, output],
        "synthesize": [output, "--records", 1],
        "plot": [data / "A0001", "--output", output],
    }
    with unprivileged():
        expected_path = output.parent if command == "plot" else output
        assert ends_with([command, *arguments[command]]) == f"python -m ecg: error: {expected_path}: Permission denied"
