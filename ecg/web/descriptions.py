"""Describe recordings, predictions and reviews as objects of JSON."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import ecg
from ecg.data.class_tables import ClassTable
from ecg.data.headers import Header
from ecg.data.labels import CHALLENGE_CLASSES, code_status, find_diagnosis, select_diagnoses
from ecg.data.record_names import escape_name
from ecg.data.reviews import Review
from ecg.models.decision import EXPECTED_CREDIT
from ecg.web.catalogue import escape_bytes
from ecg.web.prediction_worker import LeadSetModel, ModelFacts
from ecg.web.predictions import FAILED, PREDICTED, RecordPrediction
from ecg.web.signals import RecordingFacts
from ecg.web.workbench import Workbench

Json = dict[str, Any]
DIGITS = 6  # of probabilities


def describe_session(bench: Workbench, reviewer: str | None) -> Json:
    """Describe the server: its model, its data, and who reviews."""
    predicted = {name for model in bench.facts.lead_sets.values() for name in model.classes}
    rows = bench.settings.review_list
    return {
        "reviewer": reviewer,
        "default_reviewer": bench.settings.reviewer or None,
        "blinded": bench.settings.blinded,
        "model": {"system": bench.facts.system},
        "classes": [
            {"abbreviation": diagnosis.abbreviation, "name": diagnosis.name,
             "predicted": diagnosis.abbreviation in predicted}
            for diagnosis in bench.facts.classes.scored
        ],
        "sources": bench.catalogue.source_names.tolist(),
        "counts": bench.predictions.counts(),
        "notices": bench.list_notices(),
        "methods": {name: list(methods) for name, methods in bench.facts.methods.items()},
        "untested_methods": list(bench.facts.untested),
        "listed": None if rows is None else len(rows),
    }  # fmt: skip


def describe_items(bench: Workbench, rows: Iterable[int], reviewer: str | None) -> list[Json]:
    """Describe recordings in the list."""
    verdicts = bench.reviews.verdicts(reviewer)
    return [_describe_item(bench, row, verdicts.get(bench.catalogue.names[row], {})) for row in rows]


def _describe_item(bench: Workbench, row: int, mine: Mapping[str, Review]) -> Json:
    catalogue, predictions, hidden = bench.catalogue, bench.predictions, bench.is_hidden(row, mine)
    is_predicted = predictions.state[row] == PREDICTED
    return {
        "record": catalogue.keys[row],
        "source": catalogue.sources[row],
        "age": to_number(catalogue.columns["age"][row]),
        "sex": str(catalogue.columns["sex"][row]),
        "seconds": to_number(catalogue.columns["seconds"][row]),
        "labels": None if hidden else catalogue.diagnoses[row],
        "predicted": select_names(predictions.outputs[row], catalogue.classes) if is_predicted and not hidden else None,
        "suspicion": None if hidden else to_number(predictions.suspicion[row]),
        "suspected": None if hidden else describe_suspected(bench, row),
        "classes_to_review": bench.classes_to_review.get(row),
        "failed": bool(predictions.state[row] == FAILED or catalogue.errors[row]),
        "reviewed_by_me": len(mine),
    }


def describe_suspected(bench: Workbench, row: int) -> list[Json]:
    """Describe the labels that the model contradicts, the most confident first."""
    predictions = bench.predictions
    suspected = [
        {
            "class": bench.catalogue.classes.abbreviations[column],
            "labelled": bool(bench.catalogue.columns["labels"][row, column]),
            "probability": to_number(predictions.probabilities[row, column]),
        }
        for column in np.flatnonzero(predictions.suspected[row])
    ]
    return sorted(suspected, key=lambda item: -abs(item["labelled"] - item["probability"]))


def describe_record(bench: Workbench, row: int, facts: RecordingFacts, reviewer: str | None) -> Json:
    """Describe a recording, with its predictions and reviews."""
    catalogue, name = bench.catalogue, bench.catalogue.names[row]
    header, unusable = facts.header, facts.reason or bench.predictions.reasons.get(row)
    samples = facts.samples or (header.samples if header else 0)
    mine = bench.reviews.verdicts(reviewer).get(name, {})
    hidden = bench.is_hidden(row, mine)
    return {
        "record": catalogue.keys[row],
        "source": catalogue.sources[row],
        "leads": list(header.lead_names) if header else [],
        "sampling_frequency": header.sampling_frequency if header else None,
        "samples": samples,
        "seconds": samples / header.sampling_frequency if header and samples else None,
        "age": to_number(catalogue.columns["age"][row]),
        "sex": str(catalogue.columns["sex"][row]),
        "labels": None if hidden else describe_codes(header, catalogue.classes),
        "unusable": unusable or None,
        "repairs": [
            {"kind": repair.kind, "leads": list(repair.leads), "count": repair.count} for repair in facts.repairs
        ],
        **(hidden_prediction() if hidden else describe_prediction_of(bench, row)),
        "suspected": None if hidden else describe_suspected(bench, row),
        "classes_to_review": bench.classes_to_review.get(row),
        "reviews": [describe_review(review) for review in mine.values()],
        "other_reviews": None if hidden else bench.reviews.count_others(reviewer, name),
    }


def describe_codes(header: Header | None, classes: ClassTable = CHALLENGE_CLASSES) -> list[Json]:
    """Describe all diagnoses of a header."""
    diagnoses = [(code, find_diagnosis(code, classes)) for code in select_diagnoses(header.codes if header else ())]
    return [
        {"code": code, "abbreviation": diagnosis.abbreviation, "name": diagnosis.name,
         "scored": code_status(code, classes) == "scored"}
        for code, diagnosis in diagnoses
    ]  # fmt: skip


def hidden_prediction() -> Json:
    """Return the fields of a prediction that is hidden, or not known."""
    return dict.fromkeys(("probabilities", "thresholds", "predicted", "decision", "calibrated"))


def describe_prediction_of(bench: Workbench, row: int) -> Json:
    """Describe the prediction of a recording of the catalogue."""
    table = bench.predictions
    if table.state[row] != PREDICTED:
        return hidden_prediction()
    lead_set = int(table.lead_set[row])
    prediction = RecordPrediction(table.probabilities[row], table.outputs[row], table.covered[row], lead_set)
    return describe_prediction(prediction, bench.facts.lead_sets[lead_set])


def describe_prediction(prediction: RecordPrediction, model: LeadSetModel) -> Json:
    """Describe a prediction by class; what does not decide is null."""
    calibrated, names = None, model.rule.classes.abbreviations
    if model.rule.decision == EXPECTED_CREDIT:
        calibrated = _by_class(names, model.rule.calibrate(prediction.probabilities), prediction.covered)
    thresholds = np.where(prediction.covered, model.rule.applied_thresholds, np.nan)
    return {
        "probabilities": _by_class(names, prediction.probabilities, prediction.covered),
        "thresholds": _by_class(names, thresholds, np.isfinite(thresholds)) or None,
        "predicted": {name: bool(output) for name, output in zip(names, prediction.outputs, strict=True)},
        "decision": model.rule.decision,
        "calibrated": calibrated,
    }


def describe_upload(name: str, prediction: RecordPrediction, facts: ModelFacts) -> Json:
    """Describe the prediction of a recording that a program sent."""
    described = describe_prediction(prediction, facts.lead_sets[prediction.lead_set])
    by_class = {
        "probability": described["probabilities"],
        "calibrated": described["calibrated"] or {},
        "threshold": described["thresholds"] or {},
        "predicted": described["predicted"],
    }
    return {
        "record": name,
        "system": facts.system,
        "version": ecg.__version__,
        "lead_set": prediction.lead_set,
        "decision": described["decision"],
        "repairs": list(prediction.repairs),
        "classes": [
            {"abbreviation": diagnosis.abbreviation, "name": diagnosis.name, "codes": list(diagnosis.codes),
             **{field: values.get(diagnosis.abbreviation) for field, values in by_class.items()}}
            for column, diagnosis in enumerate(facts.classes.scored)
            if prediction.covered[column]
        ],
    }  # fmt: skip


def describe_review(review: Review) -> Json:
    """Describe a review."""
    return {
        "record": escape_name(review.record),
        "class": review.abbreviation,
        "verdict": str(review.verdict),
        "comment": escape_bytes(review.comment),
        "time": review.time,
        "version": review.version,
        "blinded": review.blinded,
        "reviewer": review.reviewer,
    }


def select_names(chosen: np.ndarray, classes: ClassTable) -> list[str]:
    """Return the abbreviations of the chosen ones of C classes."""
    return [classes.abbreviations[column] for column in np.flatnonzero(chosen)]


def to_number(value: Any) -> float | None:
    """Return a number as JSON can hold it: null if it is not finite."""
    number = float(value)
    return round(number, DIGITS) if math.isfinite(number) else None


def _by_class(names: tuple[str, ...], values: np.ndarray, chosen: np.ndarray) -> dict[str, float | None]:
    """Return values by the abbreviations of the chosen classes."""
    return {names[column]: to_number(values[column]) for column in np.flatnonzero(chosen).tolist()}
