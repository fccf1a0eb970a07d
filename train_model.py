"""Train the models on a folder of recordings: python train_model.py DATA MODEL."""

import sys

from ecg.headers import RecordError
from ecg.reasons import printable
from ecg.records import find_records
from ecg.startup import start_keras
from team_code import training_code

USAGE = "usage: python train_model.py DATA MODEL"


def main(arguments):
    """Train on the recordings in the first folder, or below it, and leave the models in the second."""
    if len(arguments) != 2:
        print(USAGE, file=sys.stderr)
        sys.exit(2)
    data_directory, model_directory = arguments
    try:
        records = find_records(data_directory)
    except OSError as error:
        sys.exit(printable(f"{data_directory}: {error.strerror}"))
    if not records:
        sys.exit(printable(f"{data_directory}: no recordings, which are files named *.hea, in this folder or below it"))
    start_keras()
    from ecg.training import TrainingError

    try:
        training_code(data_directory, model_directory)
    except (RecordError, TrainingError, OSError) as error:
        sys.exit(printable(str(error)))
    print("Done.")


if __name__ == "__main__":
    main(sys.argv[1:])
