"""Run steps on the devices of TensorFlow and JAX without waiting for them.

Keras' public methods wait for every batch. To keep the devices busy, this module calls the compiled TensorFlow step
directly and, on JAX, carries the state between steps itself.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from ecg.data.batches import CROP_LENGTHS, WHOLE_BATCH
from ecg.training.distribution import JointDataParallel, joint_distribution, mirrored_strategy
from ecg.training.losses import MaskableLoss, WeightedSumLoss, is_averaged_by_weight

# Distance of the dropout counters of two devices on TensorFlow, in steps: more than an epoch has.
DROPOUT_OFFSET = 2**24
Inputs = np.ndarray | tuple[np.ndarray, ...]  # signals (B, T, leads), or a tuple with demographics (B, 5)


def distributed_loss(loss: MaskableLoss | WeightedSumLoss) -> keras.Loss:
    """Wrap a loss so that, on several devices, it is averaged over the whole batch."""
    if isinstance(loss, WeightedSumLoss):
        return loss.map_losses(distributed_loss)
    return GlobalMeanLoss(loss) if mirrored_strategy() else loss


def synchronise_layers(network: keras.Model) -> None:
    """Synchronise a network's layers across devices.

    Batch normalisation is computed over the whole batch, and dropout has a different seed on each device. Call it
    before the first step. Without it, the moving averages of the devices diverge, and all devices drop the same
    units. On JAX, both are right without it.
    """
    if not mirrored_strategy():
        return
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
        elif isinstance(layer, keras.layers.Dropout) and layer.rate > 0:  # Keras gives the others no seed
            layer.seed_generator.next = _device_seeds(layer.seed_generator.next)


def _device_seeds(next_seed: Callable) -> Callable:
    """Wrap a function that draws seeds so that they differ between devices."""
    import tensorflow as tf

    def next_device_seed(*arguments: Any, **options: Any) -> Any:
        seed = next_seed(*arguments, **options)
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        return seed + ops.cast(ops.stack([0, number * DROPOUT_OFFSET]), seed.dtype)

    return next_device_seed


class GlobalMeanLoss(keras.losses.Loss):
    """A loss that is the mean over the whole batch on all devices.

    Each device computes its share. Keras takes the mean of the devices' means, in which a label on a device with few
    unmasked labels counts more.
    """

    def __init__(self, loss: MaskableLoss) -> None:
        super().__init__(name=loss.name, reduction="sum")
        self.loss, self.outputs_per_label = loss, loss.outputs_per_label

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Any:
        """Return the share of one device, or the mean if called outside a device."""
        import tensorflow as tf

        y_true, y_pred, weights = (ops.convert_to_tensor(x, self.dtype) for x in (y_true, y_pred, sample_weight))
        total = ops.sum(weights if is_averaged_by_weight(self.loss) else ops.ones_like(weights))
        if device := tf.distribute.get_replica_context():
            total = device.all_reduce(tf.distribute.ReduceOp.SUM, total)
        return ops.divide_no_nan(ops.sum(self.loss.call_masked(y_true, y_pred, weights) * weights), total)


def sum_over_devices(gradients: Sequence[Any]) -> Sequence[Any]:
    """Return the sum over all devices of the gradients that each has found."""
    if not mirrored_strategy():  # on JAX they are of the whole batch
        return gradients
    import tensorflow as tf

    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))


class ClippedAdam(keras.optimizers.Adam):
    """Adam with clipped gradients and an L2 penalty.

    The gradient of the penalty is added after clipping. Both are what Nejedly et al. 2021 use. Keras clips the
    gradients of each device, here their sum is clipped.

    Args:
        learning_rate: The learning rate.
        clip_norm: Norm to which all gradients together are clipped; None for no clipping.
        l2: Factor of a weight in the gradient of the penalty.
    """

    def __init__(self, learning_rate: float, clip_norm: float | None, l2: float) -> None:
        super().__init__(learning_rate)
        self.clip_norm, self.l2 = clip_norm, l2

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Clip gradients and update the variables by them."""
        if self.clip_norm:
            squares = [ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in sum_over_devices(grads)]
            factor = self.clip_norm / ops.maximum(ops.sqrt(sum(squares)), self.clip_norm)
            grads = [gradient * ops.cast(factor, gradient.dtype) for gradient in grads]
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable by its gradient."""
        penalised = ops.cast(gradient, variable.dtype) + self.l2 * ops.convert_to_tensor(variable)
        super().update_step(penalised, variable, learning_rate)


def step_runner(network: keras.Model) -> "StepRunner":
    """Return the context that runs a network's steps; do not use it otherwise within."""
    if keras.backend.backend() == "jax":
        joint = joint_distribution()
        return JaxStepRunner(network) if joint is None else JointStepRunner(network, joint)
    strategy = mirrored_strategy()
    return MirroredStepRunner(network, strategy) if strategy else StepRunner(network)


