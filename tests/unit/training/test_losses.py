import pickle

import keras
import numpy as np
import pytest

from ecg.data.class_files import load_weights
from ecg.evaluation.metrics import weighted_confusion
from ecg.training.losses import (
    LOSSES,
    AsymmetricLoss,
    CategoricalCrossEntropy,
    CreditLoss,
    CrossEntropy,
    FocalLoss,
    MarginLoss,
    SquaredError,
    StreamingLoss,
    WeightedSumLoss,
)

LABELS = np.array([[1, 0, 1, 0], [0, 0, 1, 1]], np.float32)
P = np.array([[0.9, 0.3, 0.2, 0.04], [0.995, 0.6, 0.999, 0.5]])


def measure_slope(loss, labels, outputs, masks):
    """The slope of a loss at each output, by central differences."""
    slope = np.zeros_like(outputs)
    for place in np.ndindex(*outputs.shape):
        near = [outputs.copy() for _ in range(2)]
        for moved, by in zip(near, (1e-2, -1e-2), strict=True):
            moved[place] += by
        slope[place] = np.subtract(*(float(loss(labels, moved, masks)) for moved in near)) / 2e-2
    return slope


def focal(label, p):
    return -((1 - p) ** 2) * np.log(p) if label else -0.1 * p**2 * np.log(1 - p)


def cross_entropy(label, p):
    return -np.log(p if label else 1 - p)


def asymmetric(label, p):
    positive = 1 - max(0.99 - p, 0)
    negative = max(p - 0.05, 0)
    return -(1 - positive) * np.log(positive) if label else -(negative**2) * np.log(1 - negative)


def margin(label, p):
    negative = max(p - 0.05, 0)
    return -(1 - p) * np.log(p) if label else -(negative**4) * np.log(1 - negative)


def categorical(label, p):
    return -4 * np.log(p) if label else 0.0


@pytest.mark.parametrize(
    ("loss", "reference"),
    [(FocalLoss, focal), (CrossEntropy, cross_entropy), (AsymmetricLoss, asymmetric), (MarginLoss, margin),
     (CategoricalCrossEntropy, categorical)],
)  # fmt: skip
def test_each_label_has_the_papers_value(loss, reference):
    got = keras.ops.convert_to_numpy(loss().call(LABELS, keras.ops.convert_to_tensor(P, "float32")))
    np.testing.assert_allclose(got, np.vectorize(reference)(LABELS, P), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("loss", "reference"), [(FocalLoss, focal), (AsymmetricLoss, asymmetric), (MarginLoss, margin)]
)
def test_a_masked_label_does_not_count(loss, reference):
    masks = np.array([[1, 0, 1, 1], [1, 1, 0, 0]], np.float32)
    expected = np.vectorize(reference)(LABELS, P)[masks == 1].mean()
    assert float(loss()(LABELS, P.astype(np.float32), masks)) == pytest.approx(expected, rel=2e-5)
    assert float(loss()(LABELS, P.astype(np.float32))) == pytest.approx(
        np.vectorize(reference)(LABELS, P).mean(), rel=2e-5)  # fmt: skip


@pytest.mark.parametrize("loss", [loss for loss in LOSSES.values() if loss.outputs_per_label == 1])
def test_certain_predictions_give_finite_losses_and_all_masked_gives_none(loss):
    certain = np.array([[0, 1, 0, 1], [1, 1, 0, 0]], np.float32)
    values = keras.ops.convert_to_numpy(loss().call(LABELS, keras.ops.convert_to_tensor(certain)))
    assert np.isfinite(values).all()
    assert float(loss()(LABELS, P.astype(np.float32), np.zeros_like(LABELS))) == 0.0


