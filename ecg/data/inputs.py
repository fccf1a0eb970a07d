"""Recordings and labels that programs pass: paths of records, arrays, matrices."""

import math
import numbers
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from ecg.data.headers import HIGHEST_FREQUENCY, LOWEST_FREQUENCY, OLDEST, Header, Lead, RecordError, read_header
from ecg.data.leads import LEAD_SETS, LEADS, standard_name
from ecg.data.records import SignalError, find_header, read_raw_signal
from ecg.data.sex_words import parse_sex
from ecg.runtime.console import abbreviated_list

MILLIVOLT = 1.0  # gain of a signal that is in mV
NO_FORMAT = ""  # storage format of an array: no number marks a missing value


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording in memory.

    Attributes:
        signal: Physical values in millivolts, (n_samples, n_leads). NaN is a missing value.
        leads: Names of the leads in the order of the columns, in any spelling that `ecg.data.leads.standard_name`
            knows; or the number of leads of one of the Challenge's lead sets: 12, 6, 4, 3 or 2.
        frequency: Sampling frequency in Hz.
        age: Age in years; None if unknown.
        sex: "Female", "Male" or another word for one of them; None if unknown.
    """

    signal: np.ndarray
    leads: int | Sequence[str]
    frequency: float
    age: float | None = None
    sex: str | None = None


AnyRecording = str | os.PathLike | np.ndarray | Recording


class OpenedRecording(NamedTuple):
    """A recording as the preprocessing takes it.

    Attributes:
        header: Its header.
        samples: Stored integers, or millivolts with a gain of 1, (n_leads, n_samples).
        warnings: What is unusual about its files (`ecg.data.records.RawSignal`).
    """

    header: Header
    samples: np.ndarray
    warnings: tuple[str, ...] = ()


def resolve_leads(leads: int | Iterable[str]) -> tuple[str, ...]:
    """Return the standard names of leads.

    Args:
        leads: Names in any spelling that `ecg.data.leads.standard_name` knows, or the number of leads of a lead set.

    Raises:
        ValueError: A lead is unknown or there twice, or no lead set has this number.
    """
    if isinstance(leads, numbers.Integral):
        if leads not in LEAD_SETS:
            raise ValueError(f"leads: expected names or one of {', '.join(map(str, LEAD_SETS))}, received {leads}")
        return LEAD_SETS[int(leads)]
    if isinstance(leads, str) or not isinstance(leads, Iterable):
        raise ValueError(f"leads: expected several names or a number of leads, received {leads!r}")
    names = tuple(standard_name(str(name)) for name in leads)
    if unknown := [name for name in names if name not in LEADS]:
        raise ValueError(f"leads: {', '.join(map(repr, unknown))} unknown, expected some of {', '.join(LEADS)}")
    if repeated := [name for name in LEADS if names.count(name) > 1]:
        raise ValueError(f"leads: {', '.join(repeated)} there twice")
    return names


def open_recording(recording: AnyRecording, name: str = "recording") -> OpenedRecording:
    """Read a record, or check a recording in memory.

    Args:
        recording: Path of a record, with or without extension, or a `Recording`.
        name: What messages call a recording in memory.

    Raises:
        RecordError: The record cannot be read; or signal, frequency or age of the recording are none.
        ValueError: A lead is unknown or there twice.
        TypeError: It is something else.
    """
    if isinstance(recording, str | os.PathLike):
        path = find_header(recording)
        header = read_header(path)
        stored = read_raw_signal(path, header)
        return OpenedRecording(header, stored.samples, stored.warnings)
    if not isinstance(recording, Recording):
        kind = type(recording).__name__
        raise TypeError(f"{name}: expected a path, an array (samples, leads) or a Recording, received {kind}")
    leads, signal = resolve_leads(recording.leads), np.asarray(recording.signal)
    check_signal(signal, leads, name)
    lines = tuple(Lead(lead, name, NO_FORMAT, 0, MILLIVOLT, 0, "mV") for lead in leads)
    header = Header(name, check_frequency(recording.frequency, name), len(signal), lines, math.nan, "Unknown", ())
    return OpenedRecording(set_demographics(header, recording.age, recording.sex), signal.T)


def set_demographics(header: Header, age: float | None, sex: str | None) -> Header:
    """Return a header with another age or sex; None leaves it as it is.

    Raises:
        RecordError: The age is none.
    """
    if age is not None:
        is_number = isinstance(age, numbers.Real)
        if not is_number or not (math.isnan(age) or 0 <= age <= OLDEST):
            raise RecordError(f"{header.name}: expected an age from 0 to {OLDEST:g} years, received {age!r}")
        header = replace(header, age=float(age))
    return header if sex is None else replace(header, sex=parse_sex(sex))


def check_signal(signal: np.ndarray, leads: Sequence[str], name: str) -> None:
    """Check type and shape of a signal in memory.

    Args:
        signal: The signal.
        leads: Names of its leads.
        name: What messages call it.

    Raises:
        SignalError: It is not (n_samples, n_leads) of numbers.
    """
    if signal.dtype.kind not in "iuf":
        raise SignalError(f"{name}: expected numbers in mV, received {signal.dtype}")
    if signal.ndim != 2 or signal.shape[1] != len(leads) or not signal.size:
        is_turned = signal.ndim == 2 and signal.shape[0] == len(leads) and signal.size
        hint = "; transpose it" if is_turned else ""
        expected = f"(samples, {len(leads)}) for {', '.join(leads)}"
        raise SignalError(f"{name}: expected the shape {expected}, received {signal.shape}{hint}")


def check_frequency(frequency: object, name: str) -> float:
    """Return a sampling frequency.

    Args:
        frequency: In Hz.
        name: What messages call its recording.

    Raises:
        RecordError: It is no number within the limits of headers.
    """
    if (
        isinstance(frequency, int | float | np.integer | np.floating)
        and LOWEST_FREQUENCY <= float(frequency) <= HIGHEST_FREQUENCY
    ):
        return float(frequency)
    expected = f"a sampling frequency from {LOWEST_FREQUENCY:g} to {HIGHEST_FREQUENCY:,.0f} Hz"
    raise RecordError(f"{name}: expected {expected}, received {frequency!r}")


def has_label_sets(y: Any) -> bool:
    """Return whether labels are a set of names for each recording, not a matrix."""
    if issparse(y) or not isinstance(y, Collection) or isinstance(y, str | bytes):
        return False
    rows = list(y)
    return bool(rows) and all(
        isinstance(row, set | frozenset | list | tuple) and all(isinstance(name, str) for name in row) for row in rows
    )


def encode_label_sets(label_sets: Iterable[Collection[str]], classes: Sequence[str]) -> np.ndarray:
    """Return sets of names as a matrix.

    Args:
        label_sets: The classes of each of N recordings.
        classes: Names of the K classes.

    Returns:
        (N, K) bool.

    Raises:
        ValueError: A name is not among the classes.
    """
    index, rows = {name: column for column, name in enumerate(classes)}, []
    for number, names in enumerate(label_sets):
        if unknown := [name for name in names if name not in index]:
            raise ValueError(f"y[{number}]: {', '.join(sorted(unknown))} not among the classes "
                             f"{abbreviated_list(classes)}")  # fmt: skip
        rows.append(np.isin(np.arange(len(classes)), [index[name] for name in names]))
    return np.array(rows)


def check_labels(y: Any, classes: Sequence[str]) -> np.ndarray:
    """Return a matrix of labels as an array.

    Args:
        y: Whether each recording has each class, (N, K), dense or sparse.
        classes: Names of the classes.

    Returns:
        (N, K) bool.

    Raises:
        ValueError: y has another shape, or a value that is neither 0 nor 1.
    """
    labels = np.asarray(y.toarray() if issparse(y) else y)
    if labels.ndim != 2 or labels.shape[1] != len(classes):
        expected = f"(recordings, {len(classes)}), a column for each of the classes"
        raise ValueError(
            f"y: expected the shape {expected}, or a set of names for each recording, received {labels.shape}"
        )
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        raise ValueError("y: expected 0 or 1 for each class")
    return labels.astype(bool)
