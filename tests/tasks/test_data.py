"""The layouts of data directories become samples, or a message that names file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from alpine_cli.errors import ConfigError, DataError
from alpine_cli.tasks import Columns, load_splits

DEFECT, CLONE = "defect-detection", "clone-detection"


def write_jsonl(path: Path, rows: list[dict]) -> None:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def devign(tmp_path: Path) -> Path:
    """Devign's two-part layout: function.json.gz and a file of row numbers per split."""
    functions = [{"func": f"int f{i}() {{}}", "target": i % 2, "project": "p"} for i in range(6)]
    (tmp_path / "function.json.gz").write_bytes(gzip.compress(json.dumps(functions).encode()))
    (tmp_path / "train.txt").write_text("0\n1\n2\n")
    (tmp_path / "valid.txt").write_text("3\n")
    (tmp_path / "test.txt").write_text("5\n4")
    return tmp_path


@pytest.fixture
def bcb(tmp_path: Path) -> Path:
    """BigCloneBench's layout."""
    rows = [{"func": f"void f{i}() {{}}", "idx": str(100 + i)} for i in range(4)]
    write_jsonl(tmp_path / "data.jsonl", rows)
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress(b"100\t101\t1\n101\t102\t0\n"))
    (tmp_path / "valid.txt").write_text("102\t103\t0\r\n")
    (tmp_path / "test.txt").write_text("103\t100\t1\n")
    return tmp_path


def complaint(task: str, data: Path, **keywords) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        load_splits(task, data, **keywords)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_devign_two_part_layout(devign: Path):
    splits = load_splits(DEFECT, devign)
    assert [len(splits.require(name)) for name in ("train", "valid", "test")] == [3, 1, 2]
    first = splits.require("test").samples[0]
    assert (first.code, first.label, first.id) == (("int f5() {}",), 1, "5")
    assert first.where == f"{devign / 'test.txt'}:1"


def test_devign_jsonl_layout_wins_over_the_two_part_layout(devign: Path):
    write_jsonl(devign / "test.jsonl.gz", [{"func": "g()", "target": 1, "idx": 9}])
    splits = load_splits(DEFECT, devign)
    assert [sample.id for sample in splits.require("test").samples] == ["9"]
    assert len(splits.require("train")) == 3  # still from function.json


def test_bcb_layout(bcb: Path):
    splits = load_splits(CLONE, bcb)
    assert [len(splits.require(name)) for name in ("train", "valid", "test")] == [2, 1, 1]
    sample = splits.require("valid").samples[0]
    assert sample.code == ("void f2() {}", "void f3() {}")
    assert (sample.label, sample.id) == (0, "102-103")


def test_pairs_as_a_table_with_named_columns(tmp_path: Path):
    (tmp_path / "dev.csv").write_text("a,b,same,key\nf(),g(),1,x1\n")
    splits = load_splits(
        CLONE, tmp_path, columns=Columns.parse("code=a, code2=b, label=same, id=key")
    )
    sample = splits.require("valid").samples[0]
    assert (sample.code, sample.label, sample.id) == (("f()", "g()"), 1, "x1")


def test_a_single_file_is_the_test_split(tmp_path: Path):
    write_jsonl(tmp_path / "mine.jsonl", [{"body": "f()", "buggy": True}])
    splits = load_splits(
        DEFECT, tmp_path / "mine.jsonl", columns=Columns(code="body", label="buggy")
    )
    assert splits.train is None
    assert splits.require("test").samples[0].label == 1


@pytest.mark.parametrize(
    ("value", "label"),
    [(0, 0), (1, 1), (True, 1), (False, 0), ("1", 1), (" 0 ", 0), (1.0, 1)],
    ids=repr,
)
def test_accepted_labels(tmp_path: Path, value, label: int):
    write_jsonl(tmp_path / "test.jsonl", [{"func": "f()", "target": value}])
    assert load_splits(DEFECT, tmp_path).require("test").samples[0].label == label


@pytest.mark.parametrize(
    "value", [2, -1, 0.5, "2", "yes", "", None, [1], float("inf"), float("nan")], ids=repr
)
def test_label_outside_the_set(tmp_path: Path, value):
    write_jsonl(tmp_path / "test.jsonl", [{"func": "f()", "target": value}])
    message = complaint(DEFECT, tmp_path)
    assert "test.jsonl:1: target: label must be 0 or 1 (got " in message


def test_label_outside_the_set_in_pairs(bcb: Path):
    (bcb / "test.txt").write_text("103\t100\t1\n103\t100\t7\n")
    assert "test.txt:2: label must be 0 or 1 (got '7')" in complaint(CLONE, bcb)


def test_pair_referring_to_a_missing_function(bcb: Path):
    (bcb / "test.txt").write_text("103\t100\t1\n103\t555\t1\n")
    assert "test.txt:2: function 555 is not in data.jsonl" in complaint(CLONE, bcb)


def test_malformed_pair_line(bcb: Path):
    (bcb / "test.txt").write_text("103\t100\n")
    assert "test.txt:1: expected `idx1 TAB idx2 TAB label`" in complaint(CLONE, bcb)


