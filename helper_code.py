"""The names that entries to the Challenge use, on top of `ecg.data.records`: headers, recordings, leads and outputs.

On a well-formed header of the Challenge they answer what the Challenge's own functions do. They differ on purpose
from these where a header is silent about its frequency, gains or baselines (WFDB's defaults), where it is in another
of the dialects that `ecg.data.headers` reads (what it says), and where it cannot be read (`ecg.data.headers.HeaderError`).
"""

import math
import os
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ecg.data.headers import find_comments, parse_header, read_header_text
from ecg.data.leads import LEADS, standard_name
from ecg.data.records import read_matrix, read_record, resolve_case
from ecg.runtime.files import atomic_path

# An entry asks one header after another many questions: each is parsed once.
_header = lru_cache(maxsize=8)(partial(parse_header, as_written=True))


def is_number(x):
    """Return whether x is a number or the text of one."""
    try:
        float(x)
    except (ValueError, TypeError):
        return False
    return True


def is_integer(x):
    """Return whether x is a whole number or the text of one."""
    return is_number(x) and float(x).is_integer()


def is_finite_number(x):
    """Return whether x is a finite number or the text of one."""
    return is_number(x) and math.isfinite(float(x))


def sort_leads(leads):
    """Return lead names as a tuple in the standard order, unknown ones after the known, in their own order.

    Standard leads are known by any of their names (ecg.data.leads.standard_name), and the names stay as they are.
    """
    place = {lead: number for number, lead in enumerate(LEADS)}
    return tuple(sorted(leads, key=lambda lead: place.get(standard_name(lead), len(LEADS))))


def find_challenge_files(data_directory: str | os.PathLike) -> tuple[list[str], list[str]]:
    """Find the headers in a folder, not below it, and their .mat files.

    The extensions may be in any case; of two headers of one recording, or two .mat files, that in lower case counts.
    A header without a .mat file and hidden files are passed over.

    Args:
        data_directory: The folder.

    Returns:
        The paths of the headers, sorted, and of the .mat file of each.
    """
    with os.scandir(data_directory) as entries:
        names = sorted(entry.name for entry in entries if entry.name[0] != "." and os.path.isfile(entry.path))
    headers, recordings = (_by_recording(names, extension) for extension in (".hea", ".mat"))
    pairs = sorted((name, recordings[recording]) for recording, name in headers.items() if recording in recordings)
    columns = ([os.path.join(data_directory, pair[column]) for pair in pairs] for column in range(2))
    return tuple(columns)


def _by_recording(names: list[str], extension: str) -> dict[str, str]:
    """Map names without their extension to the names that have it, in any case, lower case if there are several."""
    found: dict[str, str] = {}
    for name in names:
        recording, ending = name[: -len(extension)], name[-len(extension) :]
        if ending == extension or (ending.lower() == extension and recording not in found):
            found[recording] = name
    return found


def load_header(header_file):
    """Return a header's text: what the functions named get_... take; ecg.data.headers.HeaderError where it has none."""
    return read_header_text(header_file)


def load_recording(recording_file, header=None, leads=None, key="val"):
    """Return the stored integers, (L, T): rows in the header's order, or those of `leads` where both are given.

    A .mat file is read by the matrix's name, `key`; any other file with the header of its name beside it. Both
    extensions may be in any case. Raises ecg.data.headers.RecordError.
    """
    file = Path(recording_file)
    if file.suffix.lower() == ".mat":
        recording = read_matrix(file, key)
    else:
        recording = read_record(resolve_case(file.with_suffix(".hea")))[1]
    return choose_leads(recording, header, leads) if header and leads else recording


def choose_leads(recording, header, leads):
    """Return the rows of a recording for these leads, in their order: (L, T), zeros for a lead it does not hold.

    Standard leads are found by any of their names. Where two leads have one name, the first counts, but a lead whose
    name is written as asked goes before one of another spelling.
    """
    rows, found = _rows(header, leads)
    chosen = np.zeros((len(leads), np.shape(recording)[1]), recording.dtype)
    chosen[found] = recording[rows]
    return chosen


