"""prune, unprune, trace, replay: the public entry to the pruning room.

`prune` attaches hooks to a stock transformers model and remembers them in one `Pruning` record on
its base model (attribute `_alpine_pruning`); `unprune` takes both away. Weights, classes of the
model and its `state_dict` stay as they are, so `save_pretrained` writes what it always wrote.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from alpine_cli.pruning.config import SHARE_RULES, PruningConfig
from alpine_cli.pruning.engines import Engine, PackedEngine, PaddedEngine
from alpine_cli.pruning.errors import PruningError
from alpine_cli.pruning.patch import attention_function
from alpine_cli.pruning.patch.family import Detach, Family
from alpine_cli.pruning.patch.registry import find_base_model
from alpine_cli.pruning.plan import PruningPlan, TokenState, initial_tokens
from alpine_cli.pruning.reference import ReferenceEngine
from alpine_cli.pruning.run import LAYER_RUN, RUN, PruningRun
from alpine_cli.pruning.tracing import Trace, TracedForward
from alpine_cli.pruning.visibility import Visibility, allowed_pairs, attended_tokens

__all__ = ["is_pruned", "prune", "replay", "trace", "unprune"]

ModelT = TypeVar("ModelT", bound=nn.Module)

_RECORD = "_alpine_pruning"
ENGINES: dict[str, Engine] = {
    "packed": PackedEngine(),
    "padded": PaddedEngine(),
    "reference": ReferenceEngine(),
}


def prune(model: ModelT, config: PruningConfig) -> ModelT:
    """Make an encoder prune tokens as it runs (ALPINE, FSE 2025), in place.

    `model(**batch)` works as before. The encoder returns its ModelOutput with `last_hidden_state`
    (B, L', D): kept tokens in order, merged tokens after them, zeros behind, L' the longest
    sequence left; the first valid token of every row stands at position 0. `hidden_states` are
    padded per layer in the same way, `attentions` are (B, H, L_l, L_l) per layer. A row without
    any valid token comes back as zeros.

    `attention_mask` is (B, L), or (B or 1, 1, L, L) where not every token attends to every other:
    bool, or added to the logits. Such a mask follows the tokens, see `visibility`; positions to
    which no token attends are padding. `special_tokens_mask` (B, L) names the tokens that
    protect="special" never removes; without it they are the first and the last. Rules by share then
    keep more than their share where more are named, and ask the device once how many they are.

    Decoders (experimental) are pruned in one pass over a prompt, without cache, and their heads
    read the last token. Whoever reads it finds it by its column, so `last_hidden_state` and
    `hidden_states` are (B, L, D): each token left stands in its own column, a merged token in that
    of its last member, zeros elsewhere, with padding on either side. Never removed are the first
    token and the one that is read: the last whose id is not the padding id, as transformers' heads
    look for it, or the last where no ids are given. `attention_mask` is (B, L).

    Args:
        model: a transformers encoder of a supported family, with or without a head that reads
            its first token or pooled output (of a decoder: its last token), or a module that
            contains exactly one such model.
        config: what to prune. On a model that is pruned already it replaces the old settings.

    Returns:
        The same model.

    Raises:
        UnsupportedModelError: no supported family, or a head that reads every token.
        PruningError: `config.layers` does not fit the encoder's depth.
    """
    base, family = find_base_model(model)
    layers = config.resolve(len(family.layers(base)))
    record = _record_of(base)
    if record is None:
        record = Pruning(config, layers)
        setattr(base, _RECORD, record)
        record.attach(base, family)
    record.config, record.layers = config, layers
    return model


def unprune(model: ModelT) -> ModelT:
    """Give back the stock model; without effect on a model that is not pruned."""
    base, _ = find_base_model(model)
    record = _record_of(base)
    if record is not None:
        record.detach()
        delattr(base, _RECORD)
    return model


def is_pruned(model: nn.Module) -> bool:
    """Whether `prune` has been called on this model (with any layers, "none" included)."""
    base, _ = find_base_model(model)
    return _record_of(base) is not None


@contextmanager
def trace(model: nn.Module) -> Iterator[Trace]:
    """Record what every forward pass of a pruned model does to its tokens.

    Raises:
        PruningError: the model is not pruned (layers="none" traces an unpruned run).
    """
    record = _require_record(model)
    recorded = Trace()
    record.traces.append(recorded)
    try:
        yield recorded
    finally:
        # by identity: dataclass equality would compare tensors
        record.traces[:] = [other for other in record.traces if other is not recorded]


@contextmanager
def replay(model: nn.Module, traced: TracedForward) -> Iterator[None]:
    """Remove exactly the tokens that an earlier forward pass removed, whatever the scores say.

    For comparing engines, gradients and precisions on one and the same plan. The input must have
    the lengths of the traced one.
    """
    record = _require_record(model)
    if record.given_plans is not None:
        raise PruningError("replay() is already under way on this model")
    record.given_plans = dict(traced.plans)
    try:
        yield
    finally:
        record.given_plans = None


def _record_of(base: nn.Module) -> Pruning | None:
    return getattr(base, _RECORD, None)


def _require_record(model: nn.Module) -> Pruning:
    base, _ = find_base_model(model)
    record = _record_of(base)
    if record is None:
        raise PruningError(
            f'{type(base).__name__} is not pruned; call prune(model, PruningConfig(layers="none"))'
            " first to follow an unpruned run"
        )
    return record


@dataclass(eq=False)
class Pruning:
    """What `prune` left on a base model: settings, hooks to take away, and who is watching."""

    config: PruningConfig
    layers: tuple[int, ...]
    detaches: list[Detach] = field(default_factory=list)
    stock_configs: list[tuple[nn.Module, Any]] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)
    given_plans: dict[int, PruningPlan] | None = None

    def attach(self, base: PreTrainedModel, family: Family) -> None:
        """Hook the base model, its encoder and its layers."""
        enter, finish = _EnterModel(self, family), _FinishModel(self)
        self.detaches += [
            base.register_forward_pre_hook(enter, with_kwargs=True).remove,
            # before `finish`: in some families the base model is the encoder
            family.encoder(base).register_forward_hook(_leave_encoder, with_kwargs=True).remove,
            base.register_forward_hook(finish, with_kwargs=True).remove,
        ]
        for index, layer in enumerate(family.layers(base)):
            bind = layer.register_forward_pre_hook(_BindLayer(index), with_kwargs=True)
            self.detaches += [bind.remove, family.attach(layer)]
            self.stock_configs += attention_function.divert(layer)

    def detach(self) -> None:
        """Take away everything that `attach` added."""
        for detach in self.detaches:
            detach()
        for module, config in self.stock_configs:
            module.config = config


@dataclass(eq=False)
class _EnterModel:
    """Pre-hook of the base model: lay the input out for the engine and start a run.

    Embeddings, too, then see packed ids; position and token-type ids are packed with them.
    """

    pruning: Pruning
    family: Family

    def __call__(
        self, model: PreTrainedModel, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        kwargs = _as_kwargs(model, args, kwargs)
        kind = "decoder" if self.family.causal else "encoder"
        for name in ("encoder_hidden_states", "past_key_values", "use_cache"):
            value = kwargs.get(name)
            if value is not None and value is not False:  # an empty cache is false, too
                raise PruningError(_NOT_TAKEN[kind].format(name=name))
        if self.family.causal:
            kwargs["use_cache"] = False  # which decoders' configs usually ask for
        ids, embeds = kwargs.get("input_ids"), kwargs.get("inputs_embeds")
        given = ids if ids is not None else embeds
        if given is None or (ids is not None and embeds is not None):
            raise PruningError("give exactly one of input_ids and inputs_embeds")
        mask_BL, allowed_BLL = _read_mask(kwargs.get("attention_mask"), given)
        if self.family.causal and allowed_BLL is not None:
            raise PruningError(
                "a pruned decoder takes an attention_mask of (batch, length) only: that each token"
                f" attends to those before it is understood (got shape"
                f" {tuple(kwargs['attention_mask'].shape)})"
            )
        config, depth = self.pruning.config, len(self.family.layers(model))
        engine = ENGINES[config.engine]
        dtype = _matrix_dtype(model, given.device)
        tokens = initial_tokens(mask_BL, engine.row_multiple(given.device, dtype))
        run = PruningRun(
            model=model,
            config=config,
            engine=engine,
            pruned_layers=self.pruning.layers,
            first_only=depth - 1 if config.output == "first" else None,
            tokens=[tokens],
            want_attentions=_asked(model, kwargs, "output_attentions"),
            keeps_scores=bool(self.pruning.traces),
            given_plans=self.pruning.given_plans,
            depth=depth,
        )
        if kwargs.get("position_ids") is None and self.family.positions is not None:
            shape = (given.shape[0], given.shape[1])
            kwargs["position_ids"] = self.family.positions(model, ids, shape, given.device)
        position_T = tokens.source_T
        valid_T = tokens.ragged.segment_T * mask_BL.shape[1] + tokens.source_T
        for name in ("input_ids", "inputs_embeds", "position_ids", "token_type_ids"):
            value = kwargs.get(name)
            if value is not None:
                value = value.expand(*mask_BL.shape, *value.shape[2:])
                packed = value.reshape(-1, *value.shape[2:]).index_select(0, valid_T)
                kwargs[name] = run.engine.enter(packed, tokens.ragged)
                if name == "position_ids":
                    position_T = packed
        if self.family.tracks_positions:
            run.tokens[0] = replace(run.tokens[0], position_T=position_T.to(torch.float32))
        if config.tracks_sizes and run.pruned_layers:
            ones_T = torch.ones_like(position_T, dtype=torch.float32)
            run.tokens[0] = replace(run.tokens[0], size_T=ones_T)
        if self.family.causal:
            run.columns = mask_BL.shape[1]
            run.tokens[0] = _in_order(run.tokens[0], model, ids)
        special_BL = kwargs.pop("special_tokens_mask", None)
        if special_BL is not None:
            if special_BL.shape != mask_BL.shape:
                raise PruningError(
                    f"special_tokens_mask must be (batch, length) = {tuple(mask_BL.shape)}"
                    f" (got shape {tuple(special_BL.shape)})"
                )
            # not special_BL[mask_BL]: that would ask the device how many there are
            special_T = special_BL.reshape(-1).index_select(0, valid_T) != 0
            read_T = run.tokens[0].read_T
            special_T = special_T if read_T is None else special_T | read_T
            run.tokens[0] = _with_special(run.tokens[0], special_T, run)
        if allowed_BLL is not None:
            visibility = Visibility.of_input(allowed_BLL, tokens.source_T, tokens.ragged)
            run.tokens[0] = replace(run.tokens[0], visibility=visibility)
        # A 4-D mask passes through transformers' mask functions as it is; nobody reads this one.
        kwargs["attention_mask"] = mask_BL.new_ones(1, 1, 1, 1)
        returns_tuple = not _asked(model, kwargs, "return_dict", default=True)
        if returns_tuple and _asked(model, kwargs, "output_hidden_states"):
            raise PruningError(f"output_hidden_states of a pruned {kind} needs return_dict=True")
        kwargs[RUN] = run
        return (), kwargs


_NOT_TAKEN = {
    "encoder": "a pruned encoder does not take {name}",
    "decoder": "a pruned decoder does not take {name}: it reads a prompt once, and tokens that went"
    " have no keys and values to keep; to generate, unprune() the model",
}


def _in_order(tokens: TokenState, model: PreTrainedModel, ids: Tensor | None) -> TokenState:
    """The tokens of a decoder's input: in order, the first and the one that is read protected."""
    ragged, pad_id = tokens.ragged, model.config.pad_token_id
    position_T = ragged.position_T
    own_T = torch.ones_like(tokens.special_T)
    if ids is not None and pad_id is not None:
        own_T = ids.expand(ragged.batch, -1)[ragged.segment_T, tokens.source_T] != pad_id
    # the last token of one's own; of a sequence that has none, the last
    last_B = torch.full_like(ragged.lengths_B, -1).scatter_reduce(
        0, ragged.segment_T, torch.where(own_T, position_T, -1), "amax"
    )
    last_B = torch.where(last_B < 0, ragged.lengths_B - 1, last_B)
    read_T = position_T == last_B[ragged.segment_T]
    special_T = read_T | (position_T == 0)
    return replace(
        tokens,
        special_T=special_T,
        place_T=tokens.source_T,
        read_T=read_T,
        special_counts=None,  # one or two: it depends on where padding is among the ids
    )


def _with_special(tokens: TokenState, special_T: Tensor, run: PruningRun) -> TokenState:
    """The tokens with others that are special, counted once for all layers if the rule asks."""
    counts = None
    asks = run.config.rule in SHARE_RULES and (tokens.causal or run.config.protect == "special")
    if asks and run.pruned_layers and run.given_plans is None:
        counts = tuple(tokens.ragged.sum_by_sequence(special_T.to(torch.int64)).tolist())
    return replace(tokens, special_T=special_T, special_counts=counts, special_limit=None)


def _matrix_dtype(model: PreTrainedModel, device: torch.device) -> torch.dtype:
    """The dtype that the model's linear layers run in: autocast's, or the weights' own."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return model.dtype


def _as_kwargs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments by name, as the model's own forward names them."""
    if not args:
        return dict(kwargs)
    names = [
        name
        for name, parameter in inspect.signature(model.forward).parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _read_mask(attention_mask: Tensor | None, given: Tensor) -> tuple[Tensor, Tensor | None]:
    """(B, L) bool: which positions hold tokens; and of a 4-D mask (B, L, L), who attends to whom.

    Without a mask all positions hold tokens, as in stock models.
    """
    batch, length = given.shape[:2]
    if attention_mask is None:
        return torch.ones(batch, length, dtype=torch.bool, device=given.device), None
    shape = tuple(attention_mask.shape)
    if shape == (batch, length):
        return attention_mask != 0, None
    if shape in ((batch, 1, length, length), (1, 1, length, length)):
        allowed_BLL = allowed_pairs(attention_mask, batch)
        return attended_tokens(allowed_BLL), allowed_BLL
    raise PruningError(
        f"attention_mask must be (batch, length) = {(batch, length)} with 1 for tokens and 0 for"
        f" padding, or {(batch, 1, length, length)} with who attends to whom (got shape {shape})"
    )


def _asked(
    model: PreTrainedModel, kwargs: dict[str, Any], name: str, default: bool = False
) -> bool:
    """A switch of transformers' forward, given by argument or else by config."""
    value = kwargs.get(name)
    return bool(getattr(model.config, name, default) if value is None else value)


@dataclass(frozen=True, eq=False)
class _BindLayer:
    """Pre-hook of a layer: narrow the run to this layer for everything below it."""

    index: int

    def __call__(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        run: PruningRun = kwargs[RUN]
        return args, {**kwargs, LAYER_RUN: run.at(self.index)}


def _leave_encoder(
    encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> Any:
    """Hook of the encoder: give heads and poolers the padded layout they expect."""
    run: PruningRun = kwargs[RUN]
    output.last_hidden_state = run.leave(output.last_hidden_state, run.tokens[-1])
    return output


@dataclass(frozen=True, eq=False)
class _FinishModel:
    """Hook of the base model: re-lay recorded hidden states, tell the traces."""

    pruning: Pruning

    def __call__(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        run: PruningRun = kwargs[RUN]
        hidden_states = getattr(output, "hidden_states", None)
        if hidden_states is not None:
            # The last entry is last_hidden_state itself, which has left the layout already.
            output["hidden_states"] = (
                *(
                    hidden_SND if hidden_SND is None else run.leave(hidden_SND, tokens)
                    for hidden_SND, tokens in zip(hidden_states[:-1], run.tokens[:-1], strict=True)
                ),
                output.last_hidden_state,
            )
        for recorded in self.pruning.traces:
            recorded.calls.append(TracedForward.of(run))
        return output
