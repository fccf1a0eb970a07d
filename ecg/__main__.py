"""The command line, `python -m ecg COMMAND`.

Each command has one function here. It adds the parser, and the function that runs the command. Imports wait until a
command runs, so that help is instant.
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ecg import __version__
from ecg.commands import options
from ecg.commands.options import add_numbers, add_paths, add_switches, without_none
from ecg.data.leads import LEAD_SETS
from ecg.runtime import console
from ecg.runtime.files import check_writable
from ecg.runtime.keras_startup import start_keras

if TYPE_CHECKING:
    import numpy as np

    from ecg.data.headers import Header
    from ecg.models.bundle import Bundle
    from ecg.reports.ecg_paper import Shading

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
DATA = "folder of labelled recordings, which may be in folders below it"
reported = partial(console.errors_in_one_line, program=PROGRAM)


def run_with_settings(arguments: argparse.Namespace) -> None:
    """Run the command `train` or `estimate` with the settings that the options give.

    Args:
        arguments: The parsed options; `estimate` has no model folder.
    """
    start_keras()
    from ecg.commands import estimate, settings, train
    from ecg.data.headers import RecordError
    from ecg.data.wave_peaks import NeuroKitMissing
    from ecg.models.bundle import ModelError
    from ecg.training.trainer import TrainingError

    with reported(ValueError):
        chosen = settings.training_settings(arguments)
    given = without_none(groups=arguments.groups, corrections=arguments.corrections)
    with reported(RecordError, TrainingError, NeuroKitMissing, ModelError):
        if "model" in arguments:
            train.train(arguments.data, arguments.model, chosen, **given)
        else:
            estimate.estimate(arguments.data, chosen, **given)


def add_train_command(commands: "Commands") -> None:
    """Add the command that trains a system."""
    parser = commands.add_parser("train", help="train the networks of a system on a folder of recordings",
                                 usage=f"{PROGRAM} train DATA MODEL [option ...]",
                                 epilog="The same command again resumes an interrupted training.")  # fmt: skip
    add_paths(parser, data=DATA, model="folder for the models and the report")
    options.add_settings(parser)
    parser.set_defaults(run=run_with_settings, interrupted=console.RESUME_MESSAGE)


def add_estimate_command(commands: "Commands") -> None:
    """Add the command that estimates a training."""
    parser = commands.add_parser("estimate", help="estimate how long a training takes on this machine",
                                 usage=f"{PROGRAM} estimate DATA [option ...]",
                                 epilog="The options are those of train.")  # fmt: skip
    add_paths(parser, data=DATA)
    options.add_settings(parser)
    parser.set_defaults(run=run_with_settings)


def add_compare_command(commands: "Commands") -> None:
    """Add the command that compares systems."""
    parser = commands.add_parser("compare", help="train systems on the same folds, and score them side by side",
                                 usage=f"{PROGRAM} compare DATA REPORT [option ...]",
                                 epilog="The report is REPORT/comparison/comparison.html. The same command again "
                                        "resumes an interrupted comparison.")  # fmt: skip
    add_paths(parser, data=DATA, report="folder for the report, and for intermediate results")
    parser.add_argument("--systems", nargs="+", metavar="NAME",
                        help="systems to compare, named as for `train --system`; the others are compared with the "
                             "first; 'ablations' stands for cai2021 and its seven ablations (default: all systems, "
                             "which takes long: name some)")  # fmt: skip
    options.add_training_options(parser)
    held_out = parser.add_mutually_exclusive_group()
    add_numbers(held_out, folds="number of folds of the recordings; each fold is held out once (default: 5)")
    held_out.add_argument("--leave-out", type=options.parse_source, metavar="SOURCE",
                          help="source to hold out instead of folds, such as georgia (default: none)")  # fmt: skip
    add_numbers(parser, hours="time limit in hours for all trainings; each system gets an equal share in each fold "
                              "(default: no limit)")  # fmt: skip
    options.add_weights(parser, "for the thresholds, decisions and scores of all systems")

    def run(arguments: argparse.Namespace) -> None:
        start_keras(devices=False)  # only subprocesses use these
        from ecg.commands import compare, settings
        from ecg.commands.protocol import Protocol
        from ecg.data.headers import RecordError
        from ecg.data.wave_peaks import NeuroKitMissing
        from ecg.systems.recipes import SYSTEMS, with_early_gains
        from ecg.training.trainer import TrainingError

        with reported(ValueError):
            systems = settings.find_systems(arguments.systems or SYSTEMS)
            settings.check_omission_classes(arguments.omission, systems)
            systems = tuple(
                settings.set_labelled_classes(system, arguments.omission, settings.adds_labels(system))
                for system in systems
            )
            systems = tuple(map(with_early_gains, systems)) if arguments.early_gains else systems
            names = ("folds", "leave_out", "hours", "width", "depth", "epochs", "batch", "precision", "seed", "jobs")
            leads = arguments.leads and tuple(dict.fromkeys(arguments.leads))
            weights = settings.read_own_weights(arguments)
            given = without_none(lead_sets=leads, weights=weights, **{name: getattr(arguments, name) for name in names})
            protocol = Protocol(systems, **given)
        with reported(RecordError, TrainingError, NeuroKitMissing):
            compare.compare(arguments.data, arguments.report, protocol,
                            **without_none(groups=arguments.groups, corrections=arguments.corrections))  # fmt: skip

    parser.set_defaults(run=run, interrupted=console.RESUME_MESSAGE)


def add_evaluate_command(commands: "Commands") -> None:
    """Add the command that scores outputs."""
    parser = commands.add_parser("evaluate", help="score predicted classes, with your own weights if need be",
                                 usage=f"{PROGRAM} evaluate LABELS OUTPUTS [option ...]",
                                 epilog="Without options it prints what evaluate_model.py prints.")  # fmt: skip
    add_paths(
        parser,
        labels="folder of headers with labels, which may be in folders below it",
        outputs="folder of the output files that test_model.py has written for them",
    )
    options.add_weights(parser, "for the Challenge metric")
    options.add_corrections_option(parser, "the verdicts of most reviewers replace the labels of the headers")

    def run(arguments: argparse.Namespace) -> None:
        from ecg.data.headers import RecordError
        from ecg.evaluation.metrics import build_weight_array, load_own_weights, metric_name
        from ecg.evaluation.outputs import format_scores, score_outputs

        with reported(ValueError):
            weights = load_own_weights(arguments.weights) if arguments.weights else None
        with reported(RecordError):
            scores = score_outputs(arguments.labels, arguments.outputs, build_weight_array(weights),
                                   arguments.corrections)  # fmt: skip
            print(format_scores(scores, metric_name(weights))[0])

    parser.set_defaults(run=run)


def add_plot_command(commands: "Commands") -> None:
    """Add the command that draws a recording."""
    parser = commands.add_parser("plot", help="draw a recording on ECG paper")
    add_paths(parser, record="path of the recording, with or without its extension .hea or .mat")
    parser.add_argument("--model", type=options.parse_path, metavar="MODEL",
                        help="folder of a model whose probabilities are shown (default: none)")  # fmt: skip
    parser.add_argument("--explain", type=options.parse_class, metavar="CLASS",
                        help="class whose evidence is shaded, by --model (default: none)")  # fmt: skip
    parser.add_argument("--method", type=options.parse_explanation, metavar="NAME",
                        help="how --explain finds the evidence: integrated_gradients, smoothgrad or occlusion "
                             "(default: the first of these that is offered for the class)")  # fmt: skip
    add_numbers(parser, start="second at which the ten drawn seconds begin (default: 0)")
    add_switches(
        parser,
        peaks="mark the peaks of P, Q, R, S and T waves in lead II, found by NeuroKit2 (default: no)",
        early_gains="correct the wrong gains that `audit` finds in headers of early 2020 (default: as the model)",
    )
    parser.add_argument("--output", type=options.parse_figure_path, metavar="FILE.png",
                        help="file of the figure, a PNG, PDF or SVG by its extension (default: NAME.png in the "
                             "current folder)")  # fmt: skip

    def run(arguments: argparse.Namespace) -> None:
        from ecg.data.headers import RecordError
        from ecg.data.labels import CLASS_INDEX
        from ecg.data.preprocessing import correct_gains
        from ecg.data.records import find_header, read_record
        from ecg.data.wave_peaks import NeuroKitMissing, find_record_peaks
        from ecg.reports.ecg_paper import ModelPanel, draw_record

        if arguments.explain and not arguments.model:
            parser.error("argument --explain: needs --model")
        if arguments.method and not arguments.explain:
            parser.error("argument --method: needs --explain")
        path = find_header(arguments.record)
        output, model, shading = arguments.output or Path(f"{path.stem}.png"), None, None
        with reported(RecordError, NeuroKitMissing):
            check_writable(output.parent)
            if not output.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(output.parent))
            header, recording = read_record(path)
            early_gains = arguments.early_gains
            if arguments.model:
                start_keras()
                from ecg.models.bundle import ModelError, load_bundle

                with reported(ModelError):
                    bundle = load_bundle(arguments.model, header.lead_names)
                early_gains = early_gains or bundle.early_gains
            header = correct_gains(header, recording)[0] if early_gains else header
            if arguments.model:
                prediction = bundle.predict_recording(header, recording)
                model = ModelPanel(prediction.probabilities, prediction.thresholds, prediction.outputs,
                                   CLASS_INDEX.get(arguments.explain))  # fmt: skip
            if arguments.explain:
                shading = shade_evidence(bundle, header, recording, arguments.explain, arguments.method)
            peaks = find_record_peaks(header, recording) if arguments.peaks else None
            draw_record(header, recording, arguments.start, model=model, peaks=peaks, shading=shading).savefig(output)
        print(console.escape_unprintable(str(output)))

    parser.set_defaults(run=run, start=0.0)


def shade_evidence(
    bundle: "Bundle", header: "Header", recording: "np.ndarray", class_name: str, method: str | None
) -> "Shading":
    """Explain the prediction of a class, for the figure of a recording."""
    from ecg.reports.ecg_paper import Shading
    from ecg.systems.explanations import ExplanationError, choose_method, compute_shading, explain

    with reported(ExplanationError):
        explanation = explain(bundle, header, recording, class_name, choose_method(class_name, method))
    note = f"evidence for {class_name} by {explanation.method.replace('_', ' ')}, logit {explanation.logit:+.1f}"
    return Shading(explanation.leads, explanation.rate, compute_shading(explanation), note)


def add_review_command(commands: "Commands") -> None:
    """Add the command that looks for wrong labels."""
    parser = commands.add_parser("review", help="list and draw the labels that a model contradicts with confidence")
    add_paths(parser, model="folder of a model", data=DATA)
    parser.add_argument("--output", type=options.parse_path, metavar="FOLDER", default=Path("review"),
                        help="folder for the list, as CSV, and the figures (default: ./review)")  # fmt: skip
    add_numbers(parser, figures="number of the most confident disagreements that are drawn (default: 20)")
    options.add_omission(parser)
    options.add_corrections_option(parser, "labels that most reviewers have decided on are not listed")
    add_switches(parser, early_gains="correct wrong gains in headers of early 2020 (default: as the model was trained)")

    def run(arguments: argparse.Namespace) -> None:
        start_keras()
        from ecg.commands import review, settings
        from ecg.data.headers import RecordError
        from ecg.systems.label_cleaning import CleaningSettings
        from ecg.systems.recipes import NO_RELABELLING

        with reported(RecordError, ValueError):
            rules = settings.merge_labelled_classes(
                NO_RELABELLING.partially_labelled, arguments.omission, relabel=False
            )
            sources = CleaningSettings(partially_labelled=rules).partially_labelled  # checks them
            given = without_none(figures=arguments.figures, early_gains=arguments.early_gains or None,
                                 corrections=arguments.corrections)  # fmt: skip
            review.review(arguments.model, arguments.data, arguments.output, sources, **given)

    parser.set_defaults(run=run)


def add_sample_command(commands: "Commands") -> None:
    """Add the command that samples errors for review."""
    parser = commands.add_parser("sample", help="draw a random sample of a model's errors as a list to review",
                                 usage=f"{PROGRAM} sample MODEL DATA LIST --class CLASS [option ...]",
                                 epilog="The list does not tell which errors are false positives. `serve --list LIST` "
                                        "shows it.")  # fmt: skip
    add_paths(parser, model="folder of a model", data=DATA, list="file for the list, a CSV file")
    parser.add_argument("--class", type=options.parse_class, metavar="CLASS", required=True,
                        help="class whose errors are drawn, such as LAD (required)")  # fmt: skip
    add_numbers(
        parser,
        false_positives="number of predictions without the label (default: 50)",
        false_negatives="number of labels without the prediction (default: 50)",
        seed="seed of the choice and the order (default: 0)",
    )

    def run(arguments: argparse.Namespace) -> None:
        start_keras()
        from ecg.commands.sample import ErrorSample, write_sample
        from ecg.data.headers import RecordError

        names = ("false_positives", "false_negatives", "seed")
        given = without_none(abbreviation=getattr(arguments, "class"),
                             **{name: getattr(arguments, name) for name in names})  # fmt: skip
        with reported(RecordError):
            write_sample(arguments.model, arguments.data, arguments.list, ErrorSample(**given))

    parser.set_defaults(run=run)


def add_agreement_command(commands: "Commands") -> None:
    """Add the command that measures the agreement of reviewers."""
    parser = commands.add_parser("agreement", help="measure who agrees with whom: reviewers, labels, a model",
                                 epilog="The report is agreement.html in the folder of --output.")  # fmt: skip
    add_paths(parser, reviews="folder of the reviews, with a CSV file for each reviewer")
    parser.add_argument("--data", type=options.parse_path, metavar="DATA",
                        help="folder of the recordings, whose labels are compared (default: none)")  # fmt: skip
    predictions = parser.add_mutually_exclusive_group()
    predictions.add_argument("--model", type=options.parse_path, metavar="MODEL",
                             help="folder of a model that predicts the reviewed recordings of --data (default: "
                                  "none)")  # fmt: skip
    predictions.add_argument("--outputs", type=options.parse_path, metavar="OUTPUTS",
                             help="folder of the output files of a model instead (default: none)")  # fmt: skip
    parser.add_argument("--output", type=options.parse_path, metavar="FOLDER", default=Path("agreement"),
                        help="folder for the page and the tables, as CSV (default: ./agreement)")  # fmt: skip
    add_numbers(parser, seed="seed of the bootstrap resamples (default: 0)")

    def run(arguments: argparse.Namespace) -> None:
        if arguments.model:
            start_keras()
        from ecg.commands.agreement import AgreementSources, agreement
        from ecg.data.headers import RecordError

        with reported(ValueError):
            sources = AgreementSources(arguments.data, arguments.model, arguments.outputs)
        with reported(RecordError):
            agreement(arguments.reviews, arguments.output, sources, **without_none(seed=arguments.seed))

    parser.set_defaults(run=run)


def add_audit_command(commands: "Commands") -> None:
    """Add the command that looks for faults in a data folder."""
    parser = commands.add_parser("audit", help="list what a folder holds and what is wrong in it, without training",
                                 epilog="The exit status is 0 if all recordings can be used, else 1.")  # fmt: skip
    add_paths(parser, data=DATA)
    parser.add_argument("--output", type=options.parse_path, metavar="FOLDER", default=Path("audit"),
                        help="folder for the tables, as CSV (default: ./audit)")  # fmt: skip
    add_numbers(parser, jobs="number of processes that read recordings (default: one per processor core)")
    options.add_groups(parser, "recordings that it does not list are a defect")

    def run(arguments: argparse.Namespace) -> None:
        from ecg.commands import audit
        from ecg.data.headers import RecordError

        with reported(RecordError):
            usable = audit.audit(arguments.data, arguments.output, arguments.jobs,
                                 **without_none(groups=arguments.groups))  # fmt: skip
        if not usable:
            raise SystemExit(1)

    parser.set_defaults(run=run)


def add_synthesize_command(commands: "Commands") -> None:
    """Add the command that makes synthetic recordings."""
    parser = commands.add_parser("synthesize", help="make synthetic recordings in the Challenge's format")
    add_paths(parser, folder="folder for the recordings")
    parser.add_argument("--records", type=options.number_parser("records"), metavar="N", required=True,
                        help="number of recordings (required)")  # fmt: skip
    parser.add_argument("--leads", type=options.parse_lead_count, metavar="N", default=12,
                        help="number of leads of each recording: 12, 6, 4, 3 or 2 (default: 12)")  # fmt: skip
    add_numbers(
        parser,
        seed="seed of all random choices (default: 0)",
        noise="factor of noise, baseline wander and mains hum (default: 1)",
        wrong_labels="share of the labels that are wrong, from 0 to 1 (default: 0)",
        jobs="number of processes (default: 1)",
    )
    parser.add_argument("--sources", type=options.parse_share, nargs="+", metavar="NAME[=SHARE]",
                        help="source databases and their shares (default: those of the Challenge)")  # fmt: skip
    parser.add_argument("--cpsc-omits", action=argparse.BooleanOptionalAction, default=True,
                        help="label only seven classes in CPSC's recordings, as it does (default: yes)")  # fmt: skip
    parser.add_argument("--ningbo-flutter", action=argparse.BooleanOptionalAction, default=True,
                        help="label Ningbo's fibrillation as flutter, as Ningbo does (default: yes)")  # fmt: skip
    add_switches(
        parser,
        clean="leave out the defects of real databases, such as spikes and unknown ages (default: no)",
        realistic="vary waves, rates, noise and numbers of findings as in real recordings (default: less, so that "
        "findings are easy to see)",
    )

    def run(arguments: argparse.Namespace) -> None:
        from ecg.data import synthetic

        try:
            sources = synthetic.parse_shares(arguments.sources or ())
        except ValueError as error:
            parser.error(f"argument --{error}")
        names = ("cpsc_omits", "ningbo_flutter", "wrong_labels", "noise", "clean", "realistic")
        settings = synthetic.SyntheticSettings(sources=sources or None, leads=LEAD_SETS[arguments.leads],
                                               **{name: getattr(arguments, name) for name in names})  # fmt: skip
        with reported():
            check_writable(arguments.folder)
            synthetic.synthesize(arguments.folder, arguments.records, arguments.seed, settings, jobs=arguments.jobs)
        print(console.escape_unprintable(f"{arguments.folder}: {arguments.records:,} synthetic recordings"))

    parser.set_defaults(run=run, seed=0, noise=1.0, wrong_labels=0.0, jobs=1)


def add_serve_command(commands: "Commands") -> None:
    """Add the command that serves the workbench."""
    parser = commands.add_parser("serve", help="look at recordings and predictions, and review labels, in a browser",
                                 usage=f"{PROGRAM} serve MODEL DATA [option ...]",
                                 epilog="Ctrl-C ends the server. Each review is on the disk as soon as it is "
                                        "given.")  # fmt: skip
    add_paths(parser, model="folder of a model", data=DATA)
    parser.add_argument("--reviewer", metavar="NAME", default="",
                        help="reviewer who has not chosen a name on the page (default: none)")  # fmt: skip
    parser.add_argument("--reviews", type=options.parse_path, metavar="FOLDER", default=Path("reviews"),
                        help="folder of the reviews, a CSV file for each reviewer (default: ./reviews)")  # fmt: skip
    parser.add_argument("--host", metavar="NAME", default="127.0.0.1",
                        help="name or address to listen at; if other machines reach it, a token is needed (default: "
                             "127.0.0.1, this machine only)")  # fmt: skip
    add_numbers(parser, port="port to listen at, 0 for any that is free (default: 8000)",
                seed="seed of the order of recordings in blinded mode, and of the sample (default: 0)")  # fmt: skip
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--list", type=options.parse_path, metavar="FILE.csv",
                        help="list of labels to review, such as that of `sample`: a table with the columns record and "
                             "class (default: all recordings)")  # fmt: skip
    chosen.add_argument("--sample", nargs=3, metavar=("CLASS", "FP", "FN"),
                        help="review a random sample of so many false positives and false negatives of a class, such "
                             "as LAD 50 50 (default: all recordings)")  # fmt: skip
    add_switches(parser, blinded="hide labels and predictions of a recording until the reviewer has answered")

    def run(arguments: argparse.Namespace) -> None:
        from ecg.commands import serve
        from ecg.data.headers import RecordError

        names = ("model", "data", "reviews", "reviewer", "host", "port", "blinded", "seed")
        with reported(ValueError):
            sample = arguments.sample and options.parse_sample(arguments.sample)
            given = {name: getattr(arguments, name) for name in names}
            settings = serve.ServerSettings(**given, review_list=arguments.list, sample=sample)
        with reported(serve.WebPackagesMissing, serve.ServerError, RecordError):
            serve.serve(settings)

    parser.set_defaults(run=run, port=8000, seed=0, interrupted="stopped; every review is on the disk")


COMMANDS = (
    add_train_command,
    add_compare_command,
    add_estimate_command,
    add_evaluate_command,
    add_plot_command,
    add_review_command,
    add_sample_command,
    add_agreement_command,
    add_serve_command,
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
    parser.set_defaults(interrupted=console.INTERRUPTED_MESSAGE)
    chosen = parser.parse_args(arguments)
    console.start_logging()
    with console.interruptible(chosen.interrupted), reported():
        chosen.run(chosen)


def run_command_line() -> None:
    """Run the command line; the installed command `ecg` starts here."""
    main(sys.argv[1:])


if __name__ == "__main__":
    run_command_line()
