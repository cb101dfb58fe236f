"""Sphinx configuration."""

import ftp_optax

project = "ftp_optax"
author = "The ftp_optax authors"
html_show_copyright = False
release = ftp_optax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 2
html_theme = "furo"
html_title = "ftp_optax"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# Single backticks in docstrings name code, as in Markdown.
default_role = "code"
