from dataclasses import replace

import numpy as np
import pytest
from helpers import WEIGHTS
from result_helpers import COUNT, make_exclusive_results, make_results, make_voting_results, table
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from ecg.data.labels import ABBREVIATIONS, CHALLENGE_CLASSES, CLASS_INDEX, DROPPED, TRAINED
from ecg.evaluation.expected_credit import choose_classes
from ecg.evaluation.metrics import challenge_score
from ecg.reports.training_tables import differing_settings, flatten_settings, training_tables
from ecg.systems.recipes import SYSTEMS


@pytest.fixture(scope="module")
def results():
    return make_results()


def test_every_recording_is_counted_once_by_its_source(results):
    rows = {row.pop("source"): row for row in table(results, "sources")}
    assert rows.keys() == {"CPSC", "Georgia", "Ningbo", "PTB"}
    assert sum(row["found"] for row in rows.values()) == COUNT + 2
    assert rows["PTB"] == {"found": 1, "excluded": 1, "training": 0, "validation": 0}
    assert all(row["found"] == row["excluded"] + row["training"] + row["validation"] for row in rows.values())
    assert rows["Georgia"]["validation"] == results.scored.sum()


def test_excluded_recordings_are_listed_with_their_reasons(results):
    assert [tuple(row.values()) for row in table(results, "excluded")] == list(results.store.excluded)


def test_the_split_can_be_read_back(results):
    rows = table(results, "split")
    assert [row["record"] for row in rows] == results.store.names.tolist()
    assert [row["source"] for row in rows] == results.store.sources.tolist()
    assert [place for place, row in enumerate(rows) if row["split"] == "training"] == results.training.tolist()
    assert [place for place, row in enumerate(rows) if row["split"] == "validation"] == results.validation.tolist()
    scored = [place for place, row in enumerate(rows) if row["scored"] == 1]
    assert scored == results.validation[results.scored].tolist()


def test_classes_are_counted_by_split_and_by_source(results):
    rows = table(results, "classes")
    assert [row["class"] for row in rows] == list(ABBREVIATIONS)
    assert {row["class"] for row in rows if row["use"] == "not trained"} == set(DROPPED)
    for row, count in zip(rows, results.labels.sum(axis=0), strict=True):
        assert row["training"] + row["validation"] == count
        assert sum(row[source] for source in ("CPSC", "Georgia", "Ningbo")) == count
    assert rows[CLASS_INDEX["LBBB"]]["codes"] == "733534002|164909002"


def test_scores_that_a_stage_does_not_have_are_none(results):
    rows = table(results, "epochs")
    assert [(row["stage"], row["score at 0.5"], row["optimised"]) for row in rows] == [
        ("round 1", -0.1, None), ("round 2", 0.1, 0.2)
    ]  # fmt: skip
    names = ("rate", "training loss", "validation loss", "best")
    assert [rows[0][name] for name in names] == [1e-4, 0.5, 0.4, 1]


def test_masks_are_counted_by_class_and_source(results):
    rows = {(row["class"], row["source"]): row for row in table(results, "masks")}
    assert len(rows) == 22 * 4
    for place, column in enumerate(TRAINED):
        for source in ("all", "CPSC", "Georgia", "Ningbo"):
            counts = dict.fromkeys(("present", "present masked", "absent", "absent masked"), 0)
            for record in range(COUNT):
                if source in ("all", results.store.sources[record]):
                    kind = "present" if results.labels[record, column] else "absent"
                    counts[kind] += 1
                    counts[f"{kind} masked"] += results.masks[record, place] == 0
            row = rows[ABBREVIATIONS[column], source]
            assert {name: row[name] for name in counts} == counts


def test_relabelling_is_counted_by_rule_source_and_class(results):
    rows = table(results, "relabelling")
    *done, skipped = rows
    assert skipped["rule"] == "SB or NSR in Mine" and skipped["skip reason"] == "no Mine" and skipped["candidates"] == 0
    assert {(row["rule"], row["source"]) for row in done} == {
        ("AFL or AF in Ningbo", "Ningbo"), ("classes omitted by CPSC", "CPSC")
    }  # fmt: skip
    for source in ("CPSC", "Ningbo"):
        group, counted = results.store.sources == source, [row for row in done if row["source"] == source]
        assert len(counted) == {"CPSC": 15, "Ningbo": 2}[source]
        for row in counted:
            before, after = (
                labels[group, CLASS_INDEX[row["class"]]] for labels in (results.store.labels, results.labels)
            )
            assert row["after"] - row["before"] == row["added"] - row["removed"] == after.sum() - before.sum()
            assert row["added"] == (after & ~before).sum()
            if source == "CPSC":
                assert (row["candidates"], row["before"], row["removed"]) == (group.sum(), before.sum(), 0)


