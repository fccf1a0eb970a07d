"""The benchmark of explanations counts what points at the evidence, and randomises what it says."""

import json

import numpy as np
import pytest
from result_helpers import get_network, make_bundle

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
    won, lost, shared = (benchmark.play(explanation_of(*times), EVIDENCE) for times in ((1.2,), (2.5,), (3.2, 7.0)))
    assert won.hit == 1 and lost.hit == 0 and shared.hit == pytest.approx(0.5)
    assert won.chance == pytest.approx((0.6 + 0.6) / 10, abs=0.01)  # with the tolerance at both ends
    constant = benchmark.play(explanation_of()._replace(relevance=np.ones((1000, 2), np.float32)), EVIDENCE)
    assert constant.hit == pytest.approx(constant.chance, abs=0.02)


def test_a_method_passes_if_it_beats_chance():
    games = {hit: [benchmark.Pointing(hit, 0.2)] * 10 for hit in (0.0, 0.2, 1.0)}
    better, equal, chance = (benchmark.summarise(games[a], games[b]) for a, b in ((1.0, 0.2), (1.0, 1.0), (0.2, 0.0)))
    assert better["passes"] and better["above random"][1] > 0
    assert equal["passes"] and equal["above random"][1] == 0
    assert not chance["passes"] and chance["above chance"] == pytest.approx((0, 0, 0))
    table = {"PVC": {name: {"passes": name == "occlusion"} for name in benchmark.METHODS}}
    assert benchmark.failures(table) == {"integrated_gradients": ("PVC",), "smoothgrad": ("PVC",)}


def test_layers_are_randomised_from_the_top(small_network):
    bundle = make_bundle(LEADS, small_network, np.full(26, 0.5), small_network.build(12, None, 22))
    trained = get_network(bundle).get_weights()
    counts = []
    for share in (0.0, 0.3, 1.0):
        random = get_network(benchmark.randomise(bundle, share)).get_weights()
        changed = [not np.array_equal(a, b) for a, b in zip(trained, random, strict=True)]
        kernels = [index for index, values in enumerate(trained) if values.ndim > 1]
        counts.append(sum(changed))
        assert changed[kernels[-1]] == (share > 0) and changed[kernels[0]] == (share == 1)
    assert counts[0] == 0 < counts[1] < counts[2]
    assert counts[2] == len(kernels)
    for a, b in zip(trained, get_network(bundle).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_the_tables_are_printed(small_network, tmp_path, capsys):
    bundle = make_bundle(LEADS, small_network, np.full(26, 0.5), small_network.build(12, None, 22))
    save_bundle(bundle, tmp_path / "model")
    benchmark.main([str(tmp_path), "--model", str(tmp_path / "model"), "--held-out", "12", "--per-class", "2",
                    "--cascade", "1", "--classes", "PVC", "LAD", "--missed"])  # fmt: skip
    printed = capsys.readouterr().out
    assert "| class | recordings | chance | integrated_gradients | random weights |" in printed
    assert "| 100% |" in printed and "NOT_OFFERED" in printed
    measured = json.loads((tmp_path / "explanations.json").read_text())
    assert set(measured["pointing"]) == {"PVC", "LAD", "all"}
    untouched = measured["cascade"]["0.0"]
    assert all(result["correlation"][0] == pytest.approx(1, abs=1e-3) for result in untouched.values())
