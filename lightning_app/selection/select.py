"""`python main.py select`: from the pool to the rows that the student sees."""

# N = pool rows, K = kept rows, C = classes

import logging
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa

from ..core import artifacts
from ..core.errors import InputError, shorten
from ..core.pairings import With, check_pairings
from ..core.ranges import NonNegativeInt, Seed, check_ranges
from ..core.results import Result
from ..core.runs import Run, State, command_line, output_folder
from ..core.task import Task
from ..core.user_code import user_code
from ..data.sources import Rows, Source, load_rows
from .class_from import ClassFrom, agrees, check_prompt_labels, classes_of, place_of_classes, usual_class_from
from .diversity import diversity_score
from .evidence import Evidence, gather
from .lookup import EXPECTED, code_of, find_strategy
from .quotas import Choice, cut, quotas_by_class
from .strategies import BUILT_IN, Candidates, Strategy

log = logging.getLogger(__name__)

# What a selection adds to the pool's columns.
WRITTEN = ("class", "probs", "cluster", "strategy", "score", "rank", "why")


@dataclass(frozen=True)
class Selection(Result):
    """The rows that a strategy keeps, class by class and best first.

    `summary` holds the method's settings and, by class, the rows that were available and kept, the shortfall and the
    ties at the cut.
    """


@dataclass(frozen=True)
class Method:
    """How rows are chosen; see `select`."""

    strategy: str
    class_from: ClassFrom
    variant: Literal["paper", "released"]
    quota: dict[str, int]
    agreement: bool
    min_words: int
    seed: int
    options: dict[str, Any] = field(default_factory=dict)
    code: str | None = None
    prompt_labels: bool = True

    def as_facts(self) -> dict[str, Any]:
        """JSON values; what has no say in the result is left out, so that older selections stay the same run."""
        plain = {
            "variant": "paper", "agreement": False, "min_words": 0, "options": {}, "code": None, "prompt_labels": True,
        }  # fmt: skip
        return {name: value for name, value in asdict(self).items() if name not in plain or value != plain[name]}


@check_ranges()
@check_pairings
def select(
    task: Task,
    pool: Source | list[Source],
    pseudolabels: str | None = None,
    strategy: str = "top",
    class_from: ClassFrom | None = None,
    variant: Literal["paper", "released"] = "paper",
    quota: int | dict[str, int] = 2500,
    agreement: bool = False,
    min_words: NonNegativeInt = 0,
    dynamics: str | None = None,
    embeddings: str | None = None,
    target_embeddings: str | None = None,
    options: dict[str, Any] | None = None,
    seed: Seed = 0,
    prompt_labels: bool = True,
    allow_empty: bool = False,
    out: str | None = "runs/select",
    overwrite: Annotated[bool, With("out")] = False,
) -> Selection:
    """Keep a quota of pool rows per class: those a strategy scores highest.

    Args:
        task: Text columns and labels.
        pool: The pool's rows: files or an artifact.
        pseudolabels: The teacher's artifact for the same pool; needed unless rows are drawn at random by prompt class.
        strategy: random, top, diverse, ambiguous, easy, hard, ccs, near_target, or `module.function` of your own (see
            `labelbridge.lightning_app.selection.strategies`).
        class_from: Whether a row's class is the teacher's most likely one, the one its prompt asked for, or the most
            likely one after the teacher's last epoch. Null is `teacher`, or `last_epoch` where the released code takes
            that (ambiguous and easy, `variant: released`).
        variant: `paper` or `released`, where the paper's text and its code differ (diverse, ambiguous, easy).
        quota: Rows per class: a number, or a map from label to number.
        agreement: Keep only rows whose most likely class, says the teacher, is the one that their prompt asked for.
        min_words: Keep only rows with so many words in each text column (the released code: 11 for sentiment, 5 for
            NLI).
        dynamics: Training dynamics for the same pool (ambiguous, easy, ccs).
        embeddings: Embeddings of the same pool (diverse, near_target); with them the diversity of what is kept is told.
        target_embeddings: Embeddings of unlabelled target text (near_target).
        options: Settings of the strategy, such as `{clusters: 25}`.
        seed: Seed of random draws and of ties.
        prompt_labels: False for unlabelled target text, which a student's pseudolabels turn into rows to train on
            (self-training; transductive: a test refuses rows with that text).
        allow_empty: Write the selection even if it has no rows, or all but one of the classes that the quota asks for
            are empty.
        out: The output folder; null writes nothing, and only says what would be kept.
        overwrite: Replace what another run left there.

    Raises:
        InputError: If there are no rows to select, or of one class alone where the quota asks for several; see
            `allow_empty`.
    """
    rows = load_rows(pool, task, "prompt_label" if prompt_labels else None)
    _refuse_own_columns(rows)
    class_from = class_from or usual_class_from(strategy, variant)
    check_prompt_labels(prompt_labels, class_from, agreement)
    quotas = quotas_by_class(quota, task)
    scorer = find_strategy(strategy, options)
    code = code_of(strategy)
    method = Method(
        strategy, class_from, variant, quotas, agreement, min_words, seed, options or {}, code, prompt_labels
    )
    evidence = gather(rows, task, pseudolabels, dynamics, embeddings, target_embeddings)
    return select_rows(rows, evidence, method, scorer, task, allow_empty=allow_empty, out=out, overwrite=overwrite)