def test_every_change_and_every_likely_class_is_among_the_decisions(results):
    rows = table(results, "relabelled")
    changed = {(row["record"], row["class"], bool(row["after"])) for row in rows if row["before"] != row["after"]}
    places = np.argwhere(results.labels != results.store.labels)
    assert changed == {
        (str(results.store.names[row]), ABBREVIATIONS[column], bool(results.labels[row, column]))
        for row, column in places
    }  # fmt: skip
    for rule in results.relabellings:
        likely = (rule.probabilities >= 0.5).sum()
        assert sum(row["rule"] == rule.title and row["probability"] >= 0.5 for row in rows) == likely
    kept = [row for row in rows if row["rule"] == "AFL or AF in Ningbo" and row["class"] == "AFL" and row["after"]]
    assert kept and all(row["before"] and row["source"] == "Ningbo" for row in kept)


def test_disagreements_are_listed_in_their_order(results):
    names = ("record", "class", "label", "probability")
    assert [tuple(row[name] for name in names) for row in table(results, "disagreements")] == [
        ("R004", "AF", "absent", 0.99), ("R006", "SB", "present", 0.03)
    ]  # fmt: skip


def labels_of(results, kind):
    labels = {"cleaned": results.labels, "original": results.store.labels}[kind]
    return labels[results.validation[results.scored]]


@pytest.mark.parametrize("kind", ["cleaned", "original"])
@pytest.mark.parametrize("leads", [12, 2])
def test_the_scores_follow_from_the_thresholds(results, leads, kind):
    thresholds, by_class = (
        np.array([row[f"{leads} leads"] for row in table(results, name)])
        for name in ("thresholds", "thresholds_by_class")
    )
    assert (thresholds != by_class).any()
    (row,) = (row for row in table(results, "scores") if (row["leads"], row["labels"]) == (leads, kind))
    labels = labels_of(results, kind)
    probabilities = CHALLENGE_CLASSES.expand(results.validated[leads][results.scored])
    for name, used in (("score as predicted", thresholds), ("score with one for each class", by_class),
                       ("score at 0.5", 0.5), ("score with one threshold", row["one threshold"])):  # fmt: skip
        assert row[name] == pytest.approx(challenge_score(labels, probabilities >= used, WEIGHTS))


@pytest.mark.parametrize("kind", ["cleaned", "original"])
@pytest.mark.parametrize("leads", [12, 2])
def test_class_scores_are_those_of_scikit_learn_or_nan(results, leads, kind):
    labels = labels_of(results, kind)
    probabilities = CHALLENGE_CLASSES.expand(results.validated[leads][results.scored])
    predictions = probabilities >= results.searches[leads].thresholds
    rows = [row for row in table(results, f"class_scores_{leads}_leads") if row.pop("labels") == kind]
    assert [row["class"] for row in rows] == list(ABBREVIATIONS)
    missing = {(row["class"], name) for row in rows for name, value in row.items() if value != value}
    expected = set()
    for name, row, labelled, prediction, score in zip(
        ABBREVIATIONS, rows, labels.T, predictions.T, probabilities.T, strict=True
    ):
        counts = (labelled.sum(), prediction.sum(), (labelled & prediction).sum())
        assert (row["labelled"], row["predicted"], row["correct"]) == counts
        metrics = {
            "precision": (prediction.any(), precision_score, prediction),
            "recall": (labelled.any(), recall_score, prediction),
            "F-measure": (prediction.any() or labelled.any(), f1_score, prediction),
            "AUROC": (labelled.any() and name not in DROPPED, roc_auc_score, score),
            "AUPRC": (labelled.any() and name not in DROPPED, average_precision_score, score),
        }
        for metric, (exists, reference, given) in metrics.items():
            if exists:
                assert row[metric] == pytest.approx(reference(labelled, given))
            else:
                expected.add((name, metric))
    assert missing == expected
    assert ("PR", "AUROC") in missing
    (means,) = (row for row in table(results, "scores") if (row["leads"], row["labels"]) == (leads, kind))
    for metric in ("F-measure", "AUROC", "AUPRC"):
        known = [row[metric] for row in rows if row["class"] not in DROPPED]
        assert means[metric] == pytest.approx(np.nanmean(known))


