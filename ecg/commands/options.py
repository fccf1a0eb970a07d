"""Define and parse the options of the command line."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg.commands.option_types import (
    number_parser,
    parse_augmentation,
    parse_class,
    parse_class_pair,
    parse_cluster,
    parse_decision,
    parse_lead_count,
    parse_path,
    parse_precision,
    parse_source_classes,
)
from ecg.data.augmentation import AUGMENTATIONS
from ecg.data.class_tables import ClassTable
from ecg.data.labels import CHALLENGE_CLASSES, load_own_classes
from ecg.data.source_tables import SourceTable, read_source_table
from ecg.runtime.console import errors_in_one_line
from ecg.runtime.limits import LIMITS

if TYPE_CHECKING:
    from ecg.runtime.executors import Executor

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = argparse._SubParsersAction


def program_name(path: str) -> str:
    """Return the command that starts this program, for usage and errors.

    Args:
        path: The path of the running script, `sys.argv[0]`.

    Returns:
        "ecg" if the installed command was started, else "python -m ecg".
    """
    return "ecg" if Path(path).stem == "ecg" else "python -m ecg"


PROGRAM = program_name(sys.argv[0])
DATA = "folder of labelled recordings, which may be in folders below it"
reported = partial(errors_in_one_line, program=PROGRAM)


def without_none(**values: Any) -> dict[str, Any]:
    """Return the values that are not None, by name."""
    return {name: value for name, value in values.items() if value is not None}


def add_paths(parser: argparse.ArgumentParser, **helps: str) -> None:
    """Add required arguments that name a file or folder.

    Args:
        parser: Parser of a command.
        **helps: Help of each argument, by its name.
    """
    for name, text in helps.items():
        parser.add_argument(name, metavar=name.upper(), type=parse_path, help=text)


def add_numbers(parser: argparse._ActionsContainer, **helps: str) -> None:
    """Add options that take a number within its limits.

    Args:
        parser: Parser of a command, or a group of its options.
        **helps: Help of each option, by its name in `LIMITS`.
    """
    for name, text in helps.items():
        metavar = "N" if LIMITS[name].integer else "X"
        parser.add_argument(f"--{name.replace('_', '-')}", type=number_parser(name), metavar=metavar, help=text)


def add_switches(parser: argparse.ArgumentParser, **helps: str) -> None:
    """Add options that take no value.

    Args:
        parser: Parser of a command.
        **helps: Help of each option, by its name.
    """
    for name, text in helps.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)


def add_executor_options(
    parser: argparse.ArgumentParser, jobs: str = "number of processes that read recordings (default: one per core)"
) -> None:
    """Add the options that say where the work is done.

    Args:
        parser: Parser of a command.
        jobs: Help of the option --jobs.
    """
    where = parser.add_mutually_exclusive_group()
    add_numbers(where, jobs=jobs)
    where.add_argument("--cluster", type=parse_cluster, metavar="ADDRESS",
                       help="address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers do the work "
                            "(default: this machine does)")  # fmt: skip


@contextmanager
def chosen_executor(arguments: argparse.Namespace) -> "Iterator[Executor]":
    """Open the executor that the options choose.

    The workers of a cluster may have another current folder, so the paths among the options become absolute for them.

    Args:
        arguments: The parsed options.
    """
    if arguments.cluster:
        for name, value in vars(arguments).items():
            if isinstance(value, Path):
                setattr(arguments, name, value.absolute())
    from ecg.runtime.executors import open_executor  # imports joblib, which takes long

    with open_executor(arguments.jobs, arguments.cluster) as executor:
        yield executor


def add_omission(parser: argparse.ArgumentParser) -> None:
    """Add the option for a partially labelled source.

    Args:
        parser: Parser of a command.
    """
    parser.add_argument("--omission", type=parse_source_classes, action="append", default=[],
                        metavar="SOURCE=AF,NSR,...",
                        help="the only classes that this source labels; other classes may be present without a "
                             "label; repeatable (default: the seven classes of CPSC)")  # fmt: skip


def add_groups(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the option for the patients of the recordings.

    Args:
        parser: Parser of a command.
        purpose: What the table is used for.
    """
    parser.add_argument("--groups", type=parse_path, metavar="FILE.csv",
                        help=f"table of the patient of each recording, with the columns record and patient; "
                             f"{purpose} (default: none)")  # fmt: skip


