"""The residual network with self-attention of Nejedly et al. 2021.

Its settings are a dataclass that builds it; see ecg.models.resnets.NetworkSettings.build.
"""

from dataclasses import dataclass

import keras
from keras import KerasTensor, layers, ops

from ecg.models.layers import LeadPresence, activate, bare_convolution, convolution, normalise
from ecg.models.resnets import check_settings, output_layer, rename_layers

LOGITS = "logits"  # name of the layer whose outputs the loss takes, too


@dataclass(frozen=True)
class AttentionSettings:
    """Sizes of the network of Nejedly et al. 2021, which serves every lead set.

    It sees the twelve leads in their standard order; leads that a lead set lacks are 0. The sizes are those of the
    paper, and the slope 0.01 of the leaky ReLU that of its code. The first weights are those of He et al. 2015; those
    of attention and of the outputs are Keras' own.

    Attributes:
        width: Filters of each convolution, and units of the hidden layer of the second head.
        first_kernel: Taps of the first convolution.
        first_stride: Its stride.
        kernel: Taps of the others.
        blocks: Number of residual blocks. Each halves the number of steps in time.
        dropout: After the last block.
        heads: Number of attention heads, which share the width.
        attention: Whether there is self-attention. The authors' later network has none.
        second_head: Whether the probabilities are those of a second head. It takes the logits and passes no gradient
            back, so that a loss has to see the logits, too.
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
            x = layers.Dense(self.width, kernel_initializer="he_normal")(ops.stop_gradient(first_head(x)))
            x = activate(normalise(x), self.activation)
        network = keras.Model(signal, output_layer(x, classes, output_activation), name="nejedly2021")
        rename_layers(network)
        first_head.name = LOGITS
        return network


def pooled_residual_block(x: KerasTensor, filters: int, kernel: int, activation: str) -> KerasTensor:
    """Apply a residual block that halves the number of steps in time.

    The shortcut is average pooling and a convolution of one tap. No activation follows the sum.
    """
    shortcut = bare_convolution(layers.AveragePooling1D(2, padding="same")(x), filters, 1)
    for stride in (2, 1):
        x = activate(convolution(x, filters, kernel, stride), activation)
    return layers.Add()([x, shortcut])
