"""How the documentation site is built: `make docs`."""

import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
# Notebooks run in a process of their own, which has to find this project and its Python.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

from sphinx.application import Sphinx  # noqa: E402

from docs.site import mathml, pages  # noqa: E402
from docs.site.docstrings import to_rst  # noqa: E402

logging.getLogger("traitlets").setLevel(logging.WARNING)
project = "Thumbscale"
author = project_copyright = "the Thumbscale authors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "site", "generated/_*", "generated/notebooks"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_code_prompt_show = "Answer"
nb_code_prompt_hide = "Answer"
autodoc_typehints = "signature"
suppress_warnings = ["ref.python"]  # a class of settings and what it sets may share a name: Policy
html_theme = "furo"
html_title = "Thumbscale"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_dark_style = "github-dark"
highlight_language = "none"
SHORT_TYPES = {  # what autodoc says: what the code says
    r"~?(numpy\.)?ndarray\[[^]]*\], ~?(numpy\.)?dtype\[~?(numpy\.)?float64\]\]": "Array",
    r"~?(numpy\.)?ndarray\[[^]]*\], ~?(numpy\.)?dtype\[[^]]*\]\]": "NDArray",
    r"~?\w*\.?_Buffer \| .*?_NestedSequence\[complex \| bytes \| str\]": "ArrayLike",
    r"~(collections\.abc|typing|pathlib|concurrent\.futures\.\w+)\.": "",
}


def download_link(app: Sphinx, docname: str, content: list[str]) -> None:
    """Offer a notebook's page as a Jupyter notebook, under its title."""
    if "jupytext:" in content[0][:100]:
        name = f"{Path(docname).name}.ipynb"
        link = f"*Run when this site was built. As a notebook: {{download}}`{name} </generated/notebooks/{name}>`*"
        content[0] = re.sub(r"(?m)^# .*$", lambda title: f"{title[0]}\n\n{link}", content[0], count=1)


def read_docstring(app: Sphinx, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Turn a docstring of this house into reStructuredText, before napoleon reads its sections."""
    lines[:] = to_rst(lines)


def short_types(
    app: Sphinx, what: str, name: str, item: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Call an array of numbers an Array, as the code does."""
    for long, short in SHORT_TYPES.items():
        signature, returned = (text and re.sub(long, short, text) for text in (signature, returned))
    return signature, returned


def is_plain_field(app: Sphinx, what: str, name: str, item: Any, skip: bool, options: Any) -> bool | None:
    """Skip the fields of named tuples, whose docstring is Python's and says nothing."""
    return True if (getattr(item, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> None:
    """Tell Sphinx of the above."""
    app.add_html_math_renderer("mathml", (mathml.inline, None), (mathml.block, None))
    app.connect("builder-inited", lambda app: pages.write_all())
    app.connect("source-read", download_link)
    app.connect("autodoc-process-docstring", read_docstring, priority=400)
    app.connect("autodoc-process-signature", short_types)
    app.connect("autodoc-skip-member", is_plain_field)
