"""Distribute networks over the devices of a process, or of several on JAX."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import Any

import keras
import numpy as np


def accelerators() -> list[str]:
    """Return the names of this machine's accelerators, such as gpu:0."""
    return [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]


def connect_devices(coordinator: str, count: int, process: int) -> None:
    """Connect the devices of several processes of JAX.

    All processes call it, before anything is computed.

    Args:
        coordinator: Host and port at which process 0 listens.
        count: Number of processes.
        process: Number of this process.

    Raises:
        RuntimeError: The processes do not reach each other.
    """
    keras.distribution.initialize(coordinator, count, process)
    # The first message between the devices opens their connections.
    with distribution_scope(training_devices()):
        keras.ops.convert_to_numpy(keras.Variable(np.zeros(1, np.float32)).value)


def is_joint() -> bool:
    """Return whether several processes of JAX train together."""
    return keras.backend.backend() == "jax" and _count_processes() > 1


def _count_processes() -> int:
    import jax

    return jax.process_count()


def training_devices() -> list[str]:
    """Return the names of the devices that a training uses.

    These are the accelerators of this machine, or all devices of all processes that train together.
    """
    return keras.distribution.list_devices() if is_joint() else accelerators()


@contextmanager
def distribution_scope(devices: Sequence[str]) -> Iterator[None]:
    """Distribute the networks that are built and used within over devices.

    Args:
        devices: Their names. With one name or none, nothing changes.
    """
    if len(devices) < 2:
        yield
    elif keras.backend.backend() == "tensorflow":
        with _build_strategy(tuple(devices)).scope():
            yield
    else:
        with (JointDataParallel if is_joint() else UnevenDataParallel)(devices=devices).scope():
            yield


@contextmanager
def local_scope() -> Iterator[None]:
    """Compute what is within by this process alone if several train together."""
    distribution = joint_distribution()
    if distribution is None:
        yield
    else:
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(distribution)


@lru_cache(maxsize=1)  # with several strategies in a process, TensorFlow confuses the messages of their devices
def _build_strategy(devices: tuple[str, ...]) -> Any:
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices)


class UnevenDataParallel(keras.distribution.DataParallel):
    """Data-parallel training on JAX for batches of any size.

    JAX splits arrays from outside into equal parts only. Where a batch cannot be, each device gets all of it, and it is
    split before the first layer.
    """

    def get_data_layout(self, data_shape: tuple[int, ...]) -> keras.distribution.TensorLayout:
        """Return the layout of an array; its first axis is that of the recordings."""
        if data_shape[0] % self.num_model_replicas:
            return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)
        return super().get_data_layout(data_shape)

    def get_tensor_layout(self, path: str) -> keras.distribution.TensorLayout:
        """Return the layout of the output of the layer at a path: split by recordings.

        Each device computes its part only. Otherwise, each would compute all of a batch that was not split.
        """
        return keras.distribution.TensorLayout([self.batch_dim_name], self.device_mesh)


def mirrored_strategy() -> Any:
    """Return TensorFlow's strategy if there are several devices, else None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.distribute.get_strategy() if tf.distribute.has_strategy() else None


class JointDataParallel(UnevenDataParallel):
    """Data-parallel training by several processes of JAX.

    Each process reads its part of a batch. The parts follow each other. JAX takes parts of equal size only: the last
    ones are padded, and the steps of a network remove the padding before they compute anything
    (`ecg.training.backend.JointStepRunner`).
    """

    @cached_property
    def own_devices(self) -> slice:
        """Positions of this process's devices among all."""
        import jax

        is_own = [device.process_index == jax.process_index() for device in self._devices]
        return slice(is_own.index(True), is_own.index(True) + sum(is_own))

    @property
    def _devices(self) -> list[Any]:
        return self.device_mesh.backend_mesh.devices.ravel().tolist()

    def _size(self, count: int) -> int:
        """Return the number of rows of a device in a batch of `count` rows."""
        return -(-count // self.num_model_replicas)

    def own_rows(self, count: int) -> slice:
        """Return the rows of a batch of `count` rows that this process reads."""
        size = self._size(count)
        return slice(*(min(index * size, count) for index in (self.own_devices.start, self.own_devices.stop)))

    def join(self, rows: np.ndarray, count: int) -> Any:
        """Return an array of all processes, padded.

        Args:
            rows: The rows of this process, those of `own_rows`.
            count: Number of rows of all processes.
        """
        import jax

        size = self._size(count)
        n_own = (self.own_devices.stop - self.own_devices.start) * size
        padded = np.zeros((n_own, *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        shape = (self.num_model_replicas * size, *rows.shape[1:])
        return jax.make_array_from_process_local_data(self.get_data_layout(shape).backend_layout, padded, shape)

    def cut(self, array: Any, count: int) -> Any:
        """Return an array without its padding, within a step: (count, ...)."""
        import jax

        layout = self.get_tensor_layout("").backend_layout
        return jax.lax.with_sharding_constraint(array[:count], layout)

    def replicate(self, array: Any) -> Any:
        """Return an array that each device has as a whole.

        Args:
            array: An array that all processes have, or within a step any array.
        """
        import jax

        layout = keras.distribution.TensorLayout([None] * array.ndim, self.device_mesh).backend_layout
        if isinstance(array, np.ndarray):
            return jax.make_array_from_process_local_data(layout, array, array.shape)
        return jax.lax.with_sharding_constraint(array, layout)


def joint_distribution() -> JointDataParallel | None:
    """Return the distribution over several processes in whose scope this is called."""
    distribution = keras.distribution.distribution()
    return distribution if isinstance(distribution, JointDataParallel) else None


def assign_weights(network: keras.Model, weights: Sequence[np.ndarray]) -> None:
    """Give a network weights that all processes have, without comparing these.

    For each array that is assigned as it is, JAX makes sure that all processes have the same. That takes 10 ms.
    """
    if distribution := joint_distribution():
        weights = [distribution.replicate(np.asarray(array, variable.dtype))
                   for array, variable in zip(weights, network.weights, strict=True)]  # fmt: skip
    network.set_weights(weights)
