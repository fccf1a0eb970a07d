import keras
import numpy as np

from ecg.training.checkpoint import (
    AUPRC,
    Checkpoint,
    WeightAverage,
    pack_arrays,
    pack_epochs,
    unpack_arrays,
    unpack_epochs,
)


def test_what_has_been_waited_counts_from_the_lowest_loss():
    checkpoint, waited = Checkpoint(0.0), []
    for loss in (3.0, 2.0, 2.0, 1.5, 1.6, 1.7):
        checkpoint.add("key", "trial", 1e-3, loss, loss, {})
        waited.append(checkpoint.waited)
    assert waited == [0, 0, 1, 0, 1, 2]


def test_the_average_of_weights_is_that_of_all_steps_whether_added_one_by_one_or_not():
    weights = np.random.default_rng(0).normal(size=(8, 5))
    average = WeightAverage(0.9)
    for step in range(8):
        average.add([weights[step], weights[step] * 2], 1)
    shares = 0.9 ** np.arange(7, -1, -1)
    expected = shares @ weights / shares.sum()
    np.testing.assert_allclose(average.value()[0], expected)
    np.testing.assert_allclose(average.value()[1], 2 * expected)
    once, steps = WeightAverage(0.9), WeightAverage(0.9)
    once.add([weights[0]], 3)
    for _ in range(3):
        steps.add([weights[0]], 1)
    np.testing.assert_allclose(once.value(), steps.value())


def test_without_averaging_the_last_weights_count():
    average = WeightAverage(0.0)
    for value in (1.0, 5.0, 7.0):
        average.add([np.array(value)], 2)
    assert average.value() == [7.0]


def test_lists_of_any_length_keep_their_order():
    arrays = pack_arrays("weights", [np.array(n) for n in range(1200)]) | pack_arrays("best", [np.array(-1)])
    assert [int(array) for array in unpack_arrays("weights", arrays)] == list(range(1200))


def trained(network, generator):
    """A checkpoint after two epochs of a network with an optimizer that has made a step."""
    network.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=False)
    network.optimizer.build(network.trainable_variables)
    for variable in [*network.variables, *network.optimizer.variables]:
        if "float" in str(variable.dtype):
            variable.assign(generator.normal(size=variable.shape).astype(np.float32))
    checkpoint = Checkpoint(0.9)
    for loss in (0.1, 1 / 3):
        checkpoint.average.add([array + np.float32(loss) for array in network.get_weights()], 3)
        checkpoint.add("key", "trial", 1e-3, 0.25, loss, {"AUROC": 2 / 3})
    return checkpoint


def test_what_is_restored_is_what_was_kept_to_the_bit(small_network):
    network, fresh = (small_network.build(2, None, 3) for _ in range(2))
    kept = trained(network, np.random.default_rng(1))
    arrays = kept.arrays(network)
    restored = trained(fresh, np.random.default_rng(2))
    restored.restore(fresh, arrays)
    assert restored.epochs == kept.epochs and restored.epochs is not kept.epochs
    assert restored.waited == 1
    again = restored.arrays(fresh)
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype, name
        np.testing.assert_array_equal(again[name], array, err_msg=name)
    for checkpoint in (kept, restored):
        checkpoint.average.add(network.get_weights(), 10)
    for before, two in zip(kept.average.value(), restored.average.value(), strict=True):
        np.testing.assert_array_equal(before, two)


def test_the_average_of_the_lowest_loss_is_the_best(small_network):
    checkpoint = Checkpoint(0.5)
    for value, loss in ((1.0, 0.3), (2.0, 0.1), (3.0, 0.2)):
        checkpoint.average.add([np.array(value)], 1)
        if loss == 0.1:
            best = checkpoint.average.value()
        checkpoint.add("key", "trial", 1e-3, loss, loss, {})
    assert checkpoint.best == best
    assert [epoch.best for epoch in checkpoint.epochs] == [True, True, False]
    assert [epoch.epoch for epoch in checkpoint.epochs] == [1, 2, 3]
    assert unpack_epochs(pack_epochs(checkpoint.epochs)) == checkpoint.epochs


def test_the_average_of_the_highest_auprc_is_the_best_whatever_the_losses(small_network):
    checkpoint, waited = Checkpoint(0.0, AUPRC), []
    for value, auprc in ((1.0, 0.0), (2.0, 0.4), (3.0, 0.4), (4.0, 0.3)):
        checkpoint.average.add([np.array(value)], 1)
        checkpoint.add("key", "trial", 1e-3, 0.0, -value, {"score": value, AUPRC: auprc})
        waited.append(checkpoint.waited)
    assert waited == [0, 0, 1, 2] and checkpoint.best == [2.0]
    assert [epoch.best for epoch in checkpoint.epochs] == [True, True, False, False]
