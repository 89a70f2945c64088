"""Dead code is put where it says, is balanced, and changes nothing else; long pairs are long."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.hard_cases import _first_words, distracted, write_distracted, write_long

JAVA = "int f(int a) { int b = a; while (b > 1) { b -= 2; } return b; }"
OTHER = " String s = null; try { s = read(); } catch (IOException e) { s = x; } "


@pytest.mark.parametrize("place", ["front", "back"])
def test_the_function_is_what_it_was_around_the_block(place):
    changed = distracted(JAVA, OTHER, 9, place)
    start = changed.index(" if (false) {")
    before, block = changed[:start], changed[start : len(changed) - len(JAVA) + start]
    assert before + changed[start + len(block) :] == JAVA
    assert before == (JAVA[:14] if place == "front" else JAVA[:-1])
    assert "String s = null ; try".replace(" ;", ";") in block


@given(st.integers(1, 40))
def test_braces_are_closed(words):
    changed = distracted(JAVA, OTHER, words, "front")
    assert changed.count("{") == changed.count("}")


@given(st.integers(1, 30))
def test_the_block_has_the_words_asked_for(words):
    kept = _first_words(OTHER, words)
    bare = kept.replace("}", " ").split()
    whole = OTHER.replace("}", " ").split()
    assert " ".join(whole).startswith(" ".join(bare[:-1]))


def test_a_function_without_a_body_stays():
    assert distracted("int f;", OTHER, 5, "front") == "int f;"


def test_no_function_distracts_itself_and_pairs_stay(tmp_path):
    source, folder = tmp_path / "bcb", tmp_path / "out"
    source.mkdir()
    functions = [
        {"func": f"int f() {{ int own{i} = {i}; return own{i}; }}", "idx": i} for i in range(5)
    ]
    with gzip.open(source / "data.jsonl.gz", "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(function) + "\n" for function in functions)
    for split in ("train", "valid", "test"):
        (source / f"{split}.txt").write_text("0\t1\t1\n")
    write_distracted(source, folder, words=8, place="front", seed=3)
    with gzip.open(folder / "data.jsonl.gz", "rt", encoding="utf-8") as lines:
        changed = [json.loads(line) for line in lines]
    for i, function in enumerate(changed):
        block = function["func"][function["func"].index("if (false)") :].split("}")[0]
        assert function["idx"] == i
        assert "own" in block
        assert f"own{i}" not in block
    assert (folder / "test.txt").read_text() == "0\t1\t1\n"


def test_only_pairs_of_two_long_functions_stay(tmp_path):
    source, folder = tmp_path / "bcb", tmp_path / "out"
    source.mkdir()
    functions = [{"func": "x " * words, "idx": words} for words in (3, 5, 8, 9)]
    text = "".join(json.dumps(function) + "\n" for function in functions)
    (source / "data.jsonl").write_text(text)
    for split in ("train", "valid", "test"):
        (source / f"{split}.txt").write_text("8\t9\t1\n3\t9\t0\n5\t8\t0\n9\t9\t1\n")
    write_long(source, folder, words=5)
    with gzip.open(folder / "data.jsonl.gz", "rt", encoding="utf-8") as lines:
        assert [json.loads(line)["idx"] for line in lines] == [5, 8, 9]
    for split in ("train", "valid", "test"):
        assert (folder / f"{split}.txt").read_text() == "8\t9\t1\n5\t8\t0\n9\t9\t1\n"


def test_a_folder_without_functions_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"data\.jsonl"):
        write_long(tmp_path, tmp_path / "out", words=5)
