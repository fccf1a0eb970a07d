"""Read recordings for the page: signals as integers of 16 bits, and repairs."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from ecg.data.headers import Header, HeaderError, Lead, RecordError, read_header
from ecg.data.leads import LEADS
from ecg.data.loading import filter_recording
from ecg.data.preprocessing import FINITE, MAX_DURATION, Repair, correct_gains, crop_to_max_duration, leads_first
from ecg.data.records import read_raw_signal
from ecg.data.resampling import RATE
from ecg.data.windows import SampleReader, open_samples
from ecg.runtime.console import describe_error, remove_record_name

RAW, FILTERED = "raw", "filtered"
KINDS = (RAW, FILTERED)
INVALID = -(2**15)  # marks an invalid sample
LARGEST = 2**15 - 1
# Samples of all leads; twelve leads have fewer in half an hour at 500 Hz. Of a longer recording, windows and an
# envelope are sent (ecg.web.envelopes), and it is not filtered.
MOST_WHOLE = 12_000_000


class PackedSignal(NamedTuple):
    """A signal as it is sent.

    Attributes:
        leads: Names of the leads.
        integers: (n_leads, n_samples) little-endian int16; INVALID marks an invalid sample.
        frequency: Samples per second.
        microvolts: Microvolts in one unit of each lead, (n_leads,).
        block: Samples in a block, of which the lowest and the highest are sent, (n_leads, 2, n_blocks); 1 for samples.
        total: Number of samples in all blocks.
    """

    leads: tuple[str, ...]
    integers: np.ndarray
    frequency: float
    microvolts: np.ndarray
    block: int = 1
    total: int | None = None

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that describe the signal."""
        return {
            "X-Leads": join_names(self.leads),
            "X-Samples": str(self.integers.shape[-1] if self.total is None else self.total),
            "X-Block": str(self.block),
            "X-Frequency": f"{self.frequency:.10g}",
            "X-Microvolts-Per-Unit": ",".join(f"{value:.9g}" for value in self.microvolts),
            "X-Invalid": str(INVALID),
        }


class RecordingFacts(NamedTuple):
    """What the files of a recording hold.

    Attributes:
        header: The header; None if it cannot be read.
        samples: Number of samples of a lead; 0 if they cannot be read.
        repairs: What was repaired.
        reason: Why the recording cannot be used, or an empty string.
    """

    header: Header | None
    samples: int = 0
    repairs: tuple[Repair, ...] = ()
    reason: str = ""


def join_names(names: Sequence[str]) -> str:
    """Return names for an HTTP header: percent-encoded, with commas between them."""
    return ",".join(quote(name, safe="", errors="backslashreplace") for name in names)


def read_facts(path: Path, early_gains: bool) -> RecordingFacts:
    """Read the files of a recording; faults raise no error.

    Of a long recording only the beginning is read.

    Args:
        path: The header's path.
        early_gains: Whether the gains of headers of early 2020 are corrected.
    """
    facts = RecordingFacts(None)
    try:
        header = read_header(path)
        facts, warnings = RecordingFacts(header), tuple[str, ...]()
        reader = open_long(path, header)
        if reader is None:
            header, integers, warnings = _read_oriented(path, early_gains)
            facts = facts._replace(samples=integers.shape[1])
        else:
            header, integers = read_beginning(header, reader, early_gains)
            facts, header = facts._replace(samples=reader.n_samples), replace(header, samples=0)
        prepared = filter_recording(header, crop_to_max_duration(header, integers))[1]
        return facts._replace(repairs=(*(Repair(warning, (), 1) for warning in warnings), *prepared.repairs))
    except (RecordError, OSError) as error:
        return facts._replace(reason=remove_record_name(describe_error(error), path))


def open_long(path: Path, header: Header) -> SampleReader | None:
    """Return a reader of parts of a long recording, or None for a shorter one.

    A long recording has more than MOST_WHOLE samples.

    Raises:
        SignalError: The files of a long recording cannot be read.
    """
    samples = header.samples
    if not samples:
        with suppress(RecordError):  # the error of reading it as a whole says more
            samples = open_samples(path, header).n_samples
    return open_samples(path, header) if samples * len(header.leads) > MOST_WHOLE else None


def read_beginning(header: Header, reader: SampleReader, early_gains: bool) -> tuple[Header, np.ndarray]:
    """Return the header, with corrected gains if asked for, and what training sees."""
    most = round(MAX_DURATION * header.sampling_frequency)
    integers = reader.read(0, min(most, reader.n_samples))
    return (correct_gains(header, integers)[0] if early_gains else header), integers


