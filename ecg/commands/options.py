"""Define and parse the options of the command line."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg.data.leads import LEAD_SETS
from ecg.runtime.limits import LIMITS

if TYPE_CHECKING:  # these import Keras, and help is to be instant
    from ecg.systems.label_cleaning import CleaningSettings, PartiallyLabelledSource
    from ecg.systems.recipes import Settings

FIGURE_ENDINGS = (".png", ".pdf", ".svg")
PRECISIONS = ("float32", "bfloat16")

SourceClasses = tuple[str, tuple[str, ...]]  # a source and some classes


def without_none(**values: Any) -> dict[str, Any]:
    """Return the values that are not None, by name."""
    return {name: value for name, value in values.items() if value is not None}


def option_error(expected: object, text: str) -> argparse.ArgumentTypeError:
    """Return the error for a text that is not what an option expects."""
    return argparse.ArgumentTypeError(f"expected {expected}, received {text!r}")


def number_parser(name: str) -> Callable[[str], float]:
    """Return a parser of numbers within the limits of this name."""
    limit = LIMITS[name]

    def parse(text: str) -> float:
        try:
            value = int(text) if limit.integer else float(text)
        except ValueError:
            raise option_error(limit, text) from None
        if not limit.contains(value):
            raise option_error(limit, text)
        return value

    return parse


def parse_lead_count(text: str) -> int:
    """Parse the number of leads of one of the Challenge's lead sets."""
    if text not in map(str, LEAD_SETS):
        raise option_error(f"one of {', '.join(map(str, LEAD_SETS))}", text)
    return int(text)


def parse_path(text: str) -> Path:
    """Parse the name of a file or folder; an empty name would be the current folder."""
    if not text:
        raise option_error("a file or folder", text)
    return Path(text)


def parse_precision(text: str) -> str:
    """Parse the name of a precision, in any case."""
    if text.casefold() not in PRECISIONS:
        raise option_error(f"one of {', '.join(PRECISIONS)}", text)
    return text.casefold()


def parse_share(text: str) -> tuple[str, float]:
    """Parse NAME or NAME=SHARE: a source and its share, 1 by default."""
    name, equals, value = text.partition("=")
    try:
        return parse_source(name), number_parser("share")(value) if equals else 1.0
    except argparse.ArgumentTypeError:
        raise option_error(f"SOURCE or SOURCE=SHARE, the share {LIMITS['share']}", text) from None


def parse_source(text: str) -> str:
    """Parse the name of a source; one of the Challenge's in any case."""
    from ecg.data.labels import find_source  # imported here, so that help is instant

    if not text.strip():
        raise option_error("a source", text)
    return find_source(text.strip())


def parse_source_classes(text: str) -> SourceClasses:
    """Parse SOURCE=CLASS,CLASS..., a source and its classes, in any case."""
    name, _, classes = text.partition("=")
    names = tuple(map(str.strip, classes.split(",")))
    if not (name.strip() and all(names)):
        raise option_error("SOURCE=CLASS,CLASS...", text)
    return parse_source(name), tuple(known_classes().get(name.casefold(), name) for name in names)


def parse_class_pair(text: str) -> tuple[str, str]:
    """Parse CLASS=CLASS: two abbreviations of scored classes, in any case."""
    first, _, second = text.partition("=")
    try:
        return parse_class(first), parse_class(second)
    except argparse.ArgumentTypeError:
        raise option_error(f"CLASS=CLASS, of {', '.join(known_classes(scored=True).values())}", text) from None


def parse_class(text: str) -> str:
    """Parse the abbreviation of a scored class, in any case."""
    known = known_classes(scored=True)
    if text.strip().casefold() not in known:
        raise option_error(f"one of {', '.join(known.values())}", text)
    return known[text.strip().casefold()]


