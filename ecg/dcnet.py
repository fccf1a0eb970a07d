"""DCNet: the leads as rows of an image, and deformable convolutions that look from lead to lead."""

from dataclasses import dataclass

import keras
from keras import layers

from ecg.deformable import DeformableConv2D
from ecg.networks import answering, named

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

    @property
    def blocks(self):
        """How many convolutions follow one another."""
        return len(self.filters) * (self.plain + 1)

    def build(self, leads, length, classes, answer="sigmoid"):
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
        return named(keras.Model(signal, answering(x, classes, answer), name="dcnet"))

    def least(self, leads, classes):
        """Return a number of weights that the network has at the least, without building it.

        That of the convolutions which keep the number of filters, and of the fully connected layer.
        """
        taps = TAPS * (self.plain - 1 + ROWS)
        return taps * sum(filters**2 for filters in self.filters) + self.filters[-1] * classes


def _plain(filters, size):
    return layers.Conv2D(filters, size, padding="same", activation="relu", kernel_initializer="he_normal")
