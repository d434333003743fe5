"""Callbacks that tests put into runs: they kill, stop, and write down what a run amounts to."""

import os
import random
import signal
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class KillAt(Callback):
    """Sends a signal to its own process after so many batches.

    Args:
        batch: Number of the batch, counted from 1 over the whole life of the process.
        number: The signal.
        hook: The Trainer's hook that is counted; checks before the first epoch are not.
    """

    LOOKS_ON = True  # a run goes on without it

    def __init__(self, batch: int, number: int = int(signal.SIGKILL), hook: str = "on_train_batch_end") -> None:
        self.batch = batch
        self.number = number
        self.hook = hook
        self._seen = 0
        setattr(self, hook, self._count)

    def _count(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        if trainer.sanity_checking and self.hook == "on_validation_batch_end":
            return
        self._seen += 1
        if self._seen == self.batch:
            os.kill(os.getpid(), self.number)


class KillWriting(Callback):
    """Kills its own process when a file or folder is about to take its final name: the last write is torn.

    Args:
        name: Its final name; `*` stands for anything.
        time: Which one of that name, counted from 1 over the life of the process.
        after: Kill when it has just taken its name instead, so that it is whole and what follows is missing.
    """

    LOOKS_ON = True  # a run goes on without it

    def __init__(self, name: str, time: int = 1, after: bool = False) -> None:
        self.name = name
        self.time = time
        self.after = after
        self._seen = 0
        Path.replace, Path.rename = self._killing(Path.replace), self._killing(Path.rename)

    def _killing(self, rename: Any) -> Any:
        def renaming(source: Path, target: Path) -> Path:
            self._seen += fnmatch(Path(target).name, self.name)
            due = fnmatch(Path(target).name, self.name) and self._seen == self.time
            if due and not self.after:
                if source.is_file():
                    os.truncate(source, source.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            renamed = rename(source, target)
            if due:
                os.kill(os.getpid(), signal.SIGKILL)
            return renamed

        return renaming


class Ending(Callback):
    """Writes down all that a finished fit amounts to: weights, optimizer, schedule, metrics, random numbers.

    It also draws from numpy's and Python's random numbers at every batch, as a library might.
    """

    LOOKS_ON = True  # a run goes on without it

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self._batches = 0

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log a metric by which every check is better than all before, so that each exports whatever was learnt."""
        pl_module.log("dev/step", float(trainer.global_step))
        self._drawn = 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        self._batches += 1
        self._drawn = random.random() + np.random.random()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            with self.file.with_suffix(".checks").open("a") as stream:
                dev = {
                    name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("dev/")
                }
                stream.write(f"{trainer.global_step} {sorted(dev.items())}\n")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        kind, keys, *rest = np.random.get_state()
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
                [kind, torch.from_numpy(keys.astype("int64")), *rest],
                list(random.getstate()[1]),
                self._drawn,
            ],
            "steps": trainer.global_step,
        }
        ending["schedule"].pop("_get_lr_called_within_step", None)
        torch.save(ending, self.file)
        self.file.with_suffix(".batches").write_text(str(self._batches))


class Gradients(Callback):
    """Writes down the gradient of every window, and the rows that went into it."""

    LOOKS_ON = True  # a run goes on without it

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self._windows: list[torch.Tensor] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        parts = [one.grad.flatten() for one in pl_module.parameters() if one.grad is not None]
        self._windows.append(torch.cat(parts).clone())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            torch.save(torch.stack(self._windows), self.file)
