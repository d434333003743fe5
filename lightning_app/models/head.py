"""The last layer of a classifier: where it is, and label priors and temperatures written into it."""

# B = rows, C = classes

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..core.errors import InputError


def output_layer(network: Any, name: str) -> Any:
    """The linear layer that gives the logits.

    Raises:
        InputError: If there is none with a bias.
    """
    from torch import nn

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    layers = [layer for layer in layers if layer.out_features == network.config.num_labels]
    if not layers or layers[-1].bias is None:
        raise InputError(
            f"{name}: its logits do not come from a linear layer with a bias, expected one to write the label prior "
            "into; leave prior and temperature off"
        )
    return layers[-1]


@contextmanager
def corrected_head(network: Any, temperature: float, shift_C: Any, name: str) -> Iterator[None]:
    """Make a classifier give z / temperature + shift in the place of its logits z, by its last layer alone.

    The change is checked by a forward pass before and after, and undone at the end to the same bits.

    Args:
        network: A classifier of the transformers library.
        temperature: What the logits are divided by.
        shift_C: What is added to them then, one number a class.
        name: The model's name, for errors.

    Raises:
        InputError: If the logits do not come from one linear layer.
    """
    import torch

    layer = output_layer(network, name)
    before = layer.weight.detach().clone(), layer.bias.detach().clone()
    shift_C = torch.as_tensor(shift_C, dtype=torch.float64, device=layer.bias.device)
    was_training = network.training
    network.eval()
    logits_1C = _probe(network)
    with torch.no_grad():
        layer.weight.copy_(layer.weight.double() / temperature)
        layer.bias.copy_(layer.bias.double() / temperature + shift_C)
    try:
        expected_1C = logits_1C.double() / temperature + shift_C
        if not torch.allclose(_probe(network).double(), expected_1C, atol=1e-3, rtol=1e-2):
            raise InputError(
                f"{name}: its last linear layer does not give its logits, expected a classifier that a label prior can "
                "be written into; leave prior and temperature off"
            )
        network.train(was_training)
        yield
    finally:
        with torch.no_grad():
            layer.weight.copy_(before[0])
            layer.bias.copy_(before[1])
        network.train(was_training)


def _probe(network: Any) -> Any:
    """Logits of a few arbitrary tokens; shape (1, C)."""
    import torch

    with torch.no_grad():
        tokens = torch.arange(5, 9, device=next(network.parameters()).device).unsqueeze(0)
        return network(input_ids=tokens).logits
