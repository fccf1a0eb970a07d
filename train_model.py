"""Train the models on a folder of recordings: python train_model.py DATA MODEL."""

import sys

from ecg.data.headers import RecordError
from ecg.data.records import find_records
from ecg.runtime.console import (
    RESUME_MESSAGE,
    errors_in_one_line,
    escape_unprintable,
    interruptible,
    read_arguments,
)
from ecg.runtime.keras_startup import start_keras
from team_code import training_code

USAGE = "usage: python train_model.py DATA MODEL"
EXPLANATION = """Train the models on the recordings in the folder DATA, or below it, and leave them in the folder MODEL.
The same command again resumes a training that was interrupted."""


def main(arguments: list[str]) -> None:
    """Train on the recordings of one folder; write the models into another.

    Args:
        arguments: What follows the script's name on the command line.

    Raises:
        SystemExit: If the arguments are wrong, the training cannot be done, or it is interrupted.
    """
    data_directory, model_directory = read_arguments(arguments, USAGE, EXPLANATION, 2)
    with interruptible(RESUME_MESSAGE), errors_in_one_line(RecordError):
        if not find_records(data_directory):
            none = "no recordings, which are files named *.hea, in this folder or below it"
            sys.exit(escape_unprintable(f"{data_directory}: {none}"))
        start_keras()
        from ecg.training.trainer import TrainingError

        with errors_in_one_line(TrainingError):
            training_code(data_directory, model_directory)
        print("Done.")


if __name__ == "__main__":
    main(sys.argv[1:])
