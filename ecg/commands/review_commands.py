"""Define the commands that find and correct wrong labels.

Imports wait until a command runs, so that help is instant.
"""

import argparse
from pathlib import Path

from ecg.commands import option_types, options
from ecg.commands.options import DATA, PROGRAM, Commands, add_numbers, add_paths, add_switches, reported, without_none
from ecg.runtime.keras_startup import start_keras


def add_review_command(commands: Commands) -> None:
    """Add the command that looks for wrong labels."""
    parser = commands.add_parser("review", help="list and draw the labels that a model contradicts with confidence")
    add_paths(parser, model="folder of a model", data=DATA)
    parser.add_argument("--output", type=option_types.parse_path, metavar="FOLDER", default=Path("review"),
                        help="folder for the list, as CSV, and the figures (default: ./review)")  # fmt: skip
    add_numbers(parser, figures="number of the most confident disagreements that are drawn (default: 20)")
    options.add_sources(parser)
    options.add_omission(parser)
    options.add_corrections_option(parser, "labels that most reviewers have decided on are not listed")
    add_switches(parser, early_gains="correct wrong gains in headers of early 2020 (default: as the model was trained)")

    def run(arguments: argparse.Namespace) -> None:
        start_keras()
        from ecg.commands import review, settings
        from ecg.data.headers import RecordError
        from ecg.models.saved_classes import find_model_classes
        from ecg.systems.label_comparison import make_review_sources

        with reported(RecordError, ValueError):
            classes = find_model_classes(arguments.model)
            known = make_review_sources(classes, options.read_sources(arguments))
            rules = settings.merge_labelled_classes(known.partially_labelled, arguments.omission, relabel=False)
            sources = known._replace(partially_labelled=rules)
            given = without_none(figures=arguments.figures, early_gains=arguments.early_gains or None,
                                 corrections=arguments.corrections)  # fmt: skip
            review.review(arguments.model, arguments.data, arguments.output, sources, **given)

    parser.set_defaults(run=run)


def add_sample_command(commands: Commands) -> None:
    """Add the command that samples errors for review."""
    parser = commands.add_parser("sample", help="draw a random sample of a model's errors as a list to review",
                                 usage=f"{PROGRAM} sample MODEL DATA LIST --class CLASS [option ...]",
                                 epilog="The list does not tell which errors are false positives. `serve --list LIST` "
                                        "shows it.")  # fmt: skip
    add_paths(parser, model="folder of a model", data=DATA, list="file for the list, a CSV file")
    parser.add_argument("--class", type=option_types.parse_class, metavar="CLASS", required=True,
                        help="class whose errors are drawn, such as LAD (required)")  # fmt: skip
    add_numbers(
        parser,
        false_positives="number of predictions without the label (default: 50)",
        false_negatives="number of labels without the prediction (default: 50)",
        seed="seed of the choice and the order (default: 0)",
    )
    options.add_sources(parser)

    def run(arguments: argparse.Namespace) -> None:
        from ecg.commands.sample import ErrorSample, write_sample
        from ecg.data.headers import RecordError

        names = ("false_positives", "false_negatives", "seed")
        given = without_none(abbreviation=getattr(arguments, "class"),
                             **{name: getattr(arguments, name) for name in names})  # fmt: skip
        with reported(RecordError, ValueError):
            sources = options.read_sources(arguments)
            write_sample(arguments.model, arguments.data, arguments.list, ErrorSample(**given), sources)

    parser.set_defaults(run=run)


