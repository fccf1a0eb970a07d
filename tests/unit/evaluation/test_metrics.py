from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from ecg.data.class_files import load_weights
from ecg.data.labels import CHALLENGE_CLASSES, CLASS_INDEX, SCORED, load_own_weights
from ecg.evaluation.metrics import (
    accuracy,
    challenge_score,
    class_credit,
    f_measures,
    nan_mean,
    roc_and_pr_areas,
    weighted_confusion,
)
from ecg.evaluation.thresholds import prediction_gain, search_thresholds

ROOT = Path(__file__).parents[3]
CLASSES, WEIGHTS = load_weights()
AF, AFL, NSR = CLASS_INDEX["AF"], CLASS_INDEX["AFL"], CLASS_INDEX["NSR"]


def random_case(seed, recordings=60, levels=None):
    """Return random labels, and probabilities better than chance."""
    random = np.random.default_rng(seed)
    rates = random.choice([0.0, 0.02, 0.1, 0.4], len(CLASSES))
    labels = random.random((recordings, len(CLASSES))) < rates
    probabilities = np.clip(0.3 * labels + random.normal(0.35, 0.25, labels.shape), 0, 1)
    if levels:  # coarse: many are equal, or equal to a candidate
        probabilities = np.round(probabilities * levels) / levels
    return labels, probabilities


def credit_by_loops(labels, outputs, weights):
    total = 0.0
    for label, output in zip(labels, outputs, strict=True):
        share = max(1, sum(bool(a or b) for a, b in zip(label, output, strict=True)))
        for j in range(len(label)):
            for k in range(len(output)):
                if label[j] and output[k]:
                    total += weights[j, k] / share
    return total


def score_by_loops(labels, outputs, weights):
    sinus = np.zeros(labels.shape, bool)
    sinus[:, NSR] = True
    base, best = (credit_by_loops(labels, predictions, weights) for predictions in (sinus, labels))
    return (credit_by_loops(labels, outputs, weights) - base) / (best - base)


def make_labels(*present):
    """Return labels of one recording per tuple of abbreviations."""
    table = np.zeros((len(present), len(CLASSES)), bool)
    for row, names in zip(table, present, strict=True):
        row[[CLASS_INDEX[name] for name in names]] = True
    return table


def test_the_table_of_weights_has_the_classes_of_labels_in_order():
    assert [set(name.split("|")) for name in CLASSES] == [set(diagnosis.codes) for diagnosis in SCORED]
    assert WEIGHTS.shape == (26, 26) and np.array_equal(WEIGHTS, WEIGHTS.T) and (np.diag(WEIGHTS) == 1).all()
    assert WEIGHTS[AF, AFL] == 0.5 and WEIGHTS[AF, NSR] == 0.25


