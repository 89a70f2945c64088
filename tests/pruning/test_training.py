"""Fine-tuning through the pruning layer: gradients, dropout, accumulation, checkpointing, bf16."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from transformers import RobertaModel

from alpine_cli.pruning import PruningConfig, prune, trace
from alpine_cli.pruning.apply import replay
from tests.pruning.families import CONFIGS, ENGINES, FAMILIES, make_batch, make_model, make_rows

LENGTHS = [33, 12, 1, 20]


def without_dropout(model: torch.nn.Module) -> torch.nn.Module:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):  # T5's attention
            module.dropout = 0.0
    return model.train()


def loss_and_gradients(model: Any, batch: dict[str, torch.Tensor]) -> tuple[float, dict[str, Any]]:
    model.zero_grad()
    hidden = model(**batch).last_hidden_state
    # the first token, as heads read it, and every other one, so that no path is left out
    loss = hidden[:, 0].pow(3).sum() + (hidden * torch.linspace(-1, 1, 48)).sum()
    loss.backward()
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return loss.item(), gradients


def assert_gradients_close(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    largest = max(gradient.abs().max().item() for gradient in theirs.values())
    for name, gradient in theirs.items():
        # a key bias shifts all logits of a row alike: its gradient is rounding around zero
        scale = max(gradient.abs().max().item(), 1e-2 * largest)
        torch.testing.assert_close(
            ours[name], gradient, atol=2e-5 * scale, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("merge", ["mean", "none"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_agree_with_the_reference(family: str, merge: Any) -> None:
    model = without_dropout(make_model(family))
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id)
    results = {}
    for engine in ENGINES:
        prune(model, PruningConfig("all", alpha=0.9, merge=merge, engine=engine))  # type: ignore[arg-type]
        with trace(model) as recorded:
            results[engine] = loss_and_gradients(model, batch)
        assert sum(recorded.calls[0].lengths[-1]) < sum(LENGTHS)
    for engine in ("packed", "padded"):
        assert results[engine][0] == pytest.approx(results["reference"][0], rel=1e-4, abs=1e-3)
        assert_gradients_close(results[engine][1], results["reference"][1])


def test_gradients_agree_with_finite_differences() -> None:
    """In float64, on a given plan: the plan itself is a step function of the weights."""
    model = without_dropout(make_model("roberta")).double()
    batch = make_batch(make_rows([14, 6]), model.config.pad_token_id)
    prune(model, PruningConfig("all", alpha=0.8))
    with trace(model) as recorded, torch.no_grad():
        model(**batch)
    call = recorded.calls[0]
    weight = model.encoder.layer[1].attention.self.value.weight

    def loss_at(delta: torch.Tensor) -> torch.Tensor:
        with replay(model, call):
            parameters = {"encoder.layer.1.attention.self.value.weight": weight + delta}
            output = torch.func.functional_call(model, parameters, kwargs=batch)
        return output.last_hidden_state.pow(2).sum()

    delta = torch.zeros_like(weight, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss_at(delta), delta)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        direction = torch.randn(weight.shape, dtype=torch.float64, generator=generator)
        with torch.no_grad():
            step = 1e-5
            slope = (loss_at(step * direction) - loss_at(-step * direction)) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", ["roberta", "distilbert"])
def test_gradient_checkpointing_changes_nothing(
    family: str, engine: Any, use_reentrant: bool
) -> None:
    """With dropout on: the layer that runs again must meet the same masks and the same plan."""
    model = make_model(family).train()
    prune(model, PruningConfig("all", alpha=0.9, engine=engine))
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id)
    torch.manual_seed(5)
    plain = loss_and_gradients(model, batch)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    if use_reentrant:
        model.enable_input_require_grads()
    torch.manual_seed(5)
    with trace(model) as recorded:
        checkpointed = loss_and_gradients(model, batch)
    assert len(recorded.calls) == 1
    assert len(recorded.calls[0].lengths) == 5
    assert checkpointed[0] == pytest.approx(plain[0], rel=1e-5)
    assert_gradients_close(checkpointed[1], plain[1])


def test_gradient_accumulation_adds_up() -> None:
    """Two half batches give the gradients of the whole one: samples do not see each other."""
    model = without_dropout(make_model("bert"))
    prune(model, PruningConfig("all", alpha=0.9))
    rows = make_rows([30, 21, 14, 9])
    whole = make_batch(rows, 0)
    halves = [make_batch(rows[:2], 0), make_batch(rows[2:], 0)]

    def total(batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        model.zero_grad()
        for batch in batches:
            model(**batch).last_hidden_state.pow(2).sum().backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    assert_gradients_close(total(halves), total([whole]))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_few_steps_learn(engine: Any) -> None:
    """Dropout on, every layer pruning: the loss of a tiny task falls well below its start."""
    torch.manual_seed(0)
    model = make_model("roberta").train()
    prune(model, PruningConfig("all", engine=engine))
    head = torch.nn.Linear(48, 2)
    rows = make_rows([18] * 16)
    labels = torch.tensor([row[1] % 2 for row in rows])
    batch = make_batch(rows, model.config.pad_token_id)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=2e-3)
    losses = []
    for _ in range(40):
        logits = head(model(**batch).last_hidden_state[:, 0])
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) / 5 < 0.5 * sum(losses[:5]) / 5


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_autocast_trains(family: str, engine: Any) -> None:
    model = make_model(family).train()
    prune(model, PruningConfig("all", engine=engine))
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(**batch).last_hidden_state
    hidden.float().pow(2).sum().backward()
    assert torch.isfinite(hidden).all()
    used = [p for n, p in model.named_parameters() if "pooler" not in n]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in used)


@pytest.mark.parametrize("engine", ENGINES)
@torch.no_grad()
def test_bf16_weights_stay_close_on_a_given_plan(engine: Any) -> None:
    model = make_model("roberta")
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id)
    prune(model, PruningConfig("all", engine=engine))
    with trace(model) as recorded:
        expected = model(**batch).last_hidden_state
    half = copy.deepcopy(model).to(torch.bfloat16)
    with replay(half, recorded.calls[0]):
        hidden = half(**batch).last_hidden_state
    assert hidden.dtype == torch.bfloat16
    torch.testing.assert_close(hidden.float(), expected, atol=0.3, rtol=0)


@pytest.mark.parametrize("engine", ["packed", "padded"])
@torch.no_grad()
def test_torch_compile(engine: Any) -> None:
    """Graph breaks are allowed, different numbers are not. The eager backend needs no compiler."""
    config = copy.deepcopy(CONFIGS["roberta"])
    config.num_hidden_layers = 2  # one that prunes, one that does not: tracing is slow
    torch.manual_seed(0)
    model = RobertaModel(config, add_pooling_layer=False).eval()
    prune(model, PruningConfig("even", engine=engine))
    batches = [
        make_batch(make_rows(lengths, seed), model.config.pad_token_id)
        for seed, lengths in enumerate([[20, 9], [31, 3, 8]])
    ]
    expected = [model(**batch).last_hidden_state for batch in batches]
    compiled = torch.compile(model, backend="eager")
    for batch, hidden in zip(batches, expected, strict=True):
        torch.testing.assert_close(compiled(**batch).last_hidden_state, hidden, atol=1e-5, rtol=0)


DDP_SCRIPT = """
import sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from alpine_cli.pruning import PruningConfig, prune
from tests.pruning.families import make_batch, make_model, make_rows
from tests.pruning.test_training import without_dropout
rank, path = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
model = without_dropout(make_model("roberta"))
model.pooler = None
prune(model, PruningConfig("all"))
rows = make_rows([25, 18, 11, 6])
wrapped = DistributedDataParallel(model)
half = make_batch(rows[rank::2], model.config.pad_token_id)
wrapped(**half).last_hidden_state[:, 0].pow(3).mean().backward()
shared = {n: p.grad.clone() for n, p in model.named_parameters()}
model.zero_grad()
whole = make_batch(rows, model.config.pad_token_id)
model(**whole).last_hidden_state[:, 0].pow(3).mean().backward()
for name, parameter in model.named_parameters():
    torch.testing.assert_close(shared[name], parameter.grad, atol=1e-5, rtol=1e-4)
