"""One tiny defect detector for all tests of this room; models are rebuilt from it as needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpine_cli.checkpoint import Checkpoint, load_checkpoint
from tests.measure.subjects import write_checkpoint

JAVA = (
    "/** Copies. */\n"
    "public static void copy(File from, String to) throws IOException {\n"
    '\tString name = "out/" + to;  // where to\n'
    "\tfor (int i = 0; i < 10; i++) {\n"
    "\t\tout.write(from.read(i), name);\n"
    "\t}\n"
    "}\n"
)


@pytest.fixture(scope="session")
def detector_path(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A ckpt.pt of a defect detector that reads 64 tokens and prunes its even layers."""
    return write_checkpoint(tmp_path_factory.mktemp("show") / "ckpt.pt", tiny_model_dir)


@pytest.fixture(scope="session")
def detector(detector_path: Path) -> Checkpoint:
    return load_checkpoint(detector_path)


@pytest.fixture(scope="session")
def clone_detector(tiny_model_dir: Path) -> Checkpoint:
    """A checkpoint of a pair task, never written to disk."""
    from alpine_cli.models import build_model
    from alpine_cli.tasks.registry import resolve_task

    model, tokenizer, encoding = build_model(
        str(tiny_model_dir), resolve_task("clone-detection"), seed=2, max_length=64, offline=True
    )
    return Checkpoint.from_model(model.eval(), tokenizer, encoding, model_name="tiny")
