from dataclasses import replace

import numpy as np
import pytest

from ecg.data.class_files import load_weights
from ecg.data.labels import ABBREVIATIONS, CLASS_INDEX
from ecg.data.wave_peaks import WAVES, PeakList
from ecg.evaluation.calibration import calibration_error, reliability_table
from ecg.evaluation.metrics import challenge_score
from ecg.reports.training_charts import (
    class_chart,
    confusion_chart,
    confusion_matrix_chart,
    learning_curves,
    peak_chart,
    reliability_chart,
)
from ecg.systems.stage_runner import PeakExample
from ecg.training.checkpoint import Epoch

WEIGHTS = load_weights()[1]
NOTHING = np.full(26, np.nan)


def epochs_of(stage, losses, validation):
    lowest = np.minimum.accumulate(validation)
    return [
        Epoch(
            key=stage, title=stage, epoch=place + 1, rate=1e-3, loss=float(loss), validation_loss=float(checked),
            scores={"score at 0.5": loss / 2, "optimised": float(loss)}, best=bool(checked == lowest[place]),
        )
        for place, (loss, checked) in enumerate(zip(losses, validation, strict=True))
    ]  # fmt: skip


def drawn(axes):
    return {line.get_label(): line.get_ydata().tolist() for line in axes.lines if not line.get_label().startswith("_")}


def words(axes):
    return "\n".join(text.get_text() for text in axes.findobj(lambda artist: hasattr(artist, "get_text")))


def test_scores_that_do_not_exist_leave_the_others_their_scale():
    epochs = epochs_of("AF or AFL", [1, 0.5], [1, 0.5])
    epochs = [replace(epoch, scores={"AUROC": np.nan}) for epoch in epochs]
    for more, limits in (([], (-0.02, 0.02)), (epochs_of("round 1", [4, 3], [1, 1]), (1.5 - 0.17, 4 + 0.17))):
        figure = learning_curves([*epochs, *more])
        figure.draw_without_rendering()
        assert figure.axes[1].get_ylim() == pytest.approx(limits)


def test_each_stage_has_its_curves_and_the_kept_epoch_is_the_last_best():
    stages = {"round 1": ([3, 2, 1], [3, 1, 2]), "round 2": ([5, 4], [5, 4]), "a": ([1], [1]), "b": ([2], [1])}
    epochs = [epoch for stage, losses in stages.items() for epoch in epochs_of(stage, *losses)]
    figure = learning_curves(epochs)
    figure.draw_without_rendering()
    panels = list(zip(figure.axes[::2], figure.axes[1::2], strict=True))
    assert [losses.get_title("left") for losses, _ in panels] == list(stages)
    assert [losses.get_title("right")[-1] for losses, _ in panels] == ["2", "2", "1", "1"]
    for (losses, scores), (training, validation) in zip(panels, stages.values(), strict=True):
        assert drawn(losses) == {"training": training, "validation": validation}
        assert drawn(scores) == {"score at 0.5": [loss / 2 for loss in training], "optimised": training}
        low, high = scores.get_ylim()
        assert low < 0.5 and high > 5  # one scale for all the scores


def test_classes_are_sorted_by_frequency_and_missing_ones_are_named():
    labelled = np.zeros(26, int)
    precision, recall = NOTHING.copy(), NOTHING.copy()
    for name, count, rates in (("NSR", 90, (0.9, 0.8)), ("AF", 5, (0.5, 1.0)), ("PVC", 20, (np.nan, 0.0)),
                               ("SB", 0, (0.0, np.nan)), ("LPR", 3, (np.nan, 0.0))):  # fmt: skip
        labelled[CLASS_INDEX[name]] = count
        precision[CLASS_INDEX[name]], recall[CLASS_INDEX[name]] = rates
    trained = np.isin(ABBREVIATIONS, ("NSR", "LPR"))
    figure = class_chart(labelled, precision, recall, ("2 leads", "118 recordings"), ABBREVIATIONS, trained)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["SB (not trained)", "LPR", "AF (not trained)", "PVC (not trained)", "NSR"]
    trained = ~np.isin(ABBREVIATIONS, "LPR")
    figure = class_chart(labelled, precision, recall, ("12 leads", "118 recordings"), ABBREVIATIONS, trained)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["SB", "LPR (not trained)", "AF", "PVC", "NSR"]
    dots = {points.get_label().split(":")[0]: np.asarray(points.get_offsets()) for points in axes.collections[1:]}
    assert np.allclose(dots["recall"][:, 0], [np.nan, 0, 1, 0, 0.8], equal_nan=True)
    assert np.allclose(dots["precision"][:, 0], [0, np.nan, 0.5, np.nan, 0.9], equal_nan=True)
    unseen = axes.get_xlabel().removeprefix("neither labelled nor predicted: ").split(", ")
    assert sorted(unseen) == sorted(set(ABBREVIATIONS) - {"NSR", "AF", "PVC", "SB", "LPR"})
    assert "118 recordings" in words(figure)


def test_a_reliability_diagram_has_the_bins_and_errors_of_each_line():
    random = np.random.default_rng(0)
    before = random.random(2000) ** 3
    labels = random.random(2000) < before**2
    lines = {"before": before, "after": before**2}
    figure = reliability_chart(labels, lines, ("title", "subtitle"))
    figure.draw_without_rendering()
    axes, bars = figure.axes
    for line, (name, values) in zip(axes.lines[1:], lines.items(), strict=True):
        counts, predicted, observed = reliability_table(labels, values).T
        np.testing.assert_allclose(line.get_xydata(), np.column_stack([predicted, observed])[counts > 0])
        assert line.get_label() == f"{name}, expected calibration error {calibration_error(labels, values):.3f}"
    heights = [bar.get_height() for bar in bars.patches]
    assert sum(heights) == 2 * 2000 and len(heights) == 20
    assert calibration_error(labels, lines["after"]) < 0.03 < calibration_error(labels, before)


