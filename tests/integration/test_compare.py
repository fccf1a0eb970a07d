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
from helpers import capture_log, drop_progress, write_reviews

from ecg.commands import compare as module
from ecg.commands import fold_job
from ecg.commands.compare import SystemRun, collect_results, compare, merge_excluded, result_cache
from ecg.commands.fold_job import FoldJob, RecordingsChanged, run_in_this_process
from ecg.commands.holdout import Costs, FoldResult, HeldOutPredictions, training_cost
from ecg.commands.protocol import Protocol
from ecg.data.batches import REPEATED, View, Window
from ecg.data.headers import RecordError
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.resampling import DEFAULT_PREPROCESSING, Preprocessing
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.data.wave_peaks import NeuroKitMissing, WavePeaks
from ecg.models.decision import Rule
from ecg.models.network_settings import NetworkSettings
from ecg.reports.comparison_report import write_comparison
from ecg.runtime.cache import ResultCache
from ecg.runtime.console import start_logging
from ecg.runtime.executors import ONE_PROCESS
from ecg.runtime.limits import TIME_LIMIT_REACHED
from ecg.runtime.locks import lock_folder
from ecg.runtime.processes import serve_call
from ecg.systems.label_cleaning import CleaningSettings
from ecg.systems.recipes import SYSTEMS, Settings
from ecg.training.settings import TrainingSettings
from ecg.training.trainer import TrainingError

ROOT = Path(__file__).parents[2]
PLAIN = NetworkSettings(width=4, kernels=(), hidden=8)  # no blocks, so that it is compiled quickly
QUICK = TrainingSettings(epochs=5, steps=2)
ONE = Settings(system="one", network=PLAIN, training=QUICK, cleaning=CleaningSettings((), (), masks=False), resamples=2)
OTHER = replace(
    SYSTEMS["se_resnet_rhythm"], system="other", views=(View(Preprocessing(100, None), Window(1000, REPEATED)),),
    network=PLAIN, training=QUICK,
)  # fmt: skip


class FakeSystem:
    """A trained system that predicts each recording of the store as a table has it."""

    def __init__(self, store, system, training):
        self.store, self.training = store, training
        self.columns = CHALLENGE_CLASSES.indices(system.classes)
        self.table = np.random.default_rng(0).random((len(store), len(self.columns))).astype(np.float32)
        self.search = SimpleNamespace(by_class=np.linspace(0.2, 0.8, 26))
        searches = dict.fromkeys(system.lead_sets, self.search)
        rule = Rule(np.full(26, 0.5), system.decision, system.answer_pairs, system.fallback)
        self.settings, self.predicted, self.seconds = system, [], {"general/2": 3.0, "general/II": 7.0}
        epochs = [SimpleNamespace(key=key) for key in self.seconds]
        ends = dict.fromkeys(self.seconds, TIME_LIMIT_REACHED)
        self.results = SimpleNamespace(
            searches=searches, columns=self.columns, rule=lambda count: rule, epochs=epochs, ends=ends,
            relabellings=[], settings=system, classes=system.class_table,
        )  # fmt: skip

    def ensemble(self, leads):
        return SimpleNamespace(leads=leads, system=self, parameters=len(leads), predict=lambda segments, person: None)


def predict_fake(ensemble, stores, records, title, size):
    system = ensemble.system
    assert size == system.settings.training.batch
    system.predicted.append((ensemble.leads, records.tolist(), list(stores)))
    return system.table[records]


def run_here(job):
    """Run a job in this process."""
    return job.run(*job.load_stores())


class Call:
    """A task that calls a function with a job when its result is asked for, in this process."""

    where = "this process"

    def __init__(self, function, job):
        self.function, self.job = function, job

    def result(self):
        return self.function(self.job)

    def cancel(self):
        pass


def begin(function):
    """Return a function that begins a job as a task of this process."""
    return partial(Call, function)


@pytest.fixture
def trained(store, monkeypatch):
    """A list of the fake systems that take the place of trainings; all stores are the synthetic one."""
    trained = []

    def train_system(settings, runner, peaks, data):
        training = [np.flatnonzero(store.paths == path).item() for path in next(iter(runner.stores.values())).paths]
        trained.append(FakeSystem(store, settings, training))
        trained[-1].inputs = runner, peaks, data
        return trained[-1]

    monkeypatch.setattr(fold_job, "train_system", train_system)
    monkeypatch.setattr("ecg.commands.holdout.predict_stores", predict_fake)
    monkeypatch.setattr(
        module, "build_stores", lambda data, folder, preparations, executor, *_: dict.fromkeys(preparations, store)
    )
    monkeypatch.setattr(fold_job, "open_store", lambda folder: store)
    return trained


