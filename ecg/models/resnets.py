"""Residual networks of the published methods.

The settings of a network are a dataclass that builds it; see NetworkSettings.build.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import keras
from keras import layers, ops

from ecg.data.preprocessing import N_DEMOGRAPHICS
from ecg.data.wave_peaks import PEAKS_PER_CELL, VALUES_PER_PEAK
from ecg.models.layers import (
    ACTIVATIONS,
    LeadPresence,
    UnitRange,
    activate,
    bare_convolution,
    convolution,
    normalise,
    pooled_residual_block,
    preactivated_block,
    residual_block,
)

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # weights are float32 in both


@contextmanager
def precision_policy(precision: str) -> Iterator[None]:
    """Build the networks within so that they compute in a precision, one of POLICIES."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def rename_layers(network: keras.Model, prefix: str = "") -> keras.Model:
    """Name a network's layers by prefix, position and kind, and return it.

    Names are saved with the weights; these do not depend on what else the process has built.
    """
    for index, layer in enumerate(network.layers):
        layer.name = f"{prefix}{index:03}_{type(layer).__name__}"
    return network


def check_settings(activation: str, dropout: float = 0.0) -> None:
    """Raise ValueError if activation or dropout of a network are invalid."""
    if activation not in [*ACTIVATIONS]:
        raise ValueError(f"activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout!r}, expected a number from 0 to below 1")


def output_layer(x: keras.KerasTensor, classes: int, output_activation: str) -> keras.KerasTensor:
    """Return probabilities by a fully connected layer, in single precision."""
    return layers.Dense(classes, activation=output_activation, dtype="float32")(x)


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the SE-ResNet of Cai et al. 2021; the paper gives some of the defaults.

    Attributes:
        width: Filters of the first convolution and the first pair of blocks; doubles from pair to pair.
        first_kernel: Taps of the first convolution.
        first_stride: Its stride.
        kernels: Taps for each pair of residual blocks.
        squeeze_ratio: Of squeeze-and-excitation; None for none.
        dropout: Within each block.
        hidden: Units of the first of the two fully connected layers.
        activation: One of ecg.models.layers.ACTIVATIONS.
    """

    width: int = 32
    first_kernel: int = 16
    first_stride: int = 2
    kernels: tuple[int, ...] = (11, 9, 7, 5)
    squeeze_ratio: int | None = 16
    dropout: float = 0.2
    hidden: int = 256
    activation: str = "mish"

    def __post_init__(self) -> None:
        check_settings(self.activation, self.dropout)

    def build(self, leads: int, length: int | None, classes: int, output_activation: str = "sigmoid") -> keras.Model:
        """Build the untrained network.

        Args:
            leads: Number of leads.
            length: Number of samples; None for any.
            classes: Number of classes.
            output_activation: "sigmoid", or "softmax" for classes that exclude each other.

        Returns:
            A network from signals (B, T, leads) float32, in mV, to probabilities (B, classes).
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


RATIO = 16  # squeeze-and-excitation in RhythmSettings
# Blocks of each of the four stages, and whether they are bottlenecks, by depth (He et al. 2016).
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
EXPANSION = 4  # output filters of a bottleneck per filter within


