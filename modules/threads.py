"""Several CPU cores: a batch in parts, each of which a thread takes through the network, and back.

Within a network torch divides each operation among its threads, and lets all of them wait for the slowest. The
operations of a batch of sentences are too small for that: on a busy machine two threads are slower than one. Cut into
parts, which meet again only at the logits and where gradients are added up, each thread computes alone.

Logits and gradients are those of the batch, up to the order of floating-point sums. Dropout draws other masks of the
same distribution, for each part by a generator whose seed comes from torch's default one; so a run with the same number
of parts has the same bits.
"""

# B = rows of a batch, L = its longest row in tokens, C = classes; G = rows of a part, T = its tokens, D = width

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .cast_linear import CastLinear, cast_to
from .dropout import drawn_by
from .length_groups import padded_at_end
from .packing import Packed, pack_sorted, packed_logits

MOST = 4  # parts of a batch, unless `model.threads` says otherwise: in training each has gradients of all weights
_LEAST = 64  # tokens of a part; a choice, as fewer are hardly worth the thread

Item = TypeVar("Item")
Result = TypeVar("Result")


class ThreadedNetwork:
    """Computes the logits of training batches part by part, each in a thread; what cannot be cut passes as it is.

    Args:
        network: A network that takes packed batches (see `packing.make_packable`) with dropout of `dropout.make_fast`,
            on the CPU. Weights of `cast_linear.make_castable` are cast once for all parts.
        threads: The most parts of a batch.
    """

    def __init__(self, network: Any, threads: int) -> None:
        self._network = network
        self._threads = threads

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The logits of a padded batch; shape (B, C).

        Args:
            inputs: `input_ids`, `attention_mask` and others of shape (B, L).
        """
        weights = [weight for weight in self._network.parameters() if weight.requires_grad]
        # A hook of a weight would run for each part, and again for the sum.
        is_cut = torch.is_grad_enabled() and padded_at_end(inputs) and not any(one._backward_hooks for one in weights)
        if not is_cut:
            return packed_logits(self._network, inputs)
        length_B = (inputs["attention_mask"] > 0).sum(dim=1)
        order_B = length_B.argsort(stable=True)
        slices = evenly(length_B[order_B].tolist(), self._threads)
        if len(slices) == 1:
            return packed_logits(self._network, inputs)
        parts = []
        for rows in slices:
            of_part = order_B[rows]
            longest = max(1, int(length_B[of_part[-1]]))
            packed = pack_sorted(self._network, {name: value[of_part, :longest] for name, value in inputs.items()})
            assert packed is not None, "rows are padded at their end"
            parts.append(packed)
        # Looked up at once, so that the gradient of all word embeddings is there once, and not for each part.
        ids = [packed.inputs.pop("input_ids") for packed in parts]
        words_1TD = self._network.get_input_embeddings()(torch.cat(ids, dim=1))
        words = torch.split(words_1TD, [one.shape[1] for one in ids], dim=1)
        logits_BC: Tensor = _InParts.apply(self._network, parts, *words, *weights)  # type: ignore[no-untyped-call]
        return logits_BC[order_B.argsort()]


def by_rows(network: Callable[[dict[str, Tensor]], Tensor], inputs: Mapping[str, Tensor], threads: int) -> Tensor:
    """What a network gives for each row, without gradients; threads take some rows each.

    The rows are cut into as many parts whatever the number of threads, so that this changes no bit.

    Args:
        network: From inputs of shape (rows, L) to a tensor with a row for each; in evaluation mode, on the CPU.
        inputs: `input_ids` and others of shape (B, L). If one has another shape, they pass through as they are.
        threads: How many parts are computed at a time, at most.
    """
    rows, longest = inputs["input_ids"].shape
    slices = evenly([longest] * rows, MOST)
    if len(slices) == 1 or any(value.shape != (rows, longest) for value in inputs.values()):
        return network(dict(inputs))
    parts = [{name: value[of_part] for name, value in inputs.items()} for of_part in slices]
    return torch.cat(in_threads(network, parts, threads))


def default_threads() -> int:
    """As many parts as torch has threads, and no more than `MOST`."""
    return min(MOST, torch.get_num_threads())


def evenly(lengths: Sequence[int], parts: int) -> list[slice]:
    """Cut rows into parts with about as many tokens each.

    Args:
        lengths: Tokens of each row.
        parts: The most parts; there are fewer where rows are few or short.
    """
    total = sum(lengths)
    parts = max(1, min(parts, len(lengths), total // _LEAST))
    bounds, tokens = [0], 0
    for row, length in enumerate(lengths):
        # A row belongs to the part in which its middle lies.
        if bounds[-1] < row and tokens + length / 2 > total * len(bounds) / parts and len(bounds) < parts:
            bounds.append(row)
        tokens += length
    return [slice(*ends) for ends in zip(bounds, [*bounds[1:], len(lengths)], strict=True)]


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """What `work` gives for each item, in their order.

    Precision and whether gradients are recorded are those of the caller, which torch would not take over.

    Args:
        work: What is done in a thread.
        items: What it is done for.
        threads: How many at a time; they share the threads that torch has for an operation.
    """
    threads = min(threads, len(items))
    if threads == 1 or _OF_THREAD.is_part:  # a part that is cut again would wait for its own thread
        return [work(item) for item in items]
    torch_threads = torch.get_num_threads()
    share = max(1, torch_threads // threads)
    is_autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    records, infers = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def of_thread(item: Item) -> Result:
        _OF_THREAD.is_part = True
        if torch.get_num_threads() != share:
            torch.set_num_threads(share)
        autocast = torch.autocast("cpu", dtype, enabled=is_autocast)
        with torch.inference_mode(infers), torch.set_grad_enabled(records), autocast:
            return work(item)

    try:
        return list(_pool(threads).map(of_thread, items))
    finally:
        torch.set_num_threads(torch_threads)  # what a new thread of torch takes; this one's number has not changed


class _OfThread(threading.local):
    is_part = False


_OF_THREAD = _OfThread()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="labelbridge-part")


if os.name == "posix":  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


@dataclass(frozen=True)
class _Part:
    """A part between its passes.

    Args:
        words_1TD: Its word embeddings, a leaf of its graph.
        logits_GC: Its logits, with their graph.
    """

    words_1TD: Tensor
    logits_GC: Tensor


class _InParts(torch.autograd.Function):
    """Logits of all parts, whose gradient runs the backward pass of each part in a thread."""

    @staticmethod
    def forward(ctx: Any, network: nn.Module, packed: list[Packed], *leaves: Tensor) -> Tensor:
        seeds = torch.randint(1 << 62, (len(packed),)).tolist()
        ctx.weights = leaves[len(packed) :]
        casts = _casts(network, len(packed))
        ctx.casts = {id(weight): casts[id(weight)] for weight in ctx.weights if id(weight) in casts}

        def through(part: tuple[Packed, Tensor, int]) -> _Part:
            one, words, seed = part
            words_1TD = words.detach().requires_grad_(words.requires_grad)
            with torch.enable_grad(), drawn_by(torch.Generator().manual_seed(seed)), cast_to(casts):
                logits_GC = network(inputs_embeds=words_1TD, **one.inputs, sequences=one).logits
            return _Part(words_1TD, logits_GC)

        ctx.parts = in_threads(through, list(zip(packed, leaves, seeds, strict=False)), len(packed))
        return torch.cat([part.logits_GC.detach() for part in ctx.parts])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        parts: list[_Part] | None = ctx.parts
        if parts is None:
            raise RuntimeError("the backward pass of a batch was asked for twice; set model.threads to 1")
        # A hook may compute with a weight itself, so that both can have a gradient.
        leaves = [*ctx.weights, *ctx.casts.values()]

        def back(part: tuple[_Part, Tensor]) -> tuple[Tensor | None, ...]:
            one, gradient_GC = part
            words = [one.words_1TD] if one.words_1TD.requires_grad else []
            found = torch.autograd.grad(one.logits_GC, [*words, *leaves], gradient_GC, allow_unused=True)
            return found if words else (None, *found)

        of_parts = torch.split(gradients[0], [len(part.logits_GC) for part in parts])
        found = in_threads(back, list(zip(parts, of_parts, strict=True)), len(parts))
        of_leaves = list(zip(*(of_part[1:] for of_part in found), strict=True))
        of_casts = dict(zip(ctx.casts, of_leaves[len(ctx.weights) :], strict=True))
        sizes = [weight.numel() for weight in ctx.weights]
        of_weights = [
            (*one, *of_casts.get(id(weight), ())) for weight, one in zip(ctx.weights, of_leaves, strict=False)
        ]
        ctx.parts = ctx.casts = None  # and with them, what the passes have kept
        return (None, None, *(of_part[0] for of_part in found), *_of_each(_sum, of_weights, sizes, len(parts)))


def _casts(network: nn.Module, threads: int) -> dict[int, Tensor]:
    """By the `id` of each weight of a `CastLinear`, what autocast would make of it in each part; nothing without it."""
    if not torch.is_autocast_enabled("cpu"):
        return {}
    dtype = torch.get_autocast_dtype("cpu")
    layers = [layer for layer in network.modules() if isinstance(layer, CastLinear)]
    of_layers = {id(weight): weight for layer in layers for weight in (layer.weight, layer.bias) if weight is not None}
    weights = [weight for weight in of_layers.values() if weight.dtype == torch.float32]

    def cast(weight: Tensor) -> Tensor:
        return weight.detach().to(dtype).requires_grad_(weight.requires_grad)

    found = _of_each(cast, weights, [weight.numel() for weight in weights], threads)
    return {id(weight): one for weight, one in zip(weights, found, strict=True)}


def _of_each(work: Callable[[Item], Result], items: Sequence[Item], sizes: Sequence[int], threads: int) -> list[Result]:
    """What `work` gives for each item; each thread takes about as many values."""
    # From large to small in turns.
    order = sorted(range(len(items)), key=lambda number: -sizes[number])
    shares = [order[first::threads] for first in range(threads)]
    found = in_threads(lambda share: [work(items[number]) for number in share], shares, threads)
    by_number = dict(zip(chain(*shares), chain(*found), strict=True))
    return [by_number[number] for number in range(len(items))]


def _sum(gradients: Sequence[Tensor | None]) -> Tensor | None:
    """The sum of a weight's gradients of all parts, in float32; none changes, as two weights may have the same one."""
    given = [one.to(torch.promote_types(one.dtype, torch.float32)) for one in gradients if one is not None]
    if len(given) < 2:
        return given[0] if given else None
    total = given[0] + given[1]
    for one in given[2:]:
        total += one
    return total
