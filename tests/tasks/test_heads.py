"""The heads compute what the published code computes, in terms of two logits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alpine_cli.errors import ConfigError
from alpine_cli.tasks import resolve_head, resolve_task
from alpine_cli.tasks.heads import DefectHead, PairHead, build_head

DEFECT, CLONE = resolve_task("defect-detection"), resolve_task("clone-detection")


def test_one_logit_head_is_a_sigmoid_with_binary_cross_entropy():
    """softmax([0, z]) = sigmoid(z), and the loss is the published one (without its 1e-10)."""
    torch.manual_seed(0)
    head = DefectHead(16, dropout=0.1).eval()
    first_RD, labels = torch.randn(8, 16) * 3, torch.tensor([0, 1] * 4)
    z = head.out_proj(torch.tanh(head.dense(first_RD)))[:, 0]
    logits_B2 = head(first_RD)
    assert torch.equal(logits_B2[:, 0], torch.zeros(8))
    torch.testing.assert_close(logits_B2.softmax(-1)[:, 1], z.sigmoid())
    published = -(
        torch.log(z.sigmoid() + 1e-10) * labels + torch.log(1 - z.sigmoid() + 1e-10) * (1 - labels)
    ).mean()
    torch.testing.assert_close(nn.functional.cross_entropy(logits_B2, labels), published)
    assert torch.equal(logits_B2.argmax(-1), (z.sigmoid() > 0.5).long())


def test_one_logit_loss_stays_finite_where_the_sigmoid_saturates():
    loss = nn.functional.cross_entropy(torch.tensor([[0.0, 500.0]]), torch.tensor([0]))
    assert loss == 500.0


def test_pair_head_concatenates_the_two_first_tokens_of_a_pair():
    torch.manual_seed(0)
    head = PairHead(8, dropout=0.5).eval()
    first_RD = torch.randn(6, 8)
    expected = [
        head.out_proj(torch.tanh(head.dense(torch.cat([first_RD[2 * b], first_RD[2 * b + 1]]))))
        for b in range(3)
    ]
    torch.testing.assert_close(head(first_RD), torch.stack(expected))


@pytest.mark.parametrize(("task", "rows"), [(DEFECT, 4), (CLONE, 8)], ids=["defect", "clone"])
def test_every_parameter_gets_a_gradient(task, rows: int):
    head = build_head(task, "alpine", 8, 0.0)
    logits_B2 = head(torch.randn(rows, 8))
    assert logits_B2.shape == (4, 2)
    nn.functional.cross_entropy(logits_B2, torch.tensor([0, 1, 1, 0])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_names_of_heads():
    assert resolve_head(DEFECT, None) == "alpine"
    assert build_head(DEFECT, "standard", 8, 0.1) is None
    with pytest.raises(ConfigError, match="clone-detection has no head 'standard'; it has: alpine"):
        resolve_head(CLONE, "standard")
