"""What the networks are built of: Mish, convolution with batch normalisation, squeeze-and-excitation, residual blocks.

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


ACTIVATIONS = {"mish": mish, "relu": "relu"}  # what a network's settings may ask for, as Keras takes it


class UnitRange(layers.Layer):
    """Scales each recording of (batch, samples, leads) so that its least value is 0 and its greatest 1.

    All leads by the same two values. A recording of one value throughout comes to 0.
    """

    def call(self, x):
        """Return the scaled recordings."""
        least = ops.min(x, axis=(1, 2), keepdims=True)
        return ops.divide_no_nan(x - least, ops.max(x, axis=(1, 2), keepdims=True) - least)

    def compute_output_shape(self, shape):
        """Return the shape as it came."""
        return shape


def _function(activation):
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[activation]


def activate(x, activation):
    """Apply an activation as a layer of its own; ValueError where it is none of ACTIVATIONS."""
    return layers.Activation(_function(activation))(x)


def normalise(x):
    """Apply batch normalisation."""
    return layers.BatchNormalization(momentum=BATCH_MOMENTUM)(x)


def bare_convolution(x, filters, kernel, stride=1):
    """Convolve along time without bias, for batch normalisation follows and has one; 'same' zeros at both ends."""
    return layers.Conv1D(filters, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)


def convolution(x, filters, kernel, stride=1):
    """Convolve along time, then apply batch normalisation."""
    return normalise(bare_convolution(x, filters, kernel, stride))


def subsample(x, stride):
    """Return every sample of x that a convolution of one tap with a stride would see, the first among them.

    Apart from the convolution, for TensorFlow 2.21 on oneDNN writes beyond its memory in the gradient of one of one tap
    with stride, where there are fewer than 16 channels.
    """
    return layers.MaxPooling1D(1, stride)(x) if stride > 1 else x


def squeeze_excitation(x, ratio, activation="mish"):
    """Weigh each channel by a gate computed from all channels' means over time (Hu et al. 2018).

    Without a ratio, None, x stays as it is.
    """
    if ratio is None:
        return x
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling1D(keepdims=True)(x)
    gate = layers.Dense(max(channels // ratio, 1), activation=_function(activation))(gate)
    gate = layers.Dense(channels, activation="sigmoid")(gate)
    return layers.Multiply()([x, gate])


def residual_block(x, filters, kernel, stride, ratio, dropout, activation="mish"):
    """Add to x what two convolutions and squeeze-and-excitation make of it, then activate (He et al. 2016).

    Where stride or filters change the shape, x goes through a convolution of one tap.
    """
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = convolution(subsample(x, stride), filters, 1)
    x = activate(convolution(x, filters, kernel, stride), activation)
    x = layers.Dropout(dropout)(x)
    x = squeeze_excitation(convolution(x, filters, kernel), ratio, activation)
    return activate(layers.Add()([x, shortcut]), activation)


def preactivated_block(x, taps, stride, ratio, begins, activation="relu"):
    """Add to x what convolutions, each after batch normalisation and activation, make of it (He et al. 2016b).

    `taps` has the filters and the kernel of each convolution; the first of two or the second of three has the stride.
    Where a stage begins, the first activation comes before the way parts, and where the shape changes, the shortcut is
    a convolution of one tap.
    """
    shortcut, filters = x, taps[-1][0]
    strided = (len(taps) - 1) // 2
    for place, (width, kernel) in enumerate(taps):
        x = activate(normalise(x), activation)
        if place == 0 and begins:
            shortcut = x
            if stride > 1 or x.shape[-1] != filters:
                shortcut = bare_convolution(subsample(x, stride), filters, 1)
        x = bare_convolution(x, width, kernel, stride if place == strided else 1)
    return layers.Add()([squeeze_excitation(x, ratio, activation), shortcut])
