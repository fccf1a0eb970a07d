"""Which labels of a data folder a trained model is sure are wrong, listed, and drawn for a cardiologist to look at."""

import csv
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.cleaning import CleaningSettings, disagreements, label_masks
from ecg.console import describe_error
from ecg.files import aside, save_figure
from ecg.headers import RecordError, read_header
from ecg.labels import ABBREVIATIONS, TRAINED, encode, encode_beside, source_of
from ecg.leads import lead_sets
from ecg.paper import draw_record
from ecg.progress import Progress
from ecg.reasons import printable, remove_record_name
from ecg.records import read_record, read_signal, some_records

TABLE = "disagreements.csv"
PICTURE = re.compile(r"[0-9]{2,}_.+_[A-Za-z]+\.png")
LONGEST_NAME = 50  # characters that a picture's name has of its record's, for that may be as long as names can
PICTURES = 20  # of the most confident disagreements, where no other number is asked for


METHOD = CleaningSettings()


class Disagreement(NamedTuple):
    """A label that a network is sure is wrong.

    path of the header, name of the record with the folders below the data folder that it is in, source, column of the
    26 classes, whether the class is labelled, the probability that the network gives it, and its probabilities of all
    classes (26,).
    """

    path: Path
    name: str
    source: str
    column: int
    labelled: bool
    probability: float
    probabilities: np.ndarray


