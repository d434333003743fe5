"""Unlabelled rows to be scored."""

from functools import cached_property
from typing import Any

import pyarrow as pa
from torch.utils.data import DataLoader

from datamodules.base import RowsDataModule
from datamodules.batches import Batch
from datamodules.encoding import Encoded
from lightning_app.errors import InputError
from lightning_app.sources import Rows, Source, load_rows


class PoolDataModule(RowsDataModule):
    """The pool for predict. Prompt labels are carried past the model, never into it.

    Args:
        pool: The pool's rows, one source or several: files or an artifact.
        **rows: As for `RowsDataModule`.
    """

    def __init__(self, pool: Source | list[Source], **rows: Any) -> None:
        super().__init__(**rows)
        self.pool = pool
        self.encoded: Encoded | None = None

    @cached_property
    def pool_rows(self) -> Rows:
        """The pool."""
        rows = load_rows(self.pool, self.task, "prompt_label")
        if not len(rows.table):
            raise InputError(f"data.pool {', '.join(rows.places)}: no rows, expected at least one")
        self.lineage = rows.lineage
        return rows

    def inputs(self, subcommand: str) -> dict[str, dict[str, str]]:
        """See `RowsDataModule.inputs`."""
        return {"pool": self.pool_rows.reference}

    def output_rows(self, subcommand: str) -> pa.Table:
        """See `RowsDataModule.output_rows`."""
        return self.pool_rows.table.select(["id"])

    def setup(self, stage: str) -> None:
        """Encode the pool."""
        self.encoded = self.encode(self.pool_rows, "pool")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The pool, longest rows first."""
        assert self.encoded is not None, "setup encodes the pool"
        return self.inference_loader(self.encoded)
