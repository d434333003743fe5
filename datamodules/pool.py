"""Unlabelled rows to be scored."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import DataLoader

from labelbridge.lightning_app.core.contracts import Reference
from labelbridge.lightning_app.data.sources import Rows, Source, load_rows
from labelbridge.lightning_app.models.locate import default_prompt
from labelbridge.lightning_app.protocols import EncodedBatch

from .base import RowsDataModule
from .encoding import Encoded


class PoolDataModule(RowsDataModule):
    """The pool for predict. Prompt labels are carried past the model, never into it.

    Args:
        pool: The pool's rows, one source or several: files or an artifact.
        prompt_labels: Whether the rows have a prompt label; false for unlabelled target text.
        one_string: Encode a pair as one string with a space between (the paper's code does so for embeddings), not as a
            pair.
        prefix: Text before every row; null takes the prompt that a sentence encoder names as its default. Linked to the
            module's `prefix` where it has one.
        **rows: As for `RowsDataModule`.
    """

    def __init__(
        self,
        pool: Source | list[Source],
        prompt_labels: bool = True,
        one_string: bool = False,
        prefix: str | None = "",
        **rows: Any,
    ) -> None:
        super().__init__(**rows)
        self.pool = pool
        self.prompt_labels = prompt_labels
        self.one_string = one_string
        self.prefix = default_prompt(self.model_name) if prefix is None else prefix
        self.encoded: Encoded | None = None

    @property
    def pool_source(self) -> Source | list[Source] | None:
        """The pool."""
        return self.pool

    def known_labels(self, table: pa.Table) -> list[str] | None:
        """The classes that the prompts asked for."""
        rows = self.pool_rows.table
        return rows["prompt_label"].to_pylist() if "prompt_label" in rows.column_names else None

    def next_variant(self, facts: Mapping[str, Any]) -> str | None:
        """Unlabelled rows are target text."""
        return None if self.prompt_labels else "target text"

    @cached_property
    def pool_rows(self) -> Rows:
        """The pool."""
        rows = load_rows(self.pool, self.task, "prompt_label" if self.prompt_labels else None)
        rows.check_any("data.pool")
        self.lineage = rows.lineage
        return rows

    def inputs(self, subcommand: str) -> dict[str, Reference]:
        """See `RowsDataModule.inputs`."""
        return {"pool": self.pool_rows.reference}

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `RowsDataModule.identity`."""
        changed = {"one_string": self.one_string, "prefix": self.prefix}
        return {**super().identity(subcommand), **{name: value for name, value in changed.items() if value}}

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
            texts = pa.table({"text": pc.binary_join_element_wise(first, second, " ")})
        else:
            texts = rows.table.select(self.task.columns)
        if self.prefix:
            first = pc.binary_join_element_wise(self.prefix, texts.column(0), "")
            texts = texts.set_column(0, texts.column_names[0], first)
        self.encoded = self.encode_texts(texts, "pool", texts.column_names)
        self.free_tokenizer()

    def predict_dataloader(self) -> DataLoader[EncodedBatch]:
        """The pool, longest rows first."""
        assert self.encoded is not None, "setup encodes the pool"
        return self.inference_loader(self.encoded)
