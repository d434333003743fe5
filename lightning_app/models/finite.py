"""Weights that hold a number which is none."""

from collections.abc import Iterable

import torch
from torch import Tensor


def not_finite(weights: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the tensors that hold nan or inf."""
    return [name for name, weight in weights if not _is_finite(weight)]


@torch.no_grad()
def _is_finite(weight: Tensor) -> bool:
    """Whether every number is finite.

    A sum that is finite says so in a tenth of the time, because nan and inf never leave one again; a sum that is not
    finite may come from large numbers as well.
    """
    if not weight.is_floating_point():
        return True
    total = weight.sum(dtype=torch.promote_types(weight.dtype, torch.float32))
    return bool(torch.isfinite(total)) or bool(torch.isfinite(weight).all())
