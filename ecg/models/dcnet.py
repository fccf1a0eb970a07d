"""Deformable convolution: each tap of a kernel looks where learnt offsets send it, between points too."""

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from ecg.models.resnets import output_layer, rename_layers

CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # the four points around a place: rows and columns after the first
EDGE = 2  # zeros on each side of an image, so that all four corners of a place that is far outside are zeros
FAR = 2.0**30  # offsets are whole numbers up to here, which are what integers can hold


def deformable_convolution(x, offsets, kernel, bias):
    """Convolve an image with a kernel of which each tap is moved by its own offset, at each place (Dai et al. 2017).

    Image x (B, H, W, C); offsets (B, H, W, 2 kh kw), in rows and in columns for each tap, taps row by row; kernel (kh,
    kw, C, F); bias (F,); all of one floating type. Between four points the image is interpolated linearly in both
    directions; outside it is zero. Returns (B, H, W, F): with offsets of zero what a convolution with 'same' zeros
    returns.
    """
    # A copy, for TensorFlow's gradients of one's own take no variables.
    return _convolution(x, offsets, ops.copy(kernel)) + bias


@ops.custom_gradient
def _convolution(x, offsets, kernel):
    """Return the convolution without bias, and its gradient.

    All places of all images are rows of one table, so that each corner of a tap is found by one number. The gradient
    is written down because what backends find themselves takes more memory: here of what is between only the samples
    are kept, and the corners are fetched again.
    """
    batch, height, width, channels = ops.shape(x)
    *size, _, filters = kernel.shape
    edges = ((0, 0), (EDGE, EDGE), (EDGE, EDGE), (0, 0))
    points = ops.reshape(ops.pad(x, edges), (-1, channels))
    matrix = ops.reshape(kernel, (-1, filters))
    first, down, right = _places(offsets, size, height, width)
    weights = [(down if row else 1 - down) * (right if column else 1 - right) for row, column in CORNERS]
    weights = [ops.reshape(weight, (-1, 1)) for weight in weights]

    def corners():
        return [ops.take(points, first + row * (width + 2 * EDGE) + column, axis=0) for row, column in CORNERS]

    samples = sum(corner * weight for corner, weight in zip(corners(), weights, strict=True))
    samples = ops.reshape(samples, (-1, matrix.shape[0]))

    def gradient(*above, upstream=None):
        # Backends differ in how they hand over the gradient from above.
        above = ops.reshape(above[0] if upstream is None else upstream, (-1, filters))
        of_samples = ops.reshape(ops.matmul(above, ops.transpose(matrix)), (-1, channels))
        of_kernel = ops.reshape(ops.matmul(ops.transpose(samples), above), kernel.shape)
        a, b, c, d = (ops.reshape(ops.sum(corner * of_samples, axis=-1), ops.shape(down)) for corner in corners())
        of_down = (1 - right) * (c - a) + right * (d - b)
        of_right = (1 - down) * (b - a) + down * (d - c)
        of_offsets = ops.reshape(ops.stack([of_down, of_right], axis=-1), ops.shape(offsets))
        of_x = 0
        for (row, column), weight in zip(CORNERS, weights, strict=True):
            table = ops.segment_sum(of_samples * weight, first, ops.shape(points)[0])
            table = ops.reshape(table, (batch, height + 2 * EDGE, width + 2 * EDGE, channels))
            # A place of the table stands for its first corner; this one lies beside it.
            of_x += table[:, EDGE - row : EDGE - row + height, EDGE - column : EDGE - column + width]
        return of_x, of_offsets, of_kernel

    return ops.reshape(ops.matmul(samples, matrix), (batch, height, width, filters)), gradient