@pytest.mark.parametrize("make", [make_results, make_exclusive_results])
def test_each_decision_has_its_metric_f1_and_number_of_classes(make):
    results = make()
    rows = table(results, "decisions")
    names = ["thresholds", "expected credit", "0.5 for all classes", "as predicted"]
    assert [row["decision"] for row in rows] == names * 2 * len(results.searches)
    columns = results.columns[results.columns < 26]
    for row in rows:
        labels, search = labels_of(results, row["labels"]), results.searches[row["leads"]]
        probabilities = CHALLENGE_CLASSES.expand(results.validated[row["leads"]][results.scored], results.columns)
        calibrated = np.where(probabilities > 0, results.calibrations[row["leads"]].apply(probabilities), 0)
        most_probable = np.eye(len(results.columns), dtype=bool)[results.most_probable(row["leads"])]
        thresholds = search.by_class if results.settings.exclusive else search.thresholds
        by_rule = (
            CHALLENGE_CLASSES.expand(most_probable, results.columns)
            if results.settings.exclusive
            else probabilities >= thresholds
        )
        predictions = dict(zip(names, (probabilities >= thresholds, choose_classes(calibrated, WEIGHTS),
                                       probabilities >= 0.5, by_rule), strict=True))[row["decision"]]  # fmt: skip
        assert row["metric"] == pytest.approx(challenge_score(labels, predictions, WEIGHTS))
        seen = columns[(labels | predictions)[:, columns].any(axis=0)]
        assert row["macro F1"] == pytest.approx(f1_score(labels[:, seen], predictions[:, seen], average="macro"))
        assert row["predicted classes"] == pytest.approx(predictions.sum() / len(labels))
        assert row["labelled classes"] == pytest.approx(labels.sum() / len(labels))
    for row in table(results, "scores"):
        key = row["leads"], row["labels"], "expected credit"
        (decided,) = (entry for entry in rows if (entry["leads"], entry["labels"], entry["decision"]) == key)
        assert row["score by expected credit"] == decided["metric"]


@pytest.mark.parametrize("make", [make_results, make_exclusive_results])
def test_the_calibration_is_reported_with_its_errors_and_bins(make):
    results = make()
    for row in table(results, "calibration"):
        calibration = results.calibrations[row["leads"]]
        assert (row["slope"], row["mean intercept"]) == (calibration.slope, np.mean(calibration.intercepts))
        probabilities = results.validated[row["leads"]][results.scored][:, results.columns < 26]
        assert row["labels"] == (probabilities > 0).sum()
        bins = table(results, f"reliability_{row['leads']}_leads")
        for when in ("before", "after"):
            chosen = [entry for entry in bins if entry["calibration"] == when]
            assert len(chosen) == 10 and sum(entry["labels"] for entry in chosen) == row["labels"]
            distances = [entry["labels"] * abs(entry["mean probability"] - entry["share present"])
                         for entry in chosen if entry["labels"]]  # fmt: skip
            assert row[f"error {when}"] == pytest.approx(sum(distances) / row["labels"])
            for entry in chosen:
                assert not entry["labels"] or entry["from"] <= entry["mean probability"] <= entry["to"]
        assert row["error after"] < row["error before"]
    for index, row in enumerate(table(results, "intercepts")):
        assert [row[f"{leads} leads"] for leads in results.calibrations] == [
            calibration.intercepts[index] for calibration in results.calibrations.values()
        ]


def test_exclusive_classes_have_neither_thresholds_nor_their_scores():
    results = make_exclusive_results()
    assert not {"thresholds", "thresholds_by_class"} & training_tables(results).keys()
    rows = table(results, "class_scores_12_leads")
    assert all(np.isnan(row["threshold"]) for row in rows)
    assert {row["class"] for row in rows if not np.isnan(row["AUROC"])} == {"NSR", "AF", "PVC", "STE"}
    trained = results.validation[results.scored]
    trained_labels = np.hstack([results.labels, results.store.additional])[trained][:, results.columns]
    most_probable = np.eye(4, dtype=bool)[results.validated[12][results.scored].argmax(axis=1)]
    (ste,) = (row for row in rows if row["class"] == "STE" and row["labels"] == "cleaned")
    assert (ste["labelled"], ste["predicted"]) == (trained_labels[:, 2].sum(), most_probable[:, 2].sum())
    assert ste["correct"] == (trained_labels & most_probable)[:, 2].sum() > 0
    for row in table(results, "scores"):
        missing = {name for name, value in row.items() if value != value}
        assert missing == {"score at 0.5", "score with one threshold", "score with one for each class", "one threshold"}
        labels = labels_of(results, row["labels"])
        most_probable = np.eye(4, dtype=bool)[results.validated[12][results.scored].argmax(axis=1)]
        predictions = CHALLENGE_CLASSES.expand(most_probable, results.columns)
        assert row["score as predicted"] == pytest.approx(challenge_score(labels, predictions, WEIGHTS))
        probabilities = results.validated[12][results.scored]
        assert row["AUROC"] == pytest.approx(roc_auc_score(trained_labels, probabilities, average="macro"))
        assert row["AUPRC"] == pytest.approx(average_precision_score(trained_labels, probabilities, average="macro"))
        assert row["F-measure"] == pytest.approx(f1_score(trained_labels, most_probable, average="macro"))
        assert row["accuracy"] == pytest.approx((trained_labels & most_probable).any(axis=1).mean())


