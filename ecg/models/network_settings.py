"""Architectures of the networks, as settings.

Each kind of network is a dataclass, which builds the network by its method `build`. Only that imports Keras.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

ACTIVATION_NAMES = ("mish", "relu", "leaky_relu")  # what settings can name; ecg.models.layers has the functions
LOGITS = "logits"  # name of the layer of AttentionSettings whose outputs the loss takes, too


def check_settings(activation: str, dropout: float = 0.0) -> None:
    """Raise ValueError if activation or dropout of a network are invalid."""
    if activation not in ACTIVATION_NAMES:
        raise ValueError(f"activation is {activation!r}, expected one of {', '.join(ACTIVATION_NAMES)}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout!r}, expected a number from 0 to below 1")


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
        activation: One of ACTIVATION_NAMES.
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

    def build(self, leads: int, length: int | None, classes: int, output_activation: str = "sigmoid") -> "keras.Model":
        """Build the untrained network.

        Args:
            leads: Number of leads.
            length: Number of samples; None for any.
            classes: Number of classes.
            output_activation: "sigmoid", or "softmax" for classes that exclude each other.

        Returns:
            A network from signals (B, T, leads) float32, in mV, to probabilities (B, classes).
        """
        from ecg.models.resnets import build_se_resnet

        return build_se_resnet(self, leads, length, classes, output_activation)


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
        activation: One of ACTIVATION_NAMES.
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

    def build(self, leads: int, length: int | None, classes: int, output_activation: str = "sigmoid") -> "keras.Model":
        """Build the untrained network; see NetworkSettings.build.

        With wave peaks, the output is a tuple of the probabilities and of (B, cells, 3, 7) numbers from 0 to 1: for
        each of three peaks the confidence, the position in the cell, and one number for each of P, Q, R, S, T. The
        layers of the probabilities are the same without them, including names, order and first weights.

        Raises:
            ValueError: If it finds wave peaks, and `length` is no multiple of a grid cell.
        """
        from ecg.models.resnets import build_li_resnet

        return build_li_resnet(self, leads, length, classes, output_activation)


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
        activation: One of ACTIVATION_NAMES.
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

    def build(self, leads: int, length: int | None, classes: int, output_activation: str = "sigmoid") -> "keras.Model":
        """Build the untrained network; see NetworkSettings.build.

        The input is a tuple of signals (B, T, leads) and of demographics (B, 5) float32; see
        ecg.data.preprocessing.encode_demographics.
        """
        from ecg.models.resnets import build_lead_weighted_resnet

        return build_lead_weighted_resnet(self, leads, length, classes, output_activation)


# Blocks of each of the four stages, and whether they are bottlenecks, by depth (He et al. 2016).
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


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
        activation: One of ACTIVATION_NAMES.

    Raises:
        ValueError: If the depth is none of DEPTHS, or the activation none of ACTIVATION_NAMES.
    """

    depth: int = 152
    squeeze: bool = True
    width: int = 64
    first_kernel: int = 7
    kernel: int = 3
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_settings(self.activation)
        if self.depth not in DEPTHS:
            raise ValueError(f"depth is {self.depth!r}, expected one of {', '.join(map(str, DEPTHS))}")

    def build(self, leads: int, length: int | None, classes: int, output_activation: str = "sigmoid") -> "keras.Model":
        """Build the untrained network; see NetworkSettings.build.

        Signals can have any unit: each recording is scaled to the range from 0 to 1.
        """
        from ecg.models.resnets import build_rhythm_resnet

        return build_rhythm_resnet(self, leads, length, classes, output_activation)


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
        activation: One of ACTIVATION_NAMES.
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

    def build(self, leads: int, length: int | None, classes: int, output_activation: str = "sigmoid") -> "keras.Model":
        """Build the untrained network; see NetworkSettings.build.

        The outputs of its layer LOGITS are the logits of the first head, if there is a second.
        """
        from ecg.models.resnets import build_attention_network

        return build_attention_network(self, leads, length, classes, output_activation)


@dataclass(frozen=True)
class DCNetSettings:
    """Sizes of DCNet (Xie et al.).

    Attributes:
        filters: Filters of each block.
        plain: Convolutions along time at the start of a block, at least one.
        deformable: Whether the last convolution of a block is deformable; the paper also compares plain ones.
    """

    filters: tuple[int, ...] = (32, 64, 128, 256)
    plain: int = 2
    deformable: bool = True

    def __post_init__(self) -> None:
        if not self.filters or self.plain < 1:
            raise ValueError(f"{len(self.filters)} blocks of {self.plain} plain convolutions, expected 1 or more")

    def build(self, leads: int, length: int | None, classes: int, output_activation: str = "sigmoid") -> "keras.Model":
        """Build the untrained network; see NetworkSettings.build.

        The paper does not give the first weights, here those of He et al. 2015 for ReLU, and the padding of a pooling.
        """
        from ecg.models.dcnet import build_dcnet

        return build_dcnet(self, leads, length, classes, output_activation)


AnyNetworkSettings = (
    NetworkSettings | LiSettings | LeadWeightedSettings | DCNetSettings | RhythmSettings | AttentionSettings
)
# Kinds of network, by their names in saved models.
NETWORK_KINDS: dict[str, type[AnyNetworkSettings]] = {
    "se_resnet": NetworkSettings,
    "li_se_resnet": LiSettings,
    "lead_weighted_resnet": LeadWeightedSettings,
    "dcnet": DCNetSettings,
    "rhythm_se_resnet": RhythmSettings,
    "residual_attention": AttentionSettings,
}