def test_a_table_with_other_rows_than_columns_is_refused(tmp_path):
    path, order = tmp_path / "weights.csv", "rows and columns have the same classes in the same order"
    for text, reason in (
        (",1,2\n1,1,0\n3,0,1\n", f", line 3: expected the row of '2', received '3'; {order}"),
        (",1,2\n\n2,0,1\n1,1,0\n", f", line 3: expected the row of '1', received '2'; {order}"),
        (",1,2\n1,1,0\n2,0,1\n2,0,1\n", f", line 4: expected no further row, received '2'; {order}"),
        (",1,2\n1,1,0\n", f": no row of '2'; {order}"),
        ("", ", line 1: expected codes of classes, received an empty file"),
        ("AF\n", ", line 1: expected codes of classes, received 'AF'"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"weights.csv{reason}$"):
            load_weights(path)


def write_weights(path, names, weights):
    rows = [
        ",".join(["", *names]),
        *(",".join([name, *map(str, row)]) for name, row in zip(names, weights, strict=True)),
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_own_weights_may_be_in_any_order_and_name_any_code_of_a_class(tmp_path):
    generator = np.random.default_rng(0)
    order, weights = generator.permutation(26), generator.normal(size=(26, 26)).round(3)
    names = ["|".join(reversed(name.split("|"))) if index % 2 else name.split("|")[0]
             for index, name in enumerate(CLASSES)]  # fmt: skip
    shuffled = [names[index] for index in order], weights[np.ix_(order, order)]
    path = write_weights(tmp_path / "own.csv", *shuffled)
    np.testing.assert_array_equal(load_own_weights(path), weights)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_text().replace("\n", "\r\n").encode() + b"\r\n")
    np.testing.assert_array_equal(load_own_weights(path), weights)  # as a spreadsheet saves it
    np.testing.assert_array_equal(CHALLENGE_CLASSES.make_weight_array(load_own_weights(path)), weights)
    assert load_own_weights(ROOT / "weights.csv") is None
    np.testing.assert_array_equal(CHALLENGE_CLASSES.make_weight_array(), WEIGHTS)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("first", ["", "sep={}\r\n", "\ufeff"])
@pytest.mark.parametrize("last", ["", "{0}{0}"])
def test_own_weights_are_read_as_any_spreadsheet_writes_them(delimiter, first, last, tmp_path):
    weights = WEIGHTS + np.arange(26)
    text = write_weights(tmp_path / "own.csv", CLASSES, weights).read_text()
    lines = [line.replace(",", delimiter) + last.format(delimiter) for line in text.splitlines()]
    path = tmp_path / "saved.csv"
    path.write_bytes((first.format(delimiter) + "\r\n".join([*lines, last.format(delimiter)])).encode())
    np.testing.assert_array_equal(load_own_weights(path), weights)


def test_the_corner_of_a_table_of_weights_may_have_a_comma(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("label, prediction;1;2\n1;1;0\n2;0.5;1\n")
    classes, weights = load_weights(path)
    assert classes == ("1", "2") and weights.tolist() == [[1, 0], [0.5, 1]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda names, rows: names.__setitem__(3, "1234"), "own.csv, first row: '1234' is not a code of a scored"),
        (lambda names, rows: names.__setitem__(3, f"{names[4]}|{names[5]}"), "first row: .* nor several codes of one"),
        (lambda names, rows: names.__setitem__(0, names[1]), "first row: .* is there twice, as '164890007' and"),
        (lambda names, rows: (names.pop(), [row.pop() for row in rows], rows.pop()), "first row: no column for TInv"),
        (lambda names, rows: rows[6].__setitem__(2, "one"), "line 8: expected a number .*, received 'one'"),
        (lambda names, rows: rows[6].__setitem__(2, ""), "line 8: expected a number .*, received ''"),
        (lambda names, rows: rows[0].__setitem__(0, "nan"), "line 2: expected a number .*, received 'nan'"),
        (lambda names, rows: rows[0].__setitem__(0, "1e7"), "line 2: expected a number from -1,000,000 to 1,000,000"),
        (lambda names, rows: rows[25].pop(), "line 27: expected 27 values, received 26"),
    ],
)  # fmt: skip
def test_own_weights_that_cannot_be_are_refused_with_line_and_reason(change, reason, tmp_path):
    names, rows = list(CLASSES), WEIGHTS.tolist()
    change(names, rows)
    with pytest.raises(ValueError, match=reason):
        load_own_weights(write_weights(tmp_path / "own.csv", names, rows))


@pytest.mark.parametrize("content", [b"", b"\n", b",\n", b"\xff\xfe,1", b'"' + b"1" * 200_000])
def test_a_file_that_is_no_table_of_weights_is_refused(content, tmp_path):
    path = tmp_path / "own.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="own.csv, line 1: (expected codes of classes, received|not UTF-8)"):
        load_own_weights(path)


@pytest.mark.parametrize("seed", range(10))
def test_the_score_is_that_of_explicit_loops(seed):
    labels, probabilities = random_case(seed)
    outputs = probabilities >= 0.5
    assert weighted_confusion(labels, outputs).shape == (26, 26)
    assert np.isclose((WEIGHTS * weighted_confusion(labels, outputs)).sum(), credit_by_loops(labels, outputs, WEIGHTS))
    assert np.isclose(challenge_score(labels, outputs, WEIGHTS), score_by_loops(labels, outputs, WEIGHTS))


def test_hand_computed_credit():
    labels = make_labels(("AF", "PVC"), (), ("NSR",))
    outputs = make_labels(("AF", "AFL"), ("AF",), ())
    expected = np.zeros((26, 26))
    expected[AF, [AF, AFL]] = expected[CLASS_INDEX["PVC"], [AF, AFL]] = 1 / 3  # AF, AFL and PVC are its three classes
    assert np.array_equal(weighted_confusion(labels, outputs), expected)


