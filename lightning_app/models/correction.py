"""A temperature and a label prior for an exported classifier, and what its card says of them."""

# N = dev rows, C = classes

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.task import Task
from ..evaluation.calibration import fit_temperature
from ..evaluation.priors import prior_vector


@dataclass(frozen=True)
class Correction:
    """What a head is changed by: its logits z become z / temperature + shift.

    Args:
        temperature: The divisor.
        shift_C: log(target prior) - log(source prior); zeros for a temperature alone.
        facts: What `labelbridge.json` says of it.
    """

    temperature: float
    shift_C: np.ndarray
    facts: dict[str, Any]


def fit_correction(
    facts: Mapping[str, Any],
    prior: str | Mapping[str, float] | None,
    place: str,
    logits_NC: Any = None,
    label_N: Any = None,
    how: str | None = None,
) -> Correction:
    """Work a correction out.

    The temperature t minimises the cross-entropy of softmax(z / t) on the source dev set, whose label prior is that of
    the gold; then the prior is changed: softmax(z / t - log pi_gold + log pi_target). (For calibration before a
    correction of the prior see Alexandari et al., arXiv 1901.06852.)

    Args:
        facts: What is known of the model: `task` and `gold_counts`.
        prior: The label prior that is assumed: `uniform`, a map, or None to leave it.
        place: The setting's name, for errors.
        logits_NC: Logits on the source dev set, if a temperature is wanted.
        label_N: Their labels.
        how: Where the prior comes from; `uniform` or `given` by default.

    Raises:
        InputError: See `gold_prior`.
    """
    source_C = gold_prior(facts, prior, place)
    task = Task(**facts["task"])
    temperature, shift_C = 1.0, np.zeros(len(task.labels))
    said: dict[str, Any] = {}
    if logits_NC is not None:
        temperature = fit_temperature(np.asarray(logits_NC, dtype=np.float64), np.asarray(label_N))
        said["temperature"] = temperature
    if prior is not None:
        target_C = prior_vector(prior, task, place)
        shift_C = np.log(target_C) - np.log(source_C)
        said["label_prior"] = {
            "how": how or ("uniform" if prior == "uniform" else "given"),
            "source": dict(zip(task.labels, source_C.tolist(), strict=True)),
            "target": dict(zip(task.labels, target_C.tolist(), strict=True)),
        }
    return Correction(temperature, shift_C, said)


def gold_prior(facts: Mapping[str, Any], prior: object, place: str) -> np.ndarray:
    """Class shares of a model's gold; of shape (C,), and ones where `prior` is None.

    Raises:
        InputError: If it is no classifier, its prior is corrected already, or its gold lacks a class.
    """
    counts: dict[str, int] | None = facts.get("gold_counts")
    if counts is None or "task" not in facts:
        raise InputError(f"{place} is {prior}: the model is no classifier trained here, expected one; set it to null")
    task = Task(**facts["task"])
    if prior is None:
        return np.ones(len(task.labels))
    if "label_prior" in facts:
        raise InputError(
            f"{place} is {prior}, but the model no longer predicts under the label prior of its gold "
            f"({facts['label_prior'].get('how')}), so it would be divided out twice; set one of the two to null or 0"
        )
    missing = next((label for label in task.labels if not counts.get(label)), None)
    if missing is not None:
        raise InputError(
            f"{place} is {prior}, but gold has no row of '{missing}', so there is no label prior to divide out; add "
            f"gold rows of that class, or set {place} to null"
        )
    return prior_vector(counts, task, "gold_counts")


def dev_confusion(logits_NC: Any, label_N: Any) -> list[list[int]]:
    """How often each class (row) of the source dev set was predicted as each class (column)."""
    logits, labels = np.asarray(logits_NC), np.asarray(label_N)
    classes = logits.shape[1]
    counts = np.bincount(labels * classes + logits.argmax(axis=1), minlength=classes * classes)
    confusion: list[list[int]] = counts.reshape(classes, classes).tolist()
    return confusion
