"""NaN and memory errors: an early end, with advice that fits the settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from alpine_cli.config import RunConfig, TrainConfig
from alpine_cli.errors import TrainingError
from alpine_cli.models import TaskModel
from alpine_cli.training import finetune
from alpine_cli.training.failures import advise_on_memory

MakeConfig = Callable[..., RunConfig]


def _fail_at(monkeypatch: pytest.MonkeyPatch, call: int, act: Callable[[Any], Any]) -> None:
    """Let the model's nth training pass end in `act(output)`."""
    original, calls = TaskModel.forward, 0

    def forward(self: TaskModel, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        output = original(self, *args, **kwargs)
        if self.training:
            calls += 1
            if calls == call:
                return act(output)
        return output

    monkeypatch.setattr(TaskModel, "forward", forward)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_not_finite_ends_the_run(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    def spoil(output: Any) -> Any:
        output.loss = output.loss * value
        return output

    _fail_at(monkeypatch, 9, spoil)  # in the second epoch of 7 steps
    config = make_config()
    with pytest.raises(
        TrainingError, match=rf"became {value} at step 9 \(epoch 1.14\).*--lr"
    ) as error:
        finetune(config)
    assert error.value.exit_code == 1
    # the validation of the first epoch was kept, and no state younger than the failure exists
    assert (config.run_dir() / "ckpt.pt").exists()
    state = json.loads(
        next(config.run_dir().glob("state/*/trainer_state.json")).read_text(encoding="utf-8")
    )
    assert state["global_step"] <= 8


def test_lost_weights_are_not_saved(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient can overflow while the loss is finite: a bad state must not replace a good one."""
    original, steps = torch.optim.AdamW.step, 0

    def step(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        result = original(self, *args, **kwargs)
        if steps == 4:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("nan"))
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    config = make_config()
    with pytest.raises(TrainingError, match=r"weights of .* became NaN"):
        finetune(config)
    assert [path.name for path in (config.run_dir() / "state").glob("step-*")] == ["step-00000002"]


def test_out_of_memory_says_what_to_change(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(output: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    _fail_at(monkeypatch, 3, fail)
    with pytest.raises(TrainingError) as error:
        finetune(make_config())
    text = str(error.value)
    assert "out of memory on cpu with 4 samples of up to 48 tokens" in text
    for option in (
        "--grad-accum 2",
        "--gradient-checkpointing",
        "--max-length 24",
        "--batch-size 2",
    ):
        assert option in text


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
        ),
    ],
)
def test_every_kind_of_memory_error_is_known(error: Exception) -> None:
    device = torch.device("cuda")
    with (
        pytest.raises(TrainingError, match="--bf16"),
        advise_on_memory(TrainConfig(), device, evaluating=False),
    ):
        raise error
    with (
        pytest.raises(TrainingError, match="--eval-batch-size 16"),
        advise_on_memory(TrainConfig(), device, evaluating=True),
    ):
        raise error


def test_advice_fits_what_is_set_already() -> None:
    train = TrainConfig(batch_size=2, grad_accum=2, gradient_checkpointing=True, bf16=True)
    with (
        pytest.raises(TrainingError) as error,
        advise_on_memory(train, torch.device("cuda"), evaluating=False),
    ):
        raise torch.OutOfMemoryError
    text = str(error.value)
    assert "--max-length 256" in text
    assert not any(word in text for word in ("--bf16", "--gradient-ch", "--grad-accum"))


def test_other_errors_pass() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes"),
        advise_on_memory(TrainConfig(), torch.device("cpu"), evaluating=False),
    ):
        raise RuntimeError("shapes do not match")
