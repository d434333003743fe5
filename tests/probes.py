"""Callbacks that tests put into runs: they kill, stop, and write down what a run amounts to."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class KillAt(Callback):
    """Sends a signal to its own process after so many batches.

    Args:
        batch: Number of the batch, counted from 1 over the whole life of the process.
        number: The signal.
        before_step: Kill between backward and the optimizer's step instead of after the batch.
    """

    def __init__(self, batch: int, number: int = int(signal.SIGKILL), before_step: bool = False) -> None:
        self.batch = batch
        self.number = number
        self.before_step = before_step
        self._seen = 0

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.before_step:
            self._count()

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        if not self.before_step:
            self._count()

    def on_predict_batch_end(self, *_: Any, **__: Any) -> None:
        self._count()

    def _count(self) -> None:
        self._seen += 1
        if self._seen == self.batch:
            os.kill(os.getpid(), self.number)


class Ending(Callback):
    """Writes down all that a finished fit amounts to: weights, optimizer, schedule, metrics, random numbers."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            with self.file.with_suffix(".checks").open("a") as stream:
                dev = {
                    name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("dev/")
                }
                stream.write(f"{trainer.global_step} {sorted(dev.items())}\n")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        import random

        import numpy as np

        ending = {
            "weights": {name: value.clone() for name, value in pl_module.state_dict().items()},
            "optimizer": trainer.optimizers[0].state_dict(),
            "schedule": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
            "metrics": {
                name: float(trainer.callback_metrics[name])
                for name in ("train/loss", "train/ce", "train/kl")
                if name in trainer.callback_metrics
            },
            "random": [
                torch.get_rng_state(),
                torch.from_numpy(np.random.get_state()[1].astype("int64")),
                random.random(),
            ],
            "steps": trainer.global_step,
        }
        ending["schedule"].pop("_get_lr_called_within_step", None)
        torch.save(ending, self.file)


class Gradients(Callback):
    """Writes down the gradient of every window, and the rows that went into it."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self._windows: list[torch.Tensor] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        parts = [one.grad.flatten() for one in pl_module.parameters() if one.grad is not None]
        self._windows.append(torch.cat(parts).clone())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            torch.save(torch.stack(self._windows), self.file)


class KillInCartography(Callback):
    """Kills its own process when an epoch's dynamics are about to be written.

    Args:
        check: Which check, counted from 0.
    """

    def __init__(self, check: int) -> None:
        self.check = check

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        from lightning_app import dynamics

        write_epoch = dynamics.write_epoch

        def killing(folder: Path, epoch: int, *more: Any) -> None:
            if epoch == self.check:
                os.kill(os.getpid(), signal.SIGKILL)
            write_epoch(folder, epoch, *more)

        dynamics.write_epoch = killing
