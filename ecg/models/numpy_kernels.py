"""Operations of networks on numpy arrays, without Keras.

Arrays are float32, (batch, samples, channels) or (batch, rows, samples, channels). An operation along time is one on
planes of one row. A convolution copies what each output sees into a row of a matrix, and multiplies it by the weights.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

Arrays = dict[str, np.ndarray]  # weights of an operation, by their names in Keras
Kernel = Callable[..., np.ndarray]
EXPONENTIAL_LIMIT = np.float32(20.0)  # of Mish; see ecg.models.layers.mish
SLOPE = np.float32(0.01)  # of leaky ReLU; see ecg.models.layers.leaky_relu
EDGE = 2  # zeros on each side of an image; see ecg.models.dcnet.EDGE
FAR = 2.0**30  # see ecg.models.dcnet.FAR


def apply_mish(x: np.ndarray) -> np.ndarray:
    """Return x tanh(softplus(x)) by one exponential; see ecg.models.layers.mish."""
    e = np.exp(np.minimum(x, EXPONENTIAL_LIMIT))
    n = e + np.float32(2.0)
    n *= e
    np.add(n, np.float32(2.0), out=e)
    n /= e
    n *= x
    return n


def apply_softmax(x: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    e /= e.sum(axis=-1, keepdims=True)
    return e


ACTIVATION_KERNELS: dict[str, Kernel] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, np.float32(0.0)),
    "leaky_relu": lambda x: np.maximum(x, SLOPE * x),
    "sigmoid": expit,
    "softmax": apply_softmax,
    "mish": apply_mish,
}


class Padding(NamedTuple):
    """How an axis is padded, and what is computed along it.

    Attributes:
        outputs: Number of outputs.
        before: Samples that are added before the first.
        after: Samples that are added after the last.
    """

    outputs: int
    before: int
    after: int


def plan_padding(size: int, taps: int, stride: int, padding: str) -> Padding:
    """Return how an axis is padded, by the rules of TensorFlow.

    Args:
        size: Samples.
        taps: Samples that an output sees.
        stride: Samples from an output to the next.
        padding: "same" or "valid".
    """
    if padding == "valid":
        return Padding((size - taps) // stride + 1, 0, 0)
    outputs = -(-size // stride)
    missing = max((outputs - 1) * stride + taps - size, 0)
    return Padding(outputs, missing // 2, missing - missing // 2)


def pad_planes(x: np.ndarray, rows: Padding, columns: Padding, value: float = 0.0) -> np.ndarray:
    """Pad planes (B, H, W, C) on all sides, without a copy if there is nothing to add."""
    if not any((*rows[1:], *columns[1:])):
        return np.ascontiguousarray(x)
    batch, height, width, channels = x.shape
    shape = batch, height + rows.before + rows.after, width + columns.before + columns.after, channels
    padded = np.full(shape, value, np.float32) if value else np.zeros(shape, np.float32)
    padded[:, rows.before : rows.before + height, columns.before : columns.before + width] = x
    return padded


def unfold_planes(x: np.ndarray, size: tuple[int, int], strides: tuple[int, int], padding: str) -> np.ndarray:
    """Return what each output of a convolution sees, (B, H', W', taps x C).

    Args:
        x: Planes, (B, H, W, C).
        size: Taps of the kernel, in rows and columns.
        strides: Its strides.
        padding: "same" or "valid".
    """
    rows, columns = (plan_padding(*axis, padding) for axis in zip(x.shape[1:3], size, strides, strict=True))
    padded = pad_planes(x, rows, columns)
    by_batch, by_row, by_column, by_channel = padded.strides
    # The taps of a row are next to each other in memory.
    shape = len(x), rows.outputs, columns.outputs, size[0], size[1] * x.shape[3]
    steps = by_batch, by_row * strides[0], by_column * strides[1], by_row, by_channel
    seen = np.lib.stride_tricks.as_strided(padded, shape, steps, writeable=False)
    return seen.reshape(*shape[:3], -1)


def fold_normalisation(weights: Arrays, epsilon: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Return kernel and bias with a batch normalisation after them, if there is one.

    Args:
        weights: "kernel" (..., inputs, filters), "bias" or none, and the normalisation's "moving_mean",
            "moving_variance" and, or none, "gamma" and "beta", (filters,) each.
        epsilon: Of the normalisation.

    Returns:
        Kernel (..., inputs, filters) and bias (filters,) or None, float32, rounded once.
    """
    kernel, bias = weights["kernel"].astype(np.float64), weights.get("bias")
    if "moving_variance" in weights:
        scale, shift = combine_normalisation(weights, epsilon)
        kernel, bias = kernel * scale, shift if bias is None else bias * scale + shift
    return kernel.astype(np.float32), None if bias is None else bias.astype(np.float32)