@dataclass(frozen=True)
class LiSettings:
    """Sizes of the SE-ResNet of Li et al. 2021, which can find wave peaks, too.

    The paper gives the blocks of the four stages, and their poolings of stride 2. It does not give the widths, the
    taps, ReLU, the ratio of squeeze-and-excitation, the first convolution of stride 2 with max pooling, and the sizes
    of the branch.

    Attributes:
        stages: Residual blocks of each stage.
        width: Filters of the first convolution and the first stage; doubles from stage to stage.
        first_kernel: Taps of the first convolution.
        first_stride: Its stride.
        kernel: Taps of the others.
        squeeze_ratio: Of squeeze-and-excitation; None for none.
        activation: One of ecg.models.layers.ACTIVATIONS.
        peaks: Whether the network finds wave peaks, too.
        peak_units: Units of the branch's perceptron.
        peak_kernel: Grid cells that the branch's convolution sees.
    """

    stages: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    first_kernel: int = 15
    first_stride: int = 2
    kernel: int = 5
    squeeze_ratio: int | None = 16
    activation: str = "relu"
    peaks: bool = False
    peak_units: int = 64
    peak_kernel: int = 3

    def __post_init__(self) -> None:
        check_settings(self.activation)

    @property
    def cell(self) -> int:
        """Samples of a grid cell, which is one step in time before the last stage."""
        return self.first_stride * 2 ** len(self.stages)

    def build(self, leads: int, length: int | None, classes: int, output_activation: str = "sigmoid") -> keras.Model:
        """Build the untrained network; see NetworkSettings.build.

        With wave peaks, the output is a tuple of the probabilities and of (B, cells, 3, 7) numbers from 0 to 1: for
        each of three peaks the confidence, the position in the cell, and one number for each of P, Q, R, S, T. The
        layers of the probabilities are the same without them, including names, order and first weights.

        Raises:
            ValueError: If it finds wave peaks, and `length` is no multiple of a grid cell.
        """
        if self.peaks and length is not None and length % self.cell:
            raise ValueError(f"{length} samples, expected a multiple of {self.cell}, which is a grid cell")
        signal = keras.Input((length, leads))
        x = activate(convolution(signal, self.width, self.first_kernel, self.first_stride), self.activation)
        x = layers.MaxPooling1D(2, padding="same")(x)
        for stage, blocks in enumerate(self.stages):
            before_stage = x
            x = layers.MaxPooling1D(2, padding="same")(x)  # before the first block and its shortcut
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


# Predicts whether a recording is from CPSC; the paper gives no sizes.
SOURCE_GATE = LiSettings(stages=(1, 1, 1, 1), width=32)


@dataclass(frozen=True)
class LeadWeightedSettings:
    """Sizes of the SE-ResNet of Zhao et al. 2022, which sees demographics, too.

    The paper does not give the strides of the first convolution and of its max pooling, and the pooling's 3 samples.

    Attributes:
        widths: Filters of each residual block.
        first_kernel: Taps of the first convolution.
        first_stride: Its stride.
        kernel: Taps of the others.
        squeeze_ratio: Of squeeze-and-excitation; None for none.
        dropout: Within each block.
        activation: One of ecg.models.layers.ACTIVATIONS.
        demographic_units: Units of the layer that sees age and sex.
    """

    widths: tuple[int, ...] = (64, 64, 128, 128, 256, 256, 512, 512)
    first_kernel: int = 15
    first_stride: int = 2
    kernel: int = 7
    squeeze_ratio: int | None = 16
    dropout: float = 0.2
    activation: str = "relu"
    demographic_units: int = 10

    def __post_init__(self) -> None:
        check_settings(self.activation, self.dropout)

    def build(self, leads: int, length: int | None, classes: int, output_activation: str = "sigmoid") -> keras.Model:
        """Build the untrained network; see NetworkSettings.build.

        The input is a tuple of signals (B, T, leads) and of demographics (B, 5) float32; see
        ecg.data.preprocessing.encode_demographics.
        """
        signal, demographics = keras.Input((length, leads)), keras.Input((N_DEMOGRAPHICS,))
        x = activate(convolution(signal, self.widths[0], self.first_kernel, self.first_stride), self.activation)
        x = layers.MaxPooling1D(3, 2, padding="same")(x)
        for block, width in enumerate(self.widths):
            stride = 2 if block in (2, 4, 6) else 1
            x = residual_block(x, width, self.kernel, stride, self.squeeze_ratio, self.dropout, self.activation)
        x = layers.GlobalAveragePooling1D()(x)
        encoded = layers.Dense(self.demographic_units, kernel_initializer="he_normal")(demographics)
        x = layers.Concatenate()([x, activate(encoded, self.activation)])
        probabilities = output_layer(x, classes, output_activation)
        return rename_layers(keras.Model((signal, demographics), probabilities, name="zhao2022"))


