import keras
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d, map_coordinates

from ecg.models.dcnet import DeformableConv2D, deformable_convolution

SHAPE, SIZE, CHANNELS, FILTERS = (2, 5, 7), (3, 3), 3, 4


def drawn(size=SIZE, spread=2.0):
    """An image, offsets, kernel and bias; the offsets are no whole numbers, where the gradient jumps."""
    generator = np.random.default_rng(0)
    taps = size[0] * size[1]
    x = generator.normal(size=(*SHAPE, CHANNELS))
    offsets = np.round(generator.normal(0, spread, (*SHAPE, 2 * taps))) + generator.uniform(0.1, 0.9, 2 * taps)
    return x, offsets, generator.normal(size=(*size, CHANNELS, FILTERS)), generator.normal(size=FILTERS)


def ours(x, offsets, kernel, bias):
    arrays = (keras.ops.convert_to_tensor(array, "float32") for array in (x, offsets, kernel, bias))
    return keras.ops.convert_to_numpy(deformable_convolution(*arrays))


def reference(x, offsets, kernel, bias):
    """The same in double precision, a tap and a channel at a time, by SciPy's interpolation."""
    height, width, channels, filters = kernel.shape
    result = np.zeros((*x.shape[:3], filters)) + bias
    rows, columns = np.indices(x.shape[1:3])
    for image, tap in np.ndindex(len(x), height * width):
        row, column = divmod(tap, width)
        down = rows + row - (height - 1) // 2 + offsets[image, ..., 2 * tap]
        right = columns + column - (width - 1) // 2 + offsets[image, ..., 2 * tap + 1]
        for channel in range(channels):
            sampled = map_coordinates(x[image, ..., channel], (down, right), order=1, mode="grid-constant")
            result[image] += sampled[..., None] * kernel[row, column, channel]
    return result


class Arrays(keras.Layer):
    """Image, offsets and kernel as weights; gives the convolution times `above`, the gradient from above."""

    def __init__(self, arrays, above):
        super().__init__()
        self.values, self.above = arrays, above

    def build(self, shape):
        self.own = [self.add_weight(array.shape) for array in self.values]

    def call(self, inputs):
        x, offsets, kernel = map(keras.ops.copy, self.own)
        return inputs + keras.ops.sum(deformable_convolution(x, offsets, kernel, 0.0) * self.above)


def gradients(arrays, above):
    """By one step of the plainest descent at rate 1, after which each number is less by its gradient."""
    model = keras.Sequential([keras.Input((1,)), Arrays(arrays, above.astype(np.float32))])
    model.set_weights(arrays)
    before = model.get_weights()
    # One after the other: compiled, TensorFlow may update a weight before the gradient of another has read it.
    model.compile(keras.optimizers.SGD(1.0), lambda _, y: y[:, 0], run_eagerly=True)
    model.train_on_batch(np.zeros((1, 1)), np.zeros((1, 1)))
    return [old - new for old, new in zip(before, model.get_weights(), strict=True)]


@pytest.mark.parametrize("size", [(3, 3), (1, 5), (2, 4)])
def test_offsets_of_zero_make_a_plain_convolution(size):
    x, offsets, kernel, bias = (array.astype(np.float32) for array in drawn(size))
    plain = keras.ops.convert_to_numpy(keras.ops.conv(x, kernel, padding="same")) + bias
    np.testing.assert_allclose(ours(x, 0 * offsets, kernel, bias), plain, atol=1e-5)


def test_whole_offsets_shift_the_image_and_zeros_follow():
    x = drawn()[0]
    offsets = np.zeros((*SHAPE, 2)) + (1, -2)
    shifted = ours(x, offsets, np.eye(CHANNELS)[None, None], np.zeros(CHANNELS))
    np.testing.assert_array_equal(shifted[:, :-1, 2:], x.astype(np.float32)[:, 1:, :-2])
    assert (shifted[:, -1] == 0).all() and (shifted[:, :, :2] == 0).all()


@pytest.mark.parametrize(("size", "spread"), [((3, 3), 0.5), ((3, 3), 4.0), ((2, 1), 2.0)])
def test_it_is_the_sum_of_interpolated_taps(size, spread):
    arrays = drawn(size, spread)
    np.testing.assert_allclose(ours(*arrays), reference(*arrays), atol=1e-4)


