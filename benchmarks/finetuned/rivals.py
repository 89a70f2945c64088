"""Ways of saving multiply-adds, and ways of training a model to bear them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import AutoConfig, AutoModel, AutoTokenizer

from alpine_cli.checkpoint import load_checkpoint, save_checkpoint
from alpine_cli.measure.fit import Fitter
from alpine_cli.measure.grid import Setting
from alpine_cli.pruning.config import PruningConfig

FREE, RECOVERED, DISTILLED = "training-free", "recovered", "distilled"
LONGER, STARTED = "distilled longer", "from the start"
WAYS = (FREE, RECOVERED, DISTILLED, LONGER, STARTED)
TRUNCATION, FEWER_LAYERS = "truncation", "fewer layers"
PRUNINGS: Mapping[str, PruningConfig] = {
    "top, nearest": PruningConfig("all", rule="top", merge="nearest"),
    "bipartite": PruningConfig("all", rule="bipartite", merge="nearest"),
    "top, mean": PruningConfig("all", rule="top"),
    "random, mean": PruningConfig("all", rule="random"),
    "band (published)": PruningConfig("all"),
}
RIVALS = (*PRUNINGS, TRUNCATION, FEWER_LAYERS)
DEFAULT_RIVALS: Mapping[str, list[str]] = {
    "top, nearest": [FREE, RECOVERED, DISTILLED, STARTED],
    "bipartite": [FREE, RECOVERED],
    "random, mean": [FREE, RECOVERED],
    "band (published)": [FREE, RECOVERED, STARTED],
    TRUNCATION: [FREE, RECOVERED, STARTED],
    FEWER_LAYERS: [RECOVERED, DISTILLED, STARTED],
}
"""Which ways each rival goes: a whole training only where it is the question."""

_LAYER = re.compile(r"\.layers?\.(\d+)\.")


@dataclass(frozen=True)
class Candidate:
    """A way of saving multiply-adds at one strength.

    Attributes:
        name: as the table tells it.
        pruning: of the model; prunes nothing for truncation and fewer layers.
        max_length: tokens of one function at most; None leaves the input as it is.
        depth: layers left, from below; None leaves all.
    """

    name: str
    pruning: PruningConfig
    max_length: int | None = None
    depth: int | None = None

    @property
    def setting(self) -> Setting:
        """What a trial of a model, cut to `depth` already, runs."""
        return Setting(self.name, self.pruning, self.max_length)


UNPRUNED = Candidate("unpruned", PruningConfig())


def fitted(rival: str, share: float, fitter: Fitter, layers: int) -> Candidate | None:
    """The gentlest strength of a rival within `share` of the multiply-adds; None where none is.

    Layers come in whole: the fewest that cost no less, so that this rival is never given fewer
    multiply-adds.

    Args:
        rival: one of `RIVALS`.
        share: of the multiply-adds of the unpruned model.
        fitter: of that model.
        layers: of that model.
    """
    if rival == FEWER_LAYERS:
        depth = min(layers, math.ceil(layers * share))
        return Candidate(f"lowest {depth} of {layers} layers", PruningConfig(), depth=depth)
    if rival == TRUNCATION:
        found = fitter.truncation(share)
    else:
        found = fitter.fit(Setting.of(PRUNINGS[rival]), share)
    return None if found is None else Candidate(found.name, found.pruning, found.max_length)


def layers_of(model: str) -> int:
    """How many layers an encoder's folder holds."""
    count: int = AutoConfig.from_pretrained(model, local_files_only=True).num_hidden_layers
    return count


def shallow_encoder(model: str, depth: int, folder: Path) -> Path:
    """The lowest `depth` layers of an encoder, written as a folder of its own."""
    if not folder.exists():
        encoder = AutoModel.from_pretrained(model, num_hidden_layers=depth, local_files_only=True)
        AutoTokenizer.from_pretrained(model, local_files_only=True).save_pretrained(folder)
        encoder.save_pretrained(folder)
    return folder


def shallow_checkpoint(path: Path, depth: int, output: Path) -> Path:
    """The lowest `depth` layers of a checkpoint, with its head."""
    if not output.exists():
        whole = load_checkpoint(path)
        places = {name: _LAYER.search(name) for name in whole.weights}
        if not any(places.values()):
            raise SystemExit(f"{path}: no weight is named by its layer")
        weights = {
            name: tensor
            for name, tensor in whole.weights.items()
            if (place := places[name]) is None or int(place[1]) < depth
        }
        config = whole.model_config | {"num_hidden_layers": depth}
        output.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(replace(whole, weights=weights, model_config=config), output)
    return output


def parse_rival(text: str) -> tuple[str, list[str]]:
    """NAME=WAY,WAY as typed; a name alone goes all ways."""
    name, _, ways = text.partition("=")
    chosen = ways.split(",") if ways else list(WAYS)
    unknown = [name] if name not in RIVALS else [way for way in chosen if way not in WAYS]
    if unknown:
        raise SystemExit(f"--rival: no {unknown[0]!r}; rivals: {list(RIVALS)}, ways: {list(WAYS)}")
    return name, chosen
