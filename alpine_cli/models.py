"""Models: finding an encoder, putting a task's head on it, or making one from scratch.

A model is named by an alias (`codebert`), by a directory, by a hub id, or by a `ckpt.pt` whose
training goes on. A directory may hold weights, or only `config.json` and a tokenizer: then the
weights are drawn at random from a stated seed, and `TaskModel.origin` says so. Nothing here runs
code that came with a model (`trust_remote_code` stays off), and with `offline` the hub is never
asked.

Shape letters: B samples, R = B × functions per sample (rows of one sample adjacent), L tokens,
D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import ModelOutput

from alpine_cli.dataflow import require_grammar
from alpine_cli.encoders import (
    DEFAULT_SEED,
    classifier_config,
    max_tokens,
    new_encoder,
    new_roberta,
    seeded,
)
from alpine_cli.errors import ConfigError
from alpine_cli.graph_input import graph_inputs, require_graph_encoder
from alpine_cli.hub import MODEL_ALIASES, LoadedModel, load_encoder_and_tokenizer
from alpine_cli.pruning.patch.registry import is_causal
from alpine_cli.tasks.encoding import MODE_TOKEN, EncodingSpec
from alpine_cli.tasks.heads import build_head, resolve_head
from alpine_cli.tasks.registry import TaskSpec

__all__ = [
    "DEFAULT_SEED",
    "MODEL_ALIASES",
    "LoadedModel",
    "TaskModel",
    "TaskOutput",
    "build_model",
    "load_encoder_and_tokenizer",
    "new_roberta",
    "with_head",
]


@dataclass
class TaskOutput(ModelOutput):
    """Loss (mean over the batch; None without labels) and logits (B, 2)."""

    loss: Tensor | None = None
    logits: Tensor | None = None


class TaskModel(nn.Module):
    """An encoder with a task's head.

    Args:
        encoder: for the standard head the family's model for sequence classification, otherwise
            its bare base model. `prune(task_model, …)` patches it in place.
        head: the head, or None for the standard one, which is inside `encoder`.
        task: the task.
        head_name: name of the head.
        origin: where the weights come from, as a sentence for the user.

    The first token of each row is all that is read of the last hidden state, so a pruned encoder,
    whose output is shorter than its input, needs no special care. Of a decoder it is the last
    token, which pruning leaves in its column; every head works on it.
    """

    supports_gradient_checkpointing = True

    def __init__(
        self,
        encoder: PreTrainedModel,
        head: nn.Module | None,
        task: TaskSpec,
        head_name: str,
        origin: str = "",
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.task = task
        self.head_name = head_name
        self.origin = origin

    @property
    def config(self) -> PretrainedConfig:
        """The encoder's transformers config (Trainer reads it)."""
        return self.encoder.config

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    # transformers renamed "gradient checkpointing" to "activation checkpointing" on the way to v6;
    # Trainer calls whichever name its version knows, so both lead to the encoder's newer one.

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        newer = getattr(self.encoder, "activation_checkpointing_enable", None)
        enable = newer or self.encoder.gradient_checkpointing_enable
        enable(activation_checkpointing_kwargs, **options)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """The older name of `activation_checkpointing_enable`."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **options)

    def activation_checkpointing_disable(self) -> None:
        """Keep activations again."""
        newer = getattr(self.encoder, "activation_checkpointing_disable", None)
        (newer or self.encoder.gradient_checkpointing_disable)()

    def gradient_checkpointing_disable(self) -> None:
        """The older name of `activation_checkpointing_disable`."""
        self.activation_checkpointing_disable()

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed."""
        return any(getattr(m, "gradient_checkpointing", False) for m in self.encoder.modules())

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        index: Tensor | None = None,
        position_ids: Tensor | None = None,
        graph_mask: Tensor | None = None,
    ) -> TaskOutput:
        """Classify a batch.

        Args:
            input_ids: (R, L) int64.
            attention_mask: (R, L), 1 for tokens, 0 for padding; None means no padding.
            labels: (B,) int64; with them the loss is computed.
            index: (B,), ignored; accepted so that a loader's batch can be passed as it is.
            position_ids: (R, L) int64; None counts as the encoder does.
            graph_mask: (R, L, L) bool, of code read with its data flow; see `tasks.graph`.

        Returns:
            The loss, a mean cross-entropy in nats, and the logits (B, 2).
        """
        output = self.encoder(
            **self.encoder_inputs(input_ids, attention_mask, position_ids, graph_mask)
        )
        if self.head is None:
            logits_B2 = output.logits
        else:
            hidden_RLD = output.last_hidden_state
            if self.reads_last:
                hidden_RD = self._last_tokens(hidden_RLD, input_ids, attention_mask)
            else:
                hidden_RD = hidden_RLD[:, 0]
            logits_B2 = self.head(hidden_RD)
        loss = None
        if labels is not None:
            # Under autocast logits can be bfloat16; the loss is worth full precision.
            loss = nn.functional.cross_entropy(logits_B2.float(), labels)
        return TaskOutput(loss=loss, logits=logits_B2)

    @property
    def reads_last(self) -> bool:
        """Whether the encoder is a decoder, whose heads read the last token."""
        return is_causal(self.config.model_type)

    def _last_tokens(
        self, hidden_RLD: Tensor, input_ids: Tensor, attention_mask: Tensor | None
    ) -> Tensor:
        """(R, D) of the last token of each row that is not padding, on whichever side that is."""
        own_RL = torch.ones_like(input_ids, dtype=torch.bool)
        if self.config.pad_token_id is not None:  # as transformers' heads find it
            own_RL = input_ids != self.config.pad_token_id
        if attention_mask is not None:
            own_RL = own_RL & (attention_mask != 0)
        columns = torch.arange(own_RL.shape[1], device=own_RL.device)
        last_R = (columns * own_RL).argmax(dim=1)
        return hidden_RLD[torch.arange(len(last_R), device=last_R.device), last_R]

    def encoder_inputs(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        graph_mask: Tensor | None = None,
    ) -> dict[str, Any]:
        """What the encoder is called with: data flow becomes embeddings and a 4-D mask."""
        if graph_mask is not None:
            if position_ids is None:
                raise ValueError("graph_mask needs position_ids, by which nodes are known")
            return graph_inputs(self.encoder, input_ids, attention_mask, position_ids, graph_mask)
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.reads_last:  # nobody generates: a cache would only hold memory
            inputs["use_cache"] = False
        return inputs if position_ids is None else {**inputs, "position_ids": position_ids}

    @torch.no_grad()
    def predict_proba(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **inputs: Tensor
    ) -> Tensor:
        """Probability of each label, (B, 2) float32, rows adding up to 1. No gradient."""
        return self(input_ids, attention_mask, **inputs).logits.float().softmax(dim=-1)


