"""What shapes generated text token by token: the bigram block, and draws that belong to a row."""

# B = rows of a batch, L = tokens so far, T = tokens of an answer, V = vocabulary

from hashlib import blake2b

import torch
from torch import Tensor
from transformers import LogitsProcessor


class BigramBlock(LogitsProcessor):  # type: ignore[misc] # transformers is untyped here
    """Bans tokens that would make a bigram come twice.

    Args:
        start: Tokens before this place do not count: the prompt's length, or 0 to ban the prompt's bigrams too.
    """

    def __init__(self, start: int) -> None:
        self.start = start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores with minus infinity at banned tokens; shape (B, V)."""
        seen_BL = input_ids[:, self.start :]
        if seen_BL.shape[1] < 2:
            return scores
        follows_BL = seen_BL[:, :-1] == seen_BL[:, -1:]
        row, place = follows_BL.nonzero(as_tuple=True)
        blocked = scores.clone()
        blocked[row, seen_BL[row, place + 1]] = -torch.inf
        return blocked


class DrawPerRow(LogitsProcessor):  # type: ignore[misc] # as above
    """Samples each row by random numbers of its own, one a token: where they fall in the row's cumulated probabilities.

    Args:
        ids: Row ids.
        seed: Seed of the run.
        steps: Most tokens that will be drawn.
    """

    def __init__(self, ids: list[str], seed: int, steps: int) -> None:
        generators = [torch.Generator().manual_seed(row_number(one, seed)) for one in ids]
        self.uniform_BT = torch.stack([torch.rand(steps, generator=one, dtype=torch.float64) for one in generators])
        self.step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Zero at the token drawn, minus infinity elsewhere; shape (B, V)."""
        cumulated_BV = scores.float().softmax(dim=1).double().cumsum(dim=1)
        point_B1 = self.uniform_BT[:, self.step : self.step + 1].to(scores.device) * cumulated_BV[:, -1:]
        self.step += 1
        # A point that was rounded up to the whole sum lies behind the last token.
        drawn_B1 = torch.searchsorted(cumulated_BV, point_B1, right=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn_B1, 0.0)


def row_number(row: str, seed: int) -> int:
    """A 63-bit number from a row's id and the seed."""
    return int.from_bytes(blake2b(f"{seed}:{row}".encode(), digest_size=8).digest(), "big") >> 1
