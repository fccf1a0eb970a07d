from dataclasses import replace

import keras
import numpy as np
import pytest
from helpers import areas_by_loops, capture_log

from ecg.data.batches import REPEATED, ZEROS, ZEROS_IN_FRONT, Dataset, View, Window
from ecg.data.leads import LEADS
from ecg.data.samples import Samples
from ecg.data.store import Store
from ecg.data.wave_peaks import WavePeaks
from ecg.models.network_settings import (
    DEPTHS,
    AttentionSettings,
    DCNetSettings,
    LeadWeightedSettings,
    LiSettings,
    NetworkSettings,
    RhythmSettings,
)
from ecg.runtime.cache import ResultCache
from ecg.runtime.limits import TimeBudget
from ecg.systems.stage import Stage, build_network, make_dataset, stage_loss
from ecg.training.backend import ClippedAdam, StepRunner, precompile
from ecg.training.checkpoint import AUPRC, WeightAverage, unpack_arrays
from ecg.training.losses import (
    AsymmetricLoss,
    CategoricalCrossEntropy,
    CreditLoss,
    CrossEntropy,
    FocalLoss,
    MarginLoss,
)
from ecg.training.settings import TrainingSettings
from ecg.training.trainer import (
    PREDICTION_BATCH,
    PROGRESS,
    TrainingError,
    TrainingRun,
    join_batches,
    predict_batches,
    predict_dataset,
    seed_epoch,
    seeds,
    train_epoch,
    train_network,
    translate_out_of_memory,
    validate,
)

PLAIN = NetworkSettings(width=4, kernels=(), hidden=8)  # no blocks, so that it is compiled quickly
QUICK = TrainingSettings(smallest_batch=4, steps=9, rate=1e-2, epochs=3)  # 36 recordings are 9 steps


def beats_store(count=48, lengths=(500,)):
    """Recordings of noise with few or many spikes, and labels of two classes that tell them apart."""
    rng = np.random.default_rng(0)
    lengths = rng.choice(lengths, count)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    microvolts = rng.integers(-100, 100, (starts[-1], 12)).astype(np.int16)
    many = rng.random(count) < 0.5
    for record in range(count):
        microvolts[starts[record] : starts[record + 1] : 40 if many[record] else 110] += 1500
    labels = np.stack([many, ~many], axis=1)
    names = np.array([f"X{record}" for record in range(count)])
    nobody, diagnosed = np.zeros((count, 5), np.float32), np.zeros(count, bool)
    facts = np.full(count, "X"), labels, labels, np.zeros((count, 2), bool), nobody, diagnosed
    recorded = np.full(count, 500.0), np.ones((count, 12), bool)
    samples = Samples([microvolts], np.zeros(count, int), starts[:-1], lengths)
    return Store(names, names, *facts, lengths, *recorded, samples, digest="digest")


def mean_score(probabilities):
    """A score for the record."""
    return {"score": float(probabilities.mean())}


def run(small_network, store, settings=QUICK, loss=None, masks=None, seed=1, targets=None, folder=None, budget=None):
    """Train a small network on three quarters of a store; return it, its epochs, the lines logged and the end."""
    targets = store.labels.astype(np.float32) if targets is None else targets
    masks = np.ones_like(targets) if masks is None else masks
    cut = len(store) * 3 // 4

    def examples(records):
        return Dataset(store, records, (0, 1), targets[records], masks[records])

    keras.utils.set_random_seed(seed)
    network, lines = small_network.build(2, None, targets.shape[1]), capture_log()
    learnt, checked = examples(np.arange(cut)), examples(np.arange(cut, len(store)))
    trial = TrainingRun(settings, seed, "trial", "trial", mean_score, budget or TimeBudget(None), folder)
    epochs, ended = train_network(network, loss or FocalLoss(), learnt, checked, trial)
    return network, epochs, lines, ended


