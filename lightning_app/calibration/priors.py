"""Label priors: given, divided out of probabilities, and estimated on unlabelled text."""

# N = rows, C = classes

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError
from ..core.task import Task

UNIFORM = "uniform"
COLLAPSED_SHARE = 0.01  # an estimated share below this deserves a warning
MAX_ITERATIONS = 10_000
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Estimate:
    """A label prior that was estimated on unlabelled rows.

    Args:
        prior_C: Class shares.
        iterations: Steps until they settled; 0 for a closed form.
        warning: What makes the estimate doubtful, or None.
    """

    prior_C: np.ndarray
    iterations: int
    warning: str | None


def prior_vector(prior: str | Mapping[str, float], task: Task, place: str) -> np.ndarray:
    """Class shares in the task's order, from `uniform` or a map of shares or counts; float64 of shape (C,).

    Args:
        prior: `uniform`, or label -> share or count; shares are normalised.
        task: The task.
        place: The setting's name, for errors.

    Raises:
        InputError: If the prior is neither, names another label, or leaves a class without a share.
    """
    if isinstance(prior, str):
        if prior != UNIFORM:
            raise InputError(f"{place} is '{prior}', expected '{UNIFORM}' or a share for each of {task.labels}")
        return np.full(len(task.labels), 1 / len(task.labels))
    shares = {task.labels[task.index(label, place)]: float(share) for label, share in prior.items()}
    missing = next((label for label in task.labels if not 0 < shares.get(label, 0) < np.inf), None)
    if missing is not None:
        raise InputError(
            f"{place}: share of '{missing}' is {shares.get(missing, 'missing')}, expected a number above 0 for each of "
            f"{task.labels}"
        )
    prior_C = np.array([shares[label] for label in task.labels])
    normalised_C: np.ndarray = prior_C / prior_C.sum()
    return normalised_C


def under_prior(probs_NC: np.ndarray, source_C: np.ndarray, target_C: np.ndarray) -> np.ndarray:
    """Probabilities of a model trained under one label prior, as under another: p * target / source, renormalised.

    Exact if the texts of each class are distributed alike under both (Saerens, Latinne and Decaestecker, 2002, Neural
    Computation 14(1), eq. 2.4).

    Args:
        probs_NC: Predicted probabilities.
        source_C: Class shares of the training rows, all above 0.
        target_C: Class shares that are assumed.
    """
    weighted_NC: np.ndarray = np.asarray(probs_NC, dtype=np.float64) * (target_C / source_C)
    total_N1: np.ndarray = weighted_NC.sum(axis=1, keepdims=True)
    corrected_NC: np.ndarray = weighted_NC / total_N1
    return corrected_NC


def em_prior(probs_NC: np.ndarray, source_C: np.ndarray, labels: Sequence[str]) -> Estimate:
    """Estimate the label prior of unlabelled rows by EM (Saerens et al., 2002, eq. 2.9).

    Starting from the source prior, each step takes the mean of the probabilities under the current estimate. The
    likelihood of the rows never falls. With overconfident probabilities the estimate can collapse towards few classes:
    calibrate first (`export.temperature`; Alexandari et al., arXiv 1901.06852).

    Args:
        probs_NC: Probabilities under the source prior.
        source_C: Class shares of the training rows.
        labels: Label names, for the warning.
    """
    prior_C = np.asarray(source_C, dtype=np.float64)
    steps, change = 0, np.inf
    while change >= TOLERANCE and steps < MAX_ITERATIONS:
        new_C = under_prior(probs_NC, source_C, prior_C).mean(axis=0)
        change = np.abs(new_C - prior_C).max()
        prior_C, steps = new_C, steps + 1
    remedy = "calibrate with --export.temperature true in fit before estimating"
    return Estimate(prior_C, steps, _collapse_warning(prior_C, labels, remedy))


def bbse_prior(confusion_CC: np.ndarray, predicted_C: np.ndarray, labels: Sequence[str]) -> Estimate:
    """Estimate the label prior of unlabelled rows from what was predicted for them (Lipton et al., arXiv 1802.03916).

    With C[j, i] = P(predicted j | true i) on the source dev set and mu[j] the share of target rows predicted j, the
    prior solves C prior = mu. Shares below zero are set to zero and the rest renormalised.

    Args:
        confusion_CC: Source dev rows, true class by row, predicted class by column.
        predicted_C: Target rows by predicted class.
        labels: Label names, for errors.

    Raises:
        InputError: If a class has no dev row, or the confusion matrix cannot be inverted.
    """
    rows_C = confusion_CC.sum(axis=1)
    if (rows_C == 0).any():
        raise InputError(
            f"prior bbse: the source dev set has no row of '{labels[int((rows_C == 0).argmax())]}', expected rows of "
            "each class; use a larger dev set, or prior em"
        )
    rates_CC = (confusion_CC / rows_C[:, None]).T  # [predicted, true]
    condition = np.linalg.cond(rates_CC)
    if not condition < 1e6:
        raise InputError(
            f"prior bbse: the confusion matrix on the source dev set has condition number {condition:.3g}, expected "
            "one below 1e6 (each class predicted now and then); train longer, or use prior em"
        )
    solved_C = np.linalg.solve(rates_CC, predicted_C / predicted_C.sum())
    prior_C = np.clip(solved_C, 0, None)
    remedy = "give a larger dev set in fit, of which the confusions are counted, or more target text"
    return Estimate(prior_C / prior_C.sum(), 0, _collapse_warning(np.minimum(prior_C, solved_C), labels, remedy))


def _collapse_warning(prior_C: np.ndarray, labels: Sequence[str], remedy: str) -> str | None:
    """The warning for an estimate that leaves a class almost no rows."""
    gone = [f"{label} {share:.2%}" for label, share in zip(labels, prior_C, strict=True) if share < COLLAPSED_SHARE]
    if not gone:
        return None
    return f"the estimated label prior has collapsed ({', '.join(gone)}); {remedy}, or use a uniform prior"
