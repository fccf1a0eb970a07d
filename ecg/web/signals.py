"""Read recordings for the page: signals as integers of 16 bits, and repairs."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from ecg.data.headers import Header, HeaderError, Lead, RecordError, read_header
from ecg.data.leads import LEADS
from ecg.data.loading import filter_recording
from ecg.data.preprocessing import Repair, correct_gains, crop_to_max_duration, leads_first
from ecg.data.records import read_raw_signal
from ecg.data.resampling import RATE
from ecg.runtime.console import describe_error, remove_record_name

RAW, FILTERED = "raw", "filtered"
KINDS = (RAW, FILTERED)
INVALID = -(2**15)  # marks an invalid sample
LARGEST = 2**15 - 1


class PackedSignal(NamedTuple):
    """A signal as it is sent.

    Attributes:
        leads: Names of the leads.
        integers: (n_leads, n_samples) little-endian int16; INVALID marks an invalid sample.
        frequency: Samples per second.
        microvolts: Microvolts in one unit of each lead, (n_leads,).
    """

    leads: tuple[str, ...]
    integers: np.ndarray
    frequency: float
    microvolts: np.ndarray

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that describe the signal."""
        return {
            "X-Leads": join_names(self.leads),
            "X-Samples": str(self.integers.shape[1]),
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

    Args:
        path: The header's path.
        early_gains: Whether the gains of headers of early 2020 are corrected.
    """
    facts = RecordingFacts(None)
    try:
        facts = RecordingFacts(read_header(path))
        header, integers, warnings = _read_oriented(path, early_gains)
        facts = facts._replace(samples=integers.shape[1])
        prepared = filter_recording(header, crop_to_max_duration(header, integers))[1]
        return facts._replace(repairs=(*(Repair(warning, (), 1) for warning in warnings), *prepared.repairs))
    except (RecordError, OSError) as error:
        return facts._replace(reason=remove_record_name(describe_error(error), path))


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
    rows = _voltage_rows(header)
    if not rows:
        raise HeaderError(f"{header.name}: no lead is in mV, uV or V")
    packed = [_pack_lead(integers[row], header.leads[row]) for row in rows]
    samples = np.stack([lead_samples for lead_samples, _ in packed])
    names = tuple(header.leads[row].name for row in rows)
    return PackedSignal(names, samples, header.sampling_frequency, np.array([unit for _, unit in packed]))


def _voltage_rows(header: Header) -> list[int]:
    """Return the rows of the leads that are voltages, the twelve standard ones first."""
    rows = [row for row, lead in enumerate(header.leads) if _has_voltage_gain(lead)]
    order = {name: index for index, name in enumerate(LEADS)}
    return sorted(rows, key=lambda row: order.get(header.leads[row].name, len(LEADS)))


def _has_voltage_gain(lead: Lead) -> bool:
    try:
        return bool(lead.per_millivolt)
    except HeaderError:
        return False


def _pack_lead(samples: np.ndarray, lead: Lead) -> tuple[np.ndarray, float]:
    """Return the samples (n,) of a lead as int16, and the microvolts in one of them."""
    microvolts = 1000 / lead.per_millivolt
    valid = np.isfinite(samples) & (samples != lead.invalid)
    packed = np.full(len(samples), INVALID, "<i2")
    if not valid.any():
        return packed, abs(microvolts)
    values = samples[valid].astype(np.float64)
    middle = np.quantile(values, 0.5, method="lower")
    values -= middle
    if microvolts < 0:
        values, microvolts = -values, -microvolts
    largest = np.abs(values).max()
    is_integer = samples.dtype.kind in "iu"
    if largest > LARGEST or not is_integer:
        scale = max(largest, np.finfo(np.float64).tiny) / LARGEST
        values, microvolts = values / scale, microvolts * scale
    packed[valid] = np.rint(values)
    return packed, microvolts
