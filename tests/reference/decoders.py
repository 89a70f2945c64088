"""Pruning for one prompt in decoders, written out in float64: plain loops, no batching, no masks.

Nothing here imports alpine. A query is compared with the keys it may see and no others, so that no
mask can be wrong. Every token carries the input columns that it stands for; order, positions and
causality are worked out from those:

    place       the last of its columns; tokens stand in the order of their places
    sees        every token whose columns all come no later than the last of one's own
    position    its column; of a merged token the mean of those merged (Llama's rotary angles)
    score       mean, over the queries that see it, of what they give it, times the keys they see
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.reference.alpine import keep, margin

Map = Callable[[Tensor], Tensor]


@dataclass
class SlowPrompt:
    """Result: hidden states (n', D), the column of each, lengths by layer, scores by layer."""

    hidden: Tensor
    columns: list[int]
    lengths: list[int]
    scores: dict[int, list[float]] = field(default_factory=dict)
    smallest_margin: float = math.inf


def attend(
    q: Tensor, k: Tensor, v: Tensor, members: list[list[int]], scaling: float
) -> tuple[Tensor, list[list[float]]]:
    """One head: values (n, d), and what each query gives each key (0 where it does not see it)."""
    n = len(members)
    out, given = torch.zeros_like(v), [[0.0] * n for _ in range(n)]
    for query in range(n):
        seen = [key for key in range(n) if max(members[key]) <= max(members[query])]
        logits = torch.stack([q[query] @ k[key] for key in seen]) * scaling
        weights = logits.softmax(0)
        for key, weight in zip(seen, weights.tolist(), strict=True):
            given[query][key] = weight
        out[query] = weights @ v[seen]
    return out, given


def scores(given: list[list[list[float]]], members: list[list[int]]) -> list[float]:
    """By the definition, from [head][query][key]."""
    n, found = len(members), []
    keys_of = [sum(max(other) <= max(own) for other in members) for own in members]
    for key in range(n):
        seers = [query for query in range(n) if max(members[key]) <= max(members[query])]
        total = sum(head[query][key] * keys_of[query] for head in given for query in seers)
        found.append(total / (len(given) * len(seers)))
    return found


def encode(
    model: torch.nn.Module,
    input_ids: list[int],
    pruned_layers: list[int],
    alpha: float,
    merge: str = "mean",
    columns: list[int] | None = None,
) -> SlowPrompt:
    """Run one prompt through the weights of a GPT2Model, LlamaModel or Qwen2Model."""
    columns = list(range(len(input_ids))) if columns is None else columns
    decoder = _Gpt2(model) if model.config.model_type == "gpt2" else _Llama(model)
    x = decoder.embed(input_ids, columns)
    members = [[column] for column in columns]
    positions = [float(column) for column in columns]
    special = {0, len(input_ids) - 1}
    protected = [index in special for index in range(len(input_ids))]
    run = SlowPrompt(x, columns, [len(input_ids)])
    for layer in range(model.config.num_hidden_layers):
        x, given = decoder.attention(layer, x, members, positions)
        if layer in pruned_layers:
            values = run.scores[layer] = scores(given, members)
            run.smallest_margin = min(run.smallest_margin, margin(values, protected, alpha))
            stays = keep(values, protected, alpha)
            rows = [
                (members[i], positions[i], protected[i], x[i])
                for i in range(len(members))
                if stays[i]
            ]
            gone = [i for i in range(len(members)) if not stays[i]]
            if gone and merge == "mean":
                union = sorted(column for i in gone for column in members[i])
                middle = sum(positions[i] for i in gone) / len(gone)
                rows.append((union, middle, False, torch.stack([x[i] for i in gone]).mean(0)))
            rows.sort(key=lambda row: max(row[0]))
            members, positions, protected, hidden = (list(part) for part in zip(*rows, strict=True))
            x = torch.stack(hidden)
        x = decoder.feed_forward(layer, x)
        run.lengths.append(len(x))
    run.hidden, run.columns = decoder.last(x), [max(own) for own in members]
    return run


class _Gpt2:
    """GPT-2's weights: one matrix for queries, keys and values, stored transposed."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.w = {name: value.double() for name, value in model.state_dict().items()}
        self.heads = model.config.n_head
        self.eps = model.config.layer_norm_epsilon

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + self.eps).sqrt()
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def embed(self, ids: list[int], columns: list[int]) -> Tensor:
        return self.w["wte.weight"][ids] + self.w["wpe.weight"][columns]

    def attention(
        self, layer: int, x: Tensor, members: list[list[int]], positions: list[float]
    ) -> tuple[Tensor, list[list[list[float]]]]:
        parts = self.linear(f"h.{layer}.attn.c_attn", self.norm(f"h.{layer}.ln_1", x))
        size = x.shape[1]
        d = size // self.heads
        outs, given = [], []
        for head in range(self.heads):
            q, k, v = (
                parts[:, part * size + head * d : part * size + (head + 1) * d] for part in range(3)
            )
            out, gives = attend(q, k, v, members, d**-0.5)
            outs.append(out)
            given.append(gives)
        return x + self.linear(f"h.{layer}.attn.c_proj", torch.cat(outs, -1)), given

    def feed_forward(self, layer: int, x: Tensor) -> Tensor:
        inner = self.linear(f"h.{layer}.mlp.c_fc", self.norm(f"h.{layer}.ln_2", x))
        cubic = math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)
        return x + self.linear(f"h.{layer}.mlp.c_proj", 0.5 * inner * (1 + cubic.tanh()))

    def last(self, x: Tensor) -> Tensor:
        return self.norm("ln_f", x)


class _Llama:
    """Llama's or Qwen2's weights: several queries share a key, positions are angles."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.w = {name: value.double() for name, value in model.state_dict().items()}
        config = model.config
        self.heads, self.shared = config.num_attention_heads, config.num_key_value_heads
        self.eps, self.theta = config.rms_norm_eps, config.rope_parameters["rope_theta"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt() * self.w[f"{name}.weight"]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", torch.zeros(1).double())

    def rotate(self, x: Tensor, positions: list[float]) -> Tensor:
        turned, d = x.clone(), x.shape[1]
        for row, position in enumerate(positions):
            for pair in range(d // 2):
                angle = position * self.theta ** (-2 * pair / d)
                a, b = x[row, pair], x[row, pair + d // 2]
                turned[row, pair] = a * math.cos(angle) - b * math.sin(angle)
                turned[row, pair + d // 2] = b * math.cos(angle) + a * math.sin(angle)
        return turned

    def embed(self, ids: list[int], columns: list[int]) -> Tensor:
        return self.w["embed_tokens.weight"][ids]

    def attention(
        self, layer: int, x: Tensor, members: list[list[int]], positions: list[float]
    ) -> tuple[Tensor, list[list[list[float]]]]:
        prefix = f"layers.{layer}"
        y = self.norm(f"{prefix}.input_layernorm", x)
        q, k, v = (self.linear(f"{prefix}.self_attn.{name}_proj", y) for name in "qkv")
        d = q.shape[1] // self.heads
        outs, given = [], []
        for head in range(self.heads):
            mine = slice(head * d, (head + 1) * d)
            of_keys = head // (self.heads // self.shared)
            theirs = slice(of_keys * d, (of_keys + 1) * d)
            turned_q, turned_k = (
                self.rotate(q[:, mine], positions),
                self.rotate(k[:, theirs], positions),
            )
            out, gives = attend(turned_q, turned_k, v[:, theirs], members, d**-0.5)
            outs.append(out)
            given.append(gives)
        return x + self.linear(f"{prefix}.self_attn.o_proj", torch.cat(outs, -1)), given

    def feed_forward(self, layer: int, x: Tensor) -> Tensor:
        y = self.norm(f"layers.{layer}.post_attention_layernorm", x)
        gate, up = (self.linear(f"layers.{layer}.mlp.{name}_proj", y) for name in ("gate", "up"))
        return x + self.linear(f"layers.{layer}.mlp.down_proj", gate * gate.sigmoid() * up)

    def last(self, x: Tensor) -> Tensor:
        return self.norm("norm", x)
