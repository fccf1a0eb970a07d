"""One line on the console for an error, and the arguments of the scripts."""

import sys

from ecg.headers import RecordError


def describe_error(error: BaseException) -> str:
    """Return an error as one line for a person.

    An error of the system names its file and what is wrong with it. The errors that this package raises on purpose are
    their message. Any other error also names its class, because its message alone may say nothing.
    """
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    message = " ".join(str(error).split())
    own = type(error).__module__.partition(".")[0] == "ecg" or isinstance(error, OSError | RecordError)
    return message if own and message else f"{type(error).__name__}: {message}"


def read_arguments(
    arguments: list[str], usage: str, explanation: str, least: int, most: int | None = None
) -> list[str]:
    """Return a script's arguments if there are as many as it takes.

    `-h` and `--help` print usage and explanation and exit with 0; a wrong number of arguments prints the usage on
    standard error and exits with 2.
    """
    if {"-h", "--help"} & set(arguments):
        print(f"usage: {usage}\n\n{explanation}")
        sys.exit(0)
    if not least <= len(arguments) <= (most or least):
        print(f"usage: {usage}", file=sys.stderr)
        sys.exit(2)
    return arguments
