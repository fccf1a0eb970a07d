"""Networks start from pretrained ones or from a saved model, and say where they cannot."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import capture_log

from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.synthetic import SyntheticSettings
from ecg.models.bundle import Bundle, save_bundle
from ecg.models.config import ModelError
from ecg.models.ensemble import Ensemble, Group, Member
from ecg.models.initial_weights import InitialNetwork
from ecg.models.network_settings import AttentionSettings, LiSettings, NetworkSettings
from ecg.runtime.limits import TimeBudget
from ecg.systems.plan import pretraining_plans, stage_costs, stage_keys
from ecg.systems.pretraining import check_initial_model, load_initial_networks, prepare_initial_networks
from ecg.systems.recipes import SYSTEMS, Settings, SyntheticPretraining
from ecg.systems.stage import build_network
from ecg.systems.stage_runner import StageRunner
from ecg.training.settings import TrainingSettings

NETWORK = NetworkSettings(width=4, kernels=(3, 3), hidden=8)
QUICK = TrainingSettings(batch=8, smallest_batch=8, steps=2, epochs=2, first_epochs=0)
PRETRAINING = SyntheticPretraining(24, SyntheticSettings(False, False, clean=True), training=QUICK)
SETTINGS = Settings(network=NETWORK, training=QUICK, pretraining=PRETRAINING, lead_sets=(12, 2))
CLASSES = ("AF", "NSR", "PVC")


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return StageRunner({}, tmp_path_factory.mktemp("stages"), 7, TimeBudget(None))


@pytest.fixture(scope="module")
def networks(runner):
    """Networks of 12 and 2 leads, pretrained on 24 synthetic recordings."""
    runner.costs = stage_costs(SETTINGS, 100)
    return prepare_initial_networks(SETTINGS, runner)


def member(classes=CLASSES, settings=NETWORK, leads=LEAD_SETS[2]):
    return Member.build(leads, settings, len(classes))


def weights_by_layer(network):
    return {layer.name: layer.get_weights() for layer in network.layers if layer.weights}


@pytest.mark.keras
def test_one_network_is_pretrained_for_each_lead_set(networks, runner):
    assert [network.leads for network in networks] == [LEAD_SETS[12], LEAD_SETS[2]]
    assert all(network.classes == SETTINGS.classes for network in networks)
    assert list(runner.ends) == ["pretraining/12", "pretraining/2"] == stage_keys(SETTINGS)[:2]
    assert len(runner.epochs) == 4 and all("AUROC" in epoch.scores for epoch in runner.epochs)


@pytest.mark.keras
def test_pretraining_is_loaded_from_the_cache_with_the_same_result(networks, runner):
    again = StageRunner({}, runner.folder, 7, TimeBudget(None))
    for first, second in zip(networks, prepare_initial_networks(SETTINGS, again), strict=True):
        assert first.layers.keys() == second.layers.keys()
        for name, weights in first.layers.items():
            assert all(map(np.array_equal, weights, second.layers[name]))


@pytest.mark.keras
def test_a_stage_starts_from_the_network_of_its_leads_at_half_the_rate(networks, runner, store):
    stage_runner = replace(runner, initial_networks=networks)
    stage = make_stage(store, LEAD_SETS[2], SETTINGS.classes)
    started = stage_runner.initialise(stage)
    assert started.initial is networks[1]
    assert [started.learning.rate_in(epoch) for epoch in (0, 1, 5)] == [1e-4, 5e-4, 5e-4]
    for changed in ({"leads": LEAD_SETS[3]}, {"network": NetworkSettings(width=8, kernels=(3, 3), hidden=8)},
                    {"initial_weights": (np.zeros(1),)}):  # fmt: skip
        assert stage_runner.initialise(replace(stage, **changed)).initial is None
    assert stage.cache_parts() != started.cache_parts()


@pytest.mark.keras
@pytest.mark.parametrize("classes", [CLASSES, ("AF", "NSR", "PAC"), ("AF",), ()])
def test_weights_are_transferred_and_the_head_only_for_the_same_classes(classes):
    source = member()
    initial = InitialNetwork.from_member(source, CLASSES)
    target = member(classes or ("a", "b", "c"))
    before = weights_by_layer(target.network)
    initial.transfer(target.network, classes)
    for name, weights in weights_by_layer(target.network).items():
        expected = before if name in initial.head and classes != CLASSES else weights_by_layer(source.network)
        assert all(map(np.array_equal, weights, expected[name])), name
    assert len(initial.head) == 1 and len(before) > 10


@pytest.mark.keras
def test_a_network_that_predicts_wave_peaks_starts_from_one_that_does_not(store):
    settings = LiSettings(stages=(1, 1), width=4)
    initial = InitialNetwork.from_member(Member.build(LEAD_SETS[2], settings, 26), SYSTEMS["li2021"].classes)
    with_peaks = settings.build(2, 64, 26) if not settings.peaks else None
    network = replace(settings, peaks=True).build(2, 64, 26)
    before = weights_by_layer(network)
    initial.transfer(network, SYSTEMS["li2021"].classes)
    after = weights_by_layer(network)
    assert {name for name in after if not name.startswith("peaks_")} == weights_by_layer(with_peaks).keys()
    for name, weights in after.items():
        assert all(map(np.array_equal, weights, initial.layers.get(name, before[name])))


@pytest.mark.keras
def test_a_saved_model_gives_the_first_weights_or_the_reason_why_not(tmp_path):
    group = Group(CLASSES, (member(),))
    rule = SETTINGS.decision_rule(np.full(26, 0.5))
    save_bundle(Bundle(LEAD_SETS[2], Ensemble(group), rule, "cai2021"), tmp_path)
    settings = replace(SETTINGS, pretraining=None, initial_model=str(tmp_path), lead_sets=(2,))
    (network,) = prepare_initial_networks(settings, StageRunner({}, tmp_path, 7, TimeBudget(None)))
    assert network.classes == CLASSES
    for name, weights in weights_by_layer(group.members[0].network).items():
        assert all(map(np.array_equal, weights, network.layers[name]))
    with pytest.raises(ModelError, match="no network of the architecture, leads and view of round 2, 2 leads"):
        prepare_initial_networks(replace(settings, network=NetworkSettings(width=8)), StageRunner(
            {}, tmp_path, 7, TimeBudget(None)))  # fmt: skip
    lines = capture_log()
    with pytest.raises(ModelError, match="no model for 3 leads, 3_leads.json is missing"):
        load_initial_networks(replace(settings, lead_sets=(2, 3)))
    assert not lines  # no smaller model is tried
    for path in tmp_path.glob("*.h5"):
        path.unlink()
    check_initial_model(settings)  # reads no weights
    with pytest.raises(ModelError, match="no network of the architecture, leads and view of round 2, 2 leads"):
        check_initial_model(replace(settings, network=NetworkSettings(width=8)))
    with pytest.raises(ModelError, match="2_leads.weights.h5"):
        load_initial_networks(settings)


@pytest.mark.keras
def test_a_saved_network_that_serves_all_lead_sets_counts_as_one_of_all_leads(tmp_path):
    network = AttentionSettings(width=4, blocks=1, heads=2)
    group = Group(CLASSES, (member(settings=network),))
    save_bundle(Bundle(LEAD_SETS[2], Ensemble(group), SETTINGS.decision_rule(np.full(26, 0.5)), "other"), tmp_path)
    settings = replace(SETTINGS, network=network, pretraining=None, initial_model=str(tmp_path), lead_sets=(2,))
    assert [network.leads for network in load_initial_networks(settings)] == [LEADS]


@pytest.mark.keras
def test_a_stage_prefers_the_network_of_its_classes(store):
    networks = [InitialNetwork.from_member(member(classes), classes) for classes in (CLASSES, ("AF",))]
    stage_runner = StageRunner({}, None, 7, TimeBudget(None), initial_networks=networks)
    for classes, expected in ((CLASSES, 0), (("AF",), 1), (("PVC",), 0), ((), 0)):
        stage = make_stage(store, LEAD_SETS[2], classes)
        assert stage_runner.initialise(stage).initial is networks[expected]


def test_views_and_groups_share_their_pretrained_networks():
    li2021 = replace(SYSTEMS["li2021"], pretraining=PRETRAINING, lead_sets=(12, 2))
    keys = [plan.key for plan in pretraining_plans(li2021)]
    assert keys == [f"pretraining/{leads}/view{view}" for leads in (8, 2) for view in (1, 2, 3)]
    assert [plan.key for plan in pretraining_plans(replace(SETTINGS, folds=3))] == ["pretraining/12", "pretraining/2"]
    assert pretraining_plans(replace(SETTINGS, pretraining=None)) == []


def test_a_stage_of_pretraining_gets_its_share_of_the_time():
    settings = Settings(pretraining=SyntheticPretraining(8000))
    costs = stage_costs(settings, 1000)
    assert list(costs) == stage_keys(settings)
    pretraining = {key: cost for key, cost in costs.items() if key.startswith("pretraining")}
    assert len(pretraining) == 5
    assert set(pretraining.values()) == {4 * 8000 / (25 * 1000)}
    assert {cost for key, cost in costs.items() if key not in pretraining} == {1.0}
    runner = StageRunner({}, None, 7, TimeBudget(None), costs=costs)
    assert runner.remaining_costs("pretraining/12") == pytest.approx(5 + 8 / 1.28)
    assert runner.remaining_costs(list(costs)[-1]) == 1


def make_stage(store, leads, classes):
    from ecg.systems.stage import Stage
    from ecg.training.losses import LOSSES

    n, targets = len(store), np.zeros((len(store), len(classes)), np.float32)
    return Stage("key", "title", leads, LOSSES["focal"](), np.arange(n), targets, np.ones_like(targets), np.arange(n),
                 np.arange(n), np.arange(0), NETWORK, TrainingSettings(), classes=classes)  # fmt: skip


@pytest.mark.keras
def test_a_trained_stage_began_with_the_pretrained_weights(networks, runner, store, tmp_path):
    """With a rate that changes nothing, the trained network is the pretrained one."""
    stage = make_stage(store, LEAD_SETS[2], SETTINGS.classes)
    stage = replace(stage, learning=TrainingSettings(batch=8, steps=1, epochs=1, rate=1e-30, averaging=0.0))
    stage_runner = StageRunner(
        {stage.view.preparation: store}, tmp_path, 7, TimeBudget(None), initial_networks=networks
    )
    outcome = stage_runner.run(stage)
    network = build_network(stage, "float32")
    networks[1].transfer(network, SETTINGS.classes)
    names = [weight.path for layer in network.layers for weight in layer.weights]
    for name, first, last in zip(names, network.get_weights(), outcome.weights, strict=True):
        if "moving" not in name:  # batch normalisation follows the recordings
            np.testing.assert_array_equal(first, last, err_msg=name)
