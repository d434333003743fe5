"""Word embeddings of which only those rows are trained that occur in the training set.

A multilingual encoder has 250,000 word embeddings, and a training set holds a few thousand different tokens. Without
weight decay Adam moves no row that has never had a gradient: both of its moments are zero, and so is their quotient.
All others need no gradient, no place in its norm and no moments, so the fit is the same with the rows that occur alone.
On a CPU the others took a quarter of a small step, and more than a third of the memory.
"""

# V = vocabulary, K = its tokens that occur, D = width; B = rows of a micro-batch, L = its longest row in tokens

import logging
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from labelbridge.lightning_app.core.errors import InputError

log = logging.getLogger(__name__)

_LARGEST_SHARE = 0.5  # of the vocabulary; if more of it occurs, little is saved


class TrainedRows(nn.Module):
    """Stands in for an embedding layer: the rows of the given tokens are a parameter, all others stay as they are.

    Its `state_dict` is that of the layer it stands for. In training, another token is an error; in evaluation it has
    its unchanged row.

    Args:
        layer: The embedding layer; its memory is taken over.
        tokens: The tokens that occur in training, in ascending order; int64 of shape (K,).
    """

    def __init__(self, layer: nn.Embedding, tokens: Tensor) -> None:
        super().__init__()
        self.embedding_dim = layer.embedding_dim
        self.num_embeddings = layer.num_embeddings
        self.padding_idx = layer.padding_idx
        # No buffers: DistributedDataParallel would send them to all ranks at every step.
        self.weight = layer.weight.detach()  # (V, D)
        self.tokens = tokens.to(self.weight.device)
        self.places = torch.full((layer.num_embeddings,), -1, device=self.weight.device)  # token -> row, or -1; (V,)
        self.places[self.tokens] = torch.arange(len(tokens), device=self.weight.device)
        self.rows = nn.Parameter(self.weight[self.tokens])  # (K, D)
        self._padding_row: int | None = None
        if self.padding_idx is not None and self.places[self.padding_idx] >= 0:
            self._padding_row = int(self.places[self.padding_idx])

    def forward(self, ids_BL: Tensor) -> Tensor:
        """The embeddings of tokens; shape (B, L, D)."""
        places_BL = self.places[ids_BL]
        if self.training:
            # Elsewhere, and in a compiled graph, the lookup itself fails.
            looks = ids_BL.device.type == "cpu" and not torch.compiler.is_compiling()
            if looks and bool((places_BL < 0).any()):
                raise InputError(
                    f"token {int(ids_BL[places_BL < 0][0])} is in a training batch, but not in the DataModule's "
                    "training_tokens, expected all that occur; return None from training_tokens to train every row"
                )
            return functional.embedding(places_BL, self.rows, self._padding_row)
        known_BL = (places_BL >= 0).unsqueeze(-1)
        trained = functional.embedding(places_BL.clamp_min(0), self.rows)
        return torch.where(known_BL, trained, functional.embedding(ids_BL, self.weight))

    def whole(self) -> Tensor:
        """The embeddings of all tokens, the trained ones up to date; shape (V, D)."""
        with torch.no_grad():
            self.weight[self.tokens] = self.rows.detach().to(self.weight.dtype)
        return self.weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call] # torch leaves it without types
        self.weight, self.tokens, self.places = fn(self.weight), fn(self.tokens), fn(self.places)
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.whole()

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if f"{prefix}weight" not in state_dict:
            missing_keys.append(f"{prefix}weight")
            return
        with torch.no_grad():
            self.weight.copy_(state_dict[f"{prefix}weight"])
            self.rows.copy_(self.weight[self.tokens])


def train_rows_that_occur(network: Any, tokens: np.ndarray | None) -> None:
    """Leave the embeddings of all other tokens out of training, where that saves anything.

    Networks whose embeddings are frozen, shared with another layer, or of a kind of their own, stay as they are.

    Args:
        network: A network of the transformers library.
        tokens: All tokens that a training batch can hold, each once; None if that is not known.
    """
    layer = network.get_input_embeddings()
    if tokens is None or type(layer) is not nn.Embedding or not layer.weight.requires_grad:
        return
    names = [name for name, one in network.named_parameters(remove_duplicate=False) if one is layer.weight]
    plain = layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
    if len(names) != 1 or not plain or len(tokens) > _LARGEST_SHARE * layer.num_embeddings:
        return
    network.set_input_embeddings(TrainedRows(layer, torch.from_numpy(np.sort(tokens).astype(np.int64))))
    log.info(
        "embeddings: %d of %d rows occur in the training set; the others would not change and are left out",
        len(tokens), layer.num_embeddings,
    )  # fmt: skip


def train_all_rows(network: Any) -> None:
    """Undo `train_rows_that_occur`, with the rows as they have been trained."""
    layer = network.get_input_embeddings()
    if isinstance(layer, TrainedRows):
        plain = nn.Embedding(layer.num_embeddings, layer.embedding_dim, layer.padding_idx, _weight=layer.whole())
        network.set_input_embeddings(plain.train(layer.training))


def trained_embeddings(network: Any, name: str) -> nn.Parameter:
    """The rows of the word embeddings that are trained, as one parameter.

    Args:
        network: A network of the transformers library.
        name: The model, for the message.

    Raises:
        InputError: If the embeddings are of a kind of their own, or shared with another layer, so that every row has a
            gradient in every step.
    """
    layer = network.get_input_embeddings()
    if isinstance(layer, TrainedRows):
        return layer.rows
    weight = layer.weight if isinstance(layer, nn.Embedding) else None
    named: dict[str, nn.Parameter] = dict(network.named_parameters(remove_duplicate=False))
    names = [place for place, one in named.items() if one is weight]
    if len(names) != 1 or layer.sparse or not named[names[0]].requires_grad:
        what = f"are shared ({' and '.join(names)})" if len(names) > 1 else f"are a {type(layer).__name__}"
        raise InputError(
            f"model.lazy_embeddings is true, and the word embeddings of {name} {what}, expected an embedding layer "
            "that is trained and shares its weights with no other; set model.lazy_embeddings to false"
        )
    return named[names[0]]
