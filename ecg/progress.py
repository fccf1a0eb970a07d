"""How far a long piece of work has come: one moving line on a terminal, a line now and then in a log."""

import sys
import time

LOG_SECONDS = 30.0  # between two lines of a log
TERMINAL_SECONDS = 0.1  # between two updates of a terminal's line
BAR = 20  # characters of a terminal's bar


def duration(seconds):
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
        left = duration((self.total - self.done) / rate) if rate else "unknown"
        parts = [f"{self.title}: {self.done:,} of {self.total:,} {self.unit}", f"{rate:,.1f}/s", f"{left} left"]
        return ", ".join(parts + [self.note] if self.note else parts)
