"""Which class a pool row belongs to: what its prompt asked for, the teacher's class, or that of its last epoch."""

# N = pool rows, C = classes

from typing import Literal

import numpy as np

from ..core.contracts import Reference
from ..core.errors import InputError
from ..core.task import Task
from ..data.sources import Rows
from ..stages import BY_NAME
from .evidence import Evidence

ClassFrom = Literal["teacher", "prompt", "last_epoch"]
# In the released code these strategies take the class from the last epoch, not from the pseudolabels.
BY_LAST_EPOCH = ("ambiguous", "easy")


def usual_class_from(strategy: str, variant: Literal["paper", "released"]) -> ClassFrom:
    """Where a row's class comes from unless the user says: the teacher, or what the released code takes."""
    return "last_epoch" if strategy in BY_LAST_EPOCH and variant == "released" else "teacher"


def check_prompt_labels(prompt_labels: bool, class_from: ClassFrom, agreement: bool) -> None:
    """Refuse settings that read prompt labels where there are none.

    Raises:
        InputError: If there are such settings.
    """
    if not prompt_labels and (class_from == "prompt" or agreement):
        key = "agreement" if agreement else "class_from prompt"
        raise InputError(f"{key}: given with prompt_labels false, expected class_from teacher and no agreement")


def classes_of(rows: Rows, evidence: Evidence, task: Task, class_from: ClassFrom) -> np.ndarray:
    """Every pool row's class as a number, shape (N,); the first of equal probabilities.

    Raises:
        InputError: If what the class comes from was not given.
    """
    if class_from == "prompt":
        numbers = {label: number for number, label in enumerate(task.labels)}
        return np.array([numbers[label] for label in rows.table["prompt_label"].to_pylist()], dtype=np.int64)
    if class_from == "last_epoch":
        if evidence.dynamics_ENC is None:
            raise InputError("class_from 'last_epoch' needs the training dynamics; give --dynamics RUN/dynamics")
        return np.asarray(evidence.dynamics_ENC[-1].argmax(axis=1))
    if evidence.probs_NC is None:
        raise InputError(
            "class_from 'teacher' needs the teacher's probabilities; give --pseudolabels (make them with "
            f'"{BY_NAME["pseudolabel"].line}"), or take the classes from the prompt with --class_from prompt'
        )
    return np.asarray(evidence.probs_NC.argmax(axis=1))


def agrees(
    rows: Rows, evidence: Evidence, classes_N: np.ndarray, task: Task, class_from: ClassFrom, *, is_required: bool
) -> np.ndarray | None:
    """Whether the teacher's most likely class is the one that the prompt asked for; None where there is no teacher.

    Args:
        rows: The pool, with prompt labels.
        evidence: What is known of the rows.
        classes_N: See `classes_of`.
        task: The task.
        class_from: Where these classes come from.
        is_required: Whether only rows that agree are to be kept.

    Raises:
        InputError: If it is required, and there is no teacher.
    """
    if class_from == "prompt" and evidence.probs_NC is None:
        if is_required:
            raise InputError("agreement: needs the teacher's probabilities; give --pseudolabels, or leave it out")
        return None
    prompted_N = classes_of(rows, evidence, task, "prompt")
    teachers_N = classes_of(rows, evidence, task, "teacher") if class_from == "prompt" else classes_N
    return np.asarray(teachers_N == prompted_N)


def place_of_classes(inputs: dict[str, Reference], class_from: ClassFrom) -> str:
    """The path of the rows or artifact that the classes were taken from."""
    name = {"teacher": "pseudolabels", "last_epoch": "dynamics", "prompt": "pool"}[class_from]
    return " and ".join(inputs[name]["paths"])
