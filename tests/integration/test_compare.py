import csv
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import capture_log

from ecg.commands import compare as module
from ecg.commands.compare import (
    RecordingsChanged,
    collect_results,
    compare,
    merge_excluded,
    result_cache,
    train_and_predict,
)
from ecg.commands.holdout import Protocol, training_cost
from ecg.data.batches import REPEATED, View, Window
from ecg.data.headers import RecordError
from ecg.data.labels import class_indices, expand
from ecg.data.resampling import DEFAULT_PREPROCESSING, Preprocessing
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.data.wave_peaks import NeuroKitMissing, WavePeaks
from ecg.models.decision import Rule
from ecg.models.resnets import NetworkSettings
from ecg.reports.comparison_report import write_comparison
from ecg.runtime.cache import ResultCache
from ecg.runtime.files import lock_folder
from ecg.systems import stage as fitting
from ecg.systems.label_cleaning import CleaningSettings
from ecg.systems.recipes import SYSTEMS, Settings
from ecg.training.trainer import TIME_LIMIT_REACHED, TrainingError, TrainingSettings

ROOT = Path(__file__).parents[2]
PLAIN = NetworkSettings(width=4, kernels=(), hidden=8)  # no blocks, so that it is compiled quickly
QUICK = TrainingSettings(epochs=5, steps=2)
ONE = Settings(system="one", network=PLAIN, training=QUICK, cleaning=CleaningSettings((), (), masks=False), resamples=2)
OTHER = replace(
    SYSTEMS["se_resnet_rhythm"], system="other", views=(View(Preprocessing(100, None), Window(1000, REPEATED)),),
    network=PLAIN, training=QUICK,
)  # fmt: skip


class Learnt:
    """What a training came to by which each recording of the store is answered as a table has it."""

    def __init__(self, store, system, learning):
        self.store, self.learning = store, learning
        self.columns = class_indices(system.classes)
        self.table = np.random.default_rng(0).random((len(store), len(self.columns))).astype(np.float32)
        self.search = SimpleNamespace(by_class=np.linspace(0.2, 0.8, 26))
        searches = dict.fromkeys(system.lead_sets, self.search)
        rule = Rule(np.full(26, 0.5), system.exclusive, system.answer_pairs, system.fallback)
        self.settings, self.asked, self.seconds = system, [], {"general/2": 3.0, "general/II": 7.0}
        epochs, ends = (
            [SimpleNamespace(key=key) for key in self.seconds],
            dict.fromkeys(self.seconds, TIME_LIMIT_REACHED),
        )
        self.results = SimpleNamespace(searches=searches, columns=self.columns, rule=lambda count: rule, epochs=epochs,
                                       ends=ends, relabellings=[])  # fmt: skip

    def ensemble(self, leads):
        def predicted(stores, records, title, size):
            assert size == self.settings.training.batch
            self.asked.append((leads, records.tolist(), list(stores)))
            return self.table[records]

        return SimpleNamespace(predicted=predicted, parameters=len(leads), probabilities=lambda parts, person: None)


@pytest.fixture
def taught(store, monkeypatch):
    """A list of what was learnt, in place of trainings by other processes; all stores are the made-up one."""
    taught = []

    def learn(stores, peaks, settings, folder, data, budget):
        learning = [np.flatnonzero(store.paths == path).item() for path in next(iter(stores.values())).paths]
        taught.append(Learnt(store, settings, learning))
        taught[-1].given = stores, peaks, folder, data, budget
        return taught[-1]

    monkeypatch.setattr(module, "start_logging", lambda prefix: None)
    monkeypatch.setattr(module, "train_system", learn)
    monkeypatch.setattr(module, "run_in_subprocess", lambda function, *given, prepare: function(*given))
    monkeypatch.setattr(
        module, "build_stores", lambda data, folder, preparations, jobs: dict.fromkeys(preparations, store)
    )
    return taught


@pytest.fixture
def written(monkeypatch):
    """A list of what is written of comparisons, in place of it."""
    written = []

    def write(folder, comparison, facts, seed):
        written.append((folder, comparison, facts, seed))
        return folder / "page"

    monkeypatch.setattr(module, "write_comparison", write)
    return written


PART = np.array([3, 4, 17, 29])


