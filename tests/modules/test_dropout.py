"""Dropout with cheap masks is dropout: the share of zeros, the mean and the gradient are as they should be."""

import threading

import pytest
import torch
from torch import nn

from labelbridge.modules.dropout import FastDropout, drawn_by, dropped, make_fast

VALUES = 400_000


def drawn(rate: float, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    with drawn_by(torch.Generator().manual_seed(seed)):
        return dropped(torch.ones(VALUES, dtype=dtype), rate)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_share_of_the_values_is_zero_and_the_mean_stays(rate: float, dtype: torch.dtype):
    values = drawn(rate, dtype)
    assert values.dtype == dtype
    zeros = float((values == 0).double().mean())
    assert abs(zeros - rate) < 4 * (rate * (1 - rate) / VALUES) ** 0.5 + 1e-5
    kept = values[values != 0]
    assert len(kept.unique()) == 1
    assert float(kept[0]) == pytest.approx(1 / (1 - rate), rel=5e-3 if dtype == torch.bfloat16 else 1e-3)
    if dtype != torch.bfloat16:  # whose own rounding of the scale is 0.2 %
        level = round(rate * 65_536)
        assert float(kept[0]) == pytest.approx(65_536 / (65_536 - level), rel=1e-6)


def test_each_value_is_drawn_by_itself():
    kept = (drawn(0.5) != 0).double().view(-1, 4)  # four values come from one random number
    correlation = torch.corrcoef(kept.T)
    off_diagonal = correlation - torch.eye(4, dtype=torch.float64)
    assert off_diagonal.abs().max() < 5 / len(kept) ** 0.5
    neighbours = torch.corrcoef(torch.stack([kept.flatten()[:-4], kept.flatten()[4:]]))[0, 1]
    assert abs(neighbours) < 5 / VALUES**0.5


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5])
def test_any_number_of_values(size: int):
    assert dropped(torch.ones(size), 0.5).shape == (size,)


def test_the_gradient_passes_where_values_do():
    values = torch.randn(50, 7, dtype=torch.float64, requires_grad=True)
    result = dropped(values, 0.3)
    result.sum().backward()
    torch.testing.assert_close(values.grad, (result / values).detach())


def test_a_rate_of_0_keeps_all_and_of_1_none():
    values = torch.randn(100)
    assert torch.equal(dropped(values, 0.0), values)
    assert torch.equal(dropped(values, 1.0), torch.zeros(100))


def test_the_seed_of_the_generator_gives_the_mask():
    assert torch.equal(drawn(0.5), drawn(0.5))
    assert not torch.equal(drawn(0.5), drawn(0.5, seed=1))
    torch.manual_seed(3)
    first = dropped(torch.ones(100), 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropped(torch.ones(100), 0.5), first)


def test_a_generator_serves_its_own_thread_alone():
    elsewhere = []
    torch.manual_seed(3)
    expected = dropped(torch.ones(100), 0.5)
    torch.manual_seed(3)
    with drawn_by(torch.Generator().manual_seed(0)):
        thread = threading.Thread(target=lambda: elsewhere.append(dropped(torch.ones(100), 0.5)))
        thread.start()
        thread.join()
    assert torch.equal(elsewhere[0], expected)


def test_layers_of_a_network_are_replaced_with_their_names_and_rates():
    class OfItsOwn(nn.Dropout):
        pass

    network = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2)), "b": OfItsOwn(0.3)}).eval()
    make_fast(network)
    assert [(name, type(layer)) for name, layer in network.named_modules() if isinstance(layer, nn.Dropout)] == [
        ("a.1", FastDropout), ("b", OfItsOwn),
    ]  # fmt: skip
    assert network["a"][1].p == 0.2
    assert not network["a"][1].training
    values = torch.randn(100)
    assert torch.equal(network["a"][1](values), values)
    assert not torch.equal(network["a"].train()[1](values), values)


def test_masks_of_a_generator_are_drawn_anew_for_each_call():
    values = torch.ones(3000)
    with drawn_by(torch.Generator().manual_seed(0)):
        kept = torch.stack([dropped(values, 0.5) != 0 for _ in range(40)]).double()  # more than it draws at first
    correlation = torch.corrcoef(kept) - torch.eye(40, dtype=torch.float64)
    assert correlation.abs().max() < 6 / 3000**0.5
    assert abs(float(kept.mean()) - 0.5) < 5 * 0.5 / 120_000**0.5


def test_rates_types_and_sizes_may_change_from_call_to_call():
    with drawn_by(torch.Generator().manual_seed(0)):
        for rate, dtype, size in (
            (0.1, torch.float32, 1000), (0.9, torch.float32, 1000), (0.1, torch.bfloat16, 1000),
            (0.1, torch.float64, 1000), (0.1, torch.float16, 1000), (0.5, torch.float32, 3 << 20), (0.1, torch.float32, 9),
        ):  # fmt: skip
            values = torch.ones(size, dtype=dtype)
            result = dropped(values, rate)
            assert result.dtype == dtype
            assert result.shape == values.shape
            zeros = float((result == 0).double().mean())
            assert abs(zeros - rate) < 5 * (rate * (1 - rate) / size) ** 0.5
