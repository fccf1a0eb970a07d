"""The Challenge's three functions: train the models, load one for a lead set, answer for one recording."""

from ecg.runtime.console import start_logging
from ecg.runtime.keras_startup import start_keras


def training_code(data_directory, model_directory):
    """Train the models of all five lead sets on a folder of recordings and leave them in the model folder."""
    start_keras()
    from ecg.commands.train import train

    start_logging()
    train(data_directory, model_directory)


def load_model(model_directory, leads):
    """Load the model of a lead set from the model folder: what `run_model` takes."""
    start_keras()
    from ecg.models.bundle import load_bundle

    return load_bundle(model_directory, leads)


def run_model(model, header, recording):
    """Return codes, 0 or 1 for each, and probabilities, for a header's text and the stored integers (L, T)."""
    return model.predict(header, recording)