def select_rows(
    rows: Rows,
    evidence: Evidence,
    method: Method,
    scorer: Strategy,
    task: Task,
    *,
    allow_empty: bool = False,
    out: str | None = None,
    overwrite: bool = False,
) -> Selection:
    """Keep rows by what is known of them, and write the artifact unless `out` is None; see `select`.

    Args:
        rows: The pool.
        evidence: What the strategy may look at.
        method: The settings.
        scorer: The strategy that `method` names, its options set.
        task: Text columns and labels.
        allow_empty: As for `select`.
        out: As for `select`.
        overwrite: As for `select`.
    """
    _refuse_unused(evidence, method)
    inputs = {"pool": rows.reference, **evidence.inputs}
    prints = {name: one["fingerprint"] for name, one in inputs.items()}
    classes_N = classes_of(rows, evidence, task, method.class_from)
    agrees_N = None
    if method.prompt_labels:
        agrees_N = agrees(rows, evidence, classes_N, task, method.class_from, is_required=method.agreement)
    allowed_N, dropped = _filter(rows, agrees_N, method, task)
    if not allow_empty:  # before the run begins, which with `overwrite` removes what is in the folder
        candidates_C = np.bincount(classes_N[allowed_N], minlength=len(task.labels))
        available = dict(zip(task.labels, candidates_C.tolist(), strict=True))
        _refuse_empty_classes(available, available, method, dropped, place_of_classes(inputs, method.class_from))

    def chosen() -> Selection:
        members = [np.flatnonzero(allowed_N & (classes_N == number)) for number in range(len(task.labels))]
        choices = [
            _choose(rows, evidence, members[number], number, method, scorer, task) for number in range(len(members))
        ]
        if not allow_empty:  # a strategy may keep no row of a class that has some
            available = dict(zip(task.labels, map(len, members), strict=True))
            selected = {label: len(choice.kept) for label, choice in zip(task.labels, choices, strict=True)}
            _refuse_empty_classes(selected, available, method, dropped, f"strategy '{method.strategy}'")
        kept_K = np.concatenate([own[choice.kept] for own, choice in zip(members, choices, strict=True)])
        table = _table(rows, evidence, kept_K, choices, method, task)
        summary = _summary(table, kept_K, members, choices, agrees_N, dropped, method, task, evidence)
        facts = {"labels": task.labels, **method.as_facts(), **summary}
        _report(facts, out or "selection")
        return Selection(table, facts)

    if out is None:
        return chosen()
    with Run(output_folder(out), "select", {"task": asdict(task), "inputs": prints, **method.as_facts()}) as run:
        reads = [place for one in inputs.values() for place in one["paths"]]
        if run.begin(overwrite, reads) is State.COMPLETE:
            written = artifacts.read(Path(out), "select")
            _report(written.manifest.facts, out)
            return Selection(written.table, written.manifest.facts, written.path)
        selection = chosen()
        artifacts.write(
            Path(out),
            selection.table,
            stage="select",
            inputs=inputs,
            lineage={**rows.lineage, **evidence.lineage},
            config={"task": asdict(task), **method.as_facts()},
            facts=selection.summary,
            command=command_line(),
        )
    log.info("%s: %d rows kept of %d", out, len(selection), rows.table.num_rows)
    return replace(selection, path=Path(out))


