"""The command line, `python -m ecg COMMAND`.

Each command has one function here. It adds the parser, and the function that runs the command. Imports wait until a
command runs, so that help is instant.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ecg import __version__
from ecg.commands.options import (
    add_early_gains,
    add_lead_sets,
    add_networks,
    add_omission,
    add_settings,
    adds_labels,
    check_omission_classes,
    find_systems,
    lead_sets,
    merge_labelled_classes,
    number_parser,
    parse_figure_path,
    parse_lead_count,
    parse_path,
    parse_share,
    parse_source,
    set_labelled_classes,
    training_settings,
    without_none,
)
from ecg.data.leads import LEAD_SETS
from ecg.runtime.console import (
    INTERRUPTED_MESSAGE,
    RESUME_MESSAGE,
    errors_in_one_line,
    escape_unprintable,
    interruptible,
    start_logging,
)
from ecg.runtime.files import check_writable
from ecg.runtime.keras_startup import start_keras

if TYPE_CHECKING:
    import numpy as np

    from ecg.data.headers import Header
    from ecg.reports.ecg_paper import ModelPanel

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def program_name(path: str) -> str:
    """Return the command that starts this program, for usage and errors.

    Args:
        path: The path of the running script, `sys.argv[0]`.

    Returns:
        "ecg" if the installed command was started, else "python -m ecg".
    """
    return "ecg" if Path(path).stem == "ecg" else "python -m ecg"


PROGRAM = program_name(sys.argv[0])
reported = partial(errors_in_one_line, program=PROGRAM)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the argument for the data folder."""
    parser.add_argument("data", metavar="DATA", type=parse_path, help="folder of labelled recordings, nested or not")


def run_with_settings(arguments: argparse.Namespace, command: str) -> None:
    """Run the command `train` or `estimate` with the settings that the options give."""
    start_keras()
    from ecg.commands import estimate, train
    from ecg.data.headers import RecordError
    from ecg.data.wave_peaks import NeuroKitMissing
    from ecg.training.trainer import TrainingError

    with reported(ValueError):
        settings = training_settings(arguments)
    with reported(RecordError, TrainingError, NeuroKitMissing):
        if command == "train":
            train.train(arguments.data, arguments.model, settings)
        else:
            estimate.estimate(arguments.data, settings)


def add_train_command(commands: "Commands") -> None:
    """Add the command that trains a system."""
    parser = commands.add_parser("train", help="train the networks on a folder of recordings",
                                 usage=f"{PROGRAM} train DATA MODEL [option ...]",
                                 epilog="Other options are as the system has them.")  # fmt: skip
    add_data(parser)
    parser.add_argument("model", metavar="MODEL", type=parse_path, help="folder for the models and the report")
    add_settings(parser)
    parser.set_defaults(run=partial(run_with_settings, command="train"), interrupted=RESUME_MESSAGE)


def add_estimate_command(commands: "Commands") -> None:
    """Add the command that estimates a training."""
    parser = commands.add_parser("estimate", help="estimate how long a training takes on this machine",
                                 usage=f"{PROGRAM} estimate DATA [option ...]",
                                 epilog="The options are those of train.")  # fmt: skip
    add_data(parser)
    add_settings(parser)
    parser.set_defaults(run=partial(run_with_settings, command="estimate"))


def add_compare_command(commands: "Commands") -> None:
    """Add the command that compares systems."""
    parser = commands.add_parser("compare", help="train systems on the same folds, and score them side by side",
                                 usage=f"{PROGRAM} compare DATA REPORT [option ...]",
                                 epilog="The report is REPORT/comparison/comparison.html.")  # fmt: skip
    add_data(parser)
    parser.add_argument(
        "report", metavar="REPORT", type=parse_path, help="folder for the report, and for stores and results meanwhile"
    )
    parser.add_argument("--systems", nargs="+", metavar="NAME",
                        help="those of train --system; the others are compared with the first; "
                             "'ablations' stands for cai2021 and its seven ablations (default: the five published "
                             "systems)")  # fmt: skip
    add_lead_sets(parser)
    held_out = parser.add_mutually_exclusive_group()
    held_out.add_argument(
        "--folds",
        type=number_parser("folds"),
        metavar="N",
        help="parts of the recordings, each held out once (default 5)",
    )
    held_out.add_argument(
        "--leave-out", type=parse_source, metavar="SOURCE", help="hold out the recordings of a source, such as georgia"
    )
    parser.add_argument(
        "--hours",
        type=number_parser("hours"),
        metavar="H",
        help="for all trainings; each system gets an equal share in each fold",
    )
    add_networks(parser)
    add_omission(parser)
    parser.add_argument("--seed", type=number_parser("seed"), metavar="N",
                        help="of folds and of each training (default 2021)")  # fmt: skip
    parser.add_argument(
        "--jobs", type=number_parser("jobs"), metavar="N", help="processes that read recordings (default: cores)"
    )

    add_early_gains(parser)

    def run(arguments: argparse.Namespace) -> None:
        start_keras(devices=False)  # only subprocesses use these
        from ecg.commands import compare
        from ecg.commands.holdout import Protocol
        from ecg.data.headers import RecordError
        from ecg.data.wave_peaks import NeuroKitMissing
        from ecg.systems.recipes import SYSTEMS, with_early_gains
        from ecg.training.trainer import TrainingError

        with reported(ValueError):
            systems = find_systems(arguments.systems) if arguments.systems else tuple(SYSTEMS.values())
            check_omission_classes(arguments.omission, systems)
            omissions = arguments.omission
            systems = tuple(set_labelled_classes(system, omissions, adds_labels(system)) for system in systems)
            systems = tuple(map(with_early_gains, systems)) if arguments.early_gains else systems
            names = ("folds", "leave_out", "hours", "width", "depth", "epochs", "batch", "precision", "seed", "jobs")
            options = without_none(**{name: getattr(arguments, name) for name in names})
            protocol = Protocol(systems, **without_none(lead_sets=lead_sets(arguments)), **options)
        with reported(RecordError, TrainingError, NeuroKitMissing):
            compare.compare(arguments.data, arguments.report, protocol)

    parser.set_defaults(run=run, interrupted=RESUME_MESSAGE)


