import errno
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from ecg.data.headers import Header, Lead
from ecg.data.leads import LEADS
from ecg.data.records import find_records
from ecg.data.store import build_store
from ecg.data.synthetic import synthesize

TESTS = Path(__file__).parent
# What is tested here imports Keras; test files elsewhere do not.
KERAS_TESTS = ("unit/models", "unit/training", "unit/systems", "unit/reports", "unit/commands", "integration",
               "acceptance", "benchmarks", "unit/runtime/test_keras_startup.py")  # fmt: skip
# Where tests run in the background, a shell has SIGINT ignored, and processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def needs_keras(path: Path) -> bool:
    """Say whether a test file imports Keras, by the folder that it is in."""
    return path.relative_to(TESTS).as_posix().startswith(KERAS_TESTS)


def without_keras(config: pytest.Config) -> bool:
    """Say whether no test is to run that needs Keras, as by -m "not keras"."""
    return "not keras" in config.option.markexpr


def pytest_configure(config):
    """Start Keras before any test file imports it; it takes seconds, so not where it is not needed."""
    if not without_keras(config):
        from ecg.runtime.keras_startup import start_keras

        start_keras()


def pytest_ignore_collect(collection_path, config):
    """Pass over the files that import Keras, whose imports alone take seconds, where none of their tests is to run."""
    return True if without_keras(config) and collection_path.is_file() and needs_keras(collection_path) else None


def pytest_collection_modifyitems(items):
    """Mark the tests that need Keras."""
    for item in items:
        if needs_keras(item.path):
            item.add_marker(pytest.mark.keras)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real recordings beside the checkout, where there is one."""
    folder = TESTS.parents[1] / "shared" / "data"
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
    from ecg.models.resnets import NetworkSettings  # imports Keras, which is to be started first

    return NetworkSettings(width=4, kernels=(5,), squeeze_ratio=2, hidden=8)


@pytest.fixture
def write(tmp_path):
    """Write a header and, where given, its matrix; return the header's path."""

    def write(text, recording=None, name="A0001", **matrices):
        path = tmp_path / f"{name}.hea"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        matrices = matrices if recording is None else {"val": recording}
        if matrices:
            scipy.io.savemat(path.with_suffix(".mat"), matrices, format="4")
        return path

    return write


@pytest.fixture
def unprivileged(tmp_path):
    """A context in which permissions count: root, whom they do not stop, is nobody there, and can reach tmp_path."""
    for folder in tmp_path.parents:  # as pytest has made them, for this user alone
        if not folder.name.startswith(("pytest-", "popen-")):
            break
        folder.chmod(0o755)

    @contextmanager
    def as_nobody():
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(user)

    return as_nobody


@pytest.fixture
def closed(monkeypatch):
    """A function that makes a folder one that this process may not list, root or not."""
    scandir = os.scandir

    def close(folder):
        def listed(place="."):
            if Path(place) == folder:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(place))
            return scandir(place)

        monkeypatch.setattr("os.scandir", listed)

    return close