def add_agreement_command(commands: Commands) -> None:
    """Add the command that measures the agreement of reviewers."""
    parser = commands.add_parser("agreement", help="measure who agrees with whom: reviewers, labels, models",
                                 epilog="The report is agreement.html in the folder of --output.")  # fmt: skip
    add_paths(parser, reviews="folder of the reviews, with a CSV file for each reviewer")
    parser.add_argument("--data", type=option_types.parse_path, metavar="DATA",
                        help="folder of the recordings, whose labels are compared (default: none)")  # fmt: skip
    parser.add_argument("--model", type=option_types.parse_path, metavar="MODEL", nargs="+", default=[],
                        help="folders of models that predict the reviewed recordings of --data (default: "
                             "none)")  # fmt: skip
    parser.add_argument("--outputs", type=option_types.parse_path, metavar="OUTPUTS", nargs="+", default=[],
                        help="folders of the output files of further models (default: none)")  # fmt: skip
    options.add_classes(parser, "which reviews and outputs have (default: those of the first model, if any)")
    options.add_sources(parser)
    parser.add_argument("--output", type=option_types.parse_path, metavar="FOLDER", default=Path("agreement"),
                        help="folder for the page and the tables, as CSV (default: ./agreement)")  # fmt: skip
    add_numbers(parser, seed="seed of the bootstrap resamples (default: 0)")

    def run(arguments: argparse.Namespace) -> None:
        from ecg.commands.agreement import AgreementSources, agreement
        from ecg.data.headers import RecordError
        from ecg.data.labels import load_own_classes

        with reported(ValueError):
            classes = load_own_classes(arguments.classes) if arguments.classes else None
            sources = AgreementSources(arguments.data, tuple(arguments.model), tuple(arguments.outputs), classes,
                                       options.read_sources(arguments))  # fmt: skip
        with reported(RecordError):
            agreement(arguments.reviews, arguments.output, sources, **without_none(seed=arguments.seed))

    parser.set_defaults(run=run)


def add_serve_command(commands: Commands) -> None:
    """Add the command that serves the workbench."""
    parser = commands.add_parser("serve", help="look at recordings and predictions, and review labels, in a browser",
                                 usage=f"{PROGRAM} serve MODEL DATA [option ...]",
                                 epilog="Ctrl-C ends the server. Each review is on the disk as soon as it is "
                                        "given.")  # fmt: skip
    add_paths(parser, model="folder of a model", data=DATA)
    parser.add_argument("--reviewer", metavar="NAME", default="",
                        help="name that the page proposes to a reviewer who logs in (default: none)")  # fmt: skip
    parser.add_argument("--reviews", type=option_types.parse_path, metavar="FOLDER", default=Path("reviews"),
                        help="folder of the reviews, a CSV file for each reviewer (default: ./reviews)")  # fmt: skip
    parser.add_argument(
        "--host",
        metavar="NAME",
        default="127.0.0.1",
        help="name or address to listen at (default: 127.0.0.1, this machine only)",
    )
    add_numbers(parser, port="port to listen at, 0 for any that is free (default: 8000)",
                seed="seed of the order of recordings in blinded mode, and of the sample (default: 0)")  # fmt: skip
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--list", type=option_types.parse_path, metavar="FILE.csv",
                        help="list of labels to review, such as that of `sample`: a table with the columns record and "
                             "class (default: all recordings)")  # fmt: skip
    chosen.add_argument("--sample", nargs=3, metavar=("CLASS", "FP", "FN"),
                        help="review a random sample of so many false positives and false negatives of a class, such "
                             "as LAD 50 50 (default: all recordings)")  # fmt: skip
    add_switches(parser, blinded="hide labels and predictions of a recording until the reviewer has answered",
                 no_token="let all users of this machine in, without the token in the printed address")  # fmt: skip
    options.add_sources(parser)

    def run(arguments: argparse.Namespace) -> None:
        from ecg.commands import serve
        from ecg.data.headers import RecordError
        from ecg.models.saved_classes import find_model_classes
        from ecg.systems.label_comparison import make_review_sources

        names = ("model", "data", "reviews", "reviewer", "host", "port", "blinded", "seed", "no_token")
        with reported(ValueError):
            sample = arguments.sample and option_types.parse_sample(arguments.sample)
            classes, sources = find_model_classes(arguments.model), options.read_sources(arguments)
            make_review_sources(classes, sources)  # raises if a source labels another class
            if sample:
                name = options.find_class("--sample", sample[0], classes)
                sample = (name, *sample[1:])
            given = {name: getattr(arguments, name) for name in names}
            chosen = serve.ServerSettings(**given, review_list=arguments.list, sample=sample, source_table=sources)
        with reported(serve.WebPackagesMissing, serve.ServerError, RecordError):
            serve.serve(chosen)

    parser.set_defaults(run=run, port=8000, seed=0, interrupted="stopped; every review is on the disk")
