"""What the networks are built of: Mish, convolution with batch normalisation, squeeze-and-excitation, residual block.

Every function takes and returns symbolic tensors of shape (batch, samples, channels).
"""

from keras import layers, ops

BATCH_MOMENTUM = 0.9  # of the moving averages; Keras' 0.99 would still remember the start after an epoch of 50 steps


@ops.custom_gradient
def mish(x):
    """Return x tanh(softplus(x)), the activation of Misra 2020, which the method uses throughout.

    With e = exp(x), tanh(softplus(x)) is n / (n + 2), where n = e (e + 2): one exponential. Beyond 20 it is 1 in
    single precision, and the bound keeps e * e from overflowing. The gradient, n / (n + 2) + 4 x e (e + 1) / (n + 2)^2,
    is made of x alone: nothing between is kept for it, nor are all the steps gone back through.
    """

    def exponentials():
        e = ops.exp(ops.minimum(x, 20.0))
        return e, e * (e + 2.0)

    def gradient(*above, upstream=None):
        e, n = exponentials()
        part = 1.0 / (n + 2.0)
        # Backends differ in how they hand over the gradient from above.
        return (above[0] if upstream is None else upstream) * part * (n + 4.0 * x * (e * (e + 1.0) * part))

    _, n = exponentials()
    return x * (n / (n + 2.0)), gradient


def activation(x):
    """Apply Mish as a layer of its own."""
    return layers.Activation(mish)(x)


def convolution(x, filters, kernel, stride=1):
    """Convolve along time without bias, for batch normalisation follows and has one; 'same' zeros at both ends."""
    x = layers.Conv1D(filters, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    return layers.BatchNormalization(momentum=BATCH_MOMENTUM)(x)


def squeeze_excitation(x, ratio):
    """Weigh each channel by a gate computed from all channels' means over time (Hu et al. 2018)."""
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling1D(keepdims=True)(x)
    gate = layers.Dense(max(channels // ratio, 1), activation=mish)(gate)
    gate = layers.Dense(channels, activation="sigmoid")(gate)
    return layers.Multiply()([x, gate])


def residual_block(x, filters, kernel, stride, ratio, dropout):
    """Add to x what two convolutions and squeeze-and-excitation make of it, then apply Mish.

    Where stride or filters change the shape, x goes through a convolution of one tap.
    """
    shortcut = x
    if stride > 1:
        # Apart from the convolution, for TensorFlow 2.21 on oneDNN writes beyond its memory in the gradient of one of
        # one tap with stride, where there are fewer than 16 channels.
        shortcut = layers.MaxPooling1D(1, stride)(shortcut)
    if stride > 1 or x.shape[-1] != filters:
        shortcut = convolution(shortcut, filters, 1)
    x = activation(convolution(x, filters, kernel, stride))
    x = layers.Dropout(dropout)(x)
    x = squeeze_excitation(convolution(x, filters, kernel), ratio)
    return activation(layers.Add()([x, shortcut]))
