"""Predict several recordings with an ensemble, in batches of equal length."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ecg.data.batches import plan_prediction
from ecg.models.ensemble import (
    GATE_THRESHOLD,
    Ensemble,
    Group,
    Member,
    Segment,
    align_classes,
    uses_demographics,
)

BATCH = 64  # windows that a network predicts at once, at most


class NetworkInput(NamedTuple):
    """A recording as networks see it.

    Attributes:
        segments: Its segments.
        demographics: (5,), see ecg.data.preprocessing.encode_demographics.
    """

    segments: Sequence[Segment]
    demographics: np.ndarray


def predict_recordings(ensemble: Ensemble, recordings: Sequence[NetworkInput]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Predict recordings with each network of the group that the gate chooses.

    The last digits of a probability depend on the size of its batch.

    Args:
        ensemble: The ensemble.
        recordings: The recordings.

    Returns:
        For each recording the two arrays of `Ensemble.predict_members`.

    Raises:
        SignalError: A recording has no segment with a valid sample.
    """
    general, chosen = ensemble.general, choose_groups(ensemble, recordings)
    predicted: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for group in ensemble.groups.values():
        rows = [row for row, row_group in enumerate(chosen) if row_group is group]
        if rows:
            outputs = predict_in_batches(group, [recordings[row] for row in rows])
            aligned = align_classes(outputs, group.classes, general.classes)
            covered = np.isin(general.classes, group.classes)
            predicted |= {row: (aligned[:, index], covered) for index, row in enumerate(rows)}
    return [predicted[row] for row in range(len(recordings))]


def choose_groups(ensemble: Ensemble, recordings: Sequence[NetworkInput]) -> list[Group]:
    """Return the group that predicts each recording; see `Ensemble.choose_group`."""
    if not (ensemble.gate and ensemble.special and recordings):
        return [ensemble.general] * len(recordings)
    opened = predict_in_batches(ensemble.gate, recordings).mean(axis=0)[:, 0] > GATE_THRESHOLD
    return [ensemble.special if is_special else ensemble.general for is_special in opened]


def predict_in_batches(group: Group, recordings: Sequence[NetworkInput]) -> np.ndarray:
    """Return the outputs of each network of a group for one or more recordings.

    Recordings of one segment share batches. A longer one is predicted alone, one segment after the other.

    Returns:
        (n_networks, n_recordings, n_outputs).

    Raises:
        SignalError: A recording has no segment with a valid sample.
    """
    outputs = {
        row: group.predict_each(*recording) for row, recording in enumerate(recordings) if len(recording.segments) > 1
    }
    short = [row for row in range(len(recordings)) if row not in outputs]
    if short:
        chosen = [recordings[row] for row in short]
        predicted = np.array([_predict_short(member, chosen) for member in group.members])
        outputs |= {row: predicted[:, index] for index, row in enumerate(short)}
    return np.stack([outputs[row] for row in range(len(recordings))], axis=1)


def _predict_short(member: Member, recordings: Sequence[NetworkInput]) -> np.ndarray:
    """Return the pooled outputs of a network for recordings of one segment, (n, K)."""
    signals = [recording.segments[0].signal(member.view.preparation, member.leads) for recording in recordings]
    by_recording = [member.split_windows(signal) for signal in signals]
    windows = [window for split in by_recording for window in split]
    owners = np.repeat(np.arange(len(recordings)), [len(split) for split in by_recording])
    demographics = np.array([recording.demographics for recording in recordings])
    outputs: np.ndarray | None = None
    for batch in plan_prediction(np.array([len(window) for window in windows]), BATCH):
        inputs = np.array([windows[index] for index in batch.records])
        with_demographics = (inputs, demographics[owners[batch.records]])
        predicted = member.predict_windows(with_demographics if uses_demographics(member.network) else inputs)
        if outputs is None:
            outputs = np.empty((len(windows), predicted.shape[1]), predicted.dtype)
        outputs[batch.records] = predicted
    assert outputs is not None
    return np.array([member.pool_windows(outputs[owners == row]) for row in range(len(recordings))])