def test_the_right_prediction_costs_nothing_within_the_margins():
    loss = AsymmetricLoss()
    near = keras.ops.convert_to_tensor([[0.992, 0.04, 1.0, 0.0]], "float32")
    assert not keras.ops.convert_to_numpy(loss.call(np.array([[1, 0, 1, 0]], np.float32), near)).any()


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(400, 20), (20, 400), (126, 72)])
def test_balancing_weights_give_both_classes_equal_influence_over_many_batches(counts):
    """Whatever each batch happens to hold: the slopes of all batches' losses, summed by class, are alike."""
    labels = np.repeat([1.0, 0.0], counts).astype(np.float32)[:, np.newaxis]
    weights = np.where(labels > 0, *(len(labels) / (2 * count) for count in counts)).astype(np.float32)
    order, slopes = np.random.default_rng(0).permutation(len(labels)), np.zeros(len(labels))
    loss, step = CrossEntropy("sum_over_batch_size"), 1e-2
    for batch in np.array_split(order, len(order) // 16):
        for place in batch:
            p = np.full((len(batch), 1), 0.5, np.float32)
            p[batch == place] += step
            moved = float(loss(labels[batch], p, weights[batch]))
            p[batch == place] -= 2 * step
            slopes[place] = (moved - float(loss(labels[batch], p, weights[batch]))) / (2 * step)
    present = labels[:, 0] == 1
    assert -slopes[present].sum() == pytest.approx(slopes[~present].sum(), rel=0.05)


def test_squared_errors_are_averaged_by_their_weights():
    rng = np.random.default_rng(3)
    labels, answers, weights = rng.normal(size=(3, 5, 14)).astype(np.float32)
    weights = np.abs(weights)
    expected = ((labels - answers) ** 2 * weights).sum() / weights.sum()
    assert float(SquaredError()(labels, answers, weights)) == pytest.approx(expected, rel=1e-5)
    assert float(SquaredError()(labels, answers)) == pytest.approx(((labels - answers) ** 2).mean(), rel=1e-5)


def two_parts(seed=4):
    """Labels of four classes and six numbers beside them, with answers and weights: (2, 10) each."""
    rng = np.random.default_rng(seed)
    numbers, answers = rng.normal(size=(2, 2, 6)).astype(np.float32)
    masks, weights = np.array([[1, 0, 1, 1], [1, 1, 0, 0]], np.float32), rng.random((2, 6)).astype(np.float32)
    pairs = ((LABELS, numbers), (P.astype(np.float32), answers), (masks, weights))
    return [np.concatenate(pair, axis=1) for pair in pairs]


@pytest.mark.parametrize("loss_weights", [(0, 1), (1, 0.1), (1, 0)])
def test_a_joined_loss_is_the_sum_of_its_parts_by_their_shares(loss_weights):
    full = two_parts()
    parts = [[array[:, :4] for array in full], [array[:, 4:] for array in full]]
    joined = WeightedSumLoss((AsymmetricLoss(), SquaredError()), (4, 6), loss_weights)
    loss_values = [float(loss(*part)) for loss, part in zip(joined.losses, parts, strict=True)]
    assert float(joined(*full)) == pytest.approx(np.dot(loss_weights, loss_values), rel=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        FocalLoss(),
        CrossEntropy("sum_over_batch_size"),
        WeightedSumLoss((MarginLoss(), SquaredError()), (4, 6), (1, 0.1)),
        WeightedSumLoss((MarginLoss(), SquaredError()), (4, 6), (0, 1)),
    ],
)
def test_the_loss_of_a_set_in_parts_is_that_of_the_whole(loss):
    parts, full = [two_parts(seed) for seed in (4, 5, 6)], StreamingLoss(loss)
    parts[1][2][:, :4] = 0  # nothing of it counts
    for part in parts:
        full.add(*part)
    expected = float(loss(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))))
    assert full.value == pytest.approx(expected, rel=1e-5)
    assert StreamingLoss(loss).value == 0


def test_of_a_loss_without_a_share_nothing_is_computed():
    labels, answers, weights = two_parts()
    expected = float(SquaredError()(labels[:, 4:], answers[:, 4:], weights[:, 4:]))
    labels[:, :4] = answers[:, :4] = weights[:, :4] = np.nan
    assert float(WeightedSumLoss((FocalLoss(), SquaredError()), (4, 6), (0, 1))(labels, answers, weights)) == expected


def test_losses_of_wrong_widths_or_weights_are_not_joined():
    with pytest.raises(ValueError, match="a width and a weight for each loss"):
        WeightedSumLoss((FocalLoss(), SquaredError()), (4, 6), (1,))
    with pytest.raises(ValueError, match="not all 0"):
        WeightedSumLoss((FocalLoss(), SquaredError()), (4, 6), (0, 0))
    with pytest.raises(ValueError, match="expected outputs of 11 columns, got 10"):
        WeightedSumLoss((FocalLoss(), SquaredError()), (4, 7), (1, 1))(*two_parts())


