"""`alpine report` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alpine_cli.cli import app
from alpine_cli.result_files import write_result
from tests.report.made import make_result, with_energy


@pytest.fixture
def results(tmp_path: Path) -> Path:
    result = with_energy(make_result(series=[], comparisons=[]), 3.6, 1.0)
    write_result(result, tmp_path / "results")
    return tmp_path / "results"


def test_a_report_is_made_and_its_files_are_listed(results: Path, tmp_path: Path) -> None:
    (results / "bench-broken.json").write_text("{", encoding="utf-8")
    out = tmp_path / "report"
    ran = CliRunner().invoke(app, ["report", str(results), "--output", str(out), "--json"])
    assert ran.exit_code == 0, ran.output
    assert "left out" in ran.stderr
    told = json.loads(ran.stdout)
    assert told["results"] == ["0badcafe"]
    assert str(out / "report.html") in told["files"]
    assert all(Path(name).is_file() for name in told["files"])
    ran = CliRunner().invoke(app, ["report", str(results), "--output", str(out)])
    assert ran.exit_code == 2
    assert "--force" in ran.output


def test_co2_is_recomputed_for_a_country(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    command = ["report", str(results), "--output", str(out), "--country", "FRA", "--pue", "1.2"]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    assert "France" in ran.stdout
    assert "latex/" in ran.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--country", "XXX"], "not a known three-letter ISO code"),
        (["--country", "FRA", "--carbon-intensity", "50"], "not both"),
        (["--carbon-intensity", "-1"], "must be >= 0"),
        (["--pue", "0.5"], "must be at least 1"),
    ],
)
def test_bad_options_write_nothing(
    options: list[str], told: str, results: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    ran = CliRunner().invoke(app, ["report", str(results), "--output", str(out), *options])
    assert ran.exit_code == 2
    assert told in " ".join(ran.output.split())
    assert not out.exists()