def answer(system, folder, part=PART):
    both = replace(system, views=(*ONE.views, *OTHER.views))
    kept = ResultCache(folder / "kept", "mark")
    digests = {one: each.digest for one, each in module.build_stores("data", folder, both.preparations, 1).items()}
    with pytest.raises(RecordingsChanged, match="recordings have changed since"):
        train_and_predict(
            "data", folder, both, system, dict.fromkeys(digests, "others"), PART, 3.0, folder / "networks", kept
        )
    result = train_and_predict("data", folder, both, system, digests, part, 3.0, folder / "networks", kept)
    recalled = kept.load("answers")
    assert recalled.keys() == result.keys() and all((recalled[name] == result[name]).all() for name in result)
    return result


@pytest.mark.parametrize("system", [replace(ONE, lead_sets=(12, 2)), replace(OTHER, lead_sets=(4, 2))])
def test_a_system_learns_from_all_but_a_part_and_answers_for_that(system, taught, store, tmp_path):
    said = answer(system, tmp_path)
    (learnt,) = taught
    assert learnt.learning == np.delete(np.arange(len(store)), PART).tolist()
    stores, _, networks, _, budget = learnt.given
    assert list(stores) == system.preparations and networks == tmp_path / "networks"  # not those of other systems
    assert budget.cumulative and budget.end - time.monotonic() == pytest.approx(3 * 3600, abs=60)
    probabilities = learnt.table[PART]
    wide = expand(probabilities, learnt.columns)
    for count in system.lead_sets:
        np.testing.assert_array_equal(said[f"{count} probabilities"], wide)
        rule = learnt.results.rule(count)
        np.testing.assert_array_equal(said[f"{count} answers"], rule.decide(probabilities, learnt.columns))
        np.testing.assert_array_equal(said[f"{count} optimised"], wide >= learnt.search.by_class)
        parameters, answering, *training = said[f"{count} costs"]
        assert parameters == len(system.leads_of(count)) and 0 <= answering < 1
        assert tuple(training) == training_cost(learnt, count)
    assert [leads for leads, records, _ in learnt.asked if records == PART.tolist()] == list(
        dict.fromkeys(system.leads_of(count) for count in system.lead_sets)
    )


def test_too_little_memory_for_the_answers_is_a_failure_of_the_system(taught, tmp_path, monkeypatch):
    def ensemble(self, leads):
        raise MemoryError("Unable to allocate 3 GiB")

    monkeypatch.setattr(Learnt, "ensemble", ensemble)
    with pytest.raises(TrainingError, match="one: the memory is too small"):
        answer(ONE, tmp_path)


def test_what_is_said_is_kept_by_all_that_decides_it(store, monkeypatch):
    peaks = WavePeaks(np.zeros(len(store) + 1, int), np.zeros(1, np.int32), np.zeros(1, np.int8))
    given = {"system": ONE, "key": "fold1", "part": PART, "stores": {DEFAULT_PREPROCESSING: store}, "waves": {DEFAULT_PREPROCESSING: peaks},
             "hours": None, "stages": Path("stages")}  # fmt: skip
    kept = result_cache(**given)
    assert kept.path == Path("stages/fold1") / f"one_{kept.key[:12]}"
    other = {DEFAULT_PREPROCESSING: replace(peaks, samples=np.ones(1, np.int32))}
    same = ({"system": replace(ONE, jobs=3, keep_stages=True)}, {"stages": Path("stages")}, {"waves": other})
    assert all(result_cache(**given | changes) == kept for changes in same)
    li = replace(SYSTEMS["li2021"], views=ONE.views)
    marks = {
        kept.key,
        result_cache(**given | {"system": li}).key,
        result_cache(**given | {"system": li, "waves": other}).key,
    }
    for changes in (
        {"part": PART[:3]},
        {"hours": 1.5},
        {"system": replace(ONE, seed=3)},
        {"system": replace(ONE, system="another")},
        {"stores": {DEFAULT_PREPROCESSING: store.subset(np.arange(40))}},
    ):
        marks.add(result_cache(**given | changes).key)
    for name, value in (("program", "of another program"), ("version", "of another version")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda *_, value=value: value)
            marks.add(result_cache(**given).key)
    monkeypatch.setattr(module.keras.backend, "backend", lambda: "numpy")
    assert len(marks | {result_cache(**given).key}) == 11


def test_peaks_are_those_of_the_recordings_that_are_learnt_from(taught, store, tmp_path, monkeypatch):
    counts = np.arange(len(store)) % 3
    starts = np.cumsum([0, *counts])
    samples = np.arange(starts[-1], dtype=np.int32)
    peaks = WavePeaks(starts, samples, np.zeros(starts[-1], np.int8))
    monkeypatch.setattr(module, "load_all_wave_peaks", lambda stores, *_: dict.fromkeys(stores, peaks))
    answer(replace(SYSTEMS["li2021"], views=ONE.views), tmp_path)
    (waves,) = taught[0].given[1].values()
    for place, record in enumerate(taught[0].learning):
        np.testing.assert_array_equal(waves.recording(place).samples, peaks.recording(record).samples)


