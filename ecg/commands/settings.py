"""Turn the options of the command line into the settings of systems."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

from ecg.commands.option_types import SourceClasses
from ecg.commands.options import find_class, read_classes, read_sources, without_none
from ecg.data.class_tables import ClassTable, WeightTable
from ecg.data.labels import load_own_weights
from ecg.data.source_tables import SourceTable
from ecg.models.decision import ARGMAX, HALVES, VOTE
from ecg.systems.label_cleaning import (
    CleaningSettings,
    ConflatedClasses,
    PartiallyLabelledSource,
    check_trained_classes,
)
from ecg.systems.own_classes import use_classes, use_sources
from ecg.systems.recipes import (
    ABLATIONS,
    CAI2021,
    RECIPES,
    Gate,
    Settings,
    SyntheticPretraining,
    resize_networks,
)

ALL_ABLATIONS = "ablations"  # stands for the default system and all its ablations


def find_systems(names: Iterable[str]) -> tuple[Settings, ...]:
    """Return the settings of systems by their names in any case, each once.

    Args:
        names: Names of systems; `ablations` stands for several.

    Raises:
        ValueError: A name is unknown.
    """
    groups = {ALL_ABLATIONS: (CAI2021.system, *ABLATIONS)}
    single = dict.fromkeys(system for name in names for system in groups.get(name.casefold(), (name.casefold(),)))
    return tuple(map(find_system, single))


def find_system(name: str) -> Settings:
    """Return the settings of one system by its name in any case.

    Raises:
        ValueError: The name is unknown.
    """
    if name.casefold() not in RECIPES:
        raise ValueError(f"expected a system, one of {', '.join(RECIPES)}, received {name!r}")
    return RECIPES[name.casefold()]


def with_early_gains(settings: Settings) -> Settings:
    """Return settings that correct the wrong gains of early-2020 headers."""
    views = (replace(view, preparation=replace(view.preparation, early_gains=True)) for view in settings.views)
    return replace(settings, views=tuple(views))


def training_settings(
    arguments: argparse.Namespace, classes: ClassTable | None = None, sources: SourceTable | None = None
) -> Settings:
    """Return the settings of a system, changed by the options of `add_settings`.

    Args:
        arguments: The parsed options.
        classes: The classes; None: those of the option --classes.
        sources: The sources; None: those of the option --sources.

    Raises:
        ValueError: The system is unknown, or an option does not apply to it.
    """
    recipe, classes = find_system(arguments.system), classes or read_classes(arguments)
    settings = choose_sources(choose_class_table(recipe, classes), recipe, sources or read_sources(arguments))
    settings = with_early_gains(settings) if arguments.early_gains else settings
    check_options_apply(settings, arguments)
    check_omission_classes(arguments.omission, [settings])
    training = without_none(**{name: getattr(arguments, name)
                               for name in ("epochs", "batch", "averaging", "precision")})  # fmt: skip
    names = ("seed", "resamples", "hours", "source_masks", "keep_stages", "decision")
    # Folds replace a system's splits, and splits its folds.
    parts = {name: getattr(arguments, name) for name in ("folds", "splits", "validation_fold")}
    parts = parts if any(parts.values()) else {}
    changed = replace(
        settings,
        **parts,
        **without_none(**{name: getattr(arguments, name) for name in names},
                       lead_sets=arguments.leads and tuple(dict.fromkeys(arguments.leads)),
                       fallback=arguments.fallback and find_class("--fallback", arguments.fallback, classes),
                       answer_pairs=find_pairs(arguments.imply, classes),
                       weights=read_own_weights(arguments, classes),
                       augmentations=arguments.augment and tuple(dict.fromkeys(arguments.augment)),
                       initial_model=arguments.init and str(arguments.init.resolve())),
        pretraining=pretraining_settings(settings.pretraining, arguments),
        gate=settings.gate or (Gate() if arguments.gate else None),
        cleaning=cleaning_settings(settings.cleaning, arguments),
    )  # fmt: skip
    changed = change_training(changed, training)
    sizes = without_none(width=arguments.width, depth=arguments.depth)
    return set_labelled_classes(resize_networks(changed, sizes), arguments.omission, adds_labels(recipe))


def change_training(settings: Settings, changes: dict[str, Any]) -> Settings:
    """Change how all networks of a system are trained.

    Args:
        settings: Settings of the system.
        changes: New values by field of TrainingSettings. The numbers of epochs and of recordings in a batch of a
            pretraining can only shrink.

    Raises:
        ValueError: A value is out of range.
    """
    pretraining = settings.pretraining
    if pretraining:
        first = pretraining.training
        limits = {name: min(getattr(first, name), changes[name]) for name in ("epochs", "batch") if name in changes}
        pretraining = replace(pretraining, training=replace(first, **(changes | limits)))
    return replace(
        settings,
        training=replace(settings.training, **changes),
        peak_training=settings.peak_training and replace(settings.peak_training, **changes),
        pretraining=pretraining,
    )


def pretraining_settings(
    pretraining: SyntheticPretraining | None, arguments: argparse.Namespace
) -> SyntheticPretraining | None:
    """Apply the options that choose the pretraining on synthetic recordings.

    Args:
        pretraining: Settings of the system.
        arguments: The parsed options.

    Raises:
        ValueError: The number of recordings is out of range.
    """
    if arguments.pretrain == 0 or (arguments.init and arguments.pretrain is None):
        return None
    if arguments.pretrain:
        return replace(pretraining or SyntheticPretraining(), recordings=arguments.pretrain)
    return pretraining


def choose_class_table(settings: Settings, classes: ClassTable) -> Settings:
    """Return a system for a table of classes; its own settings for its own table."""
    return settings if classes == settings.class_table else use_classes(settings, classes)


def choose_sources(settings: Settings, recipe: Settings, sources: SourceTable | None) -> Settings:
    """Return a system for a table of sources; its own settings for its own table.

    Args:
        settings: Settings of the system.
        recipe: The system's own settings.
        sources: The table; None: that of the settings.

    Raises:
        ValueError: See `use_sources`.
    """
    return settings if sources in (None, settings.sources) else use_sources(settings, sources, recipe)


def find_pairs(pairs: Sequence[tuple[str, str]] | None, classes: ClassTable) -> tuple[tuple[str, str], ...] | None:
    """Return the abbreviations of the option --imply, or None without it."""
    if not pairs:
        return None
    return tuple((find_class("--imply", first, classes), find_class("--imply", second, classes))
                 for first, second in pairs)  # fmt: skip


def read_own_weights(arguments: argparse.Namespace, classes: ClassTable) -> WeightTable | None:
    """Read the weights of the option --weights; None if the classes have the same.

    Args:
        arguments: The parsed options.
        classes: The classes.

    Raises:
        ValueError: The file cannot be read, or is not a table of the scored classes.
    """
    return load_own_weights(arguments.weights, classes) if arguments.weights else None


def check_options_apply(settings: Settings, arguments: argparse.Namespace) -> None:
    """Check that each given option has an effect on this system.

    Args:
        settings: Settings of the system.
        arguments: The parsed options.

    Raises:
        ValueError: An option has none.
    """
    cleaning, decision = settings.cleaning, arguments.decision or settings.decision
    for option, is_given, applies in (
        ("--no-masks", arguments.no_masks, cleaning.masks),
        ("--no-relabel-flutter", arguments.no_relabel_flutter, any(r.relabel for r in cleaning.conflated_classes)),
        ("--no-relabel-cpsc", arguments.no_relabel_cpsc, adds_labels(settings)),
        ("--resamples", arguments.resamples is not None, decision not in (HALVES, ARGMAX, VOTE)),
    ):
        if is_given and not applies:
            raise ValueError(f"{settings.system} has nothing that {option} could change")
    sizes = without_none(width=arguments.width, depth=arguments.depth)
    if unknown := sizes.keys() - {field.name for field in fields(settings.network)}:
        raise ValueError(f"{settings.system}: its network has no {' and no '.join(sorted(unknown))}")


def check_omission_classes(omissions: Iterable[SourceClasses], systems: Iterable[Settings]) -> None:
    """Check that at least one system predicts each class that a source labels.

    Args:
        omissions: Sources and the classes that they label.
        systems: Settings of the systems.

    Raises:
        ValueError: No system predicts a class.
    """
    predicted = dict.fromkeys(name for system in systems for name in system.class_table.select_scored(system.classes))
    for _, classes in omissions:
        check_trained_classes(classes, predicted)


def cleaning_settings(settings: CleaningSettings, arguments: argparse.Namespace) -> CleaningSettings:
    """Apply the options that change how labels are cleaned.

    Args:
        settings: Settings of the system.
        arguments: The parsed options.

    Raises:
        ValueError: A class is not trained, or a source is named twice.
    """
    flutter, omitted = arguments.no_relabel_flutter, arguments.no_relabel_cpsc
    conflated = [replace(rule, relabel=rule.relabel and not flutter) for rule in settings.conflated_classes]
    conflated += [ConflatedClasses((source,), classes) for source, classes in arguments.lumping]
    partially = [replace(rule, relabel=rule.relabel and not omitted) for rule in settings.partially_labelled]
    return CleaningSettings(tuple(conflated), tuple(partially), settings.masks and not arguments.no_masks)


def adds_labels(settings: Settings) -> bool:
    """Return whether networks add labels to partially labelled sources."""
    return any(rule.relabel for rule in settings.cleaning.partially_labelled)


def set_labelled_classes(settings: Settings, given: Sequence[SourceClasses], relabel: bool) -> Settings:
    """Set the classes that sources label; see `merge_labelled_classes`.

    Args:
        settings: Settings of the system.
        given: Sources and the classes that they label. Classes that the system does not predict are ignored.
        relabel: Whether a network adds labels to given sources that are not known.

    Raises:
        ValueError: A source is given twice.
    """
    predicted, gate = settings.class_table.select_scored(settings.classes), settings.gate
    given = [(source, tuple(name for name in classes if name in predicted)) for source, classes in given]
    rules = merge_labelled_classes(settings.cleaning.partially_labelled, given, relabel)
    gate = gate and replace(gate, classes=dict(given).get(gate.source, gate.classes))
    return replace(settings, cleaning=replace(settings.cleaning, partially_labelled=rules), gate=gate)


def merge_labelled_classes(
    rules: Iterable[PartiallyLabelledSource], given: Sequence[SourceClasses], relabel: bool
) -> tuple[PartiallyLabelledSource, ...]:
    """Merge partially labelled sources; given ones replace known ones.

    Args:
        rules: The sources that are known.
        given: Sources and the classes that they label.
        relabel: Whether a network adds labels to given sources that are not known.
    """
    rules, replaced = list(rules), dict(given)
    relabelled = {source: rule.relabel for rule in rules for source in rule.sources}
    remaining = [(rule, tuple(source for source in rule.sources if source not in replaced)) for rule in rules]
    return (
        *(replace(rule, sources=sources) for rule, sources in remaining if sources),
        *(PartiallyLabelledSource((source,), classes, relabelled.get(source, relabel)) for source, classes in given),
    )
