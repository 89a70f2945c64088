"""The weights of `StepBatches` add up to the batch mean for every split of the work."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpine_cli.tasks.encoding import EncodedSplit
from alpine_cli.training.batches import LOSS_WEIGHT, Draw, StepBatches, make_train_loader


def _lengths(count: int) -> list[tuple[int, int]]:
    return [(index % 7, index) for index in range(count)]


@given(
    samples=st.integers(1, 60),
    world_size=st.integers(1, 3),
    grad_accum=st.integers(1, 3),
    more=st.integers(0, 9),
    epoch=st.integers(0, 3),
    grouped=st.booleans(),
)
def test_every_sample_once_with_the_weight_of_a_mean(
    samples: int, world_size: int, grad_accum: int, more: int, epoch: int, grouped: bool
) -> None:
    batch_size = world_size * grad_accum + more

    def batches_of(rank: int, world: int, accum: int) -> list[list[Draw]]:
        batches = StepBatches(
            _lengths(samples),
            batch_size=batch_size,
            grad_accum=accum,
            rank=rank,
            world_size=world,
            seed=3,
            group_by_length=grouped,
        )
        batches.set_epoch(epoch)
        slots = list(batches)
        assert len(slots) == len(batches) == batches.steps_per_epoch * accum
        return slots

    alone = batches_of(0, 1, 1)
    per_rank = [batches_of(rank, world_size, grad_accum) for rank in range(world_size)]
    seen = []
    for step, batch in enumerate(alone):
        weights: dict[int, float] = {}
        for slots in per_rank:
            for slot in slots[step * grad_accum : (step + 1) * grad_accum]:
                assert slot, "every process takes part in every step"
                # the loss of a slot is its mean times the sum of weights
                share = math.fsum(draw.weight for draw in slot) / len(slot) / world_size
                for draw in slot:
                    weights[draw.index] = weights.get(draw.index, 0.0) + share
        assert weights == pytest.approx({draw.index: 1 / len(batch) for draw in batch})
        seen += [draw.index for draw in batch]
    assert sorted(seen) == list(range(samples))


def test_epochs_differ_and_are_reproducible() -> None:
    batches = StepBatches(_lengths(40), batch_size=8, seed=1)
    orders = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        orders.append([[draw.index for draw in slot] for slot in batches])
    assert orders[0] == orders[2] != orders[1]


def test_batches_hold_similar_lengths() -> None:
    def spread(grouped: bool) -> int:
        lengths = [(n * 37 % 101, 0) for n in range(96)]
        batches = StepBatches(lengths, batch_size=8, seed=1, group_by_length=grouped)
        batches.set_epoch(1)
        return sum(
            max(lengths[draw.index] for draw in slot)[0]
            - min(lengths[draw.index] for draw in slot)[0]
            for slot in batches
        )

    assert spread(True) < spread(False) / 5


@pytest.mark.parametrize(
    ("samples", "batch_size", "message"),
    [(0, 4, "no samples"), (9, 3, r"batch_size \(3\) .* processes \(2\) × grad_accum \(2\)")],
)
def test_impossible_requests(samples: int, batch_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StepBatches(_lengths(samples), batch_size=batch_size, grad_accum=2, world_size=2)


def test_loader_adds_the_weight() -> None:
    encoded = EncodedSplit(
        rows=[([0, 5, 2],), ([0, 5, 6, 2],), ([0, 2],)], labels=[0, 1, 1], ids=["a", "b", "c"]
    )
    batches = StepBatches(_lengths(3), batch_size=2)
    first, last = make_train_loader(encoded, batches, pad_id=1)
    assert first[LOSS_WEIGHT] == pytest.approx(1.0)
    assert last[LOSS_WEIGHT] == pytest.approx(1.0)
    assert first["input_ids"].shape[0] == 2
    assert last["labels"].shape == (1,)
