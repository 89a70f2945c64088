"""Starting from a checkpoint, learning from a teacher: the loss, who is trained, resuming."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from alpine_cli.config import DistillConfig, RunConfig
from alpine_cli.errors import CheckpointError, ConfigError
from alpine_cli.files import sha256_of
from alpine_cli.models import build_model
from alpine_cli.pruning import PruningConfig, prune
from alpine_cli.result_files import read_result
from alpine_cli.tasks import encode, load_splits, make_loader, resolve_task
from alpine_cli.tasks.data import Sample
from alpine_cli.tasks.loading import Collator, model_inputs
from alpine_cli.training import finetune
from alpine_cli.training.distillation import Teacher, distillation_loss
from alpine_cli.training.start import Source, fields_of
from tests.training.test_resume import _assert_same, _final, _killed

MakeConfig = Callable[..., RunConfig]


def _softened(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(x / temperature) for x in logits]
    return [power / sum(powers) for power in powers]


def _by_hand(
    student: list[list[float]],
    teacher: list[list[float]],
    labels: list[int],
    weight: float,
    temperature: float,
) -> float:
    """Written out from the paper, sample by sample, in Python's floats."""
    total = 0.0
    for mine, theirs, label in zip(student, teacher, labels, strict=True):
        cross_entropy = -math.log(_softened(mine, 1.0)[label])
        p, q = _softened(theirs, temperature), _softened(mine, temperature)
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        total += (1 - weight) * cross_entropy + weight * temperature**2 * divergence
    return total / len(labels)


@settings(deadline=None, max_examples=50)
@given(
    logits=st.lists(st.tuples(*[st.floats(-8, 8) for _ in range(4)]), min_size=1, max_size=6),
    weight=st.floats(0, 1),
    temperature=st.floats(0.5, 10),
)
def test_the_loss_is_the_papers(
    logits: list[tuple[float, ...]], weight: float, temperature: float
) -> None:
    student = [list(row[:2]) for row in logits]
    teacher = [list(row[2:]) for row in logits]
    labels = [at % 2 for at in range(len(logits))]
    found = distillation_loss(
        torch.nn.functional.cross_entropy(torch.tensor(student), torch.tensor(labels)),
        torch.tensor(student),
        torch.tensor(teacher),
        weight=weight,
        temperature=temperature,
    )
    expected = _by_hand(student, teacher, labels, weight, temperature)
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_agreement_costs_nothing_and_gradients_reach_the_student_alone() -> None:
    student = torch.randn(4, 2, requires_grad=True)
    teacher = torch.randn(4, 2, requires_grad=True)
    labels = torch.nn.functional.cross_entropy(student, torch.tensor([0, 1, 1, 0]))
    distillation_loss(labels, student, teacher, weight=0.7, temperature=3.0).backward()
    assert teacher.grad is None
    assert student.grad is not None
    nothing = torch.zeros(())
    alike = distillation_loss(nothing, student, student, weight=1.0, temperature=2.0)
    assert alike.item() == pytest.approx(0.0, abs=1e-6)


@pytest.fixture
def trained(no_dropout_model: Path, defect_data: Path, tmp_path: Path) -> Path:
    """A checkpoint that prunes nothing, with an encoding of its own."""
    model, tokenizer, encoding = build_model(
        str(no_dropout_model),
        resolve_task("defect-detection"),
        seed=5,
        max_length=48,
        collapse_whitespace=False,
    )
    checkpoint = Checkpoint.from_model(
        model,
        tokenizer,
        encoding,
        pruning=PruningConfig().to_dict(),
        run_config={"data": str(defect_data)},
        model_name="tiny",
    )
    save_checkpoint(checkpoint, tmp_path / "first" / "ckpt.pt")
    return tmp_path / "first" / "ckpt.pt"


def _distilling(make_config: MakeConfig, start: Path, **options: Any) -> RunConfig:
    given = {"train__distill__weight": 0.7, "train__distill__temperature": 3.0, **options}
    return make_config(model=str(start), **given)


