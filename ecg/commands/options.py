"""The options of training on the command line, and the settings that they come to."""

import argparse
from dataclasses import fields, replace
from pathlib import Path

from ecg.data.leads import LEAD_SETS
from ecg.runtime.limits import LIMITS

PICTURES = (".png", ".pdf", ".svg")
PRECISIONS = ("float32", "bfloat16")


def given(**values):
    """Return the values that are not None, by name."""
    return {name: value for name, value in values.items() if value is not None}


def refusal(expected, text):
    """Return the error about a text that is not what is expected, in the words of all options."""
    return argparse.ArgumentTypeError(f"expected {expected}, received {text!r}")


def number(name):
    """Return what reads a number within the limits of this name (ecg.runtime.limits)."""
    limit = LIMITS[name]

    def read(text):
        try:
            value = int(text) if limit.integer else float(text)
        except ValueError:
            raise refusal(limit, text) from None
        if not limit.contains(value):
            raise refusal(limit, text)
        return value

    return read


def lead_count(text):
    """Read the size of one of the Challenge's lead sets."""
    if text not in map(str, LEAD_SETS):
        raise refusal(f"one of {', '.join(map(str, LEAD_SETS))}", text)
    return int(text)


def path_name(text):
    """Read the name of a file or folder; an empty one would be the current folder."""
    if not text:
        raise refusal("a file or folder", text)
    return Path(text)


def precision(text):
    """Read the name of a precision, in any case."""
    if text.casefold() not in PRECISIONS:
        raise refusal(f"one of {', '.join(PRECISIONS)}", text)
    return text.casefold()


def share(text):
    """Read NAME or NAME=SHARE: a source, one of the Challenge's in any case, and its share, 1 if it is not given."""
    name, equals, value = text.partition("=")
    try:
        return source(name), number("share")(value) if equals else 1.0
    except argparse.ArgumentTypeError:
        raise refusal(f"SOURCE or SOURCE=SHARE, the share {LIMITS['share']}", text) from None


def source(text):
    """Read the name of a source, one of the Challenge's in any case."""
    from ecg.data.labels import find_source  # where it is asked for, so that help is instant

    if not text.strip():
        raise refusal("a source", text)
    return find_source(text.strip())


def source_classes(text):
    """Read SOURCE=CLASS,CLASS...: the source and its classes, a tuple, those of the Challenge in any case."""
    name, _, classes = text.partition("=")
    names = tuple(map(str.strip, classes.split(",")))
    if not (name.strip() and all(names)):
        raise refusal("SOURCE=CLASS,CLASS...", text)
    return source(name), tuple(known_classes().get(one.casefold(), one) for one in names)


def pair(text):
    """Read CLASS=CLASS: two of the Challenge's abbreviations of scored classes, in any case."""
    one, _, other = text.partition("=")
    try:
        return diagnosis(one), diagnosis(other)
    except argparse.ArgumentTypeError:
        raise refusal(f"CLASS=CLASS, of {', '.join(known_classes(scored=True).values())}", text) from None


def diagnosis(text):
    """Read the Challenge's abbreviation of a scored class, in any case."""
    known = known_classes(scored=True)
    if text.strip().casefold() not in known:
        raise refusal(f"one of {', '.join(known.values())}", text)
    return known[text.strip().casefold()]


def known_classes(scored=False):
    """Return the abbreviations of all classes, or of the scored ones only, by their lower case: a dict."""
    from ecg.data.labels import ABBREVIATIONS, ADDITIONAL_CLASSES  # where it is asked for, so that help is instant

    names = ABBREVIATIONS if scored else (*ABBREVIATIONS, *(diagnosis.abbreviation for diagnosis in ADDITIONAL_CLASSES))
    return {name.casefold(): name for name in names}


def picture(text):
    """Read the name of a file that can hold a picture, its extension in any case."""
    if Path(text).suffix.lower() not in PICTURES:
        endings = f"{', '.join(PICTURES[:-1])} or {PICTURES[-1]}"
        raise argparse.ArgumentTypeError(f"expected a name that ends in {endings}, received {text!r}")
    return Path(text)


ALL_ABLATIONS = "ablations"  # name of what a comparison of the default with all its ablations compares


