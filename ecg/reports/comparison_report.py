"""A comparison of systems to be read: what matters of it in words, tables and pictures, as HTML and as Markdown."""

import base64
import mimetypes
from html import escape
from pathlib import Path

import numpy as np
from matplotlib import rc_context

from ecg.evaluation.bootstrap import OPTIMISED, PREDICTED, RESAMPLES, compute_metrics
from ecg.reports.comparison_charts import draw_figures
from ecg.reports.comparison_tables import (
    COST,
    FOLDER,
    SCORES,
    Cell,
    class_rows,
    cost_rows,
    difference_rows,
    fact_tables,
    score_rows,
    setting_rows,
    source_rows,
    tables,
)
from ecg.reports.training_report import write_tables
from ecg.runtime.console import escape_unprintable, format_estimate, pluralise
from ecg.runtime.files import atomic_path, save_figure

INTERVALS = "with 95 % intervals"
NOTES = (
    "Challenge metric: 1 for the labels themselves, 0 for sinus rhythm in every recording. It is given for answers "
    "with thresholds optimised on validation recordings within what is learnt from (optimised), by each system's own "
    "rule (as predicted), and with 0.5 for every class (at 0.5). A system whose classes exclude each other answers one "
    "of them by its own rule; optimised, it may answer several.",
    "Labels are those of the headers as the Challenge scores them: ventricular ectopic beats, which are learnt as "
    "premature ventricular contractions, are not among these.",
    "AUROC, AUPRC and F1 are means over the classes that are labelled in the recordings (macro), F1 of the optimised "
    "answers and of those by each system's own rule. A class that a system does not know has the probability 0 "
    "everywhere: its AUROC is 0.5, its AUPRC the share of recordings that have it, and its F1 is 0. AUROC shared is "
    "the mean over those classes alone that all systems here know.",
    "Intervals are 95 % percentile bootstrap intervals over recordings. They tell what other recordings of the same "
    "kind would change, not what another training would. A class that a resample has no recording of is left out of "
    "its means, so that with rare classes an interval may lie to one side of its value.",
    "Differences are on the same resamples of the recordings, so that an interval without 0 tells two systems apart "
    "also where their own intervals overlap. They are not corrected for multiple comparisons.",
    "Folds are of recordings, not of patients, whom headers do not tell: recordings of one patient may be in several "
    "folds. AUROC and AUPRC pool the probabilities of all folds, which come from different networks.",
    "The time of training is that of all networks that a lead set takes, the mean over the folds, and it alone counts "
    "against the time limit: preparing recordings and finding their peaks is done once for all systems and counted for "
    "none. A system with trainings that the limit ended has not converged, and would score otherwise with more time. "
    "Networks and epochs are of one fold, in the mean; the trainings ended by the limit are those of all folds, and "
    "where networks first learn to find peaks, that is a training of its own.",
    "The time of answering is the median of some dozens of single recordings, without reading and filtering.",
)


