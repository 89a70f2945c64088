"""Files appear whole or not at all, and nothing is replaced unasked."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from alpine_cli.errors import OutputError, OutputExistsError
from alpine_cli.files import atomic_directory, atomic_path, refuse_existing, sha256_of, write_atomic


def test_write_atomic_makes_folders_and_keeps_newlines(tmp_path: Path):
    target = tmp_path / "a" / "b" / "out.txt"
    write_atomic(target, "é\r\nx\n")
    assert target.read_bytes() == b"\xc3\xa9\r\nx\n"
    assert os.listdir(target.parent) == ["out.txt"]


def test_write_atomic_replaces_by_default_and_refuses_without_force(tmp_path: Path):
    target = tmp_path / "out.bin"
    write_atomic(target, b"old")
    write_atomic(target, b"new")
    with pytest.raises(OutputExistsError, match="--force") as caught:
        write_atomic(target, b"newer", force=False)
    assert str(target) in str(caught.value)
    assert caught.value.exit_code == 2
    assert target.read_bytes() == b"new"


def test_a_failed_block_leaves_the_old_file_and_no_litter(tmp_path: Path):
    target = tmp_path / "table.csv"
    write_atomic(target, "old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half a")
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_atomic_path_keeps_the_suffix(tmp_path: Path):
    with atomic_path(tmp_path / "figure.tar.gz") as temporary:
        assert temporary.name.endswith("figure.tar.gz")
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"")
    assert (tmp_path / "figure.tar.gz").exists()


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "never.txt"):
        pass
    assert not os.listdir(tmp_path)


def test_refuse_existing(tmp_path: Path):
    refuse_existing(tmp_path / "free", force=False)
    refuse_existing(tmp_path, force=False)  # an empty folder is free
    (tmp_path / "file").touch()
    with pytest.raises(OutputExistsError):
        refuse_existing(tmp_path, force=False)
    refuse_existing(tmp_path, force=True)


def test_a_dangling_link_counts_as_taken(tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError):
        refuse_existing(link, force=False)


def test_parallel_writers_leave_one_whole_file(tmp_path: Path):
    target = tmp_path / "shared.bin"
    bodies = [bytes([i]) * 200_000 for i in range(8)]
    threads = [threading.Thread(target=write_atomic, args=(target, body)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() in bodies
    assert os.listdir(tmp_path) == ["shared.bin"]


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_sha256_of(tmp_path: Path, size: int):
    target = tmp_path / "data"
    target.write_bytes(b"x" * size)
    assert sha256_of(target) == hashlib.sha256(b"x" * size).hexdigest()


def test_atomic_directory_replaces_as_a_whole(tmp_path: Path):
    target = tmp_path / "out"
    with atomic_directory(target) as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(OutputExistsError), atomic_directory(target):
        pass
    with atomic_directory(target, force=True) as temporary:
        (temporary / "b").write_text("2")
    assert os.listdir(target) == ["b"]
    assert os.listdir(tmp_path) == ["out"]


def test_atomic_directory_that_fails_leaves_the_old_one(tmp_path: Path):
    target = tmp_path / "out"
    with atomic_directory(target) as temporary:
        (temporary / "a").write_text("1")

    def fail() -> None:
        with atomic_directory(target, force=True) as temporary:
            (temporary / "b").write_text("half")
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        fail()
    assert (target / "a").read_text() == "1"
    assert os.listdir(tmp_path) == ["out"]


def test_atomic_directory_never_replaces_a_file(tmp_path: Path):
    (tmp_path / "out").write_text("precious")
    with (
        pytest.raises(OutputExistsError, match="is a file"),
        atomic_directory(tmp_path / "out", force=True),
    ):
        pass
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize("force", [False, True])
def test_a_file_where_a_folder_is_needed(tmp_path: Path, force: bool):
    """`--output FILE/x` was noticed after the work was done."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputExistsError, match="file is a file; choose another output"):
        refuse_existing(tmp_path / "file" / "x" / "y", force)


def test_trying_to_write_leaves_nothing_behind(tmp_path: Path):
    refuse_existing(tmp_path / "a" / "b", force=False)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("parts", [("n" * 300,), ("n" * 300, "x"), ("x", "n" * 300)])
def test_a_name_that_no_file_system_takes(tmp_path: Path, parts: tuple[str, ...]):
    with pytest.raises(OutputError, match="cannot be written"):
        refuse_existing(tmp_path.joinpath(*parts), force=False)


def test_a_folder_behind_a_link_that_leads_nowhere(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="leads nowhere"):
        refuse_existing(tmp_path / "link" / "x", force=True)
