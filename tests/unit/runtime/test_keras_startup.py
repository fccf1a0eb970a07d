import importlib
import json
import logging
import os
import subprocess
import sys

import pytest

from ecg.runtime.keras_startup import hide_packages, hide_standard_error, start_keras


def test_output_below_python_is_hidden(capfd):
    os.write(2, b"before\n")
    with hide_standard_error():
        os.write(2, b"hidden\n")
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'hidden too')"], check=True)
        print("shown", flush=True)
    os.write(2, b"after\n")
    assert capfd.readouterr() == ("shown\n", "before\nafter\n")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interruption_shows_nothing_of_what_was_hidden(capfd, stop):
    with pytest.raises(stop), hide_standard_error():
        os.write(2, b"the library's own words\n")
        raise stop
    assert capfd.readouterr().err == ""


def test_an_exception_shows_what_was_hidden_and_leaves_the_block(capfd):
    with pytest.raises(ImportError, match="the reason"), hide_standard_error():
        os.write(2, b"the library's own words\n" * 5000)
        raise ImportError("the reason")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "the library's own words\n" * 5000 + "after\n"


def test_standard_error_is_restored_and_no_descriptor_stays_open(capfd):
    def descriptors():
        return sorted(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))

    before, file = descriptors(), os.fstat(2)
    for stop in (None, ValueError):
        try:
            with hide_standard_error():
                assert not os.path.samestat(os.fstat(2), file)
                if stop:
                    raise stop
        except ValueError:
            pass
        assert os.path.samestat(os.fstat(2), file) and descriptors() == before


def test_unflushed_output_appears_where_it_was_written():
    code = (
        "import os, sys; from ecg.runtime.keras_startup import hide_standard_error\n"
        "sys.stderr.reconfigure(line_buffering=False)\n"
        "sys.stderr.write('before,')\n"
        "with hide_standard_error():\n"
        "    sys.stderr.write('hidden,')\n"
        "sys.stderr.write('after')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "before,after"


@pytest.mark.keras
def test_warnings_of_retracing_are_dropped_and_other_warnings_shown(caplog):
    start_keras()
    logger = logging.getLogger("tensorflow")
    propagated, logger.propagate = logger.propagate, True
    try:
        logger.warning("5 out of the last 5 calls to %s triggered tf.function retracing.", "<function>")
        logger.warning("the GPU is on fire")
    finally:
        logger.propagate = propagated
    assert [record.getMessage() for record in caplog.records] == ["the GPU is on fire"]


@pytest.mark.keras
@pytest.mark.slow
def test_keras_neither_reads_nor_writes_the_home_folder(tmp_path):
    settings = tmp_path / ".keras" / "keras.json"
    code = (
        "from ecg.runtime.keras_startup import start_keras; start_keras(); import keras; print(keras.config.floatx())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_HOME"}
    environment |= {"HOME": str(tmp_path), "KERAS_BACKEND": "numpy"}  # numpy starts at once

    def start_process():
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    assert start_process().stdout == "float32\n" and not settings.parent.exists()
    settings.parent.mkdir()
    settings.write_text('{"floatx": "float16"}')
    assert start_process().stdout == "float32\n"
    environment["KERAS_HOME"] = str(settings.parent)
    assert start_process().stdout == "float16\n"


@pytest.mark.slow
@pytest.mark.keras
def test_packages_that_keras_does_not_need_here_are_not_imported_and_can_be_afterwards():
    code = (
        "import sys; from ecg.runtime.keras_startup import UNUSED, start_keras; start_keras()\n"
        "assert 'keras' in sys.modules and not sys.modules.keys() & set(UNUSED), sys.modules.keys()\n"
        "import matplotlib, pandas, sklearn, keras\n"
        "keras.ops.zeros(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("backend", "is_started"),
    [
        (
            "tensorflow",
            "from tensorflow.python.eager.context import context as started; started = started()._context_handle",
        ),
        ("jax", "from jax._src.xla_bridge import backends_are_initialized as started; started = started()"),
    ],
)
@pytest.mark.keras
@pytest.mark.slow
def test_without_devices_the_backend_is_not_started(backend, is_started):
    """The first computation of a process reserves the accelerator's memory."""
    code = (
        "from ecg.runtime.keras_startup import start_keras; start_keras(devices=False)\n"
        "import ecg.commands.compare, keras\n"
        f"{is_started}; print(bool(started)); keras.ops.zeros(1); {is_started}; print(bool(started))"
    )
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_package_that_is_imported_already_stays(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with hide_packages(["json", "colorsys"]):
        assert sys.modules["json"] is json
        with pytest.raises(ImportError):
            importlib.import_module("colorsys")
    assert importlib.import_module("colorsys").rgb_to_hls


def test_a_process_that_shares_accelerators_takes_memory_as_it_needs_unless_told_otherwise():
    name = "TF_FORCE_GPU_ALLOW_GROWTH"
    code = "from ecg.runtime.keras_startup import start_keras; start_keras(shares=True); import os; "
    code += f"print(os.environ['{name}'])"
    for given, expected in (({}, "true"), ({name: "false"}, "false")):
        environment = {key: value for key, value in os.environ.items() if key != name} | given
        printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert printed.stdout == f"{expected}\n"
