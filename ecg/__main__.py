"""The command line, `python -m ecg COMMAND`."""

import argparse
import sys
from collections.abc import Sequence

from ecg import __version__
from ecg.commands import recording_commands, review_commands, training_commands
from ecg.commands.options import PROGRAM, reported
from ecg.runtime import console

COMMANDS = (
    training_commands.add_train_command,
    training_commands.add_compare_command,
    training_commands.add_estimate_command,
    recording_commands.add_predict_command,
    training_commands.add_evaluate_command,
    training_commands.add_export_command,
    recording_commands.add_plot_command,
    review_commands.add_review_command,
    review_commands.add_sample_command,
    review_commands.add_agreement_command,
    review_commands.add_serve_command,
    recording_commands.add_audit_command,
    recording_commands.add_convert_command,
    recording_commands.add_synthesize_command,
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
