"""Installed packages against what alpine asks for. Standard library and `packaging` only.

What is asked for is read off the installed package's own metadata, so that it is said in one place.
"""

from __future__ import annotations

import importlib
import platform
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from packaging.requirements import Requirement
from packaging.version import Version

__all__ = ["SoftwareNote", "examine_software"]

# The newest releases that the test suite has passed on; later ones most likely work.
_NEWEST_TRIED = {"torch": "2.13", "transformers": "5.23"}
# Told one by one, and imported: a wheel of the wrong build is installed and does not load.
_SHOWN = ("torch", "transformers", "codecarbon", "nvidia-ml-py")
_MODULES = {"nvidia-ml-py": "pynvml"}
_OPTIONAL = {
    "datasets": ("data sets by hub id (--data owner/name)", "hub"),
    "pyarrow": ("data in parquet files", "parquet"),
}


@dataclass(frozen=True)
class SoftwareNote:
    """One package, or the rest of them together; fields as in `doctor.Finding`."""

    name: str
    state: Literal["good", "absent", "mind", "broken"]
    text: str
    remedy: str | None = None


def examine_software() -> list[SoftwareNote]:
    """Python, the packages that matter most one by one, the others together, the optional ones."""
    asked = _asked_for()
    notes = [SoftwareNote("Python", "good", platform.python_version())]
    notes += [_examine(asked[name]) for name in _SHOWN if name in asked]
    if not asked:
        text = "alpine-cli is not installed as a package: what it asks for is unknown"
        return [*notes, SoftwareNote("packages", "mind", text, "pip install -e .")]
    others = [_examine(asked[name], load=False) for name in asked if name not in _SHOWN]
    bad = [note for note in others if note.state == "broken"]
    notes += bad or [SoftwareNote("other packages", "good", f"all {len(others)} in range")]
    for name, (purpose, extra) in _OPTIONAL.items():
        try:
            notes.append(SoftwareNote(name, "good", f"{version(name)}: {purpose}"))
        except PackageNotFoundError:
            remedy = f"pip install 'alpine-cli[{extra}]'"
            notes.append(SoftwareNote(name, "absent", f"optional, for {purpose}", remedy))
    return notes


def _asked_for() -> dict[str, Requirement]:
    """The requirements of the installed package, those of its extras left out."""
    try:
        lines = requires("alpine-cli") or []
    except PackageNotFoundError:  # run from a source tree that was never installed
        return {}
    found = [Requirement(line) for line in lines]
    return {
        requirement.name: requirement
        for requirement in found
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }


def _examine(requirement: Requirement, *, load: bool = True) -> SoftwareNote:
    name = requirement.name
    remedy = f"pip install '{requirement}'"
    try:
        installed = version(name)
    except PackageNotFoundError:
        return SoftwareNote(name, "broken", "not installed", remedy)
    if not requirement.specifier.contains(installed, prereleases=True):
        text = f"{installed}; alpine needs {requirement.specifier}"
        return SoftwareNote(name, "broken", text, remedy)
    if load:
        try:
            importlib.import_module(_MODULES.get(name, re.sub(r"[-.]", "_", name)))
        except Exception as error:
            text = f"{installed} does not load: {type(error).__name__}: {error}"
            return SoftwareNote(name, "broken", text, f"pip install --force-reinstall '{name}'")
    newest = _NEWEST_TRIED.get(name)
    if newest is not None and Version(installed).release[:2] > Version(newest).release:
        text = f"{installed}, newer than what alpine has been tried with (up to {newest})"
        return SoftwareNote(name, "mind", text, "Most likely fine; `alpine demo` tries it out")
    span = f"{requirement.specifier}, tried up to {newest}" if newest else requirement.specifier
    return SoftwareNote(name, "good", f"{installed} ({span})")