def _refuse_unused(evidence: Evidence, method: Method) -> None:
    """Refuse what has no effect on a built-in strategy; text that it need not look at would be barred from tests.

    Raises:
        InputError: Names the setting, and the strategies that it is for.
    """
    given = {"target_embeddings": "target_embeddings" in evidence.inputs, "variant": method.variant != "paper"}
    those = {
        "target_embeddings": [name for name, one in BUILT_IN.items() if "target" in one.needs],
        "variant": [name for name, one in BUILT_IN.items() if one.has_variants],
    }
    for setting, names in those.items():
        if given[setting] and method.strategy in BUILT_IN and method.strategy not in names:
            raise InputError(
                f"{setting}: has no effect on strategy '{method.strategy}', expected {' or '.join(names)}; leave "
                f"{setting} out"
            )


def _refuse_own_columns(rows: Rows) -> None:
    """Refuse columns that are carried along under a name that a selection's own columns have.

    Raises:
        InputError: Names the column.
    """
    taken = next((name for name in WRITTEN if name in rows.table.column_names), None)
    if taken is not None:
        raise InputError(
            f"{', '.join(rows.places)}: `keep` names '{taken}', which is a column of the selection; leave it out, or "
            f"carry it along under another name with `columns: {{pool_{taken}: {taken}}}`"
        )


def _filter(rows: Rows, agrees_N: np.ndarray | None, method: Method, task: Task) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows pass the filters, and how many each filter dropped, in this order."""
    allowed_N, dropped = np.ones(rows.table.num_rows, dtype=bool), {}
    if method.min_words:
        shortest_N = np.min(
            [[len(text.split()) for text in rows.table[name].to_pylist()] for name in task.columns], axis=0
        )
        long_enough_N = shortest_N >= method.min_words
        dropped["min_words"] = int((~long_enough_N).sum())
        allowed_N &= long_enough_N
    if method.agreement:
        assert agrees_N is not None, "checked above"
        dropped["agreement"] = int((allowed_N & ~agrees_N).sum())
        allowed_N &= agrees_N
    return allowed_N, dropped


def _refuse_empty_classes(
    selected: dict[str, int], available: dict[str, int], method: Method, dropped: dict[str, int], place: str
) -> None:
    """Refuse a selection from which a student could learn at most one of the classes that the quota asks for.

    Raises:
        InputError: If no class has rows, or only one where the quota asks for several.
    """
    wanted = [label for label, rows in method.quota.items() if rows]
    filled_classes = sum(selected[label] > 0 for label in wanted)
    if filled_classes > 1 or (filled_classes == 1 and len(wanted) == 1):
        return
    if not wanted:
        raise InputError(
            "quota: 0 rows of every class, expected 1 or more of at least one; give a larger quota, or accept an empty "
            "selection with --allow_empty true"
        )
    counts = ", ".join(f"{label} {available[label]}" for label in method.quota)
    filters = "".join(f", {count} dropped by {name}" for name, count in dropped.items() if count)
    filled = [f"'{label}'" for label in wanted if selected[label]]
    remedies = [
        *(["train a better teacher", "give --class_from prompt"] if method.class_from != "prompt" else []),
        *(["relax the filters"] if filters else []),
        "give a quota of 0 to the other classes" if filled else "give a larger pool",
        "accept it with --allow_empty true",
    ]
    found = f"only class {filled[0]} would have rows" if filled else "no class would have rows"
    raise InputError(
        f"{place}: {found} in the selection, but the quota asks for {len(wanted)} classes (candidates: {counts}"
        f"{filters}); {', '.join(remedies[:-1])}, or {remedies[-1]}"
    )


def _choose(
    rows: Rows, evidence: Evidence, members: np.ndarray, number: int, method: Method, strategy: Strategy, task: Task
) -> Choice:
    """Let the strategy choose among one class's rows, whose positions in the pool are `members`."""
    quota = method.quota[task.labels[number]]
    with np.errstate(divide="ignore"):
        log_probs = None if evidence.probs_NC is None else np.log(evidence.probs_NC[members]).astype(np.float32)
    ids = rows.table["id"].take(members).to_pylist()
    candidates = Candidates(
        ids=ids,
        label=number,
        log_probs_NC=log_probs,
        seed=method.seed,
        quota=quota,
        variant=method.variant,
        dynamics_ENC=None if evidence.dynamics_ENC is None else evidence.dynamics_ENC[:, members],
        embeddings_ND=None if evidence.embeddings_ND is None else evidence.embeddings_ND[members],
        target_MD=evidence.target_MD,
        deviations_NC=None if evidence.deviations_NC is None else evidence.deviations_NC[members],
    )
    with user_code(f"strategy '{method.strategy}'", expected=EXPECTED):
        chosen = strategy(candidates)
    _refuse_masked(chosen, method)
    if not isinstance(chosen, Choice):
        return cut(_scores(chosen, ids, method), ids, quota, method.seed)
    ties = chosen.ties if isinstance(chosen.ties, int | np.integer) and chosen.ties >= 0 else 0
    cluster = None if chosen.cluster is None else _clusters(chosen.cluster, ids, method)
    return Choice(_kept(chosen.kept, ids, quota, method), _scores(chosen.score, ids, method), cluster, int(ties))