def get_recording_id(header):
    """Return the record's name as the header has it."""
    return _header(header).name


def get_leads(header):
    """Return the names of the leads as the header has them, in the file's order: a tuple."""
    return _header(header).lead_names


def get_age(header):
    """Return the age in years, NaN where it is not a number, None where the header has no line for it."""
    ages = find_comments(header, "Age")
    if not ages:
        return None
    return float(ages[-1]) if is_number(ages[-1]) else math.nan


def get_sex(header):
    """Return the sex as the header has it, None where it has no line for it."""
    return find_comments(header, "Sex")[-1].strip() if find_comments(header, "Sex") else None


def get_num_leads(header):
    """Return the number of leads, a float."""
    return float(len(_header(header).leads))


def get_frequency(header):
    """Return the sampling frequency in Hz, a float; where the header does not say, it is WFDB's 250."""
    return _header(header).sampling_frequency


def get_num_samples(header):
    """Return the number of samples of a lead, a float; None where the header does not say, or says 0.

    By WFDB's rules the two mean the same.
    """
    samples = _header(header).samples
    return float(samples) if samples else None


def get_adc_gains(header, leads):
    """Return the gains as the header has them, in integers for one unit: (L,) float64, 0 for a lead it lacks.

    A number that WFDB's dialect of gains has in brackets, as in 1000(0)/mV, is not part of the gain; where a line
    ends before its gain, that is WFDB's 200.
    """
    return _values(header, leads, "gain")


def get_baselines(header, leads):
    """Return the integers that stand for zero: (L,) float64, 0 for a lead that the header lacks.

    This is the ADC zero, or the number in brackets where the gain has one, which by WFDB's rules takes its place.
    """
    return _values(header, leads, "baseline")


def get_labels(header):
    """Return the diagnoses, as text, in the order and as often as the header has them: a list."""
    return [code.strip() for codes in find_comments(header, "Dx") if codes for code in codes.split(",")]


def save_outputs(output_file, recording_id, classes, labels, probabilities):
    """Write an output file: '#' and the recording, then classes, labels and probabilities, a line each.

    It is never there by half. The bytes of a file's name that are no UTF-8 are written as they are.
    """
    lines = [f"#{recording_id}", *(",".join(map(str, values)) for values in (classes, labels, probabilities))]
    with atomic_path(output_file) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")


def load_outputs(output_file):
    """Read an output file: the recording, classes (text), labels (text) and probabilities (NaN where not finite).

    All but the recording, which comes without its line's end, are tuples, of one empty text or one NaN where the
    answer is empty.
    """
    text = Path(output_file).read_text(encoding="utf-8", errors="surrogateescape")
    recording, *lines = (text.splitlines() + 4 * [""])[:4]
    classes, labels, probabilities = (tuple(entry.strip() for entry in line.split(",")) for line in lines)
    numbers = tuple(float(entry) if is_finite_number(entry) else math.nan for entry in probabilities)
    return recording.strip().removeprefix("#") or None, classes, labels, numbers


def _rows(header, leads):
    """Return the header's row of each lead that it holds, and which of the leads these are: a list, (L,) bool."""
    written = get_leads(header)
    row_of = {name: row for row, name in reversed(list(enumerate(map(standard_name, written))))}
    row_of |= {name: row for row, name in reversed(list(enumerate(written)))}  # a name as written is itself
    rows = [row_of.get(lead, row_of.get(standard_name(lead))) for lead in leads]
    return [row for row in rows if row is not None], np.array([row is not None for row in rows], bool)


def _values(header, leads, name):
    rows, found = _rows(header, leads)
    values = np.zeros(len(leads))
    values[found] = [getattr(_header(header).leads[row], name) for row in rows]
    return values
