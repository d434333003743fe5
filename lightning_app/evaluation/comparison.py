"""Cells and comparisons of a report: every method on every target, with intervals, and against baselines."""

# N = rows, R = resamples

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from ..core.errors import InputError
from .metrics import classification_metrics, majority_metrics, mean_and_deviation
from .predictions import Tested, check_same_rows
from .significance import Difference, Resampling, difference, holm, interval, statistic


@dataclass(frozen=True)
class Cell:
    """One method on one target, over seeds.

    Args:
        task: The task's name.
        setting: The setting's name.
        method: The method's name.
        target: The target's name.
        part: The value of the column that the target is split by, or None for all of its rows.
        metric: The metric's name.
        prior: `as_trained` or `divided`.
        rows: Number of rows.
        mean: Mean over seeds.
        deviation: Sample deviation over seeds; None for a single one.
        low: Lower end of the 95 % interval over rows and seeds.
        high: Its upper end.
        by_seed: Seed -> value.
        reaches_majority: Whether the interval reaches down to the majority class's value, or lies below it.
        gold_prior: Whether every seed's model was trained on gold; without it there is no prior to divide out.
    """

    task: str
    setting: str
    method: str
    target: str
    part: str | None
    metric: str
    prior: str
    rows: int
    mean: float
    deviation: float | None
    low: float
    high: float
    by_seed: dict[str, float]
    reaches_majority: bool
    gold_prior: bool


@dataclass(frozen=True)
class Majority:
    """What always answering a target's most frequent label gives."""

    task: str
    setting: str
    target: str
    part: str | None
    rows: int
    label: str
    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class Comparison:
    """One method against a baseline on one target, in one metric."""

    task: str
    setting: str
    metric: str
    prior: str
    method: str
    baseline: str
    target: str
    difference: Difference
    p_holm: float


@dataclass
class Results:
    """Everything that a report shows.

    Args:
        cells: Every method on every target.
        majorities: Every target's majority class.
        comparisons: Every method against every baseline.
        dev: Task, setting and method -> mean over seeds of the source dev accuracy, where it is recorded.
    """

    cells: list[Cell] = field(default_factory=list)
    majorities: list[Majority] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    dev: dict[tuple[str, str, str], float] = field(default_factory=dict)


def results_of(
    tested: Sequence[Tested],
    metrics: Sequence[str],
    priors: Sequence[str],
    baselines: Sequence[str],
    by: str | None,
) -> Results:
    """Score every method of every task and setting, and compare it with the baselines.

    Args:
        tested: The runs.
        metrics: Names of metrics.
        priors: `as_trained`, `divided`, or both.
        baselines: Names of methods; where a task and setting has none of them, its first method.
        by: A column of the test rows by whose values the targets are also split.

    Raises:
        InputError: If a baseline or the column is unknown, a method and seed occurs more than once, or runs of a target
            hold different rows.
    """
    methods = list(dict.fromkeys(run.method for run in tested))
    unknown = next((name for name in baselines if name not in methods), None)
    if unknown is not None:
        raise InputError(f"baseline '{unknown}': expected one of {', '.join(methods)}")
    results = Results()
    for task, setting in dict.fromkeys((run.task.name, run.setting) for run in tested):
        group = [run for run in tested if (run.task.name, run.setting) == (task, setting)]
        _check_unique(group)
        check_same_rows(group)
        own_methods = list(dict.fromkeys(run.method for run in group))
        for method in own_methods:
            values = [run.dev for run in group if run.method == method and run.dev is not None]
            if values:
                results.dev[task, setting, method] = float(np.mean(values))
        drawn: dict[str, _Drawn] = {}
        for target in dict.fromkeys(name for run in group for name in run.by_target):
            runs = [run for run in group if target in run.by_target]
            drawn[target] = _score(results, runs, target, None, slice(None), metrics, priors)
            for part, rows in _parts(runs, target, by):
                _score(results, runs, target, part, rows, metrics, priors)
        present = [name for name in baselines if name in own_methods] or own_methods[:1]
        for metric, prior, base in product(metrics, priors, present):
            results.comparisons += _compare(task, setting, metric, prior, base, own_methods, drawn)
    if by is not None and not any(cell.part is not None for cell in results.cells):
        raise InputError(
            f"by '{by}': no test run holds this column; add `keep: [{by}]` to the sources under data.targets and test "
            "again with --overwrite=true"
        )
    return results


