"""Networks that predict by numpy alone.

Importing Keras and its backend takes seconds, and the first prediction of a network some more. For a recording, numpy
takes no longer than Keras. The result depends neither on earlier recordings nor on the number of threads.

The threads of numpy's BLAS library, one for each core of the machine, wait for each other without rest, even if a
container may use only some cores. On a busy machine they make the small matrix products of a recording many times as
slow. A process that only predicts therefore calls `use_one_thread_per_network`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from joblib import cpu_count
from threadpoolctl import ThreadpoolController

from ecg.models.numpy_kernels import KERNELS, Kernel


class Operation(NamedTuple):
    """An operation of a network.

    Attributes:
        kind: Name of the operation, one of ecg.models.numpy_kernels.KERNELS.
        inputs: Indices of the values that it takes: the network's inputs, then the outputs of its operations.
        options: What else it needs, as JSON has it.
        weights: Indices of its weights, by their names.
    """

    kind: str
    inputs: tuple[int, ...]
    options: Mapping[str, Any] = {}
    weights: Mapping[str, int] = {}


@dataclass(frozen=True, eq=False)
class NumpyNetwork:
    """A network as a list of operations.

    Attributes:
        n_inputs: Number of inputs: the signal, and demographics if it sees them.
        operations: The operations in their order; the last one gives the output.
        weights: All weights of the Keras network, in Keras' order.

    Raises:
        ValueError: An operation is unknown, takes a value that does not precede it, or lacks a weight.
    """

    n_inputs: int
    operations: tuple[Operation, ...]
    weights: Sequence[np.ndarray]

    def __post_init__(self) -> None:
        for index, operation in enumerate(self.operations, self.n_inputs):
            if operation.kind not in KERNELS:
                raise ValueError(f"unknown operation {operation.kind!r}")
            if not operation.inputs or not all(0 <= value < index for value in operation.inputs):
                raise ValueError(f"the operation {operation.kind} takes values {operation.inputs} of {index}")
            if not all(0 <= weight < len(self.weights) for weight in operation.weights.values()):
                raise ValueError(f"the operation {operation.kind} lacks weights of {len(self.weights)}")
        if not self.operations:
            raise ValueError("a network has no operations")

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to make the functions anew."""
        return {name: value for name, value in vars(self).items() if name != "_steps"}

    def predict(self, *inputs: np.ndarray) -> np.ndarray:
        """Predict a batch.

        Args:
            *inputs: Signals (B, T, leads) and, if it sees them, demographics (B, 5), float32.

        Returns:
            Outputs, (B, K) float32.
        """
        values: list[np.ndarray | None] = [*inputs]
        for operation, kernel, released in self._steps:
            values.append(kernel(*[values[index] for index in operation.inputs]))
            for index in released:  # memory is that of the widest part of the network
                values[index] = None
        output = values[-1]
        assert output is not None
        return output

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the last layer."""
        return self.weights[self.operations[-1].weights["kernel"]].shape[-1]

    @cached_property
    def features(self) -> "NumpyNetwork":
        """The same network without its last layer."""
        return replace(self, operations=self.operations[:-1])

    @cached_property
    def _steps(self) -> list[tuple[Operation, Kernel, list[int]]]:
        """Operations, their functions, and the values that no later operation takes."""
        last_use = {value: number for number, operation in enumerate(self.operations) for value in operation.inputs}
        steps = []
        for number, operation in enumerate(self.operations):
            weights = {name: self.weights[index] for name, index in operation.weights.items()}
            kernel = KERNELS[operation.kind](dict(operation.options), weights)
            released = [value for value in set(operation.inputs) if last_use[value] == number]
            steps.append((operation, kernel, released))
        return steps


class Threads:
    """How many networks of an ensemble this process computes at the same time."""

    networks = 1


def use_one_thread_per_network() -> None:
    """Let one thread compute a network, and several those of an ensemble.

    This holds for the rest of the process, also for matrix products of other packages.
    """
    pools = ThreadpoolController().select(user_api="blas")
    # A worker process has been given fewer.
    Threads.networks = max(Threads.networks, min([cpu_count(), *(pool["num_threads"] for pool in pools.info())]))
    pools.limit(limits=1)
