"""Initial networks: pretrained on synthetic recordings, or of a saved model."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.leads import LEAD_SETS
from ecg.data.memory_stores import build_synthetic_store
from ecg.data.store import store_folder
from ecg.models.bundle import describe_bundle, load_bundle
from ecg.models.config import ModelError
from ecg.models.ensemble import input_leads
from ecg.models.initial_weights import InitialNetwork
from ecg.models.network_settings import LiSettings
from ecg.runtime.executors import ALL_CORES, Executor
from ecg.systems.own_classes import use_classes
from ecg.systems.plan import (
    GATE,
    NetworkPlan,
    find_usable,
    known_labels,
    lead_configurations,
    planned_networks,
    pretraining_plans,
)
from ecg.systems.recipes import Settings, SyntheticPretraining
from ecg.systems.stage import AUROC, Stage, make_member
from ecg.systems.stage_runner import StageRunner, Stores

FOLDER = "synthetic"  # in the folder of the stages, for the stores of synthetic recordings
VALIDATION_SHARE = 0.05  # of the synthetic recordings, to log how the pretraining goes


def prepare_initial_networks(settings: Settings, runner: StageRunner) -> list[InitialNetwork]:
    """Pretrain the networks that others start from, or load them.

    Args:
        settings: Settings of the system.
        runner: Runs the stages.

    Returns:
        The networks; none if all networks start from random weights.

    Raises:
        ModelError: The model to start from lacks a network of the same architecture.
        TrainingError: See `StageRunner.run_all`.
    """
    if settings.initial_model is not None:
        return load_initial_networks(settings)
    if settings.pretraining is None:
        return []
    return pretrain_networks(settings, settings.pretraining, runner)


def pretrain_networks(
    settings: Settings, pretraining: SyntheticPretraining, runner: StageRunner
) -> list[InitialNetwork]:
    """Train a network for each lead set and view on synthetic recordings."""
    settings = select_synthetic_classes(settings)
    stores = build_synthetic_stores(runner.folder / FOLDER, settings, pretraining, runner.executor)
    synthetic_runner = replace(runner, stores=stores, initial_networks=())
    stages = [
        make_pretraining_stage(plan, settings, pretraining, synthetic_runner) for plan in pretraining_plans(settings)
    ]
    outcomes = zip(stages, synthetic_runner.run_all(stages), strict=True)
    members = (make_member(stage, outcome.weights, stage.leads) for stage, outcome in outcomes)
    return [InitialNetwork.from_member(member, settings.classes) for member in members]


def select_synthetic_classes(settings: Settings) -> Settings:
    """Return settings whose classes synthetic recordings have: those of the Challenge.

    A network for other classes starts from a pretrained one with another head.
    """
    is_challenge = settings.class_table == CHALLENGE_CLASSES
    return settings if is_challenge else use_classes(settings, CHALLENGE_CLASSES)


def build_synthetic_stores(
    folder: Path, settings: Settings, pretraining: SyntheticPretraining, executor: Executor = ALL_CORES
) -> Stores:
    """Make the synthetic recordings of a pretraining, or open their stores.

    Args:
        folder: Folder that gets a folder for each store.
        settings: Settings of the system.
        pretraining: Settings of the pretraining.
        executor: Makes the recordings.
    """
    return {
        preparation: build_synthetic_store(
            store_folder(folder, preparation), pretraining.recordings, settings.seed, pretraining.kind, preparation,
            executor,
        )
        for preparation in settings.preparations
    }  # fmt: skip


def make_pretraining_stage(
    plan: NetworkPlan, settings: Settings, pretraining: SyntheticPretraining, runner: StageRunner
) -> Stage:
    """Return the stage that pretrains a network.

    Args:
        plan: Plan of the network.
        settings: Settings of the system.
        pretraining: Settings of the pretraining.
        runner: Its stores hold the synthetic recordings.
    """
    store = runner.stores[plan.view.preparation]
    targets = known_labels(store, settings).astype(np.float32)
    usable = find_usable(targets, settings)
    n_validation, masks = max(round(VALIDATION_SHARE * len(usable)), 1), np.ones_like(targets)
    loss = replace(settings, loss=pretraining.loss or settings.loss).make_loss(settings.classes, targets, masks)
    return Stage(plan.key, plan.title, plan.leads, loss, np.arange(len(store)), targets, masks, usable[n_validation:],
                 usable[:n_validation], usable[:0], settings.network, pretraining.training, plan.view,
                 settings.output_activation, lead_configurations(settings, plan.leads), classes=settings.classes,
                 metric=AUROC, augmentations=pretraining.augmentations)  # fmt: skip


def load_initial_networks(settings: Settings) -> list[InitialNetwork]:
    """Load the networks of the saved model that a training starts from.

    Args:
        settings: Settings of the system, with `initial_model`.

    Raises:
        ModelError: The model is damaged, or lacks the model of a lead set, or a network of the same architecture, leads
            and view.
    """
    check_initial_model(settings)
    networks = []
    for count in settings.lead_sets:
        ensemble = load_bundle(str(settings.initial_model), LEAD_SETS[count], fallback=False).ensemble
        for name, group in ensemble.groups.items():
            if name != GATE:
                networks += [InitialNetwork.from_member(member, group.classes) for member in group.members]
    return networks


def check_initial_model(settings: Settings) -> None:
    """Check that the saved model has the networks that a training starts from.

    No weights are read.

    Args:
        settings: Settings of the system, with `initial_model`.

    Raises:
        ModelError: The description of a model is damaged, or there is none for a lead set, or no network of the same
            architecture, leads and view.
    """
    folder, wanted, kinds = Path(str(settings.initial_model)), settings.network, set()
    if isinstance(wanted, LiSettings):
        wanted = replace(wanted, peaks=False)
    for count in settings.lead_sets:
        _, spec = describe_bundle(folder, LEAD_SETS[count], fallback=False)
        for name, (_, networks) in spec.groups.items():
            alike = [network for network in networks if name != GATE and network.settings == wanted]
            kinds |= {(input_leads(wanted, network.leads), network.view) for network in alike}
    for plan in planned_networks(settings):
        if plan.group != GATE and (plan.leads, plan.view) not in kinds:
            raise ModelError(f"{folder}: has no network of the architecture, leads and view of {plan.title}")
