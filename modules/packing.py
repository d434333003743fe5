"""No padding: the tokens of a batch pass through the network as one row, and only attention sees sequences.

In a random batch of sentences half of what a network computes is padding. Packed, embeddings, projections and
feed-forward layers compute the tokens alone; attention puts queries, keys and values back into rows, which is a small
share of the work (about L / 6D of it: 3 % for rows of 64 tokens in a network of width 384). The head then reads the
first token of each sequence. Logits and gradients are those of the padded batch, up to the order of floating-point
sums; dropout draws other masks of the same distribution.

Attention kernels for sequences of several lengths (flex attention, `torch.nn.attention.varlen`) have no dropout, which
these networks have in training, and only some run on a CPU. Here the same operations run on every device.
"""

# B = rows of a batch, L = its longest row in tokens, T = its tokens; H = heads of an attention layer, D = width of each

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .length_groups import padded_at_end

_NAME = "labelbridge_packed"  # of the attention, in the transformers library
# Networks whose classifiers read the first token, and whose position is seen by embeddings and attention alone.
_TYPES = ("bert", "camembert", "electra", "roberta", "xlm-roberta", "xlm-roberta-xl")


@dataclass(frozen=True)
class Sequences:
    """Where the tokens of a packed row are in the padded batch.

    Args:
        token_BL: Whether there is a token; boolean. Every row has a first one.
        place_T: The place of each token among the B * L.
        first_B: The place of each row's first token among the T.
    """

    token_BL: Tensor
    place_T: Tensor
    first_B: Tensor

    @classmethod
    def of(cls, mask_BL: Tensor) -> "Sequences":
        """The sequences of an attention mask that is padded at the end of each row; an empty row keeps one position."""
        token_BL = mask_BL > 0
        token_BL[:, 0] = True
        lengths_B = token_BL.sum(dim=1)
        return cls(token_BL, token_BL.flatten().nonzero().squeeze(1), lengths_B.cumsum(0) - lengths_B)

    def padded(self, states: Tensor) -> Tensor:
        """Packed states, of shape (1, H, T, D), as rows, zero at the padding; shape (B, H, L, D)."""
        _, heads, _, width = states.shape
        flat = states.new_zeros(self.token_BL.numel(), heads, width)
        flat = flat.index_copy(0, self.place_T, states[0].transpose(0, 1))
        return flat.view(*self.token_BL.shape, heads, width).transpose(1, 2)

    def packed(self, values: Tensor) -> Tensor:
        """Values of rows, of shape (B, L, ...), as one row of shape (1, T, ...)."""
        return values.flatten(0, 1).index_select(0, self.place_T).unsqueeze(0)


def obstacle(network: Any) -> str | None:
    """Why the batches of a network cannot be packed, or None if they can."""
    kind = network.config.model_type
    if kind not in _TYPES or not type(network).__module__.startswith("transformers."):
        return f"a {type(network).__name__} of type {kind}, expected one of {', '.join(_TYPES)}"
    if network.config.is_decoder or network.config._attn_implementation != "sdpa":
        return f"its attention is causal or of kind {network.config._attn_implementation}, expected sdpa"
    return None


def make_packable(network: Any) -> None:
    """Let a classifier of the transformers library take packed batches beside padded ones.

    Args:
        network: A network in whose way there is no `obstacle`.
    """
    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    for layer in network.modules():
        if isinstance(
            getattr(layer, "config", None), PreTrainedConfig
        ):  # one and the same, but for layers that have been copied
            layer.config._attn_implementation = _NAME
    network.base_model.encoder.register_forward_hook(_first_tokens, with_kwargs=True)


def packed_logits(network: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """What the network gives for a batch; shape (B, C).

    Args:
        network: See `make_packable`.
        inputs: `input_ids`, `attention_mask` and others of shape (B, L). Where rows are padded at their start, or an
            input has another shape, they pass through as they are.
    """
    if not padded_at_end(inputs):
        padded_BC: Tensor = network(**inputs).logits
        return padded_BC
    sequences = Sequences.of(inputs["attention_mask"])
    given = {name: value for name, value in inputs.items() if name != "attention_mask"}
    given.setdefault("position_ids", _positions(network, inputs["input_ids"]))
    packed = {name: sequences.packed(value) for name, value in given.items()}
    logits_BC: Tensor = network(**packed, sequences=sequences).logits
    return logits_BC


def _positions(network: Any, ids_BL: Tensor) -> Tensor:
    """The positions that the network itself gives to the tokens of a padded batch; shape (B, L)."""
    embeddings = network.base_model.embeddings
    of_roberta = getattr(embeddings, "create_position_ids_from_input_ids", None)
    if of_roberta is not None:  # they begin after the padding's
        positions_BL: Tensor = of_roberta(ids_BL, embeddings.padding_idx)
        return positions_BL
    return torch.arange(ids_BL.shape[1], device=ids_BL.device).expand_as(ids_BL)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    sequences: Sequences | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Attention within each sequence of a packed row, shape (1, T, H, D); that of the library for padded batches."""
    states = (query, key, value)
    if sequences is None:
        output, _ = sdpa_attention_forward(module, *states, attention_mask, **settings)
        return output, None
    length = sequences.token_BL.shape[1]
    keys = sequences.token_BL[:, None, None].expand(-1, 1, length, -1)
    output, _ = sdpa_attention_forward(module, *map(sequences.padded, states), keys, **settings)
    return sequences.packed(output), None


def _first_tokens(_: nn.Module, __: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
    """Give the head each sequence's first token, the only one that it reads, in the place of the packed row."""
    sequences = named.get("sequences")
    if sequences is not None:
        output.last_hidden_state = output.last_hidden_state[0].index_select(0, sequences.first_B).unsqueeze(1)
    return output
