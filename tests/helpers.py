"""What several test files build: results, comparisons, headers and stages of known content."""

import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ecg.data.labels import COLUMN, TRAINED, class_columns, expand
from ecg.data.preprocessing import Repair
from ecg.data.store import Store
from ecg.evaluation.bootstrap import Comparison, SystemResult
from ecg.evaluation.metrics import SINUS, load_weights
from ecg.evaluation.thresholds import search_thresholds
from ecg.models.decision import Rule
from ecg.reports.training_tables import tables
from ecg.systems.label_cleaning import ConflatedClasses, Disagreement, PartiallyLabelledSource, Relabelling
from ecg.systems.results import Results
from ecg.training.checkpoint import Epoch

VOID = {"meta", "img", "br", "link"}

NAMES, WEIGHTS = load_weights()

RECORD_LINE = "A0001 2 500 7500 05-Feb-2020 11:39:16"
LEAD_LINES = ("A0001.mat 16+24 1000/mV 16 0 28 -1716 0 I", "A0001.mat 16+24 1000/mV 16 0 7 2029 0 II")
COMMENTS = ("#Age: 74", "#Sex: Male", "#Dx: 59118001,164889003", "#Rx: Unknown", "#Hx: Unknown", "#Sx: Unknown")

COUNT = 80
REPAIRED = (
    ("R001", Repair("beyond 20 mV", ("I", "V2"), 17)),
    ("R001", Repair("flat lead", ("V6",), 1)),
    ("R002", Repair("flat lead", ("V1", "V2"), 2)),
)
ENDS = {"round 1": "no lower loss in 4 epochs", "round 2": "its time is over"}

RATES = np.append(np.geomspace(0.004, 0.3, 25), 0)  # the last class is nowhere, the first in few recordings or none


def network_of(bundle):
    """The network of a bundle that has one."""
    (member,) = bundle.ensemble.general.members
    return member.network


def stage_titles(settings):
    """The titles of all stages of a recipe, in the order of their keys."""
    from ecg.systems.plan import first_round_title, planned_networks

    titles = [rule.title for rule in settings.cleaning.rules] + [first_round_title(settings)] * settings.cleaning.masks
    for network in planned_networks(settings):
        titles += [network.peaks_title] * network.pretrained + [network.title]
    return titles


def said_of(stage):
    """What a network would answer that sees every class in every other recording that its stage asks about."""
    sure = np.where(np.arange(len(stage.to_predict)) % 2, 0.05, 0.95).astype(np.float32)
    return np.repeat(sure[:, np.newaxis], stage.targets.shape[1], axis=1)


def made_trial(labels, system="default", leads=12, skill=2.0, seed=0, **others):
    """A trial of a system that knows something of the labels, with many equal probabilities."""
    random = np.random.default_rng(seed)
    logits = skill * (2 * labels - 1) + random.normal(size=labels.shape)
    probabilities = np.round(1 / (1 + np.exp(-logits)), 2).astype(np.float32)
    seconds = np.float64(60.0), np.float64(0.01)  # means over the folds
    return SystemResult(
        system, leads, probabilities, probabilities >= 0.4, probabilities >= 0.3, 1000, *seconds, **others
    )


def made_comparison(recordings=150, seed=1, results=((), ())):
    """A comparison with a trial for each tuple of settings of made_trial, of recordings of three sources."""
    random = np.random.default_rng(seed)
    labels = random.random((recordings, 26)) < RATES
    sources = random.choice(["CPSC", "Georgia", "Ningbo"], recordings, p=[0.3, 0.69, 0.01])
    settings = [dict(setting) for setting in results]
    made = tuple(
        made_trial(labels, **{"system": f"s{place}", "seed": place} | one) for place, one in enumerate(settings)
    )
    return Comparison(labels, sources, np.arange(recordings) % 3, made)


