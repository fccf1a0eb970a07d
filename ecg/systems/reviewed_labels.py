"""Keep reviewers' verdicts on labels through relabelling and masking."""

import numpy as np

from ecg.data.class_tables import ClassTable
from ecg.data.corrections import is_decided
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.reviews import UNDECIDED, UNSURE
from ecg.systems.label_cleaning import ConflatedClasses, LabelRule, RelabellingData


def keep_reviewed_labels(
    rule: LabelRule,
    before: np.ndarray,
    after: np.ndarray,
    verdicts: np.ndarray | None,
    classes: ClassTable = CHALLENGE_CLASSES,
) -> np.ndarray:
    """Return the labels after a rule, but reviewed ones as before it.

    If one of two conflated classes has been reviewed, both labels stay.

    Args:
        rule: The rule.
        before: Labels before it, with the verdicts, (N, C) bool.
        after: Labels after it, (N, C) bool.
        verdicts: (N, C); None: there are none.
        classes: The C classes.
    """
    if verdicts is None:
        return after
    reviewed = verdicts != UNDECIDED
    if isinstance(rule, ConflatedClasses):
        columns = rule.find_columns(classes)
        rows = reviewed[:, columns].any(axis=1)
        reviewed[np.ix_(rows, columns)] = True
    return np.where(reviewed, before, after)


def mask_unsure_labels(
    rule: LabelRule,
    data: RelabellingData,
    verdicts: np.ndarray | None,
    classes: ClassTable = CHALLENGE_CLASSES,
) -> RelabellingData:
    """Return training data of a rule in which unsure labels have the weight 0.

    Args:
        rule: The rule.
        data: What its network is trained on.
        verdicts: (N, C); None: there are none.
        classes: The C classes.
    """
    if verdicts is None:
        return data
    unsure = verdicts[np.ix_(data.records, rule.find_columns(classes))] == UNSURE
    if isinstance(rule, ConflatedClasses):  # one target tells the two classes apart
        unsure = unsure.any(axis=1, keepdims=True)
    return data._replace(weights=np.where(unsure, 0, data.weights).astype(data.weights.dtype))


def keep_reviewed_masks(
    masks: np.ndarray, verdicts: np.ndarray | None, columns: np.ndarray, unsure: int = 0
) -> np.ndarray:
    """Return masks in which the labels count that reviewers have decided on.

    Args:
        masks: Weights of the labels of K classes in the loss, (N, K).
        verdicts: (N, C); None: there are none.
        columns: Indices of the classes among the scored and additional ones, (K,).
        unsure: Weight of the labels that reviewers are unsure about.
    """
    if verdicts is None:
        return masks
    masks, scored = masks.copy(), columns < verdicts.shape[1]
    known = verdicts[:, columns[scored]]
    masks[:, scored] = np.where(is_decided(known), 1, np.where(known == UNSURE, unsure, masks[:, scored]))
    return masks