def test_what_is_left_out_in_one_way_of_preparing_is_told_once():
    one = SimpleNamespace(excluded=(("A1", "flat"), ("B", "too short"), ("B", "too short")))
    other = SimpleNamespace(excluded=(("A1", "flat"), ("C", "flat at 500 Hz")))
    third = SimpleNamespace(excluded=(("C", "flat at 257 Hz"),))
    assert merge_excluded([one, other, third]) == (*one.excluded, ("C", "flat at 257 Hz"))


def test_answers_of_all_parts_come_in_the_order_of_the_recordings_with_their_folds(store):
    rng = np.random.default_rng(1)
    parts = [np.sort(part) for part in np.array_split(rng.permutation(len(store)), 3)]
    systems = [replace(ONE, lead_sets=(12, 2)), replace(OTHER, lead_sets=(12, 2))]
    whole = rng.random((2, 2, 3, len(store), 26))  # by system, lead set, kind and recording
    kinds = ("probabilities", "answers", "optimised")
    found = [
        [
            {f"{count} {kind}": whole[one, place, row, part] for place, count in enumerate((12, 2))
             for row, kind in enumerate(kinds)}
            | {f"{count} costs": np.array([100 * one + count, 2 * number, number, 7, number + 3, number])
               for count in (12, 2)}
            for number, part in enumerate(parts)
        ]
        for one in range(2)
    ]  # fmt: skip
    comparison = collect_results(store, parts, systems, found)
    np.testing.assert_array_equal(comparison.labels, store.as_scored)
    np.testing.assert_array_equal(comparison.sources, store.sources)
    for number, part in enumerate(parts, 1):
        assert (comparison.folds[part] == number).all()
    assert [(trial.system, trial.leads) for trial in comparison.results] == [
        ("one", 12), ("one", 2), ("other", 12), ("other", 2)]  # fmt: skip
    for trial, tables in zip(comparison.results, whole.reshape(4, 3, len(store), 26), strict=True):
        for kind, table in zip(kinds, tables, strict=True):
            np.testing.assert_array_equal(getattr(trial, kind), table)
        assert trial.parameters == 100 * (trial.system == "other") + trial.leads
        assert (trial.training_seconds, trial.prediction_seconds) == (1, 2)
        assert (trial.networks, trial.epochs, trial.time_limited) == (7, 4, 3)
    left_out = collect_results(store, [parts[1]], systems, [[each[1]] for each in found])
    np.testing.assert_array_equal(left_out.sources, store.sources[parts[1]])
    np.testing.assert_array_equal(left_out.results[3].predictions, whole[1, 1, 1, parts[1]])


