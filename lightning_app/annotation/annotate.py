"""`python main.py annotate`: a sample of a selection for people to label, and what their labels say."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa

from ..core import artifacts, fingerprint
from ..core.contracts import check_labels, probabilities
from ..core.errors import InputError
from ..core.hashing import seeded_hash
from ..core.markup import inline
from ..core.paths import find
from ..core.ranges import PositiveInt, Range, Seed, Share, check_ranges
from ..core.results import Result
from ..core.runs import Run, State, command_line, output_folder
from ..core.task import Task
from ..data.sources import Source, load_rows
from .agreement import alignment, between, majority
from .sheets import INSTRUCTIONS, PAGE, UNCLEAR, Answers, column_of, read_answers, sheet, write_sheets

log = logging.getLogger(__name__)

STAGE, JUDGED = "annotate", "judged"
AGREEMENT = "agreement.md"
MOST_ANNOTATORS = 1000  # each has a file


@dataclass(frozen=True)
class Judged(Result):
    """The sample, or its rows with the labels that people gave them.

    Args:
        rejected: Judged rows without a label that more annotators gave than any other, with the reason.
    """

    rejected: pa.Table = field(default_factory=lambda: pa.table({}))


@check_ranges()
def annotate(
    task: Task,
    selection: str = "runs/select",
    rows: PositiveInt = 100,
    above: Share = 0.0,
    annotators: Annotated[int, Range(least=1, most=MOST_ANNOTATORS)] = 2,
    seed: Seed = 0,
    answers: list[str] | None = None,
    out: str = "runs/annotate",
    overwrite: bool = False,
) -> Judged:
    """Have people label a sample of a selection: write blind sheets, then read the answers.

    Args:
        task: Text columns and labels.
        selection: The selection, or a pool with `class` or `prompt_label`.
        rows: How many rows are drawn.
        above: Draw only rows whose class has at least this teacher probability.
        annotators: How many people label the sample, each by a sheet of their own.
        seed: Seed of the draw and of the order of each sheet.
        answers: Filled-in sheets, or the files that the page saved, of a sample drawn before into `out`: reports how
            far the labels agree, and writes the judged rows to `out/judged`. The settings above are then the sample's.
        out: The output folder: the sample, `annotate.html`, `sheet-1.csv` and so on, `instructions.md`.
        overwrite: Replace another sample in `out`, or other answers in `out/judged`.
    """
    if task.match(UNCLEAR) is not None:
        raise InputError(
            f"task {task.name}: a label is called '{UNCLEAR}', which stands for no label in a sheet; rename the label"
        )
    place = output_folder(out)
    if answers is not None:
        asked = {"rows": rows, "above": above, "annotators": annotators, "seed": seed}
        return _judge(place, [Path(name) for name in answers], task, asked, overwrite)
    folder = find(selection)
    if folder is None:
        raise InputError(f"{selection}: no such folder, expected a selection; make it with `select`")
    artifact = artifacts.read(folder)
    artifacts.check_fresh(folder, artifact.manifest)
    judged = load_rows(Source(selection, keep=["*"]), task, None)
    judged.check_any("selection")
    drawn = _draw(artifact, judged.table, task, rows, above, seed)
    settings = {
        "task": vars(task), "rows": rows, "above": above, "annotators": annotators, "seed": seed,
    }  # fmt: skip
    with Run(place, STAGE, {"selection": artifact.manifest.fingerprint, **settings}) as run:
        if run.begin(overwrite, writes=(PAGE, INSTRUCTIONS)) is State.COMPLETE:
            found = artifacts.read(place, STAGE)
            return Judged(found.table, found.manifest.facts, place)
        sample = fingerprint.of_table(drawn, task.labels)
        files = write_sheets(place, drawn.to_pylist(), task, annotators, seed, sample)
        facts = {"labels": task.labels, "annotators": annotators, "asked": rows, "drawn": drawn.num_rows}
        artifacts.write(
            place, drawn, stage=STAGE, files=files, facts=facts, command=command_line(), config=settings,
            lineage=artifact.manifest.lineage, inputs={"selection": artifacts.reference(folder, artifact.manifest)},
        )  # fmt: skip
    sheets = ", ".join(sheet(number) for number in range(1, annotators + 1))
    log.info("%s: %d rows for %d annotators; send %s, or %s", out, drawn.num_rows, annotators, PAGE, sheets)
    return Judged(drawn, facts, place)


def _check_task(labels: Sequence[str], task: Task, place: Path) -> None:
    """Refuse rows of another task."""
    if labels != task.labels:
        raise InputError(
            f"{place}: its labels are {labels}, expected the task's {task.labels}; give the task that it was made with"
        )


def _check_settings(asked: Mapping[str, Any], drawn: Mapping[str, Any], place: Path) -> None:
    """Refuse settings that a sample drawn before does not have; those that were left at their defaults are its own."""
    usual = {name: argument.default for name, argument in inspect.signature(annotate).parameters.items()}
    for name, value in asked.items():
        if value not in (usual[name], drawn.get(name, value)):
            raise InputError(
                f"{name} is {value} with answers, but the sample in {place} was drawn with {name} {drawn[name]}; leave "
                f"{name} out, or draw another sample with another --out"
            )


def _draw(artifact: artifacts.Artifact, table: pa.Table, task: Task, rows: int, above: float, seed: int) -> pa.Table:
    """A seeded sample of the rows whose class is probable enough.

    Raises:
        InputError: If there are no probabilities to compare with, a class is none of the task's, or no row is left.
    """
    path, labels = artifact.path, artifact.manifest.facts.get("labels", task.labels)
    _check_task(labels, task, path)
    has_class = "class" in table.column_names
    if has_class:
        check_labels(table, "class", labels, path, "run its stage again")
    kept = np.arange(table.num_rows)
    if above > 0:
        if "probs" not in table.column_names:
            raise InputError(f"{path}: no column 'probs', so `above` has nothing to compare with; leave it out")
        probs_NC = probabilities(table, len(labels), path, "run its stage again")
        probs_N = probs_NC.max(axis=1)
        if has_class:
            classes = table["class"].to_pylist()
            probs_N = probs_NC[np.arange(len(classes)), [labels.index(label) for label in classes]]
        kept = np.flatnonzero(probs_N >= above)
    if not len(kept):
        raise InputError(f"{path}: no row of {table.num_rows} has a teacher probability of {above}; lower `above`")
    hashes = seeded_hash([table["id"][int(row)].as_py() for row in kept], seed, "annotate")
    drawn = kept[np.argsort(hashes, kind="stable")][:rows]
    if len(drawn) < rows:
        log.warning("%s: %d rows are drawn, as many as there are, instead of %d", path, len(drawn), rows)
    return table.take(drawn)


def _judge(out: Path, paths: Sequence[Path], task: Task, asked: Mapping[str, Any], overwrite: bool) -> Judged:
    """Read the answers, report the agreement, and write the judged rows."""
    if not paths:
        raise InputError("answers: empty, expected the file of one annotator at least")
    sample = artifacts.read(out, STAGE)
    _check_task(sample.manifest.facts["labels"], task, out)
    _check_settings(asked, sample.manifest.config, out)
    known = sample.table.to_pylist()
    given = read_answers(paths, known, task)
    summary = _agreement(given, known, task)
    text = agreement_lines(summary)
    rows = [
        {**row, **{column_of(one.name): _shown(one, row["id"]) for one in given},
         "label": majority([one.labels.get(row["id"]) for one in given])}
        for row in known
        if any(row["id"] in one.labels for one in given)
    ]  # fmt: skip
    judged = [row for row in rows if row["label"] is not None]
    rejected = [
        {**row, "reason": "annotators disagree" if _some(row, given) else "unclear"}
        for row in rows
        if row["label"] is None
    ]
    made = Judged(
        pa.Table.from_pylist(judged) if judged else sample.table.slice(0, 0),
        {"labels": task.labels, **summary, "judged": len(judged), "rejected": len(rejected)},
        rejected=pa.Table.from_pylist(rejected) if rejected else sample.table.slice(0, 0),
    )
    folder = out / JUDGED
    identity = {
        "sample": sample.manifest.fingerprint,
        "answers": {one.name: fingerprint.of_value(one.labels) for one in given},
    }
    with Run(folder, JUDGED, identity) as run:
        if run.begin(overwrite, writes=(AGREEMENT,)) is not State.COMPLETE:
            shared: dict[str, Any] = {
                "inputs": {"sample": artifacts.reference(out, sample.manifest)}, "command": command_line(),
                "lineage": sample.manifest.lineage, "config": identity,
            }  # fmt: skip
            artifacts.write(folder / artifacts.REJECTED, made.rejected, stage="rejected", **shared)
            (folder / AGREEMENT).write_text(text, encoding="utf-8")
            files = [folder / AGREEMENT, *artifacts.files_of(folder / artifacts.REJECTED)]
            artifacts.write(folder, made.table, stage=JUDGED, facts=made.summary, files=files, **shared)
    for line in text.splitlines():
        log.info("%s", line)
    log.info("%s: %d rows with a label, %d without; gold for `data.train.path`", folder, len(judged), len(rejected))
    return replace(made, path=folder)


def _shown(answers: Answers, row: str) -> str | None:
    return (answers.labels[row] or UNCLEAR) if row in answers.labels else None


def _some(row: Mapping[str, Any], given: Sequence[Answers]) -> bool:
    return any(one.labels.get(row["id"]) is not None for one in given)


def _agreement(given: Sequence[Answers], known: Sequence[Mapping[str, Any]], task: Task) -> dict[str, Any]:
    labels = {
        name: {row["id"]: task.match(row[column]) if row.get(column) else None for row in known}
        for name, column in (("prompt_label", "prompt_label"), ("teacher", "class"))
    }
    return {
        "by_annotator": {
            one.name: {
                "judged": len(one.labels),
                "unclear": sum(label is None for label in one.labels.values()),
                **{name: alignment(one, found, task) for name, found in labels.items()},
            }
            for one in given
        },
        "between": between(given, task),
    }


def agreement_lines(summary: Mapping[str, Any]) -> str:
    """The agreement as Markdown."""
    lines = ["# Agreement", "", "Shares in percent, with 95 % intervals (Wilson).", ""]
    lines += ["| annotator | judged | unclear | agrees with the prompt label | agrees with the teacher |"]
    lines += ["|---|---|---|---|---|"]
    for name, one in summary["by_annotator"].items():
        shares = [_share(one["prompt_label"]), _share(one["teacher"])]
        lines.append(f"| {inline(name)} | {one['judged']} | {one['unclear']} | {' | '.join(shares)} |")
    found = summary["between"]
    if found is not None:
        value = "undefined, as all gave the same label" if found["value"] is None else f"{found['value']:.3f}"
        lines += [
            "",
            f"{found['measure']}: {value} ({found['rows']} rows, {100 * found['share']:.1f} % with one label).",
        ]
    return "\n".join(lines) + "\n"


def _share(one: Mapping[str, Any]) -> str:
    if one["share"] is None:
        return ""
    return f"{100 * one['share']:.1f} [{100 * one['low']:.1f}, {100 * one['high']:.1f}] of {one['rows']}"
