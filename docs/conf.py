"""The documentation as a site: Sphinx with MyST-NB, `python3 bootstrap.py docs`.

`tools/site_sources.py` gathers the sources: a copy of the checkout's pages in their places, so that
a link between two of them is the same one here as where the files are read, and what runs have
made. Nothing is loaded from another server.
"""

import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

project = "LDAT Companion"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
author = "LDAT Companion contributors"
copyright = author
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "docstrings",
    "pages",
]

# --- which files are pages -----------------------------------------------------------------------

# README opens the site; `pages` puts the table of contents of docs/index.md below it.
root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/**.md",
    "docs/reference/*.rst",
    "docs/examples/**.py",
    "reports.md",
    "notebooks/*.ipynb",
    "cifar10-published/*",
    "benchmarks/README.md",
    "data/README.md",
    "ldatlib/report/paper_tables/README.md",
]
# Part of README's page.
exclude_patterns = ["docs/index.md"]
source_suffix = {
    ".md": "myst-nb",
    ".ipynb": "myst-nb",
    ".py": "myst-nb",
    ".rst": "restructuredtext",
}

# --- Markdown and notebooks ----------------------------------------------------------------------

# `$...$` is mathematics in notebooks; the pages have none, and a price or a shell variable is not.
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_dmath_double_inline = True
# Every heading can be linked to, by the anchor that GitHub gives it.
myst_heading_anchors = 6
# A block that names no language is a command or what it prints.
highlight_language = "text"
# A notebook is shown as a run has left it.
nb_execution_mode = "off"
nb_merge_streams = True
# A widget lives beside a kernel alone: here stands its line of text, and no loader from a server.
nb_ipywidgets_js = {}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
# Of MathJax one file, formulas as SVG, without fonts: from a package, served with the pages.
MATHJAX = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax/tex-svg.js"
mathjax_path = MATHJAX.name
mathjax3_config = {"svg": {"fontCache": "global"}}

# --- the reference -------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 70
viewcode_line_numbers = True

# --- looks ---------------------------------------------------------------------------------------

html_theme = "furo"
html_title = project
html_static_path = ["_static", str(MATHJAX)]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5f99", "color-brand-content": "#1f5f99"},
    "dark_css_variables": {"color-brand-primary": "#7fb4e6", "color-brand-content": "#7fb4e6"},
}
