"""The result of `learned` in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.cuda.tables import cells_of

__all__ = ["markdown"]

_AS = {
    "inference": "inference",
    "training steps": "training",
    "memory": "memory",
    "energy": "energy",
}
"""Section → the section of `costs` whose columns it has."""


def markdown(document: Mapping[str, Any]) -> str:
    """The whole result."""
    lines = [
        f"# A trained encoder on {document['device']['name']}",
        "",
        f"{document['data']}; {document['epochs']} epochs; the commoner label is that of"
        f" {document['majority']:.1%} of the test functions.",
        "",
    ]
    if document["small"]:
        lines += ["**A trial of the script at small size: no figure here says anything.**", ""]
    for name, section in document["sections"].items():
        lines += [f"## {name}", ""]
        if "reason" in section:
            lines += [f"Absent: {section['reason']}.", ""]
        elif name == "training":
            lines += _training(section)
        else:
            lines += cells_of(_AS[name], section)
    return "\n".join(lines)


def _training(section: Mapping[str, Any]) -> list[str]:
    lines = [
        "| setting | accuracy, % (95 % CI) | above the commoner label | tokens kept | tokens"
        " entering each layer | training s | energy of the GPU, kJ |",
        "|---|---:|---|---:|---|---:|---:|",
    ]
    missing = []
    for cell in section["cells"]:
        if "reason" in cell:
            missing.append(f"{cell['cell']} ({cell['reason']})")
            continue
        interval, record = cell["interval"], cell["record"]
        ends = f" ({100 * interval['low']:.1f}–{100 * interval['high']:.1f})" if interval else ""
        lengths = " ".join(f"{length:.0f}" for length in cell["layer_lengths"])
        energy = record.get("finetuning_energy_gpu", {}).get("value")
        lines.append(
            f"| {cell['setting']} | {100 * cell['accuracy']:.1f}{ends} |"
            f" {'yes' if cell['clearly_above_majority'] else 'NO: proves nothing'} |"
            f" {cell['metrics']['test']['tokens_kept']:.2f} | {lengths} |"
            f" {cell['metrics']['train_s']:.0f} |"
            f" {'' if energy is None else f'{energy / 1000:.1f}'} |"
        )
    lines.append("")
    return [*lines, f"Absent: {'; '.join(missing)}.", ""] if missing else lines
