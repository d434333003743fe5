"""Standard deviations under dropout: of networks that drop the same units in every row, whatever the batch."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.modules.thinned import deviations_under_dropout


class Network(nn.Module):
    """Two layers with dropout between them."""

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(4, 64), nn.Linear(64, 3)
        self.dropout = nn.Dropout(rate)
        self.eval()

    def forward(self, rows_BD: Tensor) -> Tensor:
        return self.second(self.dropout(torch.relu(self.first(rows_BD)))).softmax(dim=1)


def rows(count: int = 12) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(1))


def deviations(network: nn.Module, given: Tensor, passes: int = 5, seed: int = 0) -> np.ndarray:
    with torch.no_grad():
        return deviations_under_dropout(network, lambda: network(given), passes, seed).numpy()


def test_a_rows_deviation_does_not_depend_on_its_batch():
    network, given = Network(), rows()
    together = deviations(network, given)
    alone = np.concatenate([deviations(network, given[place : place + 1]) for place in range(len(given))])
    assert together == pytest.approx(alone, abs=1e-7)
    assert (together > 0).all()


def test_it_is_that_of_networks_with_dropout():
    """Of many passes: the standard deviation of a plain forward pass with dropout on."""
    network, given = Network(), rows(6)
    found = deviations(network, given, passes=2000)
    network.train()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(5)
        plain = torch.stack([network(given) for _ in range(2000)]).double().std(dim=0, correction=0).numpy()
    assert found == pytest.approx(plain, rel=0.15)


def test_the_seed_draws_the_units_and_nothing_is_left_behind():
    network, given = Network(), rows()
    before = network(given)
    first = deviations(network, given)
    assert np.array_equal(first, deviations(network, given))
    assert not np.allclose(first, deviations(network, given, seed=1))
    assert torch.equal(before, network(given))
    assert deviations(network, given, passes=1) == pytest.approx(0)


def test_attention_weights_keep_all_positions():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def forward(self, given: Tensor) -> Tensor:
            return self.dropout(given[:, None, :, None].expand(-1, 2, -1, 4)).mean(dim=(1, 3)).softmax(dim=1)

    with pytest.raises(InputError, match="has no dropout layer with a rate above 0"):
        deviations(Attention().eval(), rows())


def test_a_network_without_dropout_is_refused():
    with pytest.raises(InputError, match="model.dropout_passes: the network has no dropout layer"):
        deviations(Network(rate=0.0), rows())
