"""Explain predictions: when and in which leads the evidence for a class lies."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

from ecg.data.headers import Header
from ecg.data.leads import lead_indices
from ecg.data.preprocessing import encode_demographics, leads_first
from ecg.data.records import SignalError
from ecg.data.resampling import rational_ratio
from ecg.models.bundle import Bundle
from ecg.models.ensemble import Member, Segment, serves_all_lead_sets, uses_demographics
from ecg.systems.attribution import (
    METHODS,
    Attribute,
    Attribution,
    Example,
    LogitNetwork,
    build_logit_network,
    compute_logits,
    scale_window,
)
from ecg.systems.explanation_methods import INTEGRATED_GRADIENTS, ExplanationError

SMOOTHING = 0.05  # s


class Explanation(NamedTuple):
    """Where the evidence for a class lies in a recording.

    Attributes:
        class_name: Abbreviation of the class.
        method: Name of the method, one of METHODS.
        leads: Names of the leads of the lead set.
        rate: Samples of the relevance per second.
        seconds: Length of the recording in s.
        relevance: What each sample adds to the logit, (T, n_leads) float32; negative if it speaks against the class.
        by_lead: What each lead adds to the logit, (n_leads,) float32.
        logit: The logit of the class, the mean of the networks'.
    """

    class_name: str
    method: str
    leads: tuple[str, ...]
    rate: int
    seconds: float
    relevance: np.ndarray
    by_lead: np.ndarray
    logit: float


class TimeGrid(NamedTuple):
    """Samples of the relevance of a recording."""

    rate: int
    samples: int
    seconds: float


def explain(
    bundle: Bundle, header: Header, recording: np.ndarray, class_name: str, method: str = INTEGRATED_GRADIENTS
) -> Explanation:
    """Explain the prediction of a class for a recording.

    The relevance is the mean over the networks that predict the recording. A network with windows of a fixed length is
    explained by the mean over its windows. Each segment of a long recording is explained for itself.

    Args:
        bundle: The model.
        header: Header of the recording.
        recording: Stored integers, (L, T).
        class_name: Abbreviation of the class.
        method: One of METHODS.

    Raises:
        ExplanationError: The method is unknown, or the networks do not predict the class for this recording.
        SignalError: The recording cannot be used.
    """
    if method not in METHODS:
        raise ExplanationError(f"method is {method!r}, expected one of {', '.join(METHODS)}")
    segments, _ = bundle.prepare_segments(header, recording)
    demographics = encode_demographics(header.age, header.sex)
    if class_name not in bundle.ensemble.general.classes:
        raise ExplanationError(f"the model does not predict {class_name}")
    group = bundle.ensemble.choose_group(segments, demographics)
    if class_name not in group.classes:
        raise ExplanationError(f"{header.name}: the networks for its source do not predict {class_name}")
    grid = make_time_grid(header, recording, group.members[0].view.preparation.rate)
    begins = grid.seconds * np.arange(len(segments)) / len(segments)
    relevance, by_lead, logits = np.zeros((grid.samples, len(bundle.leads))), np.zeros(len(bundle.leads)), []
    for member in group.members:
        column = group.classes.index(class_name)
        attributions, logit = explain_segments(member, segments, demographics, column, METHODS[method])
        columns = [bundle.leads.index(lead) for lead in member.leads]
        for index, (values, by_input) in attributions.items():
            rate = member.view.preparation.rate
            relevance[:, columns] += resample_relevance(values, rate, begins[index], grid) / len(group.members)
            by_lead[columns] += by_input / len(attributions) / len(group.members)
        logits.append(logit)
    return Explanation(class_name, method, bundle.leads, grid.rate, grid.seconds, relevance.astype(np.float32),
                       by_lead.astype(np.float32), float(np.mean(logits)))  # fmt: skip


def explain_segments(
    member: Member, segments: Sequence[Segment], demographics: np.ndarray, column: int, attribute: Attribute
) -> tuple[dict[int, Attribution], float]:
    """Explain the prediction of a network for the segments of a recording.

    Args:
        member: The network.
        segments: Segments of the recording.
        demographics: (5,), see ecg.data.preprocessing.encode_demographics.
        column: Index of the class among the network's outputs.
        attribute: The method.

    Returns:
        Attributions by segment, with the leads of the member, without segments that the network does not see; and its
        logit, pooled as its probabilities are.

    Raises:
        SignalError: No segment has a valid sample.
    """
    logit_network = build_logit_network(member.network)
    attributions: dict[int, Attribution] = {}
    logits: list[np.ndarray] = []
    reason = ""
    for index, segment in enumerate(segments):
        try:
            signal = segment.signal(member.view.preparation, member.leads)
        except SignalError as error:
            reason = str(error)
            continue
        attributions[index], segment_logits = _explain_signal(
            member, logit_network, signal, demographics, column, attribute
        )
        logits.append(segment_logits)
        if len(segments) > 1:
            segment.signal.cache_clear()
        if member.view.window.first_only:
            break
    if not logits:
        raise SignalError(reason)
    return attributions, float(member.pool_windows(np.concatenate(logits)))


def _explain_signal(
    member: Member,
    logit_network: LogitNetwork,
    signal: np.ndarray,
    demographics: np.ndarray,
    column: int,
    attribute: Attribute,
) -> tuple[Attribution, np.ndarray]:
    """Explain the mean logit of a signal's windows; returns their logits (n,), too."""
    window, windows = member.view.window, member.split_windows(signal)
    inputs = list(lead_indices(member.leads)) if serves_all_lead_sets(member.settings) else slice(None)
    relevance, by_lead, logits = np.zeros(signal.shape), np.zeros(signal.shape[1]), []
    for start, values in zip(window.segment_starts(len(signal)), windows, strict=True):
        samples = min(len(signal) - start, len(values))
        points, baseline = scale_window(logit_network.scaling, values)
        example = Example(points[window.signal_slice(len(values), samples)], baseline,
                          demographics if uses_demographics(member.network) else None,
                          window, len(values), member.view.preparation.rate)  # fmt: skip
        logits.append(compute_logits(logit_network.network, example, example.signal[np.newaxis], column)[0])
        attribution = attribute(logit_network.network, example, column)
        relevance[start : start + samples] += attribution.relevance[:, inputs] / len(windows)
        by_lead += attribution.by_input[inputs] / len(windows)
    return Attribution(relevance, by_lead), np.array(logits)


