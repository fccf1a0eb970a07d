"""Predict every recording of a folder: python test_model.py MODEL DATA OUTPUTS."""

import errno
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ecg.data.headers import RecordError, parse_header, read_header, read_header_text
from ecg.data.leads import describe_missing_leads, find_lead_sets
from ecg.data.records import find_records, hint_at_conversion, read_raw_signal
from ecg.runtime.console import (
    Progress,
    describe_error,
    escape_unprintable,
    interruptible,
    read_arguments,
    remove_record_name,
)
from helper_code import save_outputs, sort_leads
from team_code import load_model, run_model

USAGE = "usage: python test_model.py MODEL DATA OUTPUTS"
EXPLANATION = """Predict every recording in the folder DATA and nested below it, with the models in the folder MODEL.
For DATA/NAME.hea it writes OUTPUTS/NAME.csv."""
# Faults of a disk or a folder that the next recording meets, too.
DISK_FAULTS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
CLEAR = "\r\033[K"  # wipes the moving line of a terminal
Result = TypeVar("Result")


class LoadedModel(NamedTuple):
    """A model for a lead set, or the reason why there is none."""

    model: Any  # what team_code.load_model returns
    reason: str | None


def main(arguments: list[str]) -> None:
    """Write an output file for each recording; exit with 1 if all of them failed."""
    folders = read_arguments(arguments, USAGE, EXPLANATION, 3)
    with interruptible():
        predict_folder(*folders)


def predict_folder(model_directory: str, data_directory: str, output_directory: str) -> None:
    """Predict the recordings of a folder, and exit; see `main`."""
    headers, excluded = find_headers(data_directory)
    models = load_models(model_directory, headers)
    make_writable_folder(output_directory)
    for excluded_path, reason_excluded in excluded:
        report(f"{excluded_path}: {reason_excluded}")
    failed, repairs = 0, Counter[str]()
    with Progress("predictions", len(headers), "recordings") as progress:
        for header in headers:
            name = header.relative_to(data_directory)
            output_file = Path(output_directory, name.with_suffix(".csv"))
            warnings, reason = call_safely(predict_record, header, models, output_file)
            repairs.update(warnings or ())
            if reason:
                failed += 1
                _, unwritten = call_safely(save_prediction, output_file, header.stem, (), (), ())
                reason += f"; no empty output either: {unwritten}" if unwritten not in (None, reason) else ""
                reason = remove_record_name(reason, header)
                report(f"{name.as_posix()}: {reason}", CLEAR if progress.terminal else "")
            progress.advance()
    print(f"{len(headers) - failed:,} of {len(headers):,} recordings predicted, {failed:,} failed")
    for loaded in models.values():
        repairs.update(getattr(loaded.model, "repaired", {}))
    for kind, count in repairs.items():
        print(f"repaired: {kind} in {count:,} recordings")
    sys.exit(failed == len(headers))


def report(line: str, before: str = "") -> None:
    """Print a line about an input on standard error."""
    print(f"{before}{escape_unprintable(line)}", file=sys.stderr)


def find_headers(folder: str) -> tuple[list[Path], list[tuple[str, str]]]:
    """Find the headers in a folder and below; exit with a reason if there are none.

    Returns:
        The headers, sorted, and pairs of a path below the folder and the reason why it is not read.
    """
    excluded: list[tuple[str, str]] = []
    try:
        headers = find_records(folder, excluded)
    except OSError as error:
        sys.exit(escape_unprintable(describe_error(error)))
    if not headers:
        missing = f"{folder}: no recordings, which are files named *.hea, in this folder or below it"
        sys.exit(escape_unprintable(missing + hint_at_conversion(excluded)))
    return headers, excluded


def make_writable_folder(folder: str) -> None:
    """Make a folder; exit with the reason if no file can be written into it."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        sys.exit(escape_unprintable(f"{folder}: {error.strerror}"))


def load_models(folder: str, headers: list[Path]) -> dict[tuple[int, ...], LoadedModel]:
    """Load the models for the leads of the headers, each once.

    The lead sets that a header's leads contain decide which model predicts it. Exits with the reason if no recording
    that contains a lead set has a model.
    """
    models: dict[tuple[int, ...], LoadedModel] = {}
    with Progress("models", len(headers), "headers") as progress:
        for header in headers:
            progress.advance()
            try:
                leads = read_header(header).lead_names
            except (RecordError, OSError):
                continue  # it fails, and its reason is reported, when its turn comes
            filled = find_lead_sets(leads)
            if filled not in models:
                models[filled] = LoadedModel(*call_safely(load_model, folder, sort_leads(leads)))
    reasons = [loaded.reason or "" for filled, loaded in models.items() if filled]
    if reasons and all(loaded.reason for loaded in models.values()):
        sys.exit(escape_unprintable(reasons[0] if folder in reasons[0] else f"{folder}: {reasons[0]}"))
    return models


def predict_record(path: Path, models: dict[tuple[int, ...], LoadedModel], output_file: Path) -> tuple[str, ...]:
    """Predict a recording, write its output file, and return warnings about it."""
    text = read_header_text(path)
    header = parse_header(text, path.name)
    filled = find_lead_sets(header.lead_names)
    model, reason = models[filled]
    if reason:
        raise RecordError(reason if filled else describe_missing_leads(header.lead_names))
    stored = read_raw_signal(path, header)
    outputs = run_model(model, text, stored.samples)
    save_prediction(output_file, header.name, *outputs)
    return stored.warnings


def save_prediction(
    output_file: Path,
    recording_id: str,
    classes: Iterable[str],
    labels: Iterable[object],
    probabilities: Iterable[object],
) -> None:
    """Write an output file, and make its folder; see helper_code.save_outputs."""
    output_file.parent.mkdir(parents=True, exist_ok=True)
    save_outputs(output_file, recording_id, classes, labels, probabilities)


def call_safely(function: Callable[..., Result], *arguments: object) -> tuple[Result | None, str | None]:
    """Call a function; return its value, and the reason if it failed, or None.

    Exits if the reason is the disk.
    """
    try:
        return function(*arguments), None
    except Exception as error:  # noqa: BLE001 - the Challenge's rule: whatever fails in an entry is an empty output
        if isinstance(error, OSError) and error.errno in DISK_FAULTS:
            sys.exit(escape_unprintable(describe_error(error)))
        return None, describe_error(error)


if __name__ == "__main__":
    main(sys.argv[1:])
