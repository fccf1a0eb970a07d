"""The evaluator against loops written from the Challenge's rules: equal to the last bit, so also in rounding ties.

The loops add one number after another in the order of the rules. Only where the rules name a sum or mean of an array
(over the classes, over the table of weights, over the entries of a class) do they use numpy's.
"""

import math
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    NAMES,
    WEIGHTS,
    areas_by_loops,
    credit_by_loops,
    evaluate_by_loops,
    exact,
    f_measure_by_loops,
    mean_of_classes,
    metric_by_loops,
    write_reviews,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import ecg.__main__ as command_line
import evaluate_model
from ecg.data.labels import ABBREVIATIONS
from ecg.evaluation.metrics import (
    accuracy,
    challenge_score,
    challenge_scores,
    f_measures,
    nan_mean,
    roc_and_pr_areas,
    weighted_confusion,
)
from ecg.evaluation.outputs import find_files

ROOT = Path(__file__).parents[2]
LEVELS = (1, 2, 3, 5, 20, None)  # how many different scores a class has, None for any number
SIZES = (*range(1, 12), 16, 40, 80, 80, 125, 160, 200, 299, 300)  # among them sizes whose shares are ties at .3f


def random_case(random, classes, sizes=SIZES):
    """Labels, answers and scores of random size, frequency of each class and number of different scores."""
    recordings = int(random.choice(sizes))
    shape = recordings, classes
    labels = random.random(shape) < random.choice([0.0, 0.02, 0.1, 0.3, 0.5, 0.9, 1.0], classes)
    scores = np.clip(0.3 * labels + random.normal(0.35, 0.3, shape), 0, 1)
    for column in range(classes):
        levels = random.choice(LEVELS)
        if levels:
            scores[:, column] = np.ceil(scores[:, column] * levels) / levels
    outputs = scores >= random.choice([0.3, 0.5, 1.1])
    return labels, outputs, scores


@pytest.mark.parametrize("seed", range(4))
def test_areas_are_to_the_bit_those_of_the_loops(seed):
    random = np.random.default_rng(seed)
    for _ in range(300):
        labels, _, scores = random_case(random, 4)
        expected = [areas_by_loops(*map(list, pair)) for pair in zip(labels.T.tolist(), scores.T.tolist(), strict=True)]
        assert exact(np.transpose(roc_and_pr_areas(labels, scores))) == exact(expected)


any_score = st.sampled_from([0.0, -0.0, 0.1, 0.2, 0.3, 0.5, 1.0, -1.0, 5e-324, 1e300, -1e300]) | st.floats(
    allow_nan=False, allow_infinity=False
)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.booleans(), any_score), min_size=1, max_size=60))
def test_areas_of_any_scores_are_to_the_bit_those_of_the_loops(pairs):
    labels, scores = map(list, zip(*pairs, strict=True))
    actual = roc_and_pr_areas(np.array(labels)[:, np.newaxis], np.array(scores)[:, np.newaxis])
    assert exact(actual) == exact(areas_by_loops(labels, scores))


def test_areas_of_single_precision_are_those_of_the_same_numbers_in_double():
    labels, _, scores = random_case(np.random.default_rng(0), 26, [300])
    single = scores.astype(np.float32)
    assert exact(roc_and_pr_areas(labels, single)) == exact(roc_and_pr_areas(labels, single.astype(np.float64)))


@pytest.mark.parametrize("seed", range(4))
def test_credit_and_metric_are_to_the_bit_those_of_the_loops(seed):
    random = np.random.default_rng(seed)
    unknown = np.where(random.random(WEIGHTS.shape) < 0.1, np.nan, WEIGHTS)
    for _ in range(30):
        labels, outputs, _ = random_case(random, 26)
        labels &= random.random(labels.shape) < random.choice([0.2, 1.0])
        assert exact(weighted_confusion(labels, outputs)) == exact(credit_by_loops(labels.tolist(), outputs.tolist()))
        for weights in (WEIGHTS, unknown):
            expected = metric_by_loops(labels.tolist(), outputs.tolist(), weights)
            assert exact(challenge_score(labels, outputs, weights)) == exact(expected)
            assert exact(challenge_scores(labels, [labels, outputs], weights)[1]) == exact(expected)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.just(math.nan) | st.floats(-1, 1), max_size=40), st.integers(1, 3))
