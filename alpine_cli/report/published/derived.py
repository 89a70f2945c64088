"""What follows from the published tables by arithmetic: means, totals, factors, contradictions.

Nothing here is typed in; every number comes out of the tables, so that a claim can be checked and
a misprint shown. Cuts and gains are shares (0.581 is 58.1 %), all of layers all against none.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from alpine_cli.measure.cost import EncoderShape, attention_macs, feed_forward_macs, paper_crossing
from alpine_cli.report.published.loader import Claim, PublishedTable, load_table

__all__ = [
    "claim_value",
    "co2_from_printed_cut",
    "co2_intensity",
    "cuts",
    "encoder_weight_bytes",
    "length_ratios",
    "mean_mac_cut",
    "mean_memory_cut",
    "mean_score_retained",
    "mean_speed_up",
    "mean_time_saved",
    "merge_gains",
    "speed_ups",
    "total_hours",
]

_SECONDS_PER_HOUR = 3600
_ROBERTA_BASE = EncoderShape(layers=12, hidden=768, heads=12, feed_forward=3072, embedding=768)
_MAIN = ("A", "B")


def _pairs(table: PublishedTable, name: str) -> list[tuple[float, float]]:
    """(none, all) of every run that has both."""
    found = []
    for cell in table.cells:
        if cell.layers != "all" or cell.merge != "mean":
            continue
        where = {"task": cell.task, "model": cell.model, "hardware": cell.hardware}
        found.append((table.value(name, "none", **where), cell.values[name]))
    return found


def _both(name: str) -> list[tuple[float, float]]:
    return [pair for letter in _MAIN for pair in _pairs(load_table(letter), name)]


def cuts(letter: str, name: str) -> list[float]:
    """1 - all/none of every run of a table, in its order."""
    return [1 - pruned / none for none, pruned in _pairs(load_table(letter), name)]


def speed_ups(letter: str) -> list[float]:
    """all/none - 1 of the throughput of every run of table A or B."""
    return [pruned / none - 1 for none, pruned in _pairs(load_table(letter), "throughput")]


def mean_mac_cut() -> float:
    """Mean cut of multiply-adds over the six runs."""
    return fmean(1 - pruned / none for none, pruned in _both("macs"))


def mean_speed_up() -> float:
    """Mean gain in samples per second over the six runs."""
    return fmean(pruned / none - 1 for none, pruned in _both("throughput"))


def mean_time_saved() -> float:
    """Mean saving of time per sample over the six runs."""
    return fmean(1 - none / pruned for none, pruned in _both("throughput"))


def mean_score_retained() -> float:
    """Mean of score pruned / score unpruned over the six runs."""
    return fmean(pruned / none for none, pruned in _both("score"))


def mean_memory_cut() -> float:
    """Mean cut of GPU memory over the six runs of table C."""
    return fmean(cuts("C", "memory"))


def total_hours(hardware: str, layers: str) -> float:
    """Fine-tuning hours of all six runs on that hardware (table D)."""
    cells = load_table("D").cells
    chosen = [c for c in cells if (c.hardware, c.layers) == (hardware, layers)]
    return sum(cell.values["seconds"] for cell in chosen) / _SECONDS_PER_HOUR


def co2_intensity(hardware: str) -> float:
    """kg CO2e per kWh that turn table D's hours at the board's rated power into table E's none."""
    cell = load_table("E").cell("none", hardware=hardware)
    assert cell is not None
    assert cell.rated_power_w is not None
    kwh = total_hours(hardware, "none") * cell.rated_power_w / 1000
    return cell.values["co2"] / kwh


def co2_from_printed_cut(hardware: str = "RTX 2080") -> float:
    """kg CO2e of layers all that the cut printed in table E stands for."""
    table = load_table("E")
    none = table.value("co2", "none", hardware=hardware)
    return none * (1 - table.value("cut", "all", hardware=hardware) / 100)


def merge_gains() -> list[float]:
    """Score with merging less score without, in points, of every run of table F."""
    table = load_table("F")
    gains = []
    for cell in table.cells:
        if cell.merge == "mean":
            without = table.value(
                "score", cell.layers, task=cell.task, model=cell.model, merge="none"
            )
            gains.append(cell.values["score"] - without)
    return gains


def length_ratios(task: str) -> list[float]:
    """Length entering layer 0 over that entering layer 11, layers all, model by model (table G)."""
    cells = [c for c in load_table("G").cells if (c.task, c.layers) == (task, "all")]
    return [cell.curve[0] / cell.curve[-1] for cell in cells if cell.curve]


def encoder_weight_bytes(vocabulary: int = 50265, positions: int = 514) -> int:
    """Bytes of a RoBERTa-base encoder's weights in float32, pooler left out (CodeBERT's sizes)."""
    d, f = _ROBERTA_BASE.hidden, _ROBERTA_BASE.feed_forward
    embeddings = (vocabulary + positions + 1) * d + 2 * d
    layer = 4 * (d * d + d) + 2 * d * f + f + d + 4 * d
    return 4 * (embeddings + _ROBERTA_BASE.layers * layer)


def unpruned_gmacs(tokens: int = 512) -> float:
    """GMACs of the unpruned twelve-layer encoder, by the formulas of `measure.cost`."""
    layer = attention_macs(_ROBERTA_BASE, tokens) + feed_forward_macs(_ROBERTA_BASE, tokens)
    return float(_ROBERTA_BASE.layers * layer) / 1e9


def _reduction_codebert_even() -> float:
    table = load_table("A")
    where = {"task": "defect-detection", "model": "CodeBERT"}
    return table.value("macs", "none", **where) / table.value("macs", "even", **where)


def _merge_ablation_score() -> float:
    return load_table("F").value("score", "even", task="clone-detection", model="CodeBERT")


def _time_cut(hardware: str) -> float:
    return 1 - total_hours(hardware, "all") / total_hours(hardware, "none")


_CLAIMS: dict[str, Callable[[], float]] = {
    "mean_memory_cut": lambda: 100 * mean_memory_cut(),
    "mean_speed_up": lambda: 100 * mean_speed_up(),
    "least_length_ratio": lambda: min(
        ratio for task in ("defect-detection", "clone-detection") for ratio in length_ratios(task)
    ),
    "co2_from_printed_cut": co2_from_printed_cut,
    "time_cut_rtx_2080": lambda: 100 * _time_cut("RTX 2080"),
    "time_cut_a100": lambda: 100 * _time_cut("A100"),
    "crossing": lambda: float(paper_crossing()),
    "unpruned_gmacs": unpruned_gmacs,
    "merge_ablation_score": _merge_ablation_score,
    "reduction_codebert_even": _reduction_codebert_even,
}


def claim_value(claim: Claim) -> float:
    """What the tables (or the paper's own formula) give where the claim says `published`."""
    return _CLAIMS[claim.derived]()
