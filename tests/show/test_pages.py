"""The two pages: the source character for character, nothing active from outside, and all told."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
import torch

from alpine_cli.checkpoint import Checkpoint
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.show.fates import Shown, show_functions
from alpine_cli.show.fates_page import fates_page
from alpine_cli.show.kinds import lexer_for
from alpine_cli.show.sources import Source
from alpine_cli.show.survival import count_survival, summarise_survival
from alpine_cli.show.survival_page import survival_page
from alpine_cli.tasks.data import Sample
from tests.show.conftest import JAVA

CPU = torch.device("cpu")
HOSTILE = '\n\tint é = 1; // </pre><script>alert("x")</script> & <b>名</b>\n  "</script>" <!-- \n'


class Page(HTMLParser):
    """Texts of <pre>, attributes of tokens, contents of scripts, tags of the whole page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.pre: list[str] = []
        self.tokens: list[dict[str, str | None]] = []
        self.scripts: list[str] = []
        self.tags: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        attributes = dict(attrs)
        if tag in ("pre", "script"):
            self.inside = tag
            (self.pre if tag == "pre" else self.scripts).append("")
        elif tag == "span" and "data-i" in attributes and self.inside == "pre":
            self.tokens.append(attributes)

    def handle_endtag(self, tag: str) -> None:
        if tag == self.inside:
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            (self.pre if self.inside == "pre" else self.scripts)[-1] += data


def show(checkpoint: Checkpoint, *texts: str, **pruning: object) -> Shown:
    config = PruningConfig(**{"layers": "all", "alpha": 0.8, **pruning})  # type: ignore[arg-type]
    return show_functions(checkpoint, [Source("<f>", text) for text in texts], config, CPU)


@pytest.mark.parametrize("source", [JAVA, HOSTILE], ids=["java", "hostile"])
def test_the_page_shows_the_source_and_every_fate(detector: Checkpoint, source: str) -> None:
    shown = show(detector, source)
    page = Page(fates_page(shown))
    # A browser drops the line end right after <pre>; the template puts one there to be dropped.
    assert page.pre == ["\n" + source]
    function = shown.functions[0]
    placed = [token for token in function.tokens if token.start is not None]
    named = [int(part) for token in page.tokens for part in str(token["data-i"]).split()]
    assert named == [token.position for token in placed]
    for token in page.tokens:
        layers = [function.tokens[int(part)].layer for part in str(token["data-i"]).split()]
        if None in layers:
            assert "data-layer" not in token
        else:
            assert int(str(token["data-layer"])) == max(
                layer for layer in layers if layer is not None
            )
    assert len(page.scripts) == 2
    assert "alert" not in page.scripts[1]
    (data,) = json.loads(page.scripts[0])
    assert data["lengths"] == list(function.lengths)
    for fate in [*function.tokens, *function.merged]:
        told = data["tokens"][str(fate.position)]
        assert (told["text"], told["layer"]) == (fate.text, fate.layer)
        assert told["scores"] == pytest.approx(
            {str(layer): score for layer, score in fate.scores.items()}, rel=1e-5
        )


def test_nothing_is_fetched_and_nothing_runs_but_our_script(detector: Checkpoint) -> None:
    text = fates_page(show(detector, HOSTILE))
    assert "http://" not in text
    assert "https://" not in text
    assert "<script>alert" not in text
    assert not {"img", "iframe", "object", "embed"} & set(Page(text).tags)


def test_pairs_stand_one_below_the_other(clone_detector: Checkpoint) -> None:
    page = Page(fates_page(show(clone_detector, JAVA, HOSTILE)))
    assert page.pre == ["\n" + JAVA, "\n" + HOSTILE]
    assert len(json.loads(page.scripts[0])) == 2


def test_words_follow_rule_and_merge(detector: Checkpoint) -> None:
    assert "outside a band" in fates_page(show(detector, JAVA))
    page = fates_page(show(detector, JAVA, merge="none", rule="floor"))
    assert "far below the mean" in page
    assert "merged away" not in page
    assert "removed in layer" in page


def test_kinds_page_tells_every_number_in_words(detector: Checkpoint) -> None:
    samples = [Sample((JAVA.replace("10", str(n)),), 0, str(n)) for n in range(6)]
    counts = count_survival(detector, samples, PruningConfig("all"), lexer_for("java"), CPU)
    survival = summarise_survival(counts, "java", "<why>", {"checkpoint": "a<b.pt"})
    page = survival_page(survival)
    for found in survival.every:
        assert page.count(found.kind) >= 3  # bar, curve, both tables
        assert f"{100 * found.surviving:.1f} %" in page
    assert "a&lt;b.pt" in page
    assert "&lt;why&gt;" in page
    assert "NaN" not in page
    assert Page(page).scripts == []
