"""Stages that run as tasks in processes of their own."""

import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
from helpers import capture_log
from process_pool import ProcessPool
from remote_functions import prepare_nothing

from ecg.data.batches import View, Window
from ecg.data.leads import LEAD_SETS
from ecg.data.resampling import DEFAULT_PREPROCESSING
from ecg.data.wave_peaks import WavePeaks
from ecg.models.network_settings import LiSettings, NetworkSettings
from ecg.runtime.limits import TimeBudget
from ecg.runtime.locks import lock_folder
from ecg.systems.method import train_system
from ecg.systems.plan import stage_groups, stage_keys
from ecg.systems.recipes import SYSTEMS
from ecg.systems.stage import CHALLENGE, Stage
from ecg.systems.stage_runner import StageRunner
from ecg.training.losses import FocalLoss
from ecg.training.settings import TrainingSettings
from ecg.training.trainer import TrainingError

QUICK = TrainingSettings(epochs=2, steps=2)
# Two networks, each first trained for wave peaks.
PEAKS = replace(
    SYSTEMS["li2021"], views=(View(window=Window(992)),), gate=None, training=QUICK, lead_sets=(3, 2), resamples=2,
    network=LiSettings(stages=(1,), width=4, squeeze_ratio=None, peaks=True, peak_units=4),
    peak_training=replace(QUICK, epochs=1),
)  # fmt: skip


class Untrained(StageRunner):
    """A runner that trains nothing."""

    def train(self, stage, cache):
        raise TrainingError(f"{stage.title}: is trained")


def make_runner(store, folder, pool=None, runner_type=StageRunner, **fields):
    executor = {} if pool is None else {"executor": pool}
    return runner_type({DEFAULT_PREPROCESSING: store}, folder, 7, TimeBudget(None), **executor, **fields)


def make_stage(store, key="general/2", **fields):
    """A stage of a network that is compiled quickly."""
    n, targets = len(store), store.labels[:, :3].astype(np.float32)
    return Stage(key, f"title of {key}", LEAD_SETS[2], FocalLoss(), np.arange(n), targets, np.ones_like(targets),
                 np.arange(40), np.arange(40, n), np.arange(0, n, 2), NetworkSettings(width=4, kernels=(), hidden=8),
                 replace(QUICK, epochs=1), **fields)  # fmt: skip


def regular_peaks(store):
    """An R wave in every 200th sample of each recording."""
    samples = [np.arange(100, length, 200) for length in store.lengths]
    starts = np.cumsum([0, *map(len, samples)])
    return WavePeaks(starts, np.concatenate(samples).astype(np.int32), np.full(starts[-1], 2, np.int8))


def assert_equal_systems(first, second):
    assert first.results.epochs == second.results.epochs and first.results.ends == second.results.ends
    assert list(first.seconds) == list(second.seconds) == stage_keys(PEAKS)
    for one_network, another in zip(first.networks, second.networks, strict=True):
        assert one_network.leads == another.leads
        np.testing.assert_array_equal(one_network.probabilities, another.probabilities)
        for weights, expected in zip(one_network.weights, another.weights, strict=True):
            np.testing.assert_array_equal(weights, expected)


@pytest.mark.slow
def test_two_stages_at_the_same_time_give_what_one_after_the_other_gives(store, tmp_path):
    peaks = {DEFAULT_PREPROCESSING: regular_peaks(store)}
    expected = train_system(PEAKS, make_runner(store, tmp_path / "local"), peaks, tmp_path)
    lines, pool, folder = capture_log(), ProcessPool(2), tmp_path / "shared"
    trained = train_system(PEAKS, make_runner(store, folder, pool), peaks, tmp_path)
    assert_equal_systems(trained, expected)
    assert len(pool.tasks) == 2 and "2 networks to train, 2 at the same time" in lines
    positions = [
        [next(index for index, line in enumerate(lines) if line.startswith(f"{count} leads{text}"))
         for text in (": is trained on ", ", peaks: all 1 epochs", ": all 2 epochs")]
        for count in (3, 2)
    ]  # fmt: skip
    assert all(position == sorted(position) for position in positions)
    assert max(position[0] for position in positions) < min(position[-1] for position in positions)
    assert not any("loaded from cache" in line for line in lines)
    assert len(list(folder.iterdir())) == 4 and not list(folder.glob("*/progress.npz"))  # and no inputs

    lines.clear()
    again = train_system(PEAKS, make_runner(store, folder, pool), peaks, tmp_path)
    assert_equal_systems(again, expected)
    assert len(pool.tasks) == 2 and sum("loaded from cache" in line for line in lines) == 4


class KillingScorer:
    """A scorer that ends its process, as the system does if memory is short."""

    def __call__(self, validation, probabilities):
        signal.raise_signal(signal.SIGKILL)