def made_results(seed=0, rate=0.15):
    """Random results: every fourth recording for validation, of which those of Georgia give the score."""
    random = np.random.default_rng(seed)
    sources = random.choice(["CPSC", "Georgia", "Ningbo"], COUNT)
    labels = random.random((COUNT, 26)) < rate
    labels[:, COLUMN["PR"]] = False  # a class that never occurs
    names = np.array([f"R{place:03}" for place in range(COUNT)])
    dropped = (("A0001", "the reason, with a comma"), ("S0001", "source PTB is not trained on"))
    starts, microvolts = np.arange(COUNT), np.zeros((COUNT, 12), np.int16)
    beside, persons, lengths = np.zeros((COUNT, 2), bool), np.zeros((COUNT, 5), np.float32), np.ones(COUNT, int)
    came = labels.copy()
    relabellings = made_relabellings(labels, sources, random)
    store = Store(
        names, names, sources, came, came, beside, persons, ~came.any(axis=1), starts, lengths, microvolts, dropped,
        REPAIRED, "digest", unknown_codes=(("251238007", 3), ("x,y", 1)),
    )  # fmt: skip
    validation = np.arange(0, COUNT, 2)
    scored = sources[validation] == "Georgia"
    masks = (random.random((COUNT, 22)) < 0.9).astype(np.float32)
    validated, searches = {}, {}
    for leads in (12, 2):
        noise = random.normal(0.35, 0.2, (len(validation), 22))
        validated[leads] = np.clip(0.3 * labels[validation][:, TRAINED] + noise, 0, 1).astype(np.float32)
        chosen = validation[scored]
        searches[leads] = search_thresholds(labels[chosen], expand(validated[leads][scored]), WEIGHTS, resamples=5)
    epochs = [
        Epoch(key=stage, stage=stage, epoch=1, rate=1e-4, loss=0.5, validation_loss=0.4, scores=scores, best=True)
        for stage, scores in (("round 1", {"score at 0.5": -0.1}), ("round 2", {"score at 0.5": 0.1, "optimised": 0.2}))
    ]
    disagreements = [
        Disagreement(
            Path(f"{name}.hea"),
            name,
            "Georgia",
            COLUMN[abbreviation],
            labelled,
            probability,
            np.full(26, 0.5, np.float32),
        )
        for name, abbreviation, labelled, probability in (("R004", "AF", False, 0.99), ("R006", "SB", True, 0.03))
    ]
    return Results(store, labels, np.arange(1, COUNT, 2), validation, scored, epochs, relabellings, masks,
                   disagreements, searches, validated, ENDS)  # fmt: skip


def made_relabellings(labels, sources, random):
    """Relabel at random, in place, and return what was done; a third rule cannot be applied."""
    made = []
    for rule in (ConflatedClasses(), PartiallyLabelledSource()):
        judged = rule.candidates(labels, sources)
        probabilities = rule.probabilities(
            random.random((len(judged), 1 if rule == ConflatedClasses() else 15), np.float32)
        )
        after = rule.update_labels(labels, sources, probabilities)
        made.append(Relabelling(rule.title, judged, rule.columns, probabilities, labels[judged], after[judged]))
        labels[:] = after
    none = labels[:0]
    made.append(
        Relabelling("SB or NSR in Mine", judged[:0], rule.columns, np.empty((0, 15), np.float32), none, none, "no Mine")
    )
    return made


@pytest.fixture(scope="module")
def results():
    return made_results()


def table(results, name):
    header, *rows = tables(results)[name]
    return [dict(zip(header, row, strict=True)) for row in rows]


def exclusive_results():
    """Results of a system that answers one of four classes; STE is not scored. Each recording has one of them."""
    results, classes = made_results(), ("NSR", "AF", "STE", "PVC")
    random, columns = np.random.default_rng(1), class_columns(classes)
    one = np.eye(4, dtype=bool)[random.integers(0, 4, COUNT)]
    store, labels = replace(results.store, labels=results.store.labels.copy()), results.labels.copy()
    for table in (store.labels, labels):
        table[:, [COLUMN[name] for name in ("NSR", "AF", "PVC")]] = one[:, [0, 1, 3]]
    store.unscored[:, 1] = one[:, 2]
    results = replace(results, store=store, labels=labels, scored=np.ones_like(results.scored))
    probabilities = random.dirichlet(np.ones(4), len(results.validation)) + one[results.validation]
    probabilities = (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)
    search = search_thresholds(results.scored_labels, expand(probabilities[results.scored], columns), WEIGHTS)
    masks = (random.random((COUNT, 4)) < 0.9).astype(np.float32)
    return replace(results, masks=masks, classes=classes, validated={12: probabilities}, searches={12: search},
                   answering=Rule(None, exclusive=True))  # fmt: skip