ONE_BLOCK = ((1,), False)  # in the place of what DEPTHS has for 18 layers, so that they are quickly compiled
OTHERS = {"batch": 4, "smallest_batch": 4, "steps": 3, "rate": 1e-2, "averaging": 0.0, "epochs": 3}
# What stages of other systems have that the default's have not, with the smallest networks that have it.
SHAPED_LIKE = {
    "li2021": {
        "leads": ("I", "II", "V2"), "configurations": ((0, 1), (0, 1, 2)), "loss": MarginLoss(),
        "loss_weights": (1.0, 0.1), "view": View(window=Window(400)),
        "network": LiSettings(stages=(1,), width=4, squeeze_ratio=None, peaks=True, peak_units=4),
        "learning": TrainingSettings(**OTHERS, first_rate=None, first_epochs=2, cosine=True, optimizer="adamw",
                                     decay=0.01),
    },
    "zhao2022": {
        "leads": ("I", "II"), "loss": CrossEntropy(), "view": View(window=Window(400, ZEROS, 40)),
        "network": LeadWeightedSettings(widths=(4,), squeeze_ratio=None),
        "learning": TrainingSettings(**OTHERS, first_epochs=0, drops=(1, 2)),
    },
    "xie2022": {
        "leads": ("I", "II", "V2"), "loss": CategoricalCrossEntropy(), "output_activation": "softmax",
        "view": View(window=Window(400, REPEATED)), "network": DCNetSettings((4,), 1),
        "learning": TrainingSettings(**OTHERS, first_epochs=0, optimizer="sgd", momentum=0.5),
    },
    "nejedly2021": {
        "leads": LEADS, "configurations": ((0, 1), tuple(range(12))), "lead_sets": (LEADS, ("I", "II")),
        "loss": CreditLoss(np.array([2.0, 0.5]), np.array([[1.0, 0.3], [0.3, 1.0]])),
        "view": View(window=Window(400, ZEROS_IN_FRONT, first_only=True, standardised=True)),
        "network": AttentionSettings(width=4, blocks=1, heads=2),
        "learning": TrainingSettings(**OTHERS, first_epochs=0, optimizer="clipped_adam", l2=1e-4,
                                     clip_norm=10.0, criterion=AUPRC),
    },
    "se_resnet_rhythm": {
        "leads": ("II",), "loss": CategoricalCrossEntropy(), "output_activation": "softmax",
        "view": View(window=Window(400, REPEATED)), "network": RhythmSettings(18, width=4),
        "learning": TrainingSettings(**OTHERS, first_epochs=0, optimizer="sgd", momentum=0.5),
    },
}  # fmt: skip


def stage_like(system):
    """A stage as a related system has it, and a store for it: 12 recordings to learn from, 4 to be judged by.

    Some are longer than its window, some shorter. Its first weights are the same on each backend.
    """
    rng, store = np.random.default_rng(5), beats_store(16, lengths=(300, 400, 700))
    store = replace(store, demographics=rng.random((16, 5)).astype(np.float32))
    everything, targets = np.arange(16), store.labels.astype(np.float32)
    masks = np.where(rng.random(targets.shape) < 0.2, 0, 1).astype(np.float32)
    shape = dict(SHAPED_LIKE[system])
    if "loss_weights" in shape:
        spikes = [np.arange(0, length, 40 if many else 110)
                  for length, (many, _) in zip(store.lengths, store.labels, strict=True)]  # fmt: skip
        starts = np.cumsum([0, *map(len, spikes)])
        shape["peaks"] = WavePeaks(starts, np.concatenate(spikes), np.full(starts[-1], 2, np.int8))
    stage = Stage("trial", "trial", records=everything, targets=targets, masks=masks, training=everything[:12],
                  validation=everything[12:], to_predict=everything, **shape)  # fmt: skip
    shapes = [weights.shape for weights in build_network(stage, "float32").get_weights()]
    drawn = [rng.normal(0, 0.3, shape) if len(shape) > 1 else rng.uniform(0.5, 1, shape) for shape in shapes]
    return replace(stage, initial_weights=tuple(weights.astype(np.float32) for weights in drawn)), store


def fit(stage, store, folder=None, network=None):
    """Train the network of a stage, or one that is given; return it, its epochs and the lines logged."""
    if network is None:
        network = build_network(stage, "float32")
        network.set_weights(stage.initial_weights)
    lines = capture_log()
    learnt, checked = (make_dataset(stage, store, part, network) for part in (stage.training, stage.validation))
    trial = TrainingRun(stage.learning, 1, "trial", "trial", mean_score, TimeBudget(None), folder)
    epochs, _ = train_network(network, stage_loss(stage, network), learnt, checked, trial)
    return network, epochs, lines