def html(comparison, found, facts, folder):
    """Return a page that tells of a Comparison, its Findings and facts; its pictures are left in a folder, too."""
    drawn = {}
    for one in draw_figures(comparison, found):
        path = folder / f"{one.name}.svg"
        with rc_context({"svg.hashsalt": one.name}):  # so that the same numbers give the same file
            save_figure(one.figure, path, metadata={"Date": None})
        drawn.setdefault(one.place, []).append(picture(path, one.title, one.caption, one.alternative))
    first = escape_unprintable(comparison.systems[0])
    best = "; the best stand out" if len(comparison.systems) > 1 else ""
    scores, differences, classes, sources = [], [], [], []
    for leads in comparison.lead_sets:
        title, systems = pluralise(leads, "lead"), systems_of(comparison, leads)
        rows = score_rows(comparison, found, leads)
        scores += [table(SCORES, {"": rows}, f"{title}: scores {INTERVALS}{best}"), *drawn[f"scores {leads}"]]
        rows = difference_rows(comparison, found, leads)
        if rows:
            caption = f"{title}: differences to {first} {INTERVALS}; those without 0 stand out"
            differences += [table(SCORES, {"": rows}, caption), *drawn[f"differences {leads}"]]
        classes += drawn.get(f"class {leads}", [])
        for name, rows in class_rows(comparison, found, leads).items():
            caption = f"{name} by class {INTERVALS}{best}"
            classes.append(details(f"{title}: {name} by class", table(("class", *systems), {"": rows}, caption)))
        sources += drawn.get(f"source {leads}", [])
        caption = f"Measures by source {INTERVALS}{best}"
        rows = table(("source", *systems), source_rows(comparison, found, leads), caption)
        sources.append(details(f"{title}: all measures by source", rows))
    sections = {
        "Scores": scores,
        f"Differences to {first}": differences,
        "By class": classes,
        "By source": sources,
        "Costs": [table(COST, grouped(cost_rows, comparison), "What the systems cost"), *drawn["costs"]],
        "How to read this": [listed(NOTES)],
        "What was compared": about(facts),
    }
    sections = {name: parts for name, parts in sections.items() if parts}
    return page(title_of(comparison), summary(comparison, found), sections)


def about(facts):
    """Return the tables of facts: those that are a text or number in one, and those that are tables after it."""
    told = [
        [Cell(name), Cell(escape_unprintable(str(value)))]
        for name, value in facts.items()
        if not isinstance(value, list)
    ]
    tables = [table((), {"": told}, "The comparison", text=True)]
    for name, rows in tables_of(facts).items():
        words = not all(isinstance(cell, int | float) for row in rows[1:] for cell in row[1:])
        caption = name.capitalize() + "; what is another than with most stands out" * words
        tables.append(table(rows[0], {"": setting_rows(rows[1:]) if words else plain_rows(rows[1:])}, caption, words))
    return tables


def tables_of(facts):
    """Return those of the facts that are tables with rows, by name."""
    return {name: rows for name, rows in facts.items() if isinstance(rows, list) and len(rows) > 1}


def plain_rows(rows):
    """Return rows of whatever as rows of Cells."""
    return [[Cell(escape_unprintable(str(cell))) for cell in row] for row in rows]


def markdown(comparison, found, facts):
    """Return the same without pictures, in Markdown."""
    first = escape_unprintable(comparison.systems[0])
    parts = [f"# {title_of(comparison)}", *summary(comparison, found), "## Scores"]
    parts.append(markdown_table(("leads", *SCORES), grouped(score_rows, comparison, found)))
    if any(found.differences):
        parts.append(f"## Differences to {first}")
        parts.append(markdown_table(("leads", *SCORES), grouped(difference_rows, comparison, found)))
    for kind, rows_of in (("class", class_rows), ("source", source_rows)):
        parts.append(f"## By {kind}")
        for leads in comparison.lead_sets:
            header = ("measure", kind, *systems_of(comparison, leads))
            parts += [f"### {pluralise(leads, 'lead')}", markdown_table(header, rows_of(comparison, found, leads))]
    parts += ["## Costs", markdown_table(("leads", *COST), grouped(cost_rows, comparison)), "## How to read this"]
    parts += ["\n".join(f"- {note}" for note in NOTES), "## What was compared"]
    told = [(name, value) for name, value in facts.items() if not isinstance(value, list)]
    parts.append(markdown_table(("what", ""), {None: plain_rows(told)}))
    for name, rows in tables_of(facts).items():
        parts += [f"### {name.capitalize()}", markdown_table(rows[0], {None: plain_rows(rows[1:])})]
    return "\n\n".join(parts) + "\n"


def systems_of(comparison, leads):
    """Return what the systems with so many leads are called, in their order."""
    return [escape_unprintable(system) for system in comparison.systems_at(comparison.indices_with_leads(leads))]


def title_of(comparison):
    """Return what a comparison is called."""
    counts = {"system": comparison.systems, "recording": comparison.labels, "lead set": comparison.lead_sets}
    systems, recordings, lead_sets = (pluralise(len(them), thing) for thing, them in counts.items())
    return f"{systems} on {recordings}, {lead_sets}"