def test_hand_computed_score():
    labels, outputs = make_labels(("AF",), ("NSR",)), make_labels(("AF", "AFL"), ("NSR",))
    inactive = WEIGHTS[AF, NSR] / 2 + 1
    predicted = (1 + WEIGHTS[AF, AFL]) / 2 + 1
    assert np.isclose(challenge_score(labels, outputs, WEIGHTS), (predicted - inactive) / (2 - inactive))


@pytest.mark.parametrize("seed", range(5))
def test_labels_score_one_and_sinus_rhythm_scores_zero(seed):
    labels, _ = random_case(seed)
    sinus = np.zeros_like(labels)
    sinus[:, NSR] = True
    assert challenge_score(labels, labels, WEIGHTS) == 1
    assert challenge_score(labels, sinus, WEIGHTS) == 0
    assert challenge_score(labels, np.zeros_like(labels), WEIGHTS) < 0


def test_the_score_is_zero_if_labels_earn_no_more_than_sinus_rhythm():
    labels = make_labels(("NSR",), ("NSR",))
    assert challenge_score(labels, make_labels(("AF",), ("NSR",)), WEIGHTS) == 0


def test_weights_that_are_not_known_earn_nothing():
    labels, probabilities = random_case(0)
    unknown, zero = WEIGHTS.copy(), WEIGHTS.copy()
    unknown[2:5, 7:9], zero[2:5, 7:9] = np.nan, 0
    assert challenge_score(labels, probabilities > 0.5, unknown) == challenge_score(labels, probabilities > 0.5, zero)
    search, expected = (search_thresholds(labels, probabilities, weights) for weights in (unknown, zero))
    assert np.array_equal(search.thresholds, expected.thresholds) and search.score_by_class == expected.score_by_class


def test_sinus_rhythm_may_be_another_column():
    labels, probabilities = random_case(1)
    order = np.random.default_rng(1).permutation(26)
    shuffled = labels[:, order], probabilities[:, order] > 0.5, WEIGHTS[order][:, order]
    score = challenge_score(*shuffled, sinus=order.tolist().index(NSR))
    assert np.isclose(score, challenge_score(labels, probabilities > 0.5, WEIGHTS))


@pytest.mark.parametrize("seed", range(3))
def test_gains_are_the_credit_of_one_more_predicted_class(seed):
    labels, probabilities = random_case(seed, recordings=8)
    outputs = probabilities >= 0.4
    gains = prediction_gain(labels, outputs, class_credit(labels, WEIGHTS))
    for recording in range(len(labels)):
        for column in range(26):
            off, on = outputs[[recording]].copy(), outputs[[recording]].copy()
            off[0, column], on[0, column] = False, True
            true_labels = labels[[recording]]
            gain = credit_by_loops(true_labels, on, WEIGHTS) - credit_by_loops(true_labels, off, WEIGHTS)
            assert np.isclose(gains[recording, column], gain, atol=1e-12)


def nearest_best(scores, candidates, near):
    """Return the best candidate; among equals the nearest, then the lower one."""
    best = max(scores)
    equals = [c for score, c in zip(scores, candidates, strict=True) if score >= best - 1e-9]
    return min(equals, key=lambda candidate: (abs(candidate - near), candidate))


def search_every_candidate(labels, probabilities):
    """Return the common and the class thresholds by evaluating every candidate."""

    def credit(thresholds):
        return (WEIGHTS * weighted_confusion(labels, probabilities >= thresholds)).sum()

    tenths = [credit(candidate / 10) for candidate in range(1, 10)]
    common = 10 * nearest_best(tenths, range(1, 10), 5)
    by_class = np.full(26, np.nan)
    for column in range(26):
        scores = []
        for candidate in range(20, 81):
            thresholds = np.full(26, common / 100)
            thresholds[column] = candidate / 100
            scores.append(credit(thresholds))
        by_class[column] = nearest_best(scores, range(20, 81), common) / 100
    return common / 100, by_class


