"""No padding: the tokens of a batch pass through the network as one row, and only attention sees sequences.

In a random batch of sentences half of what a network computes is padding. Packed, embeddings, projections and
feed-forward layers compute the tokens alone. On a GPU in half precision attention is FlashAttention for sequences of
several lengths (Dao, arXiv 2307.08691); elsewhere queries, keys and values are put back into rows, on a CPU in groups
of similar length (`attention.py`). The head then reads the first token of each sequence. Logits and gradients are those
of the padded batch, up to the order of floating-point sums; dropout draws other masks of the same distribution, but for
FlashAttention, which rounds the rate to 8 bits.

Of torch's kernels for sequences of several lengths, flex attention and `torch.nn.attention.varlen` have no dropout,
which these networks have in training. So the operation behind the second is called itself, which has.
"""

# B = rows of a batch, L = its longest row in tokens, T = its tokens; H = heads of an attention layer, D = width of each
# R = B, or more where rows of filling make T a round number

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .attention import Groups, attention, groups_of
from .length_groups import padded_at_end

_NAME = "labelbridge_packed"  # of the attention, in the transformers library
# Networks whose classifiers read the first token, and whose position is seen by embeddings and attention alone.
PACKED_TYPES = ("bert", "camembert", "electra", "roberta", "xlm-roberta", "xlm-roberta-xl")
_SHORTEST = 16  # tokens that a filled batch allows each row
_PARTS = 8  # filling is at most this part of the tokens, or one row
_PARTS_ON_CPU = 16  # filling is at most this part of the tokens
_WIDEST_HEAD = 256  # that FlashAttention computes
_AMPERE = (8, 0)  # the compute capability from which it runs


class Rows(NamedTuple):
    """Where the tokens of a packed row are in the padded batch.

    Args:
        token_RL: Which places attention sees; boolean. An empty row has a first one, so that its attention has a sum.
        place_T: The place of each token among the R * L.
        end_R: Where each row ends among the T, after a zero; int32 of shape (R + 1,).
    """

    token_RL: Tensor
    place_T: Tensor
    end_R: Tensor

    def padded(self, states: Tensor) -> Tensor:
        """Packed states, of shape (1, H, T, D), as rows, zero at the padding; shape (R, H, L, D)."""
        _, heads, _, width = states.shape
        flat = states.new_zeros(self.token_RL.numel(), heads, width)
        flat = flat.index_copy(0, self.place_T, states[0].transpose(0, 1))
        return flat.view(*self.token_RL.shape, heads, width).transpose(1, 2)

    def packed(self, values: Tensor) -> Tensor:
        """Values of rows, of shape (R, L, ...), as one row of shape (1, T, ...)."""
        return values.flatten(0, 1).index_select(0, self.place_T).unsqueeze(0)


class Packed(NamedTuple):
    """A batch as one row of tokens.

    Args:
        inputs: `input_ids`, `position_ids` and others; shape (1, T).
        first_B: The place of each row's first token among the T.
        rows: How attention finds the sequences: `Rows`, or `Groups` on a CPU.
    """

    inputs: dict[str, Tensor]
    first_B: Tensor
    rows: Rows | Groups

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Packed":
        """A batch of the tensors that `tensors` names."""
        given = dict(tensors)
        rows = Rows(*(given.pop(name) for name in Rows._fields))
        return cls(first_B=given.pop("first_B"), rows=rows, inputs=given)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors, by name; of a batch with `Rows`."""
        assert isinstance(self.rows, Rows)
        return {**self.inputs, "first_B": self.first_B, **self.rows._asdict()}

    def pinned(self) -> "Packed":
        """The same in pinned memory, from which a GPU reads while the host goes on."""
        return self.of({name: value.pin_memory() for name, value in self.tensors.items()})


def pack(network: Any, inputs: Mapping[str, Tensor], *, filled: bool = False) -> Packed | None:
    """A batch as one row of tokens, or None if its rows are not padded at their end, or an input has another shape.

    On a GPU this waits for the mask; a batch that is still on the host is packed there without that.

    Args:
        network: The network that gives positions; see `make_packable`.
        inputs: `input_ids`, `attention_mask` and others of shape (B, L). An empty row keeps one position.
        filled: Whether to round L up to a power of two, and T, by rows of filling, to a multiple of an eighth of it or
            less, so that few shapes occur. The head does not read these rows, so they change nothing.
    """
    if not padded_at_end(inputs):
        return None
    token_BL, given = _tokens(network, inputs)
    rows, longest = token_BL.shape
    length_R = token_BL.sum(dim=1)
    from_T = token_BL.flatten().nonzero().squeeze(1)
    packed = {name: value.flatten().index_select(0, from_T) for name, value in given.items()}
    place_T = from_T
    if filled:
        row_T = from_T.div(longest, rounding_mode="floor")
        wide = max(_SHORTEST, 1 << (longest - 1).bit_length())
        multiple = max(wide, _power_of_two(len(from_T) // _PARTS))
        filling = multiple - len(from_T) % multiple
        of_filling = torch.arange(filling, device=from_T.device)
        place_T = torch.cat([from_T + (wide - longest) * row_T, rows * wide + of_filling])
        left_in_row = filling - torch.arange(0, multiple, wide, device=from_T.device)
        length_R = torch.cat([length_R, left_in_row.clamp(0, wide)])
        packed = _filled(packed, filling)
        longest = wide
    end_R = functional.pad(length_R.cumsum(0), (1, 0))
    return Packed(
        inputs={name: value.unsqueeze(0) for name, value in packed.items()},
        first_B=end_R[:rows],
        rows=Rows(
            token_RL=torch.arange(longest, device=from_T.device) < length_R.clamp_min(1)[:, None],
            place_T=place_T,
            end_R=end_R.to(torch.int32),
        ),
    )


def pack_sorted(network: Any, inputs: Mapping[str, Tensor]) -> Packed | None:
    """A batch as `pack` does it, for the CPU: sorted by length, with `Groups` for attention.

    T is rounded up to a multiple of a 16th of it or less, so that few shapes occur: for each new one oneDNN writes its
    kernels anew. The tokens of this filling belong to no sequence.
    """
    if not padded_at_end(inputs):
        return None
    token_BL, given = _tokens(network, inputs)
    order_B = token_BL.sum(dim=1).argsort(stable=True)
    token_BL = token_BL[order_B]
    length_B = token_BL.sum(dim=1)
    from_T = token_BL.flatten().nonzero().squeeze(1)
    packed = {name: value[order_B].flatten().index_select(0, from_T) for name, value in given.items()}
    filling = -len(from_T) % _power_of_two(len(from_T) // _PARTS_ON_CPU)
    first_B = length_B.cumsum(0) - length_B
    return Packed(
        inputs={name: value.unsqueeze(0) for name, value in _filled(packed, filling).items()},
        first_B=first_B[order_B.argsort()],
        rows=groups_of(length_B.tolist(), network.config.num_attention_heads, len(from_T) + filling),
    )


def _tokens(network: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Which places of a padded batch are kept, and the inputs but the mask, with positions; all of shape (B, L)."""
    token_BL = inputs["attention_mask"] > 0
    token_BL[:, 0] = True
    given = {name: value for name, value in inputs.items() if name != "attention_mask"}
    given.setdefault("position_ids", _positions(network, inputs["input_ids"]))
    return token_BL, given


