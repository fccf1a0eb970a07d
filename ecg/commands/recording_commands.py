"""Define the commands that predict, draw, check and make recordings.

Imports wait until a command runs, so that help is instant.
"""

import argparse
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ecg.commands import option_types, options
from ecg.commands.options import DATA, Commands, add_numbers, add_paths, add_switches, reported, without_none
from ecg.data.leads import LEAD_SETS
from ecg.runtime import console
from ecg.runtime.files import check_writable
from ecg.runtime.keras_startup import start_keras

if TYPE_CHECKING:
    import numpy as np

    from ecg.data.headers import Header
    from ecg.models.bundle import Bundle
    from ecg.reports.ecg_paper import Shading


def add_predict_command(commands: Commands) -> None:
    """Add the command that predicts the recordings of a folder."""
    parser = commands.add_parser("predict", help="predict each recording of a folder, by several processes",
                                 epilog="The exit status is 0 if a recording has a prediction, else 1.")  # fmt: skip
    add_paths(parser, model="folder of a model", data="folder of recordings, which may be in folders below it",
              output="folder for the predictions, a file NAME.csv for each recording")  # fmt: skip
    options.add_executor_options(parser, "number of processes that predict recordings (default: one per core)")

    def run(arguments: argparse.Namespace) -> None:
        from ecg.commands.predict import PredictionError, predict_folder

        with reported(PredictionError), options.chosen_executor(arguments) as executor:
            is_predicted = predict_folder(arguments.model, arguments.data, arguments.output, executor)
        if not is_predicted:
            raise SystemExit(1)

    parser.set_defaults(run=run, interrupted=console.RESUME_MESSAGE)


def add_plot_command(commands: Commands) -> None:
    """Add the command that draws a recording."""
    parser = commands.add_parser("plot", help="draw a recording on ECG paper")
    add_paths(parser, record="path of the recording, with or without its extension .hea or .mat")
    parser.add_argument("--model", type=option_types.parse_path, metavar="MODEL",
                        help="folder of a model whose probabilities are shown (default: none)")  # fmt: skip
    parser.add_argument("--explain", type=option_types.parse_class, metavar="CLASS",
                        help="class whose evidence is shaded, by --model (default: none)")  # fmt: skip
    parser.add_argument("--method", type=option_types.parse_explanation, metavar="NAME",
                        help="how --explain finds the evidence: integrated_gradients, smoothgrad or occlusion "
                             "(default: the first of these that is offered for the class)")  # fmt: skip
    add_numbers(parser, start="second at which the ten drawn seconds begin (default: 0)")
    add_switches(
        parser,
        peaks="mark the peaks of P, Q, R, S and T waves in lead II, found by NeuroKit2 (default: no)",
        early_gains="correct the wrong gains that `audit` finds in headers of early 2020 (default: as the model)",
    )
    parser.add_argument("--output", type=option_types.parse_figure_path, metavar="FILE.png",
                        help="file of the figure, a PNG, PDF or SVG by its extension (default: NAME.png in the "
                             "current folder)")  # fmt: skip

    def run(arguments: argparse.Namespace) -> None:
        from ecg.data.headers import RecordError
        from ecg.data.preprocessing import correct_gains
        from ecg.data.records import find_header, read_record
        from ecg.data.wave_peaks import NeuroKitMissing, find_record_peaks
        from ecg.reports.ecg_paper import ModelPanel, draw_record

        if arguments.explain and not arguments.model:
            parser.error("argument --explain: needs --model")
        if arguments.method and not arguments.explain:
            parser.error("argument --method: needs --explain")
        with reported(RecordError):
            path = find_header(arguments.record)
        output, model, shading = arguments.output or Path(f"{path.stem}.png"), None, None
        with reported(RecordError, NeuroKitMissing):
            check_writable(output.parent)
            if not output.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(output.parent))
            header, recording = read_record(path)
            early_gains = arguments.early_gains
            if arguments.model:
                from ecg.models.bundle import load_bundle
                from ecg.models.config import ModelError

                with reported(ModelError):
                    bundle = load_bundle(arguments.model, header.lead_names)
                early_gains = early_gains or bundle.early_gains
            header = correct_gains(header, recording)[0] if early_gains else header
            if arguments.model:
                prediction = bundle.predict_recording(header, recording)
                explained = find_explained_class(bundle, arguments.explain)
                model = ModelPanel(prediction.probabilities, prediction.thresholds, prediction.outputs,
                                   bundle.classes.index.get(explained), bundle.classes)  # fmt: skip
                if explained:
                    shading = shade_evidence(bundle, header, recording, explained, arguments.method)
            peaks = find_record_peaks(header, recording) if arguments.peaks else None
            draw_record(header, recording, arguments.start, model=model, peaks=peaks, shading=shading).savefig(output)
        print(console.escape_unprintable(str(output)))

    parser.set_defaults(run=run, start=0.0)


def find_explained_class(bundle: "Bundle", text: str | None) -> str:
    """Return the class of the option --explain, given in any case, or an empty string."""
    with reported(ValueError):
        return bundle.classes.find_name(text) if text else ""


