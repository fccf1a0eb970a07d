import csv
import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ecg.data.headers import RecordError
from ecg.runtime.console import describe_error
from ecg.runtime.files import (
    atomic_path,
    check_file_size,
    check_writable,
    read_bytes,
    read_table,
    to_json,
    write_csv,
)
from ecg.runtime.locks import LOCK, lock_folder

ROOT = Path(__file__).parents[3]


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\uff1d", "'=", "''@"])
def test_a_string_that_begins_as_a_formula_is_written_with_an_apostrophe_and_read_without(tmp_path, sign):
    cell = f"{sign}A1"
    write_csv(tmp_path / "a.csv", [("name",), (cell,), (-1.5,), ("-1.5e-3",), ("x=1",), ("'x",), (None,)])
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        cells = [row[0] for row in csv.reader(file)]
    assert cells == ["name", f"'{cell}", "-1.5", "-1.5e-3", "x=1", "'x", ""]
    rows = read_table(tmp_path / "a.csv", lambda cells: cells == ["name"], "a name", 1000, ValueError)
    assert [row.cells[0] for row in rows] == ["name", cell, "-1.5", "-1.5e-3", "x=1", "'x"]


def test_an_atomic_write_appears_only_at_its_end(tmp_path):
    path = tmp_path / "a.weights.h5"
    path.write_text("old")
    with atomic_path(path) as part:
        assert part.parent == tmp_path and part.name.endswith(path.name) and not part.exists()
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list_names(tmp_path) == ["a.weights.h5"]


def test_an_exception_leaves_what_was_there_and_nothing_else(tmp_path):
    (tmp_path / "file").write_text("old")
    for stop in (ValueError, KeyboardInterrupt):
        for name in ("file", "fresh"):
            with pytest.raises(stop), atomic_path(tmp_path / name) as part:
                part.write_text("half")
                raise stop
            with pytest.raises(stop), atomic_path(tmp_path / name) as part:
                (part / "below").mkdir(parents=True)
                raise stop
    assert list_names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


def test_a_folder_replaces_a_folder(tmp_path):
    path = tmp_path / "report"
    (path / "old").mkdir(parents=True)
    with atomic_path(str(path)) as part:
        part.mkdir()
        (part / "new").touch()
    assert list_names(path) == ["new"] and list_names(tmp_path) == ["report"]


def test_a_folder_is_not_replaced_by_a_file_nor_a_file_by_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/kept").touch()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError), atomic_path(tmp_path / "folder") as part:
        part.write_text("new")
    with pytest.raises(OSError), atomic_path(tmp_path / "file") as part:
        part.mkdir()
    assert list_names(tmp_path) == ["file", "folder"] and list_names(tmp_path / "folder") == ["kept"]
    assert (tmp_path / "file").read_text() == "kept"


def test_leftovers_of_a_killed_process_are_no_obstacle(tmp_path):
    for make in (os.mkdir, lambda path: path.write_text("a longer text of a process that was killed")):
        with atomic_path(tmp_path / "file") as part:
            part.touch()
        make(part)
        with atomic_path(tmp_path / "file") as part:
            part.write_text("new")
        assert list_names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "new"


def test_nothing_written_and_nowhere_to_write_are_os_errors(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "nothing"):
        pass
    for path in (tmp_path / "missing/file", tmp_path / "file/below", ".", "..", "/"):
        with pytest.raises(OSError), atomic_path(path) as part:
            part.write_text("new")
    assert list_names(tmp_path) == ["file"]


def test_an_error_that_names_no_file_names_what_was_to_be_written(tmp_path):
    with pytest.raises(OSError, match="No space left on device: '.*fresh'"), atomic_path(tmp_path / "fresh") as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list_names(tmp_path) == []


def test_a_folder_is_locked_for_other_processes_until_its_process_ends(tmp_path):
    code = "import sys; from ecg.runtime.locks import lock_folder\n"
    code += "with lock_folder(sys.argv[1]): print('in', flush=True); input()"

    def start_other_process():
        return subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "folder"], cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    with start_other_process() as first:
        assert first.stdout.readline() == "in\n"
        with pytest.raises(BlockingIOError, match="folder: another process"), lock_folder(tmp_path / "folder"):
            pass
        first.kill()
    with lock_folder(tmp_path / "folder"), start_other_process() as second:
        assert "another process is at work" in second.stderr.read()
    with lock_folder(tmp_path / "folder"):
        pass


def test_a_process_may_wait_for_the_end_of_a_lock(tmp_path):
    code = "import sys; from ecg.runtime.locks import lock_folder; print('begins', flush=True)\n"
    code += "with lock_folder(sys.argv[1], wait=True): print('in', flush=True)"
    command = [sys.executable, "-c", code, tmp_path]
    with lock_folder(tmp_path):
        waiting = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert waiting.stdout.readline() == "begins\n"
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.5)
    assert waiting.communicate(timeout=30)[0] == "in\n" and waiting.returncode == 0


def test_a_name_may_be_as_long_as_names_can_be(tmp_path):
    for name in ("x" * 251 + ".csv", "\N{GREEK SMALL LETTER MU}" * 125 + ".csv"):
        with atomic_path(tmp_path / name) as part:
            part.write_text("new")
            assert part.suffix == ".csv"
        assert (tmp_path / name).read_text() == "new"


