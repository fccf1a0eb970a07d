"""Report that process 0 of a training has ended, from a process of its own.

If process 0 is killed, the libraries of JAX abort the other processes before these can say why. This script runs beside
each of them. It imports nothing of the package, so that it starts at once and needs little memory.
"""

import os
import sys

QUIET = "."  # what process 0 sends if nothing is to be reported


def report_end(descriptor: int, unexpected: str) -> None:
    """Wait for the end of process 0, and write a line about it to standard error.

    Args:
        descriptor: File descriptor of the connection to process 0. It sends one line before it ends: QUIET, or the
            line to be written.
        unexpected: The line if process 0 ends without sending one.
    """
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as connection:
        try:
            line = connection.readline().rstrip("\n")
        except OSError:  # the link was cut
            line = ""
    if line != QUIET:
        os.write(2, f"{line or unexpected}\n".encode())


if __name__ == "__main__":
    report_end(int(sys.argv[1]), sys.argv[2])
