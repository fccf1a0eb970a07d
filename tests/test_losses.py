import keras
import numpy as np
import pytest

from ecg.losses import AsymmetricLoss, FocalLoss

LABELS = np.array([[1, 0, 1, 0], [0, 0, 1, 1]], np.float32)
P = np.array([[0.9, 0.3, 0.2, 0.04], [0.995, 0.6, 0.999, 0.5]])


def focal(label, p):
    return -((1 - p) ** 2) * np.log(p) if label else -0.1 * p**2 * np.log(1 - p)


def asymmetric(label, p):
    positive = 1 - max(0.99 - p, 0)
    negative = max(p - 0.05, 0)
    return -(1 - positive) * np.log(positive) if label else -(negative**2) * np.log(1 - negative)


@pytest.mark.parametrize(("loss", "reference"), [(FocalLoss, focal), (AsymmetricLoss, asymmetric)])
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
