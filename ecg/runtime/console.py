"""What scripts and commands print about errors, how they read their arguments, and how Ctrl-C ends them."""

import atexit
import logging
import math
import os
import re
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import FrameType

LOGGER = logging.getLogger("ecg")

INTERRUPTED = 130  # exit status: 128 and the number of SIGINT, as shells have it
INTERRUPTED_MESSAGE = "interrupted"
RESUME_MESSAGE = "interrupted; run the same command again to resume"
AGAIN_SECONDS = 0.05
HELP_OPTIONS = ("-h", "--help")

_interrupted = threading.Event()  # set as soon as SIGINT came, whatever becomes of its KeyboardInterrupt
_program_interrupted = threading.Event()


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
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED_MESSAGE
    if isinstance(error, MemoryError):
        return f"the memory is too small: {message}" if message else "the memory is too small"
    of_this_package = type(error).__module__.partition(".")[0] == __name__.partition(".")[0]
    if message and (of_this_package or isinstance(error, OSError | ValueError)):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def read_arguments(
    arguments: Sequence[str], usage: str, explanation: str, least: int, most: int | None = None
) -> list[str]:
    """Read the arguments of a script that takes names of files and folders only.

    Args:
        arguments: What follows the script's name on the command line.
        usage: One line that begins with "usage: ".
        explanation: A line or two about what the script does.
        least: Number of arguments that it needs.
        most: Number of arguments that it takes; `least` if None.

    Returns:
        The arguments.

    Raises:
        SystemExit: With status 0 after help was printed on standard output; with status 2 if the number of arguments is
            wrong, after the usage was printed on standard error.
    """
    if any(argument in HELP_OPTIONS for argument in arguments):
        print(f"{usage}\n\n{explanation}")
        raise SystemExit(0)
    if not least <= len(arguments) <= (least if most is None else most):
        print(usage, file=sys.stderr)
        raise SystemExit(2)
    return list(arguments)


@contextmanager
def errors_in_one_line(*expected: type[BaseException], program: str = "") -> Iterator[None]:
    """End the program with one line on standard error if an expected error leaves the block.

    Args:
        *expected: Exception classes; OSError is always among them. Any other exception passes through.
        program: Name of the command, for lines such as "NAME: error: REASON".

    Raises:
        SystemExit: With status 1, instead of an expected error. If the reader of standard output is gone, such as
            `head`, nothing is printed.
    """
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except (OSError, *expected) as error:
        if _interrupted.is_set():
            raise
        reason = describe_error(error)
        raise SystemExit(escape_unprintable(f"{program}: error: {reason}" if program else reason)) from None


def run_program(main: Callable[[list[str]], None]) -> None:
    """Run a script, and see that its exit status is INTERRUPTED after Ctrl-C.

    Python ends by SIGINT instead if a KeyboardInterrupt left `exec` anywhere, as in the making of a dataclass.

    Args:
        main: Takes what follows the script's name on the command line.
    """
    try:
        main(sys.argv[1:])
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _program_interrupted.set()
        raise


def _exit_if_interrupted() -> None:
    if _program_interrupted.is_set():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # nobody may be reading any more
                stream.flush()
        os._exit(INTERRUPTED)


atexit.register(_exit_if_interrupted)  # before other modules register theirs, so that it is the last one called


@contextmanager
def interruptible(message: str = INTERRUPTED_MESSAGE) -> Iterator[None]:
    """End the program with one line on standard error and status 130 if Ctrl-C comes within the block.

    The first SIGINT raises KeyboardInterrupt, so that files and processes are cleaned up. If a library turns this into
    another exception, or swallows it in a destructor, the program ends all the same. A second SIGINT ends it at once.

    Args:
        message: The line that is printed.

    Raises:
        SystemExit: With status 130.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _interrupted.is_set():
            os.write(2, f"{message}\n".encode())
            os._exit(INTERRUPTED)
        _interrupted.set()
        raise KeyboardInterrupt

    def unraisable(details: "sys.UnraisableHookArgs") -> None:
        if not _interrupted.is_set():
            earlier_hook(details)
        elif isinstance(details.exc_value, KeyboardInterrupt):
            _interrupted.clear()
            # Once more, as soon as the destructor that swallowed it has ended.
            main = threading.main_thread().ident
            again = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, signal.SIGINT))
            again.daemon = True
            again.start()

    def thread_failed(details: threading.ExceptHookArgs) -> None:
        if not _interrupted.is_set():  # else it failed for what the interruption took away
            earlier_thread_hook(details)

    # Where SIGINT is ignored, as in background jobs of shells, it stays so.
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


def _in_one_line(message: object) -> str:
    return " ".join(str(message).split())


LOG_SECONDS = 30.0  # between two lines of a log
TERMINAL_SECONDS = 0.1  # between two updates of a terminal's line
BAR = 20  # characters of a terminal's bar


def format_duration(seconds):
    """Return a length of time as a reader says it: '8 s', '3 min 20 s', '2 h 05 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


