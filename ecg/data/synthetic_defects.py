"""Defects of the real databases, for synthetic recordings.

`DEFECTS` is the table. Every kind occurs at least once among the first 60 recordings of a set. Besides, it is drawn for
each recording by its rate, regardless of the source. No defect makes a recording unusable.
"""

from collections.abc import Sequence
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


class Defect(NamedTuple):
    """One kind of defect.

    Attributes:
        name: Its name in `Truth.defects`.
        rate: Share of real recordings with it.
        seconds: Length of the recording; None if it does not change.
        frequency: Sampling frequency in Hz; None if it does not change.
    """

    name: str
    rate: float
    seconds: float | None = None
    frequency: int | None = None


# The comments give the origin of each rate. "Public": among the 88,253 public recordings of the Challenge of 2021.
# "Counted": among 1,129 real recordings, 929 of them of the Challenge. "Assumed": a guess for a defect that is reported
# without numbers. Defects are applied in this order.
DEFECTS = (
    Defect("constant lead", 0.005),  # counted: 6 of 1,129
    Defect("spike at the first sample", 0.0001),  # assumed: a tenth of the inner ones
    Defect("spike at the last sample", 0.0001),  # assumed: a tenth of the inner ones
    Defect("spike at inner samples", 0.001),  # public: in the recordings with marked samples
    Defect("marked samples", 0.001),  # public: about 93, 6 of Georgia and 87 of Ningbo
    Defect("age unknown", 0.007),  # counted: 8 of 1,129
    Defect("sex unknown", 0.001),  # assumed; counted: 0 of 1,129
    Defect("repeated code", 0.005),  # assumed; "many" of Georgia's; counted: 1 of 10 originals
    Defect("unknown code", 0.001),  # counted: 1 of 853 that are labelled
    Defect("duplicated comma", 0.0005),  # assumed; reported of JS03287; counted: 0 of 1,129
    Defect("trailing comma", 0.0005),  # assumed; reported of JS00344; counted: 0 of 1,129
    Defect("5 s", 0.001, seconds=5.0),  # assumed; the shortest of Georgia; counted: 0 of 73 of Georgia
    Defect("30 s", 0.0008, seconds=30.0),  # public: 74 of INCART; they last 30 min, here 30 s
    Defect("144 s", 0.0001, seconds=144.0),  # assumed; the longest of CPSC; counted: 0 of 164 of CPSC
    Defect("257 Hz", 0.0008, frequency=257),  # public: 74 of INCART
    Defect("1000 Hz", 0.0058, frequency=1000),  # public: 516 of PTB
    Defect("PhysioNet's header", 0.5),  # assumed: two editions of the same recordings
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
    if index in (guaranteed := _choose_guaranteed_defects(seed)):
        names: tuple[str, ...] = (guaranteed[index],)
    else:
        names = tuple(defect.name for defect, chance in zip(DEFECTS, drawn, strict=True) if chance < defect.rate)
    return tuple(name for name in names if name != CONSTANT or len(leads) > 1), rng


@lru_cache(maxsize=16)
def _choose_guaranteed_defects(seed: int) -> dict[int, str]:
    """Return the guaranteed defects by the index of their recording."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    indices = rng.permutation(GUARANTEED_WITHIN)[: len(DEFECTS)]
    return {int(index): defect.name for index, defect in zip(indices, DEFECTS, strict=True)}


def length_and_frequency(names: Sequence[str]) -> tuple[float | None, int | None]:
    """Return the length in s and the frequency in Hz due to defects, or None."""
    defects = [BY_NAME[name] for name in names]
    seconds = [None, *(defect.seconds for defect in defects if defect.seconds)]
    frequencies = [None, *(defect.frequency for defect in defects if defect.frequency)]
    return seconds[-1], frequencies[-1]


def damage_samples(integers: np.ndarray, leads: Sequence[str], names: Sequence[str], rng: np.random.Generator) -> None:
    """Apply the defects of samples, by name, to microvolts (T, L) in place."""
    lead, constant_leads = choose_targets(leads, rng)
    middle, last = len(integers) // 2, len(integers)
    for name in names:
        match name:
            case "constant lead":
                integers[:, constant_leads] = 0  # as in real recordings
            case "spike at the first sample":
                integers[0, lead] = _draw_spike(rng)
            case "spike at the last sample":
                integers[-1, lead] = _draw_spike(rng)
            case "spike at inner samples":  # one to three in the second half
                count = int(rng.integers(1, 4))
                start = int(rng.integers(middle, last - count))
                integers[start : start + count, lead] = _draw_spike(rng)
            case "marked samples":  # successive ones in the first half
                count = int(rng.integers(1, MOST_MARKED + 1))
                start = int(rng.integers(1, middle - count))
                integers[start : start + count, lead] = MARK


def _draw_spike(rng: np.random.Generator) -> int:
    """Draw the height of a spike in microvolts, of either sign."""
    return int(rng.choice((-1, 1)) * rng.integers(SMALLEST_SPIKE, LARGEST_SPIKE))


def choose_targets(leads: Sequence[str], rng: np.random.Generator) -> tuple[int, tuple[int, ...]]:
    """Choose the leads that defects damage, among those that are written.

    Returns:
        The index of the lead with damaged samples, and the indices of the leads that become constant. These are chest
        leads if there are some, otherwise one limb lead, never all leads, and none if only one lead is written.
    """
    count = int(rng.integers(1, MOST_CONSTANT + 1))
    first, *rest = [leads.index(lead) for lead in rng.permutation(LEADS) if lead in leads]
    chest = [index for index in rest if leads[index] not in LIMB]
    return first, tuple(chest[:count] or rest[:1])


def damage_header(fields: HeaderFields, names: Sequence[str], rng: np.random.Generator) -> None:
    """Apply the defects of headers, by name, in place."""
    codes = fields.codes
    for name in names:
        match name:
            case "age unknown":
                fields.age = UNKNOWN_AGES[rng.integers(len(UNKNOWN_AGES))]
            case "sex unknown":
                fields.sex = "Unknown"
            case "repeated code":
                codes.append(codes[rng.integers(len(codes))])
            case "unknown code":
                index = int(rng.integers(len(codes) + 1))
                codes.insert(index, UNKNOWN_CODES[rng.integers(len(UNKNOWN_CODES))])
            case "duplicated comma" if len(codes) > 1:
                codes.insert(int(rng.integers(1, len(codes))), "")
            case "duplicated comma":  # after the only diagnosis
                codes += ["", ""]
            case "trailing comma":
                codes.append("")
            case "PhysioNet's header":
                fields.dialect = 1
