"""Read and preprocess single recordings, and record their faults."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data import labels
from ecg.data.class_tables import ClassTable
from ecg.data.headers import Header, RecordError, read_header
from ecg.data.leads import LEADS, describe_missing_leads, lead_indices
from ecg.data.preprocessing import PreparedSignal, Repair, crop_to_max_duration, encode_demographics, preprocess
from ecg.data.records import SignalError, read_raw_signal
from ecg.data.resampling import DEFAULT_PREPROCESSING, Preprocessing
from ecg.data.source_tables import SourceTable
from ecg.runtime.console import describe_error


class IndexRow(NamedTuple):
    """A recording in the index of a store, with names as in `Store`."""

    names: str
    paths: str
    sources: str
    labels: np.ndarray
    as_scored: np.ndarray
    additional: np.ndarray
    demographics: np.ndarray
    undiagnosed: bool
    lengths: int
    frequencies: float
    recorded_leads: np.ndarray


class LoadedRecording(NamedTuple):
    """A recording as far as it could be read.

    Attributes:
        path: Path of the header.
        header: The header; None if it cannot be read.
        integers: Stored integers, (L, n); None if they cannot be read.
        microvolts: Preprocessed signal, (T, 12) int16; None if the recording cannot be used.
        repairs: What was repaired.
        reason: Why the recording cannot be used.
        row: Its row of the index, with the full path as `paths`; None if the recording cannot be used.
        unknown_codes: Codes that neither the classes nor the Challenge know.
    """

    path: Path
    header: Header | None = None
    integers: np.ndarray | None = None
    microvolts: np.ndarray | None = None
    repairs: tuple[Repair, ...] = ()
    reason: str | None = None
    row: IndexRow | None = None
    unknown_codes: tuple[str, ...] = ()


def load_training_recording(
    path: Path,
    preparation: Preprocessing = DEFAULT_PREPROCESSING,
    classes: ClassTable = labels.CHALLENGE_CLASSES,
    sources: SourceTable = labels.CHALLENGE_SOURCES,
) -> LoadedRecording:
    """Read and preprocess a recording for training; untrained sources are excluded."""
    source = sources.find(path.stem)
    if source in sources.untrained:
        return LoadedRecording(path, reason=f"source {source} is not trained on")
    return load_recording(path, preparation, classes, sources)


def load_recording(
    path: Path,
    preparation: Preprocessing = DEFAULT_PREPROCESSING,
    classes: ClassTable = labels.CHALLENGE_CLASSES,
    sources: SourceTable = labels.CHALLENGE_SOURCES,
) -> LoadedRecording:
    """Read and preprocess the recording of a header; faults raise no error."""
    loaded = LoadedRecording(path)
    try:
        header = read_header(path)
        loaded = loaded._replace(header=header)
        integers, warnings = read_raw_signal(path, header)
    except (RecordError, OSError) as error:
        return loaded._replace(reason=describe_error(error))
    loaded = prepare_recording(path, header, integers, preparation, classes=classes, sources=sources)
    return loaded._replace(repairs=(*(Repair(warning, (), 1) for warning in warnings), *loaded.repairs))


def prepare_recording(
    path: Path,
    header: Header,
    integers: np.ndarray,
    preparation: Preprocessing = DEFAULT_PREPROCESSING,
    leads: Sequence[str] = LEADS,
    classes: ClassTable = labels.CHALLENGE_CLASSES,
    sources: SourceTable = labels.CHALLENGE_SOURCES,
) -> LoadedRecording:
    """Preprocess a recording that has been read; faults raise no error.

    Args:
        path: Path of its header.
        header: Its header.
        integers: Stored integers, (L, n).
        preparation: How the signal is preprocessed.
        leads: Names of the leads that are needed, in the standard order. The others are 0.
        classes: The classes of its labels.
        sources: The sources of records.
    """
    loaded = LoadedRecording(path, header, integers)
    try:
        microvolts, repairs = preprocess(header, crop_to_max_duration(header, integers), leads, preparation=preparation)
    except RecordError as error:
        return loaded._replace(reason=describe_error(error))
    if len(leads) < len(LEADS):
        needed, microvolts = microvolts, np.zeros((len(microvolts), len(LEADS)), microvolts.dtype)
        microvolts[:, lead_indices(leads)] = needed
    codes = [code for code in header.codes if code.casefold() not in labels.UNDIAGNOSED]
    statuses = [labels.code_status(code, classes) for code in codes]
    row = IndexRow(
        names=path.stem,
        paths=path.as_posix(),
        sources=sources.find(path.stem),
        labels=classes.encode(header.codes),
        as_scored=classes.encode_as_scored(header.evaluator_codes),
        additional=classes.encode_additional(header.codes),
        demographics=encode_demographics(header.age, header.sex),
        undiagnosed=not {"scored", "unscored"} & set(statuses),
        lengths=len(microvolts),
        frequencies=float(header.sampling_frequency),
        recorded_leads=np.isin(LEADS, header.lead_names),
    )
    return loaded._replace(
        microvolts=microvolts,
        repairs=tuple(repairs),
        row=row,
        unknown_codes=tuple(code for code, status in zip(codes, statuses, strict=True) if status == "unknown"),
    )


def filter_recording(header: Header, integers: np.ndarray) -> tuple[tuple[str, ...], PreparedSignal]:
    """Preprocess the standard leads that a recording has, for people to look at.

    Args:
        header: Its header.
        integers: Stored integers, (L, n).

    Returns:
        The names of the leads, and their signal as networks see it by default.

    Raises:
        SignalError: The recording cannot be used.
    """
    leads = tuple(lead for lead in LEADS if lead in header.lead_names)
    if not leads:
        raise SignalError(f"{header.name}: {describe_missing_leads(header.lead_names)}")
    return leads, preprocess(header, integers, leads)
