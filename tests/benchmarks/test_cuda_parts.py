"""The parts of `benchmarks.cuda` that compute: budgets, the anatomy of a trace, energy, memory."""

from __future__ import annotations

import itertools
import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.cuda import energy, machine, stock_flash
from benchmarks.cuda.aims import AIMS, judged
from benchmarks.cuda.anatomy import KINDS, anatomy, kind_of
from benchmarks.cuda.budget import Allowance, Budget, Cell, run_cells
from benchmarks.cuda.encoders import ENCODERS, build_encoder
from benchmarks.cuda.race import Entrants, affordable
from benchmarks.variants import Contestant, Variant, macs
from tests.measure.fake_nvml import FakeNvml
from tests.measure.nvml_trace import Clock

# --- budgets ----------------------------------------------------------------------------------


def test_sections_share_time_by_weight_and_inherit_what_is_left() -> None:
    clock = Clock()
    budget = Budget(100, {"a": 1, "b": 3, "c": 1}, clock.monotonic)
    first = budget.section("a")
    assert first.seconds == pytest.approx(20)
    clock.sleep(4)
    assert first.left() == pytest.approx(16)
    second = budget.section("b")
    assert second.seconds == pytest.approx(96 * 3 / 4)
    clock.sleep(95)  # overdrawn, at the cost of the last
    assert second.left() == 0
    assert budget.section("c").seconds == pytest.approx(1)


def test_cells_that_are_not_reached_or_fail_are_named() -> None:
    clock, said = Clock(), list[str]()

    def measure(seconds: float, allowance: Allowance) -> dict[str, Any]:
        clock.sleep(seconds)
        if seconds == 2:
            raise RuntimeError("CUDA out of memory\nand more")
        return {"allowed": allowance.seconds}

    cells = [Cell("one", 1.0), Cell("two", 2.0), Cell("ten", 10.0, 3.0), Cell("last", 1.0)]
    found = run_cells(
        cells, Allowance(12, clock.monotonic), measure, say=said.append, clock=clock.monotonic
    )
    assert [row["cell"] for row in found] == ["one", "two", "ten", "last"]
    assert found[0]["allowed"] == pytest.approx(2)
    assert found[1]["reason"] == "RuntimeError: CUDA out of memory"
    assert found[2]["allowed"] == pytest.approx(9 * 3 / 4)
    assert found[3]["reason"].startswith("not reached")


def test_the_dearest_variants_go_but_never_those_others_are_judged_by() -> None:
    seconds = {"none": 1.0, "all": 0.5, "published": 8.0, "stock": 2.0}
    assert affordable(seconds, 100.0, ("none",)) == list(seconds)
    assert affordable(seconds, 20.0, ("none",)) == ["none", "all", "stock"]
    assert affordable(seconds, 0.0, ("none", "published")) == ["none", "published"]


# --- the anatomy of a trace -------------------------------------------------------------------


def _event(cat: str, name: str, ts: float, dur: float, **more: Any) -> dict[str, Any]:
    link = {"correlation": more.pop("link")} if "link" in more else {}
    return {
        "ph": "X",
        "cat": cat,
        "name": name,
        "ts": ts,
        "dur": dur,
        "tid": 1,
        "args": link,
    } | more


