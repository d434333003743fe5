"""Rows out of predict and test, on the disk as they come."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from labelbridge.lightning_app.core.errors import InputError, shorten
from labelbridge.lightning_app.core.ranges import NonNegativeFloat, check_ranges
from labelbridge.lightning_app.core.spool import Spool
from labelbridge.lightning_app.protocols import HandsOver, StepRows

from .stopping import Stopper


def _check_finite(rows: Sequence[int], columns: Mapping[str, Any]) -> None:
    """Refuse numbers that are none, before they are on the disk.

    Raises:
        InputError: Names the row and the column.
    """
    for name, values in columns.items():
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
            continue
        wrong = ~np.isfinite(values.reshape(len(rows), -1)).all(axis=1)
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"row {rows[row]}: the model's {name} is {shorten(values[row].tolist())}, expected finite "
                "numbers; check its weights, or compute with trainer.precision 32-true"
            )


class RowWriter(Callback):
    """Spools each finished batch; after the run the command merges the spool into an artifact.

    A module's `predict_step` or `test_step` returns `StepRows`; one that has a `hand_over` may give rows to that as
    they end, and return none. Every rank writes its own rows, exactly once; a restart leaves out what is on the disk.
    On SIGTERM or Ctrl-C the batch at hand is finished and written.

    Args:
        out: The run's output folder; linked to `out`.
        flush_seconds: Finished rows are on the disk after this time at the latest, however long the next batch takes.
    """

    @check_ranges("rows.")
    def __init__(self, out: str, flush_seconds: NonNegativeFloat = 20.0) -> None:
        self.out = Path(out)
        self.flush_seconds = flush_seconds
        self.spool = Spool(self.out)
        self._timer: threading.Timer | None = None
        self._trainer: Trainer | None = None
        self._stopper = Stopper()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM and Ctrl-C over."""
        self._stopper.install(trainer)
        self._trainer = trainer
        if isinstance(pl_module, HandsOver):
            pl_module.hand_over = self._take

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM and Ctrl-C over."""
        self._stopper.install(trainer)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Take a finished batch."""
        self._take_step(trainer, outputs)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Take a finished batch."""
        self._take_step(trainer, outputs)

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
        self._flush()
        self._stopper.restore()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.spool.flush()

    def _take_step(self, trainer: Trainer, step: StepRows) -> None:
        self._trainer = trainer
        self._take(step["rows"], step["columns"])

    def _take(self, rows: Sequence[int], columns: Mapping[str, Any]) -> None:
        """Rows that have ended; also asked without any, so that a signal need not wait for the next row."""
        if rows:
            _check_finite(rows, columns)
            self.spool.add(rows, {name: list(values) for name, values in columns.items()})
            self._flush_soon()
        if self._stopper.asked:
            self._flush()
            assert self._trainer is not None, "set when the run began"
            self._stopper.stop(self._trainer, f"finished rows are saved in {self.out}")

    def _flush_soon(self) -> None:
        """Flush now, or by a timer that runs on beside a long batch."""
        if self.flush_seconds <= 0:
            self._flush()
        elif self._timer is None or not self._timer.is_alive():
            self._timer = threading.Timer(self.flush_seconds, self.spool.flush)
            self._timer.daemon = True
            self._timer.start()
