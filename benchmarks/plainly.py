"""The same work done plainly, a recording, a class or a candidate at a time: what benchmarks.speed compares with.

Written apart from ecg/, so that equal results mean something.
"""

import math
import os

import numpy as np
from scipy.io import loadmat
from scipy.signal import butter, filtfilt, firwin, resample

SINUS = "426783006"  # the code of sinus rhythm
TRUE = ("True", "true", "T", "t")
BAND = (0.5, 45.0)  # Hz


def read(path):
    """Return the number of samples in the MATLAB file beside a header, read by scipy and nothing else."""
    return loadmat(path.with_suffix(".mat"))["val"].size


def prepare(path, taps, gain=1000.0):
    """Return the signal beside a header at 250 Hz from 500, band-passed: (leads, T') float64, mV.

    The filter is an FIR of so many taps, as in the method, or where that is 0 a Butterworth, which takes less time.
    """
    signal = loadmat(path.with_suffix(".mat"))["val"] / gain
    signal -= signal.mean(axis=1, keepdims=True)
    signal = resample(signal, signal.shape[1] // 2, axis=1)
    b, a = (firwin(taps, BAND, pass_zero=False, fs=250.0), 1) if taps else butter(3, BAND, "bandpass", fs=250.0)
    return filtfilt(b, a, signal, axis=1)


def evaluate(names, label_directory, output_directory, classes, weights):
    """Return AUROC, AUPRC, accuracy, F-measure and Challenge metric of the recordings of these names, by loops.

    classes are tuples of codes. The means are over the classes that have an area, or a measure. As in the Challenge's
    own evaluator, the loops are over the elements of arrays (N, C).
    """
    count = len(classes)
    labels, outputs, scores = (np.zeros((len(names), count), kind) for kind in (bool, bool, float))
    for row, name in enumerate(names):
        labels[row] = load_labels(os.path.join(label_directory, f"{name}.hea"), classes)
        outputs[row], scores[row] = load_answer(os.path.join(output_directory, f"{name}.csv"), classes)
    areas = [areas_of(labels[:, k], scores[:, k]) for k in range(count)]
    measures = [f_measure(labels[:, k], outputs[:, k]) for k in range(count)]
    right = 0
    for label, output in zip(labels, outputs, strict=True):
        right += all(label[k] == output[k] for k in range(count))
    sinus = next(k for k in range(count) if SINUS in classes[k])
    inactive = [[k == sinus for k in range(count)] for _ in labels]
    base, best, earned = (earned_by_loops(labels, answers, weights) for answers in (inactive, labels, outputs))
    return (
        *(mean([area[which] for area in areas if area]) for which in range(2)),
        right / len(labels),
        mean([measure for measure in measures if measure is not None]),
        (earned - base) / (best - base),
    )


def load_labels(file, classes):
    """Return for each class whether a header's diagnoses name it: a list."""
    codes = []
    with open(file) as lines:
        for line in lines:
            if line.startswith("#") and line[1:].strip().startswith("Dx"):
                codes = [code.strip() for code in line.split(":")[1].split(",")]
    return [any(code in names for code in codes) for names in classes]


def load_answer(file, classes):
    """Return for each class whether an output file answers it, and its probability: two lists."""
    with open(file) as lines:
        _, names, answers, scores = [line.strip().split(",") for line in lines]
    entries, answered, probabilities = [name.split("|") for name in names], [], []
    for codes in classes:
        places = [place for place, entry in enumerate(entries) if any(code in codes for code in entry)]
        answered.append(any(answers[place] in TRUE or number(answers[place]) == 1 for place in places))
        probabilities.append(mean([number(scores[place]) for place in places]) if places else 0.0)
    return answered, probabilities


def number(text):
    """Return a text as a number, 0 where it is not a finite one."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


def areas_of(labels, scores):
    """Return the areas under a class's ROC and precision-recall curves, None where it is in none or in all."""
    positives = sum(labels)
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    pairs = sorted(zip(scores, labels, strict=True), reverse=True)
    true, false, place, roc, recalled = 0, 0, 0, 0.0, 0.0
    while place < len(pairs):
        threshold, true_before, false_before = pairs[place][0], true, false
        while place < len(pairs) and pairs[place][0] == threshold:
            true, false, place = true + pairs[place][1], false + (not pairs[place][1]), place + 1
        roc += (false - false_before) / negatives * (true + true_before) / 2 / positives
        recalled += (true - true_before) / positives * true / (true + false)
    return roc, recalled


def f_measure(labels, outputs):
    """Return a class's F-measure, None where it is neither labelled nor answered."""
    hits = wrong = 0
    for label, output in zip(labels, outputs, strict=True):
        hits += label and output
        wrong += label != output
    return 2 * hits / (2 * hits + wrong) if hits or wrong else None


def earned_by_loops(labels, outputs, weights):
    """Return what the outputs earn by the Challenge's weights, a pair of classes at a time."""
    earned = 0.0
    for label, output in zip(labels, outputs, strict=True):
        union = max(sum(a or b for a, b in zip(label, output, strict=True)), 1)
        for j in range(len(label)):
            if label[j]:
                for k in range(len(output)):
                    if output[k]:
                        earned += weights[j][k] / union
    return earned


def mean(values):
    """Return the mean of a list, NaN of an empty one."""
    return sum(values) / len(values) if values else math.nan


def earned_by_product(labels, outputs, weights):
    """Return the same by a matrix product; labels and outputs (N, C) bool."""
    union = np.maximum((labels | outputs).sum(axis=1, keepdims=True), 1)
    return np.sum(weights * ((labels / union).T @ outputs.astype(float)))


def search(labels, probabilities, weights, columns, sinus, anew=True):
    """Return the thresholds (C,) that the two steps of Cai et al. 2021 find for the classes of these columns.

    The metric is evaluated for each candidate by a matrix product, and with `anew` by three, as it is defined: by those
    of the labels and of sinus rhythm, too, which are the same for all. The other classes have step 1's threshold.
    """
    inactive = np.zeros_like(labels)
    inactive[:, sinus] = True

    def limits():
        return [earned_by_product(labels, answers, weights) for answers in (inactive, labels)]

    once = None if anew else limits()

    def metric(thresholds):
        base, best = once or limits()
        return (earned_by_product(labels, probabilities >= thresholds, weights) - base) / (best - base)

    common = highest({candidate: metric(candidate / 100) for candidate in range(10, 91, 10)}, 50)
    thresholds = np.full(labels.shape[1], common / 100)
    for column in columns:
        scores = {}
        for candidate in range(20, 81):
            trial = np.full(labels.shape[1], common / 100)
            trial[column] = candidate / 100
            scores[candidate] = metric(trial)
        thresholds[column] = highest(scores, common) / 100
    return thresholds


def highest(scores, near):
    """Return the candidate of the highest score, of equals the nearest to `near`, of two as near the lower."""
    top = max(scores.values())
    return min(scores, key=lambda candidate: (scores[candidate] < top - 1e-9, abs(candidate - near), candidate))
