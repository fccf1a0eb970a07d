"""Report errors and progress, read arguments, format messages, handle Ctrl-C."""

import logging
import math
import os
import re
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import TextIO

LOGGER = logging.getLogger("ecg")

INTERRUPTED = 130  # exit status, as shells have it: 128 + SIGINT
INTERRUPTED_MESSAGE = "interrupted"
RESUME_ADVICE = "run the same command again to resume"
RESUME_MESSAGE = f"interrupted; {RESUME_ADVICE}"

_interrupted = threading.Event()  # set as soon as SIGINT came, whatever becomes of its SystemExit


def describe_error(error: BaseException) -> str:
    """Describe an error in one line, for people.

    Args:
        error: Any exception.

    Returns:
        For an OSError of a file "PATH: No such file or directory". The message alone for a ValueError, for an OSError
        without a file, and for the error classes of this package. The class and the message for any other exception,
        since a message such as "'x'" says nothing.
    """
    if isinstance(error, OSError) and error.errno is not None:
        reason = _in_one_line(error.strerror or os.strerror(error.errno))
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
        return reason if not path or reason.startswith(f"{path}: ") else f"{path}: {reason}"
    message = _in_one_line(error)
    if isinstance(error, MemoryError):
        return f"the memory is too small: {message}" if message else "the memory is too small"
    of_this_package = type(error).__module__.partition(".")[0] == __name__.partition(".")[0]
    if message and (of_this_package or isinstance(error, OSError | ValueError)):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def read_arguments(
    arguments: Sequence[str], usage: str, explanation: str, fewest: int, most: int | None = None
) -> list[str]:
    """Read the arguments of a script that takes names of files and folders only.

    Args:
        arguments: What follows the script's name on the command line.
        usage: One line that begins with "usage: ".
        explanation: A line or two about what the script does.
        fewest: Number of arguments that it needs.
        most: Number of arguments that it takes; `fewest` if None.

    Returns:
        The arguments.

    Raises:
        SystemExit: With status 0 after help was printed on standard output; with status 2 if the number of arguments is
            wrong, after the usage was printed on standard error.
    """
    if not {"-h", "--help"}.isdisjoint(arguments):
        print(f"{usage}\n\n{explanation}")
        raise SystemExit(0)
    if not fewest <= len(arguments) <= (fewest if most is None else most):
        print(usage, file=sys.stderr)
        raise SystemExit(2)
    return list(arguments)


@contextmanager
def errors_in_one_line(*expected: type[BaseException], program: str = "") -> Iterator[None]:
    """End the program with one line if an expected error leaves the block.

    The line is written to standard error.

    Args:
        *expected: Exception classes; OSError is always among them. Any other exception passes through.
        program: Name of the command, for lines such as "NAME: error: REASON".

    Raises:
        SystemExit: With status 1, instead of an expected error. If the reader of standard output is gone, such as
            `head`, nothing is printed.
    """
    handled: tuple[type[BaseException], ...] = (OSError, *expected)
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except handled as error:
        if _interrupted.is_set():
            raise
        reason = describe_error(error)
        raise SystemExit(escape_unprintable(f"{program}: error: {reason}" if program else reason)) from None


