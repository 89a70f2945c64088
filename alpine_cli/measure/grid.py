"""Which prunings `alpine sweep` and `alpine tune` try: a grid of named settings, in chains.

A chain holds settings that differ in strength alone, the gentlest first: of one choice of layers,
merge and protected tokens, alphas from the largest down. A sweep runs all of them; `tune` walks
each chain from its gentle end (see there why).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from alpine_cli.errors import ConfigError
from alpine_cli.pruning.config import Merge, Protect, PruningConfig

__all__ = ["Setting", "chains_of", "make_grid", "parse_alphas", "parse_choices", "parse_layers"]

_NAMED = ("odd", "even", "all")


@dataclass(frozen=True)
class Setting:
    """One pruning under a name: "even α=0.75 mean", plus "ends" where that is protected."""

    name: str
    pruning: PruningConfig

    @classmethod
    def of(cls, pruning: PruningConfig) -> Setting:
        """Name a pruning."""
        name = f"{pruning.layers} α={pruning.alpha:g} {pruning.merge}"
        return cls(name if pruning.protect == "special" else f"{name} {pruning.protect}", pruning)

    @property
    def chain(self) -> tuple[Any, ...]:
        """What all settings of its chain share."""
        return (self.pruning.layers, self.pruning.merge, self.pruning.protect)


def make_grid(
    base: PruningConfig,
    *,
    alphas: Sequence[float],
    layers: Sequence[str],
    merges: Sequence[str],
    protects: Sequence[str],
    num_layers: int,
) -> list[Setting]:
    """Every combination, chain after chain; in a chain the largest alpha first.

    Two names for the same layers ("all" and "0,1,2,3" of four) give two chains.

    Args:
        base: gives what the grid does not vary (the engine).
        alphas, layers, merges, protects: at least one each; repetitions count once.
        num_layers: of the encoder.

    Raises:
        PruningError: a value out of range, or layers that the encoder does not have.
    """
    settings = []
    for chosen, merge, protect in itertools.product(
        *map(dict.fromkeys, (layers, merges, protects))
    ):
        for alpha in sorted(set(alphas), reverse=True):
            pruning = replace(
                base,
                layers=chosen,
                alpha=alpha,
                merge=merge,  # type: ignore[arg-type]  # checked by the record
                protect=protect,  # type: ignore[arg-type]
            )
            pruning.resolve(num_layers)
            settings.append(Setting.of(pruning))
    return settings


def chains_of(settings: Sequence[Setting]) -> list[list[Setting]]:
    """The chains of a grid, in its order."""
    chains: dict[tuple[Any, ...], list[Setting]] = {}
    for setting in settings:
        chains.setdefault(setting.chain, []).append(setting)
    return list(chains.values())


def parse_alphas(text: str) -> list[float]:
    """Read "0.5,1,1.5".

    Raises:
        ConfigError: a part is no number; names it. (Its range is checked by the grid.)
    """
    alphas = []
    for part in text.split(","):
        try:
            alphas.append(float(part))
        except ValueError:
            raise ConfigError(f"--alphas: {part.strip()!r} is no number (got {text!r})") from None
    return alphas


def parse_layers(texts: Sequence[str]) -> list[str]:
    """Read choices of layers: each text is names joined by commas, or one list of indices.

    ["odd,even", "0,2,4"] are three choices.

    Raises:
        ConfigError: names and indices in one text, or neither.
    """
    found: list[str] = []
    for text in texts:
        parts = [part.strip() for part in text.split(",")]
        if all(part in _NAMED for part in parts):
            found += parts
        elif all(part.isascii() and part.isdecimal() for part in parts):
            found.append(",".join(parts))
        else:
            raise ConfigError(
                f"--layers: takes {', '.join(_NAMED)} joined by commas, or one list of indices such"
                f" as 0,2,4; repeat --layers for both (got {text!r})"
            )
    return found


def parse_choices(text: str, option: str) -> list[str]:
    """Read "mean,none" of --merges, or "special,ends" of --protect.

    Raises:
        ConfigError: an unknown choice.
    """
    known = get_args(Merge) if option == "--merges" else get_args(Protect)
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if part not in known:
            raise ConfigError(f"{option}: unknown choice {part!r}; known: {', '.join(known)}")
    return parts
