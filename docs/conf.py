"""Settings of the documentation site, which `make docs` builds into build/docs."""

import os
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

# A reference into the package has to resolve. Names of other packages are not looked up.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!ecg\.).*")]

html_theme = "furo"
html_title = "reduced-lead-ecg"
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
