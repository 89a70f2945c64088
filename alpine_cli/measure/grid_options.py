"""From the options of `alpine sweep` and `alpine tune` to the rows of a grid, and their defaults.

An option that is given replaces that part of every row it has a meaning for; what is not given
stays as the default rows have it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from alpine_cli.errors import ConfigError
from alpine_cli.measure.grid import TRUNCATE, Family, GridOptions
from alpine_cli.pruning.config import SHARE_RULES, Merge, Protect, Rule, Score

__all__ = [
    "BUDGET",
    "SWEEP",
    "TUNE",
    "choose_grid",
    "grid_settings",
    "parse_alphas",
    "parse_choices",
    "parse_keeps",
    "parse_layers",
    "parse_lengths",
]

_NAMED = ("odd", "even", "all")
_SHARES = (0.9, 0.8, 0.65, 0.5)
_FINE_SHARES = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)

SWEEP: tuple[Family, ...] = (
    Family("band", (1.5, 1.0, 0.75, 0.5), ("odd", "even", "all"), ("mean", "none")),
    Family("floor", (1.0, 0.5, 0.25, 0.1)),
    Family("top", _SHARES, merges=("mean", "nearest")),
    Family("bipartite", _SHARES, merges=("nearest",)),
    Family("random", _SHARES),
    Family("first", _SHARES, merges=("none",)),
    Family(TRUNCATE, (256, 192, 128, 96, 64, 32), optional=True),
)
"""The published rule, and its rivals in all layers."""

TUNE: tuple[Family, ...] = (
    Family("band", (3.0, 2.5, 2.0, 1.5, 1.25, 1.0, 0.75, 0.5), _NAMED),
    Family("floor", (2.0, 1.5, 1.0, 0.75, 0.5, 0.25, 0.1)),
    Family("top", _FINE_SHARES, merges=("nearest",)),
    Family("bipartite", _FINE_SHARES[:-1], merges=("nearest",)),
    # Controls, only where --rules names them.
    Family("random", _FINE_SHARES),
    Family("first", _FINE_SHARES, merges=("none",)),
)
"""For a walk from the gentle end: few chains, for they share the error; many steps in each."""

BUDGET: tuple[Family, ...] = (
    Family("top", (), ("all", "even", "0"), ("nearest", "mean"), ("received", "cls")),
    Family("bipartite", (), ("all", "even"), ("nearest",)),
    Family("floor", (), ("all",), ("mean", "nearest")),
    Family("band", (), _NAMED),
    Family("random", ()),
    Family("first", (), merges=("none",)),
)
"""Strengths are fitted to the budget; "0" prunes once, before most of the work."""

# Rules that an option has a meaning for.
_TAKERS: Mapping[str, tuple[str, ...]] = {
    "--alphas": ("band", "floor"),
    "--keeps": SHARE_RULES,
    "--lengths": (TRUNCATE,),
    "--scores": ("band", "floor", "top"),
    "--merges": ("band", "floor", "top", "random", "first"),
    "--layers": get_args(Rule),
    "--protect": get_args(Rule),
}


def choose_grid(
    defaults: Sequence[Family],
    *,
    rules: str | None = None,
    alphas: str | None = None,
    keeps: str | None = None,
    lengths: str | None = None,
    layers: Sequence[str] | None = None,
    merges: str | None = None,
    scores: str | None = None,
    protect: str | None = None,
    without: Sequence[str] = (),
) -> GridOptions:
    """The rows that the options ask for.

    Args:
        defaults: one row per rule.
        rules: which of them, joined by commas; None takes all that are not in `without`.
        alphas, keeps, lengths, layers, merges, scores, protect: as typed; None keeps the defaults.
        without: rules that run only when they are named.

    Raises:
        ConfigError: an option that cannot be read, an unknown rule, or an option that none of the
            rules has a use for.
    """
    known = {family.rule: family for family in defaults}
    if rules is None:
        chosen = [rule for rule in known if rule not in without]
    else:
        chosen = _pick(rules, "--rules", tuple(known))
    given: dict[str, tuple[str, tuple[Any, ...]]] = {}
    for option, part, found in (
        ("--alphas", "strengths", None if alphas is None else parse_alphas(alphas)),
        ("--keeps", "strengths", None if keeps is None else parse_keeps(keeps)),
        ("--lengths", "strengths", None if lengths is None else parse_lengths(lengths)),
        ("--layers", "layers", parse_layers(layers) if layers else None),
        ("--merges", "merges", None if merges is None else parse_choices(merges, "--merges")),
        ("--scores", "scores", None if scores is None else parse_choices(scores, "--scores")),
        ("--protect", "", None if protect is None else parse_choices(protect, "--protect")),
    ):
        if found is None:
            continue
        if not set(chosen) & set(_TAKERS[option]):
            raise ConfigError(
                f"{option}: has no meaning for {', '.join(chosen)}; it is for"
                f" {', '.join(rule for rule in _TAKERS[option] if rule in known)}"
            )
        given[option] = (part, tuple(found))
    families = []
    for rule in chosen:
        changes: dict[str, Any] = {
            part: values
            for option, (part, values) in given.items()
            if part and rule in _TAKERS[option]
        }
        if "strengths" in changes:
            changes["optional"] = False
        families.append(replace(known[rule], **changes))
    return GridOptions(tuple(families), given["--protect"][1] if "--protect" in given else None)


def grid_settings(grid: GridOptions) -> dict[str, Any]:
    """The grid as a result file tells it."""

    def union(part: str, rules: Sequence[str]) -> list[Any]:
        rows = [family for family in grid.families if family.rule in rules]
        return list(dict.fromkeys(value for family in rows for value in getattr(family, part)))

    return {
        "rules": [family.rule for family in grid.families],
        "alphas": union("strengths", _TAKERS["--alphas"]),
        "keeps": union("strengths", _TAKERS["--keeps"]),
        "lengths": union("strengths", _TAKERS["--lengths"]),
        "layers": union("layers", _TAKERS["--layers"]),
        "merges": union("merges", get_args(Rule)),
        "scores": union("scores", _TAKERS["--scores"]),
        "protects": list(grid.protects) if grid.protects else None,
    }


def parse_alphas(text: str) -> list[float]:
    """Read "0.5,1,1.5".

    Raises:
        ConfigError: a part is no number above 0; names it.
    """
    alphas = [_number(part, "--alphas", text) for part in text.split(",")]
    for alpha in alphas:
        if not 0 < alpha < float("inf"):  # NaN is in no range
            raise ConfigError(f"--alphas: must be above 0 and finite (got {alpha:g})")
    return alphas


def parse_keeps(text: str) -> list[float | str]:
    """Read "0.9,0.75" or, with a share per pruned layer, "0.9/0.75/0.6".

    Raises:
        ConfigError: a part is no share above 0 and at most 1; names it.
    """
    keeps: list[float | str] = []
    for part in text.split(","):
        shares = [_number(share, "--keeps", text) for share in part.split("/")]
        for share in shares:
            if not 0 < share <= 1:
                raise ConfigError(
                    "--keeps: must be shares above 0 and at most 1, joined by commas, or by slashes"
                    f" for one per pruned layer (got {share:g})"
                )
        keeps.append(shares[0] if len(shares) == 1 else ",".join(map(repr, shares)))
    return keeps


def parse_lengths(text: str) -> list[float]:
    """Read "64,128", in tokens.

    Raises:
        ConfigError: a part is no whole number; names it. (The grid knows the range.)
    """
    for part in text.split(","):
        if not (part.strip().isascii() and part.strip().isdecimal()):
            raise ConfigError(f"--lengths: {part.strip()!r} is no number of tokens (got {text!r})")
    return [int(part) for part in text.split(",")]


def _number(part: str, option: str, text: str) -> float:
    if not part.strip():
        raise ConfigError(f"{option}: a number is missing (got {text!r})")
    try:
        return float(part)
    except ValueError:
        raise ConfigError(f"{option}: {part.strip()!r} is no number (got {text!r})") from None


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
    """Read "mean,none" of --merges, "received,cls" of --scores, "special,ends" of --protect.

    Raises:
        ConfigError: an unknown choice.
    """
    known = {"--merges": Merge, "--scores": Score, "--protect": Protect}[option]
    return _pick(text, option, get_args(known))


def _pick(text: str, option: str, known: Sequence[str]) -> list[str]:
    parts, told = [part.strip() for part in text.split(",")], ", ".join(known)
    for part in parts:
        if not part:
            raise ConfigError(f"{option}: a choice is missing (got {text!r}); known: {told}")
        if part not in known:
            nearest = difflib.get_close_matches(part.lower(), known, n=1, cutoff=0.5)
            hint = f": did you mean {nearest[0]!r}?" if nearest else "."
            raise ConfigError(f"{option}: unknown choice {part!r}{hint} Known: {told}")
    return list(dict.fromkeys(parts))
