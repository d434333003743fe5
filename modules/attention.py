"""Attention on a CPU within the sequences of a packed batch, in groups of similar length.

Scores of all pairs of positions grow with the square of the length: padded to the longest, short sequences cost many
times what they need. So the sequences, which lie sorted, are computed in a few groups, each padded to its own longest.
Softmax over short rows is computed in float32, as torch's own for bfloat16 takes several times as long there.

Few calls from Python are made here, and hardly any in the backward pass: of the threads that compute parts of a batch
(`threads.py`) only one runs Python at a time.
"""

# T = tokens of the packed row, H = heads, D = width of a head
# of a group: R = sequences, N = R * H, L = the longest in tokens, S = tokens

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .dropout import drawn
from .length_groups import cut

_MULTIPLE = 8  # L is a multiple, so that few shapes occur, for each of which oneDNN writes its own kernels
# Pairs of positions of a sequence whose scores take as long as the calls that a further group costs; for 12 heads.
_GROUP_COST = 5000
_LONG = 256  # tokens, from which torch's softmax for bfloat16 takes no longer than that for float32


class Group(NamedTuple):
    """Sequences that lie beside each other in a packed row.

    Args:
        shape: N and L.
        states: What each padded place reads from queries, keys and values, among 3 * H * T; shape (3 * N * L,).
        results: What the gradient of each padded place reads, among T * H and a row of zeros after them; of shape
            (N * L,).
        unseen: What is added to a score, for each type: 0 for a token, minus infinity for padding; shape (N, 1, L).
    """

    shape: tuple[int, int]
    states: Tensor
    results: Tensor
    unseen: dict[torch.dtype, Tensor]


class Groups(NamedTuple):
    """All sequences of a packed row.

    Args:
        lengths: Tokens of each sequence.
        heads: H.
        groups: They are padded, and lie behind each other.
        states: Where gradients of queries, keys and values of all tokens lie among the padded ones of all groups and a
            row of zeros after them; shape (3 * H * T,).
        results: Where the results of all tokens lie among the padded ones of all groups; shape (T * H,).
    """

    lengths: Sequence[int]
    heads: int
    groups: list[Group]
    states: Tensor
    results: Tensor


