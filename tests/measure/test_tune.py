"""The bound of a drop covers, and the search never goes beyond a setting that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from alpine_cli.errors import ConfigError
from alpine_cli.measure import tune
from alpine_cli.measure.grid import Family, GridOptions, make_grid
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.sweep import plan_grid
from alpine_cli.measure.trials import settings_to
from alpine_cli.measure.tune import DROP, drop_bound, measure_tune, samples_needed
from alpine_cli.measure.tuning import Aim
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.results import Part

Answers = NDArray[np.int64]


def answers(samples: int, down: float, up: float, random: Any) -> tuple[Answers, Answers, Answers]:
    """Labels, pruned and unpruned answers; pruning loses a share `down` and wins a share `up`."""
    labels = random.integers(0, 2, samples)
    kind = random.random(samples)
    lost, won = kind < down, (kind >= down) & (kind < down + up)
    unpruned = np.where(won, 1 - labels, labels)
    pruned = np.where(lost, 1 - labels, labels)
    return labels, pruned, unpruned


@pytest.fixture
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "_RESAMPLES", 1999)  # quick, and precise enough to count errors


@pytest.mark.usefixtures("_few_resamples")
@pytest.mark.parametrize(("down", "up"), [(0.0, 0.0), (0.01, 0.0), (0.005, 0.004), (0.05, 0.03)])
def test_the_bound_covers_the_true_drop(down: float, up: float) -> None:
    random, covered = np.random.default_rng(0), 0
    for seed in range(100):
        found = drop_bound("accuracy", *answers(300, down, up, random), level=0.95, seed=seed)
        covered += found >= down - up
    assert covered >= 88


def test_no_change_seen_is_no_proof_of_none() -> None:
    """With n samples and no change the exact bound is 1 - 0.05^(1/n), about 3 / n."""
    labels = np.arange(100) % 2
    found = drop_bound("accuracy", labels, labels, labels, level=0.95)
    assert 0.015 < found < 0.035
    assert drop_bound("accuracy", labels, labels, labels, level=0.99) >= found


@pytest.mark.parametrize("metric", ["accuracy", "f1", "mcc"])
def test_a_larger_drop_or_level_has_a_larger_bound(metric: str) -> None:
    random = np.random.default_rng(1)
    small = answers(400, 0.02, 0.0, random)
    large = answers(400, 0.10, 0.0, random)
    assert drop_bound(metric, *small, level=0.95) < drop_bound(metric, *large, level=0.95)
    assert drop_bound(metric, *small, level=0.95) < drop_bound(metric, *small, level=0.99)


def test_how_many_samples_would_be_needed() -> None:
    """Where nothing changed the bound falls like 1 / n, where something did like 1 / sqrt(n)."""
    labels = np.arange(100) % 2
    found = samples_needed("accuracy", labels, labels, labels, level=0.95, max_drop=0.002)
    assert found is not None
    assert 500 < found < 2500
    lost = np.where(np.arange(100) < 2, 1 - labels, labels)
    other = np.where(np.arange(100) >= 98, 1 - labels, labels)  # as often wrong, elsewhere
    many = samples_needed("accuracy", labels, lost, other, level=0.95, max_drop=0.002)
    assert many is not None
    assert many > 5 * found
    assert samples_needed("accuracy", labels, lost, labels, level=0.95, max_drop=0.01) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_drop": 0.0}, "max-drop"),
        ({"max_drop": -0.1}, "max-drop"),
        ({"max_drop": 1.0}, "max-drop"),
        ({"max_drop": float("nan")}, "max-drop"),
        ({"max_drop": 0.1, "confidence": 1.0}, "confidence"),
        ({"max_drop": 0.1, "confidence": 0.4}, "confidence"),
    ],
)
def test_aims_that_mean_nothing_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Aim("accuracy", **fields)


class _Made:
    """Stands for the runner: settings lose a share of the answers that their alpha decides."""

    def __init__(self, losses: dict[str, float], samples: int, random: Any) -> None:
        self.losses, self.random, self.run_names = losses, random, []
        self.labels = random.integers(0, 2, samples)

    def outcome(self, name: str) -> Answers:
        self.run_names.append(name)
        lost = self.random.random(len(self.labels)) < self.losses.get(name, 0.0)
        return np.where(lost, 1 - self.labels, self.labels)


def walk(
    losses: dict[str, float], max_drop: float, *, chains: int, random: Any
) -> tuple[Any, _Made]:
    """The search on made answers; settings are named "LAYERS α=ALPHA mean"."""
    band = Family("band", (3.0, 2.0, 1.0), ("even", "odd", "all")[:chains])
    settings = make_grid(PruningConfig(), GridOptions((band,)), num_layers=4)
    made = _Made(losses, 300, random)
    base = made.outcome("unpruned")
    found = tune.search(
        settings,
        lambda setting: made.outcome(setting.name),
        lambda name, got, level: drop_bound("accuracy", made.labels, got, base, level=level),
        max_drop=max_drop,
        confidence=0.95,
    )
    return found, made


def test_a_chain_ends_at_its_first_failure() -> None:
    losses = {"even α=2 mean": 0.5, "even α=1 mean": 0.0, "odd α=1 mean": 0.5}
    found, made = walk(losses, 0.05, chains=2, random=np.random.default_rng(0))
    assert made.run_names == [
        "unpruned",
        *("even α=3 mean", "even α=2 mean"),
        *("odd α=3 mean", "odd α=2 mean", "odd α=1 mean"),
    ]
    assert found.passed == ["even α=3 mean", "odd α=3 mean", "odd α=2 mean"]
    assert found.level == pytest.approx(0.975)


@pytest.mark.usefixtures("_few_resamples")
def test_the_whole_search_errs_no_more_than_it_says() -> None:
    """Every setting loses just more than allowed: anything chosen is an error, 5 % of the time."""
    random, errors = np.random.default_rng(2), 0
    names = [f"{layers} α={alpha} mean" for layers in ("even", "odd", "all") for alpha in (3, 2, 1)]
    for _ in range(100):
        found, _ = walk(dict.fromkeys(names, 0.051), 0.05, chains=3, random=random)
        errors += bool(found.passed)
    assert errors <= 12  # 5 expected at the most; more than 12 by luck once in 1000


@pytest.fixture(scope="module")
def request_(subject: tuple[Path, Path]) -> dict[str, Any]:
    options = MeasureOptions(checkpoint=subject[0], batch_size=8, device="cpu", threads=1)
    grid = GridOptions((Family("band", (50.0, 0.3), ("even", "all")),))
    plan, settings, _ = plan_grid(options, grid)
    return {
        "workload": plan.request.model_dump(mode="json"),
        "settings": settings_to(settings),
        "flops_batch_size": 1,
        "folder": None,
        "metric": "accuracy",
        "confidence": 0.95,
        "max_drop": 0.9,
    }


def test_the_cheapest_that_passed_is_chosen(request_: dict[str, Any]) -> None:
    answer = measure_tune(request_)
    part = Part.model_validate(answer["part"])
    macs = {f.variant: f.value for f in part.figures if f.name == "total_macs"}
    assert answer["chosen"] == min(macs, key=lambda name: macs[name] or 0)
    assert answer["level"] == pytest.approx(0.975)
    bounds = {f.variant: f for f in part.figures if f.name == DROP}
    assert set(bounds) == set(macs) - {"unpruned"}
    assert all("97.50%" in figure.method for figure in bounds.values())


def test_nothing_is_chosen_where_nothing_is_shown(request_: dict[str, Any]) -> None:
    """24 samples cannot show a tenth of a point, even of settings that prune nothing."""
    answer = measure_tune({**request_, "max_drop": 0.001})
    assert answer["chosen"] is None
    part = Part.model_validate(answer["part"])
    tried = {f.variant for f in part.figures if f.name == DROP}
    assert tried == {"even α=50 mean", "all α=50 mean"}
