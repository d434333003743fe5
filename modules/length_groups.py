"""Less padding: a batch passes through the network in groups of rows of similar length.

Every row of a batch is padded to the longest, so that in a random batch of sentences half of what is computed is
padding. Cut into a few groups, each padded to its own longest row, the batch has the same logits and gradients, up to
the order of floating-point sums; dropout draws other masks of the same distribution. On a CPU, time is proportional to
the positions computed, plus a little for each group; on a GPU, small groups leave most of it idle.
"""

# B = rows of a batch, L = its longest row in tokens

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

GROUP_COST = 128  # positions whose computation takes as long as what a further group costs beside its own


def in_groups(
    network: Callable[[dict[str, Tensor]], Tensor], inputs: Mapping[str, Tensor], group_cost: float = GROUP_COST
) -> Tensor:
    """What the network gives for every row, in the order of the rows.

    Args:
        network: From inputs of shape (rows, positions) to a tensor with a row for each.
        inputs: `attention_mask` and others of shape (B, L). Where rows are padded at their start, or an input has
            another shape, they pass through as one.
        group_cost: See `cut`.
    """
    if not padded_at_end(inputs):
        return network(dict(inputs))
    lengths_B = inputs["attention_mask"].sum(dim=1)
    order_B = lengths_B.argsort(stable=True)
    groups = cut(lengths_B[order_B].tolist(), group_cost)
    if len(groups) == 1:
        return network(dict(inputs))
    parts = []
    for rows, longest in groups:
        of_group = order_B[rows]
        parts.append(network({name: value[of_group, :longest] for name, value in inputs.items()}))
    return torch.cat(parts)[order_B.argsort()]


def padded_at_end(inputs: Mapping[str, Tensor]) -> bool:
    """Whether all inputs are of one shape (B, L), with an `attention_mask` whose rows are padded at their end."""
    mask_BL = inputs.get("attention_mask")
    if mask_BL is None or any(value.shape != mask_BL.shape for value in inputs.values()):
        return False
    return not bool((mask_BL[:, 1:] > mask_BL[:, :-1]).any())


def cut(lengths: Sequence[int], group_cost: float = GROUP_COST) -> list[tuple[slice, int]]:
    """The groups of least cost: rows times longest row, and something for each group; by dynamic programming.

    Args:
        lengths: Tokens of each row, from short to long.
        group_cost: What each group costs beside its positions, in positions.

    Returns:
        The rows of each group, as a slice of `lengths`, and its longest row.
    """
    # Where a group may start: between rows of the same length a cut only costs.
    bounds = [row for row, length in enumerate(lengths) if not row or length != lengths[row - 1]] + [len(lengths)]
    best = [0.0]  # the least cost of the rows before each bound
    start = [0]  # the bound at which their last group starts
    for end in range(1, len(bounds)):
        longest = lengths[bounds[end] - 1]
        costs = [best[first] + (bounds[end] - bounds[first]) * longest + group_cost for first in range(end)]
        least = min(range(end), key=costs.__getitem__)
        best.append(costs[least])
        start.append(least)
    groups = []
    end = len(bounds) - 1
    while end:
        groups.append((slice(bounds[start[end]], bounds[end]), max(1, int(lengths[bounds[end] - 1]))))
        end = start[end]
    return groups[::-1]
