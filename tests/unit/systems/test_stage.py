from contextlib import contextmanager
from dataclasses import replace

import keras
import numpy as np
import pytest
from helpers import capture_log

from ecg.data.batches import ZEROS_IN_FRONT, Dataset, View, Window
from ecg.data.leads import LEAD_SETS, LEADS, lead_indices
from ecg.data.wave_peaks import WavePeaks, decode_peaks
from ecg.models.ensemble import uses_demographics
from ecg.models.network_settings import LOGITS, AttentionSettings, LiSettings
from ecg.models.resnets import POLICIES
from ecg.runtime.cache import ResultCache
from ecg.runtime.limits import TimeBudget
from ecg.systems.stage import CHALLENGE, SAVED, Stage, build_network, make_member, prediction_part, stage_loss
from ecg.systems.stage_runner import StageRunner
from ecg.training.losses import CreditLoss, FocalLoss
from ecg.training.settings import TrainingSettings
from ecg.training.trainer import TrainingError, predict_dataset, seeds


def fit_stage(stage, store, folder):
    return StageRunner({stage.view.preparation: store}, folder, 0, TimeBudget(None)).run(stage)


class FakeScorer:
    """A scorer whose clock goes on by some seconds at each validation."""

    def __init__(self, seconds):
        self.seconds, self.now = seconds, 0.0

    def __call__(self, validation, probabilities):
        self.now += self.seconds
        return {"seconds": self.now}


@pytest.fixture
def stage(store, small_network):
    everything = np.arange(len(store))
    targets = store.labels[:, :3].astype(np.float32)
    training, validation = everything[:32], everything[32:]
    return Stage("masks/2", "round 1, 2 leads", LEAD_SETS[2], FocalLoss(), everything, targets, np.ones_like(targets),
                 training, validation, everything[::2], small_network, TrainingSettings(epochs=1, steps=2))  # fmt: skip


class Untrained(StageRunner):
    """A runner that only loads results from their caches."""

    def train(self, stage, cache):
        raise TrainingError("at work")


def test_a_stage_is_trained_once_and_then_loaded_from_the_cache(stage, store, small_network, tmp_path):
    lines, budget, stage = capture_log(), TimeBudget(None), replace(stage, metric=CHALLENGE)

    def fit(stage=stage, seed=0, runner=Untrained):
        return runner({stage.view.preparation: store}, tmp_path, seed, budget, scorer=FakeScorer(0)).run(stage)

    first = fit(runner=StageRunner)
    assert list(first.epochs[0].scores) == ["seconds"]
    assert first.probabilities.shape == (len(stage.to_predict), 3) and len(first.epochs) == 1
    assert first.ended == "all 1 epochs done"
    assert sorted(path.name for path in tmp_path.glob("masks_2_*/*")) == ["result.npz"]

    again = fit()
    assert lines[-1] == "round 1, 2 leads: loaded from cache"
    assert (again.epochs, again.ended) == (first.epochs, first.ended)
    np.testing.assert_array_equal(again.probabilities, first.probabilities)
    for weight, expected in zip(again.weights, first.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)
    for expected in (
        {"seed": 1},
        {"stage": replace(stage, learning=TrainingSettings(epochs=2, steps=2))},
        {"stage": replace(stage, network=replace(small_network, dropout=0.1))},
        {"stage": replace(stage, view=View(window=Window(500)))},
        {"stage": replace(stage, initial_weights=tuple(first.weights))},
        {"stage": replace(stage, masks=1 - stage.masks)},
        {"stage": replace(stage, leads=LEAD_SETS[3])},
        {"stage": replace(stage, to_predict=stage.to_predict[1:])},
        {"stage": replace(stage, lead_sets=(LEAD_SETS[2],))},
        {"stage": replace(stage, loss=CreditLoss(np.ones(3), np.eye(3)))},
    ):
        with pytest.raises(TrainingError, match="at work"):
            fit(**expected)


class InterruptedCache(ResultCache):
    """A cache that is interrupted once it has saved something."""

    def save(self, name, arrays):
        super().save(name, arrays)
        raise KeyboardInterrupt