@pytest.fixture
def written(monkeypatch):
    """Collect the comparisons that would be written as reports."""
    written = []

    def write(folder, comparison, facts, seed):
        written.append((folder, comparison, facts, seed))
        return folder / "page"

    monkeypatch.setattr(module, "write_comparison", write)
    return written


PART = np.array([3, 4, 17, 29])


def run_job(system, folder):
    preparations = dict.fromkeys(view.preparation for view in (*ONE.views, *OTHER.views, *system.views))
    stores = module.build_stores("data", folder, preparations, ONE_PROCESS)
    digests = {preparation: store.digest for preparation, store in stores.items()}
    job = FoldJob("data", folder, digests, system, PART, 3.0, folder / "networks", ResultCache(folder / "kept", "key"))
    with pytest.raises(RecordingsChanged, match="recordings have changed since"):
        replace(job, digests=dict.fromkeys(digests, "others")).load_stores()
    result = run_here(job)
    loaded = FoldResult.from_arrays(job.cache.load("predictions")).arrays()
    assert loaded.keys() == result.arrays().keys()
    assert all((loaded[name] == array).all() for name, array in result.arrays().items())
    return result


@pytest.mark.parametrize("system", [replace(ONE, lead_sets=(12, 2)), replace(OTHER, lead_sets=(4, 2))])
def test_a_system_is_trained_without_the_held_out_recordings_and_predicts_these(system, trained, store, tmp_path):
    result = run_job(system, tmp_path)
    (fake,) = trained
    assert fake.training == np.delete(np.arange(len(store)), PART).tolist()
    runner, _, _ = fake.inputs
    assert list(runner.stores) == system.preparations and runner.folder == tmp_path / "networks"
    budget = runner.budget
    assert budget.cumulative and budget.end - time.monotonic() == pytest.approx(3 * 3600, abs=60)
    wide = CHALLENGE_CLASSES.expand(fake.table[PART], fake.columns)
    for count in system.lead_sets:
        predictions = result.by_leads[count]
        np.testing.assert_array_equal(predictions.probabilities, wide)
        rule = fake.results.rule(count)
        np.testing.assert_array_equal(predictions.predictions, rule.decide(fake.table[PART], fake.columns))
        np.testing.assert_array_equal(predictions.optimised, wide >= fake.search.by_class)
        by_credit = replace(rule, decision="expected_credit").decide(fake.table[PART], fake.columns)
        np.testing.assert_array_equal(predictions.by_credit, by_credit)
        assert (by_credit != predictions.optimised).any()
        parameters, seconds, *training = predictions.costs
        assert parameters == len(system.leads_of(count)) and 0 <= seconds < 1
        assert tuple(training) == training_cost(fake, count)
    assert [leads for leads, records, _ in fake.predicted if records == PART.tolist()] == list(
        dict.fromkeys(system.leads_of(count) for count in system.lead_sets)
    )


def test_too_little_memory_for_the_predictions_is_a_failure_of_the_system(trained, tmp_path, monkeypatch):
    def ensemble(self, leads):
        raise MemoryError("Unable to allocate 3 GiB")

    monkeypatch.setattr(FakeSystem, "ensemble", ensemble)
    with pytest.raises(TrainingError, match="one: the memory is too small"):
        run_job(ONE, tmp_path)


