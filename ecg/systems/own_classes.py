"""Let a system predict other classes, and know other sources, than its own."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ecg.data.class_tables import ClassTable
from ecg.data.labels import default_sources, load_own_classes, load_own_weights, make_own_classes
from ecg.data.source_tables import SourceTable
from ecg.systems.label_cleaning import CleaningSettings, ConflatedClasses, PartiallyLabelledSource
from ecg.systems.recipes import Settings


class LabelledSystem(NamedTuple):
    """A system that is to be trained on labels.

    Attributes:
        settings: Its settings.
        names: Abbreviations of the labelled classes, the columns of the labels.
    """

    settings: Settings
    names: tuple[str, ...]


def adapt_to_labels(
    settings: Settings, classes: ClassTable | str | os.PathLike | Sequence[str] | None
) -> LabelledSystem:
    """Let a system predict the classes that recordings are labelled with.

    Args:
        settings: Settings of the system.
        classes: A table of classes, or the path of its CSV file (`ecg.data.labels.load_own_classes`); or abbreviations.
            If all of these are among the scored classes of the system's own table, the others are not labelled.
            Otherwise they are your own classes. None: all scored classes of the system's own table.

    Raises:
        ValueError: The file is no table of classes, an abbreviation is malformed or there twice, or the system predicts
            none of the classes.
    """
    if isinstance(classes, str | os.PathLike):
        classes = load_own_classes(Path(classes))
    if isinstance(classes, ClassTable):
        table, names = classes, classes.abbreviations
    elif classes is None:
        table, names = settings.class_table, settings.class_table.abbreviations
    else:
        table, names = settings.class_table, tuple(map(str, classes))
        if len(set(names)) < len(names):
            raise ValueError(f"classes: {', '.join(names)} has a class twice")
        if not set(names) <= set(table.abbreviations):
            try:
                table = make_own_classes(names)
            except ValueError as error:
                raise ValueError(f"classes: {error}") from None
    if table != settings.class_table:
        settings = use_classes(settings, table)
    return LabelledSystem(select_classes(settings, names), names)


def select_weights(system: LabelledSystem, weights: str | os.PathLike | ArrayLike) -> Settings:
    """Return the settings of a system with other weights of the metric.

    Args:
        system: The system.
        weights: The path of a CSV file (`ecg.data.labels.load_own_weights`); or the credit of each prediction of the K
            labelled classes, (K, K), labels by row. The other classes of the table then have none.

    Raises:
        ValueError: The file or the array is not a table of the classes.
    """
    settings, table, names = system.settings, system.settings.class_table, system.names
    if isinstance(weights, str | os.PathLike):
        return replace(settings, weights=load_own_weights(Path(weights), table))
    array = np.asarray(weights)
    if array.shape != (len(names), len(names)) or array.dtype.kind not in "biuf":
        raise ValueError(f"weights: expected {len(names)} rows of {len(names)} numbers, a row and a column for each of "
                         f"the classes; received the shape {array.shape}")  # fmt: skip
    indices, wide = table.indices(names), np.zeros((len(table), len(table)))
    wide[np.ix_(indices, indices)] = array
    table_weights = tuple(map(tuple, wide.tolist()))
    given = table.make_weight_array(table_weights)  # checks the numbers
    return replace(settings, weights=None if np.array_equal(given, table.make_weight_array()) else table_weights)


def use_classes(settings: Settings, classes: ClassTable) -> Settings:
    """Return the settings of a system for other classes.

    The system predicts all trained classes of the table. Its architecture, loss, training and decision stay. What its
    paper says of single classes or sources of the Challenge is dropped: weights, relabelling, the source gate, and the
    implied and fallback classes that the table lacks.

    Args:
        settings: Settings of the system.
        classes: The table.
    """

    def select_pairs(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        return tuple(pair for pair in pairs if set(pair) <= set(classes.trained_classes))

    return replace(
        settings,
        class_table=classes,
        sources=default_sources(classes),
        classes=classes.trained_classes,
        implies=select_pairs(settings.implies),
        answer_pairs=select_pairs(settings.answer_pairs),
        fallback=settings.fallback if settings.fallback in classes.trained_classes else None,
        cleaning=CleaningSettings((), (), settings.cleaning.masks),
        gate=None,
        weights=None,
        proxy_least=None,
    )


def select_classes(settings: Settings, classes: Sequence[str]) -> Settings:
    """Return a system that predicts only those of its classes that are labelled.

    Args:
        settings: Settings of the system.
        classes: Abbreviations of the labelled classes.

    Returns:
        The settings themselves if all classes of the system are labelled. Otherwise labels are used as they are.

    Raises:
        ValueError: The system predicts none of the classes.
    """
    used = tuple(name for name in settings.classes if name in classes)
    if used == settings.classes:
        return settings
    if not used:
        raise ValueError(f"classes: {settings.system} predicts none of {', '.join(classes)}")
    implies, answer_pairs = (
        tuple(pair for pair in pairs if set(pair) <= set(used)) for pairs in (settings.implies, settings.answer_pairs)
    )
    return replace(
        settings,
        classes=used,
        cleaning=CleaningSettings((), (), masks=False),
        source_masks=False,
        implies=implies,
        answer_pairs=answer_pairs,
        gate=settings.gate if settings.gate and set(settings.gate.classes) <= set(used) else None,
        fallback=settings.fallback if settings.fallback in used else None,
    )


def use_sources(settings: Settings, sources: SourceTable, recipe: Settings) -> Settings:
    """Return the settings of a system for other sources.

    It relabels them as it relabels those of its recipe. With the Challenge's sources a system stays as it is.

    Args:
        settings: Settings of the system.
        sources: The sources.
        recipe: The system's own settings.

    Raises:
        ValueError: A source labels a class that the table of classes lacks.
    """
    classes, cleaning, gate = settings.class_table, recipe.cleaning, settings.gate
    sources.check_labelled_classes(classes.abbreviations)
    predicted = classes.select_scored(settings.classes)
    labelled = {source.name: tuple(name for name in source.labelled if name in predicted)
                for source in sources.sources if source.labelled}  # fmt: skip
    relabels = any(rule.relabel for rule in cleaning.conflated_classes)
    adds = any(rule.relabel for rule in cleaning.partially_labelled)
    return replace(
        settings,
        sources=sources,
        cleaning=CleaningSettings(
            tuple(ConflatedClasses((source.name,), source.conflated, relabels)
                  for source in sources.sources if source.conflated),
            tuple(PartiallyLabelledSource((name,), names, adds) for name, names in labelled.items()),
            settings.cleaning.masks,
        ),
        gate=gate and replace(gate, classes=labelled.get(gate.source, gate.classes)),
    )  # fmt: skip
