"""Build the residual networks of the published methods by their settings."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
from keras import layers, ops

from ecg.data.preprocessing import N_DEMOGRAPHICS
from ecg.data.wave_peaks import PEAKS_PER_CELL, VALUES_PER_PEAK
from ecg.models.layers import (
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
from ecg.models.network_settings import (
    DEPTHS,
    LOGITS,
    AttentionSettings,
    LeadWeightedSettings,
    LiSettings,
    NetworkSettings,
    RhythmSettings,
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


def output_layer(x: keras.KerasTensor, classes: int, output_activation: str) -> keras.KerasTensor:
    """Return probabilities by a fully connected layer, in single precision."""
    return layers.Dense(classes, activation=output_activation, dtype="float32")(x)


def build_se_resnet(
    settings: NetworkSettings, leads: int, length: int | None, classes: int, output_activation: str
) -> keras.Model:
    """Build the untrained network; see NetworkSettings.build."""
    signal = keras.Input((length, leads))
    x = activate(convolution(signal, settings.width, settings.first_kernel, settings.first_stride), settings.activation)
    x = layers.MaxPooling1D(2, padding="same")(x)
    for pair, kernel in enumerate(settings.kernels):
        for block in range(2):
            stride = 2 if pair > 0 and block == 0 else 1
            filters = settings.width * 2**pair
            x = residual_block(
                x, filters, kernel, stride, settings.squeeze_ratio, settings.dropout, settings.activation
            )
    x = layers.GlobalMaxPooling1D()(x)
    x = activate(layers.Dense(settings.hidden, kernel_initializer="he_normal")(x), settings.activation)
    return rename_layers(keras.Model(signal, output_layer(x, classes, output_activation), name="se_resnet"))


RATIO = 16  # squeeze-and-excitation in RhythmSettings
EXPANSION = 4  # output filters of a bottleneck per filter within


def build_li_resnet(
    settings: LiSettings, leads: int, length: int | None, classes: int, output_activation: str
) -> keras.Model:
    """Build the untrained network; see LiSettings.build."""
    if settings.peaks and length is not None and length % settings.cell:
        raise ValueError(f"{length} samples, expected a multiple of {settings.cell}, which is a grid cell")
    signal = keras.Input((length, leads))
    x = activate(convolution(signal, settings.width, settings.first_kernel, settings.first_stride), settings.activation)
    x = layers.MaxPooling1D(2, padding="same")(x)
    for stage, blocks in enumerate(settings.stages):
        before_stage = x
        x = layers.MaxPooling1D(2, padding="same")(x)  # before the first block and its shortcut
        for _ in range(blocks):
            x = residual_block(
                x, settings.width * 2**stage, settings.kernel, 1, settings.squeeze_ratio, 0.0, settings.activation
            )
    probabilities = output_layer(layers.GlobalAveragePooling1D()(x), classes, output_activation)
    network = rename_layers(keras.Model(signal, probabilities, name="li2021"))
    if not settings.peaks:
        return network
    x = activate(layers.Dense(settings.peak_units, kernel_initializer="he_normal")(before_stage), settings.activation)
    x = layers.Conv1D(
        PEAKS_PER_CELL * VALUES_PER_PEAK, settings.peak_kernel, padding="same", activation="sigmoid", dtype="float32"
    )(x)
    peaks = layers.Reshape((-1, PEAKS_PER_CELL, VALUES_PER_PEAK), dtype="float32")(x)
    rename_layers(keras.Model(before_stage, peaks), "peaks_")
    return keras.Model(signal, (probabilities, peaks), name="li2021")


def build_lead_weighted_resnet(
    settings: LeadWeightedSettings, leads: int, length: int | None, classes: int, output_activation: str
) -> keras.Model:
    """Build the untrained network; see LeadWeightedSettings.build."""
    signal, demographics = keras.Input((length, leads)), keras.Input((N_DEMOGRAPHICS,))
    x = activate(
        convolution(signal, settings.widths[0], settings.first_kernel, settings.first_stride), settings.activation
    )
    x = layers.MaxPooling1D(3, 2, padding="same")(x)
    for block, width in enumerate(settings.widths):
        stride = 2 if block in (2, 4, 6) else 1
        x = residual_block(
            x, width, settings.kernel, stride, settings.squeeze_ratio, settings.dropout, settings.activation
        )
    x = layers.GlobalAveragePooling1D()(x)
    encoded = layers.Dense(settings.demographic_units, kernel_initializer="he_normal")(demographics)
    x = layers.Concatenate()([x, activate(encoded, settings.activation)])
    probabilities = output_layer(x, classes, output_activation)
    return rename_layers(keras.Model((signal, demographics), probabilities, name="zhao2022"))


def build_rhythm_resnet(
    settings: RhythmSettings, leads: int, length: int | None, classes: int, output_activation: str
) -> keras.Model:
    """Build the untrained network; see RhythmSettings.build."""
    stages, bottleneck = DEPTHS[settings.depth]
    ratio = RATIO if settings.squeeze else None
    signal = keras.Input((length, leads))
    x = bare_convolution(UnitRange(dtype="float32")(signal), settings.width, settings.first_kernel, 2)
    x = layers.MaxPooling1D(3, 2, padding="same")(x)
    for stage, blocks in enumerate(stages):
        filters = settings.width * 2**stage
        taps: tuple[tuple[int, int], ...] = ((filters, settings.kernel),) * 2
        if bottleneck:
            taps = (filters, 1), (filters, settings.kernel), (EXPANSION * filters, 1)
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            x = preactivated_block(x, taps, stride, ratio, block == 0, settings.activation)
    x = layers.GlobalAveragePooling1D()(activate(normalise(x), settings.activation))
    name = f"{'se_' * settings.squeeze}resnet_{settings.depth}"
    return rename_layers(keras.Model(signal, output_layer(x, classes, output_activation), name=name))


def build_attention_network(
    settings: AttentionSettings, leads: int, length: int | None, classes: int, output_activation: str
) -> keras.Model:
    """Build the untrained network; see AttentionSettings.build."""
    signal = keras.Input((length, leads))
    x = activate(convolution(signal, settings.width, settings.first_kernel, settings.first_stride), settings.activation)
    for _ in range(settings.blocks):
        x = pooled_residual_block(x, settings.width, settings.kernel, settings.activation)
    x = layers.Dropout(settings.dropout)(x)
    if settings.attention:
        x = layers.MultiHeadAttention(settings.heads, max(settings.width // settings.heads, 1))(x, x)
    x = layers.Concatenate()([layers.GlobalMaxPooling1D()(x), LeadPresence()(signal)])
    first_head = layers.Dense(classes, dtype="float32")
    if settings.second_head:
        x = layers.Dense(settings.hidden, kernel_initializer="he_normal")(ops.stop_gradient(first_head(x)))
        x = activate(normalise(x), settings.activation)
    network = keras.Model(signal, output_layer(x, classes, output_activation), name="nejedly2021")
    rename_layers(network)
    first_head.name = LOGITS
    return network