def test_a_result_is_cached_by_all_that_decides_it(store, monkeypatch):
    peaks = WavePeaks(np.zeros(len(store) + 1, int), np.zeros(1, np.int32), np.zeros(1, np.int8))
    given = {"system": ONE, "folder": Path("stages/fold1"), "held_out": PART, "hours": None,
             "stores": {DEFAULT_PREPROCESSING: store}, "peaks": {DEFAULT_PREPROCESSING: peaks}}  # fmt: skip
    kept = result_cache(**given)
    assert kept.path == Path("stages/fold1") / f"one_{kept.key[:12]}"
    second = {DEFAULT_PREPROCESSING: replace(peaks, samples=np.ones(1, np.int32))}
    same = ({"system": replace(ONE, keep_stages=True)}, {"peaks": second})
    assert all(result_cache(**given | changes) == kept for changes in same)
    li = replace(SYSTEMS["li2021"], views=ONE.views)
    keys = {
        kept.key,
        result_cache(**given | {"system": li}).key,
        result_cache(**given | {"system": li, "peaks": second}).key,
    }
    for changes in (
        {"held_out": PART[:3]},
        {"hours": 1.5},
        {"system": replace(ONE, seed=3)},
        {"system": replace(ONE, system="another")},
        {"stores": {DEFAULT_PREPROCESSING: store.subset(np.arange(40))}},
    ):
        keys.add(result_cache(**given | changes).key)
    for name, value in (("source_hash", "of another program"), ("version", "of another version")):
        with monkeypatch.context() as patch:
            patch.setattr(f"ecg.systems.stage_runner.{name}", lambda *_, value=value: value)
            keys.add(result_cache(**given).key)
    grouped = [replace(store, patients=np.arange(len(store)) // size) for size in (2, 3)]
    keys |= {result_cache(**given | {"stores": {DEFAULT_PREPROCESSING: store}}).key for store in grouped}
    monkeypatch.setattr("keras.backend.backend", lambda: "numpy")
    assert len(keys | {result_cache(**given).key}) == 13


def test_peaks_are_those_of_the_recordings_that_are_trained_on(trained, store, tmp_path, monkeypatch):
    counts = np.arange(len(store)) % 3
    starts = np.cumsum([0, *counts])
    samples = np.arange(starts[-1], dtype=np.int32)
    peaks = WavePeaks(starts, samples, np.zeros(starts[-1], np.int8))
    monkeypatch.setattr(fold_job, "load_all_wave_peaks", lambda stores, *_: dict.fromkeys(stores, peaks))
    run_job(replace(SYSTEMS["li2021"], views=ONE.views), tmp_path)
    (waves,) = trained[0].inputs[1].values()
    for index, record in enumerate(trained[0].training):
        np.testing.assert_array_equal(waves.recording(index).samples, peaks.recording(record).samples)


def test_a_recording_excluded_by_one_preparation_is_reported_once():
    store = SimpleNamespace(excluded=(("A1", "flat"), ("B", "too short"), ("B", "too short")))
    second = SimpleNamespace(excluded=(("A1", "flat"), ("C", "flat at 500 Hz")))
    third = SimpleNamespace(excluded=(("C", "flat at 257 Hz"),))
    assert merge_excluded([store, second, third]) == (*store.excluded, ("C", "flat at 257 Hz"))


def test_predictions_of_all_parts_come_in_the_order_of_the_recordings_with_their_folds(store):
    rng = np.random.default_rng(1)
    parts = [np.sort(part) for part in np.array_split(rng.permutation(len(store)), 3)]
    systems = [replace(ONE, lead_sets=(12, 2)), replace(OTHER, lead_sets=(12, 2))]
    arrays = rng.random((2, 2, 4, len(store), 26))  # by system, lead set, kind and recording
    kinds = ("probabilities", "predictions", "optimised", "by_credit")
    runs = [
        SystemRun(system, [
            FoldResult({count: HeldOutPredictions(*arrays[row, index][:, part],
                                                  Costs(100 * row + count, 2 * number, number, 7, number + 3, number))
                        for index, count in enumerate((12, 2))})
            for number, part in enumerate(parts)
        ])
        for row, system in enumerate(systems)
    ]  # fmt: skip
    comparison = collect_results(store, parts, runs)
    np.testing.assert_array_equal(comparison.labels, store.as_scored)
    np.testing.assert_array_equal(comparison.sources, store.sources)
    for number, part in enumerate(parts, 1):
        assert (comparison.folds[part] == number).all()
    assert [(trial.system, trial.leads) for trial in comparison.results] == [
        ("one", 12), ("one", 2), ("other", 12), ("other", 2)]  # fmt: skip
    for trial, tables in zip(comparison.results, arrays.reshape(4, 4, len(store), 26), strict=True):
        for kind, table in zip(kinds, tables, strict=True):
            np.testing.assert_array_equal(getattr(trial, kind), table)
        assert trial.parameters == 100 * (trial.system == "other") + trial.leads
        assert (trial.training_seconds, trial.prediction_seconds) == (1, 2)
        assert (trial.networks, trial.epochs, trial.time_limited) == (7, 4, 3)
    left_out = collect_results(store, [parts[1]], [replace(run, results=run.results[1:2]) for run in runs])
    np.testing.assert_array_equal(left_out.sources, store.sources[parts[1]])
    np.testing.assert_array_equal(left_out.results[3].predictions, arrays[1, 1, 1, parts[1]])


def test_each_fold_is_a_job_of_each_system_with_its_share_of_the_hours(
    trained, written, store, synthetic_recordings, tmp_path, monkeypatch
):
    jobs, stages = [], tmp_path / "stages"

    def execute(job):
        jobs.append(job)
        job.networks.mkdir(parents=True, exist_ok=True)
        return run_here(job)

    lines, protocol = capture_log(), Protocol((ONE, OTHER), (2,), folds=2, hours=8, seed=5)
    monkeypatch.setattr(module, "merge_excluded", lambda stores: (("A9", "flat"),))
    monkeypatch.setattr(
        "ecg.commands.holdout.skipped_steps", lambda trained, system: ["this", "that"] if system.exclusive else []
    )
    comparison = compare(synthetic_recordings, tmp_path, protocol, begin(execute))
    facts = written[0][2]
    assert [facts.get(f"skipped by {name}, fold 2 of 2") for name in ("one", "other")] == [None, "this; that"]
    assert facts["recordings excluded"] == "1: flat (A9)"
    folds = [fold.tolist() for fold in protocol.held_out(store)]
    assert [(job.system.system, job.held_out.tolist(), job.hours) for job in jobs] == [
        (name, fold, 2.0) for fold in folds for name in ("one", "other")
    ]
    first, second, third, fourth = (job.networks.relative_to(stages) for job in jobs)
    assert (first, third) == (second, fourth) and (first.parts[0], third.parts[0]) == ("fold1of2", "fold2of2")
    assert lines[0] == "2 systems, 2 folds, 2 h 00 min for each system and fold"
    assert lines[3] == f"one, fold 2 of 2: {len(folds[0])} recordings to train on, {len(folds[1])} held out"
    assert written[0][:2] == (tmp_path, comparison) and written[0][3] == 5
    for fake, job in zip(trained, jobs, strict=True):
        assert sorted(fake.training + job.held_out.tolist()) == list(range(len(store)))
    # The predictions stay, the networks do not, and what is cached is not run again.
    for fold in ("fold1of2", "fold2of2"):
        names = [path.name for folder in (stages / fold).iterdir() for path in folder.iterdir()]
        assert names == ["predictions.npz"] * 2
    lines.clear()
    again = compare(synthetic_recordings, tmp_path, protocol, begin(execute))
    assert len(jobs) == 4 and lines[1] == "one, fold 1 of 2: loaded from cache"
    np.testing.assert_array_equal(again.results[1].probabilities, comparison.results[1].probabilities)
    assert compare(synthetic_recordings, tmp_path, replace(protocol, hours=7), begin(execute)) and len(jobs) == 8


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TrainingError("no memory"), "no memory"),
        (RecordError("too few"), "too few"),
        (ChildProcessError("was ended"), "was ended"),
        (OSError(12, "Cannot allocate memory"), "Cannot allocate memory"),
        (ZeroDivisionError("by the system's own fault"), "ZeroDivisionError: by the system's own fault"),
    ],
)
def test_a_system_that_fails_is_reported_and_the_others_are_compared(
    error, message, trained, written, synthetic_recordings, tmp_path
):
    names, lines = [], capture_log()

    def execute(job):
        names.append(job.system.system)
        job.networks.mkdir(parents=True, exist_ok=True)
        if job.system.system == "one" and len(names) > 2:
            raise error
        return run_here(job)

    protocol = Protocol((ONE, OTHER, replace(OTHER, system="last")), (2,), folds=3)
    with pytest.raises(TrainingError) as raised:
        compare(synthetic_recordings, tmp_path, protocol, begin(execute))
    failed = f"one, fold 2 of 3: {message}"
    assert str(raised.value) == f"{tmp_path / 'page'} lacks the systems that failed: {failed}"
    assert names == ["one", "other", "last", "one", "other", "last", "other", "last"]
    assert f"one, fold 2 of 3: failed, {message}" in lines
    assert any(line.startswith("Traceback") for line in lines) == message.startswith("ZeroDivisionError")
    ((_, comparison, facts, _),) = written
    assert comparison.systems == ["other", "last"] and facts["failed"] == failed
    kept = [path.parent.name for path in tmp_path.glob("stages/fold*/networks_*")]
    assert kept == ["fold2of3"]  # what is there of the system that failed is not done again
    with pytest.raises(TrainingError, match=re.escape(f"no system is trained: one, fold 2 of 3: {message}")):
        compare(synthetic_recordings, tmp_path, replace(protocol, systems=(ONE,)), begin(execute))
    assert len(written) == 1


