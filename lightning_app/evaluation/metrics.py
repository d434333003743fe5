"""Metrics of written predictions. `test` logs these and `report` shows them, so the two cannot disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from ..calibration.abstention import area_under_risk_coverage, conformal_sets
from ..calibration.temperature import without_temperature
from ..core.task import Task

K = TypeVar("K")

# N = rows, C = classes

BINS = 15


@dataclass(frozen=True)
class Metric:
    """A metric that a report can show; `classification_metrics` computes it, `bootstrap.statistic` resamples it.

    Args:
        title: What tables call it.
        higher_is_better: Whether a gain is a larger number.
        of_probabilities: Whether it judges probabilities, which an LLM's labels do not have.
        scale: What a value is multiplied with before it is shown: 100 for a share in percent.
        digits: Decimals shown.
        unit: Of a value that is shown.
        difference_unit: Of a difference.
    """

    title: str
    higher_is_better: bool = True
    of_probabilities: bool = False
    scale: float = 100
    digits: int = 1
    unit: str = "percent"
    difference_unit: str = "points"

    def shown(self, value: float, sign: str = "") -> str:
        """A value as tables show it; with `+` as sign a difference."""
        return f"{self.scale * value:{sign}.{self.digits}f}"

    def ranks(self, values: Mapping[K, float]) -> dict[K, int]:
        """The rank of each value, the best first; values that are equal to six digits share one."""
        order = sorted({round(value, 6) for value in values.values()}, reverse=self.higher_is_better)
        return {key: order.index(round(value, 6)) for key, value in values.items()}


METRICS = {
    "accuracy": Metric("accuracy"),
    "macro_f1": Metric("macro-F1"),
    "ece": Metric("calibration error", higher_is_better=False, of_probabilities=True),
    "ce": Metric(
        "cross-entropy", higher_is_better=False, of_probabilities=True, scale=1, digits=3, unit="nats",
        difference_unit="nats",
    ),
}  # fmt: skip


def target_metrics(table: pa.Table, task: Task) -> dict[str, dict[str, float]]:
    """Metrics of each target in a predictions table.

    Args:
        table: Columns `target`, `label`, `probs` (task's label order); one row a target row.
        task: The task.

    Returns:
        Target -> metric -> value, targets in order of first appearance; see `classification_metrics`.
    """
    targets = np.asarray(table["target"].to_pylist())
    numbers = {label: number for number, label in enumerate(task.labels)}
    label_N = np.array([numbers[label] for label in table["label"].to_pylist()])
    probs_NC = np.asarray(table["probs"].to_pylist(), dtype=np.float64)
    return {
        name: classification_metrics(label_N[targets == name], probs_NC[targets == name])
        for name in dict.fromkeys(targets.tolist())
    }


def classification_metrics(label_N: np.ndarray, probs_NC: np.ndarray) -> dict[str, float]:
    """Accuracy, macro-F1, calibration error and cross-entropy of one set of rows.

    `macro_f1` averages over the classes that occur among labels or predictions. `ece` is the expected calibration error
    over 15 equal bins of the largest probability (Guo et al., arXiv 1706.04599); `aurc` the mean error rate over all
    coverages, see `calibration.abstention`. All are shares from 0 to 1; `ce` is in nats, with probabilities clipped at
    1e-12.

    Args:
        label_N: Gold label numbers.
        probs_NC: Predicted probabilities.
    """
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_f1_score

    labels, probs = torch.from_numpy(np.asarray(label_N)), torch.from_numpy(np.asarray(probs_NC))
    n_classes = probs.shape[1]
    own_N = probs[torch.arange(len(labels)), labels]
    return {
        "rows": float(len(labels)),
        "accuracy": float((probs.argmax(dim=1) == labels).double().mean()),  # torchmetrics would round to float32
        "macro_f1": float(multiclass_f1_score(probs, labels, n_classes, average="macro")),
        "ece": float(multiclass_calibration_error(probs, labels, n_classes, n_bins=BINS)),
        "ce": float(-own_N.clamp_min(1e-12).log().mean()),
        "aurc": area_under_risk_coverage(probs.numpy(), labels.numpy()),
    }


def head_metrics(table: pa.Table, task: Task, facts: Mapping[str, Any], column: str) -> dict[str, dict[str, float]]:
    """What a model's card makes it possible to say of its predictions.

    Args:
        table: As for `target_metrics`.
        task: The task.
        facts: What the model's `labelbridge.json` holds.
        column: The column of the model's own probabilities.

    Returns:
        Target -> with `conformal`, how often the sets hold the true label and how many labels they hold
        (`conformal_coverage`, `conformal_size`); with `temperature`, the calibration error that the same model has
        without it (`ece_without_temperature`). Nothing where the model was trained for other labels.
    """
    if set(facts.get("task", {}).get("labels", [])) != set(task.labels):
        return {}
    numbers = {label: number for number, label in enumerate(task.labels)}
    label_N = np.array([numbers[label] for label in table["label"].to_pylist()])
    probs_NC = np.asarray(table[column].to_pylist(), dtype=np.float64)
    targets = np.asarray(table["target"].to_pylist())
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(targets.tolist()):
        rows = np.flatnonzero(targets == name)
        own = found.setdefault(name, {})
        if (conformal := facts.get("conformal")) is not None:
            sets_NC = conformal_sets(probs_NC[rows], conformal["threshold"])
            own["conformal_coverage"] = float(sets_NC[np.arange(len(rows)), label_N[rows]].mean())
            own["conformal_size"] = float(sets_NC.sum(axis=1).mean())
        if facts.get("temperature") is not None:
            cold_NC = without_temperature(probs_NC[rows], facts["temperature"], _shift(facts, task))
            own["ece_without_temperature"] = classification_metrics(label_N[rows], cold_NC)["ece"]
    return found


def _shift(facts: Mapping[str, Any], task: Task) -> np.ndarray:
    """What the exported head adds to its logits after the temperature, log(target prior / source prior)."""
    prior = facts.get("label_prior", {})
    if "source" not in prior:
        return np.zeros(len(task.labels))
    shares = [np.array([prior[name][label] for label in task.labels]) for name in ("target", "source")]
    shift_C: np.ndarray = np.log(shares[0] / shares[1])
    return shift_C


def majority_metrics(label_N: np.ndarray, n_classes: int) -> dict[str, float]:
    """Accuracy and macro-F1 of always answering the most frequent label; of equally frequent ones the first.

    Args:
        label_N: Gold label numbers.
        n_classes: C.

    Returns:
        `label` (its number), `accuracy`, `macro_f1`.
    """
    most = int(np.bincount(label_N, minlength=n_classes).argmax())
    constant_NC = np.tile(np.eye(n_classes)[most], (len(label_N), 1))
    metrics = classification_metrics(label_N, constant_NC)
    return {"label": most, "accuracy": metrics["accuracy"], "macro_f1": metrics["macro_f1"]}


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1) over seeds; no deviation for a single value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
