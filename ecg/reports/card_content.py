"""Write what a model card says about a training, from its results alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

import ecg
from ecg.data.corrections import CORRECTION_BIAS, describe_corrections
from ecg.data.patients import count_patients
from ecg.evaluation.metrics import metric_name
from ecg.evaluation.subgroups import FEWEST_CLASSES, FEWEST_OF_CLASS, FEWEST_RECORDINGS, SUBGROUP_SCORES
from ecg.models.decision import ARGMAX, EXPECTED_CREDIT, HALVES, THRESHOLDS, VOTE
from ecg.reports.card_tables import (
    ALL,
    FEWEST_NEGATIVES,
    FEWEST_POSITIVES,
    GROUPINGS,
    SPECIFICITIES,
    TOO_FEW,
    count_resamples,
    used_rows,
)
from ecg.reports.html_page import Cell
from ecg.reports.model_card import Bullets, CardSection, CardTable, Code, ModelCard
from ecg.reports.training_tables import Table
from ecg.runtime.console import format_estimate, pluralise
from ecg.systems.label_cleaning import describe_relabelling
from ecg.systems.results import CLEANED, CORRECTED, ORIGINAL, Results

RESEARCH = """It serves research: to study and compare methods that classify ECG recordings, and to find recordings
that deserve a second look. A person who reads ECGs must check what it predicts."""
NO_DEVICE = """It is not a medical device. No authority has approved it, and no clinical study has tested it. Do not
use it to diagnose, treat or monitor patients, nor to decide who is seen first."""
ESTIMATES = """A probability is an estimate, learned from labels of the recordings listed below. Some of these labels
may be wrong. If it predicts no class, the ECG need not be normal."""
UNKNOWN_ORIGIN = """The headers name neither recorders nor hospitals, countries or ethnic groups. The name of a record
tells its source, and nothing more is known. How well it works on recordings of other origin is not known."""
NO_PATIENTS = """It is not known which recordings are of one patient. If a patient has recordings for training and for
validation, the scores are too high and the intervals too narrow."""
KEPT_PATIENTS = """All recordings of a patient are in the same part, and the intervals are over patients."""
INITIALISED = """The networks started from a saved model. If that model was trained on some of the recordings that are
scored here, the scores are too high for this reason, too."""
CALIBRATION = """The expected calibration error is the mean distance between a probability and the share of
recordings that are given the class, over all classes, in ten bins. The calibration was fitted on the recordings that
are scored here, so that the error after it is too low. The probabilities that the model gives out are those before
calibration."""
LICENCE = """The program is under the BSD 2-Clause licence. The weights were computed from the recordings listed
above: whether they may be passed on depends on the licences of these."""
REPEATABLE = """The same recordings, settings, seed and versions give the same weights, on a CPU to the bit."""

TIME_LIMITED = "The training had a time limit, so that its result depends on the machine."


@dataclass(frozen=True)
class TrainingStart:
    """How a training was started.

    Attributes:
        code: Code that repeats it: a command line, or Python.
        language: Language of the code.
        facts: What else is needed to repeat it, such as digests, by name.
    """

    code: str
    language: str = "sh"
    facts: Mapping[str, str] = field(default_factory=dict)


def build_model_card(
    results: Results, tables: Mapping[str, Table], versions: Mapping[str, str], start: TrainingStart | None = None
) -> ModelCard:
    """Build the model card of a training.

    Args:
        results: What the training gave.
        tables: All tables by name, those of `card_tables` among them.
        versions: Versions of the packages in use.
        start: How the training was started; None: it is not known.
    """
    settings = results.settings
    title = f"Model card: {settings.system} for {', '.join(map(str, results.searches))} leads"
    names = {diagnosis.abbreviation: diagnosis.name for diagnosis in results.classes.diagnoses}
    classes = [f"{name} ({names[name]})" for name in settings.classes if name not in _silent_classes(results)]
    use = (RESEARCH, NO_DEVICE, f"It predicts: {', '.join(classes)}.", ESTIMATES)
    sections = [
        CardSection("Intended use", (Bullets(tuple(map(_join_lines, use))),)),
        CardSection("Limits", (Bullets(tuple(map(_join_lines, list_limits(results)))),)),
        CardSection("Model", (Bullets(tuple(describe_model(results))),)),
        CardSection("Decision", (Bullets(tuple(describe_decision(results))),)),
        CardSection("Recordings", tuple(describe_recordings(results, tables))),
        CardSection("Label cleaning", tuple(describe_cleaning(results, tables))),
        CardSection("Scores", tuple(describe_scores(results, tables))),
        CardSection("Sensitivity at fixed specificity", tuple(describe_operating_points(results, tables))),
        CardSection("Calibration", (_join_lines(CALIBRATION), _plain_card_table(
            tables["calibration"], "Expected calibration error by lead set"))),
        CardSection("Licence", (_join_lines(LICENCE),)),
        CardSection("Versions", (Bullets(tuple(
            f"{name} {version}" for name, version in {"reduced-lead-ecg": ecg.__version__, **versions}.items()
        )),)),
    ]  # fmt: skip
    if start:
        sections.append(CardSection("How to reproduce", tuple(describe_reproduction(results, start))))
    return ModelCard(title, tuple(sections))


def _join_lines(text: str) -> str:
    """Return a text of this module in one line."""
    return " ".join(text.split())


def _silent_classes(results: Results) -> list[str]:
    """Return the trained classes that are never among the predictions."""
    return [name for name in results.settings.classes if name not in results.classes.index]


def list_limits(results: Results) -> Iterator[str]:
    """Yield what a user of the model must know before trusting its scores."""
    settings, store = results.settings, results.store
    if untrained := [f"{name} ({title})" for name, _, title in results.classes.scored if name not in settings.classes]:
        yield f"It never predicts {', '.join(untrained)}, and cannot tell that they are absent."
    if silent := _silent_classes(results):
        yield f"{', '.join(silent)}: trained, but never among the predictions."
    if settings.exclusive:
        yield (f"Its probabilities add up to 1, as if its classes excluded each other. It was trained only on "
               f"recordings with exactly one of them, {len(used_rows(results)):,} of {len(store):,}.")  # fmt: skip
    yield from (f"{line[0].upper()}{line[1:]}." for line in results.limitations)
    yield from _list_unpredicted(results)
    yield describe_optimism(results)
    if not results.scored.all():
        yield (f"Only recordings of {', '.join(results.scored_sources)} are scored. The scores say nothing about other "
               f"sources.")  # fmt: skip
    if settings.initial_model:
        yield INITIALISED
    yield NO_PATIENTS if store.patients is None else KEPT_PATIENTS
    n_changed = int((results.scored_labels != store.labels[results.scored_rows]).sum())
    if n_changed:
        yield (f"{pluralise(n_changed, 'label')} of the scored recordings differ from the given ones, because rules or "
               f"networks have relabelled them. The scores by the given labels are listed, too.")  # fmt: skip
    present = np.unique(store.sources[used_rows(results)]).tolist()
    for rule in settings.cleaning.partially_labelled:
        if sources := [source for source in rule.sources if source in present]:
            yield (f"{', '.join(sources)}: labels only {', '.join(rule.labelled)}. Another class may be present there "
                   f"without a label. Its prediction then counts as wrong.")  # fmt: skip
    yield UNKNOWN_ORIGIN
    frequencies = store.frequencies[used_rows(results)]
    span = " to ".join(f"{frequency:g}" for frequency in dict.fromkeys((frequencies.min(), frequencies.max())))
    yield (f"It was trained on recordings of {span} Hz with the leads listed below. Other sampling frequencies, "
           f"electrode positions and recorders have not been tried.")  # fmt: skip


def _list_unpredicted(results: Results) -> Iterator[str]:
    """Yield the trained scored classes that are predicted in no scored recording."""
    parts = []
    for leads in results.searches if results.scored.any() else ():
        predicted = results.predictions(leads)
        index = results.classes.index
        scored = results.classes.select_scored(results.settings.classes)
        names = [name for name in scored if not predicted[:, index[name]].any()]
        if names:
            parts.append(f"{', '.join(names)} with {leads} leads")
    if parts:
        yield f"It predicts in none of the scored recordings: {'; '.join(parts)}."


def describe_optimism(results: Results) -> str:
    """Return why the scores are too high."""
    settings = results.settings
    used = {THRESHOLDS: "the thresholds of the decision", VOTE: "the thresholds of the decision",
            EXPECTED_CREDIT: "the calibration of the decision"}  # fmt: skip
    uses = ["when to stop the training", *([used[settings.decision]] if settings.decision in used else [])]
    scored = pluralise(int(results.scored.sum()), "validation recording")
    text = (f"The scores are of {scored}, not of an independent test set. The same recordings decided "
            f"{' and '.join(uses)}, so that the scores are too high.")  # fmt: skip
    if settings.n_parts > 1:
        text += (f" Each was predicted by those networks alone that were not trained on it. The model uses all "
                 f"{settings.n_parts}, which are not scored together.")  # fmt: skip
    return text


def describe_model(results: Results) -> Iterator[str]:
    """Yield what the networks are and how they were trained."""
    settings = results.settings
    for leads in results.searches:
        names = settings.leads_of(leads)
        yield f"{leads} leads: the networks use {', '.join(names)}."
    views, n_networks = [view.title for view in settings.views], settings.n_parts * len(settings.views)
    reasons = [f"one for each {'fold' if settings.folds else 'random split'}"] * (settings.n_parts > 1)
    reasons += [f"one for each window ({'; '.join(views)})"] * (len(views) > 1)
    is_shared = any(key.startswith("general/all") for key in results.ends)
    text = f"{pluralise(n_networks, 'network')} for {'all lead sets together' if is_shared else 'each lead set'}"
    mean = "; the probability is their mean" if n_networks > 1 else ""
    yield f"{text}{''.join(f', {reason}' for reason in reasons)}{mean}."
    for preparation in settings.preparations:
        band = "not filtered" if preparation.band is None else "filtered to {:g} to {:g} Hz".format(*preparation.band)
        yield f"Signals are resampled to {preparation.rate} Hz and {band}."
    if getattr(settings.network, "demographic_units", 0):
        yield "Age and sex are inputs, too."
    if settings.gate:
        yield (f"A further network tells whether a recording is of {settings.gate.source}. If so, as many other "
               f"networks predict, and only {', '.join(settings.gate.classes)}.")  # fmt: skip
    if settings.pretraining:
        yield f"Each network was first trained on {settings.pretraining.recordings:,} synthetic recordings."
    elif settings.initial_model:
        yield "The networks started from those of a saved model."
    if settings.augmentations:
        yield f"Recordings were changed at random in training: {', '.join(settings.augmentations)}."


def describe_decision(results: Results) -> Iterator[str]:
    """Yield how probabilities become predictions."""
    settings, metric = results.settings, metric_name(results.settings.weights, results.classes)
    yield {
        THRESHOLDS: f"A class is predicted if its probability reaches its threshold. The thresholds were searched for "
                    f"the highest {metric} on the scored recordings; they are in thresholds.csv.",
        HALVES: "A class is predicted if its probability is at least 0.5.",
        ARGMAX: "The most probable class alone is predicted.",
        EXPECTED_CREDIT: f"The set of classes with the highest expected {metric} is predicted, given calibrated "
                         f"probabilities.",
        VOTE: f"A class is predicted if more than half of the networks predict it. Each has thresholds of its own, "
              f"searched for the highest {metric} on the recordings that validated it; they are in thresholds.csv.",
    }[settings.decision]  # fmt: skip
    for first, second in settings.answer_pairs:
        yield f"Wherever {first} is predicted, {second} is, too."
    if settings.fallback:
        yield f"If no other class is predicted, {settings.fallback} is."


def describe_recordings(results: Results, tables: Mapping[str, Table]) -> Iterator[str | CardTable]:
    """Yield what the model was trained and scored on."""
    store, used = results.store, used_rows(results)
    text = f"{len(used):,} recordings were used; {len(store.excluded):,} were excluded, with reasons in excluded.csv."
    if len(store) > len(used):
        text += f" {len(store) - len(used):,} were not used, as they do not have exactly one of the classes."
    if results.settings.n_parts > 1:
        text += " A recording may train some networks and validate others; it then counts in both columns."
    if store.patients is not None:
        text += f" They are of {pluralise(count_patients(store.patients[used]), 'patient')}."
    yield text
    yield _grouped_card_table(tables["groups"], "Recordings by source, age and sex")
    yield _plain_card_table(
        tables["recording_properties"], "Sampling frequencies and leads of the files, lengths and ages"
    )


def describe_cleaning(results: Results, tables: Mapping[str, Table]) -> Iterator[str | Bullets | CardTable]:
    """Yield what was changed in the labels, and what training ignores."""
    settings, lines = results.settings, []
    if results.store.reviewed:
        lines.append(describe_corrections(results.store.reviewed))
    lines += [f"Implied: {second} is added wherever {first} is labelled." for first, second in settings.implies]
    lines += [
        f"Relabelling: {describe_relabelling(relabelling, results.classes)}." for relabelling in results.relabellings
    ]
    used = results.masks[used_rows(results)]
    reasons = [
        *["classes that a source does not label"] * settings.source_masks,
        *["labels that a first network contradicts"] * settings.cleaning.masks,
        *["labels that reviewers are unsure about"] * (results.store.reviewed is not None),
    ]
    if reasons:
        count, share = int((used == 0).sum()), float((used == 0).mean())
        lines.append(f"Ignored in training: {count:,} of {used.size:,} labels ({share:.1%}), which are "
                     f"{' or '.join(reasons)}.")  # fmt: skip
    yield Bullets(tuple(lines)) if lines else "The labels were used as they are."
    if len(tables["changed_labels"]) > 1:
        caption = "Labels of the recordings that were used: given, changed, and ignored in training"
        yield _plain_card_table(tables["changed_labels"], caption)


def describe_scores(results: Results, tables: Mapping[str, Table]) -> Iterator[str | CardTable]:
    """Yield the scores by group, with intervals."""
    drawn = "recordings" if results.store.patients is None else "patients"
    n_resamples = count_resamples(len(results.scored_rows))
    given = " Given labels are those of the headers." if ORIGINAL in results.shown_versions else ""
    given += f" {CORRECTION_BIAS}" if results.store.reviewed else ""
    titles = {CLEANED: "", CORRECTED: ", corrected labels", ORIGINAL: ", given labels"}
    metric = metric_name(results.settings.weights, results.classes)
    yield (f"In brackets or small letters: 95 % intervals over {drawn} ({n_resamples:,} bootstrap resamples), which do "
           f"not include the chance of the training.{given} The metric is the "
           f"{metric}. AUROC, AUPRC and F-measure are means over the trained classes "
           f"that at least {FEWEST_OF_CLASS} recordings of a group have and {FEWEST_OF_CLASS} lack. Groups differ in "
           f"these, so that their scores are not strictly comparable. A group has scores if it has at least "
           f"{FEWEST_RECORDINGS} scored recordings and {FEWEST_CLASSES} such classes.")  # fmt: skip
    rows = tables["group_scores"]
    for number, leads in enumerate(results.searches):
        groups: dict[str, list[list[Cell]]] = {}
        for row in (row for row in rows[1:] if row[0] == leads):
            _, version, grouping, name, n_recordings, n_classes, *values, note = row
            title = f"all {name}" if grouping == ALL else name
            cells = [Cell(title + titles[version]), Cell(f"{n_recordings:,}"), Cell(str(n_classes))]
            group = "" if grouping == ALL else grouping.capitalize()
            groups.setdefault(group, []).append(cells + _score_cells(values, note))
        header = ("", "recordings", "classes", *SUBGROUP_SCORES)
        yield CardTable(f"Scores with {leads} leads", header, groups, number > 0)


def _score_cells(values: Sequence[float | None], note: str) -> list[Cell]:
    """Return a cell for each value with its interval, given by threes."""
    if note == TOO_FEW:
        return [Cell(TOO_FEW)] + [Cell("")] * (len(values) // 3 - 1)
    numbers = [np.nan if value is None else value for value in values]
    return [Cell(*format_estimate(numbers[index : index + 3])) for index in range(0, len(numbers), 3)]


def describe_operating_points(results: Results, tables: Mapping[str, Table]) -> Iterator[str | CardTable]:
    """Yield the sensitivity of each class at fixed specificities, with intervals."""
    text = (f"For each class, the threshold of its probability whose specificity on the scored recordings is at least "
            f"the given one and whose sensitivity is highest. The threshold was chosen on these recordings, so that "
            f"other recordings may give less. There is none if even the highest probability among the recordings with "
            f"the class does not reach the specificity. The intervals choose it anew in each resample. A class has "
            f"values if at least {FEWEST_POSITIVES} scored recordings have it and {FEWEST_NEGATIVES} lack it."
            )  # fmt: skip
    if results.settings.n_parts > 1:
        text += " The thresholds are of networks that were not trained on the recording, not of all together."
    yield text
    for number, leads in enumerate(results.searches):
        by_class: dict[str, list[Cell]] = {}
        for row in tables[f"operating_points_{leads}_leads"][1:]:
            name, positives, negatives, _, *values, note = row
            cells = by_class.setdefault(name, [Cell(name), Cell(f"{positives:,}"), Cell(f"{negatives:,}")])
            threshold, _, sensitivity = _score_cells(values, "")
            cells += (
                [Cell(TOO_FEW), Cell("")]
                if note == TOO_FEW
                else [sensitivity, Cell("none" if values[0] is None else threshold.text)]
            )
        names = [
            name
            for specificity in SPECIFICITIES
            for name in (f"sensitivity at specificity {specificity:.2f}", "threshold")
        ]
        header = ("class", "with", "without", *names)
        yield CardTable(f"Sensitivity with {leads} leads", header, {"": [*by_class.values()]}, number > 0)


def describe_reproduction(results: Results, start: TrainingStart) -> Iterator[str | Code | Bullets]:
    """Yield how the training is repeated."""
    yield "DATA is the folder of recordings, MODEL a new folder; other names in capital letters are files of the user."
    yield Code(start.code, start.language)
    facts = {"seed": str(results.settings.seed), **start.facts}
    yield Bullets(tuple(f"{name}: {value}" for name, value in facts.items()))
    yield REPEATABLE if results.settings.hours is None else TIME_LIMITED


def _grouped_card_table(table: Table, caption: str) -> CardTable:
    """Return a table of counts whose first column names the group of a row."""
    groups: dict[str, list[list[Cell]]] = {"" if name == ALL else name.capitalize(): [] for name in GROUPINGS}
    for grouping, name, *counts in table[1:]:
        title = f"all {name}" if grouping == ALL else name
        groups["" if grouping == ALL else grouping.capitalize()].append([Cell(title), *map(_count_cell, counts)])
    return CardTable(caption, ("", *table[0][2:]), groups)


def _plain_card_table(table: Table, caption: str) -> CardTable:
    """Return a table of values."""
    return CardTable(caption, table[0], {"": [[*map(_count_cell, row)] for row in table[1:]]})


def _count_cell(value: object) -> Cell:
    if isinstance(value, float):
        return Cell(format_estimate((value, np.nan, np.nan))[0])
    return Cell("n/a" if value is None else f"{value:,}" if isinstance(value, int) else str(value))
