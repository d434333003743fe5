"""A callback that says when a fit has taken its first optimizer step."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class FirstStep(Callback):
    """Writes the time of the day, in seconds, into a file.

    Args:
        path: The file.
    """

    LOOKS_ON = True  # not a part of what the run is

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Once, after the first step."""
        if trainer.global_step == 1 and not self.path.exists():
            self.path.write_text(repr(time.time()), encoding="utf-8")
