"""The Challenge's three functions: train models, load a model, and predict."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ecg.runtime.console import start_logging
from ecg.runtime.keras_startup import start_keras

SYSTEM = "cai2021"  # what `training_code` trains; "apprentice" is the strongest system

if TYPE_CHECKING:
    import numpy as np

    from ecg.models.bundle import Bundle


def training_code(data_directory: str, model_directory: str) -> None:
    """Train the models of all five lead sets on a folder of recordings.

    Args:
        data_directory: Folder of labelled recordings.
        model_directory: Folder that the models are written into.
    """
    start_keras()
    from ecg.commands.train import train
    from ecg.systems.recipes import RECIPES

    start_logging()
    train(data_directory, model_directory, RECIPES[SYSTEM])


def load_model(model_directory: str, leads: Iterable[str]) -> "Bundle":
    """Load the model for leads from the model folder, for `run_model`.

    Args:
        model_directory: Folder of the models.
        leads: Names of the leads.
    """
    from ecg.models.bundle import load_bundle
    from ecg.models.numpy_network import use_one_thread_per_network

    use_one_thread_per_network()
    return load_bundle(model_directory, leads)


def run_model(model: "Bundle", header: str, recording: "np.ndarray") -> "tuple[list[str], np.ndarray, np.ndarray]":
    """Predict one recording.

    Args:
        model: What `load_model` returned.
        header: Text of the header file.
        recording: Stored integers, (L, T).

    Returns:
        Codes of the classes, 0 or 1 for each, and probabilities.
    """
    return model.predict(header, recording)