@pytest.mark.parametrize("seed, levels", [(0, None), (1, None), (2, 20), (3, 100), (4, 4), (5, None)])
def test_thresholds_are_those_of_evaluating_every_candidate(seed, levels):
    labels, probabilities = random_case(seed, levels=levels)
    search = search_thresholds(labels, probabilities, WEIGHTS)
    common, by_class = search_every_candidate(labels, probabilities)
    assert search.common == common
    np.testing.assert_array_equal(search.thresholds, by_class)
    for score, thresholds in (
        (search.score_at_half, 0.5),
        (search.score_common, search.common),
        (search.score_by_class, search.thresholds),
    ):
        assert np.isclose(score, score_by_loops(labels, probabilities >= thresholds, WEIGHTS))
    assert search.score_common >= search.score_at_half


@pytest.mark.parametrize("seed", [6, 7])
def test_probabilities_next_to_a_candidate_are_on_the_right_side(seed):
    labels, probabilities = random_case(seed, levels=100)
    direction = np.random.default_rng(seed).choice([-9.0, 0.0, 9.0], probabilities.shape)  # below, on or above it
    probabilities = np.nextafter(probabilities, np.where(direction, direction, probabilities))
    probabilities[:3] = [[-0.5], [1.5], [1e300]]
    search = search_thresholds(labels, probabilities, WEIGHTS)
    common, by_class = search_every_candidate(labels, probabilities)
    assert search.common == common
    np.testing.assert_array_equal(search.thresholds, by_class)


def test_a_class_that_is_never_predicted_keeps_the_common_threshold():
    labels, probabilities = random_case(2)
    probabilities[:, 5] = 0
    search = search_thresholds(labels, probabilities, WEIGHTS)
    assert 0.2 <= search.common <= 0.8 and search.thresholds[5] == search.common


def test_perfect_probabilities_keep_one_half():
    labels, _ = random_case(0)
    search = search_thresholds(labels, labels.astype(np.float32), WEIGHTS)
    assert search.common == 0.5 and (search.thresholds == 0.5).all() and search.score_by_class == 1


def test_single_precision_probabilities_are_compared_as_in_prediction():
    labels, probabilities = random_case(3, levels=100)
    single = probabilities.astype(np.float32)
    search = search_thresholds(labels, single, WEIGHTS)
    assert np.isclose(search.score_by_class, challenge_score(labels, single >= search.thresholds, WEIGHTS))


def test_probabilities_that_are_not_finite_are_refused():
    labels, probabilities = random_case(0)
    probabilities[3, 4] = np.nan
    with pytest.raises(ValueError, match="1 of the probabilities are not finite"):
        search_thresholds(labels, probabilities, WEIGHTS)


@pytest.mark.parametrize("levels", [None, 5])
def test_areas_and_f_measures_are_those_of_sklearn(levels):
    labels, scores = random_case(7, recordings=200, levels=levels)
    present = labels.any(axis=0)
    assert 5 < present.sum() < 26
    auroc, auprc = roc_and_pr_areas(labels[:, present], scores[:, present])
    assert np.allclose(auroc, roc_auc_score(labels[:, present], scores[:, present], average=None))
    assert np.allclose(auprc, average_precision_score(labels[:, present], scores[:, present], average=None))
    expected = f1_score(labels[:, present], scores[:, present] > 0.5, average=None, zero_division=0)
    assert np.allclose(f_measures(labels[:, present], scores[:, present] > 0.5), expected)


def test_hand_computed_areas():
    labels = np.array([[1], [0], [1], [0]], bool)
    auroc, auprc = roc_and_pr_areas(labels, np.array([[0.9], [0.8], [0.8], [0.1]]))
    assert np.allclose(auroc, 0.5 * (1 + 1) * 0.5 + 0.5 * (1 + 0.5) * 0.5)  # TPR 0, .5, 1, 1; TNR 1, 1, .5, 0
    assert np.allclose(auprc, 0.5 * 1 + 0.5 * 2 / 3)


def test_undefined_values_are_nan():
    labels = np.array([[0, 1, 1], [0, 1, 0]], bool)
    auroc, auprc = roc_and_pr_areas(labels, np.array([[0.1, 0.2, 1e308], [0.3, 0.4, -1e308]]))
    assert np.isnan(auroc).tolist() == [True, True, False] and np.isnan(auprc).tolist() == [True, False, False]
    assert auprc[1] == 1 and auroc[2] == auprc[2] == 1
    measures = f_measures(labels, [[0, 0, 0], [0, 1, 1]])
    assert np.isnan(measures[0]) and np.allclose(measures[1:], [2 / 3, 0])


