"""How often a pruned forward pass makes the host wait for the device.

On a GPU PyTorch says so itself (`torch.cuda.set_sync_debug_mode`). On a CPU nothing waits, so the
operations are counted that would: those whose results, or the shapes of them, the host must know.
The engine is told to work as on CUDA, attention apart: its back ends for CUDA do not run on a CPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from alpine_cli.pruning import PruningConfig, kernels, prune
from tests.pruning.families import make_batch, make_model, make_rows

ASKING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::nonzero_numpy",
    "aten::argwhere",
    "aten::masked_select",
    "aten::_unique",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::equal",
}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


class Asked(TorchDispatchMode):
    """Notes every operation that asks the device something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.paused = False

    def note(self, name: str) -> None:
        if not self.paused:
            self.found.append(name)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if name in ASKING:
            self.note(name)
        elif name in INDEXING:
            masks = [x for x in args[1] if x is not None and x.dtype in (torch.bool, torch.uint8)]
            if masks:
                self.note(f"{name} by a mask")
        elif name == "aten::repeat_interleave" and kwargs.get("output_size") is None:
            self.note(name)
        return func(*args, **kwargs)


@contextmanager
def watched() -> Iterator[list[str]]:
    """The names of the operations that ask the device something."""
    asked = Asked()

    def noting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            asked.note(name)
            return original(*args, **kwargs)

        return called

    def to_device_at_once(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("device") not in (None, "cpu"):
            asked.note("torch.tensor(…, device=…)")  # copies from pageable memory, and waits
        return torch_tensor(*args, **kwargs)

    torch_tensor = torch.tensor
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tolist", "cpu", "numpy"):
            patch.setattr(torch.Tensor, name, noting(name, getattr(torch.Tensor, name)))
        patch.setattr(torch, "tensor", to_device_at_once)
        _leave_the_interpreter_out(patch, asked)
        with asked:
            yield asked.found


def _leave_the_interpreter_out(patch: pytest.MonkeyPatch, asked: Asked) -> None:
    """It reads tensors, as a GPU does without the host's knowing."""
    try:
        from triton.runtime.interpreter import GridExecutor
    except ImportError:
        return
    execute = GridExecutor.__call__

    def paused(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked.paused = True
        try:
            return execute(self, *args, **kwargs)
        finally:
            asked.paused = False

    patch.setattr(GridExecutor, "__call__", paused)


BAND = {"rule": "band", "alpha": 0.8}
SHARE = {"keep": 0.7}
# per pruned layer, beyond one for the model's entry
RULES: dict[str, tuple[dict[str, Any], int]] = {
    "band": (BAND, 1),
    "band none": ({**BAND, "merge": "none"}, 1),
    "floor": ({"rule": "floor", "alpha": 0.5}, 1),
    "band nearest": ({**BAND, "merge": "nearest"}, 1),
    "top": ({"rule": "top", **SHARE}, 0),
    "top by cls": ({"rule": "top", **SHARE, "score": "cls"}, 0),
    "top none": ({"rule": "top", **SHARE, "merge": "none"}, 0),
    "top nearest": ({"rule": "top", **SHARE, "merge": "nearest"}, 1),
    "random": ({"rule": "random", **SHARE}, 0),
    "first": ({"rule": "first", **SHARE}, 0),
    "bipartite": ({"rule": "bipartite", **SHARE, "merge": "nearest"}, 0),
    "bipartite ends": ({"rule": "bipartite", **SHARE, "merge": "nearest", "protect": "ends"}, 0),
    "first token only": ({"rule": "first", **SHARE, "output": "first"}, 0),
    "none, first token only": ({"layers": "none", "output": "first"}, 0),
}
LAYERS = (1, 2)


def made(fields: dict[str, Any], engine: str, **more: Any) -> Callable[[], Any]:
    """A forward pass of a pruned model; called once, so that what is lazy has happened."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = make_model("roberta").to(device)
    batch = make_batch(make_rows([13, 1, 4], seed=1), 1)
    batch = {key: value.to(device) for key, value in (batch | more).items()}
    prune(model, PruningConfig(**{"layers": "1,2", "engine": engine} | fields))  # type: ignore[arg-type]

    @torch.no_grad()
    def run() -> Any:
        return model(**batch).last_hidden_state

    with kernels.forced():
        run()
    return run


@pytest.mark.parametrize(
    ("engine", "name"),
    [*(("packed", name) for name in RULES), ("padded", "floor"), ("padded", "bipartite")],
)
def test_one_copy_at_entry_and_one_a_pruned_layer_at_most(engine: str, name: str) -> None:
    fields, per_layer = RULES[name]
    run = made(fields, engine)
    with kernels.forced(), watched() as found:
        run()
    copies = 1 + per_layer * len(LAYERS) * (fields.get("layers") != "none")
    assert found == ["tolist"] * copies


def test_special_tokens_of_the_caller_cost_rules_by_share_one_copy() -> None:
    """How many they are, the host does not know; other rules do not ask."""
    special = torch.zeros(3, 13, dtype=torch.int64)
    special[:, 0] = special[0, 5] = 1
    for name, copies in (
        ("bipartite", 2),
        ("bipartite ends", 1),
        ("top", 2),
        ("floor", 1 + len(LAYERS)),
    ):
        run = made(RULES[name][0], "packed", special_tokens_mask=special)
        with kernels.forced(), watched() as found:
            run()
        assert found == ["tolist"] * copies


def test_holes_and_long_padding_cost_nothing_more() -> None:
    mask = torch.ones(3, 13, dtype=torch.int64)
    mask[0, 4] = mask[1, 3:] = mask[2, 2:] = 0
    run = made(RULES["band"][0], "packed", attention_mask=mask)
    with kernels.forced(), watched() as found:
        run()
    assert found == ["tolist"] * 3


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.tolist(),
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.unique(),
        lambda x: x.repeat_interleave(x),
        lambda x: x.masked_fill_(x > 0, 1).numpy(),
        lambda x: x.index_put_((x > 0,), torch.zeros_like(x[:1])),
        lambda x: torch.tensor([1], device=x.device),
    ],
)
def test_the_count_counts(ask: Callable[[torch.Tensor], Any]) -> None:
    with watched() as found:
        ask(torch.arange(3))
    assert len(found) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list(RULES))
def test_on_cuda(name: str) -> None:
    fields, per_layer = RULES[name]
    run = made(fields, "packed")
    run()
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    copies = [str(one.message) for one in caught if "synchroniz" in str(one.message)]
    assert len(copies) <= 1 + per_layer * len(LAYERS), copies