def test_each_part_is_held_out_of_each_system_by_a_process_of_its_own_with_its_part_of_the_hours(
    taught, written, store, synthetic_recordings, tmp_path, monkeypatch
):
    asked = []

    def apart(function, data, stages, every, system, digests, part, hours, networks, kept, prepare):
        assert function is module.train_and_predict and prepare is module.start_keras
        asked.append((system.system, part.tolist(), hours, networks.relative_to(stages), kept.path.parent))
        networks.mkdir(parents=True, exist_ok=True)
        return function(data, stages, every, system, digests, part, hours, networks, kept)

    monkeypatch.setattr(module, "run_in_subprocess", apart)
    lines, protocol = capture_log(), Protocol((ONE, OTHER), (2,), folds=2, hours=8, seed=5)
    monkeypatch.setattr(module, "merge_excluded", lambda stores: (("A9", "flat"),))
    monkeypatch.setattr(
        "ecg.commands.holdout.skipped_steps", lambda learnt, system: ["this", "that"] if system.exclusive else []
    )
    comparison = compare(synthetic_recordings, tmp_path, protocol)
    facts = written[0][2]
    assert [facts.get(f"not done by {name}, fold 2 of 2") for name in ("one", "other")] == [None, "this; that"]
    assert facts["recordings left out"] == "1: flat (A9)"
    parts = [part.tolist() for part in protocol.held_out(store)]
    assert [(name, part, hours) for name, part, hours, *_ in asked] == [
        (name, part, 2.0) for part in parts for name in ("one", "other")
    ]
    first, second, third, fourth = (networks for *_, networks, _ in asked)
    assert (first, third) == (second, fourth) and (first.parts[0], third.parts[0]) == ("fold1", "fold2")
    assert lines[0] == "2 systems, 2 parts to be held out, 2 h 00 min for each in each part"
    assert lines[3] == f"one, fold 2 of 2: {len(parts[0])} recordings to learn from, {len(parts[1])} held out"
    assert written[0][:2] == (tmp_path, comparison) and written[0][3] == 5
    for learnt, (_, part, *_) in zip(taught, asked, strict=True):
        assert sorted(learnt.learning + part) == list(range(len(store)))
    # The answers stay, what was trained does not, and no process is begun for what is kept.
    for place, count in ((tmp_path / "stages/fold1", 2), (tmp_path / "stages/fold2", 2)):
        assert [path.name for folder in place.iterdir() for path in folder.iterdir()] == ["answers.npz"] * count
    lines.clear()
    again = compare(synthetic_recordings, tmp_path, protocol)
    assert len(asked) == 4 and lines[1] == "one, fold 1 of 2: done before"
    np.testing.assert_array_equal(again.results[1].probabilities, comparison.results[1].probabilities)
    assert compare(synthetic_recordings, tmp_path, replace(protocol, hours=7)) and len(asked) == 8


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TrainingError("no memory"), "no memory"),
        (RecordError("too few"), "too few"),
        (ChildProcessError("was ended"), "was ended"),
        (OSError(12, "Cannot allocate memory"), "Cannot allocate memory"),
        (ZeroDivisionError("by the system's own fault"), "ZeroDivisionError: by the system's own fault"),
    ],
)
def test_a_system_that_fails_is_told_and_the_others_are_compared(
    error, told, taught, written, synthetic_recordings, tmp_path, monkeypatch
):
    asked, lines = [], capture_log()

    def apart(function, data, stages, every, system, digests, part, hours, networks, kept, prepare):
        asked.append(system.system)
        networks.mkdir(parents=True, exist_ok=True)
        if system.system == "one" and len(asked) > 2:
            raise error
        return function(data, stages, every, system, digests, part, hours, networks, kept)

    monkeypatch.setattr(module, "run_in_subprocess", apart)
    protocol = Protocol((ONE, OTHER, replace(OTHER, system="last")), (2,), folds=3)
    with pytest.raises(TrainingError) as raised:
        compare(synthetic_recordings, tmp_path, protocol)
    failed = f"one, fold 2 of 3: {told}"
    assert str(raised.value) == f"{tmp_path / 'page'} is without what failed: {failed}"
    assert asked == ["one", "other", "last", "one", "other", "last", "other", "last"]
    assert f"one, fold 2 of 3: failed, {told}" in lines
    assert any(line.startswith("Traceback") for line in lines) == told.startswith("ZeroDivisionError")
    ((_, comparison, facts, _),) = written
    assert comparison.systems == ["other", "last"] and facts["failed"] == failed
    kept = [path.parent.name for path in tmp_path.glob("stages/fold*/networks_*")]
    assert kept == ["fold2"]  # what is there of the system that failed is not done again
    with pytest.raises(TrainingError, match=re.escape(f"no system is trained: one, fold 2 of 3: {told}")):
        compare(synthetic_recordings, tmp_path, replace(protocol, systems=(ONE,)))
    assert len(written) == 1


@pytest.mark.parametrize("error", [RecordingsChanged("changed"), OSError(28, "No space left on device")])
def test_what_all_systems_would_meet_ends_the_comparison(
    error, taught, written, synthetic_recordings, tmp_path, monkeypatch
):
    def apart(*given, prepare):
        raise error

    monkeypatch.setattr(module, "run_in_subprocess", apart)
    with pytest.raises(type(error)) as raised:
        compare(synthetic_recordings, tmp_path, Protocol((ONE, OTHER), (2,), folds=2))
    assert raised.value is error and not written


def test_a_missing_delineator_is_told_with_the_systems_that_want_it(synthetic_recordings, tmp_path, monkeypatch):
    def missing():
        raise NeuroKitMissing("NeuroKit2 is missing")

    monkeypatch.setattr(module, "neurokit_version", missing)
    with pytest.raises(NeuroKitMissing, match="NeuroKit2 is missing, or leave li2021 out of --systems"):
        compare(synthetic_recordings, tmp_path, Protocol(leave_out="georgia"))
    assert not list(tmp_path.iterdir())


