import pkgutil
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import formats, interruption, memory, systems, ways
from benchmarks.fuzz import build_bundles
from benchmarks.interruption import CALLS, ONCE, OUTSIDE, PLACES
from benchmarks.label_cleaning import CONFLATION, KINDS, OMISSION, SHARES, count_faults, format_lines
from ecg.data.batches import View, Window
from ecg.data.labels import ABBREVIATIONS, TRAINED
from ecg.data.shards import FEWEST
from ecg.data.store import build_store
from ecg.models.network_settings import LeadWeightedSettings, LiSettings
from ecg.runtime.executors import LocalExecutor
from ecg.systems.label_cleaning import Relabelling


def make_labels(*findings):
    return np.array([np.isin(ABBREVIATIONS, text.split()) for text in findings])


def test_planted_faults_that_were_found_are_counted_by_hand():
    sources = np.array(["Ningbo", "Ningbo", "Ningbo", "CPSC", "CPSC", "Georgia"])
    true_labels = make_labels("AF", "AFL", "AF", "AF TAb SB", "NSR", "NSR RBBB")
    labels = make_labels("AFL", "AFL", "AFL", "AF", "NSR", "NSR LBBB")
    cleaned = make_labels(
        "AF", "AF", "AFL", "AF TAb", "NSR SB", "NSR LBBB"
    )  # one AFL lost; SB missed, and wrong elsewhere
    masks = np.ones((6, 22))
    places = TRAINED.tolist()
    masks[5, places.index(ABBREVIATIONS.index("LBBB"))] = 0  # wrong, and replaced
    masks[4, places.index(ABBREVIATIONS.index("SB"))] = 0  # wrong by relabelling
    masks[0, places.index(ABBREVIATIONS.index("AF"))] = 0  # right
    nothing = np.empty((3, 2), np.float32), np.empty((2, 15), np.float32)
    results = SimpleNamespace(
        store=SimpleNamespace(sources=sources, labels=labels), labels=cleaned, masks=masks,
        relabellings=[
            Relabelling(CONFLATION.title, np.arange(3), CONFLATION.find_columns(), nothing[0], labels[:3], cleaned[:3]),
            Relabelling(
                OMISSION.title, np.array([3, 4]), OMISSION.find_columns(), nothing[1], labels[3:5], cleaned[3:5]
            ),
        ],
    )  # fmt: skip
    wrong = 2 + 2 + 1 + 1 + 2  # AF and AFL of two in Ningbo, SB of two in CPSC, two of the bundle branches
    assert count_faults(results, true_labels) == {
        "AF": 2, "AF recovered": 1, "AFL": 1, "AFL lost": 1,
        "missing": 2, "added": 2, "added and right": 1,
        "wrong labels": wrong, "wrong labels masked": 2, "replaced labels": 2, "replaced labels masked": 1,
        "right labels": 6 * 22 - wrong, "right labels masked": 1,
    }  # fmt: skip


def test_the_tables_give_means_shares_and_their_range():
    counts = {
        name: count
        for found_count, planted_count in SHARES.values()
        for name, count in ((found_count, 1), (planted_count, 4))
    }
    alone = {"relabelling AF and AFL alone": ("AF", "AFL"), "relabelling CPSC alone": ("missing", "added"),
             "masks alone": ("labels",), "all off": ()}  # fmt: skip
    seeds = []
    for metric in (0.5, 0.7):
        scores = {"metric": metric, "metric at 0.5": 0.1, "AUROC": 0.9, "AUPRC": 0.4}
        seeds.append({"all on": scores | counts})
        for name, keys in alone.items():
            seeds[-1][name] = scores | {key: value for key, value in counts.items() if any(p in key for p in keys)}
    seeds[1]["all on"]["AF recovered"] = 3
    text = list(format_lines(seeds))
    cells = "0.600 (0.500 to 0.700) | 0.100 (0.100 to 0.100) | 0.900 (0.900 to 0.900) | 0.400 (0.400 to 0.400)"
    assert text[2] == f"| all on | {cells} |"
    assert [line.split(" | ")[0].strip("| ") for line in text[2 : 2 + len(KINDS)]] == list(KINDS)
    (recovered,) = (line for line in text if "recovered" in line)
    assert recovered.split(" | ")[1:] == ["50% (25% to 75%), 4 of 8", "25% (25% to 25%), 2 of 8 |"]


