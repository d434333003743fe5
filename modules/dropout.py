"""Dropout on a CPU: masks take little time, and threads can draw theirs independently.

torch draws a mask on a CPU value by value, 6 ns each, longer than what lies around it on a core with matrix units. Here
a random number of 64 bits serves four values. So a rate is rounded to 16 bits, and kept values are scaled by the
rounded one, which leaves their mean as it was.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16  # of the rate
_LOWEST = -(1 << 15)  # of an int16
_FEW, _MANY = 1 << 15, 1 << 20  # values that a generator draws at a time: ever more, as networks differ in size


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
    kept, scale = drawn(values.shape, rate, values.dtype)
    if kept is None:
        return values if scale == 1 else values * scale
    return (values * kept).mul_(scale)


def drawn(shape: torch.Size, rate: float, dtype: torch.dtype) -> tuple[Tensor | None, float]:
    """A mask, 1 where a value is kept and 0 elsewhere, and what values are multiplied by.

    The mask is None if all are kept, or none is; values are then multiplied by 1 or 0.

    Args:
        shape: Of the values.
        rate: See `dropped`.
        dtype: Of the mask.
    """
    level = round(rate * _LEVELS)
    if level in (0, _LEVELS):
        return None, 1 - level / _LEVELS
    kept = _OF_THREAD.masks.next(math.prod(shape), level, dtype)
    return kept.view(shape), _LEVELS / (_LEVELS - level)


@contextmanager
def drawn_by(generator: torch.Generator) -> Iterator[None]:
    """Let masks of this thread be drawn by a generator, and not by torch's default one, which all threads share."""
    before = _OF_THREAD.masks
    _OF_THREAD.masks = _Masks(generator)
    try:
        yield
    finally:
        _OF_THREAD.masks = before


@cache
def _bits_of_one(dtype: torch.dtype) -> int:
    """A 1 of 16 bits, read as an integer."""
    return int(torch.ones(1, dtype=dtype).view(torch.int16))


class _Masks:
    """Masks in the order in which they are asked for.

    Args:
        generator: Draws many of them at a time; None is torch's default one, which draws each alone, as others may
            use it in between.
    """

    def __init__(self, generator: torch.Generator | None) -> None:
        self._generator = generator
        self._drawn: dict[tuple[int, torch.dtype], tuple[Tensor, int]] = {}
        self._size = _FEW

    def next(self, size: int, level: int, dtype: torch.dtype) -> Tensor:
        """Ones and zeros; shape (size,)."""
        if self._generator is None or size > _MANY:
            return self._draw(size, level, dtype)
        kept, first = self._drawn.get((level, dtype), (None, 0))
        if kept is None or first + size > len(kept):
            self._size = max(size, min(_MANY, 2 * self._size))
            kept, first = self._draw(self._size, level, dtype), 0
        self._drawn[level, dtype] = kept, first + size
        return kept[first : first + size]

    def _draw(self, size: int, level: int, dtype: torch.dtype) -> Tensor:
        words = torch.empty(-(-size // 4), dtype=torch.int64)
        words.random_(-(1 << 63), None, generator=self._generator)
        kept = words.view(torch.int16)[:size].ge_(_LOWEST + level)  # in place: by booleans it would take longer
        if dtype.itemsize == kept.itemsize:
            return kept.mul_(_bits_of_one(dtype)).view(dtype)
        return kept.to(dtype)


class _OfThread(threading.local):
    masks = _Masks(None)


_OF_THREAD = _OfThread()
