"""What the measuring tests share: one tiny checkpoint and its data, made once per session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.measure.subjects import write_checkpoint, write_data


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> tuple[Path, Path]:
    """(checkpoint, data directory) of a defect detector that prunes its even layers."""
    folder = tmp_path_factory.mktemp("subject")
    data = write_data(folder / "data")
    return write_checkpoint(folder / "run" / "ckpt.pt", tiny_model_dir, data), data
