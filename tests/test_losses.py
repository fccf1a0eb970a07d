import keras
import numpy as np
import pytest

from ecg.losses import AsymmetricLoss, CrossEntropy, FocalLoss

LABELS = np.array([[1, 0, 1, 0], [0, 0, 1, 1]], np.float32)
P = np.array([[0.9, 0.3, 0.2, 0.04], [0.995, 0.6, 0.999, 0.5]])


def focal(label, p):
    return -((1 - p) ** 2) * np.log(p) if label else -0.1 * p**2 * np.log(1 - p)


def cross_entropy(label, p):
    return -np.log(p if label else 1 - p)


def asymmetric(label, p):
    positive = 1 - max(0.99 - p, 0)
    negative = max(p - 0.05, 0)
    return -(1 - positive) * np.log(positive) if label else -(negative**2) * np.log(1 - negative)


@pytest.mark.parametrize(
    ("loss", "reference"), [(FocalLoss, focal), (CrossEntropy, cross_entropy), (AsymmetricLoss, asymmetric)]
)
def test_each_label_has_the_papers_value(loss, reference):
    got = keras.ops.convert_to_numpy(loss().call(LABELS, keras.ops.convert_to_tensor(P, "float32")))
    np.testing.assert_allclose(got, np.vectorize(reference)(LABELS, P), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(("loss", "reference"), [(FocalLoss, focal), (AsymmetricLoss, asymmetric)])
def test_a_masked_label_is_as_if_it_were_not_there(loss, reference):
    masks = np.array([[1, 0, 1, 1], [1, 1, 0, 0]], np.float32)
    expected = np.vectorize(reference)(LABELS, P)[masks == 1].mean()
    assert float(loss()(LABELS, P.astype(np.float32), masks)) == pytest.approx(expected, rel=2e-5)
    assert float(loss()(LABELS, P.astype(np.float32))) == pytest.approx(
        np.vectorize(reference)(LABELS, P).mean(), rel=2e-5)  # fmt: skip


@pytest.mark.parametrize("loss", [FocalLoss, AsymmetricLoss])
def test_certain_answers_give_finite_losses_and_all_masked_gives_none(loss):
    certain = np.array([[0, 1, 0, 1], [1, 1, 0, 0]], np.float32)
    values = keras.ops.convert_to_numpy(loss().call(LABELS, keras.ops.convert_to_tensor(certain)))
    assert np.isfinite(values).all()
    assert float(loss()(LABELS, P.astype(np.float32), np.zeros_like(LABELS))) == 0.0


def test_the_right_answer_costs_nothing_within_the_margins():
    loss = AsymmetricLoss()
    near = keras.ops.convert_to_tensor([[0.992, 0.04, 1.0, 0.0]], "float32")
    assert not keras.ops.convert_to_numpy(loss.call(np.array([[1, 0, 1, 0]], np.float32), near)).any()


@pytest.mark.parametrize("counts", [(400, 20), (20, 400), (126, 72)])
def test_weights_that_balance_two_classes_give_both_the_same_say_over_many_batches(counts):
    """Whatever each batch happens to hold: the slopes of all batches' losses, summed by class, are alike."""
    labels = np.repeat([1.0, 0.0], counts).astype(np.float32)[:, np.newaxis]
    weights = np.where(labels > 0, *(len(labels) / (2 * count) for count in counts)).astype(np.float32)
    order, slopes = np.random.default_rng(0).permutation(len(labels)), np.zeros(len(labels))
    loss, step = CrossEntropy(), 1e-2
    for batch in np.array_split(order, len(order) // 16):
        for place in batch:
            p = np.full((len(batch), 1), 0.5, np.float32)
            p[batch == place] += step
            moved = float(loss(labels[batch], p, weights[batch]))
            p[batch == place] -= 2 * step
            slopes[place] = (moved - float(loss(labels[batch], p, weights[batch]))) / (2 * step)
    present = labels[:, 0] == 1
    assert -slopes[present].sum() == pytest.approx(slopes[~present].sum(), rel=0.05)
