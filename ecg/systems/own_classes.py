"""Let a system predict the classes of a table instead of its own."""

from dataclasses import replace

from ecg.data.class_tables import ClassTable
from ecg.systems.label_cleaning import CleaningSettings
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
        classes=classes.trained_classes,
        implies=select_pairs(settings.implies),
        answer_pairs=select_pairs(settings.answer_pairs),
        fallback=settings.fallback if settings.fallback in classes.trained_classes else None,
        cleaning=CleaningSettings((), (), settings.cleaning.masks),
        gate=None,
        weights=None,
        proxy_least=None,
    )