def known_classes(scored: bool = False) -> dict[str, str]:
    """Return abbreviations of all or the scored classes, by lower case."""
    from ecg.data.labels import ABBREVIATIONS, ADDITIONAL_CLASSES  # imported here, so that help is instant

    names = ABBREVIATIONS if scored else (*ABBREVIATIONS, *(diagnosis.abbreviation for diagnosis in ADDITIONAL_CLASSES))
    return {name.casefold(): name for name in names}


def parse_figure_path(text: str) -> Path:
    """Parse the name of a figure's file, its ending in any case."""
    if Path(text).suffix.lower() not in FIGURE_ENDINGS:
        raise option_error(f"a name that ends in {', '.join(FIGURE_ENDINGS[:-1])} or {FIGURE_ENDINGS[-1]}", text)
    return Path(text)


ALL_ABLATIONS = "ablations"  # stands for the default system and all its ablations


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options that change the settings of a training."""
    parser.add_argument("--system", metavar="NAME", default="cai2021",
                        help="cai2021 (default), li2021, zhao2022, xie2022, se_resnet_rhythm, or an "
                             "ablation, such as cai2021-no-masks; an unknown name lists all")  # fmt: skip
    parser.add_argument("--seed", type=number_parser("seed"), metavar="N",
                        help="seed of split, weights, order, crops, dropout and resamples (default 2021)")  # fmt: skip
    add_lead_sets(parser)
    add_networks(parser)
    parser.add_argument("--averaging", type=number_parser("averaging"), metavar="F",
                        help="momentum of the running average of the weights; 0 switches it off")  # fmt: skip
    parser.add_argument("--hours", type=number_parser("hours"), metavar="H", help="finish within H hours, models saved")
    parser.add_argument("--resamples", type=number_parser("resamples"), metavar="N",
                        help="average the thresholds over N bootstrap resamples; 0 switches it off")  # fmt: skip
    parser.add_argument("--folds", type=number_parser("folds"), metavar="N",
                        help="train a network for each of N folds; their mean is the prediction")  # fmt: skip
    parser.add_argument("--fallback", type=parse_class, metavar="CLASS",
                        help="predict this class if no other is predicted, such as NSR")  # fmt: skip
    parser.add_argument("--imply", type=parse_class_pair, action="append", metavar="CLASS=CLASS",
                        help="predict the second class wherever the first is, such as TInv=TAb; replaces the "
                             "system's own; repeatable")  # fmt: skip
    parser.add_argument("--source-masks", action=argparse.BooleanOptionalAction,
                        help="ignore in the loss the classes that a recording's source does not label")  # fmt: skip
    parser.add_argument("--gate", action="store_true",
                        help="train separate networks for CPSC's recordings, and one that detects these")  # fmt: skip
    parser.add_argument("--no-relabel-flutter", action="store_true", help="keep Ningbo's AFL labels")
    parser.add_argument("--no-relabel-cpsc", action="store_true", help="add no labels to CPSC's recordings")
    parser.add_argument("--no-masks", action="store_true", help="skip round 1 and its masks")
    parser.add_argument("--lumping", type=parse_source_classes, action="append", default=[], metavar="SOURCE=AFL,AF",
                        help="this source conflates the two classes; repeatable")  # fmt: skip
    add_omission(parser)
    parser.add_argument(
        "--jobs", type=number_parser("jobs"), metavar="N", help="processes that read recordings (default: cores)"
    )
    parser.add_argument("--keep-stages", action="store_true", help="keep the stages' folders in MODEL")
    add_early_gains(parser)


def add_early_gains(parser: argparse.ArgumentParser) -> None:
    """Add the option that corrects the gains of early-2020 headers."""
    parser.add_argument("--early-gains", action="store_true",
                        help="correct the wrong gains of headers of early 2020, as audit lists them")  # fmt: skip


def add_lead_sets(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses lead sets."""
    parser.add_argument("--leads", type=parse_lead_count, nargs="+", metavar="N",
                        help="lead sets, by their number of leads: 12, 6, 4, 3, 2 (default: all five)")  # fmt: skip


