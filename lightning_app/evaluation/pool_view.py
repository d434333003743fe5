"""The pool behind tested models, row by row: where the teacher puts each row, and which selections kept it."""

# N = rows, C = classes, D = dimensions

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..core import artifacts
from ..core.ancestors import ancestors
from ..core.artifacts import Manifest
from ..core.packages import require
from ..core.task import Task
from ..dynamics.statistics import statistics
from ..dynamics.store import read_dynamics
from ..selection.diversity import diversity_score
from .predictions import Tested

BETWEEN_TEXTS = " ‖ "  # between the texts of a pair
_SAMPLE = 20_000  # rows that principal components are computed from
Reduce = Callable[[np.ndarray], np.ndarray]
"""Embeddings of shape (N, D) -> a plane of shape (N, 2)."""


@dataclass(frozen=True)
class Axes:
    """A way to lay out the rows.

    Args:
        name: What the layout shows.
        x_label: What x is.
        y_label: What y is.
        x_N: Values.
        y_N: Values.
    """

    name: str
    x_label: str
    y_label: str
    x_N: np.ndarray
    y_N: np.ndarray


@dataclass(frozen=True)
class Richness:
    """How much sentiment words carry: sums of SentiWordNet's scores over the number of words.

    Args:
        positive: By positive scores.
        negative: By negative scores.
    """

    positive: float
    negative: float

    @property
    def overall(self) -> float:
        """Both together."""
        return self.positive + self.negative


@dataclass(frozen=True)
class Selection:
    """A selection from the pool.

    Args:
        path: Its folder.
        name: Its strategy, and what else tells it from the others.
        methods: The methods that were trained on it.
        manifest: Its manifest.
        ids: The ids of its rows.
        diversity: Mean cosine distance between its rows; None where the pool has no embeddings.
        richness: Its sentiment richness, where it was asked for and the rows are English.
    """

    path: Path
    name: str
    methods: list[str]
    manifest: Manifest
    ids: list[str]
    diversity: float | None = None
    richness: Richness | None = None


@dataclass(frozen=True)
class PoolView:
    """A pool with everything that is known of its rows.

    Args:
        path: Where the pool was read.
        task: The task.
        ids: N row ids.
        texts: The rows' texts, pairs joined; None where no artifact holds it.
        prompt_labels: The classes that the prompts asked for, None where unknown.
        domains: The domains, None where unknown.
        languages: The languages, None where unknown.
        probs_NC: The teacher's probabilities, if pseudolabels are there.
        axes: Layouts, the data map first.
        selections: The selections from this pool.
        ancestry: Stage and folder of everything that the selections descend from.
    """

    path: str
    task: Task
    ids: list[str]
    texts: list[str | None]
    prompt_labels: list[str | None]
    domains: list[str | None]
    languages: list[str | None]
    probs_NC: np.ndarray | None
    axes: list[Axes]
    selections: list[Selection]
    ancestry: list[tuple[str, str]] = field(default_factory=list)


def pool_views(tested: Sequence[Tested], umap: bool = False) -> list[PoolView]:
    """The pools that the tested models' selections were made from, in the order of the runs.

    Artifacts are read where the runs read them; what is gone is left out.

    Args:
        tested: The runs.
        umap: Also lay out embeddings by UMAP.

    Raises:
        InputError: If UMAP is not installed.
    """
    reduce = _umap() if umap else None
    groups: dict[tuple[str, str], dict[Path, tuple[Manifest, list[str], Task]]] = {}
    for run in tested:
        for folder, manifest in ancestors(Path(run.path)):
            if manifest.stage == "select" and "pool" in manifest.inputs and artifacts.is_whole(folder):
                pool = manifest.inputs["pool"]
                known = groups.setdefault((", ".join(pool["paths"]), pool["fingerprint"]), {})
                methods = known.setdefault(folder, (manifest, [], run.task))[1]
                methods += [run.method] if run.method not in methods else []
    return [_view(path, found, reduce) for (path, _), found in groups.items()]


