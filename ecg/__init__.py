"""Classify ECG recordings of twelve or fewer leads (CinC Challenge 2021)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecg.api import embed, load, predict
    from ecg.classifier import ECGClassifier
    from ecg.data.inputs import Recording

__version__ = "1.0.0"
__all__ = ["ECGClassifier", "Recording", "embed", "load", "predict"]

# Modules of the public names. They are imported when a name is used, because the command line has to start at once.
MODULES = {
    "ECGClassifier": "ecg.classifier",
    "Recording": "ecg.data.inputs",
    "embed": "ecg.api",
    "load": "ecg.api",
    "predict": "ecg.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
