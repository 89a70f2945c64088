"""What to prune and how: one frozen record, free of torch so that the command line can read it.

`PruningConfig` is a plain dataclass. `alpine_cli.config` nests it in its pydantic models, which
validate it field by field (see `__pydantic_config__`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from alpine_cli.pruning.errors import PruningError

__all__ = [
    "DECISIONS",
    "SHARE_RULES",
    "EngineName",
    "Merge",
    "Output",
    "Protect",
    "PruningConfig",
    "Rule",
    "Score",
    "resolve_layers",
]

Rule = Literal["band", "floor", "top", "random", "first", "bipartite"]
Score = Literal["received", "cls"]
Merge = Literal["mean", "none", "nearest"]
Protect = Literal["special", "ends"]
EngineName = Literal["packed", "padded", "reference"]
Output = Literal["tokens", "first"]

SHARE_RULES: tuple[Rule, ...] = ("top", "random", "first", "bipartite")
"""Rules that keep a given share: lengths after pruning follow from the lengths before."""

_NAMED_LAYERS = ("none", "all", "odd", "even")


@dataclass(frozen=True)
class PruningConfig:
    """The settings of the pruning layer (ALPINE §3; design §4).

    Attributes:
        layers: which encoder layers prune: "none", "all", "odd", "even" (layer 0 is even) or a
            comma-separated list of layer indices such as "0,2,4".
        alpha: half-width of the kept band in standard deviations: a token stays if its score lies
            in [μ − ασ, μ + ασ]. Smaller prunes more. The paper uses 1.0 throughout.
        rule: which tokens stay: "band" (the published rule), "floor" (one-sided), or a fixed
            share: "top" (highest scores), "bipartite" (merging similar pairs), and the controls
            "random" and "first" (truncation). See `rules`.
        keep: for the rules of a fixed share, the share of tokens that stays in a pruned layer, in
            (0, 1]; or one share per pruned layer, in order, separated by commas.
        score: what "band", "floor" and "top" judge by: "received", the mean attention from all
            tokens (published), or "cls", that of the first token. In decoders: from those that can
            see the token (see `scoring`), or that of the last token.
        merge: "mean" appends the mean of the removed hidden states as one merged token (the
            published way); "none" drops them; "nearest" merges each into the most similar token
            that stays, weighted by size, and attention then weighs tokens by size, too. The rule
            "bipartite" is such a merge and takes no other.
        protect: tokens that are never removed and never counted in μ and σ. "special": the
            input's own first and last token, wherever they now stand. "ends": the first and last
            position of the current sequence, as the published code does (from the second pruned
            layer on that protects the merged token instead of the separator).
        engine: "packed" (no padding anywhere, the fast one), "padded" (vectorised, padded to the
            longest) or "reference" (the published algorithm, sample by sample).
        output: what is read of the last layer: "tokens" all that are left, "first" only the first
            token of each sequence, as classification heads do; the last layer's feed-forward part
            then runs on that token alone, and its result is the same. With any `layers`. In
            decoders "first" is the token that their heads read, the last.

    Raises:
        PruningError: a field is out of range; the message names the field and the value.
    """

    # Read by pydantic when this record is nested in one of its models.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    layers: str = "none"
    alpha: float = 1.0
    merge: Merge = "mean"
    protect: Protect = "special"
    engine: EngineName = "packed"
    output: Output = "tokens"
    rule: Rule = "band"
    keep: float | str = 1.0
    score: Score = "received"

    def __post_init__(self) -> None:
        _parse_layers(self.layers)
        object.__setattr__(self, "keep", _normal_shares(self.keep))
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, int | float):
            raise PruningError(f"alpha: must be a number (got {self.alpha!r})")
        if not math.isfinite(self.alpha) or self.alpha <= 0:
            raise PruningError(f"alpha: must be finite and > 0 (got {self.alpha})")
        for name, allowed in (
            ("merge", get_args(Merge)),
            ("protect", get_args(Protect)),
            ("engine", get_args(EngineName)),
            ("output", get_args(Output)),
            ("rule", get_args(Rule)),
            ("score", get_args(Score)),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise PruningError(f"{name}: must be one of {', '.join(allowed)} (got {value!r})")
        if self.rule not in SHARE_RULES and self.keep != 1.0:
            raise PruningError(
                f"keep: the rule {self.rule!r} chooses by alpha and takes no share (got"
                f" {self.keep!r}); rules with a share: {', '.join(SHARE_RULES)}"
            )
        if self.rule == "bipartite" and self.merge != "nearest":
            raise PruningError(
                f"merge: the rule 'bipartite' merges similar pairs; set merge to 'nearest' (got"
                f" {self.merge!r})"
            )

    @property
    def needs_scores(self) -> bool:
        """Whether the rule rests on attention scores."""
        return self.rule in ("band", "floor", "top")

    @property
    def tracks_sizes(self) -> bool:
        """Whether tokens must carry how many input tokens they stand for."""
        return self.merge == "nearest"

    def share_at(self, step: int) -> float:
        """The share that stays in the pruned layer number `step`, counted from 0."""
        shares = _shares(self.keep)
        return shares[0] if len(shares) == 1 else shares[step]

    def resolve(self, num_layers: int) -> tuple[int, ...]:
        """Indices of the layers that prune in an encoder of `num_layers` layers, ascending.

        Raises:
            PruningError: an index is not below `num_layers`, the encoder has no layer to prune, or
                there are not as many shares as pruned layers.
        """
        layers = resolve_layers(self.layers, num_layers)
        shares = len(_shares(self.keep))
        if layers and shares > 1 and shares != len(layers):
            raise PruningError(
                f"keep: {shares} shares for {len(layers)} pruned layers (got {self.keep!r})"
            )
        return layers

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, for checkpoints and result files."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PruningConfig:
        """Read back what `to_dict` wrote; settings that an older file lacks take their default.

        Raises:
            PruningError: an unknown setting, or a value out of range.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise PruningError(
                f"unknown pruning setting {', '.join(map(repr, unknown))};"
                f" known: {', '.join(sorted(known))}"
            )
        return cls(**values)


