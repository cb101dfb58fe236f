"""Sphinx configuration; it also makes the pages of the studies from their records."""

import os
import pathlib
import shutil
import sys

DOCS = pathlib.Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))  # `experiments` is no part of the package
os.environ["PYTHONPATH"] = str(DOCS.parent)  # nor for the tutorials

import ftp_optax  # noqa: E402

project = "ftp_optax"
author = "The ftp_optax authors"
html_show_copyright = False
release = ftp_optax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx-mathjax-offline",  # MathJax beside the pages: formulas need no network
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 2
# Tutorials are run, in an empty folder each; one that fails is no documentation.
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds a cell
nb_merge_streams = True
nb_render_markdown_format = "gfm"  # it has tables
html_theme = "furo"
html_theme_options = {  # cells of notebooks have a light border otherwise
    "dark_css_variables": {"mystnb-source-border-color": "#3f4451"}
}
html_title = "ftp_optax"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# Single backticks in docstrings name code, as in Markdown.
default_role = "code"

# ---- Studies -------------------------------------------------------------------------

STUDIES = DOCS / "results" / "studies"  # made here, from docs/results/*.jsonl
LINK = '<a href="index.html">The same as one page that can be taken along</a>'


def write_studies(app):
    """Writes a report for each study that is newer than its own, or if the code is."""
    from experiments.report.__main__ import gather, write

    code = [*DOCS.parent.glob("experiments/*.py"), *DOCS.parent.glob("experiments/*/*")]
    changed = max(path.stat().st_mtime for path in code)
    for file in sorted(DOCS.glob("results/*.jsonl")):
        page = STUDIES / file.stem / "report.md"
        if page.exists() and page.stat().st_mtime > max(changed, file.stat().st_mtime):
            continue
        records, _, refused = gather([file])
        if refused:
            raise ValueError(*refused)
        write(records, page.parent, file.stem)
        heading, _, rest = page.read_text("utf-8").partition("\n")
        page.write_text(f"{heading}\n\n{LINK}\n{rest}", "utf-8")


def copy_pages(app, exception):
    """Puts the page of each study beside what Sphinx makes of its report."""
    if exception is None and app.builder.format == "html":
        for page in STUDIES.glob("*/index.html"):
            shutil.copy(page, app.outdir / page.parent.relative_to(DOCS))


def setup(app):
    """Connects the two."""
    app.connect("builder-inited", write_studies)
    app.connect("build-finished", copy_pages)
