"""Why a figure of ours and the published one beside it cannot be compared as they stand.

Each difference is one plain sentence about named columns. A table numbers the sentences and puts
the numbers into its rows, so that no row hides what it differs in.
"""

from __future__ import annotations

from alpine_cli.report.batches import batches_of
from alpine_cli.report.paper_runs import PAPER_SAMPLES, Run

__all__ = ["Marks", "cost_differences", "length_differences", "run_differences", "same_weights"]

PAPER_SEED = 123456
PAPER_LIMIT = 512


class Marks:
    """Numbers for sentences, in the order in which rows first need them."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, sentences: list[str]) -> str:
        """ "[1] [3]" for the sentences of a row."""
        numbers = {self._numbers.setdefault(text, len(self._numbers) + 1) for text in sentences}
        return " ".join(f"[{number}]" for number in sorted(numbers))

    def notes(self) -> list[str]:
        """The numbered sentences."""
        return [f"[{number}] {text}." for text, number in self._numbers.items()]


def run_differences(run: Run) -> list[str]:
    """What holds for score and multiply-adds alike: samples, seed, weights, protection, limit."""
    subject = run.result.subject
    found: list[str] = []
    unit = "functions" if run.task == "defect-detection" else "pairs"
    if not run.in_paper:
        return found  # nothing published stands beside it
    if subject.split != "test":
        found.append(f"Measured on the {subject.split} split, published on the test split")
    elif run.task == "clone-detection":
        found.append(
            f"Measured on {subject.samples:,} test pairs, published on another"
            f" {PAPER_SAMPLES[run.task]:,} drawn at random"
        )
    elif subject.samples != PAPER_SAMPLES.get(run.task):
        found.append(
            f"Measured on {subject.samples:,} of the {PAPER_SAMPLES[run.task]:,} test {unit}"
        )
    seed = run.training_seed
    if run.seeds is not None:
        seeds = ", ".join(map(str, run.seeds.by_seed))
        found.append(f"Mean over fine-tuning seeds {seeds}, published seed {PAPER_SEED} alone")
    elif seed is None:
        found.append(f"The seed of our fine-tuning is not known, published seed {PAPER_SEED}")
    elif seed != PAPER_SEED:
        found.append(f"Fine-tuned with seed {seed}, published with seed {PAPER_SEED}")
    if run.prunes and run.protect != "ends":
        found.append(
            "Ours keeps the input's own first and last token (protect special), the published code"
            " the ends of the current sequence"
        )
    if same_weights(run):
        found.append(
            "Pruned and unpruned ran on the same weights, so one of the two was not fine-tuned as"
            " it is run; the paper fine-tuned each"
        )
    limit = run.result.settings.get("max_length")
    if limit is None:
        found.append(
            f"The length limit of our run is not recorded in its result, published {PAPER_LIMIT}"
            " tokens"
        )
    elif limit != PAPER_LIMIT:
        found.append(f"Cut at {limit} tokens, published at {PAPER_LIMIT}")
    return found


def same_weights(run: Run) -> bool:
    """Whether a pruned run and its unpruned one share a checkpoint."""
    if not run.prunes or run.unpruned is None:
        return False
    variants = run.result.variants
    return (
        variants[run.variant].checkpoint_sha256 == variants[run.unpruned.variant].checkpoint_sha256
    )


def cost_differences(macs: Run | None, throughput: Run | None) -> list[str]:
    """What holds for multiply-adds or for speed alone, of the runs that gave them."""
    found = []
    if macs is not None and macs.in_paper:
        size = batches_of(macs.result.settings, "flops_") or 1
        published = (
            "of functions padded to 512 tokens, in batches of 8"
            if macs.task == "clone-detection"
            else "of functions padded to the longest of their batch, its size uncertain"
        )
        found.append(
            f"GMACs: ours at batch size {size} and the lengths as they are, published {published}"
        )
    if throughput is not None and throughput.in_paper:
        batches = batches_of(throughput.result.settings) or "?"
        found.append(
            f"Speed: ours on {throughput.machine}, batch size {batches},"
            " tokenisation left out; published on a machine not named, tokenisation included."
            " Factors compare better than rates"
        )
    return found


def length_differences(run: Run) -> list[str]:
    """What holds for curves of lengths."""
    if not run.in_paper:
        return []
    return [
        "Lengths: ours are those of single functions, published ones are padded to the longest of"
        " each batch of 8"
    ]