def test_what_cannot_learn_is_told_before_anything_is_trained_and_does_not_change_the_time_of_others(
    taught, written, synthetic_recordings, tmp_path, monkeypatch
):
    lines, lacking = capture_log(), {"one": "fold 2 of 2: 3 recordings"}
    monkeypatch.setattr(Protocol, "lacking", lambda self, system, store, parts: lacking.get(system.system, ""))
    with pytest.raises(TrainingError, match="is without what failed: one, fold 2 of 2: 3 recordings"):
        compare(synthetic_recordings, tmp_path, Protocol((ONE, OTHER), (2,), folds=2, hours=4))
    assert lines[0] == "one cannot be trained, fold 2 of 2: 3 recordings"
    assert len(taught) == 2 and written[0][1].systems == ["other"]
    compare(synthetic_recordings, tmp_path, Protocol((OTHER,), (2,), folds=2, hours=4))
    assert len(taught) == 2
    with pytest.raises(TrainingError, match="no system is trained: one, fold 2 of 2: 3 recordings"):
        compare(synthetic_recordings, tmp_path, Protocol((ONE,), (2,), folds=2, hours=4, width=4))


def test_mistakes_are_told_before_anything_is_read(synthetic_recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "build_stores", None)
    for protocol, told in ((Protocol(leave_out="georgina"), "the sources are CPSC"), (Protocol(folds=61), "too few")):
        with pytest.raises(RecordError, match=told):
            compare(synthetic_recordings, tmp_path / "report", protocol)
    with pytest.raises(FileNotFoundError):
        compare(tmp_path, tmp_path / "report")
    assert not (tmp_path / "report").exists()
    with (
        lock_folder(tmp_path / "stages"),
        pytest.raises(BlockingIOError, match="another process is at work in this folder"),
    ):
        compare(synthetic_recordings, tmp_path)


def test_what_two_systems_train_alike_is_trained_once(synthetic_recordings, tmp_path, monkeypatch):
    """The default with other thresholds, and one that is trained by another loss, share its network of round 1."""
    monkeypatch.setattr(module, "run_in_subprocess", lambda function, *given, prepare: function(*given))
    monkeypatch.setattr(module, "write_comparison", lambda folder, *given, **named: folder)
    whole, trained = fitting.train_network, []

    def train_network(network, loss, training, validation, run):
        trained.append(run.title)
        return whole(network, loss, training, validation, run)

    monkeypatch.setattr(fitting, "train_network", train_network)
    one = replace(ONE, cleaning=CleaningSettings((), ()), resamples=0)
    systems = (one, replace(one, system="halves", thresholds="halves"), replace(one, system="focal", loss="focal"))
    protocol = Protocol(systems, (2,), leave_out="georgia", epochs=1, jobs=1, hours=3)
    first, halves, focal = compare(synthetic_recordings, tmp_path, protocol).results
    assert trained == ["round 1, 12 leads", "round 2, 2 leads", "round 2, 2 leads"]
    np.testing.assert_array_equal(first.probabilities, halves.probabilities)
    np.testing.assert_array_equal(halves.predictions, halves.probabilities >= 0.5)
    assert (focal.probabilities != first.probabilities).any()
    assert first.training_seconds == halves.training_seconds > 0
    assert [(each.networks, each.epochs, each.time_limited) for each in (first, halves, focal)] == [(2, 2, 0)] * 3


