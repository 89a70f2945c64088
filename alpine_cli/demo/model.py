"""The demo's model: a byte-level BPE tokenizer trained on the spot, and a small RoBERTa.

Nothing is downloaded and nothing pretrained. Three settings differ from RoBERTa's, because this
model must learn from scratch within a minute on a CPU:
- linear layers start with a standard deviation of 1/√D (RoBERTa's 0.02 fits its width of 768),
  and what attention passes on four times louder still: the first token, which alone is
  classified, must hear one token among a hundred before it can learn which one to listen to.
  With RoBERTa's own start, training stands still for minutes;
- positions start as sines and cosines instead of noise, so that "the token before me" is a
  direction attention finds early. They are trained like everything else;
- no dropout: drawing its masks takes longer than all of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from alpine_cli.encoders import new_roberta

__all__ = ["ModelSize", "train_tokenizer", "write_model"]

_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # RoBERTa's ids 0 to 4
_PASSED_ON = ("attention.self.value.weight", "attention.output.dense.weight")
_LOUDER = 4.0  # times; of 1, 2, 3 and 4 tried, the one that started to learn soonest
_LOUD_LAYERS = 4
_ADDED = ("output.dense.weight",)  # of attention and of the feed-forward part
_QUIETER = 0.1
_LONGEST_WAVE = 500.0  # tokens / radian, about the length of an input


@dataclass(frozen=True)
class ModelSize:
    """Size of the model; the defaults train in about a minute on two cores."""

    vocabulary: int = 1000
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    max_length: int = 256


def train_tokenizer(texts: Iterable[str], size: ModelSize) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with RoBERTa's special tokens; nothing is unknown to it.

    Whitespace runs are read as one space, as the tasks encode code.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size.vocabulary,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((" ".join(text.split()) for text in texts), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=size.max_length,
    )


def write_model(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    size: ModelSize,
    seed: int,
) -> None:
    """Write a transformers directory with the untrained encoder and its tokenizer.

    Layers beyond the fourth start almost as identities: louder and louder means would drown the
    tokens themselves, and a deep post-norm encoder learns slowly at first anyway.
    """
    encoder = new_roberta(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        num_layers=size.layers,
        num_heads=size.heads,
        max_length=size.max_length,
        dropout=0.0,
        seed=seed,
    )
    small, large = encoder.config.initializer_range, size.hidden**-0.5
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.mul_(large / small)
        for name, weight in encoder.named_parameters():
            if _layer_of(name) >= _LOUD_LAYERS:
                if name.endswith(_ADDED):
                    weight.mul_(_QUIETER)
            elif name.endswith(_PASSED_ON):
                weight.mul_(_LOUDER)
        positions_PD = encoder.embeddings.position_embeddings.weight
        positions_PD.copy_(small * _waves(*positions_PD.shape))
    encoder.config.initializer_range = large  # the task's head is drawn with it
    with _quiet():
        encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _layer_of(name: str) -> int:
    """Index of the encoder layer that a parameter belongs to; -1 outside of all."""
    parts = name.split(".")
    return int(parts[parts.index("layer") + 1]) if "layer" in parts else -1


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar, which a file of a megabyte does not need."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _waves(positions: int, hidden: int) -> torch.Tensor:
    """Sines in the even and cosines in the odd columns; (positions, hidden), between -1 and 1."""
    exponents = torch.arange(0, hidden, 2) / hidden
    angles = torch.arange(positions)[:, None] * torch.pow(_LONGEST_WAVE, -exponents)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