class StepRunner:
    """Runs train_on_batch and predict_on_batch, but does not wait for results.

    A result may still be in computation; reading it waits for it. Until then, the next batch can be prepared and sent.
    """

    devices = 1

    def __init__(self, network: keras.Model) -> None:
        self.network = network

    def __enter__(self) -> "StepRunner":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def own_rows(self, count: int) -> slice:
        """Return the recordings of a batch of `count` that this process reads."""
        return WHOLE_BATCH

    def train(self, inputs: Inputs, targets: np.ndarray, masks: np.ndarray) -> Any:
        """Run a training step, and return its loss.

        Args:
            inputs: The recordings that this process reads; those of `own_rows`.
            targets: Targets of all, (B, K).
            masks: Masks of all, (B, K).
        """
        self.network.make_train_function()
        self.network.reset_metrics()
        return self.network.train_function(iter([(inputs, targets, masks)]))["loss"]

    def predict(self, inputs: Inputs, count: int | None = None) -> Any:
        """Return the outputs (B, K), an array of the backend.

        Args:
            inputs: The recordings that this process reads; those of `own_rows`.
            count: Number of recordings of all processes, B; None if this one reads all.
        """
        self.network.make_predict_function()
        return self.network.predict_function([(inputs,)])

    def weights(self) -> list[np.ndarray]:
        """Return the network's weights after all steps so far."""
        return self.network.get_weights()


class MirroredStepRunner(StepRunner):
    """Runs steps on several devices of TensorFlow."""

    def __init__(self, network: keras.Model, strategy: Any) -> None:
        super().__init__(network)
        self.strategy, self.devices = strategy, strategy.num_replicas_in_sync

    def share(self, array: np.ndarray) -> Any:
        """Give each device its rows of an array, or all if there are fewer than devices."""
        import tensorflow as tf

        parts = np.array_split(array, self.devices) if len(array) >= self.devices else [array] * self.devices

        def place(context: Any) -> Any:
            number = context.replica_id_in_sync_group
            with tf.device(self.strategy.extended.worker_devices[number]):
                return tf.convert_to_tensor(parts[number])

        return self.strategy.experimental_distribute_values_from_function(place)

    def train(self, inputs: Inputs, targets: np.ndarray, masks: np.ndarray) -> Any:
        """Run a training step, each device with its part."""
        return super().train(*keras.tree.map_structure(self.share, (inputs, targets, masks)))

    def predict(self, inputs: Inputs, count: int | None = None) -> Any:
        """Return the outputs of the devices, concatenated."""
        size = len(keras.tree.flatten(inputs)[0]) if count is None else count
        return super().predict(keras.tree.map_structure(self.share, inputs), size)[:size]


