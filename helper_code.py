"""Functions for entries to the Challenge: headers, recordings, leads and outputs.

For a well-formed header of the Challenge they return the same as the Challenge's own functions. They differ on purpose
if a header has no frequency, gains or baselines (then they return WFDB's defaults), if it is in another dialect that
`ecg.data.headers` reads, and if it cannot be read (then they raise `ecg.data.headers.HeaderError`).
"""

import math
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ecg.data.headers import comment_values, parse_header, read_header_text
from ecg.data.leads import LEADS, standard_name
from ecg.data.records import read_matrix, read_record, resolve_case
from ecg.evaluation.outputs import save_outputs as save_outputs

# An entry calls many functions with one header, which is parsed only once.
_header = lru_cache(maxsize=8)(partial(parse_header, as_written=True))


def is_number(x: object) -> bool:
    """Return whether x is a number or a string of one."""
    try:
        float(x)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return False
    return True


def is_integer(x: object) -> bool:
    """Return whether x is an integer or a string of one."""
    return is_number(x) and float(x).is_integer()  # type: ignore[arg-type]


def is_finite_number(x: object) -> bool:
    """Return whether x is a finite number or a string of one."""
    return is_number(x) and math.isfinite(float(x))  # type: ignore[arg-type]


def sort_leads(leads: Iterable[str]) -> tuple[str, ...]:
    """Sort lead names in the standard order, with unknown leads at the end.

    Standard leads may have any of their names (ecg.data.leads.standard_name). Names are not changed.
    """
    rank = {lead: number for number, lead in enumerate(LEADS)}
    return tuple(sorted(leads, key=lambda lead: rank.get(standard_name(lead), len(LEADS))))


def find_challenge_files(data_directory: str | os.PathLike) -> tuple[list[str], list[str]]:
    """Find the headers in a folder, not below it, and their .mat files.

    The extensions may be in any case. If a recording has two headers or two .mat files, the one in lower case counts.
    Hidden files and headers without a .mat file are ignored.

    Args:
        data_directory: The folder.

    Returns:
        The paths of the headers, sorted, and of the .mat file of each.
    """
    with os.scandir(os.fspath(data_directory)) as entries:
        names = sorted(entry.name for entry in entries if entry.name[0] != "." and os.path.isfile(entry.path))
    headers, recordings = (_by_recording(names, extension) for extension in (".hea", ".mat"))
    pairs = sorted((name, recordings[recording]) for recording, name in headers.items() if recording in recordings)
    header_files, recording_files = (
        [os.path.join(data_directory, pair[index]) for pair in pairs] for index in range(2)
    )
    return header_files, recording_files


def _by_recording(names: list[str], extension: str) -> dict[str, str]:
    """Map recordings to their files with an extension in any case."""
    files: dict[str, str] = {}
    for name in names:
        recording, ending = name[: -len(extension)], name[-len(extension) :]
        if ending == extension or (ending.lower() == extension and recording not in files):
            files[recording] = name
    return files


def load_header(header_file: str | os.PathLike) -> str:
    """Read a header, which the functions named get_... take.

    Raises:
        ecg.data.headers.HeaderError: It cannot be read.
    """
    return read_header_text(header_file)


def load_recording(
    recording_file: str | os.PathLike, header: str | None = None, leads: Sequence[str] | None = None, key: str = "val"
) -> np.ndarray:
    """Read the stored samples of a recording.

    Args:
        recording_file: A .mat file, or any other file with a header of its name. Its extension may be in any case.
        header: The header, as `load_header` returns it.
        leads: Names of the wanted leads; all leads unless both are given.
        key: Name of the matrix in a .mat file.

    Returns:
        (L, T), rows in the order of the header or of `leads`.

    Raises:
        ecg.data.headers.RecordError: The recording cannot be read.
    """
    file = Path(recording_file)
    if file.suffix.lower() == ".mat":
        recording = read_matrix(file, key)
    else:
        recording = read_record(resolve_case(file.with_suffix(".hea")))[1]
    return choose_leads(recording, header, leads) if header and leads else recording


