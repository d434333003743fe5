"""Stopping at the first number that is none."""

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.models.finite import not_finite

REMEDY = "lower model.learning_rate, clip gradients (trainer.gradient_clip_val), or train in 32-true"


class StopAtNonFinite(Callback):
    """Ends a fit in one line when the loss, a dev metric or a weight is nan or infinite.

    Without it a model of nan would be trained to the end, and could be exported as the best. The loss is looked at once
    for each optimizer step, on a GPU one step later, as the host would have to wait for it; weights are, before
    anything is saved.
    """

    def __init__(self) -> None:
        self._loss: torch.Tensor | None = None
        self._unseen: tuple[int, torch.Tensor] | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss, at the end of a window."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs  # none of a manual optimization
        if not isinstance(loss, torch.Tensor):
            return
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()
        if not isinstance(batch, dict) or batch.get("ends_window", True):
            due: tuple[int, torch.Tensor] | None = (trainer.global_step, self._loss)
            if _is_computed_later(self._loss):
                due, self._unseen = self._unseen, due
            self._loss = None
            self._check_loss(trainer, due)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last loss before the model is looked at."""
        self._check_loss(trainer, self._unseen)
        self._unseen = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last loss."""
        self._check_loss(trainer, self._unseen)
        self._unseen = None

    @staticmethod
    def _check_loss(trainer: Trainer, step: tuple[int, torch.Tensor] | None) -> None:
        if step is None:
            return
        value = float(step[1])
        # All ranks must stop together: one that went on would wait for the others for ever.
        if trainer.strategy.reduce_boolean_decision(not math.isfinite(value), all=False):
            raise InputError(f"step {step[0]}: the loss is {value}, expected a finite number; {REMEDY}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the metrics and the weights, before others export them."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        for name, value in trainer.callback_metrics.items():
            if name.startswith("dev/") and not math.isfinite(float(value)):
                raise InputError(
                    f"step {trainer.global_step}: {name} is {float(value)}, expected a finite number; {REMEDY}"
                )
        self._check_weights(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Look at the weights: from a checkpoint of nan no run could go on."""
        self._check_weights(trainer, pl_module)

    @staticmethod
    def _check_weights(trainer: Trainer, pl_module: LightningModule) -> None:
        wrong = not_finite(pl_module.named_parameters())
        if trainer.strategy.reduce_boolean_decision(bool(wrong), all=False):
            names = f"{len(wrong)} weights hold nan or inf, the first is {wrong[0]}" if wrong else "another rank's do"
            raise InputError(f"step {trainer.global_step}: {names}; {REMEDY}")


def _is_computed_later(loss: torch.Tensor) -> bool:
    """Whether the host runs ahead of the device that computes the loss."""
    return loss.device.type != "cpu"
