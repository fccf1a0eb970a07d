"""Which labels of a data folder a trained model is sure are wrong, listed, and drawn for a cardiologist to look at."""

import csv
import logging
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data.headers import RecordError, read_header
from ecg.data.labels import ABBREVIATIONS, TRAINED, encode, encode_unscored
from ecg.data.leads import lead_sets
from ecg.data.preprocessing import correct_gains
from ecg.data.records import read_signal, require_records
from ecg.reports.ecg_paper import draw_disagreements
from ecg.reports.training_tables import disagreement_table
from ecg.runtime.console import Progress, describe_error, escape_unprintable, remove_record_name
from ecg.runtime.files import atomic_path
from ecg.systems.label_cleaning import MAX_DRAWN, CleaningSettings, compare_labels, label_masks

LOGGER = logging.getLogger("ecg")

TABLE = "disagreements.csv"
PICTURE = re.compile(r"[0-9]{2,}_.+_[A-Za-z]+\.png")


METHOD = CleaningSettings()


class ModelPredictions(NamedTuple):
    """What a model says of n recordings, and why it says nothing of others.

    places of headers below the data folder (n,), labels (n, 26) bool, and of the Predictions (ecg.models.bundle) of the model
    for their leads the probabilities, outputs, thresholds and asked, (n, 26) each; undiagnosed: how many headers tell
    no diagnosis; ambiguous: how many tell none or several of classes that exclude each other; failed: the names of
    other recordings by the reason.
    """

    places: list
    labels: np.ndarray
    probabilities: np.ndarray
    outputs: np.ndarray
    thresholds: np.ndarray
    asked: np.ndarray
    undiagnosed: int
    ambiguous: int
    failed: dict


