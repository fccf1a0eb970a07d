"""A page of HTML that holds all it shows: text, tables and pictures, no script and nothing from elsewhere."""

import base64
import mimetypes
from html import escape
from pathlib import Path
from typing import NamedTuple

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


class Cell(NamedTuple):
    """A cell of a table: its text, what is beneath it in small, and whether it is to stand out."""

    text: str
    note: str = ""
    strong: bool = False


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


def folded(title, content):
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
