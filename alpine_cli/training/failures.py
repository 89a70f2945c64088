"""Failures of training turned into what the user can do about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from alpine_cli.config import TrainConfig
from alpine_cli.errors import TrainingError
from alpine_cli.tasks.batching import BatchLimit

__all__ = ["advise_on_memory", "loss_not_finite"]

_CPU_MEMORY_SIGNS = ("not enough memory", "can't allocate memory", "cannot allocate memory")


@contextmanager
def advise_on_memory(
    train: TrainConfig, device: torch.device, *, evaluating: bool
) -> Iterator[None]:
    """Answer memory that ran out, on CUDA or CPU, with what to change; pass other errors on.

    Raises:
        TrainingError: memory ran out inside the block.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(train, device, evaluating) from error
    except RuntimeError as error:  # CPU allocators have no error class of their own
        if not any(sign in str(error).lower() for sign in _CPU_MEMORY_SIGNS):
            raise
        raise _out_of_memory(train, device, evaluating) from error


def _out_of_memory(train: TrainConfig, device: torch.device, evaluating: bool) -> TrainingError:
    if evaluating:
        amount, less = _amount(train.eval_batch_limit), _share(train.eval_batch_limit, 4)
        return TrainingError(
            f"out of memory on {device} while evaluating {amount} of up to {train.max_length}"
            f" tokens at a time.\n  --eval-{less}   the same result, slower"
        )
    size = train.batch_size
    piece = None if size is None else -(-size // train.grad_accum)
    advice = []
    if piece is None or piece > 1:
        advice.append((f"--grad-accum {train.grad_accum * 2}", "half the memory, the same result"))
    if not train.gradient_checkpointing:
        advice.append(("--gradient-checkpointing", "much less memory, about a third more time"))
    if not train.bf16 and device.type == "cuda":
        advice.append(("--bf16", "about half the memory of activations, rounded results"))
    advice.append((f"--max-length {max(8, train.max_length // 2)}", "cuts longer functions"))
    if size is None or size > 1:
        less = _share(train.batch_limit, 2)
        advice.append((f"--{less}", "another training: adapt --lr"))
    width = max(len(option) for option, _ in advice)
    lines = "\n".join(f"  {option:<{width}}   {effect}" for option, effect in advice)
    amount = _amount(train.batch_limit) if piece is None else f"{piece} samples"
    return TrainingError(
        f"out of memory on {device} with {amount} of up to {train.max_length} tokens at a"
        f" time. Start again (--force replaces this run) with one of:\n{lines}"
    )


def _amount(limit: BatchLimit) -> str:
    return f"{limit.samples} samples" if limit.tokens is None else f"{limit.tokens:,} tokens, rows"


def _share(limit: BatchLimit, divisor: int) -> str:
    """The option that asks for a part of it, without its dashes."""
    if limit.tokens is not None:
        return f"tokens-per-batch {max(1, limit.tokens // divisor)}"
    assert limit.samples is not None
    return f"batch-size {max(1, limit.samples // divisor)}"


def loss_not_finite(loss: float, step: int, epoch: float, train: TrainConfig) -> TrainingError:
    """The error that ends a run whose loss is NaN or infinite: going on cannot heal it."""
    bf16 = " or leave out --bf16" if train.bf16 else ""
    clip = " or clip gradients (--grad-norm 1.0)" if not train.grad_norm else ""
    return TrainingError(
        f"the loss became {loss} at step {step + 1} (epoch {epoch:.2f}); training was stopped and"
        f" ckpt.pt keeps the best validated weights, if there was a validation before."
        f" Lower --lr (now {train.lr:g}){bf16}{clip}, then start again with --force"
    )