def build_model(
    model: str,
    task: TaskSpec,
    head: str | None = None,
    *,
    seed: int = DEFAULT_SEED,
    max_length: int = 512,
    mode_prefix: bool | None = None,
    collapse_whitespace: bool | None = None,
    offline: bool = False,
    attn_implementation: str | None = None,
    data_flow: str | None = None,
    data_flow_length: int = 128,
) -> tuple[TaskModel, PreTrainedTokenizerFast, EncodingSpec]:
    """Load what `model` names and put the task's head on it. The model is in training mode.

    Args:
        model: alias, directory or hub id, see `hub.MODEL_ALIASES`; or a `ckpt.pt`, whose head is
            kept if it is the one asked for, and otherwise replaced by a new one.
        task: the task.
        head: name of the head; None takes the task's default.
        seed: of freshly drawn weights (the head; everything, if the directory has no weights). The
            global random state is left as it was.
        max_length: tokens of one function at most, special tokens included.
        mode_prefix: UniXcoder's prefix; None puts it in front where the vocabulary has it, or as
            the checkpoint did.
        collapse_whitespace: see `EncodingSpec`; None does as the checkpoint did, else collapses.
        offline: never ask the hub.
        attn_implementation: "sdpa", "eager", …; None lets transformers choose.
        data_flow, data_flow_length: see `EncodingSpec`.

    Raises:
        ModelError: unknown, unreachable or damaged model; tokenizer and model do not fit, or the
            model cannot read data flow.
        CheckpointError: `model` is a file, but no usable checkpoint.
        ConfigError: no such head, or `max_length` exceeds what the model can read.
    """
    head_name = resolve_head(task, head)
    trained: EncodingSpec | None = None
    with seeded(seed):
        if Path(model).is_file():
            task_model, tokenizer, trained = _continue_checkpoint(
                Path(model), task, head_name, attn_implementation
            )
        else:
            loaded = load_encoder_and_tokenizer(
                model,
                for_classification=head_name == "standard",
                task=task,
                seed=seed,
                offline=offline,
                attn_implementation=attn_implementation,
            )
            tokenizer = loaded.tokenizer
            task_model = with_head(loaded.encoder, task, head_name, origin=loaded.origin)
    limit = max_tokens(task_model.encoder)
    if max_length > limit:
        raise ConfigError(f"max_length: {model} reads at most {limit} tokens (got {max_length})")
    if trained is None:
        # Only UniXcoder's vocabulary has it.
        usual = EncodingSpec(task.name, mode_prefix=MODE_TOKEN in tokenizer.get_vocab())
    else:
        usual = trained
    spec = EncodingSpec(
        task=task.name,
        max_length=max_length,
        mode_prefix=usual.mode_prefix if mode_prefix is None else mode_prefix,
        collapse_whitespace=(
            usual.collapse_whitespace if collapse_whitespace is None else collapse_whitespace
        ),
        data_flow=data_flow,
        data_flow_length=data_flow_length,
    )
    if data_flow is not None:
        require_graph_encoder(task_model.encoder)
        require_grammar(data_flow)
    return task_model.train(), tokenizer, spec


