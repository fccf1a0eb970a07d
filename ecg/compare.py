"""Systems trained on the same folds within the same time, and what each says of the recordings held out."""

import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from ecg.budget import Budget
from ecg.comparison import write_comparison
from ecg.fitting import PROGRAM as NETWORKS
from ecg.folds import folds
from ecg.headers import RecordError
from ecg.labels import expand
from ecg.measures import Comparison, Trial
from ecg.method import learn
from ecg.parallel import apart
from ecg.peaks import neurokit_version
from ecg.pipeline import INDIFFERENT, in_all, peaks_of, say, stores_of
from ecg.plan import titles_of
from ecg.progress import duration
from ecg.recipes import SYSTEMS, Settings
from ecg.stages import StageFolder, fingerprint, program
from ecg.startup import start_keras
from ecg.wording import differing

STAGES = "stages"  # folder in the report's, for stores and what each system has learnt
ANSWERS = "answers"  # what a StageFolder keeps of a system and a fold
# Modules that decide what a system says, beside those that decide what its networks come to.
PROGRAM = (*NETWORKS, "labels", "cleaning", "folds", "plan", "rules", "scoring", "ensemble", "method", "compare")
WARM = 8  # recordings that are answered before the time counts
MARKED = 12  # characters of a mark in the name of a folder


@dataclass(frozen=True)
class Plan:
    """What is compared: systems (ecg.recipes.Settings), which all get these lead sets, seed and processes.

    folds: into how many parts the recordings are parted, each of which is held out once; leave_out: a source that is
    held out in their place; hours: that all trainings may take together, parted equally, no limit where None.
    """

    systems: tuple[Settings, ...] = tuple(SYSTEMS.values())
    lead_sets: tuple[int, ...] = (12, 6, 4, 3, 2)
    folds: int = 5
    leave_out: str | None = None
    hours: float | None = None
    epochs: int | None = None  # of each training, at the most; as the system has them where None
    seed: int = 2021
    jobs: int | None = None

    @property
    def share(self):
        """The hours of each training, None where there is no limit."""
        return self.hours and self.hours / (len(self.systems) * (1 if self.leave_out else self.folds))

    def settings(self, system):
        """Return the settings that a system is trained with here."""

        def shortened(training):
            return training and replace(training, epochs=min(self.epochs or training.epochs, training.epochs))

        return replace(system, lead_sets=self.lead_sets, seed=self.seed, jobs=self.jobs,
                       training=shortened(system.training), pretraining=shortened(system.pretraining))  # fmt: skip

    def held_out(self, store):
        """Return the places of the recordings that are held out together, a list of (n,).

        Raises RecordError where nothing of the source that is left out is there, or nothing else.
        """
        if self.leave_out is None:
            parts = folds(store.labels, self.folds, self.seed)
            return [np.flatnonzero(parts == part) for part in range(self.folds)]
        own = np.char.lower(store.sources) == self.leave_out.lower()
        if own.all() or not own.any():
            names = ", ".join(np.unique(store.sources).tolist())
            raise RecordError(f"{own.sum():,} of {len(own):,} recordings are of {self.leave_out}; the sources: {names}")
        return [np.flatnonzero(own)]


def compare(data, report, plan=None, log=say):
    """Train systems on a data folder, score each on what it has not learnt from, and write it all into a folder.

    Each system and fold is a process of its own, so that what one leaves in memory ends with it. What is done is kept,
    and not done again where the comparison is taken up. Returns the Comparison (ecg.measures). Raises
    FileNotFoundError or RecordError where the data hold nothing to train on, and TrainingError as ecg.pipeline.train.
    """
    plan, report = plan or Plan(), Path(report)
    systems = [plan.settings(system) for system in plan.systems]
    if any(system.peaks for system in systems):
        neurokit_version()  # which is missing now or never
    every = replace(systems[0], views=tuple(dict.fromkeys(view for one in systems for view in one.views)))
    stages = report / STAGES
    stores = stores_of(data, stages, every, log)
    for one in systems:  # found once here, and read by all
        peaks_of({view.preparation: stores[view.preparation] for view in one.views}, stages, one, log)
    store = next(iter(in_all(stores, {})[0].values()))
    parts, found = plan.held_out(store), []
    for one in systems:
        found.append([])
        for number, part in enumerate(parts):
            log(f"{one.system}, {place_of(plan, number)}: {len(store) - len(part):,} recordings to learn from, "
                f"{len(part):,} held out")  # fmt: skip
            found[-1].append(apart(answered, data, stages, every, one, part, number, plan.share, prepare=start_keras))
    comparison = compared(store, parts, systems, found)
    path = write_comparison(report, comparison, facts_of(data, plan, systems, store), seed=plan.seed)
    log(f"{path}: {len(comparison.trials)} trials")
    return comparison