class Kept:
    """A stage's folder in memory that remembers all that it was to keep; it may begin with something kept before."""

    def __init__(self, *kept):
        self.kept = list(kept)

    def load(self, name):
        """Return what was kept last, None where nothing was."""
        return self.kept[-1] if self.kept else None

    def save(self, name, arrays):
        """Keep arrays as they are now."""
        self.kept.append({key: np.array(array) for key, array in arrays.items()})


@pytest.fixture
def one_shape(monkeypatch):
    """Spare what compiles the steps for batches of any shape, where all batches are of one."""
    monkeypatch.setattr("ecg.training.trainer.precompile", lambda *_: None)


def test_rates_and_batches_are_the_methods():
    settings = TrainingSettings()
    assert [settings.rate_in(epoch) for epoch in range(4)] == [1e-4, 1e-4, 1e-3, 1e-3]
    assert [settings.batch_for(count) for count in (10, 680, 2000, 12_800, 70_000)] == [16, 16, 40, 256, 256]


def test_the_rate_rises_in_equal_steps_where_it_begins_with_none():
    settings = TrainingSettings(first_rate=None, first_epochs=4, rate=0.8)
    assert [settings.rate_in(epoch) for epoch in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    assert TrainingSettings(first_epochs=0, rate=0.8).rate_in(0) == 0.8


def test_the_rate_falls_by_half_a_cosine_to_0_after_the_last_epoch():
    settings = TrainingSettings(first_rate=None, first_epochs=2, rate=0.8, cosine=True, epochs=12)
    assert [settings.rate_in(epoch) for epoch in (0, 1, 2, 7, 12)] == pytest.approx([0.4, 0.8, 0.8, 0.4, 0])
    falling = [settings.rate_in(epoch) for epoch in range(2, 13)]
    assert falling[5] - falling[6] > falling[0] - falling[1] > 0 and falling[3] + falling[7] == pytest.approx(0.8)


def test_the_rate_drops_to_a_tenth_at_each_epoch_of_the_settings():
    settings = TrainingSettings(first_epochs=1, first_rate=0.5, rate=1.0, drops=(3, 5))
    assert [settings.rate_in(epoch) for epoch in range(7)] == pytest.approx([0.5, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("settings", "kind", "facts"),
    [
        ({}, keras.optimizers.Adam, {"learning_rate": 1e-4, "weight_decay": None}),
        ({"optimizer": "adamw", "decay": 0.02, "first_epochs": 0}, keras.optimizers.AdamW,
         {"learning_rate": 1e-3, "weight_decay": 0.02}),
        ({"optimizer": "sgd", "momentum": 0.5}, keras.optimizers.SGD, {"learning_rate": 1e-4, "momentum": 0.5}),
        ({"optimizer": "clipped_adam", "l2": 1e-4, "clip_norm": 10.0}, ClippedAdam,
         {"l2": 1e-4, "clip_norm": 10.0, "learning_rate": 1e-4}),
    ],
)  # fmt: skip
def test_a_training_uses_the_optimizer_of_its_settings(settings, kind, facts):
    optimizer = TrainingSettings(**settings).make_optimizer()
    assert type(optimizer) is kind
    for name, value in facts.items():
        held = getattr(optimizer, name)
        assert held is value if value is None else float(held) == pytest.approx(value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"precision": "half"}, "precision is 'half', expected one of float32, bfloat16"),
     ({"optimizer": "adagrad"}, "optimizer is 'adagrad', expected one of adam, clipped_adam, adamw, sgd"),
     ({"criterion": "F1"}, "criterion is 'F1', expected one of loss, AUPRC")],
)  # fmt: skip
def test_what_there_is_not_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**wrong)


