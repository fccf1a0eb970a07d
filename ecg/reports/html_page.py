"""Build HTML pages of text, tables and embedded figures that open offline."""

import base64
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import NamedTuple

from ecg.runtime.console import escape_unprintable

MAX_ROWS = 500  # of a long table on a page; the CSV files have all

TEMPLATE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


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
    return TEMPLATE.substitute(title=escape(title), opening=paragraphs(opening), contents=contents, body=body)


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


def plain_table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> str:
    """Build a table of plain values; words are wrapped, numbers aligned right."""
    cells = [[Cell(_format_cell(value)) for value in row] for row in rows]
    prose = any(isinstance(value, str) for row in rows for value in row[1:])
    return html_table(header, {"": cells}, caption, prose)


def first_rows_table(table: Sequence[Sequence], caption: str, file_name: str) -> str:
    """Build a table of the first MAX_ROWS rows; a caption names the file of all.

    Args:
        table: Header and rows.
        caption: Caption of the table.
        file_name: Name of the file without extension.
    """
    header, *rows = table
    more = f"; the first {MAX_ROWS:,} of {len(rows):,} rows, all are in {file_name}.csv"
    return plain_table(header, rows[:MAX_ROWS], caption + more * (len(rows) > MAX_ROWS))


def _format_cell(value: object) -> str:
    if isinstance(value, float):
        text = f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.3g}"
        return text.replace("-", "−", 1) if value < 0 else text
    return "" if value is None else f"{value:,}" if isinstance(value, int) else escape_unprintable(str(value))


def embed_figure(path: Path, title: str, caption: str, alternative: str = "the tables have the numbers") -> str:
    """Embed the image in a file as a figure.

    Args:
        path: The file of the image.
        title: Title of the figure.
        caption: What it shows.
        alternative: What follows the title for those who cannot see the figure.

    Returns:
        The HTML of the figure, with the image as a data URI.
    """
    kind, data = mimetypes.guess_type(path)[0], base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure>\n<img src="data:{kind};base64,{data}" alt="{escape(title)}; {escape(alternative)}">\n'
        f"<figcaption><b>{escape(title)}.</b> {escape(caption)}</figcaption>\n</figure>"
    )
