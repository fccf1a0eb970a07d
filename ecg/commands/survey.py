"""What the headers of a data folder tell of its recordings, without the signals."""

from contextlib import closing
from typing import NamedTuple

import numpy as np

from ecg.data.headers import RecordError, read_header
from ecg.data.labels import DISCARDED_SOURCES, encode, encode_unscored, source_of
from ecg.data.preprocessing import MAX_DURATION, MIN_DURATION
from ecg.runtime.processes import parallel_map

ROUNDING = 6  # decimals of a sample; seconds are not exact


class Survey(NamedTuple):
    """What headers tell of N recordings: sources (N,), labels (N, 26) and those beside (N, 2) bool, seconds (N,).

    Seconds are 0 where they are unknown, and 144 at the most.
    """

    sources: np.ndarray
    labels: np.ndarray
    unscored: np.ndarray
    seconds: np.ndarray

    def lengths(self, rate):
        """Return the samples of the recordings once they are at `rate` Hz: (N,)."""
        return np.ceil((self.seconds * rate).round(ROUNDING)).astype(int)


def survey(data, paths, jobs=None):
    """Return the Survey of the recordings that can be trained on, by all that these headers of a folder tell.

    Raises RecordError where they are fewer than two.
    """
    with closing(parallel_map(told, paths, jobs, "reading headers")) as found:
        kept = [(source_of(path.stem), *one) for path, one in zip(paths, found, strict=True) if one]
    if len(kept) < 2:
        raise RecordError(f"{data}: {len(kept)} of {len(paths):,} recordings can be used, and training needs two")
    return Survey(*map(np.array, zip(*kept, strict=True)))


def told(path):
    """Return labels (26,), those beside (2,) and seconds, 0 where they are not told, by a header.

    None where it is left out.
    """
    if source_of(path.stem) in DISCARDED_SOURCES:
        return None
    try:
        header = read_header(path)
    except (RecordError, OSError):
        return None
    seconds = min(header.samples / header.sampling_frequency, MAX_DURATION)
    if 0 < seconds < MIN_DURATION:
        return None
    return encode(header.codes), encode_unscored(header.codes), seconds