@pytest.mark.slow
def test_a_stage_whose_process_is_killed_is_named_and_the_others_end(store, tmp_path):
    pool = ProcessPool(2)
    runner = make_runner(store, tmp_path, pool, scorer=KillingScorer())
    stages = [make_stage(store, "general/2", metric=CHALLENGE), make_stage(store, "general/3")]
    stages[1] = replace(stages[1], learning=replace(QUICK, epochs=100_000, patience=100_000))
    with pytest.raises(TrainingError, match="^title of general/2: its process was killed, perhaps because the memory"):
        runner.run_all(stages)
    assert all(task.process.process.returncode is not None for task in pool.tasks) and len(pool.tasks) == 2
    assert not (tmp_path / "inputs").exists() and (runner.epochs, runner.ends) == ([], {})


def test_a_stage_that_another_process_trains_is_waited_for(store, tmp_path):
    stage, lines = make_stage(store), capture_log()
    runner = make_runner(store, tmp_path, runner_type=Untrained)
    cache = runner.cache_of(stage)
    locked, result = threading.Event(), {
        "epochs": np.array("[]"), "ended": np.array("all done"), "probabilities": np.ones((30, 3)), "used": np.ones(2),
    }  # fmt: skip

    def train():
        with lock_folder(cache.path):
            locked.set()
            while not any("another process trains it" in line for line in lines):
                pass
            cache.save("result", result)

    thread = threading.Thread(target=train)
    thread.start()
    assert locked.wait(10)
    assert runner.run(stage).ended == "all done"
    thread.join()
    assert lines == ["title of general/2: another process trains it; waiting for its end"]
    assert [path.name for path in cache.path.iterdir()] == ["result.npz"]


def test_what_a_task_has_trained_must_appear(store, tmp_path, monkeypatch):
    monkeypatch.setattr("ecg.runtime.cache.VISIBLE_SECONDS", 0.0)

    class Idle(ProcessPool):
        def start(self, function, *arguments, **options):
            return super().start(len, "", **options | {"prepare": prepare_nothing})

    with pytest.raises(FileNotFoundError, match="result.npz: was written by another machine and does not appear here"):
        make_runner(store, tmp_path, Idle(1)).run(make_stage(store))


COSTS = {"a": 3.0, "rule": 1.0, "masks": 1.0, "b/peaks": 1.0, "b": 1.0, "c/peaks": 1.0, "c": 1.0, "d": 2.0}
GROUPS = [[["a"]], [["rule"]], [["masks"]], [["b/peaks", "b"], ["c/peaks", "c"], ["d"]]]


@pytest.mark.parametrize(
    ("slots", "chains", "rounds"),
    [
        (1, [["masks"]], 7),  # as one after the other
        (1, [["b/peaks", "b"], ["c/peaks", "c"], ["d"]], 3),
        (2, [["masks"]], 1 + 2 + 2),
        (2, [["b/peaks", "b"], ["c/peaks", "c"], ["d"]], 2),
        (2, [["c/peaks", "c"], ["d"]], 1),  # the first one runs
        (3, [["a"]], (3 + 1 + 1 + 2) / 3),
        (9, [["rule"]], 1 + 1 + 2),
    ],
)
def test_networks_that_are_trained_at_the_same_time_share_the_time_by_rounds(slots, chains, rounds, tmp_path):
    runner = StageRunner({}, tmp_path, 0, TimeBudget(None), ProcessPool(slots), COSTS, GROUPS)
    assert runner.count_rounds(chains) == pytest.approx(rounds)
    if slots == 1:
        assert runner.count_rounds(chains) * sum(COSTS[key] for key in chains[0]) == pytest.approx(
            runner.remaining_costs(chains[0][0]) * COSTS[chains[0][0]]
        )


def test_no_stage_ends_after_the_limit_if_all_take_their_whole_time(tmp_path):
    """Five networks on two slots: each begins when one of the two before has ended."""
    groups = [[[name] for name in "abcde"]]
    runner = StageRunner({}, tmp_path, 0, TimeBudget(None), ProcessPool(2), {}, groups)
    free, end = [0.0, 0.0], 90.0
    for first in range(5):
        begin = min(free)
        free[free.index(begin)] = begin + (end - begin) / runner.count_rounds(groups[0][first:])
    assert max(free) == pytest.approx(end) and min(free) >= 0.5 * end


def test_stages_of_a_group_do_not_depend_on_each_other():
    settings = replace(SYSTEMS["cai2021"], lead_sets=(12, 2))
    assert stage_groups(settings) == [
        [["relabelling/Ningbo/AFL-AF"]], [["relabelling/CPSC/omitted"]], [["masks/12"]], [["general/12"], ["general/2"]]
    ]  # fmt: skip
    assert stage_groups(replace(PEAKS, lead_sets=(3,))) == [[["general/3/peaks", "general/3"]]]
