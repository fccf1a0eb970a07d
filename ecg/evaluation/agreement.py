"""Measure the agreement of reviewers, labels and models; sample wrong predictions.

Verdicts are arrays (n_recordings, C) of int8: PRESENT, ABSENT, UNSURE, or UNDECIDED if there is none. Agreement is
Cohen's kappa (Cohen 1960) of the decisions that both raters made, with bootstrap intervals over recordings. Kappa of
all classes together compares disagreements with those by chance within each class. Classes differ in how often they
are present. In one table of all decisions raters would agree by that alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ecg.data.class_tables import ClassTable
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.reviewers import LABELS, MODEL
from ecg.data.reviews import ABSENT, PRESENT, UNDECIDED, UNSURE, Review, encode_reviews
from ecg.evaluation.bootstrap import RESAMPLES, estimate_interval

REVIEWER = "reviewer"
MOST_UNDEFINED = 0.05  # share of the resamples without a kappa; with more there is no interval


class ContestedLabel(NamedTuple):
    """A class of a recording that one reviewer says is present and another is absent.

    Attributes:
        record: Name of the recording.
        abbreviation: Abbreviation of the class.
        verdicts: Verdict of each rater by its number.
        reviews: The reviews that have a comment.
    """

    record: str
    abbreviation: str
    verdicts: tuple[int, ...]
    reviews: tuple[Review, ...]


@dataclass(frozen=True)
class Rater:
    """A reviewer, the labels, or a model.

    Attributes:
        name: Name for tables.
        verdicts: (n_recordings, C) int8.
        kind: REVIEWER, LABELS or MODEL.
    """

    name: str
    verdicts: np.ndarray
    kind: str = REVIEWER


@dataclass(frozen=True)
class PairAgreement:
    """Agreement of two raters.

    Attributes:
        first: Name of the first rater.
        second: Name of the second rater.
        counts: Recordings by class and by verdicts of first and second, ABSENT then PRESENT, (C, 2, 2) int.
        unsure: Recordings by class in which both gave a verdict, and at least one was unsure, (C,) int.
        kappa: Kappa of all classes together with its interval, (3,). Kappa is NaN if it is undefined. The interval is
            NaN if there are not enough decisions.
        kappa_by_class: The same by class, (3, C).
    """

    first: str
    second: str
    counts: np.ndarray
    unsure: np.ndarray
    kappa: np.ndarray
    kappa_by_class: np.ndarray

    @property
    def decisions(self) -> np.ndarray:
        """Number of decisions that both made by class, (C,) int."""
        return self.counts.sum(axis=(1, 2))

    @property
    def n_agreements(self) -> np.ndarray:
        """Number of decisions on which both agree by class, (C,) int."""
        return np.trace(self.counts, axis1=1, axis2=2)


@dataclass(frozen=True)
class AgreementStudy:
    """Agreement of reviewers, labels and models.

    Attributes:
        names: Names of the n reviewed recordings.
        raters: The reviewers, then labels and models if they are compared.
        pairs: Agreement of each pair of raters.
        reviews: The reviews of these recordings.
        classes: The C classes.
    """

    names: tuple[str, ...]
    raters: tuple[Rater, ...]
    pairs: tuple[PairAgreement, ...]
    reviews: tuple[Review, ...]
    classes: ClassTable = CHALLENGE_CLASSES

    @property
    def reviewers(self) -> list[Rater]:
        """The raters that are persons."""
        return [rater for rater in self.raters if rater.kind == REVIEWER]

    @property
    def labels(self) -> Rater | None:
        """The labels, if they are compared."""
        return next((rater for rater in self.raters if rater.kind == LABELS), None)

    @property
    def models(self) -> list[Rater]:
        """The raters that are models."""
        return [rater for rater in self.raters if rater.kind == MODEL]

    def list_contested(self) -> list[ContestedLabel]:
        """List the labels that one reviewer says are present and another are absent."""
        comments: dict[tuple[str, str], list[Review]] = {}
        for review in self.reviews:
            if review.comment:
                comments.setdefault((review.record, review.abbreviation), []).append(review)
        verdicts = np.array([rater.verdicts for rater in self.reviewers])
        is_contested = (verdicts == PRESENT).any(axis=0) & (verdicts == ABSENT).any(axis=0)
        keys = [
            (row, column, self.names[row], self.classes.abbreviations[column])
            for row, column in np.argwhere(is_contested).tolist()
        ]
        return [
            ContestedLabel(record, abbreviation, tuple(int(rater.verdicts[row, column]) for rater in self.raters),
                           tuple(comments.get((record, abbreviation), ())))
            for row, column, record, abbreviation in keys
        ]  # fmt: skip


def encode_verdicts(is_present: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Return labels or predictions as verdicts.

    Args:
        is_present: Whether a class is labelled or predicted, (n_recordings, C) bool.
        is_known: Whether it is known if the class is present, (n_recordings, C) bool; else it is UNDECIDED.

    Returns:
        (n_recordings, C) int8.
    """
    return np.where(is_known, is_present, UNDECIDED).astype(np.int8)


