import io

from ecg.runtime.console import Progress, format_duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_durations_are_formatted_in_words():
    assert [format_duration(seconds) for seconds in (0.4, 59, 61, 3599.6, 7500)] == [
        "0 s", "59 s", "1 min 01 s", "1 h 00 min", "2 h 05 min"]  # fmt: skip


def test_a_line_shows_count_rate_and_time_left():
    progress = Progress("reading", 1000, stream=io.StringIO())
    progress.done, progress.note = 250, "loss 0.1"
    assert progress.format_line(50.0) == "reading: 250 of 1,000 records, 5.0/s, 2 min 30 s left, loss 0.1"
    progress.done = 0
    assert "unknown left" in progress.format_line(1.0)


def test_short_work_leaves_a_log_clean_and_long_work_does_not():
    log = io.StringIO()
    with Progress("reading", 10, stream=log) as progress:
        progress.advance(5)
        assert log.getvalue() == ""
        progress.last -= 60
        progress.advance(1)
    assert log.getvalue().startswith("reading: 6 of 10 records") and log.getvalue().count("\n") == 1


def test_a_terminals_line_is_wiped_at_the_end():
    terminal = Terminal()
    with Progress("reading", 10, stream=terminal) as progress:
        progress.last -= 1
        progress.advance(5)
        assert "[##########..........] reading: 5 of 10 records" in terminal.getvalue()
        progress.last -= 1
        progress.advance(5)
    assert "[####################] reading: 10 of 10" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\033[K")
