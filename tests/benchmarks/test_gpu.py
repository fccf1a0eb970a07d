import math

import pytest

from benchmarks import gpu
from benchmarks.memory import TINY
from benchmarks.timing import Bench


@pytest.mark.slow
@pytest.mark.parametrize("precision", gpu.PRECISIONS)
def test_rates_of_a_precision_are_numbers(tmp_path, precision, monkeypatch):
    monkeypatch.setattr(gpu, "STEPS", 1)
    bench = Bench(tmp_path, rounds=1, batch=4, product=64, network=TINY | {"kernels": ()})
    rates = gpu.measure_precision(bench, precision)
    assert "Keras" in rates["device"]
    assert all(0 < rates[name] < math.inf for name in ("recordings", "step", "product"))


def test_the_table_has_the_share_of_the_product():
    rates = {"device": "gpu:0", "recordings": 1234.4, "step": 2.0, "product": 8.0}
    lines = list(gpu.format_lines(64, {"float32": rates, "TF32": rates | {"step": 4.0}}))
    assert lines[2:] == ["| float32 | 1,234 recordings/s | 2.00 TFLOP/s | 8.00 TFLOP/s | 0.25 |",
                         "| TF32 | 1,234 recordings/s | 4.00 TFLOP/s | 8.00 TFLOP/s | 0.50 |"]  # fmt: skip


def test_without_an_accelerator_only_float32_is_measured(tmp_path, monkeypatch, capsys):
    asked = []

    def measure(_, precision):
        asked.append(precision)
        return {"device": "cpu:0", "recordings": 1.0, "step": 1.0, "product": 1.0}

    monkeypatch.setattr(gpu, "measure_apart", measure)
    for accelerators, expected in (([], ["float32"]), (["gpu:0"], list(gpu.PRECISIONS))):
        asked.clear()
        monkeypatch.setattr(gpu, "find_accelerators", lambda accelerators=accelerators: accelerators)
        gpu.main([str(tmp_path)])
        assert asked == expected
        assert ("no accelerator is found" in capsys.readouterr().out) == (not accelerators)
