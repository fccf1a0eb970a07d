"""Describe a training in its folder, and refuse the folder of another training."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ecg.data.class_tables import ClassTable
from ecg.models.config import FORMAT
from ecg.runtime.cache import fingerprint, read_manifest
from ecg.runtime.files import check_writable
from ecg.runtime.locks import LOCK
from ecg.systems.pretraining import load_initial_networks
from ecg.systems.recipes import Settings
from ecg.training.trainer import TrainingError

FIT_MANIFEST = "fit.json"  # file in a checkpoint folder: recordings, labels and settings of its fit
# Names in messages of those manifest entries that are too long to show.
UNSHOWN = {"records": "other recordings", "recordings": "other recordings",
           "labels": "other labels", "patients": "other groups of recordings",
           "published_folds": "other published folds", "weights": "other weights of the metric",
           "corrections": "other corrections of labels", "sources.sources": "other sources",
           **{f"class_table.{field.name}": "other classes" for field in fields(ClassTable)}}  # fmt: skip
NOT_IN_FINGERPRINT = ("hours", "keep_stages")  # settings that may differ when a run is resumed


def describe_training(settings: Settings) -> dict[str, Any]:
    """Return what the manifest of a training says of its settings.

    The weights identify the models to start from, not their folder.

    Args:
        settings: Settings of the system.

    Raises:
        ModelError: The model that the networks start from is damaged or of another architecture.
    """
    manifest = {name: value for name, value in asdict(settings).items() if name not in NOT_IN_FINGERPRINT}
    if settings.initial_model:
        networks = load_initial_networks(settings)
        manifest["initial_model"] = fingerprint(*(array for network in networks for array in network.arrays()))
    return manifest | {"model_format": FORMAT}


def raise_if_different(different: dict[str, tuple[Any, Any]], folder: Path) -> None:
    """Raise TrainingError if the manifest in a folder differs.

    Args:
        different: The result of `manifest_differences`.
        folder: Folder of the training.
    """
    if different:
        reasons = list(dict.fromkeys(reason for name, reason in UNSHOWN.items() if name in different))
        for name in sorted(different.keys() - UNSHOWN.keys()):
            reasons.append("{} {!r}, not {!r}".format(name, *different[name]))
        raise TrainingError(f"{folder}: holds a training of {', '.join(reasons)}; give an empty folder, "
                            f"or the same recordings and settings")  # fmt: skip


def check_checkpoint_folder(folder: Path) -> None:
    """Check that a folder is empty, missing or of a fit, and that it is writable.

    Args:
        folder: The checkpoint folder of `ecg.classifier.ECGClassifier`.

    Raises:
        TrainingError: It holds other files.
        OSError: It is no folder or not writable.
    """
    check_writable(folder)
    # A fit that was interrupted while it read recordings has not written its manifest yet.
    names = sorted(path.name for path in folder.glob("*") if not path.name.startswith((LOCK, "store", ".part.")))
    if names and not read_manifest(folder / FIT_MANIFEST):
        raise TrainingError(f"{folder}: holds {names[0]}, which is of no fit; give an empty folder")
