"""Start Keras and its backend with only our own lines on the console."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# Packages that Keras imports if they are installed, for parts of it that are not used here. Hiding them saves 1.5 s
# of processor time and 115 MB of memory in each process.
UNUSED = ("matplotlib", "pandas", "sklearn")
# Environment variables that leave the memory of an accelerator to other processes.
SHARING = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def start_keras(devices: bool = True, shares: bool = False, on_cpu: bool = False) -> None:
    """Import Keras with only our own lines on the console.

    TensorFlow's libraries write to the process's standard error, below Python and before any setting of theirs is read.
    What they wrote is shown after all if the start fails. Keras reads settings such as the type of numbers from its
    home folder and writes them there; here it has none unless the environment variable KERAS_HOME names one, so that a
    network is the same for everybody.

    Args:
        devices: Whether the backend finds its devices now. Otherwise it does so when something is computed. The memory
            of an accelerator, which it takes as a whole, is free for other processes until then.
        shares: Whether the backend takes as much of an accelerator's memory as it needs, since other processes may use
            it. Environment variables that are set already (SHARING) are left as they are.
        on_cpu: Whether the processor alone is used. The accelerators of this machine are left to other processes, such
            as the workers of a cluster.
    """
    if "keras" in sys.modules:
        return
    for name, value in SHARING.items() if shares else ():
        os.environ.setdefault(name, value)
    if on_cpu:
        os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # warnings and worse
    # TensorFlow chooses Intel's kernels on some processors only; on others, too, a training step is faster with them.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("KERAS_HOME", os.devnull)  # nothing can be read or written below it
    os.environ.setdefault("JAX_ENABLE_PREEMPTION_SERVICE", "false")  # with it, connected processes ignore SIGTERM
    with hide_standard_error(), hide_packages(UNUSED):
        import keras

        if devices:
            keras.ops.zeros(1)
    # Each network is traced anew, which TensorFlow takes for a mistake from the fifth on.
    logging.getLogger("tensorflow").addFilter(lambda record: "retracing" not in record.getMessage())


@contextmanager
def hide_packages(packages: Iterable[str]) -> Iterator[None]:
    """Make packages that are not imported yet look as if they were not installed."""
    names = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]  # Python does not import a module that is None
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


@contextmanager
def hide_standard_error() -> Iterator[None]:
    """Hide what the process writes to standard error.

    It is shown after all if an exception leaves the block, but not if the program ends (SystemExit, KeyboardInterrupt).
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        except Exception:
            written.seek(0)
            os.write(terminal, written.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


@contextmanager
def hide_standard_output() -> Iterator[None]:
    """Hide what libraries write to the standard output of the process."""
    sys.stdout.flush()
    output = os.dup(1)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(output, 1)
        os.close(output)