def test_a_step_follows_the_slope_of_the_joined_loss():
    """In the backend's compiled step, of a network whose only weights are its answers."""
    labels, answers, weights = two_parts()
    joined, step = WeightedSumLoss((AsymmetricLoss(), SquaredError()), (4, 6), (1, 0.1)), 0.01
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(10, use_bias=False)])
    network.set_weights([answers])
    network.compile(keras.optimizers.SGD(step), joined, jit_compile=keras.backend.backend() == "jax")
    value = network.train_on_batch(np.eye(2, dtype=np.float32), labels, weights)
    assert float(value) == pytest.approx(float(joined(labels, answers, weights)), rel=1e-5)
    slope = measure_slope(joined, labels, answers, weights)
    np.testing.assert_allclose((answers - network.get_weights()[0]) / step, slope, rtol=0.02, atol=5e-3)


def test_the_loss_of_one_class_of_many_is_kerass():
    rng = np.random.default_rng(0)
    labels = np.eye(9, dtype=np.float32)[rng.integers(0, 9, 40)]
    answers = rng.dirichlet(np.ones(9), 40).astype(np.float32)
    expected = float(keras.losses.CategoricalCrossentropy()(labels, answers))
    assert float(CategoricalCrossEntropy()(labels, answers)) == pytest.approx(expected, rel=1e-5)
    assert float(CategoricalCrossEntropy()(labels, answers, np.ones_like(labels))) == pytest.approx(expected, rel=1e-5)
    masks = np.repeat(np.arange(40) % 3 > 0, 9).reshape(40, 9).astype(np.float32)
    masked = float(keras.losses.CategoricalCrossentropy()(labels[masks[:, 0] > 0], answers[masks[:, 0] > 0]))
    assert float(CategoricalCrossEntropy()(labels, answers, masks)) == pytest.approx(masked, rel=1e-5)


def test_the_loss_of_classes_that_do_not_exclude_each_other_is_kerass():
    expected = float(keras.losses.BinaryCrossentropy()(LABELS, P.astype(np.float32)))
    assert float(CrossEntropy()(LABELS, P.astype(np.float32))) == pytest.approx(expected, rel=1e-4)


def test_an_absent_label_within_the_margin_costs_nothing():
    near = keras.ops.convert_to_tensor([[0.05, 0.04, 0.0, 0.06]], "float32")
    values = keras.ops.convert_to_numpy(MarginLoss().call(np.zeros((1, 4), np.float32), near))[0]
    assert not values[:3].any() and values[3] > 0


CREDIT = np.random.default_rng(2).random((4, 4))


