import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg.runtime.files import walk_files


def make_files(folder, *paths):
    """Make empty files at paths below a folder, and return the folder."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def test_files_at_every_depth_are_sorted_by_path(tmp_path):
    make_files(tmp_path, "b/c/1.hea", "b/2.hea", "b-1.hea", "a.mat", "A.HEA", "b/c/d/e/f")
    (tmp_path / "empty").mkdir()
    expected = ["A.HEA", "a.mat", "b-1.hea", "b/2.hea", "b/c/1.hea", "b/c/d/e/f"]
    for folder in (tmp_path, str(tmp_path), f"{tmp_path}/"):
        assert walk_files(folder) == (expected, [])


def test_the_current_folder_can_be_walked(tmp_path, monkeypatch):
    make_files(tmp_path, "a/1", "2")
    monkeypatch.chdir(tmp_path)
    assert walk_files(".") == (["2", "a/1"], [])


def test_hidden_files_and_folders_are_skipped_but_not_below_a_hidden_start(tmp_path):
    hidden = make_files(tmp_path / ".cache", "1", ".2", ".git/3", "a/.b/4", "a/5", "a..b")
    (hidden / ".gone").symlink_to("nowhere")
    assert walk_files(hidden) == (["1", "a..b", "a/5"], [])


def test_links_to_files_and_folders_are_followed(tmp_path):
    make_files(tmp_path / "elsewhere", "georgia/E1.hea", "georgia/g1/E2.hea", "one.hea")
    data = make_files(tmp_path / "data", "own.hea")
    (data / "georgia").symlink_to(tmp_path / "elsewhere/georgia")
    (data / "one.hea").symlink_to("../elsewhere/one.hea")
    (tmp_path / "link").symlink_to(data)
    for folder in (data, tmp_path / "link"):
        assert walk_files(folder) == (["georgia/E1.hea", "georgia/g1/E2.hea", "one.hea", "own.hea"], [])


def test_loops_of_links_end(tmp_path):
    data = make_files(tmp_path / "data", "a/b/1", "2")
    (data / "a/b/up").symlink_to("..")
    (data / "a/itself").symlink_to(".")
    (data / "a/b/outside").symlink_to(tmp_path)
    make_files(tmp_path, "sibling")
    assert walk_files(data) == (["2", "a/b/1", "a/b/outside/sibling"], [])


def test_a_real_folder_is_read_once_and_by_its_own_path(tmp_path):
    data = make_files(tmp_path / "data", "z/real/1", "z/2")
    (data / "a").symlink_to("z/real")
    (data / "z/again").symlink_to("real")
    assert walk_files(data) == (["z/2", "z/real/1"], [])


def test_of_two_links_to_a_folder_the_first_counts(tmp_path):
    make_files(tmp_path / "outside", "inner/1", "2")
    make_files(tmp_path / "other", "3")
    (tmp_path / "other/inner").symlink_to("../outside/inner")
    data = make_files(tmp_path / "data", "4")
    for name, target in (("c", "outside"), ("b", "outside"), ("a", "other")):
        (data / name).symlink_to(tmp_path / target)
    # "b" is directly in the folder, "a/inner" is behind another link: "b" comes first.
    assert walk_files(data) == (["4", "a/3", "b/2", "b/inner/1"], [])


def test_links_that_lead_nowhere_are_listed(tmp_path):
    data = make_files(tmp_path, "a/1")
    (data / "a/gone.hea").symlink_to("nowhere")
    (data / "loop").symlink_to("loop")
    (data / "through a file").symlink_to("a/1/below")
    files, errors = walk_files(data)
    assert files == ["a/1"]
    facts = {(type(error), error.errno, error.filename) for error in errors}
    assert facts == {
        (FileNotFoundError, errno.ENOENT, f"{data}/a/gone.hea"),
        (OSError, errno.ELOOP, f"{data}/loop"),
        (NotADirectoryError, errno.ENOTDIR, f"{data}/through a file"),
    }


def test_a_folder_below_that_cannot_be_listed_is_listed(tmp_path, unprivileged):
    data = make_files(tmp_path / "data", "a/1", "closed/2", "z/3")
    make_files(tmp_path / "outside", "closed/4")
    (data / "link").symlink_to(tmp_path / "outside/closed")
    for folder in (data / "closed", tmp_path / "outside/closed"):
        folder.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    with unprivileged():
        files, errors = walk_files(data)
    assert files == ["a/1", "z/3"]
    assert [(type(error), error.filename) for error in errors] == [
        (PermissionError, f"{data}/closed"),
        (PermissionError, f"{data}/link"),
    ]


def test_the_folder_itself_has_to_be_one_that_can_be_listed(tmp_path, unlistable_folder):
    make_files(tmp_path, "file", "folder/1")
    (tmp_path / "loop").symlink_to("loop")
    unlistable_folder(tmp_path / "folder")
    for name, kind in (
        ("missing", FileNotFoundError),
        ("file", NotADirectoryError),
        ("loop", OSError),
        ("folder", PermissionError),
    ):
        with pytest.raises(kind) as raised:
            walk_files(tmp_path / name)
        assert raised.value.filename == str(tmp_path / name)


def test_names_that_are_not_utf_8_stay_as_they_are(tmp_path):
    names = [b"\xff\xfe/\xe9.hea", "é.hea".encode(), b"\xe9.hea", b"with\nline.hea"]
    for name in names:
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()
    files, errors = walk_files(tmp_path)
    assert files == sorted(map(os.fsdecode, names)) and not errors
    assert all((tmp_path / name).is_file() for name in files)


def test_pipes_are_files_that_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.hea")
    assert walk_files(tmp_path) == (["pipe.hea"], [])


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_tree_of_links_ends_and_every_real_folder_is_read_once(tmp_path_factory, data):
    """Compare with the real folders that following every link reaches."""
    root = tmp_path_factory.mktemp("tree")
    folders = [root]
    for number in range(data.draw(st.integers(0, 6))):
        folder = data.draw(st.sampled_from(folders)) / f"d{number}"
        folder.mkdir()
        folders.append(folder)
    start = data.draw(st.sampled_from(folders))
    for number in range(data.draw(st.integers(0, 6))):
        parent, target = data.draw(st.tuples(st.sampled_from(folders), st.sampled_from(folders)))
        (parent / f"{data.draw(st.sampled_from('ae'))}{number}").symlink_to(target)
    for folder in folders:
        (folder / "file").touch()
    reachable = [start]
    for folder in reachable:
        inside = (path.resolve() for path in folder.iterdir())
        reachable += [path for path in dict.fromkeys(inside) if path.is_dir() and path not in reachable]
    files, errors = walk_files(start)
    assert not errors and files == sorted(files)
    assert sorted((start / path).resolve().parent for path in files) == sorted(reachable)
    for folder in reachable:  # a folder below the start has its own path
        if folder.is_relative_to(start):
            assert (folder / "file").relative_to(start).as_posix() in files
