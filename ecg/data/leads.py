"""The twelve leads, the Challenge's five sets of them, and the limb leads that follow from two others."""

import re
import unicodedata
from collections.abc import Iterable
from itertools import combinations

# Lead sets of the Challenge, each in the standard order.
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LEAD_SETS = {
    12: LEADS,
    6: LEADS[:6],
    4: ("I", "II", "III", "V2"),
    3: ("I", "II", "V2"),
    2: ("I", "II"),
}
STANDARD_NAME = {lead.casefold(): lead for lead in LEADS}
# Other names of the standard leads. D is short for derivation (French, Spanish, Portuguese), C1 to C6 are IEC's names
# of V1 to V6 (IEC 60601-2-25). Numbers instead of Roman numerals (D1, L2, Lead 3) are not among them: recorders number
# their channels so, whatever they record.
ROMAN_NAME = {f"d{lead.casefold()}": lead for lead in LEADS[:3]}
IEC_NAME = {f"c{lead[1:]}": lead for lead in LEADS[6:]}
# What may precede a name: "Lead I", "ECG I" (EDF+), "ECG lead I", "MDC_ECG_LEAD_I" (ISO/IEEE 11073-10101). A hyphen is
# a separator only directly between the two words: "Lead -aVR" is an inverted lead.
PREFIX = re.compile(r"(?P<standard>mdc_ecg_lead_)|(?:(?:ecg|ekg)[ _]+)?lead(?:-|[ _]*)|(?:ecg|ekg)[ _]+")

# The limb leads are of three electrodes, so that two tell the others. How much of I and of II each is: by Einthoven
# II = I + III, by Goldberger aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2. No two are parallel.
LIMB = {"I": (1, 0), "II": (0, 1), "III": (-1, 1), "aVR": (-0.5, -0.5), "aVL": (1, -0.5), "aVF": (-0.5, 1)}


def lead_indices(leads):
    """Return the columns of leads, by their standard names, in the standard order of all twelve: a tuple."""
    return tuple(LEADS.index(lead) for lead in leads)


def standard_name(name: str) -> str:
    """Return the standard spelling of a lead's name, or the name as it is.

    Recognized in any case: the twelve names; `DI` to `DIII` and IEC's `C1` to `C6`; `Lead` and `ECG` before a name, as
    in `Lead I` or `ECG V1`; the names of ISO/IEEE 11073-10101, as `MDC_ECG_LEAD_AVR`. Other leads keep their names. An
    inverted lead (`-aVR`), a lead of another place (`V7`, `V1R`, `CM5`, `MLII`), a difference of two (`V1-V2`) and a
    reconstruction (`MDC_ECG_LEAD_dI`, the derived lead I of that vocabulary) are no standard leads.

    Args:
        name: a lead's name as a header has it.

    Returns:
        One of `LEADS`, or `name`.
    """
    word = unicodedata.normalize("NFKC", name).strip().casefold()  # one character for II is a Roman numeral, too
    prefix = PREFIX.match(word)
    bare = word[prefix.end() :] if prefix else word
    known = STANDARD_NAME if prefix and prefix["standard"] else STANDARD_NAME | ROMAN_NAME | IEC_NAME
    return known.get(bare, name)


def derivation_weights(wanted, available):
    """Return from which leads a lead comes, and with what weights: {name: weight}, empty where it cannot be had.

    A lead that is available comes from itself. Any other limb lead comes from two that are: from I and II where both
    are there, else from those by which the least of their noise gets into it, the first in the standard order among
    equals. `available` are standard names.
    """
    if wanted in available:
        return {wanted: 1.0}
    pairs = combinations([lead for lead in LIMB if lead in available and wanted in LIMB], 2)
    ways = [dict(zip(pair, _weights(wanted, pair), strict=True)) for pair in pairs]
    return min(ways, key=lambda way: (set(way) != {"I", "II"}, sum(weight**2 for weight in way.values())), default={})


def _weights(wanted, pair):
    """Solve `wanted` = x one + y other, by Cramer's rule."""
    (a, b), (c, d), (e, f) = LIMB[pair[0]], LIMB[pair[1]], LIMB[wanted]
    determinant = a * d - b * c
    return (e * d - f * c) / determinant, (a * f - b * e) / determinant


def lead_sets(names):
    """Return the sizes of the lead sets that leads of these names fill, the richest first.

    Names are in any case and order; limb leads that follow from two others count as there. The richest has the most
    chest leads, for all limb leads tell no more than two; next, nothing of it need be computed; next, it is the larger.
    """
    available = set(map(standard_name, names))
    filled = [count for count in LEAD_SETS if all(derivation_weights(lead, available) for lead in LEAD_SETS[count])]
    return tuple(sorted(filled, key=lambda count: _priority(LEAD_SETS[count], available), reverse=True))


def lead_set(names, among=tuple(LEAD_SETS)):
    """Return the size of the richest lead set, of those `among`, that leads of these names fill, or 0 for none."""
    return next((count for count in lead_sets(names) if count in among), 0)


def _priority(leads, available):
    return len(set(leads) - LIMB.keys()), available.issuperset(leads), len(leads)


def describe_missing_leads(names: Iterable[str]) -> str:
    """Return which leads a recording has that fills none of the lead sets, and what it lacks.

    Every lead set needs two limb leads, from which the others are computed.
    """
    names = list(names)
    limb = LIMB.keys() & set(map(standard_name, names))
    others = ", ".join(lead for lead in LIMB if lead not in limb)
    lacking = f"{2 - len(limb)} of {others} {'is' if limb else 'are'} missing"
    return f"leads {', '.join(names) or 'none'} fill none of the lead sets: {lacking}"
