"""What a data folder holds and what is wrong in it, read as a training would read it."""

import hashlib
import logging
import math
import statistics
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ecg.data.headers import LONGEST_SHOWN
from ecg.data.labels import (
    CLASS_OF_CODE,
    DISCARDED_SOURCES,
    SCORED,
    UNDIAGNOSED,
    code_of,
    code_status,
    encode,
    source_of,
    unscored_diagnoses,
)
from ecg.data.leads import LEADS, derivation_weights
from ecg.data.preprocessing import (
    COMPUTED,
    FLAT,
    GAIN_ZERO,
    INVALID_VALUE,
    MAX_DURATION,
    MIN_DURATION,
    NOT_FINITE,
    REJECTED,
    SPIKE,
    correct_gains,
)
from ecg.data.records import OTHER_FILE, OTHER_KEY, TRANSPOSED, UNREAD, require_records
from ecg.data.store import load_recording
from ecg.runtime.console import NAMED, abbreviated_list, group_reasons, wrap_line
from ecg.runtime.files import atomic_path, write_csv
from ecg.runtime.processes import parallel_map

LOGGER = logging.getLogger("ecg")

# Kinds of defects. Those that hinder: a recording with one of them cannot be used.
HEADER = "header cannot be read"
SIGNAL = "signal cannot be read"
UNLISTED = "file or folder not read"
MISSING = "lead missing"
SHORT = "shorter than a second"
UNUSABLE = "signal cannot be used"
DISCARDED = "source not trained on"  # the method's choice, no defect of the file
# Those that do not, beside the repairs.
LONG = f"longer than {MAX_DURATION:g} s"
EARLY_GAIN = "gain likely wrong, see --early-gains"
CHECKSUM = "checksum differs"
OTHER_NAME = "other name in header"
IN_WORDS = "diagnosis in words"
REPEATED = "diagnosis repeated"
NO_DIAGNOSIS = "no diagnosis"
NOT_SCORED = "no scored diagnosis"
UNKNOWN_CODE = "diagnosis unknown"
AGE = "age unknown"
SEX = "sex unknown"
LEAD_NAME = "lead unknown"
REPEATED_LEAD = "lead repeated"  # the first of them is used
COPY = "same signal"
SAME_NAME = "same name"
FATAL = (UNLISTED, HEADER, SIGNAL, MISSING, SHORT, UNUSABLE)
OF_SAMPLES = (NOT_FINITE, INVALID_VALUE, SPIKE)
REPAIRS = (TRANSPOSED, OTHER_KEY, OTHER_FILE, UNREAD, GAIN_ZERO, REJECTED, COMPUTED, FLAT, *OF_SAMPLES)
WARNINGS = (LONG, EARLY_GAIN, CHECKSUM, OTHER_NAME, IN_WORDS, REPEATED, NO_DIAGNOSIS, NOT_SCORED, UNKNOWN_CODE, AGE, SEX,
         LEAD_NAME, REPEATED_LEAD, COPY, SAME_NAME)  # fmt: skip
KINDS = (*FATAL, DISCARDED, *REPAIRS, *WARNINGS)


class AuditedRecording(NamedTuple):
    """What is kept of one recording: its header's path below the data folder, what is wrong in it, and facts.

    usable is yes, no or, where the method leaves the source out, DISCARDED; defects are pairs of a kind and a detail;
    digest is that of the signal, None where there is none. Frequency in Hz and seconds are None where they are not
    known, leads are names with blanks between.
    """

    path: str
    source: str
    usable: str
    defects: tuple[tuple[str, str], ...]
    digest: str | None = None
    frequency: float | None = None
    seconds: float | None = None
    leads: str = ""
    age: float = math.nan
    sex: str = "Unknown"
    codes: tuple[str, ...] = ()

    @property
    def name(self):
        """Return what tells the record from others: its header's path without the extension."""
        return str(PurePosixPath(self.path).with_suffix(""))


