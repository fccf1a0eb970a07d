"""Tables of a model card: groups of recordings, their scores, operating points."""

from collections.abc import Iterator, Sequence

import numpy as np

from ecg.data.leads import LEADS
from ecg.data.patients import count_patients
from ecg.data.preprocessing import OLDEST, SEXES
from ecg.evaluation.bootstrap import RESAMPLES, Estimates, draw_resamples
from ecg.evaluation.operating_points import estimate_operating_point
from ecg.evaluation.subgroups import SUBGROUP_SCORES, ScoredRecordings, estimate_scores
from ecg.reports.training_tables import Table
from ecg.systems.results import CLEANED, Results

SPECIFICITIES = (0.90, 0.95)
# A class with fewer recordings, or absent from fewer, has no operating points: they would be chance.
FEWEST_POSITIVES, FEWEST_NEGATIVES = 10, 20
ALL, SOURCE, AGE, SEX = GROUPINGS = ("all", "source", "age", "sex")
AGE_LIMITS = (40, 65)  # years at which the second and the third group of ages begin
AGE_GROUPS = ("under 40", "40 to 64", "65 and over", "unknown")
SEX_GROUPS = (*(name.lower() for name in SEXES), "unknown")
ENDS = ("", " low", " high")  # of the names of columns: value and ends of its interval
TOO_FEW = "too few"
# With many recordings, whose intervals are narrow, fewer resamples are drawn, so that a report takes no minutes.
FEWEST_RESAMPLES, MOST_DRAWS = 200, 4_000_000

Groups = dict[str, tuple[np.ndarray, list[str]]]  # group of each recording, (N,) str, and the groups in their order


def card_tables(results: Results) -> dict[str, Table]:
    """Collect the tables of a model card by name."""
    counts = draw_card_resamples(results)
    return {
        "groups": group_table(results),
        "recording_properties": property_table(results),
        "changed_labels": changed_label_table(results),
        "group_scores": group_score_table(results, counts),
        **{
            f"operating_points_{leads}_leads": operating_point_table(results, leads, counts)
            for leads in results.searches
        },
    }


def draw_card_resamples(results: Results) -> list[np.ndarray]:
    """Draw the resamples of the scored recordings, or of their patients."""
    patients, rows = results.store.patients, results.scored_rows
    scored_patients = None if patients is None else patients[rows]
    return draw_resamples(len(rows), count_resamples(len(rows)), results.settings.seed, scored_patients)


