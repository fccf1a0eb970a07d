"""Sections of a model card, as Markdown for a file and as HTML for a page."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from ecg.reports.html_page import Cell, bullet_list, details, html_table, paragraphs
from ecg.runtime.console import escape_unprintable
from ecg.runtime.files import atomic_path

MODEL_CARD = "model_card.md"  # file in the model folder
# Characters with a meaning in Markdown. An underscore within a word has none.
MARKUP = re.compile(r"([\\`*\[\]<>|&~]|(?<![^\W_])_|_(?![^\W_]))")


class Bullets(NamedTuple):
    """A list of sentences.

    Attributes:
        texts: One for each bullet.
    """

    texts: tuple[str, ...]


class Code(NamedTuple):
    """Lines of code.

    Attributes:
        text: The code.
        language: Its language, such as "sh".
    """

    text: str
    language: str


class CardTable(NamedTuple):
    """A table.

    Attributes:
        caption: What it shows.
        header: Names of the columns.
        groups: Rows by the title of their group, "" for none. The first cell of a row names it.
        is_folded: Whether a page hides it until its caption is clicked.
    """

    caption: str
    header: tuple[str, ...]
    groups: Mapping[str, Sequence[Sequence[Cell]]]
    is_folded: bool = False


class CardSection(NamedTuple):
    """A section of a model card.

    Attributes:
        title: Its title.
        parts: Paragraphs (str) and other parts, in their order.
    """

    title: str
    parts: tuple[str | Bullets | Code | CardTable, ...]


class ModelCard(NamedTuple):
    """A model card.

    Attributes:
        title: Its title.
        sections: Its sections.
    """

    title: str
    sections: tuple[CardSection, ...]


def write_model_card(folder: Path, card: ModelCard) -> None:
    """Write a model card to a model folder, atomically; it replaces an earlier one."""
    with atomic_path(Path(folder) / MODEL_CARD) as temporary:
        temporary.write_text(format_markdown(card), encoding="utf-8", errors="backslashreplace")


def format_markdown(card: ModelCard) -> str:
    """Return a model card as Markdown (CommonMark with tables)."""
    blocks = [f"# {escape_markdown(card.title)}"]
    for section in card.sections:
        blocks.append(f"## {escape_markdown(section.title)}")
        blocks += map(_format_part, section.parts)
    return "\n\n".join(blocks) + "\n"


def _format_part(part: str | Bullets | Code | CardTable) -> str:
    if isinstance(part, str):
        return escape_markdown(part)
    if isinstance(part, Bullets):
        return "\n".join(f"- {escape_markdown(text)}" for text in part.texts)
    if isinstance(part, Code):
        fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", part.text))])
        return f"{fence}{part.language}\n{escape_unprintable_lines(part.text)}\n{fence}"
    lines = [f"**{escape_markdown(part.caption)}**", "", _format_row(map(escape_markdown, part.header)),
             _format_row(["---", *["---:"] * (len(part.header) - 1)])]  # fmt: skip
    for title, rows in part.groups.items():
        for first, *cells in rows:
            name = f"{title}: {_cell_text(first)}" if title else _cell_text(first)
            lines.append(_format_row(map(escape_markdown, [name, *map(_cell_text, cells)])))
    return "\n".join(lines)


def _format_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell_text(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


def escape_markdown(text: str) -> str:
    """Return a text as Markdown that shows it as it is, in one line."""
    return MARKUP.sub(r"\\\1", escape_unprintable(text))


def escape_unprintable_lines(text: str) -> str:
    """Escape what cannot be printed in each line of a text."""
    return "\n".join(map(escape_unprintable, text.split("\n")))


def card_html(card: ModelCard) -> list[str]:
    """Return the parts of a model card as HTML, for a section of a page."""
    parts = []
    for section in card.sections:
        parts.append(f"<h3>{escape(section.title)}</h3>")
        parts += map(_part_html, section.parts)
    return parts


def _part_html(part: str | Bullets | Code | CardTable) -> str:
    if isinstance(part, str):
        return paragraphs([escape_unprintable(part)])
    if isinstance(part, Bullets):
        return bullet_list(map(escape_unprintable, part.texts))
    if isinstance(part, Code):
        return f"<pre><code>{escape(escape_unprintable_lines(part.text))}</code></pre>"
    groups = {
        escape_unprintable(title): [[cell._replace(text=escape_unprintable(cell.text)) for cell in row] for row in rows]
        for title, rows in part.groups.items()
    }
    table = html_table(part.header, groups, part.caption)
    return details(part.caption, table) if part.is_folded else table
