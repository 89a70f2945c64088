"""The demo from end to end on few functions, and what it refuses to clear or to claim."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.demo.model import ModelSize
from alpine_cli.demo.run import DemoSettings, NothingLearntError, run_demo
from alpine_cli.errors import ConfigError, OutputExistsError
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.errors import PruningError
from alpine_cli.result_files import read_results
from alpine_cli.show.fates import show_functions
from alpine_cli.show.sources import Source

FEW = DemoSettings(
    functions=160,
    epochs=1,
    size=ModelSize(vocabulary=400, hidden=32, layers=2, heads=2),
    bench_runs=2,
    bench_seconds=0.0,
)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], str]:
    """One small demo: its directory, the lines it said, and why it proves nothing."""
    output = tmp_path_factory.mktemp("demo") / "out"
    said: list[str] = []
    with pytest.raises(NothingLearntError) as caught:
        run_demo(output, FEW, say=said.append)
    return output, said, str(caught.value)


def test_too_little_training_proves_nothing(few: tuple[Path, list[str], str]) -> None:
    _, _, message = few
    assert "the demo proves nothing: accuracy of the" in message
    assert "always guessing the commoner label" in message
    assert NothingLearntError.exit_code == 1


def test_all_is_written_even_so(few: tuple[Path, list[str], str]) -> None:
    output, said, _ = few
    names = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    for expected in (
        "data/train.jsonl",
        "small-roberta/model.safetensors",
        "configs/none.yaml",
        "runs/none/ckpt.pt",
        "runs/even/ckpt.pt",
        "report/report.xlsx",
        "report/figures.csv",
        "patterns.csv",
        "demo.png",
    ):
        assert expected in names
    assert (output / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert any(line.startswith(" even | ") for line in said)
    assert any(line.startswith(" none | ") for line in said)
    results, problems = read_results(output / "results")
    assert problems == []
    assert set(results[0].variants) == {"stock", "unpruned", "pruned"}


def test_patterns_are_counted(few: tuple[Path, list[str], str]) -> None:
    output, _, _ = few
    rows = list(csv.DictReader((output / "patterns.csv").open(encoding="utf-8")))
    tested = len((output / "data" / "test.jsonl").read_text("utf-8").splitlines())
    assert len(rows) == 5
    assert sum(int(row["test_functions"]) for row in rows) == tested
    assert all(0 <= float(row["accuracy_pruned"]) <= 1 for row in rows)


def test_every_token_has_its_place_in_the_source(few: tuple[Path, list[str], str]) -> None:
    output, _, _ = few
    checkpoint = load_checkpoint(output / "runs" / "even" / "ckpt.pt")
    source = "def f(a,\n      b=None):\n    if b is None:\n        return a\n    return a + b"
    pruning = PruningConfig(layers="0,1", alpha=0.5)
    shown = show_functions(checkpoint, [Source("f", source)], pruning, torch.device("cpu"))
    fates = [token for token in shown.functions[0].tokens if token.start is not None]
    text = "".join(source[fate.start : fate.end] for fate in fates)
    assert "".join(text.split()) == "".join(source.split())
    assert {fate.layer for fate in fates} == {None, 0, 1}


def test_is_not_overwritten_unasked(few: tuple[Path, list[str], str]) -> None:
    output, _, _ = few
    before = (output / "runs" / "even" / "ckpt.pt").read_bytes()
    with pytest.raises(OutputExistsError, match="--force"):
        run_demo(output, FEW, say=print)
    assert (output / "runs" / "even" / "ckpt.pt").read_bytes() == before


def test_force_never_clears_what_no_demo_wrote(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="did not write"):
        run_demo(tmp_path, FEW, force=True, say=print)
    assert (tmp_path / "data" / "precious.txt").read_text() == "mine"


def test_output_may_not_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputExistsError, match="is a file"):
        run_demo(tmp_path / "file", FEW, force=True, say=print)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ("none", ConfigError, "nothing to compare"),
        ("0,4", PruningError, "index 4 is out of range"),
        ("sometimes", PruningError, "sometimes"),
    ],
)
def test_bad_layers_are_refused_before_anything_is_written(
    tmp_path: Path, layers: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_demo(tmp_path / "out", DemoSettings(layers=layers), say=print)
    assert not (tmp_path / "out").exists()
