from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from ecg import compare as module
from ecg.batches import REPEATED, Window
from ecg.cleaning import CleaningSettings
from ecg.compare import Plan, answered, compare, compared, facts_of
from ecg.comparison import write_comparison
from ecg.ensemble import View
from ecg.folds import folds
from ecg.headers import RecordError
from ecg.labels import class_columns, expand
from ecg.networks import NetworkSettings
from ecg.peaks import StoredPeaks
from ecg.recipes import SYSTEMS, Settings
from ecg.resampling import Preparation
from ecg.rules import Rule
from ecg.training import TrainingError, TrainingSettings

PLAIN = NetworkSettings(width=4, kernels=(), hidden=8)  # no blocks, so that it is compiled quickly
QUICK = TrainingSettings(epochs=5, steps=2)
ONE = Settings(system="one", network=PLAIN, training=QUICK, cleaning=CleaningSettings((), (), masks=False), resamples=2)
OTHER = replace(
    SYSTEMS["se_resnet_rhythm"], system="other", views=(View(Preparation(100, None), Window(1000, REPEATED)),),
    network=PLAIN, training=QUICK,
)  # fmt: skip


def test_each_fold_is_held_out_once_and_folds_are_alike_in_their_labels(store):
    parts = Plan(folds=3, seed=4).held_out(store)
    assert sorted(np.concatenate(parts)) == list(range(len(store)))
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(part, np.flatnonzero(folds(store.labels, 3, 4) == number))


@pytest.mark.parametrize("name", ["Georgia", "georgia", "GEORGIA"])
def test_a_source_is_held_out_by_its_name_in_any_case(name, store):
    (part,) = Plan(leave_out=name).held_out(store)
    assert part.tolist() == np.flatnonzero(store.sources == "Georgia").tolist() != []


def test_a_source_that_is_not_there_or_is_all_there_is_is_told_with_those_that_are(store):
    with pytest.raises(RecordError, match=f"0 of {len(store)} .* of georgina; the sources: CPSC, .*, Georgia, Ningbo"):
        Plan(leave_out="georgina").held_out(store)
    alone = store.of(np.flatnonzero(store.sources == "Georgia"))
    with pytest.raises(RecordError, match=f"{len(alone)} of {len(alone)} recordings are of georgia"):
        Plan(leave_out="georgia").held_out(alone)


def test_all_systems_get_the_same_lead_sets_seed_and_epochs_at_the_most():
    plan = Plan(lead_sets=(3, 2), seed=7, jobs=2, epochs=20)
    li, zhao = SYSTEMS["li2021"], SYSTEMS["zhao2022"]
    assert plan.settings(zhao) == replace(
        zhao, lead_sets=(3, 2), seed=7, jobs=2, training=replace(zhao.training, epochs=20)
    )
    assert (plan.settings(li).training.epochs, plan.settings(li).pretraining.epochs) == (20, 20)
    assert replace(plan, epochs=30).settings(li).pretraining.epochs == 20
    assert replace(plan, epochs=None).settings(zhao).training == zhao.training
    assert Plan().systems == tuple(SYSTEMS.values())


class Learnt:
    """What a training came to by which each recording of the store is answered as a table has it."""

    def __init__(self, store, system, learning):
        self.store, self.learning = store, learning
        self.columns = class_columns(system.classes)
        self.table = np.random.default_rng(0).random((len(store), len(self.columns))).astype(np.float32)
        self.search = SimpleNamespace(by_class=np.linspace(0.2, 0.8, 26))
        searches = dict.fromkeys(system.lead_sets, self.search)
        rule = Rule(np.full(26, 0.5), system.exclusive, system.answer_pairs, system.empty)
        self.results = SimpleNamespace(searches=searches, columns=self.columns, rule=lambda count: rule)
        self.settings, self.asked = system, []
        self.seconds = {"round 2, 2 leads": 3.0, "round 2, 12 leads": 5.0, "lead II": 7.0}

    def ensemble(self, leads):
        def predicted(stores, records, title):
            self.asked.append((leads, records.tolist(), list(stores)))
            return self.table[records]

        return SimpleNamespace(predicted=predicted, parameters=len(leads))


@pytest.fixture
def taught(store, monkeypatch):
    """A list of what was learnt, in place of trainings; all stores are the made-up one."""
    taught = []

    def learn(stores, peaks, settings, folder, data, log, budget):
        learning = [np.flatnonzero(store.paths == path).item() for path in next(iter(stores.values())).paths]
        taught.append(Learnt(store, settings, learning))
        taught[-1].given = stores, peaks, folder, data, budget
        return taught[-1]

    monkeypatch.setattr("ecg.compare.learn", learn)
    monkeypatch.setattr(
        "ecg.compare.stores_of", lambda data, folder, settings, log: dict.fromkeys(settings.preparations, store)
    )
    return taught


