"""Tests of two methods on the same rows, seeds or targets, their correction, and what they could have found."""

# N = rows

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

POWER = 0.8
ALPHA = 0.05


@dataclass(frozen=True)
class McNemar:
    """Rows on which exactly one of two models is right, and McNemar's exact test of whether they are equally many.

    Args:
        only_method: Rows that only the method gets right.
        only_baseline: Rows that only the baseline gets right.
        p: Two-sided p value of the exact binomial test.
    """

    only_method: int
    only_baseline: int
    p: float


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test of paired differences.

    Args:
        pairs: Number of differences, those of exactly 0 included.
        p: Two-sided p value; None if all differences are 0.
        least_p: The smallest p value that this many pairs can give; above 0.05 the test cannot find anything.
    """

    pairs: int
    p: float | None
    least_p: float


def mcnemar(method_right_N: np.ndarray, baseline_right_N: np.ndarray) -> McNemar:
    """McNemar's test (1947) in its exact form: the discordant rows are a fair coin's throws if nothing differs."""
    from scipy.stats import binomtest

    only_method = int((method_right_N & ~baseline_right_N).sum())
    only_baseline = int((baseline_right_N & ~method_right_N).sum())
    discordant = only_method + only_baseline
    p = float(binomtest(only_method, discordant).pvalue) if discordant else 1.0
    return McNemar(only_method, only_baseline, p)


def signed_rank(differences: Sequence[float]) -> SignedRank:
    """Wilcoxon's signed-rank test (1945); exact for up to 50 pairs without ties or zeros."""
    from scipy.stats import wilcoxon

    gains = np.round(np.asarray(differences, dtype=np.float64), 12)  # equal counts of rows are equal differences
    least_p = min(1.0, 2 * 0.5 ** len(gains))
    p = float(wilcoxon(gains).pvalue) if gains.any() else None
    return SignedRank(len(gains), p, least_p)


def detectable_effect(error: float) -> float:
    """The smallest true difference that a two-sided test at the 5 % level finds in 80 % of cases.

    Args:
        error: The standard error of the observed difference.
    """
    from scipy.stats import norm

    return float((norm.ppf(1 - ALPHA / 2) + norm.ppf(POWER)) * error)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several tests (Holm, 1979): adjusted p values, in the given order."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    largest = 0.0
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[number]))
        adjusted[number] = largest
    return [float(p) for p in adjusted]
