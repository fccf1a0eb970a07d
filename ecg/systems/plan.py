"""Plan the networks of a system: their order and their recordings."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from ecg.data.batches import View
from ecg.data.corrections import correct_labels
from ecg.data.headers import RecordError
from ecg.data.labels import PROXY_SOURCE, select_labels
from ecg.data.leads import LEADS
from ecg.data.patients import count_patients
from ecg.data.store import Store
from ecg.models.ensemble import serves_all_lead_sets
from ecg.runtime.console import pluralise
from ecg.systems.folds import assign_folds
from ecg.systems.recipes import Settings
from ecg.training.trainer import seeds

USUAL_EPOCHS = 25  # assumed for networks with early stopping
GENERAL, SPECIAL, GATE = "general", "special", "gate"  # groups of an ecg.models.ensemble.Ensemble


class NetworkPlan(NamedTuple):
    """A final network to train.

    Attributes:
        key: Key of its stage, such as "general/12/fold1"; seeds and folder come from it.
        title: Title of its stage, for people.
        leads: Names of the leads that it sees.
        group: GENERAL, SPECIAL or GATE.
        fold: Index of the fold or split that validates it.
        view: Preprocessing and window.
        learns_peaks: Whether another stage first trains it to predict wave peaks alone.
        lead_sets: Names of the leads of each lead set that it serves, if it serves several.
    """

    key: str
    title: str
    leads: tuple[str, ...]
    group: str
    fold: int
    view: View
    learns_peaks: bool = False
    lead_sets: tuple[tuple[str, ...], ...] = ()

    @property
    def peaks_key(self) -> str:
        """Key of the stage that trains it to predict wave peaks."""
        return f"{self.key}/peaks"

    @property
    def peaks_title(self) -> str:
        """Title of the stage that trains it to predict wave peaks."""
        return f"{self.title}, peaks"


def leads_title(leads: Sequence[str]) -> str:
    """Return leads as in the titles of stages: "12 leads", "lead II"."""
    return f"{len(leads)} leads" if len(leads) > 1 else f"lead {leads[0]}"


def leads_key(leads: Sequence[str]) -> str:
    """Return leads as in the keys of stages: "12", "II"."""
    return str(len(leads)) if len(leads) > 1 else leads[0]


def first_round_title(settings: Settings) -> str:
    """Return the title of round 1."""
    return f"round 1, {leads_title(settings.leads_of(12))}"


def first_round_key(settings: Settings) -> str:
    """Return the key of round 1."""
    return f"masks/{leads_key(settings.leads_of(12))}"


def planned_networks(settings: Settings) -> list[NetworkPlan]:
    """Return the final networks of a system, in the order of their training.

    A network that serves all lead sets is trained once, with all leads.
    """
    networks: dict[str, NetworkPlan] = {}
    groups = {GENERAL: settings.views} | ({SPECIAL: settings.views, GATE: settings.views[:1]} if settings.gate else {})
    lead_sets = tuple(dict.fromkeys(map(settings.leads_of, settings.lead_sets)))
    for leads, (group, views), part in product(lead_sets, groups.items(), range(settings.n_parts)):
        network = settings.gate.network if settings.gate and group == GATE else settings.network
        is_shared = serves_all_lead_sets(network)
        used, served = (LEADS, lead_sets) if is_shared else (leads, ())
        for number, view in enumerate(views, 1):
            key, title = f"{group}/{leads_key(used)}", settings.title.format(leads_title(used))
            if is_shared:
                key, title = f"{group}/all", settings.title.format("all lead sets")
            if settings.gate and group != GENERAL:
                title += f", {settings.gate.source}{' or not' * (group == GATE)}"
            if len(views) > 1:
                key, title = f"{key}/view{number}", f"{title}, {view.title}"
            for name, count in (("fold", settings.folds), ("split", settings.splits)):
                if count:
                    key, title = f"{key}/{name}{part + 1}", f"{title}, {name} {part + 1} of {count}"
            learns_peaks = bool(settings.peak_training) and group != GATE
            networks.setdefault(key, NetworkPlan(key, title, used, group, part, view, learns_peaks, served))
    return [*networks.values()]


def classes_of(settings: Settings, group: str) -> tuple[str, ...]:
    """Return the classes that a group of networks predicts; a gate predicts none."""
    if group == GENERAL:
        return settings.classes
    return settings.gate.classes if group == SPECIAL and settings.gate else ()


def stage_keys(settings: Settings) -> list[str]:
    """Return the keys of all stages of a system, in their order."""
    return [key for group in stage_groups(settings) for chain in group for key in chain]


def stage_groups(settings: Settings) -> list[list[list[str]]]:
    """Return the stages of a system, in groups that follow each other.

    Returns:
        The groups, each a list of chains of keys. The chains of a group do not depend on each other. The stages of a
        chain follow each other.
    """
    rules = [[[rule.key]] for rule in settings.cleaning.rules]
    networks = [
        [network.peaks_key, network.key] if network.learns_peaks else [network.key]
        for network in planned_networks(settings)
    ]
    pretraining = [[plan.key] for plan in pretraining_plans(settings)]
    groups = [pretraining, *rules, [[first_round_key(settings)]] * settings.cleaning.masks, networks]
    return [group for group in groups if group]


def pretraining_plans(settings: Settings) -> list[NetworkPlan]:
    """Return the networks to pretrain on synthetic recordings, one for each kind.

    Networks of the same leads and view start from the same one.
    """
    plans: dict[tuple, NetworkPlan] = {}
    for network in planned_networks(settings) if settings.pretraining else ():
        if network.group != GATE:
            key, title = f"pretraining/{leads_key(network.leads)}", f"pretraining, {leads_title(network.leads)}"
            if network.lead_sets:
                key, title = "pretraining/all", "pretraining, all lead sets"
            if len(settings.views) > 1:
                key, title = f"{key}/view{settings.views.index(network.view) + 1}", f"{title}, {network.view.title}"
            plans.setdefault(
                (network.leads, network.view), NetworkPlan(key, title, network.leads, GENERAL, 0, network.view)
            )
    return list(plans.values())


def stage_costs(settings: Settings, n_training: int) -> dict[str, float]:
    """Return the keys of all stages in their order, and their relative costs.

    The cost is 1 for all stages but those of pretraining. Their cost is the number of recordings that pass through the
    network, divided by that of a stage with `n_training` recordings and the usual number of epochs.

    Args:
        settings: Settings of the system.
        n_training: Number of training recordings.
    """
    costs = dict.fromkeys(stage_keys(settings), 1.0)
    if settings.pretraining:
        training, pretraining = settings.training, settings.pretraining
        first = pretraining.training.epochs * pretraining.training.passes_for(pretraining.recordings)
        usual = min(training.epochs, USUAL_EPOCHS) * training.passes_for(n_training)
        cost = first * pretraining.recordings / max(usual * n_training, 1)
        costs |= dict.fromkeys((plan.key for plan in pretraining_plans(settings)), cost)
    return costs


def split_validation(
    n_recordings: int, settings: Settings, key: str, patients: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split recordings at random by seed and key.

    Args:
        n_recordings: Number of recordings, N.
        settings: Settings of the system.
        key: Key of the split.
        patients: Number of each recording's patient, (N,), with two patients at least. A part keeps the recordings of
            a patient together. None: each recording counts as a patient.

    Returns:
        Training and validation indices, each sorted.
    """
    random = np.random.default_rng(seeds(settings.seed, key, 0, 4))
    n_validation = max(round(n_recordings * settings.validation_share), 1)
    is_validation = draw_patients(np.arange(n_recordings) if patients is None else patients, n_validation, random)
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def draw_patients(patients: np.ndarray, n_recordings: int, random: np.random.Generator) -> np.ndarray:
    """Draw patients at random until their recordings have a given number.

    A patient with more recordings than are still to be drawn is passed over. The drawn recordings are thus fewer than
    `n_recordings` only if each other patient has more than the difference. If each patient has more than
    `n_recordings`, one of those with the fewest is drawn.

    Args:
        patients: Number of each recording's patient, (N,).
        n_recordings: Number of recordings to draw.
        random: Source of random numbers.

    Returns:
        Which recordings are drawn, (N,) bool.
    """
    _, patient, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    order = random.permutation(len(sizes))
    is_drawn = np.zeros(len(sizes), bool)
    is_drawn[order[sizes[order].argmin()]] = sizes.min() > n_recordings
    while len(order := order[sizes[order] <= n_recordings]):
        drawn = order[sizes[order].cumsum() <= n_recordings]  # the first of those that fit, at least
        is_drawn[drawn] = True
        order, n_recordings = order[len(drawn) :], n_recordings - sizes[drawn].sum()
    return is_drawn[patient]


