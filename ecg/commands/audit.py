"""List what a data folder holds and what is wrong in it, read as for training."""

import hashlib
import logging
import math
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ecg.data import labels, preprocessing, records
from ecg.data.class_tables import ClassTable
from ecg.data.headers import LONGEST_SHOWN, Header
from ecg.data.leads import LEADS, derivation_weights
from ecg.data.loading import LoadedRecording, load_recording
from ecg.data.patients import Patients, load_patients, record_names
from ecg.data.preprocessing import COMPUTED, FLAT, GAIN_ZERO, INVALID_VALUE, NOT_FINITE, REJECTED, SPIKE
from ecg.data.records import OTHER_FILE, OTHER_KEY, TRANSPOSED, UNREAD
from ecg.data.source_tables import SourceTable
from ecg.runtime.console import NAMED, abbreviated_list, format_table, group_reasons, wrap_line
from ecg.runtime.executors import ALL_CORES, Executor
from ecg.runtime.files import atomic_path, check_replaceable, write_csv

LOGGER = logging.getLogger("ecg")

# Kinds of defects. A recording with one of the first six cannot be used.
UNLISTED = "file or folder not read"
HEADER = "header cannot be read"
SIGNAL = "signal cannot be read"
MISSING = "lead missing"
SHORT = "shorter than a second"
UNUSABLE = "signal cannot be used"
FATAL = (UNLISTED, HEADER, SIGNAL, MISSING, SHORT, UNUSABLE)
DISCARDED = "source not trained on"  # a choice of the method, no defect of the file
COUNTED_IN_SAMPLES = (NOT_FINITE, INVALID_VALUE, SPIKE)
REPAIRS = (TRANSPOSED, OTHER_KEY, OTHER_FILE, UNREAD, GAIN_ZERO, REJECTED, COMPUTED, FLAT, *COUNTED_IN_SAMPLES)
LONG = f"longer than {preprocessing.MAX_DURATION:g} s"
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
REPEATED_LEAD = "lead repeated"  # the first is used
COPY = "same signal"
SAME_NAME = "same name"
NO_PATIENT = "no patient"  # only if a table of patients is given
WARNINGS = (LONG, EARLY_GAIN, CHECKSUM, OTHER_NAME, IN_WORDS, REPEATED, NO_DIAGNOSIS, NOT_SCORED, UNKNOWN_CODE, AGE,
            SEX, LEAD_NAME, REPEATED_LEAD, COPY, SAME_NAME)  # fmt: skip
KINDS = (*FATAL, DISCARDED, *REPAIRS, *WARNINGS)

CODE_STATUSES = ("scored", "unscored", "unknown")  # results of ecg.data.labels.code_status
TABLES = ("summary", "recordings", "defects", "codes")

Defects = list[tuple[str, str]]
Table = list[tuple[object, ...]]