@dataclass(frozen=True)
class RhythmSettings:
    """Sizes of the pre-activation ResNet for rhythms, of 18 to 152 layers.

    Its source gives the depths only. Widths, taps, strides and bottlenecks, with the stride in the convolution of
    three taps, are those of He et al. 2016 in one dimension.

    Attributes:
        depth: One of DEPTHS.
        squeeze: Whether it has squeeze-and-excitation.
        width: Filters of the first convolution and the first stage; doubles from stage to stage.
        first_kernel: Taps of the first convolution.
        kernel: Taps of the others.
        activation: One of ecg.models.layers.ACTIVATIONS.

    Raises:
        ValueError: If the depth is none of DEPTHS, or the activation none of ACTIVATIONS.
    """

    depth: int = 152
    squeeze: bool = True
    width: int = 64
    first_kernel: int = 7
    kernel: int = 3
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_settings(self.activation)
        if self.depth not in [*DEPTHS]:
            raise ValueError(f"depth is {self.depth!r}, expected one of {', '.join(map(str, DEPTHS))}")

    def build(self, leads: int, length: int | None, classes: int, output_activation: str = "sigmoid") -> keras.Model:
        """Build the untrained network; see NetworkSettings.build.

        Signals can have any unit: each recording is scaled to the range from 0 to 1.
        """
        stages, bottleneck = DEPTHS[self.depth]
        ratio = RATIO if self.squeeze else None
        signal = keras.Input((length, leads))
        x = bare_convolution(UnitRange(dtype="float32")(signal), self.width, self.first_kernel, 2)
        x = layers.MaxPooling1D(3, 2, padding="same")(x)
        for stage, blocks in enumerate(stages):
            filters = self.width * 2**stage
            taps: tuple[tuple[int, int], ...] = ((filters, self.kernel),) * 2
            if bottleneck:
                taps = (filters, 1), (filters, self.kernel), (EXPANSION * filters, 1)
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                x = preactivated_block(x, taps, stride, ratio, block == 0, self.activation)
        x = layers.GlobalAveragePooling1D()(activate(normalise(x), self.activation))
        name = f"{'se_' * self.squeeze}resnet_{self.depth}"
        return rename_layers(keras.Model(signal, output_layer(x, classes, output_activation), name=name))


LOGITS = "logits"  # name of the layer of AttentionSettings whose outputs the loss takes, too


@dataclass(frozen=True)
class AttentionSettings:
    """Sizes of the network of Nejedly et al. 2021, which serves every lead set.

    It sees the twelve leads in their standard order; leads that a lead set lacks are 0. The sizes are those of the
    paper, and the slope 0.01 of the leaky ReLU that of its code. The first weights are those of He et al. 2015; those
    of attention and of the outputs are Keras' own.

    Attributes:
        width: Filters of each convolution.
        first_kernel: Taps of the first convolution.
        first_stride: Its stride.
        kernel: Taps of the others.
        blocks: Number of residual blocks. Each halves the number of steps in time.
        dropout: After the last block.
        heads: Number of attention heads, which share the width.
        attention: Whether there is self-attention. The authors' later network has none.
        second_head: Whether the probabilities are those of a second head. It takes the logits and passes no gradient
            back, so that a loss has to see the logits, too.
        hidden: Units of the hidden layer of the second head.
        activation: One of ecg.models.layers.ACTIVATIONS.
    """

    width: int = 256
    first_kernel: int = 15
    first_stride: int = 2
    kernel: int = 9
    blocks: int = 5
    dropout: float = 0.5
    heads: int = 8
    attention: bool = True
    second_head: bool = True
    hidden: int = 256
    activation: str = "leaky_relu"

    def __post_init__(self) -> None:
        check_settings(self.activation, self.dropout)

    def build(self, leads: int, length: int | None, classes: int, output_activation: str = "sigmoid") -> keras.Model:
        """Build the untrained network; see NetworkSettings.build.

        The outputs of its layer LOGITS are the logits of the first head, if there is a second.
        """
        signal = keras.Input((length, leads))
        x = activate(convolution(signal, self.width, self.first_kernel, self.first_stride), self.activation)
        for _ in range(self.blocks):
            x = pooled_residual_block(x, self.width, self.kernel, self.activation)
        x = layers.Dropout(self.dropout)(x)
        if self.attention:
            x = layers.MultiHeadAttention(self.heads, max(self.width // self.heads, 1))(x, x)
        x = layers.Concatenate()([layers.GlobalMaxPooling1D()(x), LeadPresence()(signal)])
        first_head = layers.Dense(classes, dtype="float32")
        if self.second_head:
            x = layers.Dense(self.hidden, kernel_initializer="he_normal")(ops.stop_gradient(first_head(x)))
            x = activate(normalise(x), self.activation)
        network = keras.Model(signal, output_layer(x, classes, output_activation), name="nejedly2021")
        rename_layers(network)
        first_head.name = LOGITS
        return network