def _power_of_two(number: int) -> int:
    """The largest that is not above a number, or 1."""
    return 1 << max(0, number.bit_length() - 1)


def _filled(packed: Mapping[str, Tensor], filling: int) -> dict[str, Tensor]:
    """Values of shape (T,) and the first of them `filling` times: it surely occurs in training."""
    return {name: torch.cat([value, value[:1].expand(filling)]) for name, value in packed.items()}


def is_known(network: Any) -> bool:
    """Whether this is a network of one of the types, by the transformers library's code."""
    return type(network).__module__.startswith("transformers.") and network.config.model_type in PACKED_TYPES


def obstacle(network: Any) -> str | None:
    """Why the batches of a network cannot be packed, or None if they can."""
    kind = network.config.model_type
    if not is_known(network):
        return f"a {type(network).__name__} of type {kind}, expected one of {', '.join(PACKED_TYPES)}"
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


def packed_logits(network: Any, batch: Packed | Mapping[str, Tensor]) -> Tensor:
    """What the network gives for a batch; shape (B, C).

    Args:
        network: See `make_packable`.
        batch: Packed, or the inputs of a padded batch; where these cannot be packed, they pass through as they are.
    """
    if not isinstance(batch, Packed):
        on_cpu = batch["input_ids"].device.type == "cpu"
        packed = pack_sorted(network, batch) if on_cpu else pack(network, batch)
        if packed is None:
            padded_BC: Tensor = network(**batch).logits
            return padded_BC
        batch = packed
    logits_BC: Tensor = network(**batch.inputs, sequences=batch).logits
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
    sequences: Packed | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Attention within each sequence of a packed row, shape (1, T, H, D); that of the library for padded batches."""
    states = (query, key, value)
    if sequences is None:
        output, _ = sdpa_attention_forward(module, *states, attention_mask, **settings)
        return output, None
    rows = sequences.rows
    if isinstance(rows, Groups):
        return attention(states, rows, settings["dropout"], settings["scaling"]), None
    if _computes(query):
        return _flash_attention(states, rows, settings["dropout"], settings["scaling"]), None
    length = rows.token_RL.shape[1]
    keys = rows.token_RL[:, None, None].expand(-1, 1, length, -1)
    output, _ = sdpa_attention_forward(module, *(rows.padded(one) for one in states), keys, **settings)
    return rows.packed(output), None


def _computes(query: Tensor) -> bool:
    """Whether FlashAttention computes queries of this kind; shape (1, H, T, D)."""
    if not query.is_cuda or query.dtype not in (torch.bfloat16, torch.float16):
        return False
    kernels = torch.backends.cuda
    is_on = kernels.is_flash_attention_available() and kernels.flash_sdp_enabled()  # type: ignore[no-untyped-call]
    fits = query.shape[3] % 8 == 0 and query.shape[3] <= _WIDEST_HEAD
    return is_on and fits and torch.cuda.get_device_capability(query.device) >= _AMPERE


def _flash_attention(
    states: tuple[Tensor, Tensor, Tensor], rows: Rows, dropout: float, scaling: float | None
) -> Tensor:
    """Attention within each sequence by a kernel for sequences of several lengths; shape (1, T, H, D)."""
    query_THD, key_THD, value_THD = (one[0].transpose(0, 1) for one in states)
    longest = rows.token_RL.shape[1]
    output = torch.ops.aten._flash_attention_forward(
        query_THD, key_THD, value_THD, rows.end_R, rows.end_R, longest, longest, dropout,
        is_causal=False, return_debug_mask=False, scale=scaling,
    )  # fmt: skip
    attended: Tensor = output[0].unsqueeze(0)
    return attended


def _first_tokens(_: nn.Module, __: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
    """Give the head each sequence's first token, the only one that it reads, in the place of the packed row."""
    sequences = named.get("sequences")
    if sequences is not None:
        output.last_hidden_state = output.last_hidden_state[0].index_select(0, sequences.first_B).unsqueeze(1)
    return output
