"""DCNet of Xie et al., a network of deformable convolutions."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from ecg.models.layers import PACKAGE
from ecg.models.network_settings import DCNetSettings
from ecg.models.resnets import output_layer, rename_layers

CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # row and column of the four points around a position, from the first
EDGE = 2  # zeros on each side of an image, so that all four corners of a position far outside are zeros
FAR = 2.0**30  # offsets are clipped here, within the range of int32


def deformable_convolution(x: Any, offsets: Any, kernel: Any, bias: Any) -> Any:
    """Convolve images with a deformed kernel (Dai et al. 2017).

    Each tap of the kernel is moved by its own offset at each position.
    Between four points the image is interpolated linearly in both directions; outside it is zero.

    Args:
        x: Images, (B, H, W, C), all arguments of one floating type.
        offsets: Rows and columns for each tap, taps row by row, (B, H, W, 2 kh kw).
        kernel: (kh, kw, C, F).
        bias: (F,).

    Returns:
        (B, H, W, F). With offsets of zero it is that of a convolution with 'same' padding.
    """
    # A copy, because TensorFlow's custom gradients take no variables.
    return _convolution(x, offsets, ops.copy(kernel)) + bias


@ops.custom_gradient
def _convolution(x: Any, offsets: Any, kernel: Any) -> tuple[Any, Callable]:
    """Return the convolution without bias, and its gradient.

    All positions of all images are rows of one table, so that each corner of a tap is found by one number. The gradient
    is written by hand because automatic differentiation takes more memory: here only the samples are stored, and the
    corners are read again.
    """
    batch, height, width, channels = ops.shape(x)
    *size, _, filters = kernel.shape
    edges = ((0, 0), (EDGE, EDGE), (EDGE, EDGE), (0, 0))
    points = ops.reshape(ops.pad(x, edges), (-1, channels))
    matrix = ops.reshape(kernel, (-1, filters))
    first, down, right = _locate_taps(offsets, size, height, width)
    weights = [(down if row else 1 - down) * (right if column else 1 - right) for row, column in CORNERS]
    weights = [ops.reshape(weight, (-1, 1)) for weight in weights]

    def corners() -> list[Any]:
        return [ops.take(points, first + row * (width + 2 * EDGE) + column, axis=0) for row, column in CORNERS]

    samples = sum(corner * weight for corner, weight in zip(corners(), weights, strict=True))
    samples = ops.reshape(samples, (-1, matrix.shape[0]))

    def gradient(*above: Any, upstream: Any = None) -> tuple[Any, Any, Any]:
        # Backends differ in how they pass the gradient from above.
        outer = ops.reshape(above[0] if upstream is None else upstream, (-1, filters))
        of_samples = ops.reshape(ops.matmul(outer, ops.transpose(matrix)), (-1, channels))
        of_kernel = ops.reshape(ops.matmul(ops.transpose(samples), outer), kernel.shape)
        a, b, c, d = (ops.reshape(ops.sum(corner * of_samples, axis=-1), ops.shape(down)) for corner in corners())
        of_down = (1 - right) * (c - a) + right * (d - b)
        of_right = (1 - down) * (b - a) + down * (d - c)
        of_offsets = ops.reshape(ops.stack([of_down, of_right], axis=-1), ops.shape(offsets))
        of_x = 0
        for (row, column), weight in zip(CORNERS, weights, strict=True):
            table = ops.segment_sum(of_samples * weight, first, ops.shape(points)[0])
            table = ops.reshape(table, (batch, height + 2 * EDGE, width + 2 * EDGE, channels))
            # A row of the table stands for its first corner; this corner is next to it.
            of_x += table[:, EDGE - row : EDGE - row + height, EDGE - column : EDGE - column + width]
        return of_x, of_offsets, of_kernel

    return ops.reshape(ops.matmul(samples, matrix), (batch, height, width, filters)), gradient


def _locate_taps(offsets: Any, size: Sequence[int], height: Any, width: Any) -> tuple[Any, Any, Any]:
    """Return the first corner of each tap, and its distances from it.

    The corner is a row of the table, (B * H * W * taps,) int32, the distances, down and right, are (B, H, W, taps) from
    0 to 1. Offsets are split before the position is added, because the sum in single precision would lose digits.
    """
    batch = ops.shape(offsets)[0]
    offsets = ops.reshape(offsets, (batch, height, width, size[0] * size[1], 2))
    floor = ops.floor(offsets)
    down, right = ops.unstack(offsets - floor, axis=-1)
    floor_down, floor_right = ops.unstack(ops.cast(ops.clip(floor, -FAR, FAR), "int32"), axis=-1)
    tap_row, tap_column = np.indices(size, np.int32).reshape(2, -1) - (np.array(size, np.int32)[:, None] - 1) // 2
    row = ops.arange(height, dtype="int32")[:, None, None] + tap_row + floor_down
    column = ops.arange(width, dtype="int32")[:, None] + tap_column + floor_right
    row, column = (EDGE + ops.clip(index, -EDGE, limit) for index, limit in ((row, height), (column, width)))
    row += ops.arange(batch, dtype="int32")[:, None, None, None] * (height + 2 * EDGE)
    return ops.reshape(row * (width + 2 * EDGE) + column, (-1,)), down, right


@keras.saving.register_keras_serializable(PACKAGE)
class DeformableConv2D(layers.Layer):
    """Deformable convolution of images with stride 1.

    A plain convolution gives the offsets; its first weights are zero.
    Input (B, H, W, C) of any H and W; output (B, H, W, filters).
    """

    def __init__(
        self, filters: int, kernel_size: Sequence[int], activation: str | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.filters, self.kernel_size = filters, tuple(kernel_size)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the kernel, the bias and the convolution that gives the offsets."""
        height, width = self.kernel_size
        self.kernel = self.add_weight((height, width, input_shape[-1], self.filters), "he_normal", name="kernel")
        self.bias = self.add_weight((self.filters,), "zeros", name="bias")
        self.offsets = layers.Conv2D(2 * height * width, self.kernel_size, padding="same", kernel_initializer="zeros",
                                     dtype=self.dtype_policy, name="offsets")  # fmt: skip
        self.offsets.build(input_shape)

    def call(self, x: Any) -> Any:
        """Convolve images and activate."""
        return self.activation(deformable_convolution(x, self.offsets(x), self.kernel, self.bias))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the output for that of the input."""
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the layer, for files that Keras writes."""
        activation = keras.activations.serialize(self.activation)
        return super().get_config() | {"filters": self.filters, "kernel_size": self.kernel_size,
                                       "activation": activation}  # fmt: skip


TAPS = 3  # along time, of all convolutions
ROWS = 3  # leads within the last convolution of a block
POOLING = 4  # samples pooled into one by a block


def build_dcnet(
    settings: DCNetSettings, leads: int, length: int | None, classes: int, output_activation: str
) -> keras.Model:
    """Build the untrained network; see DCNetSettings.build."""
    signal = keras.Input((length, leads))
    x = layers.Reshape((leads, -1, 1))(layers.Permute((2, 1))(signal))
    for filters in settings.filters:
        for _ in range(settings.plain):
            x = _plain(filters, (1, TAPS))(x)
        x = layers.MaxPooling2D((1, POOLING), padding="same")(x)
        if settings.deformable:
            x = DeformableConv2D(filters, (ROWS, TAPS), activation="relu")(x)
        else:
            x = _plain(filters, (ROWS, TAPS))(x)
    x = layers.GlobalAveragePooling2D()(x)
    return rename_layers(keras.Model(signal, output_layer(x, classes, output_activation), name="dcnet"))


def _plain(filters: int, size: tuple[int, int]) -> layers.Layer:
    return layers.Conv2D(filters, size, padding="same", activation="relu", kernel_initializer="he_normal")