def test_the_confusion_matrix_counts_labels_by_the_most_probable_class():
    results = make_exclusive_results()
    rows = results.validation[results.scored]
    label = np.hstack([results.labels, results.store.additional])[rows][:, results.columns].argmax(axis=1)
    expected = confusion_matrix(label, results.validated[12][results.scored].argmax(axis=1), labels=range(4))
    header, *rows_by_label = training_tables(results)["confusion_matrix_12_leads"]
    assert header == ("labelled", "NSR", "AF", "STE", "PVC")
    assert [row[0] for row in rows_by_label] == list(header[1:])
    assert [list(row[1:]) for row in rows_by_label] == expected.tolist()
    assert not any(name.startswith("confusion") for name in training_tables(make_results()))


def test_a_recording_of_neither_split_is_not_used():
    results = make_results()
    rows = table(replace(results, training=results.training[5:]), "split")
    assert [row["record"] for row in rows if row["split"] == "not used"] == results.store.names[
        results.training[:5]].tolist()  # fmt: skip


def test_masks_belong_to_their_class_in_any_order_of_the_classes():
    results = make_exclusive_results()
    rows = [row for row in table(results, "masks") if row["source"] == "all"]
    assert [row["class"] for row in rows] == ["AF", "NSR", "PVC", "STE"]
    present = np.hstack([results.labels, results.store.additional])[:, results.columns].sum(axis=0)
    for row, place in zip(rows, (1, 0, 3, 2), strict=True):
        masked = row["present masked"] + row["absent masked"]
        assert (row["class"], row["present"]) == (results.settings.classes[place], present[place])
        assert masked == (results.masks[:, place] == 0).sum()


def test_repairs_and_stop_reasons_are_listed():
    results = make_results()
    assert training_tables(results)["repaired"][1:] == [
        ("R001", "beyond 20 mV", "I V2", 17), ("R001", "flat lead", "V6", 1), ("R002", "flat lead", "V1 V2", 2)
    ]  # fmt: skip
    assert training_tables(results)["stages"][1:] == [
        ("round 1", 1, 1, "no lower loss in 4 epochs"), ("round 2", 1, 1, "time limit reached")
    ]  # fmt: skip


def test_settings_are_flattened_to_their_fields():
    flat = flatten_settings(SYSTEMS["li2021"])
    assert (flat["loss"], flat["training.epochs"], flat["views.2.preparation.rate"]) == ("margin", "50", "250")
    assert (flat["network"], flat["gate.source"], flat["exclusive"]) == ("LiSettings", "CPSC", "no")
    assert flat["implies"] == "LBBB-BBB, RBBB-BBB" and flatten_settings(SYSTEMS["xie2022"])["gate"] == "none"


def test_only_settings_that_differ_are_compared_and_missing_ones_are_marked():
    header, *rows = differing_settings([SYSTEMS["cai2021"], SYSTEMS["xie2022"]])
    assert header == ("setting", "cai2021", "xie2022")
    assert ("loss", "asymmetric", "categorical") in rows and ("network", "NetworkSettings", "DCNetSettings") in rows
    assert {row[2] for row in rows if row[0] == "network.squeeze_ratio"} == {"–"}
    assert all(first != second for _, first, second in rows)
    assert not {"seed", "system", "title"} & {name for name, *_ in rows}


def test_of_networks_that_vote_the_thresholds_of_each_are_listed():
    results = make_voting_results()
    tables = training_tables(results)
    assert [name for name in tables if name.startswith("thresholds")] == ["thresholds"]
    header, *rows = tables["thresholds"]
    assert header == ("class", *(f"{leads} leads, network {number}" for leads in (12, 2) for number in (1, 2)))
    assert [row[0] for row in rows] == list(ABBREVIATIONS)
    np.testing.assert_array_equal([row[1:3] for row in rows], results.votes[12].thresholds.T)
    for row in table(results, "scores"):
        if row["labels"] == "cleaned":
            score = challenge_score(results.scored_labels, results.predictions(row["leads"]), WEIGHTS)
            assert row["score as predicted"] == score
    assert all(np.isnan(row["threshold"]) for row in table(results, "class_scores_2_leads"))