def test_far_outside_all_is_zero():
    x, offsets, kernel, bias = drawn()
    offsets[:, ::2] = np.array([-1e30, -7.5, 7.5, 1e30, -np.float32(2**31), 2**31])[np.arange(18) % 6]
    np.testing.assert_allclose(ours(x, offsets, kernel, bias)[:, ::2], np.broadcast_to(bias, (2, 3, 7, 4)), atol=1e-6)


def test_an_offset_that_is_not_a_number_shows():
    x, offsets, kernel, bias = drawn()
    offsets[0, 2, 3, 5] = np.nan
    lost = np.isnan(ours(x, offsets, kernel, bias))
    assert lost[0, 2, 3].all() and lost.sum() == FILTERS


@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_gradients_are_those_of_the_reference(spread):
    """By central differences, which are exact: the convolution is linear in each number until a point is reached."""
    *arrays, _ = drawn(spread=spread)
    generator = np.random.default_rng(1)
    above = generator.normal(size=(*SHAPE, FILTERS))
    for which, gradient in enumerate(gradients(arrays, above)):
        for place in generator.choice(gradient.size, 40, replace=False):
            step = np.zeros(gradient.size)
            step[place] = 0.05
            sides = []
            for sign in (1, -1):
                moved = list(arrays)
                moved[which] = arrays[which] + sign * step.reshape(gradient.shape)
                sides.append((reference(*moved, 0.0) * above).sum())
            np.testing.assert_allclose(gradient.flat[place], (sides[0] - sides[1]) / 0.1, rtol=1e-4, atol=1e-4)


def test_torchvision_has_the_same_results_and_gradients():
    torch = pytest.importorskip("torch", reason="pip install -r benchmarks/requirements.txt")
    # Its import is a RuntimeError where it was compiled for another kind of PyTorch, for GPUs or without.
    torchvision = pytest.importorskip(
        "torchvision", "0.15", "no torchvision that fits", exc_type=(ImportError, RuntimeError)
    )
    *arrays, bias = drawn()
    above = np.random.default_rng(1).normal(size=(*SHAPE, FILTERS))
    orders = ((0, 3, 1, 2), (0, 3, 1, 2), (3, 2, 0, 1))  # channels come first there
    theirs = [
        torch.tensor(array.transpose(order), requires_grad=True) for array, order in zip(arrays, orders, strict=True)
    ]
    result = torchvision.ops.deform_conv2d(*theirs, torch.tensor(bias), padding=1)
    np.testing.assert_allclose(ours(*arrays, bias), result.detach().numpy().transpose(0, 2, 3, 1), atol=1e-4)
    result.backward(torch.tensor(above.transpose(0, 3, 1, 2)))
    for gradient, their, order in zip(gradients(arrays, above), theirs, orders, strict=True):
        np.testing.assert_allclose(gradient.transpose(order), their.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_layer_starts_as_a_plain_convolution_and_learns_where_to_look():
    """What is to be told is the point two columns on, which lies beyond the kernel."""
    keras.utils.set_random_seed(0)
    x = gaussian_filter1d(np.random.default_rng(0).normal(size=(8, 6, 40, 1)), 2, axis=2).astype(np.float32) * 3
    shifted = np.pad(x, ((0, 0), (0, 0), (0, 2), (0, 0)))[:, :, 2:]
    image = keras.Input((None, None, 1))
    layer = DeformableConv2D(1, (1, 1))
    network = keras.Model(image, layer(image))
    plain = keras.ops.convert_to_numpy(keras.ops.conv(x, layer.kernel, padding="same"))
    np.testing.assert_allclose(network(x), plain, atol=1e-6)
    network.compile(keras.optimizers.Adam(0.05), "mse")
    losses = [float(network.train_on_batch(x, shifted)) for _ in range(120)]
    down, right = keras.ops.convert_to_numpy(layer.offsets.bias)
    assert losses[-1] < 0.3 * np.mean(shifted**2)
    assert abs(right - 2) < 0.5 and abs(down) < 0.5
