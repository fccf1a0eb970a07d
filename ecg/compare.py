"""Systems trained on the same recordings within the same time, and what each says of those held out."""

import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from ecg.budget import Budget
from ecg.comparison import write_comparison
from ecg.files import locked
from ecg.fitting import PROGRAM as NETWORKS
from ecg.headers import RecordError
from ecg.labels import DISCARDED_SOURCES, expand, source_of
from ecg.leads import columns_of
from ecg.measures import Comparison, Trial
from ecg.method import learn
from ecg.parallel import apart
from ecg.peaks import neurokit_version
from ecg.pipeline import INDIFFERENT, in_all, peaks_of, say, stores_of
from ecg.plan import planned, titles_of
from ecg.progress import duration
from ecg.protocol import Protocol
from ecg.recipes import AS_LABELLED, Settings
from ecg.records import some_records
from ecg.stages import MARKED, StageFolder, fingerprint, folder_name, program
from ecg.startup import start_keras
from ecg.training import TIME_OVER, TrainingError, out_of_memory_told
from ecg.wording import differing

STAGES = "stages"  # folder in the report's, for stores and what each system has answered
NETWORKS_OF = "networks"  # in that of what is held out, folders of what is trained meanwhile
ANSWERS = "answers"  # what a StageFolder keeps of a system and what is held out
# Modules that decide what a system says, beside those that decide what its networks come to.
PROGRAM = (*NETWORKS, "labels", "cleaning", "folds", "plan", "protocol", "rules", "scoring", "ensemble", "method",
           "compare")  # fmt: skip
TIMED = 32  # recordings held out whose answers are timed, at the most


def compare(data, report, protocol=None, log=say):
    """Train systems on a data folder, score each on what it has not learnt from, and write it all into a folder.

    Each system and part held out is a process of its own, which says on standard output how it goes, and whose memory
    ends with it. What is done is kept, and not done again where the comparison is taken up. A system that fails ends
    alone: the others are compared. Returns the Comparison (ecg.measures). Raises FileNotFoundError or RecordError where
    the data hold nothing to train on, NeuroKitMissing as ecg.pipeline.train, BlockingIOError where another process
    compares in the folder, and TrainingError where a system has failed, when all else is done.
    """
    protocol, report = protocol or Protocol(), Path(report)
    if any(system.peaks for system in protocol.systems):
        neurokit_version()  # which is missing now or never
    sources = [source_of(path.stem) for path in some_records(data)]
    protocol.own([source for source in sources if source not in DISCARDED_SOURCES])  # told before hours of work
    with locked(report / STAGES):
        return carried_out(data, report, protocol, log)


@dataclass
class Entrant:
    """A system that is compared: its Settings, what it says of each part (see `answered`), and why it has failed.

    The latter is a text, empty as long as it has not.
    """

    settings: Settings
    said: list = field(default_factory=list)
    failed: str = ""


def carried_out(data, report, protocol, log):
    """Do what `compare` says, in a folder that no other process works in."""
    stages, entrants = report / STAGES, [Entrant(protocol.settings(system)) for system in protocol.systems]
    every = Settings(
        views=tuple(dict.fromkeys(view for one in entrants for view in one.settings.views)), cleaning=AS_LABELLED,
        classes=tuple(dict.fromkeys(name for one in entrants for name in one.settings.classes)), jobs=protocol.jobs,
    )  # fmt: skip
    stores, waves = stores_of(data, stages, every, log), {}
    digests = {preparation: each.digest for preparation, each in stores.items()}
    for one in entrants:
        own = {view.preparation: stores[view.preparation] for view in one.settings.views}
        waves |= peaks_of(own, stages, one.settings, log)
    stores, waves = in_all(stores, waves)
    store = next(iter(stores.values()))
    parts = protocol.held_out(store)
    for one in entrants:
        one.failed = protocol.lacking(one.settings, store, parts)
        if one.failed:
            log(f"{one.settings.system} cannot be trained, {one.failed}")
    # Of those that can be trained, so that it is the same where the others are not named.
    hours = protocol.share(max(sum(not one.failed for one in entrants), 1))
    for title, part in zip(protocol.titles, parts, strict=True):
        networks = stages / folder_name(title) / f"{NETWORKS_OF}_{fingerprint(part, hours)[:MARKED]}"
        going = [one for one in entrants if not one.failed]
        for one in going:
            kept = place_of(one.settings, title, part, stores, waves, hours, stages)
            result, place = kept.recall(ANSWERS), f"{one.settings.system}, {title}"
            if result is None:
                log(f"{place}: {len(store) - len(part):,} recordings to learn from, {len(part):,} held out")
                try:
                    result = apart(answered, data, stages, every, one.settings, digests, part, hours, networks, kept,
                                   prepare=start_keras)  # fmt: skip
                except (TrainingError, RecordError, ChildProcessError) as error:
                    one.failed = f"{title}: {error}"
                    log(f"{place}: failed, {error}")
                    continue
            else:
                log(f"{place}: done before")
            one.said.append(result)
        if not any(one.failed for one in going):  # which may be taken up
            for folder in networks.parent.glob(f"{NETWORKS_OF}_*"):  # those within another time, too
                shutil.rmtree(folder)
    done = [one for one in entrants if not one.failed]
    reasons = "; ".join(f"{one.settings.system}, {one.failed}" for one in entrants if one.failed)
    if not done:
        raise TrainingError(f"no system is trained: {reasons}")
    systems = [one.settings for one in done]
    comparison = compared(store, parts, systems, [one.said for one in done])
    facts = facts_of(data, protocol, hours, systems, store, reasons)
    path = write_comparison(report, comparison, facts, seed=protocol.seed)
    log(f"{path}: {len(comparison.trials)} trials")
    if reasons:
        raise TrainingError(f"{path} is without what failed: {reasons}")
    return comparison


