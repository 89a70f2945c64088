"""ALPINE for one sample in encoders whose layers look at positions, written out in float64.

Nothing here imports alpine. ModernBERT's rotary tables and windows and T5's relative biases are
computed from a list of positions that shrinks with the tokens: a kept token keeps its own, a merged
token gets the mean of those it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from tests.reference.alpine import keep, scores

Shorten = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class _Tokens:
    """Positions and protection of the tokens still there, and pruning them."""

    def __init__(self, count: int, pruned_layers: list[int], alpha: float) -> None:
        self.positions = [float(position) for position in range(count)]
        self.special = [index in (0, count - 1) for index in range(count)]
        self.pruned_layers, self.alpha = pruned_layers, alpha
        self.lengths = [count]

    def prune(self, layer: int, x: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
        if layer in self.pruned_layers:
            stays = keep(scores(probs), self.special, self.alpha)
            removed = [i for i, stay in enumerate(stays) if not stay]
            kept = [i for i, stay in enumerate(stays) if stay]
            where, special = self.positions, self.special
            self.positions = [where[i] for i in kept]
            self.special = [special[i] for i in kept]
            if removed:
                self.positions.append(sum(where[i] for i in removed) / len(removed))
                self.special.append(False)
                x = torch.cat([x[kept], x[removed].mean(0, keepdim=True)])
        self.lengths.append(len(x))
        return x


def encode_modernbert(
    model: torch.nn.Module, input_ids: list[int], pruned_layers: list[int], alpha: float
) -> tuple[torch.Tensor, list[int]]:
    """Hidden states (n', D) and lengths after every layer of a ModernBertModel's weights."""
    w = {name: value.double() for name, value in model.state_dict().items()}
    config = model.config
    heads, size = config.num_attention_heads, config.hidden_size
    d = size // heads

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + config.norm_eps).sqrt()
        return centred / scale * w[f"{name}.weight"]

    def rotate(x: torch.Tensor, positions: list[float], theta: float) -> torch.Tensor:
        turned = x.clone()
        for row, position in enumerate(positions):
            for pair in range(d // 2):
                angle = position * theta ** (-2 * pair / d)
                a, b = x[row, pair], x[row, pair + d // 2]
                turned[row, pair] = a * math.cos(angle) - b * math.sin(angle)
                turned[row, pair + d // 2] = b * math.cos(angle) + a * math.sin(angle)
        return turned

    x = norm("embeddings.norm", w["embeddings.tok_embeddings.weight"][input_ids])
    tokens = _Tokens(len(input_ids), pruned_layers, alpha)
    for layer, kind in enumerate(config.layer_types):
        prefix = f"layers.{layer}"
        y = x if layer == 0 else norm(f"{prefix}.attn_norm", x)
        q, k, v = (y @ w[f"{prefix}.attn.Wqkv.weight"].T).split(size, dim=-1)
        theta = config.rope_parameters[kind]["rope_theta"]
        at = torch.tensor(tokens.positions, dtype=torch.float64)
        probs, contexts = [], []
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            turned_q, turned_k = (rotate(z[:, part], tokens.positions, theta) for z in (q, k))
            logits = turned_q @ turned_k.T / math.sqrt(d)
            if kind == "sliding_attention":
                far = (at[:, None] - at[None, :]).abs() > config.local_attention // 2
                logits[far] = -math.inf
            probs.append(torch.softmax(logits, -1))
            contexts.append(probs[-1] @ v[:, part])
        x = x + torch.cat(contexts, -1) @ w[f"{prefix}.attn.Wo.weight"].T
        x = tokens.prune(layer, x, torch.stack(probs))
        inner = norm(f"{prefix}.mlp_norm", x) @ w[f"{prefix}.mlp.Wi.weight"].T
        value, gate = inner.chunk(2, dim=-1)
        value = 0.5 * value * (1 + torch.erf(value / math.sqrt(2)))
        x = x + (value * gate) @ w[f"{prefix}.mlp.Wo.weight"].T
    return norm("final_norm", x), tokens.lengths


def encode_t5(
    model: torch.nn.Module, input_ids: list[int], pruned_layers: list[int], alpha: float
) -> tuple[torch.Tensor, list[int]]:
    """Hidden states (n', D) and lengths after every layer of a T5EncoderModel's weights."""
    w = {name: value.double() for name, value in model.state_dict().items()}
    config = model.config
    heads, d = config.num_heads, config.d_kv
    table = w["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        scale = (x.square().mean(-1, keepdim=True) + config.layer_norm_epsilon).sqrt()
        return x / scale * w[f"{name}.weight"]

    def bucket(distance: int) -> int:
        """Raffel et al. (2020): half the buckets per direction, half of those exact."""
        half = config.relative_attention_num_buckets // 2
        exact, far = half // 2, config.relative_attention_max_distance
        side = half if distance > 0 else 0
        size = abs(distance)
        if size < exact:
            return side + size
        spread = math.log(size / exact) / math.log(far / exact) * (half - exact)
        return side + min(half - 1, exact + int(spread))

    x = w["shared.weight"][input_ids]
    tokens = _Tokens(len(input_ids), pruned_layers, alpha)
    for layer in range(config.num_layers):
        prefix = f"encoder.block.{layer}"
        y = norm(f"{prefix}.layer.0.layer_norm", x)
        q, k, v = (y @ w[f"{prefix}.layer.0.SelfAttention.{part}.weight"].T for part in "qkv")
        at = torch.tensor(tokens.positions, dtype=torch.float32)
        rows = [[bucket(round(float(key - query))) for key in at] for query in at]
        probs, contexts = [], []
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            logits = q[:, part] @ k[:, part].T + table[:, head][torch.tensor(rows)]
            probs.append(torch.softmax(logits, -1))
            contexts.append(probs[-1] @ v[:, part])
        x = x + torch.cat(contexts, -1) @ w[f"{prefix}.layer.0.SelfAttention.o.weight"].T
        x = tokens.prune(layer, x, torch.stack(probs))
        y = norm(f"{prefix}.layer.1.layer_norm", x)
        y = torch.relu(y @ w[f"{prefix}.layer.1.DenseReluDense.wi.weight"].T)
        x = x + y @ w[f"{prefix}.layer.1.DenseReluDense.wo.weight"].T
    return norm("encoder.final_layer_norm", x), tokens.lengths
