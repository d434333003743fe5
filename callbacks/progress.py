"""One progress bar for the entire run, with messages above it."""

import math
import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

MOST_METRICS = 2  # of those that are logged with `prog_bar`: the loss, and the dev set's first


class RunProgressBar(ProgressBar):
    """Shows how far the run is and when it will be finished: the entire fit, not the epoch.

    The time left is what the steps so far have taken on average, dev checks and exports included. Whatever is printed
    while the bar is there appears above it. Without a terminal nothing is shown.

    Args:
        console: Where the bar is drawn; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        # Long lines, such as the command that resumes a run, are left to the terminal to wrap: they can be copied.
        self._console = console or Console(stderr=True, soft_wrap=True)
        self._enabled = True
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._first, self._began = 0, 0.0

    def disable(self) -> None:
        """Show nothing; Lightning asks for that on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar after all."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the step that the run resumes from."""
        total = trainer.estimated_stepping_batches
        self._begin(_epoch(trainer), int(total) if math.isfinite(total) else None, trainer.global_step)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say which epoch it is."""
        self._say(_epoch(trainer))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the optimizer steps."""
        self._advance(trainer.global_step, self._metrics(trainer, pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what the run is doing while its steps stand still."""
        if trainer.state.fn == "validate":
            self._begin("validate", _number(sum(trainer.num_val_batches)), 0)
        elif not trainer.sanity_checking:
            self._say(f"{_epoch(trainer)}, dev check")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Count the batches, if validation is all there is."""
        if trainer.state.fn == "validate":
            self._advance(batch_idx + 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Back to training."""
        if trainer.state.fn == "validate":
            self._end()
        elif not trainer.sanity_checking:
            self._say(_epoch(trainer))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._begin("test", _number(sum(trainer.num_test_batches)), 0)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Count the batches."""
        self._advance(batch_idx + 1)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._begin("predict", _number(sum(trainer.num_predict_batches)), 0)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Count the batches."""
        self._advance(batch_idx + 1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the last state on the screen."""
        self._end()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the last state on the screen."""
        self._end()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the last state on the screen."""
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._end()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the terminal back."""
        self._end()

    def _begin(self, description: str, total: int | None, done: int) -> None:
        self._end()
        if not self._enabled or not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            console=self._console,
        )
        self._first, self._began = done, time.monotonic()
        self._task = self._bar.add_task(description, total=total, completed=done, state="")
        self._bar.start()

    def _say(self, description: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=description, refresh=True)

    def _advance(self, done: int, metrics: str = "") -> None:
        if self._bar is None:
            return
        total = self._bar.tasks[0].total
        state = progress_state(done, None if total is None else int(total), self._first, time.monotonic() - self._began)
        self._bar.update(self._task, completed=done, state=state + metrics)

    def _metrics(self, trainer: Trainer, pl_module: LightningModule) -> str:
        values = self.get_metrics(trainer, pl_module).items()
        numbers = [f", {name} {value:.3g}" for name, value in values if isinstance(value, float)]
        return "".join(numbers[:MOST_METRICS])

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def progress_state(done: int, total: int | None, first: int, seconds: float) -> str:
    """How far a run is, and how long it will still take.

    Args:
        done: Steps that are done, those before a resumed run among them.
        total: All steps; None if that is not known.
        first: Steps that were done when this process began to count.
        seconds: Time since then.
    """
    if total is None:
        return f"step {done}, {_clock(seconds)}"
    share = f"{100 * done // max(total, 1)} %, {done} of {total}, {_clock(seconds)}"
    if done <= first:
        return share
    return f"{share}, {_clock(seconds * (total - done) / (done - first))} left"


def _epoch(trainer: Trainer) -> str:
    of = f" of {trainer.max_epochs}" if trainer.max_epochs not in (None, -1) else ""
    return f"epoch {trainer.current_epoch + 1}{of}"


def _number(batches: float) -> int | None:
    return int(batches) if math.isfinite(batches) else None


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