def shade_evidence(
    bundle: "Bundle", header: "Header", recording: "np.ndarray", class_name: str, method: str | None
) -> "Shading":
    """Explain the prediction of a class, for the figure of a recording."""
    start_keras()
    from ecg.reports.ecg_paper import Shading
    from ecg.systems.explanation_methods import ExplanationError, choose_method, find_tested_class
    from ecg.systems.explanations import compute_shading, explain

    with reported(ExplanationError):
        chosen = choose_method(class_name, method, bundle.classes)
        explanation = explain(bundle, header, recording, class_name, chosen)
    note = f"evidence for {class_name} by {explanation.method.replace('_', ' ')}, logit {explanation.logit:+.1f}"
    note += ", not tested for this class" * (find_tested_class(class_name, bundle.classes) is None)
    return Shading(explanation.leads, explanation.rate, compute_shading(explanation), note)


def add_audit_command(commands: Commands) -> None:
    """Add the command that looks for faults in a data folder."""
    parser = commands.add_parser("audit", help="list what a folder holds and what is wrong in it, without training",
                                 epilog="The exit status is 0 if all recordings can be used, else 1.")  # fmt: skip
    add_paths(parser, data=DATA)
    parser.add_argument("--output", type=option_types.parse_path, metavar="FOLDER", default=Path("audit"),
                        help="folder for the tables, as CSV (default: ./audit)")  # fmt: skip
    options.add_executor_options(parser)
    options.add_groups(parser, "recordings that it does not list are a defect")
    options.add_classes(parser, "which count as scored")
    options.add_sources(parser)

    def run(arguments: argparse.Namespace) -> None:
        from ecg.commands import audit
        from ecg.data.headers import RecordError
        from ecg.data.labels import default_sources

        with reported(ValueError):
            classes = options.read_classes(arguments)
            sources = options.read_sources(arguments) or default_sources(classes)
        with reported(RecordError), options.chosen_executor(arguments) as executor:
            usable = audit.audit(arguments.data, arguments.output, executor, classes=classes, sources=sources,
                                 **without_none(groups=arguments.groups))  # fmt: skip
        if not usable:
            raise SystemExit(1)

    parser.set_defaults(run=run)


def add_convert_command(commands: Commands) -> None:
    """Add the command that converts hospitals' files to WFDB records."""
    parser = commands.add_parser(
        "convert", help="convert recordings in hospitals' formats (DICOM, HL7 aECG, MUSE, SCP, EDF) to WFDB records",
        epilog="Needs the packages of `pip install 'reduced-lead-ecg[formats]'`. The exit status is 0 if all files "
               "have become records, else 1.",
    )  # fmt: skip
    parser.add_argument("files", type=option_types.parse_path, metavar="FILES", nargs="+",
                        help="files, or folders with files in or below them")  # fmt: skip
    parser.add_argument("--output", type=option_types.parse_path, metavar="FOLDER", required=True,
                        help="folder for the records, conversion.csv and patients.csv (required)")  # fmt: skip
    options.add_executor_options(parser, jobs="number of processes that convert (default: one per core)")
    add_switches(parser, keep_identity="keep the names of files, and show messages that may quote them (default: no: "
                                       "files are numbered, and no patient's name is written anywhere)")  # fmt: skip

    def run(arguments: argparse.Namespace) -> None:
        from ecg.commands.convert import convert
        from ecg.data.hospital_formats import FormatsMissing

        with reported(FormatsMissing), options.chosen_executor(arguments) as executor:
            is_complete = convert(arguments.files, arguments.output, executor, keep_identity=arguments.keep_identity)
        if not is_complete:
            raise SystemExit(1)

    parser.set_defaults(run=run)


def add_synthesize_command(commands: Commands) -> None:
    """Add the command that makes synthetic recordings."""
    parser = commands.add_parser("synthesize", help="make synthetic recordings in the Challenge's format")
    add_paths(parser, folder="folder for the recordings")
    parser.add_argument("--records", type=option_types.number_parser("records"), metavar="N", required=True,
                        help="number of recordings (required)")  # fmt: skip
    parser.add_argument("--leads", type=option_types.parse_lead_count, metavar="N", default=12,
                        help="number of leads of each recording: 12, 6, 4, 3 or 2 (default: 12)")  # fmt: skip
    add_numbers(
        parser,
        seed="seed of all random choices (default: 0)",
        noise="factor of noise, baseline wander and mains hum (default: 1)",
        wrong_labels="share of the labels that are wrong, from 0 to 1 (default: 0)",
    )
    options.add_executor_options(parser, jobs="number of processes (default: 1)")
    parser.add_argument("--sources", type=option_types.parse_share, nargs="+", metavar="NAME[=SHARE]",
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
        with reported(), options.chosen_executor(arguments) as executor:
            check_writable(arguments.folder)
            synthetic.synthesize(arguments.folder, arguments.records, arguments.seed, settings, executor)
        print(console.escape_unprintable(f"{arguments.folder}: {arguments.records:,} synthetic recordings"))

    parser.set_defaults(run=run, seed=0, noise=1.0, wrong_labels=0.0, jobs=1)
