"""Plain implementations that benchmarks.speed compares with.

They share no code with ecg/, so equal results are evidence.
"""

import math
import os

import numpy as np
from scipy.io import loadmat
from scipy.signal import butter, filtfilt, firwin, resample

SINUS = "426783006"  # the code of sinus rhythm
TRUE_TEXTS = ("True", "true", "T", "t")
BAND = (0.5, 45.0)  # Hz


def count_samples(path):
    """Return the number of samples in a header's MATLAB file, read by scipy."""
    return loadmat(path.with_suffix(".mat"))["val"].size


def preprocess(path, taps, gain=1000.0):
    """Return a header's signal, resampled from 500 to 250 Hz and band-passed.

    The filter is an FIR with `taps` taps, as in the method, or a faster Butterworth filter if `taps` is 0.

    Returns:
        The signal in mV, (leads, T') float64.
    """
    signal = loadmat(path.with_suffix(".mat"))["val"] / gain
    signal -= signal.mean(axis=1, keepdims=True)
    signal = resample(signal, signal.shape[1] // 2, axis=1)
    b, a = (firwin(taps, BAND, pass_zero=False, fs=250.0), 1) if taps else butter(3, BAND, "bandpass", fs=250.0)
    return filtfilt(b, a, signal, axis=1)


def evaluate(names, label_directory, output_directory, classes, weights):
    """Return AUROC, AUPRC, accuracy, F-measure and Challenge metric by loops.

    `classes` are tuples of codes. The means are over the classes that have an area, or a measure. As in the Challenge's
    own evaluator, the loops are over the elements of arrays (N, C).
    """
    count = len(classes)
    labels, outputs, scores = (np.zeros((len(names), count), kind) for kind in (bool, bool, float))
    for row, name in enumerate(names):
        labels[row] = load_labels(os.path.join(label_directory, f"{name}.hea"), classes)
        outputs[row], scores[row] = load_prediction(os.path.join(output_directory, f"{name}.csv"), classes)
    areas = [compute_areas(labels[:, k], scores[:, k]) for k in range(count)]
    measures = [compute_f_measure(labels[:, k], outputs[:, k]) for k in range(count)]
    correct = 0
    for label, output in zip(labels, outputs, strict=True):
        correct += all(label[k] == output[k] for k in range(count))
    sinus = next(k for k in range(count) if SINUS in classes[k])
    inactive = [[k == sinus for k in range(count)] for _ in labels]
    base, best, earned = (credit_by_loops(labels, predictions, weights) for predictions in (inactive, labels, outputs))
    return (
        *(mean([area[which] for area in areas if area]) for which in range(2)),
        correct / len(labels),
        mean([measure for measure in measures if measure is not None]),
        (earned - base) / (best - base),
    )


def load_labels(file, classes):
    """Return for each class whether a header's diagnoses contain it: a list."""
    codes = []
    with open(file) as lines:
        for line in lines:
            if line.startswith("#") and line[1:].strip().startswith("Dx"):
                codes = [code.strip() for code in line.split(":")[1].split(",")]
    return [any(code in names for code in codes) for names in classes]


def load_prediction(file, classes):
    """Return for each class an output file's prediction and probability: two lists."""
    with open(file) as lines:
        _, names, outputs, scores = [line.strip().split(",") for line in lines]
    entries, predicted, probabilities = [name.split("|") for name in names], [], []
    for codes in classes:
        indices = [index for index, entry in enumerate(entries) if any(code in codes for code in entry)]
        predicted.append(any(outputs[index] in TRUE_TEXTS or parse_number(outputs[index]) == 1 for index in indices))
        probabilities.append(mean([parse_number(scores[index]) for index in indices]) if indices else 0.0)
    return predicted, probabilities


def parse_number(text):
    """Return a string as a number, 0 if it is not finite."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


def compute_areas(labels, scores):
    """Return the areas under a class's ROC and precision-recall curves.

    None if the class is in no recording or in all.
    """
    positives = sum(labels)
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    pairs = sorted(zip(scores, labels, strict=True), reverse=True)
    true, false, index, roc, recalled = 0, 0, 0, 0.0, 0.0
    while index < len(pairs):
        threshold, true_before, false_before = pairs[index][0], true, false
        while index < len(pairs) and pairs[index][0] == threshold:
            true, false, index = true + pairs[index][1], false + (not pairs[index][1]), index + 1
        roc += (false - false_before) / negatives * (true + true_before) / 2 / positives
        recalled += (true - true_before) / positives * true / (true + false)
    return roc, recalled


def compute_f_measure(labels, outputs):
    """Return a class's F-measure, None if it is neither labelled nor predicted."""
    hits = wrong = 0
    for label, output in zip(labels, outputs, strict=True):
        hits += label and output
        wrong += label != output
    return 2 * hits / (2 * hits + wrong) if hits or wrong else None


def credit_by_loops(labels, outputs, weights):
    """Return the outputs' credit by the Challenge's weights, by loops over classes."""
    credit = 0.0
    for label, output in zip(labels, outputs, strict=True):
        union = max(sum(a or b for a, b in zip(label, output, strict=True)), 1)
        for j in range(len(label)):
            if label[j]:
                for k in range(len(output)):
                    if output[k]:
                        credit += weights[j][k] / union
    return credit


def mean(values):
    """Return the mean of a list, NaN of an empty one."""
    return sum(values) / len(values) if values else math.nan


def credit_by_product(labels, outputs, weights):
    """Return the credit by a matrix product; labels and outputs (N, C) bool."""
    union = np.maximum((labels | outputs).sum(axis=1, keepdims=True), 1)
    return np.sum(weights * ((labels / union).T @ outputs.astype(float)))


def search_thresholds(labels, probabilities, weights, columns, sinus, anew=True):
    """Return the thresholds (C,) of these classes by the two steps of Cai et al. 2021.

    The metric of each candidate is one matrix product. With `anew` it is three, as in its definition: those of the
    labels and of sinus rhythm are the same for all candidates. The other classes have step 1's threshold.
    """
    inactive = np.zeros_like(labels)
    inactive[:, sinus] = True

    def limits():
        return [credit_by_product(labels, predictions, weights) for predictions in (inactive, labels)]

    once = None if anew else limits()

    def metric(thresholds):
        base, best = once or limits()
        return (credit_by_product(labels, probabilities >= thresholds, weights) - base) / (best - base)

    common = best_candidate({candidate: metric(candidate / 100) for candidate in range(10, 91, 10)}, 50)
    thresholds = np.full(labels.shape[1], common / 100)
    for column in columns:
        scores = {}
        for candidate in range(20, 81):
            trial = np.full(labels.shape[1], common / 100)
            trial[column] = candidate / 100
            scores[candidate] = metric(trial)
        thresholds[column] = best_candidate(scores, common) / 100
    return thresholds


def best_candidate(scores, near):
    """Return the best candidate; among equals the nearest to `near`, then the lower."""
    top = max(scores.values())
    return min(scores, key=lambda candidate: (scores[candidate] < top - 1e-9, abs(candidate - near), candidate))
