"""Attention in groups of similar length is that of each sequence by itself, and so are its gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from labelbridge.modules import attention as module
from labelbridge.modules.attention import attention, groups_of

HEADS, WIDTH = 3, 4


def states_of(tokens: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, HEADS, tokens, WIDTH, dtype=dtype, requires_grad=True) for _ in range(3)]


def one_by_one(states: list[Tensor], lengths: list[int], scaling: float) -> Tensor:
    of_sequences = zip(*(one.split([*lengths, one.shape[2] - sum(lengths)], dim=2) for one in states), strict=True)
    found = [scaled_dot_product_attention(*one, scale=scaling) for one in list(of_sequences)[: len(lengths)]]
    return torch.cat(found, dim=2).transpose(1, 2)


@pytest.mark.parametrize(
    "lengths", [[1], [3, 3], [1, 2, 7, 8, 9, 17, 40], [2] * 30 + [50] * 3, [8, 16, 24], [5, 6, 90]], ids=str
)
@pytest.mark.parametrize("filling", [0, 5])
@pytest.mark.parametrize("group_cost", [0, 50, 1e9])
def test_results_and_gradients_are_those_of_each_sequence(
    lengths: list[int], filling: int, group_cost: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_GROUP_COST", group_cost)
    states = states_of(sum(lengths) + filling)
    groups = groups_of(lengths, HEADS, sum(lengths) + filling)
    if group_cost == 1e9:
        assert len(groups.groups) == 1
    found, expected = attention((*states,), groups, 0.0, 0.3), one_by_one(states, lengths, 0.3)
    assert found.shape == (1, sum(lengths) + filling, HEADS, WIDTH)
    assert found.isfinite().all()
    found = found[:, : sum(lengths)]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(found)
    of_found, of_expected = (torch.autograd.grad((one * weights).sum(), states) for one in (found, expected))
    for actual, wanted in zip(of_found, of_expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-12)


def test_a_group_is_there_where_lengths_differ_much():
    assert [group.shape for group in groups_of([10] * 20 + [100] * 4, 1, 600).groups] == [(20, 16), (4, 104)]
    assert [group.shape for group in groups_of([10] * 20 + [12] * 4, 1, 248).groups] == [(24, 16)]


def test_the_same_in_bfloat16_up_to_rounding():
    lengths = [4, 9, 30]
    states = states_of(43, torch.bfloat16)
    found = attention((*states,), groups_of(lengths, HEADS, 43), 0.0, 0.3)
    assert found.dtype == torch.bfloat16
    expected = one_by_one([one.double() for one in states], lengths, 0.3)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-2)


def test_weights_are_dropped_and_the_mean_stays():
    """With a value of 1 everywhere, a result is the sum of the weights that are kept."""
    lengths = [20] * 2000
    query, key, _ = (torch.zeros(1, 1, 40_000, 1) for _ in range(3))
    value = torch.ones(1, 1, 40_000, 1, requires_grad=True)
    torch.manual_seed(0)
    results = attention((query, key, value), groups_of(lengths, 1, 40_000), 0.5, 1.0).flatten()
    # The number of 20 weights of 1 / 20 that are kept, each times 2: a mean of 1, a variance of 20 / 4 * (2 / 20)^2.
    assert float(results.mean()) == pytest.approx(1.0, abs=5 * 0.05**0.5 / 200)
    assert float(results.var()) == pytest.approx(0.05, rel=0.05)
    # What a value adds to all results of its sequence is its gradient.
    results.sum().backward()
    assert value.grad is not None
    assert float(value.grad.sum()) == pytest.approx(float(results.sum()), rel=1e-4)


def test_where_all_weights_are_dropped_all_is_zero():
    states = states_of(5)
    results = attention((*states,), groups_of([2, 3], HEADS, 5), 1.0, 1.0)
    assert not results.any()
    for gradient in torch.autograd.grad(results.sum(), states):
        assert not gradient.any()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
@pytest.mark.parametrize("kind", range(3))
def test_what_is_not_finite_stays_in_its_sequence(kind: int, bad: float, dropout: float):
    lengths = [3, 4, 6]
    states = states_of(13)
    with torch.no_grad():
        states[kind][0, :, 3] = bad  # the first token of the second
    results = attention((*states,), groups_of(lengths, HEADS, 13), dropout, 1.0)
    assert not results[0, 3:7].isfinite().all()
    others = torch.cat([results[:, :3], results[:, 7:]], dim=1)
    assert others.isfinite().all()
    for gradient in torch.autograd.grad(others.sum(), states):
        assert gradient[:, :, :3].isfinite().all()
        assert gradient[:, :, 7:].isfinite().all()


def test_states_of_several_types_are_those_of_mixed_precision():
    states = states_of(9)
    states = [states[0].bfloat16(), states[1].float(), states[2].bfloat16()]
    with torch.autocast("cpu", torch.bfloat16):
        found = attention((*states,), groups_of([4, 5], HEADS, 9), 0.0, 0.3)
    assert found.dtype == torch.bfloat16
    expected = one_by_one([one.double() for one in states], [4, 5], 0.3)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-2)


def test_a_layer_may_have_other_heads_than_the_configuration_says():
    states = states_of(9)
    found = attention((*states,), groups_of([4, 5], HEADS + 2, 9), 0.0, 0.3)
    torch.testing.assert_close(found, one_by_one(states, [4, 5], 0.3), rtol=0, atol=1e-12)


def test_long_sequences_in_bfloat16_with_dropout():
    states = states_of(600, torch.bfloat16)
    torch.manual_seed(0)
    found = attention((*states,), groups_of([300, 300], HEADS, 600), 0.01, 0.3)
    expected = one_by_one([one.double() for one in states], [300, 300], 0.3)
    assert (found.double() - expected).abs().mean() < 0.05
