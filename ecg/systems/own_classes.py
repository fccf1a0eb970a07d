"""Let a system predict other classes, and know other sources, than its own."""

from dataclasses import replace

from ecg.data.class_tables import ClassTable
from ecg.data.labels import default_sources
from ecg.data.source_tables import SourceTable
from ecg.systems.label_cleaning import CleaningSettings, ConflatedClasses, PartiallyLabelledSource
from ecg.systems.recipes import Settings


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
