"""Measure how reviewers, labels and the model of the workbench agree."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ecg.data.record_names import escape_name
from ecg.data.reviewers import MODEL
from ecg.data.reviews import UNDECIDED, VERDICT_NAMES, Review
from ecg.evaluation.agreement import AgreementStudy, PairAgreement, build_study, encode_verdicts
from ecg.web.catalogue import escape_bytes
from ecg.web.descriptions import to_number
from ecg.web.predictions import PREDICTED, PredictionTable

MOST_CONTESTED = 500  # that are sent


def describe_agreement(table: PredictionTable, reviews: Sequence[Review]) -> dict[str, Any]:
    """Describe who agrees with whom, on the recordings that somebody has reviewed.

    Args:
        table: The predictions of the recordings.
        reviews: The last review by each reviewer of each class in each recording.
    """
    catalogue = table.catalogue
    index = catalogue.row_of_name
    rows = sorted({index[review.record] for review in reviews if review.record in index})
    if not rows:
        return {"recordings": 0, "raters": [], "pairs": [], "contested": []}
    labels, predictions = rate_labels(table, np.array(rows)), rate_predictions(table, np.array(rows))
    study = build_study(reviews, [catalogue.names[row] for row in rows], labels, {MODEL: predictions},
                        classes=catalogue.classes)  # fmt: skip
    return {
        "recordings": len(study.names),
        "raters": [
            {"name": rater.name, "kind": rater.kind,
             "recordings": int((rater.verdicts != UNDECIDED).any(axis=1).sum()),
             **{name: int((rater.verdicts == verdict).sum()) for verdict, name in VERDICT_NAMES.items()}}
            for rater in study.raters
        ],
        "pairs": [describe_pair_agreement(pair, catalogue.classes.abbreviations) for pair in study.pairs],
        "contested": describe_contested(study),
    }  # fmt: skip


def rate_labels(table: PredictionTable, rows: np.ndarray) -> np.ndarray:
    """Return the labels of n recordings as verdicts, (n, C) int8."""
    return encode_verdicts(table.catalogue.columns["labels"][rows], table.labelled_mask(rows))


def rate_predictions(table: PredictionTable, rows: np.ndarray) -> np.ndarray:
    """Return the predicted classes of n recordings as verdicts, (n, C) int8."""
    known = table.covered[rows] & (table.state[rows] == PREDICTED)[:, np.newaxis]
    return encode_verdicts(table.outputs[rows], known)


def describe_pair_agreement(pair: PairAgreement, names: Sequence[str]) -> dict[str, Any]:
    """Describe the agreement of two raters, of all classes together and of each.

    Args:
        pair: The agreement.
        names: Abbreviations of the classes.
    """
    by_class = [
        {"class": names[column], "decisions": int(pair.decisions[column]),
         "agreed": int(pair.n_agreements[column]), "unsure": int(pair.unsure[column]),
         **_describe_kappa(pair.kappa_by_class[:, column])}
        for column in np.flatnonzero(pair.decisions + pair.unsure).tolist()
    ]  # fmt: skip
    return {
        "first": pair.first,
        "second": pair.second,
        "decisions": int(pair.decisions.sum()),
        "agreed": int(pair.n_agreements.sum()),
        "unsure": int(pair.unsure.sum()),
        **_describe_kappa(pair.kappa),
        "classes": by_class,
    }


def _describe_kappa(values: np.ndarray) -> dict[str, float | None]:
    """Describe a kappa and its interval; null if it is undefined."""
    return dict(zip(("kappa", "low", "high"), map(to_number, values), strict=True))


def describe_contested(study: AgreementStudy) -> list[dict[str, Any]]:
    """Describe the classes of recordings on which reviewers disagree, with comments.

    Verdicts are in the order of the raters; null is none.
    """
    return [
        {"record": escape_name(label.record), "class": label.abbreviation,
         "verdicts": [VERDICT_NAMES.get(verdict) for verdict in label.verdicts],
         "comments": [{"reviewer": review.reviewer, "comment": escape_bytes(review.comment)}
                      for review in label.reviews]}
        for label in study.list_contested()[:MOST_CONTESTED]
    ]  # fmt: skip
