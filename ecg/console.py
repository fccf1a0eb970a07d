"""What scripts and commands print about errors, how they read their arguments, and how Ctrl-C ends them."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from ecg.reasons import printable

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
        raise SystemExit(printable(f"{program}: error: {reason}" if program else reason)) from None


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
