"""What the DataModules of all stages share; see `labelbridge.lightning_app.protocols.StageData`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from lightning.pytorch import LightningDataModule

from labelbridge.lightning_app.core.contracts import Reference
from labelbridge.lightning_app.core.run_parts import WHOLE
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.lightning_app.protocols import Written

from .windows import BudgetSampler


class StageDataBase(LightningDataModule):
    """A DataModule, and what the commands ask of it."""

    tokens_per_batch: int

    def __init__(self) -> None:
        super().__init__()
        self.finished_rows: np.ndarray | None = None
        self.shard = WHOLE
        self.lineage: dict[str, str] = {}

    def budget_sampler(self, lengths: np.ndarray) -> BudgetSampler:
        """This rank's batches of this shard by token budget, without rows that are finished already.

        Args:
            lengths: Tokens of every row; shape (N,).
        """
        assert self.trainer is not None, "loaders are made for a Trainer"
        return BudgetSampler(
            lengths, self.tokens_per_batch, self.finished_rows, self.trainer.global_rank, self.trainer.world_size,
            self.shard,
        )  # fmt: skip

    @property
    def stage_task(self) -> Task | None:
        """The task; none here."""
        return None

    @property
    def pool_source(self) -> Source | list[Source] | None:
        """Where the pool is read from; there is none here."""
        return None

    def check(self, subcommand: str) -> None:
        """Refuse settings that cannot serve, before any row is read."""

    def inputs(self, subcommand: str) -> dict[str, Reference]:
        """What a run reads through this module, by name."""
        raise NotImplementedError

    def output_rows(self, subcommand: str) -> pa.Table:
        """The columns that a predict or test artifact carries over from its input, one row for each input row."""
        raise NotImplementedError

    def finish(self, done: pa.Table) -> Written:
        """The finished rows as they are."""
        return Written(done)

    def metrics(self, table: pa.Table) -> dict[str, dict[str, Any]]:
        """The metrics of each target, from the rows that a test has written."""
        raise NotImplementedError

    def test_texts(self) -> pa.Table | None:
        """The rows that a test scores, where a selection can have seen them; none here."""
        return None

    def known_labels(self, table: pa.Table) -> list[str] | None:
        """The label that each of the written rows is known to have; unknown here."""
        return None

    def next_variant(self, facts: Mapping[str, Any]) -> str | None:
        """Which of the stage's next steps applies: the usual one."""
        return None
