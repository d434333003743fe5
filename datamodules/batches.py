"""Planned micro-batches to padded tensors."""

# B = rows of a micro-batch, L = its longest row in tokens, C = classes

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.protocols import EncodedBatch

from .encoding import Encoded
from .views import Views
from .windows import MicroBatch, WindowSampler, WindowShape


@dataclass(frozen=True)
class Padding:
    """How a tokenizer pads, without the tokenizer.

    Args:
        pad_token_id: Stands for no token.
        pad_token_type_id: Its type, where tokens have types.
        padding_side: `right` or `left`.
    """

    pad_token_id: int
    pad_token_type_id: int
    padding_side: str

    @classmethod
    def of(cls, tokenizer: Any) -> "Padding":
        """That of a Hugging Face tokenizer."""
        return cls(tokenizer.pad_token_id, tokenizer.pad_token_type_id, tokenizer.padding_side)


class RowBatches(Dataset[EncodedBatch]):
    """Maps a planned micro-batch to its tensors.

    See `labelbridge.lightning_app.protocols.EncodedBatch`.

    Args:
        encoded: Token ids of every row.
        padding: How to pad.
        columns: Tensors with one entry for every row, such as `label` or `probs`.
        constants: Values that every batch carries, such as the sizes of the sets.
        views: Translations of the rows, if any; see `views.Views`.
    """

    def __init__(
        self,
        encoded: Encoded,
        padding: Padding,
        columns: Mapping[str, Tensor] | None = None,
        constants: Mapping[str, int | Tensor] | None = None,
        views: Views | None = None,
    ) -> None:
        self.encoded = encoded
        self.columns = dict(columns or {})
        self.constants = dict(constants or {})
        self.views = views
        self.pad_values = {"input_ids": padding.pad_token_id, "token_type_ids": padding.pad_token_type_id}
        self.pad_left = padding.padding_side == "left"

    def __getitem__(self, planned: MicroBatch) -> EncodedBatch:
        rows = planned.rows if len(planned.rows) else np.zeros(1, dtype=np.int64)
        inputs = self.pad(rows)
        index = torch.from_numpy(rows)
        n_real = len(planned.rows)
        batch = {
            "inputs": inputs,
            "row": index,
            "real": torch.full((len(rows),), bool(n_real)),
            **{name: column[index] for name, column in self.columns.items()},
            **self.constants,
            **self._views_of(planned.rows),
            "window_rows": planned.window_rows,
            "ends_window": planned.ends_window,
            "n_rows": n_real,
            "n_tokens": int(self.encoded.lengths[planned.rows].sum()),
            "n_cells": inputs["input_ids"].numel(),
        }
        return cast(EncodedBatch, batch)  # columns and constants have names of it, too

    def _views_of(self, rows: np.ndarray) -> dict[str, Any]:
        if self.views is None:
            return {}
        views, of = self.views.of_rows(rows)
        if not len(views):
            return {"n_views": self.views.count}
        inputs = self.pad(views, self.views.encoded)
        return {"n_views": self.views.count, "views": {"inputs": inputs, "of": torch.from_numpy(of)}}

    def pad(self, rows: np.ndarray, encoded: Encoded | None = None) -> dict[str, Tensor]:
        """Features of rows, padded to the longest, with the attention mask; int64 of shape (B, L) each."""
        encoded = encoded or self.encoded
        lengths_B = encoded.lengths[rows]
        width = int(lengths_B.max())
        positions_L = np.arange(width)
        if self.pad_left:
            positions_L = positions_L - (width - lengths_B)[:, None]
        filled_BL = np.broadcast_to((positions_L >= 0) & (positions_L < lengths_B[:, None]), (len(rows), width))
        starts = encoded.starts
        flat = np.concatenate([np.arange(starts[row], starts[row + 1]) for row in rows])
        padded = {"attention_mask": torch.from_numpy(filled_BL.astype(np.int64))}
        for name, values in encoded.features.items():
            grid_BL = np.full((len(rows), width), self.pad_values.get(name, 0), dtype=np.int64)
            grid_BL[filled_BL] = values[flat]
            padded[name] = torch.from_numpy(grid_BL)
        return padded


class WindowLoader(DataLoader[EncodedBatch]):
    """Serves an epoch's micro-batches, and can resume where a checkpoint was taken.

    Lightning saves `state_dict` with its checkpoints and hands it back before the next epoch begins.

    Args:
        dataset: Where rows come from.
        sampler: Which rows, in which order.
        num_workers: Worker processes.
        pin_memory: Whether to copy batches to pinned memory first.
    """

    def __init__(self, dataset: RowBatches, sampler: WindowSampler, num_workers: int, pin_memory: bool) -> None:
        self.windows = sampler
        self._served = 0
        super().__init__(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=num_workers,
            pin_memory=pin_memory,
            # A generator of its own: iterating must not draw from the training run's random numbers.
            generator=torch.Generator().manual_seed(0),
        )

    def __iter__(self) -> Iterator[EncodedBatch]:  # type: ignore[override] # a generator around the base's iterator
        self._served, batches = self.windows.skip, super().__iter__()
        self.windows.skip = 0
        for batch in batches:
            self._served += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """How many micro-batches of the epoch have been served, and how windows were cut."""
        return {"served": self._served % max(len(self), 1), "shape": asdict(self.windows.shape)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume after the windows that a checkpoint has seen, which may have been cut in another way.

        Raises:
            InputError: If windows held another number of rows, or the checkpoint was taken inside of one.
        """
        before, here = WindowShape(**state["shape"]), self.windows.shape
        windows, inside = divmod(state["served"], before.accumulate)
        if before.rows != here.rows or inside:
            raise InputError(
                f"the checkpoint was taken with {asdict(before)}, {before.rows} rows an optimizer step, expected as "
                f"many here, not {here.rows} ({asdict(here)}); set batch_size, accumulate_grad_batches and devices to "
                "that, or start again with --overwrite true"
            )
        self.windows.skip = windows * here.accumulate
