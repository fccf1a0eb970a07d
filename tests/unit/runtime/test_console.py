import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

from ecg.data.headers import read_header
from ecg.runtime.console import (
    INTERRUPTED,
    INTERRUPTED_MESSAGE,
    RESUME_MESSAGE,
    describe_error,
    errors_in_one_line,
    interruptible,
    read_arguments,
)

ROOT = Path(__file__).parents[3]
USAGE, EXPLANATION = "usage: python script.py DATA [MODEL]", "Do something with DATA."


def catch_error(function, *arguments, **options):
    with pytest.raises(BaseException) as raised:
        function(*arguments, **options)
    return raised.value


def test_an_error_of_a_file_is_its_path_and_the_reason(tmp_path):
    missing, folder, file = tmp_path / "missing", tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.touch()
    for error, path, reason in (
        (catch_error(open, missing), missing, "No such file or directory"),
        (catch_error(open, os.fsencode(missing)), missing, "No such file or directory"),
        (catch_error(os.scandir, file), file, "Not a directory"),
        (catch_error(open, folder), folder, "Is a directory"),
        (OSError(errno.EACCES, "a reason of our own", str(file)), file, "a reason of our own"),
        (OSError(errno.EACCES, f"{file}: named twice", str(file)), file, "named twice"),
    ):
        assert describe_error(error) == f"{path}: {reason}"


def test_an_error_of_the_system_without_a_file_is_the_reason_alone():
    assert describe_error(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))) == "Cannot allocate memory"
    assert describe_error(catch_error(os.listdir, 10**6)) == "Bad file descriptor"
    assert describe_error(FileNotFoundError("data: no header (*.hea)")) == "data: no header (*.hea)"


@pytest.mark.parametrize(
    "error_class",
    [
        "ecg.data.headers.HeaderError",
        "ecg.data.records.SignalError",
        "builtins.ValueError",
        pytest.param("ecg.models.config.ModelError", marks=pytest.mark.keras),
        pytest.param("ecg.training.trainer.TrainingError", marks=pytest.mark.keras),
    ],
)
def test_an_error_of_our_own_is_its_message_in_one_line(error_class):
    assert (
        describe_error(resolve_name(error_class)("A0001.hea: line 2:\n  two\tleads")) == "A0001.hea: line 2: two leads"
    )


def test_an_error_in_a_recording_is_reported_without_class_and_once(tmp_path):
    (tmp_path / "A0001.hea").write_text("nothing\n")
    message = describe_error(catch_error(read_header, tmp_path / "A0001.hea"))
    assert message.startswith("A0001.hea line 1: ") and message.count("A0001") == 1 and "Error" not in message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (catch_error(lambda: [][0]), "IndexError: list index out of range"),
        (AssertionError(), "AssertionError"),
        (ValueError(), "ValueError"),
        (OSError(), "OSError"),
        (MemoryError(), "the memory is too small"),
    ],
)
def test_an_unexpected_error_is_reported_with_its_class(error, message):
    assert describe_error(error) == message


@pytest.mark.parametrize("arguments", [["data"], ["data", "model"]])
def test_arguments_are_returned(arguments, capsys):
    assert read_arguments(arguments, USAGE, EXPLANATION, 1, 2) == arguments
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("arguments", "most"), [([], 2), (["a", "b", "c"], 2), (["a", "b"], None)])
def test_a_wrong_number_of_arguments_prints_the_usage_on_standard_error(arguments, most, capsys):
    assert catch_error(read_arguments, arguments, USAGE, EXPLANATION, 1, most).code == 2
    assert capsys.readouterr() == ("", f"{USAGE}\n")


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["data", "--help"]])
def test_help_is_printed_on_standard_output(arguments, capsys):
    assert catch_error(read_arguments, arguments, USAGE, EXPLANATION, 1, 2).code == 0
    assert capsys.readouterr() == (f"{USAGE}\n\n{EXPLANATION}\n", "")


def test_expected_errors_end_the_program_with_one_line(tmp_path):
    def end(error, *expected, **program):
        with errors_in_one_line(*expected, **program):
            raise error

    missing = catch_error(open, tmp_path / "missing")
    assert catch_error(end, missing).code == f"{tmp_path / 'missing'}: No such file or directory"
    assert catch_error(end, missing, program="run").code.startswith(f"run: error: {tmp_path}")
    assert catch_error(end, ValueError("no\x1bway"), ValueError).code == "no\\x1bway"
    assert isinstance(catch_error(end, KeyError("x"), ValueError), KeyError)


def test_ctrl_c_ends_the_program_with_one_line_and_its_own_status(capsys):
    def interrupted(message):
        with interruptible(message):
            signal.raise_signal(signal.SIGINT)

    for message in (INTERRUPTED_MESSAGE, RESUME_MESSAGE):
        error = catch_error(interrupted, message)
        assert isinstance(error, SystemExit) and error.code == INTERRUPTED
        assert capsys.readouterr() == ("", f"{message}\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_errors_and_ends_pass_through(capsys):
    def end(error):
        with interruptible():
            raise error

    for error in (SystemExit(3), ValueError("x")):
        assert catch_error(end, error) is error
    assert capsys.readouterr() == ("", "")


SWALLOWED = """
import signal, sys
from ecg.runtime.console import interruptible

def converted():
    try:
        signal.raise_signal(signal.SIGINT)
    except SystemExit:
        raise ImportError("initialization failed") from None

class Destroyed:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def in_destructor():
    Destroyed()
    while True:
        pass

def ignored():
    try:
        signal.raise_signal(signal.SIGINT)
    except:
        pass

def in_cleanup():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGINT)  # a second one ends the program at once
        while True:
            pass

with interruptible():
    globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize("function", ["converted", "in_destructor", "ignored", "in_cleanup"])
def test_an_interruption_that_a_library_swallows_still_ends_the_program(function):
    process = subprocess.run(
        [sys.executable, "-c", SWALLOWED, function], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (process.returncode, process.stdout, process.stderr) == (INTERRUPTED, "", f"{INTERRUPTED_MESSAGE}\n")
