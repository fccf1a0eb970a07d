"""What the headers of a data folder tell of its recordings, without the signals."""

import math
from contextlib import closing
from typing import NamedTuple

import numpy as np

from ecg.headers import RecordError, read_header
from ecg.labels import DISCARDED_SOURCES, encode, source_of
from ecg.parallel import each
from ecg.resampling import RATE
from ecg.signals import LONGEST
from ecg.store import SHORTEST


class Survey(NamedTuple):
    """What headers tell of N recordings: sources (N,), labels (N, 26) bool, samples at 250 Hz (N,), 0 where unknown."""

    sources: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray


def survey(data, paths, jobs=None):
    """Return the Survey of the recordings that can be trained on, by all that these headers of a folder tell.

    Raises RecordError where they are fewer than two.
    """
    with closing(each(told, paths, jobs, "reading headers")) as found:
        kept = [(source_of(path.stem), *one) for path, one in zip(paths, found, strict=True) if one]
    if len(kept) < 2:
        raise RecordError(f"{data}: {len(kept)} of {len(paths):,} recordings can be used, and training needs two")
    return Survey(*map(np.array, zip(*kept, strict=True)))


def told(path):
    """Return labels (26,) and samples at 250 Hz, 0 where they are not told, by a header; None where it is left out."""
    if source_of(path.stem) in DISCARDED_SOURCES:
        return None
    try:
        header = read_header(path)
    except (RecordError, OSError):
        return None
    samples = math.ceil(min(header.samples / header.sampling_frequency, LONGEST) * RATE)
    return None if 0 < samples < SHORTEST else (encode(header.codes), samples)
