"""Metrics of written predictions. `test` logs these and `report` shows them, so the two cannot disagree."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ..calibration.abstention import area_under_risk_coverage, conformal_sets
from ..core.task import Task

# N = rows, C = classes

BINS = 15
# What `classification_metrics` gives and a report can show; `significance.statistic` resamples each.
NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "ece": "calibration error",
    "ce": "cross-entropy",
}


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


def conformal_metrics(table: pa.Table, task: Task, threshold: float) -> dict[str, dict[str, float]]:
    """How often a target's conformal sets hold the true label, and how many labels they hold.

    Args:
        table: As for `target_metrics`.
        task: The task.
        threshold: The least probability of a label in a set, calibrated on the source dev set.

    Returns:
        Target -> `conformal_coverage`, `conformal_size`.
    """
    numbers = {label: number for number, label in enumerate(task.labels)}
    label_N = np.array([numbers[label] for label in table["label"].to_pylist()])
    sets_NC = conformal_sets(np.asarray(table["probs"].to_pylist(), dtype=np.float64), threshold)
    targets = np.asarray(table["target"].to_pylist())
    return {
        name: {
            "conformal_coverage": float(sets_NC[rows, label_N[rows]].mean()),
            "conformal_size": float(sets_NC[rows].sum(axis=1).mean()),
        }
        for name in dict.fromkeys(targets.tolist())
        for rows in [np.flatnonzero(targets == name)]
    }


def divide_prior(probs_NC: np.ndarray, prior_C: np.ndarray) -> np.ndarray:
    """Probabilities as under equally frequent classes: p / prior, renormalised.

    A classifier trained on classes with the shares `prior` gives posteriors under that prior. Under new shares q they
    are proportional to `p * q / prior` (Saerens, Latinne and Decaestecker, 2002, Neural Computation 14(1), eq. 2.4);
    here q is uniform, so it cancels. No target label is used.

    Args:
        probs_NC: Predicted probabilities.
        prior_C: Class shares or counts of the training rows, all above 0.
    """
    divided_NC: np.ndarray = np.asarray(probs_NC, dtype=np.float64) / np.asarray(prior_C, dtype=np.float64)
    renormalised_NC: np.ndarray = divided_NC / divided_NC.sum(axis=1, keepdims=True)
    return renormalised_NC


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
