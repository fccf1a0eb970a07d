"""From stores to what networks have learnt: the method of a recipe, step by step."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ecg.data.labels import PROXY_SOURCE, add_implied_labels, class_indices, expand, select_labels
from ecg.evaluation.metrics import challenge_score, load_weights, nan_mean, roc_and_pr_areas
from ecg.evaluation.thresholds import HALF, search_thresholds
from ecg.models.decision import Rule
from ecg.models.ensemble import Ensemble, Group, average_rows, choose_group_probabilities
from ecg.systems.label_cleaning import (
    FEWEST,
    MAX_DRAWN,
    Relabelling,
    compare_labels,
    describe_relabelling,
    label_masks,
    source_masks,
)
from ecg.systems.plan import (
    GATE,
    GENERAL,
    classes_of,
    configurations,
    first_round_key,
    first_round_title,
    known_labels,
    leads_title,
    planned_networks,
    scoring_mask,
    split_recordings,
    split_validation,
    stage_keys,
)
from ecg.systems.recipes import HALVES, Settings
from ecg.systems.results import Results
from ecg.systems.stage import Stage, fit_stage, make_member, predict_peaks
from ecg.training.losses import LOSSES

LOGGER = logging.getLogger("ecg")

DRAWN = 4  # recordings of the validation set whose peaks are drawn


@dataclass(frozen=True)
class TrainedSystem:
    """What a training came to: its Results (ecg.systems.results), and the networks that answer.

    networks: by the leads that are used and the group, pairs of a Stage and its weights; seconds: of each stage, by its
    key; settings: those by which it was done, without a gate where there is none.
    """

    results: Results
    networks: dict
    seconds: dict
    settings: Settings

    def ensemble(self, leads):
        """Return the Ensemble (ecg.models.ensemble) for the leads that are used of a lead set, its networks built anew."""
        groups = {}
        for name, pairs in self.networks[leads].items():
            members = tuple(make_member(stage, weights) for stage, weights in pairs)
            groups[name] = Group(classes_of(self.settings, name), members)
        return Ensemble(**groups)


@dataclass(frozen=True)
class ValidationScorer:
    """Judges probabilities of validation recordings by the Challenge metric.

    labels (N, 26) after relabelling, labelled (N, 26) before, sources (N,), columns (K,) of the classes.
    """

    settings: object
    labels: np.ndarray
    labelled: np.ndarray
    sources: np.ndarray
    columns: np.ndarray

    def search(self, validation, probabilities, resamples=0):
        """Return the Search (ecg.evaluation.metrics) on those of validation recordings (n,) that give the score."""
        scored = scoring_mask(self.sources[validation], self.settings)
        halves = self.settings.thresholds == HALVES
        found = search_thresholds(self.labels[validation[scored]], expand(probabilities[scored], self.columns),
                                  load_weights()[1], 0 if halves else resamples, self.settings.seed)  # fmt: skip
        if halves:
            found = replace(found, thresholds=np.full_like(found.thresholds, HALF / 100), score=found.score_at_half)
        return found

    def rule(self, thresholds):
        """Return the Rule by which probabilities become answers."""
        return Rule(thresholds, self.settings.exclusive, self.settings.answer_pairs, self.settings.fallback)

    def score(self, validation, probabilities, thresholds):
        """Return the metric of the answers for those of validation recordings (n,) that give the score."""
        scored = scoring_mask(self.sources[validation], self.settings)
        answers = self.rule(thresholds).decide(probabilities[scored], self.columns)
        return challenge_score(self.labels[validation[scored]], answers, load_weights()[1])

    def scores_on(self, validation):
        """Return a function of probabilities (n, K) of validation recordings (n,) that gives their scores, a dict."""
        scored = scoring_mask(self.sources[validation], self.settings)
        chosen, weights = validation[scored], load_weights()[1]

        def scores(probabilities):
            if self.settings.exclusive:  # no threshold decides
                return {"likeliest": self.score(validation, probabilities, None)}
            found, extra = self.search(validation, probabilities), {}
            if (self.labels != self.labelled).any():
                for name, thresholds in (("at 0.5", HALF / 100), ("optimised", found.by_class)):
                    answers = expand(probabilities[scored], self.columns) >= thresholds
                    extra[f"{name} as labelled"] = challenge_score(self.labelled[chosen], answers, weights)
            return {"score at 0.5": found.score_at_half, "optimised": found.score_by_class} | extra

        return scores


def train_system(stores, peaks, settings, stages, data, budget):
    """Train the networks of a recipe (ecg.systems.recipes) on stores, and return what they come to, as Learnt.

    stores: a Store for each of the recipe's preparations, all of the same recordings; peaks: for each of them the waves
    of the recordings (ecg.data.wave_peaks), where the recipe finds them; stages: the folder in which each stage keeps its result;
    data: the folder of the recordings; budget: an ecg.training.checkpoint.Budget. Raises TrainingError as `fitted` does, and
    RecordError where too few recordings have the classes.
    """
    store, epochs, ends, seconds = stores[settings.views[0].preparation], [], {}, {}

    def outcome_of(stage, score):
        outcome = fit_stage(stage, stores[stage.view.preparation], stages, settings.seed, score, budget,
                         len(to_come) - to_come.index(stage.key))  # fmt: skip
        epochs.extend(outcome.epochs)
        ends[stage.key], seconds[stage.key] = outcome.ended, outcome.seconds
        return outcome

    # Training and validation 4:1 or by folds, scored on Georgia's part of the validation set where that is large.
    splits = split_recordings(known_labels(store, settings), settings)
    training, validation = (np.unique(np.concatenate(parts)) for parts in zip(*splits, strict=True))
    scored = scoring_mask(store.sources[validation], settings)
    settings = drop_untrainable_gate(settings, store.sources, splits)
    to_come = stage_keys(settings)

    # What some sources lump together or omit is told by networks that learn from the others.
    labelled, columns = add_implied_labels(store.labels, settings.implies), class_indices(settings.classes)
    labels, relabellings = apply_rules(labelled, store.sources, settings, outcome_of)
    targets = select_labels(columns, labels, store.unscored).astype(np.float32)
    judge = ValidationScorer(settings, labels, labelled, store.sources, columns)
    LOGGER.info(f"split: {len(splits[0][0]):,} for training, {len(splits[0][1]):,} for validation, "
        f"{f'{len(splits)} times, ' if settings.folds else ''}"
        f"scores on {'all of them' if scored.all() else f'{scored.sum():,} of {PROXY_SOURCE}'}")  # fmt: skip

    # Labels that the source does not give do not count. Those that round 1 is sure are wrong do not count in round 2.
    masks, listed = np.ones_like(targets), []
    if settings.source_masks:
        masks = source_masks(
            targets, store.sources, columns, settings.cleaning.without_skipped(relabellings).partially_labelled
        )
    if settings.cleaning.masks:
        certain, listed = mask_labels(store, targets, masks, splits[0], judge, outcome_of, data)
        masks = masks * certain

    # Round 2: the networks that answer, for the leads of each lead set; then the thresholds that maximise the score.
    networks, answers, drawn = train_networks(stores, peaks, targets, masks, splits, validation, judge, outcome_of)
    searches, validated = find_thresholds(answers, validation, judge)
    results = Results(store, labels, training, validation, scored, epochs, relabellings, masks, listed, searches,
                      validated, ends, settings.classes, judge.rule(None), drawn)  # fmt: skip
    return TrainedSystem(results, networks, seconds, settings)


def drop_untrainable_gate(settings, sources, splits):
    """Return settings without a gate where its source cannot be told from the others, which the log then says."""
    if settings.gate and (lacking := untrainable_gate_reason(settings.gate, sources, splits)):
        LOGGER.info(f"{settings.gate.source} is not told from the others: {lacking}")
        return replace(settings, gate=None)
    return settings


def apply_rules(labels, sources, settings, outcome_of):
    """Return the labels (N, 26) after each rule of ecg.systems.label_cleaning in turn, and a list of the Relabellings."""
    relabellings = []
    for rule in settings.cleaning.rules:
        relabelling, labels = relabel(rule, labels, sources, settings, outcome_of)
        relabellings.append(relabelling)
        LOGGER.info(describe_relabelling(relabelling))
    return labels, relabellings


def mask_labels(store, targets, masks, parts, judge, outcome_of, data):
    """Return masks (N, K), 0 where a network trained by the focal loss is sure of the opposite of a label.

    And the most confident of these disagreements (ecg.commands.review), a list.
    """
    settings, everything = judge.settings, np.arange(len(store))
    key, title = first_round_key(settings), first_round_title(settings)
    stage = Stage(key, title, settings.leads_of(12), LOSSES["focal"](), everything, targets, masks, *parts,
                  everything, settings.network, settings.training, settings.views[0])  # fmt: skip
    said = outcome_of(stage, judge.scores_on(parts[1])).probabilities
    certain, omissions = label_masks(targets, said), settings.cleaning.partially_labelled
    _, _, listed = compare_labels(Path(data), store.paths, judge.labels, expand(said), certain, omissions, MAX_DRAWN)
    LOGGER.info(f"masks: {int((certain == 0).sum()):,} of {certain.size:,} labels masked")
    return certain, listed


def train_networks(stores, peaks, targets, masks, splits, validation, judge, outcome_of):
    """Train the networks that answer. Returns them as Learnt has them, what they answer, and some peaks that one found.

    The answers are by leads and group, too: pairs of rows among the validation recordings (m,), and what is said there.
    """
    networks, answers, drawn, settings = {}, {}, [], judge.settings
    for one in planned_networks(settings):
        stage, score = make_stage(one, settings, judge.sources, targets, masks, splits, judge)
        if settings.peaks and one.group != GATE:
            stage = replace(stage, peaks=peaks[one.view.preparation], loss_weights=(1.0, settings.peaks))
        if one.pretrained:  # which are learnt alone first
            nothing = stage.to_predict[:0]
            alone = replace(stage, key=one.peaks_key, title=one.peaks_title, learning=settings.pretraining,
                            loss_weights=(0.0, 1.0), asked=nothing)  # fmt: skip
            stage = replace(stage, initial_weights=tuple(outcome_of(alone, lambda probabilities: {}).weights))
        outcome = outcome_of(stage, score)
        if stage.peaks is not None and not drawn:
            drawn = predict_peaks(stage, stores[one.view.preparation], outcome.weights, stage.validation[:DRAWN])
        networks.setdefault(one.leads, {}).setdefault(one.group, []).append(
            (replace(stage, initial_weights=()), outcome.weights)
        )
        rows = np.searchsorted(validation, stage.to_predict)
        answers.setdefault(one.leads, {}).setdefault(one.group, []).append((rows, outcome.probabilities))
    return networks, answers, drawn


def find_thresholds(answers, validation, judge):
    """Return by lead set the Search for thresholds, and the probabilities (m, K) of validation recordings (m,).

    answers: those of `round_2`. Where lead sets use the same leads, there is one search for all.
    """
    settings, searches, validated = judge.settings, {}, {}
    for leads, groups in answers.items():
        found = {name: average_rows(len(validation), parts) for name, parts in groups.items()}
        columns = {name: class_indices(classes_of(settings, name)) for name in found}
        probabilities = validated[leads] = choose_group_probabilities(found, columns)
        search = searches[leads] = judge.search(validation, probabilities, settings.resamples)
        by_thresholds = (f"{search.score_at_half:.3f} at 0.5, {search.score_common:.3f} with one threshold, "
                         f"{search.score_by_class:.3f} with one for each class, ")  # fmt: skip
        LOGGER.info(f"{settings.title.format(leads_title(leads))}: score {'' if settings.exclusive else by_thresholds}"
            f"{judge.score(validation, probabilities, search.thresholds):.3f} as answered")  # fmt: skip
    return tuple({count: each[settings.leads_of(count)] for count in settings.lead_sets}
                 for each in (searches, validated))  # fmt: skip


def untrainable_gate_reason(gate, sources, splits):
    """Return why a source cannot be told from the others for want of recordings, empty where it can."""
    for training, validation in splits:
        own, all_own = (sources[part] == gate.source for part in (training, validation))
        if min(own.sum(), (~own).sum()) < FEWEST or not all_own.any():
            return f"{own.sum():,} of {len(own):,} recordings to learn from are of it, {FEWEST} of either are needed"
    return ""


def make_stage(one, settings, sources, targets, masks, splits, judge):
    """Return the Stage of a network (ecg.systems.plan.NetworkPlan), and the function of its probabilities that gives their scores.

    The special group learns from its source alone, and the gate which recordings are of it.
    """
    training, validation = splits[one.fold]
    stage = Stage(one.key, one.title, one.leads, LOSSES[settings.loss](), np.arange(len(sources)), targets, masks,
                  training, validation, validation, settings.network, settings.training, one.view, settings.output_activation,
                  configurations(settings, one.leads))  # fmt: skip
    if one.group == GENERAL:
        return stage, judge.scores_on(validation)
    own = sources == settings.gate.source
    if one.group == GATE:
        told = own[:, np.newaxis].astype(np.float32)
        stage = replace(stage, loss=LOSSES["cross-entropy"](), targets=told, masks=np.ones_like(told), output_activation="sigmoid",
                        network=settings.gate.network)  # fmt: skip
    else:
        places = [settings.classes.index(name) for name in settings.gate.classes]
        stage = replace(stage, targets=targets[:, places], masks=masks[:, places], training=training[own[training]],
                        validation=validation[own[validation]])  # fmt: skip

    def score(probabilities):
        return {"AUROC": nan_mean(roc_and_pr_areas(stage.targets[stage.validation], probabilities)[0])}

    return stage, score


def relabel(rule, labels, sources, settings, outcome_of):
    """Relabel by a rule of ecg.systems.label_cleaning and a network of 12 leads that learns from other sources.

    Returns the Relabelling and the labels (N, 26) after it.
    """
    lessons = rule.training_data(labels, sources, rule.excluded_sources(settings.cleaning))
    judged = lessons.candidates
    if lessons.skip_reason:
        none, nothing = labels[:0], np.empty((0, len(rule.columns)), np.float32)
        return Relabelling(rule.title, judged[:0], rule.columns, nothing, none, none, lessons.skip_reason), labels
    training, validation = split_validation(len(lessons.records), settings, rule.key)

    def score(probabilities):
        return {"AUROC": nan_mean(roc_and_pr_areas(lessons.targets[validation], probabilities)[0])}

    # Averaged over the labels, not their weights: else, where the rarer of two classes weighs more, a batch with few of
    # it would count for as much as one with many, and the rarer class for less than it should.
    loss = LOSSES["cross-entropy"](reduction="sum_over_batch_size")
    stage = Stage(rule.key, rule.title, settings.leads_of(12), loss, lessons.records, lessons.targets, lessons.weights,
                  training, validation, judged, settings.network, settings.training, settings.views[0])  # fmt: skip
    probabilities = rule.probabilities(outcome_of(stage, score).probabilities)
    after = rule.update_labels(labels, sources, probabilities)
    return Relabelling(rule.title, judged, rule.columns, probabilities, labels[judged], after[judged]), after
