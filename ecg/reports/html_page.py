"""Build HTML pages that open offline: text, tables and embedded figures in one file."""

import base64
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

# Dark text on white, in one column. Wide or long tables scroll in a box of their own. Printed without the contents.
STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.5rem 4rem; max-width: 1200px; background: #fff; color: #1c1c24;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 3rem 0 .75rem; padding-top: .75rem; border-top: 2px solid #1f5fa8; }
h2 a { color: #5b5b66; font-weight: 400; text-decoration: none; }
p, ul { max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }
header p, nav ul { max-width: none; }
ul { padding-left: 1.25rem; }
a, summary, tbody th[scope=rowgroup] { color: #174a85; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
.box { overflow: auto; max-height: 36rem; margin: 1.25rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .4rem; }
th, td { padding: .3rem .4rem; text-align: right; vertical-align: top; border-bottom: 1px solid #e2e2e8; }
th:first-child, .text th, .text td { text-align: left; }
.text td { overflow-wrap: anywhere; min-width: 5.5rem; max-width: 46rem; }
thead th { position: sticky; top: 0; background: #fff; border-bottom: 2px solid #8c8c98; vertical-align: bottom; }
tbody th { font-weight: 500; }
td, tbody th { white-space: nowrap; }
.text td, .text th { white-space: normal; }
tbody th[scope=rowgroup] { padding-top: .9rem; font-weight: 600; }
td small, th small { display: block; color: #55555f; font-weight: 400; white-space: nowrap; }
details { margin: .5rem 0; }
summary { cursor: pointer; }
figure { margin: 1.5rem 0; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .875rem; color: #3c3c46; max-width: 46rem; margin-top: .4rem; }
figcaption b { color: #1c1c24; }
@media (max-width: 900px) {
  body { padding: 1rem; }
  table { font-size: .8rem; }
  tbody th, td small, th small { white-space: normal; }
  figure { overflow-x: auto; }
  figure img { max-width: 820px; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, h2 a { display: none; }
  .box { max-height: none; overflow: visible; }
  table { font-size: 7.5pt; }
  figure, tr { break-inside: avoid; }
}
"""


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: What it says.
        note: What is written beneath it in small letters.
        strong: Whether it is emphasised.
    """

    text: str
    note: str = ""
    strong: bool = False


def build_page(title: str, opening: Iterable[str], sections: Mapping[str, Sequence[str]]) -> str:
    """Build a page with a contents list.

    Args:
        title: Title of the page.
        opening: Paragraphs at its top.
        sections: By the title of each section its parts, as HTML.

    Returns:
        The HTML of the page. It needs nothing from elsewhere.
    """
    anchors = {name: "".join(c if c.isalnum() else "-" for c in name.lower()) for name in sections}
    contents = "\n".join(f'<li><a href="#{escape(anchors[name])}">{escape(name)}</a></li>' for name in sections)
    body = "\n".join(
        f'<section id="{escape(anchors[name])}">\n<h2>{escape(name)} <a href="#{escape(anchors[name])}" '
        f'aria-label="Link to this section">#</a></h2>\n' + "\n".join(parts) + "\n</section>"
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


def paragraphs(texts: Iterable[str]) -> str:
    """Build a paragraph of each text."""
    return "\n".join(f"<p>{escape(text)}</p>" for text in texts)


def bullet_list(texts: Iterable[str]) -> str:
    """Build a list with a bullet for each text."""
    return "<ul>\n" + "\n".join(f"<li>{escape(text)}</li>" for text in texts) + "\n</ul>"


def html_table(
    header: Sequence[str], groups: Mapping[str, Iterable[Sequence[Cell]]], caption: str, prose: bool = False
) -> str:
    """Build a table that scrolls in its own box, also by the keyboard.

    Args:
        header: Names of the columns; the table has no head if it is empty.
        groups: Rows by the title of their group, "" for none. The first cell of a row names it.
        caption: What the table shows.
        prose: Whether the cells are words, which are aligned left and wrapped, rather than numbers.

    Returns:
        The HTML of the table.
    """
    parts = [f"<caption>{escape(caption)}</caption>"]
    if header:
        names = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
        parts.append(f"<thead>\n<tr>{names}</tr>\n</thead>")
    for title, rows in groups.items():
        lines = [f'<tr><th scope="rowgroup" colspan="{len(header)}">{escape(title)}</th></tr>'] if title else []
        for name, *cells in rows:
            values = "".join(f"<td>{_fill_cell(cell)}</td>" for cell in cells)
            lines.append(f'<tr><th scope="row">{_fill_cell(name)}</th>{values}</tr>')
        parts.append("\n".join(["<tbody>", *lines, "</tbody>"]))
    classes = "box text" if prose else "box"
    opening = f'<div class="{classes}" tabindex="0" role="region" aria-label="{escape(caption)}">\n<table>'
    return "\n".join([opening, *parts, "</table>\n</div>"])


def _fill_cell(cell: Cell) -> str:
    text = escape(cell.text)
    text = f"<strong>{text}</strong>" if cell.strong else text
    return text + (f"<small>{escape(cell.note)}</small>" if cell.note else "")


def details(title: str, *parts: str) -> str:
    """Build a part of the page that is hidden until its title is clicked."""
    return "\n".join([f"<details>\n<summary>{escape(title)}</summary>", *parts, "</details>"])


def embed_figure(path: Path, title: str, caption: str, alternative: str) -> str:
    """Embed the image in a file as a figure.

    Args:
        path: The file of the image.
        title: Title of the figure.
        caption: What it shows.
        alternative: The same in words, for those who cannot see it.

    Returns:
        The HTML of the figure, with the image as a data URI.
    """
    kind, data = mimetypes.guess_type(path)[0], base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure>\n<img src="data:{kind};base64,{data}" alt="{escape(alternative)}">\n'
        f"<figcaption><b>{escape(title)}.</b> {escape(caption)}</figcaption>\n</figure>"
    )