class AuditedRecording(NamedTuple):
    """Facts and defects of one recording.

    Attributes:
        path: Path of its header relative to the data folder.
        source: Source database.
        usable: 'yes', 'no', or DISCARDED for a source that the method does not train on.
        defects: Kind and detail of each defect.
        digest: Hash of the signal; None if there is no signal.
        frequency: Sampling frequency in Hz; None if unknown.
        seconds: Length; None if unknown.
        leads: Names of the leads, separated by blanks.
        age: Years; NaN if unknown.
        sex: 'Female', 'Male' or 'Unknown'.
        codes: Codes of the diagnoses.
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
    def name(self) -> str:
        """Unique name of the record: the path of its header without the extension."""
        return str(PurePosixPath(self.path).with_suffix(""))


def audit(
    data: Path | str,
    output: Path | str,
    executor: Executor = ALL_CORES,
    groups: Path | str | None = None,
    classes: ClassTable = labels.CHALLENGE_CLASSES,
    sources: SourceTable = labels.CHALLENGE_SOURCES,
) -> bool:
    """Read all recordings of a data folder as for training, and list their defects.

    Args:
        data: Data folder.
        output: Folder for the tables, as CSV. It may hold those of an earlier audit, which are replaced.
        executor: Reads the recordings.
        groups: Table of the patient of each recording (`ecg.data.patients`). Recordings that it does not list have the
            defect NO_PATIENT.
        classes: The classes that count as scored.
        sources: The sources of records.

    Returns:
        Whether at least one recording is usable and all are, apart from discarded sources. Repaired recordings are
        usable.

    Raises:
        FileNotFoundError: The data folder holds no header.
        FileExistsError: The output folder holds other files.
        RecordError: The table of patients cannot be used.
    """
    data, folder = Path(data), Path(output).resolve()
    excluded: list[tuple[str, str]] = []
    paths = records.require_records(data, excluded)
    patients = load_patients(groups, record_names(data, paths)) if groups else None
    names = [f"{name}.csv" for name in TABLES]
    check_replaceable(folder, names[0], "|".join(map(re.escape, names)), "an audit")
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)  # before the work, which would be lost if nothing could be written
        recordings = audit_recordings(data, paths, executor, classes, sources)
        if patients is not None:
            recordings = [add_patient_defect(recording, patients) for recording in recordings]
        recordings += [AuditedRecording(path, "unknown", "no", ((UNLISTED, reason),)) for path, reason in excluded]
        for name, rows in make_tables(recordings, classes).items():
            write_csv(temporary / f"{name}.csv", rows)
    for line in summary_lines(recordings, classes):
        LOGGER.info(line)
    LOGGER.info(f"{output}: {', '.join(names)}")
    usable = {recording.usable for recording in recordings}
    return "yes" in usable and "no" not in usable


def add_patient_defect(recording: AuditedRecording, patients: Patients) -> AuditedRecording:
    """Add NO_PATIENT to the defects of a recording whose patient is not known."""
    if recording.name in patients:
        return recording
    return recording._replace(defects=(*recording.defects, (NO_PATIENT, "")))


def audit_recordings(
    data: Path,
    paths: Sequence[Path],
    executor: Executor = ALL_CORES,
    classes: ClassTable = labels.CHALLENGE_CLASSES,
    sources: SourceTable = labels.CHALLENGE_SOURCES,
) -> list[AuditedRecording]:
    """Audit recordings, given the paths of their headers, alone and for duplicates.

    Processes return facts, not signals, so that memory hardly grows with the number of recordings.
    """
    executor.check_shared(files=paths[:1])
    with closing(
        executor.map(partial(audit_recording, data, classes=classes, sources=sources), paths, "reading")
    ) as recordings:
        return _add_duplicates(list(recordings), classes)


def audit_recording(
    data: Path,
    path: Path,
    classes: ClassTable = labels.CHALLENGE_CLASSES,
    sources: SourceTable = labels.CHALLENGE_SOURCES,
) -> AuditedRecording:
    """Audit one recording, given the data folder and the path of the header."""
    loaded, source = load_recording(path, classes=classes, sources=sources), sources.find(path.stem)
    header, discarded = loaded.header, source in sources.untrained
    defects: Defects = [(DISCARDED, f"source {source} is not trained on")] if discarded else []
    if header is None:
        defects.append((HEADER, str(loaded.reason)))
    elif loaded.integers is None:
        defects += [(SIGNAL, str(loaded.reason)), *_header_defects(path, header, classes)]
    else:
        defects += [*_signal_defects(header, loaded.integers, loaded), *_header_defects(path, header, classes)]
    usable = DISCARDED if discarded else "no" if loaded.reason else "yes"
    digest = None
    if loaded.microvolts is not None and loaded.microvolts.any():
        digest = hashlib.blake2b(loaded.microvolts.tobytes(), digest_size=16).hexdigest()
    recording = AuditedRecording(path.relative_to(data).as_posix(), source, usable, tuple(defects), digest)
    if header is None:
        return recording
    samples = header.samples if loaded.integers is None else loaded.integers.shape[1]
    return recording._replace(
        frequency=header.sampling_frequency,
        seconds=samples / header.sampling_frequency or None,
        leads=" ".join(header.lead_names),
        age=header.age,
        sex=header.sex,
        codes=_diagnosis_codes(header),
    )


def _diagnosis_codes(header: Header) -> tuple[str, ...]:
    return tuple(code for code in header.codes if code.casefold() not in labels.UNDIAGNOSED)


def _signal_defects(header: Header, integers: np.ndarray, loaded: LoadedRecording) -> Defects:
    """Return the defects of a signal that could be read."""
    defects: Defects = []
    seconds = integers.shape[1] / header.sampling_frequency
    if loaded.reason:
        missing = [lead for lead in LEADS if not derivation_weights(lead, header.lead_names)]
        kind = MISSING if missing else SHORT if seconds < preprocessing.MIN_DURATION else UNUSABLE
        defects.append((kind, loaded.reason))
    for repair in loaded.repairs:
        samples = f": {repair.count:,} samples" if repair.kind in COUNTED_IN_SAMPLES else ""
        defects.append((repair.kind, " ".join(repair.leads) + samples))
    if seconds > preprocessing.MAX_DURATION:
        defects.append((LONG, f"{seconds:,.1f} s"))
    if early := preprocessing.correct_gains(header, integers)[1]:
        defects.append((EARLY_GAIN, " ".join(early)))
    if wrong := _leads_with_wrong_checksum(header, integers):
        defects.append((CHECKSUM, " ".join(wrong)))
    return defects


def _header_defects(path: Path, header: Header, classes: ClassTable) -> Defects:
    """Return the defects of a header that could be read."""
    codes = _diagnosis_codes(header)
    unknown = [code for code in codes if labels.code_status(code, classes) == "unknown"]
    scored = classes.encode(codes).any()
    counts = Counter(name for name in header.lead_names if name in LEADS)
    repeated = [lead.written for lead in header.leads if counts[lead.name] > 1]
    details = {
        OTHER_NAME: [header.name] * (header.name != path.stem),
        IN_WORDS: [word for word in header.diagnoses_written if labels.code_of(word) != word],
        REPEATED: [word for word, count in Counter(header.diagnoses_written).items() if count > 1],
        NO_DIAGNOSIS: [""] * (not codes),
        NOT_SCORED: [" ".join(codes)] * bool(codes and not scored),
        UNKNOWN_CODE: [" ".join(unknown)] * bool(unknown),
        AGE: [_shorten(header.age_written)] * math.isnan(header.age),
        SEX: [_shorten(header.sex_written)] * (header.sex == "Unknown"),
        LEAD_NAME: [name or "without a name" for name in header.lead_names if name not in LEADS],
        REPEATED_LEAD: repeated,
    }  # fmt: skip
    return [(kind, ", ".join(words)) for kind, words in details.items() if words]


def _shorten(string: str) -> str:
    return string if len(string) <= LONGEST_SHOWN else f"{string[:LONGEST_SHOWN]}..."


def _leads_with_wrong_checksum(header: Header, integers: np.ndarray) -> list[str]:
    """Return the names of leads with another sum modulo 2 ** 16 than their checksum.

    Checksums that are all zero count as missing. Averaged samples of leads with several samples per frame have none.
    """
    checksums = [lead.checksum for lead in header.leads if lead.checksum is not None]
    averaged = any(lead.samples_per_frame > 1 for lead in header.leads)
    if integers.dtype.kind not in "iu" or len(checksums) < len(header.leads) or not any(checksums) or averaged:
        return []
    sums = integers.sum(axis=1, dtype=np.int64).tolist()
    triples = zip(header.lead_names, checksums, sums, strict=True)
    return [name for name, checksum, total in triples if (checksum - total) % 2**16]


def _add_duplicates(recordings: list[AuditedRecording], classes: ClassTable) -> list[AuditedRecording]:
    """Return recordings with copies and ambiguous names added to their defects.

    A copy has the same signal as another recording: the same twelve leads in microvolts at 250 Hz, as for training.
    Name, header, file format, order of leads and gain may differ, and so may everything after 144 s. Cut, shifted or
    resampled copies are not found. Recordings of zeros are no copies.
    """
    groups: dict[tuple[str, str], list[AuditedRecording]] = {}
    for recording in recordings:
        keys = [(SAME_NAME, PurePosixPath(recording.path).stem)]
        keys += [(COPY, recording.digest)] if recording.digest else []
        for key in keys:
            groups.setdefault(key, []).append(recording)
    added: dict[str, Defects] = {recording.path: [] for recording in recordings}
    for (kind, _), group in sorted(groups.items(), key=lambda item: item[0][0] == SAME_NAME):
        for recording in group if len(group) > 1 else ():
            added[recording.path].append((kind, _format_duplicates(recording, group, classes)))
    return [recording._replace(defects=(*recording.defects, *added[recording.path])) for recording in recordings]


def _format_duplicates(recording: AuditedRecording, group: list[AuditedRecording], classes: ClassTable) -> str:
    """Return the other recordings of a group, and whether their labels differ."""
    words, more = [], len(group) - 1 - NAMED
    for duplicate in [member for member in group[: NAMED + 1] if member is not recording][:NAMED]:
        differ = (classes.encode(duplicate.codes) != classes.encode(recording.codes)).any()
        words.append(f"{duplicate.path} with other labels" if differ else duplicate.path)
    return ", ".join(words) + (f" and {more:,} more" if more > 0 else "")


def make_tables(recordings: list[AuditedRecording], classes: ClassTable = labels.CHALLENGE_CLASSES) -> dict[str, Table]:
    """Return the rows of TABLES, first the names of the columns."""
    defects = [(recording.name, recording.path, *defect) for recording in recordings for defect in recording.defects]
    return {
        "summary": [("kind", "recordings"), *((k, len(members)) for k, members in group_by_defect(recordings).items())],
        "recordings": make_recording_table(recordings, classes),
        "defects": [("record", "path", "kind", "detail"), *defects],
        "codes": make_code_table(recordings, classes),
    }


def group_by_defect(recordings: list[AuditedRecording]) -> dict[str, list[AuditedRecording]]:
    """Return the recordings with each kind of defect, in the order of KINDS."""
    groups: dict[str, list[AuditedRecording]] = {kind: [] for kind in KINDS}
    for recording in recordings:
        for kind in dict(recording.defects):
            groups.setdefault(kind, []).append(recording)
    return groups


def make_recording_table(recordings: list[AuditedRecording], classes: ClassTable) -> Table:
    """Return the facts of each recording; unknown ones are empty."""
    table: Table = [("record", "path", "source", "sampling frequency", "seconds", "leads", "age", "sex",
                     "scored codes", "other codes", "usable")]  # fmt: skip
    for recording in recordings:
        scored = [code for code in recording.codes if labels.code_status(code, classes) == "scored"]
        rest = [code for code in recording.codes if code not in scored]
        frequency = recording.frequency and f"{recording.frequency:g}"
        seconds = recording.seconds and f"{recording.seconds:.3f}".rstrip("0").rstrip(".")
        age = None if math.isnan(recording.age) else f"{recording.age:g}"
        table.append((recording.name, recording.path, recording.source, frequency, seconds, recording.leads, age,
                      recording.sex, " ".join(scored), " ".join(rest), recording.usable))  # fmt: skip
    return table


def make_code_table(recordings: list[AuditedRecording], classes: ClassTable) -> Table:
    """Return the recordings per code, by status, the most frequent first."""
    counts = Counter(code for recording in recordings for code in recording.codes)
    rows: Table = [("status", "code", "abbreviation", "name", "recordings")]
    for status in CODE_STATUSES:
        for code, count in counts.most_common():
            if labels.code_status(code, classes) == status:
                abbreviation, _, name = labels.find_diagnosis(code, classes)
                rows.append((status, code, abbreviation, name, count))
    return rows


def summary_lines(recordings: list[AuditedRecording], classes: ClassTable = labels.CHALLENGE_CLASSES) -> list[str]:
    """Return log messages that count recordings, sources, codes and defects."""
    usable = Counter(recording.usable for recording in recordings)
    first = f"{len(recordings):,} recordings, {usable['yes']:,} usable, {usable['no']:,} not"
    if usable[DISCARDED]:
        first += f", {usable[DISCARDED]:,} of sources that the method does not train on"
    return [
        first,
        "",
        *_source_lines(recordings),
        "",
        *_code_lines(recordings, classes),
        "",
        *_defect_lines(recordings),
    ]


def _source_lines(recordings: list[AuditedRecording]) -> list[str]:
    """Return a line for each source and sampling frequency."""
    groups: dict[tuple[str, float], list[AuditedRecording]] = {}
    for recording in recordings:
        groups.setdefault((recording.source, recording.frequency or 0.0), []).append(recording)
    rows: Table = [("source", "Hz", "recordings", "usable", "seconds")]
    for (source, frequency), group in sorted(groups.items()):
        lengths = [recording.seconds for recording in group if recording.seconds]
        span = f"{min(lengths):.4g} to {max(lengths):.4g}, median {statistics.median(lengths):.4g}" if lengths else ""
        usable = sum(recording.usable == "yes" for recording in group)
        rows.append((source, f"{frequency:g}" if frequency else "", len(group), usable, span))
    return format_table(rows)


def _code_lines(recordings: list[AuditedRecording], classes: ClassTable) -> list[str]:
    """Return the recordings per diagnosis, by status, the most frequent first."""
    lines = []
    for status in CODE_STATUSES:
        codes = [[code for code in row.codes if labels.code_status(code, classes) == status] for row in recordings]
        names = (dict.fromkeys(labels.find_diagnosis(code, classes).abbreviation for code in row) for row in codes)
        counts = Counter(name for row in names for name in row)
        limit = len(classes)
        words = [f"{name} {count:,}" for name, count in counts.most_common(limit)]
        words += [f"{len(counts) - limit:,} more"] if len(counts) > limit else []
        total = f"{status} diagnoses: {len(counts):,} in {sum(map(bool, codes)):,} recordings"
        lines += wrap_line("; ".join([total, ", ".join(words)] if words else [total]))
    return lines


def _defect_lines(recordings: list[AuditedRecording]) -> list[str]:
    """Return a line per kind of defect, kinds not found, and reasons for exclusion."""
    groups = group_by_defect(recordings)
    width = max(map(len, KINDS))
    lines = [f"{'defect':<{width}}  recordings"]
    for kind, group in groups.items():
        if group:
            names = abbreviated_list(recording.name for recording in group)
            lines.append(f"{kind:<{width}}  {len(group):>10,}  {names}")
    lines += wrap_line(f"not found: {', '.join(kind for kind, group in groups.items() if not group)}")
    for kind in FATAL:
        unusable = [recording for recording in groups[kind] if recording.usable == "no"]
        pairs = [(recording.name, dict(recording.defects)[kind]) for recording in unusable]
        for reason, members in group_reasons(pairs):
            lines += wrap_line(f"{len(members):,} not usable: {reason} ({abbreviated_list(members)})")
    return lines
