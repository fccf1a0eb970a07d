"""The benchmark of explanations counts what points at the evidence, and randomises what it says."""

import json

import numpy as np
import pytest
from result_helpers import get_network, make_bundle

from benchmarks import explanation_tables as tables
from benchmarks import explanations as benchmark
from ecg.data.leads import LEADS
from ecg.data.synthetic_evidence import Evidence
from ecg.models.bundle import save_bundle
from ecg.systems.explanations import Explanation

EVIDENCE = Evidence(np.array([[1.0, 1.5], [3.0, 3.5]]))


def explanation_of(*times, seconds=10, rate=100):
    """An explanation that is largest at some times, in seconds."""
    relevance = np.zeros((seconds * rate, 2), np.float32)
    for time in times:
        relevance[round(time * rate), 1] = 1
    return Explanation("PVC", "occlusion", ("I", "II"), rate, seconds, relevance, relevance.sum(axis=0), 0.0)


def test_the_pointing_game_is_won_by_the_largest_relevance_within_the_evidence():
    won, lost, shared = (benchmark.score_time(explanation_of(*times), EVIDENCE) for times in ((1.2,), (2.5,), (3.2, 7)))
    assert won.hit == 1 and lost.hit == 0 and shared.hit == pytest.approx(0.5)
    assert won.chance == pytest.approx((0.6 + 0.6) / 10, abs=0.01)  # with the tolerance at both ends
    constant = benchmark.score_time(explanation_of()._replace(relevance=np.ones((1000, 2), np.float32)), EVIDENCE)
    assert constant.hit == pytest.approx(constant.chance, abs=0.02)


def test_the_most_relevant_lead_has_to_show_the_class():
    explanation = explanation_of(1.2)  # in II
    scores = [benchmark.score_leads(explanation, EVIDENCE._replace(leads=leads)) for leads in (("II",), ("I",), LEADS)]
    assert scores == [(1, 0.5), (0, 0.5), (1, 1)]
    assert benchmark.score_leads(explanation_of(), EVIDENCE._replace(leads=("I",))) == (0.5, 0.5)


def make_values(hit=1.0, random=0.0, correlation=0.0, lead_chance=1.0):
    """The values of ten recordings."""
    values = {"hit": hit, "chance": 0.2, "random": random, "correlation": correlation, "lead_hit": 1.0,
              "lead_chance": lead_chance}  # fmt: skip
    return {name: [value] * 10 for name, value in values.items()}


def test_a_method_passes_if_it_beats_chance_and_its_shading_vanishes_with_random_weights():
    parts = {
        (method, name): {tables.POINTING: make_values(hit, correlation=correlation)}
        for method, correlation in (("occlusion", 0.1), ("smoothgrad", 0.1), ("integrated_gradients", 0.3))
        for name, hit in (("PVC", 1.0), ("RBBB", 0.2), ("PAC", 0.9 if method == "occlusion" else 1.0))
    }
    offered = tables.choose_offered(tables.summarise_parts(parts))
    assert offered == {"PVC": ("smoothgrad", "occlusion"), "PAC": ("smoothgrad", "occlusion")}
    del parts["smoothgrad", "PAC"]
    assert tables.choose_offered(tables.summarise_parts(parts))["PAC"] == ("occlusion",), "not measured, not offered"


def test_the_tables_mark_what_is_above_chance_and_above_random_weights():
    parts = {("occlusion", "PVC"): {tables.POINTING: make_values(random=0.3)},
             ("occlusion", "LAD"): {tables.POINTING: make_values(0.2, 0.2, lead_chance=0.5)}}  # fmt: skip
    table = tables.summarise_parts(parts)
    lines = "\n".join(tables.format_pointing(table))
    assert "| PVC | 10 | 0.20 |  |  |  |  | **1.00 (1.00 to 1.00)** | 0.30 * |" in lines
    assert "| LAD | 10 | 0.20 |  |  |  |  | 0.20 (0.20 to 0.20) | 0.20 |" in lines
    assert [line.split(" | ")[0] for line in tables.format_leads(table)][2:] == ["| LAD"]
    (missing,) = tables.format_offered(table, parts)
    assert missing.startswith(f"{3 * len(tables.CLASSES) - 2} parts are not measured yet: ")
    complete = {(method, name): {} for method in tables.METHODS for name in tables.CLASSES} | parts
    assert list(tables.format_offered(table, complete))[1:-1] == ['    "PVC": (OCCLUSION,),']


def test_layers_are_randomised_from_the_top(small_network):
    bundle = make_bundle(LEADS, small_network, np.full(26, 0.5), small_network.build(12, None, 22))
    trained = get_network(bundle).get_weights()
    counts = []
    for share in (0.0, 0.3, 1.0):
        random = get_network(benchmark.randomise_layers(bundle, share)).get_weights()
        changed = [not np.array_equal(a, b) for a, b in zip(trained, random, strict=True)]
        kernels = [index for index, values in enumerate(trained) if values.ndim > 1]
        counts.append(sum(changed))
        assert changed[kernels[-1]] == (share > 0) and changed[kernels[0]] == (share == 1)
    assert counts[0] == 0 < counts[1] < counts[2]
    assert counts[2] == len(kernels)
    for a, b in zip(trained, get_network(bundle).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_parts_are_measured_once_and_the_tables_are_printed(small_network, tmp_path, capsys):
    bundle = make_bundle(LEADS, small_network, np.full(26, 0.5), small_network.build(12, None, 22))
    save_bundle(bundle, tmp_path / "model")
    arguments = [str(tmp_path), "--model", str(tmp_path / "model"), "--held-out", "12", "--per-class", "2",
                 "--cascade", "1", "--missed"]  # fmt: skip
    benchmark.main([*arguments, "--classes", "PVC", "--methods", "occlusion"])
    path = tmp_path / "parts" / "occlusion" / "PVC.json"
    before = path.stat().st_mtime_ns
    benchmark.main([*arguments, "--classes", "PVC", "LAD"])
    assert path.stat().st_mtime_ns == before and len([*tmp_path.glob("parts/*/*.json")]) == 2 * len(tables.METHODS)
    printed = capsys.readouterr().out
    assert "| class | recordings | chance | integrated_gradients | random weights |" in printed
    assert "| 100% |" in printed and "parts are not measured yet" in printed
    values = json.loads(path.read_text())["values"]
    assert len(values["pointing"]["hit"]) == 2 and len(values["1.0"]["correlation"]) == 1
    with pytest.raises(SystemExit, match="other options"):
        benchmark.main([*arguments, "--seed", "2"])