def add_settings(parser):
    """Add the options that change the settings of a training."""
    parser.add_argument("--system", metavar="NAME", default="cai2021",
                        help="cai2021 (default), li2021, zhao2022, xie2022, se_resnet_rhythm, or one of these without "
                             "a part, such as cai2021-no-masks; an unknown name lists all")  # fmt: skip
    parser.add_argument("--seed", type=number("seed"), metavar="N",
                        help="of split, first weights, order, cuts, dropout and resamples (default 2021)")  # fmt: skip
    add_lead_sets(parser)
    add_networks(parser)
    parser.add_argument("--averaging", type=number("averaging"), metavar="F",
                        help="momentum of the running average of the weights; 0 switches it off")  # fmt: skip
    parser.add_argument("--hours", type=number("hours"), metavar="H", help="finish within H hours, models saved")
    parser.add_argument("--resamples", type=number("resamples"), metavar="N",
                        help="average the thresholds over N bootstrap resamples; 0 switches it off")  # fmt: skip
    parser.add_argument("--folds", type=number("folds"), metavar="N",
                        help="train a network for each of N folds; together they answer")  # fmt: skip
    parser.add_argument("--fallback", type=diagnosis, metavar="CLASS",
                        help="answer this class where no other is answered, such as NSR")  # fmt: skip
    parser.add_argument("--imply", type=pair, action="append", metavar="CLASS=CLASS",
                        help="answer the second class wherever the first is answered, such as TInv=TAb; in place of "
                             "the system's own; repeatable")  # fmt: skip
    parser.add_argument("--source-masks", action=argparse.BooleanOptionalAction,
                        help="ignore in the loss the classes that a recording's source does not label")  # fmt: skip
    parser.add_argument("--gate", action="store_true",
                        help="train separate networks for what looks like CPSC's, and one to tell it")  # fmt: skip
    parser.add_argument("--no-relabel-flutter", action="store_true", help="keep Ningbo's AFL labels")
    parser.add_argument("--no-relabel-cpsc", action="store_true", help="add no labels to CPSC's")
    parser.add_argument("--no-masks", action="store_true", help="skip round 1 and its masks")
    parser.add_argument("--lumping", type=source_classes, action="append", default=[], metavar="SOURCE=AFL,AF",
                        help="this source writes the first class for the second, too; repeatable")  # fmt: skip
    add_omission(parser)
    parser.add_argument(
        "--jobs", type=number("jobs"), metavar="N", help="processes that read recordings (default: cores)"
    )
    parser.add_argument("--keep-stages", action="store_true", help="leave the stages' folders in MODEL")
    add_early_gains(parser)


def add_early_gains(parser: argparse.ArgumentParser) -> None:
    """Add the option that corrects the gains of early-2020 headers."""
    parser.add_argument("--early-gains", action="store_true",
                        help="correct the wrong gains of headers of early 2020, as audit lists them")  # fmt: skip


def add_lead_sets(parser):
    """Add the option that chooses lead sets."""
    parser.add_argument("--leads", type=lead_count, nargs="+", metavar="N",
                        help="lead sets, by their number of leads: 12, 6, 4, 3, 2 (default: all five)")  # fmt: skip


def add_networks(parser):
    """Add the options that are of networks and their training in whatever system, where it has such."""
    parser.add_argument("--width", type=number("width"), metavar="N",
                        help="filters of the first convolution, where the system has one width")  # fmt: skip
    parser.add_argument("--depth", type=number("depth"), metavar="N",
                        help="layers of se_resnet_rhythm: 18, 34, 50, 101 or 152 (default)")  # fmt: skip
    parser.add_argument("--epochs", type=number("epochs"), metavar="N", help="the most epochs of each network")
    parser.add_argument("--batch", type=number("batch"), metavar="N",
                        help="the most recordings in a batch; fewer take less memory")  # fmt: skip
    parser.add_argument("--precision", type=precision, metavar="NAME",
                        help="of the arithmetic of training: float32 or bfloat16")  # fmt: skip


def add_omission(parser):
    """Add the option that names a source which omits classes."""
    parser.add_argument("--omission", type=source_classes, action="append", default=[], metavar="SOURCE=AF,NSR,...",
                        help="this source labels these classes only; of CPSC, in place of what is known; "
                             "repeatable")  # fmt: skip