def pack_recording(path: Path, kind: str, early_gains: bool) -> PackedSignal:
    """Read the signal of a recording.

    Args:
        path: The header's path.
        kind: RAW, or FILTERED as networks see it by default.
        early_gains: Whether the gains of headers of early 2020 are corrected.

    Raises:
        RecordError: The recording cannot be read, or not be filtered.
    """
    header, integers, _ = _read_oriented(path, early_gains)
    if kind == RAW:
        return pack_raw_signal(header, integers)
    leads, prepared = filter_recording(header, integers)
    samples = np.ascontiguousarray(prepared.microvolts.T, "<i2")
    return PackedSignal(leads, samples, RATE, np.ones(len(leads)))


def _read_oriented(path: Path, early_gains: bool) -> tuple[Header, np.ndarray, tuple[str, ...]]:
    """Read a recording, leads first, and what was unusual about its file."""
    header = read_header(path)
    stored = read_raw_signal(path, header)
    integers = leads_first(header, stored.samples)
    if early_gains:
        header, _ = correct_gains(header, integers)
    return header, integers, stored.warnings


def pack_raw_signal(header: Header, integers: np.ndarray) -> PackedSignal:
    """Pack the leads of a recording that are voltages, the standard ones first.

    The median of each lead is subtracted, so that each lies on its line. A lead that does not fit into 16 bits is
    rescaled.

    Args:
        header: Its header.
        integers: Stored integers, (L, n).

    Raises:
        HeaderError: No lead is a voltage.
    """
    rows = voltage_rows(header)
    packed = np.full((len(rows), integers.shape[1]), INVALID, "<i2")
    units = np.zeros(len(rows))
    for index, row in enumerate(rows):
        valid = find_valid(integers[row], header.leads[row])
        values = integers[row][valid].astype(np.float64)
        unit = choose_unit(header.leads[row], values, values, integers.dtype)
        packed[index, valid], units[index] = unit.pack(values), unit.microvolts
    return PackedSignal(tuple(header.leads[row].name for row in rows), packed, header.sampling_frequency, units)


def voltage_rows(header: Header) -> list[int]:
    """Return the rows of the leads that are voltages, the twelve standard ones first.

    Raises:
        HeaderError: There is none. The message says why the first lead is none.
    """
    rows, reasons = [], []
    for row, lead in enumerate(header.leads):
        try:
            rows += [row] * bool(lead.per_millivolt)
        except HeaderError as error:
            reasons.append(str(error))
    if not rows:
        raise HeaderError(f"{header.name}: no lead is a voltage; {reasons[0]}")
    order = {name: index for index, name in enumerate(LEADS)}
    return sorted(rows, key=lambda row: order.get(header.leads[row].name, len(LEADS)))


def find_valid(samples: np.ndarray, lead: Lead) -> np.ndarray:
    """Return which stored samples of a lead are measurements, bool in their shape.

    Others are marked invalid, not finite, or of a size that no recorder has.
    """
    valid = np.ones(samples.shape, bool) if lead.invalid is None else samples != lead.invalid
    if samples.dtype.kind == "f":
        valid &= np.abs(samples.astype(np.float64)) < FINITE * abs(lead.per_millivolt)  # False for NaN
    return valid


class LeadUnit(NamedTuple):
    """How the samples of a lead become integers of 16 bits.

    Attributes:
        middle: The stored sample that becomes 0.
        size: Difference of stored samples that becomes 1; negative if the gain is.
        microvolts: The same difference in microvolts.
    """

    middle: float
    size: float
    microvolts: float

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Return stored samples (float64) in this unit, rounded."""
        return np.rint((values - self.middle) / self.size)


def choose_unit(lead: Lead, values: np.ndarray, extremes: np.ndarray, dtype: np.dtype) -> LeadUnit:
    """Choose a unit in which all samples of a lead fit into 16 bits.

    Integers that fit stay as they are.

    Args:
        lead: The lead.
        values: Valid stored samples, whose median becomes 0.
        extremes: Valid samples with the lowest and the highest.
        dtype: Type of the stored samples.
    """
    microvolts = 1000 / lead.per_millivolt
    if not len(values):
        return LeadUnit(0.0, 1.0, abs(microvolts))
    middle = float(np.quantile(values, 0.5, method="lower"))
    largest, size = max(middle - extremes.min(), extremes.max() - middle), 1.0
    if largest > LARGEST or dtype.kind not in "iu":
        size = max(largest, np.finfo(np.float64).tiny) / LARGEST
    return LeadUnit(middle, float(np.copysign(size, microvolts)), float(abs(microvolts) * size))
