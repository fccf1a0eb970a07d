import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from ecg.models.network_settings import NetworkSettings
from ecg.models.resnets import precision_policy
from ecg.training.backend import precompile, skip_static_shapes, step_runner
from ecg.training.losses import FocalLoss

ROOT = Path(__file__).parents[3]
COMPILED_QUICKLY = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
PLAIN = NetworkSettings(width=4, kernels=(), hidden=8)  # no blocks, so that it is compiled quickly


def batch(size, seed=0):
    """Signals (B, T, 2), targets (B, 3) and masks (B, 3)."""
    rng = np.random.default_rng(seed)
    signals = rng.normal(size=(size, 250, 2)).astype(np.float32)
    return signals, *((rng.random((size, 3)) < share).astype(np.float32) for share in (0.3, 0.7))


def compiled(precision="float32"):
    """A network that is ready to be trained, always with the same first weights."""
    keras.utils.set_random_seed(1)
    with precision_policy(precision):
        network = PLAIN.build(2, None, 3)
    network.compile(keras.optimizers.Adam(1e-2), FocalLoss(), jit_compile=keras.backend.backend() == "jax")
    network.optimizer.build(network.trainable_variables)
    return network


def test_work_comes_to_what_kerass_own_steps_do_to_the_bit():
    signals, *labels = batch(4)
    network, second = compiled(), compiled()
    expected = [float(network.train_on_batch(signals, labels[0], sample_weight=labels[1])) for _ in range(3)]
    with step_runner(second) as work:
        losses = [work.train(signals, *labels) for _ in range(2)]
        between = work.weights()
        losses.append(work.train(signals, *labels))
        answer = np.asarray(work.predict(signals))
    assert [float(loss) for loss in losses] == expected
    np.testing.assert_array_equal(answer, network.predict_on_batch(signals))
    for first_values, two in zip(network.variables, second.variables, strict=True):
        np.testing.assert_array_equal(first_values.numpy(), two.numpy())
    for first_values, two in zip(network.optimizer.variables, second.optimizer.variables, strict=True):
        np.testing.assert_array_equal(first_values.numpy(), two.numpy())
    assert any((first_values != two).any() for first_values, two in zip(between, second.get_weights(), strict=True))
    with pytest.raises(ZeroDivisionError), step_runner(second) as work:  # as by a loss that is not a number
        work.train(signals, *labels)
        raise ZeroDivisionError
    network.train_on_batch(signals, labels[0], sample_weight=labels[1])
    for first_values, two in zip(network.variables, second.variables, strict=True):
        np.testing.assert_array_equal(first_values.numpy(), two.numpy())


@pytest.mark.slow
def test_a_step_with_several_inputs_is_kerass_to_the_bit():
    """Age and sex beside the signal, of a network of one length; compiling ahead changes no weights."""
    signals, *labels = batch(4)
    demographics = np.random.default_rng(1).random((4, 5)).astype(np.float32)
    networks = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        network_inputs = keras.Input((250, 2)), keras.Input((5,))
        both = keras.layers.Concatenate()([keras.layers.GlobalMaxPooling1D()(network_inputs[0]), network_inputs[1]])
        networks.append(keras.Model(network_inputs, keras.layers.Dense(3, "sigmoid")(both)))
        networks[-1].compile(keras.optimizers.Adam(1e-2), FocalLoss(), jit_compile=keras.backend.backend() == "jax")
        networks[-1].optimizer.build(networks[-1].trainable_variables)
    network, second = networks
    before = [variable.numpy() for variable in [*second.variables, *second.optimizer.variables]]
    precompile(second)
    for value, variable in zip(before, [*second.variables, *second.optimizer.variables], strict=True):
        np.testing.assert_array_equal(value, variable.numpy())
    if keras.backend.backend() == "tensorflow":  # which rounds a step for one shape and one for all differently
        precompile(network)
    inputs = signals, demographics
    expected = [float(network.train_on_batch(inputs, labels[0], sample_weight=labels[1])) for _ in range(2)]
    with step_runner(second) as work:
        assert [float(work.train(inputs, *labels)) for _ in range(2)] == expected
        answer = np.asarray(work.predict(inputs))
        moved = np.asarray(work.predict((signals, 1 - demographics)))
    np.testing.assert_array_equal(answer, network.predict_on_batch(inputs))
    assert (answer != moved).any()
    for first_values, two in zip(network.variables, second.variables, strict=True):
        np.testing.assert_array_equal(first_values.numpy(), two.numpy())


