"""Which devices a network trains and answers on, in what precision, and how they share a batch and are kept busy.

Of several accelerators in a machine each takes a part of every batch, and all have the same weights. A step is one of
the whole batch, whatever their number: loss, gradient and batch normalisation are those of all its recordings. On
JAX only rounding differs; on TensorFlow each device draws dropout for its part by itself. What is here and nowhere
else in this package is written for one backend, as Keras has several devices for TensorFlow only where tf.distribute
gives them, and for JAX leaves to the caller where the state of a training is between two steps.
"""

from contextlib import contextmanager
from functools import lru_cache

import keras
import numpy as np
from keras import ops

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # weights are float32 in both


def accelerators():
    """Return the names of the devices of this machine that are not its processor, such as gpu:0."""
    return [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]


@contextmanager
def computing_in(precision):
    """Have the networks that are built within compute in a precision, one of POLICIES."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


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
        """Return how what a layer gives is laid out, which tells how the layer is to be computed, too."""
        return keras.distribution.TensorLayout([self.batch_dim_name], self.device_mesh)


def over_all(loss):
    """Return a loss (ecg.losses) as it is to be used within `together`: its mean is over what all devices have."""
    return LossOverAll(loss) if keras.backend.backend() == "tensorflow" and _strategy() else loss


def _strategy():
    import tensorflow as tf

    return tf.distribute.get_strategy() if tf.distribute.has_strategy() else None


class LossOverAll(keras.losses.Loss):
    """A loss of which each device computes its part: what they come to adds up to the mean over the whole batch.

    Keras' own way on TensorFlow is the mean of the devices' means, in which a label counts the more the fewer are
    beside it that are not masked.
    """

    def __init__(self, loss):
        super().__init__(name=loss.name, reduction="sum")
        self.loss = loss

    def __call__(self, y_true, y_pred, sample_weight):
        """Return the device's part, or all where no device asks, of labels, probabilities, weights (B, K)."""
        import tensorflow as tf

        y_true, y_pred, weights = (ops.convert_to_tensor(x, self.dtype) for x in (y_true, y_pred, sample_weight))
        by_weight = self.loss.reduction == "mean_with_sample_weight"
        total = ops.sum(weights if by_weight else ops.ones_like(weights))
        if device := tf.distribute.get_replica_context():
            total = device.all_reduce(tf.distribute.ReduceOp.SUM, total)
        return ops.divide_no_nan(ops.sum(self.loss.call(y_true, y_pred) * weights), total)


def at_work(network):
    """Return what has the devices of a network work on batches: a context, in which it is not to be used otherwise."""
    if keras.backend.backend() == "jax":
        return JaxWork(network)
    return SharedWork(network, _strategy()) if _strategy() else Work(network)


class Work:
    """Has a network train and answer as train_on_batch and predict_on_batch do, but does not wait for the results.

    What comes back may still be in the making; it is waited for as soon as it is read. Until then the next batch can
    be prepared and sent.
    """

    devices = 1

    def __init__(self, network):
        self.network = network

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def train(self, signals, targets, masks):
        """Make a step with signals (B, T, leads), targets and masks (B, K); return its loss, of the backend's kind."""
        self.network.make_train_function()
        self.network.reset_metrics()
        return self.network.train_function(iter([(signals, targets, masks)]))["loss"]

    def answer(self, signals):
        """Return the probabilities (B, K) for signals (B, T, leads), an array of the backend."""
        self.network.make_predict_function()
        return self.network.predict_function([(signals,)])

    def weights(self):
        """Return the network's weights after all steps so far, a list of arrays."""
        return self.network.get_weights()


class SharedWork(Work):
    """The work of several devices on TensorFlow."""

    def __init__(self, network, strategy):
        super().__init__(network)
        self.strategy, self.devices = strategy, strategy.num_replicas_in_sync
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True  # else the devices' moving averages drift apart, and one's are saved

    def share(self, array):
        """Give each device its part of an array, or all of it where it is too small for all to get some."""
        import tensorflow as tf

        parts = np.array_split(array, self.devices) if len(array) >= self.devices else [array] * self.devices

        def part_of(context):
            number = context.replica_id_in_sync_group
            with tf.device(self.strategy.extended.worker_devices[number]):
                return tf.convert_to_tensor(parts[number])

        return self.strategy.experimental_distribute_values_from_function(part_of)

    def train(self, signals, targets, masks):
        """Make a step, each device with its part."""
        return super().train(*map(self.share, (signals, targets, masks)))

    def answer(self, signals):
        """Return the probabilities, each device's after the other's."""
        return super().answer(self.share(signals))[: len(signals)]


class JaxWork(Work):
    """The work of JAX's devices, one or several.

    The values of all variables go from step to step here, for to put them into Keras' variables and to take them out
    again takes longer than many a step. The variables have them at the end.
    """

    def __init__(self, network):
        super().__init__(network)
        # In the order in which Keras' own steps have them.
        self.kinds = [network.trainable_variables, network.non_trainable_variables]
        if network.compiled:
            self.kinds.append(network.optimizer.variables)
        self.state = [[variable.value for variable in kind] for kind in self.kinds]

    def __exit__(self, *_):
        for kind, values in zip(self.kinds, self.state, strict=True):
            for variable, value in zip(kind, values, strict=True):
                variable.assign(value)

    def placed(self, *arrays):
        """Return arrays where the devices expect them."""
        distribution = keras.distribution.distribution()
        if distribution is None:
            return arrays
        layouts = [distribution.get_data_layout(array.shape) for array in arrays]
        return tuple(map(keras.distribution.distribute_tensor, arrays, layouts))

    def train(self, signals, targets, masks):
        """Make a step with the values that the last one left."""
        self.network.make_train_function()
        fresh = [np.zeros(variable.shape, variable.dtype) for variable in self.network.metrics_variables]
        logs, state = self.network.train_function((*self.state, fresh), iter([self.placed(signals, targets, masks)]))
        self.state = list(state[:-1])
        return logs["loss"]

    def answer(self, signals):
        """Return the probabilities by the values that the last step left."""
        self.network.make_predict_function()
        probabilities, state = self.network.predict_function(tuple(self.state[:2]), iter([self.placed(signals)]))
        self.state[:2] = state
        return probabilities

    def weights(self):
        """Return the network's weights after all steps so far, a list of arrays."""
        self.__exit__()
        return super().weights()
