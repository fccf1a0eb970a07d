"""Describe models in files for other programs, and compare these files with Keras.

The files need neither Keras nor this package. Each has all networks of a model. Its description gives what a program
needs before and after the networks: preprocessing, classes and decision rule.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import NamedTuple

import keras
import numpy as np

import ecg
from ecg.data.class_tables import write_class_table
from ecg.data.headers import Header, parse_header
from ecg.data.preprocessing import LARGEST_MICROVOLTS, MAX_DURATION, encode_demographics
from ecg.data.resampling import FIR, Preprocessing, band_pass_taps, filter_length
from ecg.data.synthetic import SyntheticSettings, make_recording, plan_recordings
from ecg.models.bundle import Bundle
from ecg.models.decision import VOTE, write_rule
from ecg.models.ensemble import Member, uses_demographics
from ecg.models.translation import ExportError
from ecg.runtime.files import to_json

SIGNAL, DEMOGRAPHICS = "signal", "demographics"  # inputs
PROBABILITIES, BY_NETWORK = "probabilities", "network_probabilities"  # outputs
TOLERANCE = 1e-5  # largest difference of a probability from that of Keras
CHECKED_SECONDS = (1.0, 2.3, 4.1, 10.0, 27.7, 61.0)  # lengths of the synthetic recordings that are compared
# What the five numbers are, see ecg.data.preprocessing.encode_demographics.
DEMOGRAPHIC_NAMES = ("age / 100 years", "female", "male", "age unknown", "sex unknown")


class ExportReport(NamedTuple):
    """How a file compares with Keras.

    Attributes:
        recordings: Number of synthetic recordings that were compared.
        difference: Largest difference of a probability.
    """

    recordings: int
    difference: float


def check_exportable(bundle: Bundle) -> None:
    """Check that one graph can predict recordings of any length as a model does.

    Raises:
        ExportError: It cannot; the message says why.
    """
    ensemble, members = bundle.ensemble, bundle.ensemble.general.members
    first = members[0]
    reason = None
    if ensemble.gate or ensemble.special:
        reason = "a gate chooses between two groups of networks"
    elif bundle.rule.decision == VOTE:
        reason = "its networks vote, each by its own thresholds"
    elif lengths := {member.view.window.length for member in members if member.view.window.length is not None}:
        reason = f"its networks see windows of {', '.join(map(str, sorted(lengths)))} samples"
    elif any(member.view.window.standardised for member in members):
        reason = "its networks see signals that are scaled within a window"
    elif any((member.leads, member.view.preparation) != (first.leads, first.view.preparation) for member in members):
        reason = "its networks see signals of different leads or preprocessing"
    if reason:
        raise ExportError(f"{bundle.system} cannot be exported: {reason}. Systems whose networks see a whole recording "
                          "can be, such as cai2021 and apprentice")  # fmt: skip


def describe_contract(bundle: Bundle, packages: Sequence[str]) -> str:
    """Return the JSON that a file holds: inputs, classes, decision rule.

    Args:
        bundle: The model.
        packages: Names of the packages that write and run the file. The description gives their versions.
    """
    general, member = bundle.ensemble.general, bundle.ensemble.general.members[0]
    names = {diagnosis.abbreviation: diagnosis for diagnosis in bundle.classes.diagnoses}
    sees_demographics = any(uses_demographics(member.network) for member in general.members)
    contract = {
        "system": bundle.system,
        "leads": member.leads,
        "unit": "mV",
        "preprocessing": asdict(member.view.preparation),
        "filter_taps": filter_taps(member.view.preparation),
        "resolution": 1e-3,
        "largest": LARGEST_MICROVOLTS / 1000,
        "longest_seconds": MAX_DURATION,
        "pooling": "maximum over the segments of a longer recording for each network, then mean of the networks",
        "demographics": DEMOGRAPHIC_NAMES if sees_demographics else (),
        "classes": [names[abbreviation]._asdict() for abbreviation in general.classes],
        "class_table": write_class_table(bundle.classes),
        "rule": write_rule(bundle.rule),
        "versions": {"reduced-lead-ecg": ecg.__version__}
        | {name: version(name) for name in ("keras", "numpy", "scipy", *packages)},
    }
    return to_json(contract, allow_nan=False)


def filter_taps(preparation: Preprocessing) -> np.ndarray:
    """Return the taps of the filter of a preprocessing, of zero delay.

    Returns:
        An odd number of taps. Without a filter, the middle one is 1 and the others are 0. There is none if the filter
        has no finite impulse response.
    """
    if preparation.band is None:
        count = filter_length(preparation.rate)
        return (np.arange(count) == count // 2).astype(float)
    return band_pass_taps(preparation.rate, preparation.band) if preparation.kind == FIR else np.empty(0)


def compare_with_keras(bundle: Bundle, predict: Callable[[Mapping[str, np.ndarray]], np.ndarray]) -> ExportReport:
    """Predict synthetic recordings with a file and with Keras.

    Args:
        bundle: The model.
        predict: Returns what the file predicts, as BY_NETWORK (1, M, K), for SIGNAL (1, T, leads) and DEMOGRAPHICS
            (1, 5).

    Raises:
        ExportError: A probability differs by more than TOLERANCE, or a decision differs.
    """
    group, differences = bundle.ensemble.general, []
    member = group.members[0]
    for header, integers in make_checked_recordings(bundle.leads):
        segments, _ = bundle.prepare_segments(header, integers)
        demographics = encode_demographics(header.age, header.sex)
        signals = [segment.signal(member.view.preparation, member.leads) for segment in segments]
        rows = [predict({SIGNAL: signal[np.newaxis], DEMOGRAPHICS: demographics[np.newaxis]})[0] for signal in signals]
        keras_rows = [
            [predict_with_keras(member, signal, demographics) for member in group.members] for signal in signals
        ]
        predicted, expected = (np.max(values, axis=0).mean(axis=0) for values in (rows, keras_rows))
        differences.append(abs(predicted - expected).max())
        decisions = [bundle.rule.decide(probabilities, bundle.columns) for probabilities in (predicted, expected)]
        changed = np.count_nonzero(decisions[0] != decisions[1])
        if not differences[-1] <= TOLERANCE or changed:
            raise ExportError(
                f"a synthetic recording of {len(signals[0])} samples: probabilities differ from those of Keras by up "
                f"to {differences[-1]:.1e}, and {changed} decisions; expected {TOLERANCE:g} at most, and 0"
            )
    return ExportReport(len(differences), float(max(differences)))


def predict_with_keras(member: Member, signal: np.ndarray, demographics: np.ndarray) -> np.ndarray:
    """Predict a whole signal by the Keras network of a member.

    Args:
        member: The member.
        signal: (T, leads) float32 in mV.
        demographics: (5,), see ecg.data.preprocessing.encode_demographics.

    Returns:
        Probabilities, (K,).
    """
    windows = member.split_windows(signal)
    inputs = (windows, demographics[np.newaxis]) if uses_demographics(member.network) else windows
    outputs = member.network(inputs, training=False)
    return keras.ops.convert_to_numpy(outputs)[0]


def make_checked_recordings(leads: tuple[str, ...]) -> Iterator[tuple[Header, np.ndarray]]:
    """Make synthetic recordings of CHECKED_SECONDS, repeated if they are too short.

    Args:
        leads: Names of their leads.

    Yields:
        Header and stored integers, (leads, T).
    """
    settings = SyntheticSettings(leads=leads, clean=True, realistic=True)
    plan = plan_recordings(len(CHECKED_SECONDS), 0, settings)
    for item, seconds in zip(enumerate(plan), CHECKED_SECONDS, strict=True):
        text, integers, facts = make_recording(0, settings, item)
        header = parse_header(text, facts.name)
        samples = round(seconds * header.sampling_frequency)
        yield header, np.tile(integers.T, -(-samples // len(integers)))[:, :samples]
