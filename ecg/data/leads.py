"""The twelve leads, the lead sets, and limb leads computed from others."""

import re
import unicodedata
from collections.abc import Collection, Iterable
from itertools import combinations

# Lead sets of the Challenge, each in the standard order.
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LEAD_SETS = {12: LEADS, 6: LEADS[:6], 4: ("I", "II", "III", "V2"), 3: ("I", "II", "V2"), 2: ("I", "II")}
STANDARD_NAME = {lead.casefold(): lead for lead in LEADS}
# Other names of the standard leads. D is short for derivation (French, Spanish, Portuguese), C1 to C6 are the names of
# V1 to V6 in IEC 60601-2-25. Numbers instead of Roman numerals (D1, L2, Lead 3) are not accepted: recorders number
# their channels like this, whatever they record.
ROMAN_NAME = {f"d{lead.casefold()}": lead for lead in LEADS[:3]}
IEC_NAME = {f"c{lead[1:]}": lead for lead in LEADS[6:]}
# What may precede a name: "Lead I", "ECG I" (EDF+), "ECG lead I", "MDC_ECG_LEAD_I" (ISO/IEEE 11073-10101). A hyphen is
# a separator only directly between the two words: "Lead -aVR" is an inverted lead.
PREFIX = re.compile(r"(?P<standard>mdc_ecg_lead_)|(?:(?:ecg|ekg)[ _]+)?lead(?:-|[ _]*)|(?:ecg|ekg)[ _]+")

# The limb leads use three electrodes, so that all follow from two of them. The coefficients of I and II in each:
# II = I + III (Einthoven), aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2 (Goldberger). No two are parallel.
LIMB = {"I": (1, 0), "II": (0, 1), "III": (-1, 1), "aVR": (-0.5, -0.5), "aVL": (1, -0.5), "aVF": (-0.5, 1)}


def lead_indices(leads: Iterable[str]) -> tuple[int, ...]:
    """Return the indices of leads, by their standard names, among the twelve."""
    return tuple(LEADS.index(lead) for lead in leads)


def standard_name(name: str) -> str:
    """Return the standard spelling of a lead's name, or the name as it is.

    Recognized in any case: the twelve names; `DI` to `DIII` and IEC's `C1` to `C6`; `Lead` and `ECG` before a name, as
    in `Lead I` or `ECG V1`; the names of ISO/IEEE 11073-10101, as `MDC_ECG_LEAD_AVR`. Other leads keep their names. An
    inverted lead (`-aVR`), another electrode position (`V7`, `V1R`, `CM5`, `MLII`), a difference of two (`V1-V2`) and a
    reconstruction (`MDC_ECG_LEAD_dI`, the derived lead I of that vocabulary) are no standard leads.

    Args:
        name: A lead's name as a header has it.

    Returns:
        One of `LEADS`, or `name`.
    """
    word = unicodedata.normalize("NFKC", name).strip().casefold()  # one character for II is a Roman numeral, too
    prefix = PREFIX.match(word)
    bare = word[prefix.end() :] if prefix else word
    known = STANDARD_NAME if prefix and prefix["standard"] else STANDARD_NAME | ROMAN_NAME | IEC_NAME
    return known.get(bare, name)


def derivation_weights(wanted: str, available: Collection[str]) -> dict[str, float]:
    """Return how a lead is computed from others, as weights by their names.

    A limb lead is computed from I and II if both are available. Otherwise it is computed from the two limb leads that
    give it the least noise, the first in the standard order if several do.

    Args:
        wanted: The lead's standard name.
        available: Standard names of other leads.

    Returns:
        The lead itself with weight 1 if it is available; empty if it cannot be computed.
    """
    if wanted in available:
        return {wanted: 1.0}
    pairs = combinations([lead for lead in LIMB if lead in available and wanted in LIMB], 2)
    ways = [dict(zip(pair, _weights(wanted, pair), strict=True)) for pair in pairs]
    return min(ways, key=lambda way: (set(way) != {"I", "II"}, sum(weight**2 for weight in way.values())), default={})


def _weights(wanted: str, pair: tuple[str, str]) -> tuple[float, float]:
    """Solve `wanted` = x pair[0] + y pair[1] by Cramer's rule."""
    (a, b), (c, d), (e, f) = LIMB[pair[0]], LIMB[pair[1]], LIMB[wanted]
    determinant = a * d - b * c
    return (e * d - f * c) / determinant, (a * f - b * e) / determinant


def find_lead_sets(names: Iterable[str]) -> tuple[int, ...]:
    """Return the sizes of the lead sets that these leads fill, the richest first.

    Limb leads that can be computed count as available. The richest set has the most chest leads, because all limb leads
    hold no more than two of them. Next comes a set without computed leads, then the larger one.

    Args:
        names: Names of leads, in any order and spelling that `standard_name` knows.
    """
    available = set(map(standard_name, names))
    filled = [count for count in LEAD_SETS if all(derivation_weights(lead, available) for lead in LEAD_SETS[count])]

    def priority(count: int) -> tuple[int, bool, int]:
        leads = LEAD_SETS[count]
        return len(set(leads) - LIMB.keys()), available.issuperset(leads), count

    return tuple(sorted(filled, key=priority, reverse=True))


def find_lead_set(names: Iterable[str], sizes: Collection[int] = tuple(LEAD_SETS)) -> int:
    """Return the size of the richest of some lead sets that these leads fill, or 0."""
    return next((size for size in find_lead_sets(names) if size in sizes), 0)


def describe_missing_leads(names: Iterable[str]) -> str:
    """Describe the leads of a recording that fills none of the lead sets.

    Every lead set needs two limb leads, from which the others are computed.
    """
    names = list(names)
    limb = LIMB.keys() & set(map(standard_name, names))
    absent_leads = ", ".join(lead for lead in LIMB if lead not in limb)
    missing = f"{2 - len(limb)} of {absent_leads} {'is' if limb else 'are'} missing"
    return f"leads {', '.join(names) or 'none'} fill none of the lead sets: {missing}"