@pytest.mark.slow
def test_the_time_of_an_interrupted_stage_adds_up_and_counts_in_a_lasting_budget(stage, store, tmp_path):
    """By a clock by which each of the two epochs takes 100 s, and nothing else any time."""
    stage = replace(stage, network=replace(stage.network, kernels=()), learning=TrainingSettings(epochs=2, steps=2),
                    metric=CHALLENGE)  # fmt: skip
    scorer = FakeScorer(100)

    class Interrupted(StageRunner):
        def train(self, stage, cache):
            return super().train(stage, InterruptedCache(cache.path, cache.key))

    def fit(lasting=True, runner_type=StageRunner):
        budget = TimeBudget(1, lambda: scorer.now, lasting)
        end = budget.end
        runner = runner_type({stage.view.preparation: store}, tmp_path, 0, budget, scorer=scorer)
        outcome = runner.run(stage)
        assert runner.seconds == {stage.key: outcome.seconds} and runner.epochs == outcome.epochs
        return outcome.seconds, end - budget.end, [epoch.epoch for epoch in outcome.epochs]

    with pytest.raises(KeyboardInterrupt):
        fit(runner_type=Interrupted)
    scorer.now += 5000
    assert fit() == (200, 100, [1, 2]) and scorer.now == 5200
    assert fit() == (200, 200, [1, 2]) and fit(lasting=False) == (200, 0, [1, 2]) and scorer.now == 5200


def test_a_network_that_the_memory_does_not_hold_is_reported(stage, store, small_network, tmp_path, monkeypatch):
    def fills(*_):
        raise MemoryError("a tensor of shape (5, 200000, 200000)")

    monkeypatch.setattr(type(small_network), "build", fills)
    with pytest.raises(TrainingError, match="round 1, 2 leads: the memory is too small"):
        fit_stage(stage, store, tmp_path)


@pytest.mark.parametrize("precision", POLICIES)
def test_a_network_trains_in_the_precision_of_the_settings_and_predicts_in_single(
    precision, stage, store, small_network, tmp_path, monkeypatch
):
    devices, using, networks = ["gpu:0", "gpu:1"], [], []

    @contextmanager
    def distribution_scope(names):
        using.extend(names)
        yield
        using.clear()

    def trains(network, *_):
        assert using == devices
        networks.append(network)
        network.set_weights([weights + 1 for weights in network.get_weights()])
        return [], "trained"

    def answers(network, *_):
        assert using == devices
        networks.append(network)
        return np.zeros((len(stage.to_predict), 3))

    monkeypatch.setattr("ecg.systems.stage_runner.training_devices", lambda: devices)
    for function in (distribution_scope, trains, answers):
        name = {"trains": "train_network", "answers": "predict_dataset"}.get(function.__name__, function.__name__)
        monkeypatch.setattr(f"ecg.systems.stage_runner.{name}", function)
    stage = replace(stage, learning=TrainingSettings(precision=precision))
    outcome = fit_stage(stage, store, tmp_path)
    trained, asked = networks
    assert trained.layers[1].compute_dtype == precision and asked.layers[1].compute_dtype == "float32"
    for weight, two, three in zip(trained.get_weights(), asked.get_weights(), outcome.weights, strict=True):
        np.testing.assert_array_equal(weight, two)
        np.testing.assert_array_equal(weight, three)


LI = LiSettings(stages=(1,), width=4, squeeze_ratio=None, peaks=True, peak_units=4)


