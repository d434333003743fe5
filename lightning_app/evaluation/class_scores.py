"""What one number per target leaves out: scores of each class, confusions, and calibration by bins."""

# N = rows, C = classes, S = seeds, R = resamples, B = bins of the largest probability

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bootstrap import Resampling, interval
from .metrics import BINS
from .predictions import Tested

RESAMPLES = 2_000


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its 95 % interval over rows and seeds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassScore:
    """One class; precision, recall and F1 are 0 where nothing was predicted as it, or nothing is of it.

    Args:
        label: The class.
        rows: Target rows of this class.
        predicted: Rows predicted as it, mean over seeds.
        precision: Share of the predicted rows that are of the class.
        recall: Share of the class's rows that are predicted as it.
        f1: Their harmonic mean.
    """

    label: str
    rows: int
    predicted: float
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True)
class Bin:
    """Rows whose largest probability lies in one of 15 equal bins.

    Args:
        rows: Their number, mean over seeds.
        confidence: Mean of their largest probability.
        accuracy: Share of them that is right.
    """

    rows: float
    confidence: float
    accuracy: Estimate


@dataclass(frozen=True)
class Details:
    """One method on one target in detail.

    Args:
        task: The task's name.
        setting: The setting's name.
        method: The method's name.
        target: The target's name.
        prior: `as_trained` or `divided`.
        classes: The classes, in the task's order.
        confusion: Rows by true (outer) and predicted class, mean over seeds.
        bins: The bins that hold rows, from the lowest probability to the highest.
    """

    task: str
    setting: str
    method: str
    target: str
    prior: str
    classes: list[ClassScore]
    confusion: list[list[float]]
    bins: list[Bin]


def details_of(
    runs: Sequence[Tested], target: str, priors: Sequence[str], groups: Sequence[str] | None
) -> list[Details]:
    """Every method on one target.

    Args:
        runs: Runs of one task and setting that were tested on the target.
        target: The target's name.
        priors: `as_trained`, `divided`, or both.
        groups: Each row's group, drawn together; None where every row stands for itself.
    """
    task, setting = runs[0].task, runs[0].setting
    resampling = Resampling(
        len(runs[0].by_target[target].ids), [run.seed for run in runs], resamples=RESAMPLES, groups=groups
    )
    found = []
    for method in dict.fromkeys(run.method for run in runs):
        own = [run for run in runs if run.method == method]
        shares_RS = resampling.seed_shares([run.seed for run in own])
        for prior in priors:
            # One method at a time: the terms of all would take gigabytes. Every call draws the same rows.
            terms = [_terms(run, target, prior) for run in own]
            sums_RK, _ = resampling.sums(np.concatenate(terms, axis=1))
            observed_SK = np.stack([terms_NK.sum(axis=0) for terms_NK in terms])
            resampled = sums_RK.reshape(len(sums_RK), len(own), -1)
            width = 3 * len(task.labels)
            confusion_SCC = np.stack([_confusion(run, target, prior) for run in own])
            found.append(
                Details(
                    task.name, setting, method, target, prior,
                    _classes(task.labels, observed_SK[:, :width], resampled[:, :, :width], shares_RS),
                    confusion_SCC.mean(axis=0).tolist(),
                    _bins(observed_SK[:, width:], resampled[:, :, width:], shares_RS),
                )
            )  # fmt: skip
    return found


def _terms(run: Tested, target: str, prior: str) -> np.ndarray:
    """What each row adds to: right, true and predicted rows by class, then each bin's rows, confidences and hits."""
    predictions, one_hot_CC = run.by_target[target], np.eye(len(run.task.labels))
    probs_NC = run.probs(target, prior)
    best_N, confidence_N = probs_NC.argmax(axis=1), probs_NC.max(axis=1)
    right_N = best_N == predictions.label_N
    true_NC = one_hot_CC[predictions.label_N]
    bin_N = np.clip(np.ceil(confidence_N * BINS).astype(np.int64) - 1, 0, BINS - 1)
    in_bin_NB = np.eye(BINS)[bin_N]
    by_class = [true_NC * right_N[:, None], true_NC, one_hot_CC[best_N]]
    return np.concatenate(
        [*by_class, in_bin_NB, in_bin_NB * confidence_N[:, None], in_bin_NB * right_N[:, None]], axis=1
    )


def _confusion(run: Tested, target: str, prior: str) -> np.ndarray:
    """Rows by true and predicted class."""
    count = len(run.task.labels)
    cell_N = run.by_target[target].label_N * count + run.probs(target, prior).argmax(axis=1)
    return np.bincount(cell_N, minlength=count * count).reshape(count, count)


def _classes(
    labels: Sequence[str], observed_SK: np.ndarray, resampled_RSK: np.ndarray, shares_RS: np.ndarray
) -> list[ClassScore]:
    observed, resampled = _scores(observed_SK), _scores(resampled_RSK)
    _, true_SC, predicted_SC = np.split(observed_SK, 3, axis=1)

    def estimate(name: str, number: int) -> Estimate:
        ends = interval((shares_RS * resampled[name][..., number]).sum(axis=1))
        return Estimate(float(observed[name][:, number].mean()), ends.low, ends.high)

    return [
        ClassScore(
            label,
            int(true_SC[0, number]),
            float(predicted_SC[:, number].mean()),
            estimate("precision", number),
            estimate("recall", number),
            estimate("f1", number),
        )
        for number, label in enumerate(labels)
    ]


def _scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of right, true and predicted rows, one after the other in the last axis; shape (..., C) each."""
    right, true, predicted = np.split(sums, 3, axis=-1)
    return {
        "precision": right / np.maximum(predicted, 1),
        "recall": right / np.maximum(true, 1),
        "f1": 2 * right / np.maximum(true + predicted, 1),
    }


def _bins(observed_SK: np.ndarray, resampled_RSK: np.ndarray, shares_RS: np.ndarray) -> list[Bin]:
    rows_B, confidence_B, right_B = np.split(observed_SK.sum(axis=0), 3)
    # All seeds' rows of a bin together: a seed without rows in it has no accuracy there.
    drawn_R3B = (shares_RS[:, :, None] * resampled_RSK).sum(axis=1).reshape(len(shares_RS), 3, -1)
    bins = []
    for number in np.flatnonzero(rows_B):
        rows_R, right_R = drawn_R3B[:, 0, number], drawn_R3B[:, 2, number]
        ends = interval(right_R[rows_R > 0] / rows_R[rows_R > 0])
        accuracy = Estimate(float(right_B[number] / rows_B[number]), ends.low, ends.high)
        bins.append(
            Bin(float(rows_B[number] / len(observed_SK)), float(confidence_B[number] / rows_B[number]), accuracy)
        )
    return bins


def flat(details: Details) -> list[dict[str, Any]]:
    """The classes of one method and target as rows of a table."""
    return [
        {
            "task": details.task, "setting": details.setting, "method": details.method, "target": details.target,
            "prior": details.prior, "label": score.label, "rows": score.rows, "predicted": score.predicted,
            **{
                f"{name}{end}": getattr(getattr(score, name), attribute)
                for name in ("precision", "recall", "f1")
                for end, attribute in (("", "mean"), ("_low", "low"), ("_high", "high"))
            },
        }
        for score in details.classes
    ]  # fmt: skip