def random_predictions(seed):
    random = np.random.default_rng(seed)
    present = random.random(26) < 0.6
    labels = (random.random((50, 26)) < 0.2) & present
    predictions = (random.random((50, 26)) < 0.2) & (random.random(26) < 0.6)
    return labels, predictions


@pytest.mark.parametrize("seed", range(3))
def test_the_cells_of_the_confusion_times_the_recordings_are_what_the_metric_adds_up(seed):
    labels, predictions = random_predictions(seed)
    figure = confusion_chart(labels, predictions, WEIGHTS, ("title", "subtitle"))
    axes = figure.axes[0]
    cells = axes.images[0].get_array().filled(np.nan)
    shown = [CLASS_INDEX[text.get_text()] for text in axes.get_xticklabels()]
    assert set(shown) - {CLASS_INDEX["NSR"]} == set(np.flatnonzero((labels | predictions).any(axis=0))) - {
        CLASS_INDEX["NSR"]
    }
    counts = labels.sum(axis=0)[shown]
    assert np.array_equal(np.isnan(cells), np.repeat(counts[:, None] == 0, len(shown), axis=1))
    earned = np.nansum(cells * counts[:, None])
    inactive = np.zeros_like(labels)
    inactive[:, CLASS_INDEX["NSR"]] = True
    base, best = (np.nansum(WEIGHTS * brute_credit(labels, given)) for given in (inactive, labels))
    assert (earned - base) / (best - base) == pytest.approx(challenge_score(labels, predictions, WEIGHTS))


def brute_credit(labels, predictions):
    table = np.zeros((26, 26))
    for label, given in zip(labels, predictions, strict=True):
        table += np.outer(label, given) / max((label | given).sum(), 1)
    return table


def test_correct_predictions_earn_in_every_row_what_the_labels_would():
    labels, _ = random_predictions(4)
    figure = confusion_chart(labels, labels, WEIGHTS, ("title", "subtitle"))
    figure.draw_without_rendering()
    sums = [text.get_text() for text in figure.axes[0].child_axes[0].get_yticklabels()]
    rows = [text.split(" of ") for text in sums if text]
    assert len(rows) == labels.any(axis=0).sum()
    assert all(got == most for got, most in rows)


def test_a_confusion_of_nothing_is_drawn():
    nothing = np.zeros((5, 26), bool)
    figure = confusion_chart(nothing, nothing, WEIGHTS, ("title", "subtitle"))
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["NSR"]
    figure = class_chart(nothing.sum(axis=0), NOTHING, NOTHING, ("title", "subtitle"), ABBREVIATIONS, nothing[0])
    figure.draw_without_rendering()


def test_a_confusion_matrix_has_counts_in_its_cells_and_the_share_that_is_right_next_to_them():
    counts = np.array([[6, 2, 0], [0, 0, 0], [1, 0, 3]])
    figure = confusion_matrix_chart(counts, ("NSR", "AF", "STE"), ("title", "subtitle"))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    cells = {text.get_position()[::-1]: int(text.get_text()) for text in axes.texts if text.get_text().isdigit()}
    assert cells == {(row, column): counts[row, column] for row, column in np.argwhere(counts)}
    assert [text.get_text() for text in axes.get_yticklabels()] == ["NSR  (8)", "AF  (0)", "STE  (4)"]
    assert [text.get_text() for text in axes.child_axes[0].get_yticklabels()] == ["75 %", "", "75 %"]
    shades = axes.images[0].get_array().filled(np.nan)
    np.testing.assert_allclose(shades, [[0.75, 0.25, 0], [np.nan] * 3, [0.25, 0, 0.75]])


def test_known_peaks_are_drawn_above_the_signal_and_predicted_ones_below():
    rng = np.random.default_rng(0)
    recordings = []
    for name in ("A0001", "E00002"):
        known, predicted_peaks = (
            PeakList(np.sort(rng.choice(1000, count)), rng.integers(0, 5, count)) for count in (30, 20)
        )
        recordings.append(PeakExample(name, rng.normal(size=1000), 250, known, predicted_peaks))
    figure = peak_chart(recordings)
    for axes, recording in zip(figure.axes, recordings, strict=True):
        trace, *marks = axes.lines
        np.testing.assert_allclose(trace.get_xdata()[[0, -1]], [0, 999 / 250])
        low, high = trace.get_ydata().min(), trace.get_ydata().max()
        for peaks, lines, above in ((recording.known, marks[:5], True), (recording.predicted, marks[5:], False)):
            for number, line in enumerate(lines):
                np.testing.assert_allclose(line.get_xdata(), peaks.samples[peaks.waves == number] / 250)
                assert (line.get_ydata() > high if above else line.get_ydata() < low).all()
        assert [text.get_text() for text in axes.get_legend().get_texts()] == list(WAVES)
        assert recording.name in axes.get_title(loc="left")


def test_losses_below_0_are_shown_too():
    figure = learning_curves([*epochs_of("credit", [-3, -5], [-2, -4]), *epochs_of("other", [1, 0.5], [1, 0.5])])
    figure.draw_without_rendering()
    assert figure.axes[0].get_ylim()[0] < -5 and figure.axes[2].get_ylim()[0] == 0
