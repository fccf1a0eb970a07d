"""Train a system, and write its models and a report to a model folder."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import keras

from ecg.commands.reproduction import describe_start
from ecg.data.corrections import Corrections, describe_corrections, fingerprint_corrections, load_corrections
from ecg.data.leads import LEAD_SETS
from ecg.data.patients import (
    Patients,
    add_folds,
    add_patients,
    find_patients,
    find_published_folds,
    number_patients,
    record_names,
)
from ecg.data.records import find_records
from ecg.data.store import add_corrections, build_stores, check_trainable
from ecg.data.wave_peaks import intersect_stores, load_all_wave_peaks, neurokit_version
from ecg.models.bundle import Bundle, save_bundle
from ecg.models.config import model_files
from ecg.reports.model_card import MODEL_CARD
from ecg.reports.training_report import REPORT_PAGE, report_lines, write_report
from ecg.reports.training_tables import differing_settings
from ecg.runtime.cache import fingerprint, manifest_differences, read_manifest, write_manifest
from ecg.runtime.console import format_duration
from ecg.runtime.executors import ALL_CORES, Executor
from ecg.runtime.files import check_writable
from ecg.runtime.limits import TimeBudget
from ecg.runtime.locks import LOCK, lock_folder
from ecg.systems.folds import STRATA
from ecg.systems.method import train_system
from ecg.systems.recipes import RECIPES, Settings
from ecg.systems.results import Results
from ecg.systems.stage_runner import Peaks, StageRunner, Stores
from ecg.systems.training_manifest import describe_training, raise_if_different
from ecg.systems.training_overlap import REPORT_FOLDER
from ecg.training.trainer import TrainingError

LOGGER = logging.getLogger("ecg")

STAGES = "stages"  # folder in the model folder, until the training is finished
MANIFEST = "training.json"  # file in the model folder: recordings and settings, and whether the training is finished
FINISHED = "finished"
# What a training leaves in the model folder.
OUTPUT_PATTERNS = ("*_leads.json", "*_leads*.weights.h5", MODEL_CARD, REPORT_FOLDER)


def train(
    data: str | Path,
    model: str | Path,
    settings: Settings | None = None,
    runner_type: Callable[..., StageRunner] = StageRunner,
    groups: str | Path | None = None,
    corrections: str | Path | None = None,
    executor: Executor = ALL_CORES,
) -> Results | None:
    """Train a system, or resume an interrupted training, to the same result.

    Args:
        data: Data folder.
        model: Model folder, which gets the models and the report.
        settings: Settings of the system; those of the default system if None.
        runner_type: Makes the runner of the stages, with the arguments of a StageRunner.
        groups: Table of the patient of each recording (`ecg.data.patients`). A fold or split keeps the recordings of a
            patient together. None: each recording counts as a patient.
        corrections: Folder of reviews (`ecg.data.reviews`), which replace the headers' labels. None: there are none.
        executor: Reads and prepares the recordings.

    Returns:
        The results, or None if the folder holds the finished training already.

    Raises:
        FileNotFoundError: The data folder holds no header.
        RecordError: There are too few recordings or patients, or the table of patients or the corrections cannot be
            used.
        TrainingError: The loss is not finite, the memory is too small, or the model folder holds another training.
        BlockingIOError: Another process trains into the model folder.
        NeuroKitMissing: The system needs wave peaks, and NeuroKit2 is missing.
        ModelError: The model that the networks start from is damaged or of another architecture.
    """
    data, model = Path(data), Path(model)
    settings = keep_stratification(settings or Settings(), read_manifest(model / MANIFEST))
    if settings.peaks:
        neurokit_version()  # raises now instead of after the preprocessing
    manifest = describe_training(settings)  # raises now instead of after the preprocessing
    paths = find_records(data)
    manifest["records"] = fingerprint([path.relative_to(data).as_posix() for path in paths])
    names = record_names(data, paths)
    patients = find_patients(groups, data, paths) if names else None
    folds = find_published_folds(data, paths) if not groups else {}
    manifest["published_folds"] = fingerprint(folds) if folds else None
    manifest["patients"] = None if patients is None else fingerprint(number_patients(names, patients))
    votes = load_corrections(corrections, names, settings.class_table) if corrections and names else None
    manifest["corrections"] = fingerprint_corrections(votes)
    check_writable(model)
    check_model_folder(model, manifest)
    with lock_folder(model / STAGES):
        executor.check_shared(model / STAGES, paths[:1])
        inputs = TrainingInputs(data, patients, votes, folds)
        return run_training(inputs, model, settings, manifest, runner_type, executor)


class TrainingInputs(NamedTuple):
    """What a training reads.

    Attributes:
        data: Data folder.
        patients: The patients of the recordings; None: each recording counts as a patient.
        corrections: Reviewers' verdicts on labels; None: there are none.
        folds: Published folds of the recordings; empty if there are none.
    """

    data: Path
    patients: Patients | None = None
    corrections: Corrections | None = None
    folds: Mapping[str, int] = {}


def run_training(
    inputs: TrainingInputs,
    model: Path,
    settings: Settings,
    manifest: dict[str, Any],
    runner_type: Callable[..., StageRunner],
    executor: Executor,
) -> Results | None:
    """Body of `train`, run while the model folder is locked."""
    start, budget = time.monotonic(), TimeBudget(settings.hours)
    stages = model / STAGES
    finished, removed = stages / "finished", model / f".part.{STAGES}"
    for leftover in (finished, removed):  # an interrupted training may have left these
        shutil.rmtree(leftover, ignore_errors=True)
    LOGGER.info(f"Keras {keras.version()} on {keras.backend.backend()}, {', '.join(keras.distribution.list_devices())}")
    LOGGER.info(describe_settings(settings))
    if settings.weights is not None:
        LOGGER.info("thresholds, decisions and scores use your own weights")
    stores = prepare_stores(inputs.data, model, settings, manifest, executor)
    is_complete = all(model_files(model, count)[1].exists() for count in settings.lead_sets)
    if is_complete and FINISHED in read_manifest(model / MANIFEST):
        remove_folder(stages, removed)
        LOGGER.info(f"{model}: holds this training already; give an empty folder to train anew")
        return None
    peaks: Peaks = load_all_wave_peaks(stores, stages, executor) if settings.peaks else {}
    stores = add_corrections(add_folds(add_patients(stores, inputs.patients), inputs.folds), inputs.corrections)
    stores, peaks = intersect_stores(stores, peaks)
    if reviewed := next(iter(stores.values())).reviewed:
        LOGGER.info(describe_corrections(reviewed))
    runner = runner_type(stores, stages, settings.seed, budget, executor)
    system = train_system(settings, runner, peaks, inputs.data)
    results = system.results
    for count in results.searches:
        ensemble = system.ensemble(settings.leads_of(count))
        save_bundle(Bundle(LEAD_SETS[count], ensemble, results.rule(count), settings.system), finished)
    write_report(finished, results, results.settings, describe_start(settings, manifest))
    for line in report_lines(results):
        LOGGER.info(line)
    publish(finished, model)
    if settings.keep_stages:  # a training with other settings may use the stages
        (model / MANIFEST).unlink()
    else:
        write_manifest(model / MANIFEST, manifest | {FINISHED: True})
        remove_folder(stages, removed)
    LOGGER.info(f"{model}: {len(results.searches)} models after {format_duration(time.monotonic() - start)}")
    LOGGER.info(f"report: {model / REPORT_FOLDER / REPORT_PAGE}")
    LOGGER.info(f"model card: {model / MODEL_CARD}")
    return results


def keep_stratification(settings: Settings, manifest: Mapping[str, object]) -> Settings:
    """Return the settings with the folds of the training in a model folder.

    Args:
        settings: Settings that were given.
        manifest: Manifest of the model folder, empty if there is no training. That of an older version of the program
            does not name the stratification.
    """
    has_parts = bool(settings.folds or settings.splits)
    if has_parts and manifest and manifest.get("stratification", STRATA) == STRATA:
        return replace(settings, stratification=STRATA)
    return settings


def describe_settings(settings: Settings) -> str:
    """Describe a training's system and the settings that differ from the system's own."""
    _, *rows = differing_settings([RECIPES.get(settings.system, Settings()), settings], ("keep_stages",))
    changes = "; ".join(f"{name} {value} instead of {usual}" for name, usual, value in rows)
    return f"system {settings.system}: {changes or 'all settings are its own'}"


def prepare_stores(data: Path, model: Path, settings: Settings, manifest: dict[str, Any], executor: Executor) -> Stores:
    """Build or open the stores of a training, and write the manifest.

    The digests of the recordings are added to the manifest.
    """
    stores = build_stores(data, model / STAGES, settings.preparations, executor, settings.class_table,
                          settings.sources)  # fmt: skip
    check_trainable(data, list(stores.values())[-1], settings.classes)
    manifest["recordings"] = [store.digest for store in stores.values()]
    raise_if_different(manifest_differences(model / MANIFEST, manifest), model)
    write_manifest(model / MANIFEST, read_manifest(model / MANIFEST) | manifest)
    return stores


def remove_folder(folder: Path, temporary: Path) -> None:
    """Remove a folder; it is first renamed, so that it is gone at once, with its lock."""
    os.replace(folder, temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def check_model_folder(model: Path, manifest: dict[str, Any]) -> None:
    """Raise TrainingError if a model folder holds another training."""
    raise_if_different(manifest_differences(model / MANIFEST, manifest), model)
    unfinished = [path.name for path in model.glob(f"{STAGES}/*") if path.name != LOCK]
    outputs = sorted(path.name for pattern in OUTPUT_PATTERNS for path in model.glob(pattern))
    if outputs and not unfinished and not read_manifest(model / MANIFEST):
        raise TrainingError(f"{model}: holds {outputs[0]} of an unknown training; give an empty folder")


def publish(finished: Path, model: Path) -> None:
    """Replace the outputs in the model folder by those of a finished training."""
    for pattern in OUTPUT_PATTERNS[:-1]:
        for path in model.glob(pattern):
            path.unlink()
    shutil.rmtree(model / REPORT_FOLDER, ignore_errors=True)
    # The JSON file completes a model. It sorts before the weights, so reverse order moves it last.
    for path in sorted(finished.iterdir(), reverse=True):
        os.replace(path, model / path.name)
    finished.rmdir()
