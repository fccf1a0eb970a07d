from dataclasses import replace

import numpy as np
import pytest
from result_helpers import stage_titles as titles_of

from ecg.data.batches import DEFAULT_VIEW, View, Window
from ecg.data.headers import RecordError
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.models.network_settings import AttentionSettings
from ecg.runtime.cache import folder_name
from ecg.systems.plan import (
    first_round_title,
    lead_configurations,
    leads_title,
    planned_networks,
    scoring_mask,
    split_recordings,
    split_validation,
    stage_keys,
)
from ecg.systems.recipes import RECIPES, SYSTEMS, Gate, Settings

LI, ZHAO = SYSTEMS["li2021"], SYSTEMS["zhao2022"]


def test_the_method_has_a_network_for_each_rule_one_for_round_1_and_one_for_each_lead_set():
    assert titles_of(Settings()) == [
        "AFL or AF in Ningbo", "classes omitted by CPSC", "round 1, 12 leads",
        *(f"round 2, {count} leads" for count in (12, 6, 4, 3, 2)),
    ]  # fmt: skip
    assert [(settings.leads, settings.view) for settings in planned_networks(Settings())] == [
        (network, DEFAULT_VIEW) for network in LEAD_SETS.values()
    ]


def test_a_gate_has_two_ensembles_of_all_views_and_one_network_that_chooses():
    """Li et al. 2021: two ensembles of three networks each, and a network for the source."""
    networks = planned_networks(replace(LI, lead_sets=(12,)))
    assert [(network.group, network.view.title) for network in networks] == [
        *((group, title) for group in ("general", "special") for title in ("500 Hz, 10 s", "250 Hz, 20 s",
                                                                            "500 Hz, 15 s")),
        ("gate", "500 Hz, 10 s"),
    ]  # fmt: skip
    assert [network.title for network in networks][2:5] == [
        "8 leads, 500 Hz, 15 s", "8 leads, CPSC, 500 Hz, 10 s", "8 leads, CPSC, 250 Hz, 20 s"]  # fmt: skip
    assert networks[-1].title == "8 leads, CPSC or not"


def test_what_finds_peaks_is_first_trained_for_them_alone_and_the_gate_is_not():
    settings = replace(LI, lead_sets=(3,))
    networks = planned_networks(settings)
    assert [network.learns_peaks for network in networks] == [*(True for network in networks[:-1]), False]
    titles = titles_of(settings)
    assert len(titles) == 2 * 6 + 1
    for network in networks[:-1]:
        assert titles.index(network.peaks_title) + 1 == titles.index(network.title)
    assert titles_of(replace(settings, peak_training=None)) == [network.title for network in networks]


def test_each_fold_has_a_network():
    networks = planned_networks(replace(ZHAO, lead_sets=(12, 2)))
    assert [(len(network.leads), network.fold) for network in networks] == [
        (leads, fold) for leads in (12, 2) for fold in range(5)
    ]
    assert networks[7].title == "2 leads, fold 3 of 5"


def test_lead_sets_of_which_the_same_leads_are_used_share_their_networks():
    assert [network.leads for network in planned_networks(replace(LI, views=LI.views[:1], gate=None))] == [
        ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"), ("I", "II"), ("I", "II", "V2")]  # fmt: skip
    (rhythm,) = planned_networks(SYSTEMS["se_resnet_rhythm"])
    assert (rhythm.leads, rhythm.title) == (("II",), "lead II")


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"gate": Gate()},
        {"folds": 2, "splits": None},
        {"splits": 2, "folds": None},
        {"views": (DEFAULT_VIEW, View(window=Window(500)))},
    ],
)
@pytest.mark.parametrize("name", RECIPES)
def test_no_two_stages_share_a_title_or_the_folder_that_is_named_after_it(name, change):
    if "gate" in change and (RECIPES[name].exclusive or RECIPES[name].decision == "vote"):
        with pytest.raises(ValueError, match="gate: not possible if"):
            replace(RECIPES[name], **change)
        return
    settings = replace(RECIPES[name], **change)
    titles, keys = titles_of(settings), stage_keys(settings)
    assert len(set(titles)) == len({folder_name(key) for key in keys}) == len(titles) == len(keys)


