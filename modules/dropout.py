"""Dropout on a CPU: masks take little time, and threads can draw theirs independently.

torch draws a mask on a CPU value by value, 6 ns each, longer than what lies around it on a core with matrix units. Here
a random number of 64 bits serves four values. So a rate is rounded to 16 bits, and kept values are scaled by the
rounded one, which leaves their mean as it was.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16  # of the rate
_LOWEST = -(1 << 15)  # of an int16


class _OfThread(threading.local):
    generator: torch.Generator | None = None  # None is torch's default one, which all threads share


_OF_THREAD = _OfThread()


class FastDropout(nn.Dropout):
    """Dropout with the masks of `dropped`, which are drawn on a CPU in training; elsewhere it is torch's."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """The input with some values set to 0 and the others scaled; of the same shape."""
        if self.training and not self.inplace and input.device.type == "cpu":
            return dropped(input, self.p)
        return super().forward(input)


def make_fast(network: nn.Module) -> None:
    """Put a `FastDropout` in the place of each dropout layer of a network; names and rates stay."""
    for layer in network.modules():
        for name, child in layer.named_children():
            if type(child) is nn.Dropout:
                setattr(layer, name, FastDropout(child.p, child.inplace).train(child.training))


def dropped(values: Tensor, rate: float) -> Tensor:
    """Dropout (Srivastava et al., 2014): each value is 0 with the probability `rate`, else divided by 1 - rate.

    Args:
        values: On the CPU.
        rate: From 0 to 1; rounded to a multiple of 1 / 65,536.

    Returns:
        A tensor of the same shape and type.
    """
    level = round(rate * _LEVELS)
    if level == 0:
        return values
    if level == _LEVELS:
        return values * 0.0
    result: Tensor = _Dropped.apply(values, level)  # type: ignore[no-untyped-call] # torch leaves it without types
    return result


@contextmanager
def drawn_by(generator: torch.Generator) -> Iterator[None]:
    """Let masks of this thread be drawn by a generator, and not by torch's default one, which all threads share."""
    _OF_THREAD.generator = generator
    try:
        yield
    finally:
        _OF_THREAD.generator = None


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, level: int) -> Tensor:
        kept = _kept(values.shape, level, values.dtype)
        ctx.save_for_backward(kept)
        ctx.scale = _LEVELS / (_LEVELS - level)
        return (values * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (gradients[0] * kept).mul_(ctx.scale), None


def _kept(shape: torch.Size, level: int, dtype: torch.dtype) -> Tensor:
    """1 where a value is kept, 0 elsewhere."""
    size = math.prod(shape)
    words = torch.empty(-(-size // 4), dtype=torch.int64)
    words.random_(-(1 << 63), None, generator=_OF_THREAD.generator)
    return (words.view(torch.int16)[:size] >= _LOWEST + level).to(dtype).view(shape)
