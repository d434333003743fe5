"""What a report shows: cells, comparisons and averages, each an entry of `report.json`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .bootstrap import Difference
from .certainty import Certainty
from .class_scores import Details
from .metrics import METRICS
from .significance_tests import McNemar, SignedRank

AVERAGE = "mean over targets"


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


def column_ranks(cells: Sequence[Cell]) -> dict[tuple[str, str, str | None], int]:
    """Method, target and part -> the rank of the method's mean among those of this target and part, the best first.

    Args:
        cells: Of one metric.
    """
    ranks: dict[tuple[str, str, str | None], int] = {}
    for target, part in dict.fromkeys((cell.target, cell.part) for cell in cells):
        column = {
            (cell.method, target, part): cell.mean for cell in cells if (cell.target, cell.part) == (target, part)
        }
        ranks |= METRICS[cells[0].metric].ranks(column)
    return ranks


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
    """One method against a baseline on one target, in one metric.

    Args:
        task: The task's name.
        setting: The setting's name.
        metric: The metric's name.
        prior: `as_trained` or `divided`.
        method: The method's name.
        baseline: The baseline's name.
        target: The target's name, or `mean over targets`, which is not part of Holm's correction.
        difference: The difference, its interval and its p value, by paired bootstrap over rows and seeds.
        p_holm: The p value after Holm's correction over the methods and targets of a baseline's table.
        mcnemar: Seed -> McNemar's test, for accuracy and the seeds that both have.
        seeds: Wilcoxon's signed-rank test over the seeds that both have.
    """

    task: str
    setting: str
    metric: str
    prior: str
    method: str
    baseline: str
    target: str
    difference: Difference
    p_holm: float
    mcnemar: dict[str, McNemar] = field(default_factory=dict)
    seeds: SignedRank | None = None


@dataclass(frozen=True)
class Average:
    """One method over all targets of a setting; targets count alike."""

    task: str
    setting: str
    method: str
    metric: str
    prior: str
    targets: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class OverTargets:
    """Wilcoxon's signed-rank test of a method against a baseline over all targets, of all tasks and settings.

    Args:
        metric: The metric's name.
        prior: `as_trained` or `divided`.
        method: The method's name.
        baseline: The baseline's name.
        differences: Difference of the means over seeds, for each task, setting and target.
        test: The test.
    """

    metric: str
    prior: str
    method: str
    baseline: str
    differences: list[float]
    test: SignedRank


@dataclass(frozen=True)
class Slice:
    """One method on some rows of one target.

    Args:
        task: The task's name.
        setting: The setting's name.
        target: The target's name.
        by: What the rows have in common: `length`, `script` and so on.
        name: The slice's name, such as `17 to 32 tokens`.
        rows: Number of rows.
        method: The method's name.
        metric: The metric's name.
        prior: `as_trained` or `divided`.
        mean: Mean over seeds.
        low: Lower end of the 95 % interval over rows and seeds.
        high: Its upper end.
    """

    task: str
    setting: str
    target: str
    by: str
    name: str
    rows: int
    method: str
    metric: str
    prior: str
    mean: float
    low: float
    high: float


@dataclass
class Results:
    """Everything that a report shows.

    Args:
        cells: Every method on every target.
        majorities: Every target's majority class.
        comparisons: Every method against every baseline.
        dev: Task, setting and method -> mean over seeds of the source dev accuracy, where it is recorded.
        averages: Every method over all targets, where there are several.
        over_targets: Wilcoxon's test of every method against every baseline.
        details: Every method on every target, class by class.
        slices: Every method on rows that are alike in length, script and so on.
        certainties: Every method on every target: how far its certainty can be relied on.
    """

    cells: list[Cell] = field(default_factory=list)
    majorities: list[Majority] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    dev: dict[tuple[str, str, str], float] = field(default_factory=dict)
    averages: list[Average] = field(default_factory=list)
    over_targets: list[OverTargets] = field(default_factory=list)
    details: list[Details] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    certainties: list[Certainty] = field(default_factory=list)
