"""Write an output file for each recording of a folder, and report what failed.

The Challenge's script and the command `predict` share this, so that they write the same files.
"""

import errno
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ecg.data.headers import RecordError, parse_header, read_header_text
from ecg.data.leads import describe_missing_leads, find_lead_sets
from ecg.data.records import find_records, read_raw_signal
from ecg.data.unread_files import hint_at_conversion
from ecg.evaluation.outputs import save_outputs
from ecg.runtime.console import describe_error, escape_unprintable, remove_record_name

# Faults of a disk or a folder that the next recording meets, too.
DISK_FAULTS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
CLEAR = "\r\033[K"  # wipes the moving line of a terminal
Result = TypeVar("Result")
Outputs = tuple[Iterable[str], Iterable[object], Iterable[object]]  # classes, labels and probabilities


class RecordResult(NamedTuple):
    """What became of a recording.

    Attributes:
        repairs: Kinds of the repairs of its files.
        reason: Why it has no prediction; None if it has one.
    """

    repairs: tuple[str, ...]
    reason: str | None


class ModelFunctions(NamedTuple):
    """How recordings are predicted.

    Attributes:
        find_model: Returns the model for the names of a recording's leads, which fill a lead set. An exception says why
            there is none.
        run_model: Predicts a recording by the model, the text of its header and its stored integers (L, T).
    """

    find_model: Callable[[tuple[str, ...]], Any]
    run_model: Callable[[Any, str, np.ndarray], Outputs]


def find_recordings(folder: str | os.PathLike) -> tuple[list[Path], list[tuple[str, str]]]:
    """Find the headers in a folder and below it, at least one.

    Returns:
        The headers, sorted, and pairs of a path below the folder and the reason why it is not read.

    Raises:
        OSError: The folder cannot be listed, or has no header.
    """
    excluded: list[tuple[str, str]] = []
    headers = find_records(folder, excluded)
    if not headers:
        missing = f"{folder}: no recordings, which are files named *.hea, in this folder or below it"
        raise FileNotFoundError(missing + hint_at_conversion(excluded))
    return headers, excluded


def make_output_folder(folder: str | os.PathLike) -> None:
    """Make a folder, and check that a file can be written into it.

    Raises:
        OSError: It cannot; the error names the folder.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=os.fspath(folder)):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(folder)) from error


def predict_to_file(path: Path, output_file: Path, functions: ModelFunctions) -> RecordResult:
    """Predict a recording, and write its output file; an empty one if it fails.

    Args:
        path: The path of its header.
        output_file: The file.
        functions: How it is predicted.

    Raises:
        OSError: The disk is full or read-only, so that all other recordings would fail, too.
    """
    repairs, reason = call_safely(_predict_record, path, output_file, functions)
    if reason:
        _, unwritten = call_safely(_save_prediction, output_file, path.stem, ((), (), ()))
        reason += f"; no empty output either: {unwritten}" if unwritten not in (None, reason) else ""
        reason = remove_record_name(reason, path)
    return RecordResult(repairs or (), reason)


def call_safely(function: Callable[..., Result], *arguments: object) -> tuple[Result | None, str | None]:
    """Call a function; return its value, and the reason if it failed, or None.

    Raises:
        OSError: The reason is the disk; see DISK_FAULTS.
    """
    try:
        return function(*arguments), None
    except Exception as error:  # noqa: BLE001 - the Challenge's rule: whatever fails in an entry is an empty output
        if isinstance(error, OSError) and error.errno in DISK_FAULTS:
            raise
        return None, describe_error(error)


def report_failure(name: str, reason: str) -> None:
    """Print on standard error why an input has no prediction.

    Args:
        name: Its path below the data folder.
        reason: The reason.
    """
    clear = CLEAR if sys.stderr.isatty() else ""
    print(f"{clear}{escape_unprintable(f'{name}: {reason}')}", file=sys.stderr)


def describe_outcome(count: int, failed: int, repairs: Counter[str]) -> list[str]:
    """Describe what became of all recordings.

    Args:
        count: Number of recordings.
        failed: Number of those that failed.
        repairs: Number of recordings with repairs of each kind.

    Returns:
        Lines for the console.
    """
    kinds = sorted(repairs.items(), key=lambda item: (-item[1], item[0]))
    return [
        f"{count - failed:,} of {count:,} recordings predicted, {failed:,} failed",
        *(f"repaired: {kind} in {number:,} recordings" for kind, number in kinds),
    ]


def _predict_record(path: Path, output_file: Path, functions: ModelFunctions) -> tuple[str, ...]:
    """Predict a recording, write its output file, and return its repairs."""
    text = read_header_text(path)
    header = parse_header(text, path.name)
    if not find_lead_sets(header.lead_names):
        raise RecordError(describe_missing_leads(header.lead_names))
    model = functions.find_model(header.lead_names)
    stored = read_raw_signal(path, header)
    _save_prediction(output_file, header.name, functions.run_model(model, text, stored.samples))
    return stored.warnings


def _save_prediction(output_file: Path, recording_id: str, outputs: Outputs) -> None:
    """Write an output file, and make its folder."""
    output_file.parent.mkdir(parents=True, exist_ok=True)
    save_outputs(output_file, recording_id, *outputs)
