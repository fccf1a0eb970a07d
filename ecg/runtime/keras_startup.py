"""Starts Keras and its backend with only our own lines on the console."""

import logging
import os
import sys
import tempfile
from contextlib import contextmanager

# Packages that Keras imports where they are there, for parts of it that are not used here; they take seconds.
UNUSED = ("matplotlib", "pandas", "sklearn")


def start_keras(devices=True):
    """Import Keras and let its backend find its devices, out of hearing.

    TensorFlow's libraries write their greetings to the process's standard error, below Python and before any
    setting of theirs is read. What they wrote is shown after all where the start fails. Keras reads its settings from
    the home folder and writes them there; here it finds none and leaves none, so that a network is the same for
    everybody. The environment still counts: KERAS_BACKEND, and KERAS_HOME where it is set.

    Without `devices` the backend leaves them alone until something is computed: the memory of an accelerator, which it
    takes as a whole, is then free for other processes.
    """
    if "keras" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # what they may say later: warnings and worse
    # TensorFlow chooses Intel's kernels on some processors only; on others, too, a training step is faster with them.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with hidden_standard_error(), isolated_keras_home(), hide_packages(UNUSED):
        import keras

        if devices:
            keras.ops.zeros(1)
    logging.getLogger("tensorflow").addFilter(_worth_saying)


def _worth_saying(record):
    """Return whether a line of TensorFlow's is news: that each network is compiled anew is meant so."""
    return "retracing" not in record.getMessage()


@contextmanager
def hide_packages(packages):
    """Have packages seem not to be installed for a while, but for those that are imported already."""
    names = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(names))  # by Python's rules a module that is None cannot be imported
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


@contextmanager
def isolated_keras_home():
    """Give Keras an empty home folder for a while, unless it has one of its own."""
    if "KERAS_HOME" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KERAS_HOME"] = folder
        try:
            yield
        finally:
            del os.environ["KERAS_HOME"]


@contextmanager
def hidden_standard_error():
    """Keep what the process writes to standard error to itself, unless an error leaves the block: Ctrl-C is none."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException:
            written.seek(0)
            os.write(terminal, written.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
