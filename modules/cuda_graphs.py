"""CUDA graphs of a network's forward and backward passes, one pair for each shape of packed batch.

A step of fine-tuning is some thousands of kernels, most of a few microseconds, which is less than Python takes to
launch them: the GPU waits for the host. Recorded once, all kernels of a pass are launched by one call
(`torch.cuda.CUDAGraph`; Gray, 2019, "Getting started with CUDA graphs"). They are the kernels that the passes consist
of anyway, on the same addresses, so logits and gradients are the same; dropout goes on from the generator's state.

What is recorded holds as long as weights and gradients stay where they are. So gradients are zeroed in place, and if
anything has moved the weights, or changed which are trained or a dropout rate, everything is recorded anew. Hooks on
the network's layers do not run in a replay.
"""

# B = rows of a batch, C = classes

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from labelbridge.lightning_app.core.errors import InputError

from .packing import Packed, packed_logits

log = logging.getLogger(__name__)

_MOST = 64  # pairs of graphs, each of some megabytes; batches of further shapes are computed without
_TIMES_SEEN = 2  # before a shape is recorded: the first steps warm the libraries up, and rare shapes save nothing


Recorder = Callable[[Any, Packed], "Recorded"]  # from a network and a batch


@dataclass(frozen=True)
class Recorded:
    """The passes over batches of one shape.

    Args:
        inputs: What the forward pass reads; see `Packed.tensors`.
        logits_BC: What it writes.
        gradient_BC: What the backward pass reads: the loss's gradient for each logit.
        forward: Runs the forward pass.
        backward: Runs the backward pass, which adds to the gradients of the weights.
    """

    inputs: Mapping[str, Tensor]
    logits_BC: Tensor
    gradient_BC: Tensor
    forward: Callable[[], None]
    backward: Callable[[], None]


class GraphedNetwork:
    """Computes the logits of packed batches for training, by a graph where their shape has been seen before.

    A batch whose logits are asked for while the backward pass of another is still to come, as with two views of a row,
    is computed without a graph: all graphs share their memory.

    Args:
        network: A network that takes packed batches; see `packing.make_packable`.
        recorder: Makes what records the passes of the network over a batch; by default as CUDA graphs.
    """

    def __init__(self, network: Any, recorder: Callable[[], Recorder] | None = None) -> None:
        self._network = network
        self._new_recorder = recorder or CudaRecorder
        self._dropouts = [layer for layer in network.modules() if isinstance(layer, nn.Dropout)]
        self._seen: Counter[Any] = Counter()
        self._record = self._new_recorder()
        self._recorded: dict[Any, Recorded] = {}
        self._gradients: dict[nn.Parameter, Tensor] = {}
        self._frozen: list[tuple[float, bool]] = []  # what the recordings rely on
        self._replays = 0  # forward passes by a graph so far
        self._is_open = False  # the last of them still awaits its backward pass
        self._anchor = torch.zeros((), requires_grad=True)  # makes autograd call the backward pass

    def __call__(self, packed: Packed) -> Tensor:
        """The logits of a batch; shape (B, C)."""
        passes = self._passes(packed) if torch.is_grad_enabled() and not self._is_open else None
        if passes is None:
            return packed_logits(self._network, packed)
        for name, value in packed.tensors.items():
            passes.inputs[name].copy_(value, non_blocking=True)
        self._replays, self._is_open = self._replays + 1, True
        replayed_BC: Tensor = _Replayed.apply(self._anchor, self, passes, self._replays)  # type: ignore[no-untyped-call]
        return replayed_BC

    def begin_batch(self) -> None:
        """Another batch begins: a backward pass that has not come will not come any more."""
        self._is_open = False

    @property
    def holds_gradients(self) -> bool:
        """Whether gradients are to be zeroed where they are."""
        return bool(self._gradients)

    def backward(self, passes: Recorded, replay: int) -> None:
        """Run the backward pass that belongs to a forward pass.

        Args:
            passes: The passes.
            replay: The number of the forward pass.

        Raises:
            RuntimeError: If another forward pass has been run since, over the same memory.
        """
        if replay != self._replays or not self._is_open:
            raise RuntimeError(
                "the backward pass of a batch was asked for after the next one's forward pass, or twice; set "
                "model.cuda_graphs to false"
            )
        self._put_gradients_back()
        passes.backward()
        self._is_open = False

    def _passes(self, packed: Packed) -> Recorded | None:
        """The passes for a batch of this shape, or None if it is to be computed without."""
        frozen = [(weight.data_ptr(), weight.requires_grad) for weight in self._network.parameters()]
        frozen += [(layer.p, layer.training) for layer in self._dropouts]
        if frozen != self._frozen:
            self._record, self._frozen = self._new_recorder(), frozen
            self._recorded.clear()
            self._gradients.clear()
        shape = tuple((name, *value.shape) for name, value in packed.tensors.items())
        self._seen[shape] += 1
        is_due = self._seen[shape] > _TIMES_SEEN and len(self._recorded) < _MOST
        if is_due and shape not in self._recorded:
            self._add(shape, packed)
        return self._recorded.get(shape)

    def _add(self, shape: Any, packed: Packed) -> None:
        self._put_gradients_back()  # so that all graphs add to the same
        try:
            self._recorded[shape] = self._record(self._network, packed)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # after which torch's generator of random numbers is of no more use
            raise InputError(
                f"model.cuda_graphs: the passes of a {type(self._network).__name__} cannot be recorded "
                f"({str(error).splitlines()[0]}); set it to false"
            ) from error
        self._gradients = {weight: weight.grad for weight in self._network.parameters() if weight.grad is not None}
        if len(self._recorded) == _MOST:
            log.info("batches of more than %d shapes: the others are computed without CUDA graphs", _MOST)

    def _put_gradients_back(self) -> None:
        """Let weights have the gradients that the backward passes add to, with their present values."""
        for weight, gradient in self._gradients.items():
            if weight.grad is not gradient:
                gradient.zero_() if weight.grad is None else gradient.copy_(weight.grad)
                weight.grad = gradient


