"""Rows out of predict and test, on the disk as they come."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.stopping import Stopper
from lightning_app.spool import Spool


class RowWriter(Callback):
    """Spools each finished batch; after the run the command merges the spool into an artifact.

    A module's `predict_step` or `test_step` returns a dict: column name -> one value for each row of the batch. Every
    rank writes its own rows, exactly once; a restart leaves out batches that are on the disk. On SIGTERM or Ctrl-C the
    batch at hand is finished and written.

    Args:
        out: The run's output folder; linked to `out`.
        flush_seconds: Finished rows are on the disk after this time at the latest (and a batch).
    """

    def __init__(self, out: str, flush_seconds: float = 20.0) -> None:
        self.out = Path(out)
        self.flush_seconds = flush_seconds
        self.spool = Spool(self.out)
        self._flushed_at = time.monotonic()
        self._stopper = Stopper()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM and Ctrl-C over."""
        self._stopper.install(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM and Ctrl-C over."""
        self._stopper.install(trainer)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Take a finished batch."""
        self._take(trainer, outputs, batch)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Take a finished batch."""
        self._take(trainer, outputs, batch)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the last rows on the disk."""
        self._finish()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the last rows on the disk."""
        self._finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep what is finished when a run breaks off."""
        self._finish()

    def _finish(self) -> None:
        self.spool.flush()
        self._stopper.restore()

    def _take(self, trainer: Trainer, outputs: dict[str, Any], batch: dict[str, Any]) -> None:
        if batch["real"].all():  # the one row of an empty batch only stands in
            self.spool.add(batch["row"].tolist(), {name: list(values) for name, values in outputs.items()})
        if time.monotonic() - self._flushed_at >= self.flush_seconds:
            self.spool.flush()
            self._flushed_at = time.monotonic()
        if self._stopper.asked:
            self.spool.flush()
            self._stopper.stop(trainer, f"finished rows are saved in {self.out}")
