"""Class shares side by side: of gold, selection, predictions and target."""

# C = classes

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.markup import inline
from .predictions import Tested


def class_shares(tested: Sequence[Tested]) -> list[dict[str, Any]]:
    """What each run learned from and what it predicted, class by class.

    Returns:
        For each run and target: `task`, `setting`, `method`, `seed`, `target`, and four lists of shares in the task's
        order, each None where it is not recorded: `gold` and `selection` (training rows), `predictions` (most likely
        classes), `labels` (the target's own).
    """
    return [
        {
            "task": run.task.name,
            "setting": run.setting,
            "method": run.method,
            "seed": run.seed,
            "target": target,
            "gold": _shares(run.gold_counts),
            "selection": _shares(run.synthetic_counts),
            "predictions": _shares(_counts(predictions.probs_NC.argmax(axis=1), run)),
            "labels": _shares(_counts(predictions.label_N, run)),
        }
        for run in tested
        for target, predictions in run.by_target.items()
    ]


def share_lines(shares: Sequence[Mapping[str, Any]], labels: Mapping[str, Sequence[str]]) -> list[str]:
    """The shares as Markdown: a table for each task, setting and target; means over the seeds of a method, in percent.

    Args:
        shares: As from `class_shares`.
        labels: Task -> labels.
    """
    lines: list[str] = []
    for key in dict.fromkeys((one["task"], one["setting"], one["target"]) for one in shares):
        task, setting, target = key
        group = [one for one in shares if (one["task"], one["setting"], one["target"]) == key]
        names = " / ".join(map(inline, labels[task]))
        lines += [
            "", f"## {inline(task)}, {inline(setting)}: class shares on {inline(target)}", "",
            f"In percent, {names}. The target's own: {_percent([group[0]['labels']])}.", "",
            "| method | gold | selection | predictions |", "|---|---|---|---|",
        ]  # fmt: skip
        for method in dict.fromkeys(one["method"] for one in group):
            own = [one for one in group if one["method"] == method]
            cells = [_percent([one[name] for one in own]) for name in ("gold", "selection", "predictions")]
            lines.append(f"| {inline(method)} | {' | '.join(cells)} |")
    return lines


def _counts(numbers_N: np.ndarray, run: Tested) -> list[int]:
    counts: list[int] = np.bincount(numbers_N, minlength=len(run.task.labels)).tolist()
    return counts


def _shares(counts: Sequence[int] | None) -> list[float] | None:
    return None if counts is None or not sum(counts) else [count / sum(counts) for count in counts]


def _percent(shares: Sequence[Sequence[float] | None]) -> str:
    known = [one for one in shares if one is not None]
    return " / ".join(f"{100 * share:.0f}" for share in np.mean(known, axis=0)) if known else ""
