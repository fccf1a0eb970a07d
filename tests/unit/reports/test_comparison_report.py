import numpy as np
import pytest
from helpers import ParsedPage, make_comparison

from ecg.evaluation.bootstrap import BY_CREDIT, METRICS, OPTIMISED, PREDICTED, compute_metrics
from ecg.reports.comparison_report import build_comparison_page, comparison_summary

TRIALS = (
    {"system": "first", "skill": 1.0, "seed": 0},
    {"system": "better", "skill": 3.0},
    {"system": "same", "skill": 1.0, "seed": 0},
    {"system": "worse", "skill": 0.2, "epochs": 31, "time_limited": 4},
)
FACTS = {"data": "/data/<b> | c", "seed": 7, "settings": [("setting", "first", "better"), ("loss", "<x>", "y|z")]}


@pytest.fixture(scope="module")
def comparison():
    return make_comparison(results=TRIALS)


@pytest.fixture(scope="module")
def metrics(comparison):
    return compute_metrics(comparison, 50)


@pytest.fixture(scope="module")
def read(comparison, metrics, tmp_path_factory):
    return ParsedPage(build_comparison_page(comparison, metrics, FACTS, tmp_path_factory.mktemp("page")))


def test_the_page_is_whole_by_itself(read):
    assert not read.wrong
    assert not read.attributes_of("script") and not read.attributes_of("link") and not read.attributes_of("iframe")
    for _, attributes in read.attributes:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/svg+xml;base64,"))
    assert len(read.attributes_of("img")) == 5 and all(attributes["alt"] for attributes in read.attributes_of("img"))
    assert len(read.attributes_of("caption")) == len(read.attributes_of("table")) == 14
    assert len(read.attributes_of("details")) == 7, "six measures by class, and those by source"


def test_scores_come_first_and_settings_last(read):
    titles = [
        "Scores",
        "Differences to first",
        "By class",
        "By source",
        "Costs",
        "How to read this",
        "What was compared",
    ]
    assert [text.strip() for text in read.text_in("h2")] == titles
    captions = read.text_in("caption")
    assert captions[0].startswith("12 leads: scores") and captions[-1].startswith("Settings")


def test_the_page_has_facts_scores_and_differences_by_class_and_source(read, comparison, metrics):
    texts = [text for _, text in read.texts]
    assert {"/data/<b> | c", "7", "<x>", "y|z"} <= set(texts)
    parts = [estimates[name] for estimates in metrics.overall for name in METRICS]
    parts += [estimates[source][name] for estimates in metrics.by_source for source in estimates for name in METRICS]
    labelled = comparison.labels.any(axis=0)
    parts += [values[:, column] for metric_values in metrics.by_class for values in metric_values.values()
              for column in np.flatnonzero(labelled)]  # fmt: skip
    for value, low, high in parts:
        if not np.isnan(value):
            value, low, high = (f"{number:.3f}".replace("-", "−") for number in (value, low, high))
            assert value in texts
            assert f"{low} to {high}" in texts or low == "nan"
    assert f"{metrics.differences[1][OPTIMISED][0]:+.3f}" in texts
    assert read.text_in("h1") == ["4 systems on 150 recordings, 1 lead set"]


def test_trainings_that_the_time_limit_stopped_are_with_scores_and_costs(read, comparison, metrics):
    assert "4 trainings stopped" in read.text_in("small") and "4 trainings" in read.text_in("strong")
    assert any("has not converged" in text for text in read.text_in("li"))
    cells = read.text_in("td")
    assert {"1,000", "1 min 00 s", "31", "10.0 ms"} <= set(cells)


def test_the_summary_names_the_best_and_counts_the_systems_that_differ(comparison, metrics):
    (value, low, high), (by_rule, lowest, highest) = (metrics.overall[1][name] for name in (OPTIMISED, PREDICTED))
    by_credit = "{:.3f} ({:.3f} to {:.3f})".format(*metrics.overall[1][BY_CREDIT])
    opening, sentence = comparison_summary(comparison, metrics)
    assert opening == ("The best Challenge metric, with optimised thresholds, by the systems' own rules and by "
                       "expected credit, and the number of systems that differ from first:")  # fmt: skip
    assert sentence == (
        f"12 leads: {value:.3f} ({low:.3f} to {high:.3f}) by better optimised, "
        f"{by_rule:.3f} ({lowest:.3f} to {highest:.3f}) by better by its own rule, "
        f"{by_credit} by better by expected credit; of 3 others, 1 better, 1 worse."
    )


def test_a_single_system_has_no_differences(tmp_path):
    comparison = make_comparison(results=({"system": "alone", "leads": 1},))
    metrics = compute_metrics(comparison, 3)
    page = build_comparison_page(comparison, metrics, {}, tmp_path)
    assert "Differences to" not in page and "<strong>" not in page and "1 lead: scores" in page
    assert comparison_summary(comparison, metrics)[0].startswith("The Challenge metric, with")