def audit_recording(data, path):
    """Return what is told of one recording by itself: a Recording. Takes the data folder and the header's path."""
    loaded, source, seconds, found = load_recording(path), source_of(path.stem), None, []
    header, usable = loaded.header, "no" if loaded.reason else "yes"
    if source in DISCARDED_SOURCES:
        usable, found = DISCARDED, [(DISCARDED, f"source {source} is not trained on")]
    if header is None:
        found.append((HEADER, loaded.reason))
    elif loaded.integers is None:
        found += [(SIGNAL, loaded.reason), *_header_defects(path, header)]
    else:
        seconds = loaded.integers.shape[1] / header.sampling_frequency
        found += [*_signal_defects(loaded, seconds), *_header_defects(path, header)]
    one = AuditedRecording(path.relative_to(data).as_posix(), source, usable, tuple(found), _digest(loaded.microvolts))
    if header is None:
        return one
    frequency = header.sampling_frequency
    return one._replace(
        frequency=frequency,
        seconds=seconds or header.samples / frequency or None,
        leads=" ".join(header.lead_names),
        age=header.age,
        sex=header.sex,
        codes=_known_codes(header.codes),
    )


def _known_codes(codes):
    return tuple(code for code in codes if code.casefold() not in UNDIAGNOSED)


def _signal_defects(loaded, seconds):
    """Return what is wrong in the signal, of so many seconds, of a recording that could be read: a list of pairs."""
    found = []
    if loaded.reason:
        absent = [lead for lead in LEADS if not derivation_weights(lead, loaded.header.lead_names)]
        found.append((MISSING if absent else SHORT if seconds < MIN_DURATION else UNUSABLE, loaded.reason))
    for repair in loaded.repairs:
        samples = f": {repair.count:,} samples" if repair.kind in OF_SAMPLES else ""
        found.append((repair.kind, " ".join(repair.leads) + samples))
    if seconds > MAX_DURATION:
        found.append((LONG, f"{seconds:,.1f} s"))
    if wrong := correct_gains(loaded.header, loaded.integers)[1]:
        found.append((EARLY_GAIN, " ".join(wrong)))
    if differing := _leads_with_wrong_checksum(loaded):
        found.append((CHECKSUM, " ".join(differing)))
    return found


def _header_defects(path, header):
    """Return what is wrong in a header that can be read, by kind and detail: a list of pairs."""
    codes, found = _known_codes(header.codes), []
    if header.name != path.stem:
        found.append((OTHER_NAME, header.name))
    if words := [word for word in header.written if code_of(word) != word]:
        found.append((IN_WORDS, ", ".join(words)))
    if repeated := [word for word, count in Counter(header.written).items() if count > 1]:
        found.append((REPEATED, ", ".join(repeated)))
    unknown = [code for code in codes if code_status(code) == "unknown"]
    if not codes:
        found.append((NO_DIAGNOSIS, ""))
    elif not encode(codes).any():
        found.append((NOT_SCORED, " ".join(codes)))
    if unknown:
        found.append((UNKNOWN_CODE, " ".join(unknown)))
    if math.isnan(header.age):
        found.append((AGE, _shorten(header.age_written)))
    if header.sex == "Unknown":
        found.append((SEX, _shorten(header.sex_written)))
    if strange := [name or "without a name" for name in header.lead_names if name not in LEADS]:
        found.append((LEAD_NAME, ", ".join(strange)))
    names = Counter(name for name in header.lead_names if name in LEADS)
    if repeated := {name for name, count in names.items() if count > 1}:
        found.append((REPEATED_LEAD, ", ".join(lead.written for lead in header.leads if lead.name in repeated)))
    return found


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _leads_with_wrong_checksum(loaded):
    """Return the names of the leads whose samples do not add up to the header's checksum, modulo 2 ** 16.

    Zeros for all leads are taken for no checksums.
    """
    leads, stored = loaded.header.leads, loaded.integers
    told = [lead.checksum for lead in leads]
    framed = any(lead.samples_per_frame > 1 for lead in leads)  # of which the mean is read
    if stored.dtype.kind not in "iu" or None in told or not any(told) or framed:
        return []
    pairs = zip(leads, stored.sum(axis=1, dtype=np.int64).tolist(), strict=True)
    return [lead.name for lead, found in pairs if (lead.checksum - found) % 2**16]


def _digest(microvolts):
    """Return a text that tells signals apart; None where there is none, or nothing but zeros."""
    if microvolts is None or not microvolts.any():
        return None
    return hashlib.blake2b(microvolts.tobytes(), digest_size=16).hexdigest()


CODE_STATUSES = ("scored", "unscored", "unknown")  # of a code (ecg.data.labels.code_status)
TABLES = ("summary", "recordings", "defects", "codes")