def _view(pool: str, found: dict[Path, tuple[Manifest, list[str], Task]], reduce: Reduce | None) -> PoolView:
    task = next(iter(found.values()))[2]
    tables = {folder: artifacts.read(folder).table for folder in found}
    near = {place: manifest for folder in found for place, manifest in ancestors(folder)}
    base = _rows_of_pool(pool, near, task, tables)
    ids: list[str] = base["id"].to_pylist()
    kept = pa.concat_tables(
        [table.select([name for name in (*task.columns, "id", "prompt_label", "lang") if name in table.column_names])
         for table in tables.values()],
        promote_options="permissive",
    )  # fmt: skip
    by_id = {row["id"]: row for row in kept.to_pylist()}

    def column(name: str) -> list[Any]:
        if name in base.column_names:
            values: list[Any] = base[name].to_pylist()
            return values
        return [by_id.get(row, {}).get(name) for row in ids]

    parts = [column(name) for name in task.columns]
    texts = [None if None in row else BETWEEN_TEXTS.join(row) for row in zip(*parts, strict=True)]
    probs_NC = _pseudolabels(near, ids, task)
    embedded_ND = _embedded(near, ids)
    return PoolView(
        pool, task, ids, texts, column("prompt_label"),
        [None if value is None else str(value) for value in column("domain")],
        column("lang"),
        probs_NC,
        [*_dynamics(near, ids, task), *_probabilities(probs_NC), *_embeddings(embedded_ND, reduce)],
        [_with_diversity(one, ids, embedded_ND) for one in _named(found, tables)],
        [(manifest.stage, str(folder)) for folder, manifest in near.items() if manifest.stage != "select"],
    )  # fmt: skip


def _rows_of_pool(pool: str, near: dict[Path, Manifest], task: Task, tables: dict[Path, pa.Table]) -> pa.Table:
    """The pool's own rows, else the ids of its pseudolabels, else the rows that were selected."""
    for folder in near:
        if str(folder) == pool and artifacts.is_whole(folder):
            table = artifacts.read(folder).table
            if {"id", *task.columns} <= set(table.column_names):
                return table
    for folder, manifest in near.items():
        if manifest.stage == "pseudolabel" and artifacts.is_whole(folder):
            return artifacts.read(folder).table.select(["id"])
    return pa.table({"id": list(dict.fromkeys(row for table in tables.values() for row in table["id"].to_pylist()))})


def _pseudolabels(near: dict[Path, Manifest], ids: Sequence[str], task: Task) -> np.ndarray | None:
    for folder, manifest in near.items():
        labels = manifest.facts.get("labels")
        if manifest.stage == "pseudolabel" and artifacts.is_whole(folder) and labels == task.labels:
            table = artifacts.read(folder, "pseudolabel").table
            places = {row: place for place, row in enumerate(table["id"].to_pylist())}
            if all(row in places for row in ids):
                probs = np.asarray(table["probs"].to_pylist(), dtype=np.float64)
                matched: np.ndarray = probs[[places[row] for row in ids]]
                return matched
    return None


def _dynamics(near: dict[Path, Manifest], ids: Sequence[str], task: Task) -> Iterator[Axes]:
    """The data map of Swayamdipta et al. (arXiv 2009.10795), if the teacher recorded its training dynamics."""
    candidates = [folder for folder, manifest in near.items() if manifest.stage == "dynamics"]
    candidates += [folder / "dynamics" for folder, manifest in near.items() if manifest.stage == "teacher"]
    for folder in candidates:
        if not artifacts.is_whole(folder):
            continue
        read = read_dynamics(folder, task)
        places = {row: place for place, row in enumerate(read.ids)}
        if all(row in places for row in ids):
            rows = [places[row] for row in ids]
            found = statistics(read.log_probs_ENC[:, rows], read.reference_N[rows])
            yield Axes(
                f"data map: the teacher over {found.epochs} epochs",
                "variability: standard deviation of the probability over epochs",
                "confidence: mean probability over epochs",
                found.variability, found.confidence,
            )  # fmt: skip
            return


def _probabilities(probs_NC: np.ndarray | None) -> Iterator[Axes]:
    if probs_NC is None:
        return
    entropy_N = -(probs_NC * np.log(np.maximum(probs_NC, 1e-12))).sum(axis=1) / np.log(probs_NC.shape[1])
    second_N, first_N = np.sort(probs_NC, axis=1)[:, -2:].T
    yield Axes(
        "the teacher's probabilities",
        "entropy, as a share of the largest possible",
        "lead of the most likely class over the second",
        entropy_N, first_N - second_N,
    )  # fmt: skip