def test_metrics_without_recordings_are_nan():
    nothing = np.zeros((0, 26))
    areas = roc_and_pr_areas(nothing, nothing)
    assert np.shape(areas) == (2, 26) and np.isnan(areas).all()
    assert np.isnan(f_measures(nothing, nothing)).all() and np.isnan(accuracy(nothing, nothing))
    search = search_thresholds(nothing, nothing, WEIGHTS)
    assert (search.thresholds == 0.5).all() and search.score_by_class == 0


def test_means_ignore_nan():
    assert nan_mean(np.array([np.nan, 1, 4, np.nan])) == 2.5
    assert np.isnan(nan_mean(np.array([np.nan]))) and np.isnan(nan_mean(np.array([])))


def test_accuracy_is_the_share_of_recordings_with_every_class_right():
    labels = np.array([[0, 1], [1, 0], [0, 0], [1, 1]], bool)
    assert accuracy(labels, [[0, 1], [1, 1], [0, 0], [0, 0]]) == 0.5


@pytest.mark.parametrize("seed, levels", [(3, None), (7, 20)])
def test_resampled_thresholds_are_the_means_of_searches_on_samples_drawn_with_replacement(seed, levels):
    labels, probabilities = random_case(seed, levels=levels)
    search = search_thresholds(labels, probabilities, WEIGHTS, resamples=5, seed=3)
    generator, expected, commons = np.random.default_rng(3), [], set()
    for _ in range(5):
        draw = generator.integers(0, len(labels), len(labels))
        common, by_class = search_every_candidate(labels[draw], probabilities[draw])
        expected.append(by_class)
        commons.add(common)
    np.testing.assert_allclose(search.thresholds, np.mean(expected, axis=0), rtol=1e-12)
    assert len(commons) > 1
    plain = search_thresholds(labels, probabilities, WEIGHTS)
    np.testing.assert_array_equal(search.by_class, plain.thresholds)
    assert search.score_by_class == plain.score_by_class
    assert np.isclose(search.score, challenge_score(labels, probabilities >= search.thresholds, WEIGHTS))


def test_resampled_thresholds_generalise_better_from_few_recordings():
    rng = np.random.default_rng(0)

    def draw(count):
        labels = rng.random((count, 26)) < np.linspace(0.02, 0.2, 26)
        return labels, 1 / (1 + np.exp(-(1.5 * labels + rng.normal(size=labels.shape) - 0.5)))

    new, predictions = draw(4000)
    gains = []
    for _ in range(10):
        search = search_thresholds(*draw(100), WEIGHTS, resamples=30)
        with_means, without = (
            challenge_score(new, predictions >= thresholds, WEIGHTS)
            for thresholds in (search.thresholds, search.by_class)
        )
        gains.append(with_means - without)
    assert np.mean(gains) > 0


@pytest.mark.parametrize("levels", [None, 5])
def test_counted_recordings_equal_repeated_recordings(levels):
    labels, scores = random_case(8, recordings=60, levels=levels)
    counts = np.random.default_rng(8).integers(0, 4, (60, 7)).astype(np.float32)
    counts[:, 3] = labels[:, 14]  # no negatives of this class
    counts[:, 4] = ~labels[:, 14]  # and no positives
    areas, measures = roc_and_pr_areas(labels, scores, counts), f_measures(labels, scores > 0.5, counts)
    assert np.shape(areas) == (2, 26, 7) and measures.shape == (26, 7)
    for index, column in enumerate(counts.T.astype(int)):
        repeated = np.repeat(np.arange(60), column)
        np.testing.assert_allclose(areas[..., index], roc_and_pr_areas(labels[repeated], scores[repeated]), rtol=1e-6)
        np.testing.assert_allclose(measures[:, index], f_measures(labels[repeated], scores[repeated] > 0.5), rtol=1e-6)
    assert np.isnan(areas[0, 14, 3]) and areas[1, 14, 3] == 1 and np.isnan(areas[:, 14, 4]).all()


def test_means_of_several_are_along_the_first_axis():
    means = nan_mean(np.array([[np.nan, 1, 2], [np.nan, np.nan, 4]]))
    np.testing.assert_array_equal(means, [np.nan, 1, 3])
