"""Read and write output files, and score them by the Challenge's rules."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ecg.data.class_tables import ClassTable
from ecg.data.corrections import correct_labels, load_corrections, match_corrections
from ecg.data.headers import parse_codes
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.ptb_xl import format_comments, select_resolution
from ecg.data.records import is_header, record_name
from ecg.evaluation.metrics import (
    accuracy,
    challenge_score,
    f_measures,
    metric_name,
    nan_mean,
    roc_and_pr_areas,
)
from ecg.runtime.console import escape_unprintable
from ecg.runtime.files import atomic_path, walk_files

TRUE = ("True", "true", "T", "t")
CHUNK = 2**16  # bytes read at once
Scores = tuple[list[str], float, float, np.ndarray, np.ndarray, float, float, np.ndarray, float]


def score_outputs(
    label_directory: str | os.PathLike,
    output_directory: str | os.PathLike,
    weights: np.ndarray | None = None,
    corrections: str | Path | None = None,
    classes: ClassTable = CHALLENGE_CLASSES,
) -> Scores:
    """Score the outputs for the label files of a folder.

    Args:
        label_directory: Folder of headers.
        output_directory: Folder of output files.
        weights: Credit of each prediction in the metric, (C, C), labels by row; that of the classes if None.
        corrections: Folder of reviews (`ecg.data.reviews`), which replace the headers' labels. None: there are none.
        classes: The classes that are scored.

    Returns:
        Classes, mean AUROC, mean AUPRC, AUROC of each class (C,), AUPRC of each class (C,), accuracy, mean F-measure,
        F-measure of each class (C,), Challenge metric. The means are over the classes that are not NaN.

    Raises:
        OSError: There are no label files, or no output file for one of them.
        RecordError: The corrections cannot be used.
    """
    class_of_code, size = classes.evaluated_class_of_code, len(classes)
    label_files, output_files = find_files(label_directory, output_directory)
    labels = load_labels(label_files, class_of_code, size)
    if corrections is not None:
        records = [record_name(Path(file).relative_to(label_directory)) for file in label_files]
        votes = load_corrections(corrections, records, classes)
        reviewed = match_corrections(votes, records, labels, classes)
        labels = correct_labels(labels, reviewed.verdicts)
    outputs, scores = load_outputs(output_files, class_of_code, size)
    auroc, auprc = roc_and_pr_areas(labels, scores)
    measures = f_measures(labels, outputs)
    return (
        ["|".join(sorted(diagnosis.codes)) for diagnosis in classes.scored],
        float(nan_mean(auroc)),
        float(nan_mean(auprc)),
        auroc,
        auprc,
        accuracy(labels, outputs),
        float(nan_mean(measures)),
        measures,
        challenge_score(labels, outputs, classes.make_weight_array() if weights is None else weights, classes.sinus),
    )


def format_scores(scores: Scores, metric_title: str = metric_name()) -> tuple[str, str]:
    """Return the scores, and those of the classes, as CSV with three decimals.

    Args:
        scores: What `score_outputs` returns.
        metric_title: Name of the metric.
    """
    classes, auroc, auprc, auroc_classes, auprc_classes, right, measure, measure_classes, metric = scores

    def row(values: Iterable[float]) -> str:
        return ",".join(f"{value:.3f}" for value in values)

    return (
        f"AUROC,AUPRC,Accuracy,F-measure,{metric_title}\n{row((auroc, auprc, right, measure, metric))}",
        f"Classes,{','.join(classes)}\nAUROC,{row(auroc_classes)}\nAUPRC,{row(auprc_classes)}\n"
        f"F-measure,{row(measure_classes)}",
    )


def find_files(label_directory: str | os.PathLike, output_directory: str | os.PathLike) -> tuple[list[str], list[str]]:
    """Find the label files in a folder and below it, and the output file of each.

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
    used = select_resolution({name[:-4]: name for name in names})
    names = [name for name in names if name[:-4] in used]
    if not names:
        raise FileNotFoundError(f"{label_directory}: no label files, which are named *.hea, in this folder or below it")
    outputs: dict[str, str] = {}
    for name in names:
        first = outputs.setdefault(f"{name[:-4]}.csv", name)
        if first is not name:
            raise FileExistsError(
                f"{label_directory}: label files {first} and {name} would have the same output file {name[:-4]}.csv"
            )
    existing = find_outputs(output_directory, {name.rpartition("/")[0] for name in names})
    for output, name in outputs.items():
        if output not in existing:
            raise FileNotFoundError(f"output file {output} not found in {output_directory} for label file {name}")
    labels_at, outputs_at = (os.path.join(folder, "") for folder in (label_directory, output_directory))
    return [labels_at + name for name in names], [outputs_at + output for output in outputs]


def find_outputs(output_directory: str | os.PathLike, folders: set[str]) -> set[str]:
    """List the files in the output folder and in some folders below it.

    Args:
        output_directory: The output folder.
        folders: Paths below it, "" for the folder itself. A missing one has no files.

    Returns:
        Paths below the output folder of everything that is not a folder.

    Raises:
        OSError: The output folder or one of the others cannot be listed.
    """
    directory, outputs = os.fspath(output_directory), set()
    for folder in sorted({"", *folders}):
        prefix = f"{folder}/" if folder else ""
        try:
            with os.scandir(os.path.join(directory, folder) if folder else directory) as entries:
                outputs |= {prefix + entry.name for entry in entries if not entry.is_dir()}
        except (FileNotFoundError, NotADirectoryError):
            if not folder:
                raise
    return outputs


