"""The names that entries to the Challenge use, on top of `ecg.records`: headers, recordings, leads and outputs.

Where the Challenge's own functions answer None for a header that does not say, these answer NaN (age), Unknown (sex)
or the WFDB default; where theirs guess at a header they cannot read, these raise `ecg.records.HeaderError`.
"""

import math
import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from ecg.labels import LEADS
from ecg.records import STANDARD_NAME, parse_header, read_header_text, read_matrix, read_record

# An entry asks one header after another many questions: each is parsed once.
_header = lru_cache(maxsize=8)(parse_header)


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
    """Return lead names as a tuple in the standard order, unknown ones after the known, in their own order."""
    place = {lead.casefold(): number for number, lead in enumerate(LEADS)}
    return tuple(sorted(leads, key=lambda lead: place.get(lead.casefold(), len(LEADS))))


def find_challenge_files(data_directory):
    """Return the paths of the headers in a folder, not below it, and of their .mat files: two sorted lists of text.

    A header without a .mat file and names that begin with a dot are passed over.
    """
    names = [name.removesuffix(".hea") for name in sorted(os.listdir(data_directory)) if name.endswith(".hea")]
    roots = [os.path.join(data_directory, name) for name in names if not name.startswith(".")]
    roots = [root for root in roots if os.path.isfile(f"{root}.hea") and os.path.isfile(f"{root}.mat")]
    return [f"{root}.hea" for root in roots], [f"{root}.mat" for root in roots]


def load_header(header_file):
    """Return a header's text: what the functions named get_... take."""
    return read_header_text(header_file)


def load_recording(recording_file, header=None, leads=None, key="val"):
    """Return the stored integers, (L, T): rows in the header's order, or those of `leads` where both are given.

    A .mat file is read by the matrix's name, `key`; any other file with the header of its name beside it. Raises
    ecg.records.RecordError.
    """
    file = Path(recording_file)
    recording = read_matrix(file, key) if file.suffix == ".mat" else read_record(file.with_suffix(".hea"))[1]
    return choose_leads(recording, header, leads) if header and leads else recording


def choose_leads(recording, header, leads):
    """Return the rows of a recording for these leads, in their order: (L, T), zeros for a lead it does not hold."""
    rows, found = _rows(header, leads)
    chosen = np.zeros((len(leads), np.shape(recording)[1]), recording.dtype)
    chosen[found] = recording[rows]
    return chosen


def get_recording_id(header):
    """Return the record's name, without a file's extension."""
    return _header(header).name


def get_leads(header):
    """Return the names of the leads, in the file's order, standard ones in their standard spelling: a tuple."""
    return _header(header).lead_names


def get_age(header):
    """Return the age in years, NaN where it is not known."""
    return _header(header).age


def get_sex(header):
    """Return Female, Male or Unknown."""
    return _header(header).sex


def get_num_leads(header):
    """Return the number of leads."""
    return len(_header(header).leads)


def get_frequency(header):
    """Return the sampling frequency in Hz."""
    return _header(header).sampling_frequency


def get_num_samples(header):
    """Return the number of samples of a lead, None where the header does not say."""
    return _header(header).samples or None


def get_adc_gains(header, leads):
    """Return the gains as the header has them, in integers for one unit: (L,) float64, 0 for a lead it lacks."""
    return _values(header, leads, "gain")


def get_baselines(header, leads):
    """Return the integers that stand for zero: (L,) float64, 0 for a lead that the header lacks."""
    return _values(header, leads, "baseline")


def get_labels(header):
    """Return the diagnoses, as text: a list."""
    return list(_header(header).codes)


def save_outputs(output_file, recording_id, classes, labels, probabilities):
    """Write an output file: '#' and the recording, then classes, labels and probabilities, a line each.

    The file is written aside and moved into its place, so that it is never there by half.
    """
    lines = [f"#{recording_id}", *(",".join(map(str, values)) for values in (classes, labels, probabilities))]
    file = Path(output_file)
    part = file.with_name(f".{file.name}.part")
    part.write_text("\n".join(lines) + "\n")
    os.replace(part, file)


def load_outputs(output_file):
    """Read an output file: the recording, classes (text), labels (text) and probabilities (NaN where not finite).

    All but the recording are tuples, of one empty text or one NaN where the answer is empty.
    """
    recording, *lines = (Path(output_file).read_text().splitlines() + 4 * [""])[:4]
    classes, labels, probabilities = (tuple(entry.strip() for entry in line.split(",")) for line in lines)
    numbers = tuple(float(entry) if is_finite_number(entry) else math.nan for entry in probabilities)
    return recording.strip().removeprefix("#") or None, classes, labels, numbers


def _rows(header, leads):
    """Return the header's row of each lead that it holds, and which of the leads these are: a list, (L,) bool."""
    present = [STANDARD_NAME.get(lead.casefold(), lead) for lead in leads]
    available = get_leads(header)
    rows = [available.index(lead) for lead in present if lead in available]
    return rows, np.array([lead in available for lead in present], bool)


def _values(header, leads, name):
    rows, found = _rows(header, leads)
    values = np.zeros(len(leads))
    values[found] = [getattr(_header(header).leads[row], name) for row in rows]
    return values
