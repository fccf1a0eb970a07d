"""Decide how the probabilities of trained networks become predicted classes."""

import logging
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ecg.evaluation.calibration import Calibration, fit_calibration
from ecg.evaluation.metrics import challenge_score
from ecg.evaluation.thresholds import HALF, ThresholdSearch, evolve_thresholds, search_thresholds
from ecg.models.decision import ARGMAX, EXPECTED_CREDIT, HALVES, VOTE, Rule
from ecg.models.ensemble import average_rows, choose_group_probabilities
from ecg.systems.plan import GENERAL, classes_of, leads_key, leads_title, scoring_mask
from ecg.systems.recipes import Settings
from ecg.systems.results import Votes
from ecg.systems.stage import Stage
from ecg.training.trainer import seeds

LOGGER = logging.getLogger("ecg")


class TrainedNetwork(NamedTuple):
    """A final network.

    Attributes:
        group: Its group in an `Ensemble`.
        stage: The stage that trained it.
        leads: Names of the leads that it predicts with. A network that serves several lead sets is there for each.
        weights: Its weights.
        probabilities: Its predictions of the stage's recordings `to_predict`, (n, K).
    """

    group: str
    stage: Stage
    leads: tuple[str, ...]
    weights: list[np.ndarray]
    probabilities: np.ndarray


def group_networks(networks: list[TrainedNetwork], leads: tuple[str, ...]) -> dict[str, list[TrainedNetwork]]:
    """Return the networks that predict with these leads, by the name of their group."""
    groups: dict[str, list[TrainedNetwork]] = {}
    for network in networks:
        if network.leads == leads:
            groups.setdefault(network.group, []).append(network)
    return groups