def header_text(record=RECORD_LINE, leads=LEAD_LINES, comments=COMMENTS):
    return "\n".join((record, *leads, *comments)) + "\n"


def divide(a, b):
    return a / b if b else math.nan


def mean_of_classes(values):
    """The mean of the values that are not NaN, as numpy takes it."""
    return float(np.nanmean(values)) if any(not math.isnan(value) for value in values) else math.nan


def areas_by_loops(labels, scores):
    """The areas of one class, a threshold at a time; labels and scores are lists."""
    positives, recordings = sum(labels), len(labels)
    negatives = recordings - positives
    ranked = sorted(range(recordings), key=lambda recording: -scores[recording])
    tp = fp = i = 0
    points = [(divide(tp, positives), divide(negatives, negatives), math.nan)]
    for threshold in sorted(set(scores), reverse=True):
        while i < recordings and scores[ranked[i]] >= threshold:
            tp, fp = tp + labels[ranked[i]], fp + (not labels[ranked[i]])
            i += 1
        points.append((divide(tp, positives), divide(negatives - fp, negatives), divide(tp, tp + fp)))
    auroc = auprc = 0.0
    for (tpr, tnr, _), (next_tpr, next_tnr, next_ppv) in zip(points[:-1], points[1:], strict=True):
        auroc += 0.5 * (next_tpr - tpr) * (next_tnr + tnr)
        auprc += (next_tpr - tpr) * next_ppv
    return auroc, auprc


def f_measure_by_loops(labels, outputs):
    tp = fp = fn = 0
    for label, output in zip(labels, outputs, strict=True):
        tp, fp, fn = tp + (label and output), fp + (output and not label), fn + (label and not output)
    return divide(2 * tp, 2 * tp + fp + fn)


def credit_by_loops(labels, outputs):
    classes = range(len(labels[0]))
    matrix = np.zeros((len(classes), len(classes)))
    for label, output in zip(labels, outputs, strict=True):
        normalization = float(max(sum(a or b for a, b in zip(label, output, strict=True)), 1))
        for j in classes:
            if label[j]:
                for k in classes:
                    if output[k]:
                        matrix[j, k] += 1.0 / normalization
    return matrix


def metric_by_loops(labels, outputs, weights):
    inactive = [[k == SINUS for k in range(len(weights))] for _ in labels]
    observed, correct, base = (
        float(np.nansum(weights * credit_by_loops(labels, answers))) for answers in (outputs, labels, inactive)
    )
    return (observed - base) / (correct - base) if correct != base else 0.0


def evaluate_by_loops(labels, outputs, scores):
    """What evaluate_model returns after the names of the classes, from arrays (N, 26)."""
    labels, outputs, scores = labels.tolist(), outputs.tolist(), scores.tolist()
    by_class = [list(map(list, zip(*table, strict=True))) for table in (labels, outputs, scores)]
    areas = [areas_by_loops(label, score) for label, score in zip(by_class[0], by_class[2], strict=True)]
    auroc, auprc = map(list, zip(*areas, strict=True))
    measures = [f_measure_by_loops(label, output) for label, output in zip(by_class[0], by_class[1], strict=True)]
    right = sum(label == output for label, output in zip(labels, outputs, strict=True)) / len(labels)
    metric = metric_by_loops(labels, outputs, WEIGHTS)
    means = map(mean_of_classes, (auroc, auprc, measures))
    macro_auroc, macro_auprc, macro_measure = means
    return macro_auroc, macro_auprc, auroc, auprc, right, macro_measure, measures, metric


def exact(values):
    """Numbers as text that tells every two of them apart, except one NaN from another."""
    return [repr(value) for value in np.ravel(values).tolist()]


class Read(HTMLParser):
    """What a page is made of: tags that do not close in order, attributes by tag, text by the tag that it is in."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, tag, attributes):
        self.attributes.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag):
        return [attributes for name, attributes in self.attributes if name == tag]

    def text_in(self, tag):
        return [text for name, text in self.texts if name == tag]