@pytest.mark.slow
def test_in_bfloat16_weights_probabilities_and_loss_are_single():
    signals, *labels = batch(4)
    single, half = compiled(), compiled("bfloat16")
    assert keras.config.dtype_policy().name == "float32"
    dtypes = {layer.compute_dtype for layer in half.layers if isinstance(layer, keras.layers.Conv1D)}
    assert dtypes == {"bfloat16"} and half.layers[-1].compute_dtype == "float32"
    figures = []
    for network in (single, half):
        with step_runner(network) as work:
            loss, answer = work.train(signals, *labels), np.asarray(work.predict(signals))
        assert str(loss.dtype).endswith("float32'>") or str(loss.dtype) == "float32"
        assert answer.dtype == np.float32
        assert {variable.dtype for variable in [*network.weights, *network.optimizer.variables[2:]]} == {"float32"}
        figures.append((float(loss), answer))
    (expected, answers), (loss, in_half) = figures
    assert loss != expected and loss == pytest.approx(expected, rel=0.02)
    assert 0 < np.abs(in_half - answers).max() < 0.02


@pytest.mark.slow
def test_a_step_is_compiled_once_ahead_for_batches_of_any_size_and_length_and_changes_no_weights(small_network):
    shapes = []

    class Watched(FocalLoss):
        def call(self, y_true, y_pred):
            shapes.append(tuple(y_pred.shape))
            return super().call(y_true, y_pred)

    generator = np.random.default_rng(1)
    network = small_network.build(2, None, 2)
    network.compile(keras.optimizers.Adam(0.1), Watched(), jit_compile=False)
    network.optimizer.build(network.trainable_variables)
    variables = [*network.variables, *network.optimizer.variables]
    first = [variable.numpy() for variable in variables]
    precompile(network)
    for old, variable in zip(first, variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)
    for size, length in ((2, 500), (5, 300), (2, 252), (3, 253)):
        signals = generator.normal(size=(size, length, 2)).astype(np.float32)
        answers = keras.ops.convert_to_numpy(network(signals, training=False))
        np.testing.assert_allclose(network.predict_on_batch(signals), answers, atol=1e-6)
        before = network.get_weights()
        network.train_on_batch(signals, np.ones((size, 2), np.float32), np.ones((size, 2), np.float32))
        assert not np.array_equal(before[0], network.get_weights()[0])
    assert shapes == [(None, 2)]


def test_a_network_of_one_length_works_on_batches_of_any_size_after_it_was_compiled_ahead():
    signals, *labels = batch(6)
    keras.utils.set_random_seed(1)
    network = PLAIN.build(2, 250, 3)
    network.compile(keras.optimizers.Adam(0.1), FocalLoss(), jit_compile=False)
    network.optimizer.build(network.trainable_variables)
    precompile(network)
    for size in (1, 2, 3, 4, 6):
        with step_runner(network) as work:
            answers = keras.ops.convert_to_numpy(network(signals[:size], training=False))
            np.testing.assert_allclose(np.asarray(work.predict(signals[:size])), answers, atol=1e-6)
            before = network.get_weights()
            assert float(work.train(signals[:size], *(array[:size] for array in labels))) > 0
            assert not np.array_equal(before[0], network.get_weights()[0])


def test_where_compiling_ahead_fails_the_steps_are_kerass_again():
    network = compiled()
    with pytest.raises(ZeroDivisionError), skip_static_shapes(network):
        assert {"train_step", "predict_step"} <= vars(network).keys()
        raise ZeroDivisionError
    assert not {"train_step", "predict_step"} & vars(network).keys()


@pytest.mark.slow
def test_the_other_backend_does_all_of_this_too():
    """What is written for each backend, or is differentiated by it, and runs on TensorFlow above, runs on JAX here."""
    chosen = "work_comes or several_inputs or bfloat16 or gradient_of_mish"
    code = f"import sys, pytest; sys.exit(pytest.main(['-q', '-k', '{chosen}', *sys.argv[1:]]))"
    files = ["tests/unit/training/test_step_runner.py", "tests/unit/models/test_layers.py"]
    ended = subprocess.run([sys.executable, "-c", code, *files], cwd=ROOT,
                           env=os.environ | {"KERAS_BACKEND": "jax", **COMPILED_QUICKLY}, capture_output=True,
                           text=True)  # fmt: skip
    assert ended.returncode == 0 and "4 passed" in ended.stdout, ended.stdout
