"""What a family must fulfil, as checks to run on it: for families that others add.

A family joins alpine with one file that makes a `patch.family.Family`, and one call:

    from alpine_cli.pruning.patch.registry import register
    from alpine_cli.pruning.conformance import CHECKS

    register(MY_FAMILY)
    for check in CHECKS:
        check(make_model)  # () -> a small model of that family: seeded, in eval mode, on the CPU

Each check returns nothing or raises: `ConformanceError` says what differs and by how much, any
other exception that the family crashed.
A model of two layers or more whose weights are large enough that attention is not uniform (an
initializer_range of about 0.2) makes them sharp: uniform attention removes nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from alpine_cli.pruning.apply import prune, replay, trace, unprune
from alpine_cli.pruning.config import EngineName, PruningConfig
from alpine_cli.pruning.patch.registry import find_base_model

__all__ = ["CHECKS", "ConformanceError", "MakeModel"]

MakeModel = Callable[[], nn.Module]

_ENGINES: tuple[EngineName, ...] = ("packed", "padded", "reference")
_LENGTHS = (31, 9, 1, 17)
_TOLERANCE = 1e-4
_ALPHA = 0.8
_FIRST_ID = 5  # below stand special tokens


class ConformanceError(AssertionError):
    """A family breaks a promise of the pruning core."""


def equals_stock_when_nothing_is_pruned(make_model: MakeModel) -> None:
    """With layers "none" every engine gives the stock model's hidden states."""
    model = make_model()
    batch = _batch(model, _rows(model))
    stock = _hidden(model, batch)
    for engine in _ENGINES:
        prune(model, PruningConfig("none", engine=engine))
        ours = _hidden(model, batch)
        for b, n in enumerate(_LENGTHS):
            _require_close(
                ours[b, :n], stock[b, :n], f"{engine}, nothing pruned, row {b} against stock"
            )


def engines_agree(make_model: MakeModel) -> None:
    """Pruning every layer, all engines keep the same tokens and give the same hidden states."""
    model = make_model()
    batch = _batch(model, _rows(model))
    found = {}
    for engine in _ENGINES:
        prune(model, PruningConfig("all", alpha=_ALPHA, engine=engine))
        with trace(model) as traced:
            found[engine] = (_hidden(model, batch), traced.calls[0].lengths)
    hidden, lengths = found["packed"]
    if sum(lengths[-1]) >= sum(lengths[0]):
        raise ConformanceError(
            f"no token was removed (lengths {lengths}): attention of this model is too uniform for"
            " the checks to mean anything; draw larger weights"
        )
    for engine in ("padded", "reference"):
        if found[engine][1] != lengths:
            raise ConformanceError(f"{engine} keeps lengths {found[engine][1]}, packed {lengths}")
        _require_close(found[engine][0], hidden, f"{engine} against packed")


def rows_do_not_depend_on_their_batch(make_model: MakeModel) -> None:
    """A row alone, in a batch, in another order and under more padding gives the same result."""
    model = make_model()
    rows = _rows(model)
    prune(model, PruningConfig("all", alpha=_ALPHA))
    together = _hidden(model, _batch(model, rows, extra=4))
    backwards = _hidden(model, _batch(model, rows[::-1]))
    for b, row in enumerate(rows):
        alone = _hidden(model, _batch(model, [row]))[0]
        n = alone.shape[0]
        _require_close(together[b, :n], alone, f"row {b} in a batch against alone")
        _require_close(backwards[-1 - b, :n], alone, f"row {b} in another order against alone")
        if together[b, n:].any():
            raise ConformanceError(f"row {b}: hidden states behind its last token are not zero")


def gradients_agree(make_model: MakeModel) -> None:
    """Given one plan, every engine has the gradients of `reference`."""
    model = make_model()
    batch = _batch(model, _rows(model))
    prune(model, PruningConfig("all", alpha=_ALPHA, engine="reference"))
    with trace(model) as traced:
        expected = _gradients(model, batch)
    for engine in ("packed", "padded"):
        prune(model, PruningConfig("all", alpha=_ALPHA, engine=engine))
        with replay(model, traced.calls[0]):
            found = _gradients(model, batch)
        if found.keys() != expected.keys():
            raise ConformanceError(
                f"{engine}: gradients of other parameters: {found.keys() ^ expected.keys()}"
            )
        for name, gradient in expected.items():
            scale = gradient.abs().max().clamp(min=1.0)
            _require_close(found[name] / scale, gradient / scale, f"{engine}, gradient of {name}")


