"""Whether a method knows when it is right: errors by coverage, conformal sets, calibration without a temperature."""

# N = rows, P = points of a curve

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..calibration.abstention import risk_coverage
from .metrics import classification_metrics
from .predictions import AS_TRAINED, Tested

COVERAGES = np.arange(5, 101, 5) / 100


@dataclass(frozen=True)
class Certainty:
    """One method on one target; shares, means over seeds.

    Args:
        task: The task's name.
        setting: The setting's name.
        method: The method's name.
        target: The target's name.
        prior: `as_trained` or `divided`.
        coverage: Shares of the rows, those of the largest probability first.
        risk: The error rate of each of them; see `calibration.abstention.risk_coverage`.
        aurc: Mean error rate over all coverages.
        ece: Calibration error.
        ece_without_temperature: That of the same models without their temperature, where they have one.
        conformal_coverage: How often the conformal sets hold the true label, where the models have them.
        conformal_size: How many labels they hold.
    """

    task: str
    setting: str
    method: str
    target: str
    prior: str
    coverage: list[float]
    risk: list[float]
    aurc: float
    ece: float
    ece_without_temperature: float | None
    conformal_coverage: float | None
    conformal_size: float | None


def certainties_of(runs: Sequence[Tested], target: str, priors: Sequence[str]) -> list[Certainty]:
    """Every method on one target.

    Args:
        runs: Runs of one task and setting that were tested on the target.
        target: The target's name.
        priors: `as_trained`, `divided`, or both.
    """
    found = []
    for method in dict.fromkeys(run.method for run in runs):
        own = [run for run in runs if run.method == method]
        for prior in priors:
            pairs = [(run.by_target[target].label_N, run.probs(target, prior)) for run in own]
            scores = [classification_metrics(*pair) for pair in pairs]
            risk_P = np.mean([_at(COVERAGES, probs_NC, label_N) for label_N, probs_NC in pairs], axis=0)
            # What `test` has measured belongs to the probabilities as they are.
            measured = [run.metrics.get(target, {}) if prior == AS_TRAINED else {} for run in own]
            found.append(
                Certainty(
                    own[0].task.name, own[0].setting, method, target, prior, COVERAGES.tolist(), risk_P.tolist(),
                    float(np.mean([one["aurc"] for one in scores])), float(np.mean([one["ece"] for one in scores])),
                    *(_mean(measured, name)
                      for name in ("ece_without_temperature", "conformal_coverage", "conformal_size")),
                )
            )  # fmt: skip
    return found


def _at(coverage_P: np.ndarray, probs_NC: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """The risk of the fewest rows that make up each share."""
    risk_N = risk_coverage(probs_NC, label_N)[1]
    rows_P = np.ceil(coverage_P * len(label_N) - 1e-9).astype(np.int64)
    risk_P: np.ndarray = risk_N[np.maximum(rows_P, 1) - 1]
    return risk_P


def _mean(measured: Sequence[dict[str, float]], name: str) -> float | None:
    """The mean over seeds; None unless every seed has it."""
    values = [one[name] for one in measured if name in one]
    return float(np.mean(values)) if len(values) == len(measured) else None
