"""Unlabelled rows to be scored."""

from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
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
        prompt_labels: Whether the rows have a prompt label; false for unlabelled target text.
        one_string: Encode a pair as one string with a space between (the paper's code does so for embeddings), not as a
            pair.
        **rows: As for `RowsDataModule`.
    """

    SUBCOMMANDS: ClassVar[tuple[str, ...]] = ("predict",)

    def __init__(
        self, pool: Source | list[Source], prompt_labels: bool = True, one_string: bool = False, **rows: Any
    ) -> None:
        super().__init__(**rows)
        self.pool = pool
        self.prompt_labels = prompt_labels
        self.one_string = one_string
        self.encoded: Encoded | None = None

    @cached_property
    def pool_rows(self) -> Rows:
        """The pool."""
        rows = load_rows(self.pool, self.task, "prompt_label" if self.prompt_labels else None)
        if not len(rows.table):
            raise InputError(f"data.pool {', '.join(rows.places)}: no rows, expected at least one")
        self.lineage = rows.lineage
        return rows

    def inputs(self, subcommand: str) -> dict[str, dict[str, str]]:
        """See `RowsDataModule.inputs`."""
        return {"pool": self.pool_rows.reference}

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `RowsDataModule.identity`."""
        return {**super().identity(subcommand), **({"one_string": True} if self.one_string else {})}

    def output_rows(self, subcommand: str) -> pa.Table:
        """See `RowsDataModule.output_rows`."""
        # Unlabelled target text goes along: `test` refuses rows whose text a selection has looked at.
        columns = [] if self.prompt_labels else self.task.columns
        return self.pool_rows.table.select(["id", *columns])

    def setup(self, stage: str) -> None:
        """Encode the pool."""
        rows = self.pool_rows
        if self.one_string and len(self.task.columns) > 1:
            first, second = (rows.table[name] for name in self.task.columns)
            joined = pc.binary_join_element_wise(first, second, " ")
            self.encoded = self.encode(Rows(pa.table({"text": joined}), {}, [], {}), "pool", columns=["text"])
            return
        self.encoded = self.encode(rows, "pool")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The pool, longest rows first."""
        assert self.encoded is not None, "setup encodes the pool"
        return self.inference_loader(self.encoded)
