"""Which networks a recipe has trained, in which order, and on which recordings each learns and is judged."""

from typing import NamedTuple

import numpy as np

from ecg.data.batches import View
from ecg.data.headers import RecordError
from ecg.data.labels import PROXY_SOURCE, add_implied_labels, class_indices, select_labels
from ecg.training.trainer import seeds


def assign_folds(labels, count, seed):
    """Part recordings into folds that differ in size by one at the most, and little in what share has each class.

    labels (N, C) bool; returns each recording's fold, (N,) from 0 to count - 1, the same for the same seed. Each fold
    has its part of the recordings of each stratum of `strata`. ValueError where there are fewer than two folds, or
    fewer recordings than folds.
    """
    from sklearn.model_selection import StratifiedKFold  # which takes a second, that others need not wait for

    labels = np.asarray(labels, bool)
    if not 2 <= count <= len(labels):
        raise ValueError(f"{len(labels):,} recordings in {count} folds: expected two folds or more, and none empty")
    parted = np.empty(len(labels), int)
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(labels, strata(labels, count))):
        parted[held_out] = fold
    return parted


def strata(labels, least):
    """Return what stands for all labels of a recording, a number each: (N,), none in fewer than `least` recordings.

    It is the combination of labels where that is common enough, else its rarest class; what is still too rare is one
    stratum, with the rarest of the others where that is too small, too. labels (N, C) bool, of `least` or more.
    """
    combinations, stratum, sizes = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    frequency = np.where(combinations, labels.sum(axis=0), len(labels) + 1)
    rarest = np.where(combinations.any(axis=1), frequency.argmin(axis=1), labels.shape[1])
    stratum = np.where(sizes >= least, labels.shape[1] + 1 + np.arange(len(sizes)), rarest)[stratum]
    stratum, sizes = np.unique(stratum, return_inverse=True, return_counts=True)[1:]
    rare = np.count_nonzero(sizes < least)
    enough = np.searchsorted(np.sort(sizes).cumsum(), least) + 1  # so many of the smallest are together
    lumped = max(rare, enough) if rare else 0
    rank = np.argsort(np.argsort(sizes, kind="stable"))
    return np.maximum(rank - lumped + 1, 0)[stratum]


ROUND_1 = "round 1, {}"
GENERAL, SPECIAL, GATE = "general", "special", "gate"  # groups of an ecg.models.ensemble.Ensemble


class NetworkPlan(NamedTuple):
    """A network whose answers count: the key and title of its stage, its leads, its group, its fold, its view.

    The key, such as general/12/fold1, gives the stage its seed and folder; the title is for people. `pretrained` says
    whether a stage before trains it for peaks alone.
    """

    key: str
    title: str
    leads: tuple[str, ...]
    group: str
    fold: int
    view: View
    pretrained: bool = False

    @property
    def peaks_key(self):
        """The key of the stage before, in which it is trained for peaks alone."""
        return f"{self.key}/peaks"

    @property
    def peaks_title(self):
        """The title of that stage."""
        return f"{self.title}, peaks"

    @property
    def keys(self):
        """The keys of its stages, in their order."""
        return [self.peaks_key, self.key] if self.pretrained else [self.key]


def leads_title(leads):
    """Return what leads are called in the titles of stages: '12 leads', 'lead II'."""
    return f"{len(leads)} leads" if len(leads) > 1 else f"lead {leads[0]}"


def leads_key(leads):
    """Return what leads are called in the keys of stages: '12', 'II'."""
    return str(len(leads)) if len(leads) > 1 else leads[0]


def first_round_title(settings):
    """Return the title of round 1."""
    return ROUND_1.format(leads_title(settings.leads_of(12)))


def first_round_key(settings):
    """Return the key of round 1."""
    return f"masks/{leads_key(settings.leads_of(12))}"