def test_the_l2_penalty_is_added_to_clipped_gradients_before_adams_moments():
    """As in the optimizer of the authors' framework, here in plain numpy."""
    rng, l2, rate = np.random.default_rng(0), 0.1, 0.01
    weights, expected = rng.normal(size=(2, 5)), []
    variables = [keras.Variable(row) for row in weights]
    optimizer = ClippedAdam(rate, 2.0, l2)
    optimizer.build(variables)
    moment, square = np.zeros((2, 2, 5))
    for step in range(1, 5):
        gradients = rng.normal(size=(2, 5)) * (3 if step % 2 else 0.1)
        optimizer.apply([keras.ops.convert_to_tensor(row, "float32") for row in gradients])
        clipped = gradients * min(1, 2 / np.sqrt((gradients**2).sum())) + l2 * weights
        moment, square = 0.9 * moment + 0.1 * clipped, 0.999 * square + 0.001 * clipped**2
        step_size = rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        weights = weights - step_size * moment / (np.sqrt(square) + 1e-7)
        expected.append(weights)
        np.testing.assert_allclose([variable.numpy() for variable in variables], weights, rtol=1e-5)
    assert np.abs(np.diff(expected, axis=0)).min() > 0


def test_an_epoch_of_few_recordings_takes_them_repeatedly_until_it_has_its_steps():
    settings = TrainingSettings()
    assert [settings.passes_for(count) for count in (1, 16, 160, 400, 680, 70_000)] == [800, 50, 5, 2, 1, 1]
    for count in (16, 160, 400):
        assert settings.passes_for(count) * count / settings.batch_for(count) == settings.steps


def test_each_pass_of_an_epoch_is_cut_and_ordered_anew(monkeypatch):
    seen = []

    class Recorder(StepRunner):
        def train(self, signals, targets, masks):
            seen.append(signals)
            return 1.0

        def weights(self):
            return []

    monkeypatch.setattr("ecg.training.trainer.step_runner", Recorder)
    store = beats_store(8, lengths=(600,))
    examples = Dataset(store, np.arange(8), (0,), store.labels.astype(np.float32), np.ones((8, 2), np.float32))
    settings = TrainingSettings(smallest_batch=4, steps=6)
    train_epoch(None, examples, settings, np.random.default_rng(1), WeightAverage(0.0), "trial", TimeBudget(None))
    assert [len(signals) for signals in seen] == [4] * 6
    assert len({signals.tobytes() for signals in seen}) == 6


def test_a_loss_is_read_once_the_next_step_is_begun_and_before_the_weights_count(monkeypatch):
    events = []

    class Loss(float):
        def __float__(self):
            events.append(f"read {self:g}")
            return super().__float__()

    class Recorder(StepRunner):
        def train(self, signals, targets, masks):
            events.append(f"begin {sum(event.startswith('begin') for event in events) + 1}")
            return Loss(events[-1].split()[1])

        def weights(self):
            events.append("weights")
            return []

    monkeypatch.setattr("ecg.training.trainer.step_runner", Recorder)
    monkeypatch.setattr("ecg.training.trainer.AVERAGED_EVERY", 3)
    store = beats_store(16)
    examples = Dataset(store, np.arange(16), (0,), store.labels.astype(np.float32), np.ones((16, 2), np.float32))
    settings, average = TrainingSettings(smallest_batch=4, steps=4), WeightAverage(0.0)
    loss, is_complete = train_epoch(
        None, examples, settings, np.random.default_rng(1), average, "trial", TimeBudget(None)
    )
    assert loss == 2.5
    assert events == ["begin 1", "begin 2", "read 1", "begin 3", "read 2", "read 3", "weights",
                      "begin 4", "read 4", "weights"]  # fmt: skip


def test_seeds_differ_by_seed_stage_and_epoch():
    assert len({tuple(seeds(*key, 2)) for key in [(1, "a", 0), (2, "a", 0), (1, "b", 0), (1, "a", 1)]}) == 4
    np.testing.assert_array_equal(seeds(1, "a", 0, 2), seeds(1, "a", 0, 5)[:2])


