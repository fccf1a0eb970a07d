"""Score outputs by the Challenge's rules.

Usage: python evaluate_model.py LABELS OUTPUTS [SCORES [CLASS_SCORES]]
"""

import os
import sys
from pathlib import Path

from ecg.evaluation.outputs import Scores, format_scores, score_outputs
from ecg.runtime.console import errors_in_one_line, interruptible, read_arguments

USAGE = "usage: python evaluate_model.py LABELS OUTPUTS [SCORES [CLASS_SCORES]]"
EXPLANATION = """Score the outputs in the folder OUTPUTS for the headers in the folder LABELS and nested below it.
The output file of LABELS/NAME.hea is OUTPUTS/NAME.csv.
Prints the scores, or writes them to the file SCORES, and those of each class to the file CLASS_SCORES."""


def main(arguments: list[str]) -> None:
    """Print the scores, or write them and those of the classes to files."""
    label_directory, output_directory, *files = read_arguments(arguments, USAGE, EXPLANATION, 2, 4)
    with interruptible(), errors_in_one_line():
        texts = format_scores(evaluate_model(label_directory, output_directory))
        if not files:
            print(texts[0], flush=True)
        for file, text in zip(files, texts, strict=False):
            try:
                Path(file).write_text(text)  # not renamed, because it may be a device or a pipe
            except OSError as error:
                error.filename = file  # the error about a full disk has none
                raise


def evaluate_model(label_directory: str | os.PathLike, output_directory: str | os.PathLike) -> Scores:
    """Score the outputs for the label files of a folder; see `score_outputs`."""
    return score_outputs(label_directory, output_directory)


if __name__ == "__main__":
    main(sys.argv[1:])