@contextmanager
def interruptible(message: str = INTERRUPTED_MESSAGE) -> Iterator[None]:
    """End the program with one line and status 130 if Ctrl-C comes in the block.

    The first SIGINT raises SystemExit, so that files and processes are cleaned up. If a library turns this into
    another exception, the program ends all the same. A second SIGINT, or one in a destructor, ends it at once.

    Args:
        message: The line that is printed.

    Raises:
        SystemExit: With status 130.
    """

    def exit_now() -> None:
        os.write(2, f"{message}\n".encode())
        os._exit(INTERRUPTED)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _interrupted.is_set():
            exit_now()
        _interrupted.set()
        # A KeyboardInterrupt that has left `exec`, such as a dataclass decorator's, would make Python end by SIGINT.
        raise SystemExit(INTERRUPTED)

    def unraisable(details: "sys.UnraisableHookArgs") -> None:
        if not _interrupted.is_set():
            earlier_hook(details)
        elif isinstance(details.exc_value, SystemExit):
            exit_now()

    def thread_failed(details: threading.ExceptHookArgs) -> None:
        if not _interrupted.is_set():  # otherwise the interruption made it fail
            earlier_thread_hook(details)

    # If SIGINT is ignored, as in background jobs of shells, it stays ignored.
    handled = threading.current_thread() is threading.main_thread()
    handled = handled and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handled:
        earlier_hook, sys.unraisablehook = sys.unraisablehook, unraisable
        earlier_thread_hook, threading.excepthook = threading.excepthook, thread_failed
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
        if _interrupted.is_set():
            raise KeyboardInterrupt
    except BaseException as error:
        if not _interrupted.is_set() and not isinstance(error, KeyboardInterrupt):
            raise
        print(message, file=sys.stderr, flush=True)
        raise SystemExit(INTERRUPTED) from None
    finally:
        if handled:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.unraisablehook, threading.excepthook = earlier_hook, earlier_thread_hook
            _interrupted.clear()


def raise_if_interrupted() -> None:
    """Raise SystemExit if Ctrl-C came before, and a library lost its exception."""
    if _interrupted.is_set():
        raise SystemExit(INTERRUPTED)


def _in_one_line(message: object) -> str:
    return " ".join(str(message).split())


LOG_SECONDS = 30.0  # between two lines of a log
TERMINAL_SECONDS = 0.1  # between two updates of a terminal's line
BAR = 20  # characters of a terminal's bar