class CudaRecorder:
    """Records passes as CUDA graphs, which share their memory."""

    def __init__(self) -> None:
        self._stream: Any = None
        self._pool: Any = None

    def __call__(self, network: Any, packed: Packed) -> Recorded:
        """Record the passes over a batch; nothing is computed.

        Args:
            network: The network; its weights have been used before, so that libraries are loaded.
            packed: A batch on the GPU.
        """
        if self._pool is None:
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch leaves it without types
            self._pool = torch.cuda.graph_pool_handle()
        dtype = torch.get_autocast_dtype("cuda")
        autocast = torch.autocast("cuda", dtype, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False)
        inputs = {name: value.clone() for name, value in packed.tensors.items()}
        forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        # Other threads, which pin memory for loaders, may go on meanwhile.
        settings: dict[str, Any] = {"pool": self._pool, "stream": self._stream, "capture_error_mode": "thread_local"}
        with torch.cuda.graph(forward, **settings), autocast:
            logits_BC, aliases = passed_through_aliases(network, Packed.of(inputs))
        gradients = gradients_in_place(aliases)
        gradient_BC = torch.zeros_like(logits_BC)
        with torch.cuda.graph(backward, **settings):
            torch._foreach_add_(gradients, list(torch.autograd.grad(logits_BC, list(aliases), gradient_BC)))
        return Recorded(inputs, logits_BC.detach(), gradient_BC, forward.replay, backward.replay)


def passed_through_aliases(network: Any, packed: Packed) -> tuple[Tensor, dict[Tensor, nn.Parameter]]:
    """Logits whose gradients belong to aliases of the weights: other leaves with the same memory.

    What adds up the gradients of a network's own weights belongs to the stream of an earlier pass, if anything still
    holds that pass, and a recording must not touch another stream.

    Returns:
        Logits of shape (B, C), and the aliases that they depend on, each with its weight.
    """
    weights = dict(network.named_parameters())
    aliases = {name: nn.Parameter(weight.detach(), weight.requires_grad) for name, weight in weights.items()}
    given = {**packed.inputs, "sequences": packed}
    logits_BC: Tensor = torch.func.functional_call(network, dict[str, Tensor](aliases), kwargs=given).logits
    reached = {id(leaf) for leaf in leaves(logits_BC)}
    return logits_BC, {alias: weights[name] for name, alias in aliases.items() if id(alias) in reached}


def gradients_in_place(aliases: Mapping[Tensor, nn.Parameter]) -> list[Tensor]:
    """The gradients of weights, zeros for those that have none yet."""
    for weight in aliases.values():
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    return [weight.grad for weight in aliases.values() if weight.grad is not None]


def leaves(result: Tensor) -> list[Tensor]:
    """The tensors that gradients of a result are added to, each once."""
    found: dict[int, Tensor] = {}
    seen, ahead = set(), [result.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::AccumulateGrad":
            found[id(node.variable)] = node.variable  # type: ignore[attr-defined] # which the class Node leaves out
        ahead += [before for before, _ in node.next_functions]
    return list(found.values())


class _Replayed(torch.autograd.Function):
    """Logits whose gradient runs the recorded backward pass."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, graphs: GraphedNetwork, passes: Recorded, replay: int) -> Tensor:
        ctx.graphs, ctx.passes, ctx.replay = graphs, passes, replay
        passes.forward()
        return passes.logits_BC.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None, None]:
        ctx.passes.gradient_BC.copy_(gradients[0])
        ctx.graphs.backward(ctx.passes, ctx.replay)
        return None, None, None, None
