import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec

import keras
import numpy as np
import pytest

import evaluate_model
from benchmarks import growth, precision, reference, scoring, speed, timing
from benchmarks.memory import TINY
from benchmarks.timing import Bench, Row
from ecg.data.class_files import load_weights
from ecg.data.labels import TRAINED
from ecg.data.records import find_records
from ecg.data.store import build_store
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.evaluation.metrics import SINUS, challenge_score
from ecg.evaluation.thresholds import search_thresholds
from ecg.runtime.executors import ONE_PROCESS


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("speed"), rounds=1, records=8, files=300, validation=300, sizes=(40, 60, 80),
                 batch=4, product=64, network=TINY)  # fmt: skip


def are_valid(rows):
    """Return whether rows have positive finite ratios and bounds, and texts."""
    return all(0 < row.ratio < math.inf and 0 < row.bound < math.inf and row.what and row.against for row in rows)


@pytest.mark.parametrize(("figure", "count"), [("store", 6), ("batches", 2), ("step", 1), ("prediction", 5),
                                               ("test_model", 1), ("evaluate", 2), ("thresholds", 2),
                                               ("decision", 2)])  # fmt: skip
@pytest.mark.slow
def test_a_figure_yields_ratios(bench, figure, count):
    if figure in ("batches", "step"):  # without blocks the network compiles fast
        bench = replace(bench, network=TINY | {"kernels": ()})
    rows = timing.measure(speed.FIGURES[figure], bench)
    assert len(rows) == count and are_valid(rows)


@pytest.mark.slow
def test_bfloat16_is_measured_where_the_machine_has_it(bench, monkeypatch, tmp_path):
    bench = replace(bench, network=TINY | {"kernels": ()})
    for has, measured in ((True, True), (False, False)):
        monkeypatch.setattr(speed, "has_bfloat16", lambda has=has: has)
        (row,) = rows = timing.measure(speed.FIGURES["bfloat16"], bench)
        assert are_valid(rows) == measured
        assert list(timing.format_lines(rows))[-1].endswith("| not measured |") != measured
        assert ("float32" in row.against) and ("bfloat16" in row.what)
    monkeypatch.undo()
    monkeypatch.setattr("ecg.training.distribution.accelerators", lambda: [])
    for flags, has in (("fpu avx512_bf16 vme", True), ("fpu avx512f vme", False)):
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text(f"processor : 0\nflags : {flags}\n")
        assert speed.has_bfloat16(cpuinfo) == has
    assert not speed.has_bfloat16(tmp_path / "none")


def test_the_table_of_precisions_has_both_scores_and_the_loss():
    scores = [[(0.5, 0.9), (0.46, 0.8)], [(0.6, 0.9), (0.62, 0.9)]]
    assert list(precision.format_lines([1, 2], scores)) == [
        "| seed | metric, float32 | metric, bfloat16 | AUROC, float32 | AUROC, bfloat16 |",
        "|---|---|---|---|---|",
        "| 1 | 0.500 | 0.460 | 0.900 | 0.800 |",
        "| 2 | 0.600 | 0.620 | 0.900 | 0.900 |",
        "| mean | 0.550 | 0.540 | 0.900 | 0.850 |",
        "",
        "bfloat16 loses 0.010 of the metric on average, within 0.02.",
    ]


@pytest.mark.skipif(not find_spec("torch"), reason="PyTorch is not installed")
def test_the_network_is_compared_with_the_same_in_pytorch(bench):
    rows = timing.measure(speed.measure_pytorch, replace(bench, network=TINY | {"kernels": ()}, warm_up_steps=1))
    assert len(rows) == 1 and are_valid(rows)


def test_without_pytorch_it_is_not_measured(bench, monkeypatch):
    monkeypatch.setattr(speed, "find_spec", lambda name: None)
    rows = timing.measure(speed.measure_pytorch, bench)
    assert list(timing.format_lines(rows))[-1].endswith("| not measured |")


@pytest.mark.slow
def test_both_precisions_are_trained_and_scored(tmp_path, monkeypatch, capsys):
    for name, seed in (("data", 1), ("held out", 2)):
        synthesize(tmp_path / name, 40, seed)
    arguments = f"precision {tmp_path}/data {tmp_path}/held*out --seeds 1 --width 2 --epochs 1 --folder {tmp_path}/made"
    monkeypatch.setattr("sys.argv", [part.replace("*", " ") for part in arguments.split()])
    precision.main()
    assert "| 1 | " in capsys.readouterr().out


@pytest.mark.slow
def test_loading_yields_a_ratio(bench):
    (row,) = rows = timing.measure(speed.FIGURES["loading"], bench)
    assert are_valid(rows) and row.unit == " s"