def test_a_key_names_group_leads_view_and_fold_and_no_setting_of_the_training():
    """Seeds and folders come from keys: a change of one changes every network that is trained by it."""
    assert stage_keys(replace(Settings(), lead_sets=(12, 2))) == [
        "relabelling/Ningbo/AFL-AF", "relabelling/CPSC/omitted", "masks/12", "general/12", "general/2"]  # fmt: skip
    assert stage_keys(replace(LI, lead_sets=(12,), views=LI.views[:2])) == [
        "general/8/view1/peaks", "general/8/view1", "general/8/view2/peaks", "general/8/view2",
        "special/8/view1/peaks", "special/8/view1", "special/8/view2/peaks", "special/8/view2", "gate/8"]  # fmt: skip
    assert stage_keys(replace(ZHAO, lead_sets=(12,)))[::4] == ["general/12/fold1", "general/12/fold5"]
    assert stage_keys(SYSTEMS["se_resnet_rhythm"]) == ["general/II"]
    assert stage_keys(replace(ZHAO, title="another {}")) == stage_keys(ZHAO)


def test_round_1_sees_what_is_used_of_twelve_leads():
    assert first_round_title(Settings()) == "round 1, 12 leads"
    assert first_round_title(replace(Settings(), leads_used=((12, ("II",)),))) == "round 1, lead II"
    assert leads_title(("I", "II")) == "2 leads"


def test_the_split_is_four_to_one_and_depends_on_the_seed_alone():
    training, validation = split_validation(1000, Settings(), "split")
    assert len(training) == 800 and sorted([*training, *validation]) == list(range(1000))
    np.testing.assert_array_equal(split_validation(1000, Settings(), "split")[1], validation)
    assert (split_validation(1000, Settings(seed=1), "split")[1] != validation).any()


def test_two_recordings_are_enough_to_part():
    assert [len(part) for part in split_validation(2, Settings(), "split")] == [1, 1]


def test_the_score_is_taken_on_georgia_where_there_is_enough_of_it():
    sources = np.array(["Georgia"] * 200 + ["PTB-XL"] * 300)
    assert scoring_mask(sources, Settings()).sum() == 200
    assert scoring_mask(sources[1:], Settings()).sum() == 499
    assert scoring_mask(sources, replace(Settings(), proxy_least=None)).all()
    assert scoring_mask(sources, replace(Settings(), splits=3)).sum() == 200


def test_with_folds_all_recordings_give_the_score():
    sources = np.array(["Georgia"] * 300 + ["PTB-XL"] * 300)
    assert scoring_mask(sources, replace(Settings(), folds=3)).all()


TARGETS = (np.random.default_rng(0).random((200, 4)) < 0.3).astype(np.float32)


def test_of_exclusive_classes_only_recordings_with_one_alone_are_used():
    settings = replace(SYSTEMS["xie2022"], classes=("NSR", "AF", "IAVB", "STE"))
    ((training, validation),) = split_recordings(TARGETS, settings)
    assert sorted([*training, *validation]) == np.flatnonzero(TARGETS.sum(axis=1) == 1).tolist()
    assert len(validation) == round(0.25 * (len(training) + len(validation)))
    assert set(np.concatenate(split_recordings(TARGETS, replace(settings, exclusive=False))[0])) == set(range(200))


def test_each_fold_is_held_out_once_and_trained_on_otherwise():
    for settings in (ZHAO, replace(ZHAO, exclusive=True, folds=3)):
        usable = np.flatnonzero(TARGETS.sum(axis=1) == 1) if settings.exclusive else np.arange(200)
        parts = split_recordings(TARGETS, settings)
        assert len(parts) == settings.folds
        assert sorted(np.concatenate([validation for _, validation in parts])) == usable.tolist()
        for training, validation in parts:
            assert sorted([*training, *validation]) == usable.tolist()