PART = np.array([3, 4, 17, 29])


def answer(system, folder, part=PART, number=1, hours=None):
    both = replace(system, views=(*ONE.views, *OTHER.views))
    return answered("data", folder, both, system, part, number, hours)


@pytest.mark.parametrize("system", [replace(ONE, lead_sets=(12, 2)), replace(OTHER, lead_sets=(4, 2))])
def test_a_system_learns_from_all_but_a_part_and_answers_for_that(system, taught, store, tmp_path):
    said = answer(system, tmp_path)
    (learnt,) = taught
    assert learnt.learning == np.delete(np.arange(len(store)), PART).tolist()
    assert list(learnt.given[0]) == system.preparations  # not those of other systems
    probabilities = learnt.table[PART]
    wide = expand(probabilities, learnt.columns)
    for count in system.lead_sets:
        np.testing.assert_array_equal(said[f"{count} probabilities"], wide)
        rule = learnt.results.rule(count)
        np.testing.assert_array_equal(said[f"{count} answers"], rule.answers(probabilities, learnt.columns))
        np.testing.assert_array_equal(said[f"{count} optimised"], wide >= learnt.search.by_class)
        parameters, training, answering = said[f"{count} costs"]
        assert (parameters, training) == ((1, 7.0) if system.system == "other" else (count, {12: 5.0, 2: 3.0}[count]))
        assert 0 < answering < 1
    asked = [leads for leads, records, _ in learnt.asked if records == PART.tolist()]
    assert set(asked) == {system.leads_of(count) for count in system.lead_sets}


def test_what_is_done_is_not_done_again_until_something_is_another(taught, tmp_path, monkeypatch, capsys):
    first = answer(ONE, tmp_path)
    again = answer(replace(ONE, jobs=3, keep_stages=True), tmp_path)
    assert len(taught) == 1 and "one: done before" in capsys.readouterr().out
    assert first.keys() == again.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)
    for changes in ({"part": PART[:3]}, {"number": 0}, {"hours": 2.0}, {"system": replace(ONE, seed=3)}):
        before = len(taught)
        answer(**{"system": ONE, "folder": tmp_path} | changes)
        assert len(taught) == before + 1, changes
    monkeypatch.setattr("ecg.compare.program", lambda *modules: "of another version")
    answer(ONE, tmp_path, number=0)
    assert len(taught) == 6


def test_peaks_are_those_of_the_recordings_that_are_learnt_from(taught, store, tmp_path, monkeypatch):
    counts = np.arange(len(store)) % 3
    starts = np.cumsum([0, *counts])
    samples = np.arange(starts[-1], dtype=np.int32)
    peaks = StoredPeaks(starts, samples, np.zeros(starts[-1], np.int8))
    monkeypatch.setattr("ecg.compare.peaks_of", lambda stores, *_: dict.fromkeys(stores, peaks))
    answer(ONE, tmp_path)
    (waves,) = taught[0].given[1].values()
    for place, record in enumerate(taught[0].learning):
        np.testing.assert_array_equal(waves.of(place).samples, peaks.of(record).samples)


def test_answers_of_all_parts_come_in_the_order_of_the_recordings_with_their_folds(store):
    rng = np.random.default_rng(1)
    parts = [np.sort(part) for part in np.array_split(rng.permutation(len(store)), 3)]
    systems = [replace(ONE, lead_sets=(12, 2)), replace(OTHER, lead_sets=(12, 2))]
    whole = rng.random((2, 2, 3, len(store), 26))  # by system, lead set, kind and recording
    kinds = ("probabilities", "answers", "optimised")
    found = [
        [
            {f"{count} {kind}": whole[one, place, row, part] for place, count in enumerate((12, 2))
             for row, kind in enumerate(kinds)}
            | {f"{count} costs": np.array([100 * one + count, number, 2 * number]) for count in (12, 2)}
            for number, part in enumerate(parts)
        ]
        for one in range(2)
    ]  # fmt: skip
    comparison = compared(store, parts, systems, found)
    np.testing.assert_array_equal(comparison.labels, store.labels)
    np.testing.assert_array_equal(comparison.sources, store.sources)
    for number, part in enumerate(parts, 1):
        assert (comparison.folds[part] == number).all()
    assert [(trial.system, trial.leads) for trial in comparison.trials] == [
        ("one", 12), ("one", 2), ("other", 12), ("other", 2)]  # fmt: skip
    for trial, tables in zip(comparison.trials, whole.reshape(4, 3, len(store), 26), strict=True):
        for kind, table in zip(kinds, tables, strict=True):
            np.testing.assert_array_equal(getattr(trial, kind), table)
        assert trial.parameters == 100 * (trial.system == "other") + trial.leads
        assert (trial.training_seconds, trial.answering_seconds) == (1, 2)
    left_out = compared(store, [parts[1]], systems, [[each[1]] for each in found])
    np.testing.assert_array_equal(left_out.sources, store.sources[parts[1]])
    np.testing.assert_array_equal(left_out.trials[3].answers, whole[1, 1, 1, parts[1]])


