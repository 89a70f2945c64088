"""Data-parallel processes: who am I, and how do we agree.

Every process computes; rank 0 alone touches files and the screen. Under `torchrun` the process
group is set up by transformers' TrainingArguments; a single process needs none, and every method
below then answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

__all__ = ["Ranks"]

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among all."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """Ask torch.distributed; one process where no group exists."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            dist.barrier()

    def largest(self, number: Tensor) -> float:
        """The largest of everybody's numbers, given as tensors of one element, on every process."""
        if self.world_size > 1:
            number = number.clone()
            dist.all_reduce(number, dist.ReduceOp.MAX)
        return float(number)

    def gather(self, value: T) -> list[T]:
        """Everybody's value, in order of rank, on every process."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def first_does(self, work: Callable[[], T]) -> T:
        """Let rank 0 do something; all processes get its result, or raise its error.

        Without the shared error the others would wait for ever for a rank 0 that has given up.
        """
        if self.world_size == 1:
            return work()
        answer: list[Any] = [None, None]
        if self.is_first:
            try:
                answer[0] = work()
            except Exception as error:
                answer[1] = error
        dist.broadcast_object_list(answer, src=0)
        if answer[1] is not None:
            raise answer[1]
        result: T = answer[0]
        return result