def test_means_are_to_the_bit_those_of_numpy(values, copies):
    expected = mean_of_classes(values)
    assert exact(nan_mean(np.array(values))) == exact(expected)
    several = np.repeat(np.array(values, float)[:, np.newaxis], copies, axis=1)
    for table in (several, np.asfortranarray(several)):
        assert exact(nan_mean(table)) == copies * exact(expected)


@pytest.mark.parametrize("seed", range(3))
def test_means_of_the_26_classes_are_to_the_bit_those_of_numpy(seed):
    random = np.random.default_rng(seed)
    for _ in range(1000):
        values = random.random((26, 3))
        values[random.random(values.shape) < random.choice([0.0, 0.3, 0.9])] = np.nan
        assert exact(nan_mean(values)) == exact([mean_of_classes(column) for column in values.T])


@pytest.mark.parametrize("seed", range(2))
def test_f_measures_and_accuracy_are_to_the_bit_those_of_the_loops(seed):
    random = np.random.default_rng(seed)
    for _ in range(100):
        labels, outputs, _ = random_case(random, 5)
        columns = zip(labels.T.tolist(), outputs.T.tolist(), strict=True)
        assert exact(f_measures(labels, outputs)) == exact([f_measure_by_loops(*pair) for pair in columns])
        right = sum(a == b for a, b in zip(labels.tolist(), outputs.tolist(), strict=True)) / len(labels)
        assert exact(accuracy(labels, outputs)) == exact(right)


def write_files(folder, labels, columns, answers, entries):
    """Write label files and output files with these columns; return the two folders."""
    for name in ("labels", "outputs"):
        (folder / name).mkdir(parents=True)
    for number, (label, answer, entry) in enumerate(zip(labels, answers, entries, strict=True)):
        codes = [NAMES[k].split("|")[-1] for k in np.flatnonzero(label)]
        (folder / f"labels/A{number:04}.hea").write_text(f"A{number:04} 12 500 5000\n#Dx: {','.join(codes)}\n")
        lines = (f"#A{number:04}", ",".join(columns), *(",".join(map(str, row)) for row in (answer, entry)))
        (folder / f"outputs/A{number:04}.csv").write_text("\n".join([*map(str, lines), ""]))
    return folder / "labels", folder / "outputs"


def text_of(values):
    """The two texts that the rules give for evaluate_by_loops' numbers."""
    auroc, auprc, auroc_classes, auprc_classes, right, measure, measures, metric = values
    row = ",".join
    first = row(f"{value:.3f}" for value in (auroc, auprc, right, measure, metric))
    classes = row("|".join(sorted(name.split("|"))) for name in NAMES)
    lines = [
        f"{title},{row(f'{value:.3f}' for value in column)}"
        for title, column in (("AUROC", auroc_classes), ("AUPRC", auprc_classes), ("F-measure", measures))
    ]
    return f"AUROC,AUPRC,Accuracy,F-measure,Challenge metric\n{first}", "\n".join([f"Classes,{classes}", *lines])


def check_files(folder, labels, columns, answers, entries):
    """Write a case as files, and compare the evaluator's numbers and text with the loops'."""
    groups = [[k for k, column in enumerate(columns) if set(column.split("|")) & set(name.split("|"))]
              for name in NAMES]  # fmt: skip
    outputs, scores = np.zeros(labels.shape, bool), np.zeros(labels.shape)
    for recording in range(len(labels)):
        for k, places in enumerate(groups):
            if places:
                outputs[recording, k] = any(answers[recording][place] for place in places)
                scores[recording, k] = np.mean([float(entries[recording][place]) for place in places])
    actual = evaluate_model.evaluate_model(*write_files(folder, labels, columns, answers, entries))
    expected = evaluate_by_loops(labels, outputs, scores)
    for value, reference in zip(actual[1:], expected, strict=True):
        assert exact(value) == exact(reference)
    assert evaluate_model.format_scores(actual) == text_of(expected)