_Drawn = Mapping[tuple[str, str, str], tuple[float, np.ndarray]]
"""Method, metric and prior -> mean over seeds, and the metric in each resample, shape (R,)."""


def _check_unique(group: Sequence[Tested]) -> None:
    paths: dict[tuple[str, str, str], str] = {}
    for run in group:
        for target in run.by_target:
            previous = paths.setdefault((run.method, run.seed, target), run.path)
            if previous != run.path:
                raise InputError(
                    f"{run.path}: method '{run.method}', seed {run.seed}, target {target} was also read from "
                    f"{previous}; give each run its own `method`, or leave one out"
                )


def _parts(runs: Sequence[Tested], target: str, by: str | None) -> Iterator[tuple[str, np.ndarray]]:
    """The values of a column, sorted, each with the rows that have it; rows without a value are in no part."""
    columns = [run.by_target[target].columns for run in runs]
    values = next((own[by] for own in columns if by in own), []) if by is not None else []
    for part in sorted({str(value) for value in values if value is not None}):
        yield part, np.flatnonzero([value is not None and str(value) == part for value in values])


def _score(
    results: Results,
    runs: Sequence[Tested],
    target: str,
    part: str | None,
    rows: Any,
    metrics: Sequence[str],
    priors: Sequence[str],
) -> _Drawn:
    """Add the cells of one target, or of a part of its rows, to the results."""
    task, setting = runs[0].task, runs[0].setting
    label_N = runs[0].by_target[target].label_N[rows]
    majority = majority_metrics(label_N, len(task.labels))
    name = task.labels[int(majority.pop("label"))]
    results.majorities.append(Majority(task.name, setting, target, part, len(label_N), name, **majority))
    resampling = Resampling(len(label_N), [run.seed for run in runs])
    keys = list(product(range(len(runs)), priors, metrics))
    labels_and_probs = {
        (number, prior): (run.by_target[target].label_N[rows], run.probs(target, prior)[rows])
        for (number, run), prior in product(enumerate(runs), priors)
    }
    points = {key: classification_metrics(*pair) for key, pair in labels_and_probs.items()}
    resampled = dict(
        zip(
            keys,
            resampling.values([statistic(metric, *labels_and_probs[number, prior]) for number, prior, metric in keys]),
            strict=True,
        )
    )
    drawn = {}
    for method, prior, metric in product(dict.fromkeys(run.method for run in runs), priors, metrics):
        own = [number for number, run in enumerate(runs) if run.method == method]
        shares_RS = resampling.seed_shares([runs[number].seed for number in own])
        value_R = (shares_RS * np.stack([resampled[number, prior, metric] for number in own], axis=1)).sum(axis=1)
        by_seed = {runs[number].seed: points[number, prior][metric] for number in own}
        mean, deviation = mean_and_deviation(list(by_seed.values()))
        ends = interval(value_R)
        results.cells.append(
            Cell(
                task=task.name,
                setting=setting,
                method=method,
                target=target,
                part=part,
                metric=metric,
                prior=prior,
                rows=len(label_N),
                mean=mean,
                deviation=deviation,
                low=ends.low,
                high=ends.high,
                by_seed=by_seed,
                reaches_majority=metric in majority and ends.low <= majority[metric] + 1e-9,
                gold_prior=all(runs[number].has_gold_prior for number in own),
            )
        )
        drawn[method, metric, prior] = (mean, value_R)
    return drawn


def _compare(
    task: str,
    setting: str,
    metric: str,
    prior: str,
    base: str,
    methods: Sequence[str],
    drawn: Mapping[str, _Drawn],
) -> list[Comparison]:
    """Every method against one baseline on every target that both were tested on; Holm's correction over all."""
    pairs = []
    for method, (target, values) in product(methods, drawn.items()):
        key, base_key = (method, metric, prior), (base, metric, prior)
        if method != base and key in values and base_key in values:
            (mean, value_R), (base_mean, base_R) = values[key], values[base_key]
            pairs.append((method, target, difference(mean - base_mean, value_R, base_R)))
    corrected = holm([one[2].p for one in pairs])
    return [
        Comparison(task, setting, metric, prior, method, base, target, own, p)
        for (method, target, own), p in zip(pairs, corrected, strict=True)
    ]
