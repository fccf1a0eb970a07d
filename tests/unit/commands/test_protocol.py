from dataclasses import replace

import numpy as np
import pytest

from ecg.commands.protocol import Protocol, training_records
from ecg.data.headers import RecordError
from ecg.data.labels import CLASS_INDEX
from ecg.systems.folds import assign_folds
from ecg.systems.recipes import SYSTEMS, SyntheticPretraining


def test_each_fold_is_held_out_once_and_folds_are_alike_in_their_labels(store):
    protocol = Protocol(folds=3, seed=4)
    parts = protocol.held_out(store)
    assert protocol.titles == ["fold 1 of 3", "fold 2 of 3", "fold 3 of 3"]
    assert protocol.keys == ["fold1of3", "fold2of3", "fold3of3"]  # other than those of other numbers of folds
    assert sorted(np.concatenate(parts)) == list(range(len(store)))
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(part, np.flatnonzero(assign_folds(store.labels, 3, 4) == number))


@pytest.mark.parametrize("name", ["Georgia", "georgia", "GEORGIA"])
def test_a_source_is_held_out_by_its_name_in_any_case(name, store):
    protocol = Protocol(leave_out=name)
    (part,) = protocol.held_out(store)
    assert part.tolist() == np.flatnonzero(store.sources == "Georgia").tolist() != []
    assert protocol.titles == [f"without {name}"]


def test_a_source_that_is_not_there_or_is_all_there_is_is_reported_with_those_that_are(store):
    with pytest.raises(RecordError, match="no usable recording is of georgina; the sources are CPSC, .*, Georgia, "):
        Protocol(leave_out="georgina").held_out(store)
    alone = store.subset(np.flatnonzero(store.sources == "Georgia"))
    with pytest.raises(RecordError, match=f"all {len(alone)} recordings are of Georgia; none are left"):
        Protocol(leave_out="georgia").held_out(alone)


def test_more_folds_than_recordings_are_reported(store):
    with pytest.raises(RecordError, match="4 recordings are too few for 5 folds"):
        Protocol().held_out(store.subset(np.arange(4)))
    assert not Protocol().is_left_out(["Georgia"] * 5).any()


def test_all_systems_get_the_same_lead_sets_seed_and_limits():
    protocol = Protocol(lead_sets=(3, 2), seed=7, epochs=20, batch=16, precision="bfloat16")
    li, zhao, xie = (SYSTEMS[name] for name in ("li2021", "zhao2022", "xie2022"))
    training = replace(zhao.training, epochs=20, batch=16, precision="bfloat16")
    assert protocol.settings(zhao) == replace(zhao, lead_sets=(3, 2), seed=7, training=training)
    assert protocol.settings(xie).training.batch == xie.training.batch == 8
    assert (protocol.settings(li).training.epochs, protocol.settings(li).peak_training.epochs) == (20, 20)
    assert protocol.settings(li).peak_training.batch == 16
    assert replace(protocol, epochs=30).settings(li).peak_training.epochs == 20
    pretrained = replace(SYSTEMS["cai2021"], pretraining=SyntheticPretraining(1000))
    pretraining = protocol.settings(pretrained).pretraining
    assert (pretraining.recordings, pretraining.training.epochs, pretraining.training.batch) == (1000, 4, 16)
    assert pretraining.training.precision == "bfloat16"
    weights = ((1.0,) * 26,) * 26
    assert Protocol(weights=weights).settings(zhao) == replace(zhao, weights=weights)
    assert Protocol().settings(zhao) == zhao and Protocol().systems == tuple(SYSTEMS.values())


def test_networks_have_the_sizes_given_where_there_are_such():
    systems = tuple(SYSTEMS[name] for name in ("cai2021", "xie2022", "se_resnet_rhythm"))
    cai, xie, rhythm = map(Protocol(systems, width=8, depth=18).settings, systems)
    assert (cai.network.width, rhythm.network.width, rhythm.network.depth) == (8, 8, 18)
    assert xie.network == systems[1].network
    with pytest.raises(ValueError, match="no network of cai2021, xie2022 has a depth"):
        Protocol(systems[:2], width=8, depth=18)
    with pytest.raises(ValueError, match="depth is 19, expected one of 18, 34"):
        Protocol(systems, depth=19)


def test_the_hours_are_shared_by_systems_and_parts():
    assert Protocol(hours=30).share_hours(3) == 2 and Protocol(leave_out="georgia", hours=30).share_hours(3) == 10
    assert Protocol().share_hours(3) is None


def test_an_untrainable_system_is_reported_with_the_first_fold_that_leaves_too_little(store):
    zhao, rhythm = SYSTEMS["zhao2022"], SYSTEMS["se_resnet_rhythm"]
    few = store.subset(np.arange(10))
    protocol, parts = Protocol((zhao, rhythm), folds=2), [np.array([0]), np.arange(1, 7)]
    labels = np.zeros_like(few.labels)
    labels[:, CLASS_INDEX["NSR"]] = labels[6:, CLASS_INDEX["AF"]] = True  # the first six have one class each
    few = replace(few, labels=labels, additional=np.zeros_like(few.additional))
    assert protocol.untrainable_reason(zhao, few, [parts[0], np.arange(5)]) == ""
    assert (
        protocol.untrainable_reason(zhao, few, parts) == "fold 2 of 2: 4 of 4 recordings can be used; training needs 5"
    )
    alone = "have exactly one of the classes NSR, AF, AFL, IAVB, SB, STach, PVC; training needs 2"
    assert protocol.untrainable_reason(rhythm, few, parts) == f"fold 2 of 2: 1 of 4 recordings {alone}"
    none = replace(few, labels=np.zeros_like(labels))
    assert (
        protocol.untrainable_reason(zhao, none, parts)
        == "fold 1 of 2: none of 9 recordings has a diagnosis that is trained"
    )


def test_the_recordings_of_a_patient_are_held_out_together(store):
    patients = np.arange(len(store)) // 3
    grouped = replace(store, patients=patients)
    parts = Protocol(folds=3, seed=4).held_out(grouped)
    assert sorted(np.concatenate(parts)) == list(range(len(store)))
    for part in parts:
        training = training_records(grouped, part)
        assert not set(patients[part]) & set(patients[training])
        assert len(part) + len(training) == len(store)


def test_other_recordings_of_held_out_patients_are_not_trained_on(store):
    (part,) = Protocol(leave_out="georgia").held_out(store)
    rest = np.setdiff1d(np.arange(len(store)), part)
    patients = np.arange(len(store))
    patients[rest[:4]] = patients[part[:2]].repeat(2)  # two of Georgia's patients were at other hospitals, twice each
    np.testing.assert_array_equal(training_records(replace(store, patients=patients), part), rest[4:])
    np.testing.assert_array_equal(training_records(store, part), rest)


def test_fewer_patients_than_folds_are_reported(store):
    grouped = replace(store, patients=np.arange(len(store)) % 4)
    with pytest.raises(RecordError, match=f"4 patients of {len(store)} recordings are too few for 5 folds"):
        Protocol().held_out(grouped)
    assert len(Protocol(folds=4).held_out(grouped)) == 4
    zhao = SYSTEMS["zhao2022"]
    reason = Protocol((zhao,), folds=4).untrainable_reason(zhao, grouped, Protocol(folds=4).held_out(grouped))
    assert reason.startswith("fold 1 of 4: ") and "are of 3 patients; training needs 5" in reason