@pytest.mark.slow
def test_label_cleaning_is_measured_from_end_to_end(tmp_path, monkeypatch, capsys):
    from benchmarks import label_cleaning

    arguments = ["label_cleaning", "--records", "500", "--held-out", "60", "--seeds", "1", "--folder", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    label_cleaning.main()
    assert "| all off |" in capsys.readouterr().out and (tmp_path / "found.json").exists()


def test_the_table_of_memory_gives_each_step_and_compares_the_last_size_with_the_first():
    logged = ("Keras 3 on tensorflow, cpu:0", "1,990 recordings stored, 10 excluded, 8 s",
              "AFL or AF in Ningbo, epoch 1: loss 1", "classes omitted by CPSC: labels left as they are, none",
              "split: 10 for training", "round 1, 12 leads, epoch 1: loss 1", "masks: 3 of 9 labels masked",
              "round 2, 12 leads: score 0.1 at 0.5", "round 2, 2 leads, epoch 1: loss 1",
              "source   found   excluded",
              "diagnoses that the Challenge does not know: 6180003 in 1 recordings")  # fmt: skip
    steps = [memory.find_step(line) for line in logged]
    assert steps == ["starting", "reading", "relabelling", "relabelling", "round 1", "round 1", "round 1",
                     "round 2, 12 leads", "round 2, 2 leads", "report", None]  # fmt: skip
    small = {"starting": np.array([300, 800]), "report": np.array([1000, 1500])}
    large = {"starting": np.array([310, 800]), "report": np.array([900, 4000]), "reading": np.array([1100, 1200])}
    text = list(memory.format_lines({2000: small, 20000: large}))
    assert text[0].endswith("| 2,000 recordings | 20,000 recordings |")
    assert text[2:-1] == ["| starting | 300 (800) | 310 (800) |", "| report | 1,000 (1,500) | 900 (4,000) |",
                          "| reading |  | 1,100 (1,200) |", "| all | 1,000 (1,500) | 1,100 (4,000) |"]  # fmt: skip
    assert text[-1].strip() == "20,000 recordings take 1.10 times the anonymous memory of 2,000."


@pytest.mark.slow
def test_memory_is_measured_from_end_to_end(tmp_path, monkeypatch, capsys):
    arguments = ["memory", "--records", "40", "60", "--jobs", "1", "--folder", str(tmp_path / "memory")]
    monkeypatch.setattr("sys.argv", arguments)
    memory.main()
    text = capsys.readouterr().out
    assert "| round 2, 2 leads |" in text and "60 recordings take" in text and not (tmp_path / "memory").exists()


@pytest.fixture(scope="module")
def bundles():
    import keras

    keras.utils.set_random_seed(1)
    return build_bundles()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return formats.synthesize_recordings(tmp_path_factory.mktemp("plain"), seed=1)[5]


@pytest.mark.parametrize("group", ["header dialects", "gains, units, baselines", "formats of 8 to 12 bits",
                                   "MATLAB files", "lead sets, other orders, other leads"])  # fmt: skip
def test_a_recording_is_the_same_in_whatever_way_it_is_written(plain, bundles, group):
    outcomes = formats.measure([plain], bundles, {group: formats.GROUPS[group]})
    assert plain.name == "E00001" and len(outcomes[group]) >= 4
    assert [outcome.fault for outcome in outcomes[group]] == [""] * len(outcomes[group])


def test_a_wrong_recording_is_distinguished(plain, bundles):
    written = {
        "gain": lambda plain: {"one": ways.write_recording(plain, gain="1100/mV")},
        "lead": lambda plain: {"one": ways.write_recording(plain, gain=["-1000/mV", *["1000/mV"] * 11])},
        "age": lambda plain: {"one": ways.write_recording(plain, age=plain.facts["age"] + 1)},
        "refused": lambda plain: {"one": ways.write_recording(plain, kind="999", end="dat")},
    }
    groups = {name: (formats.CLOSE, way) for name, way in written.items()}
    outcomes_by_name = {name: outcomes for name, (outcomes,) in formats.measure([plain], bundles, groups).items()}
    assert (
        outcomes_by_name["gain"].fault.startswith("differs by") and outcomes_by_name["gain"].difference > formats.CLOSE
    )
    assert outcomes_by_name["lead"].fault.startswith("differs by") and "expected" in outcomes_by_name["age"].fault
    assert outcomes_by_name["age"].difference == 0 and np.isnan(outcomes_by_name["refused"].difference)
    assert "format 999" in outcomes_by_name["refused"].fault


def test_a_change_of_a_header_that_changes_nothing_is_an_error(plain):
    with pytest.raises(AssertionError, match="'no such text' is not in the header"):
        ways.write_recording(plain, ("no such text", ""))


def test_the_table_of_formats_counts_ways_and_recordings_and_lists_what_differs():
    outcomes = [formats.Outcome("one", "A1", 0.0, ""), formats.Outcome("one", "A2", 0.25, "differs"),
                formats.Outcome("two", "A1", np.nan, "x.hea: bad")]  # fmt: skip
    outcomes_by_group = {"first": outcomes, "second": outcomes[:1], "third": outcomes[2:]}
    text = list(formats.format_lines(outcomes_by_group, dict.fromkeys(outcomes_by_group, (formats.CLOSE, None))))
    assert text[2:5] == ["| first | 2 | 3 | 2 | 1 | 0.001 | 0.25000 |", "| second | 1 | 1 | 1 | 1 | 0.001 | 0 |",
                         "| third | 1 | 1 | 0 | 0 | 0.001 | nan |"]  # fmt: skip
    assert {line.count("|") for line in text[:5]} == {8}
    assert text[5:] == ["first, one, A2: differs", "first, two, A1: x.hea: bad", "third, two, A1: x.hea: bad"]


def test_every_system_has_its_networks_timed():
    titles = {title: (stage, batch) for title, stage, batch in systems.iter_networks()}
    assert list(titles) == ["cai2021", "li2021", "zhao2022", "xie2022", "se_resnet_rhythm, 18 layers",
                            "se_resnet_rhythm, 152 layers", "nejedly2021", "nejedly2021, no attention"]  # fmt: skip
    assert [batch for _, batch in titles.values()] == [16, 16, 16, 8, 16, 16, 16, 16]
    assert titles["li2021"][0].peaks is not None and titles["xie2022"][0].output_activation == "softmax"


@pytest.mark.slow
def test_a_network_is_timed_with_all_its_inputs_and_outputs(monkeypatch):
    stages = {title: stage for title, stage, _ in systems.iter_networks()}
    small = {
        "zhao2022": LeadWeightedSettings(widths=(4, 4)),
        "li2021": LiSettings(stages=(1, 1), width=4, peaks=True),
    }
    chosen = [(name, replace(stages[name], network=network, view=View(window=Window(128))), 2)
              for name, network in small.items()]  # fmt: skip
    monkeypatch.setattr(systems, "iter_networks", lambda: chosen)
    header, _, *rows = systems.format_lines(rounds=1)
    assert header.count("|") == 6 and [row.split(" | ")[0] for row in rows] == ["| zhao2022", "| li2021"]
    assert all(" s (" in row and row.endswith(" ms |") for row in rows)


@pytest.mark.slow
def test_a_step_of_dcnet_takes_less_than_six_seconds_on_two_cores():
    """Batches of 8, as its recipe has them, the first step not counted."""
    ((stage, batch),) = ((stage, batch) for title, stage, batch in systems.iter_networks() if title == "xie2022")
    weights, step, _ = systems.make_functions(stage, batch)
    assert (weights, batch) == (1_255_185, 8)
    step()
    assert min(systems.seconds_of(step) for _ in range(3)) < 6


@pytest.mark.parametrize("owner, name", [owner_and_name for *owner_and_name, _, _ in CALLS.values()])
def test_each_kill_point_is_a_function(owner, name):
    assert callable(getattr(pkgutil.resolve_name(owner), name))


def test_trainings_are_killed_until_the_kills_are_enough_and_no_more(tmp_path, monkeypatch):
    attempts = []

    def run_training(data, model, kill_points, note):
        """Hit the kill points that a run reaches once first, then the others."""
        attempts.append(kill_points)
        assert len(attempts) < 30, "it goes on killing"
        model.mkdir(exist_ok=True)
        note.unlink(missing_ok=True)
        if not kill_points:
            return 0
        hit = min(kill_points, key=lambda kill_point: kill_point not in ONCE)
        if hit != OUTSIDE:
            note.write_text(hit)
        return -signal.SIGKILL

    monkeypatch.setattr(interruption, "synthesize", lambda *_, **__: None)
    monkeypatch.setattr(interruption, "run_training", run_training)
    kills = len(PLACES) + 2
    runs, differing = interruption.measure(kills, 1, tmp_path)
    (hits,) = runs
    assert hits.total() == kills and set(hits) == set(PLACES) and not differing
    assert all(hits[kill_point] == 1 for kill_point in ONCE) and max(hits.values()) == 2
    assert len(attempts) == kills + 2 and attempts[-1] == {}  # the first one makes the uninterrupted training


def test_reading_records_reaches_its_kill_point(store, synthetic_recordings, tmp_path, monkeypatch):
    """In this process, which is the one to kill; other processes read."""
    owner, name, *_ = CALLS["reading"]
    calls, original = [], getattr(pkgutil.resolve_name(owner), name)
    monkeypatch.setattr(f"{owner}.{name}", lambda *given, **options: calls.append(given) or original(*given, **options))
    build_store(synthetic_recordings, tmp_path / "store", executor=LocalExecutor(2))
    assert len(store) <= FEWEST and len(calls) == 1  # shard
