"""Repair, resample and filter recordings, and encode demographics.

`preprocess` makes the input of networks from stored samples, for training and for prediction alike.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ecg.data.headers import Header, HeaderError, Lead, RecordError
from ecg.data.labels import source_of
from ecg.data.leads import LEADS, LIMB, derivation_weights, find_lead_set
from ecg.data.records import TRANSPOSED, SignalError
from ecg.data.resampling import DEFAULT_PREPROCESSING, RATE, Preprocessing, rational_ratio, resample_and_filter

N_DEMOGRAPHICS = 5
OLDEST = 100.0  # years that are encoded as 1, as are more
SEXES = ("Female", "Male")


def encode_demographics(age: float, sex: str) -> np.ndarray:
    """Encode age and sex as numbers (Zhao et al. 2022).

    Args:
        age: In years; NaN if unknown.
        sex: "Female", "Male", or another string if unknown.

    Returns:
        Age from 0 to 1, female, male, age unknown, sex unknown: (5,) float32. What is unknown is 0 otherwise.
    """
    unknown = math.isnan(age)
    years = 0.0 if unknown else min(max(age, 0.0), OLDEST) / OLDEST
    return np.array([years, *(sex == name for name in SEXES), unknown, sex not in SEXES], np.float32)


MAX_DURATION = 144.0  # s; the longest recording of CPSC. Longer ones are cropped in training and predicted in segments
MIN_DURATION = 1.0  # s; less shows no rhythm
MOST_HOURS = 48.0  # in a recording that is predicted, as in those of Holter recorders
LARGEST = 20.0  # mV; a larger value is a recording fault
MAX_REPAIRED_SHARE = 1 / 20  # a lead with a larger share of faulty samples counts as absent
FINITE = 1e12  # mV; a larger number is no measurement, and sums of such numbers overflow
EXACT_SUMS = {"i": np.int64, "u": np.uint64, "f": np.float64}  # types with exact sums, by kind of number
RESOLUTION = np.float32(1e-3)  # mV; signals are integers of microvolts, which 16 bits hold without loss
LARGEST_MICROVOLTS = 32767

# Kinds of repair: of leads (with TRANSPOSED), and from NOT_FINITE on of samples.
GAIN = "gain corrected"
GAIN_ZERO = "gain 0 taken for 200"
REJECTED = "lead rejected for its faults"
COMPUTED = "lead computed from others"
FLAT = "flat lead"
SKIPPED = "segment of a long recording not used"
NOT_FINITE = "not finite"
INVALID_VALUE = "marked invalid"
SPIKE = "beyond 20 mV"

# Headers of early 2020 have these gains, by source, for integers that are microvolts. The two numbers after the gain
# are the limits, in mV, of the corrected signal's range: the median over the leads that move of the range of 99% of
# their samples. A right header may have the same gain; its signal would become 4.9 times as large (Georgia) or a fifth
# (PTB-XL). In 655 real recordings of these sources, in each of the five lead sets, Georgia's range is 0.4 to 2.3 mV,
# PTB-XL's 0.3 to 4.0, and PTB's 1.0 to 3.5. Only a gain that is written is corrected: PTB-XL's 200 is also WFDB's
# default for a header without gains.
# No range separates right gains from wrong ones: of 366 real recordings of PTB-XL that truly have 200 integers for a
# millivolt, 138 look wrong, and so do small ones of Georgia at 4880. Gains are therefore only corrected on request.
MICROVOLTS = 1000.0
EARLY_GAINS = {"Georgia": (4880.0, 0.2, 3.0), "PTB-XL": (200.0, 0.25, 6.0), "PTB": (2e6, 0.2, 8.0)}


class Repair(NamedTuple):
    """What was repaired in a recording.

    Attributes:
        kind: Kind of fault.
        leads: Names of the leads.
        count: Number of samples, or of leads.
    """

    kind: str
    leads: tuple[str, ...]
    count: int  # type: ignore[assignment]


class PreparedSignal(NamedTuple):
    """A prepared signal.

    Attributes:
        microvolts: (T', leads) int16.
        repairs: What was repaired in it.
    """

    microvolts: np.ndarray
    repairs: tuple[Repair, ...]

    @property
    def signal(self) -> np.ndarray:
        """The signal in mV, as networks take it: (T', leads) float32."""
        return self.microvolts * RESOLUTION


def preprocess(
    header: Header,
    recording: np.ndarray,
    leads: Sequence[str],
    full_recording: np.ndarray | None = None,
    preparation: Preprocessing = DEFAULT_PREPROCESSING,
) -> PreparedSignal:
    """Repair, resample and filter some leads of a recording, without delay.

    By default as in Cai et al. 2021: each lead is divided by its gain, its mean is subtracted, samples beyond 20 mV are
    interpolated, and the lead is resampled to 250 Hz by FFT and band-passed from 0.5 to 45 Hz by an FIR filter.

    A lead counts as absent if more than a twentieth of its samples are faulty. An absent limb lead is computed from two
    others. Another lead that is in the file and counts as absent is flat.

    Args:
        header: The recording's header.
        recording: Stored integers (L, T), rows in the header's order.
        leads: Names of the wanted leads.
        full_recording: All of the recording (L, n), if `recording` is a segment of it. Early-2020 gains are checked in
            it, so that all segments have the same gains.
        preparation: Sampling frequency, pass band and method.

    Returns:
        The signal (T', leads) with T' = ceil(rate T / sampling frequency), within 32.767 mV, and the repairs.

    Raises:
        SignalError: A lead is missing and cannot be computed, the valid leads fill none of the Challenge's lead sets,
            the recording lasts less than a second or has another shape than the header says, or all wanted leads are
            flat.
    """
    oriented = leads_first(header, recording)
    corrected: tuple[str, ...] = ()
    if preparation.early_gains:
        header, corrected = correct_gains(header, oriented if full_recording is None else full_recording)
    signal, lead_repairs = _choose_leads(header, oriented, leads)
    seconds = oriented.shape[1] / header.sampling_frequency
    if seconds < MIN_DURATION:
        raise SignalError(f"{header.name}: {seconds:.2f} s is shorter than {MIN_DURATION:g} s")
    transposed = leads if oriented.shape != np.shape(recording) else ()
    counted = {TRANSPOSED: dict.fromkeys(transposed, 1), GAIN: dict.fromkeys(corrected, 1)} | lead_repairs
    repairs = (Repair(kind, tuple(counts), sum(counts.values())) for kind, counts in counted.items() if counts)
    filtered = resample_and_filter(signal, header.sampling_frequency, preparation) / RESOLUTION
    filtered = np.rint(filtered, out=filtered).clip(-LARGEST_MICROVOLTS, LARGEST_MICROVOLTS, out=filtered)
    if not filtered.any():
        raise SignalError(f"{header.name}: {'every lead' if len(leads) > 1 else f'lead {leads[0]}'} is flat")
    return PreparedSignal(filtered.T.astype(np.int16, order="C"), tuple(repairs))


def leads_first(header: Header, recording: np.ndarray) -> np.ndarray:
    """Return a recording as (L, T), transposed if it is (T, L).

    Raises:
        SignalError: It has another shape than the header says, or does not hold numbers.
    """
    recording, count = np.asarray(recording), len(header.leads)
    if recording.ndim == 2 and len(recording) != count == recording.shape[1] and header.samples in (0, len(recording)):
        recording = recording.T
    if recording.ndim != 2 or len(recording) != count or not recording.size or recording.dtype.kind not in "iuf":
        received = f"{recording.dtype} {np.shape(recording)}"
        raise SignalError(f"{header.name}: {count} leads need (leads, samples) of numbers, not {received}")
    return recording


def crop_to_max_duration(header: Header, recording: np.ndarray) -> np.ndarray:
    """Return the first 144 s of a recording (L, T), which training sees: a view."""
    return recording[:, : round(MAX_DURATION * header.sampling_frequency)]


def split_segments(header: Header, recording: np.ndarray) -> list[np.ndarray]:
    """Split a recording into equal segments of MAX_DURATION or less.

    Returns:
        Consecutive views (L, n); the lengths differ by a sample at most.

    Raises:
        SignalError: The recording has another shape than the header says, or lasts more than MOST_HOURS.
    """
    recording = leads_first(header, recording)
    hours = recording.shape[1] / header.sampling_frequency / 3600
    if hours > MOST_HOURS:
        raise SignalError(f"{header.name}: {hours:,.1f} h of signal, expected {MOST_HOURS:g} h or less")
    here, at_250 = rational_ratio(header.sampling_frequency)
    samples, most = recording.shape[1], int(MAX_DURATION * RATE) * here // at_250
    count = -(-samples // most)
    edges = [samples * index // count for index in range(count + 1)]
    return [recording[:, first:last] for first, last in pairwise(edges)]


def correct_gains(header: Header, recording: np.ndarray) -> tuple[Header, tuple[str, ...]]:
    """Correct the gains of an early-2020 header if they look wrong (see EARLY_GAINS).

    The first 144 s of the recording (L, T) decide, as in training.

    Returns:
        The header, and the names of the corrected leads.
    """
    gain, lowest, highest = EARLY_GAINS.get(source_of(header.name), (math.nan, 0, 0))
    corrected = {
        row: lead._replace(gain=MICROVOLTS, units="mV")
        for row, lead in enumerate(header.leads)
        if lead.gain_written and lead.gain == gain and lead.name in LEADS and lead.units.casefold() in ("mv", "v")
    }
    if not corrected:
        return header, ()
    cropped = crop_to_max_duration(header, recording)[list(corrected)]
    signal, _ = to_centred_millivolts(cropped, list(corrected.values()))
    ranges = np.ptp(np.quantile(signal, (0.005, 0.995), axis=1), axis=0)
    if not lowest <= np.median(ranges[ranges > 0] if ranges.any() else 0) <= highest:
        return header, ()
    leads = tuple(corrected.get(row, lead) for row, lead in enumerate(header.leads))
    return replace(header, leads=leads), tuple(lead.name for lead in corrected.values())


def _choose_leads(
    header: Header, recording: np.ndarray, leads: Sequence[str]
) -> tuple[np.ndarray, dict[str, dict[str, int]]]:
    """Take the chosen leads from a recording (L, T), and compute absent limb leads.

    Other leads are read only if a chosen one is absent.

    Returns:
        Centred millivolts (leads, T) float32, and by kind of repair the number of samples, or 1, by the lead's name.
    """
    rows = {name: row for row, name in reversed(list(enumerate(header.lead_names)))}  # the first of each name
    used = [lead for lead in leads if lead in rows]
    signal, faults, rejected = _repair_leads(header, recording, [rows[name] for name in used])
    computed: list[str] = []
    if len(used) < len(leads) or rejected:
        signals = dict(zip(used, signal, strict=True))
        limb = [name for name in LIMB if name in rows and name not in used and _is_voltage(header.leads[rows[name]])]
        signal, limb_faults, rejected_limb = _repair_leads(header, recording, [rows[name] for name in limb])
        signals |= dict(zip(limb, signal, strict=True))
        usable = signals.keys() - rejected.keys() - rejected_limb.keys()
        if rejected and not find_lead_set(usable):
            raise _unusable_error(header, recording, rejected | rejected_limb)
        # A lead that cannot be computed is itself, even if it counts as absent.
        derivations = {lead: derivation_weights(lead, usable) or dict.fromkeys(rows.keys() & {lead}, 1.0)
                       for lead in leads}  # fmt: skip
        if missing := [lead for lead, weights in derivations.items() if not weights]:
            remark = ", nor two limb leads that give it" if LIMB.keys() & set(missing) else ""
            available = ", ".join(header.lead_names)
            raise SignalError(f"{header.name}: no lead {', '.join(missing)} among {available}{remark}")
        used += [name for weights in derivations.values() for name in weights]
        for kind, counts in limb_faults.items():
            faults[kind] |= {name: count for name, count in counts.items() if name in used}
        signal = np.zeros((len(leads), recording.shape[1]), np.float32)
        for row, weights in zip(signal, derivations.values(), strict=True):
            for name, weight in weights.items():
                row += weight * signals[name]
        computed = [lead for lead, weights in derivations.items() if lead not in weights]
    repaired = {
        GAIN_ZERO: [lead.name for lead in header.leads if lead.gain_is_zero and lead.name in used],
        REJECTED: rejected,
        COMPUTED: computed,
        FLAT: [lead for lead, row in zip(leads, signal, strict=True) if row[0] == row[-1] and np.ptp(row) == 0],
    }
    return signal, {kind: dict.fromkeys(names, 1) for kind, names in repaired.items()} | faults


def explain_unusable(header: Header, recording: np.ndarray) -> str | None:
    """Return why a recording's standard leads cannot be used, or None if they can."""
    leads = tuple(lead for lead in LEADS if lead in header.lead_names)
    try:
        _choose_leads(header, crop_to_max_duration(header, recording), leads)
    except RecordError as error:
        return str(error).removeprefix(f"{header.name}: ")
    return None


def _is_voltage(lead: Lead) -> bool:
    """Return whether a lead has units and a gain that can be used."""
    try:
        return bool(lead.per_millivolt)
    except HeaderError:
        return False


def _repair_leads(
    header: Header, recording: np.ndarray, rows: list[int]
) -> tuple[np.ndarray, dict[str, dict[str, int]], dict[str, str]]:
    """Convert rows of a recording (L, T) to centred millivolts and repair them.

    Returns:
        The signal (rows, T) float32, zeros where a lead is rejected; the faults by kind and lead; and the rejected
        leads, each with its most frequent kind of fault.
    """
    selected = recording if rows == list(range(len(recording))) else recording[rows]
    leads = [header.leads[row] for row in rows]
    signal, faults = to_centred_millivolts(selected, leads)
    totals = {lead.name: [faults[kind].get(lead.name, 0) for kind in faults] for lead in leads}
    rejected = {
        name: list(faults)[int(np.argmax(counts))]
        for name, counts in totals.items()
        if sum(counts) > MAX_REPAIRED_SHARE * recording.shape[1]
    }
    for row, lead in enumerate(leads):
        if lead.name in rejected:
            signal[row] = 0
    return signal, faults, rejected


def _unusable_error(header: Header, recording: np.ndarray, rejected: dict[str, str]) -> SignalError:
    """Return the error about a recording with too few valid leads."""
    pairs = [(row, lead) for row, lead in zip(recording, header.leads, strict=True) if lead.name in rejected]
    names = ", ".join(dict.fromkeys(lead.name for _, lead in pairs))
    if not any(np.any(np.isfinite(row) & (row != lead.invalid)) for row, lead in pairs):
        return SignalError(f"{header.name}: no sample was recorded, none of {names} has a valid one")
    kinds = ", ".join(dict.fromkeys(rejected.values()))
    remark = ": a unit or a gain is likely wrong" if SPIKE in rejected.values() else ""
    faulty = f"more than 1 in 20 samples of {names} are faulty ({kinds})"
    return SignalError(f"{header.name}: {faulty}, and no lead set is left{remark}")


def to_centred_millivolts(integers: np.ndarray, leads: Sequence[Lead]) -> tuple[np.ndarray, dict[str, dict[str, int]]]:
    """Convert leads to millivolts, subtract their means, and repair faults.

    Faults are samples that are not finite, that are marked invalid, or that are too far from the median of the others
    (a long spike would move the mean). Each lead is checked on its own.

    Args:
        integers: Stored samples (L, T).
        leads: Their L leads.

    Returns:
        The signal (L, T) float32, and by kind of fault the number of samples by the lead's name.
    """
    counts: dict[str, dict[str, int]] = {NOT_FINITE: {}, INVALID_VALUE: {}, SPIKE: {}}
    gains = [lead.per_millivolt for lead in leads]
    with np.errstate(over="ignore", invalid="ignore"):
        faulty = _find_faulty_rows(integers, leads, gains)
        is_short = integers.dtype == np.int16 and integers.shape[1] <= 2**16
        exact = np.int32 if is_short else EXACT_SUMS.get(integers.dtype.kind)  # 32 bits are the fastest
        means = np.add.reduce(integers, axis=1, dtype=exact) / integers.shape[1]
        # float32 holds integers of 24 bits exactly.
        fits = np.can_cast(integers.dtype, np.float32) or (integers.astype(np.float32) == integers).all()
        precision = np.dtype(np.float32 if fits else np.float64)
        signal: np.ndarray = integers.astype(precision, order="C")
        # The integer part of the mean first: that is exact, so that the result does not depend on the baseline.
        for offset in (np.rint(means), means - np.rint(means)):
            signal -= offset[:, np.newaxis].astype(precision)
        signal /= np.array(gains, precision)[:, np.newaxis]
        for row in faulty:
            signal[row], lead_faults = _repair_lead(integers[row], leads[row])
            for kind, count in lead_faults.items():
                counts[kind][leads[row].name] = count
    return signal.astype(np.float32, copy=False), counts


def _find_faulty_rows(integers: np.ndarray, leads: Sequence[Lead], gains: Sequence[float]) -> list[int]:
    """Return the rows of (L, T) that may have faults."""
    faulty = []
    lowest, highest = integers.min(axis=1).tolist(), integers.max(axis=1).tolist()
    for row, (lead, gain, low, high) in enumerate(zip(leads, gains, lowest, highest, strict=True)):
        far = not (high - low <= LARGEST * abs(gain) and abs(low - lead.baseline) < FINITE * abs(gain))  # NaN is far
        if far or (lead.invalid is not None and low <= lead.invalid <= high):
            faulty.append(row)
    return faulty


def _repair_lead(integers: np.ndarray, lead: Lead) -> tuple[np.ndarray, dict[str, int]]:
    """Convert a lead (T,) to centred millivolts, with its faults interpolated.

    Returns:
        The signal (T,) float64, 0 if no sample is good, and the number of faulty samples by kind.
    """
    signal = (integers.astype(np.float64) - lead.baseline) / lead.per_millivolt
    invalid = integers == lead.invalid
    infinite = ~(np.abs(signal) < FINITE) & ~invalid
    good = ~(infinite | invalid)
    masks = {NOT_FINITE: infinite, INVALID_VALUE: invalid}
    if good.any():
        # A recorded value: the mean of two may be far from both.
        middle = np.quantile(signal[good], 0.5, method="lower")
        masks[SPIKE] = good & (np.abs(signal - middle) > LARGEST)
        good &= ~masks[SPIKE]
        time = np.arange(len(signal))
        signal = np.where(good, signal, np.interp(time, time[good], signal[good]))
    else:
        signal = np.zeros_like(signal)
    counts = {kind: int(np.count_nonzero(mask)) for kind, mask in masks.items() if mask.any()}
    return signal - signal.mean(), counts
