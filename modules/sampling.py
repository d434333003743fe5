"""What shapes generated text token by token: the bigram block, and draws that belong to a row."""

# B = rows of a batch, L = tokens so far, T = tokens of an answer, V = vocabulary

from hashlib import blake2b

import torch
from torch import Tensor
from transformers import LogitsProcessor

from labelbridge.lightning_app.core.errors import InputError


class BigramBlock(LogitsProcessor):  # type: ignore[misc] # transformers is untyped here
    """Bans tokens that would make a bigram come twice.

    Args:
        start: Tokens before this place do not count: the prompt's length, or 0 to ban the prompt's bigrams too.
    """

    def __init__(self, start: int) -> None:
        self.start = start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Put minus infinity at banned tokens, in place: a vocabulary is large to copy; shape (B, V)."""
        seen_BL = input_ids[:, self.start :]
        if seen_BL.shape[1] < 2:
            return scores
        follows_BL = seen_BL[:, :-1] == seen_BL[:, -1:]
        row, place = follows_BL.nonzero(as_tuple=True)
        scores[row, seen_BL[row, place + 1]] = -torch.inf
        return scores


class TakeLikeliest(LogitsProcessor):  # type: ignore[misc] # as above
    """Leaves the choice of the most likely token to `generate`, among logits that can be compared."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores as they are; shape (B, V)."""
        check_logits(scores)
        return scores


def check_logits(scores_BV: Tensor) -> None:
    """Refuse logits that cannot be compared; minus infinity alone stands for tokens that are banned.

    Raises:
        InputError: If a row holds nan or inf.
    """
    if not bool(scores_BV.amax(dim=1).isfinite().all()):
        raise InputError(
            "the model's logits hold nan or inf, expected finite numbers; set --model.dtype float32, or check the "
            "model's config.json and weights"
        )


class DrawPerRow(LogitsProcessor):  # type: ignore[misc] # as above
    """Samples each row from its nucleus, by random numbers of its own.

    A token's random number is looked up in the cumulative probabilities of the nucleus, whose tokens are in the order
    of the vocabulary. The nucleus is found among the most likely tokens: the probability of a token is taken over
    the entire vocabulary, so a set of most likely tokens that reaches `top_p` contains the
    nucleus, and nothing else needs to be sorted or accumulated. Only rows that do not reach it are tried with more.

    Args:
        ids: Row ids.
        seed: Seed of the run.
        steps: Most tokens that will be drawn.
        temperature: Divisor of the logits.
        top_k: Keep the k most likely tokens, and those that tie with the last; 0 keeps all.
        top_p: Probability of the nucleus, after `top_k`; 1 keeps all.
        candidates: Most likely tokens among which the nucleus is looked for first.
        step: Tokens that every row has already.
    """

    def __init__(
        self,
        ids: list[str],
        seed: int,
        steps: int,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        candidates: int = 1024,
        step: int = 0,
    ) -> None:
        generators = [torch.Generator().manual_seed(row_number(row, seed)) for row in ids]
        self.uniform_BT = torch.stack([torch.rand(steps, generator=one, dtype=torch.float64) for one in generators])
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.candidates = candidates
        self.step = step

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Zero at the token drawn, minus infinity elsewhere; shape (B, V)."""
        drawn_B1 = self.draw(scores)[:, None]
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn_B1, 0.0)

    def draw(self, scores_BV: Tensor) -> Tensor:
        """One token for each row; shape (B,).

        Raises:
            InputError: If the model gives numbers that cannot be compared.
        """
        check_logits(scores_BV)
        uniform_B = self.uniform_BT[:, self.step].to(scores_BV.device)
        self.step += 1
        logits_BV = scores_BV.float()
        if self.temperature != 1:
            logits_BV = logits_BV / self.temperature
        size = logits_BV.shape[1]
        if 0 < self.top_k < size:
            least_B1 = logits_BV.topk(self.top_k, dim=1).values[:, -1:]
            logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
        if self.top_p >= 1:
            return _inverse_cdf(logits_BV.softmax(dim=1), uniform_B)
        # The border of a nucleus may lie between two tokens whose sums differ by little: exponentials in float32, their
        # sum and those of the candidates in float64.
        highest_B1 = logits_BV.amax(dim=1, keepdim=True)
        total_B1 = _exponential_sums(logits_BV, highest_B1)
        drawn_B = torch.empty_like(uniform_B, dtype=torch.long)
        rows, candidates = torch.arange(len(logits_BV), device=logits_BV.device), min(self.candidates, size)
        while len(rows):
            part_BV = logits_BV if len(rows) == len(logits_BV) else logits_BV[rows]
            is_all = candidates == size
            top = part_BV.sort(dim=1, descending=True) if is_all else part_BV.topk(candidates, dim=1)
            probs_BK = (top.values.double() - highest_B1[rows]).exp_() / total_B1[rows]
            sums_BK = probs_BK.cumsum(dim=1)
            reached_B = (sums_BK[:, -1] >= self.top_p) | is_all
            # A token belongs to the nucleus if those before it do not reach top_p.
            probs_BK = probs_BK.masked_fill_(sums_BK - probs_BK >= self.top_p, 0.0)[reached_B]
            # The draw goes by the vocabulary's order.
            tokens_BK = top.indices[reached_B]
            if is_all:
                drawn_B[rows] = _inverse_cdf(
                    torch.zeros_like(probs_BK).scatter_(1, tokens_BK, probs_BK), uniform_B[rows]
                )
            else:
                tokens_BK, order_BK = tokens_BK.sort(dim=1)
                place_B = _inverse_cdf(probs_BK.gather(1, order_BK), uniform_B[rows[reached_B]])
                drawn_B[rows[reached_B]] = tokens_BK.gather(1, place_B[:, None])[:, 0]
            rows = rows[~reached_B]
            # To sort everything costs less than to pick a large part of it.
            candidates = 8 * candidates if 64 * candidates <= size else size
        return drawn_B


def _exponential_sums(logits_BV: Tensor, highest_B1: Tensor) -> Tensor:
    """Sums of the exponentials of a row's logits, less its highest; float64 of shape (B, 1)."""
    # On a CPU row by row: one row fits the cache, which is five times as fast.
    rows = 1 if logits_BV.device.type == "cpu" else len(logits_BV)
    parts = zip(torch.split(logits_BV, rows), torch.split(highest_B1, rows), strict=True)
    sums = [(part - highest).exp_().sum(dim=1, keepdim=True, dtype=torch.float64) for part, highest in parts]
    return torch.cat(sums)


def _inverse_cdf(probs_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """Where uniform random numbers fall in the cumulative probabilities, which need not add up to 1; shape (B,)."""
    cumulated_BV = probs_BV.double().cumsum(dim=1)
    total_B1 = cumulated_BV[:, -1:]
    # A random number that was rounded up to the sum would lie after the last token.
    point_B1 = torch.minimum(uniform_B[:, None] * total_B1, torch.nextafter(total_B1, torch.zeros_like(total_B1)))
    return torch.searchsorted(cumulated_BV, point_B1, right=True)[:, 0]


def row_number(row: str, seed: int) -> int:
    """A 63-bit number from a row's id and the seed."""
    return int.from_bytes(blake2b(f"{seed}:{row}".encode(), digest_size=8).digest(), "big") >> 1