def training_settings(arguments):
    """Return the Settings (ecg.systems.recipes) of a system with what is given.

    Raises ValueError where the system is not known, or has no part that something given is about.
    """
    from ecg.systems.recipes import Gate, resize_networks, with_early_gains

    settings = recipe(arguments.system)
    settings = with_early_gains(settings) if arguments.early_gains else settings
    check_options_apply(settings, arguments)
    check_omission_classes(arguments.omission, [settings])
    sizes = given(width=arguments.width, depth=arguments.depth)
    known = {field.name for field in fields(settings.network)}
    if unknown := sizes.keys() - known:
        raise ValueError(f"{settings.system}: its network has no {' and no '.join(sorted(unknown))}")
    trained = given(epochs=arguments.epochs, batch=arguments.batch, averaging=arguments.averaging,
                    precision=arguments.precision)  # fmt: skip
    changed = replace(
        settings,
        **given(seed=arguments.seed, lead_sets=lead_sets(arguments), resamples=arguments.resamples,
                jobs=arguments.jobs, hours=arguments.hours, fallback=arguments.fallback, folds=arguments.folds,
                source_masks=arguments.source_masks,
                answer_pairs=arguments.imply and tuple(arguments.imply)),
        keep_stages=arguments.keep_stages,
        gate=settings.gate or (Gate() if arguments.gate else None),
        cleaning=cleaning_settings(settings.cleaning, arguments),
        training=replace(settings.training, **trained),
        pretraining=settings.pretraining and replace(settings.pretraining, **trained),
    )  # fmt: skip
    return with_omissions(resize_networks(changed, sizes), arguments.omission, adds_labels(settings))


def lead_sets(arguments):
    """Return the lead sets that are given, by their sizes, each once, or None."""
    return arguments.leads and tuple(dict.fromkeys(arguments.leads))


def check_options_apply(settings, arguments):
    """Raise ValueError where the recipe has no such part as an option is to change, which would have no effect."""
    from ecg.systems.recipes import HALVES

    cleaning = settings.cleaning
    for option, asked, there in (
        ("--no-masks", arguments.no_masks, cleaning.masks),
        (
            "--no-relabel-flutter",
            arguments.no_relabel_flutter,
            any(rule.relabel for rule in cleaning.conflated_classes),
        ),
        ("--no-relabel-cpsc", arguments.no_relabel_cpsc, adds_labels(settings)),
        ("--resamples", arguments.resamples is not None, settings.thresholds != HALVES),
    ):
        if asked and not there:
            raise ValueError(f"{settings.system} has nothing that {option} could change")


def check_omission_classes(omissions, systems):
    """Raise ValueError where sources that omit classes label one that none of the systems tells.

    Takes pairs of a source and its classes, and Settings.
    """
    from ecg.data.labels import select_scored
    from ecg.systems.label_cleaning import check_classes

    told = dict.fromkeys(name for one in systems for name in select_scored(one.classes))
    for _, classes in omissions:
        check_classes(classes, told)


def recipe(name):
    """Return the Settings of a system, by its name in any case; ValueError if there is none of that name."""
    from ecg.systems.recipes import RECIPES

    if name.casefold() not in RECIPES:
        raise ValueError(f"expected a system, one of {', '.join(RECIPES)}, received {name!r}")
    return RECIPES[name.casefold()]


def recipes(names):
    """Return the Settings of systems by their names, a tuple, each once; ValueError where there is none of a name.

    The name `ablations` stands for the default and all that is the default without one of its parts.
    """
    from ecg.systems.recipes import ABLATIONS, CAI2021

    every = {ALL_ABLATIONS: (CAI2021.system, *ABLATIONS)}
    named = [one for name in names for one in every.get(name.casefold(), (name.casefold(),))]
    return tuple(recipe(name) for name in dict.fromkeys(named))


def cleaning_settings(settings, arguments):
    """Return CleaningSettings less what is switched off, and with the sources that lump classes together."""
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


def adds_labels(settings):
    """Return whether a recipe has networks add the labels that sources omit."""
    return any(rule.relabel for rule in settings.cleaning.partially_labelled)


def with_omissions(settings, named, relabels):
    """Return settings by which sources label some classes only, pairs of a source and classes.

    Those of the classes count that the system tells. `relabels` is as in `with_named`.
    """
    from ecg.data.labels import select_scored

    told = select_scored(settings.classes)
    named = [(source, tuple(name for name in classes if name in told)) for source, classes in named]
    omissions = with_named(settings.cleaning.partially_labelled, named, relabels)
    gate = settings.gate
    gate = gate and replace(gate, classes=dict(named).get(gate.source, gate.classes))
    return replace(settings, cleaning=replace(settings.cleaning, partially_labelled=omissions), gate=gate)


def with_named(omissions, named, relabels):
    """Return Omissions (ecg.systems.label_cleaning) and those that were named, pairs of a source and the classes that it labels.

    A named one takes the place of what was said of its source, and is relabelled as that was; of another source, where
    `relabels` is true.
    """
    from ecg.systems.label_cleaning import PartiallyLabelledSource

    said = {source: rule.relabel for rule in omissions for source in rule.sources}
    others = []
    for rule in omissions:
        if sources := tuple(source for source in rule.sources if source not in dict(named)):
            others.append(replace(rule, sources=sources))
    return (
        *others,
        *(PartiallyLabelledSource((source,), classes, said.get(source, relabels)) for source, classes in named),
    )