def test_kernels_belong_to_the_range_that_launched_them() -> None:
    events = [
        _event("user_annotation", "alpine.attend", 0, 10),
        _event("user_annotation", "alpine.plan", 20, 10),
        # as drawn on the device's track: launches nothing
        _event("gpu_user_annotation", "alpine.plan", 0, 500, tid=7),
        _event("cuda_runtime", "cudaLaunchKernel", 1, 1, link=1),
        _event("cuda_driver", "cuLaunchKernel", 2, 1, link=2),  # as Triton launches
        _event("cuda_runtime", "cudaLaunchKernel", 21, 1, link=3),
        _event("cuda_runtime", "cudaLaunchKernel", 40, 1, link=4),
        _event("cuda_runtime", "cudaLaunchKernel", 25, 1, link=5, tid=2),  # another thread
        _event("kernel", "sm90_xmma_gemm_bf16", 100, 100, link=1, tid=7),
        _event("kernel", "_column_sums", 200, 50, link=2, tid=7),
        _event("kernel", "cub::DeviceScan", 260, 40, link=3, tid=7),
        _event("kernel", "nvjet_tst_128x256", 300, 200, link=4, tid=7),
        _event("kernel", "vectorized_layer_norm", 400, 200, link=5, tid=8),  # overlaps by 100
        _event("gpu_memcpy", "Memcpy DtoH", 700, 10, tid=7),
        {"ph": "i", "name": "no duration", "ts": 5},
    ]
    found = anatomy(events, wall_seconds=1000e-6, passes=2)
    by_kind = {kind: 2e6 * s for kind, s in found["seconds_by_kind"].items() if s}
    assert by_kind == pytest.approx(
        {
            "attention": 100,
            "scores": 50,
            "selection": 40,
            "matrix products": 200,
            "norms and elementwise": 200,
            "copies": 10,
        }
    )
    assert found["kernels"] == 3
    assert found["busy_seconds"] == pytest.approx(500e-6 / 2)  # the overlap counts once
    assert found["gap_seconds"] == pytest.approx(500e-6 / 2)
    assert found["measured_on"] == "device kernels"
    assert found["longest"][0]["seconds"] == pytest.approx(100e-6)


def test_without_a_device_operators_count_less_what_they_call() -> None:
    events = [
        _event("cpu_op", "aten::linear", 0, 100),
        _event("cpu_op", "aten::addmm", 10, 60),
        _event("cpu_op", "aten::copy_", 20, 15),
        _event("cpu_op", "aten::gelu", 200, 30),
    ]
    found = anatomy(events, wall_seconds=300e-6)
    assert found["seconds_by_kind"]["matrix products"] == pytest.approx(85e-6)
    assert found["seconds_by_kind"]["copies"] == pytest.approx(15e-6)
    assert found["seconds_by_kind"]["norms and elementwise"] == pytest.approx(30e-6)
    assert found["busy_seconds"] == pytest.approx(130e-6)
    assert found["gap_seconds"] == pytest.approx(170e-6)


@pytest.mark.parametrize(
    ("name", "launched_in", "kind"),
    [
        ("flash_fwd_splitkv_kernel", None, "attention"),
        ("void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16>", None, "matrix products"),
        ("void at::native::vectorized_elementwise_kernel<4, GeluCUDA>", None,
         "norms and elementwise"),
        ("Memset (Device)", None, "copies"),
        ("something new", None, "other"),
        ("something new", "alpine.shorten", "repacking"),
        ("received_attention_kernel", "alpine.attend", "scores"),
        ("ampere_bf16_s16816gemm", "alpine.attend", "attention"),
    ],
)  # fmt: skip
def test_kind_of_kernel(name: str, launched_in: str | None, kind: str) -> None:
    assert kind_of(name, launched_in) == kind
    assert kind in KINDS


# --- energy and memory ------------------------------------------------------------------------


class _Meter:
    """50 W idle, and what the work at hand draws on top."""

    window_s = 3.0

    def __init__(self, clock: Clock) -> None:
        self.clock, self.watts = clock, 0.0

    def start(self) -> None:
        self.began = self.clock.now

    def stop(self) -> dict[str, float]:
        return {"gpu": (50.0 + self.watts) * (self.clock.now - self.began)}


class _Work:
    """Stands in for a contestant: a round takes time and draws power."""

    samples = 10

    def __init__(self, meter: _Meter, seconds: float, watts: float) -> None:
        self.meter, self.seconds, self.watts = meter, seconds, watts

    def round(self) -> None:
        self.meter.watts = self.watts
        self.meter.clock.sleep(self.seconds)


