"""The tasks alpine knows, and what each one asks of data, model and metric.

A task is described by a `TaskSpec`: how many functions one sample holds, which heads fit, which
metric picks the best checkpoint. Everything else (layouts, encoding, heads) reads the spec, so a
new task is one entry here plus, if it needs them, a layout and a head. Standard library only.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from alpine_cli.errors import ConfigError

__all__ = ["TASKS", "TaskSpec", "resolve_task"]


@dataclass(frozen=True)
class TaskSpec:
    """What a task is.

    Attributes:
        name: CodeXGLUE's name of the task.
        summary: one sentence for help texts.
        functions_per_sample: 1, or 2 where a sample is a pair of functions.
        label_names: names of labels 0 and 1, in that order.
        language: of the benchmark's functions; one's own data may be in another.
        metric: the metric that picks the best checkpoint on the validation split.
        heads: heads that fit, the default first.
        aliases: other accepted names.
    """

    name: str
    summary: str
    functions_per_sample: int
    label_names: tuple[str, str]
    language: str
    metric: str
    heads: tuple[str, ...]
    aliases: tuple[str, ...] = ()

    @property
    def num_labels(self) -> int:
        """Number of classes."""
        return len(self.label_names)

    @property
    def default_head(self) -> str:
        """The head used when none is asked for."""
        return self.heads[0]


TASKS: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        TaskSpec(
            name="defect-detection",
            summary="Is this function defective? (Devign)",
            functions_per_sample=1,
            label_names=("sound", "defective"),
            language="c",
            metric="accuracy",
            heads=("alpine", "standard"),
            aliases=("defect_pred", "defect-prediction", "defect_detection"),
        ),
        TaskSpec(
            name="clone-detection",
            summary="Do these two functions do the same? (BigCloneBench)",
            functions_per_sample=2,
            label_names=("different", "clone"),
            language="java",
            metric="f1",
            heads=("alpine",),
            aliases=("code_clone", "code-clone", "clone_detection"),
        ),
    )
}


def resolve_task(name: str) -> TaskSpec:
    """Find a task by its name or one of its aliases.

    Raises:
        ConfigError: no task has that name; the message offers the nearest and lists all.
    """
    for spec in TASKS.values():
        if name == spec.name or name in spec.aliases:
            return spec
    known = [alias for spec in TASKS.values() for alias in (spec.name, *spec.aliases)]
    nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    # An alias may be the nearest spelling, but the answer always names the task itself.
    hint = f": did you mean {resolve_task(nearest[0]).name!r}?" if nearest else "."
    raise ConfigError(f"unknown task {name!r}{hint} Known tasks: {', '.join(TASKS)}")
