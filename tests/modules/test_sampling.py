"""The draw from a nucleus that is found by top-k first, against the library's warpers over the entire vocabulary."""

import pytest
import torch
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.modules.sampling import BigramBlock, DrawPerRow, TakeLikeliest

ROWS = 48
IDS = [f"row/{row}" for row in range(ROWS)]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_logits_that_cannot_be_compared_are_one_line(number: float):
    with pytest.raises(InputError, match="logits hold nan or inf"):
        DrawPerRow(["a", "b"], 0, 3).draw(torch.tensor([[0.0, 1.0], [0.0, number]]))
    with pytest.raises(InputError, match="logits hold nan or inf"):
        TakeLikeliest()(torch.zeros(2, 1), torch.tensor([[0.0, 1.0], [0.0, number]]))


def test_banned_tokens_may_be_compared():
    scores = torch.tensor([[0.0, -torch.inf]])
    assert TakeLikeliest()(torch.zeros(1, 1), scores) is scores


def reference(scores_BV: Tensor, uniform_B: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Sort and accumulate the entire vocabulary, then look the random number up in it."""
    scores_BV = TemperatureLogitsWarper(temperature)(None, scores_BV)
    if top_k:
        scores_BV = TopKLogitsWarper(top_k)(None, scores_BV)
    if top_p < 1:
        scores_BV = TopPLogitsWarper(top_p)(None, scores_BV)
    cumulated_BV = scores_BV.softmax(dim=1).double().cumsum(dim=1)
    return torch.searchsorted(cumulated_BV, uniform_B[:, None] * cumulated_BV[:, -1:], right=True)[:, 0]


def random_scores(seed: int, vocabulary: int, spread: float) -> Tensor:
    return spread * torch.randn(ROWS, vocabulary, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("top_k", [0, 50])
def test_it_draws_what_the_entire_vocabulary_would_give(seed: int, top_p: float, top_k: int):
    """In float64; where a random number falls within 1e-6 of the border of two tokens, either of them is right."""
    temperature, spread, vocabulary = (0.7, 1.0, 1.5, 2.5)[seed % 4], (1.0, 3.0, 6.0)[seed % 3], (40, 3000)[seed % 2]
    draw = DrawPerRow(IDS, seed, 3, temperature, top_k, top_p, candidates=64)
    for step in range(3):
        scores = random_scores(100 * seed + step, vocabulary, spread)
        least, most = (
            reference(scores.double(), draw.uniform_BT[:, step] + shift, temperature, top_k, top_p)
            for shift in (-1e-6, 1e-6)
        )
        drawn = draw.draw(scores)
        assert ((least <= drawn) & (drawn <= most)).all()
        assert (least == most).float().mean() > 0.95
        in_float32 = reference(scores, draw.uniform_BT[:, step], temperature, top_k, top_p)
        assert (drawn != in_float32).sum() <= 1


@pytest.mark.parametrize("seed", range(4))
def test_it_draws_the_same_after_the_bigram_block(seed: int):
    tokens = torch.randint(30, (ROWS, 20), generator=torch.Generator().manual_seed(seed))
    scores = random_scores(seed, 30, 2.0)
    blocked = BigramBlock(4)(tokens, scores.clone())
    assert torch.isinf(blocked).any()
    draw = DrawPerRow(IDS, seed, 1, 1.0, 0, 0.9, candidates=4)
    expected = reference(blocked.clone(), draw.uniform_BT[:, 0], 1.0, 0, 0.9)
    assert torch.equal(draw(tokens, blocked).argmax(dim=1), expected)


def test_a_nucleus_larger_than_the_candidates_is_found_too():
    """Flat scores: 0.9 of the probability takes thousands of tokens, in some rows; others are peaked."""
    scores = random_scores(0, 5000, 0.1)
    scores[::2, 7] = 20.0
    draw = DrawPerRow(IDS, 0, 1, 1.0, 0, 0.9, candidates=8)
    expected = reference(scores, draw.uniform_BT[:, 0], 1.0, 0, 0.9)
    assert torch.equal(draw.draw(scores), expected)
    assert (expected[::2] == 7).all()


def test_the_most_likely_token_is_always_in_the_nucleus():
    scores = random_scores(0, 100, 1.0)
    draw = DrawPerRow(IDS, 0, 1, 1.0, 0, 1e-6)
    assert torch.equal(draw.draw(scores), scores.argmax(dim=1))


def test_a_token_without_probability_is_never_drawn():
    scores = torch.full((ROWS, 10), -torch.inf)
    scores[:, 4] = 0.0
    for top_p in (0.9, 1.0):
        draw = DrawPerRow(IDS, 0, 1, 1.0, 0, top_p)
        draw.uniform_BT[:] = 1 - 2**-53
        assert (draw.draw(scores) == 4).all()
