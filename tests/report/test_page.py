"""The shell of every page: escaped, self-contained, and closed to what is not its own script."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from alpine_cli.report.page import asset, page, template_environment


@given(st.text())
@settings(max_examples=60, deadline=None)
def test_any_title_is_text(title: str) -> None:
    html = page(title, Markup("<p>body</p>"))
    shown = html.split("<h1>")[1].split("</h1>")[0]
    assert "<" not in shown
    assert str(Markup(shown).unescape()) == title
    assert html.count("<p>body</p>") == 1


def test_a_plain_string_is_no_body() -> None:
    with pytest.raises(TypeError, match="Markup"):
        page("t", "<b>x</b>")  # type: ignore[arg-type]


@pytest.mark.parametrize("script", ["'</script>'", "'</SCRIPT>'", "'<!--'"])
def test_a_script_cannot_end_its_element(script: str) -> None:
    with pytest.raises(ValueError, match="would end its element"):
        page("t", Markup(), script=script)


def test_a_style_cannot_end_its_element() -> None:
    with pytest.raises(ValueError, match="would end its element"):
        page("t", Markup(), style="</style>")


def test_the_policy_lets_only_the_given_script_run() -> None:
    script = "document.title = 'x && y';"
    html = page("t", Markup(), script=script)
    (written,) = re.findall(r"<script>(.*?)</script>", html, flags=re.S)
    assert written == script
    digest = base64.b64encode(hashlib.sha256(written.encode()).digest()).decode()
    policy = Markup(re.findall(r'Policy" content="(.*?)"', html)[0]).unescape()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    bare = page("t", Markup())
    assert "<script" not in bare
    assert "script-src 'none'" in Markup(bare).unescape()


def test_nothing_outside_is_asked_for() -> None:
    html = page("t", Markup())
    assert not re.findall(r"https?://|//[a-z]|@import|url\((?!#)", html)


def test_every_colour_has_a_dark_and_a_printed_form() -> None:
    light, rest = asset("page.css").split("@media (prefers-color-scheme: dark)")
    dark, printed = rest.split("@media print")
    names = set(re.findall(r"(--[a-z-]+):", light))
    assert names == set(re.findall(r"(--[a-z-]+):", dark))
    assert set(re.findall(r"(--[a-z-]+):", printed)) >= names - {"--mind-edge"}
    assert set(re.findall(r"var\((--[a-z-]+)", light + rest)) <= names


def test_templates_escape_by_themselves() -> None:
    template = template_environment().from_string("<i>{{ x }}</i>")
    assert template.render(x="<&\"'") == "<i>&lt;&amp;&#34;&#39;</i>"
