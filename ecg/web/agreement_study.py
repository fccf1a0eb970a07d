"""Measure how reviewers, labels and the model of the workbench agree."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ecg.data.labels import ABBREVIATIONS
from ecg.data.reviews import ABSENT, PRESENT, UNDECIDED, UNSURE, Review
from ecg.evaluation.agreement import AgreementStudy, PairAgreement, build_study
from ecg.web.catalogue import escape_bytes
from ecg.web.predictions import PREDICTED, PredictionTable

VERDICT_NAMES = {PRESENT: "present", ABSENT: "absent", UNSURE: "unsure"}
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
    study = build_study(reviews, [catalogue.names[row] for row in rows], labels, predictions)
    return {
        "recordings": len(study.names),
        "raters": [
            {"name": rater.name, "kind": "reviewer" if rater.is_reviewer else rater.name,
             "recordings": int((rater.verdicts != UNDECIDED).any(axis=1).sum()),
             **{name: int((rater.verdicts == verdict).sum()) for verdict, name in VERDICT_NAMES.items()}}
            for rater in study.raters
        ],
        "pairs": [describe_pair_agreement(pair) for pair in study.pairs],
        "contested": list_contested(study),
    }  # fmt: skip


def rate_labels(table: PredictionTable, rows: np.ndarray) -> np.ndarray:
    """Return the labels of n recordings as verdicts, (n, 26) int8."""
    labels = table.catalogue.columns["labels"][rows]
    return np.where(table.labelled_mask(rows), labels, UNDECIDED).astype(np.int8)


def rate_predictions(table: PredictionTable, rows: np.ndarray) -> np.ndarray:
    """Return the predicted classes of n recordings as verdicts, (n, 26) int8."""
    known = table.covered[rows] & (table.state[rows] == PREDICTED)[:, np.newaxis]
    return np.where(known, table.outputs[rows], UNDECIDED).astype(np.int8)


def describe_pair_agreement(pair: PairAgreement) -> dict[str, Any]:
    """Describe the agreement of two raters, of all classes together and of each."""
    by_class = [
        {"class": ABBREVIATIONS[column], "decisions": int(pair.decisions[column]), "agreed": int(pair.agreed[column]),
         "unsure": int(pair.unsure[column]),
         **_describe_kappa(pair.kappa_by_class[:, column])}
        for column in np.flatnonzero(pair.decisions + pair.unsure).tolist()
    ]  # fmt: skip
    return {
        "first": pair.first,
        "second": pair.second,
        "decisions": int(pair.decisions.sum()),
        "agreed": int(pair.agreed.sum()),
        "unsure": int(pair.unsure.sum()),
        **_describe_kappa(pair.kappa),
        "classes": by_class,
    }


def _describe_kappa(values: np.ndarray) -> dict[str, float | None]:
    """Describe a kappa and its interval; null if it is undefined."""
    numbers = [None if np.isnan(value) else round(float(value), 6) for value in values]
    return dict(zip(("kappa", "low", "high"), numbers, strict=True))


def list_contested(study: AgreementStudy) -> list[dict[str, Any]]:
    """List the classes of recordings on which reviewers disagree, with comments.

    Verdicts are in the order of the raters; null is none.
    """
    comments: dict[tuple[str, str], list[dict[str, str]]] = {}
    for review in study.reviews:
        if review.comment:
            comment = {"reviewer": review.reviewer, "comment": escape_bytes(review.comment)}
            comments.setdefault((review.record, review.abbreviation), []).append(comment)
    contested = []
    for row, column in np.argwhere(study.contested)[:MOST_CONTESTED].tolist():
        name, abbreviation = study.names[row], ABBREVIATIONS[column]
        verdicts = [VERDICT_NAMES.get(int(rater.verdicts[row, column])) for rater in study.raters]
        contested.append({"record": escape_bytes(name), "class": abbreviation, "verdicts": verdicts,
                          "comments": comments.get((name, abbreviation), [])})  # fmt: skip
    return contested
