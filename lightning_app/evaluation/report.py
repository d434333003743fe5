"""`python main.py report`: one table of methods and targets from any number of tested runs."""

import glob
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from lightning_app import artifacts, fingerprint
from lightning_app.errors import InputError
from lightning_app.evaluation.metrics import mean_and_deviation, target_metrics
from lightning_app.evaluation.significance import Difference, holm, paired_bootstrap
from lightning_app.runs import Run, State, command_line
from lightning_app.task import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tested:
    """One `test` artifact: its method and seed, metrics by target, and by target and row id whether it was right."""

    path: str
    task: str
    setting: str
    method: str
    seed: int | None
    metrics: dict[str, dict[str, float]]
    right: dict[str, dict[str, bool]] = field(repr=False)


@dataclass(frozen=True)
class Cell:
    """One method on one target: a metric over seeds."""

    task: str
    setting: str
    method: str
    target: str
    rows: int
    mean: float
    deviation: float | None
    by_seed: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """One method against the baseline on one target, in accuracy."""

    task: str
    setting: str
    method: str
    baseline: str
    target: str
    difference: Difference
    p_holm: float


def report(
    runs: str | list[str],
    out: str = "runs/report",
    metric: str = "accuracy",
    baseline: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write the table of methods and targets as Markdown and JSON.

    Args:
        runs: A folder of `test`, a pattern such as `runs/*/test`, or a list of them; rows stand in this order.
        out: The output folder: `report.md`, `report.json`.
        metric: `accuracy`, `macro_f1`, `ece` or `ce`.
        baseline: The method that all others are tested against (paired bootstrap over rows, Holm's correction within a
            task and setting); the first one, if none is named.
        overwrite: Replace what another run left there.
    """
    folders = _folders([runs] if isinstance(runs, str) else runs)
    tested = [_read(folder) for folder in folders]
    if metric not in next(iter(tested[0].metrics.values())):
        raise InputError(f"metric '{metric}': expected one of {', '.join(next(iter(tested[0].metrics.values())))}")
    inputs = {f"run.{folder}": artifacts.reference(folder, artifacts.read_manifest(folder)) for folder in folders}
    prints = {name: one["fingerprint"] for name, one in inputs.items()}
    with Run(
        Path(out), "report", {"metric": metric, "baseline": baseline, "inputs": fingerprint.of_value(prints)}
    ) as run:
        if run.begin(overwrite) is State.WHOLE:
            log.info("%s: whole already", out)
            print((Path(out) / "report.md").read_text(encoding="utf-8"))
            return
        cells = _cells(tested, metric)
        comparisons = _compare(tested, baseline)
        markdown = _markdown(cells, metric) + _markdown_comparisons(comparisons)
        artifacts.write_json(
            Path(out) / "report.json",
            {
                "metric": metric,
                "cells": [asdict(cell) for cell in cells],
                "comparisons": [asdict(one) for one in comparisons],
                "runs": [{name: value for name, value in vars(one).items() if name != "right"} for one in tested],
            },
        )
        (Path(out) / "report.md").write_text(markdown, encoding="utf-8")
        artifacts.write(
            Path(out),
            pa.Table.from_pylist([{**asdict(cell), "by_seed": list(cell.by_seed.values())} for cell in cells]),
            stage="report",
            inputs=inputs,
            config={"runs": runs, "metric": metric, "baseline": baseline},
            command=command_line(),
        )
    print(markdown)
    log.info("%s: report.md, report.json", out)


def _folders(runs: Sequence[str]) -> list[Path]:
    """Expand patterns; keep the order given, each folder once."""
    found: dict[Path, None] = {}
    for pattern in runs:
        matches = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207 - may be absolute
        if not matches:
            raise InputError(f'runs: nothing matches {pattern}; test a model first: "{artifacts.MAKERS["test"]}"')
        found.update(dict.fromkeys(map(Path, matches)))
    if not found:
        raise InputError("runs: empty, expected folders of `test`, such as --runs '[runs/test]'")
    return list(found)


def _read(folder: Path) -> Tested:
    artifact = artifacts.read(folder, "test")
    artifacts.check_fresh(folder, artifact.manifest)
    facts = artifact.manifest.facts
    task = Task(**facts["task"])
    return Tested(
        str(folder),
        task.name,
        facts.get("setting", "zero-shot"),
        facts.get("method", str(folder)),
        facts.get("seed"),
        target_metrics(artifact.table, task),
        _right(artifact.table, task),
    )


def _right(table: pa.Table, task: Task) -> dict[str, dict[str, bool]]:
    best = np.asarray(table["probs"].to_pylist()).argmax(axis=1)
    right: dict[str, dict[str, bool]] = {}
    columns = (table[name].to_pylist() for name in ("target", "id", "label"))
    for target, one, label, number in zip(*columns, best, strict=True):
        right.setdefault(target, {})[one] = task.labels[number] == label
    return right


def _cells(tested: Sequence[Tested], metric: str) -> list[Cell]:
    """Average over seeds; two runs of the same method and seed on the same target are a mistake."""
    groups: dict[tuple[str, str, str, str], dict[str, float]] = {}
    rows: dict[tuple[str, str, str, str], int] = {}
    paths: dict[tuple[tuple[str, str, str, str], str], str] = {}
    for one in tested:
        for target, metrics in one.metrics.items():
            key, seed = (one.task, one.setting, one.method, target), str(one.seed)
            if seed in groups.setdefault(key, {}):
                raise InputError(
                    f"{one.path}: method '{one.method}', seed {seed}, target {target} was also read from "
                    f"{paths[key, seed]}; give each run its own `method`, or leave one out"
                )
            groups[key][seed], paths[key, seed] = metrics[metric], one.path
            rows[key] = int(metrics["rows"])
    return [
        Cell(*key, rows[key], *mean_and_deviation(list(by_seed.values())), by_seed) for key, by_seed in groups.items()
    ]


def _compare(tested: Sequence[Tested], baseline: str | None) -> list[Comparison]:
    """Every method against the baseline of its task and setting, on every target.

    Raises:
        InputError: If no run is of the baseline that was named, or two runs of a target hold different rows.
    """
    if baseline is not None and baseline not in {one.method for one in tested}:
        known = ", ".join(dict.fromkeys(one.method for one in tested))
        raise InputError(f"baseline '{baseline}': expected one of {known}")
    found: list[Comparison] = []
    for task, setting in dict.fromkeys((one.task, one.setting) for one in tested):
        group = [one for one in tested if (one.task, one.setting) == (task, setting)]
        base = baseline if baseline in {one.method for one in group} else group[0].method
        pairs = [
            (method, target, paired_bootstrap(_by_seed(group, method, target), _by_seed(group, base, target)))
            for method in dict.fromkeys(one.method for one in group)
            for target in dict.fromkeys(name for one in group if one.method == method for name in one.right)
            if method != base and any(one.method == base and target in one.right for one in group)
        ]
        for (method, target, difference), p in zip(pairs, holm([one[2].p for one in pairs]), strict=True):
            found.append(Comparison(task, setting, method, base, target, difference, p))
    return found


def _by_seed(group: Sequence[Tested], method: str, target: str) -> np.ndarray:
    """Which rows of a target are right, for every seed; rows in order of id. Shape (S, N)."""
    runs = [one for one in group if one.method == method and target in one.right]
    ids = sorted(next(one.right[target] for one in group if target in one.right))
    for one in runs:
        if sorted(one.right[target]) != ids:
            raise InputError(
                f"{one.path}: target {target} has other rows than in the other runs; test on the same file"
            )
    return np.array([[one.right[target][row] for row in ids] for one in runs])


def _markdown_comparisons(comparisons: Sequence[Comparison]) -> str:
    """One table for each task and setting."""
    lines: list[str] = []
    for task, setting in dict.fromkeys((one.task, one.setting) for one in comparisons):
        group = [one for one in comparisons if (one.task, one.setting) == (task, setting)]
        targets = list(dict.fromkeys(one.target for one in group))
        lines += ["", f"## {task}, {setting}: accuracy against {group[0].baseline}", ""]
        lines += ["Points, 95 % interval over resampled rows; * where p < 0.05 after Holm's correction.", ""]
        lines += ["| method | " + " | ".join(targets) + " |", "|---|" + "---|" * len(targets)]
        for method in dict.fromkeys(one.method for one in group):
            own = {one.target: one for one in group if one.method == method}
            lines.append(f"| {method} | " + " | ".join(_show_difference(own.get(name)) for name in targets) + " |")
    return "\n".join(lines) + "\n" if lines else ""


def _show_difference(one: Comparison | None) -> str:
    if one is None:
        return ""
    mean, low, high = (100 * value for value in (one.difference.mean, one.difference.low, one.difference.high))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]{' *' if one.p_holm < 0.05 else ''}"


def _markdown(cells: Sequence[Cell], metric: str) -> str:
    """One table for each task and setting."""
    unit = "nats" if metric == "ce" else "%"
    lines = ["# Report", "", f"{metric} in {unit}; with several seeds the mean ± sample deviation (each seed in JSON)."]
    for task, setting in dict.fromkeys((cell.task, cell.setting) for cell in cells):
        group = [cell for cell in cells if (cell.task, cell.setting) == (task, setting)]
        targets = list(dict.fromkeys(cell.target for cell in group))
        sizes = {cell.target: cell.rows for cell in group}
        lines += ["", f"## {task}, {setting}", ""]
        lines.append("| method | seeds | " + " | ".join(f"{name} ({sizes[name]})" for name in targets) + " |")
        lines.append("|---|---|" + "---|" * len(targets))
        for method in dict.fromkeys(cell.method for cell in group):
            own = {cell.target: cell for cell in group if cell.method == method}
            seeds = sorted({seed for cell in own.values() for seed in cell.by_seed})
            shown = " | ".join(_show(own.get(target), metric) for target in targets)
            lines.append(f"| {method} | {', '.join(seeds)} | {shown} |")
    return "\n".join(lines) + "\n"


def _show(cell: Cell | None, metric: str) -> str:
    if cell is None:
        return ""
    scale, digits = (1, 3) if metric == "ce" else (100, 1)
    deviation = "" if cell.deviation is None else f" ± {scale * cell.deviation:.{digits}f}"
    return f"{scale * cell.mean:.{digits}f}{deviation}"