def test_two_small_systems_are_compared_from_recordings_to_page_and_taken_up_where_cut_off(
    synthetic_recordings, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("ecg.commands.compare.run_in_subprocess", lambda function, *given, prepare: function(*given))
    monkeypatch.setattr("ecg.commands.compare.write_comparison", partial(write_comparison, resamples=5))
    protocol = Protocol((ONE, OTHER), (2,), folds=2, epochs=1, jobs=1)
    learn, learnt = module.train_system, []

    def stops(stores, peaks, settings, *given):
        if learnt == ["one", "other", "one"]:
            raise KeyboardInterrupt
        learnt.append(settings.system)
        return learn(stores, peaks, settings, *given)

    monkeypatch.setattr("ecg.commands.compare.train_system", stops)
    with pytest.raises(KeyboardInterrupt):
        compare(synthetic_recordings, tmp_path, protocol)
    learnt.clear()
    comparison = compare(synthetic_recordings, tmp_path, protocol)
    assert learnt == ["other"]
    said = [line for line in capsys.readouterr().out.splitlines() if "epoch 1: loss" in line]
    assert sorted({line.split(": ")[0] for line in said}) == ["one", "other"]
    one, other = comparison.results
    assert (one.system, one.leads, other.system, other.leads) == ("one", 2, "other", 2)
    assert len(comparison.labels) == len(one.predictions) == len(other.predictions) == 60
    assert one.parameters == PLAIN.build(2, None, 22).count_params()
    assert other.parameters == PLAIN.build(1, 1000, 7).count_params()
    assert other.known_classes.sum() == 7 and (other.predictions.sum(axis=1) == 1).all()
    np.testing.assert_allclose(other.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert min(one.training_seconds, one.prediction_seconds, other.training_seconds, other.prediction_seconds) > 0
    pages = {path.name for path in (tmp_path / "comparison").iterdir()}
    assert {"comparison.html", "overall.csv"} <= pages
    assert {path.name for path in (tmp_path / "stages").iterdir()} == {
        "store",
        "store_100_hz_unfiltered",
        "fold1",
        "fold2",
        "lock",
    }


def table(path):
    """The rows of a CSV file, as dicts."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class Command:
    """The command that compares two small systems in two folds, in a session of its own; what it says, line by line."""

    flags = "--systems cai2021-no-masks se_resnet_rhythm --width 4 --depth 18 --leads 2 --folds 2 --epochs 2 --jobs 1"

    def __init__(self, data, report):
        command = [sys.executable, "-m", "ecg", "compare", data, report, *self.flags.split()]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.lines = []

    def until(self, said):
        """Read what it says until a line has this in it."""
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if said in line:
                return
        raise AssertionError(self.process.stderr.read())

    def kill(self):
        """Kill it and all that it has started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def kill_training(self):
        """Kill the process that trains, and it alone."""
        trains = "from multiprocessing.spawn import spawn_main"
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid and trains in (path / "cmdline").read_text():
                    os.kill(int(path.name), signal.SIGKILL)
            except FileNotFoundError:  # it has ended meanwhile
                continue

    def ends(self):
        """Return its exit status and what it wrote to standard error, but for how far it has come, once it is done."""
        said, errors = self.process.communicate()
        self.lines += said.splitlines()
        return self.process.returncode, [line for line in errors.splitlines() if not line.endswith(" left")]


@pytest.mark.slow
def test_a_comparison_that_is_killed_or_whose_training_is_comes_to_the_same(tmp_path):
    data, plain, report = (tmp_path / name for name in ("data", "plain", "report"))
    synthesize(
        data, 40, seed=1, settings=SyntheticSettings(sources={"Georgia": 1, "PTB-XL": 1})
    )  # in which nothing is relabelled
    assert Command(data, plain).ends() == (0, [])

    killed = Command(data, report)
    killed.until("round 2, 2 leads, epoch 1: ")
    killed.kill()
    without = Command(data, report)
    without.until("round 2, 2 leads: resumed after epoch 1")
    without.until("lead II, epoch 1: ")
    without.kill_training()
    failed = "se_resnet_rhythm, fold 1 of 2: its process was killed, perhaps because the memory is too small, "
    failed += "or it did not start for the reason above"
    status, (line,) = without.ends()
    assert (status, line.startswith("python -m ecg: error: "), line.endswith(f"is without what failed: {failed}")) == (
        1, True, True)  # fmt: skip
    names = ["se_resnet_rhythm", "cai2021-no-masks"]
    assert [name in (report / "comparison/comparison.html").read_text() for name in names] == [True, True]
    assert {row["system"] for row in table(report / "comparison/overall.csv")} == set(names[1:])

    again = Command(data, report)
    assert again.ends() == (0, [])
    assert [line for line in again.lines if "done before" in line or "taken up" in line] == [
        "cai2021-no-masks, fold 1 of 2: done before",
        "se_resnet_rhythm: lead II: resumed after epoch 1",
        "cai2021-no-masks, fold 2 of 2: done before",
    ]
    for name in ("overall", "by_class", "by_source", "by_fold", "differences", "recordings"):
        path = f"comparison/{name}.csv"
        assert (report / path).read_text() == (plain / path).read_text() != ""
    costs = table(report / "comparison/costs.csv")
    assert [row["system"] for row in costs] == names[::-1]
    assert not [*report.glob("stages/fold*/networks_*")] and len([*report.glob("stages/fold*/*/answers.npz")]) == 4
    kept = Command(data, report)
    assert kept.ends() == (0, []) and sum("done before" in line for line in kept.lines) == 4
    page = (report / "comparison/comparison.html").read_text()
    assert all(name in page for name in names)
