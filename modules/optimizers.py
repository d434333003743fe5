"""How weights are moved."""

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from transformers import get_linear_schedule_with_warmup


def adamw_with_linear_decay(
    module: LightningModule, learning_rate: float, weight_decay: float, adam_epsilon: float, warmup_ratio: float
) -> OptimizerLRScheduler:
    """AdamW on the weights that are trained, its rate rising from zero and then falling linearly to zero, by steps.

    Args:
        module: Its Trainer says how many optimizer steps there will be.
        learning_rate: The peak.
        weight_decay: AdamW's weight decay.
        adam_epsilon: AdamW's epsilon.
        warmup_ratio: Share of the steps in which the rate rises.
    """
    trained = [one for one in module.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=learning_rate, eps=adam_epsilon, weight_decay=weight_decay, fused=_may_fuse(module)
    )
    steps = int(module.trainer.estimated_stepping_batches)
    schedule = get_linear_schedule_with_warmup(optimizer, round(warmup_ratio * steps), steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _may_fuse(module: LightningModule) -> bool | None:
    """Whether one kernel shall do the whole step, which on a CPU takes a fraction of the time; None leaves it to torch.

    Lightning refuses to clip gradients beside a fused optimizer in mixed precision.
    """
    mixed = isinstance(module.trainer.precision_plugin, MixedPrecision)
    return True if module.device.type == "cpu" and not mixed else None