def test_a_value_that_lies_between_two_texts_is_printed_as_the_challenge_prints_it(tmp_path, capsys):
    """The sum is 9 / 80 = 0.1125, whose nearest float64 lies above it."""
    labels = np.zeros((80, 26), bool)
    labels[:9, 3] = True
    folders = write_files(tmp_path, labels, NAMES, np.zeros((80, 26), int), np.full((80, 26), 0.5))
    evaluate_model.main([*map(str, folders)])
    assert capsys.readouterr().out.splitlines()[-1].split(",")[:2] == ["0.500", "0.113"]
    check_files(tmp_path / "again", labels, NAMES, np.zeros((80, 26), int), np.full((80, 26), 0.5))


@pytest.mark.parametrize("seed", range(30))
def test_files_are_scored_and_printed_to_the_bit_as_by_the_loops(seed, tmp_path):
    random = np.random.default_rng(seed)
    labels, outputs, scores = random_case(random, 26, [1, 2, 5, 16, 40, 80, 125])
    check_files(tmp_path, labels, NAMES, outputs.astype(int), scores)


@pytest.mark.parametrize("seed", range(15))
def test_means_of_several_entries_of_a_class_are_to_the_bit_those_of_the_loops(seed, tmp_path):
    """Up to 20 entries share a code with a class, and many means are nearly equal."""
    random = np.random.default_rng(seed)
    labels, _, _ = random_case(random, 26, [1, 3, 40, 80])
    columns = [code for name in NAMES for code in name.split("|")]
    columns += random.choice(columns, random.integers(1, 60)).tolist() + ["999", f"{columns[0]}|{columns[5]}"]
    columns += [columns[2]] * int(random.integers(20))
    columns = [str(column) for column in random.permutation(columns)]
    answers = random.random((len(labels), len(columns))) < 0.05
    entries = random.choice([0.1, 0.2, 0.3, 0.7, 0.1 + 0.2], answers.shape)
    check_files(tmp_path, labels, columns, answers.astype(int), entries)


def test_outputs_are_scored_by_weights_of_ones_own(tmp_path, capsys):
    random = np.random.default_rng(7)
    labels, outputs, scores = random_case(random, 26, [80])
    folders = write_files(tmp_path / "case", labels, NAMES, outputs.astype(int), scores)
    weights = WEIGHTS + random.normal(0, 0.4, WEIGHTS.shape).round(2)
    rows = [["", *NAMES], *([name, *map(str, row)] for name, row in zip(NAMES, weights.tolist(), strict=True))]
    (tmp_path / "own.csv").write_text("".join(f"{','.join(row)}\n" for row in rows))
    printed = {}
    for options in ((), ("--weights", str(ROOT / "weights.csv")), ("--weights", str(tmp_path / "own.csv"))):
        command_line.main(["evaluate", *map(str, folders), *options])
        printed[options] = capsys.readouterr().out
    evaluate_model.main([*map(str, folders)])
    challenge, same, changed = printed.values()
    assert challenge == same == capsys.readouterr().out
    metric = challenge_score(labels, outputs, weights)
    assert exact(metric) == exact(metric_by_loops(labels, outputs, weights))
    names, values = changed.splitlines()
    assert values == f"{challenge.splitlines()[-1].rpartition(',')[0]},{metric:.3f}"
    assert challenge.splitlines()[0] == "AUROC,AUPRC,Accuracy,F-measure,Challenge metric"
    assert names == "AUROC,AUPRC,Accuracy,F-measure,metric with your own weights"  # as in reports
    (tmp_path / "own.csv").write_text("AF,NSR\n")
    with pytest.raises(SystemExit, match="own.csv: no row of 'NSR'"):
        command_line.main(["evaluate", *map(str, folders), "--weights", str(tmp_path / "own.csv")])
    with pytest.raises(SystemExit, match="missing: No such file"):
        command_line.main(["evaluate", str(tmp_path / "missing"), str(folders[1])])


