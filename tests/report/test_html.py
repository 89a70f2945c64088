"""The HTML page: self-contained, whole, and unmoved by whatever names a result file holds."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.report.document import make_document
from alpine_cli.report.html import to_html
from alpine_cli.report.inline_svg import inline_svg
from alpine_cli.report.page import asset
from alpine_cli.report.pictures import draw_all
from alpine_cli.results import Caution, Result
from tests.report.made import make_result, with_energy

HOSTILE = "</svg></script><script>alert(1)</script><img/src=x/onerror=alert(1)>\"'&{{7*7}}$\\frac$"
VOID = {"meta", "link", "br", "img", "input"}


class Outline(HTMLParser):
    """The elements of a page in order, their attributes, and whether they close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.glued = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "wbr":  # where a line may end inside a name, which stays one
            self.glued = True
            return
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.glued and self.words:
            self.words[-1] += data
        else:
            self.words.append(data)
        self.glued = False

    def values(self, name: str) -> list[str]:
        return [value for _, known, value in self.attributes if known == name]


def named(text: str) -> Result:
    """A result that says `text` wherever a file may say what it likes."""
    result = with_energy(make_result(), 2.0, 1.0, "modelled")
    variants = {
        name: variant.model_copy(
            update={"description": text, "checkpoint": text, "engine": text}
            | ({"pruning": {"layers": text, "alpha": 1.0}} if name == "pruned" else {})
        )
        for name, variant in result.variants.items()
    }
    figures = [figure.model_copy(update={"method": text}) for figure in result.figures]
    series = [
        curve.model_copy(update={"method": text, "labels": curve.labels and [text, f"{text}2"]})
        for curve in result.series
    ]
    update: dict[str, Any] = {
        "subject": result.subject.model_copy(
            update={"model": text, "task": text, "data": text, "split": text}
        ),
        "variants": variants,
        "figures": figures,
        "series": series,
        "cautions": [Caution(code="x", text=text, effect=text, remedy=text)],
        "command": ["alpine", text],
        "settings": {"device": text, "batch_size": 32, text: text},
        "environment": result.environment.model_copy(
            update={"cpu_model": text, "versions": {text: text}}
        ),
    }
    return result.model_copy(update=update)


def render(folder: Path, *results: Result, problems: tuple[str, ...] = ()) -> str:
    pictures = draw_all(results, folder)
    return to_html(make_document(results, pictures, problems=problems), folder)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render(tmp_path_factory.mktemp("page"), with_energy(make_result(), 2.0, 1.0))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render(tmp_path_factory.mktemp("hostile"), named(HOSTILE), problems=(HOSTILE,))