def test_bytes_are_read_or_the_given_error_is_raised(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"twelve bytes")
    assert read_bytes(path, 12, RecordError) == b"twelve bytes" and check_file_size(path, 12, RecordError) == 12
    for function in (read_bytes, check_file_size):
        with pytest.raises(RecordError, match="file: 12 bytes, expected 11 or fewer"):
            function(path, 11, RecordError)
        with pytest.raises(KeyError, match="cannot be read: embedded null"):
            function("a\0b", 11, KeyError)


def test_a_lock_is_taken_again_if_its_folder_was_moved_meanwhile(tmp_path, monkeypatch):
    """A process may end, and move its folder, between the opening of the file and the lock."""
    folder, lock, moved = tmp_path / "stages", fcntl.flock, []

    def move_folder_then_lock(file, operation):
        if not moved:
            moved.append((tmp_path / "stages").rename(tmp_path / "old"))
        lock(file, operation)

    monkeypatch.setattr("fcntl.flock", move_folder_then_lock)
    with lock_folder(folder):
        assert (folder / LOCK).exists()
        with pytest.raises(BlockingIOError), lock_folder(folder):
            pass


def test_json_has_plain_numbers_for_those_of_numpy():
    values = {"count": np.count_nonzero(np.array([0, 1, 1])), "share": np.float32(0.5), "flag": np.bool_(True),
              "row": np.arange(3), "plain": [1, 2.5, None, "x"]}  # fmt: skip
    expected = {"count": 2, "share": 0.5, "flag": True, "row": [0, 1, 2], "plain": [1, 2.5, None, "x"]}
    assert json.loads(to_json(values)) == expected
    with pytest.raises(TypeError, match="Path cannot be written as JSON"):
        to_json({"path": Path("x")})
    with pytest.raises(ValueError):
        to_json(np.float32("nan"), allow_nan=False)


def test_json_is_written_in_one_place():
    for path in sorted((ROOT / "ecg").glob("*.py")):
        if path.name != "files.py":
            assert "json.dump" not in path.read_text(), path.name


@pytest.mark.parametrize("name", ["results", "results.csv"])
def test_no_error_shows_a_temporary_name(tmp_path, unprivileged, name):
    tmp_path.chmod(0o777)
    (tmp_path / "closed").mkdir(0o555)
    (tmp_path / "file").touch()

    def write(path, below=""):
        with atomic_path(path) as part:
            (part / below if below else part).write_text("new")

    with unprivileged():
        for path, below, reported in (
            (tmp_path / "closed" / name, "", tmp_path / "closed" / name),
            (tmp_path / "file" / name, "", tmp_path / "file" / name),
            (tmp_path / "missing" / name, "", tmp_path / "missing" / name),
            (tmp_path / name, "summary.csv", tmp_path / name / "summary.csv"),
        ):
            with pytest.raises(OSError) as raised:
                write(path, below)
            assert str(reported) in str(raised.value) and ".part" not in str(raised.value)
            assert describe_error(raised.value) == f"{reported}: {raised.value.strerror}"


def test_an_error_of_moving_names_the_target_alone(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as raised, atomic_path(tmp_path / "folder") as part:
        part.write_text("new")
    assert describe_error(raised.value) == f"{tmp_path / 'folder'}: Is a directory"
    assert ".part" not in str(raised.value) and "->" not in str(raised.value)


def test_libraries_messages_show_no_temporary_name_and_no_number(tmp_path):
    import h5py

    with pytest.raises(OSError) as raised, atomic_path(tmp_path / "missing/2_leads.weights.h5") as part:
        h5py.File(part, "w")
    assert describe_error(raised.value) == f"{tmp_path / 'missing/2_leads.weights.h5'}: No such file or directory"
    with pytest.raises(ValueError) as raised, atomic_path(tmp_path / "file") as part:
        raise ValueError(f"cannot save {part}")
    assert str(raised.value) == f"cannot save {tmp_path / 'file'}"


def test_a_folder_that_cannot_be_replaced_is_refused_before_the_work(tmp_path, unprivileged):
    tmp_path.chmod(0o777)
    (tmp_path / "report").mkdir()
    (tmp_path / "report/old").touch()
    (tmp_path / "report").chmod(0o555)
    with unprivileged(), pytest.raises(PermissionError, match="report'"), atomic_path(tmp_path / "report"):
        pytest.fail("the work was begun")
    assert list_names(tmp_path / "report") == ["old"]


def test_folders_for_outputs_are_checked_without_a_trace(tmp_path, unprivileged):
    tmp_path.chmod(0o777)
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed/file").touch()
    (tmp_path / "closed").chmod(0o555)
    (tmp_path / "file").touch(0o444)
    (tmp_path / "dangling").symlink_to("nowhere")
    for folder in (tmp_path, tmp_path / "new", tmp_path / "new/below"):
        check_writable(folder)
    with unprivileged():
        for path, reason in (
            ("closed", "Permission denied"),
            ("closed/new", "Permission denied"),
            ("file", "Not a directory"),
            ("file/new", "Not a directory"),
            ("dangling", "No such file or directory"),
        ):
            with pytest.raises(OSError) as raised:
                check_writable(tmp_path / path)
            assert describe_error(raised.value) == f"{tmp_path / path}: {reason}"
    assert list_names(tmp_path) == ["closed", "dangling", "file"] and list_names(tmp_path / "closed") == ["file"]
