"""Train a system: relabel, mask doubtful labels, train, fit its decisions."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.labels import PROXY_SOURCE, select_labels
from ecg.data.patients import count_patients
from ecg.data.store import Store
from ecg.models.ensemble import Ensemble, Group
from ecg.systems.decisions import TrainedNetwork, ValidationScorer, fit_decisions, group_networks
from ecg.systems.label_cleaning import FEWEST, ConflatedClasses, Relabelling, describe_relabelling, source_masks
from ecg.systems.label_comparison import MAX_DRAWN, Disagreement, LabelledRecordings, compare_labels, label_masks
from ecg.systems.plan import (
    GATE,
    GENERAL,
    NetworkPlan,
    classes_of,
    first_round_key,
    first_round_title,
    initial_labels,
    known_labels,
    lead_configurations,
    planned_networks,
    scoring_mask,
    split_recordings,
    split_validation,
    stage_costs,
    stage_groups,
)
from ecg.systems.pretraining import prepare_initial_networks
from ecg.systems.recipes import Settings
from ecg.systems.results import Results
from ecg.systems.reviewed_labels import keep_reviewed_labels, keep_reviewed_masks, mask_unsure_labels
from ecg.systems.stage import AUROC, CHALLENGE, Stage, make_member
from ecg.systems.stage_runner import PeakExample, Peaks, StageRunner
from ecg.training.losses import LOSSES

LOGGER = logging.getLogger("ecg")

N_PEAK_EXAMPLES = 4  # validation recordings for which the report shows predicted wave peaks
Splits = list[tuple[np.ndarray, np.ndarray]]  # training and validation indices in the store, of each fold


@dataclass(frozen=True)
class TrainedSystem:
    """The result of a training.

    Attributes:
        results: What the report shows. Its settings have no gate if it could not be trained.
        networks: The final networks, in the order of their training.
        seconds: Duration of each stage, by its key.
    """

    results: Results
    networks: list[TrainedNetwork]
    seconds: dict[str, float]

    def ensemble(self, leads: tuple[str, ...]) -> Ensemble:
        """Return the ensemble for these leads; its networks are built anew."""
        groups = {}
        for name, networks in group_networks(self.networks, leads).items():
            members = tuple(make_member(network.stage, network.weights, network.leads) for network in networks)
            groups[name] = Group(classes_of(self.results.settings, name), members)
        return Ensemble(**groups)


class LabelledSet(NamedTuple):
    """What the final networks are trained on: N recordings of a store, K classes.

    Attributes:
        sources: Source of each recording, (N,).
        targets: Labels as 0 or 1, (N, K) float32.
        masks: Weights of the labels in the loss, (N, K).
        splits: Training and validation indices of each fold.
    """

    sources: np.ndarray
    targets: np.ndarray
    masks: np.ndarray
    splits: Splits


def train_system(settings: Settings, runner: StageRunner, peaks: Peaks, data: str | Path) -> TrainedSystem:
    """Train the networks of a system on the stores of a runner.

    Args:
        settings: Settings of the system.
        runner: Runs the stages; it has a store for each of the system's ways of preprocessing.
        peaks: Wave peaks of each store, if the system's networks predict these.
        data: Data folder, for the paths of recordings in the report.

    Raises:
        TrainingError: See `StageRunner.run_all`.
        RecordError: Too few recordings have the system's classes.
    """
    store = runner.stores[settings.views[0].preparation]
    splits = split_recordings(known_labels(store, settings), settings, store.patients, store.folds)
    training, validation = (np.unique(np.concatenate(parts)) for parts in zip(*splits, strict=True))
    settings = drop_untrainable_gate(settings, store.sources, splits)
    runner.costs, runner.groups = stage_costs(settings, len(splits[0][0])), stage_groups(settings)
    runner.initial_networks = prepare_initial_networks(settings, runner)

    # Networks of the other sources relabel classes that a source conflates or does not label.
    labels, relabellings = apply_rules(initial_labels(store, settings), store.sources, settings, runner,
                                       store.patients, store.verdicts)  # fmt: skip
    columns = settings.columns
    targets = select_labels(columns, labels, store.additional).astype(np.float32)
    scorer = ValidationScorer(settings, store.sources, labels, store.labels)
    runner.scorer = scorer.scores
    is_scored = scoring_mask(store.sources[validation], settings)
    scored = "all of them" if is_scored.all() else f"{is_scored.sum():,} of {PROXY_SOURCE}"
    times = f"{len(splits)} times, " if len(splits) > 1 else ""
    LOGGER.info(f"split: {len(splits[0][0]):,} for training, {len(splits[0][1]):,} for validation, {times}"
                f"scores on {scored}")  # fmt: skip

    # Labels that a source does not give are masked, and labels that the network of round 1 doubts.
    masks = initial_masks(store, labels, settings, relabellings)
    disagreements: list[Disagreement] = []
    labelled = LabelledSet(store.sources, targets, masks, splits)
    if settings.cleaning.masks:
        certain, disagreements = mask_doubtful_labels(labelled, settings, runner, store, labels, Path(data))
        labelled = labelled._replace(masks=masks * certain)

    networks, examples = train_networks(labelled, settings, runner, peaks)
    decisions = fit_decisions(networks, validation, settings, scorer)
    by_count = {count: decisions[settings.leads_of(count)] for count in settings.lead_sets}
    results = Results(
        store=store, labels=labels, training=training, validation=validation, scored=is_scored, epochs=runner.epochs,
        relabellings=relabellings, masks=labelled.masks, disagreements=disagreements,
        searches={count: decision.search for count, decision in by_count.items()},
        calibrations={count: decision.calibration for count, decision in by_count.items()},
        validated={count: decision.probabilities for count, decision in by_count.items()},
        settings=settings, ends=runner.ends, peaks=examples,
        votes={count: decision.votes for count, decision in by_count.items() if decision.votes},
    )  # fmt: skip
    return TrainedSystem(results, networks, runner.seconds)


def drop_untrainable_gate(settings: Settings, sources: np.ndarray, splits: Splits) -> Settings:
    """Drop the source gate if there are too few recordings to train it."""
    gate = settings.gate
    if gate is None:
        return settings
    for training, validation in splits:
        positive, validation_positive = (np.equal(sources[part], gate.source) for part in (training, validation))
        if min(positive.sum(), (~positive).sum()) < FEWEST or not validation_positive.any():
            LOGGER.info(f"no networks for {gate.source} alone: {positive.sum():,} of {len(positive):,} training "
                        f"recordings are of {gate.source}, {FEWEST} of either kind needed")  # fmt: skip
            return replace(settings, gate=None)
    return settings


def apply_rules(
    labels: np.ndarray,
    sources: np.ndarray,
    settings: Settings,
    runner: StageRunner,
    patients: np.ndarray | None = None,
    verdicts: np.ndarray | None = None,
) -> tuple[np.ndarray, list[Relabelling]]:
    """Apply all relabelling rules in turn.

    Each relabels some sources by a 12-lead network trained on the others.

    Args:
        labels: Labels before, (N, C) bool.
        sources: Source of each recording, (N,).
        settings: Settings of the system.
        runner: Runs the stages.
        patients: Number of each recording's patient, (N,); None: each recording counts as a patient.
        verdicts: Reviewers' verdicts, (N, C); None: there are none.

    Returns:
        The labels after them, (N, C) bool, and what each rule did.
    """
    relabellings, classes = [], settings.class_table
    for rule in settings.cleaning.rules:
        data = rule.training_data(labels, sources, settings.cleaning.excluded_sources(rule), classes)
        data = mask_unsure_labels(rule, data, verdicts, classes)
        known = None if patients is None else patients[data.records]
        if known is not None and not data.skip_reason and count_patients(known) < 2:
            data = data._replace(skip_reason=f"the {len(known):,} recordings of other sources are of one patient")
        candidates, after, columns = data.candidates, labels, rule.find_columns(classes)
        probabilities = np.empty((0, len(columns)), np.float32)
        if data.skip_reason:
            candidates = candidates[:0]
        else:
            # The loss is averaged over the labels, not over their weights. Otherwise a batch with few recordings of the
            # rarer class would count as much as a batch with many, and the rarer class would count too little.
            loss = LOSSES["cross-entropy"](reduction="sum_over_batch_size")
            stage = Stage(rule.key, rule.title, settings.leads_of(12), loss, data.records, data.targets, data.weights,
                          *split_validation(len(data.records), settings, rule.key, known), candidates, settings.network,
                          settings.training, settings.views[0], metric=AUROC,
                          augmentations=settings.augmentations)  # fmt: skip
            probabilities = runner.run(stage).probabilities
            if isinstance(rule, ConflatedClasses):  # the network predicts only the second class
                probabilities = np.hstack([1 - probabilities, probabilities])
            after = rule.update_labels(labels, sources, probabilities, classes)
            after = keep_reviewed_labels(rule, labels, after, verdicts, classes)
        before, labels = labels, after
        relabellings.append(Relabelling(rule.title, candidates, columns, probabilities, before[candidates],
                                        labels[candidates], data.skip_reason))  # fmt: skip
        LOGGER.info(describe_relabelling(relabellings[-1], classes))
    return labels, relabellings


def initial_masks(store: Store, labels: np.ndarray, settings: Settings, relabellings: list[Relabelling]) -> np.ndarray:
    """Return the weights of the labels in the loss, before a network doubts any.

    Args:
        store: The store of the recordings.
        labels: Their labels, (N, C) bool.
        settings: Settings of the system.
        relabellings: What each rule did.

    Returns:
        0 for labels that a source does not give or reviewers are unsure about, else 1: (N, K) float32.
    """
    columns = settings.columns
    masks = np.ones((len(store), len(columns)), np.float32)
    if settings.source_masks:
        partially_labelled = settings.cleaning.without_skipped(relabellings).partially_labelled
        # A reviewer labels a class in one recording, not in all of its source.
        by_source = np.where(store.reviewed.is_changed, store.reviewed.labels, labels) if store.reviewed else labels
        by_source = select_labels(columns, by_source, store.additional)
        masks = source_masks(by_source, store.sources, columns, partially_labelled, settings.class_table)
    return keep_reviewed_masks(masks, store.verdicts, columns)


def mask_doubtful_labels(
    labelled: LabelledSet, settings: Settings, runner: StageRunner, store: Store, labels: np.ndarray, data: Path
) -> tuple[np.ndarray, list[Disagreement]]:
    """Mask the labels that the network of round 1 contradicts with confidence.

    The network is trained with the focal loss.

    Args:
        labelled: The recordings.
        settings: Settings of the system.
        runner: Runs the stage.
        store: The store of the recordings.
        labels: Their labels, (N, C) bool.
        data: Data folder.

    Returns:
        Masks (N, K), 0 if the label is masked, and the most confident of these disagreements.
    """
    records = np.arange(len(store))
    stage = Stage(first_round_key(settings), first_round_title(settings), settings.leads_of(12), LOSSES["focal"](),
                  records, labelled.targets, labelled.masks, *labelled.splits[0], records, settings.network,
                  settings.training, settings.views[0], classes=settings.classes, metric=CHALLENGE,
                  augmentations=settings.augmentations)  # fmt: skip
    probabilities = runner.run(stage).probabilities
    masks, partially_labelled = label_masks(labelled.targets, probabilities), settings.cleaning.partially_labelled
    masks = keep_reviewed_masks(masks, store.verdicts, settings.columns, unsure=1)
    recordings = LabelledRecordings(data, store.paths, store.sources, labels, settings.class_table)
    wide = settings.class_table.expand(probabilities)
    _, _, disagreements = compare_labels(recordings, wide, masks, partially_labelled)
    LOGGER.info(f"masks: {int((masks == 0).sum()):,} of {masks.size:,} labels masked")
    return masks, disagreements[:MAX_DRAWN]


def train_networks(
    labelled: LabelledSet, settings: Settings, runner: StageRunner, peaks: Peaks
) -> tuple[list[TrainedNetwork], list[PeakExample]]:
    """Train the final networks.

    Args:
        labelled: The recordings.
        settings: Settings of the system.
        runner: Runs the stages.
        peaks: Wave peaks by preprocessing, if the networks predict these.

    Returns:
        The networks, and wave peaks that the first of them predicts.
    """
    networks: list[TrainedNetwork] = []
    plans = planned_networks(settings)
    stages = [with_peaks(make_stage(plan, settings, labelled), plan, settings, peaks) for plan in plans]
    outcomes = runner.run_all(stages)
    for plan, stage, outcome in zip(plans, stages, outcomes, strict=True):
        by_leads = zip(plan.lead_sets, outcome.probabilities, strict=True) if plan.lead_sets else [
            (plan.leads, outcome.probabilities)
        ]  # fmt: skip
        networks += [TrainedNetwork(plan.group, stage, leads, outcome.weights, probabilities)
                     for leads, probabilities in by_leads]  # fmt: skip
    examples: list[PeakExample] = []
    if predict_peaks := [(stage, outcome) for stage, outcome in zip(stages, outcomes, strict=True) if stage.peaks]:
        stage, outcome = predict_peaks[0]
        examples = runner.predict_peaks(stage, outcome.weights, stage.validation[:N_PEAK_EXAMPLES])
    return networks, examples


def with_peaks(stage: Stage, plan: NetworkPlan, settings: Settings, peaks: Peaks) -> Stage:
    """Let the stage of a final network predict wave peaks, too, if its system does.

    Args:
        stage: The stage.
        plan: Plan of its network.
        settings: Settings of the system.
        peaks: Wave peaks by preprocessing.
    """
    if not settings.peaks or plan.group == GATE:
        return stage
    stage = replace(stage, peaks=peaks[plan.view.preparation], loss_weights=(1.0, settings.peaks))
    if settings.peak_training is None:
        return stage
    alone = replace(stage, key=plan.peaks_key, title=plan.peaks_title, learning=settings.peak_training,
                    loss_weights=(0.0, 1.0), to_predict=stage.to_predict[:0], metric=None)  # fmt: skip
    return replace(stage, preliminary=alone)


def make_stage(plan: NetworkPlan, settings: Settings, labelled: LabelledSet) -> Stage:
    """Return the stage of a final network.

    The special group is trained on its source alone; the gate is trained to predict whether a recording is of it.
    """
    sources, targets, masks, splits = labelled
    training, validation = splits[plan.fold]
    loss = settings.make_loss(settings.classes, targets[training], masks[training])
    stage = Stage(plan.key, plan.title, plan.leads, loss, np.arange(len(sources)), targets, masks,
                  training, validation, validation, settings.network, settings.training, plan.view,
                  settings.output_activation, lead_configurations(settings, plan.leads),
                  classes=classes_of(settings, plan.group), metric=CHALLENGE if plan.group == GENERAL else AUROC,
                  augmentations=settings.augmentations, lead_sets=plan.lead_sets)  # fmt: skip
    if plan.group == GENERAL or settings.gate is None:
        return stage
    is_of_source = sources == settings.gate.source
    if plan.group == GATE:
        targets = is_of_source[:, np.newaxis].astype(np.float32)
        return replace(stage, loss=LOSSES["cross-entropy"](), targets=targets, masks=np.ones_like(targets),
                       output_activation="sigmoid", network=settings.gate.network)  # fmt: skip
    columns = [settings.classes.index(name) for name in settings.gate.classes]
    targets, masks, training = targets[:, columns], masks[:, columns], training[is_of_source[training]]
    return replace(stage, targets=targets, masks=masks, training=training,
                   validation=validation[is_of_source[validation]],
                   loss=settings.make_loss(settings.gate.classes, targets[training], masks[training]))  # fmt: skip