def compute_kappa(counts: np.ndarray) -> np.ndarray:
    """Compute Cohen's kappa of two raters and two categories.

    Args:
        counts: Number of decisions by category of the first and of the second rater, (..., 2, 2).

    Returns:
        Kappa, (...). It is NaN without decisions or if a rater gives only one category, since then it is 0 or undefined
        whatever the other one says.
    """
    observed, expected, is_defined = _count_disagreements(counts)
    return _divide_disagreements(observed, expected, is_defined)


def compute_overall_kappa(counts: np.ndarray) -> np.ndarray:
    """Compute kappa of all classes together.

    It is 1 - sum of the disagreements / sum of the disagreements expected by chance within each class. It is thus the
    mean of the kappas of the classes, weighted by their expected disagreements.

    Args:
        counts: Number of decisions by class and by category of both raters, (..., n_classes, 2, 2).

    Returns:
        Kappa, (...). It is NaN if that of each class is.
    """
    observed, expected, is_defined = _count_disagreements(counts)
    return _divide_disagreements(observed.sum(axis=-1), expected.sum(axis=-1), np.asarray(is_defined.any(axis=-1)))


def _count_disagreements(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count disagreements, and those expected by chance.

    Args:
        counts: (..., 2, 2), see `compute_kappa`.

    Returns:
        Both numbers, (...), and whether both raters give both categories, (...) bool.
    """
    counts = np.asarray(counts, np.float64)
    first, second, n_decisions = counts.sum(axis=-1), counts.sum(axis=-2), counts.sum(axis=(-2, -1))
    is_defined = (first > 0).all(axis=-1) & (second > 0).all(axis=-1)
    expected = first * second[..., ::-1] / np.maximum(n_decisions, 1)[..., np.newaxis]
    return counts[..., 0, 1] + counts[..., 1, 0], expected.sum(axis=-1), is_defined


def _divide_disagreements(observed: np.ndarray, expected: np.ndarray, is_defined: np.ndarray) -> np.ndarray:
    """Return 1 - observed / expected disagreements where kappa is defined, else NaN."""
    return np.where(is_defined, 1 - observed / np.where(is_defined, expected, 1), np.nan)


def estimate_kappa(samples: np.ndarray) -> np.ndarray:
    """Return kappa with its interval.

    Resamples without a kappa cannot be ignored if there are many: the others are then no sample of what could have
    been observed. There is no interval if they are more than MOST_UNDEFINED.

    Args:
        samples: First kappa, then that of R resamples, (..., 1 + R).

    Returns:
        (3, ...). The interval is NaN if there are not enough decisions.
    """
    estimate = estimate_interval(samples)
    is_rare = np.isnan(samples[..., 1:]).mean(axis=-1) > MOST_UNDEFINED
    estimate[1:, is_rare] = np.nan
    return estimate


def measure_agreement(raters: Sequence[Rater], resamples: int = RESAMPLES, seed: int = 0) -> list[PairAgreement]:
    """Measure the agreement of each pair of raters.

    Args:
        raters: Raters of the same recordings.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.

    Returns:
        The pairs in the order of the raters.
    """
    return [measure_pair(first, second, resamples, seed) for first, second in combinations(raters, 2)]


def measure_pair(first: Rater, second: Rater, resamples: int = RESAMPLES, seed: int = 0) -> PairAgreement:
    """Measure the agreement of two raters; see `measure_agreement`."""
    both = (first.verdicts != UNDECIDED) & (second.verdicts != UNDECIDED)
    unsure = both & ((first.verdicts == UNSURE) | (second.verdicts == UNSURE))
    decided = both & ~unsure
    cells = np.where(decided, 1 + 2 * (first.verdicts == PRESENT) + (second.verdicts == PRESENT), 0).astype(np.uint8)
    counts = resample_cells(cells[decided.any(axis=1)], resamples, seed)
    by_class, overall = compute_kappa(counts), compute_overall_kappa(counts)
    return PairAgreement(first.name, second.name, counts[0].astype(int), unsure.sum(axis=0), estimate_kappa(overall),
                         estimate_kappa(by_class.T))  # fmt: skip


def resample_cells(cells: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Count the decisions of two raters in bootstrap resamples of the recordings.

    Recordings with the same decisions are drawn together, by a multinomial distribution. This equals drawing
    recordings, and costs less.

    Args:
        cells: 0 without a decision of both, else 1 + 2 x first + second, (n_recordings, C).
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.

    Returns:
        Counts by class, first and second, (1 + resamples, C, 2, 2) float64; first those of the recordings as they are.
    """
    patterns, numbers = np.unique(cells, axis=0, return_counts=True)
    weights = np.zeros((1 + resamples, len(patterns)))
    if len(cells):
        weights[0] = numbers
        weights[1:] = np.random.default_rng(seed).multinomial(len(cells), numbers / len(cells), resamples)
    indicators = patterns[..., np.newaxis] == np.arange(1, 5)
    counts = weights @ indicators.reshape(len(patterns), 4 * cells.shape[1]).astype(np.float64)
    return counts.reshape(len(weights), cells.shape[1], 2, 2)


def build_study(
    reviews: Sequence[Review],
    names: Sequence[str] | None = None,
    labels: np.ndarray | None = None,
    predictions: Mapping[str, np.ndarray] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    classes: ClassTable = CHALLENGE_CLASSES,
) -> AgreementStudy:
    """Compare reviewers with each other, with the labels and with models.

    Labels and models are compared on the classes of recordings that at least one reviewer has reviewed.

    Args:
        reviews: What `read_reviews` returns.
        names: Names of N recordings; reviews of others are ignored. None: those of all reviewed recordings.
        labels: Labels of the headers as verdicts, (N, C) int8; None: they are not compared.
        predictions: Predicted classes of each model by its name, as verdicts, (N, C) int8; None: there is no model.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.
        classes: The C classes.
    """
    all_names = list(dict.fromkeys(review.record for review in reviews)) if names is None else list(names)
    is_reviewed = np.isin(all_names, list({review.record for review in reviews}))
    rows = np.flatnonzero(is_reviewed) if all_names else np.empty(0, int)
    chosen = [all_names[row] for row in rows.tolist()]
    raters = [Rater(name, verdicts) for name, verdicts in encode_reviews(reviews, chosen, classes).items()]
    shape = len(chosen), len(classes)
    is_undecided = np.all([np.ones(shape, bool), *(rater.verdicts == UNDECIDED for rater in raters)], axis=0)
    compared = [] if labels is None else [Rater(LABELS, labels, LABELS)]
    compared += [Rater(name, verdicts, MODEL) for name, verdicts in (predictions or {}).items()]
    raters += [replace(rater, verdicts=encode_verdicts(rater.verdicts[rows], ~is_undecided)) for rater in compared]
    known = set(chosen)
    return AgreementStudy(
        tuple(chosen), tuple(raters), tuple(measure_agreement(raters, resamples, seed)),
        tuple(review for review in reviews if review.record in known), classes,
    )  # fmt: skip


def sample_errors(
    labels: np.ndarray, outputs: np.ndarray, class_index: int, n_positive: int, n_negative: int, seed: int
) -> np.ndarray:
    """Draw false positives and false negatives of a class at random, in random order.

    The order does not tell which is which.

    Args:
        labels: Labelled classes, (n_recordings, C) bool.
        outputs: Classes that a model predicts, (n_recordings, C) bool.
        class_index: Index of the class.
        n_positive: Number of false positives; all, if there are fewer.
        n_negative: Number of false negatives; all, if there are fewer.
        seed: Seed of the choice and the order.

    Returns:
        Indices of the recordings, (n,).
    """
    generator = np.random.default_rng(seed)
    labelled, predicted = labels[:, class_index].astype(bool), outputs[:, class_index].astype(bool)
    drawn = [
        generator.permutation(np.flatnonzero(errors))[:count]
        for errors, count in ((predicted & ~labelled, n_positive), (labelled & ~predicted, n_negative))
    ]
    return generator.permutation(np.concatenate(drawn))
