"""What every test may use: no network, one thread, a tiny model, the command line, the real data.

The environment is set before anything imports torch, transformers or Triton, which read it once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import click.testing
    from transformers import PreTrainedTokenizerFast, RobertaModel

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NO_COLOR"] = "1"
os.environ["COLUMNS"] = "160"  # Rich folds tables and help texts at the width of the terminal
os.environ["MPLBACKEND"] = "Agg"
# Without a GPU, tests of kernels run them through Triton's interpreter. Nothing else does: on a CPU
# kernels are not chosen.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Enough code for a tokenizer of a few hundred merges; several languages, as the tasks have.
TINY_CODE = (
    "static int read_frame(AVContext *s, int n) { if (n < 0) return -1; return s->size - n; }",
    "public static void copy(File from, File to) throws IOException { in.close(); out.close(); }",
    "def merge(left, right):\n    return [a for a in left if a not in right] + list(right)",
    "for (int i = 0; i < length; i++) { sum += buffer[i] * weight[i]; }",
    "class Node:\n    def __init__(self, value, children=None):\n        self.value = value",
)
TINY_VOCABULARY = 400
TINY_ROBERTA: dict[str, Any] = {
    "vocab_size": TINY_VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 130,
    "type_vocab_size": 1,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}


def _tiny_roberta(seed: int = 0, **overrides: Any) -> RobertaModel:
    """A seeded encoder in eval mode; leaves the caller's random state as it was."""
    import torch
    from transformers import RobertaConfig, RobertaModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RobertaModel(RobertaConfig(**TINY_ROBERTA | overrides)).eval()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Keep torch to one thread: test tensors are small, and xdist workers share the cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data and golden cases; tests that need it are skipped without it."""
    location = os.environ.get("ALPINE_SHARED")
    if not location:
        pytest.skip("ALPINE_SHARED is not set: it names the folder with the real data sets")
    path = Path(location).resolve()
    if not path.is_dir():
        pytest.fail(f"ALPINE_SHARED={location} is not a folder")
    return path


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with RoBERTa's special tokens (<s> 0, <pad> 1, </s> 2, <unk> 3).

    At most `TINY_VOCABULARY` entries; adds <s> and </s>; nothing is unknown to it.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY_VOCABULARY,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TINY_CODE, trainer)
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
        model_max_length=128,
    )


@pytest.fixture
def make_tiny_roberta() -> Callable[..., RobertaModel]:
    """Build seeded RoBERTa encoders in eval mode: 4 layers, 4 heads, hidden 32, 130 positions.

    Keyword arguments override fields of `RobertaConfig`; `seed` chooses the weights.
    """
    return _tiny_roberta


@pytest.fixture
def tiny_roberta() -> RobertaModel:
    """One fresh tiny encoder, the same weights in every test (pruning changes a model in place)."""
    return _tiny_roberta()


@pytest.fixture(scope="session")
def tiny_model_dir(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast
) -> Path:
    """A local transformers directory with a tiny encoder and its tokenizer, as `--model` takes."""
    directory = tmp_path_factory.mktemp("models") / "tiny-roberta"
    _tiny_roberta().save_pretrained(directory)
    tiny_tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture
def run_alpine() -> Callable[..., click.testing.Result]:
    """Run `alpine ARGS` in this process; the result has `exit_code`, `stdout` and `stderr`."""
    from typer.testing import CliRunner

    from alpine_cli.cli import app

    def run(*args: str | Path, **kwargs: Any) -> click.testing.Result:
        return CliRunner().invoke(app, [str(arg) for arg in args], **kwargs)

    return run


@pytest.fixture
def alpine_process(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `alpine ARGS` as a user does: in a process of its own, by default in an empty folder."""

    def run(
        *args: str | Path,
        cwd: Path = tmp_path,
        env: dict[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        command: Sequence[str] = [
            sys.executable,
            "-c",
            "import sys; from alpine_cli.cli import main; sys.exit(main())",
            *map(str, args),
        ]
        return subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | (env or {}),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