def summary(comparison, found):
    """Return what the sentences after it are about, and for each lead set one: the best scores, and who differs."""
    first, several = escape_unprintable(comparison.systems[0]), any(found.differences)
    best = "The best Challenge metric" if several else "The Challenge metric"
    differing = f", and how many systems their differences tell from {first}" if several else ""
    sentences = [f"{best}, with optimised thresholds and by the systems' own rules{differing}:"]
    for leads in comparison.lead_sets:
        places = comparison.indices_with_leads(leads)
        text = (f"{pluralise(leads, 'lead')}: {highest(comparison, found, places, OPTIMISED)} optimised, "
                f"{highest(comparison, found, places, PREDICTED)} as predicted")  # fmt: skip
        others = [place for place in places if found.differences[place]]
        if others:
            low, high = np.array([found.differences[place][OPTIMISED][1:] for place in others]).T
            better, worse = ((one > 0).sum() or "none" for one in (low, -high))
            text += f"; of {pluralise(len(others), 'other')}, {better} better, {worse} worse"
        sentences.append(f"{text}.")
    return sentences


def highest(comparison, found, places, measure):
    """Return in words the highest value of a measure in the trials at some places, with its interval and system."""
    best = max(places, key=lambda place: found.overall[place][measure][0])
    value, interval = format_estimate(found.overall[best][measure])
    return f"{value} ({interval}) by {escape_unprintable(comparison.results[best].system)}"


def grouped(rows_of, comparison, *found):
    """Return rows of Cells by lead set, where there are any: a dict by what it is called."""
    rows = {pluralise(leads, "lead"): rows_of(comparison, *found, leads) for leads in comparison.lead_sets}
    return {title: own for title, own in rows.items() if own}


def markdown_table(header, groups):
    """Return a table in Markdown of rows of Cells by group, whose title is the first cell, unless it is None."""
    lines = [header, ["---"] * len(header)]
    for title, rows in groups.items():
        for cells in rows:
            texts = [f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in cells]
            lines.append(texts if title is None else [title, *texts])
    return "\n".join(
        "| " + " | ".join(escape_unprintable(text).replace("<", "&lt;").replace("|", "\\|") for text in line) + " |"
        for line in lines
    )


