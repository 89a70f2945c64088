"""Which cells follow from options and a file, what each is measured with, and what is refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.errors import ConfigError
from alpine_cli.measure.cells import Axes, CellOptions, expand, read_cells
from alpine_cli.measure.options import PRESETS, MeasureOptions

A, B = Path("a/ckpt.pt"), Path("b/ckpt.pt")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cells.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_combination_is_one_cell() -> None:
    cells = expand(Axes([A, B], [1, 32], ["cpu", "cuda"]), {})
    places = [(cell.checkpoint, cell.device, cell.batch_size) for cell in cells]
    assert len(places) == len(set(places)) == 8
    assert places[:2] == [(A, "cpu", 1), (A, "cpu", 32)]


def test_nothing_but_a_checkpoint_is_the_plain_default() -> None:
    assert expand(Axes([A]), {}) == [MeasureOptions(checkpoint=A)]


def test_options_win_over_the_file_over_the_preset(tmp_path: Path) -> None:
    file = read_cells(
        written(
            tmp_path,
            """
            checkpoints: [a/ckpt.pt, b/ckpt.pt]
            batch_sizes: [1, 32]
            preset: quick
            defaults: {runs: 6, limit: 100, memory_runs: 3, timed_samples: 0}
            overrides:
              - where: {batch_size: 1}
                set: {runs: 20, latency: false}
              - where: {batch_size: 1, checkpoint: b/ckpt.pt}
                set: {runs: 21}
            """,
        )
    )
    cells = {
        (cell.checkpoint, cell.batch_size): cell
        for cell in expand(Axes(), {"limit": 50}, None, file)
    }
    assert {key: cell.runs for key, cell in cells.items()} == {
        (A, 1): 20,
        (A, 32): 6,
        (B, 1): 21,
        (B, 32): 6,
    }
    assert {cell.limit for cell in cells.values()} == {50}  # the command line wins
    assert {cell.memory_runs for cell in cells.values()} == {3}  # over the preset
    assert {cell.timed_samples for cell in cells.values()} == {None}  # 0: all
    assert {cell.min_seconds for cell in cells.values()} == {PRESETS["quick"]["min_seconds"]}
    assert {cell.preset for cell in cells.values()} == {"quick"}
    assert cells[A, 1].latency is False
    assert cells[A, 32].latency is True


def test_an_axis_of_the_command_line_replaces_that_of_the_file(tmp_path: Path) -> None:
    file = read_cells(written(tmp_path, "checkpoints: [a/ckpt.pt]\nbatch_sizes: [1, 2]\n"))
    cells = expand(Axes(batch_sizes=[8]), {}, "thorough", file)
    assert [(cell.checkpoint, cell.batch_size) for cell in cells] == [(A, 8)]
    assert cells[0].timed_samples is None
    assert cells[0].runs == PRESETS["thorough"]["runs"]


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_given_wins_over_every_option_of_a_preset(preset: Any) -> None:
    plain = MeasureOptions(checkpoint=A)
    given = {name: getattr(plain, name) for name in PRESETS[preset]}
    (cell,) = expand(Axes([A]), given, preset)
    assert cell == MeasureOptions(checkpoint=A, preset=preset)


def test_the_file_knows_every_option_but_the_axes() -> None:
    known = {item.name for item in fields(MeasureOptions)}
    axes = {"checkpoint", "batch_size", "tokens_per_batch", "device"}
    assert set(CellOptions.model_fields) == known - axes - {"preset"}


def test_all_errors_of_a_file_come_at_once_with_their_place(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        batch_sizes: [0, many]
        checkpoint_files: [a/ckpt.pt]
        preset: fast
        defaults: {runs: 0, limt: 3, pue: .nan, alpha: wide}
        overrides:
          - where: {batch_size: 1, engine: packed}
            set: {rusn: 3}
          - set: {}
        """,
    )
    with pytest.raises(ConfigError) as caught:
        read_cells(path)
    told = {line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()}
    assert len(told) == 11
    for expected in (
        "batch_sizes.0: must be >= 1 (got 0)",
        "batch_sizes.1: must be a whole number (got 'many')",
        "checkpoint_files: unknown field; did you mean 'checkpoints'?",
        "defaults.runs: must be >= 1 (got 0)",
        "defaults.limt: unknown field; did you mean 'defaults.limit'?",
        "defaults.pue: must be finite (got nan)",
        "defaults.alpha: must be a number (got 'wide')",
        "overrides.0.set.rusn: unknown field; did you mean 'overrides.0.set.runs'?",
    ):
        assert expected in told
    for start in ("preset: must be one of", "overrides.0.where.engine: ", "overrides.1.where: "):
        assert any(line.startswith(start) for line in told), start


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (Axes(), "--checkpoint: is required"),
        (Axes([A, A]), "checkpoint a/ckpt.pt is given twice"),
        (Axes([A], [8, 8]), "batch size 8 is given twice"),
        (Axes([A], [8], ["cpu", "cpu"]), "device cpu is given twice"),
    ],
)
def test_axes_that_would_count_a_cell_twice_or_none(axes: Axes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expand(axes, {})


def test_an_override_for_no_cell_is_a_typing_error(tmp_path: Path) -> None:
    text = "checkpoints: [a/ckpt.pt]\noverrides: [{where: {batch_size: 3}, set: {runs: 2}}]\n"
    with pytest.raises(ConfigError, match=r"overrides\.0\.where: no cell has .*3"):
        expand(Axes(), {}, None, read_cells(written(tmp_path, text)))


def test_budgets_of_tokens_are_cells_beside_batch_sizes(tmp_path: Path) -> None:
    file = read_cells(
        written(
            tmp_path,
            """
            checkpoints: [a/ckpt.pt]
            batch_sizes: [1]
            tokens_per_batch: [4096, 512]
            defaults: {training_batch_size: 4}
            overrides:
              - where: {tokens_per_batch: 512}
                set: {runs: 20, training_tokens_per_batch: 256}
            """,
        )
    )
    cells = expand(Axes(), {}, None, file)
    assert [str(cell.batch_limit) for cell in cells] == [
        "1",
        "at most 4,096 tokens, padding counted",
        "at most 512 tokens, padding counted",
    ]
    assert [cell.runs for cell in cells] == [10, 10, 20]
    # What says how large a batch is replaces the other way of saying it.
    assert [str(cell.training_batch_limit)[:7] for cell in cells] == ["4", "4", "at most"]
    both = "checkpoints: [a/ckpt.pt]\nbatch_sizes: [1]\ntokens_per_batch: [512]\n"
    file = read_cells(written(tmp_path, both))
    (cell,) = expand(Axes(tokens_per_batch=[64]), {}, None, file)  # both of the file replaced
    assert (cell.batch_size, cell.tokens_per_batch) == (None, 64)
    (cell,) = expand(Axes(batch_sizes=[8]), {}, None, file)
    assert (cell.batch_size, cell.tokens_per_batch) == (8, None)


def test_one_source_may_not_limit_batches_in_two_ways(tmp_path: Path) -> None:
    both = "defaults: {training_batch_size: 4, training_tokens_per_batch: 64}\n"
    file = read_cells(written(tmp_path, f"checkpoints: [a/ckpt.pt]\n{both}"))
    with pytest.raises(ConfigError, match=r"--training-batch-size 4 and .* give one of them"):
        expand(Axes(), {}, None, file)
    with pytest.raises(ConfigError, match="tokens per batch 64 is given twice"):
        expand(Axes([A], tokens_per_batch=[64, 64]), {})
    with pytest.raises(ConfigError, match="--tokens-per-batch: must be at least 1"):
        MeasureOptions(A, tokens_per_batch=0)
