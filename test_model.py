"""Predict every recording of a folder: python test_model.py MODEL DATA OUTPUTS."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from ecg.commands.output_files import (
    ModelFunctions,
    call_safely,
    describe_outcome,
    find_recordings,
    make_output_folder,
    predict_to_file,
    report_failure,
)
from ecg.data.headers import RecordError, read_header
from ecg.data.leads import find_lead_sets
from ecg.runtime.console import Progress, errors_in_one_line, escape_unprintable, interruptible, read_arguments
from helper_code import sort_leads
from team_code import load_model, run_model

USAGE = "usage: python test_model.py MODEL DATA OUTPUTS"
EXPLANATION = """Predict every recording in the folder DATA and nested below it, with the models in the folder MODEL.
For DATA/NAME.hea it writes OUTPUTS/NAME.csv."""


class LoadedModel(NamedTuple):
    """A model for a lead set, or the reason why there is none."""

    model: Any  # what team_code.load_model returns
    reason: str | None


def main(arguments: list[str]) -> None:
    """Write an output file for each recording; exit with 1 if all of them failed."""
    folders = read_arguments(arguments, USAGE, EXPLANATION, 3)
    with interruptible(), errors_in_one_line():
        predict_folder(*folders)


def predict_folder(model_directory: str, data_directory: str, output_directory: str) -> None:
    """Predict the recordings of a folder, and exit; see `main`."""
    headers, excluded = find_recordings(data_directory)
    models = load_models(model_directory, headers)
    make_output_folder(output_directory)
    for excluded_path, reason_excluded in excluded:
        report_failure(excluded_path, reason_excluded)

    def find_model(leads: tuple[str, ...]) -> Any:
        model, reason = models[find_lead_sets(leads)]
        if reason:
            raise RecordError(reason)
        return model

    failed, repairs, functions = 0, Counter[str](), ModelFunctions(find_model, run_model)
    with Progress("predictions", len(headers), "recordings") as progress:
        for header in headers:
            name = header.relative_to(data_directory)
            result = predict_to_file(header, Path(output_directory, name.with_suffix(".csv")), functions)
            repairs.update(result.repairs)
            if result.reason:
                failed += 1
                report_failure(name.as_posix(), result.reason)
            progress.advance()
    for loaded in models.values():
        repairs.update(getattr(loaded.model, "repaired", {}))
    print(*describe_outcome(len(headers), failed, repairs), sep="\n")
    sys.exit(failed == len(headers))


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
            if filled and filled not in models:
                models[filled] = LoadedModel(*call_safely(load_model, folder, sort_leads(leads)))
    reasons = [loaded.reason for loaded in models.values() if loaded.reason]
    if reasons and len(reasons) == len(models):
        sys.exit(escape_unprintable(reasons[0] if folder in reasons[0] else f"{folder}: {reasons[0]}"))
    return models


if __name__ == "__main__":
    main(sys.argv[1:])
