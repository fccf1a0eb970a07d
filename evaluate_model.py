"""Score outputs by the Challenge's rules: python evaluate_model.py LABELS OUTPUTS [SCORES [CLASS_SCORES]]."""

import os
import sys
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ecg.data.headers import parse_codes
from ecg.data.records import is_header
from ecg.evaluation.metrics import accuracy, challenge_score, f_measures, load_weights, nan_mean, roc_and_pr_areas
from ecg.runtime.console import errors_in_one_line, escape_unprintable, interruptible, read_arguments, run_program
from ecg.runtime.files import walk_files
from helper_code import is_finite_number, is_number

USAGE = "usage: python evaluate_model.py LABELS OUTPUTS [SCORES [CLASS_SCORES]]"
EXPLANATION = """Score the outputs in the folder OUTPUTS for the headers in the folder LABELS and nested below it.
The output file of LABELS/NAME.hea is OUTPUTS/NAME.csv.
Prints the scores, or writes them to the file SCORES, and those of each class to the file CLASS_SCORES."""
TRUE = ("True", "true", "T", "t")
CHUNK = 2**16  # bytes read at once


def main(arguments):
    """Print the scores, or write them and those of the classes to the files named."""
    label_directory, output_directory, *files = read_arguments(arguments, USAGE, EXPLANATION, 2, 4)
    with interruptible(), errors_in_one_line():
        texts = tables(*evaluate_model(label_directory, output_directory))
        if not files:
            print(texts[0], flush=True)
        for file, text in zip(files, texts, strict=False):
            try:
                Path(file).write_text(text)  # in place, for it may be a device or a pipe
            except OSError as error:
                error.filename = file  # a full disk names none
                raise


def evaluate_model(label_directory, output_directory):
    """Score the outputs for the label files of a folder.

    Returns classes (texts), AUROC, AUPRC, AUROC of each class (C,), AUPRC of each class, accuracy, F-measure,
    F-measure of each class, Challenge metric; means are over the classes that are not NaN. Raises OSError where
    there are no label files, or no output file for one of them.
    """
    names, weights = load_weights()
    columns = {code: column for column, name in enumerate(names) for code in name.split("|")}
    label_files, output_files = find_files(label_directory, output_directory)
    labels = load_labels(label_files, columns, len(names))
    outputs, scores = load_answers(output_files, columns, len(names))
    auroc, auprc = roc_and_pr_areas(labels, scores)
    measures = f_measures(labels, outputs)
    return (
        ["|".join(sorted(name.split("|"))) for name in names],
        nan_mean(auroc),
        nan_mean(auprc),
        auroc,
        auprc,
        accuracy(labels, outputs),
        nan_mean(measures),
        measures,
        challenge_score(labels, outputs, weights),
    )


def tables(classes, auroc, auprc, auroc_classes, auprc_classes, right, measure, measure_classes, metric):
    """Return the text of the scores and that of the classes' scores, with three decimals."""

    def row(values):
        return ",".join(f"{value:.3f}" for value in values)

    return (
        "AUROC,AUPRC,Accuracy,F-measure,Challenge metric\n" + row((auroc, auprc, right, measure, metric)),
        f"Classes,{','.join(classes)}\nAUROC,{row(auroc_classes)}\nAUPRC,{row(auprc_classes)}\n"
        f"F-measure,{row(measure_classes)}",
    )


def find_files(label_directory: str | os.PathLike, output_directory: str | os.PathLike) -> tuple[list[str], list[str]]:
    """Find the label files in a folder and nested below it, and the output file of each.

    The output file of p001/ecg.hea is p001/ecg.csv below the output folder. Links to folders are followed
    (ecg.runtime.files). A link that leads nowhere is reported on standard error, unless it is a label file.

    Args:
        label_directory: Folder of label files, which are named *.hea in any case.
        output_directory: Folder of output files.

    Returns:
        The paths of the label files, sorted by their path below the folder, and of their output files.

    Raises:
        OSError: There is no label file, or one cannot be read, has no output file, or shares it with another.
    """
    files, errors = walk_files(label_directory)
    for error in errors:
        if not os.path.islink(error.filename) or is_header(os.path.basename(error.filename)):
            raise error
        print(escape_unprintable(f"{error.filename}: {error.strerror}"), file=sys.stderr)
    names = [file for file in files if is_header(file.rpartition("/")[2])]
    if not names:
        raise FileNotFoundError(f"{label_directory}: no label files, which are named *.hea, in this folder or below it")
    outputs = {}
    for name in names:
        first = outputs.setdefault(f"{name[:-4]}.csv", name)
        if first is not name:
            raise FileExistsError(
                f"{label_directory}: label files {first} and {name} would have the same output file {name[:-4]}.csv"
            )
    there = find_outputs(output_directory, {name.rpartition("/")[0] for name in names})
    for output, name in outputs.items():
        if output not in there:
            raise FileNotFoundError(f"output file {output} not found in {output_directory} for label file {name}")
    labels_at, outputs_at = (os.path.join(folder, "") for folder in (label_directory, output_directory))
    return [labels_at + name for name in names], [outputs_at + output for output in outputs]


