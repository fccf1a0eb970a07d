"""Settings of the documentation site, which `make docs` builds into build/docs."""

import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # the API pages import TensorFlow
DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "extensions")]

from ecg import __version__  # noqa: E402

project = "reduced-lead-ecg"
author = "The reduced-lead-ecg contributors"
copyright = f"2026, {author}"  # noqa: A001
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "command_options",
    "local_resources",
]
exclude_patterns = ["figures/README.md"]
templates_path = ["_templates"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
root_doc = "index"

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
autosummary_generate = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

default_role = "literal"  # `name` in a docstring is code, as in Markdown

# A reference into the package has to resolve. Names of other packages and type variables are not looked up.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!ecg\.).*"), ("py:.*", r"ecg\..*\.(Item|Job|Outcome|Result)")]

html_theme = "furo"
html_title = "reduced-lead-ecg"
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"


def escape_markup(app, kind, name, item, options, lines: list[str]) -> None:
    """Escape in a docstring, outside backticks, the characters that reStructuredText would read as markup."""
    if kind in ("attribute", "property") and lines:  # napoleon would read the words before a colon as a type
        lines[0] = lines[0].replace(": ", " – ")
    for number, line in enumerate(lines):
        parts = re.split(r"(`+[^`]*`+)", line)
        lines[number] = "".join(re.sub(r"(?<!\\)[*|]", r"\\\g<0>", part) if "`" not in part else part for part in parts)


def skip_request_methods(app, kind, name, item, skip, options) -> bool | None:
    """Exclude the methods that scikit-learn adds to an estimator for other arguments of `fit`."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app) -> None:
    """Have Sphinx escape docstrings before it parses their sections."""
    app.connect("autodoc-skip-member", skip_request_methods)
    app.connect("autodoc-process-docstring", escape_markup, priority=400)
