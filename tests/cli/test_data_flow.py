"""`--data-flow` as a user types it: fine-tuning, showing, and what is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from alpine_cli.checkpoint import load_checkpoint

for _package in ("tree_sitter", "tree_sitter_java", "tree_sitter_python", "tree_sitter_c"):
    pytest.importorskip(_package, reason="needs the extra: pip install 'alpine-cli[graph]'")


def write_functions(folder: Path) -> Path:
    draw = random.Random(0)
    for split, count in (("train", 12), ("valid", 6), ("test", 6)):
        rows = []
        for index in range(count):
            lines = " ".join(f"n += a[{draw.randrange(9)}];" for _ in range(draw.randint(1, 5)))
            start = "a[0]" if index % 2 else "0"
            func = (
                f"int f(int *a) {{ /* sum */ int n = {start}; while (n) {{ {lines} }} return n; }}"
            )
            rows.append({"func": func, "target": index % 2, "idx": index})
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def trained(tmp_path: Path, tiny_model_dir: Path, run_alpine) -> Path:
    data = write_functions(tmp_path)
    result = run_alpine(
        *("finetune", "--model", tiny_model_dir, "--task", "defect-detection", "--data", data),
        *("--data-flow", "task", "--layers", "even", "--epochs", 1, "--batch-size", 4),
        *("--max-length", 60, "--set", "data_flow_length=20", "--device", "cpu"),
        *("--output", tmp_path / "run"),
    )
    assert result.exit_code == 0, result.stderr
    return tmp_path / "run" / "ckpt.pt"


def test_fine_tuning_and_showing(trained: Path, tmp_path: Path, run_alpine) -> None:
    encoding = load_checkpoint(trained).encoding_spec
    assert (encoding.data_flow, encoding.data_flow_length) == ("c", 20)
    assert load_checkpoint(trained).run_config["data_flow"] == "c"

    source = tmp_path / "f.c"
    text = "int f(int *a) { // é\n int n = a[0]; return n; }"
    source.write_text(text, encoding="utf-8")
    shown = run_alpine("show", "--checkpoint", trained, source, "--json")
    assert shown.exit_code == 0, shown.stderr
    (function,) = json.loads(shown.stdout)["functions"]
    nodes = [token for token in function["tokens"] if token["variable"]]
    assert [text[slice(*node["variable"])] for node in nodes] == ["a", "n", "a", "0", "n"]
    assert [node["token"] for node in nodes] == ["node a", "node n", "node a", "node 0", "node n"]
    assert all(node["start"] is None for node in nodes)
    protected = [token["position"] for token in function["tokens"] if token["protected"]]
    assert protected == [0, len(function["tokens"]) - len(nodes) - 1]

    plain = run_alpine("show", "--checkpoint", trained, source)
    assert "5 of them nodes of the data flow" in plain.stdout
    page = run_alpine("show", "--checkpoint", trained, source, "--html", tmp_path / "page.html")
    assert page.exit_code == 0, page.stderr
    assert "node n" in (tmp_path / "page.html").read_text(encoding="utf-8")

    kinds = run_alpine("show", "--checkpoint", trained, "--kinds", "--json")
    assert kinds.exit_code == 0, kinds.stderr
    found = {kind["kind"]: kind["tokens"] for kind in json.loads(kinds.stdout)["kinds"]}
    assert found["data-flow nodes"] > 20
    assert "comments" not in found


def test_a_language_that_is_not_known(tiny_model_dir: Path, tmp_path: Path, run_alpine) -> None:
    result = run_alpine(
        *("finetune", "--model", tiny_model_dir, "--task", "defect-detection", "--data", tmp_path),
        *("--data-flow", "perl"),
    )
    assert result.exit_code == 2
    assert "--data-flow: must be task, java, python, c (got 'perl')" in result.stderr
