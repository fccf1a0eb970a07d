"""The result of a training, and its predictions for the scored recordings."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ecg.data.class_tables import ClassTable
from ecg.data.labels import select_labels
from ecg.data.store import Store
from ecg.evaluation.calibration import Calibration
from ecg.evaluation.thresholds import HALF, ThresholdSearch
from ecg.models.decision import ARGMAX, EXPECTED_CREDIT, THRESHOLDS, Rule
from ecg.runtime.limits import TIME_LIMIT_REACHED
from ecg.systems.label_cleaning import Relabelling
from ecg.systems.label_comparison import Disagreement

if TYPE_CHECKING:  # these import Keras, which is not needed to draw a report
    from ecg.systems.recipes import Settings
    from ecg.systems.stage_runner import PeakExample
    from ecg.training.checkpoint import Epoch

CLEANED, CORRECTED, ORIGINAL = "cleaned", "corrected", "original"  # versions of the labels
# Decisions that the report compares.
BY_THRESHOLDS, BY_CREDIT, AT_HALF, AS_PREDICTED = "thresholds", "expected credit", "0.5 for all classes", "as predicted"


class Votes(NamedTuple):
    """Networks whose majority decides.

    Attributes:
        thresholds: Thresholds of each of M networks, (M, S).
        probabilities: Probabilities of the validation recordings, (M, m, K). NaN if the network was trained on the
            recording.
    """

    thresholds: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Results:
    """The result of a training.

    The store has N recordings: n for training and m for validation. Of the latter, s give the score. S is the number of
    scored classes, C that of the classes in the report, K that of the trained classes.

    Attributes:
        store: The store of the recordings.
        labels: Labels after relabelling, (N, S) bool.
        training: Indices of the training recordings in the store, (n,).
        validation: Indices of the validation recordings in the store, (m,).
        scored: Whether a validation recording gives the score, (m,) bool.
        epochs: Epochs of all stages in order.
        relabellings: What each relabelling rule did.
        masks: Weights of the labels in the loss, (N, K); 0 if masked.
        disagreements: The most confident of the masked labels.
        searches: Threshold search of each lead set, by its number of leads.
        calibrations: Calibration of the scored classes, by the number of leads.
        validated: Probabilities of the validation recordings, (m, K), by the number of leads.
        settings: Settings of the training.
        ends: Why each stage ended, by its key.
        peaks: Predicted wave peaks of a few recordings.
        votes: The networks that vote, by the number of leads, if their majority decides.
    """

    store: Store
    labels: np.ndarray
    training: np.ndarray
    validation: np.ndarray
    scored: np.ndarray
    epochs: "list[Epoch]"
    relabellings: list[Relabelling]
    masks: np.ndarray
    disagreements: list[Disagreement]
    searches: dict[int, ThresholdSearch]
    calibrations: dict[int, Calibration]
    validated: dict[int, np.ndarray]
    settings: "Settings"
    ends: dict[str, str] = field(default_factory=dict)
    peaks: "list[PeakExample]" = field(default_factory=list)
    votes: dict[int, Votes] = field(default_factory=dict)

    @property
    def scored_rows(self) -> np.ndarray:
        """Indices in the store of the recordings that give the score, (s,)."""
        return self.validation[self.scored]

    @property
    def scored_labels(self) -> np.ndarray:
        """Labels of the recordings that give the score, after relabelling, (s, S) bool."""
        return self.labels[self.scored_rows]

    @property
    def classes(self) -> ClassTable:
        """All classes, trained or not."""
        return self.settings.class_table

    @property
    def columns(self) -> np.ndarray:
        """Columns of the trained classes (`ClassTable.indices`), (K,)."""
        return self.settings.columns

    @property
    def reported_columns(self) -> np.ndarray:
        """Columns of the classes in the report, (C,).

        These are all scored classes, and the trained additional ones.
        """
        return np.union1d(np.arange(len(self.classes)), self.columns)

    @property
    def is_trained(self) -> np.ndarray:
        """Whether a class of the report is trained, (C,) bool."""
        return np.isin(self.reported_columns, self.columns)

    @property
    def names(self) -> list[str]:
        """Abbreviations of the classes in the report."""
        return [self.classes.all_abbreviations[column] for column in self.reported_columns]

    @property
    def label_versions(self) -> dict[str, np.ndarray]:
        """Labels (s, C) of the scored recordings: relabelled, corrected, of the headers."""
        versions = {CLEANED: self.labels, ORIGINAL: self.store.labels}
        if self.store.reviewed:
            versions = {CLEANED: self.labels, CORRECTED: self.store.labels, ORIGINAL: self.store.reviewed.labels}
        columns, additional, rows = self.reported_columns, self.store.additional, self.scored_rows
        return {name: select_labels(columns, labels, additional)[rows] for name, labels in versions.items()}

    @property
    def relabelled(self) -> bool:
        """Whether relabelling changed any label."""
        return bool((self.labels != self.store.labels).any())

    @property
    def shown_versions(self) -> list[str]:
        """Versions of the labels to show, without one that equals the one before."""
        is_corrected = self.store.reviewed is not None
        shown = {CLEANED: True, CORRECTED: is_corrected and self.relabelled, ORIGINAL: is_corrected or self.relabelled}
        return [version for version, is_shown in shown.items() if is_shown]

    @property
    def scored_sources(self) -> list[str]:
        """Sources of the recordings that give the score."""
        return np.unique(self.store.sources[self.scored_rows]).tolist()

    @property
    def limitations(self) -> list[str]:
        """What the training lacks: classes without a recording, and interrupted stages."""
        titles = {epoch.key: epoch.title for epoch in self.epochs}
        labels = select_labels(self.columns, self.labels, self.store.additional)[self.training]
        unlabelled = [name for name, known in zip(self.settings.classes, labels.any(axis=0), strict=True) if not known]
        ended = [titles[key] for key, reason in self.ends.items() if reason == TIME_LIMIT_REACHED and key in titles]
        lines = [f"no recording to train on has {', '.join(unlabelled)}"] if unlabelled else []
        if ended:
            lines.append(f"the time limit ended {len(ended):,} of {len(self.ends):,} trainings: {', '.join(ended)}")
        return lines

    def probabilities(self, leads: int) -> np.ndarray:
        """Return the probabilities (s, C), by number of leads."""
        return self.classes.scatter(self.validated[leads][self.scored], self.columns)[:, self.reported_columns]

    def rule(self, leads: int) -> Rule:
        """Return the decision rule, by number of leads."""
        members = self.votes[leads].thresholds if leads in self.votes else None
        return self.settings.decision_rule(self.searches[leads].thresholds, self.calibrations[leads], members)

    def predictions(self, leads: int) -> np.ndarray:
        """Return the predicted scored classes, (s, S) bool, by number of leads."""
        members = self.votes[leads].probabilities[:, self.scored] if leads in self.votes else None
        return self.rule(leads).decide(self.validated[leads][self.scored], self.columns, members)

    def predictions_by_decision(self, leads: int) -> dict[str, np.ndarray]:
        """Return the predicted scored classes by several decisions, (s, S) bool each.

        Thresholds are those of the model, or those before averaging if no thresholds were searched for the model. Pairs
        and fallback of the system apply to expected credit, and to its own rule.
        """
        probabilities, search, rule = (
            self.probabilities(leads)[:, : len(self.classes)],
            self.searches[leads],
            self.rule(leads),
        )
        searched = rule.decision in (THRESHOLDS, EXPECTED_CREDIT)
        by_credit = replace(rule, decision=EXPECTED_CREDIT)
        return {
            BY_THRESHOLDS: probabilities >= (search.thresholds if searched else search.by_class),
            BY_CREDIT: by_credit.decide(self.validated[leads][self.scored], self.columns),
            AT_HALF: probabilities >= HALF / 100,
            AS_PREDICTED: self.predictions(leads),
        }

    def calibrated_labels(self, leads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all labels that the calibration was fitted on, one after the other.

        Returns:
            Labels (n,) bool, and their probabilities before and after calibration, (n,) each.
        """
        probabilities = self.probabilities(leads)[:, : len(self.classes)]
        known = probabilities > 0
        calibrated = self.rule(leads).calibrate(probabilities)
        return self.store.labels[self.scored_rows][known], probabilities[known], calibrated[known]

    def all_predictions(self, leads: int) -> np.ndarray:
        """Return the predicted classes of the report, (s, C) bool.

        An additional class is predicted if argmax decides and it is the most probable one.
        """
        additional = self.reported_columns[len(self.classes) :]
        most_probable = np.arange(len(self.columns)) == self.most_probable(leads)[:, np.newaxis]
        most_probable = self.classes.scatter(most_probable, self.columns)[:, additional]
        return np.hstack([self.predictions(leads), most_probable & (self.settings.decision == ARGMAX)])

    def most_probable(self, leads: int) -> np.ndarray:
        """Return the index among the trained classes of the most probable one, (s,)."""
        return self.validated[leads][self.scored].argmax(axis=1)

    def confusion_matrix(self, leads: int) -> np.ndarray:
        """Count recordings by labelled class (row) and most probable class (column).

        Args:
            leads: Number of leads of the networks. Their classes exclude each other.

        Returns:
            Counts, (K, K) int.
        """
        labels = select_labels(self.columns, self.labels, self.store.additional)[self.scored_rows]
        counts = np.zeros((len(self.columns),) * 2, int)
        np.add.at(counts, (labels.argmax(axis=1), self.most_probable(leads)), labels.any(axis=1))
        return counts
