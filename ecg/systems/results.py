"""What a training came to, and what its networks answer for the recordings that give the score."""

from dataclasses import dataclass, field, replace

import numpy as np

from ecg.data.labels import (
    SCORED,
    TRAINED_CLASSES,
    UNSCORED_CLASSES,
    class_indices,
    scatter_to_all_classes,
    select_labels,
)
from ecg.data.store import Store
from ecg.models.decision import Rule

CLEANED, ORIGINAL = "cleaned", "original"


@dataclass(frozen=True)
class Results:
    """What a training came to: N recordings in the store, m of them for validation.

    labels (N, 26) bool after relabelling, training (n,), validation (m,) places in the store, scored (m,) bool where a
    validation recording gives the score, epochs of all stages in order (ecg.training.trainer.Epoch), what came of relabelling
    (ecg.systems.label_cleaning.Relabelling), masks (N, K), 0 where masked, the most confident of the disagreements that are masked
    (ecg.systems.label_cleaning.Disagreement), by the number of leads the thresholds found (ecg.evaluation.thresholds.ThresholdSearch) and the probabilities of
    the validation set (m, K), by the stage what ended its epochs, a text, the K classes that are trained, and how they
    are answered, but for the thresholds, and the peaks found in some recordings (ecg.systems.stage.PeakExample).
    """

    store: Store
    labels: np.ndarray
    training: np.ndarray
    validation: np.ndarray
    scored: np.ndarray
    epochs: list
    relabellings: list
    masks: np.ndarray
    disagreements: list
    searches: dict
    validated: dict
    ends: dict = field(default_factory=dict)
    classes: tuple[str, ...] = TRAINED_CLASSES
    answering: Rule = Rule(None)  # noqa: RUF009 - it does not change
    peaks: list = field(default_factory=list)

    @property
    def scored_labels(self):
        """Labels of the validation recordings that give the score, after relabelling: (s, 26) bool."""
        return self.labels[self.validation[self.scored]]

    @property
    def listed(self):
        """The classes that tables list: all scored ones, and those beside them that are trained; (C,) columns."""
        return np.union1d(np.arange(len(SCORED)), self.columns)

    @property
    def names(self):
        """The abbreviations of these classes: a list."""
        return [(*SCORED, *UNSCORED_CLASSES)[column].abbreviation for column in self.listed]

    @property
    def label_versions(self):
        """Labels of the recordings that give the score (s, C), by what they are called in tables.

        Those after relabelling, and those of the headers.
        """
        rows = self.validation[self.scored]
        kinds = {CLEANED: self.labels, ORIGINAL: self.store.labels}
        return {name: select_labels(self.listed, labels, self.store.unscored)[rows] for name, labels in kinds.items()}

    @property
    def relabelled(self):
        """Whether relabelling changed any label."""
        return bool((self.labels != self.store.labels).any())

    @property
    def scored_on(self):
        """Names of the sources of these recordings."""
        return np.unique(self.store.sources[self.validation[self.scored]]).tolist()

    def probabilities(self, leads):
        """Return the probabilities of these recordings by the network of a number of leads: (s, C)."""
        return scatter_to_all_classes(self.validated[leads][self.scored], self.columns)[:, self.listed]

    def rule(self, leads):
        """Return how that network's probabilities become answers: a Rule (ecg.models.decision)."""
        return replace(self.answering, thresholds=self.searches[leads].thresholds)

    def answers(self, leads):
        """Return what that network answers with its thresholds: (s, 26) bool."""
        return self.rule(leads).decide(self.validated[leads][self.scored], self.columns)

    def all_predictions(self, leads):
        """Return the same with the classes beside, one of which may be the likeliest where they exclude each other.

        (s, C) bool.
        """
        answers, beside = self.answers(leads), self.listed[len(SCORED) :]
        likeliest = np.arange(len(self.columns)) == self.most_probable(leads)[:, np.newaxis]
        return np.hstack(
            [answers, scatter_to_all_classes(likeliest, self.columns)[:, beside] & self.answering.exclusive]
        )

    def most_probable(self, leads):
        """Return the place of the likeliest of the trained classes in each of these recordings: (s,)."""
        return self.validated[leads][self.scored].argmax(axis=1)

    @property
    def columns(self):
        """The columns of the classes that are trained (ecg.data.labels.class_indices): (K,)."""
        return class_indices(self.classes)

    def confusion_matrix(self, leads):
        """Return in how many of these recordings a class is labelled, by row, and another is the likeliest, by column.

        (K, K) int, of classes that exclude each other.
        """
        labels = select_labels(self.columns, self.labels, self.store.unscored)[self.validation[self.scored]]
        counts = np.zeros((len(self.columns),) * 2, int)
        np.add.at(counts, (labels.argmax(axis=1), self.most_probable(leads)), labels.any(axis=1))
        return counts

    @property
    def trained(self):
        """Which of the classes that tables list are trained: (C,) bool."""
        return np.isin(self.listed, self.columns)
