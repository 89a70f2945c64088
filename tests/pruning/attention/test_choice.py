"""Which back end is chosen: every kind of request, on devices that are only described."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
import torch

from alpine_cli.pruning import PruningError
from alpine_cli.pruning.attention import (
    BACKENDS,
    Attend,
    Request,
    attend_per_sequence,
    attention_backend,
    backend_name,
    choice,
    choose_backend,
)
from alpine_cli.pruning.attention.availability import Availability
from alpine_cli.pruning.attention.choice import BackendName, refusal
from alpine_cli.pruning.bias import PositionBias, SizeBias, Window
from alpine_cli.pruning.packed import Ragged

CPU, CUDA, MPS = (torch.device(kind) for kind in ("cpu", "cuda", "mps"))
HALF, SINGLE = torch.bfloat16, torch.float32
FULL = Availability({}, kernels=True)
OLD = Availability(
    dict.fromkeys(("varlen", "flash_attn"), "it is too old"), dtypes=(torch.float16, torch.float32)
)


def there(*missing: str, kernels: bool = True) -> Availability:
    return Availability(dict.fromkeys(missing, "it is not there"), kernels)


@pytest.mark.parametrize(
    ("expected", "request_", "offers"),
    [
        ("per_sequence", Request(CPU), FULL),
        ("per_sequence", Request(CPU, HALF, dropout=True, trains=True, score="received"), FULL),
        ("padded", Request(MPS, HALF), FULL),
        # inference in half precision
        ("varlen", Request(CUDA, HALF), FULL),
        ("varlen", Request(CUDA, torch.float16, score="received", causal=True), FULL),
        ("varlen", Request(CUDA, HALF, bias="key", score="cls"), FULL),
        ("varlen", Request(CUDA, HALF, even=True), FULL),
        ("flash_attn", Request(CUDA, HALF), there("varlen")),
        ("nested", Request(CUDA, HALF), there("varlen", "flash_attn")),
        ("padded", Request(CUDA, HALF), there("varlen", "flash_attn", "nested")),
        ("padded", Request(CUDA, HALF, even=True), there("varlen", "flash_attn")),
        # biases of pairs: positions, visibility
        ("padded", Request(CUDA, HALF, bias="pair"), FULL),
        ("padded", Request(CUDA, SINGLE, bias="pair", dropout=True), FULL),
        # float32
        ("nested", Request(CUDA, SINGLE, score="received"), FULL),
        ("padded", Request(CUDA, SINGLE, even=True), FULL),
        ("padded", Request(CUDA, torch.float64), FULL),
        # training
        ("varlen", Request(CUDA, HALF, trains=True), FULL),
        ("flash_attn", Request(CUDA, HALF, dropout=True, trains=True), FULL),
        ("nested", Request(CUDA, HALF, dropout=True, trains=True), there("flash_attn")),
        ("padded", Request(CUDA, HALF, dropout=True, even=True), there("flash_attn")),
        ("nested", Request(CUDA, SINGLE, dropout=True, trains=True), FULL),
        # without Triton probabilities are held where scores of all queries are wanted
        ("padded", Request(CUDA, HALF, score="received"), there(kernels=False)),
        ("varlen", Request(CUDA, HALF, score="cls"), there(kernels=False)),
        ("varlen", Request(CUDA, HALF), there(kernels=False)),
        # dtypes that were not tried
        ("nested", Request(CUDA, torch.float16), OLD),
        ("nested", Request(CUDA, SINGLE, dropout=True), OLD),
        ("padded", Request(CUDA, HALF), OLD),
        ("padded", Request(CUDA, HALF, dropout=True, trains=True), OLD),
        # sizes of heads
        ("varlen", Request(CUDA, HALF, head=256), FULL),
        ("nested", Request(CUDA, HALF, head=256, bias="key"), FULL),
        ("nested", Request(CUDA, HALF, head=256, trains=True), FULL),
        ("varlen", Request(CUDA, HALF, head=192, trains=True), FULL),
        ("padded", Request(CUDA, HALF, head=256, score="received"), FULL),
        ("varlen", Request(CUDA, HALF, head=128, score="received"), FULL),
    ],
)
def test_the_choice(expected: str, request_: Request, offers: Availability) -> None:
    assert choose_backend(request_, offers) is BACKENDS[expected]


def every_request() -> list[Request]:
    choices: dict[str, list[Any]] = {
        "device": [CPU, CUDA, MPS],
        "dtype": [HALF, torch.float16, SINGLE, torch.float64],
        "head": [12, 64, 256],
        "bias": ["none", "key", "pair"],
        "causal": [False, True],
        "dropout": [False, True],
        "trains": [False, True],
        "score": [None, "received", "cls"],
        "even": [False, True],
    }
    return [
        Request(**dict(zip(choices, values, strict=True)))
        for values in itertools.product(*choices.values())
    ]


def test_every_request_finds_a_back_end_that_can_serve_it() -> None:
    """Whatever is missing; and what a device lacks is never chosen."""
    names = ("varlen", "flash_attn", "nested")
    offers = [
        there(*missing, kernels=kernels)
        for size in range(4)
        for missing in itertools.combinations(names, size)
        for kernels in (False, True)
    ]
    chosen = set()
    for request in every_request():
        for offer in offers:
            name = backend_name(choose_backend(request, offer))
            chosen.add(name)
            assert refusal(name, request, offer) is None  # type: ignore[arg-type]
            assert name not in offer.reasons
            if request.device is CPU:
                assert name == "per_sequence"
            elif request.device is MPS:
                assert name == "padded"
            else:
                assert name != "per_sequence"
            if request.dropout:
                assert name != "varlen"
            if request.bias == "pair":
                assert name in ("per_sequence", "padded")
    assert chosen == set(BACKENDS) == set(get_args(BackendName))


def test_requests_are_read_off_a_call() -> None:
    ragged = Ragged.from_lengths(torch.tensor([3, 2]))
    q = torch.randn(5, 2, 12)
    plain = Request.of(q, q, q, ragged, dropout=0.0, score=None)
    assert plain == Request(CPU, SINGLE, 12)
    sized = SizeBias(torch.ones(5))
    windowed = PositionBias(Window(1), torch.arange(5.0))
    trained = q.clone().requires_grad_()
    asked = Request.of(q, trained, q, ragged, dropout=0.1, score="cls", bias=sized, causal=True)
    assert asked == Request(CPU, SINGLE, 12, "key", True, True, True, "cls")
    with torch.no_grad():
        asked = Request.of(q, trained, q, ragged, dropout=0.0, score=None, bias=windowed)
    # perhaps the first pass of reentrant checkpointing, whose second one will want gradients
    assert asked == Request(CPU, SINGLE, 12, "pair", trains=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Request.of(q, q, q, ragged, dropout=0.0, score=None).dtype == HALF
    even = Ragged.from_lengths(torch.tensor([5]))
    assert Request.of(q.bfloat16(), q, q, even, dropout=0.0, score=None) == Request(
        CPU, HALF, 12, even=True
    )


def test_a_back_end_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "availability", lambda device: there("flash_attn"))
    with attention_backend("padded"):
        assert choose_backend(Request(CPU)) is BACKENDS["padded"]
        with attention_backend("nested"):
            assert choose_backend(Request(CPU)) is BACKENDS["nested"]
        with attention_backend(None):
            assert choose_backend(Request(CPU)) is attend_per_sequence
        assert choose_backend(Request(CPU)) is BACKENDS["padded"]
    assert choose_backend(Request(CPU)) is attend_per_sequence


@pytest.mark.parametrize(
    ("name", "request_", "reason"),
    [
        ("varlen", Request(CUDA, HALF, dropout=True), "it has no attention dropout"),
        ("varlen", Request(CUDA, SINGLE), "half precision (got torch.float32)"),
        ("varlen", Request(CUDA, HALF, bias="pair"), "position biases or a mask"),
        ("varlen", Request(CUDA, HALF, head=300), "256 columns at most (got 304)"),
        ("flash_attn", Request(CUDA, HALF), "it is not there"),
        ("nested", Request(CPU, causal=True), "not causal on a CPU"),
        ("nested", Request(CUDA, torch.float64), "half precision or float32"),
    ],
)
def test_a_back_end_by_name_that_cannot_serve(
    monkeypatch: pytest.MonkeyPatch, name: Any, request_: Request, reason: str
) -> None:
    """The error says why, and what would serve."""
    monkeypatch.setattr(choice, "availability", lambda device: there("flash_attn"))
    with attention_backend(name), pytest.raises(PruningError) as caught:
        choose_backend(request_)
    message = str(caught.value)
    assert reason in message
    assert f"attention_backend({name!r})" in message
    would = message.partition("would: ")[2].split(", ")
    assert "padded" in would
    assert name not in would


def test_a_back_end_that_does_not_exist() -> None:
    with pytest.raises(PruningError, match=r"one of per_sequence, varlen, .* \(got 'flash'\)"):
        attention_backend("flash").__enter__()  # type: ignore[arg-type]


def test_names() -> None:
    assert [backend_name(attend) for attend in BACKENDS.values()] == list(BACKENDS)

    def mine(*args: Any, **kwargs: Any) -> Any: ...

    stranger: Attend = mine
    assert backend_name(stranger) == "mine"