@pytest.mark.slow
def test_growth_trains_on_as_many_recordings_as_it_says(bench):
    functions = next(growth.measure_growth(bench))
    assert list(functions) == [40, 60, 80]
    for size, function in functions.items():
        function()
        with open(bench.folder / "model" / "report" / "split.csv") as file:
            assert 0.8 * size < len(file.readlines()) - 1 <= size


def test_growth_is_reported_in_both_kinds_of_time(monkeypatch, tmp_path):
    """A training takes 10 s and 10 ms a recording; further recordings take the same.

    The processors work for a tenth of it, in the first round twice as long.
    """
    processor_seconds = [0.0]

    def train(data, *_, **options):
        seconds = 1 + 0.001 * int(data.name)
        processor_seconds[0] += 2 * seconds if data not in seen else seconds
        seen.add(data)

    seen = set()
    monkeypatch.setattr("ecg.commands.train.train", train)
    monkeypatch.setattr(growth, "cpu_seconds", lambda process: processor_seconds[0])
    peaks = {"1000": 500.0, "8000": 600.0}
    monkeypatch.setattr(growth, "synthesize", lambda *_, **options: None)
    monkeypatch.setattr(
        growth.memory, "measure_training", lambda data, *_: {"all": (400.0, 9e3), "report": (peaks[data.name], 9e3)}
    )
    steps = growth.measure_growth(Bench(tmp_path))
    functions = next(steps)
    assert list(functions) == [1000, 2000, 4000, 8000]
    for function in 4 * list(functions.values()):
        function()
    rows = [steps.send({size: 10 + 0.01 * size for size in (1000, 2000, 4000, 8000)}), *steps]
    assert [row.ratio for row in rows] == pytest.approx(2 * [0.75, 0.625, 0.5625, 1.0] + [1.2])
    assert [row.reached for row in rows] == [True] * 8 + [False]
    assert rows[2].what == "a training on 8,000 recordings, 90.00 s, 11.25 ms each"
    assert rows[6].what == "processors' time of a training on 8,000 recordings, 9.00 s, 1.12 ms each"


def test_processors_work_for_a_process_and_for_all_that_it_started():
    code = "import sys, time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); sys.stdin.read()"
    before = growth.cpu_seconds(os.getpid())
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as process:
        process.stdout.readline()
        running = growth.cpu_seconds(os.getpid())
        process.stdin.close()
    for after in (running, growth.cpu_seconds(os.getpid())):
        assert before + 0.28 <= after < before + 3
    assert growth.cpu_seconds(process.pid) == 0  # it has ended


def test_functions_are_timed_in_turns_after_a_warm_up_round():
    order = []

    def slow():
        time.sleep(0.5 if not order else 0.02)
        order.append("slow")

    medians = timing.median_seconds({"slow": slow, "fast": lambda: order.append("fast")}, rounds=3)
    assert order == ["slow", "fast"] * 4
    assert 0.02 <= medians["slow"] < 0.4 and 0 < medians["fast"] < medians["slow"]


def test_the_table_says_what_is_reached():
    rows = [Row("a", "b", 2.5, 2.5), Row("c", "d", 2.51, 2.5), Row("e", "f", 0.45, 0.45, is_minimum=True),
            Row("g", "h", 0.4, 0.45, is_minimum=True), Row("i", "the clock", 12.345, 10, unit=" ms")]  # fmt: skip
    assert list(timing.format_lines(rows)) == [
        "| what | compared with | ratio | target | reached |",
        "|---|---|---|---|---|",
        "| a | b | 2.50 | at most 2.5 | yes |",
        "| c | d | 2.51 | at most 2.5 | no |",
        "| e | f | 0.45 | at least 0.45 | yes |",
        "| g | h | 0.40 | at least 0.45 | no |",
        "| i | the clock | 12.35 ms | at most 10 ms | no |",
    ]


def test_operations_are_those_counted_by_hand(bench):
    # Convolutions from 2 channels and back to 3, of 5 and 1 taps, over 10 samples, then 5; and 3 x 7 weights once.
    signal = keras.Input((None, 2))
    x = keras.layers.Conv1D(4, 5, 1, padding="same")(signal)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv1D(3, 1, 2, padding="same", use_bias=False)(x)
    x = keras.layers.GlobalMaxPooling1D()(x)
    network = keras.Model(signal, keras.layers.Dense(7)(x))
    assert speed.count_operations(network, 10) == 2 * (10 * 5 * 2 * 4 + 5 * 1 * 4 * 3 + 3 * 7)
    # The method's network, made tiny: 100 samples become 50 in the first convolution and 25 in pooling. The pair of
    # blocks has four convolutions of five taps, and each block squeezes 4 channels to 2 and back.
    tiny = timing.build_network(bench, 12)
    count = 50 * 16 * 12 * 4 + 4 * 25 * 5 * 4 * 4 + 2 * 2 * 4 * 2 + 4 * 8 + 8 * len(TRAINED)
    assert speed.count_operations(tiny, 100) == 2 * count


