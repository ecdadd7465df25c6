"""Formulas become MathML while the site is built, so that pages need no script and no network to show them."""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer that `html_math_renderer` names."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True}


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    # Formulas side by side come below each other where a screen is too narrow.
    parts = (convert(part.strip(), display="block") for part in node.astext().split(r"\qquad"))
    writer.body.append(f'<div class="formula">{" ".join(parts)}</div>\n')
    raise nodes.SkipNode