@pytest.fixture(scope="module")
def with_peaks(store):
    """A stage of a network that finds peaks, too, in recordings with an R wave in every 200th sample."""
    everything = np.arange(len(store))
    targets = store.labels[:, :3].astype(np.float32)
    samples = [np.arange(100, length, 200) for length in store.lengths]
    starts = np.cumsum([0, *map(len, samples)])
    peaks = WavePeaks(starts, np.concatenate(samples).astype(np.int32), np.full(starts[-1], 2, np.int8))
    stage = Stage("peaks", "peaks", LEAD_SETS[2], FocalLoss(), everything, targets, np.ones_like(targets),
                  everything[:32], everything[32:], everything[::2], LI,
                  TrainingSettings(epochs=1, steps=2, averaging=0.0), View(window=Window(500)), peaks=peaks,
                  loss_weights=(0.0, 1.0))  # fmt: skip
    keras.utils.set_random_seed(9)
    return replace(stage, initial_weights=tuple(build_network(stage, SAVED).get_weights()))


@pytest.fixture(scope="module")
def pretrained(with_peaks, store, tmp_path_factory):
    """What the stage came to, trained for peaks alone."""
    folder = tmp_path_factory.mktemp("stages")
    return fit_stage(with_peaks, store, folder)


def test_a_network_with_peak_outputs_puts_them_after_the_classes(with_peaks):
    network = build_network(with_peaks, SAVED)
    assert network.output_shape == (None, 3 + 500 // LI.cell * 3 * 7)
    assert prediction_part(with_peaks, network).output_shape == (None, 3)
    loss = stage_loss(with_peaks, network)
    assert (loss.widths, loss.loss_weights) == ((3, 2625), (0.0, 1.0))
    assert [type(function).__name__ for function in loss.losses] == ["FocalLoss", "SquaredError"]


def test_without_peak_targets_the_network_predicts_classes_alone(with_peaks):
    stage = replace(with_peaks, peaks=None, loss_weights=(1.0, 0.0))
    network = build_network(stage, SAVED)
    assert network.output_shape == (None, 3) and prediction_part(stage, network) is network
    assert stage_loss(stage, network) is stage.loss and not uses_demographics(network)
    assert make_member(stage, network.get_weights(), stage.leads).settings == replace(LI, peaks=False)


@pytest.mark.slow
def test_a_network_with_and_without_its_peak_outputs_gives_the_same_probabilities(with_peaks, pretrained, store):
    assert pretrained.probabilities.shape == (len(with_peaks.to_predict), 3)
    full_network = build_network(with_peaks, SAVED)
    full_network.set_weights(pretrained.weights)
    member = make_member(with_peaks, pretrained.weights, with_peaks.leads)
    assert (member.settings, member.view, member.leads) == (replace(LI, peaks=False), with_peaks.view, LEAD_SETS[2])
    examples = Dataset(store, with_peaks.to_predict, lead_indices(LEAD_SETS[2]), window=with_peaks.view.window)
    for network in (member.network, prediction_part(with_peaks, full_network)):
        np.testing.assert_allclose(predict_dataset(network, examples, "checking"), pretrained.probabilities, atol=1e-6)
    signals = np.random.default_rng(0).normal(size=(4, 500, 2)).astype(np.float32)
    both = np.asarray(full_network(signals))
    np.testing.assert_allclose(both[:, :3], np.asarray(member.network(signals)), atol=1e-6)


def test_a_stage_starts_from_given_weights_and_training_on_peaks_alone_keeps_the_classifier(with_peaks, pretrained):
    """The branch that finds peaks leaves the way before the last stage, which is here the only one."""
    network, moved, place = build_network(with_peaks, SAVED), {}, 0
    for layer in network.layers:
        pairs = zip(with_peaks.initial_weights[place:], pretrained.weights[place:], strict=True)
        place += len(layer.weights)
        if hasattr(layer, "kernel"):
            moved[layer.name] = np.abs(np.subtract(*next(pairs))).max()
    kernels = ("001_Conv1D", "006_Conv1D", "010_Conv1D", "peaks_001_Dense", "peaks_003_Conv1D", "015_Dense")
    assert tuple(moved) == kernels
    assert [name for name, far in moved.items() if far > 0] == ["001_Conv1D", "peaks_001_Dense", "peaks_003_Conv1D"]
    assert max(moved.values()) < 1e-3  # by two steps from the first weights, and nowhere near fresh ones


def test_peaks_that_are_known_and_found_are_read_off_for_the_same_cut(with_peaks, pretrained, store, tmp_path):
    places = np.array([7, 0])
    runner = StageRunner({with_peaks.view.preparation: store}, tmp_path, 0, TimeBudget(None))
    for place, weight in zip(places, runner.predict_peaks(with_peaks, pretrained.weights, places), strict=True):
        np.testing.assert_array_equal(weight.signal, store.signal(place, 1)[:500])
        assert (weight.name, weight.rate, weight.known.samples.tolist()) == (store.names[place], 250, [100, 300])
        member = build_network(with_peaks, SAVED)
        member.set_weights(pretrained.weights)
        outputs = np.asarray(member(store.signal(place, (0, 1))[np.newaxis, :500]))[0, 3:].reshape(-1, 3, 7)
        np.testing.assert_array_equal(weight.predicted.samples, decode_peaks(outputs, 500).samples)


@pytest.fixture(scope="module")
def shared(store):
    """A stage of a network for all lead sets, and its result."""
    targets, everything = store.labels[:, :3].astype(np.float32), np.arange(len(store))
    view = View(window=Window(1000, ZEROS_IN_FRONT, first_only=True, standardised=True))
    learning = TrainingSettings(epochs=1, steps=2, averaging=0.0, optimizer="clipped_adam", clip_norm=10.0)
    return Stage("shared", "all lead sets", LEADS, CreditLoss(np.ones(3), np.eye(3)), everything, targets,
                 np.ones_like(targets), everything[:32], everything[32:], everything[::2],
                 AttentionSettings(width=8, blocks=2, heads=2), learning, view,
                 configurations=((0, 1), tuple(range(12))), lead_sets=(LEADS, LEAD_SETS[3], LEAD_SETS[2]))  # fmt: skip


def test_a_shared_network_predicts_with_each_lead_set_as_its_saved_member_does(shared, store, tmp_path):
    outcome = fit_stage(shared, store, tmp_path)
    assert outcome.probabilities.shape == (3, len(shared.to_predict), 3)
    assert len(np.unique(outcome.probabilities[:, 0, 0])) == 3
    for leads, probabilities in zip(shared.lead_sets, outcome.probabilities, strict=True):
        member = make_member(shared, outcome.weights, leads)
        assert member.leads == leads and member.network.output_shape == (None, 3)
        for record, expected in zip(shared.to_predict, probabilities, strict=True):
            signal = store.signal(record, list(lead_indices(leads)))
            (got,) = member.predict(signal, store.demographics[record])
            np.testing.assert_allclose(got, expected, atol=1e-6)
    again = fit_stage(shared, store, tmp_path)
    np.testing.assert_array_equal(again.probabilities, outcome.probabilities)


def test_the_loss_of_two_heads_takes_the_probabilities_and_then_the_logits(shared, store):
    network = build_network(shared, SAVED)
    signals = np.random.default_rng(0).normal(size=(2, 1000, 12)).astype(np.float32)
    probabilities = prediction_part(shared, network)(signals)
    both = np.asarray(network(signals))
    assert both.shape == (2, 6)
    np.testing.assert_allclose(both[:, :3], probabilities, atol=1e-6)
    np.testing.assert_allclose(both[:, 3:], keras.Model(network.input, network.get_layer(LOGITS).output)(signals),
                               atol=1e-6)  # fmt: skip


def test_a_loss_of_probabilities_alone_trains_one_head(shared, store, tmp_path):
    """So that it reaches all layers, as in a network that relabels."""
    stage = replace(shared, loss=FocalLoss(), lead_sets=())
    outcome = fit_stage(stage, store, tmp_path)
    assert not stage.network_settings.second_head and outcome.probabilities.shape == (len(stage.to_predict), 3)
    keras.utils.set_random_seed(int(seeds(0, "shared/weights", 0, 1)[0]))
    first = build_network(stage, SAVED).get_weights()
    assert all((a != b).any() for a, b in zip(first, outcome.weights, strict=True) if a.ndim > 1)
    assert make_member(stage, outcome.weights, LEADS).settings == stage.network_settings
