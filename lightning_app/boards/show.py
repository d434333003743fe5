"""Figures, texts and hyperparameters on the board that a run logs to: TensorBoard, W&B, MLflow or trackio.

Lightning's loggers agree on numbers only. A logger that is not known here gets the numbers, and none of the rest.
"""

# N = rows, C = classes

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from ..core.task import Task
from .confusion import confusion_figure
from .trackio_logger import TrackioLogger

# Numbers that a run has only once are below this name: it sorts after the curves, so that these come first.
ONCE = "values"


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


def show_text(loggers: Iterable[Logger], name: str, markdown: str, step: int) -> None:
    """Show a text in Markdown."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(name, markdown, global_step=step)
        elif isinstance(logger, WandbLogger):
            logger.log_text(name, columns=["text"], data=[[markdown]], step=step)
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
        show_figure(loggers, f"confusion/{target}", confusion_figure(counts_CC, task.labels, target), 0)
        show_curves(loggers, target, np.array(rows["probs"].to_pylist()), label_N, task.labels, 0)


def settings_of(facts: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """The settings by which runs are compared.

    Args:
        facts: What the model's card says of it.
        identity: The settings of the run that count; of them, those with a single value are shown.
    """
    rows = {
        f"{kind}_rows": sum(facts[f"{kind}_counts"].values())
        for kind in ("gold", "synthetic")
        if f"{kind}_counts" in facts
    }
    names = ("method", "setting", "seed", "base")
    named = {name: facts[name] for name in names if name in facts}
    trainer = identity.get("trainer", {})
    chosen = {
        **identity.get("model", {}),
        "max_epochs": trainer.get("max_epochs"),
        "max_steps": trainer.get("max_steps"),
        "precision": trainer.get("precision"),
        "rows_per_step": identity.get("rows_per_step"),
    }
    single = {name: value for name, value in chosen.items() if _is_shown(value)}
    task = {"task": facts["task"]["name"]} if "task" in facts else {}
    return {"stage": identity["stage"], **task, **rows, **single, **named}


def _is_shown(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and not value.startswith("sha256:"))