def count_resamples(n_recordings: int) -> int:
    """Return the number of resamples for the scores of so many recordings."""
    return min(max(MOST_DRAWS // max(n_recordings, 1), FEWEST_RESAMPLES), RESAMPLES)


def used_rows(results: Results) -> np.ndarray:
    """Return the indices of the recordings that train or validate a network, (n,)."""
    return np.union1d(results.training, results.validation)


def decode_ages(demographics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ages in years, and whether they are known, given `encode_demographics`.

    Args:
        demographics: (N, 5) float32.

    Returns:
        Ages as in the headers, but from 0 to 100, (N,), and (N,) bool.
    """
    years = np.round(demographics[:, 0].astype(np.float64) * OLDEST, 3)  # float32 has fewer digits than a limit
    return years, demographics[:, 3] == 0


def group_recordings(results: Results) -> Groups:
    """Group all recordings of a training by source, age and sex.

    Returns:
        By each of GROUPINGS the group of each recording, (N,), and all groups in their order.
    """
    store = results.store
    years, is_known = decode_ages(store.demographics)
    ages = np.where(is_known, np.digitize(years, AGE_LIMITS), len(AGE_LIMITS) + 1)
    is_sex = store.demographics[:, 1:3] > 0
    sexes = np.where(is_sex.any(axis=1), is_sex.argmax(axis=1), len(SEXES))
    return {
        ALL: (np.full(len(store), "recordings"), ["recordings"]),
        SOURCE: (store.sources, np.unique(store.sources[used_rows(results)]).tolist()),
        AGE: (np.array(AGE_GROUPS)[ages], list(AGE_GROUPS)),
        SEX: (np.array(SEX_GROUPS)[sexes], list(SEX_GROUPS)),
    }


def group_table(results: Results) -> Table:
    """Count the used recordings by group: all, training, validation, scored."""
    parts = (used_rows(results), results.training, results.validation, results.scored_rows)
    patients, rows = results.store.patients, []
    for grouping, (groups, names) in group_recordings(results).items():
        for name in names:
            counts = [int((groups[part] == name).sum()) for part in parts]
            if patients is not None:
                used = parts[0]
                counts.append(count_patients(patients[used][groups[used] == name]))
            rows.append((grouping, name, *counts))
    names = ["recordings", "training", "validation", "scored", *["patients"] * (patients is not None)]
    return [("grouping", "group", *names), *rows]


def property_table(results: Results) -> Table:
    """Count the used recordings by properties of their files, lengths and ages."""
    store, used = results.store, used_rows(results)
    frequencies, counts = np.unique(store.frequencies[used], return_counts=True)
    rows: Table = [
        ("sampling frequency", f"{frequency:g} Hz", count)
        for frequency, count in zip(frequencies.tolist(), counts.tolist(), strict=True)
    ]
    lead_sets, counts = np.unique(store.recorded_leads[used], axis=0, return_counts=True)
    for number in np.argsort(-counts, kind="stable").tolist():
        names = [lead for lead, is_recorded in zip(LEADS, lead_sets[number].tolist(), strict=True) if is_recorded]
        text = f"{len(names)}" + (f": {' '.join(names)}" if 0 < len(names) < len(LEADS) else "")
        rows.append(("leads", text, int(counts[number])))
    years, is_known = decode_ages(store.demographics[used])
    for name, values in (
        ("seconds used", store.lengths[used] / store.preparation.rate),
        ("age in years", years[is_known]),
    ):
        if len(values):
            lowest, median, highest = (f"{value:.4g}" for value in np.quantile(values, (0, 0.5, 1)))
            rows.append((name, f"{lowest} to {highest}, median {median}", len(values)))
    return [("property", "value", "recordings"), *rows]


def changed_label_table(results: Results) -> Table:
    """Count the labels of each class that were changed, and those that are ignored.

    The labels before are those of the headers. A class is listed if a label was changed or is ignored in training.
    """
    store = results.store
    by_header = store.reviewed.labels if store.reviewed else store.labels
    given, labels = (np.hstack([scored, store.additional]) for scored in (by_header, results.labels))
    ignored = np.zeros(labels.shape, bool)
    ignored[:, results.columns] = results.masks == 0
    used, rows = used_rows(results), []
    for column, (name, *_) in enumerate(results.classes.diagnoses):
        before, after, masked = given[used, column], labels[used, column], ignored[used, column]
        changes = (before, after & ~before, before & ~after, after, masked & after, masked & ~after)
        counts = [int(change.sum()) for change in changes]
        if any(counts[index] for index in (1, 2, 4, 5)):
            rows.append((name, *counts))
    return [("class", "before", "added", "removed", "after", "ignored present", "ignored absent"), *rows]


def scored_recordings(results: Results, leads: int, version: str = CLEANED) -> ScoredRecordings:
    """Return labels and predictions of the scored recordings, by lead set."""
    return ScoredRecordings(
        results.label_versions[version], results.probabilities(leads), results.all_predictions(leads),
        results.is_trained, results.settings.weight_array, results.classes.sinus,
    )  # fmt: skip


def group_score_table(results: Results, counts: Sequence[np.ndarray]) -> Table:
    """List the scores of each group and lead set with intervals.

    Only labels after relabelling count, except that all recordings are also scored by those before it, and by those
    before reviewers corrected them. Groups with too few recordings or classes have no scores.

    Args:
        results: What the training gave.
        counts: `draw_card_resamples`.
    """
    names = [name + end for name in SUBGROUP_SCORES for end in ENDS]
    header = ("leads", "labels", "grouping", "group", "recordings", "classes", *names, "note")
    rows: Table = []
    known: dict[tuple[str, ...], int] = {}  # lead sets by the leads that their networks use; equal ones are equal
    for leads in results.searches:
        first = known.setdefault(results.settings.leads_of(leads), leads)
        if first != leads:
            rows += [(leads, *row[1:]) for row in rows if row[0] == first]
            continue
        rows += [(leads, *row) for row in _score_groups(results, leads, counts)]
    return [header, *rows]


def _score_groups(results: Results, leads: int, counts: Sequence[np.ndarray]) -> Iterator[tuple]:
    """Yield the rows of `group_score_table` of a lead set, without the lead set."""
    by_version = {version: scored_recordings(results, leads, version) for version in results.label_versions}
    for grouping, (groups, names) in group_recordings(results).items():
        groups = groups[results.scored_rows]
        for name in names:
            is_member = groups == name
            for version, recordings in by_version.items():
                if version != CLEANED and not (grouping == ALL and version in results.shown_versions):
                    continue
                members = recordings.subset(is_member)
                facts = (version, grouping, name, len(members.labels), int(members.counted_classes.sum()))
                if members.are_enough():
                    estimates = estimate_scores(members, [chunk[is_member] for chunk in counts])
                    yield (*facts, *_flatten_estimates(estimates), "")
                else:
                    yield (*facts, *[np.nan] * len(SUBGROUP_SCORES) * len(ENDS), TOO_FEW)


def _flatten_estimates(estimates: Estimates) -> list[float]:
    """Return value, low and high of each score, one after the other."""
    return [value for name in SUBGROUP_SCORES for value in estimates[name].tolist()]


def operating_point_table(results: Results, leads: int, counts: Sequence[np.ndarray]) -> Table:
    """List the sensitivity of each trained class at fixed specificities.

    Values have intervals; see `estimate_operating_point`.

    Args:
        results: What the training gave.
        leads: Number of leads.
        counts: `draw_card_resamples`.
    """
    columns = [f"{name}{end}" for name in ("threshold", "specificity", "sensitivity") for end in ENDS]
    rows: Table = []
    recordings = scored_recordings(results, leads)
    for index in np.flatnonzero(recordings.is_trained).tolist():
        labels, probabilities = recordings.labels[:, index], recordings.probabilities[:, index]
        n_positives = int(labels.sum())
        n_negatives = len(labels) - n_positives
        is_enough = n_positives >= FEWEST_POSITIVES and n_negatives >= FEWEST_NEGATIVES
        for specificity in SPECIFICITIES:
            values = np.full(9, np.nan)
            if is_enough:
                values = estimate_operating_point(labels, probabilities, specificity, counts).ravel()
            note = "" if is_enough else TOO_FEW
            rows.append((results.names[index], n_positives, n_negatives, specificity, *values.tolist(), note))
    return [("class", "with", "without", "required specificity", *columns, "note"), *rows]