def test_outputs_are_scored_by_corrected_labels(tmp_path, capsys):
    random = np.random.default_rng(8)
    labels, outputs, scores = random_case(random, 26, [12])
    folders = write_files(tmp_path / "case", labels, NAMES, outputs.astype(int), scores)
    corrected = random.random(labels.shape) < 0.1
    write_labels = write_files(tmp_path / "corrected", corrected, NAMES, outputs.astype(int), scores)
    records = [path.relative_to(folders[0]).with_suffix("").as_posix() for path in sorted(folders[0].rglob("*.hea"))]
    rows = [("Anna", record, abbreviation, "present" if present else "absent")
            for record, row in zip(records, corrected, strict=True)
            for abbreviation, present in zip(ABBREVIATIONS, row.tolist(), strict=True)]  # fmt: skip
    reviews = write_reviews(tmp_path / "reviews", *rows)
    command_line.main(["evaluate", *map(str, folders), "--corrections", str(reviews)])
    by_reviews = capsys.readouterr().out
    command_line.main(["evaluate", *map(str, write_labels)])
    assert capsys.readouterr().out == by_reviews
    with pytest.raises(SystemExit, match="nowhere: reviews cannot be read"):
        command_line.main(["evaluate", *map(str, folders), "--corrections", str(tmp_path / "nowhere")])


def test_scores_whose_sum_is_too_large_are_scored_without_a_warning(tmp_path):
    labels = np.zeros((4, 26), bool)
    labels[:2, 0] = True
    columns, entries = [NAMES[0], NAMES[0]], [["1e308", "1e308"], ["0", "1"], ["1e308", "0"], ["0", "0"]]
    folders = write_files(tmp_path, labels, columns, np.ones((4, 2), int), entries)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        actual = evaluate_model.evaluate_model(*folders)
    assert actual[3][0] == 0.75


def spread_files(folder, paths, seed=0):
    """Write a random case flat and again with these paths, without extension; return both pairs of folders."""
    random = np.random.default_rng(seed)
    labels, outputs, scores = random_case(random, 26, [len(paths)])
    flat = write_files(folder / "flat", labels, NAMES, outputs.astype(int), scores)
    nested = folder / "nested/labels", folder / "nested/outputs"
    for number, path in enumerate(paths):
        for source, target, extension in zip(flat, nested, ("hea", "csv"), strict=True):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / f"A{number:04}.{extension}", f"{target / path}.{extension}")
    return flat, nested


def test_nested_labels_are_scored_with_the_outputs_at_the_same_paths(tmp_path):
    paths = ["a", "b/ecg", "b/p002/ecg", "c-1/ecg", "c/ecg", "p001/ecg", "p002/ecg", "é/\udcff"]
    flat, nested = spread_files(tmp_path, paths)
    (nested[0] / "b").rename(tmp_path / "b")  # and links to folders are followed
    (nested[0] / "b").symlink_to(tmp_path / "b")
    (nested[1] / "p001").rename(tmp_path / "p001")
    (nested[1] / "p001").symlink_to(tmp_path / "p001")
    (nested[0] / "c/again").symlink_to("..")
    (nested[0] / "p002/ecg.hea").rename(nested[0] / "p002/ecg.HEA")
    for hidden in (".hidden.hea", ".git/ecg.hea", "p001/.hidden/ecg.hea"):
        (nested[0] / hidden).parent.mkdir(exist_ok=True)
        (nested[0] / hidden).touch()
    actual = find_files(*nested)
    for folder, files, extensions in zip(nested, actual, ({".hea", ".HEA"}, {".csv"}), strict=True):
        relative = [os.path.splitext(os.path.relpath(file, folder)) for file in files]
        assert [path for path, _ in relative] == sorted(paths) and {end for _, end in relative} == extensions
    for value, expected in zip(
        evaluate_model.evaluate_model(*nested), evaluate_model.evaluate_model(*flat), strict=True
    ):
        assert repr(value) == repr(expected)