def test_corrections_are_trained_on_and_scored(trained, written, store, synthetic_recordings, tmp_path):
    names, column = store.names.tolist(), CHALLENGE_CLASSES.indices(["AF"]).item()
    rows = [("Anna", name, "AF", "absent" if label else "present")
            for name, label in zip(names, store.labels[:, column], strict=True)]  # fmt: skip
    reviews, jobs = write_reviews(tmp_path / "reviews", *rows), []

    def execute(job):
        jobs.append(job)
        result = run_here(job)
        (subset,) = trained[-1].inputs[0].stores.values()
        chosen = trained[-1].training
        np.testing.assert_array_equal(subset.labels[:, column], ~store.labels[chosen, column])
        np.testing.assert_array_equal(subset.verdicts[:, column], ~store.labels[chosen, column])
        return result

    protocol = Protocol((ONE,), (2,), folds=2)
    for _ in range(2):  # the second time from the cache
        comparison = compare(synthetic_recordings, tmp_path / "report", protocol, begin(execute), None, reviews)
        assert len(jobs) == 2
    expected = store.as_scored.copy()
    expected[:, column] = ~store.labels[:, column]
    np.testing.assert_array_equal(comparison.labels, expected)
    facts = written[-1][2]
    assert facts["corrections"].startswith(f"Corrections: {len(store)} labels of {len(store)} recordings")
    assert [row[0] for row in facts["corrected labels"]] == ["record", *names]
    compare(synthetic_recordings, tmp_path / "report", protocol, begin(run_here))
    assert len(trained) == 4 and not {"corrections", "corrected labels"} & set(written[-1][2])