def drawn_outputs(seed=0, recordings=6):
    """Labels, probabilities then logits, and masks of four classes; one recording has no label."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((recordings, 4)) < 0.4).astype(np.float32)
    labels[0] = 0
    outputs = np.hstack([rng.random((recordings, 4)), rng.normal(0, 2, (recordings, 4))]).astype(np.float32)
    return labels, outputs, (rng.random((recordings, 4)) < 0.7).astype(np.float32)


def credit_loss_by_hand(labels, outputs, masks, positive_weights):
    """The loss by loops: cross-entropy and 4 p (1 - p) averaged over labels, minus the credits of 128 recordings.

    Masked classes are taken out, so that it is the loss of recordings of fewer classes.
    """
    terms, credits, n_classes = [], [], labels.shape[1]
    for label, output, mask in zip(labels, outputs, masks, strict=True):
        kept = [k for k in range(n_classes) if mask[k]]
        p, z = output[:n_classes], output[n_classes:]
        for k in kept:
            logistic = 1 / (1 + np.exp(-z[k]))
            entropy = -positive_weights[k] * np.log(logistic) if label[k] else -np.log(1 - logistic)
            terms.append(entropy + 4 * p[k] * (1 - p[k]))
        union = sum(label[k] + p[k] - label[k] * p[k] for k in kept)
        credit = sum(label[j] * CREDIT[j, k] * p[k] for j in kept for k in kept)
        credits.append(credit / union if union else 0)
    return np.mean(terms) - 128 * n_classes * np.sum(credits) / masks.sum()


@pytest.mark.parametrize("masked", [False, True])
def test_the_credit_loss_is_that_of_the_paper(masked):
    labels, outputs, masks = drawn_outputs()
    masks = masks if masked else np.ones_like(masks)
    positive_weights = np.array([1.0, 3.0, 0.5, 20.0])
    loss = CreditLoss(positive_weights, CREDIT)
    expected = credit_loss_by_hand(labels, outputs.astype(float), masks, positive_weights)
    assert float(loss(labels, outputs, masks)) == pytest.approx(expected, rel=1e-5)
    if not masked:
        assert float(loss(labels, outputs)) == pytest.approx(expected, rel=1e-5)
    streaming = StreamingLoss(loss)
    for part in (slice(0, 2), slice(2, 6)):
        streaming.add(labels[part], outputs[part], masks[part])
    assert streaming.value == pytest.approx(expected, rel=1e-5)


def test_the_credit_of_a_full_batch_is_the_challenges_sum_if_outputs_are_0_or_1():
    rng = np.random.default_rng(0)
    labels, decided = (rng.random((2, 128, 26)) < 0.1).astype(np.float32)
    outputs = np.hstack([decided, np.zeros_like(decided)])
    weights = load_weights()[1]
    expected = (weights * weighted_confusion(labels, decided)).sum()
    loss = CreditLoss(np.ones(26), weights)
    assert float(loss(labels, outputs)) == pytest.approx(np.log(2) - expected, rel=1e-5)


def test_a_masked_label_changes_no_part_of_the_credit_loss():
    labels, outputs, masks = drawn_outputs()
    wrong = np.where(masks > 0, labels, 1 - labels)
    moved = outputs + np.hstack([0.1 * (1 - masks), 3 * (1 - masks)])
    loss = CreditLoss(np.ones(4), CREDIT)
    values = [float(loss(*given, masks)) for given in ((labels, outputs), (wrong, outputs), (labels, moved))]
    assert values[0] == values[1] == values[2]


def test_certain_outputs_give_a_finite_credit_loss():
    certain = np.array([[0, 1, 0, 1], [1, 1, 0, 0]], np.float32)
    loss = CreditLoss(np.ones(4), CREDIT)
    for labels in (LABELS, np.zeros_like(LABELS)):
        for logits in (-100, 100):
            outputs = np.hstack([certain, np.full_like(certain, logits)])
            assert np.isfinite(float(loss(labels, outputs)))
    assert float(loss(LABELS, np.zeros((2, 8), np.float32), np.zeros_like(LABELS))) == 0


def test_a_rare_class_counts_as_often_as_it_is_absent():
    targets = np.zeros((100, 4), np.float32)
    targets[:20, 0] = targets[:4, 1] = 1
    masks = np.ones_like(targets)
    masks[50:, 0] = 0
    loss = CreditLoss.for_labels(targets, masks, CREDIT)
    np.testing.assert_allclose(loss.positive_weights, [30 / 20, 96 / 4, 96 / 4, 96 / 4])  # the last two never occur
    none = CreditLoss.for_labels(np.zeros((5, 4)), np.ones((5, 4)), CREDIT)
    assert np.isfinite(none.positive_weights).all()


def test_a_step_follows_the_slope_of_the_credit_loss():
    """In the backend's compiled step, of a network whose only weights are its outputs."""
    labels, outputs, masks = drawn_outputs(recordings=2)
    labels[0, 1] = masks[0, 1] = 1
    loss, step = CreditLoss(np.array([1.0, 3.0, 0.5, 20.0]), CREDIT), 1e-4
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(8, use_bias=False)])
    network.set_weights([outputs])
    network.compile(keras.optimizers.SGD(step), loss, jit_compile=keras.backend.backend() == "jax")
    network.train_on_batch(np.eye(2, dtype=np.float32), labels, masks)
    slope = measure_slope(loss, labels, outputs, masks)
    np.testing.assert_allclose((outputs - network.get_weights()[0]) / step, slope, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_same_in_another_process(name):
    targets = (np.arange(12).reshape(4, 3) % 3 == 0).astype(np.float32)
    loss = LOSSES[name].for_labels(targets, np.ones_like(targets), np.eye(3) + 0.1)
    for given in (loss, type(loss)(*loss.parameters, reduction="sum_over_batch_size")):
        copy = pickle.loads(pickle.dumps(given))
        assert type(copy) is type(given) and copy.reduction == given.reduction
        outputs = np.linspace(0.1, 0.9, 4 * 3 * given.outputs_per_label, dtype=np.float32).reshape(4, -1)
        assert float(copy(targets, outputs, targets * 0.5 + 0.5)) == float(given(targets, outputs, targets * 0.5 + 0.5))
