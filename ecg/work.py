"""A network at work: steps and answers of one batch after another, begun without waiting for the results.

What is here for one backend is so because Keras works on a batch without waiting for none of them: for TensorFlow its
compiled steps are called as they are, and for JAX it leaves to the caller where the state is between two steps.
"""

from contextlib import contextmanager

import keras
import numpy as np

from ecg.batches import GRID
from ecg.devices import replicas


def at_work(network):
    """Return what has the devices of a network work on batches: a context, in which it is not to be used otherwise."""
    if keras.backend.backend() == "jax":
        return JaxWork(network)
    strategy = replicas()
    return SharedWork(network, strategy) if strategy else Work(network)


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
    again takes longer than many a step. The variables have them at the end. After an exception within a step the
    network is not to be used: JAX has taken the values, and given none back.
    """

    def __init__(self, network):
        super().__init__(network)
        # In the order in which Keras' own steps have them.
        self.kinds = [network.trainable_variables, network.non_trainable_variables]
        if network.compiled:
            self.kinds.append(network.optimizer.variables)
        self.state = [[variable.value for variable in kind] for kind in self.kinds]

    def __exit__(self, *_):
        self.put_back()

    def put_back(self):
        """Give the variables the values that the last step left."""
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
        self.put_back()
        return super().weights()


def settle(network):
    """Have TensorFlow compile the steps of a network for batches of any size and length, ahead of the first one.

    It compiles a step for the first shape that comes and then, with the second, for all, and the two round in their
    own ways: only what all batches share makes an epoch that is repeated, or taken up, the same to the bit. Weights
    and optimizer stay as they are.
    """
    if keras.backend.backend() != "tensorflow":
        return
    variables = [*network.variables, *network.optimizer.variables]
    values = [variable.numpy() for variable in variables]
    leads, classes = network.input_shape[-1], network.output_shape[-1]
    with only_for_any_shape(network), at_work(network) as work:
        for size in (2 * work.devices, 3 * work.devices):
            labels = np.zeros((size, classes), np.float32)
            # Shorter than any recording or cut, for TensorFlow keeps what it made for this shape.
            signals = np.zeros((size, GRID[0] - size, leads), np.float32)
            work.train(signals, labels, labels)
            work.answer(signals)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


@contextmanager
def only_for_any_shape(network):
    """Have the steps of a network that are compiled within do nothing where they are for one shape alone.

    A real one takes seconds to compile, and is not to be used.
    """

    def unless_for_one(step, nothing):
        return lambda data: (step if None in data[0].shape else nothing)(data)

    network.train_step = unless_for_one(network.train_step, lambda data: {"loss": keras.ops.zeros(())})
    network.predict_step = unless_for_one(network.predict_step, lambda data: data[0])
    try:
        yield
    finally:
        del network.train_step, network.predict_step