@pytest.mark.parametrize("leave_out", [None, "georgia"])
def test_no_patient_is_trained_on_and_held_out(leave_out, trained, written, store, synthetic_recordings, tmp_path):
    patients = {name: f"P{index // 3}" for index, name in enumerate(store.names.tolist())}
    groups = tmp_path / "groups.csv"
    groups.write_text("record,patient\n" + "".join(f"{name},{patient}\n" for name, patient in patients.items()))
    jobs, lines = [], capture_log()

    def execute(job):
        jobs.append(job)
        result = run_here(job)
        grouped = next(iter(trained[-1].inputs[0].stores.values()))
        np.testing.assert_array_equal(grouped.patients, [int(patients[name][1:]) for name in grouped.names])
        return result

    protocol = Protocol((ONE,), (2,), folds=2, leave_out=leave_out)
    compare(synthetic_recordings, tmp_path / "report", protocol, begin(execute), groups)
    assert len(jobs) == len(protocol.titles)
    for fake, job in zip(trained, jobs, strict=True):
        held_out = {patients[store.names[record]] for record in job.held_out}
        left = [record for record in range(len(store)) if patients[store.names[record]] not in held_out]
        assert fake.training == left
    n_others = len(store) - len(left) - len(job.held_out)
    assert any("other recordings of held-out patients are not trained on" in line for line in lines) == bool(leave_out)
    assert bool(n_others) == bool(leave_out)
    assert (
        written[0][2]["patients"] == f"20, {'none both trained on and held out' if leave_out else 'each in one fold'}"
    )
    # The same groups are the same comparison, and others are another, even if the same recordings are held out.
    compare(synthetic_recordings, tmp_path / "report", protocol, begin(execute), groups)
    assert len(jobs) == len(protocol.titles)
    compare(synthetic_recordings, tmp_path / "report", protocol, begin(run_here))
    assert len(trained) == 2 * len(jobs) and "patients" not in written[-1][2]


@pytest.mark.parametrize("error", [RecordingsChanged("changed"), OSError(28, "No space left on device")])
def test_what_all_systems_would_meet_ends_the_comparison(error, trained, written, synthetic_recordings, tmp_path):
    def execute(job):
        raise error

    with pytest.raises(type(error)) as raised:
        compare(synthetic_recordings, tmp_path, Protocol((ONE, OTHER), (2,), folds=2), begin(execute))
    assert raised.value is error and not written


