"""A network at work: steps and answers of one batch after another, begun without waiting for the results.

What is here for one backend is so because Keras works on a batch without waiting for none of them: for TensorFlow its
compiled steps are called as they are, and for JAX it leaves to the caller where the state is between two steps.
"""

from contextlib import contextmanager
from functools import lru_cache

import keras
import numpy as np
from keras import ops

from ecg.data.batches import CROP_LENGTHS
from ecg.training.losses import WeightedSumLoss, averaged_by_weight

APART = 2**24  # steps, more than an epoch has; the counters of the devices' dropout on TensorFlow differ by so many


def accelerators():
    """Return the names of the devices of this machine that are not its processor, such as gpu:0."""
    return [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]


@contextmanager
def distribution_scope(devices):
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


def distributed_loss(loss):
    """Return a loss (ecg.training.losses) as it is to be used within `together`: its mean is over what all devices have."""
    if isinstance(loss, WeightedSumLoss):
        return loss.with_each(distributed_loss)
    return LossOverAll(loss) if replicas() else loss


def replicas():
    """Return the strategy by which TensorFlow works on several devices where this is within `together`, else None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.distribute.get_strategy() if tf.distribute.has_strategy() else None


def synchronise_layers(network):
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


def step_runner(network):
    """Return what has the devices of a network work on batches: a context, in which it is not to be used otherwise."""
    if keras.backend.backend() == "jax":
        return JaxStepRunner(network)
    strategy = replicas()
    return SharedStepRunner(network, strategy) if strategy else StepRunner(network)


class StepRunner:
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

    def train(self, inputs, targets, masks):
        """Make a step with inputs, an array (B, T, leads) or a tuple of such (B, ...), targets and masks (B, K).

        Returns its loss, of the backend's kind.
        """
        self.network.make_train_function()
        self.network.reset_metrics()
        return self.network.train_function(iter([(inputs, targets, masks)]))["loss"]

    def predict(self, inputs):
        """Return the outputs (B, K) for inputs, an array of the backend."""
        self.network.make_predict_function()
        return self.network.predict_function([(inputs,)])

    def weights(self):
        """Return the network's weights after all steps so far, a list of arrays."""
        return self.network.get_weights()


class SharedStepRunner(StepRunner):
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

    def train(self, inputs, targets, masks):
        """Make a step, each device with its part."""
        return super().train(*keras.tree.map_structure(self.share, (inputs, targets, masks)))

    def predict(self, inputs):
        """Return the outputs, each device's after the other's."""
        count = len(keras.tree.flatten(inputs)[0])
        return super().predict(keras.tree.map_structure(self.share, inputs))[:count]


class JaxStepRunner(StepRunner):
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
        """Return arrays, or tuples of them, where the devices expect them."""
        distribution = keras.distribution.distribution()
        if distribution is None:
            return arrays

        def place(array):
            return keras.distribution.distribute_tensor(array, distribution.get_data_layout(array.shape))

        return keras.tree.map_structure(place, arrays)

    def train(self, inputs, targets, masks):
        """Make a step with the values that the last one left."""
        self.network.make_train_function()
        fresh = [np.zeros(variable.shape, variable.dtype) for variable in self.network.metrics_variables]
        logs, state = self.network.train_function((*self.state, fresh), iter([self.placed(inputs, targets, masks)]))
        self.state = list(state[:-1])
        return logs["loss"]

    def predict(self, inputs):
        """Return the outputs by the values that the last step left."""
        self.network.make_predict_function()
        outputs, state = self.network.predict_function(tuple(self.state[:2]), iter([self.placed(inputs)]))
        self.state[:2] = state
        return outputs

    def weights(self):
        """Return the network's weights after all steps so far, a list of arrays."""
        self.put_back()
        return super().weights()


def precompile(network):
    """Have TensorFlow compile the steps of a network for batches of any size and length, ahead of the first one.

    It compiles a step for the first shape that comes and then, with the second, for all, and the two round in their
    own ways: only what all batches share makes an epoch that is repeated, or taken up, the same to the bit. Weights
    and optimizer stay as they are.
    """
    if keras.backend.backend() != "tensorflow":
        return
    variables = [*network.variables, *network.optimizer.variables]
    values = [variable.numpy() for variable in variables]
    with skip_static_shapes(network), step_runner(network) as work:
        for size in (0, 2 * work.devices):
            labels = np.zeros((size, network.output_shape[-1]), np.float32)
            # The first batch is of no recording, for TensorFlow keeps the step that it makes for it, and that does
            # nothing. Where any length will do, the second has another, so that what is compiled is for any.
            shapes = [
                [CROP_LENGTHS[0] - size if axis is None else axis for axis in each.shape[1:]] for each in network.inputs
            ]
            inputs = tuple(np.zeros((size, *shape), np.float32) for shape in shapes)
            inputs = inputs if len(inputs) > 1 else inputs[0]
            work.train(inputs, labels, labels)
            work.predict(inputs)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


@contextmanager
def skip_static_shapes(network):
    """Have the steps of a network that are compiled within do nothing where they are for one shape alone.

    A real one takes seconds to compile, and is not to be used.
    """

    def unless_for_one(step, nothing):
        return lambda data: (step if None in keras.tree.flatten(data)[0].shape else nothing)(data)

    network.train_step = unless_for_one(network.train_step, lambda data: {"loss": keras.ops.zeros(())})
    network.predict_step = unless_for_one(network.predict_step, lambda data: keras.tree.flatten(data)[0])
    try:
        yield
    finally:
        del network.train_step, network.predict_step
