"""How far a metric, or the difference between two methods, would move with other rows and other seeds."""

# N = rows, G = groups of rows, C = classes, K = sums that a metric is made of, S = seeds, R = resamples

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .metrics import BINS
from .significance_tests import detectable_effect

RESAMPLES = 10_000
_CHUNK = 4_000_000  # drawn rows in memory at once


@dataclass(frozen=True)
class Statistic:
    """A metric as a function of sums over rows, so that resampling rows is one product of matrices.

    Args:
        terms_NK: What each row adds to the sums.
        value: Sums of shape (R, K) and the number of drawn rows, shape (R,) -> the metric, shape (R,).
    """

    terms_NK: np.ndarray
    value: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """A 95 % percentile interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A method's metric minus a baseline's, on the same rows.

    Args:
        mean: The difference between the means over seeds; a share, not points.
        low: Lower end of the 95 % interval.
        high: Its upper end.
        p: Two-sided p value of "no difference", at least 1 / (R + 1).
        detectable: The smallest true difference that a comparison with this much noise finds in 80 % of cases, at the
            5 % level and without correction for several tests.
    """

    mean: float
    low: float
    high: float
    p: float
    detectable: float


class Resampling:
    """Bootstrap resamples of rows and seeds that all methods tested on the same rows share.

    Rows and seeds are crossed factors, each drawn with replacement and independently of the other ("pigeonhole"
    bootstrap: Owen, 2007, arXiv 0712.1111). All methods and seeds see the same drawn rows, so differences are paired
    (Koehn, 2004, ACL W04-3250). Two methods draw the seeds that both have together: with the same seeds they draw the
    same, with none in common independently. With a single seed only rows vary.

    The bootstrap takes the spread over S seeds as it finds it, which is (S - 1) / S of the variance on average: with
    two or three seeds, the seeds' part of an interval is too narrow rather than too wide.

    Rows of one group, such as the hypotheses of one premise, are no independent evidence: they are drawn together.
    Sets of rows with the same groups, such as one test set in several languages, draw the same ones; others draw
    independently.

    Args:
        rows: N.
        seeds: The seeds of all methods.
        seed: Seed of the resampling.
        resamples: R.
        groups: The name of each row's group, shape (N,); by default each row is a group, under its number.
    """

    def __init__(
        self,
        rows: int,
        seeds: Sequence[str],
        seed: int = 0,
        resamples: int = RESAMPLES,
        groups: Sequence[str] | None = None,
    ) -> None:
        self.rows = rows
        self.seeds = sorted(set(seeds))
        self.seed = seed
        self.resamples = resamples
        self.group_N, self.stream = np.arange(rows), 0
        if groups is not None:
            names = {name: number for number, name in enumerate(sorted(set(groups)))}
            self.group_N = np.array([names[name] for name in groups], dtype=np.int64)
            self.stream = zlib.crc32("\n".join(names).encode("utf-8", "surrogatepass"))
        self.groups = int(self.group_N.max()) + 1 if rows else 0

    def values(self, statistics: Sequence[Statistic]) -> np.ndarray:
        """Every statistic on the same drawn rows; shape (len(statistics), R)."""
        ends = np.cumsum([one.terms_NK.shape[1] for one in statistics])[:-1]
        sums_RK, rows_R = self.sums(np.concatenate([one.terms_NK for one in statistics], axis=1))
        blocks = np.split(sums_RK, ends, axis=1)
        return np.stack([one.value(block, rows_R) for one, block in zip(statistics, blocks, strict=True)])

    def sums(self, terms_NK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the drawn rows of each resample sum to, shape (R, K), and how many they are, shape (R,)."""
        # The last column counts rows: groups differ in size.
        terms_GK = self._by_group(np.concatenate([terms_NK, np.ones((self.rows, 1))], axis=1)).astype(np.float32)
        rng = np.random.default_rng([self.seed, 0, self.stream] if self.stream else [self.seed, 0])
        chunk = max(1, _CHUNK // self.groups)
        parts = []
        for start in range(0, self.resamples, chunk):
            size = min(chunk, self.resamples - start)
            drawn = rng.integers(0, self.groups, size=(size, self.groups)) + self.groups * np.arange(size)[:, None]
            times_RG = np.bincount(drawn.ravel(), minlength=size * self.groups).reshape(size, self.groups)
            parts.append((times_RG.astype(np.float32) @ terms_GK).astype(np.float64))
        sums_RK = np.concatenate(parts)
        return sums_RK[:, :-1], sums_RK[:, -1]

    def _by_group(self, terms_NK: np.ndarray) -> np.ndarray:
        """The sums of each group's rows."""
        if self.groups == self.rows:
            return terms_NK[np.argsort(self.group_N, kind="stable")]
        order = np.argsort(self.group_N, kind="stable")
        starts = np.flatnonzero(np.diff(self.group_N[order], prepend=-1))
        sums_GK: np.ndarray = np.add.reduceat(terms_NK[order], starts, axis=0)
        return sums_GK

    def seed_shares(self, seeds: Sequence[str]) -> np.ndarray:
        """How often each of a method's seeds is drawn, as shares; shape (R, S).

        Every seed is drawn at the arrivals of a Poisson process, and a method with S seeds takes the first S arrivals
        among its own. These are S draws with replacement, and those of methods with seeds in common agree.
        """
        places = [self.seeds.index(seed) for seed in seeds]
        arrival_RSJ = self._arrivals[:, places]
        last_R = np.partition(arrival_RSJ.reshape(self.resamples, -1), len(seeds) - 1, axis=1)[:, len(seeds) - 1]
        shares_RS: np.ndarray = (arrival_RSJ <= last_R[:, None, None]).sum(axis=2) / len(seeds)
        return shares_RS

    @cached_property
    def _arrivals(self) -> np.ndarray:
        """Arrival times of every seed, as many as it can be drawn; shape (R, S, S)."""
        rng = np.random.default_rng([self.seed, 1])
        waits: np.ndarray = rng.exponential(size=(self.resamples, len(self.seeds), len(self.seeds)))
        return waits.cumsum(axis=2)


def statistic(metric: str, label_N: np.ndarray, probs_NC: np.ndarray) -> Statistic:
    """A metric of `metrics.classification_metrics`, as sums over rows.

    Args:
        metric: One of `metrics.METRICS`.
        label_N: Gold label numbers.
        probs_NC: Predicted probabilities.

    Raises:
        ValueError: If there is no such metric.
    """
    best_N = probs_NC.argmax(axis=1)
    right_N = best_N == label_N
    if metric == "accuracy":
        return Statistic(right_N[:, None].astype(np.float64), _mean)
    if metric == "macro_f1":
        one_hot = np.eye(probs_NC.shape[1])
        terms_NK = np.concatenate(
            [one_hot[label_N] * right_N[:, None], one_hot[label_N] + one_hot[best_N]],
            axis=1,
        )
        return Statistic(terms_NK, _macro_f1)
    if metric == "ece":
        confidence_N = probs_NC.max(axis=1)
        # Like torchmetrics: a confidence of exactly 1 has a bin to itself.
        bin_N = np.searchsorted(np.linspace(0, 1, BINS + 1), confidence_N, side="right") - 1
        terms_NK = np.eye(BINS + 1)[np.clip(bin_N, 0, BINS)] * (confidence_N - right_N)[:, None]
        return Statistic(terms_NK, _mean_of_sizes)
    if metric == "ce":
        own_N = probs_NC[np.arange(len(label_N)), label_N]
        return Statistic(-np.log(np.maximum(own_N, 1e-12))[:, None], _mean)
    raise ValueError(f"metric '{metric}': not known here")


def interval(value_R: np.ndarray) -> Interval:
    """The middle 95 % of resampled values."""
    low, high = np.quantile(value_R, [0.025, 0.975])
    return Interval(float(low), float(high))


def difference(mean: float, method_R: np.ndarray, baseline_R: np.ndarray) -> Difference:
    """Compare two methods on the same resamples.

    The p value is the share of resampled differences that lie at least as far from the observed one as 0 does (Efron
    and Tibshirani, 1993, chapter 16: the bootstrap distribution moved to the null hypothesis).

    Args:
        mean: The observed difference.
        method_R: The method's metric in each resample.
        baseline_R: The baseline's.
    """
    gain_R = method_R - baseline_R
    as_far = int((np.abs(gain_R - mean) >= abs(mean) - 1e-12).sum())
    low, high = np.quantile(gain_R, [0.025, 0.975])
    p = (as_far + 1) / (len(gain_R) + 1)
    return Difference(mean, float(low), float(high), p, detectable_effect(float(gain_R.std())))


def _mean(sums_RK: np.ndarray, rows_R: np.ndarray) -> np.ndarray:
    mean_R: np.ndarray = sums_RK[:, 0] / rows_R
    return mean_R


def _mean_of_sizes(sums_RK: np.ndarray, rows_R: np.ndarray) -> np.ndarray:
    mean_R: np.ndarray = np.abs(sums_RK).sum(axis=1) / rows_R
    return mean_R


def _macro_f1(sums_RK: np.ndarray, _rows_R: np.ndarray) -> np.ndarray:
    """Mean over the classes that occur among labels or predictions of 2 TP / (labels + predictions)."""
    right_RC, either_RC = np.split(sums_RK, 2, axis=1)
    f1_RC = 2 * right_RC / np.maximum(either_RC, 1)
    mean_R: np.ndarray = f1_RC.sum(axis=1) / (either_RC > 0).sum(axis=1)
    return mean_R