def add_corrections_option(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the option for reviewers' corrections of labels.

    Args:
        parser: Parser of a command.
        purpose: What the corrections are used for.
    """
    parser.add_argument("--corrections", type=parse_path, metavar="REVIEWS",
                        help=f"folder of reviews; {purpose} (default: none)")  # fmt: skip


def add_classes(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the option for your own classes.

    Args:
        parser: Parser of a command.
        purpose: What the classes are used for.
    """
    parser.add_argument("--classes", type=parse_path, metavar="FILE.csv",
                        help=f"your own classes, {purpose}: a table with the columns abbreviation, name, code and "
                             f"equivalents (default: the 26 of the Challenge)")  # fmt: skip


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add the option for your own sources.

    Args:
        parser: Parser of a command.
    """
    parser.add_argument("--sources", type=parse_path, metavar="FILE.csv",
                        help="your own sources: a table with the columns source, pattern, labelled, conflated and "
                             "trained (default: the Challenge's; none with your own classes)")  # fmt: skip


def read_classes(arguments: argparse.Namespace) -> ClassTable:
    """Read the classes of the option --classes; those of the Challenge without it.

    Raises:
        ValueError: The file cannot be read, or is no table of classes.
    """
    return load_own_classes(arguments.classes) if arguments.classes else CHALLENGE_CLASSES


def read_sources(arguments: argparse.Namespace) -> SourceTable | None:
    """Read the sources of the option --sources; None without it.

    Raises:
        ValueError: The file cannot be read, or is no table of sources.
    """
    return read_source_table(arguments.sources) if arguments.sources else None


def find_class(option: str, text: str, classes: ClassTable) -> str:
    """Return the abbreviation that an option gives in any case.

    Raises:
        ValueError: The table has no such class.
    """
    try:
        return classes.find_name(text)
    except ValueError as error:
        raise ValueError(f"argument {option}: {error}") from None


def add_weights(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the option for your own weights.

    Args:
        parser: Parser of a command.
        purpose: What the weights are used for.
    """
    parser.add_argument("--weights", type=parse_path, metavar="FILE.csv",
                        help=f"your own weights, {purpose}: a table of labels (rows) and predictions (columns) in "
                             f"the format of weights.csv (default: the Challenge's, or 1 for a hit with "
                             f"--classes)")  # fmt: skip


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `train`, `estimate` and `compare` share.

    Args:
        parser: Parser of a command.
    """
    parser.add_argument("--leads", type=parse_lead_count, nargs="+", metavar="N",
                        help="lead sets of the models, by their numbers of leads (default: 12 6 4 3 2)")  # fmt: skip
    parser.add_argument("--precision", type=parse_precision, metavar="NAME",
                        help="precision of the training, float32 or bfloat16 (default: float32)")  # fmt: skip
    add_numbers(
        parser,
        seed="seed of all random choices, such as splits and first weights (default: 2021)",
        width="number of filters of a network's first convolution (default: that of the system)",
        depth="number of layers of the network of se_resnet_rhythm: 18, 34, 50, 101 or 152 (default: 152)",
        epochs="maximum number of epochs of each network (default: that of the system)",
        batch="maximum number of recordings in a batch; fewer need less memory (default: that of the system)",
    )
    add_executor_options(parser)
    add_groups(parser, "the recordings of a patient stay in one fold or split")
    add_corrections_option(parser, "most reviewers' verdicts replace the headers' labels in training and scores; a "
                                   "label that they are unsure about is not trained on")  # fmt: skip
    add_classes(parser, "which are trained and scored instead of the Challenge's")
    add_sources(parser)
    add_omission(parser)
    add_switches(
        parser, early_gains="correct the wrong gains that `audit` finds in headers of early 2020 (default: no)"
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options that change the settings of a training.

    Args:
        parser: Parser of a command.
    """
    parser.add_argument("--system", metavar="NAME", default="cai2021",
                        help="method to train: cai2021, li2021, zhao2022, xie2022, se_resnet_rhythm, nejedly2021, "
                             "apprentice, or a variant such as cai2021-no-masks; an unknown name lists all "
                             "(default: cai2021)")  # fmt: skip
    add_training_options(parser)
    add_numbers(
        parser,
        averaging="momentum of the moving average of the weights, 0 for none (default: that of the system)",
        hours="time limit in hours, within which all models are saved (default: no limit)",
        resamples="number of bootstrap resamples over which thresholds are averaged, 0 for none (default: that of the "
        "system)",
        folds="number of folds; a network is trained for each, and their mean predicts (default: that of the system)",
        splits="number of random splits, instead of folds; a network is trained for each, and their mean predicts "
        "(default: that of the system)",
        validation_fold="published fold that validates, such as 9 of PTB-XL (default: a random split)",
        pretrain="number of synthetic recordings on which each network is trained first, 0 for none (default: that of "
        "the system)",
    )
    parser.add_argument("--init", type=parse_path, metavar="MODEL",
                        help="folder of a saved model; each network starts from its network of the same architecture "
                             "and leads (default: random weights)")  # fmt: skip
    parser.add_argument("--augment", type=parse_augmentation, nargs="+", metavar="NAME",
                        help=f"random changes of the recordings in training: {', '.join(AUGMENTATIONS)} (default: "
                             f"those of the system)")  # fmt: skip
    parser.add_argument("--decision", type=parse_decision, metavar="NAME",
                        help="how classes are chosen: thresholds that maximise the metric, half for 0.5, argmax for "
                             "the most probable class, expected_credit for the classes of the highest expected "
                             "metric, or vote for the majority of the networks, each by its own thresholds (default: "
                             "that of the system)")  # fmt: skip
    add_weights(parser, "for thresholds, decisions and scores")
    parser.add_argument("--fallback", type=parse_class, metavar="CLASS",
                        help="class to predict if there is no other, such as NSR (default: the system's)")  # fmt: skip
    parser.add_argument("--imply", type=parse_class_pair, action="append", metavar="CLASS=CLASS",
                        help="predict the second class wherever the first is predicted, such as TInv=TAb; "
                             "repeatable (default: the pairs of the system)")  # fmt: skip
    parser.add_argument("--source-masks", action=argparse.BooleanOptionalAction,
                        help="ignore in the loss the classes that a recording's source does not label (default: as "
                             "the system does)")  # fmt: skip
    add_switches(
        parser,
        gate="train separate networks for CPSC's recordings, and one that recognises these (default: as the system)",
        no_relabel_flutter="keep Ningbo's labels of flutter (default: a network tells flutter from fibrillation)",
        no_relabel_cpsc="add no labels to CPSC's recordings (default: a network adds those that CPSC omits)",
        no_masks="train on all labels (default: a first network masks those that it contradicts)",
        keep_stages="keep the folder of intermediate results in MODEL (default: it is removed at the end)",
    )
    parser.add_argument("--lumping", type=parse_source_classes, action="append", default=[], metavar="SOURCE=AFL,AF",
                        help="source that labels both classes as the first one; repeatable (default: none besides "
                             "Ningbo)")  # fmt: skip