def audit(data, output, jobs=None):
    """Read all recordings of a data folder as a training would, by `jobs` processes, and list what is wrong in them.

    The folder `output` gets the tables as CSV, in place of those of an earlier audit; a summary is logged. Returns whether every recording is usable: repaired ones are, and those of sources that the method leaves
    out are not asked, but one at least must be left. Raises FileNotFoundError where `data` holds no header, and
    FileExistsError where `output` holds what is of no audit.
    """
    data, folder, excluded = Path(data), Path(output).resolve(), []
    paths = require_records(data, excluded)
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if foreign := sorted(there - {f"{name}.csv" for name in TABLES}):
        raise FileExistsError(f"{folder}: holds {foreign[0]}, which is of no audit; choose another folder")
    with atomic_path(folder) as part:
        part.mkdir(parents=True)  # before the work, so that it is not lost where nothing can be written
        recordings = audit_recordings(data, paths, jobs)
        recordings += [AuditedRecording(place, "unknown", "no", ((UNLISTED, reason),)) for place, reason in excluded]
        written = make_tables(recordings)
        for name in TABLES:
            write_csv(part / f"{name}.csv", written[name])
    for line in summary_lines(recordings):
        LOGGER.info(line)
    LOGGER.info(f"{output}: {', '.join(f'{name}.csv' for name in TABLES)}")
    usable = {one.usable for one in recordings}
    return "yes" in usable and "no" not in usable


def audit_recordings(data, paths, jobs=None):
    """Return what is told of the recordings of these headers, and of each among the others: a list of Recording.

    Processes hand over facts, no signals, so that the memory hardly grows with their number.
    """
    with closing(parallel_map(partial(audit_recording, data), paths, jobs, "reading")) as recordings:
        return _add_duplicates(list(recordings))


def _add_duplicates(recordings):
    """Return recordings with what is wrong among them added to their defects: copies, and names that are not unique.

    A copy has the same signal as another recording: the same twelve leads in whole microvolts at 250 Hz, as a training
    takes them. Name, header and file format, order of leads and gain may differ, and so may what comes after 144 s. A
    cut, shifted or resampled copy is not found, and recordings of zeros alone are no copies.
    """
    groups = {COPY: {}, SAME_NAME: {}}
    for one in recordings:
        groups[SAME_NAME].setdefault(Path(one.path).stem, []).append(one)
        if one.digest:
            groups[COPY].setdefault(one.digest, []).append(one)
    added = {one.path: [] for one in recordings}
    for kind, members in groups.items():
        for group in members.values():
            for one in group if len(group) > 1 else ():
                added[one.path].append((kind, _format_duplicates(one, group)))
    return [one._replace(defects=(*one.defects, *added[one.path])) for one in recordings]


def _format_duplicates(one, group):
    """Return in words the other recordings of a group, and whether their labels differ."""
    texts, more = [], len(group) - 1 - NAMED
    for other in [other for other in group[: NAMED + 1] if other is not one][:NAMED]:
        differ = (encode(other.codes) != encode(one.codes)).any()
        texts.append(f"{other.path} with other labels" if differ else other.path)
    return ", ".join(texts) + (f" and {more:,} more" if more > 0 else "")


def make_tables(recordings):
    """Return all tables by name: lists of rows, the first of them the names of the columns."""
    return {
        "summary": [
            ("kind", "recordings"),
            *((kind, len(found)) for kind, found in group_by_defect(recordings).items()),
        ],
        "recordings": make_recording_table(recordings),
        "defects": [
            ("record", "path", "kind", "detail"),
            *((one.name, one.path, *defect) for one in recordings for defect in one.defects),
        ],
        "codes": make_code_table(recordings),
    }


def group_by_defect(recordings):
    """Return the recordings that have a defect of each kind, in the order of KINDS: a dict of lists."""
    found = {kind: [] for kind in KINDS}
    for one in recordings:
        for kind in dict(one.defects):
            found.setdefault(kind, []).append(one)
    return found