def unprune_gives_the_stock_model_back(make_model: MakeModel) -> None:
    """After `unprune` nothing is left: classes, parameter names and outputs are the stock ones."""
    model, stock = make_model(), make_model()
    batch = _batch(model, _rows(model))
    prune(model, PruningConfig("all"))
    if list(model.state_dict()) != list(stock.state_dict()):
        raise ConformanceError("prune() changed the names of parameters or buffers")
    copied = copy.deepcopy(model)
    unprune(model)
    classes = [type(module) for module in model.modules()]
    if classes != [type(module) for module in stock.modules()]:
        raise ConformanceError("unprune() left classes of its own behind")
    if not torch.equal(_hidden(model, batch), _hidden(stock, batch)):
        raise ConformanceError("the model computes something else after prune() and unprune()")
    prune(stock, PruningConfig("all"))
    if not torch.equal(_hidden(copied, batch), _hidden(stock, batch)):
        raise ConformanceError("a copy of a pruned model was changed by unprune() of the original")


def nothing_flows_back(make_model: MakeModel) -> None:
    """In causal families, given one plan, what comes later changes no earlier hidden state.

    Other families have nothing to fulfil here.
    """
    model = make_model()
    _, family = find_base_model(model)
    if not family.causal:
        return
    (row, *_) = _rows(model)
    changed = [*row[: len(row) // 2], *reversed(row[len(row) // 2 :])]
    for engine in _ENGINES:
        prune(model, PruningConfig("all", alpha=_ALPHA, engine=engine))
        with trace(model) as traced:
            before = _hidden(model, _batch(model, [row]))[0]
        with replay(model, traced.calls[0]):
            after = _hidden(model, _batch(model, [changed]))[0]
        half = len(row) // 2
        _require_close(after[:half], before[:half], f"{engine}, after a change of later tokens")


CHECKS: tuple[Callable[[MakeModel], None], ...] = (
    equals_stock_when_nothing_is_pruned,
    engines_agree,
    rows_do_not_depend_on_their_batch,
    gradients_agree,
    unprune_gives_the_stock_model_back,
    nothing_flows_back,
)


def _rows(model: nn.Module) -> list[list[int]]:
    base, _ = find_base_model(model)
    generator = torch.Generator("cpu").manual_seed(0)
    top = base.config.vocab_size
    return [
        torch.randint(_FIRST_ID, top, (length,), generator=generator, device="cpu").tolist()
        for length in _LENGTHS
    ]


def _batch(model: nn.Module, rows: list[list[int]], extra: int = 0) -> dict[str, Tensor]:
    """Rows padded on the right to the longest, plus `extra` columns."""
    base, _ = find_base_model(model)
    pad = base.config.pad_token_id or 0
    width = max(map(len, rows)) + extra
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def _hidden(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    base, _ = find_base_model(model)
    with torch.no_grad():
        hidden: Tensor = base(**batch).last_hidden_state
    return hidden


def _gradients(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    base, _ = find_base_model(model)
    base.zero_grad()
    with torch.enable_grad():
        hidden = base(**batch).last_hidden_state
        weights = torch.linspace(-1, 1, hidden.shape[-1])
        (hidden[:, 0].square().sum() + (hidden * weights).sum()).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in base.named_parameters()
        if parameter.grad is not None
    }


def _require_close(found: Tensor, expected: Tensor, what: str) -> None:
    if found.shape != expected.shape:
        raise ConformanceError(f"{what}: shape {tuple(found.shape)}, not {tuple(expected.shape)}")
    if found.numel() == 0:
        return
    if not torch.isfinite(found).all():
        raise ConformanceError(f"{what}: not finite")
    error = (found - expected).abs().max().item()
    if error > _TOLERANCE:
        raise ConformanceError(f"{what}: differs by {error:.2g} (allowed {_TOLERANCE:g})")