def _places(offsets, size, height, width):
    """Return where the taps look: the row of the table that is the first corner, and how far beyond it that is.

    The first is (B * H * W * taps,) int32, the distances, down and to the right, are (B, H, W, taps) from 0 to 1.
    Offsets are split before the place is added, of which single precision would leave few digits of them.
    """
    batch = ops.shape(offsets)[0]
    offsets = ops.reshape(offsets, (batch, height, width, size[0] * size[1], 2))
    whole = ops.floor(offsets)
    down, right = ops.unstack(offsets - whole, axis=-1)
    whole_down, whole_right = ops.unstack(ops.cast(ops.clip(whole, -FAR, FAR), "int32"), axis=-1)
    tap_row, tap_column = np.indices(size, np.int32).reshape(2, -1) - (np.array(size, np.int32)[:, None] - 1) // 2
    row = ops.arange(height, dtype="int32")[:, None, None] + tap_row + whole_down
    column = ops.arange(width, dtype="int32")[:, None] + tap_column + whole_right
    row, column = (EDGE + ops.clip(each, -EDGE, most) for each, most in ((row, height), (column, width)))
    row += ops.arange(batch, dtype="int32")[:, None, None, None] * (height + 2 * EDGE)
    return ops.reshape(row * (width + 2 * EDGE) + column, (-1,)), down, right


class DeformableConv2D(layers.Layer):
    """Deformable convolution of images, stride 1, its offsets found by a plain convolution that starts at zero.

    Input (B, H, W, C), H and W any; output (B, H, W, filters).
    """

    def __init__(self, filters, kernel_size, activation=None, **settings):
        super().__init__(**settings)
        self.filters, self.kernel_size = filters, tuple(kernel_size)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        """Make the weights of the kernel, of the bias and of the convolution that finds the offsets."""
        height, width = self.kernel_size
        self.kernel = self.add_weight((height, width, input_shape[-1], self.filters), "he_normal", name="kernel")
        self.bias = self.add_weight((self.filters,), "zeros", name="bias")
        self.offsets = layers.Conv2D(2 * height * width, self.kernel_size, padding="same", kernel_initializer="zeros",
                                     dtype=self.dtype_policy, name="offsets")  # fmt: skip
        self.offsets.build(input_shape)

    def call(self, x):
        """Return what the convolution and the activation make of images."""
        return self.activation(deformable_convolution(x, self.offsets(x), self.kernel, self.bias))

    def compute_output_shape(self, input_shape):
        """Return the shape of the output for that of the input."""
        return (*input_shape[:-1], self.filters)


TAPS = 3  # along time, of all convolutions
ROWS = 3  # leads that the last convolution of a block sees
POOLING = 4  # samples that become one in a block


@dataclass(frozen=True)
class DCNetSettings:
    """Sizes of DCNet (Xie et al.), with deformable convolutions or, as the paper compares, with plain ones instead."""

    filters: tuple[int, ...] = (32, 64, 128, 256)  # of each block
    plain: int = 2  # convolutions along time that a block begins with, at least one
    deformable: bool = True

    def __post_init__(self):
        if not self.filters or self.plain < 1:
            raise ValueError(f"{len(self.filters)} blocks of {self.plain} plain convolutions, expected 1 or more")

    def build(self, leads, length, classes, output_activation="sigmoid"):
        """Return the network for numbers of leads, of samples (None: any) and of classes.

        Input (B, T, leads) float32, mV; output (B, classes) probabilities. Where the paper is silent, weights start
        as He et al. 2015 have it for ReLU, and a pooling's last window may reach beyond the end.
        """
        signal = keras.Input((length, leads))
        x = layers.Reshape((leads, -1, 1))(layers.Permute((2, 1))(signal))
        for filters in self.filters:
            for _ in range(self.plain):
                x = _plain(filters, (1, TAPS))(x)
            x = layers.MaxPooling2D((1, POOLING), padding="same")(x)
            if self.deformable:
                x = DeformableConv2D(filters, (ROWS, TAPS), activation="relu")(x)
            else:
                x = _plain(filters, (ROWS, TAPS))(x)
        x = layers.GlobalAveragePooling2D()(x)
        return rename_layers(keras.Model(signal, output_layer(x, classes, output_activation), name="dcnet"))


def _plain(filters, size):
    return layers.Conv2D(filters, size, padding="same", activation="relu", kernel_initializer="he_normal")
