"""What the systems of a comparison have in common: which recordings are held out, the lead sets, the time."""

import time
from dataclasses import dataclass, replace

import numpy as np

from ecg.data.batches import Dataset
from ecg.data.headers import RecordError
from ecg.data.labels import expand
from ecg.data.leads import lead_indices
from ecg.models.ensemble import Segment, choose_group_probabilities
from ecg.runtime.limits import check_limits
from ecg.systems.plan import assign_folds, known_labels, planned_networks, split_recordings, stage_keys
from ecg.systems.recipes import SYSTEMS, Settings, resize_networks
from ecg.training.trainer import PREDICTION_BATCH, TIME_LIMIT_REACHED, predict


@dataclass(frozen=True)
class Protocol:
    """How systems (ecg.systems.recipes.Settings) are compared: all get these lead sets, seed and processes.

    folds: into how many parts the recordings are parted, each of which is held out once; leave_out: a source that is
    held out in their place; hours: that all trainings may take together, parted equally, no limit where None. epochs,
    batch: of each training at the most, precision: that networks are trained in, width and depth: of the networks that
    have such; as the systems have them where None. Raises ValueError where a number is out of its range, no system has
    such a network, or one cannot have that size.
    """

    systems: tuple[Settings, ...] = tuple(SYSTEMS.values())
    lead_sets: tuple[int, ...] = (12, 6, 4, 3, 2)
    folds: int = 5
    leave_out: str | None = None
    hours: float | None = None
    epochs: int | None = None
    batch: int | None = None
    precision: str | None = None
    width: int | None = None
    depth: int | None = None
    seed: int = 2021
    jobs: int | None = None

    def __post_init__(self):
        named = ("folds", "hours", "epochs", "batch", "width", "depth", "seed", "jobs")
        check_limits(**{name: getattr(self, name) for name in named})
        if self.leave_out is not None and not self.leave_out.strip():
            raise ValueError("leave_out: expected the name of a source, received an empty one")
        adjusted = [self.settings(system) for system in self.systems]
        for name, size in self.sizes.items():
            if size not in [getattr(system.network, name, None) for system in adjusted]:
                raise ValueError(f"no network of {', '.join(one.system for one in adjusted)} has a {name}")

    @property
    def sizes(self):
        """The sizes of networks that are given: a dict by name."""
        return {name: getattr(self, name) for name in ("width", "depth") if getattr(self, name) is not None}

    @property
    def titles(self):
        """What the parts are called that are held out, one after the other."""
        if self.leave_out:
            return [f"without {self.leave_out}"]
        return [f"fold {number + 1} of {self.folds}" for number in range(self.folds)]

    @property
    def keys(self):
        """What the program calls these parts, in the names of folders."""
        if self.leave_out:
            return [f"without_{self.leave_out}"]
        return [f"fold{number + 1}" for number in range(self.folds)]

    def share(self, systems):
        """Return the hours of each of so many systems for each part, None where there is no limit."""
        return self.hours and self.hours / (systems * len(self.titles))

    def settings(self, system):
        """Return the settings that a system is trained with here."""

        def limited(training):
            return training and replace(training, epochs=min(self.epochs or training.epochs, training.epochs),
                                        batch=min(self.batch or training.batch, training.batch),
                                        precision=self.precision or training.precision)  # fmt: skip

        system = resize_networks(system, self.sizes)
        return replace(system, lead_sets=self.lead_sets, seed=self.seed, jobs=self.jobs,
                       training=limited(system.training), pretraining=limited(system.pretraining))  # fmt: skip

    def is_left_out(self, sources):
        """Return which recordings are of the source that is left out: (n,) bool, of sources (n,) text.

        Raises RecordError where nothing of it is there, or nothing else, or there are more folds than recordings.
        """
        if self.leave_out is None:
            if len(sources) < self.folds:
                raise RecordError(f"{len(sources):,} recordings are too few for {self.folds} folds")
            return np.zeros(len(sources), bool)
        own = np.char.lower(np.asarray(sources, str)) == self.leave_out.lower()
        names = ", ".join(np.unique(sources).tolist())
        if not own.any():
            raise RecordError(f"no recording that is used is of {self.leave_out}; the sources are {names}")
        if own.all():
            raise RecordError(f"all {len(own):,} recordings are of {names}: nothing else is there to learn from")
        return own

    def held_out(self, store):
        """Return the places of the recordings that are held out together, a list of (n,). Raises RecordError as `own`.

        It is of the titles' length.
        """
        own = self.is_left_out(store.sources)
        if self.leave_out:
            return [np.flatnonzero(own)]
        parts = assign_folds(store.labels, self.folds, self.seed)
        return [np.flatnonzero(parts == part) for part in range(self.folds)]

    def untrainable_reason(self, system, store, parts):
        """Return why a system cannot learn from all but one of the parts, with the part's title, empty where it can."""
        for title, part in zip(self.titles, parts, strict=True):
            known = np.delete(known_labels(store, system), part, axis=0)
            if not known.any():
                return f"{title}: none of {len(known):,} recordings has a diagnosis that is trained"
            try:
                split_recordings(known, system)
            except RecordError as error:
                return f"{title}: {error}"
        return ""