def _refuse_masked(chosen: Any, method: Method) -> None:
    """Refuse arrays some of whose numbers are masked: what is below a mask would count."""
    parts = vars(chosen) if isinstance(chosen, Choice) else {"scores": chosen}
    masked = next((name for name, part in parts.items() if isinstance(part, np.ma.MaskedArray)), None)
    if masked is not None:
        raise InputError(
            f"strategy '{method.strategy}': {masked} is a masked array, expected plain numbers; "
            "fill it with `.filled(...)`"
        )


def _kept(given: Any, ids: list[str], quota: int, method: Method) -> np.ndarray:
    """The positions that a strategy keeps.

    Raises:
        InputError: If they are not whole numbers from 0 up to the number of rows, once each, within the quota.
    """
    kept = np.asarray(given)
    if kept.size == 0:
        return np.empty(0, dtype=np.int64)
    if kept.ndim != 1 or kept.dtype.kind not in "iu":
        raise InputError(
            f"strategy '{method.strategy}': kept is {shorten(given)}, expected positions: a list of whole numbers"
        )
    outside = (kept < 0) | (kept >= len(ids))
    if outside.any():
        raise InputError(
            f"strategy '{method.strategy}': kept row {kept[outside][0]} of a class with {len(ids)} rows, expected "
            f"0 to {len(ids) - 1}"
        )
    if len(np.unique(kept)) != len(kept) or len(kept) > quota:
        raise InputError(f"strategy '{method.strategy}': kept {len(kept)} rows, expected up to {quota} different ones")
    return kept.astype(np.int64)


def _clusters(given: Any, ids: list[str], method: Method) -> np.ndarray:
    clusters = np.asarray(given)
    if clusters.shape != (len(ids),) or clusters.dtype.kind not in "iu":
        raise InputError(
            f"strategy '{method.strategy}': cluster is {shorten(given)}, expected a whole number for each of "
            f"{len(ids)} rows"
        )
    return clusters.astype(np.int64)


def _scores(given: Any, ids: list[str], method: Method) -> np.ndarray:
    """What a strategy says of the rows, as numbers that can be compared and negated.

    Raises:
        InputError: If it is not one number for each of them.
    """
    try:
        scores = np.asarray(given)
        if scores.dtype.kind not in "fiub":
            raise TypeError
        if scores.dtype.kind != "f":  # a mask or unsigned numbers could not be negated
            scores = scores.astype(np.float64)
    except (TypeError, ValueError, RuntimeError):  # the last of a tensor with a gradient
        scores = np.empty(0)
    if scores.shape != (len(ids),):
        raise InputError(
            f"strategy '{method.strategy}': {shorten(given)}, expected one number for each of {len(ids)} rows"
        )
    if np.isnan(scores).any():
        raise InputError(
            f"strategy '{method.strategy}': the score of row '{ids[int(np.isnan(scores).argmax())]}' is nan, expected "
            "a number; mend the strategy, or what it looks at"
        )
    return scores


