from dataclasses import replace

import pytest

from ecg.data.labels import make_own_classes
from ecg.runtime.cache import manifest_differences, write_manifest
from ecg.systems.own_classes import use_classes
from ecg.systems.recipes import CAI2021
from ecg.systems.training_manifest import (
    FIT_MANIFEST,
    check_checkpoint_folder,
    describe_training,
    raise_if_different,
)
from ecg.training.trainer import TrainingError


@pytest.mark.parametrize(("settings", "reason"), [
    (replace(CAI2021, seed=1), "seed 2021, not 1"),
    (replace(CAI2021, training=replace(CAI2021.training, batch=3)), "training.batch 256, not 3"),
    (use_classes(CAI2021, make_own_classes(["a", "b"])), "other classes"),
    (replace(CAI2021, weights=tuple(map(tuple, (2 * CAI2021.weight_array).tolist()))), "other weights of the metric"),
])  # fmt: skip
def test_a_folder_of_a_training_with_other_settings_is_refused_with_the_difference(settings, reason, tmp_path):
    write_manifest(tmp_path / "m", describe_training(CAI2021))
    with pytest.raises(TrainingError, match=f"^{tmp_path}: holds a training of .*{reason}.*; give an empty folder, or"):
        raise_if_different(manifest_differences(tmp_path / "m", describe_training(settings)), tmp_path)


def test_a_training_may_go_on_with_another_time_limit(tmp_path):
    write_manifest(tmp_path / "m", describe_training(CAI2021))
    same = replace(CAI2021, hours=1.0, keep_stages=True)
    raise_if_different(manifest_differences(tmp_path / "m", describe_training(same)), tmp_path)


def test_a_checkpoint_folder_is_empty_or_missing_or_of_a_fit(tmp_path):
    for folder in (tmp_path / "missing", tmp_path):
        check_checkpoint_folder(folder)
    for name in ("lock", "store", "store_250_hz_unfiltered"):  # as a fit leaves them that was killed while it read
        (tmp_path / name).mkdir()
    check_checkpoint_folder(tmp_path)
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(TrainingError, match=f"^{tmp_path}: holds training.json, which is of no fit; give an empty"):
        check_checkpoint_folder(tmp_path)
    write_manifest(tmp_path / FIT_MANIFEST, {"seed": 1})
    check_checkpoint_folder(tmp_path)
    with pytest.raises(NotADirectoryError):
        check_checkpoint_folder(tmp_path / "training.json")