def test_idle_power_is_subtracted_and_savings_are_set_against_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(energy, "time", clock)
    meter = _Meter(clock)
    assert energy.idle_watts(meter) == pytest.approx(50.0)  # type: ignore[arg-type]
    ready: Any = {
        "packed, none": _Work(meter, 1.0, 200.0),
        "packed, all": _Work(meter, 0.4, 150.0),
    }
    entrants = Entrants(ready, {"packed, none": 1.0, "packed, all": 0.4}, {"other": "why"})
    found = energy.measure_windows(entrants, meter, 50.0, Allowance(30.0, clock.monotonic))  # type: ignore[arg-type]
    none, pruned = found["variants"]
    assert found["rounds"] == 5
    assert found["absent"] == {"other": "why"}
    assert none["gross_j"]["value"] == pytest.approx(25.0)
    assert none["net_j"]["value"] == pytest.approx(20.0)
    assert pruned["gross_j"]["value"] == pytest.approx(8.0)
    assert pruned["net_j"]["value"] == pytest.approx(6.0)
    assert pruned["mean_power_w"] == pytest.approx(200.0)
    assert pruned["gross_j_ratio"]["value"] == pytest.approx(8 / 25)
    assert pruned["gross_saved_per_time_saved"] == pytest.approx((17 / 25) / 0.6)
    assert "gross_j_ratio" not in none


def test_no_time_saved_leaves_nothing_to_relate_to(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(energy, "time", clock)
    meter = _Meter(clock)
    ready: Any = {"packed, none": _Work(meter, 1.0, 9.0), "packed, all": _Work(meter, 1.5, 9.0)}
    entrants = Entrants(ready, {"packed, none": 1.0, "packed, all": 1.5}, {})
    found = energy.measure_windows(entrants, meter, 50.0, Allowance(0.0, clock.monotonic))  # type: ignore[arg-type]
    assert found["rounds"] == 2
    assert found["variants"][1]["gross_saved_per_time_saved"] is None


@pytest.mark.parametrize(
    ("processes", "expected", "reason"),
    [
        ([(os.getpid(), 7), (1, 9)], 7, None),
        ([(4242, 11)], 11, None),  # a container shows ids of the host
        ([(4242, 11), (4243, 12)], None, "2 processes"),
        ([(os.getpid(), None)], None, "does not tell the memory"),
        ([], None, "0 processes"),
    ],
)
def test_memory_of_this_process(
    processes: list[tuple[int, int | None]],
    expected: int | None,
    reason: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in processes]
    monkeypatch.setattr(
        machine, "nvml", FakeNvml(nvmlDeviceGetComputeRunningProcesses=shown).opened
    )
    found, why = machine.process_bytes("GPU-1")
    assert found == expected
    assert why is None if reason is None else reason in str(why)


# --- models and baselines ---------------------------------------------------------------------


def test_sizes_of_encoders_are_the_published_ones() -> None:
    shapes = {
        name: (c.hidden_size, c.num_hidden_layers, c.num_attention_heads, c.intermediate_size)
        for name, c in ((name, config(512)) for name, config in ENCODERS.items())
    }
    assert shapes["roberta-base"] == (768, 12, 12, 3072)
    assert shapes["roberta-large"] == (1024, 24, 16, 4096)
    assert shapes["modernbert-base"] == (768, 22, 12, 1152)
    assert ENCODERS["roberta-base"](8192).max_position_embeddings == 8194


def test_macs_by_hand() -> None:
    config, lengths = ENCODERS["roberta-base"](512), [(10, 4), (10, 4), (6, 3)]
    d, expected = 768, 0
    for entering, leaving in itertools.pairwise(lengths):
        expected += sum(4 * n * d * d + 2 * n * n * d for n in entering)
        expected += sum(8 * n * d * d for n in leaving)
    assert macs(lengths, config) == expected


def _slow_varlen(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_q: torch.Tensor,
    cu_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int] = (-1, -1),
) -> torch.Tensor:
    """`torch.nn.attention.varlen.varlen_attn` by its documentation, sequence by sequence."""
    assert max_q == max_k == int(cu_q.diff().max())
    out = torch.empty_like(v)
    for start, end in zip(cu_q[:-1].tolist(), cu_q[1:].tolist(), strict=True):
        at = torch.arange(end - start)
        logits = torch.einsum("qhd,khd->hqk", q[start:end], k[start:end]) * scale
        if window_size != (-1, -1):
            far = (at[:, None] - at).abs() > window_size[0]
            logits = logits.masked_fill(far, -torch.inf)
        out[start:end] = torch.einsum("hqk,khd->qhd", logits.softmax(-1), v[start:end])
    return out


