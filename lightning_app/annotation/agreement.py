"""How far annotators agree with prompt labels and teacher, and with each other."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.packages import require
from ..core.task import Task
from .sheets import Answers


def alignment(answers: Answers, labels: Mapping[str, str | None], task: Task) -> dict[str, Any]:
    """How often an annotator's label is the one that is already there.

    Args:
        answers: The annotator's.
        labels: Row id -> prompt label, or the teacher's class; None where there is none.
        task: The task.

    Returns:
        `rows` that have both labels, the `share` of them that agree and its 95 % Wilson interval `low` to `high` (all
        None without rows), and `by_label`: the same counts for each label that was there.
    """
    from scipy.stats import binomtest

    pairs = [
        (own, label)
        for row, own in answers.labels.items()
        if own is not None and (label := labels.get(row)) is not None
    ]
    agreeing = sum(own == label for own, label in pairs)
    ends = binomtest(agreeing, len(pairs)).proportion_ci(method="wilson") if pairs else None
    return {
        "rows": len(pairs),
        "share": agreeing / len(pairs) if pairs else None,
        "low": None if ends is None else float(ends.low),
        "high": None if ends is None else float(ends.high),
        "by_label": {
            label: {
                "rows": sum(there == label for _, there in pairs),
                "agreeing": sum(own == there == label for own, there in pairs),
            }
            for label in task.labels
        },
    }


def between(answers: Sequence[Answers], task: Task) -> dict[str, Any] | None:
    """Agreement of the annotators with each other: Cohen's kappa for two, Krippendorff's alpha for more.

    Returns:
        `measure`, its `value` (None where everyone gave one and the same label, which leaves it undefined), the `rows`
        that two annotators at least gave a label, and the `share` of them with one label; None without such rows.
    """
    given: dict[str, dict[str, str]] = {}
    for one in answers:
        for row, label in one.labels.items():
            if label is not None:
                given.setdefault(row, {})[one.name] = label
    shared = {row: labels for row, labels in given.items() if len(labels) > 1}
    if not shared:
        return None
    used = {label for labels in shared.values() for label in labels.values()}
    measure = "Cohen's kappa" if len(answers) == 2 else "Krippendorff's alpha"
    value = None
    if len(used) > 1:
        value = _kappa(list(shared.values()), answers, task) if len(answers) == 2 else _alpha(shared)
    agreeing = sum(len(set(labels.values())) == 1 for labels in shared.values())
    return {"measure": measure, "value": value, "rows": len(shared), "share": agreeing / len(shared)}


def majority(labels: Sequence[str | None]) -> str | None:
    """The label that more annotators gave than any other; None if there is none."""
    counts = Counter(label for label in labels if label is not None).most_common(2)
    if not counts or (len(counts) == 2 and counts[0][1] == counts[1][1]):
        return None
    return counts[0][0]


def _kappa(shared: Sequence[Mapping[str, str]], answers: Sequence[Answers], task: Task) -> float:
    import torch
    from torchmetrics.functional.classification import multiclass_cohen_kappa

    first, second = (torch.tensor([task.labels.index(labels[one.name]) for labels in shared]) for one in answers)
    return float(multiclass_cohen_kappa(first, second, num_classes=len(task.labels)))


def _alpha(shared: Mapping[str, Mapping[str, str]]) -> float:
    agreement = require("nltk.metrics.agreement", "selection", "Krippendorff's alpha")
    triples = [(name, row, label) for row, labels in shared.items() for name, label in labels.items()]
    return float(agreement.AnnotationTask(data=triples).alpha())
