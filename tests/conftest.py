from pathlib import Path

import numpy as np
import pytest

from ecg.labels import LEADS
from ecg.networks import NetworkSettings
from ecg.records import Header, Lead, find_records
from ecg.startup import start_keras
from ecg.store import build_store
from ecg.synthetic import synthesize

start_keras()


@pytest.fixture(scope="session")
def real_data():
    """The folder of real recordings beside the checkout, where there is one."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real recordings beside the checkout")
    return folder


@pytest.fixture(scope="session")
def made_up(tmp_path_factory):
    """A folder of 60 made-up recordings of all sources."""
    folder = tmp_path_factory.mktemp("made_up")
    synthesize(folder, 60, seed=5)
    return folder


@pytest.fixture(scope="session")
def headers(made_up):
    return find_records(made_up)


@pytest.fixture(scope="session")
def store(made_up, tmp_path_factory):
    return build_store(made_up, tmp_path_factory.mktemp("store"), jobs=1)


@pytest.fixture
def make_header():
    """A function that makes a Header for integers of the named leads."""

    def make(leads=LEADS, frequency=500.0, gain=1000.0, baseline=0, samples=0):
        lines = tuple(Lead(name, "made.mat", "16", 24, gain, baseline, "mV") for name in leads)
        return Header("made", frequency, samples, lines, np.nan, "Unknown", ())

    return make


@pytest.fixture(scope="session")
def small():
    """Settings of a network of two blocks and some hundred weights."""
    return NetworkSettings(width=4, kernels=(5,), squeeze_ratio=2, hidden=8)