DECISIONS = ("rule", "keep", "alpha", "score", "merge", "protect")
"""Settings that say which tokens go and how: of no consequence where no layer prunes."""


def laid_over(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a stored pruning with others laid over them.

    A stored share goes where the rule that is given takes none: it was another rule's strength.
    """
    fresh = {"keep": 1.0} if given.get("rule", "top") not in SHARE_RULES else {}
    return {**stored, **fresh, **given}


def _shares(keep: float | str) -> tuple[float, ...]:
    """The shares of a `keep` setting that `_normal_shares` has checked."""
    return tuple(map(float, keep.split(","))) if isinstance(keep, str) else (float(keep),)


def _normal_shares(keep: float | str) -> float | str:
    """One share as a number, several as text without spaces.

    Raises:
        PruningError: not a number in (0, 1], or not a list of such.
    """
    message = f"keep: must be a share in (0, 1], or such shares separated by commas (got {keep!r})"
    if isinstance(keep, bool) or not isinstance(keep, int | float | str):
        raise PruningError(message)
    try:
        shares = _shares(keep)
    except ValueError as error:
        raise PruningError(message) from error
    if not all(0 < share <= 1 for share in shares):  # NaN is in no range
        raise PruningError(message)
    return shares[0] if len(shares) == 1 else ",".join(f"{share:g}" for share in shares)


def _parse_layers(layers: str) -> tuple[int, ...] | str:
    """A name as it is, or the indices of a list; checks everything but the encoder's depth."""
    if not isinstance(layers, str):
        raise PruningError(
            f"layers: must be {', '.join(_NAMED_LAYERS)} or a list such as '0,2,4' (got {layers!r})"
        )
    if layers in _NAMED_LAYERS:
        return layers
    parts = [part.strip() for part in layers.split(",")]
    # `str.isdecimal` alone would let other scripts' digits through
    bad = [part for part in parts if not (part.isascii() and part.isdecimal())]
    if bad:
        raise PruningError(
            f"layers: {bad[0]!r} is neither a layer index nor one of"
            f" {', '.join(_NAMED_LAYERS)} (got {layers!r})"
        )
    indices = [int(part) for part in parts]
    duplicates = sorted({index for index in indices if indices.count(index) > 1})
    if duplicates:
        raise PruningError(f"layers: {duplicates[0]} is listed more than once (got {layers!r})")
    return tuple(sorted(indices))


def resolve_layers(layers: str, num_layers: int) -> tuple[int, ...]:
    """Turn a `layers` setting into ascending layer indices; see `PruningConfig.resolve`."""
    parsed = _parse_layers(layers)
    if parsed == "none":
        return ()
    if isinstance(parsed, str):
        start, step = {"all": (0, 1), "even": (0, 2), "odd": (1, 2)}[parsed]
        indices = tuple(range(start, num_layers, step))
        if not indices:
            raise PruningError(
                f"layers: {layers!r} selects no layer of an encoder with {num_layers} layer(s)"
            )
        return indices
    beyond = [index for index in parsed if index >= num_layers]
    if beyond:
        raise PruningError(
            f"layers: index {beyond[0]} is out of range: the encoder has {num_layers} layer(s),"
            f" so the last index is {num_layers - 1} (got {layers!r})"
        )
    return parsed