def _embedded(near: dict[Path, Manifest], ids: Sequence[str]) -> np.ndarray | None:
    """The embeddings of the rows, where every row has one; float32 of shape (N, D)."""
    for folder, manifest in near.items():
        if manifest.stage != "embed" or not artifacts.is_whole(folder):
            continue
        table = artifacts.read(folder, "embed").table
        places = {row: place for place, row in enumerate(table["id"].to_pylist())}
        if not all(row in places for row in ids):
            continue
        column = table["embedding"].combine_chunks()
        all_ND = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
        rows_ND: np.ndarray = all_ND[[places[row] for row in ids]].astype(np.float32)
        return rows_ND
    return None


def _with_diversity(selection: Selection, ids: Sequence[str], embedded_ND: np.ndarray | None) -> Selection:
    """A selection with its diversity: as recorded by a strategy that read embeddings, else from the pool's."""
    recorded = selection.manifest.facts.get("diversity")
    if isinstance(recorded, int | float):
        return replace(selection, diversity=float(recorded))
    places = {row: place for place, row in enumerate(ids)}
    if embedded_ND is None or not all(row in places for row in selection.ids):
        return selection
    return replace(selection, diversity=diversity_score(embedded_ND[[places[row] for row in selection.ids]]))


def _embeddings(rows_ND: np.ndarray | None, reduce: Reduce | None) -> Iterator[Axes]:
    """The first two principal components, and UMAP where it is asked for, if every row has an embedding."""
    if rows_ND is not None:
        sample_ND = rows_ND[np.random.default_rng(0).permutation(len(rows_ND))[:_SAMPLE]].astype(np.float64)
        centre_ND = sample_ND.mean(axis=0)
        _, vectors = np.linalg.eigh(np.cov((sample_ND - centre_ND).T))
        plane = (rows_ND - centre_ND) @ vectors[:, [-1, -2]]
        yield Axes("embeddings", "first principal component", "second principal component", plane[:, 0], plane[:, 1])
        if reduce is not None and len(rows_ND) > 2:
            placed_NK = reduce(rows_ND)
            yield Axes("embeddings by UMAP", "first coordinate", "second coordinate", placed_NK[:, 0], placed_NK[:, 1])


def _umap() -> Reduce:
    """UMAP (arXiv 1802.03426) with its own settings, by cosine; the seed makes it repeatable, on a single thread."""
    package = require("umap", "umap", "umap")

    def reduce(rows_ND: np.ndarray) -> np.ndarray:
        neighbours = min(15, len(rows_ND) - 1)
        model = package.UMAP(n_neighbors=neighbours, metric="cosine", random_state=0, n_jobs=1)
        placed_NK: np.ndarray = np.asarray(model.fit_transform(rows_ND), dtype=np.float64)
        return placed_NK

    return reduce


def _named(found: dict[Path, tuple[Manifest, list[str], Task]], tables: dict[Path, pa.Table]) -> list[Selection]:
    """The selections under short names: the strategy, and for those that share one, what tells them apart."""
    facts = {folder: manifest.facts for folder, (manifest, _, _) in found.items()}
    names = {folder: [str(own.get("strategy", folder.name))] for folder, own in facts.items()}
    for part in ("class_from", "quota", "seed"):
        texts = [", ".join(words) for words in names.values()]
        for folder, words in names.items():
            if texts.count(", ".join(words)) > 1 and part in facts[folder]:
                words.append(_part(part, facts[folder][part]))
    texts = [", ".join(words) for words in names.values()]
    return [
        Selection(
            folder,
            ", ".join(names[folder]) if texts.count(", ".join(names[folder])) == 1 else str(folder),
            methods,
            manifest,
            tables[folder]["id"].to_pylist(),
        )
        for folder, (manifest, methods, _) in found.items()
    ]


def _part(name: str, value: Any) -> str:
    if name == "class_from":
        return f"by {value}"
    if name == "quota" and isinstance(value, dict):
        counts = list(dict.fromkeys(value.values()))
        return f"{'/'.join(map(str, value.values() if len(counts) > 1 else counts))} per class"
    return f"{name} {value}"