dist.destroy_process_group()
"""


def test_data_parallel_gradients_equal_those_of_the_whole_batch(tmp_path: Any) -> None:
    store = tmp_path / "store"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", DDP_SCRIPT, str(rank), str(store)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for worker in workers:
        _, stderr = worker.communicate(timeout=120)
        assert worker.returncode == 0, stderr


@pytest.mark.parametrize("family", ["roberta", "modernbert", "t5"])
@torch.no_grad()
def test_half_precision_rows_are_filled_to_a_multiple(family: str) -> None:
    """Matrix products of the packed engine see multiples of 32 rows; nothing else changes."""
    model = make_model(family).to(torch.bfloat16)
    rows = make_rows([29, 14, 8])
    batch = make_batch(rows, model.config.pad_token_id)
    seen: set[int] = set()
    watched = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    hooks = [
        module.register_forward_hook(lambda m, args, out: seen.add(args[0].shape[-2]))
        for module in watched
    ]
    prune(model, PruningConfig("all", alpha=0.9))
    with trace(model) as recorded:
        hidden = model(**batch).last_hidden_state
    for hook in hooks:
        hook.remove()
    lengths = recorded.calls[0].lengths
    pooled = {len(rows), 1}  # poolers read first tokens
    assert {count for count in seen - pooled if count % 32} == set()
    assert {-(-sum(entry) // 32) * 32 for entry in lengths[:-1]} <= seen
    for b, row in enumerate(rows):
        alone = model(**make_batch([row], model.config.pad_token_id)).last_hidden_state[0]
        n = lengths[-1][b]
        assert alone.shape[0] == n
        assert not hidden[b, n:].any()
        torch.testing.assert_close(hidden[b, :n], alone, atol=0.1, rtol=0.05)


def test_autocast_fills_rows_and_gradients_stay_finite() -> None:
    model = make_model("roberta").train()
    prune(model, PruningConfig("even", alpha=0.9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(**make_batch(make_rows([29, 14]), 1)).last_hidden_state
    hidden.float().square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
