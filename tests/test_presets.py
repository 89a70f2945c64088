"""configs/alpine: complete, readable, the paper's settings, and figures that agree with each other.

The figures in the comments are checked against what the paper says of them as a whole (the means
over all cells of "all" against "none"), so that a mistyped digit shows.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from statistics import mean

import pytest

from alpine_cli.config import RunConfig, load_config

PRESETS = Path(__file__).parents[1] / "configs" / "alpine"
MODELS = ("codebert", "graphcodebert", "unixcoder")
TASKS = ("defect-detection", "clone-detection")
LAYERS = ("none", "all", "even", "odd")
CELLS = list(itertools.product(MODELS, TASKS, LAYERS))

_CELL = re.compile(
    r"^#   (?P<unpruned>unpruned: )?(?:accuracy|F1) (?P<score>[\d.]+) %, (?P<gmacs>[\d.]+) GMACs/"
    r"(?:sample|pair)(?: \((?P<factor>[\d.]+) times fewer\))?, (?P<rate>[\d.]+) \w+/s$",
    re.MULTILINE,
)
_HOURS = re.compile(r"([\d.]+) h(?: to ([\d.]+) h)? on an (A100|RTX 2080)")


def _text(model: str, task: str, layers: str) -> str:
    return (PRESETS / f"{model}-{task}-{layers}.yaml").read_text(encoding="utf-8")


def _figures(model: str, task: str, layers: str) -> dict[str, float]:
    own = next(m for m in _CELL.finditer(_text(model, task, layers)) if not m["unpruned"])
    return {key: float(own[key]) for key in ("score", "gmacs", "rate", "factor") if own[key]}


def test_there_is_one_per_experiment() -> None:
    expected = {f"{model}-{task}-{layers}.yaml" for model, task, layers in CELLS}
    assert {path.name for path in PRESETS.iterdir()} == expected
    assert len(expected) == 24


@pytest.mark.parametrize(("model", "task", "layers"), CELLS)
def test_it_holds_the_papers_settings(model: str, task: str, layers: str) -> None:
    config = load_config(PRESETS / f"{model}-{task}-{layers}.yaml")
    assert (config.model, config.task, config.mode_prefix) == (model, task, False)
    prune = config.prune
    assert (prune.layers, prune.alpha, prune.merge, prune.protect) == (layers, 1.0, "mean", "ends")
    assert (
        prune.resolve(12)
        == {
            "none": (),
            "all": tuple(range(12)),
            "even": (0, 2, 4, 6, 8, 10),
            "odd": (1, 3, 5, 7, 9, 11),
        }[layers]
    )
    train = config.train
    assert (train.epochs, train.batch_size, train.lr, train.seed) == (5, 32, 2e-5, 123456)
    assert (train.grad_norm, train.warmup, train.max_length) == (1.0, 0.1, 512)
    assert (train.eval_batch_size, train.adam_epsilon, train.weight_decay) == (64, 1e-8, 0.0)
    assert str(config.run_dir()) == f"runs/{model}-{task}-{layers}-seed123456"


@pytest.mark.parametrize(("model", "task", "layers"), CELLS)
def test_it_says_what_it_reproduces_and_costs(model: str, task: str, layers: str) -> None:
    text = _text(model, task, layers)
    assert text.startswith("# ALPINE (FSE 2025), main results, ")
    assert f"configs/alpine/{model}-{task}-{layers}.yaml --data" in text
    assert "# Cost" in text
    cells = list(_CELL.finditer(text))
    baseline = _figures(model, task, "none")
    if layers == "none":
        assert len(cells) == 1
        return
    own, unpruned = cells
    assert unpruned["unpruned"]
    assert {key: float(unpruned[key]) for key in ("score", "gmacs", "rate")} == baseline
    # published factors are cut off after two digits rather than rounded
    assert float(own["factor"]) == pytest.approx(baseline["gmacs"] / float(own["gmacs"]), abs=0.02)


def test_figures_add_up_to_the_papers_means() -> None:
    """48.6 % fewer MACs, 38.8 % more samples per second, 97.7 % of the score kept."""
    pairs = [
        (_figures(model, task, "none"), _figures(model, task, "all"))
        for model, task in itertools.product(MODELS, TASKS)
    ]
    assert mean(1 - b["gmacs"] / a["gmacs"] for a, b in pairs) == pytest.approx(0.486, abs=5e-4)
    assert mean(b["rate"] / a["rate"] - 1 for a, b in pairs) == pytest.approx(0.388, abs=5e-4)
    assert mean(b["score"] / a["score"] for a, b in pairs) == pytest.approx(0.977, abs=5e-4)


def test_hours_add_up_to_the_papers_totals() -> None:
    totals = {
        (layers, gpu): sum(
            float(hours)
            for model, task in itertools.product(MODELS, TASKS)
            for hours, _, found in _HOURS.findall(_text(model, task, layers))
            if found == gpu
        )
        for layers in ("none", "all")
        for gpu in ("A100", "RTX 2080")
    }
    expected = {
        ("none", "RTX 2080"): 39.96,
        ("all", "RTX 2080"): 22.04,
        ("none", "A100"): 18.29,
        ("all", "A100"): 15.61,
    }
    assert totals == pytest.approx(expected, abs=0.02)


def test_published_settings_are_the_defaults() -> None:
    """What the presets say about training is also what one gets without them."""
    preset = load_config(PRESETS / "codebert-defect-detection-none.yaml")
    assert preset.train == RunConfig(model="codebert", task="defect-detection").train