def planned_networks(settings):
    """Return the networks whose answers count that a recipe has trained: a list of Planned, in their order."""
    networks = []
    groups = {GENERAL: settings.views} | ({SPECIAL: settings.views, GATE: settings.views[:1]} if settings.gate else {})
    for leads in dict.fromkeys(map(settings.leads_of, settings.lead_sets)):
        for group, views in groups.items():
            for fold in range(settings.folds or 1):
                for number, view in enumerate(views, 1):
                    key = f"{group}/{leads_key(leads)}"
                    key += f"/view{number}" if len(views) > 1 else ""
                    key += f"/fold{fold + 1}" if settings.folds else ""
                    title = settings.title.format(leads_title(leads))
                    title += "" if group == GENERAL else f", {settings.gate.source}{' or not' * (group == GATE)}"
                    title += f", {view.title}" if len(views) > 1 else ""
                    title += f", fold {fold + 1} of {settings.folds}" if settings.folds else ""
                    pretrained = bool(settings.pretraining) and group != GATE
                    networks.append(NetworkPlan(key, title, leads, group, fold, view, pretrained))
    return networks


def classes_of(settings, group):
    """Return the classes, abbreviations, that a group of networks answers for; a gate answers for none."""
    if group == GENERAL:
        return settings.classes
    return settings.gate.classes if group == SPECIAL and settings.gate else ()


def stage_keys(settings):
    """Return the keys of all stages of a recipe, in their order."""
    keys = [rule.key for rule in settings.cleaning.rules] + [first_round_key(settings)] * settings.cleaning.masks
    return keys + [key for network in planned_networks(settings) for key in network.keys]


def split_validation(count, settings, key):
    """Return the places of the training and of the validation set, sorted, parted at random by seed and key."""
    order = np.random.default_rng(seeds(settings.seed, key, 0, 4)).permutation(count)
    validation = max(round(count * settings.validation_share), 1)
    return np.sort(order[validation:]), np.sort(order[:validation])


def known_labels(store, settings):
    """Return the labels of a recipe's classes, those that others imply included: (N, K) bool."""
    return select_labels(
        class_indices(settings.classes), add_implied_labels(store.labels, settings.implies), store.unscored
    )


def split_recordings(targets, settings):
    """Return the places of training and validation sets, a list of pairs, one for each fold or one alone.

    Where the classes exclude each other, recordings with another number of them than one are in none. Takes targets
    (N, K). Raises RecordError where too few recordings are left.
    """
    usable = np.arange(len(targets))
    if settings.exclusive:
        usable = np.flatnonzero(targets.sum(axis=1) == 1)
    if len(usable) < (settings.folds or 2):
        alone = f"have one alone of the classes {', '.join(settings.classes)}" if settings.exclusive else "can be used"
        raise RecordError(f"{len(usable):,} of {len(targets):,} recordings {alone}, and training needs "
                          f"{settings.folds or 2}")  # fmt: skip
    if not settings.folds:
        return [tuple(usable[part] for part in split_validation(len(usable), settings, "split"))]
    numbers = assign_folds(targets[usable] > 0, settings.folds, settings.seed)
    return [(usable[numbers != fold], usable[numbers == fold]) for fold in range(settings.folds)]


def scoring_mask(sources, settings):
    """Return which recordings of the validation set give the score: (n,) bool."""
    proxy = sources == PROXY_SOURCE
    few = settings.proxy_least is None or proxy.sum() < settings.proxy_least
    return np.ones(len(sources), bool) if few else proxy


def configurations(settings, leads):
    """Return the places among leads of each smaller set that training may leave of them, and of all of them.

    Empty where leads are not left out, or no smaller set is among them.
    """
    sets = dict.fromkeys(map(settings.leads_of, (12, 6, 4, 3, 2))) if settings.configurations else ()
    places = [tuple(leads.index(lead) for lead in each) for each in sets if set(each) <= set(leads)]
    return tuple(places) if len(places) > 1 else ()