def test_the_plain_loops_score_as_evaluate_model_does(bench):
    timing.measure(speed.measure_evaluation, bench)
    names, weights = load_weights()
    folders = bench.folder / "labels", bench.folder / "outputs"
    records = sorted(path.stem for path in folders[0].iterdir())
    plain = reference.evaluate(records, *folders, [name.split("|") for name in names], weights)
    _, auroc, auprc, _, _, right, measure, _, metric = evaluate_model.evaluate_model(*folders)
    assert len(records) == bench.files and 0.5 < auroc < 1 and 0 < metric < 1
    np.testing.assert_allclose(plain, (auroc, auprc, right, measure, metric), rtol=1e-9)


@pytest.mark.parametrize(("seed", "anew"), [(1, True), (2, False), (3, False)])
def test_the_plain_search_finds_the_same_thresholds(seed, anew):
    generator, weights = np.random.default_rng(seed), load_weights()[1]
    labels = generator.random((200, 26)) < 0.1
    probabilities = scoring.draw_probabilities(labels, generator).round(2)  # with equals, and values of candidates
    search = search_thresholds(labels, probabilities, weights)
    thresholds = reference.search_thresholds(labels, probabilities, weights, TRAINED, SINUS, anew)
    np.testing.assert_array_equal(search.by_class, thresholds)
    assert len(set(thresholds)) > 5


def test_credit_is_the_same_by_loops_and_by_a_matrix_product():
    generator, weights = np.random.default_rng(1), load_weights()[1]
    labels, outputs = generator.random((2, 50, 26)) < 0.1
    inactive = np.arange(26) == np.full((50, 1), SINUS)
    for credit in (reference.credit_by_loops, reference.credit_by_product):
        base, best, ours = (credit(labels, predictions, weights) for predictions in (inactive, labels, outputs))
        assert (ours - base) / (best - base) == pytest.approx(challenge_score(labels, outputs, weights), rel=1e-12)


@pytest.mark.parametrize("taps", speed.FILTERS.values())
def test_the_plain_chain_prepares_nearly_what_is_stored(bench, taps):
    data = timing.prepare_recordings(bench)
    store = build_store(data, bench.folder / "compared", executor=ONE_PROCESS)
    alike = []
    for record, path in list(enumerate(find_records(data)))[:2]:
        ours, plain = store.signal(record)[250:-250], reference.preprocess(path, taps).T[250:-250]
        alike += [np.corrcoef(ours[:, lead], plain[:, lead])[0, 1] for lead in range(12)]
        assert reference.count_samples(path) == 12 * 5000
    assert np.median(alike) > 0.99 and min(alike) > 0.8  # below 1 Hz the filters differ


def test_of_real_recordings_those_of_twelve_leads_and_ten_seconds_are_taken(tmp_path):
    data = tmp_path / "data"
    synthesize(data / "first", 3, seed=1, settings=SyntheticSettings(sources={"PTB-XL": 1.0}))
    synthesize(data / "other leads", 2, seed=2, settings=SyntheticSettings(sources={"Georgia": 1.0}, leads=("I", "II")))
    synthesize(data / "another frequency", 2, seed=3, settings=SyntheticSettings(sources={"PTB": 1.0}))
    (data / "first" / "HR00002.mat").unlink()
    (data / "no header.hea").write_text("")
    (tmp_path / "first").mkdir()
    taken = timing.prepare_recordings(Bench(tmp_path, data))
    assert sorted(os.listdir(taken)) == ["HR00001.hea", "HR00001.mat", "HR00003.hea", "HR00003.mat"]
    with pytest.raises(SystemExit, match="no recordings of 12 leads"):
        timing.prepare_recordings(Bench(tmp_path / "first", data / "other leads"))


@pytest.mark.parametrize(("arguments", "message"), [(["fastest"], "no figure is called fastest"),
                                                    (["step", "--rounds", "4"], "5 rounds or more")])  # fmt: skip
def test_a_wrong_argument_is_reported(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr("sys.argv", ["speed", *arguments])
    with pytest.raises(SystemExit):
        speed.main()
    assert message in capsys.readouterr().err


def test_the_table_is_printed_for_the_figures_named(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["speed", "evaluate", "--files", "60", "--records", "8"])
    speed.main()
    text = capsys.readouterr().out.splitlines()
    assert len(text) == 6 and {line.count("|") for line in text[:4]} == {6}
    assert text[2].startswith("| evaluate_model.py on 60 recordings") and "cores" in text[5]