def test_too_few_recordings_are_reported_with_the_classes():
    settings = replace(SYSTEMS["xie2022"], classes=("NSR", "AF"))
    with pytest.raises(RecordError, match="1 of 3 recordings have exactly one of the classes NSR, AF; .* needs 2"):
        split_recordings(np.array([[1, 1], [0, 0], [0, 1]]), settings)
    with pytest.raises(RecordError, match="^3 of 3 recordings can be used; training needs 5$"):
        split_recordings(np.ones((3, 24)), ZHAO)
    with pytest.raises(RecordError, match="training needs 5"):
        split_recordings(np.eye(4), replace(settings, classes=("NSR", "AF", "PAC", "PVC"), folds=5))


def test_training_may_leave_the_leads_of_each_smaller_set():
    sets = {count: LI.leads_of(count) for count in LEAD_SETS}
    assert lead_configurations(LI, sets[12]) == (tuple(range(8)), (0, 1), (0, 1, 3))
    assert [[sets[12][place] for place in places] for places in lead_configurations(LI, sets[12])] == [
        list(sets[12]), ["I", "II"], ["I", "II", "V2"]]  # fmt: skip
    assert lead_configurations(LI, sets[3]) == ((0, 1), (0, 1, 2))
    assert lead_configurations(LI, sets[2]) == lead_configurations(Settings(), LEAD_SETS[12]) == ()


SHARED = replace(ZHAO, network=AttentionSettings(), folds=None, splits=3)


def test_a_network_that_sees_all_leads_is_trained_once_for_all_lead_sets():
    networks = planned_networks(SHARED)
    assert [(network.key, network.title, network.fold) for network in networks] == [
        (f"general/all/split{split}", f"all lead sets, split {split} of 3", split - 1) for split in (1, 2, 3)
    ]
    for network in networks:
        assert (network.leads, network.lead_sets) == (LEADS, tuple(LEAD_SETS.values()))
    (network, *_) = planned_networks(replace(SHARED, lead_sets=(2,)))
    assert (network.key, network.leads, network.lead_sets) == ("general/all/split1", LEADS, (("I", "II"),))


def test_a_gate_of_a_shared_network_has_a_network_for_each_lead_set():
    keys = stage_keys(replace(SHARED, gate=Gate(), splits=None, lead_sets=(12, 2)))
    assert keys == ["general/all", "special/all", "gate/12", "gate/2"]


def test_random_splits_are_stratified_and_independent_of_each_other():
    parts = split_recordings(TARGETS, SHARED)
    assert len(parts) == 3
    for training, validation in parts:
        assert len(validation) == 40 and sorted([*training, *validation]) == list(range(200))
        assert (abs(TARGETS[validation].sum(axis=0) - TARGETS.sum(axis=0) / 5) < 1).all()
    overlaps = [len(np.intersect1d(parts[first][1], parts[second][1])) for first, second in ((0, 1), (0, 2), (1, 2))]
    assert all(1 <= overlap <= 20 for overlap in overlaps)  # 8 if each recording is drawn by chance
    again, reseeded = split_recordings(TARGETS, SHARED), split_recordings(TARGETS, replace(SHARED, seed=1))
    assert all((a[1] == b[1]).all() for a, b in zip(parts, again, strict=True))
    assert (parts[0][1] != reseeded[0][1]).any()
    assert [len(part) for part in split_recordings(TARGETS[:2], SHARED)[0]] == [1, 1]


def test_folds_and_splits_exclude_each_other():
    with pytest.raises(ValueError, match="5 folds and 3 splits: expected only one of them"):
        replace(ZHAO, splits=3)
