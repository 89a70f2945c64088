"""ALPINE for one sample, written from the paper's description: plain loops, float64, no batching.

Nothing here imports alpine. The encoder reads a RoBERTa model's weights and computes attention,
norms and feed-forward parts itself, so that it can tell a wrong layer wiring from a right one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch


def scores(probs: torch.Tensor) -> list[float]:
    """Score of every token from (heads, n, n) probabilities: mean over heads and queries."""
    heads, n, _ = probs.shape
    table = probs.double().tolist()
    return [
        math.fsum(table[h][q][key] for h in range(heads) for q in range(n)) / (heads * n)
        for key in range(n)
    ]


def keep(values: list[float], protected: list[bool], alpha: float) -> list[bool]:
    """Tokens within alpha standard deviations of the mean; protected ones always."""
    counted = [
        value for value, is_protected in zip(values, protected, strict=True) if not is_protected
    ]
    if not counted:
        return [True] * len(values)
    mean = math.fsum(counted) / len(counted)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in counted) / len(counted))
    # 2e-6: the documented tolerance, which keeps exact ties
    return [
        is_protected or abs(value - mean) <= alpha * deviation + 2e-6 * mean
        for value, is_protected in zip(values, protected, strict=True)
    ]


def margin(values: list[float], protected: list[bool], alpha: float) -> float:
    """Distance of the closest score to a threshold, relative to the mean; inf if none counts."""
    counted = [
        value for value, is_protected in zip(values, protected, strict=True) if not is_protected
    ]
    if not counted:
        return math.inf
    mean = math.fsum(counted) / len(counted)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in counted) / len(counted))
    return min(abs(abs(value - mean) - alpha * deviation - 2e-6 * mean) for value in counted) / mean


Choose = Callable[[list[float], list[bool], torch.Tensor], list[bool]]
"""(received scores, protected, probabilities (heads, n, n)) → which tokens stay."""


def into_nearest(
    x: torch.Tensor, sizes: list[float], stays: list[bool], protected: list[bool]
) -> tuple[torch.Tensor, list[float]]:
    """Each removed row into the kept row of highest cosine similarity, averaged by size."""
    n = len(stays)
    kept = [i for i in range(n) if stays[i]]
    takers = [i for i in kept if not protected[i]] or kept
    total = {i: x[i] * sizes[i] for i in kept}
    weight = {i: sizes[i] for i in kept}
    for i in range(n):
        if stays[i]:
            continue
        likeness = [float(x[i] @ x[j] / (x[i].norm() * x[j].norm())) for j in takers]
        taker = takers[likeness.index(max(likeness))]
        total[taker] = total[taker] + x[i] * sizes[i]
        weight[taker] += sizes[i]
    return torch.stack([total[i] / weight[i] for i in kept]), [weight[i] for i in kept]


@dataclass
class SlowRun:
    """Result of the slow encoder: hidden states (n', D), per layer what stayed, and its scores."""

    hidden: torch.Tensor
    lengths: list[int]
    kept: list[list[int]]
    smallest_margin: float
    scores: dict[int, list[float]] = field(default_factory=dict)


@dataclass
class SlowGraph:
    """Who attends to whom in the input, and how nodes come into it.

    sees[q][k]: whether column q attends to column k; positions: one id per column; links: by node
    column, the columns whose word embeddings it is the mean of; last: the last special column.
    """

    sees: list[list[bool]]
    positions: list[int]
    links: dict[int, list[int]]
    last: int


def encode_roberta(
    model: torch.nn.Module,
    input_ids: list[int],
    pruned_layers: list[int],
    alpha: float = 1.0,
    merge: str = "mean",
    protect: str = "special",
    choose: Choose | None = None,
    graph: SlowGraph | None = None,
) -> SlowRun:
    """Run one unpadded sample through a RobertaModel's weights, pruning as the paper says.

    `choose` replaces the paper's band; merge "nearest" sends each removed token into the most
    similar one that stays, and attention then counts every token as often as its size. With a
    `graph` a token attends to another where a token that it stands for attended to one that the
    other stands for, and to itself where there is none.
    """
    weights = {name: value.double() for name, value in model.state_dict().items()}
    config = model.config
    heads = config.num_attention_heads

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        scaled = centred / (variance + config.layer_norm_eps).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    words = [weights["embeddings.word_embeddings.weight"][token] for token in input_ids]
    positions = [config.pad_token_id + 1 + place for place in range(len(input_ids))]
    if graph is not None:
        positions = graph.positions
        for node, linked in graph.links.items():
            words[node] = torch.stack([words[column] for column in linked]).mean(0)
    embedded = torch.stack(
        [
            word
            + weights["embeddings.position_embeddings.weight"][position]
            + weights["embeddings.token_type_embeddings.weight"][0]
            for position, word in zip(positions, words, strict=True)
        ]
    )
    x = norm("embeddings.LayerNorm", embedded)
    origins = list(range(len(input_ids)))  # -1: a merged token
    members = [[column] for column in origins]  # input tokens that each token stands for
    last = len(input_ids) - 1 if graph is None else graph.last
    sizes = [1.0] * len(input_ids)
    run = SlowRun(x, [len(input_ids)], [], math.inf)
    for layer in range(config.num_hidden_layers):
        prefix = f"encoder.layer.{layer}"
        n, size = x.shape
        head_size = size // heads
        hidden = torch.zeros(n, n, dtype=torch.bool)
        if graph is not None:
            for a in range(n):
                for b in range(n):
                    hidden[a, b] = not any(graph.sees[i][j] for i in members[a] for j in members[b])
                hidden[a, a] &= not hidden[a].all()
        probs, contexts = [], []
        for head in range(heads):
            columns = slice(head * head_size, (head + 1) * head_size)
            q, k, v = (
                linear(f"{prefix}.attention.self.{part}", x)[:, columns]
                for part in ("query", "key", "value")
            )
            logits = q @ k.T / math.sqrt(head_size)
            weight = logits.exp() * torch.tensor(sizes, dtype=torch.float64)
            weight = weight.masked_fill(hidden, 0.0)
            weight = weight / weight.sum(-1, keepdim=True)
            probs.append(weight)
            contexts.append(weight @ v)
        attended = linear(f"{prefix}.attention.output.dense", torch.cat(contexts, -1))
        x = norm(f"{prefix}.attention.output.LayerNorm", attended + x)
        if layer in pruned_layers:
            if protect == "special":
                protected = [origin in (0, last) for origin in origins]
            else:
                protected = [position in (0, n - 1) for position in range(n)]
            values = run.scores[layer] = scores(torch.stack(probs))
            run.smallest_margin = min(run.smallest_margin, margin(values, protected, alpha))
            if choose is None:
                stays = keep(values, protected, alpha)
            else:
                stays = choose(values, protected, torch.stack(probs))
            removed = [x[i] for i in range(n) if not stays[i]]
            if merge == "nearest":
                x, sizes = into_nearest(x, sizes, stays, protected)
            else:
                x = torch.stack([x[i] for i in range(n) if stays[i]])
                sizes = [1.0] * (sum(stays) + (1 if removed and merge == "mean" else 0))
            origins = [origin for origin, stay in zip(origins, stays, strict=True) if stay]
            gone = [column for i in range(n) if not stays[i] for column in members[i]]
            members = [members[i] for i in range(n) if stays[i]]
            if removed and merge == "mean":
                members.append(gone)
                x = torch.cat([x, torch.stack(removed).mean(0, keepdim=True)])
                origins.append(-1)
        run.kept.append([origin for origin in origins if origin >= 0])
        inner = linear(f"{prefix}.intermediate.dense", x)
        inner = 0.5 * inner * (1 + torch.erf(inner / math.sqrt(2)))
        x = norm(f"{prefix}.output.LayerNorm", linear(f"{prefix}.output.dense", inner) + x)
        run.lengths.append(len(x))
    run.hidden = x
    return run
