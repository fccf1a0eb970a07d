"""Results, comparisons and headers that several test files build."""

import logging
import math
import re
from html.parser import HTMLParser

import numpy as np

from ecg.data.class_files import load_weights
from ecg.data.inputs import Recording
from ecg.data.leads import LEADS
from ecg.data.records import read_record
from ecg.data.reviews import Review, Verdict, append_review
from ecg.evaluation.bootstrap import Comparison, SystemResult
from ecg.evaluation.metrics import SINUS
from ecg.runtime.console import escape_unprintable, start_logging
from ecg.runtime.limits import LIMITS

PROGRESS_LINE = re.compile(r".+: [\d,]+ of [\d,]+ [a-z]+, [\d,.]+/s, .+ left(, .+)?")
VOID = {"meta", "img", "br", "link"}

NAMES, WEIGHTS = load_weights()

RECORD_LINE = "A0001 2 500 7500 05-Feb-2020 11:39:16"
LEAD_LINES = ("A0001.mat 16+24 1000/mV 16 0 28 -1716 0 I", "A0001.mat 16+24 1000/mV 16 0 7 2029 0 II")
COMMENTS = ("#Age: 74", "#Sex: Male", "#Dx: 59118001,164889003", "#Rx: Unknown", "#Hx: Unknown", "#Sx: Unknown")


RATES = np.append(np.geomspace(0.004, 0.3, 25), 0)  # the last class never occurs, the first seldom


def make_system_result(labels, system="default", leads=12, skill=2.0, seed=0, **fields):
    """Return a result better than chance, with many equal probabilities."""
    random = np.random.default_rng(seed)
    logits = skill * (2 * labels - 1) + random.normal(size=labels.shape)
    probabilities = np.round(1 / (1 + np.exp(-logits)), 2).astype(np.float32)
    seconds = np.float64(60.0), np.float64(0.01)  # means over the folds
    decisions = probabilities >= 0.4, probabilities >= 0.3, probabilities >= 0.2
    return SystemResult(system, leads, probabilities, *decisions, 1000, *seconds, **fields)


def make_comparison(recordings=150, seed=1, results=((), ())):
    """Return a comparison on three sources, with results of these settings."""
    random = np.random.default_rng(seed)
    labels = random.random((recordings, 26)) < RATES
    sources = random.choice(["CPSC", "Georgia", "Ningbo"], recordings, p=[0.3, 0.69, 0.01])
    settings = [dict(setting) for setting in results]
    system_results = tuple(
        make_system_result(labels, **{"system": f"s{index}", "seed": index} | setting)
        for index, setting in enumerate(settings)
    )
    return Comparison(labels, sources, np.arange(recordings) % 3, system_results)


def header_text(record=RECORD_LINE, leads=LEAD_LINES, comments=COMMENTS):
    return "\n".join((record, *leads, *comments)) + "\n"


def read_samples(store):
    """Return the samples of all recordings of a store, one after the other, in mV: (n_rows, 12)."""
    return np.concatenate([store.signal(record) for record in range(len(store))])


def capture_log():
    """Return a list that collects the log messages until the next call."""
    lines, handler = [], logging.Handler()
    handler.emit = lambda record: lines.append(escape_unprintable(record.getMessage()))
    start_logging()
    logging.getLogger("ecg").handlers = [handler]
    return lines


def drop_progress(errors):
    """Return the lines on standard error, but for those on progress that slow work leaves."""
    return [line for line in errors.splitlines() if not PROGRESS_LINE.fullmatch(line)]


def write_reviews(folder, *rows):
    """Append reviews (reviewer, record, class, verdict) to a folder, and return it."""
    for reviewer, record, abbreviation, verdict in rows:
        append_review(folder, reviewer, Review(record, abbreviation, Verdict(verdict)))
    return folder


def read_millivolts(path, leads=LEADS):
    """Read a record as a Recording of some leads."""
    header, integers = read_record(path)
    rows = [header.lead_names.index(lead) for lead in leads]
    gains = np.array([header.leads[row].per_millivolt for row in rows])
    baselines = np.array([header.leads[row].baseline for row in rows])
    signal = (integers[rows].T.astype(np.float64) - baselines) / gains
    return Recording(signal, leads, header.sampling_frequency, header.age, header.sex)


def out_of_range(*names):
    """Values that the limit of each name excludes: pairs of a name and a value."""
    return [
        (name, value)
        for name in names
        for value in (float("nan"), float("inf"), LIMITS[name].minimum - 1, LIMITS[name].maximum + 1, "1")
    ]


def divide(a, b):
    return a / b if b else math.nan


def mean_of_classes(values):
    """Return numpy's mean of the values that are not NaN."""
    return float(np.nanmean(values)) if any(not math.isnan(value) for value in values) else math.nan


def areas_by_loops(labels, scores):
    """Return the areas of one class, a threshold at a time, from two lists."""
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
        float(np.nansum(weights * credit_by_loops(labels, predictions))) for predictions in (outputs, labels, inactive)
    )
    return (observed - base) / (correct - base) if correct != base else 0.0


def evaluate_by_loops(labels, outputs, scores):
    """Return what evaluate_model returns after the class names, from arrays (N, 26)."""
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
    """Return numbers as exact strings; all NaN are equal."""
    return [repr(value) for value in np.ravel(values).tolist()]


class ParsedPage(HTMLParser):
    """Parse an HTML page: unclosed tags, attributes by tag, text by enclosing tag."""

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

    def attributes_of(self, tag):
        return [attributes for name, attributes in self.attributes if name == tag]

    def text_in(self, tag):
        return [text for name, text in self.texts if name == tag]


def predict_in_both_precisions(settings, leads, length, classes):
    """The outputs for the same three signals and weights of a network in float32 and of one in bfloat16."""
    import keras  # here, because many tests need no Keras

    from ecg.models.resnets import precision_policy

    network = settings.build(leads, length, classes)
    with precision_policy("bfloat16"):
        half = settings.build(leads, length, classes)
    half.set_weights(network.get_weights())
    signals = np.random.default_rng(0).normal(size=(3, length, leads)).astype(np.float32)
    return [keras.ops.convert_to_numpy(model(signals, training=False)) for model in (network, half)]