def _continue_checkpoint(
    path: Path, task: TaskSpec, head_name: str, attn_implementation: str | None
) -> tuple[TaskModel, PreTrainedTokenizerFast, EncodingSpec]:
    """A checkpoint's model, with a new head where another is asked for, and its encoding."""
    from alpine_cli.checkpoint import load_checkpoint  # which builds on this module

    checkpoint = load_checkpoint(path)
    trained, tokenizer = checkpoint.build(attn_implementation=attn_implementation)
    if (trained.task, trained.head_name) == (task, head_name):
        trained.origin = f"weights of {path}, its head included"
        return trained, tokenizer, checkpoint.encoding_spec
    base = cast(PreTrainedModel, trained.encoder.base_model)
    if head_name == "standard":
        config = classifier_config(trained.config, task)
        encoder = new_encoder(
            config, for_classification=True, attn_implementation=attn_implementation
        )
        encoder.base_model.load_state_dict(base.state_dict())
    else:
        encoder = base
    model = with_head(encoder, task, head_name, f"encoder weights of {path}, with a new head")
    return model, tokenizer, checkpoint.encoding_spec


def with_head(
    encoder: PreTrainedModel, task: TaskSpec, head_name: str, origin: str = ""
) -> TaskModel:
    """Put a new head on an encoder, initialised as the encoder's family initialises linear layers.

    The weights are drawn from torch's global random state; the head's dropout is the one the
    encoder's config names for classifiers.
    """
    config = encoder.config
    head = build_head(task, head_name, config.hidden_size, head_dropout(config))
    if head is not None:
        deviation = getattr(config, "initializer_range", 0.02)
        for module in head.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=deviation)
                nn.init.zeros_(module.bias)
    return TaskModel(encoder, head, task, head_name, origin)


def head_dropout(config: PretrainedConfig) -> float:
    """The dropout of a classification head: the config's own, else that of its hidden layers."""
    for name in (
        "classifier_dropout",
        "seq_classif_dropout",
        "hidden_dropout_prob",
        "dropout",
        "resid_pdrop",
    ):
        value = getattr(config, name, None)
        if value is not None:
            return float(value)
    return 0.1