def choose_leads(recording: np.ndarray, header: str, leads: Sequence[str]) -> np.ndarray:
    """Select leads of a recording: (L, T), zeros for a lead that is missing.

    Standard leads may have any of their names. A lead that is written as in `leads` goes before one of another
    spelling, and the first of several leads with one name counts.
    """
    rows, is_there = _rows(header, leads)
    chosen = np.zeros((len(leads), np.shape(recording)[1]), recording.dtype)
    chosen[is_there] = recording[rows]
    return chosen


def get_recording_id(header: str) -> str:
    """Return the recording's name as written."""
    return _header(header).name


def get_leads(header: str) -> tuple[str, ...]:
    """Return the names of the leads as written, in the file's order."""
    return _header(header).lead_names


def get_age(header: str) -> float | None:
    """Return the age in years; NaN if it is not a number, None if it is missing."""
    ages = comment_values(header, "Age")
    if not ages:
        return None
    return float(ages[-1]) if is_number(ages[-1]) else math.nan


def get_sex(header: str) -> str | None:
    """Return the sex as written; None if it is missing."""
    sexes = comment_values(header, "Sex")
    return sexes[-1].strip() if sexes else None


def get_num_leads(header: str) -> float:
    """Return the number of leads."""
    return float(len(_header(header).leads))


def get_frequency(header: str) -> float:
    """Return the sampling frequency in Hz; WFDB's default of 250 if it is missing."""
    return _header(header).sampling_frequency


def get_num_samples(header: str) -> float | None:
    """Return the number of samples of a lead; None if it is missing or 0.

    WFDB makes no difference between the two.
    """
    samples = _header(header).samples
    return float(samples) if samples else None


def get_adc_gains(header: str, leads: Sequence[str]) -> np.ndarray:
    """Return the gains as written, in integers per unit: (L,) float64.

    A lead that is missing has 0, and a line without gain has WFDB's default of 200. A number in brackets, as in
    1000(0)/mV, is the baseline.
    """
    return _values(header, leads, "gain")


def get_baselines(header: str, leads: Sequence[str]) -> np.ndarray:
    """Return the integers for zero: (L,) float64, 0 for a lead that is missing.

    This is the ADC zero, or the number in brackets after the gain if there is one, as WFDB has it.
    """
    return _values(header, leads, "baseline")


def get_labels(header: str) -> list[str]:
    """Return the diagnoses in the order and as often as they are written."""
    return [code.strip() for codes in comment_values(header, "Dx") if codes for code in codes.split(",")]


def load_outputs(
    output_file: str | os.PathLike,
) -> tuple[str | None, tuple[str, ...], tuple[str, ...], tuple[float, ...]]:
    """Read an output file.

    Returns:
        The recording, the classes, the labels and the probabilities, NaN if one is not finite. An empty line gives a
        tuple of one empty string or one NaN.
    """
    text = Path(output_file).read_text(encoding="utf-8", errors="surrogateescape")
    recording, *lines = (text.splitlines() + 4 * [""])[:4]
    classes, labels, probabilities = (tuple(entry.strip() for entry in line.split(",")) for line in lines)
    numbers = tuple(float(entry) if is_finite_number(entry) else math.nan for entry in probabilities)
    return recording.strip().removeprefix("#") or None, classes, labels, numbers


def _rows(header: str, leads: Sequence[str]) -> tuple[list[int], np.ndarray]:
    """Return the header's rows of leads, and which of the leads it has: (L,) bool."""
    written = get_leads(header)
    row_of = {name: row for row, name in reversed(list(enumerate(map(standard_name, written))))}
    row_of |= {name: row for row, name in reversed(list(enumerate(written)))}  # a name as written is itself
    rows = [row_of.get(lead, row_of.get(standard_name(lead))) for lead in leads]
    return [row for row in rows if row is not None], np.array([row is not None for row in rows], bool)


def _values(header: str, leads: Sequence[str], name: str) -> np.ndarray:
    rows, is_there = _rows(header, leads)
    values = np.zeros(len(leads))
    values[is_there] = [getattr(_header(header).leads[row], name) for row in rows]
    return values