def test_a_missing_delineator_is_reported_with_the_systems_that_want_it(synthetic_recordings, tmp_path, monkeypatch):
    def missing():
        raise NeuroKitMissing("NeuroKit2 is missing")

    monkeypatch.setattr(module, "neurokit_version", missing)
    with pytest.raises(NeuroKitMissing, match="NeuroKit2 is missing, or leave li2021 out of --systems"):
        compare(synthetic_recordings, tmp_path, Protocol(leave_out="georgia"))
    assert not list(tmp_path.iterdir())


def test_an_untrainable_system_is_reported_before_training_and_does_not_change_the_time_of_others(
    trained, written, synthetic_recordings, tmp_path, monkeypatch
):
    lines, reasons = capture_log(), {"one": "fold 2 of 2: 3 recordings"}
    monkeypatch.setattr(
        Protocol, "untrainable_reason", lambda self, system, store, folds: reasons.get(system.system, "")
    )
    with pytest.raises(TrainingError, match="lacks the systems that failed: one, fold 2 of 2: 3 recordings"):
        compare(synthetic_recordings, tmp_path, Protocol((ONE, OTHER), (2,), folds=2, hours=4), begin(run_here))
    assert lines[0] == "one cannot be trained, fold 2 of 2: 3 recordings"
    assert len(trained) == 2 and written[0][1].systems == ["other"]
    compare(synthetic_recordings, tmp_path, Protocol((OTHER,), (2,), folds=2, hours=4), begin(run_here))
    assert len(trained) == 2
    with pytest.raises(TrainingError, match="no system is trained: one, fold 2 of 2: 3 recordings"):
        compare(synthetic_recordings, tmp_path, Protocol((ONE,), (2,), folds=2, hours=4, width=4), begin(run_here))


def test_mistakes_are_reported_before_anything_is_read(synthetic_recordings, headers, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "build_stores", None)
    for protocol, message in (
        (Protocol(leave_out="georgina"), "the sources are CPSC"),
        (Protocol(folds=61), "too few"),
    ):
        with pytest.raises(RecordError, match=message):
            compare(synthetic_recordings, tmp_path / "report", protocol)
    with pytest.raises(FileNotFoundError):
        compare(tmp_path, tmp_path / "report")
    groups = tmp_path / "groups.csv"
    groups.write_text("record,patient\n" + "".join(f"{path.stem},one\n" for path in headers))
    with pytest.raises(RecordError, match="1 patient of 6[0-9]* recordings are too few for 5 folds"):
        compare(synthetic_recordings, tmp_path / "report", groups=groups)
    with pytest.raises(RecordError, match="missing.csv: cannot be read"):
        compare(synthetic_recordings, tmp_path / "report", groups=tmp_path / "missing.csv")
    assert not (tmp_path / "report").exists()
    with (
        lock_folder(tmp_path / "stages"),
        pytest.raises(BlockingIOError, match="another process is at work in this folder"),
    ):
        compare(synthetic_recordings, tmp_path)


@pytest.mark.slow
def test_what_two_systems_train_alike_is_trained_once(synthetic_recordings, tmp_path, monkeypatch):
    """The default with other thresholds, and one that is trained by another loss, share its network of round 1."""
    monkeypatch.setattr(module, "write_comparison", lambda folder, *given, **keywords: folder)
    lines = capture_log()
    base = replace(ONE, cleaning=CleaningSettings((), ()), resamples=0)
    systems = (
        base,
        replace(base, system="halves", decision="half"),
        replace(base, system="focal", loss="focal"),
    )
    protocol = Protocol(systems, (2,), leave_out="georgia", epochs=1, hours=3)
    first, halves, focal = compare(synthetic_recordings, tmp_path, protocol, begin(run_here)).results
    trained = [line.partition(": all ")[0] for line in lines if ": all 1 epochs" in line]
    assert trained == ["round 1, 12 leads", "round 2, 2 leads", "round 2, 2 leads"]
    np.testing.assert_array_equal(first.probabilities, halves.probabilities)
    np.testing.assert_array_equal(halves.predictions, halves.probabilities >= 0.5)
    assert (focal.probabilities != first.probabilities).any()
    assert first.training_seconds == halves.training_seconds > 0
    assert [(result.networks, result.epochs, result.time_limited) for result in (first, halves, focal)] == [
        (2, 2, 0)
    ] * 3