def review(model, data, output, omissions=METHOD.partially_labelled, pictures=MAX_DRAWN, early_gains=False):
    """Compare the labels of a data folder with what a model says, and return the number of disagreements.

    The folder `output` gets all of them in disagreements.csv, the most confident first, and a page of ECG paper for
    each of the first so many `pictures`; an earlier review there is replaced once all is written. A label is in it
    where training would mask it: present with a probability below 0.1, or absent with one above 0.9. Compared are
    the classes that the default trains, of these those for which the model's networks were asked, and in sources that
    omit some, these only where they are present; with `early_gains`, the gains of early 2020 are corrected; `omissions` are ecg.systems.label_cleaning.PartiallyLabelledSource, the default's where none are
    given. Headers that tell no diagnosis, or by a model whose classes exclude each other another number of them than
    one, and recordings that cannot be read or answered, are left out; each of the last is logged, and a
    summary.

    Raises FileNotFoundError where `data` holds no header, FileExistsError where `output` holds what is of no review,
    and RecordError where no recording could be reviewed.
    """
    data, folder, excluded = Path(data), Path(output).resolve(), []
    paths = require_records(data, excluded)
    check_replaceable(folder)
    with atomic_path(folder) as part:
        part.mkdir(parents=True)  # before the work, so that it is not lost where nothing can be written
        answers = predict_records(model, data, paths, early_gains)
        failures = [escape_unprintable(f"{names[0]}{f' and {len(names) - 1:,} more' if names[1:] else ''}: {reason}")
                    for reason, names in answers.failed.items()]  # fmt: skip
        if not answers.places:
            none = "none or several of classes that exclude each other" if answers.ambiguous else "no diagnosis"
            reason = failures[0] if failures else f"their headers tell {none}"
            raise RecordError(f"{data}: none of {len(paths):,} recordings can be reviewed, {reason}")
        failures += [escape_unprintable(f"{place}: {reason}") for place, reason in excluded]
        for line in failures:
            LOGGER.info(line)

        masks = label_masks(answers.labels[:, TRAINED], answers.probabilities[:, TRAINED])
        compared, rows, found = compare_labels(data, *answers[:3], masks, omissions, asked=answers.asked)
        with open(part / TABLE, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            names, *lines = disagreement_table(found)
            csv.writer(file).writerows([names, *((*line, f"{probability:.6g}") for *line, probability in lines)])
        first = rows[:pictures]
        drawn = draw_disagreements(part, found[:pictures], answers.thresholds[first], answers.outputs[first],
                                   early_gains)  # fmt: skip
    for line in summary_lines(answers, compared, found):
        LOGGER.info(line)
    LOGGER.info(f"{output}: {TABLE} and {drawn:,} pictures")
    return len(found)


def check_replaceable(folder):
    """Raise FileExistsError where something lies in a folder, or in its place, that no review has left there."""
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    foreign = [name for name in names if name != TABLE and not PICTURE.fullmatch(name)]
    if names and (foreign or TABLE not in names):
        raise FileExistsError(f"{folder}: holds {(foreign or names)[0]}, which is of no review; choose another folder")


def predict_records(model, data, paths, early_gains=False):
    """Return the Answers of a model folder to recordings of the folder `data`, of which one at a time is in memory."""
    from ecg.models.bundle import LeadSetError, ModelError, load_bundle

    bundles, answers, failed, undiagnosed, ambiguous = {}, [], {}, 0, 0

    def bundle_for(leads):
        chosen = lead_sets(leads)  # which decides what is loaded
        if not chosen:
            raise LeadSetError(leads)
        if chosen not in bundles:
            try:
                bundles[chosen] = load_bundle(model, leads), ""
            except (ModelError, OSError) as error:  # kept, for it is the same for the next recording
                bundles[chosen] = None, describe_error(error)
        bundle, reason = bundles[chosen]
        if reason:
            raise ModelError(reason)
        return bundle

    with Progress("review", len(paths), "recordings") as progress:
        for path in paths:
            place = path.relative_to(data).as_posix()
            try:
                header = read_header(path)
                if not diagnosed(header):
                    undiagnosed += 1
                elif comparable(bundle := bundle_for(header.lead_names), header.codes):
                    recording = read_signal(path, header)
                    corrected = correct_gains(header, recording)[0] if early_gains else header
                    said = bundle.predict_recording(corrected, recording)
                    answers.append((place, encode(header.codes), *said))
                else:
                    ambiguous += 1
            except (RecordError, ModelError, OSError) as error:
                failed.setdefault(remove_record_name(describe_error(error), path), []).append(
                    str(Path(place).with_suffix(""))
                )
            progress.advance()
    places, *arrays = zip(*answers, strict=True) if answers else 6 * ((),)
    return ModelPredictions(list(places), *map(np.array, arrays), undiagnosed, ambiguous, failed)


def diagnosed(header):
    """Return whether a header tells a diagnosis, of whatever class: words, such as Unknown, are no codes."""
    return any(code.isdigit() for code in header.codes)


def comparable(bundle, codes):
    """Return whether a Bundle can agree with a header's codes: if its classes exclude each other, with one alone.

    Of two that are labelled it would have to deny one.
    """
    labels = np.concatenate([encode(codes), encode_unscored(codes)])[bundle.ensemble.general.columns]
    return not bundle.rule.exclusive or labels.sum() == 1


def summary_lines(answers, compared, found):
    """Return lines for the console: what was compared, (n, 22) bool, and what was found, by class."""
    records = len({one.path for one in found})
    lines = [
        f"{len(answers.places):,} recordings reviewed, {answers.undiagnosed:,} carry no diagnosis, "
        f"{sum(map(len, answers.failed.values())):,} cannot be read or answered",
        *[f"{answers.ambiguous:,} have none or several of the model's classes, which exclude each other"]
        * bool(answers.ambiguous),
        f"{compared.sum():,} labels compared, {len(found):,} disagreements in {records:,} recordings",
    ]
    table = [("class", "present", "doubted", "absent", "doubted")]
    for place, column in enumerate(TRAINED):
        doubted = [one.labelled for one in found if one.column == column]
        labels = answers.labels[compared[:, place], column]
        if doubted:
            counts = (labels.sum(), sum(doubted), (~labels).sum(), len(doubted) - sum(doubted))
            table.append((ABBREVIATIONS[column], *(f"{count:,}" for count in counts)))
    return [*lines, *("{:<7}{:>9}{:>9}{:>9}{:>9}".format(*row) for row in table if found)]