def test_learns_and_keeps_the_best_weights(small_network):
    store, shortest = beats_store(lengths=(250, 500, 600)), beats_store(2, lengths=(252,))
    network, epochs, lines, ended = run(small_network, store, replace(QUICK, epochs=12))
    best = min(epochs, key=lambda epoch: epoch.validation_loss)
    assert best.best and best.validation_loss < 0.7 * epochs[0].validation_loss
    held = np.arange(36, 48)
    probabilities = predict_dataset(network, Dataset(store, held, (0, 1)), "checking")
    loss = float(FocalLoss()(store.labels[held].astype(np.float32), probabilities))
    assert loss == pytest.approx(best.validation_loss, rel=1e-5)
    signals = np.stack([shortest.signal(record, (0, 1)) for record in range(2)])
    answers = keras.ops.convert_to_numpy(network(signals, training=False))
    np.testing.assert_allclose(
        predict_dataset(network, Dataset(shortest, np.arange(2), (0, 1)), "checking"), answers, atol=1e-6
    )
    assert len(lines) == len(epochs) + 1 and "trial, epoch 1: loss" in lines[0]
    assert lines[-1] == f"trial: {ended}, epoch {best.epoch} counts"
    assert ended == ("all 12 epochs done" if len(epochs) == 12 else "no lower loss in 4 epochs")


def test_the_epoch_of_the_highest_auprc_counts_if_that_is_the_criterion(one_shape):
    store, held = beats_store(lengths=(500,)), np.arange(36, 48)
    settings = replace(QUICK, rate=0.05, averaging=0.0, criterion=AUPRC, epochs=6, patience=2)
    network, epochs, lines, ended = run(PLAIN, store, settings)
    areas = [epoch.scores[AUPRC] for epoch in epochs]
    best = epochs[int(np.argmax(areas))]
    assert best.best and lines[-1] == f"trial: {ended}, epoch {best.epoch} counts"
    assert ended == ("no higher AUPRC in 2 epochs" if len(epochs) < 6 else "all 6 epochs done")
    probabilities = predict_dataset(network, Dataset(store, held, (0, 1)), "checking")
    expected = [areas_by_loops(store.labels[held, k].tolist(), probabilities[:, k].tolist())[1] for k in range(2)]
    assert max(areas) == pytest.approx(np.mean(expected), rel=1e-6)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_to_the_bit(one_shape, small_network):
    store = beats_store(16)
    short = replace(QUICK, epochs=2)
    first, second, third = (run(small_network, store, short, seed=seed)[0].get_weights() for seed in (1, 1, 2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, third, strict=True))


@pytest.mark.slow
def test_order_cuts_and_dropout_of_an_epoch_depend_on_its_number_alone(small_network):
    """Whatever was drawn before it: an epoch repeated from the same weights gives the same loss and weights."""
    store, outcomes = beats_store(16, lengths=(600,)), []
    examples = Dataset(store, np.arange(16), (0, 1), store.labels.astype(np.float32), np.ones((16, 2), np.float32))
    keras.utils.set_random_seed(1)
    network = replace(small_network, dropout=0.5).build(2, None, 2)
    start = network.get_weights()
    network.compile(keras.optimizers.SGD(0.1), FocalLoss(), jit_compile=False)
    settings = TrainingSettings(smallest_batch=4, steps=4)
    precompile(network)
    for number in (0, 1, 0):
        network.set_weights(start)
        order = seed_epoch(network, 5, "trial", number)
        loss, _ = train_epoch(network, examples, settings, order, WeightAverage(0.0), "trial", TimeBudget(None))
        outcomes.append((loss, network.get_weights()))
    assert outcomes[0][0] == outcomes[2][0] != outcomes[1][0]
    for a, b in zip(outcomes[0][1], outcomes[2][1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_network_without_dropout_trains_too(one_shape):
    _, epochs, *_ = run(replace(PLAIN, dropout=0.0), beats_store(16), replace(QUICK, epochs=1))
    assert len(epochs) == 1


def test_masked_labels_play_no_part(one_shape):
    """Two trainings whose labels differ where they are masked, and nowhere else, end with the same weights."""
    store = beats_store(16)
    masks = np.random.default_rng(3).integers(0, 2, store.labels.shape).astype(np.float32)
    right = store.labels.astype(np.float32)
    wrong = np.where(masks == 1, right, 1 - right)
    loss = AsymmetricLoss()
    first, second, unmasked = (
        run(PLAIN, store, replace(QUICK, epochs=1), loss, mask, targets=targets)[0].get_weights()
        for targets, mask in ((right, masks), (wrong, masks), (wrong, None))
    )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, unmasked, strict=True))