@pytest.mark.slow
def test_two_small_systems_are_compared_from_recordings_to_page_and_resumed(
    synthetic_recordings, tmp_path, monkeypatch, capsys
):
    start_logging()  # another test may have captured the log
    monkeypatch.setattr(module, "write_comparison", partial(write_comparison, resamples=5))
    protocol = Protocol((ONE, OTHER), (2,), folds=2, epochs=1)
    systems = []

    def execute(job):
        if systems == ["one", "other", "one"]:
            raise KeyboardInterrupt
        systems.append(job.system.system)
        return run_in_this_process(job)

    with pytest.raises(KeyboardInterrupt):
        compare(synthetic_recordings, tmp_path, protocol, begin(execute))
    systems.clear()
    comparison = compare(synthetic_recordings, tmp_path, protocol, begin(execute))
    assert systems == ["other"]
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch 1: loss" in line]
    assert sorted({line.split(": ")[0] for line in lines}) == ["one", "other"]
    first, second = comparison.results
    assert (first.system, first.leads, second.system, second.leads) == ("one", 2, "other", 2)
    assert len(comparison.labels) == len(first.predictions) == len(second.predictions) == 60
    assert first.parameters == PLAIN.build(2, None, 22).count_params()
    assert second.parameters == PLAIN.build(1, 1000, 7).count_params()
    assert second.known_classes.sum() == 7 and (second.predictions.sum(axis=1) == 1).all()
    np.testing.assert_allclose(second.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert min(first.training_seconds, first.prediction_seconds, second.training_seconds, second.prediction_seconds) > 0
    pages = {path.name for path in (tmp_path / "comparison").iterdir()}
    assert {"comparison.html", "overall.csv"} <= pages
    assert {path.name for path in (tmp_path / "stages").iterdir()} == {
        "store",
        "store_100_hz_unfiltered",
        "fold1of2",
        "fold2of2",
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

    def until(self, printed):
        """Read what it says until a line has this in it."""
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if printed in line:
                return
        raise AssertionError(self.process.stderr.read())

    def kill(self):
        """Kill it and all that it has started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def kill_training(self):
        """Kill the process that trains, and it alone."""
        killed = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid and serve_call.__name__ in (path / "cmdline").read_text():
                    os.kill(int(path.name), signal.SIGKILL)
                    killed.append(path.name)
            except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                continue
        assert len(killed) == 1, killed

    def ends(self):
        """Return its exit status and what it wrote to standard error, but for how far it has come, once it is done."""
        printed, errors = self.process.communicate()
        self.lines += printed.splitlines()
        return self.process.returncode, drop_progress(errors)


@pytest.mark.slow
def test_a_killed_and_resumed_comparison_equals_an_uninterrupted_one(tmp_path):
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
    assert status == 1 and line.startswith("python -m ecg: error: ")
    assert line.endswith(f"lacks the systems that failed: {failed}")
    names = ["se_resnet_rhythm", "cai2021-no-masks"]
    assert [name in (report / "comparison/comparison.html").read_text() for name in names] == [True, True]
    assert {row["system"] for row in table(report / "comparison/overall.csv")} == set(names[1:])

    again = Command(data, report)
    assert again.ends() == (0, [])
    assert [line for line in again.lines if "loaded from cache" in line or "resumed after" in line] == [
        "cai2021-no-masks, fold 1 of 2: loaded from cache",
        "se_resnet_rhythm: lead II: resumed after epoch 1",
        "cai2021-no-masks, fold 2 of 2: loaded from cache",
    ]
    for name in ("overall", "by_class", "by_source", "by_fold", "differences", "recordings"):
        path = f"comparison/{name}.csv"
        assert (report / path).read_text() == (plain / path).read_text() != ""
    costs = table(report / "comparison/costs.csv")
    assert [row["system"] for row in costs] == names[::-1]
    assert not [*report.glob("stages/fold*/networks_*")] and len([*report.glob("stages/fold*/*/predictions.npz")]) == 4
    kept = Command(data, report)
    assert kept.ends() == (0, []) and sum("loaded from cache" in line for line in kept.lines) == 4
    page = (report / "comparison/comparison.html").read_text()
    assert all(name in page for name in names)
