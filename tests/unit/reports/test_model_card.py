import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import WEIGHTS, ParsedPage
from result_helpers import make_corrected_results, make_exclusive_results, make_results, make_voting_results
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from ecg.data.labels import ABBREVIATIONS, CLASS_INDEX, DROPPED
from ecg.data.leads import LEADS
from ecg.data.preprocessing import encode_demographics
from ecg.evaluation.metrics import challenge_score
from ecg.evaluation.subgroups import FEWEST_OF_CLASS, FEWEST_RECORDINGS
from ecg.reports.card_content import TrainingStart, build_model_card
from ecg.reports.card_tables import (
    FEWEST_NEGATIVES,
    FEWEST_POSITIVES,
    SPECIFICITIES,
    TOO_FEW,
    card_tables,
    count_resamples,
    group_recordings,
)
from ecg.reports.html_page import Cell, build_page
from ecg.reports.model_card import CardSection, CardTable, ModelCard, card_html, escape_markdown, format_markdown
from ecg.reports.training_tables import training_tables
from ecg.systems.recipes import RECIPES, SyntheticPretraining

START = TrainingStart("python -m ecg train DATA MODEL --seed 1", "sh", {"digest": "abc"})


def rows_of(table):
    return [dict(zip(table[0], row, strict=True)) for row in table[1:]]


def make_card(results):
    """The card of results, and its tables."""
    tables = training_tables(results) | card_tables(results)
    return build_model_card(results, tables, {"numpy": np.__version__}, START), tables


def texts_of(card, title):
    """The sentences of a section."""
    (section,) = (section for section in card.sections if section.title == title)
    return [
        text for part in section.parts for text in ([part] if isinstance(part, str) else getattr(part, "texts", ()))
    ]


