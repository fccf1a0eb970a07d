"""From stored integers to what the networks see: whole microvolts, faults mended, resampled and filtered.

`preprocess` is the only way in, for training and for inference alike.
"""

import math
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ecg.data.headers import MILLIVOLTS, Header, HeaderError, Lead, RecordError
from ecg.data.labels import source_of
from ecg.data.leads import LEADS, LIMB, derivation_weights, lead_set
from ecg.data.records import TRANSPOSED, SignalError
from ecg.data.resampling import DEFAULT_PREPROCESSING, RATE, rational_ratio, resample_and_filter

N_DEMOGRAPHICS = 5  # numbers that a person is
OLDEST = 100.0  # years that count as 1, as do more
SEXES = ("Female", "Male")


def encode_demographics(age, sex):
    """Return age (years, NaN where unknown) and sex (Female, Male or any other text) as numbers: (5,) float32.

    Age from 0 to 1, female, male, age unknown, sex unknown; what is unknown is 0 otherwise (Zhao et al. 2022).
    """
    unknown = math.isnan(age)
    years = 0.0 if unknown else min(max(age, 0.0), OLDEST) / OLDEST
    return np.array([years, *(sex == one for one in SEXES), unknown, sex not in SEXES], np.float32)


MAX_DURATION = 144.0  # s; the longest recording of CPSC: longer ones are cut in training and answered in pieces
MIN_DURATION = 1.0  # s; less says nothing of a rhythm
MOST_HOURS = 48.0  # of a recording that is answered, as long as Holter recorders take
LARGEST = 20.0  # mV; what lies beyond is a recording fault
MAX_REPAIRED_SHARE = 1 / 20  # of a lead's samples; a lead with more faults counts as absent
SMALLEST_RANGE, LARGEST_RANGE = 0.2, 10.0  # mV; of 99% of an ECG's samples, by which a wrong unit is guessed
FINITE = 1e12  # mV; a number beyond it is no measurement, and sums of such numbers overflow
EXACT_SUMS = {"i": np.int64, "u": np.uint64, "f": np.float64}  # types in which sums are exact, by kind of number
RESOLUTION = np.float32(1e-3)  # mV; signals are whole microvolts, so that 16-bit integers hold them without loss
LARGEST_WHOLE = 32767  # microvolts

# Kinds of repair, of whole leads (as TRANSPOSED) and of samples.
GAIN = "gain corrected"
GAIN_ZERO = "gain 0 taken for 200"
REJECTED = "lead rejected for its faults"
COMPUTED = "lead computed from others"
FLAT = "flat lead"
SKIPPED = "segment of a long recording not used"
NOT_FINITE = "not finite"
INVALID_VALUE = "marked invalid"
SPIKE = "beyond 20 mV"

# The gains that headers of early 2020 give for integers that are microvolts, by source, and within what the signal
# must then be, in mV: the median over the leads that move of the range of 99% of their samples. A name and a gain may
# meet by chance in a header that is right; there the signal would become 4.9 times as large (Georgia) or a fifth
# (PTB-XL). In 655 real recordings of these sources, in each of the five lead sets, Georgia's range is 0.4 to 2.3 mV,
# PTB-XL's 0.3 to 4.0, and PTB's 1.0 to 3.5. Only a gain that is written is corrected: PTB-XL's 200 is WFDB's default as
# well, for a header that does not say.
# No range separates right gains from wrong ones: of 366 real recordings of PTB-XL that truly have 200 integers for a
# millivolt, 138 look wrong, and so do small ones of Georgia at 4880. Gains are therefore only corrected on request.
MICROVOLTS = 1000.0
EARLY_GAINS = {"Georgia": (4880.0, 0.2, 3.0), "PTB-XL": (200.0, 0.25, 6.0), "PTB": (2e6, 0.2, 8.0)}


class Repair(NamedTuple):
    """What was mended in a recording: what kind of fault, in which leads, and how many samples (or leads)."""

    kind: str
    leads: tuple[str, ...]
    count: int