def test_files_are_sorted_by_their_path_with_its_extension_as_in_a_flat_folder(tmp_path):
    for folder in ("labels", "outputs"):
        (tmp_path / folder / "a").mkdir(parents=True)
    for name in ("a.hea", "a-1.HEA", "a/b.hea", "B.hea", "a+.hea"):
        (tmp_path / "labels" / name).touch()
        (tmp_path / "outputs" / f"{name[:-4]}.csv").touch()
    labels, outputs = find_files(tmp_path / "labels", tmp_path / "outputs")
    names = [os.path.relpath(file, tmp_path / "labels") for file in labels]
    assert names == ["B.hea", "a+.hea", "a-1.HEA", "a.hea", "a/b.hea"]
    assert [os.path.relpath(file, tmp_path / "outputs") for file in outputs] == [f"{name[:-4]}.csv" for name in names]


def test_a_missing_output_is_named_by_its_path(tmp_path):
    _, (labels, outputs) = spread_files(tmp_path, ["p001/ecg", "p002/ecg", "p003/ecg"])
    message = f"output file p002/ecg.csv not found in {outputs} for label file p002/ecg.hea"
    (outputs / "p002/ecg.csv").unlink()
    (outputs / "ecg.csv").touch()  # of the same name, but of no recording
    for change in (lambda: None, lambda: (outputs / "p002/ecg.csv").mkdir(), lambda: shutil.rmtree(outputs / "p002"),
                   lambda: (outputs / "p002").touch()):  # fmt: skip
        change()
        with pytest.raises(FileNotFoundError) as raised:
            evaluate_model.evaluate_model(labels, outputs)
        assert str(raised.value) == message
    for name, kind in (("missing", FileNotFoundError), ("p002", NotADirectoryError)):
        with pytest.raises(kind) as raised:
            evaluate_model.evaluate_model(labels, outputs / name)
        assert Path(raised.value.filename) == outputs / name


def test_two_label_files_of_one_output_file_are_an_error_that_names_both(tmp_path):
    _, (labels, outputs) = spread_files(tmp_path, ["p001/ecg", "p002/ecg"])
    (labels / "p002/ecg.HEA").touch()
    with pytest.raises(OSError) as raised:
        evaluate_model.evaluate_model(labels, outputs)
    expected = "label files p002/ecg.HEA and p002/ecg.hea would have the same output file p002/ecg.csv"
    assert str(raised.value) == f"{labels}: {expected}"


def test_labels_that_cannot_be_read_are_an_error_and_other_broken_links_are_reported(
    tmp_path, capsys, unlistable_folder
):
    _, (labels, outputs) = spread_files(tmp_path, ["a", "p001/ecg"])
    (labels / "georgia").symlink_to("not mounted")
    (labels / ".hidden").symlink_to("nowhere")
    assert len(find_files(labels, outputs)[0]) == 2
    assert capsys.readouterr() == ("", f"{labels}/georgia: No such file or directory\n")
    (labels / "b.hea").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError) as raised:
        evaluate_model.evaluate_model(labels, outputs)
    assert raised.value.filename == f"{labels}/b.hea"
    (labels / "b.hea").unlink()
    unlistable_folder(labels / "p001")
    with pytest.raises(PermissionError) as raised:
        evaluate_model.evaluate_model(labels, outputs)
    assert raised.value.filename == f"{labels}/p001"


def test_hidden_outputs_and_folders_of_outputs_are_no_matter(tmp_path, unlistable_folder):
    _, (labels, outputs) = spread_files(tmp_path, ["a", "p001/ecg"])
    (outputs / "unrelated").mkdir()
    unlistable_folder(outputs / "unrelated")  # no label file lies there
    assert len(find_files(labels, outputs)[1]) == 2
