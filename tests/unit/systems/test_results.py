from dataclasses import replace

import numpy as np
import pytest
from result_helpers import make_corrected_results, make_exclusive_results, make_results

from ecg.data.labels import ABBREVIATIONS, CLASS_INDEX, TRAINED


@pytest.fixture(scope="module")
def exclusive():
    return make_exclusive_results()


def test_tables_list_the_scored_classes_and_the_additional_ones_that_are_trained(exclusive):
    for results, names in ((make_results(), [*ABBREVIATIONS]), (exclusive, [*ABBREVIATIONS, "STE"])):
        assert results.names == names and len(results.reported_columns) == len(results.is_trained) == len(names)
        for labels in results.label_versions.values():
            np.testing.assert_array_equal(labels[:, :26].shape, results.scored_labels.shape)
            assert labels.shape[1] == len(names)
    assert np.array_equal(make_results().reported_columns[make_results().is_trained], TRAINED)
    assert [name for name, trained in zip(exclusive.names, exclusive.is_trained, strict=True) if trained] == [
        "AF", "NSR", "PVC", "STE"]  # fmt: skip


def test_labels_of_both_kinds_are_those_after_relabelling_and_of_the_headers():
    results = make_results()
    results = replace(results, scored=np.ones_like(results.scored))
    rows = results.validation
    cleaned, came = results.label_versions.values()
    np.testing.assert_array_equal(cleaned, results.labels[rows])
    np.testing.assert_array_equal(came, results.store.labels[rows])
    assert (cleaned != came).any() and results.relabelled


def test_corrected_labels_are_a_version_beside_those_of_the_headers():
    results = make_corrected_results()
    rows, versions = results.scored_rows, results.label_versions
    assert list(versions) == ["cleaned", "corrected", "original"] == results.shown_versions
    np.testing.assert_array_equal(versions["cleaned"], results.labels[rows])
    np.testing.assert_array_equal(versions["corrected"], results.store.labels[rows])
    np.testing.assert_array_equal(versions["original"], make_results(count=200).store.labels[rows])
    changed = np.argwhere(versions["corrected"] != versions["original"])
    assert set(changed[:, 1].tolist()) == {CLASS_INDEX["AF"]} and len(changed) == (rows % 3 == 0).sum() > 0


def test_versions_that_equal_the_one_before_are_not_shown():
    corrected, made = make_corrected_results(), make_results()
    assert replace(corrected, labels=corrected.store.labels).shown_versions == ["cleaned", "original"]
    assert made.shown_versions == ["cleaned", "original"]
    assert replace(made, labels=made.store.labels).shown_versions == ["cleaned"]


def test_of_exclusive_classes_one_is_predicted_and_may_be_unscored(exclusive):
    predicted = exclusive.all_predictions(12)
    assert (predicted.sum(axis=1) == 1).all() and 0 < predicted[:, 26].sum() < len(predicted)
    np.testing.assert_array_equal(predicted[:, :26], exclusive.predictions(12))
    likeliest = np.array(exclusive.settings.classes)[exclusive.most_probable(12)]
    assert np.array(exclusive.names)[predicted.argmax(axis=1)].tolist() == likeliest.tolist()
    results = make_results()
    np.testing.assert_array_equal(results.all_predictions(2), results.predictions(2))


def test_the_confusion_matrix_counts_each_recording_once(exclusive):
    counts = exclusive.confusion_matrix(12)
    assert counts.sum() == exclusive.scored.sum() > 0
    both = exclusive.label_versions["cleaned"] & exclusive.all_predictions(12)
    assert counts.trace() == both[:, exclusive.is_trained].sum() > 0
