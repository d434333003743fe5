"""How weights are moved: AdamW with linear decay, or an optimizer and a schedule that the configuration names."""

import logging
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from labelbridge.lightning_app.core.errors import InputError

from .lazy_adamw import LazyAdamW

log = logging.getLogger(__name__)


class Recipe(Protocol):
    """The settings of a module that say how its weights are moved."""

    learning_rate: float
    weight_decay: float
    adam_epsilon: float
    warmup_ratio: float
    optimizer: OptimizerCallable | None
    lr_scheduler: LRSchedulerCallable | None


def optimizer_and_schedule(
    module: LightningModule, recipe: Recipe, lazy: Sequence[nn.Parameter] = ()
) -> OptimizerLRScheduler:
    """The optimizer of the weights that are trained, and the schedule of its rate, by optimizer steps.

    By default AdamW, its rate rising from zero and then falling linearly to zero, as in the paper's code.

    Args:
        module: Its Trainer says how many optimizer steps there will be.
        recipe: The settings.
        lazy: Matrices of which AdamW moves only those rows that have a gradient in a step; see `LazyAdamW`.
    """
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    if recipe.optimizer is None:
        settings: dict[str, Any] = {
            "lr": recipe.learning_rate, "eps": recipe.adam_epsilon, "weight_decay": recipe.weight_decay,
            "fused": _may_fuse(module),
        }  # fmt: skip
        others = [weight for weight in trained if not any(weight is matrix for matrix in lazy)]
        optimizer: Optimizer = LazyAdamW(others, lazy, **settings) if lazy else AdamW(trained, **settings)
        if not _scales_gradients(module):
            # Beside a fused optimizer, Lightning refuses to clip gradients in any mixed precision, as if it undid the
            # scaling of float16 by itself; in bfloat16 there is none.
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    else:
        optimizer = recipe.optimizer(trained)
        rate = optimizer.param_groups[0]["lr"]
        log.info(
            "model.optimizer: %s with lr %g; learning_rate, weight_decay and adam_epsilon of the model are AdamW's and "
            "are not used", type(optimizer).__name__, rate,
        )  # fmt: skip
    if recipe.lr_scheduler is None:
        if math.isinf(module.trainer.estimated_stepping_batches):
            raise InputError(
                f"trainer.max_epochs is {module.trainer.max_epochs} without trainer.max_steps, so the learning rate "
                "has no end to fall to, expected a number of epochs or steps; give one, or a model.lr_scheduler"
            )
        steps = int(module.trainer.estimated_stepping_batches)
        factor = partial(_rise_and_fall, warmup=round(recipe.warmup_ratio * steps), steps=steps)
        schedule: Any = LambdaLR(optimizer, factor)
    else:
        schedule = recipe.lr_scheduler(optimizer)
        log.info("model.lr_scheduler: %s; model.warmup_ratio is not used", type(schedule).__name__)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _rise_and_fall(step: int, *, warmup: int, steps: int) -> float:
    """The rate as a share of its highest: `get_linear_schedule_with_warmup` of transformers, which imports slowly."""
    if step < warmup:
        return step / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


def check_optimizer(recipe: Recipe) -> None:
    """Refuse an optimizer or a schedule that cannot be made or stepped, before any weight is loaded.

    Raises:
        InputError: Says what is wrong with it.
    """
    weight = nn.Parameter(torch.zeros(1))
    optimizer: Optimizer = AdamW([weight])
    if recipe.optimizer is not None:
        try:
            optimizer = recipe.optimizer([weight])
        except (TypeError, ValueError) as error:
            raise InputError(f"model.optimizer: {error}; change its settings") from None
    if "lr" not in optimizer.param_groups[0]:
        raise InputError(
            f"model.optimizer is {type(optimizer).__name__}, which has no lr, expected an optimizer with a learning "
            "rate, such as those of torch.optim"
        )
    if isinstance(optimizer, torch.optim.LBFGS):
        raise InputError(
            "model.optimizer is LBFGS, which computes the loss of a step several times, expected an optimizer that "
            "takes one gradient a step"
        )
    if recipe.lr_scheduler is None:
        return
    try:
        schedule = recipe.lr_scheduler(optimizer)
    except (TypeError, ValueError) as error:
        raise InputError(f"model.lr_scheduler: {error}; change its settings") from None
    if isinstance(schedule, ReduceLROnPlateau):
        raise InputError(
            "model.lr_scheduler is ReduceLROnPlateau, which waits for a metric, expected a schedule that is stepped "
            "after every optimizer step; choose another class of torch.optim.lr_scheduler"
        )


def _may_fuse(module: LightningModule) -> bool | None:
    """Whether one kernel shall do a step, which takes a fraction of the time; None leaves it to torch."""
    return True if module.device.type in ("cpu", "cuda") and not _scales_gradients(module) else None


def _scales_gradients(module: LightningModule) -> bool:
    """Whether gradients are scaled against underflow, as in mixed float16."""
    plugin = module.trainer.precision_plugin
    return isinstance(plugin, MixedPrecision) and plugin.scaler is not None
