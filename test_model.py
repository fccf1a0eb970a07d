"""Answer for every recording of a folder: python test_model.py MODEL DATA OUTPUTS."""

import errno
import os
import sys
from collections import Counter
from pathlib import Path

from ecg.headers import RecordError, parse_header, read_header, read_header_text
from ecg.leads import lead_sets
from ecg.progress import Progress
from ecg.reasons import printable
from ecg.records import read_signal
from helper_code import save_outputs, sort_leads
from team_code import load_model, run_model

USAGE = "usage: python test_model.py MODEL DATA OUTPUTS"
FAULTS_OF_THE_DISK = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)  # which the next recording meets, too
CLEAR = "\r\033[K"  # wipes the moving line of a terminal


def main(arguments):
    """Write an output file for each recording of the second folder; exit with 1 where all of them failed."""
    if len(arguments) != 3:
        print(USAGE, file=sys.stderr)
        sys.exit(2)
    model_directory, data_directory, output_directory = arguments
    headers = find_headers(data_directory)
    models = load_models(model_directory, headers)
    make_folder(output_directory)
    failed = 0
    with Progress("answers", len(headers), "recordings") as progress:
        for header in headers:
            output_file = Path(output_directory, f"{header.stem}.csv")
            _, reason = attempt(answer, header, models, output_file)
            if reason:
                failed += 1
                _, unwritten = attempt(save_outputs, output_file, header.stem, (), (), ())
                reason += f"; no empty answer either: {unwritten}" if unwritten else ""
                print(f"{CLEAR if progress.terminal else ''}{printable(f'{header.name}: {reason}')}", file=sys.stderr)
            progress.advance()
    print(f"{len(headers) - failed:,} of {len(headers):,} recordings answered, {failed:,} failed")
    for kind, count in sum((getattr(model, "mended", Counter()) for model, _ in models.values()), Counter()).items():
        print(f"mended: {kind} in {count:,} recordings")
    sys.exit(failed == len(headers))


def find_headers(folder):
    """Return the headers of a folder, not below it, sorted; exit with a line that says why where there are none."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        sys.exit(printable(f"{folder}: {error.strerror}"))
    headers = [Path(folder, name) for name in names if name.endswith(".hea") and not name.startswith(".")]
    headers = [header for header in headers if not header.is_dir()]
    return headers or sys.exit(printable(f"{folder}: no recordings, which are files named *.hea, in this folder"))


def make_folder(folder):
    """Make a folder where it is missing; exit with a line that says why it cannot be."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        sys.exit(printable(f"{folder}: {error.strerror}"))


def load_models(folder, headers):
    """Load the models for the leads of the headers, each once: lead sets -> (model, reason why there is none).

    The lead sets that a header's leads fill decide which model is theirs. Exits with the reason where there is none for
    any of them.
    """
    models = {}
    with Progress("models", len(headers), "headers") as progress:
        for header in headers:
            progress.advance()
            try:
                leads = read_header(header).lead_names
            except (RecordError, OSError):
                continue  # it fails, and says so, when its turn comes
            filled = lead_sets(leads)
            if filled not in models:
                models[filled] = attempt(load_model, folder, sort_leads(leads))
    reasons = [reason for _, reason in models.values()]
    if reasons and all(reasons):
        sys.exit(printable(f"{folder}: {reasons[0]}"))
    return models


def answer(path, models, output_file):
    """Run the model of its leads on the record of a header, and write the output file."""
    text = read_header_text(path)
    header = parse_header(text, path.name)
    model, reason = models[lead_sets(header.lead_names)]
    if reason:
        raise LookupError(f"no model for its leads: {reason}")
    save_outputs(output_file, header.name, *run_model(model, text, read_signal(path, header)))


def attempt(function, *arguments):
    """Return what a function returns and None, or None and the reason why it failed; exit where that is the disk."""
    try:
        return function(*arguments), None
    except Exception as error:  # noqa: BLE001 - the Challenge's rule: whatever fails in an entry is an empty answer
        if isinstance(error, OSError) and error.errno in FAULTS_OF_THE_DISK:
            sys.exit(printable(str(error)))
        return None, f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main(sys.argv[1:])