def add_plot_command(commands: "Commands") -> None:
    """Add the command that draws a recording."""
    parser = commands.add_parser("plot", help="draw a recording on ECG paper")
    parser.add_argument(
        "record", metavar="RECORD", type=parse_path, help="its path, with .hea or .mat in any case, or without"
    )
    parser.add_argument("--model", type=parse_path, help="folder of a model; its probabilities are shown")
    parser.add_argument(
        "--start",
        type=number_parser("start"),
        default=0.0,
        metavar="SECOND",
        help="start of the ten seconds that are drawn",
    )
    parser.add_argument("--peaks", action="store_true", help="mark P, Q, R, S and T in lead II, found by NeuroKit2")
    add_early_gains(parser)
    parser.add_argument("--output", type=parse_figure_path, metavar="FILE.png",
                        help="PNG, PDF or SVG by its extension; NAME.png in the current folder by default")  # fmt: skip

    def run(arguments: argparse.Namespace) -> None:
        from ecg.data.headers import RecordError
        from ecg.data.preprocessing import correct_gains
        from ecg.data.records import find_header, read_record
        from ecg.data.wave_peaks import NeuroKitMissing, find_record_peaks
        from ecg.reports.ecg_paper import draw_record

        path = find_header(arguments.record)
        output = arguments.output or Path(f"{path.stem}.png")
        with reported(RecordError, NeuroKitMissing):
            check_writable(output.parent)
            header, recording = read_record(path)
            header = correct_gains(header, recording)[0] if arguments.early_gains else header
            model = predict_for_plot(arguments.model, header, recording) if arguments.model else None
            peaks = find_record_peaks(header, recording) if arguments.peaks else None
            draw_record(header, recording, arguments.start, model=model, peaks=peaks).savefig(output)
        print(escape_unprintable(str(output)))

    parser.set_defaults(run=run)


def predict_for_plot(folder: Path, header: "Header", recording: "np.ndarray") -> "ModelPanel":
    """Predict a recording with the model in a folder, for the panel of a plot."""
    start_keras()
    from ecg.models.bundle import ModelError, load_bundle
    from ecg.reports.ecg_paper import ModelPanel

    with reported(ModelError):
        bundle = load_bundle(folder, header.lead_names)
    prediction = bundle.predict_recording(header, recording)
    return ModelPanel(prediction.probabilities, prediction.thresholds, prediction.outputs)


def add_review_command(commands: "Commands") -> None:
    """Add the command that looks for wrong labels."""
    parser = commands.add_parser("review", help="list and draw the labels that a model is confident are wrong")
    parser.add_argument("model", metavar="MODEL", type=parse_path, help="folder of a model")
    add_data(parser)
    parser.add_argument("--output", type=parse_path, metavar="FOLDER", default=Path("review"),
                        help="for the list, as CSV, and the figures; ./review by default")  # fmt: skip
    parser.add_argument("--figures", type=number_parser("figures"), metavar="N",
                        help="how many of the most confident disagreements are drawn; 20 by default")  # fmt: skip
    add_omission(parser)
    add_early_gains(parser)

    def run(arguments: argparse.Namespace) -> None:
        start_keras()
        from ecg.commands import review
        from ecg.data.headers import RecordError
        from ecg.systems.label_cleaning import CleaningSettings

        with reported(RecordError, ValueError):
            believed = [replace(rule, relabel=False) for rule in CleaningSettings().partially_labelled]
            cleaning = CleaningSettings(
                partially_labelled=merge_labelled_classes(believed, arguments.omission, relabel=False)
            )
            options = without_none(figures=arguments.figures, early_gains=arguments.early_gains or None)
            review.review(arguments.model, arguments.data, arguments.output, cleaning.partially_labelled, **options)

    parser.set_defaults(run=run)