def make_recording_table(recordings):
    """Return the facts of each recording; what is not known is empty."""
    rows = []
    for one in recordings:
        scored = [code for code in one.codes if code_status(code) == "scored"]
        others = [code for code in one.codes if code not in scored]
        age = None if math.isnan(one.age) else f"{one.age:g}"
        seconds = one.seconds and f"{one.seconds:.3f}".rstrip("0").rstrip(".")
        rows.append((one.name, one.path, one.source, one.frequency and f"{one.frequency:g}", seconds, one.leads, age,
                     one.sex, " ".join(scored), " ".join(others), one.usable))  # fmt: skip
    return [("record", "path", "source", "sampling frequency", "seconds", "leads", "age", "sex",
             "scored codes", "other codes", "usable"), *rows]  # fmt: skip


def make_code_table(recordings):
    """Return how many recordings tell each code, the scored ones first, the most frequent of a standing first."""
    counts = Counter(code for one in recordings for code in one.codes)
    rows = []
    for code, count in counts.most_common():
        abbreviation, _, name = _diagnosis(code)
        rows.append((code_status(code), code, abbreviation, name, count))
    rows.sort(key=lambda row: CODE_STATUSES.index(row[0]))
    return [("standing", "code", "abbreviation", "name", "recordings"), *rows]


def _diagnosis(code):
    """Return abbreviation, codes and name of a code; of one that no table knows, the code for an abbreviation."""
    return SCORED[CLASS_OF_CODE[code]] if code in CLASS_OF_CODE else unscored_diagnoses().get(code, (code, (code,), ""))


def summary_lines(recordings):
    """Return lines for the console: recordings by source, frequency and length, codes, defects by kind, and why."""
    usable = Counter(one.usable for one in recordings)
    head = f"{len(recordings):,} recordings, {usable['yes']:,} usable, {usable['no']:,} not"
    if usable[DISCARDED]:
        head += f", {usable[DISCARDED]:,} of sources that the method does not train on"
    parts = ([head], _source_lines(recordings), _code_lines(recordings), _defect_lines(recordings))
    first, *others = [lines for lines in parts if lines]
    return [*first, *(line for lines in others for line in ("", *lines))]


def _source_lines(recordings):
    """Return a line for each source and sampling frequency in it."""
    groups = {}
    for one in recordings:
        groups.setdefault((one.source, one.frequency or 0.0), []).append(one)
    rows = [("source", "Hz", "recordings", "usable", "seconds")]
    for (source, frequency), some in sorted(groups.items()):
        lengths = [one.seconds for one in some if one.seconds]
        span = f"{min(lengths):.4g} to {max(lengths):.4g}, median {statistics.median(lengths):.4g}" if lengths else ""
        usable = sum(one.usable == "yes" for one in some)
        rows.append((source, f"{frequency:g}" if frequency else "", f"{len(some):,}", f"{usable:,}", span))
    width = max(len(row[0]) for row in rows)
    return ["{:<{width}}  {:>6}  {:>10}  {:>8}  {}".format(*row, width=width).rstrip() for row in rows]


def _code_lines(recordings):
    """Return which diagnoses are told in how many recordings, by their standing, the most frequent first."""
    lines = []
    for kind in CODE_STATUSES:
        told = [{_diagnosis(code)[0] for code in one.codes if code_status(code) == kind} for one in recordings]
        counts = Counter(name for names in told for name in names).most_common()
        shown = [f"{name} {count:,}" for name, count in counts[: len(SCORED)]]
        shown += [f"{len(counts) - len(SCORED):,} more"] if len(counts) > len(SCORED) else []
        counted = f"{kind} diagnoses: {len(counts):,} in {sum(map(bool, told)):,} recordings"
        lines += wrap_line("; ".join([counted, ", ".join(shown)] if shown else [counted]))
    return lines


def _defect_lines(recordings):
    """Return a line for each kind of defect, those that were not found in one, and why recordings are not usable."""
    found = group_by_defect(recordings)
    width = max(map(len, KINDS))
    lines = [f"{'defect':<{width}}  recordings"]
    lines += [
        f"{kind:<{width}}  {len(some):>10,}  {abbreviated_list(one.name for one in some)}"
        for kind, some in found.items()
        if some
    ]
    lines += wrap_line(f"not found: {', '.join(kind for kind, some in found.items() if not some)}")
    for kind in FATAL:
        pairs = [(one.name, dict(one.defects)[kind]) for one in found[kind] if one.usable == "no"]
        for reason, names in group_reasons(pairs):
            lines += wrap_line(f"{len(names):,} not usable: {reason} ({abbreviated_list(names)})")
    return lines
