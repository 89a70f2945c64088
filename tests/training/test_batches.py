"""The weights of `StepBatches` add up to the batch mean for every split of the work."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
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


@settings(deadline=None, max_examples=50)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=50),
    tokens=st.integers(1, 200),
    functions=st.integers(1, 2),
    world_size=st.integers(1, 3),
    grad_accum=st.integers(1, 3),
    epoch=st.integers(0, 2),
)
def test_within_a_budget_the_loss_is_the_mean_of_the_step(
    lengths: list[int],
    tokens: int,
    functions: int,
    world_size: int,
    grad_accum: int,
    epoch: int,
) -> None:
    """However many samples a step has, and be they fewer than there are slots."""

    def slots_of(rank: int, world: int, accum: int) -> list[list[Draw]]:
        batches = StepBatches(
            [(length, length * functions) for length in lengths],
            tokens_per_batch=tokens,
            functions=functions,
            grad_accum=accum,
            rank=rank,
            world_size=world,
            seed=3,
        )
        batches.set_epoch(epoch)
        slots = list(batches)
        assert len(slots) == len(batches) == batches.steps_per_epoch * accum
        return slots

    steps = slots_of(0, 1, 1)
    assert sorted(draw.index for step in steps for draw in step) == list(range(len(lengths)))
    per_rank = [slots_of(rank, world_size, grad_accum) for rank in range(world_size)]
    losses = [float((i * 37) % 11) for i in range(len(lengths))]
    for number, step in enumerate(steps):
        members = [draw.index for draw in step]
        area = functions * len(members) * max(lengths[i] for i in members)
        assert area <= tokens or len(members) == 1
        total = 0.0
        for slots in per_rank:
            mine = slots[number * grad_accum : (number + 1) * grad_accum]
            # The loss of a slot: its samples' mean times the sum of weights; DDP takes the mean.
            total += sum(
                sum(losses[d.index] for d in slot) / len(slot) * math.fsum(d.weight for d in slot)
                for slot in mine
            )
        expected = sum(losses[i] for i in members) / len(members)
        assert total / world_size == pytest.approx(expected)


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
