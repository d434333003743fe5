"""`python main.py select`: from the pool to the rows that the student sees."""

import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from lightning_app import artifacts
from lightning_app.errors import InputError
from lightning_app.paths import find
from lightning_app.probabilities import read_probs
from lightning_app.runs import Run, State, command_line
from lightning_app.selection.quotas import Cut, cut, quotas_by_class
from lightning_app.selection.strategies import Candidates, find_strategy
from lightning_app.sources import Rows, Source, load_rows
from lightning_app.task import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """What the teacher says of the pool: probabilities in the task's order, and where they come from."""

    artifact: artifacts.Artifact
    probs_NC: np.ndarray


def select(
    task: Task,
    pool: Source | list[Source],
    pseudolabels: str | None = None,
    strategy: str = "top",
    class_from: Literal["teacher", "prompt"] = "teacher",
    quota: int | dict[str, int] = 2500,
    seed: int = 0,
    out: str = "runs/select",
    overwrite: bool = False,
) -> None:
    """Keep a quota of pool rows per class: those a strategy scores highest.

    Args:
        task: Text columns and labels.
        pool: The pool's rows: files or an artifact.
        pseudolabels: The teacher's artifact for the same pool; needed unless rows are drawn at random by prompt class.
        strategy: `random`, `top`, or `module.function` of your own (see `lightning_app.selection.strategies`).
        class_from: Whether a row's class is the teacher's most likely one, or the one its prompt asked for.
        quota: Rows per class: a number, or a map from label to number.
        seed: Seed of random draws and of ties.
        out: The output folder.
        overwrite: Replace what another run left there.
    """
    rows = load_rows(pool, task, "prompt_label")
    quotas = quotas_by_class(quota, task)
    scorer = find_strategy(strategy)
    teacher = _read_teacher(pseudolabels, rows, task) if pseudolabels else None
    if teacher is None and class_from == "teacher":
        raise InputError(
            "class_from 'teacher' needs the teacher's probabilities; give --pseudolabels (make them with "
            f'"{artifacts.MAKERS["pseudolabel"]}"), or take the classes from the prompt with --class_from prompt'
        )
    method = {"strategy": strategy, "class_from": class_from, "quota": quotas, "seed": seed}
    inputs = {"pool": rows.reference}
    if teacher is not None:
        inputs["pseudolabels"] = artifacts.reference(teacher.artifact.path, teacher.artifact.manifest)
    prints = {name: one["fingerprint"] for name, one in inputs.items()}
    with Run(Path(out), "select", {"task": asdict(task), "inputs": prints, **method}) as run:
        if run.begin(overwrite) is State.WHOLE:
            log.info("%s: whole already, nothing to do", out)
            return
        classes = _classes(rows, teacher, task, class_from)
        table, cuts = _keep(rows, teacher, classes, quotas, scorer, strategy, seed, task)
        facts = {"labels": task.labels, **method, **_summary(table, cuts, quotas, classes, task)}
        _report(facts, out)
        artifacts.write(
            Path(out),
            table,
            stage="select",
            inputs=inputs,
            lineage={**rows.lineage, **(teacher.artifact.manifest.lineage if teacher else {})},
            config={"task": asdict(task), **method},
            facts=facts,
            command=command_line(),
        )
    log.info("%s: %d rows kept of %d", out, table.num_rows, rows.table.num_rows)


def _read_teacher(path: str, rows: Rows, task: Task) -> Teacher:
    """The teacher's probabilities, one row for each pool row, joined by id."""
    artifact = artifacts.read(find(path) or Path(path), "pseudolabel")
    artifacts.check_fresh(artifact.path, artifact.manifest)
    artifacts.check_same_ancestor(artifact, "pool", rows.fingerprint, ", ".join(rows.places))
    labels = artifact.manifest.facts.get("labels", task.labels)
    remedy = f"rebuild with {artifacts.rebuild(artifact.manifest)}"
    probs_NC = read_probs(artifact.table, labels, task, str(artifact.path), remedy)
    position = {one: number for number, one in enumerate(artifact.table["id"].to_pylist())}
    missing = next((one for one in rows.ids if one not in position), None)
    if missing is not None or len(position) != artifact.table.num_rows or len(position) != len(rows.ids):
        named = f"no row for id '{missing}'" if missing is not None else "ids that are not the pool's, once each"
        raise InputError(f"{artifact.path}: {named}; {remedy}")
    return Teacher(artifact, probs_NC[[position[one] for one in rows.ids]])


