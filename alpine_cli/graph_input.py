"""Code with its data flow at the encoder's door: embeddings of the nodes, and the 4-D mask.

As in the code that GraphCodeBERT was published with, a node enters as the mean of the word
embeddings of the code tokens that it is linked to. Both ways of running a model take the mask:
stock transformers as it is, a pruned encoder as described in `pruning.visibility`.

Shape letters: R rows, L tokens, D embedding size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from alpine_cli.errors import ModelError
from alpine_cli.pruning.apply import is_pruned
from alpine_cli.tasks.graph import NODE_POSITION

__all__ = ["graph_inputs", "node_embeddings", "require_graph_encoder"]

_FAMILY = "roberta"


def require_graph_encoder(encoder: PreTrainedModel) -> None:
    """Refuse encoders that cannot read data flow.

    Raises:
        ModelError: not of RoBERTa's family, whose positions leave 0 for nodes; or padding stands
            there.
    """
    kind, pad = encoder.config.model_type, encoder.config.pad_token_id
    if kind != _FAMILY:
        raise ModelError(
            f"data_flow: only models of RoBERTa's family read data flow (GraphCodeBERT was trained"
            f" to), not those of type {kind!r}; take --model graphcodebert, or leave it out"
        )
    if not pad:
        raise ModelError(
            f"data_flow: nodes have position {NODE_POSITION}, which this model uses for padding"
            f" (pad_token_id {pad}); take --model graphcodebert, or leave it out"
        )


def graph_inputs(
    encoder: PreTrainedModel,
    input_ids_RL: Tensor,
    attention_mask_RL: Tensor | None,
    position_ids_RL: Tensor,
    graph_mask_RLL: Tensor,
) -> dict[str, Tensor | None]:
    """Keyword arguments for the encoder. Differentiable in the word embeddings.

    A pruned encoder is told which tokens are special: the last one is a node.
    """
    valid_RL = (
        torch.ones_like(input_ids_RL, dtype=torch.bool)
        if attention_mask_RL is None
        else attention_mask_RL != 0
    )
    node_RL = (position_ids_RL == NODE_POSITION) & valid_RL
    words_RLD = encoder.get_input_embeddings()(input_ids_RL)
    mask = graph_mask_RLL[:, None]
    # Eager attention adds what it is given; the others, and alpine's engines, know bool.
    if encoder.config._attn_implementation == "eager":
        hidden = torch.finfo(words_RLD.dtype).min
        mask = torch.zeros_like(mask, dtype=words_RLD.dtype).masked_fill_(~mask, hidden)
    code_RL = valid_RL & ~node_RL
    inputs: dict[str, Tensor | None] = {
        "inputs_embeds": node_embeddings(words_RLD, node_RL, code_RL, graph_mask_RLL),
        "attention_mask": mask,
        "position_ids": position_ids_RL,
    }
    if is_pruned(encoder):
        column_L = torch.arange(input_ids_RL.shape[1], device=input_ids_RL.device)
        last_R1 = code_RL.sum(dim=1, keepdim=True) - 1  # code stands first, without holes
        inputs["special_tokens_mask"] = (column_L == 0) | (column_L == last_R1)
    return inputs


def node_embeddings(
    words_RLD: Tensor, node_RL: Tensor, code_RL: Tensor, graph_mask_RLL: Tensor
) -> Tensor:
    """(R, L, D): nodes get the mean of the code tokens that they attend to, others stay.

    Sums, not a matrix product: a node has few code tokens. A node without any gets zeros.

    Args:
        words_RLD: embeddings by id.
        node_RL: (R, L) bool.
        code_RL: (R, L) bool, tokens that are no nodes.
        graph_mask_RLL: see `tasks.graph.RowGraph.mask`.
    """
    length = words_RLD.shape[1]
    links = graph_mask_RLL & node_RL[:, :, None] & code_RL[:, None, :]
    row_P, node_P, code_P = links.nonzero(as_tuple=True)
    flat = words_RLD.reshape(-1, words_RLD.shape[2])
    linked_PD = flat.index_select(0, row_P * length + code_P)
    sums = torch.zeros_like(flat).index_add(0, row_P * length + node_P, linked_PD)
    means_RLD = sums.view_as(words_RLD) / links.sum(dim=2).clamp(min=1)[:, :, None]
    return torch.where(node_RL[:, :, None], means_RLD.to(words_RLD.dtype), words_RLD)