def says(card, *words):
    """Whether a sentence of the card has all of these words."""
    texts = [text for section in card.sections for text in texts_of(card, section.title)]
    return any(all(word in text for word in words) for text in texts)


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    """Intervals of fewer resamples, which are faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ecg.reports.card_tables.RESAMPLES", 60)
        yield


@pytest.fixture(scope="module")
def large():
    """Results with enough recordings for scores; no recording has PR."""
    results = make_results(count=700)
    labels = results.labels.copy()
    labels[:, CLASS_INDEX["PR"]] = False
    return replace(results, labels=labels, scored=np.ones_like(results.scored))


@pytest.fixture(scope="module")
def made(large):
    return make_card(large)


@pytest.fixture
def known_groups(large):
    """Group of each scored recording by hand, by grouping."""
    ages = large.store.demographics[large.scored_rows]
    years = np.rint(ages[:, 0].astype(float) * 100)
    by_age = np.select([ages[:, 3] == 1, years < 40, years < 65], ["unknown", "under 40", "40 to 64"], "65 and over")
    by_sex = np.select([ages[:, 1] == 1, ages[:, 2] == 1], ["female", "male"], "unknown")
    everyone = np.full(len(ages), "recordings")
    return {"all": everyone, "source": large.store.sources[large.scored_rows], "age": by_age, "sex": by_sex}


def test_every_group_of_recordings_is_counted_once(large, made):
    rows = rows_of(made[1]["groups"])
    for grouping in ("all", "source", "age", "sex"):
        members = [row for row in rows if row["grouping"] == grouping]
        for part, count in (("recordings", 700), ("training", 350), ("validation", 350), ("scored", 350)):
            assert sum(row[part] for row in members) == count
    assert {row["group"] for row in rows if row["grouping"] == "source"} == set(large.store.sources)


@pytest.mark.parametrize("age, group", [
    (0, "under 40"), (39, "under 40"), (39.9, "under 40"), (40, "40 to 64"), (64, "40 to 64"), (64.9, "40 to 64"),
    (65, "65 and over"), (89, "65 and over"), (300, "65 and over"), (np.nan, "unknown"),
])  # fmt: skip
def test_an_age_is_in_its_group(large, age, group):
    demographics = np.array([encode_demographics(age, "Female")] * 700)
    groups, names = group_recordings(replace(large, store=replace(large.store, demographics=demographics)))["age"]
    assert set(groups) == {group} and group in names


@pytest.mark.slow
def test_the_scores_of_groups_are_those_of_scikit_learn(large, made, known_groups):
    rows = [row for row in rows_of(made[1]["group_scores"]) if row["labels"] == "cleaned"]
    assert len(rows) == 2 * (1 + 3 + 4 + 3) and sum(row["note"] == "" for row in rows) > 15
    for row in rows:
        chosen = known_groups[row["grouping"]] == row["group"]
        labels, outputs = large.scored_labels[chosen], large.predictions(row["leads"])[chosen]
        probabilities = large.probabilities(row["leads"])[chosen]
        counts = labels.sum(axis=0)
        counted = (counts >= FEWEST_OF_CLASS) & (len(labels) - counts >= FEWEST_OF_CLASS)
        counted[[CLASS_INDEX[name] for name in DROPPED]] = False
        assert (row["recordings"], row["classes"]) == (chosen.sum(), counted.sum())
        assert (row["note"] == TOO_FEW) == (chosen.sum() < FEWEST_RECORDINGS or counted.sum() < 2)
        if row["note"]:
            assert np.isnan([row[name] for name in ("metric", "AUROC", "AUPRC", "F-measure low")]).all()
            continue
        assert row["metric"] == challenge_score(labels, outputs, WEIGHTS)
        for name, score, values in (("AUROC", roc_auc_score, probabilities), ("F-measure", f1_score, outputs),
                                    ("AUPRC", average_precision_score, probabilities)):  # fmt: skip
            expected = [score(labels[:, k], values[:, k]) for k in np.flatnonzero(counted)]
            assert row[name] == pytest.approx(np.mean(expected), abs=1e-9)
            assert row[f"{name} low"] < row[name] < row[f"{name} high"]


def test_all_recordings_are_also_scored_by_the_labels_before_relabelling(large, made):
    rows = [row for row in rows_of(made[1]["group_scores"]) if row["labels"] == "original"]
    assert [(row["leads"], row["grouping"]) for row in rows] == [(12, "all"), (2, "all")]
    for row in rows:
        outputs = large.predictions(row["leads"])
        assert row["metric"] == challenge_score(large.store.labels[large.scored_rows], outputs, WEIGHTS)
    unchanged = replace(large, labels=large.store.labels)
    assert {row["labels"] for row in rows_of(card_tables(unchanged)["group_scores"])} == {"cleaned"}


def test_thresholds_have_the_specificity_and_the_sensitivity_that_the_table_gives(large, made):
    rows = rows_of(made[1]["operating_points_12_leads"])
    assert [row["class"] for row in rows[::2]] == [name for name in ABBREVIATIONS if name not in DROPPED]
    assert any(not row["note"] for row in rows) and any(row["note"] for row in rows)
    for row in rows:
        index = CLASS_INDEX[row["class"]]
        known, scores = large.scored_labels[:, index], large.probabilities(12)[:, index]
        assert (row["with"], row["without"]) == (known.sum(), (~known).sum())
        assert row["required specificity"] in SPECIFICITIES
        assert (row["note"] == "") == (known.sum() >= FEWEST_POSITIVES and (~known).sum() >= FEWEST_NEGATIVES)
        if not row["note"]:
            assert row["specificity"] == (scores[~known] < row["threshold"]).mean() >= row["required specificity"]
            assert row["sensitivity"] == (scores[known] >= row["threshold"]).mean()
            assert row["sensitivity low"] <= row["sensitivity"] <= row["sensitivity high"]


def test_intervals_are_over_patients_if_these_are_known(large, made):
    patients = np.arange(700) // 2 % 20  # many recordings of each, in training and validation alike
    with_patients = replace(large, store=replace(large.store, patients=patients))
    card, tables = make_card(with_patients)
    one_each, alone = (
        next(row for row in rows_of(table["group_scores"]) if row["group"] == "recordings")
        for table in (tables, made[1])
    )
    assert one_each["metric"] == alone["metric"] and one_each["metric low"] != alone["metric low"]
    assert rows_of(tables["groups"])[0]["patients"] == 20
    assert says(card, "intervals over patients") and says(card, "All recordings of a patient are in the same part")
    assert says(made[0], "intervals over recordings") and says(made[0], "not known which recordings are of one patient")


def test_labels_before_and_after_cleaning_add_up(large, made):
    rows = rows_of(made[1]["changed_labels"])
    for row in rows:
        index = CLASS_INDEX[row["class"]]
        assert row["before"] == large.store.labels[:, index].sum()
        assert row["after"] == large.labels[:, index].sum() == row["before"] + row["added"] - row["removed"]
    assert sum(row["ignored present"] + row["ignored absent"] for row in rows) == (large.masks == 0).sum()
    assert says(made[0], f"Ignored in training: {(large.masks == 0).sum():,} of {large.masks.size:,} labels")


def test_sampling_frequencies_and_leads_are_those_of_the_files(large, made):
    rows = rows_of(made[1]["recording_properties"])
    by_value = {row["value"]: row["recordings"] for row in rows if row["property"] != "age in years"}
    assert by_value["500 Hz"] == (large.store.sources == "CPSC").sum() == 700 - by_value["257 Hz"]
    assert by_value["2: I II"] == 88 and by_value[str(len(LEADS))] == 612
    assert says(made[0], "257 to 500 Hz")


def test_the_file_and_the_page_have_the_same_tables(made):
    markdown_it = pytest.importorskip("markdown_it")
    card, _ = made
    rendered = ParsedPage(markdown_it.MarkdownIt().enable("table").render(format_markdown(card)))
    page = ParsedPage(build_page("Training", [], {"Model card": card_html(card)}))
    assert not rendered.wrong and not page.wrong
    tables = [part for section in card.sections for part in section.parts if isinstance(part, CardTable)]
    assert len(rendered.attributes_of("table")) == len(page.attributes_of("table")) == len(tables) >= 8
    n_rows = sum(1 + sum(map(len, table.groups.values())) for table in tables)
    assert len(rendered.attributes_of("tr")) == n_rows
    in_file, on_page = (" ".join(text for _, text in parsed.texts) for parsed in (rendered, page))
    for table in tables:
        assert table.caption in in_file and table.caption in on_page
        for rows in table.groups.values():
            for cell in (cell for row in rows for cell in row):
                assert cell.text in in_file and cell.text in on_page
                assert (f"({cell.note})" if cell.note else "") in in_file and cell.note in on_page
    for section in card.sections:
        for text in texts_of(card, section.title):
            assert text in " ".join(in_file.split()) and text in on_page
    assert START.code in in_file and START.code in on_page


def test_a_row_of_the_file_has_as_many_cells_as_its_header(made):
    lines = format_markdown(made[0]).split("\n")
    for number, line in enumerate(lines):
        if line.startswith("| ---"):
            width = lines[number - 1].count(" | ")
            while lines[number].startswith("|"):
                assert lines[number].count(" | ") == width
                number += 1


@pytest.mark.parametrize("text", [
    "<b>bold</b> <script>", "a|b", "`code` *star* _under_ __two__", "[x](javascript:alert)", "&amp; ~~no~~", "a_b_c",
    "back\\slash \\| ", "# no heading", "line\nbreak \u2028",
])  # fmt: skip
def test_markup_in_names_is_shown_as_it_is(text):
    markdown_it = pytest.importorskip("markdown_it")
    table = CardTable(f"caption {text}", ("", f"b {text}"), {f"Of {text}": [[Cell(f"name {text}"), Cell("1", text)]]})
    card = ModelCard(f"Card {text}", (CardSection(f"Section {text}", (f"Words {text}", table)),))
    shown = re.sub(r"\n|\u2028", lambda match: match[0].encode("unicode_escape").decode(), text).strip()
    for html in (markdown_it.MarkdownIt().enable("table").enable("strikethrough").render(format_markdown(card)),
                 build_page("page", [], {"card": card_html(card)})):  # fmt: skip
        parsed = ParsedPage(html)
        tags = {tag for tag, _ in parsed.attributes}
        assert not tags & {"b", "script", "code", "em", "del"}
        assert not [link for link in parsed.attributes_of("a") if link["href"].startswith("javascript")]
        words = " ".join(text for _, text in parsed.texts)
        assert f"Words {shown}" in words and f"name {shown}" in words


def test_plain_words_stay_readable_in_the_file():
    assert escape_markdown("thresholds.csv of model_card, AFL or AF (2.5 %): 3-4") == (
        "thresholds.csv of model_card, AFL or AF (2.5 %): 3-4"
    )


@pytest.mark.parametrize("make", [make_results, make_exclusive_results, make_voting_results])
def test_classes_are_named_by_what_is_predicted(make):
    results = make(count=300)
    card, _ = make_card(results)
    (predicts,) = (text for text in texts_of(card, "Intended use") if text.startswith("It predicts: "))
    predictable = set(re.findall(r"(\w+) \(", predicts))
    assert predictable == {name for name in results.settings.classes if name in ABBREVIATIONS}
    (never,) = (text for text in texts_of(card, "Limits") if text.startswith("It never predicts"))
    excluded = set(re.findall(r"(\w+) \(", never))
    assert excluded == set(ABBREVIATIONS) - predictable
    for leads in results.searches:
        is_predicted = results.predictions(leads).any(axis=0)
        assert not excluded & set(np.array(ABBREVIATIONS)[is_predicted])
        missing = {name for name in predictable if not is_predicted[CLASS_INDEX[name]]}
        sentences = [text for text in texts_of(card, "Limits") if text.startswith("It predicts in none")]
        assert missing == set(re.findall(rf"(\w+(?:, \w+)*) with {leads} leads", sentences[0])[0].split(", ")
                              if sentences and f"with {leads} leads" in sentences[0] else [])  # fmt: skip


def test_a_class_that_never_wins_is_named(large):
    predicted = replace(large, searches={12: replace(large.searches[12], thresholds=np.full(26, 2.0))})
    (text,) = (text for text in texts_of(make_card(predicted)[0], "Limits") if "in none of the scored" in text)
    assert text.count(",") == 21 and text.endswith("with 12 leads.")


def test_exclusive_classes_are_described():
    results = make_exclusive_results(300)
    used = results.training[:50]
    card, tables = make_card(replace(results, training=used))
    assert says(card, "excluded each other", f"{len(used) + 150} of 300")
    assert says(card, "STE: trained, but never among the predictions")
    assert says(card, "The most probable class alone") and not says(card, "thresholds.csv")
    assert not says(card, "the thresholds of the decision")
    assert rows_of(tables["groups"])[0]["recordings"] == len(used) + 150
    assert {row["class"] for row in rows_of(tables["operating_points_12_leads"])} == {"NSR", "AF", "STE", "PVC"}


def test_votes_are_described():
    card, _ = make_card(make_voting_results(300))
    assert says(card, "more than half of the networks") and says(card, "decided", "the thresholds of the decision")


@pytest.mark.parametrize("name", ["cai2021", "li2021", "zhao2022", "nejedly2021", "apprentice"])
def test_what_the_card_says_of_a_system_is_in_its_settings(large, name):
    settings = RECIPES[name]
    fields = set("system folds splits decision pretraining gate implies answer_pairs fallback source_masks views "
                 "network peaks peak_training leads_used cleaning".split())  # fmt: skip
    fields -= {"decision"} if name == "nejedly2021" else set()  # the results have no votes
    settings = replace(large.settings, **{field: getattr(settings, field) for field in fields})
    card, _ = make_card(replace(large, settings=settings))
    assert name in card.title
    assert says(card, "not trained on it. The model uses all") == (settings.n_parts > 1)
    assert says(card, "the calibration of the decision") == (settings.decision == "expected_credit")
    assert says(card, "20,000 synthetic recordings") == (settings.pretraining is not None)
    assert says(card, "A further network tells whether") == (settings.gate is not None)
    assert says(card, "Age and sex are inputs") == (name == "zhao2022")
    assert says(card, "If no other class is predicted, NSR is.") == (settings.fallback == "NSR")
    assert says(card, "Wherever TInv is predicted, TAb is, too.") == bool(settings.answer_pairs)
    assert says(card, "BBB is added wherever LBBB is labelled") == bool(settings.implies)
    assert says(card, "classes that a source does not label") == settings.source_masks
    assert says(card, "labels that a first network contradicts") == settings.cleaning.masks
    for leads in large.searches:
        assert says(card, f"{leads} leads: the networks use {', '.join(settings.leads_of(leads))}.")
    n_networks = settings.n_parts * len(settings.views)
    assert says(card, f"{n_networks} network{'s' * (n_networks > 1)} for each lead set")


def test_initial_weights_and_own_weights_and_time_limits_are_described(large):
    card, _ = make_card(large)
    assert not says(card, "saved model") and says(card, "Challenge metric") and says(card, "same weights")
    weights = tuple(map(tuple, (WEIGHTS * 0.5 + 0.1).tolist()))
    settings = replace(large.settings, initial_model="/a/model", weights=weights, hours=2.0)
    card, tables = make_card(replace(large, settings=settings))
    assert says(card, "started from a saved model", "scores are too high for this reason")
    assert says(card, "The metric is the metric with your own weights") and not says(card, "same weights")
    first = rows_of(tables["group_scores"])[0]
    outputs = large.predictions(12)
    assert first["metric"] == challenge_score(large.scored_labels, outputs, np.array(weights))
    assert "/a/model" not in format_markdown(card)
    pretrained = replace(large.settings, pretraining=SyntheticPretraining(50))
    assert says(make_card(replace(large, settings=pretrained))[0], "first trained on 50 synthetic recordings")


def test_scores_of_one_source_are_said_to_be_of_it(large):
    georgia = make_results(count=300)
    assert says(make_card(georgia)[0], "Only recordings of Georgia are scored.")
    assert not says(make_card(large)[0], "Only recordings of")


@pytest.mark.slow
def test_tiny_data_have_no_scores_and_no_errors():
    results = make_results()
    nothing = replace(results, scored=np.zeros_like(results.scored), searches={})
    for tiny in (results, make_results(rate=0.0), make_exclusive_results(), nothing):
        card, tables = make_card(tiny)
        assert all(row["note"] == TOO_FEW for row in rows_of(tables["group_scores"]) if row["recordings"] < 30)
        assert format_markdown(card).startswith("# Model card: cai2021")
    unlabelled = make_results(rate=0.0, count=200)
    labels, scored = np.zeros_like(unlabelled.labels), np.ones_like(unlabelled.scored)
    card, tables = make_card(replace(unlabelled, labels=labels, scored=scored))
    assert {row["note"] for row in rows_of(tables["group_scores"])} == {TOO_FEW}
    assert says(card, "No recording to train on has")


def test_lead_sets_with_the_same_leads_have_the_same_scores(large):
    settings = replace(large.settings, leads_used=((12, ("II",)), (2, ("II",))))
    rows = rows_of(card_tables(replace(large, settings=settings))["group_scores"])
    by_leads = [[tuple(row.values())[1:] for row in rows if row["leads"] == leads] for leads in (12, 2)]
    assert repr(by_leads[0]) == repr(by_leads[1])


def test_many_recordings_have_fewer_resamples(monkeypatch):
    monkeypatch.setattr("ecg.reports.card_tables.RESAMPLES", 1000)
    assert count_resamples(0) == count_resamples(400) == 1000 > count_resamples(17_600) > count_resamples(88_000) == 200


def test_the_card_says_how_to_repeat_the_training(large, made):
    text = format_markdown(made[0])
    assert f"```sh\n{START.code}\n```" in text and "- digest: abc" in text
    assert f"- seed: {large.settings.seed}" in text and f"- numpy {np.__version__}" in text
    without = build_model_card(large, made[1], {})
    assert "How to reproduce" not in [section.title for section in without.sections]


def test_corrections_by_reviewers_are_counted(large):
    from ecg.data.corrections import LabelVotes

    record, index = str(large.store.names[0]), CLASS_INDEX["AF"]
    was_present = bool(large.store.labels[0, index])
    votes = LabelVotes(0, 3, 0) if was_present else LabelVotes(3, 0, 0)
    store = replace(large.store, labels=large.store.labels.copy()).correct({(record, "AF"): votes})
    labels = large.labels.copy()
    labels[0, index] = not was_present
    before, corrected = replace(large, store=store), replace(large, store=store, labels=labels)
    counts = [
        next(row for row in rows_of(card_tables(results)["changed_labels"]) if row["class"] == "AF")
        for results in (before, corrected)
    ]
    changed = "removed" if was_present else "added"
    assert counts[1][changed] - counts[0][changed] == (1 if large.labels[0, index] == was_present else 0)
    card, _ = make_card(corrected)
    assert says(card, "Corrections: 1 label of 1 recording reviewed") and says(card, "reviewers are unsure")


def test_all_recordings_are_also_scored_by_the_labels_before_corrections():
    results = make_corrected_results()
    results = replace(results, scored=np.ones_like(results.scored))
    card, tables = make_card(results)
    rows = [row for row in rows_of(tables["group_scores"]) if row["grouping"] == "all" and row["leads"] == 12]
    assert [row["labels"] for row in rows] == ["cleaned", "corrected", "original"]
    for row in rows:
        labels = results.label_versions[row["labels"]]
        assert row["metric"] == challenge_score(labels, results.predictions(12), WEIGHTS)
    assert says(card, "Scores by corrected labels can be too high") and says(card, "Given labels are those of the")
    text = format_markdown(card)
    assert "all recordings, corrected labels" in text and "all recordings, given labels" in text
