"""What methods are compared with beside each other: labels that a zero-shot LLM has given to the target rows."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.errors import InputError, shorten
from .entries import Results
from .metrics import METRICS
from .predictions import Predictions, Tested, no_such_column

LLM = "LLM"
NO_SEED = "-"


def llm_runs(tested: Sequence[Tested], column: str, metrics: Sequence[str]) -> list[Tested]:
    """The LLM as a method of each task and setting: the labels in a column of the target rows as its predictions.

    Args:
        tested: The runs; targets whose rows have no such column are left out.
        column: The column's name.
        metrics: The metrics to be shown.

    Raises:
        InputError: If no run has the column, a label is not one of the task's, or a metric looks at probabilities.
    """
    wrong = next((name for name in metrics if METRICS[name].of_probabilities), None)
    if wrong is not None:
        raise InputError(
            f"llm_labels '{column}': labels have no probabilities, so metric '{wrong}' does not apply; report accuracy "
            "and macro_f1, or leave llm_labels out"
        )
    runs = []
    for task, setting in dict.fromkeys((run.task.name, run.setting) for run in tested):
        group = [run for run in tested if (run.task.name, run.setting) == (task, setting)]
        by_target = {
            target: _labelled(run, target, column)
            for run in reversed(group)
            for target, rows in run.by_target.items()
            if column in rows.columns
        }
        if by_target:
            runs.append(Tested("", group[0].task, setting, LLM, NO_SEED, None, None, by_target, corrected=True))
    if not runs:
        raise no_such_column("llm_labels", column)
    if any(run.method == LLM for run in tested):
        raise InputError(f"llm_labels '{column}': a tested method is called {LLM} too; give it another `method`")
    return runs


def _labelled(run: Tested, target: str, column: str) -> Predictions:
    """A target's rows with the column's labels as certain predictions."""
    rows = run.by_target[target]
    labels = run.task.labels
    probs_NC = np.zeros((len(rows.ids), len(labels)))
    for number, (row, value) in enumerate(zip(rows.ids, rows.columns[column], strict=True)):
        label = run.task.match(str(value)) if value is not None else None
        if label is None:
            raise InputError(
                f"llm_labels '{column}': target {target} row '{row}' has {shorten(value)}, expected one of {labels}; "
                "fill it in (where the LLM gave no answer, with a label of your choice)"
            )
        probs_NC[number, labels.index(label)] = 1
    return replace(rows, probs_NC=probs_NC)


def without_calibration(results: Results) -> None:
    """Take the reliability and the certainty of labels out, which have no probabilities."""
    results.certainties = [one for one in results.certainties if one.method != LLM]
    results.details = [replace(one, bins=[]) if one.method == LLM else one for one in results.details]