class PreparedSignal(NamedTuple):
    """A signal (T', leads) int16, whole microvolts, and what was mended in it."""

    microvolts: np.ndarray
    repairs: tuple[Repair, ...]

    @property
    def signal(self):
        """Return the signal (T', leads) float32, mV, as the networks take it."""
        return to_millivolts(self.microvolts)


def preprocess(header, recording, leads, whole=None, preparation=DEFAULT_PREPROCESSING):
    """Return the chosen leads of a recording, faults mended, resampled and filtered without delay.

    Takes the header, the stored integers (L, T) with rows in the header's order, and the names of the leads wanted;
    where these integers are a piece of a recording, that is `whole`, (L, n), by which the gains are judged. The
    Preparation (ecg.data.resampling) says to what sampling frequency, how, and into what pass band, if any. Returns
    Prepared: (T', leads) int16 with T' = ceil(its rate T / sampling frequency), whole microvolts within 32.767 mV, and
    the repairs. A lead counts as absent if more than a twentieth would be replaced. A limb lead that is absent is
    computed from two others; another lead that is there and counts as absent is flat. Raises SignalError if a lead is
    not there and cannot be computed, if the leads that do not count as absent fill none of the Challenge's lead sets,
    if the recording lasts less than a second, if all of the chosen leads are flat, or if the recording is not of the
    header's shape.
    Cai et al. 2021: per lead, divided by the gain, minus the mean, beyond 20 mV replaced by what lies
    next to it, resampled to 250 Hz by FFT, band-passed from 0.5 to 45 Hz by an FIR filter: the default Preparation.
    Other systems differ in that alone.
    """
    turned = leads_first(header, recording)
    corrected: tuple[str, ...] = ()
    if preparation.early_gains:
        header, corrected = correct_gains(header, turned if whole is None else whole)
    chosen = _choose_leads(header, turned, leads)
    seconds = turned.shape[1] / header.sampling_frequency
    if seconds < MIN_DURATION:
        raise SignalError(f"{header.name}: {seconds:.2f} s is shorter than {MIN_DURATION:g} s")
    signal = chosen.signal
    flat = [lead for lead, row in zip(leads, signal, strict=True) if row[0] == row[-1] and np.ptp(row) == 0]
    of_leads = {
        TRANSPOSED: leads if turned.shape != np.shape(recording) else (),
        GAIN: corrected,
        GAIN_ZERO: [lead.name for lead in header.leads if lead.gain_is_zero and lead.name in chosen.used],
        REJECTED: chosen.rejected,
        COMPUTED: chosen.computed,
        FLAT: flat,
    }
    found = {kind: dict.fromkeys(names, 1) for kind, names in of_leads.items()} | chosen.faults
    repairs = (Repair(kind, tuple(counts), sum(counts.values())) for kind, counts in found.items() if counts)
    filtered = resample_and_filter(signal, header.sampling_frequency, preparation) / RESOLUTION
    filtered = np.rint(filtered, out=filtered).clip(-LARGEST_WHOLE, LARGEST_WHOLE, out=filtered)
    if not filtered.any():
        which = "every lead is flat" if len(leads) > 1 else f"lead {leads[0]} is flat"
        raise SignalError(f"{header.name}: {which}")
    return PreparedSignal(filtered.T.astype(np.int16, order="C"), tuple(repairs))


def to_millivolts(microvolts, out=None):
    """Return whole microvolts, int16 of any shape, as float32 mV, in `out` where there is such an array."""
    return np.multiply(microvolts, RESOLUTION, out=out)


def leads_first(header, recording):
    """Return a recording as (L, T), turned where it is (T, L); SignalError where it is neither, or not of numbers."""
    recording, count = np.asarray(recording), len(header.leads)
    if recording.ndim == 2 and len(recording) != count == recording.shape[1] and header.samples in (0, len(recording)):
        recording = recording.T
    if recording.ndim != 2 or len(recording) != count or not recording.size or recording.dtype.kind not in "iuf":
        found = f"{recording.dtype} {np.shape(recording)}"
        raise SignalError(f"{header.name}: {count} leads need (leads, samples) of numbers, not {found}")
    return recording