def test_hostile_names_add_no_element(
    hostile: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tame = render(tmp_path_factory.mktemp("tame"), named("tame"), problems=("tame",))
    there, here = Outline(hostile), Outline(tame)
    # Long labels may need other ticks and wrapped lines; nothing but drawing may differ.
    drawing = {"g", "path", "use", "text", "defs", "clippath", "rect"}
    assert [t for t in there.tags if t not in drawing] == [t for t in here.tags if t not in drawing]
    assert there.open == here.open == []
    assert there.tags.count("script") == 1
    assert not [name for _, name, _ in there.attributes if name.startswith("on")]


def test_hostile_names_are_shown_as_they_are(hostile: str) -> None:
    words = "".join(Outline(hostile).words)
    assert words.count(HOSTILE) > 10
    assert "49" not in re.findall(r"\{?\{?7\*7\}?\}?|\b49\b", words)


def test_the_page_asks_for_nothing_and_links_only_inside(page: str) -> None:
    outline = Outline(page)
    assert set(outline.values("src")) == set()
    links = [value for tag, name, value in outline.attributes if name.endswith("href")]
    assert all(link.startswith("#") or link == "data:," for link in links)
    targets = outline.values("id")
    assert len(targets) == len(set(targets))
    assert {link[1:] for link in links if link.startswith("#")} <= set(targets)
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(targets)
    assert not re.findall(r"@import|url\((?!#)", page)


def test_the_page_tells_all_there_is_to_a_result(page: str) -> None:
    words = " ".join("".join(Outline(page).words).split())
    for told in (
        "1.50× faster (95 % CI",
        "Mind: the machine was busy",
        "● measured, n=6",
        "▲ analytic",
        "Environment and settings",
        "The command that made it: alpine bench",
        "65–128 tokens",
    ):
        assert told in words, told
    assert page.count("<figure>") >= 3
    assert page.count("<svg") == page.count("<figure>")


def test_numbers_carry_what_a_table_sorts_by(page: str) -> None:
    table = page.split('id="table-summary-0badcafe"')[1].split("</table>")[0]
    values = [float(v) for v in re.findall(r'<td class="number"[^>]*data-value="([^"]*)"', table)]
    assert {50.0, 60.0, 90.0, 48.3, 31.2} <= set(values)
    script = asset("report.js")
    assert "aria-sort" in script
    assert "dataset.value" in script


def test_verdicts_are_words_and_not_colour_alone(page: str) -> None:
    for style in ("better", "worse"):
        cells = re.findall(rf'<td class="[^"]*\b{style}\b[^"]*"[^>]*>(.*?)</td>', page, flags=re.S)
        rows = re.findall(r"<tr>.*?</tr>", page, flags=re.S)
        coloured = [row for row in rows if re.search(rf'<td class="[^"]*\b{style}\b', row)]
        assert all(re.search(rf">[^<]*\b{style}\b", row) for row in coloured)
        assert style == "worse" or cells


def test_an_inline_figure_takes_the_colours_of_the_page_and_own_names() -> None:
    svg = (
        '<?xml version="1.0"?>\n<!DOCTYPE svg>\n'
        '<svg width="72pt" height="36pt" viewBox="0 0 72 36" xmlns="http://www.w3.org/2000/svg">'
        "<metadata><x/></metadata><defs><style>*{fill:red}</style>"
        '<clipPath id="c"><path id="m"/></clipPath></defs>'
        '<use xlink:href="#m" style="fill: #222222; stroke: #d55e00"/>'
        '<g clip-path="url(#c)" style="stroke: #dddddd"/></svg>'
    )
    made = str(inline_svg(svg, "a-1", 'what "it" shows'))
    assert made.startswith("<svg")
    assert "metadata" not in made
    assert "<style" not in made
    assert 'aria-label="what &#34;it&#34; shows"' in made
    assert "fill: var(--ink, #222222); stroke: #d55e00" in made
    assert "stroke: var(--line, #dddddd)" in made
    assert 'id="a-1-c"' in made
    assert 'href="#a-1-m"' in made
    assert "url(#a-1-c)" in made
    assert "--width: 72pt" in made
    with pytest.raises(ValueError, match="prefix"):
        inline_svg(svg, '"><b', "x")
    with pytest.raises(ValueError, match="no <svg>"):
        inline_svg("<html>", "a", "x")


def test_long_names_break_at_their_joints_only(tmp_path: Path) -> None:
    """On a phone a model's name was cut in the middle of its words."""
    name = "compressor:codebert_clone_3mb.model.bin"
    subject = make_result().subject.model_copy(update={"model": name})
    result = make_result().model_copy(update={"subject": subject})
    text = to_html(make_document([result]), tmp_path)
    assert "compressor:<wbr>codebert_<wbr>clone_<wbr>3mb.<wbr>model.<wbr>bin" in text
    assert name in Outline(text).words
    rules = asset("report.css")
    assert "overflow-wrap: anywhere" not in rules


def test_numbers_never_ask_for_the_width_of_a_sentence(tmp_path: Path) -> None:
    """A difference with interval and verdict widened the overview beyond the page."""
    results = [make_result(), make_result(id="0badcaf0")]
    page = Outline(to_html(make_document(results), tmp_path))
    classes = [
        value.split() for tag, name, value in page.attributes if (tag, name) == ("td", "class")
    ]
    assert any("number" in one for one in classes)
    assert not any({"number", "long"} <= set(one) for one in classes)
