"""What one recording of a data folder holds, and what is wrong in it."""

import hashlib
import math
from collections import Counter
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from ecg.headers import LONGEST_SHOWN
from ecg.labels import DISCARDED_SOURCES, UNDIAGNOSED, code_of, encode, source_of, standing
from ecg.leads import LEADS, combination
from ecg.records import OTHER_FILE, OTHER_KEY, TRANSPOSED, UNREAD
from ecg.signals import COMPUTED, FLAT, GAIN, GAIN_ZERO, INVALID_VALUE, LONGEST, NOT_FINITE, REJECTED, SHORTEST, SPIKE
from ecg.store import prepared

# Kinds of defects. Those that hinder: a recording with one of them cannot be used.
HEADER = "header cannot be read"
SIGNAL = "signal cannot be read"
UNLISTED = "file or folder not read"
MISSING = "lead missing"
SHORT = "shorter than a second"
UNUSABLE = "signal cannot be used"
DISCARDED = "source not trained on"  # the method's choice, no defect of the file
# Those that do not, beside the repairs.
LONG = f"longer than {LONGEST:g} s"
CHECKSUM = "checksum differs"
OTHER_NAME = "other name in header"
IN_WORDS = "diagnosis in words"
REPEATED = "diagnosis repeated"
NO_DIAGNOSIS = "no diagnosis"
NOT_SCORED = "no scored diagnosis"
UNKNOWN_CODE = "diagnosis unknown"
AGE = "age unknown"
SEX = "sex unknown"
LEAD_NAME = "lead unknown"
REPEATED_LEAD = "lead repeated"  # the first of them is used
COPY = "same signal"
SAME_NAME = "same name"
HINDRANCES = (UNLISTED, HEADER, SIGNAL, MISSING, SHORT, UNUSABLE)
OF_SAMPLES = (NOT_FINITE, INVALID_VALUE, SPIKE)
REPAIRS = (TRANSPOSED, OTHER_KEY, OTHER_FILE, UNREAD, GAIN, GAIN_ZERO, REJECTED, COMPUTED, FLAT, *OF_SAMPLES)
HINTS = (LONG, CHECKSUM, OTHER_NAME, IN_WORDS, REPEATED, NO_DIAGNOSIS, NOT_SCORED, UNKNOWN_CODE, AGE, SEX,
         LEAD_NAME, REPEATED_LEAD, COPY, SAME_NAME)  # fmt: skip
KINDS = (*HINDRANCES, DISCARDED, *REPAIRS, *HINTS)


class Recording(NamedTuple):
    """What is kept of one recording: its header's path below the data folder, what is wrong in it, and facts.

    usable is yes, no or, where the method leaves the source out, DISCARDED; defects are pairs of a kind and a detail;
    digest is that of the signal, None where there is none. Frequency in Hz and seconds are None where they are not
    known, leads are names with blanks between.
    """

    path: str
    source: str
    usable: str
    defects: tuple[tuple[str, str], ...]
    digest: str | None = None
    frequency: float | None = None
    seconds: float | None = None
    leads: str = ""
    age: float = math.nan
    sex: str = "Unknown"
    codes: tuple[str, ...] = ()

    @property
    def name(self):
        """Return what tells the record from others: its header's path without the extension."""
        return str(PurePosixPath(self.path).with_suffix(""))


def examine(data, path):
    """Return what is told of one recording by itself: a Recording. Takes the data folder and the header's path."""
    loaded, source, seconds, found = prepared(path), source_of(path.stem), None, []
    header, usable = loaded.header, "no" if loaded.reason else "yes"
    if source in DISCARDED_SOURCES:
        usable, found = DISCARDED, [(DISCARDED, f"source {source} is not trained on")]
    if header is None:
        found.append((HEADER, loaded.reason))
    elif loaded.stored is None:
        found += [(SIGNAL, loaded.reason), *_header_defects(path, header)]
    else:
        seconds = loaded.stored.shape[1] / header.sampling_frequency
        found += [*_signal_defects(loaded, seconds), *_header_defects(path, header)]
    one = Recording(path.relative_to(data).as_posix(), source, usable, tuple(found), _digest(loaded.microvolts))
    if header is None:
        return one
    frequency = header.sampling_frequency
    return one._replace(
        frequency=frequency,
        seconds=seconds or header.samples / frequency or None,
        leads=" ".join(header.lead_names),
        age=header.age,
        sex=header.sex,
        codes=_told(header.codes),
    )


def _told(codes):
    return tuple(code for code in codes if code.casefold() not in UNDIAGNOSED)


def _signal_defects(loaded, seconds):
    """Return what is wrong in the signal, of so many seconds, of a recording that could be read: a list of pairs."""
    found = []
    if loaded.reason:
        absent = [lead for lead in LEADS if not combination(lead, loaded.header.lead_names)]
        found.append((MISSING if absent else SHORT if seconds < SHORTEST else UNUSABLE, loaded.reason))
    for repair in loaded.repairs:
        samples = f": {repair.count:,} samples" if repair.kind in OF_SAMPLES else ""
        found.append((repair.kind, " ".join(repair.leads) + samples))
    if seconds > LONGEST:
        found.append((LONG, f"{seconds:,.1f} s"))
    if differing := _differing_sums(loaded):
        found.append((CHECKSUM, " ".join(differing)))
    return found


def _header_defects(path, header):
    """Return what is wrong in a header that can be read, by kind and detail: a list of pairs."""
    codes, found = _told(header.codes), []
    if header.name != path.stem:
        found.append((OTHER_NAME, header.name))
    if words := [word for word in header.written if code_of(word) != word]:
        found.append((IN_WORDS, ", ".join(words)))
    if repeated := [word for word, count in Counter(header.written).items() if count > 1]:
        found.append((REPEATED, ", ".join(repeated)))
    unknown = [code for code in codes if standing(code) == "unknown"]
    if not codes:
        found.append((NO_DIAGNOSIS, ""))
    elif not encode(codes).any():
        found.append((NOT_SCORED, " ".join(codes)))
    if unknown:
        found.append((UNKNOWN_CODE, " ".join(unknown)))
    if math.isnan(header.age):
        found.append((AGE, _shortened(header.age_written)))
    if header.sex == "Unknown":
        found.append((SEX, _shortened(header.sex_written)))
    if strange := [name or "without a name" for name in header.lead_names if name not in LEADS]:
        found.append((LEAD_NAME, ", ".join(strange)))
    names = Counter(name for name in header.lead_names if name in LEADS)
    if repeated := {name for name, count in names.items() if count > 1}:
        found.append((REPEATED_LEAD, ", ".join(lead.written for lead in header.leads if lead.name in repeated)))
    return found


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _differing_sums(loaded):
    """Return the names of the leads whose samples do not add up to the header's checksum, modulo 2 ** 16.

    Zeros for all leads are taken for no checksums.
    """
    leads, stored = loaded.header.leads, loaded.stored
    told = [lead.checksum for lead in leads]
    framed = any(lead.samples_per_frame > 1 for lead in leads)  # of which the mean is read
    if stored.dtype.kind not in "iu" or None in told or not any(told) or framed:
        return []
    pairs = zip(leads, stored.sum(axis=1, dtype=np.int64).tolist(), strict=True)
    return [lead.name for lead, found in pairs if (lead.checksum - found) % 2**16]


def _digest(microvolts):
    """Return a text that tells signals apart; None where there is none, or nothing but zeros."""
    if microvolts is None or not microvolts.any():
        return None
    return hashlib.blake2b(microvolts.tobytes(), digest_size=16).hexdigest()
