"""Systems trained on the same recordings within the same time, and what each says of those held out."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from errno import ENOMEM
from importlib.metadata import version
from pathlib import Path
from traceback import format_exception

import keras
import numpy as np

from ecg.commands.holdout import UNDONE, Protocol, predict_held_out
from ecg.commands.train import NOT_IN_FINGERPRINT
from ecg.data.headers import RecordError
from ecg.data.labels import DISCARDED_SOURCES, source_of
from ecg.data.records import require_records
from ecg.data.store import Store, build_stores, check_trainable
from ecg.data.wave_peaks import NeuroKitMissing, intersect_stores, load_all_wave_peaks, neurokit_version
from ecg.evaluation.bootstrap import Comparison, SystemResult
from ecg.reports.comparison_report import COMPARISON_FOLDER, write_comparison
from ecg.reports.training_report import package_versions
from ecg.reports.training_tables import differing_settings
from ecg.runtime.cache import KEY_LENGTH, ResultCache, fingerprint, folder_name, source_hash
from ecg.runtime.console import (
    abbreviated_list,
    describe_error,
    format_duration,
    group_reasons,
    pluralise,
    start_logging,
)
from ecg.runtime.files import check_writable, lock_folder
from ecg.runtime.keras_startup import start_keras
from ecg.runtime.processes import run_in_subprocess
from ecg.systems.method import train_system
from ecg.systems.recipes import AS_LABELLED, Settings
from ecg.training.checkpoint import Budget
from ecg.training.trainer import TrainingError, translate_out_of_memory

LOGGER = logging.getLogger("ecg")

STAGES = "stages"  # folder in the report's, for stores and what each system has answered
NETWORKS_OF = "networks"  # in that of what is held out, folders of what is trained meanwhile
ANSWERS = "answers"  # what a StageFolder keeps of a system and what is held out
# Folders that decide what a system predicts.
PROGRAM = ("data", "evaluation", "models", "training", "systems", "commands")


def compare(data, report, protocol=None):
    """Train systems on a data folder, score each on what it has not learnt from, and write it all into a folder.

    Each system and part held out is a process of its own, which says on standard output how it goes, and whose memory
    ends with it. What is done is kept, and not done again where the comparison is taken up. A system that fails, of
    whatever, ends alone: the others are compared. Returns the Comparison (ecg.evaluation.bootstrap). Raises FileNotFoundError or
    RecordError where the data hold nothing to train on or change meanwhile, NeuroKitMissing as ecg.commands.train.train,
    BlockingIOError where another process compares in the folder, OSError such as of a full disk, and TrainingError
    where a system has failed, when all else is done.
    """
    protocol, report = protocol or Protocol(), Path(report)
    check_peaks_can_be_found(protocol.systems)
    sources = [source_of(path.stem) for path in require_records(data)]
    protocol.is_left_out([source for source in sources if source not in DISCARDED_SOURCES])  # told before hours of work
    for folder in (report, report / COMPARISON_FOLDER):
        check_writable(folder)
    with lock_folder(report / STAGES):
        return run_comparison(data, report, protocol)


class RecordingsChanged(RecordError):
    """The recordings are others than when the comparison was begun, which is no fault of the system that meets it."""


def check_peaks_can_be_found(systems):
    """Raise NeuroKitMissing, now and not after hours, where one of the systems needs what is not installed."""
    if needing := [one for one in systems if one.peaks]:
        try:
            neurokit_version()
        except NeuroKitMissing as error:
            names = ", ".join(one.system for one in needing)
            raise NeuroKitMissing(f"{error}, or leave {names} out of --systems") from None


@dataclass
class SystemRun:
    """A system that is compared: its Settings, what it says of each part (see `answered`), and why it has failed.

    The latter is a text, empty as long as it has not.
    """

    settings: Settings
    said: list = field(default_factory=list)
    failed: str = ""


def run_comparison(data, report, protocol):
    """Do what `compare` says, in a folder that no other process works in."""
    stages, entrants = report / STAGES, [SystemRun(protocol.settings(system)) for system in protocol.systems]
    every = Settings(
        views=tuple(dict.fromkeys(view for one in entrants for view in one.settings.views)), cleaning=AS_LABELLED,
        classes=tuple(dict.fromkeys(name for one in entrants for name in one.settings.classes)), jobs=protocol.jobs,
    )  # fmt: skip
    stores, waves = build_stores(data, stages, every.preparations, every.jobs), {}
    check_trainable(data, list(stores.values())[-1], every.classes)
    digests = {preparation: each.digest for preparation, each in stores.items()}
    dropped = merge_excluded(stores.values())
    for one in entrants:
        if one.settings.peaks:
            waves |= load_all_wave_peaks(select_stores(stores, one.settings), stages, protocol.jobs)
    stores, waves = intersect_stores(stores, waves)
    store = next(iter(stores.values()))
    parts = protocol.held_out(store)
    for one in entrants:
        one.failed = protocol.untrainable_reason(one.settings, store, parts)
        if one.failed:
            LOGGER.info(f"{one.settings.system} cannot be trained, {one.failed}")
    # Of those that can be trained, so that it is the same where the others are not named.
    trained = sum(not one.failed for one in entrants)
    hours = protocol.share(max(trained, 1))
    share = f", {format_duration(3600 * hours)} for each in each part" if hours else ""
    if trained:
        LOGGER.info(f"{pluralise(trained, 'system')}, {pluralise(len(parts), 'part')} to be held out{share}")
    for key, title, part in zip(protocol.keys, protocol.titles, parts, strict=True):
        networks = stages / folder_name(key) / f"{NETWORKS_OF}_{fingerprint(part, hours)[:KEY_LENGTH]}"
        going = [one for one in entrants if not one.failed]
        for one in going:
            kept = result_cache(one.settings, key, part, stores, waves, hours, stages)
            given = data, stages, every, one.settings, digests, part, hours, networks, kept
            run_fold(one, title, given, len(store) - len(part))
        if not any(one.failed for one in going):  # which may be taken up
            for folder in networks.parent.glob(f"{NETWORKS_OF}_*"):  # those within another time, too
                shutil.rmtree(folder)
    done = [one for one in entrants if not one.failed]
    reasons = "; ".join(f"{one.settings.system}, {one.failed}" for one in entrants if one.failed)
    if not done:
        raise TrainingError(f"no system is trained: {reasons}")
    systems = [one.settings for one in done]
    comparison = collect_results(store, parts, systems, [one.said for one in done])
    facts = describe_comparison(data, protocol, hours, systems, store, dropped, reasons)
    facts |= {f"not done by {one.settings.system}, {title}": "; ".join(said[UNDONE].tolist()) for one in done
              for title, said in zip(protocol.titles, one.said, strict=True) if said[UNDONE].size}  # fmt: skip
    path = write_comparison(report, comparison, facts, seed=protocol.seed)
    LOGGER.info(f"{path}: {pluralise(len(systems), 'system')}, {pluralise(len(protocol.lead_sets), 'lead set')}")
    if reasons:
        raise TrainingError(f"{path} is without what failed: {reasons}")
    return comparison


def run_fold(one, title, given, learnt_from):
    """Have an Entrant answer for the part of that title, or say why it has failed; `given` is what `answered` takes.

    It is not asked again for what is kept. Raises RecordingsChanged, and OSError such as of a full disk, which the
    others would meet, too.
    """
    *_, part, _, _, kept = given
    result, place = kept.load(ANSWERS), f"{one.settings.system}, {title}"
    if result is None:
        LOGGER.info(f"{place}: {learnt_from:,} recordings to learn from, {len(part):,} held out")
        try:
            result = run_in_subprocess(train_and_predict, *given, prepare=start_keras)
        except RecordingsChanged:
            raise
        except (TrainingError, RecordError, ChildProcessError) as error:
            one.failed = f"{title}: {describe_error(error)}"
        except OSError as error:
            if error.errno != ENOMEM:
                raise
            one.failed = f"{title}: {describe_error(error)}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it has ended that process alone, and is told in full
            one.failed = f"{title}: {describe_error(error)}"
            for line in "".join(format_exception(error)).splitlines():
                LOGGER.info(line)
    else:
        LOGGER.info(f"{place}: done before")
    if one.failed:
        LOGGER.info(f"{place}: failed, {one.failed.removeprefix(f'{title}: ')}")
    else:
        one.said.append(result)


def merge_excluded(stores):
    """Return what is left out of at least one of several stores of the same data: pairs of a name and a reason."""
    first, *others = stores
    told = dict(first.excluded)
    pairs = dict(pair for one in others for pair in one.excluded if pair[0] not in told)
    return (*first.excluded, *pairs.items())


def select_stores(stores, system):
    """Return those of the stores, by their Preparation, that a system learns from."""
    return {one: stores[one] for one in system.preparations}


def result_cache(system, key, part, stores, waves, hours, stages):
    """Return the StageFolder of what a system says of a part of that key, (n,) places in stores, which have peaks.

    The mark has the hours, too, so that nothing trained within one is taken for what is trained within another.
    """
    facts = {name: value for name, value in asdict(system).items() if name not in NOT_IN_FINGERPRINT}
    backend = keras.backend.backend()
    makers = (source_hash(*PROGRAM), keras.version(), backend, version(backend))
    own = select_stores(stores, system)
    found = [array for one in own if system.peaks
             for array in (waves[one].starts, waves[one].samples, waves[one].waves)]  # fmt: skip
    mark = fingerprint([store.digest for store in own.values()], facts, part, hours, *makers, *found)
    return ResultCache(stages / folder_name(key) / f"{system.system}_{mark[:KEY_LENGTH]}", mark)


def train_and_predict(data, stages, every, system, digests, part, hours, networks, kept):
    """Train a system on all recordings but a part, (n,) places, and return what it says of that, a dict of arrays.

    It is as ecg.commands.holdout.predict_held_out has it, and is kept in a StageFolder. `every` are settings with the views of all systems,
    whose stores are in the folder `stages`, with these digests by their Preparation; `networks` is that of what is
    trained for this part, which systems share that train the same. Raises RecordingsChanged.
    """
    stores = build_stores(data, stages, every.preparations, every.jobs)
    if {preparation: store.digest for preparation, store in stores.items()} != digests:
        raise RecordingsChanged(f"{data}: recordings have changed since the comparison was begun")
    waves = load_all_wave_peaks(select_stores(stores, system), stages, system.jobs) if system.peaks else {}
    shared, waves = intersect_stores(stores, waves)
    stores = select_stores(shared, system)
    start_logging(f"{system.system}: ")  # only now, because the first process has logged what the stores hold
    learning = np.setdiff1d(np.arange(len(next(iter(stores.values())))), part)
    with translate_out_of_memory(system.system):
        learnt = train_system({one: store.subset(learning) for one, store in stores.items()},
                       {one: each.select_recordings(learning) for one, each in waves.items()},
                       system, networks, data, Budget(hours, cumulative=True))  # fmt: skip
        result = predict_held_out(learnt, system, stores, part)
    kept.save(ANSWERS, result)
    return result


def collect_results(store, parts, systems, found):
    """Return the Comparison of what systems said, a list of dicts for each (see `answered`), of parts of a store."""
    places = np.concatenate(parts)
    order = np.argsort(places)
    numbers = np.concatenate([np.full(len(part), number + 1) for number, part in enumerate(parts)])
    trials = []
    for system, results in zip(systems, found, strict=True):
        for count in system.lead_sets:
            said = {
                field: np.concatenate([result[f"{count} {name}"] for result in results])[order]
                for field, name in (("probabilities",) * 2, ("predictions", "answers"), ("optimised",) * 2)
            }
            costs = np.array([result[f"{count} costs"] for result in results])
            parameters, answering, training, networks, epochs, _ = costs.mean(axis=0)
            trials.append(SystemResult(system.system, count, **said, parameters=round(parameters), training_seconds=training,
                                prediction_seconds=answering, classes=system.classes, networks=round(networks),
                                epochs=round(epochs), time_limited=round(costs[:, -1].sum())))  # fmt: skip
    chosen = places[order]
    return Comparison(store.as_scored[chosen], store.sources[chosen], numbers[order], tuple(trials))


def describe_comparison(
    data: Path,
    protocol: Protocol,
    hours: float | None,
    systems: Sequence[Settings],
    store: Store,
    excluded: Sequence[tuple[str, str]],
    failed: str = "",
) -> dict[str, object]:
    """Collect what the report of a comparison states besides what was measured.

    Args:
        data: Folder of the recordings.
        protocol: How the systems were compared.
        hours: Time limit of each system and fold, or None.
        systems: Settings of the systems in the report.
        store: The recordings that were used.
        excluded: Name and reason of each recording that was not used.
        failed: Which systems failed, and why.

    Returns:
        By name a string, a number, or a table.
    """
    held_out = f"each of {protocol.folds} folds in turn"
    if protocol.leave_out:
        held_out = f"all of {', '.join(np.unique(store.sources[protocol.is_left_out(store.sources)]).tolist())}"
    reasons = [f"{len(names):,}: {reason} ({abbreviated_list(names)})" for reason, names in group_reasons(excluded)]
    versions = package_versions()
    if any(system.peaks for system in systems):
        versions["neurokit2"] = neurokit_version()
    options = {
        "maximum epochs of each network": protocol.epochs or "as each system has them",
        "maximum batch size": protocol.batch,
        "precision": protocol.precision,
        **{f"{name} of networks that have one": size for name, size in protocol.sizes.items()},
        "failed": failed or None,
    }
    return {
        "data": str(data),
        "recordings used": len(store),
        "recordings excluded": "; ".join(reasons) or "none",
        "held out": held_out,
        "time limit of each system and fold": "none" if hours is None else format_duration(3600 * hours),
        **{name: value for name, value in options.items() if value is not None},
        "seed": protocol.seed,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "settings that differ": differing_settings(systems),
    }
