"""Batches hold every sample once, in an order that depends on seed and epoch alone."""

from __future__ import annotations

import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.tasks import Collator, EncodedSplit, LengthGroupedSampler, make_loader

PAD = 1


def split_of(lengths: list[int], functions: int = 1) -> EncodedSplit:
    """Rows whose tokens spell their sample's number, so that a batch can be checked."""
    rows = [tuple([100 + i] * length for _ in range(functions)) for i, length in enumerate(lengths)]
    return EncodedSplit(rows, [i % 2 for i in range(len(rows))], [str(i) for i in range(len(rows))])


LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=70)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 9), st.booleans(), st.booleans(), st.integers(0, 3))
def test_every_sample_once_and_only_the_last_batch_short(lengths, batch_size, shuffle, group, seed):
    loader = make_loader(
        split_of(lengths),
        batch_size,
        shuffle=shuffle,
        group_by_length=group,
        seed=seed,
        pad_id=PAD,
    )
    batches = [batch["index"].tolist() for batch in loader]
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert len(batches) == len(loader)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 9), st.integers(1, 2), st.integers(0, 20))
def test_batches_hold_the_rows_padding_and_mask(lengths, batch_size, functions, extra):
    encoded = split_of(lengths, functions)
    fixed = max(lengths) + extra
    loader = make_loader(
        encoded, batch_size, shuffle=True, group_by_length=True, pad_id=PAD, pad_to=fixed
    )
    for batch in loader:
        indices = batch["index"].tolist()
        assert batch["input_ids"].shape == (len(indices) * functions, fixed)
        assert batch["labels"].tolist() == [i % 2 for i in indices]
        assert all(tensor.dtype == torch.int64 for tensor in batch.values())
        for at, i in enumerate(i for i in indices for _ in range(functions)):
            row, mask = batch["input_ids"][at], batch["attention_mask"][at]
            assert row[: lengths[i]].tolist() == [100 + i] * lengths[i]
            assert (row[lengths[i] :] == PAD).all()
            assert mask.sum() == lengths[i]
            assert mask[: lengths[i]].all()


def test_padding_goes_to_the_longest_of_the_batch_and_pad_to_refuses_longer_rows():
    items = [split_of([3, 7])[i] for i in range(2)]
    assert Collator(PAD)(items)["input_ids"].shape == (2, 7)
    with pytest.raises(ValueError, match=r"7 tokens does not fit pad_to \(5\)"):
        Collator(PAD, pad_to=5)(items)


def order(sampler: LengthGroupedSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("group", [False, True])
def test_order_depends_on_seed_and_epoch_alone(group: bool):
    lengths = [(i * 37) % 50 for i in range(300)]

    def sampler(seed: int) -> LengthGroupedSampler:
        return LengthGroupedSampler(lengths, 8, shuffle=True, group_by_length=group, seed=seed)

    torch.manual_seed(1)
    first = [order(sampler(5), epoch) for epoch in (0, 1, 2)]
    torch.manual_seed(2)
    again = sampler(5)
    assert [order(again, epoch) for epoch in (2, 1, 0)] == first[::-1]
    assert len({tuple(o) for o in first}) == 3
    assert order(sampler(6), 0) != first[0]


def test_evaluation_order_is_longest_first_and_stable():
    sampler = LengthGroupedSampler([3, 9, 3, 9, 1], 2, shuffle=False, group_by_length=True, seed=0)
    assert list(sampler) == [1, 3, 0, 2, 4]
    plain = LengthGroupedSampler([3, 9, 1], 2, shuffle=False, group_by_length=False, seed=0)
    assert list(plain) == [0, 1, 2]


def padding_share(lengths: list[int], batches: list[list[int]]) -> float:
    cells = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return 1 - sum(lengths) / cells


def test_grouping_saves_padding_without_sorting_the_epoch():
    lengths = [1 + (i * 7919) % 500 for i in range(4000)]
    shares = {}
    for group in (False, True):
        sampler = LengthGroupedSampler(lengths, 16, shuffle=True, group_by_length=group, seed=0)
        flat = order(sampler, 1)
        batches = [flat[at : at + 16] for at in range(0, len(flat), 16)]
        shares[group] = padding_share(lengths, batches)
        means = [sum(lengths[i] for i in batch) / len(batch) for batch in batches]
        half = len(means) // 2
        assert abs(sum(means[:half]) / half - sum(means[half:]) / (len(means) - half)) < 60
    assert shares[True] < 0.05 < 0.4 < shares[False]


def test_the_longest_sample_comes_first_in_epoch_zero_only():
    lengths = [1 + (i * 7919) % 500 for i in range(1600)]
    sampler = LengthGroupedSampler(lengths, 8, shuffle=True, group_by_length=True, seed=3)
    assert max(lengths[i] for i in order(sampler, 0)[:8]) == max(lengths)
    firsts = [max(lengths[i] for i in order(sampler, epoch)[:8]) for epoch in range(1, 6)]
    assert any(first < max(lengths) for first in firsts)


@pytest.mark.parametrize(("samples", "processes"), [(64, 2), (61, 2), (50, 3)])
def test_processes_share_the_epoch_as_accelerate_shards_it(samples: int, processes: int):
    """Every process takes its own batches of one order; set_epoch reaches the sampler."""
    encoded = split_of([1 + (i * 31) % 40 for i in range(samples)])

    def shards(epoch: int) -> list[list[int]]:
        found = []
        for rank in range(processes):
            loader = make_loader(encoded, 4, shuffle=True, group_by_length=True, seed=9, pad_id=PAD)
            prepared = prepare_data_loader(
                loader, num_processes=processes, process_index=rank, put_on_device=False
            )
            prepared.set_epoch(epoch)
            prepared.iteration = epoch
            found.append([i for b in prepared.batch_sampler for i in b])
        return found

    for epoch in (0, 1):
        taken = [i for shard in shards(epoch) for i in shard]
        assert set(taken) == set(range(samples))
        # All processes take equally many batches; the last ones repeat early samples for that.
        assert len(taken) - samples < 4 * processes
    assert shards(0) != shards(1)


def test_drop_last_and_batch_size():
    encoded = split_of([2] * 10)
    loader = make_loader(
        encoded, 4, shuffle=False, group_by_length=False, pad_id=PAD, drop_last=True
    )
    assert [len(batch["index"]) for batch in loader] == [4, 4]
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        make_loader(encoded, 0, shuffle=False, group_by_length=False, pad_id=PAD)