def test_facts_tell_what_was_held_out_and_how_long_each_training_might_take(store):
    systems = [replace(ONE, lead_sets=(2,)), replace(OTHER, lead_sets=(2,))]
    facts = facts_of("data", Plan(tuple(systems), folds=3, hours=6, epochs=9), systems, store)
    assert facts["learnt from"] == "3 folds, each held out once" and facts["recordings used"] == len(store)
    assert facts["time limit of each training"].startswith("1 h")
    assert facts["epochs of each network at the most"] == 9
    head, *rows = facts["settings that differ"]
    assert head == ("setting", "one", "other") and ("loss", "asymmetric", "cross-entropy of one class of many") in rows
    other = facts_of("data", Plan(tuple(systems), leave_out="georgia", hours=6), systems, store)
    assert other["learnt from"] == "without georgia, which is held out"
    assert other["time limit of each training"].startswith("3 h")
    assert facts_of("data", Plan(), systems, store)["time limit of each training"] == "none"


def test_each_system_and_part_is_a_process_of_its_own_with_its_part_of_the_hours(taught, store, tmp_path, monkeypatch):
    asked, written = [], []

    def apart(function, data, stages, every, system, part, number, hours, prepare):
        assert function is module.answered and prepare is module.start_keras
        asked.append((system.system, number, part.tolist(), hours))
        return function(data, stages, every, system, part, number, hours)

    monkeypatch.setattr("ecg.compare.apart", apart)
    monkeypatch.setattr("ecg.compare.write_comparison", lambda *given, **named: written.append((given, named)))
    lines, plan = [], Plan((ONE, OTHER), (2,), folds=2, hours=8, seed=5)
    comparison = compare("data", tmp_path, plan, lines.append)
    parts = [part.tolist() for part in plan.held_out(store)]
    assert asked == [(name, number, parts[number], 2.0) for name in ("one", "other") for number in (0, 1)]
    assert lines[1] == f"one, fold 2 of 2: {len(parts[0])} recordings to learn from, {len(parts[1])} held out"
    assert written[0][0][:2] == (tmp_path, comparison) and written[0][1] == {"seed": 5}
    for learnt, (_, _, part, _) in zip(taught, asked, strict=True):
        assert sorted(learnt.learning + part) == list(range(len(store)))


def test_two_small_systems_are_compared_from_recordings_to_page_and_taken_up_where_cut_off(
    made_up, tmp_path, monkeypatch
):
    monkeypatch.setattr("ecg.compare.apart", lambda function, *given, prepare: function(*given))
    monkeypatch.setattr("ecg.compare.write_comparison", partial(write_comparison, resamples=5))
    plan = Plan((ONE, OTHER), (2,), folds=2, epochs=1, jobs=1)
    learn, learnt = module.learn, []

    def stops(stores, peaks, settings, *given):
        if learnt == ["one", "one", "other"]:
            raise TrainingError("cut off")
        learnt.append(settings.system)
        return learn(stores, peaks, settings, *given)

    monkeypatch.setattr("ecg.compare.learn", stops)
    with pytest.raises(TrainingError, match="cut off"):
        compare(made_up, tmp_path, plan, [].append)
    learnt.clear()
    comparison = compare(made_up, tmp_path, plan, [].append)
    assert learnt == ["other"]
    one, other = comparison.trials
    assert (one.system, one.leads, other.system, other.leads) == ("one", 2, "other", 2)
    assert len(comparison.labels) == len(one.answers) == len(other.answers) == 60
    assert one.parameters == PLAIN.build(2, None, 22).count_params()
    assert other.parameters == PLAIN.build(1, 1000, 7).count_params()
    assert other.known.sum() == 7 and (other.answers.sum(axis=1) == 1).all()
    np.testing.assert_allclose(other.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert min(one.training_seconds, one.answering_seconds, other.training_seconds, other.answering_seconds) > 0
    pages = {path.name for path in (tmp_path / "comparison").iterdir()}
    assert {"comparison.html", "comparison.md", "overall.csv"} <= pages
    assert {path.name for path in (tmp_path / "stages").iterdir()} == {
        "store",
        "store_100_hz_unfiltered",
        "one",
        "other",
    }
