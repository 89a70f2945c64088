"""The result of `costs` in Markdown: short tables, every gap with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.cuda.aims import judged
from benchmarks.variants import shown_ratio

__all__ = ["cells_of", "markdown"]

Row = Mapping[str, Any]
Columns = Mapping[str, Callable[[Row], str]]


def markdown(document: Mapping[str, Any]) -> str:
    """The whole result."""
    lines = [f"# Costs on {document['device']['name']}", "", *_head(document), ""]
    for name, section in document["sections"].items():
        lines += [f"## {name}", ""]
        if "reason" in section:
            lines += [f"Absent: {section['reason']}.", ""]
            continue
        lines += cells_of(name, section)
    if document["device"]["type"] == "cuda" and not document["small"]:
        lines += ["## Aims", "", *_aims(document["sections"]), ""]
    return "\n".join(lines)


def cells_of(name: str, section: Row) -> list[str]:
    """A section's facts and the tables of its cells, with the columns of section `name`."""
    lines = _facts(section)
    for cell in section.get("cells", ()):
        lines += _cell(name, cell)
    return lines


def _head(document: Mapping[str, Any]) -> list[str]:
    device = document["device"]
    lines = [
        f"{document['data']}. torch {device['torch']}, CUDA {device['cuda'] or 'none'}.",
    ]
    if document["small"] or device["type"] != "cuda":
        lines += ["", "**A trial of the script at small size: no figure here says anything.**"]
    if document["not_run"]:
        lines += ["", f"Sections that were not run: {', '.join(document['not_run'])}."]
    return lines


def _facts(section: Row) -> list[str]:
    facts = []
    if "peak_flops_per_s" in section:
        rate = section["peak_flops_per_s"] / 1e12
        facts.append(f"Measured matrix rate: {rate:.3g} TFLOP/s ({section['dtype']}).")
    if "idle_w" in section:
        facts.append(
            f"{section['method']}; windows of {section['window_s']:.1f} s; idle"
            f" {section['idle_w']:.0f} W."
        )
    return [*facts, ""] if facts else []


def _cell(section: str, cell: Row) -> list[str]:
    lines = [f"**{cell['cell']}**", ""]
    if "reason" in cell:
        return [*lines, f"Absent: {cell['reason']}.", ""]
    if cell.get("variants"):
        lines += [*_table(cell["variants"], _COLUMNS[section]), "", *_attention(cell)]
    if "speedup_of_graph" in cell:
        lines += [
            f"Graph × eager: {shown_ratio(cell['speedup_of_graph'])}; largest difference of"
            f" outputs: {cell['largest_difference']}.",
            "",
        ]
    for phase in ("in_warm_up", "while_timed"):
        if phase in cell:
            found = cell[phase]
            lines += [
                f"{phase.replace('_', ' ').capitalize()}: {found['compilations']} compilations,"
                f" {found['recompilations']} of them again, {found['graph_breaks']} graph breaks.",
                "",
            ]
    missing = [f"{name} ({why})" for name, why in cell.get("absent", {}).items()]
    return [*lines, f"Absent: {'; '.join(missing)}.", ""] if missing else lines


def _attention(cell: Row) -> list[str]:
    """What computed attention in the packed variants, where the cell tells."""
    named = {", ".join(row.get("attention", ())) for row in cell["variants"]
             if row["variant"].startswith("packed")}  # fmt: skip
    named.discard("")
    lines = [f"Attention of the packed engine: {'; '.join(sorted(named))}.", ""] if named else []
    if "stock_flash" in cell:
        lines += [f"Stock with flash attention: {cell['stock_flash']}.", ""]
    return lines


def _table(rows: Sequence[Row], columns: Columns) -> list[str]:
    lines = [f"| variant | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for row in rows:
        cells = [read(row) for read in columns.values()]
        lines.append(f"| {row['variant']} | {' | '.join(cells)} |")
    return lines


def _number(key: str, digits: int = 2, scale: float = 1.0) -> Callable[[Row], str]:
    def read(row: Row) -> str:
        value = row.get(key)
        return "" if value is None else f"{value * scale:.{digits}f}"

    return read


def _ratio(key: str) -> Callable[[Row], str]:
    return lambda row: shown_ratio(row.get(key))


def _of(key: str, scale: float, digits: int) -> Callable[[Row], str]:
    return lambda row: f"{row[key]['value'] * scale:.{digits}f}" if key in row else ""


def _kind(name: str) -> Callable[[Row], str]:
    return lambda row: f"{1e3 * row['seconds_by_kind'][name]:.2f}"


_MIB = 1 / 2**20
_RACE: Columns = {
    "samples/s": _number("samples_per_s", 1),
    "time ÷ own unpruned (95 % CI)": _ratio("time_ratio_to_own_unpruned"),
    "MACs ÷ own unpruned": _number("macs_ratio_to_own_unpruned"),
    "efficiency": _number("efficiency"),
    "× stock bucketed": _ratio("speedup_over_stock_bucketed"),
    "× stock flash bucketed": _ratio("speedup_over_stock_flash_bucketed"),
    "× stock flash packed": _ratio("speedup_over_stock_flash_packed"),
    "× published way": _ratio("speedup_over_published_way_all"),
}
_COLUMNS: Mapping[str, Columns] = {
    "inference": _RACE,
    "training": {"steps/s": _number("batches_per_s", 2)} | dict(_RACE),
    "memory": {
        "run MiB": _number("run_bytes", 0, _MIB),
        "allocated MiB": _number("allocated_bytes", 0, _MIB),
        "reserved MiB": _number("reserved_bytes", 0, _MIB),
        "process MiB (NVML)": _number("process_bytes", 0, _MIB),
        "run ÷ unpruned": _number("run_ratio"),
        "allocated ÷ unpruned": _number("allocated_ratio"),
    },
    "energy": {
        "gross mJ per function": _of("gross_j", 1e3, 2),
        "net mJ per function": _of("net_j", 1e3, 2),
        "mean W": _number("mean_power_w", 0),
        "gross ÷ unpruned (95 % CI)": _ratio("gross_j_ratio"),
        "time ÷ unpruned": _ratio("seconds_ratio"),
        "energy saved ÷ time saved": _number("gross_saved_per_time_saved"),
    },
    "roofline": {
        "TFLOP/s": _number("flops_per_s", 3, 1e-12),
        "share of the matrix rate": _number("share_of_peak", 3),
    },
    "profile": {
        "wall ms": _number("wall_seconds", 2, 1e3),
        "kernels": _number("kernels", 0),
        "gaps ms": _number("gap_seconds", 2, 1e3),
        **{f"{name} ms": _kind(name) for name in (
            "matrix products", "attention", "scores", "selection", "repacking", "layout",
            "norms and elementwise", "copies", "other",
        )},
    },
    "compile": {
        "samples/s": _number("samples_per_s", 1),
        "× its eager twin (95 % CI)": lambda row: next(
            (
                shown_ratio(row[key])
                for key in row
                if key.startswith("speedup_over_") and row["variant"].startswith("compiled")
            ),
            "",
        ),
    },
    "graphs": {},
}  # fmt: skip


def _aims(sections: Mapping[str, Any]) -> list[str]:
    lines = ["| aim | wanted | found | met |", "|---|---:|---:|---|"]
    words = {True: "yes", False: "no", None: "not measured"}
    for row in judged(sections):
        found = "" if row["found"] is None else f"{row['found']:.2f}"
        lines.append(f"| {row['aim']} | {row['wanted']} | {found} | {words[row['met']]} |")
    return lines