class Answers(NamedTuple):
    """What a model says of n recordings, and why it says nothing of others.

    places of headers below the data folder (n,), labels (n, 26) bool, and of the Predictions (ecg.bundle) of the model
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


def review(model, data, output, omissions=METHOD.omissions, pictures=PICTURES, log=print):
    """Compare the labels of a data folder with what a model says, and return the number of disagreements.

    The folder `output` gets all of them in disagreements.csv, the most confident first, and a page of ECG paper for
    each of the first so many `pictures`; an earlier review there is replaced once all is written. A label is in it
    where training would mask it: present with a probability below 0.1, or absent with one above 0.9. Compared are
    the classes that the default trains, of these those for which the model's networks were asked, and in sources that
    omit some, these only where they are present; `omissions` are ecg.cleaning.Omission, the default's where none are
    given. Headers that tell no diagnosis, or by a model whose classes exclude each other another number of them than
    one, and recordings that cannot be read or answered, are left out; `log` takes a line for each of the last and those
    that sum it all up.

    Raises FileNotFoundError where `data` holds no header, FileExistsError where `output` holds what is of no review,
    and RecordError where no recording could be reviewed.
    """
    data, folder, excluded = Path(data), Path(output).resolve(), []
    paths = some_records(data, excluded)
    check_replaceable(folder)
    with aside(folder) as part:
        part.mkdir(parents=True)  # before the work, so that it is not lost where nothing can be written
        answers = ask(model, data, paths)
        failures = [printable(f"{names[0]}{f' and {len(names) - 1:,} more' if names[1:] else ''}: {reason}")
                    for reason, names in answers.failed.items()]  # fmt: skip
        if not answers.places:
            none = "none or several of classes that exclude each other" if answers.ambiguous else "no diagnosis"
            reason = failures[0] if failures else f"their headers tell {none}"
            raise RecordError(f"{data}: none of {len(paths):,} recordings can be reviewed, {reason}")
        failures += [printable(f"{place}: {reason}") for place, reason in excluded]
        for line in failures:
            log(line)

        masks = label_masks(answers.labels[:, TRAINED], answers.probabilities[:, TRAINED])
        compared, rows, found = compare_labels(data, *answers[:3], masks, omissions, asked=answers.asked)
        with open(part / TABLE, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            names, *lines = disagreement_table(found)
            csv.writer(file).writerows([names, *((*line, f"{probability:.6g}") for *line, probability in lines)])
        first = rows[:pictures]
        drawn = draw_disagreements(part, found[:pictures], answers.thresholds[first], log, answers.outputs[first])
    for line in summary_lines(answers, compared, found):
        log(line)
    log(printable(f"{output}: {TABLE} and {drawn:,} pictures"))
    return len(found)


def compare_labels(data, places, labels, probabilities, masks, omissions, most=None, asked=True):
    """Return which labels were compared, (n, 22) bool, the rows of the disagreements, (d,), and a list of these.

    The list is of Disagreement, the most confident first, the first `most` of them or all. Takes the places of n
    headers below the folder `data`, labels and probabilities (n, 26), and masks (n, 22), 0 where a label disagrees.
    What a source omits, by ecg.cleaning.Omission, is not compared where it is absent, nor is that for which no network
    was `asked`, (n, 26) bool.

    One rule of masks serves the networks of both rounds: by its loss, a network answers best with 0.9 where a class is
    38 times (round 1) or 42 times (round 2) as likely present as absent, with 0.1 where it is 3,800 or 1,300 times as
    likely absent.
    """
    sources = np.array([source_of(Path(place).stem) for place in places])
    compared = ((labels | ~omitted(sources, omissions)) & asked)[:, TRAINED]
    rows, columns = disagreements(np.where(compared, masks, 1), probabilities[:, TRAINED])
    rows, columns = rows[:most], TRAINED[columns[:most]]
    found = [
        Disagreement(data / places[row], str(Path(places[row]).with_suffix("")), str(sources[row]), column,
                     bool(labels[row, column]), float(probabilities[row, column]), probabilities[row])
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]  # fmt: skip
    return compared, rows, found


def check_replaceable(folder):
    """Raise FileExistsError where something lies in a folder, or in its place, that no review has left there."""
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    foreign = [name for name in names if name != TABLE and not PICTURE.fullmatch(name)]
    if names and (foreign or TABLE not in names):
        raise FileExistsError(f"{folder}: holds {(foreign or names)[0]}, which is of no review; choose another folder")


def ask(model, data, paths):
    """Return the Answers of a model folder to recordings of the folder `data`, of which one at a time is in memory."""
    from ecg.bundle import LeadSetError, ModelError, load_bundle

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
                    said = bundle.prediction(header, read_signal(path, header))
                    answers.append((place, encode(header.codes), *said))
                else:
                    ambiguous += 1
            except (RecordError, ModelError, OSError) as error:
                failed.setdefault(remove_record_name(describe_error(error), path), []).append(
                    str(Path(place).with_suffix(""))
                )
            progress.advance()
    places, *arrays = zip(*answers, strict=True) if answers else 6 * ((),)
    return Answers(list(places), *map(np.array, arrays), undiagnosed, ambiguous, failed)


def diagnosed(header):
    """Return whether a header tells a diagnosis, of whatever class: words, such as Unknown, are no codes."""
    return any(code.isdigit() for code in header.codes)


def comparable(bundle, codes):
    """Return whether a Bundle can agree with a header's codes: if its classes exclude each other, with one alone.

    Of two that are labelled it would have to deny one.
    """
    labels = np.concatenate([encode(codes), encode_beside(codes)])[bundle.ensemble.general.columns]
    return not bundle.rule.exclusive or labels.sum() == 1


def omitted(sources, omissions):
    """Return where a source says nothing of a class, by ecg.cleaning.Omission: sources (n,) -> (n, 26) bool."""
    unsaid = np.zeros((len(sources), len(ABBREVIATIONS)), bool)
    for rule in omissions:
        unsaid[np.ix_(np.isin(sources, rule.sources), rule.columns)] = True
    return unsaid


def disagreement_table(found):
    """Return disagreements as a table, in their order: rows, the first of them the names of the columns."""
    rows = [
        (
            rank,
            one.name,
            one.source,
            ABBREVIATIONS[one.column],
            "present" if one.labelled else "absent",
            one.probability,
        )
        for rank, one in enumerate(found, 1)
    ]
    return [("rank", "record", "source", "class", "label", "probability"), *rows]


def draw_disagreements(folder, found, thresholds, log=print, outputs=None):
    """Draw a page for each disagreement into a folder, RANK_RECORD_CLASS.png, and return how many were drawn.

    Of a long record's name the picture's has the first LONGEST_NAME characters.
    thresholds (26,), or (d, 26) for d disagreements, are marked beside the probabilities, but for those that are NaN;
    outputs (d, 26) bool are the classes that are answered, those that reach their thresholds where None. Recordings are
    read again; `log` takes a line for each that cannot be drawn.
    """
    thresholds = np.broadcast_to(thresholds, (len(found), len(ABBREVIATIONS)))
    if outputs is None:
        outputs = [one.probabilities >= limits for one, limits in zip(found, thresholds, strict=True)]
    digits, failures = max(len(str(len(found))), 2), []
    with Progress("drawing", len(found), "pages") as progress:
        for rank, one in enumerate(found, 1):
            try:
                header, recording = read_record(one.path)
                figure = draw_record(header, recording, 0.0, one.probabilities, thresholds[rank - 1],
                                     caption(one, header), one.column, outputs=outputs[rank - 1])  # fmt: skip
            except (RecordError, OSError) as error:
                failures.append(f"{one.name} cannot be drawn: {describe_error(error)}")
            else:
                name = one.name.replace("/", "_")[:LONGEST_NAME]
                save_figure(figure, Path(folder) / f"{rank:0{digits}}_{name}_{ABBREVIATIONS[one.column]}.png")
            progress.advance()
    for line in failures:
        log(printable(line))
    return len(found) - len(failures)


def caption(one, header):
    """Return in words what a disagreement is; where the label is not the header's, relabelling has put it there."""
    labelled = "labelled" if one.labelled else "not labelled"
    if encode(header.codes)[one.column] != one.labelled:
        labelled += " after relabelling"
    probability = f"{one.probability:.2f}"
    probability = {"0.00": "less than 0.01", "1.00": "more than 0.99"}.get(probability, probability)
    return f"{ABBREVIATIONS[one.column]} is {labelled}, and the network gives it {probability}"


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