def place_of(system, title, part, stores, waves, hours, stages):
    """Return the StageFolder of what a system says of a part of that title, (n,) places in stores, which have peaks.

    The mark has the hours, too, so that nothing trained within one is taken for what is trained within another.
    """
    facts = {name: value for name, value in asdict(system).items() if name not in INDIFFERENT}
    backend = keras.backend.backend()
    makers = (program(*PROGRAM), keras.version(), backend, version(backend))
    own = {view.preparation: stores[view.preparation] for view in system.views}
    found = [array for one in own if system.peaks
             for array in (waves[one].starts, waves[one].samples, waves[one].waves)]  # fmt: skip
    mark = fingerprint([store.digest for store in own.values()], facts, part, hours, *makers, *found)
    return StageFolder(stages / folder_name(title) / f"{system.system}_{mark[:MARKED]}", mark)


def answered(data, stages, every, system, digests, part, hours, networks, kept):
    """Train a system on all recordings but a part, (n,) places, and return what it says of that, a dict of arrays.

    By the size of each lead set, as 'SIZE NAME': probabilities, answers and optimised (n, 26), and costs: weights, the
    seconds of an answer, and what `training_of` gives. It is kept in a StageFolder. `every` are settings with the views
    of all systems, whose stores are in the folder `stages`, with these digests by their Preparation; `networks` is that
    of what is trained for this part, which systems share that train the same. Raises RecordError where the recordings
    have changed since.
    """
    quiet = [].append
    stores = stores_of(data, stages, every, quiet)
    if {preparation: store.digest for preparation, store in stores.items()} != digests:
        raise RecordError(f"{data}: recordings have changed since the comparison was begun")
    own = {view.preparation: stores[view.preparation] for view in system.views}
    shared, waves = in_all(stores, peaks_of(own, stages, system, quiet))
    stores = {one: shared[one] for one in own}
    learning = np.setdiff1d(np.arange(len(next(iter(stores.values())))), part)
    with out_of_memory_told(system.system):
        learnt = learn({one: store.of(learning) for one, store in stores.items()},
                       {one: each.some(learning) for one, each in waves.items()},
                       system, networks, data, say, Budget(hours, lasting=True))  # fmt: skip
        result = told(learnt, system, stores, part)
    kept.keep(ANSWERS, result)
    return result


def told(learnt, system, stores, part):
    """Return what a system that has Learnt (ecg.method) says of a part held out of stores, as `answered` does."""
    result, said = {}, {}
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


def training_of(learnt, count):
    """Return what the training for a lead set took: seconds, networks, epochs, and trainings that the time limit ended.

    All that it takes counts, what other lead sets share with it, too, and nothing that there was no need for. A network
    that is trained for peaks first is one network of two trainings.
    """
    settings = replace(learnt.settings, lead_sets=(count,))
    titles = [title for title in titles_of(settings) if title in learnt.seconds]
    networks = len(set(titles) - {one.peaks for one in planned(settings)})
    epochs = sum(epoch.stage in titles for epoch in learnt.results.epochs)
    cut = sum(learnt.results.ends[title] == TIME_OVER for title in titles)
    return sum(learnt.seconds[title] for title in titles), networks, epochs, cut


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


def compared(store, parts, systems, found):
    """Return the Comparison of what systems said, a list of dicts for each (see `answered`), of parts of a store."""
    places = np.concatenate(parts)
    order = np.argsort(places)
    numbers = np.concatenate([np.full(len(part), number + 1) for number, part in enumerate(parts)])
    trials = []
    for system, results in zip(systems, found, strict=True):
        for count in system.lead_sets:
            said = {
                name: np.concatenate([result[f"{count} {name}"] for result in results])[order]
                for name in ("probabilities", "answers", "optimised")
            }
            costs = np.array([result[f"{count} costs"] for result in results])
            parameters, answering, training, networks, epochs, _ = costs.mean(axis=0)
            trials.append(Trial(system.system, count, **said, parameters=round(parameters), training_seconds=training,
                                answering_seconds=answering, classes=system.classes, networks=round(networks),
                                epochs=round(epochs), cut=round(costs[:, -1].sum())))  # fmt: skip
    chosen = places[order]
    return Comparison(store.labels[chosen], store.sources[chosen], numbers[order], tuple(trials))


def facts_of(data, protocol, hours, systems, store, failed=""):
    """Return what a comparison's page tells beside what was measured: a dict.

    hours: those of each training, or None; `failed` says what is not on the page, and why.
    """
    held = f"{protocol.folds} folds, each held out once"
    if protocol.leave_out:
        held = f"without {protocol.leave_out}, which is held out"
    given = {
        "epochs of each network at the most": protocol.epochs or "as the system has them",
        "batch at the most": protocol.batch,
        "precision": protocol.precision,
        **{f"{name} of networks that have one": size for name, size in protocol.sizes.items()},
        "failed": failed or None,
    }
    return {
        "data": str(data),
        "recordings used": len(store),
        "learnt from": held,
        "time limit of each system and part": "none" if hours is None else duration(3600 * hours),
        **{name: value for name, value in given.items() if value is not None},
        "seed": protocol.seed,
        "versions": f"keras {keras.version()} on {keras.backend.backend()}, numpy {np.__version__}",
        "settings that differ": differing(systems),
    }