def _tiny_modernbert() -> Any:
    from transformers import ModernBertConfig, ModernBertModel

    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=32, local_attention=8, pad_token_id=1, bos_token_id=0, eos_token_id=2,
        cls_token_id=0, sep_token_id=2,
    )  # fmt: skip
    return ModernBertModel(config).eval()


@pytest.mark.parametrize("family", ["roberta", "modernbert"])
@pytest.mark.parametrize("layout", ["packed", "unpadded"])
def test_the_stand_in_for_flash_attention_is_stock(
    family: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compared against must compute what transformers computes."""
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", _slow_varlen)
    stock_flash.AttentionInterface.register(stock_flash.TORCH_VARLEN, stock_flash._varlen)
    encoder = build_encoder("small", 48) if family == "roberta" else _tiny_modernbert()
    rows = [[0, *range(5, 5 + n), 2] for n in (30, 11, 19)]
    how = {"packs": True} if layout == "packed" else {"unpads": True}
    flash = Variant("flash", None, bucketed=True, attention=stock_flash.TORCH_VARLEN, **how)
    contestants = [
        Contestant(variant, encoder, [rows], 3)
        for variant in (Variant("stock", None, bucketed=True), flash)
    ]
    hidden = [c.run(c.prepared[0][0]).last_hidden_state for c in contestants]
    mask = contestants[0].prepared[0][0]["attention_mask"].bool()
    found = hidden[1][0] if layout == "packed" else hidden[1][mask]
    torch.testing.assert_close(found, hidden[0][mask], atol=1e-5, rtol=0)


def test_flash_attention_is_absent_with_a_reason() -> None:
    for device, dtype, why in (
        ("cpu", torch.bfloat16, "needs a CUDA device"),
        ("cuda", torch.float32, "half precision"),
    ):
        name, reason = stock_flash.flash_implementation(torch.device(device), dtype)
        assert name is None
        assert why in reason


# --- aims -------------------------------------------------------------------------------------


def test_aims_are_met_missed_or_not_measured() -> None:
    def cell(name: str, **row: Any) -> dict[str, Any]:
        return {"cell": name, "variants": [{"variant": "packed, all", **row}]}

    sections = {
        "inference": {
            "cells": [
                cell("roberta-base, bfloat16, batch 32, functions", efficiency=0.96,
                     speedup_over_published_way_all={"value": 2.9}),
                cell("roberta-base, bfloat16, batch 1, functions",
                     time_ratio_to_own_unpruned={"value": 0.99}),
                {"cell": "roberta-base, bfloat16, batch 8, functions", "reason": "not reached"},
            ]
        },
        "energy": {"reason": "no counter"},
    }  # fmt: skip
    met = {row["aim"]: row["met"] for row in judged(sections)}
    assert len(met) == len(AIMS)
    assert met["efficiency at batch 32, layers all"] is True
    assert met["× the published way, batch 32"] is False
    assert met["latency at batch 1 ÷ unpruned, layers all"] is True
    assert met["efficiency at batch 8, layers all"] is None
    assert met["energy saved ÷ time saved, inference (gross)"] is None
