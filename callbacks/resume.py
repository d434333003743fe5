"""Checkpoints to resume from: everything a run needs to continue as if it had not been stopped."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import AsyncCheckpointIO
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities import rank_zero_only

from labelbridge.lightning_app.core.artifacts import follow_umask, settle
from labelbridge.lightning_app.core.ranges import NonNegativeFloat, PositiveInt, check_ranges
from labelbridge.lightning_app.core.runs import LAST_CHECKPOINT
from labelbridge.lightning_app.protocols import CutsWindows, Windows

from .stopping import Stopper


class Resume(Callback):
    """Saves one Lightning checkpoint now and then, and the random-number state with it.

    Checkpoints exist only to resume; the command removes them when the run is complete. A checkpoint that would fall
    before a validation waits for it, so that the validation is never skipped or doubled. On SIGTERM or Ctrl-C the
    current window is finished and saved, and the command says how to resume.

    Args:
        out: The run's output folder; linked to `out`.
        every_minutes: Time between checkpoints.
        every_n_steps: If given, optimizer steps between checkpoints instead.
    """

    @check_ranges("resume.")
    def __init__(
        self, out: str, every_minutes: NonNegativeFloat = 10.0, every_n_steps: PositiveInt | None = None
    ) -> None:
        self.path = Path(out) / LAST_CHECKPOINT
        self.every_minutes = every_minutes
        self.every_n_steps = every_n_steps
        self._saved_at = time.monotonic()
        self._saved_step = 0
        self._to_restore: dict[str, Any] | None = None
        self._stopper = Stopper()
        self.run: str | None = None  # the fingerprint of the run's identity; the command sets it

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM and Ctrl-C over, and tell the loader where to resume."""
        self._stopper.install(trainer)
        # The schedule asks for the number of steps before the checkpoint is restored, so the loader exists by then, and
        # Lightning restores only loaders that it makes later. The loader looks at its state at the first batch.
        trainer.fit_loop._load_combined_loader_states()
        _count_as_cut_now(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        self._stopper.restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._stopper.restore()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Put the random-number state back, right before it is drawn from again."""
        if self._to_restore is not None:
            _restore_random_state(self._to_restore)
            self._to_restore = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save between two windows, if it is time and neither a validation nor the epoch's end follows."""
        if batch["ends_window"] and not self._epoch_ends(trainer) and not self._validation_follows(trainer):
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a validation, if it is time."""
        epoch_loop = trainer.fit_loop.epoch_loop
        if trainer.state.fn != "fit" or trainer.sanity_checking or epoch_loop._should_accumulate():
            return
        if not self._epoch_ends(trainer):
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after the epoch, if it is time.

        Lightning leaves the hooks at the epoch's end out when it resumes from a checkpoint of the last window, so none
        is saved there: what other callbacks do in these hooks would be lost.
        """
        self._save_if_due(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The random-number state, and when the last checkpoint was saved."""
        own = {} if self.run is None else {"run": self.run}
        return {"random": _random_state(), "saved_step": self._saved_step, **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember what to put back."""
        self._to_restore = state_dict["random"]
        self._saved_step = state_dict["saved_step"]

    def _save_if_due(self, trainer: Trainer) -> None:
        if self.every_n_steps is not None:
            due = trainer.global_step >= self._saved_step + self.every_n_steps
        else:
            due = time.monotonic() - self._saved_at >= 60 * self.every_minutes
        # All ranks must agree, whose clock it is or whoever got the signal: saving may be collective.
        if trainer.strategy.reduce_boolean_decision(due or self._stopper.asked, all=False):
            self.save(trainer)
            if trainer.strategy.reduce_boolean_decision(self._stopper.asked, all=False):
                self._stopper.stop(trainer, f"step {trainer.global_step} is saved in {self.path}")

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint under a temporary name, then rename it."""
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _streamed(trainer.strategy):
            trainer.save_checkpoint(temporary, weights_only=False)  # that is: with the optimizer
        _rename(temporary, self.path)

    @staticmethod
    def _epoch_ends(trainer: Trainer) -> bool:
        return bool(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)

    @staticmethod
    def _validation_follows(trainer: Trainer) -> bool:
        fetcher = trainer.fit_loop._data_fetcher
        return fetcher is not None and bool(trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher))


class _StreamedIO(TorchCheckpointIO):
    """Writes a checkpoint into its file as it goes; Lightning makes the entire file in memory first."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        torch.save(checkpoint, path)


@contextmanager
def _streamed(strategy: Strategy) -> Iterator[None]:
    """Have a checkpoint written without a copy in memory, and be complete; a format that the user chose stays."""
    usual = strategy.checkpoint_io
    if type(usual) in {TorchCheckpointIO, AsyncCheckpointIO}:
        strategy.checkpoint_io = _StreamedIO()
    try:
        yield
    finally:
        strategy.checkpoint_io = usual


def _count_as_cut_now(trainer: Trainer) -> None:
    """Put the counts of this epoch's micro-batches right, where windows are cut in another way than before."""
    loader = trainer.fit_loop._combined_loader
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress
    for one in loader.flattened if loader is not None else []:
        if not isinstance(one, CutsWindows) or not isinstance(one.windows, Windows) or not one.windows.skip:
            continue
        difference = one.windows.skip - progress.current.processed
        for counts in (progress.current, progress.total):
            for name in ("ready", "started", "processed", "completed"):
                setattr(counts, name, getattr(counts, name) + difference)


@rank_zero_only
def _rename(temporary: Path, final: Path) -> None:
    follow_umask(temporary)
    settle(temporary, final)


def _random_state() -> dict[str, Any]:
    """Every generator's state, in types that `weights_only` loading accepts."""
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - libraries draw from the global one
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [
            str(kind),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "python": [version, list(internal), gauss],
    }


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002 - as above
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
