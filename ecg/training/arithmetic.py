"""Test the convolutions of a network in reduced precision before training.

Libraries choose a kernel by processor and shape, and a kernel may be wrong for some shapes only. On processors with
AMX, oneDNN's bfloat16 convolution of 16 taps with 4, 6, 8, 10, 12 or 14 input channels is wrong by as much as the
signal itself: its relative error is about 1.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops

from ecg.training.trainer import TrainingError

EXACT = "float32"  # policy that others are compared with
TOLERANCE = 0.05  # relative error; see compare_layers
CURE = "set ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 in the environment, or compute with --precision float32"
BATCH = 2  # recordings
LENGTH = 128  # samples of a recording, at least; of an image, the product of rows and columns
SPANS = 3  # kernels that fit into each axis of a recording, at least
LARGEST = 16  # inputs and weights are integers from -LARGEST to LARGEST times a power of two: exact in 8 bits

_passed: set[tuple[str, str]] = set()  # policies and descriptions of layers that this process has found right


class Errors(NamedTuple):
    """Relative errors of a layer, root mean square by root mean square.

    forward: Of the output.
    input_gradient: Of the gradient with respect to the input.
    kernel_gradient: Of the gradient with respect to the kernel.
    """

    forward: float
    input_gradient: float
    kernel_gradient: float


def check_arithmetic(network: keras.Model | Sequence[layers.Layer], policy: str) -> None:
    """Check that a network's convolutions are right under a dtype policy.

    The forward pass and the gradients are compared with single precision. Each shape is tested once in a process. It
    takes 1 to 6 seconds for the largest networks, and no time for a network in single precision.

    Args:
        network: A network, or its layers.
        policy: Keras dtype policy that is to be trusted, such as "mixed_bfloat16".

    Raises:
        TrainingError: A result differs from that of EXACT by more than TOLERANCE. The message names the shape and what
            the user can do.
    """
    described = {describe_layer(layer): layer for layer in layers_with_kernel(network)}
    tested = {text: layer for text, layer in described.items() if (policy, text) not in _passed}
    if not tested:
        return
    for text, errors in zip(tested, compare_layers(list(tested.values()), policy), strict=True):
        wrong = [
            f"its {name.replace('_', ' ')} differs from {EXACT} by {100 * value:.0f} %"
            for name, value in errors._asdict().items()
            if not value <= TOLERANCE  # NaN, too
        ]
        if wrong:
            raise TrainingError(f"{policy} is wrong on this machine for {text}: {', '.join(wrong)}; {CURE}")
        _passed.add((policy, text))


def compare_layers(tested: Sequence[layers.Layer], policy: str) -> list[Errors]:
    """Compare layers under a dtype policy with the same in EXACT, on random input.

    They are copied, given random kernels, and run as in a training: compiled, with a step of gradient descent. Inputs,
    kernels and gradients from above are exact in 8 bits, so that what differs is the sums and the rounding of results.
    bfloat16 has 8 bits, so that rounding has a relative error of at most 2^-8 = 0.0039, and of about 0.0017 as root
    mean square, however many terms a sum has that is made in single precision; a sum of k parts that are rounded singly
    has about sqrt(k) times as much. Measured with TensorFlow 2.21 on a processor with AVX512_BF16, all shapes of all
    systems here have 0.0009 to 0.0021; the gradient of a deformable convolution's input, which is a sum of rounded
    parts, has 0.0049. A wrong kernel has about 1. TOLERANCE is ten times the greatest right error and a twentieth of a
    wrong one.

    Args:
        tested: Layers of a built network that have a kernel.
        policy: Keras dtype policy to be tested.

    Returns:
        The errors of each layer.
    """
    results = [_run_layers(tested, name) for name in (policy, EXACT)]
    return [
        Errors(*(_relative_error(array, right) for array, right in zip(*arrays, strict=True)))
        for arrays in zip(*results, strict=True)
    ]


def layers_with_kernel(network: keras.Model | Sequence[layers.Layer]) -> Iterator[layers.Layer]:
    """Yield the layers, also nested ones, with a kernel in reduced precision.

    Args:
        network: A network, or its layers.
    """
    for layer in network.layers if isinstance(network, keras.Model) else network:
        if getattr(layer, "kernel", None) is not None and layer.compute_dtype != EXACT:
            yield layer
        yield from layers_with_kernel(layer if isinstance(layer, keras.Model) else _inner_layers(layer))


def _inner_layers(layer: layers.Layer) -> list[layers.Layer]:
    """Return the layers that are attributes of a layer."""
    return [value for value in vars(layer).values() if isinstance(value, layers.Layer)]


def describe_layer(layer: layers.Layer) -> str:
    """Describe a layer by all that decides which library kernel it uses."""
    *taps, _, filters = layer.kernel.shape if _rank(layer) else (1, *_matrix_shape(layer))
    shape = f"{' x '.join(map(str, taps))} taps, {_channels(layer)} input and {filters} output channels"
    names = {"strides": "stride", "dilation_rate": "dilation", "padding": "padding", "groups": "groups"}
    geometry = "".join(f", {name} {getattr(layer, key)}" for key, name in names.items() if hasattr(layer, key))
    return f"a {type(layer).__name__} of {shape}{geometry}"


class _Bench(keras.Model):
    """Runs copies of layers to find their outputs and gradients.

    Each has an input of its own, which is a weight, so that a training step finds its gradient.
    The sum of all outputs, each multiplied by its gradient from above, is the loss. The outputs are kept, too.
    """

    def __init__(self, tested: Sequence[layers.Layer], policy: str) -> None:
        super().__init__(dtype=EXACT, name="bench")
        generator = np.random.default_rng(0)
        self.copies, self.signals, self.outputs_kept, self.above = [], [], [], []
        for number, layer in enumerate(tested):
            shape = (BATCH, *_sizes(layer), _channels(layer))
            copy = _copy(layer, policy)
            copy.build(shape)
            fan_in = math.prod(copy.kernel.shape[:-1])
            copy.kernel.assign(_exact(generator, copy.kernel.shape) * 2.0 ** -round(math.log2(fan_in) / 2))
            for within in (inner for inner in _inner_layers(copy) if hasattr(inner, "bias")):
                within.bias.assign(np.full(within.bias.shape, 0.5))  # offsets that lie between points
            signal = self.add_weight(shape, "zeros", name=f"signal_{number}")
            signal.assign(_exact(generator, shape))
            above = copy.compute_output_shape(shape)
            self.copies.append(copy)
            self.signals.append(signal)
            kept = {"trainable": False, "aggregation": "only_first_replica"}
            self.outputs_kept.append(self.add_weight(above, "zeros", name=f"output_{number}", **kept))
            self.above.append(_exact(generator, above).astype(np.float32))

    def call(self, start: keras.KerasTensor) -> keras.KerasTensor:
        """Run all copies, and add the loss; `start` is 0 and prevents constant folding."""
        loss = 0.0
        for copy, signal, kept, above in zip(self.copies, self.signals, self.outputs_kept, self.above, strict=True):
            output = ops.cast(copy(ops.cast(signal + start, copy.compute_dtype)), EXACT)
            kept.assign(output)
            loss += ops.sum(output * above)
        self.add_loss(loss)
        return start


def _run_layers(tested: Sequence[layers.Layer], policy: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return output, input gradient and kernel gradient of each layer."""
    bench = _Bench(tested, policy)
    # By a step of rate 1 each weight changes by its gradient.
    bench.compile(keras.optimizers.SGD(1.0), jit_compile=keras.backend.backend() == "jax")
    weights = [bench.signals, [copy.kernel for copy in bench.copies]]

    def arrays(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
        return [ops.convert_to_numpy(variable) for variable in variables]

    before = [arrays(kind) for kind in weights]
    bench.train_on_batch(np.zeros((1, 1), np.float32))
    gradients = [[old - new for old, new in zip(earlier, arrays(kind), strict=True)]
                 for earlier, kind in zip(before, weights, strict=True)]  # fmt: skip
    return list(zip(arrays(bench.outputs_kept), *gradients, strict=True))


def _relative_error(array: np.ndarray, right: np.ndarray) -> float:
    difference = np.asarray(array, np.float64) - np.asarray(right, np.float64)
    return float(np.sqrt(np.mean(difference**2) / np.mean(np.asarray(right, np.float64) ** 2)))


def _exact(generator: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Return random numbers that have 8 bits at most, of about unit variance."""
    return generator.integers(-LARGEST, LARGEST, shape, endpoint=True) / (LARGEST / 2)


def _copy(layer: layers.Layer, policy: str) -> layers.Layer:
    """Return an unbuilt copy of a layer under a policy, without activation.

    The copy of an EinsumDense is a Dense layer of the same matrix product.
    """
    if isinstance(layer, layers.EinsumDense):
        return layers.Dense(_matrix_shape(layer)[1], dtype=policy)
    config = layer.get_config() | {"dtype": policy}
    return type(layer).from_config(config | ({"activation": "linear"} if "activation" in config else {}))


def _rank(layer: layers.Layer) -> int:
    """Return the number of axes along which a layer convolves, 0 if it does not."""
    return 0 if isinstance(layer, layers.EinsumDense) else len(layer.kernel.shape) - 2


def _matrix_shape(layer: layers.Layer) -> tuple[int, int]:
    """Return the number of inputs and of outputs of a layer that does not convolve."""
    if not isinstance(layer, layers.EinsumDense):
        return layer.kernel.shape
    inputs, axes = layer.equation.split("->")[0].split(",")
    sizes = dict(zip(axes, layer.kernel.shape, strict=True))
    n_inputs, n_outputs = (math.prod(size for axis, size in sizes.items() if (axis in inputs) == is_input)
                           for is_input in (True, False))  # fmt: skip
    return n_inputs, n_outputs


def _channels(layer: layers.Layer) -> int:
    return layer.kernel.shape[-2] * getattr(layer, "groups", 1) if _rank(layer) else _matrix_shape(layer)[0]


def _sizes(layer: layers.Layer) -> tuple[int, ...]:
    """Return the sizes of the axes along which a layer convolves in its test."""
    if not _rank(layer):
        return (LENGTH,)
    dilation = getattr(layer, "dilation_rate", (1,) * _rank(layer))
    spans = [SPANS * ((taps - 1) * rate + 1) for taps, rate in zip(layer.kernel.shape, dilation, strict=False)]
    return *spans[:-1], max(spans[-1], LENGTH // math.prod(spans[:-1]))
