"""Networks with some units dropped, the same ones for every row: how far probabilities vary under dropout."""

# K = passes, B = rows of a batch, C = classes

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from labelbridge.lightning_app.core.errors import InputError


def deviations_under_dropout(module: nn.Module, probs: Callable[[], Tensor], passes: int, seed: int) -> Tensor:
    """Standard deviation of each class's probability over thinned networks; float64 of shape (B, C).

    Monte-Carlo dropout (Gal and Ghahramani, arXiv 1506.02142), by which uncertainty-aware self-training
    (arXiv 2006.15315) chooses its rows. A pass draws the units that it drops once, by seed, pass and layer, for all
    rows and positions: K networks score every row, so that no row's number depends on the batch that it is in.
    Dropout of attention weights is left out, as its units are positions.

    Args:
        module: Holds the networks, in evaluation mode.
        probs: Scores the batch with them as they are then; shape (B, C).
        passes: K.
        seed: Seed of the units.

    Raises:
        InputError: If the networks have no layer of dropout with a rate above 0.
    """
    scores = []
    for number in range(passes):
        with _thinned(module, f"{seed} {number}") as dropped:
            scores.append(probs().double())
        if not dropped:
            raise InputError(
                "model.dropout_passes: the network has no dropout layer with a rate above 0, expected some, as in "
                "BERT and XLM-R; set model.dropout_passes to 0"
            )
    return torch.stack(scores).std(dim=0, correction=0)


@contextmanager
def _thinned(module: nn.Module, drawn_by: str) -> Iterator[list[str]]:
    """Drop units while the context lasts; gives the layers that did, once they have been called."""
    dropped: list[str] = []
    layers = [(name, one) for name, one in module.named_modules() if isinstance(one, nn.Dropout) and one.p > 0]
    hooks = [one.register_forward_hook(partial(_drop, f"{drawn_by} {name}", dropped)) for name, one in layers]
    try:
        yield dropped
    finally:
        for hook in hooks:
            hook.remove()


def _drop(drawn_by: str, dropped: list[str], layer: nn.Dropout, _inputs: Any, output: Tensor) -> Tensor | None:
    if output.dim() > 3:  # attention weights
        return None
    dropped.append(drawn_by)
    digest = hashlib.blake2b(drawn_by.encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    kept = torch.rand(output.shape[-1], generator=generator) >= layer.p
    return output * (kept / max(1 - layer.p, 1e-6)).to(output)