def make_time_grid(header: Header, recording: np.ndarray, rate: int) -> TimeGrid:
    """Return the samples that a recording (L, T) has once it is preprocessed."""
    samples = leads_first(header, recording).shape[1]
    source_step, step = rational_ratio(header.sampling_frequency, rate)
    return TimeGrid(rate, -(-samples * step // source_step), samples / header.sampling_frequency)


def resample_relevance(relevance: np.ndarray, rate: int, begin: float, grid: TimeGrid) -> np.ndarray:
    """Place the relevance of a segment on the grid of its recording; sums are kept.

    Args:
        relevance: (n_samples, n_leads).
        rate: Its samples per second.
        begin: Where the segment begins, in s.
        grid: Samples of the recording.

    Returns:
        (grid.samples, n_leads), 0 outside the segment.
    """
    edges = begin + np.arange(len(relevance) + 1) / rate
    grid_edges = np.arange(grid.samples + 1) / grid.rate
    grid_edges[-1] = max(grid_edges[-1], edges[-1])  # a last sample may lie partly beyond the end
    totals = np.concatenate([np.zeros((1, relevance.shape[1])), np.cumsum(relevance, axis=0)])
    return np.diff([np.interp(grid_edges, edges, column) for column in totals.T], axis=1).T


def smooth_relevance(explanation: Explanation) -> np.ndarray:
    """Return the relevance (T, n_leads) as the mean over 50 ms."""
    samples = max(round(SMOOTHING * explanation.rate), 1)
    return uniform_filter1d(explanation.relevance, samples, axis=0, mode="constant")


def compute_shading(explanation: Explanation) -> np.ndarray:
    """Return the evidence for the class for people: (T, n_leads) float32 from 0 to 1.

    It is the positive part of the smoothed relevance, divided by its maximum.
    """
    evidence = np.maximum(smooth_relevance(explanation), 0)
    return evidence / max(evidence.max(), np.finfo(np.float32).tiny)