@dataclass(frozen=True)
class ValidationScorer:
    """Scores predictions of validation recordings by the Challenge metric.

    Its methods take the indices of validation recordings in the store, (m,), and their probabilities, (m, K). Only the
    recordings selected by `scoring_mask` count; s is their number.

    Attributes:
        settings: Settings of the system.
        sources: Source of each recording of the store, (N,).
        labels: Labels after relabelling, (N, C) bool.
        original_labels: Labels of the headers, (N, C) bool.
    """

    settings: Settings
    sources: np.ndarray
    labels: np.ndarray
    original_labels: np.ndarray

    def select(self, validation: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Select the scored recordings: indices (s,) and probabilities (s, C)."""
        scored = scoring_mask(self.sources[validation], self.settings)
        return validation[scored], self.settings.class_table.expand(probabilities[scored], self.settings.columns)

    def search(self, validation: np.ndarray, probabilities: np.ndarray, resamples: int = 0) -> ThresholdSearch:
        """Search thresholds, averaged over resamples."""
        rows, wide = self.select(validation, probabilities)
        halves = self.settings.decision in (HALVES, ARGMAX)
        search = search_thresholds(self.labels[rows], wide, self.settings.weight_array, 0 if halves else resamples,
                                   self.settings.seed, self.settings.class_table.sinus)  # fmt: skip
        if halves:
            return replace(search, thresholds=np.full_like(search.thresholds, HALF / 100), score=search.score_at_half)
        return search

    def evolve(self, validation: np.ndarray, probabilities: np.ndarray, key: str) -> np.ndarray:
        """Search the thresholds (C,) of one network, by evolution seeded by a key."""
        rows, wide = self.select(validation, probabilities)
        seed = int(seeds(self.settings.seed, key, 0, 1)[0])
        sinus = self.settings.class_table.sinus
        return evolve_thresholds(self.labels[rows], wide, self.settings.weight_array, seed, sinus)

    def calibrate(self, validation: np.ndarray, probabilities: np.ndarray) -> Calibration:
        """Fit the calibration of the scored classes to the labels of the headers.

        Future recordings are scored by such labels, which are not relabelled. A probability of 0 is that of a class
        that the networks do not predict, and does not count.
        """
        rows, wide = self.select(validation, probabilities)
        return fit_calibration(self.original_labels[rows], wide, wide > 0)

    def score(
        self, validation: np.ndarray, probabilities: np.ndarray, rule: Rule, members: np.ndarray | None = None
    ) -> float:
        """Return the Challenge metric of the decisions by a rule, see `Rule.decide`."""
        scored = scoring_mask(self.sources[validation], self.settings)
        members = None if members is None else members[:, scored]
        predictions = rule.decide(probabilities[scored], self.settings.columns, members)
        return self._score_predictions(self.labels[validation[scored]], predictions)

    def _score_predictions(self, labels: np.ndarray, predictions: np.ndarray) -> float:
        """Return the metric of predictions, with the weights of the settings."""
        return challenge_score(labels, predictions, self.settings.weight_array, self.settings.class_table.sinus)

    def scores(self, validation: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
        """Return the scores that are logged after an epoch."""
        decision, no_thresholds = self.settings.decision, np.zeros(self.labels.shape[1])
        if decision == ARGMAX:
            return {ARGMAX: self.score(validation, probabilities, self.settings.decision_rule(no_thresholds))}
        search = self.search(validation, probabilities)
        scores = {"score at 0.5": search.score_at_half, "optimised": search.score_by_class}
        if decision == EXPECTED_CREDIT:
            rule = self.settings.decision_rule(no_thresholds, self.calibrate(validation, probabilities))
            scores["expected credit"] = self.score(validation, probabilities, rule)
        if (self.labels != self.original_labels).any():
            rows, wide = self.select(validation, probabilities)
            for name, thresholds in (("at 0.5", HALF / 100), ("optimised", search.by_class)):
                score = self._score_predictions(self.original_labels[rows], wide >= thresholds)
                scores[f"{name} as labelled"] = score
        return scores


class FittedDecision(NamedTuple):
    """How the probabilities of a lead set become predictions.

    Attributes:
        search: Search of the thresholds of the mean probabilities.
        calibration: Calibration of the mean probabilities.
        probabilities: Mean probabilities of all validation recordings, (m, K).
        votes: The networks that vote, if their majority decides.
    """

    search: ThresholdSearch
    calibration: Calibration
    probabilities: np.ndarray
    votes: Votes | None


def fit_decisions(
    networks: list[TrainedNetwork], validation: np.ndarray, settings: Settings, scorer: ValidationScorer
) -> dict[tuple[str, ...], FittedDecision]:
    """Search the thresholds and fit the calibration of each lead set.

    Lead sets that use the same leads share them.

    Args:
        networks: The final networks.
        validation: Indices of all validation recordings in the store, (m,), sorted.
        settings: Settings of the system.
        scorer: Scores the predictions.

    Returns:
        By the leads used of each lead set.
    """
    decisions = {}
    for leads in dict.fromkeys(network.leads for network in networks):
        groups, by_group = group_networks(networks, leads), {}
        for name, group in groups.items():
            parts = [
                (np.searchsorted(validation, network.stage.to_predict), network.probabilities) for network in group
            ]
            by_group[name] = average_rows((len(validation), group[0].probabilities.shape[1]), parts)
        classes = {name: classes_of(settings, name) for name in by_group}
        predicted = choose_group_probabilities(by_group, classes)
        search = scorer.search(validation, predicted, settings.resamples)
        calibration, votes = scorer.calibrate(validation, predicted), None
        if settings.decision == VOTE:
            votes = fit_votes(groups[GENERAL], validation, scorer)
        decisions[leads] = FittedDecision(search, calibration, predicted, votes)
        log_scores(f"{settings.title.format(leads_title(leads))}: score", decisions[leads], validation, scorer)
    return decisions


def fit_votes(networks: list[TrainedNetwork], validation: np.ndarray, scorer: ValidationScorer) -> Votes:
    """Search the thresholds of each network on the recordings that validate it.

    Args:
        networks: M networks for the same leads.
        validation: Indices of all validation recordings in the store, (m,), sorted.
        scorer: Scores the predictions.
    """
    probabilities = np.full((len(networks), len(validation), networks[0].probabilities.shape[1]), np.nan)
    for row, network in zip(probabilities, networks, strict=True):
        row[np.searchsorted(validation, network.stage.to_predict)] = network.probabilities
    thresholds = [
        scorer.evolve(network.stage.to_predict, network.probabilities,
                      f"{network.stage.key}/thresholds/{leads_key(network.leads)}")
        for network in networks
    ]  # fmt: skip
    return Votes(np.array(thresholds), probabilities)


def log_scores(title: str, decision: FittedDecision, validation: np.ndarray, scorer: ValidationScorer) -> None:
    """Log the scores of a lead set.

    Args:
        title: Start of the line.
        decision: How its probabilities become predictions.
        validation: Indices of all validation recordings in the store, (m,), sorted.
        scorer: Scores the predictions.
    """
    search, calibration, probabilities, votes = decision
    thresholds, members = votes or (None, None)
    rule = scorer.settings.decision_rule(search.thresholds, calibration, thresholds)
    by_thresholds = (f"{search.score_at_half:.3f} at 0.5, {search.score_common:.3f} with one threshold, "
                     f"{search.score_by_class:.3f} with one for each class, ")  # fmt: skip
    by_credit = scorer.score(validation, probabilities, replace(rule, decision=EXPECTED_CREDIT))
    LOGGER.info(f"{title} {'' if rule.decision == ARGMAX else by_thresholds}{by_credit:.3f} by expected credit, "
                f"{scorer.score(validation, probabilities, rule, members):.3f} as predicted")  # fmt: skip