def place_of(plan, number):
    """Return what the part held out number so-and-so, from 0 on, is called."""
    return f"without {plan.leave_out}" if plan.leave_out else f"fold {number + 1} of {plan.folds}"


def answered(data, stages, every, system, part, number, hours):
    """Train a system on all recordings but a part, (n,) places, and return what it says of that, a dict of arrays.

    By the size of each lead set, as 'SIZE NAME': probabilities, answers and optimised (n, 26), parameters, and the
    seconds of training and of answering for one recording. It is kept in the stages' folder, and taken from there where
    it is. `every` are settings with the views of all systems, whose stores are there.
    """
    quiet = [].append
    stores = stores_of(data, stages, every, quiet)
    own = {view.preparation: stores[view.preparation] for view in system.views}
    peaks = peaks_of(own, stages, system, quiet)
    shared, waves = in_all(stores, peaks)
    stores = {one: shared[one] for one in own}
    # By what is held out and the time there is, so that none trained within another time is taken for one within this.
    facts = {name: value for name, value in asdict(system).items() if name not in INDIFFERENT}
    backend = keras.backend.backend()
    makers = (program(*PROGRAM), keras.version(), backend, version(backend))
    found = [array for one in waves.values() for array in (one.starts, one.samples, one.waves)]
    mark = fingerprint([store.digest for store in stores.values()], facts, part, hours, *makers, *found)
    folder = stages / system.system / f"part_{number + 1}_{mark[:MARKED]}"
    kept = StageFolder(folder, mark)
    result = kept.recall(ANSWERS)
    if result is not None:
        say(f"{system.system}: done before")
        return result
    learning = np.setdiff1d(np.arange(len(next(iter(stores.values())))), part)
    learnt = learn({one: store.of(learning) for one, store in stores.items()},
                   {one: each.some(learning) for one, each in waves.items()},
                   system, folder, data, say, Budget(hours))  # fmt: skip
    result, said = {}, {}
    for count, search in learnt.results.searches.items():
        leads = system.leads_of(count)
        if leads not in said:
            said[leads] = asked(learnt.ensemble(leads), stores, part, f"{system.system}, {len(leads)} leads")
        probabilities, parameters, seconds = said[leads]
        columns = learnt.results.columns
        wide = expand(probabilities, columns)
        titles = titles_of(replace(learnt.settings, lead_sets=(count,)))
        training = sum(learnt.seconds.get(title, 0.0) for title in titles)  # nothing of what there was no need for
        result |= {
            f"{count} probabilities": wide,
            f"{count} answers": learnt.results.rule(count).answers(probabilities, columns),
            f"{count} optimised": wide >= search.by_class,
            f"{count} costs": np.array([parameters, training, seconds]),
        }
    kept.keep(ANSWERS, result)
    return result


def asked(ensemble, stores, part, title):
    """Return an Ensemble's probabilities for a part of the recordings, its weights, and the seconds for a recording."""
    ensemble.predicted(stores, part[:WARM], f"{title}, warming up")
    begun = time.monotonic()
    probabilities = ensemble.predicted(stores, part, title)
    return probabilities, ensemble.parameters, (time.monotonic() - begun) / len(part)


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
            parameters, training, answering = np.mean([result[f"{count} costs"] for result in results], axis=0)
            trials.append(Trial(system.system, count, **said, parameters=round(parameters), training_seconds=training,
                                answering_seconds=answering))  # fmt: skip
    chosen = places[order]
    return Comparison(store.labels[chosen], store.sources[chosen], numbers[order], tuple(trials))


def facts_of(data, plan, systems, store):
    """Return what a comparison's page tells beside what was measured."""
    held = (
        f"without {plan.leave_out}, which is held out" if plan.leave_out else f"{plan.folds} folds, each held out once"
    )
    limit = "none" if plan.hours is None else duration(3600 * plan.share)
    return {
        "data": str(data),
        "recordings used": len(store),
        "learnt from": held,
        "time limit of each training": limit,
        "epochs of each network at the most": plan.epochs or "as the system has them",
        "seed": plan.seed,
        "versions": f"keras {keras.version()} on {keras.backend.backend()}, numpy {np.__version__}",
        "settings that differ": differing(systems),
    }
