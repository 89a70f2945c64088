"""Batches within a budget of tokens: every sample once, the budget held, the same each time."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.tasks import BatchLimit, EncodedSplit, TokenBatchSampler, make_loader
from alpine_cli.tasks.batching import bucket_length, cut_into_batches, grouped_by_length

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=70)
TOKENS = st.integers(1, 400)
FUNCTIONS = st.integers(1, 2)


def split_of(lengths: list[int], functions: int = 1) -> EncodedSplit:
    """With pairs, the second function is half as long."""
    rows = [tuple([7] * max(1, n // (k + 1)) for k in range(functions)) for n in lengths]
    return EncodedSplit(rows, [i % 2 for i in range(len(rows))], [str(i) for i in range(len(rows))])


def padded(batch: list[int], lengths: list[int], functions: int) -> int:
    """Tokens of a batch, padding counted, cell by cell."""
    rows = [lengths[i] for i in batch for _ in range(functions)]
    return sum(max(rows) for _ in rows)


def assert_held(batches: list[list[int]], lengths: list[int], tokens: int, functions: int) -> None:
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert padded(batch, lengths, functions) <= tokens or len(batch) == 1


@settings(deadline=None, max_examples=40)
@given(LENGTHS, TOKENS, FUNCTIONS, st.randoms(use_true_random=False))
def test_any_order_is_cut_as_late_as_the_budget_allows(lengths, tokens, functions, random):
    order = list(range(len(lengths)))
    random.shuffle(order)
    batches = cut_into_batches(order, BatchLimit(tokens=tokens), lengths, functions=functions)
    assert [i for batch in batches for i in batch] == order
    assert_held(batches, lengths, tokens, functions)
    for batch, after in pairwise(batches):
        assert padded([*batch, after[0]], lengths, functions) > tokens


@given(LENGTHS, st.integers(1, 9))
def test_by_samples_only_the_last_batch_is_short(lengths, size):
    batches = cut_into_batches(range(len(lengths)), BatchLimit(size), lengths)
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert [i for batch in batches for i in batch] == list(range(len(lengths)))


@settings(deadline=None, max_examples=40)
@given(LENGTHS, TOKENS, FUNCTIONS, st.randoms(use_true_random=False))
def test_which_lengths_stand_together_does_not_depend_on_the_order(
    lengths, tokens, functions, random
):
    def shapes(of: list[int]) -> list[list[int]]:
        batches = grouped_by_length(split_of(of, functions), BatchLimit(tokens=tokens))
        assert_held(batches, of, tokens, functions)
        return [[of[i] for i in batch] for batch in batches]

    shuffled = random.sample(lengths, len(lengths))
    found = shapes(lengths)
    assert found == shapes(shuffled) == shapes(lengths)
    flat = [length for batch in found for length in batch]
    assert flat == sorted(lengths, reverse=True)


@settings(deadline=None, max_examples=40)
@given(LENGTHS, TOKENS, FUNCTIONS, st.integers(0, 3))
def test_shuffled_epochs_hold_the_budget_and_are_equally_long(lengths, tokens, functions, seed):
    def sampler() -> TokenBatchSampler:
        pairs = [(length, length) for length in lengths]
        return TokenBatchSampler(
            pairs, tokens, functions=functions, shuffle=True, group_by_length=True, seed=seed
        )

    def epochs(of: TokenBatchSampler) -> list[list[list[int]]]:
        found = []
        for epoch in (0, 1, 2):
            of.set_epoch(epoch)
            found.append(list(of))
        return found

    found = epochs(sampler())
    for batches in found:
        assert_held(batches, lengths, tokens, functions)
        assert len(batches) == len(sampler())
    torch.manual_seed(seed)  # the global state plays no part
    assert epochs(sampler()) == found
    assert max(lengths) in {lengths[i] for i in found[0][0]}


def test_epochs_and_seeds_put_other_samples_together() -> None:
    lengths = [(1 + (i * 37) % 200,) * 2 for i in range(400)]

    def batches(seed: int, epoch: int) -> set[frozenset[int]]:
        sampler = TokenBatchSampler(lengths, 2000, shuffle=True, group_by_length=True, seed=seed)
        sampler.set_epoch(epoch)
        return {frozenset(batch) for batch in sampler}

    first = batches(1, 0)
    assert len(first & batches(1, 1)) < len(first) / 4
    assert len(first & batches(2, 0)) < len(first) / 4
    used = [len(b) * max(lengths[i][0] for i in b) for b in first]
    assert sum(used) / len(used) > 0.85 * 2000, "buckets cost an eighth of the budget at most"


@given(st.integers(1, 5000))
def test_buckets_end_at_most_an_eighth_above(length):
    end = bucket_length(length)
    assert length <= end < length * 9 / 8 + 1e-9 or end == length
    assert bucket_length(end) == end
    assert bucket_length(length + 1) >= end


@settings(deadline=None, max_examples=40)
@given(LENGTHS, TOKENS, FUNCTIONS, st.booleans(), st.booleans())
def test_a_loader_within_a_budget(lengths, tokens, functions, shuffle, group):
    encoded = split_of(lengths, functions)
    group = group or shuffle
    loader = make_loader(
        encoded, BatchLimit(tokens=tokens), shuffle=shuffle, group_by_length=group, pad_id=1
    )
    batches = []
    for batch in loader:
        indices = batch["index"].tolist()
        assert batch["input_ids"].numel() <= tokens or len(indices) == 1
        assert batch["input_ids"].shape[0] == len(indices) * functions
        batches.append(indices)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert len(loader) == len(batches)
    loader.batch_sampler.sampler.set_epoch(3)  # type: ignore[union-attr]  # as accelerate does
    assert loader.batch_sampler.epoch == 3  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "by samples or by tokens, one of them"),
        ({"samples": 2, "tokens": 64}, "batch_size 2, tokens_per_batch 64"),
        ({"samples": 0}, r"batch_size must be at least 1 \(got 0\)"),
        ({"tokens": 0}, r"tokens_per_batch must be at least 1 \(got 0\)"),
        ({"tokens": -5}, r"tokens_per_batch must be at least 1 \(got -5\)"),
    ],
)
def test_limits_that_are_none(limits: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchLimit(**limits)


def test_a_limit_as_settings_and_in_words() -> None:
    for limit, words in (
        (BatchLimit(32), "batch size 32"),
        (BatchLimit(tokens=4096), "batches of at most 4,096 tokens, padding counted"),
    ):
        assert BatchLimit.named(limit.by_name("training_"), "training_") == limit
        assert limit.words == words


def test_requests_that_make_no_sense() -> None:
    limit = BatchLimit(tokens=64)
    with pytest.raises(ValueError, match="grouped by length"):
        make_loader(split_of([3, 4]), limit, shuffle=True, group_by_length=False, pad_id=1)
    with pytest.raises(ValueError, match="drop_last"):
        make_loader(
            split_of([3]), limit, shuffle=False, group_by_length=True, pad_id=1, drop_last=True
        )