class Progress:
    """Counts units of work towards a total and tells the rate and the time left.

    Use it as a context manager. On a terminal one line is rewritten in place and wiped at the end; elsewhere a
    line is written every 30 seconds, so that short work leaves a log clean.
    """

    def __init__(self, title, total, unit="records", stream=None):
        self.title, self.total, self.unit = title, total, unit
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.done = 0
        self.note = ""
        self.start = self.last = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.terminal:
            self.stream.write("\r\033[K")
            self.stream.flush()

    def advance(self, count=1, note=""):
        """Count `count` more units as done; `note` follows the numbers, such as the present loss."""
        self.done += count
        self.note = note or self.note
        now = time.monotonic()
        if now - self.last >= (TERMINAL_SECONDS if self.terminal else LOG_SECONDS):
            self.last = now
            line = self.line(now - self.start)
            self.stream.write(f"\r\033[K{self.bar()} {line}" if self.terminal else f"{line}\n")
            self.stream.flush()

    def bar(self):
        """Return the bar for what is done."""
        full = min(BAR * self.done // max(self.total, 1), BAR)
        return f"[{'#' * full}{'.' * (BAR - full)}]"

    def line(self, elapsed):
        """Return the line for what is done after `elapsed` seconds."""
        rate = self.done / max(elapsed, 1e-9)
        left = format_duration((self.total - self.done) / rate) if rate else "unknown"
        parts = [f"{self.title}: {self.done:,} of {self.total:,} {self.unit}", f"{rate:,.1f}/s", f"{left} left"]
        return ", ".join(parts + [self.note] if self.note else parts)


NAMED = 3  # recordings that are named in a line
WIDTH = 100  # characters of a line on the console
VARYING = re.compile(r"'[^']*'|\b[0-9]+(?:[.,][0-9]+)*\b")  # in reasons of one kind


def group_reasons(dropped):
    """Group pairs of a record's name and why it is left out by kind, the most frequent first: pairs of it and a list.

    A name is the path below the data folder. Reasons are of one kind that differ only in the record's name and place,
    in numbers and in what is quoted. The name reads NAME in the kind, and where they differ in the others, these read
    ... .
    """
    kinds = {}
    for name, reason in dropped:
        place, _, rest = reason.partition(": ")
        file = name.rpartition("/")[2]  # reasons name the file and not its folder
        reason = re.sub(rf"\b{re.escape(file)}\b", "NAME", rest if rest and file in place else reason)
        kinds.setdefault(VARYING.sub("...", reason), []).append((name, reason))
    groups = []
    for kind, members in kinds.items():
        names, texts = zip(*members, strict=True)
        groups.append((texts[0] if len(set(texts)) == 1 else kind, list(names)))
    return sorted(groups, key=lambda group: -len(group[1]))


def remove_record_name(reason: str, path: Path) -> str:
    """Return a reason without the name of its recording at the beginning, for a line that begins with it already.

    Args:
        reason: Why a recording cannot be used.
        path: The path of its header.
    """
    return reason.removeprefix(f"{path.name}: ").removeprefix(f"{path.stem}: ")


def abbreviated_list(names):
    """Return the first of the names as text, with dots where there are more."""
    first = list(islice(names, NAMED + 1))
    return ", ".join([*first[:NAMED], *["..."] * (len(first) > NAMED)])


def wrap_line(line):
    """Return a printable line in as many as it takes."""
    return textwrap.wrap(escape_unprintable(line), WIDTH, subsequent_indent="  ")


def escape_unprintable(text):
    """Return text with an escape for each character that the console cannot show, or would take for a command.

    Such are the bytes of a file's name that are not UTF-8, control characters, line ends among them, and letters that
    the encoding of standard output does not have.
    """
    text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class ConsoleHandler(logging.Handler):
    """Prints log messages to standard output, one line each, flushed at once.

    Attributes:
        prefix: Begins each line.
    """

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self.prefix = prefix

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message of a record. An error, such as of a closed pipe, ends the program."""
        print(escape_unprintable(self.prefix + record.getMessage()), flush=True)


def start_logging(prefix: str = "") -> None:
    """Print the log messages of this package to standard output; commands and scripts call it once.

    Args:
        prefix: Begins each line, such as the name of the system that a subprocess trains.
    """
    LOGGER.handlers = [ConsoleHandler(prefix)]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # to the root logger, to which libraries add handlers of their own


def pluralise(number, thing):
    """Return how many there are of a thing in words."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def format_estimate(values, sign=""):
    """Return an estimate in words: its value, and its interval or '' where there is none."""
    value, low, high = (float(number) for number in values)
    if math.isnan(value):
        return "n/a", ""
    texts = [f"{number:{sign}.3f}".replace("-", "−") for number in (value, low, high)]
    return texts[0], "" if math.isnan(low) else f"{texts[1]} to {texts[2]}"


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
