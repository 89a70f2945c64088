"""What `alpine tune` says of its choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alpine_cli.measure.tuning import Tuned
    from alpine_cli.results import Comparison, Result

__all__ = ["sentences"]


def sentences(tuned: Tuned) -> list[str]:
    """What was chosen, what is known of it, and what test data says."""
    if tuned.chosen is None:
        return []
    name, search = tuned.chosen.name, tuned.search
    chosen = f"chosen: {name}. {_share(search, name)} of the multiply-adds of unpruned;"
    lines = [f"{chosen} {_of_drop(search, name) if 'max_drop' in search.settings else ''}".strip()]
    if "max_drop" not in search.settings:
        lines = _of_budget(tuned, chosen)
    if tuned.test is None:
        return [*lines, "There is no test data to confirm it on."]
    metric = str(search.settings["metric"])
    tested = tuned.test.comparison(metric, name, "unpruned")
    lines.append(
        f"test, touched once: {metric} changes by {_change(tested)} on"
        f" {tuned.test.subject.samples:,} samples."
    )
    rival = search.settings.get("truncation")
    if rival is None and "max_drop" not in search.settings:
        lines.append(
            "It could not be set against truncation: no cut of the input fits the budget, or the"
            " input carries data flow, with which it is not cut."
        )
    against = tuned.test.comparison(metric, name, str(rival))
    if against is not None:
        lines.append(
            f"Against {rival} ({_share(tuned.test, str(rival))} of the multiply-adds) on the same"
            f" samples: {_change(against)}."
        )
    return lines


def _of_drop(search: Result, name: str) -> str:
    metric = str(search.settings["metric"])
    drop, bound = search.comparison(metric, name, "unpruned"), search.figure("drop_bound", name)
    assert drop is not None
    assert drop.difference is not None
    assert bound is not None
    assert bound.value is not None
    return (
        f"on {search.subject.split} {metric} changes by {100 * drop.difference:+.2f} points and,"
        f" with {search.settings['confidence']:.0%} confidence over the whole search, falls by no"
        f" more than {100 * bound.value:.2f}."
    )


def _of_budget(tuned: Tuned, chosen: str) -> list[str]:
    search, settings = tuned.search, tuned.search.settings
    assert tuned.chosen is not None
    metric, name = str(settings["metric"]), tuned.chosen.name
    lines = [
        f"{chosen} on {search.subject.split} {metric} changes by"
        f" {_change(search.comparison(metric, name, 'unpruned'))}, flattered: it is the best of"
        f" {len(settings['rungs'][0]['ranking'])}."
    ]
    latency = search.figure("latency_p50", name)
    if latency is not None and latency.value is not None and latency.interval is not None:
        lines.append(
            f"median latency: {latency.value:.3g} ms, at most {latency.interval.high:.3g} (95 %"
            f" CI), {settings['latency_ms']:g} allowed."
        )
    mine, rival = search.figure(metric, name), settings["truncation"]
    theirs = None if rival is None else search.figure(metric, rival)
    if theirs is not None and mine is not None and (theirs.value or 0) > (mine.value or 0):
        lines.append(
            f"Plain truncation is no worse there: {rival} has {100 * (theirs.value or 0):.2f}"
            f" against {100 * (mine.value or 0):.2f}."
        )
    return lines


def _share(result: Result, name: str) -> str:
    macs = result.comparison("total_macs", name, "unpruned")
    assert macs is not None
    assert macs.ratio is not None
    return f"{macs.ratio:.0%}" if macs.ratio > 0.3 else f"{macs.ratio:.1%}"


def _change(found: Comparison | None) -> str:
    """A difference in points, with its interval."""
    if found is None or found.difference is None:
        return "an unknown amount"
    told, between = f"{100 * found.difference:+.2f} points", found.difference_interval
    if between is None:
        return told
    return f"{told} (95 % CI {100 * between.low:+.2f} to {100 * between.high:+.2f})"