def add_audit_command(commands: "Commands") -> None:
    """Add the command that looks for faults in a data folder."""
    parser = commands.add_parser("audit", help="list what a folder holds and what is wrong in it, without training",
                                 epilog="The exit status is 0 if all recordings can be used, else 1.")  # fmt: skip
    add_data(parser)
    parser.add_argument("--output", type=parse_path, metavar="FOLDER", default=Path("audit"),
                        help="for the tables, as CSV; ./audit by default")  # fmt: skip
    parser.add_argument("--jobs", type=number_parser("jobs"), metavar="N", help="processes that read recordings")

    def run(arguments: argparse.Namespace) -> None:
        from ecg.commands import audit

        with reported():
            usable = audit.audit(arguments.data, arguments.output, arguments.jobs)
        if not usable:
            raise SystemExit(1)

    parser.set_defaults(run=run)


def add_synthesize_command(commands: "Commands") -> None:
    """Add the command that makes synthetic recordings."""
    parser = commands.add_parser("synthesize", help="make synthetic recordings in the Challenge's format")
    parser.add_argument("folder", metavar="FOLDER", type=parse_path, help="folder for the recordings")
    parser.add_argument("--records", type=number_parser("records"), metavar="N", required=True, help="how many")
    parser.add_argument("--seed", type=number_parser("seed"), metavar="S", default=0, help="0 by default")
    parser.add_argument("--leads", type=parse_lead_count, metavar="N", default=12,
                        help="lead set that is written: 12 (default), 6, 4, 3 or 2")  # fmt: skip
    parser.add_argument(
        "--noise", type=number_parser("noise"), metavar="F", default=1.0, help="factor of noise, wander and hum"
    )
    parser.add_argument("--sources", type=parse_share, nargs="+", metavar="NAME[=SHARE]",
                        help="source databases and their shares; the Challenge's by default")  # fmt: skip
    parser.add_argument("--cpsc-omits", action=argparse.BooleanOptionalAction, default=True,
                        help="whether CPSC's headers have seven classes only, as the real ones")  # fmt: skip
    parser.add_argument("--ningbo-flutter", action=argparse.BooleanOptionalAction, default=True,
                        help="whether Ningbo's headers call fibrillation flutter, as the real ones")  # fmt: skip
    parser.add_argument("--wrong-labels", type=number_parser("wrong_labels"), metavar="F", default=0.0,
                        help="share of the labels, 0 to 1, that are wrong; 0 by default")  # fmt: skip
    parser.add_argument("--clean", action="store_true",
                        help="leave out the defects of real databases, such as spikes and unknown ages")  # fmt: skip
    parser.add_argument("--jobs", type=number_parser("jobs"), metavar="N", default=1, help="processes")

    def run(arguments: argparse.Namespace) -> None:
        from ecg.data import synthetic

        try:
            sources = synthetic.parse_shares(arguments.sources or ())
        except ValueError as error:
            parser.error(f"argument --{error}")
        with reported():
            check_writable(arguments.folder)
            synthetic.synthesize(
                arguments.folder,
                arguments.records,
                arguments.seed,
                synthetic.SyntheticSettings(
                    cpsc_omits=arguments.cpsc_omits,
                    ningbo_flutter=arguments.ningbo_flutter,
                    wrong_labels=arguments.wrong_labels,
                    noise=arguments.noise,
                    sources=sources or None,
                    leads=LEAD_SETS[arguments.leads],
                    clean=arguments.clean,
                ),
                jobs=arguments.jobs,
            )
        print(escape_unprintable(f"{arguments.folder}: {arguments.records:,} synthetic recordings"))

    parser.set_defaults(run=run)


COMMANDS = (
    add_train_command,
    add_compare_command,
    add_estimate_command,
    add_plot_command,
    add_review_command,
    add_audit_command,
    add_synthesize_command,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        arguments: Arguments of the command line; those of the process by default.
    """
    parser = argparse.ArgumentParser(PROGRAM, description="Train, compare and apply models for ECG classification.")
    parser.add_argument("--version", action="version", version=f"reduced-lead-ecg {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add_command in COMMANDS:
        add_command(commands)
    parser.set_defaults(interrupted=INTERRUPTED_MESSAGE)
    chosen = parser.parse_args(arguments)
    start_logging()
    with interruptible(chosen.interrupted), reported():
        chosen.run(chosen)


def run_command_line() -> None:
    """Run the command line; the installed command `ecg` starts here."""
    main(sys.argv[1:])


if __name__ == "__main__":
    run_command_line()
