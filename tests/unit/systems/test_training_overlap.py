"""What a model was trained on is found by its report, and a comparison with it is warned of."""

import pytest
from helpers import capture_log
from result_helpers import make_corrected_results, make_results

from ecg.data.reviews import Review, Verdict
from ecg.reports.training_report import write_report
from ecg.systems.training_overlap import describe_overlap, read_training_content


@pytest.fixture(scope="module")
def results():
    return make_corrected_results()


@pytest.fixture(scope="module")
def model(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_report(folder, results, results.settings)
    return folder


def review_all(names, abbreviation="AF"):
    return [Review(name, abbreviation, Verdict.PRESENT, reviewer="Ann") for name in names]


def test_the_content_of_a_training_is_read_from_its_report(model, results):
    content, names = read_training_content(model), results.store.names
    assert content.training == set(names[results.training]) and content.validation == set(names[results.validation])
    assert content.corrected == {(name, "AF") for name in names[::3]}


def test_reviewed_recordings_and_verdicts_of_a_training_are_counted(model, results):
    content, names = read_training_content(model), results.store.names.tolist()
    warning = describe_overlap("mine", content, review_all([*names[:9], "elsewhere"]))
    assert "mine was trained on 4 and validated on 5 of the 10 reviewed recordings" in warning
    assert "3 of the 10 reviewed labels" in warning
    without = describe_overlap("mine", content, review_all(names[:9], "LAD"))
    assert "was trained on" in without and "reviewed labels" not in without
    assert describe_overlap("mine", content, review_all(["x", "y"])) == ""


def test_names_match_also_if_another_folder_was_trained_on(model):
    content = read_training_content(model)
    assert "on 1 and validated on 0 of the 1 " in describe_overlap("mine", content, review_all(["part/R001"]))
    nested = content._replace(training=frozenset(["a/b/X1"]), validation=frozenset())
    for name, is_trained in (("X1", True), ("b/X1", True), ("c/X1", False), ("z/a/b/X1", True), ("1", False)):
        assert bool(describe_overlap("mine", nested, review_all([name]))) == is_trained, name


def test_a_model_without_a_report_is_not_known(tmp_path):
    assert read_training_content(tmp_path) is None
    warning = describe_overlap("mine", None, review_all(["x"]))
    assert "not known" in warning and "mine" in warning


def test_a_damaged_report_is_logged_and_not_known(model, tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "split.csv").write_text("nonsense\n1\n")
    log = capture_log()
    assert read_training_content(tmp_path) is None
    assert "split.csv, line 1" in "".join(log)


def test_a_training_without_corrections_has_none(tmp_path):
    results = make_results()
    write_report(tmp_path, results, results.settings)
    content = read_training_content(tmp_path)
    assert not content.corrected and content.training | content.validation == set(results.store.names)
