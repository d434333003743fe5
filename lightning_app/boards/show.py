"""Figures, rows and hyperparameters on the board that a run logs to: TensorBoard, W&B, MLflow or trackio.

Lightning's loggers agree on numbers only. A logger that is not known here gets the numbers, and none of the rest.
"""

# N = rows, C = classes

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from ..core.ancestors import ancestors
from ..core.markup import inline
from ..core.paths import find
from ..core.task import Task
from .confusion import confusion_figure
from .trackio_logger import TrackioLogger

# Numbers that a run has only once are below this name: it sorts after the curves, so that these come first.
ONCE = "values"
# Settings of a module by which methods differ.
COMPARED = (
    "objective", "synthetic_labels", "temperature", "teacher_temperature", "kl_weight", "learning_rate",
    "frozen_layers",
)  # fmt: skip


def show_figure(loggers: Iterable[Logger], name: str, figure: Any, step: int) -> None:
    """Show a matplotlib figure."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(name, figure, global_step=step, close=False)
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [figure], step=step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_figure(logger.run_id, figure, f"{name}/{step:07d}.png")
        elif isinstance(logger, TrackioLogger):
            logger.log_figure(name, figure, step)


def show_table(
    loggers: Iterable[Logger], name: str, columns: Sequence[str], rows: Sequence[Sequence[str]], step: int
) -> None:
    """Show a table of texts."""
    lines = [map(inline, columns), ["---"] * len(columns), *(map(inline, row) for row in rows)]
    markdown = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(name, markdown, global_step=step)
        elif isinstance(logger, WandbLogger):  # which shows Markdown in a table as it is written
            logger.log_table(name, columns=list(columns), data=[list(row) for row in rows], step=step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_text(logger.run_id, markdown, f"{name}/{step:07d}.md")
        elif isinstance(logger, TrackioLogger):
            logger.log_markdown(name, markdown, step)


def show_curves(
    loggers: Iterable[Logger], name: str, probs_NC: np.ndarray, label_N: np.ndarray, labels: Sequence[str], step: int
) -> None:
    """Show precision against recall, each class against the others; TensorBoard has a tab for it, the others do not."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            for number, label in enumerate(labels):
                logger.experiment.add_pr_curve(f"{name}/{label}", label_N == number, probs_NC[:, number], step)


def show_settings(loggers: Iterable[Logger], settings: Mapping[str, Any]) -> None:
    """Show the settings of a run that begins; TensorBoard shows them with what they have come to."""
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(settings))


def show_outcome(
    loggers: Iterable[Logger], settings: Mapping[str, Any], metrics: Mapping[str, float], step: int
) -> None:
    """Show what a run has come to: numbers, and with the settings one line of TensorBoard's HParams tab."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(settings), dict(metrics), step=step)
        else:
            logger.log_metrics(dict(metrics), step=step)
        logger.save()


def show_predictions(loggers: Iterable[Logger], table: pa.Table, task: Task) -> None:
    """Show what a classifier confuses on each target, and its precision against its recall.

    Args:
        loggers: The run's loggers.
        table: The rows that a test has written.
        task: The task.
    """
    if not loggers:
        return
    for target in pc.unique(table["target"]).to_pylist():
        rows = table.filter(pc.equal(table["target"], target))
        label_N = np.array([task.labels.index(label) for label in rows["label"].to_pylist()])
        predicted_N = np.array([task.labels.index(label) for label in rows["prediction"].to_pylist()])
        counts_CC = np.zeros((len(task.labels), len(task.labels)), dtype=np.int64)
        np.add.at(counts_CC, (label_N, predicted_N), 1)
        show_figure(loggers, f"figures/confusion/{target}", confusion_figure(counts_CC, task.labels, target), 0)
        show_curves(loggers, target, np.array(rows["probs"].to_pylist()), label_N, task.labels, 0)


def settings_of(facts: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """The settings that tell methods apart, and no others: a column for each has to be read on one screen.

    Args:
        facts: What the model's card says of it.
        identity: The settings of the run that count; of a tested model those of its training.
    """
    rows = {
        f"{kind}_rows": sum(facts[f"{kind}_counts"].values())
        for kind in ("gold", "synthetic")
        if f"{kind}_counts" in facts
    }
    named = {name: facts[name] for name in ("method", "setting", "seed", "base") if name in facts}
    task = {"task": facts["task"]["name"]} if "task" in facts else {}
    model = identity.get("model", {})
    chosen = {
        **{name: model.get(name) for name in COMPARED},
        "epochs": identity.get("trainer", {}).get("max_epochs"),
        "rows_per_step": identity.get("rows_per_step"),
        **_selection(facts),
    }
    single = {name: value for name, value in chosen.items() if isinstance(value, bool | int | float | str)}
    return {"stage": identity["stage"], **named, **task, **single, **rows}


def _selection(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Strategy, rows per class and origin of the classes of the selection that a model learned from, if it is there."""
    for place in facts.get("inputs", {}).get("selection", {}).get("paths", []):
        for _, manifest in ancestors(find(place) or Path(place)):
            if manifest.stage == "select":
                quotas = list(dict.fromkeys(manifest.facts["quota"].values()))
                per_class = quotas[0] if len(quotas) == 1 else "/".join(map(str, manifest.facts["quota"].values()))
                shown = {"selection": manifest.facts["strategy"], "k": per_class}
                return {**shown, "class_from": manifest.facts["class_from"]}
    return {}
