"""Equations as MathML, written at build: no script, no fonts and no network where the page is read."""

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import SphinxError


def to_mathml(tex: str, block: bool) -> str:
    """Return the MathML of an equation, or stop the build at one that cannot be read."""
    try:
        return str(tex2mathml(tex, as_block=block))
    except MathError as error:
        raise SphinxError(f"equation '{tex}': {error}") from None


def inline(translator: Any, node: nodes.math) -> None:
    """Write an equation in a line of text."""
    translator.body.append(to_mathml(node.astext(), block=False))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.math_block) -> None:
    """Write an equation of its own, in a box that scrolls where it is too wide for the screen."""
    translator.body.append(f'<div class="equation">{to_mathml(node.astext(), block=True)}</div>\n')
    raise nodes.SkipNode
