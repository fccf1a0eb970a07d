"""Define the commands that train, score and export systems.

Imports wait until a command runs, so that help is instant.
"""

import argparse
from contextlib import nullcontext
from pathlib import Path

from ecg.commands import option_types, options
from ecg.commands.options import DATA, PROGRAM, Commands, add_numbers, add_paths, reported, without_none
from ecg.data.leads import LEAD_SETS
from ecg.runtime import console
from ecg.runtime.keras_startup import start_keras


def run_with_settings(arguments: argparse.Namespace) -> None:
    """Run the command `train` or `estimate` with the settings that the options give.

    Args:
        arguments: The parsed options; `estimate` has no model folder.
    """
    processes = getattr(arguments, "processes", None) or 1
    if processes > 1 and arguments.cluster:
        raise SystemExit(f"{PROGRAM}: error: --processes and --cluster exclude each other: choose one of them")
    on_cpu = "model" in arguments and arguments.cluster is not None  # the workers of a cluster train
    start_keras(devices=processes == 1, on_cpu=on_cpu)  # several processes must be connected first
    from ecg.commands import estimate, joint, settings, train
    from ecg.data.headers import RecordError
    from ecg.data.wave_peaks import NeuroKitMissing
    from ecg.models.config import ModelError
    from ecg.runtime.peers import PeerError
    from ecg.systems.stage_runner import StageRunner
    from ecg.training.trainer import TrainingError

    with reported(ValueError):
        chosen = settings.training_settings(arguments)
    given = without_none(groups=arguments.groups, corrections=arguments.corrections)
    runner = joint.leading_runner(arguments.model, processes, PROGRAM) if processes > 1 else nullcontext(StageRunner)
    expected = (RecordError, TrainingError, NeuroKitMissing, ModelError)
    with (
        reported(PeerError),
        runner as runner_type,
        reported(*expected),
        options.chosen_executor(arguments) as executor,
    ):
        if "model" in arguments:
            train.train(arguments.data, arguments.model, chosen, runner_type, executor=executor, **given)
        else:
            estimate.estimate(arguments.data, chosen, executor=executor, **given)


def add_train_command(commands: Commands) -> None:
    """Add the command that trains a system."""
    parser = commands.add_parser("train", help="train the networks of a system on a folder of recordings",
                                 usage=f"{PROGRAM} train DATA MODEL [option ...]",
                                 epilog="The same command again resumes an interrupted training.")  # fmt: skip
    add_paths(parser, data=DATA, model="folder for the models and the report")
    options.add_settings(parser)
    add_numbers(parser, processes="number of processes that train each network together, on JAX; those that srun, "
                                  "torchrun or mpirun has started, or else new ones on this machine "
                                  "(default: 1)")  # fmt: skip
    parser.set_defaults(run=run_with_settings, interrupted=console.RESUME_MESSAGE)


def add_estimate_command(commands: Commands) -> None:
    """Add the command that estimates a training."""
    parser = commands.add_parser("estimate", help="estimate how long a training takes on this machine",
                                 usage=f"{PROGRAM} estimate DATA [option ...]",
                                 epilog="The options are those of train.")  # fmt: skip
    add_paths(parser, data=DATA)
    options.add_settings(parser)
    parser.set_defaults(run=run_with_settings)


