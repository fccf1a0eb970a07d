"""The residual networks of other systems: of Li et al. 2021, of Zhao et al. 2022, and for rhythms from one lead."""

from contextlib import contextmanager
from dataclasses import dataclass

import keras
from keras import layers

from ecg.data.preprocessing import N_DEMOGRAPHICS
from ecg.data.wave_peaks import PEAKS_PER_CELL, VALUES_PER_PEAK
from ecg.models.layers import (
    ACTIVATIONS,
    UnitRange,
    activate,
    bare_convolution,
    convolution,
    normalise,
    preactivated_block,
    residual_block,
)

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # weights are float32 in both


@contextmanager
def precision_policy(precision):
    """Have the networks that are built within compute in a precision, one of POLICIES."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def rename_layers(network, before=""):
    """Name a network's layers by their place and kind, after what comes `before`, and return it.

    Names that do not tell what else the process has built, for they are saved with the weights.
    """
    for place, layer in enumerate(network.layers):
        layer.name = f"{before}{place:03}_{type(layer).__name__}"
    return network


def check_settings(settings):
    """Raise ValueError where a network's settings have an activation that is none, or a dropout that leaves nothing."""
    if settings.activation not in [*ACTIVATIONS]:
        raise ValueError(f"activation is {settings.activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    if not 0 <= getattr(settings, "dropout", 0) < 1:
        raise ValueError(f"dropout is {settings.dropout!r}, expected a number from 0 to below 1")


def output_layer(x, classes, output_activation):
    """Return the probabilities of classes by a fully connected layer with an activation, "sigmoid" or "softmax".

    In single precision, whatever the rest computes in: near 0 and 1 half of it would tell few probabilities apart.
    """
    return layers.Dense(classes, activation=output_activation, dtype="float32")(x)


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the SE-ResNet of Cai et al. 2021; the defaults are the method's, or ours where the paper gives none."""

    width: int = 32  # filters of the first convolution and the first pair of blocks; doubles from pair to pair
    first_kernel: int = 16
    first_stride: int = 2
    kernels: tuple[int, ...] = (11, 9, 7, 5)  # one for each pair of residual blocks
    squeeze_ratio: int | None = 16  # None: without squeeze-and-excitation
    dropout: float = 0.2
    hidden: int = 256  # units of the first of the two fully connected layers
    activation: str = "mish"  # of ecg.models.layers.ACTIVATIONS

    def __post_init__(self):
        check_settings(self)

    def build(self, leads, length, classes, output_activation="sigmoid"):
        """Return the network for numbers of leads, of samples (None: any) and of classes.

        Input (B, T, leads) float32, mV, by the method at 250 Hz; output (B, classes) probabilities.
        """
        signal = keras.Input((length, leads))
        x = activate(convolution(signal, self.width, self.first_kernel, self.first_stride), self.activation)
        x = layers.MaxPooling1D(2, padding="same")(x)
        for pair, kernel in enumerate(self.kernels):
            for block in range(2):
                stride = 2 if pair > 0 and block == 0 else 1
                filters = self.width * 2**pair
                x = residual_block(x, filters, kernel, stride, self.squeeze_ratio, self.dropout, self.activation)
        x = layers.GlobalMaxPooling1D()(x)
        x = activate(layers.Dense(self.hidden, kernel_initializer="he_normal")(x), self.activation)
        return rename_layers(keras.Model(signal, output_layer(x, classes, output_activation), name="se_resnet"))


RATIO = 16  # of squeeze-and-excitation for rhythms
# Blocks of each of the four stages, and whether they are bottlenecks, by depth (He et al. 2016).
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
EXPANSION = 4  # filters that leave a bottleneck for each within


@dataclass(frozen=True)
class LiSettings:
    """Sizes of the SE-ResNet of Li et al. 2021, with its branch that finds peaks or without.

    The paper gives the blocks of the four stages, and their poolings of stride 2. All else is ours: the widths, the
    taps, ReLU, the ratio of squeeze-and-excitation, a first convolution of stride 2 followed by max pooling, and the
    sizes of the branch.
    """

    stages: tuple[int, ...] = (3, 4, 6, 3)  # residual blocks of each
    width: int = 64  # filters of the first convolution and the first stage; doubles from stage to stage
    first_kernel: int = 15
    first_stride: int = 2
    kernel: int = 5
    squeeze_ratio: int | None = 16  # None: without squeeze-and-excitation
    activation: str = "relu"
    peaks: bool = False  # whether the network answers with peaks, too
    peak_units: int = 64  # of the perceptron of the branch
    peak_kernel: int = 3  # grid cells that its convolution sees

    def __post_init__(self):
        check_settings(self)

    @property
    def cell(self):
        """Return the samples of a grid cell of peaks, which is one step in time before the last stage."""
        return self.first_stride * 2 ** len(self.stages)

    def build(self, leads, length, classes, output_activation="sigmoid"):
        """Return the network for numbers of leads, of samples (None: any) and of classes.

        Input (B, T, leads) float32, mV; output (B, classes) probabilities, and with peaks a tuple of these and of
        (B, cells, 3, 7) numbers from 0 to 1: of each of three peaks the confidence, the position in the cell, and one
        number for each of P, Q, R, S, T. The layers that lead to the probabilities are the same with peaks and
        without, in their names, order and first weights. ValueError where peaks are asked of a length that is not
        made of whole cells.
        """
        if self.peaks and length is not None and length % self.cell:
            raise ValueError(f"{length} samples, expected a multiple of {self.cell}, which is a grid cell")
        signal = keras.Input((length, leads))
        x = activate(convolution(signal, self.width, self.first_kernel, self.first_stride), self.activation)
        x = layers.MaxPooling1D(2, padding="same")(x)
        for stage, blocks in enumerate(self.stages):
            before_stage = x
            x = layers.MaxPooling1D(2, padding="same")(x)  # for the first block's main way and its shortcut alike
            for _ in range(blocks):
                x = residual_block(x, self.width * 2**stage, self.kernel, 1, self.squeeze_ratio, 0.0, self.activation)
        probabilities = output_layer(layers.GlobalAveragePooling1D()(x), classes, output_activation)
        network = rename_layers(keras.Model(signal, probabilities, name="li2021"))
        if not self.peaks:
            return network
        x = activate(layers.Dense(self.peak_units, kernel_initializer="he_normal")(before_stage), self.activation)
        x = layers.Conv1D(
            PEAKS_PER_CELL * VALUES_PER_PEAK, self.peak_kernel, padding="same", activation="sigmoid", dtype="float32"
        )(x)
        peaks = layers.Reshape((-1, PEAKS_PER_CELL, VALUES_PER_PEAK), dtype="float32")(x)
        rename_layers(keras.Model(before_stage, peaks), "peaks_")
        return keras.Model(signal, (probabilities, peaks), name="li2021")


# Tells by sigmoid of one class whether a recording is CPSC's; the paper gives no sizes for it, so they are ours.
SOURCE_GATE = LiSettings(stages=(1, 1, 1, 1), width=32)


@dataclass(frozen=True)
class LeadWeightedSettings:
    """Sizes of the ResNet of Zhao et al. 2022, which weighs its channels and is told of the person.

    The strides of the first convolution and of its max pooling, both 2, and the pooling's 3 samples, are ours.
    """

    widths: tuple[int, ...] = (64, 64, 128, 128, 256, 256, 512, 512)  # filters of each residual block
    first_kernel: int = 15
    first_stride: int = 2
    kernel: int = 7
    squeeze_ratio: int | None = 16  # None: without squeeze-and-excitation
    dropout: float = 0.2
    activation: str = "relu"
    person_units: int = 10

    def __post_init__(self):
        check_settings(self)

    def build(self, leads, length, classes, output_activation="sigmoid"):
        """Return the network for numbers of leads, of samples (None: any) and of classes.

        Input a tuple of (B, T, leads) float32, mV, and of (B, 5) float32, what is known of the person: the age, the sex
        as two numbers, and whether each of them is missing; output (B, classes) probabilities.
        """
        signal, person = keras.Input((length, leads)), keras.Input((N_DEMOGRAPHICS,))
        x = activate(convolution(signal, self.widths[0], self.first_kernel, self.first_stride), self.activation)
        x = layers.MaxPooling1D(3, 2, padding="same")(x)
        for place, width in enumerate(self.widths):
            stride = 2 if place in (2, 4, 6) else 1
            x = residual_block(x, width, self.kernel, stride, self.squeeze_ratio, self.dropout, self.activation)
        x = layers.GlobalAveragePooling1D()(x)
        told = activate(layers.Dense(self.person_units, kernel_initializer="he_normal")(person), self.activation)
        probabilities = output_layer(layers.Concatenate()([x, told]), classes, output_activation)
        return rename_layers(keras.Model((signal, person), probabilities, name="zhao2022"))


@dataclass(frozen=True)
class RhythmSettings:
    """Sizes of the pre-activation ResNet for rhythms, with squeeze-and-excitation or without, of 18 to 152 layers.

    Its source gives the depths alone. He et al. 2016, along one dimension, fills the gaps: widths, taps, strides,
    and bottlenecks, whose stride is in the convolution of three taps. ValueError where the depth is none of DEPTHS.
    """

    depth: int = 152
    squeeze: bool = True
    width: int = 64  # filters of the first convolution and the first stage; doubles from stage to stage
    first_kernel: int = 7
    kernel: int = 3
    activation: str = "relu"

    def __post_init__(self):
        if self.depth not in [*DEPTHS]:
            raise ValueError(f"depth is {self.depth!r}, expected one of {', '.join(map(str, DEPTHS))}")

    def build(self, leads, length, classes, output_activation="sigmoid"):
        """Return the network for numbers of leads, of samples (None: any) and of classes.

        Input (B, T, leads) float32 in any unit, for each recording is scaled from 0 to 1 first; output (B, classes)
        probabilities, which sum to 1 with "softmax".
        """
        stages, bottleneck = DEPTHS[self.depth]
        ratio = RATIO if self.squeeze else None
        signal = keras.Input((length, leads))
        x = bare_convolution(UnitRange(dtype="float32")(signal), self.width, self.first_kernel, 2)
        x = layers.MaxPooling1D(3, 2, padding="same")(x)
        for stage, blocks in enumerate(stages):
            filters = self.width * 2**stage
            taps = ((filters, self.kernel),) * 2
            if bottleneck:
                taps = (filters, 1), (filters, self.kernel), (EXPANSION * filters, 1)
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                x = preactivated_block(x, taps, stride, ratio, block == 0, self.activation)
        x = layers.GlobalAveragePooling1D()(activate(normalise(x), self.activation))
        name = f"{'se_' * self.squeeze}resnet_{self.depth}"
        return rename_layers(keras.Model(signal, output_layer(x, classes, output_activation), name=name))
