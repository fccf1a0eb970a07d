"""Write a trained model as an ONNX file, and compare it with Keras.

The file needs neither Keras nor this package. It has all networks, and in its metadata what has to be known before and
after them: preprocessing, classes and decision rule. It is kept only if it predicts what Keras predicts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import ecg
from ecg.data.headers import Header, parse_header
from ecg.data.labels import ADDITIONAL_CLASSES, SCORED
from ecg.data.leads import LEADS, lead_indices
from ecg.data.preprocessing import MAX_DURATION, N_DEMOGRAPHICS, encode_demographics
from ecg.data.synthetic import SyntheticSettings, make_recording, plan_recordings
from ecg.models.bundle import Bundle
from ecg.models.decision import VOTE, write_rule
from ecg.models.ensemble import Member, serves_all_lead_sets, uses_demographics
from ecg.models.onnx_graph import ExportError, Node, OnnxGraph, write_network
from ecg.runtime.files import atomic_path, to_json

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

SIGNAL, DEMOGRAPHICS = "signal", "demographics"  # inputs
PROBABILITIES, BY_NETWORK = "probabilities", "network_probabilities"  # outputs
METADATA = "ecg"  # key of the description in the file's metadata
TOLERANCE = 1e-5  # largest difference of a probability from that of Keras
CHECKED_SECONDS = (1.0, 2.3, 4.1, 10.0, 27.7, 61.0)  # lengths of the synthetic recordings that are compared
# What the five numbers are, see ecg.data.preprocessing.encode_demographics.
DEMOGRAPHIC_NAMES = ("age / 100 years", "female", "male", "age unknown", "sex unknown")


class OnnxMissing(RuntimeError):
    """The packages that write and run ONNX files are not installed."""


class ExportReport(NamedTuple):
    """How an ONNX file compares with Keras.

    Attributes:
        recordings: Number of synthetic recordings that were compared.
        difference: Largest difference of a probability.
    """

    recordings: int
    difference: float


def export_bundle(bundle: Bundle, path: Path) -> ExportReport:
    """Write a model as an ONNX file, and compare it with Keras before it is kept.

    Args:
        bundle: The model.
        path: The file. It is replaced if it exists.

    Raises:
        OnnxMissing: onnx or onnxruntime is not installed.
        ExportError: The model cannot be written, or the file would predict something else than Keras.
        OSError: The file cannot be written.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  # before anything is computed
    except ImportError as error:
        raise OnnxMissing(f"{error.name} is missing: pip install 'reduced-lead-ecg[onnx]'") from None
    check_exportable(bundle)
    general = bundle.ensemble.general
    model = build_onnx_model(general.members, len(general.members[0].leads), len(general.classes))
    model.producer_name, model.producer_version = "reduced-lead-ecg", ecg.__version__
    onnx.helper.set_model_props(model, {METADATA: to_json(describe_contract(bundle), allow_nan=False)})
    onnx.checker.check_model(model, full_check=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
        return compare_with_keras(bundle, temporary)


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


def describe_contract(bundle: Bundle) -> dict[str, Any]:
    """Return what the metadata of a file says: inputs, classes, decision rule."""
    general, member = bundle.ensemble.general, bundle.ensemble.general.members[0]
    names = {diagnosis.abbreviation: diagnosis for diagnosis in (*SCORED, *ADDITIONAL_CLASSES)}
    sees_demographics = any(uses_demographics(member.network) for member in general.members)
    return {
        "system": bundle.system,
        "leads": member.leads,
        "unit": "mV",
        "preprocessing": asdict(member.view.preparation),
        "longest_seconds": MAX_DURATION,
        "pooling": "maximum over the segments of a longer recording for each network, then mean of the networks",
        "demographics": DEMOGRAPHIC_NAMES if sees_demographics else (),
        "classes": [names[abbreviation]._asdict() for abbreviation in general.classes],
        "rule": write_rule(bundle.rule),
        "versions": {"reduced-lead-ecg": ecg.__version__}
        | {name: version(name) for name in ("keras", "numpy", "scipy", "onnx", "onnxruntime")},
    }


def compare_with_keras(bundle: Bundle, path: Path) -> ExportReport:
    """Predict synthetic recordings with an ONNX file and with Keras.

    Args:
        bundle: The model.
        path: The file.

    Raises:
        ExportError: A probability differs by more than TOLERANCE, or a decision differs.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    group, differences = bundle.ensemble.general, []
    member = group.members[0]
    for header, integers in make_checked_recordings(bundle.leads):
        segments, _ = bundle.prepare_segments(header, integers)
        demographics = encode_demographics(header.age, header.sex)
        expected = group.predict(segments, demographics)
        signals = [segment.signal(member.view.preparation, member.leads) for segment in segments]
        rows = [
            session.run(
                [BY_NETWORK], {name: (signal if name == SIGNAL else demographics)[np.newaxis] for name in names}
            )
            for signal in signals
        ]
        predicted = np.max([row[0][0] for row in rows], axis=0).mean(axis=0)
        differences.append(abs(predicted - expected).max())
        decisions = [bundle.rule.decide(probabilities, group.columns) for probabilities in (predicted, expected)]
        changed = np.count_nonzero(decisions[0] != decisions[1])
        if not differences[-1] <= TOLERANCE or changed:
            raise ExportError(
                f"a synthetic recording of {len(signals[0])} samples: probabilities differ from those of Keras by up "
                f"to {differences[-1]:.1e}, and {changed} decisions; expected {TOLERANCE:g} at most, and 0"
            )
    return ExportReport(len(differences), float(max(differences)))


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


def build_onnx_model(members: Sequence[Member], n_leads: int, n_classes: int) -> "ModelProto":
    """Write networks as one graph that averages their probabilities.

    Args:
        members: The networks. They see the same leads.
        n_leads: Number of leads of the signal.
        n_classes: Number of classes.

    Returns:
        A model from `signal` (batch, samples, n_leads) float32, in mV, and `demographics` (batch, 5) float32, if a
        network sees them, to `probabilities` (batch, n_classes) float32 and `network_probabilities` (batch, M,
        n_classes) float32. There can be any number of samples.

    Raises:
        ExportError: A layer of a network cannot be written.
    """
    from onnx import TensorProto, helper

    graph = OnnxGraph()
    signal, outputs = graph.apply("Transpose", SIGNAL, perm=[0, 2, 1]), []
    for number, member in enumerate(members, 1):
        graph.prefix = f"network{number}/"
        placed = signal
        if serves_all_lead_sets(member.settings) and n_leads < len(LEADS):
            placed = graph.convolve(signal, np.eye(len(LEADS))[np.newaxis, list(lead_indices(member.leads))])
        inputs = [placed, DEMOGRAPHICS] if uses_demographics(member.network) else [placed]
        outputs.append(write_network(graph, member.network, inputs))
    graph.prefix = ""
    rows = [graph.reshape(output, (0, 1, n_classes)) for output in outputs]
    graph.nodes.append(Node("Concat", tuple(rows), BY_NETWORK, {"axis": 1}))
    axes = graph.add_constant([1], np.int64)
    graph.nodes.append(Node("ReduceMean", (BY_NETWORK, axes), PROBABILITIES, {"keepdims": 0}))

    def describe(name: str, *shape: str | int) -> "ValueInfoProto":
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    signals = [describe(SIGNAL, "batch", "samples", n_leads)]
    if any(uses_demographics(member.network) for member in members):
        signals.append(describe(DEMOGRAPHICS, "batch", N_DEMOGRAPHICS))
    predictions = [describe(PROBABILITIES, "batch", n_classes),
                   describe(BY_NETWORK, "batch", len(members), n_classes)]  # fmt: skip
    return graph.to_model(signals, predictions)
