"""What a selection may look at beside the pool: pseudolabels, training dynamics, embeddings; joined by id."""

# N = pool rows, C = classes, E = epochs, D = dimensions, M = target rows

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..core import artifacts
from ..core.contracts import OF_LABEL_PRIOR, Reference, positions
from ..core.errors import InputError
from ..core.paths import find
from ..core.task import Task
from ..data.embeddings import unit_embeddings
from ..data.probabilities import DEVIATIONS, read_deviations, read_probs
from ..data.sources import Rows
from ..dynamics.store import read_dynamics


@dataclass(frozen=True)
class Evidence:
    """Everything that was given, one row for each pool row.

    Args:
        probs_NC: Pseudolabels in the task's order, float64.
        dynamics_ENC: Log-probabilities after every epoch, float32.
        embeddings_ND: Unit embeddings, float32.
        target_MD: Unit embeddings of unlabelled target text, float32.
        inputs: What was read: by name.
        lineage: The ancestors of all of it.
        deviations_NC: Standard deviations of the probabilities under dropout, in the task's order; float64.
        teacher: What the pseudolabels say of the teacher's label prior: rows of its gold per class (`gold_counts`), and
            how the prior was changed, if it was (`label_prior`).
    """

    probs_NC: np.ndarray | None = None
    dynamics_ENC: np.ndarray | None = None
    embeddings_ND: np.ndarray | None = None
    target_MD: np.ndarray | None = None
    inputs: dict[str, Reference] = field(default_factory=dict)
    lineage: dict[str, str] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    deviations_NC: np.ndarray | None = None


def gather(
    rows: Rows,
    task: Task,
    pseudolabels: str | None,
    dynamics: str | None,
    embeddings: str | None,
    target_embeddings: str | None,
) -> Evidence:
    """Read the artifacts that were named, and join them to the pool.

    Raises:
        InputError: If one is missing, not whole, out of date, of another pool, or lacks a row.
    """
    inputs: dict[str, Reference] = {}
    lineage: dict[str, str] = {}
    teacher: dict[str, Any] = {}

    def opened(name: str, path: str, stage: str) -> artifacts.Artifact:
        artifact = artifacts.read(find(path) or Path(path), stage)
        artifacts.check_fresh(artifact.path, artifact.manifest)
        inputs[name] = artifacts.reference(artifact.path, artifact.manifest)
        lineage.update(artifact.manifest.lineage)
        return artifact

    def of_pool(name: str, path: str, stage: str) -> tuple[artifacts.Artifact, np.ndarray]:
        artifact = opened(name, path, stage)
        return artifact, _join(artifact.path, artifact.manifest, artifact.table["id"].to_pylist(), rows)

    probs_NC = deviations_NC = dynamics_ENC = embeddings_ND = target_MD = encoder = None
    if pseudolabels:
        artifact, index = of_pool("pseudolabels", pseudolabels, "pseudolabel")
        probs_NC, deviations_NC = _teacher_scores(artifact, index, task)
        facts = artifact.manifest.facts
        teacher = {name: facts[name] for name in OF_LABEL_PRIOR if name in facts}
    if dynamics:
        read = read_dynamics(find(dynamics) or Path(dynamics), task)
        inputs["dynamics"] = artifacts.reference(read.path, read.manifest)
        lineage.update(read.manifest.lineage)
        dynamics_ENC = read.log_probs_ENC[:, _join(read.path, read.manifest, read.ids, rows)]
    if embeddings:
        artifact, index = of_pool("embeddings", embeddings, "embed")
        embeddings_ND, encoder = unit_embeddings(artifact)[index], artifact.manifest
    if target_embeddings:
        artifact = opened("target_embeddings", target_embeddings, "embed")
        if not set(task.columns) <= set(artifact.table.column_names):
            raise InputError(
                f"{target_embeddings}: columns {artifact.table.column_names}, expected the text too, to keep it out of "
                "the test sets; embed it with --data.prompt_labels false"
            )
        target_MD = unit_embeddings(artifact)
        if embeddings and encoder is not None:
            _check_same_encoder(artifact.manifest, target_embeddings, encoder, embeddings)
        if embeddings_ND is not None and embeddings_ND.shape[1] != target_MD.shape[1]:
            raise InputError(
                f"{target_embeddings}: embeddings of {target_MD.shape[1]} numbers, expected "
                f"{embeddings_ND.shape[1]} as in {embeddings}; embed both with one model"
            )
    lineage.pop("pool", None)
    return Evidence(probs_NC, dynamics_ENC, embeddings_ND, target_MD, inputs, lineage, teacher, deviations_NC)


def _teacher_scores(
    artifact: artifacts.Artifact, index: np.ndarray, task: Task
) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities of the pool's rows, and their deviations under dropout where the teacher measured them."""
    labels = artifact.manifest.facts.get("labels", task.labels)
    told = (
        artifact.table,
        labels,
        task,
        str(artifact.path),
        f"rebuild with {artifacts.rebuild(artifact.manifest, anew=True)}",
    )
    has_deviations = DEVIATIONS in artifact.table.column_names
    return read_probs(*told)[index], read_deviations(*told)[index] if has_deviations else None


def _join(path: Path, manifest: artifacts.Manifest, ids: list[str], rows: Rows) -> np.ndarray:
    """Where each pool row stands in an artifact.

    Raises:
        InputError: If it is of another pool, or the ids are not the pool's, once each.
    """
    found = manifest.lineage.get("pool")
    if found != rows.fingerprint:
        artifacts.check_same_ancestor(
            artifacts.Artifact(path, pa.table({}), manifest), "pool", rows.fingerprint, ", ".join(rows.places)
        )
    return positions(ids, rows.ids, path, f"rebuild with {artifacts.rebuild(manifest, anew=True)}")


def _check_same_encoder(one: artifacts.Manifest, place: str, other: artifacts.Manifest, other_place: str) -> None:
    """Refuse to compare embeddings of two encoders: their cosines mean nothing, also where their widths are equal."""
    models = [manifest.inputs.get("model", artifacts.reference("unknown", "")) for manifest in (one, other)]
    if models[0]["fingerprint"] != models[1]["fingerprint"]:
        raise InputError(
            f"{place}: embedded by {models[0]['paths'][0]}, expected {models[1]['paths'][0]} as in {other_place}; "
            "embed both with one model"
        )
