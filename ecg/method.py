"""From stores to what networks have learnt: the method of a recipe, step by step."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ecg.cleaning import FEWEST, Relabelling, label_masks, source_masks
from ecg.ensemble import SURE, Ensemble, Group, among
from ecg.fitting import Stage, fitted, member_of, peaks_found
from ecg.labels import PROXY_SOURCE, class_columns, expand, implied
from ecg.losses import LOSSES
from ecg.plan import (
    GATE,
    GENERAL,
    SPECIAL,
    configurations,
    first_round,
    leads_title,
    parted,
    planned,
    scored_part,
    split,
    titles_of,
)
from ecg.recipes import HALVES, Settings
from ecg.report import Results, relabelling_line
from ecg.review import PICTURES, compare_labels
from ecg.rules import Rule
from ecg.scoring import (
    HALF,
    challenge_score,
    load_weights,
    mean_of_known,
    roc_and_pr_areas,
    search_thresholds,
)

DRAWN = 4  # recordings of the validation set whose peaks are drawn


@dataclass(frozen=True)
class Learnt:
    """What a training came to: its Results (ecg.tables), and the networks that answer.

    networks: by the leads that are used and the group, pairs of a Stage and its weights; classes: by the group;
    seconds: of each stage, by its title; settings: those by which it was done, without a gate where there is none.
    """

    results: Results
    networks: dict
    classes: dict
    seconds: dict
    settings: Settings

    def ensemble(self, leads):
        """Return the Ensemble (ecg.ensemble) for the leads that are used of a lead set, its networks built anew."""
        groups = {}
        for name, pairs in self.networks[leads].items():
            groups[name] = Group(self.classes[name], tuple(member_of(stage, weights) for stage, weights in pairs))
        return Ensemble(**groups)


@dataclass(frozen=True)
class Judge:
    """Judges probabilities of validation recordings by the Challenge metric.

    labels (N, 26) after relabelling, labelled (N, 26) before, sources (N,), columns (K,) of the classes.
    """

    settings: object
    labels: np.ndarray
    labelled: np.ndarray
    sources: np.ndarray
    columns: np.ndarray

    def search(self, validation, probabilities, resamples=0):
        """Return the Search (ecg.scoring) on those of validation recordings (n,) that give the score."""
        scored = scored_part(self.sources[validation], self.settings)
        found = search_thresholds(self.labels[validation[scored]], expand(probabilities[scored], self.columns),
                                  load_weights()[1], resamples, self.settings.seed)  # fmt: skip
        if self.settings.thresholds == HALVES:
            found = replace(found, thresholds=np.full_like(found.thresholds, HALF / 100), score=found.score_at_half)
        return found

    def rule(self, thresholds):
        """Return the Rule by which probabilities become answers."""
        return Rule(thresholds, self.settings.exclusive, self.settings.answer_pairs, self.settings.empty)

    def scores_on(self, validation):
        """Return a function of probabilities (n, K) of validation recordings (n,) that gives their scores, a dict."""
        scored = scored_part(self.sources[validation], self.settings)
        chosen, weights = validation[scored], load_weights()[1]

        def scores(probabilities):
            if self.settings.exclusive:  # no threshold decides
                answers = self.rule(None).answers(probabilities[scored], self.columns)
                return {"likeliest": challenge_score(self.labels[chosen], answers, weights)}
            found, extra = self.search(validation, probabilities), {}
            if (self.labels != self.labelled).any():
                for name, thresholds in (("at 0.5", HALF / 100), ("optimised", found.by_class)):
                    answers = expand(probabilities[scored], self.columns) >= thresholds
                    extra[f"{name} as labelled"] = challenge_score(self.labelled[chosen], answers, weights)
            return {"score at 0.5": found.score_at_half, "optimised": found.score_by_class} | extra

        return scores


def learn(stores, peaks, settings, stages, data, log, budget):
    """Train the networks of a recipe (ecg.recipes) on stores, and return what they come to, as Learnt.

    stores: a Store for each of the recipe's preparations, all of the same recordings; peaks: for each of them the waves
    of the recordings (ecg.peaks), where the recipe finds them; stages: the folder in which each stage keeps its result;
    data: the folder of the recordings; budget: an ecg.budget.Budget. Raises TrainingError as `fitted` does, and
    RecordError where too few recordings have the classes.
    """
    store, epochs, ends, seconds = stores[settings.views[0].preparation], [], {}, {}

    def outcome_of(stage, score):
        outcome = fitted(stage, stores[stage.view.preparation], stages, settings.seed, score, log, budget,
                         len(to_come) - to_come.index(stage.title))  # fmt: skip
        epochs.extend(outcome.epochs)
        ends[stage.title], seconds[stage.title] = outcome.ended, outcome.seconds
        return outcome

    # Training and validation 4:1 or by folds, scored on Georgia's part of the validation set where that is large.
    labelled, columns = implied(store.labels, settings.implies), class_columns(settings.classes)
    splits = parted(np.hstack([labelled, store.beside])[:, columns], settings)
    validation = np.sort(np.concatenate([part for _, part in splits]))
    scored = scored_part(store.sources[validation], settings)
    if settings.gate and (lacking := no_gate(settings.gate, store.sources, splits)):
        log(f"{settings.gate.source} is not told from the others: {lacking}")
        settings = replace(settings, gate=None)
    to_come = titles_of(settings)

    # What some sources lump together or omit is told by networks that learn from the others.
    labels, relabellings = labelled, []
    for rule in settings.cleaning.rules:
        relabelling, labels = relabel(rule, labels, store.sources, settings, outcome_of)
        relabellings.append(relabelling)
        log(relabelling_line(relabelling))
    targets = np.hstack([labels, store.beside])[:, columns].astype(np.float32)
    judge = Judge(settings, labels, labelled, store.sources, columns)
    log(f"split: {len(splits[0][0]):,} for training, {len(splits[0][1]):,} for validation, "
        f"{f'{len(splits)} times, ' if settings.folds else ''}"
        f"scores on {'all of them' if scored.all() else f'{scored.sum():,} of {PROXY_SOURCE}'}")  # fmt: skip

    # Round 1: all labels count, focal loss. Those that it is sure are wrong no longer count in round 2.
    everything, masks, listed = np.arange(len(store)), np.ones_like(targets), []
    if settings.source_masks:
        done = settings.cleaning.as_done(relabellings)
        masks = source_masks(targets, store.sources, columns, done.omissions)
    if settings.cleaning.masks:
        stage = Stage(first_round(settings), settings.leads_of(12), LOSSES["focal"](), everything, targets, masks,
                      *splits[0], everything, settings.network, settings.training, settings.views[0])  # fmt: skip
        first = outcome_of(stage, judge.scores_on(splits[0][1])).probabilities
        certain = label_masks(targets, first)
        omissions = settings.cleaning.omissions
        _, _, listed = compare_labels(Path(data), store.paths, labels, expand(first), certain, omissions, PICTURES)
        log(f"masks: {int((certain == 0).sum()):,} of {certain.size:,} labels masked")
        masks = masks * certain

    # Round 2: the networks that answer, for the leads of each lead set, with masked labels.
    networks, answers, drawn = {}, {}, []
    for one in planned(settings):
        stage, score = staged(one, settings, store.sources, targets, masks, splits, judge)
        if settings.peaks and one.group != GATE:
            stage = replace(stage, peaks=peaks[one.view.preparation], shares=(1.0, settings.peaks))
        if one.peaks:
            nothing = stage.asked[:0]
            alone = replace(stage, title=one.peaks, learning=settings.pretraining, shares=(0.0, 1.0), asked=nothing)
            stage = replace(stage, first=tuple(outcome_of(alone, lambda probabilities: {}).weights))
        outcome = outcome_of(stage, score)
        if stage.peaks is not None and not drawn:
            drawn = peaks_found(stage, stores[one.view.preparation], outcome.weights, stage.validation[:DRAWN])
        networks.setdefault(one.leads, {}).setdefault(one.group, []).append((replace(stage, first=()), outcome.weights))
        rows = np.searchsorted(validation, splits[one.fold][1])
        answers.setdefault(one.leads, {}).setdefault(one.group, []).append((rows, outcome.probabilities))

    # What they answer together, and the thresholds that maximise the score.
    classes = {GENERAL: settings.classes, SPECIAL: settings.gate.classes if settings.gate else (), GATE: ()}
    searches, validated = {}, {}
    for leads, groups in answers.items():
        found = {name: assembled(len(validation), parts) for name, parts in groups.items()}
        probabilities = found[GENERAL]
        if GATE in found:
            special = among(found[SPECIAL], class_columns(classes[SPECIAL]), columns)
            probabilities = np.where(found[GATE] > SURE, special, probabilities)
        search = judge.search(validation, probabilities, settings.resamples)
        for count in settings.lead_sets:
            if settings.leads_of(count) == leads:
                searches[count], validated[count] = search, probabilities
        answered = judge.rule(search.thresholds).answers(probabilities[scored], columns)
        answered = challenge_score(labels[validation[scored]], answered, load_weights()[1])
        by_thresholds = (f"{search.score_at_half:.3f} at 0.5, {search.score_common:.3f} with one threshold, "
                         f"{search.score_by_class:.3f} with one for each class, ")  # fmt: skip
        log(f"{settings.title.format(leads_title(leads))}: score {'' if settings.exclusive else by_thresholds}"
            f"{answered:.3f} as answered")  # fmt: skip

    training = np.unique(np.concatenate([part for part, _ in splits]))
    searches, validated = ({count: each[count] for count in settings.lead_sets} for each in (searches, validated))
    results = Results(store, labels, training, validation, scored, epochs, relabellings, masks, listed, searches,
                      validated, ends, settings.classes, judge.rule(None), drawn)  # fmt: skip
    return Learnt(results, networks, classes, seconds, settings)


def no_gate(gate, sources, splits):
    """Return why a source cannot be told from the others for want of recordings, empty where it can."""
    for training, validation in splits:
        own, all_own = (sources[part] == gate.source for part in (training, validation))
        if min(own.sum(), (~own).sum()) < FEWEST or not all_own.any():
            return f"{own.sum():,} of {len(own):,} recordings to learn from are of it, {FEWEST} of either are needed"
    return ""


def staged(one, settings, sources, targets, masks, splits, judge):
    """Return the Stage of a network (ecg.plan.Planned), and the function of its probabilities that gives their scores.

    The special group learns from its source alone, and the gate which recordings are of it.
    """
    training, validation = splits[one.fold]
    stage = Stage(one.title, one.leads, LOSSES[settings.loss](), np.arange(len(sources)), targets, masks, training,
                  validation, validation, settings.network, settings.training, one.view, settings.answer,
                  configurations(settings, one.leads))  # fmt: skip
    if one.group == GENERAL:
        return stage, judge.scores_on(validation)
    own = sources == settings.gate.source
    if one.group == GATE:
        told = own[:, np.newaxis].astype(np.float32)
        stage = replace(stage, loss=LOSSES["cross-entropy"](), targets=told, masks=np.ones_like(told), answer="sigmoid",
                        network=settings.gate.network)  # fmt: skip
    else:
        places = [settings.classes.index(name) for name in settings.gate.classes]
        stage = replace(stage, targets=targets[:, places], masks=masks[:, places], training=training[own[training]],
                        validation=validation[own[validation]])  # fmt: skip

    def score(probabilities):
        return {"AUROC": mean_of_known(roc_and_pr_areas(stage.targets[stage.validation], probabilities)[0])}

    return stage, score


def assembled(count, parts):
    """Return probabilities (count, K) of parts, pairs of rows (n,) and their probabilities (n, K): the mean by row."""
    total, seen = np.zeros((count, parts[0][1].shape[1]), np.float32), np.zeros((count, 1), np.float32)
    for rows, probabilities in parts:
        total[rows] += probabilities
        seen[rows] += 1
    return total / np.maximum(seen, 1)


def relabel(rule, labels, sources, settings, outcome_of):
    """Relabel by a rule of ecg.cleaning and a network of 12 leads that learns from other sources.

    Returns the Relabelling and the labels (N, 26) after it.
    """
    lessons = rule.lessons(labels, sources, rule.misleading(settings.cleaning))
    judged = lessons.judged
    if lessons.lacking:
        none, nothing = labels[:0], np.empty((0, len(rule.columns)), np.float32)
        return Relabelling(rule.title, judged[:0], rule.columns, nothing, none, none, lessons.lacking), labels
    training, validation = split(len(lessons.records), settings, rule.title)

    def score(probabilities):
        return {"AUROC": mean_of_known(roc_and_pr_areas(lessons.targets[validation], probabilities)[0])}

    # Averaged over the labels, not their weights: else, where the rarer of two classes weighs more, a batch with few of
    # it would count for as much as one with many, and the rarer class for less than it should.
    loss = LOSSES["cross-entropy"](reduction="sum_over_batch_size")
    stage = Stage(rule.title, settings.leads_of(12), loss, lessons.records, lessons.targets, lessons.weights, training,
                  validation, judged, settings.network, settings.training, settings.views[0])  # fmt: skip
    probabilities = rule.probabilities(outcome_of(stage, score).probabilities)
    after = rule.relabelled(labels, sources, probabilities)
    return Relabelling(rule.title, judged, rule.columns, probabilities, labels[judged], after[judged]), after