def initial_labels(store: Store, settings: Settings) -> np.ndarray:
    """Return the labels before relabelling, including implied ones, (N, C) bool."""
    labels = settings.class_table.add_implied_labels(store.labels, settings.implies)
    return correct_labels(labels, store.verdicts)


def known_labels(store: Store, settings: Settings) -> np.ndarray:
    """Return the labels of a system's classes, including implied ones, (N, K) bool."""
    return select_labels(settings.columns, initial_labels(store, settings), store.additional)


def find_usable(targets: np.ndarray, settings: Settings) -> np.ndarray:
    """Return the indices of the recordings that a system can use, (n,).

    If its classes exclude each other, these are the recordings with exactly one of them.

    Args:
        targets: Labels, (N, K).
        settings: Settings of the system.
    """
    return np.flatnonzero(targets.sum(axis=1) == 1) if settings.exclusive else np.arange(len(targets))


def split_recordings(
    targets: np.ndarray, settings: Settings, patients: np.ndarray | None = None, published: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split recordings into training and validation sets.

    Args:
        targets: Labels, (N, K).
        settings: Settings of the system. Only the recordings of `find_usable` are used.
        patients: Number of each recording's patient, (N,). A set keeps the recordings of a patient together. None:
            each recording counts as a patient.
        published: Folds that come with the recordings, (N,), see `assign_folds`.

    Returns:
        Training and validation indices, one pair for each fold or split, or one pair if there are neither.

    Raises:
        RecordError: Too few recordings can be used, or they are of too few patients, or the fold that validates is
            missing.
    """
    usable = find_usable(targets, settings)
    min_recordings = settings.folds or 2
    if len(usable) < min_recordings:
        classes = f"have exactly one of the classes {', '.join(settings.classes)}"
        condition = classes if settings.exclusive else "can be used"
        counts = f"{len(usable):,} of {len(targets):,} recordings"
        raise RecordError(f"{counts} {condition}; training needs {min_recordings}")
    if patients is not None:
        patients = patients[usable]
        if (n_patients := count_patients(patients)) < min_recordings:
            counts = f"{len(usable):,} recordings are of {pluralise(n_patients, 'patient')}"
            raise RecordError(f"{counts}; training needs {min_recordings}, to keep the recordings of each together")
    published = None if published is None else published[usable]
    if settings.validation_fold:
        is_validation = np.zeros(len(usable), bool) if published is None else published == settings.validation_fold
        if not is_validation.any() or is_validation.all():
            raise RecordError(f"published fold {settings.validation_fold} has {is_validation.sum():,} of "
                              f"{len(usable):,} recordings; it cannot validate a training")  # fmt: skip
        return [(usable[~is_validation], usable[is_validation])]
    if settings.folds:
        folds = assign_folds(targets[usable] > 0, settings.folds, settings.seed, patients, settings.stratification,
                             published)  # fmt: skip
        return [(usable[folds != fold], usable[folds == fold]) for fold in range(settings.folds)]
    if settings.splits:
        splits = [
            draw_stratified_split(targets[usable] > 0, settings, split, patients) for split in range(settings.splits)
        ]
        return [(usable[training], usable[validation]) for training, validation in splits]
    training, validation = split_validation(len(usable), settings, "split", patients)
    return [(usable[training], usable[validation])]


def draw_stratified_split(
    labels: np.ndarray, settings: Settings, split: int, patients: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split recordings at random, stratified by their labels.

    The validation set is one of several random folds, whose number is the inverse of its share.

    Args:
        labels: Labels of n recordings, (n, K) bool.
        settings: Settings of the system.
        split: Index of the split. Splits are independent of each other.
        patients: Number of each recording's patient, (n,). A set keeps the recordings of a patient together. None:
            each recording counts as a patient.

    Returns:
        Training and validation indices, each sorted.
    """
    n_patients = len(labels) if patients is None else count_patients(patients)
    n_folds = min(max(round(1 / settings.validation_share), 2), n_patients)
    seed = int(seeds(settings.seed, f"split{split + 1}", 0, 1)[0])
    folds = assign_folds(labels, n_folds, seed, patients, settings.stratification)
    fold = 0
    if n_patients < len(labels):  # the first fold has the largest patient
        fold = int(abs(np.bincount(folds) - len(labels) / n_folds).argmin())
    return np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)


def scoring_mask(sources: np.ndarray, settings: Settings) -> np.ndarray:
    """Return which validation recordings (m,) give the score.

    These are those of Georgia if there are enough and the system has no folds, else all.
    """
    is_proxy = sources == PROXY_SOURCE
    if settings.folds or settings.proxy_least is None or is_proxy.sum() < settings.proxy_least:
        return np.ones(len(sources), bool)
    return is_proxy


def lead_configurations(settings: Settings, leads: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the sets of leads, as indices, that training chooses from at random.

    Empty if the system does not drop leads, or if the leads contain no smaller set.
    """
    sets = settings.configurations
    indices = [tuple(map(leads.index, lead_set)) for lead_set in sets if set(lead_set) <= set(leads)]
    return tuple(indices) if len(indices) > 1 else ()