def _table(
    rows: Rows, evidence: Evidence, kept_K: np.ndarray, choices: list[Choice], method: Method, task: Task
) -> pa.Table:
    """Whole rows that were kept, class by class and best first, each with why."""
    names = [label for label, choice in zip(task.labels, choices, strict=True) for _ in choice.kept]
    ranks_K = np.concatenate([np.arange(1, len(choice.kept) + 1) for choice in choices])
    score_K = np.concatenate([choice.score[choice.kept] for choice in choices]).astype(np.float64)
    table = rows.table.take(kept_K).append_column("class", pa.array(names, pa.string()))
    if evidence.probs_NC is not None:
        table = table.append_column("probs", pa.array(list(evidence.probs_NC[kept_K]), pa.list_(pa.float64())))
    why = [f"{method.strategy}: rank {rank} of {label}" for rank, label in zip(ranks_K, names, strict=True)]
    if all(choice.cluster is not None for choice in choices):
        cluster_K = np.concatenate([choice.cluster[choice.kept] for choice in choices if choice.cluster is not None])
        table = table.append_column("cluster", pa.array(cluster_K, pa.int64()))
        why = [f"{reason}, cluster {cluster}" for reason, cluster in zip(why, cluster_K, strict=True)]
    return (
        table.append_column("strategy", pa.array([method.strategy] * len(kept_K), pa.string()))
        .append_column("score", pa.array(score_K))
        .append_column("rank", pa.array(ranks_K, pa.int64()))
        .append_column("why", pa.array(why, pa.string()))
    )


def _summary(
    table: pa.Table,
    kept_K: np.ndarray,
    members: list[np.ndarray],
    choices: list[Choice],
    agrees_N: np.ndarray | None,
    dropped: dict[str, int],
    method: Method,
    task: Task,
    evidence: Evidence,
) -> dict[str, Any]:
    """Counts, shortfalls, ties, how often the teacher's class is the one that the prompt asked for, and diversity."""
    summary: dict[str, Any] = {
        "classes": {
            label: {
                "available": len(own),
                "quota": method.quota[label],
                "kept": len(choice.kept),
                "shortfall": method.quota[label] - len(choice.kept),
                "ties_at_cut": choice.ties,
            }
            for label, own, choice in zip(task.labels, members, choices, strict=True)
        },
        **({"prompt_labels": dict(Counter(table["prompt_label"].to_pylist()))} if method.prompt_labels else {}),
        "agreement_with_prompt": float(agrees_N[kept_K].mean()) if agrees_N is not None and len(kept_K) else None,
    }
    summary.update(evidence.teacher)
    if dropped:
        summary["dropped_by_filter"] = dropped
    if evidence.embeddings_ND is not None:
        summary["diversity"] = diversity_score(evidence.embeddings_ND[kept_K])
    if evidence.target_MD is not None or not method.prompt_labels:
        summary["transductive"] = "looked at unlabelled target text, which test refuses to score"
    return summary


def _report(facts: dict[str, Any], out: str) -> None:
    for label, one in facts["classes"].items():
        log.info("%s: %s: kept %d of %d", out, label, one["kept"], one["available"])
        if one["shortfall"]:
            log.warning("%s: %s: %d rows short of its quota of %d", out, label, one["shortfall"], one["quota"])
        if one["ties_at_cut"]:
            log.info(
                "%s: %s: %d rows tied at the cut were excluded by a seeded tie-break", out, label, one["ties_at_cut"]
            )
    for name, count in facts.get("dropped_by_filter", {}).items():
        log.info("%s: %d rows dropped by %s", out, count, name)
    if facts.get("diversity") is not None:
        log.info("%s: diversity %.4f", out, facts["diversity"])