def add_networks(parser: argparse.ArgumentParser) -> None:
    """Add the options of networks and their training."""
    parser.add_argument("--width", type=number_parser("width"), metavar="N",
                        help="filters of the first convolution, if the system has one width")  # fmt: skip
    parser.add_argument("--depth", type=number_parser("depth"), metavar="N",
                        help="layers of se_resnet_rhythm: 18, 34, 50, 101 or 152 (default)")  # fmt: skip
    parser.add_argument(
        "--epochs", type=number_parser("epochs"), metavar="N", help="maximum number of epochs of each network"
    )
    parser.add_argument("--batch", type=number_parser("batch"), metavar="N",
                        help="maximum number of recordings in a batch; fewer need less memory")  # fmt: skip
    parser.add_argument("--precision", type=parse_precision, metavar="NAME",
                        help="precision of training: float32 or bfloat16")  # fmt: skip


def add_omission(parser: argparse.ArgumentParser) -> None:
    """Add the option for a partially labelled source."""
    parser.add_argument("--omission", type=parse_source_classes, action="append", default=[],
                        metavar="SOURCE=AF,NSR,...",
                        help="this source labels these classes only; for CPSC it replaces the built-in list; "
                             "repeatable")  # fmt: skip


def training_settings(arguments: argparse.Namespace) -> "Settings":
    """Return the settings of a system, changed by the options of `add_settings`.

    Raises:
        ValueError: The system is unknown, or an option does not apply to it.
    """
    from ecg.systems.recipes import Gate, resize_networks, with_early_gains

    settings = find_system(arguments.system)
    settings = with_early_gains(settings) if arguments.early_gains else settings
    check_options_apply(settings, arguments)
    check_omission_classes(arguments.omission, [settings])
    sizes = without_none(width=arguments.width, depth=arguments.depth)
    known = {field.name for field in fields(settings.network)}
    if unknown := sizes.keys() - known:
        raise ValueError(f"{settings.system}: its network has no {' and no '.join(sorted(unknown))}")
    training = without_none(epochs=arguments.epochs, batch=arguments.batch, averaging=arguments.averaging,
                    precision=arguments.precision)  # fmt: skip
    changed = replace(
        settings,
        **without_none(seed=arguments.seed, lead_sets=lead_sets(arguments), resamples=arguments.resamples,
                jobs=arguments.jobs, hours=arguments.hours, fallback=arguments.fallback, folds=arguments.folds,
                source_masks=arguments.source_masks,
                answer_pairs=arguments.imply and tuple(arguments.imply)),
        keep_stages=arguments.keep_stages,
        gate=settings.gate or (Gate() if arguments.gate else None),
        cleaning=cleaning_settings(settings.cleaning, arguments),
        training=replace(settings.training, **training),
        pretraining=settings.pretraining and replace(settings.pretraining, **training),
    )  # fmt: skip
    return set_labelled_classes(resize_networks(changed, sizes), arguments.omission, adds_labels(settings))


def lead_sets(arguments: argparse.Namespace) -> tuple[int, ...] | None:
    """Return the given numbers of leads, each once, or None."""
    return arguments.leads and tuple(dict.fromkeys(arguments.leads))


def check_options_apply(settings: "Settings", arguments: argparse.Namespace) -> None:
    """Raise ValueError if an option would have no effect on this system."""
    from ecg.systems.recipes import HALVES

    cleaning = settings.cleaning
    relabels_conflated = any(rule.relabel for rule in cleaning.conflated_classes)
    for option, is_given, applies in (
        ("--no-masks", arguments.no_masks, cleaning.masks),
        ("--no-relabel-flutter", arguments.no_relabel_flutter, relabels_conflated),
        ("--no-relabel-cpsc", arguments.no_relabel_cpsc, adds_labels(settings)),
        ("--resamples", arguments.resamples is not None, settings.thresholds != HALVES),
    ):
        if is_given and not applies:
            raise ValueError(f"{settings.system} has nothing that {option} could change")