def test_function_defined_twice_with_different_texts(bcb: Path):
    rows = [{"func": "a", "idx": "1"}, {"func": "a", "idx": "1"}, {"func": "b", "idx": "1"}]
    write_jsonl(bcb / "data.jsonl", rows)
    message = complaint(CLONE, bcb)
    assert "data.jsonl:3: function 1 was already defined at" in message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("6", "row 6 does not exist; function.json.gz has 6 rows"),
        ("-1", "expected a row number of function.json.gz (got '-1')"),
        ("x", "expected a row number"),
        ("²", "expected a row number"),
    ],
)
def test_bad_row_number(devign: Path, line: str, message: str):
    (devign / "test.txt").write_text(f"0\n{line}\n", encoding="utf-8")
    found = complaint(DEFECT, devign)
    assert "test.txt:2: " in found
    assert message in found


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "func: the function is empty"),
        (" \n\t", "func: the function is empty"),
        (None, "func: expected the code as text (got NoneType)"),
        (["int"], "expected the code as text (got list)"),
        ("a\ud800b", "not text: lone surrogate at character 1"),
    ],
    ids=["empty", "blank", "null", "tokens", "surrogate"],
)
def test_unusable_code(tmp_path: Path, code, message: str):
    rows = [{"func": "f()", "target": 0}, {"func": code, "target": 0}]
    write_jsonl(tmp_path / "test.jsonl", rows)
    found = complaint(DEFECT, tmp_path)
    assert "test.jsonl:2: " in found
    assert message in found


def test_empty_function_of_a_pair_names_the_function_file(bcb: Path):
    write_jsonl(bcb / "data.jsonl", [{"func": "a", "idx": "103"}, {"func": " ", "idx": "100"}])
    assert "data.jsonl:2: func: the function is empty" in complaint(CLONE, bcb, splits=["test"])


def test_missing_column_lists_those_present(tmp_path: Path):
    write_jsonl(tmp_path / "test.jsonl", [{"code": "f()", "label": 1}])
    message = complaint(DEFECT, tmp_path)
    assert "test.jsonl:1: no column 'func'; present: code, label." in message
    assert "--columns" in message


def test_empty_split_is_found_when_it_is_needed(tmp_path: Path):
    write_jsonl(tmp_path / "train.jsonl", [{"func": "f()", "target": 1}])
    (tmp_path / "valid.jsonl").write_text("\n")
    splits = load_splits(DEFECT, tmp_path)
    with pytest.raises(DataError, match=r"valid\.jsonl: the valid split is empty"):
        splits.require("valid")
    with pytest.raises(DataError, match="no test split; expected a file such as"):
        splits.require("test")
    with pytest.raises(ValueError, match="no split is called"):
        splits.require("holdout")


def test_unknown_layout_says_what_was_looked_for_and_what_is_there(tmp_path: Path):
    (tmp_path / "readme.md").write_text("hello")
    message = complaint(DEFECT, tmp_path)
    assert "function.json + SPLIT.txt" in message
    assert "the directory holds: readme.md" in message
    assert "no such file or directory" in complaint(DEFECT, tmp_path / "nowhere")


def test_a_file_and_its_gzipped_twin_are_ambiguous(tmp_path: Path):
    write_jsonl(tmp_path / "test.jsonl", [{"func": "f()", "target": 1}])
    write_jsonl(tmp_path / "test.jsonl.gz", [{"func": "g()", "target": 1}])
    assert "test.jsonl and test.jsonl.gz both exist" in complaint(DEFECT, tmp_path)


def test_files_of_other_splits_are_not_opened(devign: Path):
    (devign / "train.txt").write_bytes(b"\xff\xfe")
    assert len(load_splits(DEFECT, devign, splits=["test"]).require("test")) == 2
    assert "train.txt:1: not UTF-8" in complaint(DEFECT, devign)


def test_limit_is_nested_keeps_order_and_ignores_file_sorting(tmp_path: Path):
    rows = [{"func": f"f{i}()", "target": int(i >= 100), "idx": i} for i in range(200)]
    write_jsonl(tmp_path / "test.jsonl", rows)

    def chosen(count: int) -> list[int]:
        splits = load_splits(DEFECT, tmp_path, limit={"test": count})
        return [int(sample.id) for sample in splits.require("test").samples]

    ten, fifty = chosen(10), chosen(50)
    assert len(ten) == 10
    assert set(ten) < set(fifty)
    assert fifty == sorted(fifty)
    assert 10 < sum(i >= 100 for i in fifty) < 40  # both halves of a sorted file
    assert chosen(1000) == list(range(200))
    assert "at least 1 (got 0)" in complaint(DEFECT, tmp_path, limit={"test": 0})


@pytest.mark.parametrize("text", ["code", "code=", "code=a,code=b", "body=a", ""])
def test_bad_columns(text: str):
    with pytest.raises(ConfigError, match="columns"):
        Columns.parse(text)


def test_both_layouts_of_the_shared_devign_agree(shared_dir: Path, tmp_path: Path):
    """The same functions, once as function.json + row numbers, once as jsonl."""
    source = shared_dir / "data" / "devign"
    for name in ("function.json.gz", "train.txt", "valid.txt", "test.txt"):
        (tmp_path / name).symlink_to(source / name)
    tables, parts = load_splits(DEFECT, source), load_splits(DEFECT, tmp_path)
    for name, count, positive in (("train", 1937, 894), ("valid", 272, 125), ("test", 272, 125)):
        table, part = tables.require(name).samples, parts.require(name).samples
        assert len(table) == count
        assert sum(sample.label for sample in table) == positive
        assert [(s.code, s.label, s.id) for s in table] == [(s.code, s.label, s.id) for s in part]


def test_shared_bcb_counts(shared_dir: Path):
    splits = load_splits(CLONE, shared_dir / "data" / "bcb")
    counts = {
        name: (len(splits.require(name)), sum(s.label for s in splits.require(name).samples))
        for name in ("train", "valid", "test")
    }
    assert counts == {"train": (20000, 10000), "valid": (1954, 977), "test": (1948, 974)}
