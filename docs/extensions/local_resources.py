"""A check that no page of the site loads a font, a script, a style or a figure from another site."""

import re
from pathlib import Path

from sphinx.errors import ExtensionError

LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\b(?:src|srcset|data)=["']?(?:https?:)?//[^"'>]*"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|preconnect|icon))[^>]*\bhref=["']?(?:https?:)?//[^"'>]*"""
    r"""|(?:@import\s+|url\()\s*["']?(?:https?:)?//[^"')]*"""
)


def foreign_resources(folder: Path) -> list[str]:
    """Return a line for each resource that a page or style sheet of a folder loads from another site."""
    return [
        f"{path.relative_to(folder)}: {match[0][:120]}"
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".html", ".css")
        for match in LOADED.finditer(path.read_text("utf-8"))
    ]


def check_resources(app, exception: Exception | None) -> None:
    """Raise ExtensionError if a page that was built loads something from another site."""
    if exception is None and app.builder.format == "html" and (found := foreign_resources(Path(app.outdir))):
        raise ExtensionError("pages load resources from other sites:\n" + "\n".join(found))


def setup(app) -> dict[str, bool]:
    """Have Sphinx run the check after a build."""
    app.connect("build-finished", check_resources)
    return {"parallel_read_safe": True}
