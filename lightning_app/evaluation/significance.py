"""Whether a difference between two methods on the same rows is more than chance."""

# S = seeds, N = rows, R = resamples

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """A method's accuracy minus a baseline's, on the same rows.

    Args:
        mean: The difference, averaged over seeds; a share, not points.
        low: Lower end of the 95 % interval over resampled rows.
        high: Its upper end.
        p: Two-sided p value of "no difference", at least 1 / (R + 1).
    """

    mean: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    method_SN: np.ndarray, baseline_SN: np.ndarray, seed: int = 0, resamples: int = RESAMPLES
) -> Difference:
    """Resample rows, keeping what both methods say of a row together (Koehn, 2004, ACL W04-3250).

    Seeds are averaged first: the test asks whether other rows would show the same, with these trained models.

    Args:
        method_SN: Whether each row is right, for every seed of the method.
        baseline_SN: The same for the baseline; it may have another number of seeds.
        seed: Seed of the resampling.
        resamples: R.
    """
    gain_N = method_SN.mean(axis=0) - baseline_SN.mean(axis=0)
    # Rows with the same gain are alike, so drawing how many of each gain come is drawing rows.
    gains, counts = np.unique(gain_N, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(gain_N), counts / len(gain_N), size=resamples)
    means_R = drawn @ gains / len(gain_N)
    mean = float(gain_N.mean())
    as_far = int((np.abs(means_R - mean) >= abs(mean) - 1e-12).sum())
    low, high = np.quantile(means_R, [0.025, 0.975])
    return Difference(mean, float(low), float(high), (as_far + 1) / (resamples + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several tests (Holm, 1979): adjusted p values, in the given order."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    largest = 0.0
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[number]))
        adjusted[number] = largest
    return [float(one) for one in adjusted]
