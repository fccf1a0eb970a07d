"""The method's network and its training step in plain PyTorch.

benchmarks.speed compares with it. It shares no code with ecg/. It is the only module that imports torch, which
benchmarks/requirements.txt lists. It is a program, since the threads of two libraries disturb each other in a process:

python -m benchmarks.plain_network '{"batch": 64, "length": 2500, "leads": 12, "classes": 22, "settings": {...}}'

trains a step for each line of standard input, and prints its loss.
"""

import json
import sys
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

EPSILON, MOMENTUM = 1e-3, 0.1  # batch normalisation's, in PyTorch's convention
SMALLEST = 1e-7


class Convolution(nn.Module):
    """A convolution along time with 'same' padding, and batch normalisation."""

    def __init__(self, channels, filters, kernel, stride=1):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.convolution = nn.Conv1d(channels, filters, kernel, stride, bias=False)
        nn.init.kaiming_normal_(self.convolution.weight)
        self.normalization = nn.BatchNorm1d(filters, EPSILON, MOMENTUM)

    def forward(self, x):
        """Return (B, filters, ceil(T / stride)) of (B, channels, T)."""
        length = x.shape[-1]
        zeros = max((-(-length // self.stride) - 1) * self.stride + self.kernel - length, 0)
        if zeros:
            x = functional.pad(x, (zeros // 2, zeros - zeros // 2))
        return self.normalization(self.convolution(x))


class Block(nn.Module):
    """A residual block: two convolutions, squeeze-and-excitation, and a shortcut."""

    def __init__(self, channels, filters, kernel, stride, ratio, dropout):
        super().__init__()
        self.first = Convolution(channels, filters, kernel, stride)
        self.dropout = nn.Dropout(dropout)
        self.second = Convolution(filters, filters, kernel)
        self.squeeze = nn.Linear(filters, max(filters // ratio, 1))
        self.excite = nn.Linear(max(filters // ratio, 1), filters)
        same = stride == 1 and channels == filters
        self.shortcut = nn.Identity() if same else Convolution(channels, filters, 1, stride)

    def forward(self, x):
        """Return (B, filters, ceil(T / stride)) of (B, channels, T)."""
        y = self.second(self.dropout(functional.mish(self.first(x))))
        gate = torch.sigmoid(self.excite(functional.mish(self.squeeze(y.mean(dim=-1)))))
        return functional.mish(y * gate.unsqueeze(-1) + self.shortcut(x))


class Network(nn.Module):
    """The SE-ResNet of Cai et al. 2021, with the sizes of NetworkSettings."""

    def __init__(self, settings, leads, classes):
        super().__init__()
        self.first = Convolution(leads, settings.width, settings.first_kernel, settings.first_stride)
        self.pool = nn.MaxPool1d(2, ceil_mode=True)
        blocks, channels = [], settings.width
        for pair, kernel in enumerate(settings.kernels):
            for block in range(2):
                filters, stride = settings.width * 2**pair, 2 if pair and not block else 1
                blocks.append(Block(channels, filters, kernel, stride, settings.squeeze_ratio, settings.dropout))
                channels = filters
        self.blocks = nn.Sequential(*blocks)
        self.hidden = nn.Linear(channels, settings.hidden)
        self.output = nn.Linear(settings.hidden, classes)

    def forward(self, x):
        """Return the probabilities (B, classes) of (B, leads, T)."""
        x = self.blocks(self.pool(functional.mish(self.first(x))))
        return torch.sigmoid(self.output(functional.mish(self.hidden(x.amax(dim=-1)))))


def asymmetric_loss(p, labels, masks):
    """Return the loss of round 2, averaged over unmasked labels; all (B, classes)."""
    present = 1 - torch.clamp(0.99 - p, min=0)
    shifted = torch.clamp(p - 0.05, min=0)
    positive = -(1 - present) * torch.log(torch.clamp(present, min=SMALLEST))
    negative = -(shifted**2) * torch.log(torch.clamp(1 - shifted, min=SMALLEST))
    return (masks * (labels * positive + (1 - labels) * negative)).sum() / masks.sum()


def make_training_step(network, signals, labels):
    """Return a function that trains a step and returns the loss.

    Signals are (B, leads, T), labels (B, classes).
    """
    signals, labels = torch.from_numpy(signals), torch.from_numpy(labels)
    masks = torch.ones_like(labels)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4, eps=1e-7)
    network.train()

    def step():
        optimizer.zero_grad()
        loss = asymmetric_loss(network(signals), labels, masks)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main():
    """Train a step for each line read, on random numbers."""
    sizes = SimpleNamespace(**json.loads(sys.argv[1]))
    generator = np.random.default_rng(1)
    signals = generator.normal(size=(sizes.batch, sizes.leads, sizes.length)).astype(np.float32)
    labels = (generator.random((sizes.batch, sizes.classes)) < 0.1).astype(np.float32)
    step = make_training_step(Network(SimpleNamespace(**sizes.settings), sizes.leads, sizes.classes), signals, labels)
    for _ in sys.stdin:
        print(step(), flush=True)


if __name__ == "__main__":
    main()
