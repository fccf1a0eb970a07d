import keras
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -r benchmarks/requirements.txt")

from benchmarks import plain_network  # noqa: E402 - it imports torch
from ecg.models.network_settings import NetworkSettings  # noqa: E402
from ecg.training.losses import AsymmetricLoss  # noqa: E402

SETTINGS = NetworkSettings(width=4, kernels=(5, 3), squeeze_ratio=2, hidden=8, dropout=0.0)
LEADS, CLASSES = 3, 5
torch.set_num_threads(1)  # waiting threads of PyTorch would block TensorFlow's


def weight_pairs(network, plain):
    """Yield each weight of the network with that of the plain one."""
    layers_by_kind = {kind: [layer for layer in network.layers if isinstance(layer, kind)]
             for kind in (keras.layers.Conv1D, keras.layers.BatchNormalization, keras.layers.Dense)}  # fmt: skip
    convolutions, norms, dense = layers_by_kind.values()
    norm_of = {id(norm.input): norm for norm in norms}
    modules = [module for module in plain.modules() if isinstance(module, plain_network.Convolution)]
    convolutions.sort(key=lambda layer: layer.kernel_size == (1,))
    modules.sort(key=lambda module: module.kernel == 1)
    for layer, module in zip(convolutions, modules, strict=True):
        norm, theirs = norm_of[id(layer.output)], module.normalization
        yield from ((layer.kernel, module.convolution.weight), (norm.gamma, theirs.weight), (norm.beta, theirs.bias))
        yield from ((norm.moving_mean, theirs.running_mean), (norm.moving_variance, theirs.running_var))
    linear = [module for module in plain.modules() if isinstance(module, torch.nn.Linear)]
    for layer, module in zip(dense, linear, strict=True):
        yield from ((layer.kernel, module.weight), (layer.bias, module.bias))


@pytest.fixture
def networks():
    """A network of ours with random statistics and biases, and the same plain one."""
    keras.utils.set_random_seed(1)
    network, plain = SETTINGS.build(LEADS, None, CLASSES), plain_network.Network(SETTINGS, LEADS, CLASSES)
    generator = np.random.default_rng(0)
    assert len(list(weight_pairs(network, plain))) == len(network.weights)
    for weight, theirs in weight_pairs(network, plain):
        if len(weight.shape) == 1:
            weight.assign(weight + generator.uniform(-0.3, 0.3, weight.shape).astype(np.float32))
        theirs.data = torch.from_numpy(weight.numpy().T.copy())
    return network, plain


@pytest.mark.parametrize("length", [300, 301, 315])
def test_the_plain_network_predicts_as_ours_does(networks, length):
    network, plain = networks
    signals = np.random.default_rng(1).normal(size=(4, length, LEADS)).astype(np.float32)
    with torch.no_grad():
        theirs = plain.eval()(torch.from_numpy(signals.transpose(0, 2, 1).copy())).numpy()
    ours = keras.ops.convert_to_numpy(network(signals, training=False))
    assert np.ptp(ours, axis=0).max() > 0.05
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


def test_the_plain_network_has_our_loss_and_its_gradients(networks):
    network, plain = networks
    generator = np.random.default_rng(2)
    signals = generator.normal(size=(6, 301, LEADS)).astype(np.float32)
    labels = (generator.random((6, CLASSES)) < 0.5).astype(np.float32)
    masks = (generator.random((6, CLASSES)) < 0.8).astype(np.float32)
    probabilities = plain.train()(torch.from_numpy(signals.transpose(0, 2, 1).copy()))
    loss = plain_network.asymmetric_loss(probabilities, *map(torch.from_numpy, (labels, masks)))
    loss.backward()
    # By one step of the plainest descent at rate 1, after which each weight is less by its gradient.
    network.compile(keras.optimizers.SGD(1.0), AsymmetricLoss(), run_eagerly=True)
    before = [weight.numpy() for weight, _ in weight_pairs(network, plain)]
    ours = network.train_on_batch(signals, labels, sample_weight=masks)
    np.testing.assert_allclose(loss.item(), ours, rtol=1e-4)
    for old, (weight, theirs) in zip(before, weight_pairs(network, plain), strict=True):
        if theirs.requires_grad:
            gradient = theirs.grad.numpy().T
            np.testing.assert_allclose(old - weight.numpy(), gradient, atol=1e-4 + 1e-3 * np.abs(gradient).max())


def test_a_plain_training_step_lowers_the_loss(networks):
    generator = np.random.default_rng(3)
    signals = generator.normal(size=(6, LEADS, 301)).astype(np.float32)
    step = plain_network.make_training_step(networks[1], signals, np.ones((6, CLASSES), np.float32))
    losses = [step() for _ in range(5)]
    assert losses[-1] < losses[0]
