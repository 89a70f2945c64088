"""What was set out to be shown, against what a result file holds. No figure, no verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["AIMS", "Aim", "judged"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Aim:
    """One claim.

    Attributes:
        words: what is to be shown.
        section, cell: where the figure stands; `cell` is a part of the cell's name.
        variant: whose figure.
        read: takes it from the variant's row; None where the row lacks it.
        least: the figure must reach this; with `most`, stay below that.
    """

    words: str
    section: str
    cell: str
    variant: str
    read: Callable[[Row], float | None]
    least: float | None = None
    most: float | None = None


def _key(name: str) -> Callable[[Row], float | None]:
    return lambda row: row.get(name)


def _value(name: str) -> Callable[[Row], float | None]:
    def read(row: Row) -> float | None:
        found = row.get(name)
        return None if found is None else found["value"]

    return read


_BF16 = "roberta-base, bfloat16, batch {}, functions"
AIMS = (
    *[
        Aim(
            f"efficiency at batch {batch}, layers all",
            "inference", _BF16.format(batch), "packed, all", _key("efficiency"), least=least,
        )
        for batch, least in ((32, 0.95), (128, 0.95), (256, 0.95), (8, 0.85))
    ],
    Aim(
        "latency at batch 1 ÷ unpruned, layers all",
        "inference", _BF16.format(1), "packed, all", _value("time_ratio_to_own_unpruned"),
        most=1.0,
    ),
    Aim(
        "× the published way, batch 32",
        "inference", _BF16.format(32), "packed, all", _value("speedup_over_published_way_all"),
        least=3.0,
    ),
    Aim(
        "× stock with flash attention, bucketed, batch 32",
        "inference", _BF16.format(32), "packed, all",
        _value("speedup_over_stock_flash_bucketed"), least=1.5,
    ),
    Aim(
        "efficiency of training steps, batch 32",
        "training", "roberta-base, batch 32", "packed, all", _key("efficiency"), least=0.9,
    ),
    Aim(
        "peak memory of inference ÷ unpruned (run)",
        "memory", "inference, bfloat16, batch 32", "packed, all", _key("run_ratio"), most=0.5,
    ),
    Aim(
        "peak memory of a training step ÷ unpruned (run)",
        "memory", "training step, bfloat16 autocast", "packed, all", _key("run_ratio"), most=0.5,
    ),
    Aim(
        "energy saved ÷ time saved, inference (gross)",
        "energy", "inference", "packed, all", _key("gross_saved_per_time_saved"), least=0.9,
    ),
)  # fmt: skip


def judged(sections: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per aim what was found and whether that meets it; None where nothing was found."""
    rows = []
    for aim in AIMS:
        found = _find(sections, aim)
        met = None
        if found is not None:
            met = found >= aim.least if aim.least is not None else found <= (aim.most or 0.0)
        wanted = f"≥ {aim.least}" if aim.least is not None else f"≤ {aim.most}"
        rows.append({"aim": aim.words, "wanted": wanted, "found": found, "met": met})
    return rows


def _find(sections: Mapping[str, Any], aim: Aim) -> float | None:
    for cell in sections.get(aim.section, {}).get("cells", ()):
        if cell["cell"].startswith(aim.cell):
            for row in cell.get("variants", ()):
                if row["variant"] == aim.variant:
                    return aim.read(row)
    return None
