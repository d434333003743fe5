"""Stopping when asked: SIGTERM and the first Ctrl-C let the work at hand finish and be saved."""

import logging
import os
import signal
from types import FrameType
from typing import Any

from lightning.pytorch import Trainer

from labelbridge.lightning_app.core.runs import command_line

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopper:
    """Notes that a signal has come; the owner asks at a place where stopping loses nothing.

    Lightning's own handlers do not serve here: in fit they stop in the middle of a window, in predict not at all.
    """

    def __init__(self) -> None:
        self.asked = False
        self._number = int(signal.SIGTERM)
        self._previous: dict[signal.Signals, Any] = {}
        self._trainer: Trainer | None = None

    def install(self, trainer: Trainer) -> None:
        """Take the signals over, until `restore`."""
        self._trainer = trainer
        self._previous = {one: signal.signal(one, self._on_signal) for one in SIGNALS}

    def restore(self) -> None:
        """Give the signals back."""
        for one, handler in self._previous.items():
            signal.signal(one, handler if handler is not None else signal.SIG_DFL)
        self._previous.clear()

    def stop(self, trainer: Trainer, saved: str) -> None:
        """Leave the Trainer; rank 0 says how to resume.

        Raises:
            SystemExit: Always; on rank 0 with the status 128 + the signal's number.
        """
        self.restore()
        if trainer.is_global_zero:
            log.warning("stopped on request, %s; resume with: %s", saved, command_line())
            raise SystemExit(128 + self._number)
        raise SystemExit(0)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: at once
        self.asked, self._number = True, number
        launcher = self._trainer.strategy.launcher if self._trainer is not None else None
        if launcher is not None and self._trainer is not None and self._trainer.is_global_zero and os.name == "posix":
            launcher.kill(signal.SIGTERM)