def crop_to_max_duration(header, recording):
    """Return the part of a recording (L, T) that training sees, its first 144 s: a view (L, n)."""
    return recording[:, : round(MAX_DURATION * header.sampling_frequency)]


def split_segments(header, recording):
    """Return a recording's consecutive parts of LONGEST or less, which differ by a sample at most: views (L, n).

    Raises SignalError where it is not of the header's shape, or lasts more than MOST_HOURS.
    """
    recording = leads_first(header, recording)
    hours = recording.shape[1] / header.sampling_frequency / 3600
    if hours > MOST_HOURS:
        raise SignalError(f"{header.name}: {hours:,.1f} h of signal, expected {MOST_HOURS:g} h or less")
    here, at_250 = rational_ratio(header.sampling_frequency)
    samples, most = recording.shape[1], int(MAX_DURATION * RATE) * here // at_250
    count = -(-samples // most)
    return [recording[:, first:last] for first, last in pairwise(samples * part // count for part in range(count + 1))]


def correct_gains(header, recording):
    """Return the header of a recording (L, T) with its gains corrected, and the names of the leads where they were.

    Headers of early 2020 give wrong gains (see EARLY_GAINS). They are judged by the first 144 s, which is what training
    sees, so that training and answering agree.
    """
    gain, lowest, highest = EARLY_GAINS.get(source_of(header.name), (None, 0, 0))
    right = {
        row: lead._replace(gain=MICROVOLTS, units="mV")
        for row, lead in enumerate(header.leads)
        if lead.gain_written and lead.gain == gain and lead.name in LEADS and lead.units.casefold() in ("mv", "v")
    }
    if not right:
        return header, ()
    signal, _ = to_centred_millivolts(crop_to_max_duration(header, recording)[list(right)], list(right.values()))
    ranges = np.ptp(np.quantile(signal, (0.005, 0.995), axis=1), axis=0)
    if not lowest <= np.median(ranges[ranges > 0] if ranges.any() else 0) <= highest:
        return header, ()
    leads = tuple(right.get(row, lead) for row, lead in enumerate(header.leads))
    return replace(header, leads=leads), tuple(lead.name for lead in right.values())


class _ChosenLeads(NamedTuple):
    """The chosen leads of a recording, in millivolts, and what was repaired in them.

    Attributes:
        signal: Centred millivolts (leads, T) float32.
        used: Names of the leads in the file that the signal is made of.
        computed: Names of the chosen leads that were computed from others.
        rejected: Names of the chosen leads that count as absent for their faults.
        faults: By kind of fault the number of faulty samples of each lead.
    """

    signal: np.ndarray
    used: tuple[str, ...]
    computed: tuple[str, ...]
    rejected: tuple[str, ...]
    faults: dict[str, dict[str, int]]


def _choose_leads(header: Header, recording: np.ndarray, leads: tuple[str, ...]) -> _ChosenLeads:
    """Take the chosen leads from a recording (L, T), and compute the limb leads that are absent.

    Leads that are not chosen are looked at only where a chosen one is absent.
    """
    rows = {name: row for row, name in reversed(list(enumerate(header.lead_names)))}  # of two of a name, the first
    names = [lead for lead in leads if lead in rows]
    signal, faults, rejected = _repair_leads(header, recording, [rows[name] for name in names])
    if len(names) == len(leads) and not rejected:
        return _ChosenLeads(signal, tuple(leads), (), (), faults)
    signals = dict(zip(names, signal, strict=True))
    others = [name for name in LIMB if name in rows and name not in names and _is_voltage(header.leads[rows[name]])]
    signal, faults_of_others, rejected_others = _repair_leads(header, recording, [rows[name] for name in others])
    signals |= dict(zip(others, signal, strict=True))
    usable = signals.keys() - rejected.keys() - rejected_others.keys()
    if rejected and not lead_set(usable):
        raise _unusable(header, recording, rejected | rejected_others)
    ways = _ways(tuple(leads), frozenset(usable), frozenset(rows))
    if not all(ways):
        raise _lacking(header, leads, ways)
    used = tuple(dict.fromkeys([*names, *(name for way in ways for name in way)]))
    for kind, counts in faults_of_others.items():
        faults[kind] |= {name: count for name, count in counts.items() if name in used}
    chosen = np.zeros((len(leads), recording.shape[1]), np.float32)
    for row, way in zip(chosen, ways, strict=True):
        for name, weight in way.items():
            row += weight * signals[name]
    computed = tuple(lead for lead, way in zip(leads, ways, strict=True) if lead not in way)
    return _ChosenLeads(chosen, used, computed, tuple(rejected), faults)


def explain_unusable(header: Header, recording: np.ndarray) -> str | None:
    """Return why the standard leads of a recording (L, T) cannot be used, such as a wrong unit; None if they can."""
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
    some = recording if rows == list(range(len(recording))) else recording[rows]
    leads = [header.leads[row] for row in rows]
    signal, faults = to_centred_millivolts(some, leads)
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


def _unusable(header: Header, recording: np.ndarray, rejected: dict[str, str]) -> SignalError:
    """Return the SignalError for a recording whose valid leads fill no lead set, with the likely reason."""
    rows = [row for row, lead in enumerate(header.leads) if rejected.get(lead.name)]
    leads = [header.leads[row] for row in rows]
    names = ", ".join(dict.fromkeys(lead.name for lead in leads))
    if not any(_count_valid(recording[row], header.leads[row]) for row in rows):
        return SignalError(f"{header.name}: no sample was recorded, none of {names} has a valid one")
    kinds = ", ".join(dict.fromkeys(rejected.values()))
    reason = f"{header.name}: more than 1 in 20 samples of {names} are faulty ({kinds}), and no lead set is left"
    spiked = [(row, lead) for row, lead in zip(rows, leads, strict=True) if rejected[lead.name] == SPIKE]
    return SignalError(f"{reason}{_guess_unit(recording, spiked) if spiked else ''}")


def _guess_unit(recording: np.ndarray, spiked: list[tuple[int, Lead]]) -> str:
    """Say what is likely wrong in the header of leads that are far beyond 20 mV: their unit, or else their gain."""
    lead = spiked[0][1]
    ranges = []
    for row, spiked_lead in spiked:
        samples = recording[row][recording[row] != spiked_lead.invalid].astype(np.float64)
        low, high = np.quantile(samples[np.isfinite(samples)], (0.005, 0.995))
        ranges.append((high - low) / abs(spiked_lead.per_millivolt))
    typical = float(np.median(ranges))
    smaller = {1e3: "mV", 1.0: "uV"}.get(MILLIVOLTS[lead.units.casefold()])
    if smaller and SMALLEST_RANGE <= typical / 1000 <= LARGEST_RANGE:
        return f": the unit is likely {smaller}, not {lead.units}"
    return f": the gain {lead.gain:g}/{lead.units} is likely wrong"


def _count_valid(integers: np.ndarray, lead: Lead) -> int:
    """Count the samples (T,) of a lead that are finite and not marked invalid."""
    return int(np.count_nonzero(np.isfinite(integers) & (integers != lead.invalid)))


@lru_cache(maxsize=64)
def _ways(leads, usable, there):
    """Return for each lead wanted what it comes from, as ecg.data.leads.derivation_weights has it, or what is there of its name."""
    return tuple(derivation_weights(lead, usable) or dict.fromkeys(there & {lead}, 1.0) for lead in leads)


def _lacking(header, leads, ways):
    """Return the SignalError over leads that come from nothing."""
    missing = [lead for lead, way in zip(leads, ways, strict=True) if not way]
    others = ", nor two limb leads that give it" if LIMB.keys() & set(missing) else ""
    return SignalError(f"{header.name}: no lead {', '.join(missing)} among {', '.join(header.lead_names)}{others}")


def to_centred_millivolts(integers, leads):
    """Return (L, T) float32 millivolts of Leads, the mean of each taken off and its faults mended, and what was mended.

    Faults are samples that are not finite, WFDB's invalid ones, and those too far from the median of the others, for
    a long spike moves the mean. Each lead is judged by itself. What was mended is by kind a dict of names and counts.
    """
    mended = {NOT_FINITE: {}, INVALID_VALUE: {}, SPIKE: {}}
    gains = [lead.per_millivolt for lead in leads]
    with np.errstate(over="ignore", invalid="ignore"):
        faulty = _faulty(integers, leads, gains)
        means = np.add.reduce(integers, axis=1, dtype=_exact(integers)) / integers.shape[1]
        precision = np.float32 if _fits_float32(integers) else np.float64
        signal = integers.astype(precision, order="C")
        # The whole of the mean first, which is exact, so that no baseline changes what is left.
        for part in (np.rint(means), means - np.rint(means)):
            signal -= part[:, np.newaxis].astype(precision)
        signal /= np.array(gains, precision)[:, np.newaxis]
        for row in faulty:
            signal[row] = _mended(integers[row], leads[row], mended)
    return signal.astype(np.float32, copy=False), mended


def _faulty(integers, leads, gains):
    """Return the rows of Leads (L, T) that may hold a fault: invalid, infinite, or far from the others."""
    faulty = []
    lowest, highest = integers.min(axis=1).tolist(), integers.max(axis=1).tolist()
    for row, (lead, gain, low, high) in enumerate(zip(leads, gains, lowest, highest, strict=True)):
        far = not (high - low <= LARGEST * abs(gain) and abs(low - lead.baseline) < FINITE * abs(gain))  # NaN is far
        if far or (lead.invalid is not None and low <= lead.invalid <= high):
            faulty.append(row)
    return faulty


def _exact(numbers):
    """Return the type in which these numbers add up along a row without loss."""
    if numbers.dtype == np.int16 and numbers.shape[1] <= 2**16:
        return np.int32  # faster than the others
    return EXACT_SUMS.get(numbers.dtype.kind)


def _fits_float32(integers):
    """Return whether single precision holds these numbers as they are, as it does integers of up to 24 bits."""
    return np.can_cast(integers.dtype, np.float32) or bool((integers.astype(np.float32) == integers).all())


def _mended(integers, lead, mended):
    """Return a Lead (T,) in millivolts, its faults mended and its mean taken off, and add to what was mended."""
    signal = (integers.astype(np.float64) - lead.baseline) / lead.per_millivolt
    faults = _faults(signal, integers == lead.invalid)
    for kind, places in faults.items():
        if count := int(np.count_nonzero(places)):
            mended[kind][lead.name] = count
    signal = interpolate_gaps(signal, ~np.any(list(faults.values()), axis=0))
    return signal - signal.mean()


def _faults(signal, invalid):
    """Return the places of the kinds of faults in a lead (T,), of which the invalid ones are known: (T,) bool each."""
    infinite = ~(np.abs(signal) < FINITE) & ~invalid
    good = ~(infinite | invalid)
    if not good.any():
        return {NOT_FINITE: infinite, INVALID_VALUE: invalid}
    # A recorded value, not the mean of two that may both be far from it.
    middle = np.quantile(signal[good], 0.5, method="lower")
    return {NOT_FINITE: infinite, INVALID_VALUE: invalid, SPIKE: good & (np.abs(signal - middle) > LARGEST)}


def interpolate_gaps(signal, good):
    """Put a line between the good samples next to them in place of a lead's others, 0 where there are no good ones.

    Takes (T,) and (T,) bool, returns (T,).
    """
    if not good.any():
        return np.zeros_like(signal)
    time = np.arange(len(signal))
    return np.where(good, signal, np.interp(time, time[good], signal[good]))
