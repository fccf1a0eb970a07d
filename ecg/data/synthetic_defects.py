"""Defects of the real databases, for synthetic recordings.

`DEFECTS` is the table. Every kind occurs at least once among the first 60 recordings of a set. Besides, it is drawn for
each recording by its rate, regardless of the source. No defect makes a recording unusable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ecg.data.leads import LEADS, LIMB

GUARANTEED_WITHIN = 60  # the first recordings, in which every kind occurs
MARK = -(2**15)  # invalid value in WFDB's format 16
MOST_MARKED = 10  # samples; less than a twentieth of the shortest recording, 1,285
MOST_CONSTANT = 6  # leads; in real recordings three, five or six chest leads are constant
SMALLEST_SPIKE, LARGEST_SPIKE = 25_000, 32_000  # microvolts; the limit is 20 mV from the lead's median
UNKNOWN_AGES = ("NaN", "-1.0")  # as in headers of Georgia and of PTB-XL
UNKNOWN_CODES = ("251238007", "251211000", "6180003")  # in Ningbo's headers, but not in the Challenge's tables


@dataclass
class HeaderFields:
    """Fields of a header before it is written, for defects to change.

    Attributes:
        age: The age as written.
        sex: The sex as written.
        codes: Diagnoses, to be joined by commas; an empty one gives two adjacent commas, or one at the end.
        dialect: Index of the header's dialect.
    """

    age: str
    sex: str
    codes: list[str]
    dialect: int = 0


class Targets(NamedTuple):
    """Which leads of a recording are damaged.

    Attributes:
        lead: Index of the lead with damaged samples.
        constant: Indices of the leads that become constant, never all; empty if only one lead is written.
    """

    lead: int
    constant: tuple[int, ...]


class Defect(NamedTuple):
    """One kind of defect; None for what it does not change.

    Attributes:
        name: Its name in `Truth.defects`.
        rate: Share of real recordings with it.
        samples: Function that changes integers (T, L) in place.
        header: Function that changes a HeaderFields in place.
        seconds: Length of the recording.
        frequency: Sampling frequency in Hz.
    """

    name: str
    rate: float
    samples: Callable[[np.ndarray, Targets, np.random.Generator], None] | None = None
    header: Callable[[HeaderFields, np.random.Generator], None] | None = None
    seconds: float | None = None
    frequency: int | None = None


def _hold_constant(integers: np.ndarray, targets: Targets, rng: np.random.Generator) -> None:
    """Set leads to 0, the value of constant leads in real recordings."""
    integers[:, targets.constant] = 0


def _mark(integers: np.ndarray, targets: Targets, rng: np.random.Generator) -> None:
    """Mark successive samples in the first half of the recording as invalid."""
    count = int(rng.integers(1, MOST_MARKED + 1))
    start = int(rng.integers(1, len(integers) // 2 - count))
    integers[start : start + count, targets.lead] = MARK


def _raise_first(integers: np.ndarray, targets: Targets, rng: np.random.Generator) -> None:
    """Turn the first sample into a spike."""
    integers[0, targets.lead] = _draw_spike(rng)


def _raise_last(integers: np.ndarray, targets: Targets, rng: np.random.Generator) -> None:
    """Turn the last sample into a spike."""
    integers[-1, targets.lead] = _draw_spike(rng)


def _raise_inner(integers: np.ndarray, targets: Targets, rng: np.random.Generator) -> None:
    """Turn one to three samples in the second half of the recording into a spike."""
    count = int(rng.integers(1, 4))
    start = int(rng.integers(len(integers) // 2, len(integers) - count))
    integers[start : start + count, targets.lead] = _draw_spike(rng)


def _draw_spike(rng: np.random.Generator) -> int:
    """Draw the height of a spike in microvolts, of either sign."""
    return int(rng.choice((-1, 1)) * rng.integers(SMALLEST_SPIKE, LARGEST_SPIKE))


def _forget_age(fields: HeaderFields, rng: np.random.Generator) -> None:
    fields.age = UNKNOWN_AGES[rng.integers(len(UNKNOWN_AGES))]


def _forget_sex(fields: HeaderFields, rng: np.random.Generator) -> None:
    fields.sex = "Unknown"


def _repeat_code(fields: HeaderFields, rng: np.random.Generator) -> None:
    """Write one of the diagnoses twice."""
    fields.codes.append(fields.codes[rng.integers(len(fields.codes))])


def _add_unknown_code(fields: HeaderFields, rng: np.random.Generator) -> None:
    """Add a diagnosis that is not in the Challenge's tables."""
    fields.codes.insert(int(rng.integers(len(fields.codes) + 1)), UNKNOWN_CODES[rng.integers(len(UNKNOWN_CODES))])


def _double_comma(fields: HeaderFields, rng: np.random.Generator) -> None:
    """Write two commas between two diagnoses, or after the only one."""
    if len(fields.codes) > 1:
        fields.codes.insert(int(rng.integers(1, len(fields.codes))), "")
    else:
        fields.codes += ["", ""]


def _trail_comma(fields: HeaderFields, rng: np.random.Generator) -> None:
    """Write a comma after the last diagnosis."""
    fields.codes.append("")


def _use_physionet_dialect(fields: HeaderFields, rng: np.random.Generator) -> None:
    fields.dialect = 1