def test_a_loss_that_is_no_number_stops_the_training_and_names_the_place(one_shape):
    store = beats_store(16)
    targets = np.full(store.labels.shape, np.nan, np.float32)
    with pytest.raises(TrainingError, match="trial, epoch 1, step 1: the loss is nan"):
        run(PLAIN, store, targets=targets)


class Stopped(BaseException):
    """What a process that is killed leaves behind is what this leaves behind."""


def stopped_in(monkeypatch, step):
    """Stop the training at one of its steps, counted over all epochs."""
    train_step, steps = StepRunner.train, []

    def stops(self, signals, *given):
        if len(signals) == 4:  # not those of settle
            steps.append(1)
        if len(steps) == step:
            raise Stopped
        return train_step(self, signals, *given)

    monkeypatch.setattr(StepRunner, "train", stops)


@pytest.mark.slow
def test_a_resumed_training_equals_an_uninterrupted_one_to_the_bit(small_network, tmp_path, monkeypatch):
    store, settings = beats_store(16, lengths=(500, 600, 1100)), replace(QUICK, steps=3, epochs=3)
    network, epochs, _, ended = run(small_network, store, settings)
    folder = ResultCache(tmp_path, "mark")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stopped_in(patch, 5)
        run(small_network, store, settings, folder=folder)
    again, taken_up, lines, its_end = run(small_network, store, settings, folder=folder)
    assert lines[0] == "trial: resumed after epoch 1"
    assert taken_up == epochs and its_end == ended
    for weights, expected_weights in zip(network.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected_weights)


def other_values(network, *_):
    """Have all variables of a network and of its optimizer be 1, as if it were another; its steps stay compiled."""
    for variable in [*network.variables, *network.optimizer.variables]:
        variable.assign(keras.ops.ones_like(variable))


@pytest.mark.parametrize(
    "system",
    [
        "li2021",
        *(pytest.param(system, marks=pytest.mark.slow) for system in ("zhao2022", "se_resnet_rhythm", "nejedly2021")),
    ],
)
def test_other_systems_resume_to_the_bit_too(one_shape, system, monkeypatch):
    """Peaks and left-out leads with AdamW, persons with drops of the rate, one class of many with SGD.

    Two heads have clipped gradients and an L2 penalty, and the epoch of their highest AUPRC counts.
    """
    monkeypatch.setitem(DEPTHS, 18, ONE_BLOCK)
    stage, store = stage_like(system)
    full_run = Kept()
    network, *_ = fit(stage, store, full_run)
    first, _, last = full_run.kept
    again = Kept(first)
    monkeypatch.setattr("ecg.training.trainer.compile_network", other_values)
    _, _, lines = fit(stage, store, again, network)
    assert lines[0] == "trial: resumed after epoch 1" and len(again.kept) == 3
    assert list(again.kept[-1]) == list(last)
    for name in last.keys() - {"used"}:  # which are seconds
        np.testing.assert_array_equal(again.kept[-1][name], last[name])
    moved = {name.split()[0] for name, array in last.items() if not np.array_equal(array, first[name])}
    assert {"weights", "optimizer", "epochs"} <= moved


def test_a_loss_that_is_no_number_later_on_ends_the_training_with_its_best_weights(one_shape, tmp_path, monkeypatch):
    train_step, steps = StepRunner.train, []

    def diverges(self, signals, *given):
        steps.append(len(signals) == 4)
        return np.nan if sum(steps) == 5 else train_step(self, signals, *given)

    monkeypatch.setattr(StepRunner, "train", diverges)
    folder = ResultCache(tmp_path, "mark")
    network, epochs, lines, ended = run(PLAIN, beats_store(16), replace(QUICK, steps=3, epochs=4), folder=folder)
    assert len(epochs) == 1 and ended == "trial, epoch 2, step 2: the loss is nan"
    assert lines[-1] == f"trial: {ended}, epoch 1 counts"
    for weights, expected_weights in zip(
        network.get_weights(), unpack_arrays("best", folder.load(PROGRESS)), strict=True
    ):
        np.testing.assert_array_equal(weights, expected_weights)