def read_text(file: str) -> str:
    """Read a file as Latin-1, which accepts any byte; only ASCII matters."""
    number = os.open(file, os.O_RDONLY)  # open() is slower, which matters with many small files
    try:
        data = b""
        while more := os.read(number, CHUNK):
            data += more
    finally:
        os.close(number)
    return data.decode("latin-1")


def read_label_text(file: str) -> str:
    """Read a label file, see `read_text`.

    One of PTB-XL gets its labels from the table of PTB-XL.

    Raises:
        ValueError: That table cannot be read.
    """
    text = read_text(file)
    return text + format_comments(Path(file), text)


def load_labels(files: list[str], class_of_code: Mapping[str, int], n_classes: int) -> np.ndarray:
    """Return the classes that the Dx lines of label files name: (N, C) bool."""

    def parse(text: str) -> np.ndarray:
        row = np.zeros(n_classes, bool)
        row[[class_of_code[code] for code in parse_codes(text) if code in class_of_code]] = True
        return row

    return parse_unique(parse, (from_diagnoses(read_label_text(file)) for file in files))


def from_diagnoses(text: str) -> str:
    """Return a header from the first line with "Dx" on, or its end if there is none.

    The lines before differ between recordings; many recordings share the rest.
    """
    return text[text.rfind("\n", 0, text.lower().find("dx")) + 1 :]


def parse_unique(parse: Callable[[str], np.ndarray], texts: Iterable[str]) -> np.ndarray:
    """Parse strings into rows of an array, equal ones only once."""
    numbers: dict[str, int] = {}
    rows = [numbers.setdefault(text, len(numbers)) for text in texts]
    return np.array([parse(text) for text in numbers])[rows]


def load_outputs(files: list[str], class_of_code: Mapping[str, int], n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read output files.

    A class gets the values of the entries that share a code with it: positive if one of them is, and the mean of their
    scores. It gets 0 without such an entry. A missing entry, and a score that is not finite, count as 0.

    Returns:
        Binary outputs (N, C) bool and scores (N, C) float64.
    """
    groups: dict[str, list[tuple[int, str, str]]] = {}  # by the line of codes, which is usually the same in all files
    for row, file in enumerate(files):
        _, codes, binary, scores = (read_text(file).split("\n", 4) + [""] * 4)[:4]
        groups.setdefault(codes, []).append((row, binary, scores))
    outputs, means = np.zeros((len(files), n_classes), bool), np.zeros((len(files), n_classes))
    for codes, group in groups.items():
        rows, binaries, score_lines = map(list, zip(*group, strict=True))
        shared = shared_codes(codes, class_of_code, n_classes)
        outputs[rows] = parse_unique(partial(parse_outputs, shared=shared), binaries)
        values = parse_scores(score_lines, len(shared))
        for index in np.flatnonzero(shared.any(axis=0)):
            means[rows, index] = mean_of_rows(np.take(values, np.flatnonzero(shared[:, index]), axis=1))
    return outputs, means


def mean_of_rows(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row of (N, K), bit-identical to np.mean of one row."""
    with np.errstate(over="ignore"):
        return values[:, 0] if values.shape[1] == 1 else values.mean(axis=1)


def shared_codes(codes: str, class_of_code: Mapping[str, int], n_classes: int) -> np.ndarray:
    """Return which of K entries of a line share a code with a class: (K, C) bool."""
    entries = [entry.split("|") for entry in codes.split(",")]
    shared = np.zeros((len(entries), n_classes), bool)
    for row, names in zip(shared, entries, strict=True):
        row[[class_of_code[name.strip()] for name in names if name.strip() in class_of_code]] = True
    return shared


def parse_outputs(line: str, shared: np.ndarray) -> np.ndarray:
    """Return the classes that a line of binary outputs has as positive: (C,) bool."""
    return np.array(pad([is_positive(entry) for entry in line.split(",")], len(shared)), bool) @ shared


def parse_scores(lines: list[str], width: int) -> np.ndarray:
    """Return the first scores of each line, 0 if missing or not finite: (N, width)."""
    values = None
    if (
        all(lines) and "".join(lines).isprintable()
    ):  # loadtxt skips empty lines, and takes control characters for spaces
        with suppress(ValueError):  # an entry is no number, or lines have different lengths
            values = np.loadtxt(lines, delimiter=",", comments=None, ndmin=2)
    if values is None or values.shape[1] != width:
        entries = (pad(line.split(","), width) for line in lines)
        values = np.array([[parse_number(entry) for entry in row] for row in entries])
    return np.where(np.isfinite(values), values, 0.0)


def pad(values: list[Any], width: int) -> list[Any]:
    """Return the first `width` values, with zeros for missing ones."""
    return values if len(values) == width else (values + [0] * (width - len(values)))[:width]


def parse_number(entry: str | float) -> float:
    """Return the number that an entry is, or 0 if it is none."""
    try:
        return float(entry)
    except ValueError:
        return 0.0


@lru_cache(maxsize=4096)
def is_positive(entry: str) -> bool:
    """Return whether a binary output is a number equal to 1 or a word for true."""
    entry = entry.strip()
    return entry in TRUE or parse_number(entry) == 1


def save_outputs(
    output_file: str | os.PathLike,
    recording_id: str,
    classes: Iterable[str],
    labels: Iterable[object],
    probabilities: Iterable[object],
) -> None:
    """Write an output file atomically: the recording, classes, labels, probabilities.

    Each is a line, and the first begins with "#". Bytes of a file's name that are not UTF-8 are written as they are.
    """
    lines = [f"#{recording_id}", *(",".join(map(str, values)) for values in (classes, labels, probabilities))]
    with atomic_path(output_file) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
