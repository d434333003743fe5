"""What one number per target leaves out: scores of each class, confusions, and calibration by bins."""

# N = rows, C = classes, S = seeds, R = resamples, B = bins of the largest probability

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .metrics import BINS
from .predictions import Tested
from .significance import Resampling, interval

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
    keys = [(number, prior) for number in range(len(runs)) for prior in priors]
    terms = [_terms(runs[number], target, prior) for number, prior in keys]
    width = terms[0].shape[1]
    sums_RK, _ = resampling.sums(np.concatenate(terms, axis=1))
    found = []
    for method in dict.fromkeys(run.method for run in runs):
        own = [number for number, run in enumerate(runs) if run.method == method]
        shares_RS = resampling.seed_shares([runs[number].seed for number in own])
        for prior in priors:
            places = [keys.index((number, prior)) for number in own]
            observed_SK = np.stack([terms[place].sum(axis=0) for place in places])
            resampled = np.stack([sums_RK[:, place * width : (place + 1) * width] for place in places], axis=1)
            labels = task.labels
            confusion_SCC = observed_SK[:, : len(labels) ** 2].reshape(-1, len(labels), len(labels))
            resampled_RSCC = resampled[:, :, : len(labels) ** 2].reshape(-1, len(own), len(labels), len(labels))
            found.append(
                Details(
                    task.name, setting, method, target, prior,
                    _classes(labels, confusion_SCC, resampled_RSCC, shares_RS),
                    confusion_SCC.mean(axis=0).tolist(),
                    _bins(observed_SK[:, len(labels) ** 2 :], resampled[:, :, len(labels) ** 2 :], shares_RS),
                )
            )  # fmt: skip
    return found


def _terms(run: Tested, target: str, prior: str) -> np.ndarray:
    """What each row adds to: the confusion matrix, then each bin's rows, confidences and right answers."""
    predictions, count = run.by_target[target], len(run.task.labels)
    probs_NC = run.probs(target, prior)
    best_N, confidence_N = probs_NC.argmax(axis=1), probs_NC.max(axis=1)
    cell_N = predictions.label_N * count + best_N
    bin_N = np.clip(np.ceil(confidence_N * BINS).astype(np.int64) - 1, 0, BINS - 1)
    in_bin_NB = np.eye(BINS)[bin_N]
    right_N = best_N == predictions.label_N
    return np.concatenate(
        [np.eye(count * count)[cell_N], in_bin_NB, in_bin_NB * confidence_N[:, None], in_bin_NB * right_N[:, None]],
        axis=1,
    )


def _classes(
    labels: Sequence[str], confusion_SCC: np.ndarray, resampled_RSCC: np.ndarray, shares_RS: np.ndarray
) -> list[ClassScore]:
    observed, resampled = _scores(confusion_SCC), _scores(resampled_RSCC)

    def estimate(name: str, number: int) -> Estimate:
        ends = interval((shares_RS * resampled[name][..., number]).sum(axis=1))
        return Estimate(float(observed[name][:, number].mean()), ends.low, ends.high)

    return [
        ClassScore(
            label,
            int(confusion_SCC[0, number].sum()),
            float(confusion_SCC[:, :, number].sum(axis=1).mean()),
            estimate("precision", number),
            estimate("recall", number),
            estimate("f1", number),
        )
        for number, label in enumerate(labels)
    ]


def _scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of confusion matrices in the last two axes; shape (..., C) each."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
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
