"""The secret that signs the cookies of reviewers."""

import fcntl
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from ecg.runtime import locks
from ecg.web.sessions import KEY_BYTES, KEY_FILE, load_signer


def test_servers_that_start_at_once_have_one_secret(tmp_path):
    count = 8
    barrier = Barrier(count)

    def start(folder):
        barrier.wait()
        return load_signer(folder)

    with ThreadPoolExecutor(count) as pool:
        for number in range(40):
            folder = tmp_path / str(number)
            signers = list(pool.map(start, [folder] * count))
            assert len({signer.key for signer in signers}) == 1
            assert load_signer(folder) == signers[0], "it is the one that is kept"


@pytest.mark.parametrize("content", [b"", b"x" * (KEY_BYTES - 1), b"x" * (KEY_BYTES + 1)])
def test_a_damaged_secret_is_replaced(tmp_path, content):
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    signer = load_signer(tmp_path)
    assert signer.key == path.read_bytes() and len(signer.key) == KEY_BYTES
    assert load_signer(tmp_path) == signer


def test_the_secret_is_for_its_owner_only_and_signs_names(tmp_path):
    signer = load_signer(tmp_path / "new")
    assert (tmp_path / "new" / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert signer.read(signer.sign("Błażej")) == "Błażej"
    assert signer.read(load_signer(tmp_path / "another").sign("Ann")) is None


def test_a_locked_secret_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0.1)
    load_signer(tmp_path)
    with open(tmp_path / KEY_FILE, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="locked by another program"):
            load_signer(tmp_path)
