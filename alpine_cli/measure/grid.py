"""Which settings `alpine sweep` and `alpine tune` try: a grid of named settings, in chains.

A setting is a pruning, or a *truncation*: input cut to so many tokens before the encoder, nothing
pruned. That is no pruning rule but what users do instead, hence the rival that counts most.

A chain holds settings that differ in strength alone, the gentlest first: of one choice of rule,
score, layers, merge and protected tokens, by falling alpha ("band", "floor") or by falling share of
tokens that stay (the others); truncations by falling length. A sweep runs all of them; `tune` walks
each chain from its gentle end (see there why).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alpine_cli.errors import ConfigError
from alpine_cli.pruning.config import SHARE_RULES, PruningConfig
from alpine_cli.pruning.errors import PruningError

__all__ = ["TRUNCATE", "Family", "GridOptions", "Setting", "chains_of", "make_grid", "sizes_of"]

TRUNCATE = "truncate"
"""Stands where a rule is named, for cutting the input."""


@dataclass(frozen=True)
class Setting:
    """One pruning, or one truncation, under a name.

        even α=0.75 mean           band, the published rule
        all floor α=0.5 mean       another rule by alpha
        all top-cls 60% nearest    a rule by share; the score where it is not the published one
        0,1 random 90/70% mean     a share per pruned layer
        all bipartite 60%          a rule with a merge of its own
        truncate 128               input cut to 128 tokens

    plus "ends" where that is protected.

    Attributes:
        name: see above.
        pruning: of a truncation, one that prunes no layer.
        max_length: tokens of one function at most; None leaves the input as the checkpoint cuts it.
    """

    name: str
    pruning: PruningConfig
    max_length: int | None = None

    @classmethod
    def of(cls, pruning: PruningConfig) -> Setting:
        """Name a pruning."""
        by_share, by_cls = pruning.rule in SHARE_RULES, pruning.score == "cls"
        rule = f"{pruning.rule}-cls" if pruning.needs_scores and by_cls else pruning.rule
        words = [
            pruning.layers,
            *([] if rule == "band" else [rule]),
            _share_text(pruning.keep) if by_share else f"α={pruning.alpha:g}",
            *([] if rule == "bipartite" else [pruning.merge]),
            *([] if pruning.protect == "special" else [pruning.protect]),
        ]
        return cls(" ".join(words), pruning)

    @classmethod
    def truncation(cls, base: PruningConfig, max_length: int) -> Setting:
        """Input cut to `max_length` tokens; `base` gives engine and output."""
        return cls(f"{TRUNCATE} {max_length}", replace(base, layers="none"), max_length)

    @property
    def rule(self) -> str:
        """Its rule, or `TRUNCATE`."""
        return self.pruning.rule if self.max_length is None else TRUNCATE

    @property
    def chain(self) -> tuple[Any, ...]:
        """What all settings of its chain share."""
        if self.max_length is not None:
            return (TRUNCATE,)
        pruning = self.pruning
        return (pruning.rule, pruning.score, pruning.layers, pruning.merge, pruning.protect)


def _share_text(keep: float | str) -> str:
    shares = [keep] if isinstance(keep, float) else map(float, str(keep).split(","))
    return f"{'/'.join(f'{100 * share:g}' for share in shares)}%"


@dataclass(frozen=True)
class Family:
    """One row of a grid: a rule with everything that is combined with it.

    Attributes:
        rule: of `PruningConfig`, or `TRUNCATE`.
        strengths: alphas; or shares, each one number or one per pruned layer ("0.9,0.7"); or, for
            truncation, lengths in tokens.
        layers, merges, scores: at least one each; without meaning for truncation.
        optional: leave out what does not fit the model instead of refusing it (truncation to no
            less than the input is cut to anyway).
    """

    rule: str
    strengths: tuple[float | str, ...]
    layers: tuple[str, ...] = ("all",)
    merges: tuple[str, ...] = ("mean",)
    scores: tuple[str, ...] = ("received",)
    optional: bool = False


@dataclass(frozen=True)
class GridOptions:
    """What to try: rows of the grid, and what is protected (None keeps the checkpoint's)."""

    families: tuple[Family, ...]
    protects: tuple[str, ...] | None = None


def make_grid(
    base: PruningConfig,
    grid: GridOptions,
    *,
    num_layers: int,
    max_length: int = 512,
    specials: int = 2,
    data_flow: bool = False,
) -> list[Setting]:
    """Every combination, chain after chain, each once; in a chain the gentlest first.

    Two names for the same layers ("all" and "0,1,2,3" of four) give two chains.

    Args:
        base: gives what the grid does not vary (engine, output).
        grid: what to combine.
        num_layers: of the encoder.
        max_length: tokens of one function as the checkpoint cuts its input.
        specials: how many of them are special tokens.
        data_flow: whether the data flow is read with the code; such input is not cut.

    Raises:
        PruningError: a value out of range.
        ConfigError: layers that the encoder does not have, a schedule with another number of shares
            than pruned layers, a truncation that leaves no code or cuts nothing, or no setting at
            all.
    """
    settings: dict[str, Setting] = {}
    for family in grid.families:
        if family.rule == TRUNCATE:
            made = _truncations(base, family, max_length, specials, data_flow)
        else:
            made = _prunings(base, family, grid.protects or (base.protect,), num_layers)
        settings |= {setting.name: setting for setting in made}
    if not settings:
        raise ConfigError(
            f"--rules: no setting is left: input is cut to {max_length} tokens anyway"
        )
    return list(settings.values())


def _truncations(
    base: PruningConfig, family: Family, max_length: int, specials: int, data_flow: bool
) -> Iterable[Setting]:
    if data_flow and family.optional:
        return
    if data_flow:
        raise ConfigError(
            f"--rules: {TRUNCATE} is for input of code only; the checkpoint reads data flow"
        )
    for length in sorted({int(strength) for strength in family.strengths}, reverse=True):
        if specials < length < max_length:
            yield Setting.truncation(base, length)
        elif not family.optional:
            raise ConfigError(
                f"--lengths: must be above {specials}, the special tokens, and below {max_length},"
                f" which the checkpoint cuts its input to anyway (got {length})"
            )


def _prunings(
    base: PruningConfig, family: Family, protects: Sequence[str], num_layers: int
) -> Iterable[Setting]:
    by_share = family.rule in SHARE_RULES
    combined = itertools.product(
        *map(dict.fromkeys, (family.scores, family.layers, family.merges, protects))
    )
    for score, layers, merge, protect in combined:
        chain = []
        for strength in family.strengths:
            how: dict[str, Any] = {
                "rule": family.rule,
                "score": score,
                "layers": layers,
                "merge": merge,
                "protect": protect,
                "alpha": 1.0 if by_share else strength,
                "keep": strength if by_share else 1.0,
            }
            pruning = replace(base, **how)
            _check_layers(pruning, num_layers)
            chain.append((_gentleness(pruning, num_layers), Setting.of(pruning)))
        yield from (one for _, one in sorted(chain, key=lambda pair: pair[0], reverse=True))


def _check_layers(pruning: PruningConfig, num_layers: int) -> None:
    """Whether the layers are there, and as many as shares; told in the words of the options."""
    try:
        pruned = replace(pruning, keep=1.0).resolve(num_layers)
    except PruningError as error:
        raise ConfigError(f"--{error}") from error
    shares = str(pruning.keep).split(",")
    if len(shares) not in (1, len(pruned)):
        raise ConfigError(
            f"--keeps: {'/'.join(shares)} has {len(shares)} shares, but --layers {pruning.layers}"
            f" prunes {len(pruned)} layers of this encoder"
        )


def _gentleness(pruning: PruningConfig, num_layers: int) -> float:
    """Larger for what removes less: alpha, or the share of tokens left, summed over the layers."""
    pruned = pruning.resolve(num_layers)
    if pruning.rule not in SHARE_RULES:
        return pruning.alpha
    left, total = 1.0, 0.0
    for layer in range(num_layers):
        if layer in pruned:
            left *= pruning.share_at(pruned.index(layer))
        total += left
    return total


def chains_of(settings: Sequence[Setting]) -> list[list[Setting]]:
    """The chains of a grid, in its order."""
    chains: dict[tuple[Any, ...], list[Setting]] = {}
    for setting in settings:
        chains.setdefault(setting.chain, []).append(setting)
    return list(chains.values())


def sizes_of(settings: Sequence[Setting]) -> str:
    """How much there is to run: "30 settings in 8 chains: band 24, truncate 6"."""
    counts: dict[str, int] = {}
    for setting in settings:
        counts[setting.rule] = counts.get(setting.rule, 0) + 1
    told = ", ".join(f"{rule} {count}" for rule, count in counts.items())
    chains = len(chains_of(settings))
    plurals = ["" if count == 1 else "s" for count in (len(settings), chains)]
    return f"{len(settings)} setting{plurals[0]} in {chains} chain{plurals[1]}: {told}"