def format_duration(seconds: float) -> str:
    """Return a duration such as '8 s', '3 min 20 s' or '2 h 05 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


class Progress:
    """Counts units of work, and shows the rate and the time left.

    Use it as a context manager. On a terminal one line is rewritten in place and removed at the end. Elsewhere a line
    is written every 30 seconds, so that short work leaves no line in a log.
    """

    def __init__(self, title: str, total: int, unit: str = "records", stream: TextIO | None = None) -> None:
        """Start at zero.

        Args:
            title: What the work is called.
            total: Units of work.
            unit: What is counted, in the plural.
            stream: Where the lines are written; standard error if None.
        """
        self.title, self.total, self.unit = title, total, unit
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.done = 0
        self.note = ""
        self.start = self.last = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.terminal:
            self.stream.write("\r\033[K")
            self.stream.flush()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count more units as done; a note such as the current loss follows them."""
        self.done += count
        self.note = note or self.note
        now = time.monotonic()
        if now - self.last >= (TERMINAL_SECONDS if self.terminal else LOG_SECONDS):
            self.last = now
            line = self.format_line(now - self.start)
            bar = ("#" * min(BAR * self.done // max(self.total, 1), BAR)).ljust(BAR, ".")
            self.stream.write(f"\r\033[K[{bar}] {line}" if self.terminal else f"{line}\n")
            self.stream.flush()

    def format_line(self, elapsed: float) -> str:
        """Return the line after a number of seconds."""
        rate = self.done / max(elapsed, 1e-9)
        left = format_duration((self.total - self.done) / rate) if rate else "unknown"
        parts = [f"{self.title}: {self.done:,} of {self.total:,} {self.unit}", f"{rate:,.1f}/s", f"{left} left"]
        return ", ".join(parts + [self.note] if self.note else parts)


NAMED = 3  # recordings that a line names
WIDTH = 100  # characters of a line on the console
VARYING = re.compile(r"'[^']*'|\b[0-9]+(?:[.,][0-9]+)*\b")  # in reasons of one kind


def group_reasons(excluded: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Group excluded recordings by the kind of reason, the most frequent kind first.

    Reasons are of one kind if they differ only in the recording's name and the position in a file, in numbers and in
    what is quoted.

    Args:
        excluded: Pairs of a recording's path below the data folder and the reason.

    Returns:
        Pairs of a kind and the recordings. The kind has NAME for the recording's name, and "..." where reasons differ.
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for path, reason in excluded:
        prefix, _, rest = reason.partition(": ")
        name = path.rpartition("/")[2]  # reasons name the file and not its folder
        if name:  # a folder, whose path ends with a slash, is not named
            reason = re.sub(rf"\b{re.escape(name)}\b", "NAME", rest if rest and name in prefix else reason)
        kinds.setdefault(VARYING.sub("...", reason), []).append((path, reason))
    groups = []
    for kind, members in kinds.items():
        paths, reasons = zip(*members, strict=True)
        groups.append((reasons[0] if len(set(reasons)) == 1 else kind, list(paths)))
    return sorted(groups, key=lambda group: -len(group[1]))


def remove_record_name(reason: str, path: Path) -> str:
    """Return a reason without the name of its recording at the beginning.

    Args:
        reason: Why a recording cannot be used.
        path: The path of its header.
    """
    return reason.removeprefix(f"{path.name}: ").removeprefix(f"{path.stem}: ")


def abbreviated_list(names: Iterable[str]) -> str:
    """Return the first names as a string such as "a, b, c, ..."."""
    first = list(islice(names, NAMED + 1))
    return ", ".join([*first[:NAMED], *["..."] * (len(first) > NAMED)])


def wrap_line(line: str) -> list[str]:
    """Wrap a line at the console's width, and escape what cannot be printed."""
    return textwrap.wrap(escape_unprintable(line), WIDTH, subsequent_indent="  ")


def log_wrapped(message: str, level: int = logging.INFO) -> None:
    """Log a message line by line, wrapped as by `wrap_line`."""
    for line in wrap_line(message):
        LOGGER.log(level, line)


def escape_unprintable(text: str) -> str:
    """Escape the characters that the console cannot show or would take for a command.

    These are the bytes of a file's name that are not UTF-8, control characters such as line ends, and characters that
    the encoding of standard output lacks.
    """
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class ConsoleHandler(logging.Handler):
    """Prints log messages to standard output, one line each, flushed at once."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message of a record; an error, such as a closed pipe, is raised."""
        print(escape_unprintable(self.format(record)), flush=True)


def start_logging() -> None:
    """Print the log messages of this package to standard output.

    Commands and scripts call it once.
    """
    LOGGER.handlers = [ConsoleHandler()]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # to the root logger, to which libraries add handlers of their own


def prefix_log(prefix: str) -> None:
    """Begin each log message of this process with a prefix, such as a system's name."""
    for handler in LOGGER.handlers:
        handler.setFormatter(logging.Formatter(prefix.replace("%", "%%") + "%(message)s"))


@contextmanager
def quiet_log() -> Iterator[None]:
    """Log only warnings and errors in the block."""
    level = LOGGER.level
    LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


def pluralise(number: int, thing: str) -> str:
    """Return a number and a noun, such as '1 model' or '2 models'."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def format_estimate(values: Iterable[float], sign: str = "") -> tuple[str, str]:
    """Format an estimate and its interval.

    Args:
        values: The estimate and the two ends of its interval; NaN if there is none.
        sign: "+" shows the sign of positive numbers, too.

    Returns:
        The value ("n/a" if it is NaN) and the interval ("" if it is NaN).
    """
    value, low, high = (float(number) for number in values)
    if math.isnan(value):
        return "n/a", ""
    words = [f"{number:{sign}.3f}".replace("-", "−") for number in (value, low, high)]
    return words[0], "" if math.isnan(low) else f"{words[1]} to {words[2]}"


def format_table(rows: Sequence[Sequence[object]]) -> list[str]:
    """Format a table for the console, one string a row.

    Args:
        rows: The rows, all of the same length. Integers get thousands separators.

    Returns:
        A line for each row; the first column is aligned left, the others right.
    """
    texts = [[f"{cell:,}" if isinstance(cell, int) else escape_unprintable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    form = "  ".join(f"{{:{'>' if index else '<'}{width}}}" for index, width in enumerate(widths))
    return [form.format(*row).rstrip() for row in texts]