class JaxStepRunner(StepRunner):
    """Runs steps on one or several devices of JAX.

    It passes the values of all variables from step to step, because assigning them to Keras' variables and reading them
    again takes longer than many a step. The variables get them at the end. After an exception in a step the network
    cannot be used: JAX has taken the values and returned none.
    """

    def __init__(self, network: keras.Model) -> None:
        super().__init__(network)
        # In the order of Keras' own steps.
        self.variables = [network.trainable_variables, network.non_trainable_variables]
        if network.compiled:
            self.variables.append(network.optimizer.variables)
        self.state = [[variable.value for variable in variables] for variables in self.variables]

    def __exit__(self, *_: object) -> None:
        self.assign_variables()

    def assign_variables(self) -> None:
        """Give the variables the values after the last step."""
        for variables, values in zip(self.variables, self.state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def place(self, count: int | None, *arrays: Inputs) -> Any:
        """Return arrays, or tuples of them, in the layout that the devices expect.

        Args:
            count: Number of recordings of all processes; None if this one has read all.
            *arrays: What a step takes.
        """
        distribution = keras.distribution.distribution()
        if distribution is None:
            return arrays

        def distribute(array: np.ndarray) -> Any:
            return keras.distribution.distribute_tensor(array, distribution.get_data_layout(array.shape))

        return keras.tree.map_structure(distribute, arrays)

    def train(self, inputs: Inputs, targets: np.ndarray, masks: np.ndarray) -> Any:
        """Run a training step from the state after the last one."""
        self.network.make_train_function()
        metrics = [np.zeros(variable.shape, variable.dtype) for variable in self.network.metrics_variables]
        batch = self.place(len(masks), inputs, targets, masks)
        logs, state = self.network.train_function((*self.state, metrics), iter([batch]))
        self.state = list(state[:-1])
        return logs["loss"]

    def predict(self, inputs: Inputs, count: int | None = None) -> Any:
        """Return the outputs from the state after the last step."""
        self.network.make_predict_function()
        outputs, state = self.network.predict_function(tuple(self.state[:2]), iter([self.place(count, inputs)]))
        self.state[:2] = state
        return outputs

    def weights(self) -> list[np.ndarray]:
        """Return the network's weights after all steps so far."""
        self.assign_variables()
        return super().weights()


class JointStepRunner(JaxStepRunner):
    """Runs steps on the devices of several processes of JAX.

    All processes run the same steps.
    """

    def __init__(self, network: keras.Model, distribution: JointDataParallel) -> None:
        super().__init__(network)
        self.distribution = distribution
        if "train_step" not in vars(network):
            network.train_step = self._cut_first(network.train_step, lambda logs: logs)
            network.predict_step = self._cut_first(network.predict_step, distribution.replicate)

    def own_rows(self, count: int) -> slice:
        """Return the recordings of a batch of `count` that this process reads."""
        return self.distribution.own_rows(count)

    def _cut_first(self, step: Callable, finish: Callable) -> Callable:
        """Wrap a step so that it first removes the padding; `finish` gets its result."""
        distribution = self.distribution

        def cut_step(state: Any, data: Any) -> tuple[Any, Any]:
            arrays, empty = data
            cut = keras.tree.map_structure(lambda array: distribution.cut(array, len(empty)), arrays)
            result, state = step(state, cut)
            return finish(result), state

        return cut_step

    def place(self, count: int | None, *arrays: Inputs) -> Any:
        """Join the parts of all processes.

        Args:
            count: Number of recordings of all processes; None if this one has read all.
            *arrays: What this process has read, and targets and masks of all recordings.

        Returns:
            The arrays, and an empty one with a row for each recording. Steps are compiled for shapes, so that they know
        the count by it.
        """
        size = len(keras.tree.flatten(arrays)[0]) if count is None else count
        rows = self.own_rows(size)

        def join(array: np.ndarray) -> Any:
            # If this process needs all recordings, its rows are all rows.
            return self.distribution.join(array[rows] if len(array) == size else array, size)

        return keras.tree.map_structure(join, arrays), np.zeros((size, 0), np.float32)


@contextmanager
def skip_static_shapes(network: keras.Model) -> Iterator[None]:
    """Make the steps that are traced within do nothing if they are for one shape only.

    They are never used, and a real one takes seconds to compile.
    """

    def unless_static(step: Callable, nothing: Callable) -> Callable:
        return lambda data: (step if None in keras.tree.flatten(data)[0].shape else nothing)(data)

    network.train_step = unless_static(network.train_step, lambda data: {"loss": keras.ops.zeros(())})
    network.predict_step = unless_static(network.predict_step, lambda data: keras.tree.flatten(data)[0])
    try:
        yield
    finally:
        del network.train_step, network.predict_step


def precompile(network: keras.Model, outputs_per_label: int = 1) -> None:
    """Trace TensorFlow's steps once with unknown batch size and length.

    Args:
        network: The network.
        outputs_per_label: Number of its outputs for each label.

    TensorFlow would otherwise trace a step for the shape of the first batch and, with the second, for all shapes. The
    two round differently, so that a resumed run would not compute bit-identical results. Weights and optimizer keep
    their values. (An input signature would say the same for one device, but not for several: the type of their values
    has no public form with unknown shapes.)
    """
    if keras.backend.backend() != "tensorflow":
        return
    variables = [*network.variables, *network.optimizer.variables]
    values = [variable.numpy() for variable in variables]
    with skip_static_shapes(network), step_runner(network) as runner:
        for size in (0, 2 * runner.devices):
            labels = np.zeros((size, network.output_shape[-1] // outputs_per_label), np.float32)
            # TensorFlow keeps the step for the first batch, which is empty, so that it is used for no other. If the
            # network takes any length, the second batch has another length, so that the trace is for all.
            shapes = [
                [CROP_LENGTHS[0] - size if axis is None else axis for axis in tensor.shape[1:]]
                for tensor in network.inputs
            ]
            inputs = tuple(np.zeros((size, *shape), np.float32) for shape in shapes)
            batch = inputs if len(inputs) > 1 else inputs[0]
            runner.train(batch, labels, labels)
            runner.predict(batch, size)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def input_gradients(network: keras.Model, inputs: Inputs, class_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Differentiate an output of a network by its signals.

    Args:
        network: A network with outputs (B, K), which is used as in prediction.
        inputs: Its inputs.
        class_index: Index of the output.

    Returns:
        The output, (B,), and for each recording its gradient, in the shape of the signals.
    """
    signals, *demographics = map(ops.convert_to_tensor, inputs if isinstance(inputs, tuple) else (inputs,))

    def sum_outputs(signals: Any) -> tuple[Any, Any]:
        outputs = network((signals, *demographics) if demographics else signals, training=False)[:, class_index]
        return ops.sum(outputs), outputs

    if keras.backend.backend() == "jax":
        import jax

        (_, outputs), gradients = jax.value_and_grad(sum_outputs, has_aux=True)(signals)
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(signals)
            total, outputs = sum_outputs(signals)
        gradients = tape.gradient(total, signals)
    return ops.convert_to_numpy(outputs), ops.convert_to_numpy(gradients)