def test_the_same_as_a_plain_loop(make_config: MakeConfig, trained: Path) -> None:
    """Weights, head and encoding of the checkpoint; the teacher is the same, unpruned."""
    config = _distilling(
        make_config, trained, train__epochs=1, train__warmup=0.0, train__grad_accum=3
    )
    outcome = finetune(config)
    (state,) = (outcome.run_dir / "state").iterdir()
    found = torch.load(state / "weights.pt", weights_only=True)

    before = load_checkpoint(trained)
    student, tokenizer = before.build()
    teacher, _ = before.build()
    prune(student, config.prune)
    student.train()
    assert config.data is not None
    samples = load_splits(config.task, config.data).require("train").samples
    encoded = encode(samples, tokenizer, before.encoding_spec)
    loader = make_loader(
        encoded, 4, shuffle=True, group_by_length=True, seed=7, pad_id=tokenizer.pad_token_id
    )
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, eps=1e-8, weight_decay=0.0)
    for step, batch in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (7 - step) / 7
        optimizer.zero_grad()
        mine = student(batch["input_ids"], batch["attention_mask"]).logits
        with torch.no_grad():
            theirs = teacher(batch["input_ids"], batch["attention_mask"]).logits
        q = (mine / 3.0).log_softmax(-1)
        p = (theirs / 3.0).softmax(-1)
        loss = 0.3 * torch.nn.functional.cross_entropy(mine, batch["labels"])
        loss = loss + 0.7 * 9.0 * (p * (p.log() - q)).sum(-1).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
    for name, tensor in student.state_dict().items():
        torch.testing.assert_close(found[name], tensor, atol=3e-5, rtol=0)


def test_what_it_rests_on_is_told_everywhere(make_config: MakeConfig, trained: Path) -> None:
    outcome = finetune(_distilling(make_config, trained, train__epochs=1))
    source = {"checkpoint": "first/ckpt.pt", "sha256": sha256_of(trained)}
    expected = {
        "started_from": source,
        "distilled_from": {**source, "weight": 0.7, "temperature": 3.0},
    }
    checkpoint = load_checkpoint(outcome.checkpoint)
    assert checkpoint.provenance == expected
    assert checkpoint.model_name == "tiny"
    assert checkpoint.encoding == load_checkpoint(trained).encoding
    record = read_result(outcome.run_dir / "training.json")
    assert expected.items() <= record.settings.items()
    assert record.subject.model == "tiny"
    assert str(trained.parent) not in record.model_dump_json()
    description = record.variants["pruned"].description
    assert f"from first/ckpt.pt (sha256 {source['sha256'][:12]})" in description
    opening = json.loads((outcome.run_dir / "metrics.jsonl").read_text().splitlines()[0])
    assert expected.items() <= opening.items()