@pytest.mark.slow
def test_a_training_at_its_time_limit_ends_within_its_epoch(one_shape, monkeypatch):
    train_step, steps = StepRunner.train, []

    class Spent:
        record_prediction_time = staticmethod(lambda *_: None)
        allowed = 2  # steps
        is_over = property(lambda self: sum(steps) >= self.allowed)

    def counts(self, signals, *given):
        steps.append(len(signals) == 4)
        return train_step(self, signals, *given)

    monkeypatch.setattr(StepRunner, "train", counts)
    network, epochs, lines, ended = run(PLAIN, beats_store(16), replace(QUICK, steps=3), budget=Spent())
    assert sum(steps) == 2 and len(epochs) == 1 and epochs[0].best and ended == "time limit reached"
    assert all(np.isfinite(weights).all() for weights in network.get_weights())
    # Also where that epoch is the last of all, but not where the time is over after the whole of it.
    for allowed, reason in ((2, "time limit reached"), (3, "all 1 epochs done")):
        steps.clear()
        Spent.allowed = allowed
        *_, ended = run(PLAIN, beats_store(16), replace(QUICK, steps=3, epochs=1), budget=Spent())
        assert sum(steps) == allowed and ended == reason


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3 GiB"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes"),
        Exception("failed to allocate memory: OOM when allocating tensor with shape[256,1000,32]"),
    ],
)
def test_too_little_memory_is_reported_with_what_helps(error):
    with (
        pytest.raises(TrainingError, match="round 1: the memory is too small .* --batch"),
        translate_out_of_memory("round 1"),
    ):
        raise error
    for fault in (
        ZeroDivisionError("by zero"),
        ValueError("BLOOM"),
        OSError(28, "No space left", "/data/OOM/model"),
    ):
        with pytest.raises(type(fault)), translate_out_of_memory("round 1"):
            raise fault


def test_predictions_come_in_the_order_of_the_records(small_network):
    store = beats_store(20)
    network = small_network.build(2, None, 2)
    records = np.array([7, 3, 19, 0, 11])
    batched = predict_dataset(network, Dataset(store, records, (0, 1)), "checking")
    for record, probabilities in zip(records, batched, strict=True):
        alone = network.predict_on_batch(store.signal(record, (0, 1))[np.newaxis])[0]
        np.testing.assert_allclose(probabilities, alone, atol=1e-6)


@pytest.mark.parametrize(("asked", "most"), [(3, 3), (1000, PREDICTION_BATCH)])
def test_as_many_are_predicted_at_once_as_are_trained_on_or_fewer(monkeypatch, asked, most):
    store, sizes = beats_store(2 * PREDICTION_BATCH), []

    class Network:
        output_shape = (None, 2)

    class Recorder(StepRunner):
        def predict(self, signals, count):
            assert count == len(signals)
            sizes.append(count)
            return np.zeros((len(signals), 2))

    monkeypatch.setattr("ecg.training.trainer.step_runner", Recorder)
    predict_dataset(Network(), Dataset(store, np.arange(len(store)), (0, 1)), "checking", asked)
    assert max(sizes) == most and sum(sizes) == len(store)


@pytest.fixture(scope="module")
def in_pieces():
    """A network of 300 samples and recordings of other lengths, most of which it sees in several pieces."""
    keras.utils.set_random_seed(3)
    store = beats_store(20, lengths=(250, 300, 301, 700, 1000))
    records = np.random.default_rng(1).permutation(20)[:17]
    targets, masks = (np.random.default_rng(2).random((2, 17, 2)) < 0.6).astype(np.float32)
    return PLAIN.build(2, 300, 2), store, records, targets, masks


@pytest.mark.parametrize("fill", [ZEROS, REPEATED])
def test_a_recording_in_segments_is_predicted_as_alone_by_their_mean(fill, in_pieces):
    network, store, records, *_ = in_pieces
    window = Window(300, fill, 40)
    predicted = predict_dataset(network, Dataset(store, records, (0, 1), window=window), "checking", 4)
    assert predicted.shape == (17, 2)
    for record, probabilities in zip(records, predicted, strict=True):
        pieces = window.segments(store.signal(record, (0, 1)))
        alone = np.asarray(network(pieces, training=False))
        np.testing.assert_allclose(probabilities, alone.mean(axis=0), atol=1e-6)


