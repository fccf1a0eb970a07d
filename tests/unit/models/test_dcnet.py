import keras
import numpy as np
import pytest
from helpers import predict_in_both_precisions

from ecg.models.network_settings import DCNetSettings

SMALL = DCNetSettings(filters=(4, 8), plain=1)


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        (DCNetSettings(), 1_255_185),
        (DCNetSettings(deformable=False), 1_177_353),
        (DCNetSettings(filters=(32, 64, 128), plain=3), 391_775),
    ],
)
def test_number_of_parameters(settings, parameters):
    network = settings.build(12, 7500, 9, "softmax")
    assert network.count_params() == parameters
    assert network.input_shape == (None, 7500, 12) and network.output_shape == (None, 9)


@pytest.mark.parametrize("deformable", [True, False])
def test_the_blocks_are_those_of_the_paper(deformable):
    network = DCNetSettings(deformable=deformable).build(12, 7500, 9, "softmax")
    sizes = [(layer.kernel_size, layer.output.shape[1:]) for layer in network.layers if hasattr(layer, "kernel_size")]
    assert [size for size, _ in sizes] == [(1, 3), (1, 3), (3, 3)] * 4
    assert [shape for _, shape in sizes[2::3]] == [(12, 1875, 32), (12, 469, 64), (12, 118, 128), (12, 30, 256)]
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds.count("DeformableConv2D") == 4 * deformable


def test_the_rows_of_the_image_are_the_leads():
    network = SMALL.build(3, None, 2)
    signals = np.random.default_rng(0).normal(size=(2, 20, 3)).astype(np.float32)
    image = keras.Model(network.input, network.layers[2].output)(signals)
    np.testing.assert_array_equal(image, signals.transpose(0, 2, 1)[..., None])


@pytest.mark.parametrize("settings", [{"filters": ()}, {"plain": 0}])
def test_a_block_has_convolutions(settings):
    with pytest.raises(ValueError, match="expected 1 or more"):
        DCNetSettings(**settings)


def test_any_length_is_predicted_alike_alone_and_in_company():
    network = SMALL.build(3, None, 5, "softmax")
    for length in (1, 77):
        signals = np.random.default_rng(0).normal(size=(3, length, 3)).astype(np.float32)
        batched = keras.ops.convert_to_numpy(network(signals, training=False))
        alone = np.concatenate([network(signals[index : index + 1], training=False) for index in range(3)])
        np.testing.assert_allclose(batched, alone, atol=1e-6)
        np.testing.assert_allclose(batched.sum(axis=1), 1, atol=1e-6)


def test_half_precision_predicts_nearly_the_same():
    exact, near = predict_in_both_precisions(SMALL, 3, 40, 5)
    assert near.dtype == np.float32
    np.testing.assert_allclose(near, exact, atol=0.03)


@pytest.mark.slow
def test_it_learns_which_lead_comes_first_and_the_same_each_time():
    """A wave runs through the leads, upward or downward; twice the same training leaves the same weights."""
    keras.utils.set_random_seed(1)
    generator = np.random.default_rng(0)
    upward = np.arange(32) % 2
    centres = generator.uniform(20, 44, (32, 1, 1)) + np.where(upward, 1, -1)[:, None, None] * np.arange(-4, 5, 4)
    signals = np.exp(-0.5 * ((np.arange(64)[:, None] - centres) / 2) ** 2).astype(np.float32)
    network = DCNetSettings(filters=(8,), plain=1).build(3, 64, 2, "softmax")
    network.compile(keras.optimizers.SGD(0.3), "categorical_crossentropy")
    first, trained = network.get_weights(), []
    for _ in range(2):
        network.set_weights(first)
        for _ in range(80):
            network.train_on_batch(signals, np.eye(2)[upward])
        trained.append(network.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_array_equal(a, b)
    (deformable,) = (layer for layer in network.layers if hasattr(layer, "offsets"))
    assert np.ptp(keras.ops.convert_to_numpy(deformable.offsets.kernel)) > 0.01
    assert (np.argmax(network(signals, training=False), axis=1) == upward).mean() > 0.9
