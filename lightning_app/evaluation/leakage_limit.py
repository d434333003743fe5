"""Near duplicates of training data among the targets of a report: shown, and refused above a share."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import InputError, shorten
from ..core.markup import inline
from ..data.near_duplicates import SIMILARITY
from .leakage import SETS
from .predictions import Tested

NOTE = (
    f"Rows of a target that share {100 * SIMILARITY:g} % of their word triples, or more, with a row that a model was "
    "trained on, or that was there to be selected; the largest number of all runs."
)


@dataclass(frozen=True)
class Overlap:
    """Near duplicates between one target and one training set, over the runs of a report.

    Args:
        task: The task's name.
        setting: The setting's name.
        target: The target's name.
        set: `gold`, `selection`, `pool` or `views`.
        rows: Rows of the target.
        near: How many of them nearly repeat a row of the set; of several sets of this name, the most.
        method: The method where these are the most.
        pairs: Ids of some of them, each with that of the row it repeats.
    """

    task: str
    setting: str
    target: str
    set: str
    rows: int
    near: int
    method: str
    pairs: list[list[str]]

    @property
    def share(self) -> float:
        """The near duplicates as a share of the target's rows."""
        return self.near / max(self.rows, 1)


def overlaps_of(tested: Sequence[Tested]) -> list[Overlap]:
    """The near duplicates of all runs: for each target and set, the largest number among the runs."""
    largest: dict[tuple[str, str, str, str], Overlap] = {}
    for run in tested:
        if run.leakage is None:
            continue
        for target, sets in run.leakage["targets"].items():
            for name, one in sets.items():
                key = (run.task.name, run.setting, target, name)
                if key not in largest or one["near"] > largest[key].near:
                    largest[key] = Overlap(*key, one["rows"], one["near"], run.method, one["pairs"])
    return list(largest.values())


def check_overlaps(tested: Sequence[Tested], most: float | None) -> None:
    """Refuse runs whose targets are nearly repeated in training data by more than a share of their rows.

    Args:
        tested: The runs.
        most: The largest share that is accepted; None accepts all, also runs where it has not been measured.

    Raises:
        InputError: Names the run, the target and the set.
    """
    if most is None:
        return
    for run in tested:
        if run.leakage is None:
            raise InputError(
                f"{run.path}: near duplicates of its training data have not been measured, expected at most "
                f"{most:g} of a target's rows; test again with --overwrite=true, or report with --max_leakage null"
            )
        lost = next((one for one in run.leakage["sets"] if "not_compared" in one), None)
        if lost is not None:
            raise InputError(
                f"{run.path}: its {lost['name']} {', '.join(lost['paths'])} was not compared with the targets "
                f"({lost['not_compared']}); put it back and test again with --overwrite=true, or report with "
                "--max_leakage null"
            )
    for one in overlaps_of(tested):
        if one.share > most:
            raise InputError(
                f"max_leakage: {one.near} of {one.rows} rows of target {one.target} ({100 * one.share:.1f} %) nearly "
                f"repeat rows of the {one.set} of {one.method} (such as {shorten(one.pairs[0][0])} and "
                f"{shorten(one.pairs[0][1])}), expected at most {100 * most:g} %; take them out of one of the two "
                "(clean does so for a pool, by `exclude_targets`), or raise --max_leakage"
            )


def overlap_lines(tested: Sequence[Tested]) -> list[str]:
    """The near duplicates as a section of the report; empty where no run has measured them."""
    if all(run.leakage is None for run in tested):
        return []
    found = overlaps_of(tested)
    names = [name for name in SETS if any(one.set == name for one in found)]
    lines = ["", "## Near duplicates of training data among the targets", "", NOTE]
    if names:
        lines += ["", f"| task, setting | target | rows | {' | '.join(names)} |", "|---|---|---|" + "---|" * len(names)]
    for key in dict.fromkeys((one.task, one.setting, one.target, one.rows) for one in found):
        own = {one.set: one for one in found if (one.task, one.setting, one.target, one.rows) == key}
        cells = [f"{own[name].near} ({100 * own[name].share:.1f} %)" if name in own else "" for name in names]
        lines.append(f"| {inline(key[0])}, {inline(key[1])} | {inline(key[2])} | {key[3]} | {' | '.join(cells)} |")
    missing = not_compared(tested)
    return [*lines, *([""] if missing else []), *(f"- {inline(line)}" for line in missing)]


def not_compared(tested: Sequence[Tested]) -> list[str]:
    """What is missing from the figures: runs that have none, and sets that could not be read."""
    measured = [run.leakage for run in tested if run.leakage is not None]
    if not measured:
        return []
    lines = [
        f"{one['name']} {', '.join(one['paths'])}: not compared, {one['not_compared']}"
        for found in measured
        for one in found["sets"]
        if "not_compared" in one
    ]
    if len(measured) < len(tested):
        lines.append(f"{len(tested) - len(measured)} of {len(tested)} runs: not measured, tested by an earlier version")
    return list(dict.fromkeys(lines))
