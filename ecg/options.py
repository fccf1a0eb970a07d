"""The options of training on the command line, and the settings that they come to."""

import argparse
from dataclasses import fields, replace

from ecg.arguments import diagnosis, given, habit, momentum, pair, positive, whole
from ecg.leads import LEAD_SETS


def add_settings(parser):
    """Add the options that change the settings of a training."""
    parser.add_argument("--system", metavar="NAME", default="cai2021",
                        help="cai2021, the default, li2021, zhao2022, xie2022, se_resnet_rhythm, or one without a "
                             "part, such as cai2021-no-masks or xie2022-plain")  # fmt: skip
    parser.add_argument("--seed", type=whole(0), metavar="N", help="of split, first weights, order, cuts and dropout")
    parser.add_argument("--leads", type=int, nargs="+", choices=tuple(LEAD_SETS), help="lead sets, by their sizes")
    parser.add_argument("--width", type=whole(1), metavar="N", help="filters of the first convolution")
    parser.add_argument(
        "--depth", type=whole(1), metavar="N", help="layers, of se_resnet_rhythm: 18, 34, 50, 101 or 152"
    )
    parser.add_argument("--epochs", type=whole(1), metavar="N", help="at the most, in each training")
    parser.add_argument("--averaging", type=momentum, metavar="F",
                        help="momentum of the average of the weights; 0: none")  # fmt: skip
    parser.add_argument("--batch", type=whole(1), metavar="N", help="recordings, at the most; fewer take less memory")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="that the networks are trained in")
    parser.add_argument("--hours", type=positive, metavar="H", help="that all may take, the saving of models included")
    parser.add_argument("--resamples", type=whole(0), metavar="N", help="that thresholds are averaged over; 0: none")
    parser.add_argument("--folds", type=whole(2), metavar="N",
                        help="train a network for each of N folds; they answer together")  # fmt: skip
    parser.add_argument("--empty", type=diagnosis, metavar="CLASS",
                        help="declared where no class passes its threshold, such as NSR")  # fmt: skip
    parser.add_argument("--imply", type=pair, action="append", metavar="CLASS=CLASS",
                        help="declare the second wherever the first is, such as TInv=TAb; repeatable")  # fmt: skip
    parser.add_argument("--source-masks", action=argparse.BooleanOptionalAction,
                        help="let no class count where a source does not label it, or every one")  # fmt: skip
    parser.add_argument("--gate", action="store_true",
                        help="have what looks like CPSC's answered by networks that learnt from it alone")  # fmt: skip
    parser.add_argument("--no-relabel-flutter", action="store_true", help="believe Ningbo's labels AFL")
    parser.add_argument("--no-relabel-cpsc", action="store_true", help="add nothing that CPSC does not label")
    parser.add_argument("--no-masks", action="store_true", help="believe all labels in round 2; there is no round 1")
    parser.add_argument("--lumping", type=habit, action="append", default=[], metavar="SOURCE=AFL,AF",
                        help="another source that writes the first class for the second, too; repeatable")  # fmt: skip
    add_omission(parser)
    parser.add_argument("--jobs", type=whole(1), metavar="N", help="processes that read recordings")
    parser.add_argument("--keep-stages", action="store_true", help="leave the stages' folders in MODEL")


def add_omission(parser):
    """Add the option that names a source which omits classes."""
    parser.add_argument("--omission", type=habit, action="append", default=[], metavar="SOURCE=AF,NSR,...",
                        help="a source that labels these classes only, or what CPSC labels; repeatable")  # fmt: skip


def training_settings(arguments):
    """Return the Settings (ecg.recipes) of a system with what is given.

    Raises ValueError where the system is not known, or has no part that something given is about.
    """
    from ecg.recipes import Gate

    settings = recipe(arguments.system)
    lead_sets = arguments.leads and tuple(dict.fromkeys(arguments.leads))
    sizes = given(width=arguments.width, depth=arguments.depth)
    known = {field.name for field in fields(settings.network)}
    if unknown := sizes.keys() - known:
        raise ValueError(f"{settings.system}: its network has no {' and no '.join(sorted(unknown))}")
    trained = given(epochs=arguments.epochs, batch=arguments.batch, averaging=arguments.averaging,
                    precision=arguments.precision)  # fmt: skip
    gate = settings.gate or (Gate() if arguments.gate else None)
    return replace(
        settings,
        **given(seed=arguments.seed, lead_sets=lead_sets, resamples=arguments.resamples, jobs=arguments.jobs,
                hours=arguments.hours, empty=arguments.empty, folds=arguments.folds,
                source_masks=arguments.source_masks,
                answer_pairs=arguments.imply and tuple(arguments.imply)),
        keep_stages=arguments.keep_stages,
        gate=gate and replace(gate, classes=dict(arguments.omission).get(gate.source, gate.classes)),
        cleaning=cleaning_settings(settings, arguments),
        network=replace(settings.network, **sizes),
        training=replace(settings.training, **trained),
        pretraining=settings.pretraining and replace(settings.pretraining, **trained),
    )  # fmt: skip


def recipe(name):
    """Return the Settings of a system, by its name; ValueError where there is none of that name."""
    from ecg.recipes import RECIPES

    if name not in RECIPES:
        raise ValueError(f"{name} is no system; there are {', '.join(RECIPES)}")
    return RECIPES[name]


def cleaning_settings(system, arguments):
    """Return a system's CleaningSettings less what is switched off, and with the sources that were named.

    Those that omit classes are relabelled where the system relabels such. Raises ValueError where a class that they
    label is none of the system's.
    """
    from ecg.cleaning import CleaningSettings, Lumping, check_classes
    from ecg.labels import scored_among

    settings = system.cleaning
    flutter, omitted = arguments.no_relabel_flutter, arguments.no_relabel_cpsc
    for _, classes in arguments.omission:
        check_classes(classes, scored_among(system.classes))
    relabels = any(rule.relabel for rule in settings.omissions)
    omissions = tuple(replace(rule, relabel=rule.relabel and not omitted) for rule in settings.omissions)
    return CleaningSettings(
        (
            *(replace(rule, relabel=rule.relabel and not flutter) for rule in settings.lumpings),
            *(Lumping((source,), classes) for source, classes in arguments.lumping),
        ),
        with_named(omissions, arguments.omission, relabels),
        settings.masks and not arguments.no_masks,
    )


def with_named(omissions, named, relabels):
    """Return Omissions (ecg.cleaning) and those that were named, pairs of a source and the classes that it labels.

    A named one takes the place of what was said of its source, and is relabelled as that was; of another source, where
    `relabels` is true.
    """
    from ecg.cleaning import Omission

    said = {source: rule.relabel for rule in omissions for source in rule.sources}
    others = []
    for rule in omissions:
        if sources := tuple(source for source in rule.sources if source not in dict(named)):
            others.append(replace(rule, sources=sources))
    return (*others, *(Omission((source,), classes, said.get(source, relabels)) for source, classes in named))