def check_omission_classes(omissions: Iterable[SourceClasses], systems: Iterable["Settings"]) -> None:
    """Raise ValueError if a source labels a class that no system predicts."""
    from ecg.data.labels import select_scored
    from ecg.systems.label_cleaning import check_classes

    predicted = dict.fromkeys(name for system in systems for name in select_scored(system.classes))
    for _, classes in omissions:
        check_classes(classes, predicted)


def find_system(name: str) -> "Settings":
    """Return the settings of a system by its name, in any case.

    Raises:
        ValueError: The name is unknown.
    """
    from ecg.systems.recipes import RECIPES

    if name.casefold() not in RECIPES:
        raise ValueError(f"expected a system, one of {', '.join(RECIPES)}, received {name!r}")
    return RECIPES[name.casefold()]


def find_systems(names: Iterable[str]) -> tuple["Settings", ...]:
    """Return the settings of systems by their names, without duplicates.

    The name `ablations` stands for several.

    Raises:
        ValueError: A name is unknown.
    """
    from ecg.systems.recipes import ABLATIONS, CAI2021

    groups = {ALL_ABLATIONS: (CAI2021.system, *ABLATIONS)}
    single = [system for name in names for system in groups.get(name.casefold(), (name.casefold(),))]
    return tuple(map(find_system, dict.fromkeys(single)))


def cleaning_settings(settings: "CleaningSettings", arguments: argparse.Namespace) -> "CleaningSettings":
    """Apply the options that change how labels are cleaned."""
    from ecg.systems.label_cleaning import CleaningSettings, ConflatedClasses

    flutter, omitted = arguments.no_relabel_flutter, arguments.no_relabel_cpsc
    return CleaningSettings(
        (
            *(replace(rule, relabel=rule.relabel and not flutter) for rule in settings.conflated_classes),
            *(ConflatedClasses((source,), classes) for source, classes in arguments.lumping),
        ),
        tuple(replace(rule, relabel=rule.relabel and not omitted) for rule in settings.partially_labelled),
        settings.masks and not arguments.no_masks,
    )


def adds_labels(settings: "Settings") -> bool:
    """Return whether networks add labels to partially labelled sources."""
    return any(rule.relabel for rule in settings.cleaning.partially_labelled)


def set_labelled_classes(settings: "Settings", given: Sequence[SourceClasses], relabel: bool) -> "Settings":
    """Set the classes that sources label; see `merge_labelled_classes`.

    Classes that the system does not predict are ignored.
    """
    from ecg.data.labels import select_scored

    predicted, gate = select_scored(settings.classes), settings.gate
    given = [(source, tuple(name for name in classes if name in predicted)) for source, classes in given]
    rules = merge_labelled_classes(settings.cleaning.partially_labelled, given, relabel)
    gate = gate and replace(gate, classes=dict(given).get(gate.source, gate.classes))
    return replace(settings, cleaning=replace(settings.cleaning, partially_labelled=rules), gate=gate)


def merge_labelled_classes(
    rules: Iterable["PartiallyLabelledSource"], given: Sequence[SourceClasses], relabel: bool
) -> tuple["PartiallyLabelledSource", ...]:
    """Merge partially labelled sources; given ones replace known ones.

    Args:
        rules: The sources that are known.
        given: Sources and the classes that they label.
        relabel: Whether a network adds labels to given sources that are not known.
    """
    from ecg.systems.label_cleaning import PartiallyLabelledSource

    rules = list(rules)
    relabelled = {source: rule.relabel for rule in rules for source in rule.sources}
    remaining = [(rule, tuple(source for source in rule.sources if source not in dict(given))) for rule in rules]
    return (
        *(replace(rule, sources=sources) for rule, sources in remaining if sources),
        *(PartiallyLabelledSource((source,), classes, relabelled.get(source, relabel)) for source, classes in given),
    )
