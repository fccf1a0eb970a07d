"""Read recordings in the formats of hospitals and devices, through ecgdatakit."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ecg.data.headers import HIGHEST_FREQUENCY, LOWEST_FREQUENCY, MILLIVOLTS, RecordError
from ecg.data.matlab import MOST_BYTES
from ecg.data.record_writer import LeadScale
from ecg.data.unread_files import name_format
from ecg.runtime.console import abbreviated_list
from ecg.runtime.files import check_file_size

if TYPE_CHECKING:
    from ecgdatakit import ECGRecord, Lead

FINEST = 1e5  # integers per mV for samples that are no integers: steps of 0.01 uV
LARGEST_BASELINE = 2**31 - 1
UNKNOWN = "not in a format that is known, or damaged"
FAULT = -32768  # stored by ISHNE recorders if a lead has no value
UNSCALED = "auto_scale=False"  # how a warning of ecgdatakit begins that is always given
SEXES = {"m": "Male", "f": "Female"}
# Where ecgdatakit keeps further names and numbers of the patient.
IDENTITY_FIELDS = ("second_last_name", "middle_name", "patient_middle_name", "patient_name_phonetic", "mrn",
                   "uniquepatientid")  # fmt: skip


class HospitalFormatError(RecordError):
    """A file is not a recording in a known format, or is damaged.

    Args:
        name: Name of the file.
        reason: What is wrong with it, in words that quote neither its name nor its content.
        detail: More, which may quote them.
    """

    def __init__(self, name: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{name}: {reason}{f': {detail}' if detail else ''}")
        self.reason = reason


class FormatsMissing(RuntimeError):
    """The package that reads the formats is not installed."""


class HospitalRecording(NamedTuple):
    """A recording from a hospital's file.

    Attributes:
        format: Name of the format, such as "DICOM Waveform".
        frequency: Sampling frequency in Hz.
        leads: The L leads.
        integers: Samples, (T, L) int16 or int32; the smallest integer of the type means no value.
        age: Age in years, or None.
        sex: "Male", "Female" or "Unknown".
        statements: What a device or a physician wrote about it.
        identity: The patient's names and numbers, without empty ones. They must not be written anywhere unasked.
        lost: What the record of the Challenge's format has no place for.
    """

    format: str
    frequency: float
    leads: tuple[LeadScale, ...]
    integers: np.ndarray
    age: int | None
    sex: str
    statements: tuple[str, ...]
    identity: tuple[str, ...]
    lost: tuple[str, ...]


def import_reader() -> tuple[Any, type[Exception]]:
    """Import the package that reads the formats.

    Returns:
        Its reader, and the error that says in its own words what is wrong with a file.

    Raises:
        FormatsMissing: It is not installed.
    """
    try:
        from ecgdatakit import ECGDataKitError, FileParser
    except ImportError:
        raise FormatsMissing("ecgdatakit is missing: pip install 'reduced-lead-ecg[formats]'") from None
    return FileParser, ECGDataKitError


def read_hospital_file(path: Path) -> HospitalRecording:
    """Read a recording in any of the formats that ecgdatakit knows.

    Integers stay as they are stored; their gain and baseline become those of a WFDB header. Other samples are
    rounded to 0.01 uV.

    Args:
        path: The file.

    Raises:
        HospitalFormatError: The file is of another format or damaged, or has no lead in millivolts. The message may
            quote the file.
        FormatsMissing: ecgdatakit is not installed.
        OSError: The file cannot be read.
    """
    reader, known_error = import_reader()
    try:
        check_file_size(path, MOST_BYTES, RecordError)
    except RecordError as error:
        raise HospitalFormatError(path.name, str(error).removeprefix(f"{path.name}: ")) from None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            record = reader.parse(path, auto_scale=False)
    except OSError:
        raise
    except ImportError as error:
        raise FormatsMissing(f"{error}: pip install 'reduced-lead-ecg[formats]'") from None
    except known_error as error:
        kind = name_format(path)
        raise HospitalFormatError(path.name, f"damaged {kind}" if kind else UNKNOWN, str(error)) from None
    except Exception as error:  # a parser met what nobody expected
        raise HospitalFormatError(path.name, UNKNOWN, f"{type(error).__name__}: {error}") from error
    check_complete(path.name, record)
    messages = [str(warning.message) for warning in caught]
    remarks = [message.replace(path.name, "the file") for message in messages if not message.startswith(UNSCALED)]
    recording = convert_record(path.name, record)
    return recording._replace(lost=(*recording.lost, *remarks))


def check_complete(name: str, record: "ECGRecord") -> None:
    """Check that an ISHNE file has as many samples as its header says.

    ecgdatakit accepts any number. Recorders write the number of samples of a lead, or of all leads together.

    Raises:
        HospitalFormatError: It has fewer.
    """
    if record.source_format != "ishne_holter":
        return
    expected, received = (record.raw_metadata[field] for field in ("ecg_size", "samples_per_lead"))
    if expected > received and expected != received * len(record.leads):
        raise HospitalFormatError(name, f"damaged ISHNE: {received:,} samples of a lead, {expected:,} by its header")


def convert_record(name: str, record: "ECGRecord") -> HospitalRecording:
    """Turn a record of ecgdatakit into a recording.

    Args:
        name: What messages call the file.
        record: The record, its samples as they are stored.

    Raises:
        HospitalFormatError: It has no lead in millivolts, or an impossible sampling frequency.
    """
    leads, lost = _select_leads(name, record.leads)
    frequency = leads[0].sampling_rate
    if not LOWEST_FREQUENCY <= frequency <= HIGHEST_FREQUENCY:
        raise HospitalFormatError(name, f"sampling frequency {frequency} Hz, expected {LOWEST_FREQUENCY:g} to "
                                        f"{HIGHEST_FREQUENCY:g}")  # fmt: skip
    if record.source_format == "ishne_holter":
        leads = [replace(lead, samples=np.where(lead.samples == FAULT, np.nan, lead.samples)) for lead in leads]
    scales, integers = _encode_samples(leads)
    patient, lost = record.patient, [*lost, *_describe_lost(record)]
    identity = (patient.last_name, patient.first_name, patient.patient_id,
                *(str(record.raw_metadata.get(field, "")) for field in IDENTITY_FIELDS))  # fmt: skip
    known_age = patient.age if patient.age is not None and patient.age >= 0 else None
    statements = [text for pair in record.interpretation.statements for text in pair if text.strip()]
    return HospitalRecording(record.file_format.name, frequency, scales, integers, known_age,
                             SEXES.get(patient.sex.strip()[:1].casefold(), "Unknown"), tuple(statements),
                             tuple(text.strip() for text in identity if text.strip()), tuple(lost))  # fmt: skip


def _select_leads(name: str, leads: Sequence["Lead"]) -> tuple[list["Lead"], list[str]]:
    """Select leads in volts with the most frequent sampling frequency and length.

    Returns:
        The leads, and what is lost.
    """
    is_usable = [bool(_millivolts(lead) and len(lead.samples)) for lead in leads]
    voltages = list(compress(leads, is_usable))
    unitless = [lead.label for lead, usable in zip(leads, is_usable, strict=True) if not usable]
    if not voltages:
        raise HospitalFormatError(name, f"none of {len(leads)} leads is in volts: {abbreviated_list(unitless)}")
    shapes = [(lead.sampling_rate, len(lead.samples)) for lead in voltages]
    usual = max(dict.fromkeys(shapes), key=shapes.count)
    chosen = [lead for lead, shape in zip(voltages, shapes, strict=True) if shape == usual]
    rest = [lead.label for lead, shape in zip(voltages, shapes, strict=True) if shape != usual]
    lost = [f"leads without a unit of volts: {', '.join(unitless)}"] * bool(unitless)
    lost += [f"leads of another sampling frequency or length: {', '.join(rest)}"] * bool(rest)
    return chosen, lost


def _millivolts(lead: "Lead") -> float:
    """Return the millivolts in one unit of a lead, or 0 if the unit is none of volts."""
    unit = (lead.resolution_unit if lead.is_raw else lead.units).strip().casefold()
    factor = MILLIVOLTS.get(unit.replace("\N{MICRO SIGN}", "u"), 1e-6 if unit == "nv" else 0.0)
    scale = lead.resolution if lead.is_raw else 1.0
    return factor if math.isfinite(scale) and scale and math.isfinite(lead.offset) else 0.0


def _encode_samples(leads: Sequence["Lead"]) -> tuple[tuple[LeadScale, ...], np.ndarray]:
    """Return the scales of leads, and their samples (T, L) int16, or int32 if needed."""
    columns, scales = [], []
    for lead in leads:
        samples = np.asarray(lead.samples, np.float64)
        valid = np.isfinite(samples)
        step = _millivolts(lead) * (lead.resolution if lead.is_raw else 1.0)
        baseline = -lead.offset / lead.resolution if lead.is_raw else 0.0
        is_integer = np.array_equal(samples[valid], np.rint(samples[valid])) and abs(baseline) < LARGEST_BASELINE
        if not (lead.is_raw and is_integer):
            samples = (samples - baseline) * step * FINEST
            step, baseline = 1 / FINEST, 0.0
        columns.append(np.where(valid, np.rint(samples), np.nan))
        scales.append(LeadScale(lead.label.replace(" ", "_") or "unnamed", 1 / step, round(baseline)))
    samples = np.column_stack(columns)
    largest = np.nanmax(np.abs(samples), initial=0.0)
    kind = np.int16 if largest < 2**15 else np.int32
    limits = np.iinfo(kind)
    clipped = np.clip(samples, limits.min + 1, limits.max)  # the smallest means no value
    return tuple(scales), np.where(np.isnan(samples), limits.min, clipped).astype(kind)


def _describe_lost(record: "ECGRecord") -> list[str]:
    """Return what else a record has that a header of the Challenge has no place for."""
    patient, parts = record.patient, []
    checks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("time of the recording", lambda: record.recording.date),
        ("measurements of intervals and axes", lambda: any(vars(record.measurements).values())),
        ("average beats", lambda: record.median_beats),
        ("weight and height", lambda: patient.weight or patient.height),
        ("medication and history", lambda: patient.medications or patient.clinical_history),
        ("pacemaker", lambda: patient.has_pacemaker),
        ("samples filtered by the device", lambda: record.leads_enhanced),
    )
    parts = [title for title, has in checks if has()]
    return [f"no place for {', '.join(parts)}"] if parts else []
