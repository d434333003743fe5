"""AdamW that leaves those word embeddings alone which a step has not seen.

AdamW (Loshchilov and Hutter, 2019, arXiv 1711.05101) moves a weight by its moments in every step after its first
gradient, and decays it in every step, whether it has a gradient or not. Of word embeddings a step sees a few hundred,
so most of that is work on rows that have no gradient.
"""

# K = rows of the embedding matrix that are trained, R = those that have a gradient in this step, D = width

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW

LAZY = "lazy"  # of a parameter group: whether its rows wait for a gradient


class LazyAdamW(AdamW):
    """AdamW, but a row of `lazy` without a gradient keeps its weights and moments, to the bit.

    In the optimizer step t, with the gradient g of its window (after accumulation and clipping), each row r that has
    any g[r] != 0 is moved as by AdamW:

        m[r] = b1 m[r] + (1 - b1) g[r],   v[r] = b2 v[r] + (1 - b2) g[r]^2
        w[r] = w[r] - rate decay w[r] - rate (m[r] / (1 - b1^t)) / (sqrt(v[r] / (1 - b2^t)) + epsilon)

    All other rows keep w[r], m[r] and v[r]. AdamW would take g[r] = 0 for them: it shrinks both moments, decays w[r],
    and moves it on by what is left of m[r], in all the steps after a gradient about b1 / (1 - b1) = 9 times as far as
    in the step that had it. So a rare token moves less here, and does not decay while it is not seen. t counts the
    steps of the run for all rows, as in `torch.optim.SparseAdam`, which neither decays weights nor takes dense
    gradients. Where every row has a gradient in every step the two are the same to the bit.

    Args:
        params: The other weights.
        lazy: Matrices whose rows wait for a gradient; shape (K, D) each.
        **settings: As for `torch.optim.AdamW`.
    """

    def __init__(self, params: Iterable[Parameter], lazy: Iterable[Parameter], **settings: Any) -> None:
        groups = [{"params": list(params), LAZY: False}, {"params": list(lazy), LAZY: True}]
        super().__init__(groups, **settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; each lazy matrix is replaced by a copy of its rows that have a gradient while AdamW runs."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        stood_in = []
        for group in self.param_groups:
            for place, matrix in enumerate(group["params"] if group.get(LAZY) else ()):
                if matrix.grad is not None:
                    rows_R = (matrix.grad != 0).any(dim=1).nonzero().squeeze(1)
                    group["params"][place] = self._rows_alone(matrix, rows_R)
                    stood_in.append((group["params"], place, matrix, rows_R))
        try:
            super().step()
        finally:
            for params, place, matrix, rows_R in stood_in:
                self._put_back(matrix, params[place], rows_R)
                params[place] = matrix
        return loss

    def _rows_alone(self, matrix: Parameter, rows_R: Tensor) -> Parameter:
        """A copy of some rows, with their gradient and their state; shape (R, D)."""
        assert matrix.grad is not None
        alone = Parameter(matrix[rows_R])
        alone.grad = matrix.grad[rows_R]
        if matrix in self.state:
            self.state[alone] = {
                name: value[rows_R] if value.shape == matrix.shape else value
                for name, value in self.state[matrix].items()
            }
        return alone

    def _put_back(self, matrix: Parameter, alone: Parameter, rows_R: Tensor) -> None:
        """Write what has become of the rows into their matrix and its state."""
        matrix[rows_R] = alone
        state = self.state[matrix]
        for name, value in self.state.pop(alone, {}).items():
            if value.shape != alone.shape:
                state[name] = value
                continue
            if name not in state:
                state[name] = torch.zeros_like(matrix)
            state[name][rows_R] = value
