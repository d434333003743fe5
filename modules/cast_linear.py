"""Linear layers whose weights, in mixed precision, are cast once for all parts of a batch (`threads.py`).

Autocast casts the weights anew in each part, and their gradients back. The weights that anybody sees stay as they are.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.casts: Mapping[int, Tensor] = {}


_OF_THREAD = _OfThread()


class CastLinear(nn.Linear):
    """A linear layer that computes with what `cast_to` gives for its weights, if it does."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """As in torch; shape (..., out_features)."""
        casts, bias = _OF_THREAD.casts, self.bias
        if not casts:
            return super().forward(input)
        weight = casts.get(id(self.weight), self.weight)
        return functional.linear(input, weight, casts.get(id(bias), bias))


def make_castable(network: nn.Module) -> None:
    """Make each linear layer of a network a `CastLinear`; weights, names and hooks stay."""
    for layer in network.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = CastLinear


@contextmanager
def cast_to(casts: Mapping[int, Tensor]) -> Iterator[None]:
    """Let linear layers compute in this thread with other tensors than their weights.

    Args:
        casts: By the `id` of a weight.
    """
    before = _OF_THREAD.casts
    _OF_THREAD.casts = casts
    try:
        yield
    finally:
        _OF_THREAD.casts = before
