"""Where in a synthetic recording the evidence for a class lies."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from ecg.data.leads import LEADS
from ecg.data.synthetic_heart import ATRIAL, NORMAL, SPIKE_LEAD, VENTRICULAR, BeatTimes

LIMB_LEADS, CHEST_LEADS = LEADS[:6], LEADS[6:]


class Evidence(NamedTuple):
    """Where a class shows.

    Attributes:
        intervals: Begin and end in s, (n, 2), in order and within the recording.
        leads: Names of the leads that show it.
    """

    intervals: np.ndarray
    leads: tuple[str, ...] = LEADS

    def cover(self, times: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
        """Return which times lie within the evidence.

        Args:
            times: In s, (T,).
            tolerance: How far outside the evidence a time may lie, in s.

        Returns:
            (T,) bool.
        """
        begins, ends = self.intervals[:, 0] - tolerance, self.intervals[:, 1] + tolerance
        begun, ended = np.searchsorted(begins, times, side="right"), np.searchsorted(np.sort(ends), times)
        return begun > ended


class BeatInterval(NamedTuple):
    """The part of a beat that shows a class.

    Attributes:
        begin: Field of BeatTimes.
        end: Field of BeatTimes.
        kinds: Kinds of the beats that show it.
        leads: Names of the leads that show it.
    """

    begin: str
    end: str
    kinds: tuple[int, ...] = (NORMAL, ATRIAL)
    leads: tuple[str, ...] = LEADS


QRS = BeatInterval("qrs_onset", "qrs_end")
PR_INTERVAL = BeatInterval("p_onset", "qrs_onset", (NORMAL,))
ST_T = BeatInterval("qrs_end", "t_end")
# The other classes are those of the rhythm as a whole: fibrillation, flutter and the rates.
INTERVALS = {
    "PAC": BeatInterval("p_onset", "t_end", (ATRIAL,)),
    "PVC": BeatInterval("qrs_onset", "t_end", (VENTRICULAR,)),
    **dict.fromkeys(("RBBB", "IRBBB", "LBBB", "BBB", "NSIVCB", "QAb", "PR"), QRS),
    **dict.fromkeys(("LAD", "RAD", "LAnFB", "LQRSV"), QRS._replace(leads=LIMB_LEADS)),
    "PRWP": QRS._replace(leads=CHEST_LEADS),
    **dict.fromkeys(("IAVB", "LPR"), PR_INTERVAL),
    **dict.fromkeys(("LQT", "TAb", "TInv"), ST_T),
}


def find_evidence(findings: Collection[str], times: BeatTimes, seconds: float) -> dict[str, Evidence]:
    """Return where the findings of a patient show.

    Args:
        findings: Abbreviations of what is present.
        times: When the waves of the beats are.
        seconds: Length of the recording.

    Returns:
        The evidence by class, in the order of INTERVALS, without classes that no interval or no beat shows.
    """
    evidence = {}
    for name in (name for name in INTERVALS if name in findings):
        interval = INTERVALS[name]
        shows = np.isin(times.kind, interval.kinds)
        begins, ends = getattr(times, interval.begin)[shows], getattr(times, interval.end)[shows]
        begins = begins - SPIKE_LEAD if name == "PR" else begins
        inside = (ends > 0) & (begins < seconds)  # not for NaN
        if inside.any():
            intervals = np.column_stack([begins, ends])[inside].clip(0, seconds)
            evidence[name] = Evidence(intervals, interval.leads)
    return evidence
