"""Disks that are full or read-only, as small file systems in memory, which only root can mount."""

import errno
import shutil
import subprocess

import numpy as np
import pytest
from result_helpers import get_network, make_bundle

from ecg.commands.predict import predict_folder
from ecg.commands.train import Settings, train
from ecg.data.leads import LEAD_SETS
from ecg.data.store import build_store, open_store
from ecg.data.synthetic import synthesize
from ecg.models.bundle import load_bundle, save_bundle
from ecg.runtime.cache import ResultCache, write_manifest
from ecg.runtime.executors import ONE_PROCESS
from ecg.runtime.files import atomic_path
from helper_code import save_outputs


class Disk:
    """A small disk: its folder, and a way to mount it anew with other options."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.mounted = self.mount("size=256k")

    def mount(self, options):
        known = ["remount,", ""][not getattr(self, "mounted", False)]
        given = ["mount", "-t", "tmpfs", "-o", known + options, "tmpfs", self.folder]
        return shutil.which("mount") is not None and subprocess.run(given, capture_output=True).returncode == 0

    def fill(self):
        """Write a file that takes all the room there is."""
        with open(self.folder / "filler", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "disk")
    if not disk.mounted:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", disk.folder], check=True)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def bundle_of(small_network, value):
    network = small_network.build(2, None, 22)
    network.set_weights([np.full_like(array, value) for array in network.get_weights()])
    return make_bundle(LEAD_SETS[2], small_network, np.full(26, 0.5), network)


def write_bundle(folder, small_network, value):
    save_bundle(bundle_of(small_network, value), folder)


def write_stage(folder, small_network, value):
    ResultCache(folder / "stage", "mark").save("result", {"x": np.full(9000, value)})


def write_outputs(folder, small_network, value):
    save_outputs(folder / "A0001.csv", "A0001", ("1",) * 9000, (0,) * 9000, (value,) * 9000)


def write_claim(folder, small_network, value):
    write_manifest(folder / "training.json", {str(n): f"{value}" * 25 for n in range(700)})


def write_folder(folder, small_network, value):
    with atomic_path(folder / "report") as part:
        part.mkdir()
        (part / "table.csv").write_text(str(value) * 20_000)


@pytest.mark.parametrize("write", [write_bundle, write_stage, write_outputs, write_claim, write_folder])
def test_a_full_disk_is_reported_and_leaves_what_was_there(disk, small_network, write):
    write(disk.folder, small_network, 0.25)
    before = files(disk.folder)
    disk.fill()
    with pytest.raises(OSError, match=str(disk.folder)) as caught:
        write(disk.folder, small_network, 0.75)
    assert "No space left" in str(caught.value)
    assert {name: content for name, content in files(disk.folder).items() if name != "filler"} == before
    (disk.folder / "filler").unlink()
    write(disk.folder, small_network, 0.75)
    assert files(disk.folder).keys() == before.keys() and files(disk.folder) != before


@pytest.mark.parametrize("write", [write_bundle, write_stage, write_outputs, write_claim, write_folder])
def test_a_read_only_disk_is_reported(disk, small_network, write):
    assert disk.mount("ro")
    with pytest.raises(OSError, match=str(disk.folder)) as caught:
        write(disk.folder, small_network, 0.25)
    assert caught.value.errno == errno.EROFS


def test_a_store_that_does_not_fit_is_no_store(disk, synthetic_recordings):
    with pytest.raises(OSError, match=f"No space left on device: '{disk.folder}/store/shard_"):
        build_store(synthetic_recordings, disk.folder / "store", executor=ONE_PROCESS)
    assert files(disk.folder) == {}  # not even the first shard fits
    with pytest.raises(FileNotFoundError):
        open_store(disk.folder / "store")
    assert disk.mount("size=64m")
    assert (
        len(build_store(synthetic_recordings, disk.folder / "store", executor=ONE_PROCESS))
        == len(open_store(disk.folder / "store"))
        > 0
    )


def test_a_training_on_a_read_only_disk_ends_before_it_begins(disk, synthetic_recordings):
    assert disk.mount("ro")
    with pytest.raises(OSError, match=f"Read-only file system: '{disk.folder}/model") as caught:
        train(synthetic_recordings, disk.folder / "model", Settings())
    assert caught.value.errno == errno.EROFS


def test_a_model_that_was_saved_before_the_disk_was_full_still_predicts(disk, small_network):
    write_bundle(disk.folder, small_network, 0.25)
    disk.fill()
    with pytest.raises(OSError):
        write_bundle(disk.folder, small_network, 0.75)
    weights = get_network(load_bundle(disk.folder, LEAD_SETS[2])).get_weights()
    assert all((array == 0.25).all() for array in weights)


def test_predictions_on_a_disk_that_fills_up_end_with_its_error_and_go_on_later(disk, small_network, tmp_path):
    model, outputs = tmp_path / "model", disk.folder / "outputs"
    write_bundle(model, small_network, 0.01)
    synthesize(tmp_path / "data", 12, seed=1)
    disk.fill()
    with open(disk.folder / "filler", "r+b") as file:
        file.truncate((disk.folder / "filler").stat().st_size - 10 * 4096)
    with pytest.raises(OSError, match="No space left") as full:
        predict_folder(model, tmp_path / "data", outputs, ONE_PROCESS)
    assert str(full.value.filename).startswith(str(outputs))
    written = list(outputs.glob("*.csv"))
    assert 0 < len(written) < 12 and all(path.read_text().count("\n") == 4 for path in written)
    (disk.folder / "filler").unlink()
    assert predict_folder(model, tmp_path / "data", outputs, ONE_PROCESS)
    assert predict_folder(model, tmp_path / "data", tmp_path / "whole", ONE_PROCESS)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.csv")}
    assert {path.name: path.read_bytes() for path in outputs.glob("*.csv")} == expected and len(expected) == 12
