import errno
import logging
import os
import signal
import subprocess
import sys
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
from ecg.runtime.executors import ONE_PROCESS

TESTS = Path(__file__).parent
# Folders and files of the tests that import Keras.
KERAS_TESTS = ("unit/models", "unit/training", "unit/systems", "unit/reports", "unit/commands", "integration",
               "acceptance", "benchmarks", "extras", "unit/runtime/test_keras_startup.py", "unit/test_api.py",
               "unit/test_classifier.py", "unit/test_doctests.py", "web/test_page_of_own_classes.py",
               "web/test_script_examples.py", "web/test_serve.py")  # fmt: skip
LONG_TESTS = ("integration", "acceptance", "unit/training", "unit/models/test_bundle.py",
              "unit/commands/test_command.py", "unit/systems", "unit/reports/test_ecg_paper.py")  # fmt: skip
# A shell ignores SIGINT in background jobs, and their processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def needs_keras(path: Path) -> bool:
    """Return whether a test file imports Keras, by its folder."""
    return path.relative_to(TESTS).as_posix().startswith(KERAS_TESTS)


def without_keras(config: pytest.Config) -> bool:
    """Return whether the tests that need Keras are excluded, as by `-m "not keras"`."""
    return "not keras" in config.option.markexpr


def pytest_configure(config):
    """Start Keras before any test file imports it, unless no test needs it.

    With pytest-xdist only the workers import test files.
    """
    distributes = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if not without_keras(config) and not distributes:
        from ecg.runtime.keras_startup import start_keras

        start_keras()


def pytest_ignore_collect(collection_path, config):
    """Ignore the files that import Keras if none of their tests runs."""
    return True if without_keras(config) and collection_path.is_file() and needs_keras(collection_path) else None


def pytest_collection_modifyitems(items):
    """Mark the tests that need Keras, and put the files with the longest tests first.

    Two workers that take files in turn are then done at about the same time.
    """
    for item in items:
        if needs_keras(item.path):
            item.add_marker(pytest.mark.keras)
    items.sort(key=lambda item: not item.path.relative_to(TESTS).as_posix().startswith(LONG_TESTS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Escape names that are not UTF-8 in what a test logged: a worker could not send them."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(scope="session")
def real_data():
    """The folder of real recordings; skip the test if there is none."""
    folder = TESTS.parents[1] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real recordings next to the checkout")
    return folder


@pytest.fixture(scope="session")
def synthetic_recordings(tmp_path_factory):
    """A folder of 60 synthetic recordings of all sources."""
    folder = tmp_path_factory.mktemp("synthetic_recordings")
    synthesize(folder, 60, seed=5)
    return folder


@pytest.fixture(scope="session")
def headers(synthetic_recordings):
    return find_records(synthetic_recordings)


@pytest.fixture(scope="session")
def store(synthetic_recordings, tmp_path_factory):
    return build_store(synthetic_recordings, tmp_path_factory.mktemp("store"), executor=ONE_PROCESS)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A Dask cluster of two workers with one slot each (tests/cluster.py), for tests that leave it whole."""
    from cluster import run_cluster

    with run_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The path of a wheel of this package."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", folder, TESTS.parent], check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(autouse=True)
def no_log_handlers():
    """Leave the package's logger without a handler after each test."""
    yield
    logging.getLogger("ecg").handlers = []


@pytest.fixture
def make_header():
    """A function that returns a Header of the named leads, for integer samples."""

    def make(leads=LEADS, frequency=500.0, gain=1000.0, baseline=0, samples=0):
        lines = tuple(Lead(name, "made.mat", "16", 24, gain, baseline, "mV") for name in leads)
        return Header("made", frequency, samples, lines, np.nan, "Unknown", ())

    return make


@pytest.fixture(scope="session")
def small_network():
    """Settings of a network of two blocks and some hundred weights."""
    from ecg.models.network_settings import NetworkSettings  # imports Keras, which must be started first

    return NetworkSettings(width=4, kernels=(5,), squeeze_ratio=2, hidden=8)


@pytest.fixture
def write_record(tmp_path):
    """A function that writes a header and its matrix, and returns the header's path."""

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
    """A context in which file permissions apply: root becomes nobody."""
    for folder in tmp_path.parents:  # pytest makes them accessible to this user only
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
def unlistable_folder(monkeypatch):
    """A function that makes listing a folder fail, even for root."""
    scandir = os.scandir

    def make_unlistable(folder):
        def list_folder(path="."):
            if Path(path) == folder:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
            return scandir(path)

        monkeypatch.setattr("os.scandir", list_folder)

    return make_unlistable
