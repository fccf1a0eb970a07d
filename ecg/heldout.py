"""What a system says of recordings that it has not learnt from, and what that took."""

import time
from dataclasses import replace
from functools import cache

import numpy as np

from ecg.labels import expand
from ecg.leads import columns_of
from ecg.plan import planned, stage_keys
from ecg.training import TIME_OVER

UNDONE = "undone"  # name of what could not be done
TIMED = 32  # recordings held out whose answers are timed, at the most


def told(learnt, system, stores, part):
    """Return what a system that has Learnt (ecg.method) says of a part held out of stores, (n,): a dict of arrays.

    By the size of each lead set, as 'SIZE NAME': probabilities, answers and optimised (n, 26), and costs: weights, the
    seconds of an answer, and what `training_of` gives; and under UNDONE the texts of `undone`.
    """
    result, said = {UNDONE: np.array(undone(learnt, system), str)}, {}
    for count, search in learnt.results.searches.items():
        leads = system.leads_of(count)
        if leads not in said:
            ensemble, title = learnt.ensemble(leads), f"{system.system}, {len(leads)} leads"
            probabilities = ensemble.predicted(stores, part, title, system.training.batch)
            said[leads] = probabilities, ensemble.parameters, answering_seconds(ensemble, stores, part)
        probabilities, parameters, seconds = said[leads]
        columns = learnt.results.columns
        wide = expand(probabilities, columns)
        result |= {
            f"{count} probabilities": wide,
            f"{count} answers": learnt.results.rule(count).answers(probabilities, columns),
            f"{count} optimised": wide >= search.by_class,
            f"{count} costs": np.array([parameters, seconds, *training_of(learnt, count)]),
        }
    return result


def undone(learnt, system):
    """Return what of a system's method there were too few recordings for, by what it has Learnt: a list of texts."""
    texts = [f"{one.title}: {one.lacking}" for one in learnt.results.relabellings if one.lacking]
    if system.gate and not learnt.settings.gate:
        texts.append(f"networks for {system.gate.source}: too few recordings to tell it from the others")
    return texts


def training_of(learnt, count):
    """Return what the training for a lead set took: seconds, networks, epochs, and trainings that the time limit ended.

    All that it takes counts, what other lead sets share with it, too, and nothing that there was no need for. A network
    that is trained for peaks first is one network of two trainings.
    """
    settings = replace(learnt.settings, lead_sets=(count,))
    keys = [key for key in stage_keys(settings) if key in learnt.seconds]
    networks = len(set(keys) - {one.peaks_key for one in planned(settings)})
    epochs = sum(epoch.key in keys for epoch in learnt.results.epochs)
    cut = sum(learnt.results.ends[key] == TIME_OVER for key in keys)
    return sum(learnt.seconds[key] for key in keys), networks, epochs, cut


def answering_seconds(ensemble, stores, part):
    """Return the seconds in which an Ensemble answers for one recording, as a saved model does: the median of some.

    They are of the part held out, (n,) places in stores, prepared as they are there: reading and filtering are not in
    it. Each is answered before it counts, so that nothing is compiled meanwhile.
    """
    persons, chosen = next(iter(stores.values())).persons, part[:: -(-len(part) // TIMED)]

    def answer(place):
        @cache
        def signal_of(preparation, leads):
            return stores[preparation].signal(place, list(columns_of(leads)))

        begun = time.perf_counter()
        ensemble.probabilities(lambda: [signal_of], persons[place])
        return time.perf_counter() - begun

    for place in chosen:
        answer(place)
    return float(np.median([answer(place) for place in chosen]))