def add_compare_command(commands: Commands) -> None:
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
    held_out.add_argument("--leave-out", type=option_types.parse_source, metavar="SOURCE",
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
        from ecg.systems.recipes import SYSTEMS
        from ecg.training.trainer import TrainingError

        with reported(ValueError):
            recipes, classes = settings.find_systems(arguments.systems or SYSTEMS), options.read_classes(arguments)
            sources = options.read_sources(arguments)
            tables = [settings.choose_class_table(recipe, classes) for recipe in recipes]
            systems = tuple(
                settings.choose_sources(*pair, sources=sources) for pair in zip(tables, recipes, strict=True)
            )
            settings.check_omission_classes(arguments.omission, systems)
            systems = tuple(
                settings.set_labelled_classes(system, arguments.omission, settings.adds_labels(recipe))
                for system, recipe in zip(systems, recipes, strict=True)
            )
            systems = tuple(map(settings.with_early_gains, systems)) if arguments.early_gains else systems
            names = ("folds", "leave_out", "hours", "width", "depth", "epochs", "batch", "precision", "seed")
            leads = arguments.leads and tuple(dict.fromkeys(arguments.leads))
            weights = settings.read_own_weights(arguments, classes)
            given = without_none(lead_sets=leads, weights=weights, **{name: getattr(arguments, name) for name in names})
            protocol = Protocol(systems, **given)
        expected = (RecordError, TrainingError, NeuroKitMissing)
        with reported(*expected), options.chosen_executor(arguments) as executor:
            compare.compare(arguments.data, arguments.report, protocol, executor=executor,
                            **without_none(groups=arguments.groups, corrections=arguments.corrections))  # fmt: skip

    parser.set_defaults(run=run, interrupted=console.RESUME_MESSAGE)


def add_evaluate_command(commands: Commands) -> None:
    """Add the command that scores outputs."""
    parser = commands.add_parser("evaluate", help="score predicted classes, with your own weights if need be",
                                 usage=f"{PROGRAM} evaluate LABELS OUTPUTS [option ...]",
                                 epilog="Without options it prints what evaluate_model.py prints.")  # fmt: skip
    add_paths(
        parser,
        labels="folder of headers with labels, which may be in folders below it",
        outputs="folder of the output files that test_model.py has written for them",
    )
    options.add_classes(parser, "which are scored instead of the Challenge's")
    options.add_weights(parser, "for the Challenge metric")
    options.add_corrections_option(parser, "the verdicts of most reviewers replace the labels of the headers")

    def run(arguments: argparse.Namespace) -> None:
        from ecg.data.headers import RecordError
        from ecg.data.labels import load_own_weights
        from ecg.evaluation.metrics import metric_name
        from ecg.evaluation.outputs import format_scores, score_outputs

        with reported(ValueError):
            classes = options.read_classes(arguments)
            weights = load_own_weights(arguments.weights, classes) if arguments.weights else None
        with reported(RecordError):
            scores = score_outputs(arguments.labels, arguments.outputs, classes.make_weight_array(weights),
                                   arguments.corrections, classes)  # fmt: skip
            print(format_scores(scores, metric_name(weights, classes))[0])

    parser.set_defaults(run=run)


def add_export_command(commands: Commands) -> None:
    """Add the command that writes a model for programs without Keras."""
    parser = commands.add_parser(
        "export", help="write a trained model as an ONNX or LiteRT file, which needs neither Keras nor this package",
        epilog="Needs the packages of `pip install 'reduced-lead-ecg[onnx]'` or `[litert]`. The file is kept only if "
               "it predicts synthetic recordings as Keras does.",
    )  # fmt: skip
    add_paths(parser, model="folder of a model")
    parser.add_argument("--leads", type=option_types.parse_lead_count, metavar="N", default=12,
                        help="number of leads of the model: 12, 6, 4, 3 or 2 (default: 12)")  # fmt: skip
    parser.add_argument("--output", type=option_types.parse_path, metavar="FILE", default=Path("model.onnx"),
                        help="the file, whose ending decides: .onnx or .tflite (default: ./model.onnx)")  # fmt: skip

    def run(arguments: argparse.Namespace) -> None:
        start_keras()
        from ecg.models.bundle import load_bundle
        from ecg.models.config import ModelError
        from ecg.models.export import PackageMissing, export_bundle
        from ecg.models.translation import ExportError

        with reported(ModelError, PackageMissing, ExportError):
            bundle = load_bundle(arguments.model, LEAD_SETS[arguments.leads], fallback=False)
            report = export_bundle(bundle, arguments.output)
        print(console.escape_unprintable(
            f"{arguments.output}: {arguments.leads} leads; differs from Keras by {report.difference:.1e} at most, and "
            f"in no decision, on {report.recordings} synthetic recordings"
        ))  # fmt: skip

    parser.set_defaults(run=run)
