from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from ecg.commands import holdout as heldout
from ecg.commands.holdout import measure_prediction_seconds, skipped_steps, training_cost
from ecg.data.resampling import DEFAULT_PREPROCESSING
from ecg.models.ensemble import Ensemble
from ecg.runtime.limits import TIME_LIMIT_REACHED
from ecg.systems.label_cleaning import Relabelling
from ecg.systems.plan import stage_keys as titles_of
from ecg.systems.recipes import SYSTEMS, Settings

PART = np.array([3, 4, 17, 29])


def test_what_a_lead_set_took_counts_what_others_share_with_it_and_nothing_of_theirs():
    system = replace(SYSTEMS["li2021"], gate=None, views=SYSTEMS["li2021"].views[:2], lead_sets=(12, 3, 2))
    titles = titles_of(system)
    assert len(titles) == 12 and titles[4:6] == ["general/3/view1/peaks", "general/3/view1"]
    epochs = [SimpleNamespace(key=title) for number, title in enumerate(titles) for _ in range(number + 1)]
    ends = {title: TIME_LIMIT_REACHED if number in (4, 7, 8) else "all done" for number, title in enumerate(titles)}
    seconds = {title: 10.0**number for number, title in enumerate(titles)}
    results = SimpleNamespace(epochs=epochs, ends=ends, settings=system)
    learnt = SimpleNamespace(seconds=seconds, results=results)
    assert training_cost(learnt, 3) == (11110000, 2, 5 + 6 + 7 + 8, 2)
    default = Settings(lead_sets=(12, 2))  # a relabelling was not needed
    titles = titles_of(default)[1:]
    epochs, ends = [SimpleNamespace(key=title) for title in titles], dict.fromkeys(titles, "all done")
    results = SimpleNamespace(epochs=epochs, ends=ends, settings=default)
    learnt = SimpleNamespace(seconds=dict.fromkeys(titles, 2.0), results=results)
    assert training_cost(learnt, 2) == (6.0, 3, 3, 0)


def test_a_prediction_costs_what_the_gate_and_the_chosen_group_cost(store, monkeypatch):
    """By a clock by which the gate takes 1 s, and 50 s for what it has not seen, which are to be no part of it."""
    now, asked = [0.0], []
    monkeypatch.setattr(heldout.time, "perf_counter", lambda: now[0])

    def group(name, seconds):
        def predict(segments, demographics):
            (segment,) = segments
            signal = segment.signal(DEFAULT_PREPROCESSING, ("II", "I"))
            place = next(place for place in PART if np.array_equal(signal, store.signal(place, [1, 0])))
            np.testing.assert_array_equal(demographics, store.demographics[place])
            now[0] += seconds + 50 * ((name, place) not in asked)
            asked.append((name, place))
            return np.array([float(place in PART[:2])])

        def predict_each(segments, demographics):
            return predict(segments, demographics)[np.newaxis]

        return SimpleNamespace(predict=predict, predict_each=predict_each, classes=("AF",), columns=np.array([0]))

    def seconds(part):
        asked.clear()
        return measure_prediction_seconds(ensemble, {DEFAULT_PREPROCESSING: store}, part)

    ensemble = Ensemble(group("general", 5.0), group("special", 2.0), group("gate", 1.0))
    assert (seconds(PART[:3]), seconds(PART[1:])) == (3, 6)
    assert seconds(np.repeat(PART[0], 100)) == 3 and len(asked) == 2 * 2 * 25


def test_stages_with_too_few_recordings_are_reported():
    nothing = np.empty((0, 1))
    judged, skipped = (
        Relabelling(title, nothing, nothing, nothing, nothing, nothing, why)
        for title, why in (("AFL or AF in Ningbo", ""), ("classes omitted by CPSC", "no recordings of CPSC"))
    )
    li = SYSTEMS["li2021"]
    both = ["classes omitted by CPSC: no recordings of CPSC",
            "networks for CPSC: too few recordings to train the gate"]  # fmt: skip
    results = SimpleNamespace(relabellings=[judged, skipped], settings=replace(li, gate=None))
    ungated, complete = SimpleNamespace(results=results), SimpleNamespace(relabellings=[judged], settings=li)
    assert skipped_steps(ungated, li) == both
    assert skipped_steps(ungated, results.settings) == both[:1]
    assert skipped_steps(SimpleNamespace(results=complete), li) == []