def groups_of(lengths: Sequence[int], heads: int, tokens: int) -> Groups:
    """The groups of least cost.

    Args:
        lengths: Tokens of each sequence of a packed row, from short to long; none is empty.
        heads: H.
        tokens: T. Those after the last sequence belong to none: they get any result, and have no gradient.
    """
    groups: list[Group] = []
    of_states: list[Tensor] = []
    of_results: list[Tensor] = []
    first = before = 0  # tokens, and padded places, of the groups so far
    padded_lengths = [-(-length // _MULTIPLE) * _MULTIPLE for length in lengths]
    for rows, _ in cut([length**2 for length in padded_lengths], _GROUP_COST):
        longest = padded_lengths[rows.stop - 1]
        group, place_HS = _group(torch.tensor(lengths[rows]), longest, first, heads, tokens)
        size = group.shape[0] * longest
        groups.append(group)
        of_states.append(3 * before + size * torch.arange(3)[:, None, None] + place_HS)
        of_results.append(before + place_HS.T.flatten())
        first += place_HS.shape[1]
        before += size
    of_states.append(torch.full((3, heads, tokens - first), 3 * before))
    of_results.append(torch.zeros((tokens - first) * heads, dtype=torch.int64))
    return Groups(lengths, heads, groups, torch.cat(of_states, dim=2).flatten(), torch.cat(of_results))


def _group(length_R: Tensor, longest: int, first: int, heads: int, tokens: int) -> tuple[Group, Tensor]:
    """A group whose first token is the `first` of T, and the place of each token among N * L; shape (H, S)."""
    head_H, column_L = torch.arange(heads), torch.arange(longest)
    is_token_RL = column_L < length_R[:, None]
    start_R1 = (first + length_R.cumsum(0) - length_R)[:, None]
    token_RL = start_R1 + column_L
    # Padding reads a token of its own sequence, so that what is not finite stays in it.
    of_kind_RHL = head_H[:, None] * tokens + token_RL.where(is_token_RL, start_R1)[:, None]
    result_RHL = (token_RL[:, None] * heads + head_H[:, None]).where(is_token_RL[:, None], tokens * heads)
    unseen_RHL = torch.zeros(result_RHL.shape).masked_fill(~is_token_RL[:, None], -torch.inf)
    shape = (len(length_R) * heads, longest)
    row_S, column_S = is_token_RL.nonzero(as_tuple=True)
    group = Group(
        shape=shape,
        states=torch.cat([(kind * heads * tokens + of_kind_RHL).flatten() for kind in range(3)]),
        results=result_RHL.flatten(),
        unseen={torch.float32: unseen_RHL.view(shape[0], 1, longest)},
    )
    return group, (row_S * heads + head_H[:, None]) * longest + column_S


def attention(states: tuple[Tensor, Tensor, Tensor], groups: Groups, dropout: float, scaling: float) -> Tensor:
    """Each token's weighted mean of its sequence's values (Vaswani et al., arXiv 1706.03762); shape (1, T, H, D).

    Args:
        states: Queries, keys and values of shape (1, H, T, D), on the CPU.
        groups: See `groups_of`.
        dropout: The probability with which a weight is 0; see `dropout.dropped`.
        scaling: What scores are multiplied by.
    """
    _, heads, tokens, width = states[0].shape
    if heads != groups.heads:  # a layer that differs from the configuration
        groups = groups_of(groups.lengths, heads, tokens)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        states = tuple(one if one.dtype == dtype else one.to(dtype) for one in states)  # type: ignore[assignment]
    of_groups = _Padded.apply(groups, *states)  # type: ignore[no-untyped-call]
    results = []
    scale = 1.0
    with torch.autocast("cpu", enabled=False):
        for number, group in enumerate(groups.groups):
            of_group = of_groups[3 * number : 3 * number + 3]
            if dropout:
                result_NLD, scale = _with_dropout(of_group, group, dropout, scaling)
            else:
                query, key, value = (one.view(-1, heads, *one.shape[1:]) for one in of_group)
                unseen = _unseen(group, value.dtype).view(-1, heads, 1, group.shape[1])[:, :1]
                result_NLD = scaled_dot_product_attention(query, key, value, unseen, scale=scaling).flatten(0, 1)
            results.append(result_NLD)
        attended: Tensor = _Unpadded.apply(groups, scale, *results)  # type: ignore[no-untyped-call]
    return attended.view(1, tokens, heads, width)


def _with_dropout(states: Sequence[Tensor], group: Group, dropout: float, scaling: float) -> tuple[Tensor, float]:
    """The results of a group, of shape (N, L, D), and what they are to be multiplied by."""
    query_NLD, key_NLD, value_NLD = states
    dtype = value_NLD.dtype
    wide = torch.promote_types(dtype, torch.float32) if group.shape[1] < _LONG else dtype
    scores_NLL = torch.baddbmm(_unseen(group, dtype), query_NLD, key_NLD.transpose(1, 2), alpha=scaling)
    weights_NLL = scores_NLL.to(wide).softmax(dim=2).to(dtype)
    kept_NLL, scale = drawn(weights_NLL.shape, dropout, dtype)
    return torch.bmm(weights_NLL if kept_NLL is None else weights_NLL * kept_NLL, value_NLD), scale


def _unseen(group: Group, dtype: torch.dtype) -> Tensor:
    """What is added to scores of a type; shape (N, 1, L)."""
    unseen = group.unseen.get(dtype)
    if unseen is None:
        unseen = group.unseen[dtype] = group.unseen[torch.float32].to(dtype)
    return unseen


class _Padded(torch.autograd.Function):
    """From queries, keys and values of shape (1, H, T, D) to those of each group, of shape (N, L, D)."""

    @staticmethod
    def forward(ctx: Any, groups: Groups, *states: Tensor) -> tuple[Tensor, ...]:
        ctx.groups, ctx.shape = groups, (3, *states[0].shape)
        width = states[0].shape[3]
        of_states = torch.stack(states).view(-1, width)
        found: list[Tensor] = []
        for group in groups.groups:
            found += of_states.index_select(0, group.states).view(3, *group.shape, width).unbind()
        return tuple(found)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        width = ctx.shape[4]
        of_groups = torch.cat([*(one.reshape(-1, width) for one in gradients), gradients[0].new_zeros(1, width)])
        return (None, *of_groups.index_select(0, ctx.groups.states).view(ctx.shape).unbind())


class _Unpadded(torch.autograd.Function):
    """From the results of each group, of shape (N, L, D), to those of all tokens, of shape (T * H, D)."""

    @staticmethod
    def forward(ctx: Any, groups: Groups, scale: float, *results: Tensor) -> Tensor:
        ctx.groups, ctx.scale = groups, scale
        padded = torch.cat([one.view(-1, one.shape[2]) for one in results])
        return padded.index_select(0, groups.results).mul_(scale)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        width = gradients[0].shape[1]
        before_zeros = torch.cat([gradients[0], gradients[0].new_zeros(1, width)]).mul_(ctx.scale)
        of_groups = [
            before_zeros.index_select(0, group.results).view(*group.shape, width) for group in ctx.groups.groups
        ]
        return (None, None, *of_groups)
