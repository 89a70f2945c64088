"""Tasks are found by name and alias; an unknown one is answered with the nearest."""

from __future__ import annotations

import subprocess
import sys

import pytest

from alpine_cli.errors import ConfigError
from alpine_cli.tasks import TASKS, resolve_task


@pytest.mark.parametrize("alias", ["defect-detection", "defect_pred", "defect-prediction"])
def test_aliases_of_defect_detection(alias: str):
    spec = resolve_task(alias)
    assert (spec.name, spec.metric, spec.functions_per_sample) == (
        "defect-detection",
        "accuracy",
        1,
    )
    assert spec.heads == ("alpine", "standard")


@pytest.mark.parametrize("alias", ["clone-detection", "code_clone", "clone_detection"])
def test_aliases_of_clone_detection(alias: str):
    spec = resolve_task(alias)
    assert (spec.name, spec.metric, spec.functions_per_sample) == ("clone-detection", "f1", 2)


def test_unknown_task_offers_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'clone-detection'"):
        resolve_task("clone-detecton")
    with pytest.raises(
        ConfigError, match=r"'zzz'\. Known tasks: defect-detection, clone-detection"
    ):
        resolve_task("zzz")


def test_no_alias_belongs_to_two_tasks():
    names = [name for spec in TASKS.values() for name in (spec.name, *spec.aliases)]
    assert len(names) == len(set(names))


def test_data_rooms_import_no_torch():
    """Reading and encoding data must stay usable where torch is slow to start, as in --help."""
    code = (
        "import sys, alpine_cli.tasks as t; t.load_splits, t.encode, t.compute_metrics, t.TASKS;"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