def _classes(rows: Rows, teacher: Teacher | None, task: Task, class_from: str) -> np.ndarray:
    """Every pool row's class as a number; the first of equal probabilities."""
    if class_from == "teacher" and teacher is not None:
        best: np.ndarray = teacher.probs_NC.argmax(axis=1)
        return best
    numbers = {label: number for number, label in enumerate(task.labels)}
    return np.array([numbers[label] for label in rows.table["prompt_label"].to_pylist()])


def _keep(
    rows: Rows,
    teacher: Teacher | None,
    classes: np.ndarray,
    quotas: dict[str, int],
    scorer: Any,
    strategy: str,
    seed: int,
    task: Task,
) -> tuple[pa.Table, dict[str, Cut]]:
    """Whole rows that were kept, class by class and best first, and how each class was cut."""
    log_probs_NC = None
    if teacher is not None:
        with np.errstate(divide="ignore"):
            log_probs_NC = np.log(teacher.probs_NC).astype(np.float32)
    ids = np.asarray(rows.ids, dtype=object)
    kept, scores, ranks, cuts = [], [], [], {}
    for number, label in enumerate(task.labels):
        members = np.flatnonzero(classes == number)
        member_ids = ids[members].tolist()
        own = log_probs_NC[members] if log_probs_NC is not None else None
        score = np.asarray(scorer(Candidates(member_ids, number, own, seed)))
        if score.shape != members.shape:
            raise InputError(
                f"strategy '{strategy}': {score.shape} scores, expected one for each of {members.shape} rows"
            )
        cuts[label] = cut(score, member_ids, quotas[label], seed)
        kept.append(members[cuts[label].kept])
        scores.append(score[cuts[label].kept])
        ranks.append(np.arange(1, len(cuts[label].kept) + 1))
    index = np.concatenate(kept)
    table = rows.table.take(index)
    names = [task.labels[number] for number in classes[index]]
    table = table.append_column("class", pa.array(names, pa.string()))
    if teacher is not None:
        table = table.append_column("probs", pa.array(list(teacher.probs_NC[index]), pa.list_(pa.float64())))
    why = [f"{strategy}: rank {rank} of {label}" for rank, label in zip(np.concatenate(ranks), names, strict=True)]
    return (
        table.append_column("strategy", pa.array([strategy] * len(index), pa.string()))
        .append_column("score", pa.array(np.concatenate(scores).astype(np.float64)))
        .append_column("rank", pa.array(np.concatenate(ranks), pa.int64()))
        .append_column("why", pa.array(why, pa.string())),
        cuts,
    )


def _summary(
    table: pa.Table, cuts: dict[str, Cut], quotas: dict[str, int], classes: np.ndarray, task: Task
) -> dict[str, Any]:
    """Counts, shortfalls, ties, and how often the class is the one that the prompt asked for."""
    agree = [
        own == asked for own, asked in zip(table["class"].to_pylist(), table["prompt_label"].to_pylist(), strict=True)
    ]
    available = Counter(classes.tolist())
    return {
        "classes": {
            label: {
                "available": available[number],
                "quota": quotas[label],
                "kept": len(cuts[label].kept),
                "shortfall": cuts[label].shortfall,
                "ties_at_cut": cuts[label].ties,
            }
            for number, label in enumerate(task.labels)
        },
        "agreement_with_prompt": sum(agree) / len(agree) if agree else None,
    }


def _report(facts: dict[str, Any], out: str) -> None:
    for label, one in facts["classes"].items():
        log.info("%s: %s: kept %d of %d", out, label, one["kept"], one["available"])
        if one["shortfall"]:
            log.warning("%s: %s: %d rows short of its quota of %d", out, label, one["shortfall"], one["quota"])
        if one["ties_at_cut"]:
            log.info("%s: %s: %d rows with the same score were left out by lot", out, label, one["ties_at_cut"])