def test_predictions_are_of_the_segments_in_which_recordings_are_predicted(in_pieces):
    network, store, records, *_ = in_pieces
    window = Window(300, ZEROS, 40)
    examples = Dataset(store, records, (0, 1), window=window)
    batches = list(predict_batches(network, examples, "checking", 4))
    counts = [len(window.segment_starts(length)) for length in store.lengths[records]]
    starts = np.concatenate([window.segment_starts(length) for length in store.lengths[records]])
    cuts = [window.segments(store.signal(record, (0, 1))) for record in records]
    expected = np.asarray(network(np.concatenate(cuts), training=False))
    assert max(counts) > 2 and max(len(outputs) for _, outputs in batches) == 4
    for parts in (batches, list(join_batches(batches, 10)), list(join_batches(batches, 10_000))):
        assert {pieces.length for pieces, _ in parts} == {300}
        np.testing.assert_array_equal(
            np.concatenate([pieces.records for pieces, _ in parts]), np.repeat(np.arange(17), counts)
        )
        np.testing.assert_array_equal(np.concatenate([pieces.starts for pieces, _ in parts]), starts)
        np.testing.assert_allclose(np.concatenate([outputs for _, outputs in parts]), expected, atol=1e-6)
    assert {len(outputs) for _, outputs in list(join_batches(batches, 10))[:-1]} == {12}
    assert list(join_batches([], 10)) == []


def test_a_set_that_is_validated_in_parts_has_the_same_loss(in_pieces, monkeypatch):
    network, store, records, targets, masks = in_pieces
    examples = Dataset(store, records, (0, 1), targets, masks, Window(300, ZEROS, 40))
    at_once, probabilities = validate(network, FocalLoss(), examples, "checking", 4, TimeBudget(None))
    monkeypatch.setattr("ecg.training.trainer.VALIDATED_AT_ONCE", 5)
    in_some, same = validate(network, FocalLoss(), examples, "checking", 4, TimeBudget(None))
    assert in_some == pytest.approx(at_once, rel=1e-12)
    np.testing.assert_array_equal(same, probabilities)


def test_the_loss_on_the_validation_set_is_that_of_all_segments_with_the_labels_of_their_recordings(in_pieces):
    network, store, records, targets, masks = in_pieces
    window, spent = Window(300, ZEROS, 40), []

    class Watched(TimeBudget):
        def record_prediction_time(self, count, seconds):
            spent.append(count)

    examples = Dataset(store, records, (0, 1), targets, masks, window)
    loss, probabilities = validate(network, FocalLoss(), examples, "checking", 4, Watched(None))
    total = weight = 0.0
    for record, target, mask in zip(records, targets, masks, strict=True):
        for p in np.asarray(network(window.segments(store.signal(record, (0, 1))), training=False)):
            label_losses = np.where(target > 0, -((1 - p) ** 2) * np.log(p), -0.1 * p**2 * np.log(1 - p))
            total, weight = total + (label_losses * mask).sum(), weight + mask.sum()
    assert loss == pytest.approx(total / weight, rel=1e-5)
    np.testing.assert_allclose(probabilities, predict_dataset(network, examples, "checking", 4), atol=1e-6)
    assert spent == [17]


def test_a_network_with_demographics_predicts_by_age_and_sex_of_each_recording(in_pieces):
    _, store, records, *_ = in_pieces
    keras.utils.set_random_seed(4)
    network = LeadWeightedSettings(widths=(4,), squeeze_ratio=None).build(2, 300, 2)
    store = replace(store, demographics=np.random.default_rng(0).random((20, 5)).astype(np.float32))
    window = Window(300, ZEROS, 40)
    predicted = predict_dataset(
        network, Dataset(store, records, (0, 1), window=window, demographics=True), "checking", 4
    )
    for record, probabilities in zip(records, predicted, strict=True):
        pieces = window.segments(store.signal(record, (0, 1)))
        demographics = np.repeat(store.demographics[[record]], len(pieces), axis=0)
        alone = np.asarray(network((pieces, demographics), training=False)).mean(axis=0)
        np.testing.assert_allclose(probabilities, alone, atol=1e-6)
