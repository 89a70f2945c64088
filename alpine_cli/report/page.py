"""The shell of every self-contained HTML page: head, colours for light and dark, print style.

One file, nothing fetched: CSS and script stand inline, fonts are the system's, and the page's own
content security policy forbids every request. It also runs no script but the one given (named by
its hash), so that text from a result file could do nothing even if an escape were forgotten.

What a body may use: `<div class="scroll" tabindex="0" role="region" aria-label="…">` around wide
tables, `class="number"` on cells of numbers, `class="quiet"` for remarks, and the colour variables
of `assets/page.css` (`--ink`, `--paper`, `--card`, `--line`, `--accent`, `--better`, `--worse` …).
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["asset", "page", "template_environment"]


def page(title: str, body: Markup, *, script: str = "", style: str = "") -> str:
    """A whole HTML document.

    Args:
        title: plain text; the tab's title and the page's only <h1>.
        body: safe HTML that follows the <h1>; build it with `template_environment`.
        script: JavaScript run once the body stands. Never put text of others into it.
        style: CSS after the shared one.

    Raises:
        TypeError: `body` is a plain string, whose escaping nobody has vouched for.
        ValueError: `script` or `style` would end its own element.
    """
    if not isinstance(body, Markup):
        raise TypeError(f"body must be Markup (safe HTML), got {type(body).__name__}")
    for text, end in ((script, "</script"), (script, "<!--"), (style, "</style")):
        if end in text.lower():
            raise ValueError(f"script or style contains {end!r}, which would end its element")
    return (
        template_environment()
        .get_template("page.html")
        .render(
            title=title,
            body=body,
            script=Markup(script),
            style=Markup(f"{asset('page.css')}{style}"),
            policy=_policy(script),
        )
    )


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    allowed = f"'sha256-{digest}'" if script else "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


@cache
def template_environment() -> Environment:
    """The jinja2 environment of all pages: templates from `assets`, everything escaped."""
    return Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def asset(name: str) -> str:
    """The text of a file in `report/assets`."""
    return resources.files("alpine_cli.report").joinpath("assets", name).read_text("utf-8")