def test_the_teacher_neither_learns_nor_prunes(make_config: MakeConfig, trained: Path) -> None:
    config = _distilling(make_config, trained)
    student, tokenizer, encoding = build_model(
        str(trained), resolve_task(config.task), max_length=48
    )
    assert encoding.collapse_whitespace is False, "the checkpoint's own"
    teacher = Teacher.of(config, student, tokenizer, encoding)
    assert teacher is not None
    assert not teacher.model.training
    assert not any(p.requires_grad for p in teacher.model.parameters())
    plain, _ = load_checkpoint(trained).build()
    ids = torch.randint(4, 300, (3, 20))
    mask = torch.ones_like(ids)
    mine = student(ids, mask).logits
    read = {"input_ids": ids, "attention_mask": mask}
    found = teacher.loss(torch.zeros(()), mine, read)
    with torch.no_grad():
        theirs = plain(ids, mask).logits
    expected = distillation_loss(torch.zeros(()), mine, theirs, weight=0.7, temperature=3.0)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_teacher_reads_the_data_flow_that_the_student_reads(
    make_config: MakeConfig, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """Nodes under the graph's mask: without it they would be so many tokens of code."""
    pytest.importorskip("tree_sitter_c")
    model, tokenizer, encoding = build_model(
        str(tiny_model_dir), resolve_task("defect-detection"), max_length=48, data_flow="c"
    )
    path = tmp_path / "graph" / "ckpt.pt"
    save_checkpoint(Checkpoint.from_model(model.eval(), tokenizer, encoding), path)
    config = _distilling(make_config, path, data_flow="c")
    teacher = Teacher.of(config, model, tokenizer, encoding)
    assert teacher is not None
    code = ("int f(int a) { int b = a; return b; }",)
    encoded = encode([Sample(code, 1, "0")], tokenizer, encoding)
    batch = Collator(tokenizer.pad_token_id)([encoded[0]])
    read = model_inputs(batch, "cpu")
    assert read["graph_mask"] is not None
    found = teacher.loss(torch.zeros(()), torch.zeros(1, 2), read)
    with torch.no_grad():
        with_graph = model(**read).logits
        without = model(read["input_ids"], read["attention_mask"]).logits
    assert not torch.allclose(with_graph, without, atol=1e-5)
    expected = distillation_loss(
        torch.zeros(()), torch.zeros(1, 2), with_graph, weight=0.7, temperature=3.0
    )
    assert found.item() == pytest.approx(expected.item(), abs=1e-7)


def test_resuming_ends_with_the_same_bits(
    make_config: MakeConfig, trained: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """With dropout, a budget of tokens, accumulation, a start and a teacher."""
    start = tmp_path / "start" / "ckpt.pt"
    model, tokenizer, encoding = build_model(
        str(tiny_model_dir), resolve_task("defect-detection"), seed=5, max_length=48
    )
    save_checkpoint(Checkpoint.from_model(model, tokenizer, encoding), start)
    options = {"train__tokens_per_batch": 200, "train__batch_size": None, "train__grad_accum": 2}

    def config(name: str) -> RunConfig:
        return _distilling(make_config, start, output=str(tmp_path / name), **options)

    whole = finetune(config("whole")).run_dir
    _killed(config("killed"), None, "before step", 6)
    again = finetune(resume=tmp_path / "killed").run_dir
    _assert_same(_final(again), _final(whole))


def test_a_source_that_changed_is_noticed(
    make_config: MakeConfig, trained: Path, tmp_path: Path
) -> None:
    _killed(_distilling(make_config, trained, output=str(tmp_path / "run")), None, "before step", 3)
    changed = load_checkpoint(trained)
    changed.metrics = {"valid": {"accuracy": 0.5}}
    save_checkpoint(changed, trained)
    with pytest.raises(CheckpointError, match=r"not the file that the run was begun with"):
        finetune(resume=tmp_path / "run")


def test_a_start_is_not_overwritten(make_config: MakeConfig, trained: Path) -> None:
    before = trained.read_bytes()
    (trained.parent / "config.yaml").write_text("model: tiny\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="choose another directory"):
        finetune(make_config(model=str(trained), output=str(trained.parent)), force=True)
    assert trained.read_bytes() == before


def test_the_run_directory_is_called_after_the_start(make_config: MakeConfig) -> None:
    config = make_config(model="runs/codebert-x/ckpt.pt").model_copy(update={"output": None})
    assert config.run_dir() == Path("runs/codebert-x-then-even-seed7")


def test_fields_of_a_start(trained: Path, defect_data: Path) -> None:
    fields = fields_of(trained)
    assert fields["task"] == "defect-detection"
    assert fields["train.max_length"] == 48
    assert fields["data"] == str(defect_data)
    assert fields["prune.layers"] == "none"
    assert Source.of(trained).told()["checkpoint"] == "first/ckpt.pt"


def _other(trained: Path, **changes: Any) -> Path:
    path = trained.with_name("teacher.pt")
    save_checkpoint(replace(load_checkpoint(trained), **changes), path)
    return path


def test_teachers_that_do_not_fit(make_config: MakeConfig, trained: Path, tmp_path: Path) -> None:
    good = load_checkpoint(trained)
    tokenizer = {**good.tokenizer, "json": good.tokenizer["json"].replace("ret", "rex")}
    assert tokenizer != good.tokenizer
    weights = dict(good.weights)
    classes = next(name for name in weights if name.endswith("out_proj.weight"))
    weights[classes] = torch.zeros(3, *weights[classes].shape[1:])
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"task": "clone-detection"}, ConfigError, "is for clone-detection, the run for defect"),
        ({"tokenizer": tokenizer}, ConfigError, "another tokenizer"),
        ({"encoding": good.encoding | {"mode_prefix": True}}, ConfigError, "mode_prefix True"),
        ({"weights": weights}, CheckpointError, r"teacher\.pt: .* of another shape"),
    ]
    for changes, error, message in cases:
        teacher = _other(trained, **changes)
        with pytest.raises(error, match=message):
            finetune(_distilling(make_config, trained, train__distill__teacher=str(teacher)))
    missing = str(tmp_path / "lost.pt")
    with pytest.raises(CheckpointError, match="no such file"):
        finetune(_distilling(make_config, trained, train__distill__teacher=missing))
    assert not (tmp_path / "run").exists()


def test_a_run_from_no_checkpoint_must_name_its_teacher(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="give --distill-from FILE, or start with --from FILE"):
        finetune(make_config(train__distill__weight=0.5))


def test_defaults_are_told() -> None:
    assert DistillConfig().model_dump() == {"teacher": None, "weight": 0.5, "temperature": 2.0}


def test_old_checkpoints_without_provenance_are_read(trained: Path, tmp_path: Path) -> None:
    payload = torch.load(trained, weights_only=True)
    del payload["provenance"]
    torch.save(payload, tmp_path / "old.pt")
    assert load_checkpoint(tmp_path / "old.pt").provenance == {}
