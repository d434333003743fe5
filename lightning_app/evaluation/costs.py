"""What each method cost: rows, time, tokens, memory, and energy where the machine counted it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.markup import inline
from .training_curves import Training


@dataclass(frozen=True)
class Cost:
    """A method's training: means over those of its runs of which the figure is known, None if it is of none.

    Args:
        task: The task.
        setting: The setting.
        method: The method.
        runs: Its runs.
        gold: Gold rows.
        synthetic: Selected rows.
        step: The optimizer step whose weights were exported.
        seconds: From the first logged value to the last.
        tokens: Tokens that went through the model.
        peak_gb: The most memory that a process held, on a GPU the most that torch allocated, in units of 2^30 bytes.
        energy_wh: Energy of the device, in watt-hours.
    """

    task: str
    setting: str
    method: str
    runs: int
    gold: float | None
    synthetic: float | None
    step: float | None
    seconds: float | None
    tokens: float | None
    peak_gb: float | None
    energy_wh: float | None


def costs_of(trainings: Sequence[Training]) -> list[Cost]:
    """The cost of each method of a task and setting."""
    costs = []
    for task, setting, method in dict.fromkeys((one.task, one.setting, one.method) for one in trainings):
        runs = [one for one in trainings if (one.task, one.setting, one.method) == (task, setting, method)]
        costs.append(
            Cost(
                task, setting, method, len(runs),
                gold=_mean(one.gold for one in runs),
                synthetic=_mean(one.synthetic for one in runs),
                step=_mean(one.step for one in runs),
                seconds=_mean(one.seconds for one in runs),
                tokens=_mean(one.tokens for one in runs),
                peak_gb=_mean(one.peak_gb for one in runs),
                energy_wh=_mean(one.energy_wh for one in runs),
            )
        )  # fmt: skip
    return costs


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def energy_is_known(costs: Sequence[Cost]) -> bool:
    """Whether there is anything to show of energy."""
    return any(cost.energy_wh is not None for cost in costs)


def cost_lines(costs: Sequence[Cost]) -> list[str]:
    """A section of Markdown, or nothing without trainings."""
    if not costs:
        return []
    heads = ["method", "task, setting", "runs", "gold rows", "selected rows", "exported step", "minutes"]
    heads += ["million tokens", "GB at most", *(["watt-hours"] if energy_is_known(costs) else [])]
    lines = ["", "## Cost", "", "Of the training alone, mean over the runs of a method.", ""]
    lines += [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for cost in costs:
        cells = [inline(cost.method), f"{inline(cost.task)}, {inline(cost.setting)}", str(cost.runs)]
        cells += ["" if one is None else f"{one:.0f}" for one in (cost.gold, cost.synthetic, cost.step)]
        cells += [_shown(cost.seconds, 60, 1), _shown(cost.tokens, 1e6, 2), _shown(cost.peak_gb, 1, 1)]
        cells += [_shown(cost.energy_wh, 1, 1)] if energy_is_known(costs) else []
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _shown(value: float | None, unit: float, digits: int) -> str:
    return "not logged" if value is None else f"{value / unit:.{digits}f}"
