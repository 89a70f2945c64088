"""The gentlest strength of a chain whose multiply-adds stay within a share of unpruned's.

    by share      shares of tokens in steps of half a percent; cost is planned, no run (`planned`)
    truncation    lengths in steps of one token; planned, too
    by alpha      alphas in steps of 0.05 up to 4; cost is that of a few pilot samples

found by bisection: cost falls with strength. By alpha it does so nearly, and the pilot is a sample,
so who fits by alpha checks the cost on the samples that count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alpine_cli.measure.grid import Setting
from alpine_cli.measure.trials import BASELINE, TrialRunner
from alpine_cli.pruning.config import SHARE_RULES, PruningConfig

__all__ = ["Fitter", "gentlest"]

_STEPS = 200  # of the share
_ALPHA_STEP, _ALPHAS = 0.05, 80
_LADDER = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.32, 0.25, 0.2, 0.16, 0.13, 0.1, 0.08, 0.06, 0.05)


def gentlest(count: int, fits: Callable[[int], bool]) -> int | None:
    """The largest of 1 … count that fits, if those that fit come first; None where 1 does not."""
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low or None


class Fitter:
    """Fits strengths on one loaded model.

    Args:
        runner: knows what settings cost.
        pilot: places in the split of the samples that rules by alpha are fitted on.

    Attributes:
        unpruned: (samples,) multiply-adds of `unpruned`.
        base: its pruning.
    """

    def __init__(self, runner: TrialRunner, pilot: Sequence[int]) -> None:
        self._runner, self._pilot = runner, list(pilot)
        unpruned = runner.variant.pruning
        assert unpruned is not None
        self.base: PruningConfig = unpruned
        planned = runner.planned_macs(Setting(BASELINE, unpruned))
        assert planned is not None
        self.unpruned: NDArray[np.float64] = planned

    def of_unpruned(self, macs: NDArray[np.float64]) -> float:
        """Share of all multiply-adds of `unpruned` on the whole split."""
        return float(macs.sum() / self.unpruned.sum())

    def share(self, setting: Setting) -> float:
        """Share of the multiply-adds of `unpruned`; by alpha, on the pilot samples."""
        planned = self._runner.planned_macs(setting)
        if planned is not None:
            return self.of_unpruned(planned)
        macs = self._runner.run(setting, self._pilot).macs
        return float(np.sum(macs) / self.unpruned[self._pilot].sum())

    def fit(self, chain: Setting, share: float) -> Setting | None:
        """The gentlest setting of the chain within `share`; None where there is none.

        Args:
            chain: a pruning of it; its own strength is of no consequence.
            share: of the multiply-adds of `unpruned`.
        """
        found = gentlest(
            _steps(chain.pruning), lambda step: self.share(_at(chain.pruning, step)) <= share
        )
        return None if found is None else _at(chain.pruning, found)

    def least(self, settings: Sequence[Setting], chains: Sequence[Setting]) -> tuple[float, str]:
        """The smallest share that these settings have, or these chains can reach; and of which."""
        strongest = [*settings, *(_at(chain.pruning, 1) for chain in chains)]
        return min((self.share(setting), setting.name) for setting in strongest)

    def ladder(self, chain: Setting) -> list[tuple[float, Setting]]:
        """The chain at falling shares, as far as it goes: (share, setting), cheapest first."""
        found: dict[str, tuple[float, Setting]] = {}
        for share in reversed(_LADDER):
            setting = self.fit(chain, share)
            if setting is not None:
                found.setdefault(setting.name, (self.share(setting), setting))
        return list(found.values())

    def truncation(self, share: float) -> Setting | None:
        """The longest cut of the input within `share`; None where there is none, or data flow."""
        encoding = self._runner.variant.encoding
        if encoding.data_flow is not None:
            return None
        shortest = encoding.specials  # leaves no code: one more is the first that does

        def at(step: int) -> Setting:
            return Setting.truncation(self.base, shortest + step)

        found = gentlest(
            max(1, encoding.max_length - shortest - 1), lambda step: self.share(at(step)) <= share
        )
        return None if found is None else at(found)


def _steps(pruning: PruningConfig) -> int:
    return _STEPS if pruning.rule in SHARE_RULES else _ALPHAS


def _at(pruning: PruningConfig, step: int) -> Setting:
    """The setting of a chain at a step; step 1 is the strongest."""
    if pruning.rule in SHARE_RULES:
        return Setting.of(replace(pruning, keep=step / _STEPS))
    return Setting.of(replace(pruning, alpha=round(step * _ALPHA_STEP, 10)))