def find_outputs(output_directory: str | os.PathLike, folders: set[str]) -> set[str]:
    """Return the paths of all that is not a folder in the output folder and in some folders below it.

    Args:
        output_directory: The output folder.
        folders: Paths below it, "" for the folder itself. One that is missing holds no files.

    Raises:
        OSError: The output folder or one of the others cannot be listed.
    """
    found = set()
    for folder in sorted({"", *folders}):
        prefix = f"{folder}/" if folder else ""
        try:
            with os.scandir(os.path.join(output_directory, folder) if folder else output_directory) as entries:
                found |= {prefix + entry.name for entry in entries if not entry.is_dir()}
        except (FileNotFoundError, NotADirectoryError):
            if not folder:
                raise
    return found


def read(file):
    """Return a file's text; only its ASCII part matters, and Latin-1 reads any byte."""
    number = os.open(file, os.O_RDONLY)  # open() takes longer, which counts where files are many and small
    try:
        data = b""
        while more := os.read(number, CHUNK):
            data += more
    finally:
        os.close(number)
    return data.decode("latin-1")


def load_labels(files, columns, classes):
    """Return which classes the Dx lines of the label files name, by the codes' columns: (N, C) bool."""

    def named(tail):
        row = np.zeros(classes, bool)
        row[[columns[code] for code in parse_codes(tail) if code in columns]] = True
        return row

    return once_each(named, (from_diagnoses(read(file)) for file in files))


def from_diagnoses(text):
    """Return a header's text from the line on that has the first "Dx", or its end where none has.

    The lines before it tell recordings apart; the rest many have in common.
    """
    return text[text.rfind("\n", 0, text.lower().find("dx")) + 1 :]


def once_each(parse, texts):
    """Return the array of what the texts are parsed to, of which equal ones are parsed once."""
    places = {}
    rows = [places.setdefault(text, len(places)) for text in texts]
    return np.array([parse(text) for text in places])[rows]


def load_answers(files, columns, classes):
    """Return the binary answers, (N, C) bool, and the scores, (N, C) float64, of the output files.

    A class has what the entries that share a code with it have: binary any of them, score their mean; 0 where there
    is no such entry. A line that ends before its entry has 0 there, and so does a score that is not finite.
    """
    groups = {}  # by the line of codes: as a rule all files have the same
    for row, file in enumerate(files):
        _, codes, answers, scores = (read(file).split("\n", 4) + [""] * 4)[:4]
        groups.setdefault(codes, []).append((row, answers, scores))
    outputs, means = np.zeros((len(files), classes), bool), np.zeros((len(files), classes))
    for codes, group in groups.items():
        rows, answers, scores = map(list, zip(*group, strict=True))
        shared = shared_codes(codes, columns, classes)
        outputs[rows] = once_each(partial(answered, shared=shared), answers)
        values = numbers(scores, len(shared))
        for column in np.flatnonzero(shared.any(axis=0)):
            means[rows, column] = mean_of_rows(np.take(values, np.flatnonzero(shared[:, column]), axis=1))
    return outputs, means


def mean_of_rows(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row of an array (N, K) in C order, to the bit what np.mean gives for the row alone."""
    with np.errstate(over="ignore"):
        return values[:, 0] if values.shape[1] == 1 else values.mean(axis=1)


def shared_codes(codes, columns, classes):
    """Return which entries of a line of codes share one with which classes: (K, C) bool."""
    entries = [entry.split("|") for entry in codes.split(",")]
    shared = np.zeros((len(entries), classes), bool)
    for row, names in zip(shared, entries, strict=True):
        row[[columns[name.strip()] for name in names if name.strip() in columns]] = True
    return shared


def answered(line, shared):
    """Return which classes a line of binary answers says are present, by the entries that share a code: (C,) bool."""
    return np.array(padded([is_positive(entry) for entry in line.split(",")], len(shared)), bool) @ shared


def numbers(lines, width):
    """Return the first so many scores of each line: (N, width) float64, 0 where they are missing or not finite."""
    values = None
    if all(lines) and "".join(lines).isprintable():  # loadtxt leaves out empty lines, and takes controls for spaces
        with suppress(ValueError):  # an entry is no number, or a line has more entries than another
            values = np.loadtxt(lines, delimiter=",", comments=None, ndmin=2)
    if values is None or values.shape[1] != width:
        entries = (padded(line.split(","), width) for line in lines)
        values = np.array([[float(entry) if is_number(entry) else 0.0 for entry in row] for row in entries])
    return np.where(np.isfinite(values), values, 0.0)


def padded(values, width):
    """Return the first `width` values, with zeros where there are fewer."""
    return values if len(values) == width else (values + [0] * (width - len(values)))[:width]


@lru_cache(maxsize=4096)
def is_positive(entry):
    """Return whether a binary answer is positive: a number equal to 1, or a word for true."""
    entry = entry.strip()
    return entry in TRUE or (is_finite_number(entry) and float(entry) == 1)


if __name__ == "__main__":
    run_program(main)
