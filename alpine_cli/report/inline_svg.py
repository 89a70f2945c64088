"""An SVG file of `drawing` as part of a page: in the page's colours, its names its own.

The file's ink, paper and grid become the page's colour variables, so that a figure turns dark with
the page; data keep their colours, which stand out on either ground. Every id gets a prefix, since
two figures in one page may use the same, and the file's own style sheet goes: it would style the
whole page (`assets/report.css` has its one rule).
"""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from alpine_cli.report.drawing import GRID, INK, PAPER, QUIET

__all__ = ["inline_svg"]

_VARIABLES = {
    INK: "--ink",
    "#000000": "--ink",
    "black": "--ink",
    QUIET: "--quiet",
    GRID: "--line",
    PAPER: "--paper",
    "white": "--paper",
}
_COLOUR = re.compile(rf"(fill|stroke): ({'|'.join(map(re.escape, _VARIABLES))})(?=[;\"])", re.I)


def inline_svg(svg: str, prefix: str, label: str) -> Markup:
    """The <svg> element of a file that matplotlib wrote.

    Args:
        svg: the file's text. matplotlib has escaped what came from result files.
        prefix: put before every id; letters, digits and hyphens.
        label: what the figure shows, for those who do not see it.

    Raises:
        ValueError: no <svg> element, or a prefix that is no part of an id.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", prefix):
        raise ValueError(f"not a prefix of ids: {prefix!r}")
    start = svg.find("<svg")
    if start < 0:
        raise ValueError("not an SVG file: no <svg> element")
    text = svg[start:]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.S)
    text = re.sub(r"<style\b.*?</style>", "", text, flags=re.S)
    text = re.sub(r"<script\b.*?</script>", "", text, flags=re.S)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    text = _COLOUR.sub(
        lambda found: f"{found[1]}: var({_VARIABLES[found[2].lower()]}, {found[2]})", text
    )
    head, rest = text.split(">", 1)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    # Without width and height the page's style sets the width and the view box the shape.
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    natural = f' style="--width: {float(size[1]):.0f}pt"' if size else ""
    return Markup(f'{head} role="img" aria-label="{escape(label)}"{natural}>{rest}'.strip())
