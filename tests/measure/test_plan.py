"""What was asked for is checked before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alpine_cli.checkpoint import load_checkpoint, save_checkpoint
from alpine_cli.errors import CheckpointError, ConfigError, DataError, ModelError
from alpine_cli.measure.plan import MeasureOptions, make_plan
from alpine_cli.measure.workload import load_workload
from alpine_cli.pruning.errors import PruningError
from tests.measure.subjects import write_checkpoint, write_data


@pytest.fixture
def options(subject: tuple[Path, Path]) -> MeasureOptions:
    return MeasureOptions(checkpoint=subject[0], device="cpu", threads=1, batch_size=4)


def test_variants_pairs_and_subject(options: MeasureOptions) -> None:
    plan = make_plan(options)
    assert list(plan.variants) == ["stock", "unpruned", "pruned"]
    assert plan.pairs == [("pruned", "unpruned"), ("unpruned", "stock"), ("pruned", "stock")]
    assert plan.variants["stock"].pruning is None
    assert plan.variants["unpruned"].pruning is not None
    assert plan.variants["unpruned"].pruning["layers"] == "none"
    assert plan.subject.samples == 24
    assert plan.subject.data == "data"  # the checkpoint knows where it learned
    assert plan.variants["pruned"].checkpoint == "run/ckpt.pt"
    assert len(plan.subject.data_sha256) == 64


def test_options_override_the_checkpoint(options: MeasureOptions) -> None:
    plan = make_plan(replace(options, layers="0,3", alpha=0.5, engine="padded", merge="none"))
    pruning = plan.variants["pruned"].pruning
    assert pruning is not None
    asked = {"layers": "0,3", "alpha": 0.5, "merge": "none", "engine": "padded"}
    assert pruning == {**pruning, **asked}
    assert pruning["protect"] == "special"
    unpruned = plan.variants["unpruned"].pruning
    assert unpruned is not None
    assert (unpruned["layers"], unpruned["engine"]) == ("none", "padded")


def test_the_reference_joins_on_request(options: MeasureOptions) -> None:
    plan = make_plan(replace(options, reference=True))
    assert plan.variants["reference"].engine == "reference"
    assert ("reference", "unpruned") in plan.pairs


def test_a_checkpoint_without_pruning_measures_two_variants_and_says_so(
    options: MeasureOptions,
) -> None:
    plan = make_plan(replace(options, layers="none"))
    assert list(plan.variants) == ["stock", "unpruned"]
    assert "--layers even" in str(plan.cautions[0])


def test_a_rule_without_a_layer_that_prunes_is_refused(
    options: MeasureOptions, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """`--prune rule=top` on a checkpoint that prunes nothing measured the unpruned model alone."""
    bare = write_checkpoint(tmp_path / "bare.pt", tiny_model_dir, layers="none")
    data = options.checkpoint.parents[1] / "data"
    asked = replace(options, checkpoint=bare, data=data, prune={"rule": "top", "keep": 0.75})
    with pytest.raises(ConfigError, match=r"rule, keep: would change nothing.*layers=all"):
        make_plan(asked)
    assert "pruned" in make_plan(replace(asked, layers="all")).variants
    make_plan(replace(asked, prune={"layers": "none", "rule": "top", "keep": 0.75}))


def test_a_baseline_lends_its_weights_to_stock_and_unpruned(
    options: MeasureOptions, tmp_path: Path, tiny_model_dir: Path
) -> None:
    other = write_checkpoint(tmp_path / "other" / "ckpt.pt", tiny_model_dir, seed=2)
    variants = make_plan(replace(options, baseline=other)).variants
    assert variants["stock"].checkpoint == variants["unpruned"].checkpoint == "other/ckpt.pt"
    assert variants["pruned"].checkpoint == "run/ckpt.pt"
    assert variants["stock"].checkpoint_sha256 != variants["pruned"].checkpoint_sha256


def test_the_same_samples_have_the_same_hash(options: MeasureOptions) -> None:
    first, second, fewer = (
        make_plan(asked).subject
        for asked in (options, replace(options, layers="all"), replace(options, limit=5))
    )
    assert first.data_sha256 == second.data_sha256 != fewer.data_sha256
    assert (fewer.samples, fewer.limit) == (5, 5)


def test_settings_hold_no_path_of_this_machine(options: MeasureOptions) -> None:
    plan = make_plan(options)
    settings = plan.options.settings()
    assert settings["checkpoint"] == "run/ckpt.pt"
    assert not any(isinstance(v, str) and v.startswith("/") for v in settings.values())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"checkpoint": Path("none.pt")}, CheckpointError, "none.pt"),
        ({"data": Path("nowhere")}, DataError, "nowhere"),
        ({"split": "valid"}, DataError, "valid"),
        ({"layers": "0,9"}, PruningError, "9"),
        ({"alpha": 0.0}, PruningError, "alpha"),
        ({"device": "tpu"}, ModelError, "tpu"),
        ({"pue": 0.5}, ConfigError, "--pue"),
        ({"min_seconds": float("inf")}, ConfigError, "--min-seconds: must be finite"),
        ({"split": "z"}, ConfigError, r"--split: must be train, valid, test \(got 'z'\)"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused_first(
    options: MeasureOptions, change: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_plan(replace(options, **change))  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_no_cuda_where_asked_is_an_error(options: MeasureOptions) -> None:
    with pytest.raises(ModelError, match="--device cpu"):
        make_plan(replace(options, device="cuda"))


def test_a_checkpoint_that_names_no_data_asks_for_it(
    tmp_path: Path, tiny_model_dir: Path, options: MeasureOptions
) -> None:
    path = write_checkpoint(tmp_path / "ckpt.pt", tiny_model_dir, None)
    with pytest.raises(ConfigError, match="--data"):
        make_plan(replace(options, checkpoint=path))


def test_a_baseline_of_another_task_is_refused(options: MeasureOptions, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(options.checkpoint)
    checkpoint.task = "clone-detection"
    save_checkpoint(checkpoint, tmp_path / "clone.pt")
    with pytest.raises(ConfigError, match="clone-detection"):
        make_plan(replace(options, baseline=tmp_path / "clone.pt"))


def test_timed_batches_are_whole_batches_spread_over_the_lengths(
    options: MeasureOptions, tmp_path: Path
) -> None:
    data = write_data(tmp_path / "many", samples=64)
    workload = load_workload(make_plan(replace(options, data=data)).request)
    everything = workload.timed_batches(None)
    some = workload.timed_batches(16)
    assert list(some) == ["stock", "unpruned", "pruned"]
    whole = {batch.indices for batch in everything["stock"]}
    assert len(whole) == 16
    for batches in some.values():
        assert len(batches) == 4
        assert {batch.indices for batch in batches} <= whole
        assert [batch.indices for batch in batches] == [b.indices for b in some["stock"]]
    encoded = workload.variants["stock"].encoded
    chosen = [i for batch in some["stock"] for i in batch.indices]
    mean = sum(map(encoded.length, chosen)) / len(chosen)
    overall = sum(map(encoded.length, range(64))) / 64
    assert mean == pytest.approx(overall, rel=0.15)


def test_within_a_budget_variants_run_the_same_samples_together(
    options: MeasureOptions, tmp_path: Path
) -> None:
    data = write_data(tmp_path / "many", samples=64)
    plan = make_plan(replace(options, data=data, batch_size=None, tokens_per_batch=200))
    workload = load_workload(plan.request)
    everything, some = workload.timed_batches(None), workload.timed_batches(16)
    assert sorted(i for batch in everything["stock"] for i in batch.indices) == list(range(64))
    for batches in (*everything.values(), *some.values()):
        for batch in batches:
            assert batch.input_ids.numel() <= 200 or len(batch.indices) == 1
    for batches in some.values():
        assert [batch.indices for batch in batches] == [b.indices for b in some["stock"]]
    held = sum(len(batch.indices) for batch in some["stock"])
    assert 8 <= held <= 32
    assert {b.indices for b in some["stock"]} < {b.indices for b in everything["stock"]}
    assert len(workload.timed_batches(1, least=4)["stock"]) == 4


def test_budgets_that_cannot_be(options: MeasureOptions, tmp_path: Path) -> None:
    budget = replace(options, batch_size=None, tokens_per_batch=200)
    with pytest.raises(ConfigError, match="--find-batch-size: searches a number of samples"):
        make_plan(replace(budget, find_batch_size=True))
    with pytest.raises(ConfigError, match="--batch-size 4 and --tokens-per-batch 200 both say"):
        replace(options, tokens_per_batch=200)
    with pytest.raises(ConfigError, match="--batch-size 4 and --tokens-per-batch 9 both say"):
        MeasureOptions(options.checkpoint, flops_batch_size=4, flops_tokens_per_batch=9)
    other = load_checkpoint(options.checkpoint)
    other.encoding = other.encoding | {"max_length": 32}
    save_checkpoint(other, tmp_path / "other.pt")
    make_plan(replace(options, baseline=tmp_path / "other.pt"))
    with pytest.raises(ConfigError, match="reads the samples as other tokens"):
        make_plan(replace(budget, baseline=tmp_path / "other.pt"))


def test_other_fields_of_the_pruning_are_overridden_by_name(options: MeasureOptions) -> None:
    fields = {"rule": "top", "keep": 0.6, "merge": "nearest", "output": "first"}
    plan = make_plan(replace(options, layers="all", prune=fields))
    pruned = plan.variants["pruned"]
    assert pruned.pruning is not None
    assert {name: pruned.pruning[name] for name in fields} == fields
    assert pruned.description.endswith(
        "layers all, rule top, keep 0.6, merge nearest, protect special, output first"
    )
    unpruned = plan.variants["unpruned"].pruning
    assert unpruned is not None
    assert (unpruned["layers"], unpruned["output"]) == ("none", "first")
    assert plan.max_length == 64
    with pytest.raises(PruningError, match="takes no share"):
        make_plan(replace(options, prune={"keep": 0.5}))