def combine_normalisation(weights: Arrays, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Return factor and summand of a batch normalisation, (C,) float64 each."""
    scale = 1.0 / np.sqrt(weights["moving_variance"].astype(np.float64) + epsilon)
    if "gamma" in weights:
        scale *= weights["gamma"]
    shift = -weights["moving_mean"] * scale
    return scale, shift + weights["beta"] if "beta" in weights else shift


def make_convolution(options: dict[str, Any], weights: Arrays) -> Kernel:
    """Make a convolution along time or of planes, with an activation."""
    kernel, bias = fold_normalisation(weights, options["epsilon"])
    activate = ACTIVATION_KERNELS[options["activation"]]
    is_line = kernel.ndim == 3
    size = (1, kernel.shape[0]) if is_line else (kernel.shape[0], kernel.shape[1])
    strides = (1, *options["strides"]) if is_line else tuple(options["strides"])
    matrix = np.ascontiguousarray(kernel.reshape(-1, kernel.shape[-1]))

    def convolve(x: np.ndarray) -> np.ndarray:
        planes = x[:, np.newaxis] if is_line else x
        y = multiply_rows(unfold_planes(planes, size, strides, options["padding"]), matrix, bias)
        return activate(y[:, 0] if is_line else y)

    return convolve


def make_dense(options: dict[str, Any], weights: Arrays) -> Kernel:
    """Make a fully connected layer over the last axis, with an activation."""
    matrix, bias = fold_normalisation(weights, options["epsilon"])
    activate = ACTIVATION_KERNELS[options["activation"]]
    return lambda x: activate(multiply_rows(x, matrix, bias))


def multiply_rows(x: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """Multiply the last axis of x (..., n) by a matrix (n, m), and add a bias (m,)."""
    y = x.reshape(-1, x.shape[-1]) @ matrix
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], -1)


def make_normalisation(options: dict[str, Any], weights: Arrays) -> Kernel:
    """Make a batch normalisation that stands alone."""
    scale, shift = (values.astype(np.float32) for values in combine_normalisation(weights, options["epsilon"]))
    return lambda x: x * scale + shift


def make_pooling(options: dict[str, Any], weights: Arrays) -> Kernel:
    """Make a pooling by maximum, or by the mean of the samples that are no padding."""
    is_line, is_mean = len(options["size"]) == 1, options["mean"]
    size, strides = ((1, *options[name]) if is_line else tuple(options[name]) for name in ("size", "strides"))

    def pool(x: np.ndarray) -> np.ndarray:
        planes = x[:, np.newaxis] if is_line else x
        axes = zip(planes.shape[1:3], size, strides, strict=True)
        rows, columns = (plan_padding(*axis, options["padding"]) for axis in axes)
        padded = pad_planes(planes, rows, columns, 0.0 if is_mean else -math.inf)
        taps = [
            padded[:, row : row + (rows.outputs - 1) * strides[0] + 1 : strides[0],
                   column : column + (columns.outputs - 1) * strides[1] + 1 : strides[1]]
            for row, column in np.ndindex(*size)
        ]  # fmt: skip
        pooled = taps[0].copy()
        for tap in taps[1:]:
            (np.add if is_mean else np.maximum)(pooled, tap, out=pooled)
        if is_mean:
            counts = [
                count_seen_samples(*axis)
                for axis in zip(planes.shape[1:3], (rows, columns), size, strides, strict=True)
            ]
            pooled /= np.outer(*counts).astype(np.float32)[:, :, np.newaxis]
        return pooled[:, 0] if is_line else pooled

    return pool


def count_seen_samples(size: int, padding: Padding, taps: int, stride: int) -> np.ndarray:
    """Return how many samples without padding each output along an axis sees."""
    first = np.arange(padding.outputs) * stride - padding.before
    return np.minimum(first + taps, size) - np.maximum(first, 0)


def make_reduction(options: dict[str, Any], weights: Arrays) -> Kernel:
    """Make a maximum or mean over axes."""
    axes, keepdims = tuple(options["axes"]), options["keepdims"]
    if options["mean"]:
        return lambda x: x.mean(axis=axes, keepdims=keepdims)
    return lambda x: x.max(axis=axes, keepdims=keepdims)


def make_reshaping(options: dict[str, Any], weights: Arrays) -> Kernel:
    """Make a change of the shape after the batch."""
    return lambda x: x.reshape(len(x), *options["shape"])


def scale_to_unit_range(x: np.ndarray) -> np.ndarray:
    """Scale each recording to the range from 0 to 1; see ecg.models.layers.UnitRange."""
    axes = tuple(range(1, x.ndim))
    minimum = x.min(axis=axes, keepdims=True)
    size = x.max(axis=axes, keepdims=True) - minimum
    return (x - minimum) / np.where(size > 0, size, np.float32(1.0))


def make_attention(options: dict[str, Any], weights: Arrays) -> Kernel:
    """Make dot-product attention along time (Vaswani et al. 2017)."""
    heads, size = weights["query_kernel"].shape[1:]

    def project(x: np.ndarray, name: str) -> np.ndarray:  # to (B, heads, T, size)
        bias = weights.get(f"{name}_bias")
        projected = multiply_rows(x, weights[f"{name}_kernel"].reshape(-1, heads * size),
                                  None if bias is None else bias.ravel())  # fmt: skip
        return projected.reshape(*x.shape[:2], heads, size).transpose(0, 2, 1, 3)

    def attend(query: np.ndarray, value: np.ndarray, key: np.ndarray | None = None) -> np.ndarray:
        scaled = project(query, "query") * np.float32(size**-0.5)
        scores = scaled @ project(value if key is None else key, "key").swapaxes(2, 3)
        mixed = apply_softmax(scores) @ project(value, "value")
        mixed = mixed.transpose(0, 2, 1, 3).reshape(*query.shape[:2], heads * size)
        return multiply_rows(mixed, weights["output_kernel"].reshape(heads * size, -1), weights.get("output_bias"))

    return attend


def make_deformable_convolution(options: dict[str, Any], weights: Arrays) -> Kernel:
    """Make a deformable convolution of planes, with an activation (ecg.models.dcnet)."""
    kernel, activate = weights["kernel"], ACTIVATION_KERNELS[options["activation"]]
    size = (kernel.shape[0], kernel.shape[1])
    find_offsets = make_convolution(
        {"epsilon": 0.0, "activation": "linear", "strides": (1, 1), "padding": "same"},
        {"kernel": weights["offsets_kernel"], "bias": weights["offsets_bias"]},
    )
    matrix = np.ascontiguousarray(kernel.reshape(-1, kernel.shape[-1]))

    def convolve(x: np.ndarray) -> np.ndarray:
        samples = sample_planes(x, find_offsets(x), size)
        return activate(multiply_rows(samples, matrix, weights["bias"]))

    return convolve


def sample_planes(x: np.ndarray, offsets: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return what a deformed kernel sees, interpolated in both directions.

    Outside, planes are zero.

    Args:
        x: Planes, (B, H, W, C).
        offsets: Rows and columns by which each tap is moved, taps row by row, (B, H, W, 2 taps).
        size: Taps of the kernel, in rows and columns.

    Returns:
        (B, H, W, taps x C).
    """
    batch, height, width, channels = x.shape
    offsets = offsets.reshape(batch, height, width, -1, 2)
    floor = np.floor(offsets)
    down, right = np.moveaxis(offsets - floor, -1, 0)[..., np.newaxis]
    floor_down, floor_right = np.moveaxis(np.clip(floor, -FAR, FAR).astype(np.int32), -1, 0)
    taps = np.indices(size).reshape(2, -1) - (np.array(size)[:, np.newaxis] - 1) // 2
    rows = np.arange(height)[:, np.newaxis, np.newaxis] + taps[0] + floor_down
    columns = np.arange(width)[:, np.newaxis] + taps[1] + floor_right
    rows, columns = (EDGE + np.clip(index, -EDGE, limit) for index, limit in ((rows, height), (columns, width)))
    padded = np.pad(x, ((0, 0), (EDGE, EDGE), (EDGE, EDGE), (0, 0)))
    plane = np.arange(batch)[:, np.newaxis, np.newaxis, np.newaxis]
    sampled = sum(
        padded[plane, rows + row, columns + column] * weight
        for row, column, weight in (
            (0, 0, (1 - down) * (1 - right)),
            (0, 1, (1 - down) * right),
            (1, 0, down * (1 - right)),
            (1, 1, down * right),
        )
    )
    return np.asarray(sampled, np.float32).reshape(batch, height, width, -1)


# Functions that make the operations of networks from options and weights, by their names in files.
KERNELS: dict[str, Callable[[dict[str, Any], Arrays], Kernel]] = {
    "convolution": make_convolution,
    "dense": make_dense,
    "normalisation": make_normalisation,
    "activation": lambda options, weights: ACTIVATION_KERNELS[options["activation"]],
    "pooling": make_pooling,
    "reduction": make_reduction,
    "reshaping": make_reshaping,
    "transposition": lambda options, weights: lambda x: x.transpose(options["axes"]),
    "addition": lambda options, weights: lambda *x: sum(x[2:], x[0] + x[1]),
    "multiplication": lambda options, weights: lambda *x: math.prod(x[2:], start=x[0] * x[1]),
    "concatenation": lambda options, weights: lambda *x: np.concatenate(x, axis=options["axis"]),
    "unit range": lambda options, weights: scale_to_unit_range,
    "lead presence": lambda options, weights: lambda x: np.any(x != 0, axis=1).astype(np.float32),
    "attention": make_attention,
    "deformable convolution": make_deformable_convolution,
}
