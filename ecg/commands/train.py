"""From a data folder to a model folder: recordings stored, networks trained, models saved, a report written."""

import logging
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import keras

from ecg.data.leads import LEAD_SETS
from ecg.data.records import find_records
from ecg.data.store import build_stores, check_trainable
from ecg.data.wave_peaks import intersect_stores, load_all_wave_peaks, neurokit_version
from ecg.models.bundle import Bundle, model_files, save_bundle
from ecg.reports.training_report import REPORT_FOLDER, report_lines, write_report
from ecg.reports.training_tables import differing_settings
from ecg.runtime.cache import fingerprint, manifest_differences, read_manifest, write_manifest
from ecg.runtime.console import format_duration
from ecg.runtime.files import LOCK, check_writable, lock_folder
from ecg.systems.method import train_system
from ecg.systems.recipes import RECIPES, Settings
from ecg.training.checkpoint import Budget
from ecg.training.trainer import TrainingError

LOGGER = logging.getLogger("ecg")

STAGES = "stages"  # folder in the model folder, until all is done
MANIFEST = "training.json"  # file in it: of what recordings and settings the training there is, and whether it is ...
FINISHED = "finished"
OUTPUT_PATTERNS = ("*_leads.json", "*_leads*.weights.h5", REPORT_FOLDER)  # what a training leaves in the model folder
NOT_IN_FINGERPRINT = ("hours", "jobs", "keep_stages")  # settings with which an unfinished training may be taken up


def train(data, model, settings=None):
    """Train the networks of the method on a folder of recordings and leave them, with a report, in a model folder.

    A training that was cut off is taken up where it stood, and comes to the
    same; one that is done already is not done again. Returns the Results (ecg.systems.results), None where it was done already.
    Raises FileNotFoundError or RecordError where the data hold nothing to train on, TrainingError where a loss is not
    a number from the first epoch on, the memory is too small, or the model folder holds a training of other recordings
    or settings, finished or not, BlockingIOError where another process trains into it, and NeuroKitMissing where the
    recipe has peaks found and nothing finds them.
    """
    settings, model = settings or Settings(), Path(model)
    if settings.peaks:
        neurokit_version()  # which is missing now or never
    facts = {name: value for name, value in asdict(settings).items() if name not in NOT_IN_FINGERPRINT}
    facts["records"] = fingerprint([path.relative_to(data).as_posix() for path in find_records(data)])
    check_writable(model)
    check_model_folder(model, facts)
    with lock_folder(model / STAGES):
        return run_training(data, model, settings, facts)


def run_training(data, model, settings, facts):
    """Do what `train` says, in a model folder that no other process works in, of whose training these are the facts."""
    begun, budget = time.monotonic(), Budget(settings.hours)
    stages = model / STAGES
    finished, removed = stages / "finished", model / f".part.{STAGES}"
    for left in (finished, removed):  # by a training that was cut off
        shutil.rmtree(left, ignore_errors=True)
    LOGGER.info(f"Keras {keras.version()} on {keras.backend.backend()}, {', '.join(keras.distribution.list_devices())}")
    LOGGER.info(describe_settings(settings))
    stores = prepare_stores(data, model, settings, facts)
    whole = all(model_files(model, count)[1].exists() for count in settings.lead_sets)
    if whole and FINISHED in read_manifest(model / MANIFEST):
        remove_folder(stages, removed)
        LOGGER.info(f"{model}: holds what this training comes to already; give an empty folder to train anew")
        return None
    peaks = load_all_wave_peaks(stores, stages, settings.jobs) if settings.peaks else {}
    learnt = train_system(
        *intersect_stores(stores, peaks),
        settings,
        stages,
        data,
        budget,
    )
    results = learnt.results
    for count in results.searches:
        ensemble = learnt.ensemble(settings.leads_of(count))
        save_bundle(Bundle(LEAD_SETS[count], ensemble, results.rule(count), settings.system), finished)
    write_report(finished, results, learnt.settings)
    for line in report_lines(results):
        LOGGER.info(line)
    publish(finished, model)
    if settings.keep_stages:  # for a training with other settings
        (model / MANIFEST).unlink()
    else:
        write_manifest(model / MANIFEST, facts | {FINISHED: True})
        remove_folder(stages, removed)
    LOGGER.info(f"{model}: {len(results.searches)} models after {format_duration(time.monotonic() - begun)}")
    return results


def describe_settings(settings: Settings) -> str:
    """Describe a training's system and the settings that differ from the system's own."""
    _, *rows = differing_settings([RECIPES.get(settings.system, Settings()), settings], ("jobs", "keep_stages"))
    changes = "; ".join(f"{name} {value} instead of {usual}" for name, usual, value in rows)
    return f"system {settings.system}: {changes or 'all settings are its own'}"


def prepare_stores(data, model, settings, facts):
    """Read and prepare every recording once in each way, and write down in the model folder what is trained there.

    Returns a Store for each of the recipe's preparations. The facts get the digest of the recordings. Raises as `train`
    does, of recordings that are none to train on or others than were trained on here before.
    """
    stores = build_stores(data, model / STAGES, settings.preparations, settings.jobs)
    check_trainable(data, list(stores.values())[-1], settings.classes)
    facts["recordings"] = [store.digest for store in stores.values()]
    raise_if_different(manifest_differences(model / MANIFEST, facts), model)
    write_manifest(model / MANIFEST, read_manifest(model / MANIFEST) | facts)
    return stores


def remove_folder(folder, place):
    """Remove a folder, out of the way at once, its lock with it, for whoever comes next."""
    os.replace(folder, place)
    shutil.rmtree(place, ignore_errors=True)


def check_model_folder(model, facts):
    """Raise TrainingError where a model folder holds what is not of a training of these facts."""
    raise_if_different(manifest_differences(model / MANIFEST, facts), model)
    kept = [path.name for path in model.glob(f"{STAGES}/*") if path.name != LOCK]  # by a training that was cut off
    made = sorted(path.name for form in OUTPUT_PATTERNS for path in model.glob(form))
    if made and not kept and not read_manifest(model / MANIFEST):
        raise TrainingError(f"{model}: holds {made[0]}, and nothing says of what training; give an empty folder")


def raise_if_different(different, model):
    """Raise TrainingError where the training in a model folder differs from one that is to begin."""
    if different:
        data = different.keys() & {"records", "recordings"}
        told = ["other recordings"] if data else []
        for name in sorted(different.keys() - data):
            told.append("{} {!r}, not {!r}".format(name, *different[name]))
        raise TrainingError(f"{model}: holds a training of {', '.join(told)}; give an empty folder, "
                            f"or the same recordings and settings")  # fmt: skip


def publish(finished, model):
    """Move what a training came to into the model folder, in place of what an earlier one left there."""
    for form in OUTPUT_PATTERNS[:-1]:
        for old in model.glob(form):
            old.unlink()
    shutil.rmtree(model / REPORT_FOLDER, ignore_errors=True)
    # A description makes a model whole, and sorts before its weights: in reverse it comes after them.
    for new in sorted(finished.iterdir(), reverse=True):
        os.replace(new, model / new.name)
    finished.rmdir()