UNDONE = "undone"  # name of what could not be done
TIMED = 32  # recordings held out whose answers are timed, at the most


def predict_held_out(learnt, system, stores, part):
    """Return what a system that has Learnt (ecg.systems.method) says of a part held out of stores, (n,): a dict of arrays.

    By the size of each lead set, as 'SIZE NAME': probabilities, answers and optimised (n, 26), and costs: weights, the
    seconds of an answer, and what `training_of` gives; and under UNDONE the texts of `undone`.
    """
    result, said = {UNDONE: np.array(skipped_steps(learnt, system), str)}, {}
    for count, search in learnt.results.searches.items():
        leads = system.leads_of(count)
        if leads not in said:
            ensemble, title = learnt.ensemble(leads), f"{system.system}, {len(leads)} leads"
            probabilities = predict_stores(ensemble, stores, part, title, system.training.batch)
            said[leads] = probabilities, ensemble.parameters, measure_prediction_seconds(ensemble, stores, part)
        probabilities, parameters, seconds = said[leads]
        columns = learnt.results.columns
        wide = expand(probabilities, columns)
        result |= {
            f"{count} probabilities": wide,
            f"{count} answers": learnt.results.rule(count).decide(probabilities, columns),
            f"{count} optimised": wide >= search.by_class,
            f"{count} costs": np.array([parameters, seconds, *training_cost(learnt, count)]),
        }
    return result


def skipped_steps(learnt, system):
    """Return what of a system's method there were too few recordings for, by what it has Learnt: a list of texts."""
    texts = [f"{one.title}: {one.skip_reason}" for one in learnt.results.relabellings if one.skip_reason]
    if system.gate and not learnt.settings.gate:
        texts.append(f"networks for {system.gate.source}: too few recordings to tell it from the others")
    return texts


def training_cost(learnt, count):
    """Return what the training for a lead set took: seconds, networks, epochs, and trainings that the time limit ended.

    All that it takes counts, what other lead sets share with it, too, and nothing that there was no need for. A network
    that is trained for peaks first is one network of two trainings.
    """
    settings = replace(learnt.settings, lead_sets=(count,))
    keys = [key for key in stage_keys(settings) if key in learnt.seconds]
    networks = len(set(keys) - {one.peaks_key for one in planned_networks(settings)})
    epochs = sum(epoch.key in keys for epoch in learnt.results.epochs)
    cut = sum(learnt.results.ends[key] == TIME_LIMIT_REACHED for key in keys)
    return sum(learnt.seconds[key] for key in keys), networks, epochs, cut


def measure_prediction_seconds(ensemble, stores, part):
    """Return the seconds in which an Ensemble answers for one recording, as a saved model does: the median of some.

    They are of the part held out, (n,) places in stores, prepared as they are there: reading and filtering are not in
    it. Each is answered before it counts, so that nothing is compiled meanwhile.
    """
    persons, chosen = next(iter(stores.values())).demographics, part[:: -(-len(part) // TIMED)]

    def answer(place):
        def prepare(preparation, leads):
            return stores[preparation].signal(place, list(lead_indices(leads)))

        begun = time.perf_counter()
        ensemble.predict([Segment(prepare)], persons[place])
        return time.perf_counter() - begun

    for place in chosen:
        answer(place)
    return float(np.median([answer(place) for place in chosen]))


def predict_stores(ensemble, stores, records, title, size=PREDICTION_BATCH):
    """Predict recordings of stores with an ensemble.

    Args:
        ensemble: An ecg.models.ensemble.Ensemble.
        stores: A Store for each Preparation of its networks.
        records: Indices of the recordings in the stores, (n,).
        title: What the progress is called.
        size: How many windows are predicted at once, at most.

    Returns:
        Probabilities of the general group's classes, (n, K).
    """
    probabilities = {
        name: predict_group(group, stores, records, f"{title}, {name}", size) for name, group in ensemble.groups.items()
    }
    return choose_group_probabilities(probabilities, {name: group.columns for name, group in ensemble.groups.items()})


def predict_group(group, stores, records, title, size=PREDICTION_BATCH):
    """Predict recordings of stores with a group of networks: the mean of their probabilities, (n, K).

    The arguments are those of `predict_stores`.
    """
    probabilities = []
    for number, member in enumerate(group.members, 1):
        examples = Dataset(stores[member.view.preparation], records, lead_indices(member.leads),
                            window=member.view.window, demographics=member.demographics)  # fmt: skip
        progress = f"{title}, network {number} of {len(group.members)}"
        probabilities.append(predict(member.network, examples, progress, size))
    return np.mean(probabilities, axis=0)
