"""The peak that is reported is the peak of the work, not of what went before."""

from __future__ import annotations

import pytest

from alpine_cli.measure.memory import PeakRss

MIB = 2**20


def touch(mebibytes: int) -> bytearray:
    """Memory that is really there: every page written."""
    block = bytearray(mebibytes * MIB)
    block[::4096] = b"x" * len(block[::4096])
    return block


def test_a_peak_is_seen_after_its_memory_is_gone() -> None:
    rss = PeakRss()
    before = rss.start()
    block = touch(200)
    del block
    assert rss.peak() - before > 180 * MIB


def test_an_earlier_peak_is_forgotten() -> None:
    block = touch(300)
    del block
    rss = PeakRss()
    before = rss.start()
    if not rss.is_reset:
        pytest.skip("this kernel does not let a process reset its high-water mark")
    assert rss.peak() - before < 100 * MIB