# Dark on white, one column; on paper without the contents, and no table or picture parted.
STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.5rem 4rem; max-width: 1200px; background: #fff; color: #1c1c24;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .75rem; padding-top: .75rem; border-top: 2px solid #1f5fa8; }
p, ul { max-width: 46rem; margin: .5rem 0; }
header p, nav ul { max-width: none; }
ul { padding-left: 1.25rem; }
a { color: #174a85; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
.wide { overflow-x: auto; margin: 1.25rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .4rem; }
th, td { padding: .3rem .4rem; text-align: right; vertical-align: top; border-bottom: 1px solid #e2e2e8; }
th:first-child, .text th, .text td { text-align: left; }
.text td { overflow-wrap: break-word; min-width: 5.5rem; max-width: 46rem; }
thead th { border-bottom: 2px solid #8c8c98; vertical-align: bottom; }
tbody th { font-weight: 500; }
td, tbody th { white-space: nowrap; }
.text td, .text th { white-space: normal; }
tbody th[scope=rowgroup] { padding-top: .9rem; font-weight: 600; color: #174a85; }
td small, th small { display: block; color: #55555f; font-weight: 400; white-space: nowrap; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: #174a85; }
figure { margin: 1.5rem 0; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .875rem; color: #3c3c46; max-width: 46rem; margin-top: .4rem; }
figcaption b { color: #1c1c24; }
@media (max-width: 900px) {
  body { padding: 1rem; }
  table { font-size: .8rem; }
  th, td { padding: .3rem .35rem; }
  tbody th, td small, th small { white-space: normal; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  h2 { break-after: avoid; margin-top: 1.5rem; }
  figure, tr, .wide { break-inside: avoid; }
  table { font-size: 7.5pt; }
  th, td { padding: .15rem .35rem; }
  .wide { overflow: visible; }
}
"""


def page(title, opening, sections):
    """Return a page: its title, paragraphs that open it, and by the sections' titles their HTML, a list of parts."""
    places = {name: f"part-{number}" for number, name in enumerate(sections, 1)}
    contents = "\n".join(f'<li><a href="#{place}">{escape(name)}</a></li>' for name, place in places.items())
    body = "\n".join(
        f'<section id="{places[name]}">\n<h2>{escape(name)}</h2>\n' + "\n".join(parts) + "\n</section>"
        for name, parts in sections.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{paragraphs(opening)}
<nav aria-label="Contents">
<ul>
{contents}
</ul>
</nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def paragraphs(texts):
    """Return each of the texts as a paragraph."""
    return "\n".join(f"<p>{escape(text)}</p>" for text in texts)


def listed(texts):
    """Return texts as a list of points."""
    return "<ul>\n" + "\n".join(f"<li>{escape(text)}</li>" for text in texts) + "\n</ul>"


def table(header, groups, caption, text=False):
    """Return a table: the names of its columns, rows of Cells by the title of their group, '' for none, a caption.

    The first cell of a row names it. An empty header is left out. With `text`, all is set left, as words are.
    """
    parts = [f"<caption>{escape(caption)}</caption>"]
    if header:
        names = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
        parts.append(f"<thead>\n<tr>{names}</tr>\n</thead>")
    for title, rows in groups.items():
        lines = [f'<tr><th scope="rowgroup" colspan="{len(header)}">{escape(title)}</th></tr>'] if title else []
        for name, *cells in rows:
            values = "".join(f"<td>{_filled(cell)}</td>" for cell in cells)
            lines.append(f'<tr><th scope="row">{_filled(name)}</th>{values}</tr>')
        parts.append("\n".join(["<tbody>", *lines, "</tbody>"]))
    kind = "wide text" if text else "wide"  # which may be moved sideways, by the keyboard, too, where it has no room
    opening = f'<div class="{kind}" tabindex="0" role="region" aria-label="{escape(caption)}">\n<table>'
    return "\n".join([opening, *parts, "</table>\n</div>"])


def details(title, content):
    """Return what is to be seen only once it is unfolded, under a title."""
    return f"<details>\n<summary>{escape(title)}</summary>\n{content}\n</details>"


def _filled(cell):
    text = escape(cell.text)
    text = f"<strong>{text}</strong>" if cell.strong else text
    return text + (f"<small>{escape(cell.note)}</small>" if cell.note else "")


def picture(path, title, caption, alternative):
    """Return a picture from a file as part of the page, with a title, what it shows, and the same for who sees none."""
    kind = mimetypes.guess_type(path)[0]
    data = base64.b64encode(Path(path).read_bytes()).decode("ascii")
    return (
        f'<figure>\n<img src="data:{kind};base64,{data}" alt="{escape(alternative)}">\n'
        f"<figcaption><b>{escape(title)}.</b> {escape(caption)}</figcaption>\n</figure>"
    )


def write_comparison(folder, comparison, facts, resamples=RESAMPLES, seed=0):
    """Measure a Comparison, and write tables, pictures and a page into folder/comparison, in place of what is there.

    facts: what else is to be told of it, by its name a text or number, or a table: a list of rows, the first of them
    the names of the columns. Returns the path of the page.
    """
    found = compute_metrics(comparison, resamples, seed)
    facts = {**facts, "bootstrap": f"{resamples:,} resamples, seed {seed}"}
    with atomic_path(Path(folder) / FOLDER) as part:
        part.mkdir(parents=True)
        named = tables(comparison, found)
        write_tables(part, fact_tables(facts) | named)
        facts["recordings"] = named["recordings"]
        texts = {"md": markdown(comparison, found, facts), "html": html(comparison, found, facts, part)}
        for ending, text in texts.items():
            (part / f"comparison.{ending}").write_text(text, encoding="utf-8")
    return Path(folder) / FOLDER / "comparison.html"
