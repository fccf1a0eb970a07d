"""From a data folder to a model folder: recordings stored, networks trained, models saved, a report written."""

import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import keras

from ecg.data.leads import LEAD_SETS
from ecg.data.records import find_records
from ecg.data.store import stores_of
from ecg.data.wave_peaks import in_all, neurokit_version, peaks_of
from ecg.models.bundle import Bundle, model_files, save_bundle
from ecg.reports.training_report import FOLDER as REPORT
from ecg.reports.training_report import summary_lines, write_report
from ecg.runtime.cache import claim, claimed, differences, fingerprint
from ecg.runtime.console import duration, say
from ecg.runtime.files import LOCK, check_writable, locked
from ecg.systems.method import learn
from ecg.systems.recipes import Settings
from ecg.training.checkpoint import Budget
from ecg.training.trainer import TrainingError

STAGES = "stages"  # folder in the model folder, until all is done
CLAIM = "training.json"  # file in it: of what recordings and settings the training there is, and whether it is ...
FINISHED = "finished"
MADE = ("*_leads.json", "*_leads*.weights.h5", REPORT)  # what a training leaves in the model folder
INDIFFERENT = ("hours", "jobs", "keep_stages")  # settings with which an unfinished training may be taken up


def train(data, model, settings=None, log=say):
    """Train the networks of the method on a folder of recordings and leave them, with a report, in a model folder.

    `log` takes each line of what is done. A training that was cut off is taken up where it stood, and comes to the
    same; one that is done already is not done again. Returns the Results (ecg.systems.results), None where it was done already.
    Raises FileNotFoundError or RecordError where the data hold nothing to train on, TrainingError where a loss is not
    a number from the first epoch on, the memory is too small, or the model folder holds a training of other recordings
    or settings, finished or not, BlockingIOError where another process trains into it, and NeuroKitMissing where the
    recipe has peaks found and nothing finds them.
    """
    settings, model = settings or Settings(), Path(model)
    if settings.peaks:
        neurokit_version()  # which is missing now or never
    facts = {name: value for name, value in asdict(settings).items() if name not in INDIFFERENT}
    facts["records"] = fingerprint([path.relative_to(data).as_posix() for path in find_records(data)])
    check_writable(model)
    see_that_free(model, facts)
    with locked(model / STAGES):
        return by_the_method(data, model, settings, facts, log)


def by_the_method(data, model, settings, facts, log):
    """Do what `train` says, in a model folder that no other process works in, of whose training these are the facts."""
    begun, budget = time.monotonic(), Budget(settings.hours)
    stages = model / STAGES
    finished, removed = stages / "finished", model / f".part.{STAGES}"
    for left in (finished, removed):  # by a training that was cut off
        shutil.rmtree(left, ignore_errors=True)
    log(f"Keras {keras.version()} on {keras.backend.backend()}, {', '.join(keras.distribution.list_devices())}")
    stores = claimed_stores(data, model, settings, facts, log)
    whole = all(model_files(model, count)[1].exists() for count in settings.lead_sets)
    if whole and FINISHED in claimed(model / CLAIM):
        put_away(stages, removed)
        log(f"{model}: holds what this training comes to already; give an empty folder to train anew")
        return None
    learnt = learn(*in_all(stores, peaks_of(stores, stages, settings, log)), settings, stages, data, log, budget)
    results = learnt.results
    for count in results.searches:
        ensemble = learnt.ensemble(settings.leads_of(count))
        save_bundle(Bundle(LEAD_SETS[count], ensemble, results.rule(count), settings.system), finished)
    write_report(finished, results, learnt.settings, log)
    for line in summary_lines(results):
        log(line)
    publish(finished, model)
    if settings.keep_stages:  # for a training with other settings
        (model / CLAIM).unlink()
    else:
        claim(model / CLAIM, facts | {FINISHED: True})
        put_away(stages, removed)
    log(f"{model}: {len(results.searches)} models after {duration(time.monotonic() - begun)}")
    return results


def claimed_stores(data, model, settings, facts, log):
    """Read and prepare every recording once in each way, and write down in the model folder what is trained there.

    Returns a Store for each of the recipe's preparations. The facts get the digest of the recordings. Raises as `train`
    does, of recordings that are none to train on or others than were trained on here before.
    """
    stores = stores_of(data, model / STAGES, settings, log)
    facts["recordings"] = [store.digest for store in stores.values()]
    see_that_none(differences(model / CLAIM, facts), model)
    claim(model / CLAIM, claimed(model / CLAIM) | facts)
    return stores


def put_away(folder, place):
    """Remove a folder, out of the way at once, its lock with it, for whoever comes next."""
    os.replace(folder, place)
    shutil.rmtree(place, ignore_errors=True)


def see_that_free(model, facts):
    """Raise TrainingError where a model folder holds what is not of a training of these facts."""
    see_that_none(differences(model / CLAIM, facts), model)
    kept = [path.name for path in model.glob(f"{STAGES}/*") if path.name != LOCK]  # by a training that was cut off
    made = sorted(path.name for form in MADE for path in model.glob(form))
    if made and not kept and not claimed(model / CLAIM):
        raise TrainingError(f"{model}: holds {made[0]}, and nothing says of what training; give an empty folder")


def see_that_none(different, model):
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
    for form in MADE[:-1]:
        for old in model.glob(form):
            old.unlink()
    shutil.rmtree(model / REPORT, ignore_errors=True)
    # A description makes a model whole, and sorts before its weights: in reverse it comes after them.
    for new in sorted(finished.iterdir(), reverse=True):
        os.replace(new, model / new.name)
    finished.rmdir()