# The comments give the origin of each rate. "Public": among the 88,253 public recordings of the Challenge of 2021.
# "Counted": among 1,129 real recordings, 929 of them of the Challenge. "Assumed": a guess for a defect that is reported
# without numbers. Defects are applied in this order.
DEFECTS = (
    Defect("constant lead", 0.005, samples=_hold_constant),  # counted: 6 of 1,129
    Defect("spike at the first sample", 0.0001, samples=_raise_first),  # assumed: a tenth of the inner ones
    Defect("spike at the last sample", 0.0001, samples=_raise_last),  # assumed: a tenth of the inner ones
    Defect("spike at inner samples", 0.001, samples=_raise_inner),  # public: in the recordings with marked samples
    Defect("marked samples", 0.001, samples=_mark),  # public: about 93, 6 of Georgia and 87 of Ningbo
    Defect("age unknown", 0.007, header=_forget_age),  # counted: 8 of 1,129
    Defect("sex unknown", 0.001, header=_forget_sex),  # assumed; counted: 0 of 1,129
    Defect("repeated code", 0.005, header=_repeat_code),  # assumed; "many" of Georgia's; counted: 1 of 10 originals
    Defect("unknown code", 0.001, header=_add_unknown_code),  # counted: 1 of 853 that are labelled
    Defect("duplicated comma", 0.0005, header=_double_comma),  # assumed; reported of JS03287; counted: 0 of 1,129
    Defect("trailing comma", 0.0005, header=_trail_comma),  # assumed; reported of JS00344; counted: 0 of 1,129
    Defect("5 s", 0.001, seconds=5.0),  # assumed; the shortest of Georgia; counted: 0 of 73 of Georgia
    Defect("30 s", 0.0008, seconds=30.0),  # public: 74 of INCART; they last 30 min, here 30 s
    Defect("144 s", 0.0001, seconds=144.0),  # assumed; the longest of CPSC; counted: 0 of 164 of CPSC
    Defect("257 Hz", 0.0008, frequency=257),  # public: 74 of INCART
    Defect("1000 Hz", 0.0058, frequency=1000),  # public: 516 of PTB
    Defect("PhysioNet's header", 0.5, header=_use_physionet_dialect),  # assumed: two editions of the same recordings
)
BY_NAME = {defect.name: defect for defect in DEFECTS}
CONSTANT = DEFECTS[0].name


def draw_defects(seed: int, index: int, leads: Sequence[str] = LEADS) -> tuple[tuple[str, ...], np.random.Generator]:
    """Draw the defects of one recording of a set.

    They depend only on seed and index, not on the size of the set. A recording with a guaranteed defect has no other,
    so that each kind occurs alone.

    Args:
        seed: Seed of the set.
        index: Index of the recording.
        leads: Leads that are written. A single one never becomes constant.

    Returns:
        The names of the defects in the order of DEFECTS, and a generator for their effects.
    """
    # The first child of the recording's generator, which has the same seeds, draws wrong labels.
    rng = np.random.default_rng(np.random.SeedSequence((seed, index + 1), spawn_key=(1,)))
    drawn = rng.random(len(DEFECTS))
    if index in (guaranteed := _guaranteed(seed)):
        names: tuple[str, ...] = (guaranteed[index],)
    else:
        names = tuple(defect.name for defect, chance in zip(DEFECTS, drawn, strict=True) if chance < defect.rate)
    return tuple(name for name in names if name != CONSTANT or len(leads) > 1), rng


@lru_cache(maxsize=16)
def _guaranteed(seed: int) -> dict[int, str]:
    """Return the guaranteed defects by the index of their recording."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    indices = rng.permutation(GUARANTEED_WITHIN)[: len(DEFECTS)]
    return {int(index): defect.name for index, defect in zip(indices, DEFECTS, strict=True)}


def length_and_frequency(names: Sequence[str]) -> tuple[float | None, int | None]:
    """Return the length in s and the frequency in Hz due to defects, or None."""
    defects = [BY_NAME[name] for name in names]
    seconds = [defect.seconds for defect in defects if defect.seconds]
    frequencies = [defect.frequency for defect in defects if defect.frequency]
    return seconds[-1] if seconds else None, frequencies[-1] if frequencies else None


def damage_samples(integers: np.ndarray, leads: Sequence[str], names: Sequence[str], rng: np.random.Generator) -> None:
    """Apply the defects of samples, by name, to microvolts (T, L) in place."""
    targets = choose_targets(leads, rng)
    for name in names:
        if damage := BY_NAME[name].samples:
            damage(integers, targets, rng)


def choose_targets(leads: Sequence[str], rng: np.random.Generator) -> Targets:
    """Choose the leads that defects damage, among those that are written.

    Chest leads become constant if there are some, otherwise one limb lead.
    """
    count = int(rng.integers(1, MOST_CONSTANT + 1))
    first, *rest = [leads.index(lead) for lead in rng.permutation(LEADS) if lead in leads]
    chest = [index for index in rest if leads[index] not in LIMB]
    return Targets(first, tuple(chest[:count] or rest[:1]))


def damage_header(fields: HeaderFields, names: Sequence[str], rng: np.random.Generator) -> None:
    """Apply the defects of headers, by name, in place."""
    for name in names:
        if damage := BY_NAME[name].header:
            damage(fields, rng)
