"""Which devices a network trains and answers on, and how they share a batch.

Of several accelerators in a machine each takes a part of every batch, and all have the same weights. A step is one of
the whole batch, whatever their number: loss, gradient and batch normalisation are those of all its recordings. On
JAX only rounding differs; on TensorFlow each device draws dropout for its part by itself. What is here for one backend
is so because Keras has several devices for TensorFlow only where tf.distribute gives them.
"""

from contextlib import contextmanager
from functools import lru_cache

import keras
from keras import ops

from ecg.losses import Joined, averaged_by_weight

APART = 2**24  # steps, more than an epoch has; the counters of the devices' dropout on TensorFlow differ by so many


def accelerators():
    """Return the names of the devices of this machine that are not its processor, such as gpu:0."""
    return [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]


@contextmanager
def together(devices):
    """Have the networks that are built, compiled and used within work on several devices, by their names, at once.

    Where there is one name, or none, nothing changes.
    """
    if len(devices) < 2:
        yield
    else:
        on_tensorflow = keras.backend.backend() == "tensorflow"
        with (_mirrored(tuple(devices)) if on_tensorflow else Shares(devices=devices)).scope():
            yield


@lru_cache(maxsize=1)  # TensorFlow counts the groups of devices that a process has made, and mixes up their messages
def _mirrored(devices):
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices)


class Shares(keras.distribution.DataParallel):
    """Weights on every device, batches in equal parts where their number divides them, else in nearly equal ones.

    JAX has only equal parts of arrays that come from outside. Others come whole, and are cut before the first layer.
    """

    def get_data_layout(self, data_shape):
        """Return how an array of this shape is laid out, its first axis being that of the recordings."""
        if data_shape[0] % self.num_model_replicas:
            return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)
        return super().get_data_layout(data_shape)

    def get_tensor_layout(self, path):
        """Return the layout of what the layer of this path gives: recordings in parts, one for each device.

        A part is computed where it is to lie; without this, each device would compute all of a batch that came whole.
        """
        return keras.distribution.TensorLayout([self.batch_dim_name], self.device_mesh)


def over_all(loss):
    """Return a loss (ecg.losses) as it is to be used within `together`: its mean is over what all devices have."""
    if isinstance(loss, Joined):
        return loss.with_each(over_all)
    return LossOverAll(loss) if replicas() else loss


def replicas():
    """Return the strategy by which TensorFlow works on several devices where this is within `together`, else None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.distribute.get_strategy() if tf.distribute.has_strategy() else None


def as_one(network):
    """Have a network's layers do on all devices of `together` what they do on one; to be called before its first step.

    Batch normalisation takes the whole batch: else the devices' moving averages drift apart, and one's are saved.
    Dropout, whose seed is the same on all devices, draws by the device's number too: else all would leave out the same
    of their parts. On JAX both are so without this.
    """
    if not replicas():
        return
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
        elif isinstance(layer, keras.layers.Dropout) and layer.rate > 0:  # Keras gives the others no seed
            layer.seed_generator.next = _apart(layer.seed_generator.next)


def _apart(drawn):
    import tensorflow as tf

    def of_this_device(*given, **named):
        seed = drawn(*given, **named)
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        return seed + ops.cast(ops.stack([0, number * APART]), seed.dtype)

    return of_this_device


class LossOverAll(keras.losses.Loss):
    """A loss of which each device computes its part: what they come to adds up to the mean over the whole batch.

    Keras' own way on TensorFlow is the mean of the devices' means, in which a label counts the more the fewer are
    beside it that are not masked.
    """

    def __init__(self, loss):
        super().__init__(name=loss.name, reduction="sum")
        self.loss = loss

    def __call__(self, y_true, y_pred, sample_weight):
        """Return the device's part, or all where no device asks, of labels, probabilities, weights (B, K): a scalar.

        Weights there must be: what is not masked cannot be counted without.
        """
        import tensorflow as tf

        y_true, y_pred, weights = (ops.convert_to_tensor(x, self.dtype) for x in (y_true, y_pred, sample_weight))
        total = ops.sum(weights if averaged_by_weight(self.loss) else ops.ones_like(weights))
        if device := tf.distribute.get_replica_context():
            total = device.all_reduce(tf.distribute.ReduceOp.SUM, total)
        return ops.divide_no_nan(ops.sum(self.loss.call(y_true, y_pred) * weights), total)
