"""Sphinx builds these pages without a network: nothing here fetches the inventory of another project."""

from __future__ import annotations

import builtins
import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

import trio_conman

# For docs.timelines. Last, so that it leads to no other package than the one that is installed.
sys.path.append(str(Path(__file__).parent.parent))

project = "trio-conman"
author = "trio-conman contributors"
copyright = f"2026, {author}"  # noqa: A001  # the name is Sphinx's
version = release = installed_version(project)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "docs.figures",
    "docs.limits",
    "docs.neighbours",
    "docs.timelines",
    "docs.tried",
]
myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_substitutions = {"version": version}
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = project
html_domain_indices = False  # of modules; the reference has them all
html_static_path = ["_static"]
html_favicon = "_static/icon.svg"
html_css_files = ["site.css", "pictures.css"]
html_js_files = ["cards.js"]
# The theme's own size of 13 px is too small for more than a line or two.
html_theme_options = {
    "light_css_variables": {"admonition-font-size": "0.9rem", "admonition-title-font-size": "0.9rem"}
}
# A pair that keeps its contrast; the theme's own dark one underlines modules as if they were links.
pygments_style = "a11y-light"
pygments_dark_style = "a11y-dark"

# What a reader would paste: neither prompts nor printed output, which the pages show as `text`.
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_copy_empty_lines = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 100

# A name in single backquotes in a docstring links to what has that name.
default_role = "py:obj"

# Every other reference must lead somewhere.
nitpicky = True
nitpick_ignore_regex = [
    # The inventories of other projects and of Python are not there, so their names lead nowhere;
    (r"py:.*", rf"({'|'.join(['trio', 'rich', 'opentelemetry', *sorted(sys.stdlib_module_names)])})\..*"),
    (r"py:.*", "|".join(dir(builtins))),
    # nor do parameters,
    (r"py:obj", r"[a-z_]+"),
    # and the type variables that signatures show under the module that holds them.
    (r"py:.*", r"trio_conman\.(_.*|[a-z]+\.T)|Ts"),
]

# The public classes report the module `trio_conman`, so autodoc looks there for what it reads from the source
# (the docs of attributes, the order of members) and for the names in annotations. Lead it to the modules that
# have them.
_public = ModuleAnalyzer.for_module("trio_conman")
_public.analyze()
for _name in [name for name in sys.modules if name.startswith("trio_conman._")]:
    _private = ModuleAnalyzer.for_module(_name)
    _private.analyze()
    _public.attr_docs.update(_private.attr_docs)
    _public.tagorder.update(_private.tagorder)
    trio_conman.__dict__.update(vars(sys.modules[_name]) | vars(trio_conman))

# What `ConMan` inherits is shown as its own, in the order in which one meets it: how to open a manager, to
# hand in tasks, to control them, to read what became of them.
_parts = [ModuleAnalyzer.for_module(f"trio_conman._manager.{part}") for part in ("doors", "conman", "views")]
_met = [
    "ConMan.open",
    *(name for part in _parts for name in part.tagorder if name.startswith("ConMan.")),
]
_public.tagorder.update({name: place for place, name in enumerate(dict.fromkeys(_met))})

# The classes that users construct themselves; the others come from the library.
CONSTRUCTED = {
    "FixedJitter",
    "FlakyTask",
    "LoggingInstrument",
    "OpenTelemetryInstrument",
    "RateLimiter",
    "RetriableError",
    "RetryBudget",
    "RetryConfig",
    "RichProgress",
}


def tidy_signature(
    _app: Sphinx,
    what: str,
    name: str,
    _obj: object,
    _options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Show no private constructor, and no private type."""
    if what == "class" and name.rpartition(".")[2] not in CONSTRUCTED:
        return "", None
    return signature and re.sub(r": [~\w.]*Unpack\[[~\w.]*\._\w+\]", "", signature), returns


def keep_colons(
    _app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Keep napoleon from taking the first line of an attribute's docs, up to a colon, for its type."""
    if what in ("attribute", "data", "property"):
        lines.insert(0, "\\")  # with the line break, an escaped space: it shows as nothing


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", tidy_signature)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # napoleon has 500
