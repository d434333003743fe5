"""Prompts for predict."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, Dataset

from labelbridge.lightning_app.core import artifacts, fingerprint
from labelbridge.lightning_app.core.contracts import Reference
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.ranges import PositiveInt, Range, Seed, Tokens, check_ranges
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Rows, Source, load_rows
from labelbridge.lightning_app.generation.prompts import PromptSpec, prompt_rows, read_spec
from labelbridge.lightning_app.protocols import PromptBatch

from .stage import StageDataBase
from .windows import MicroBatch

CHARACTERS_PER_TOKEN = 3
MOST_PROMPTS = 100_000_000  # they are planned in memory


class PromptDataModule(StageDataBase):
    """Prompt rows in batches of like length, longest first, each at most `tokens_per_batch` tokens with the answer.

    Lengths are estimated (three characters a token), because a served model's tokenizer is not at hand.

    Args:
        task: Labels, and what the texts will be.
        prompts: A file of `configs/prompts`, or one of your own.
        count: Number of prompts; with a spec that has `of_each`, one per class for each source row instead.
        source: Rows that `{text}` stands for (premises): a clean artifact or a file.
        language: What the model writes in, such as `Hindi`; takes the place of the prompt file's own.
        max_new_tokens: Room for the answer in the budget; linked to the module's.
        tokens_per_batch: Rows times the longest prompt and answer of a batch, at most.
        seed: Seed of the attributes; linked to `seed_everything`.
    """

    @check_ranges("data.")
    def __init__(
        self,
        task: Task,
        prompts: str,
        count: Annotated[int, Range(least=1, most=MOST_PROMPTS)] = 1000,
        source: Source | None = None,
        language: str | None = None,
        max_new_tokens: Tokens = 256,
        tokens_per_batch: PositiveInt = 16_384,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.task = task
        self.prompts = prompts
        self.count = count
        self.source = source
        self.language = language
        self.max_new_tokens = max_new_tokens
        self.tokens_per_batch = tokens_per_batch
        self.seed = seed

    @property
    def stage_task(self) -> Task | None:
        """The task."""
        return self.task

    def next_variant(self, facts: Mapping[str, Any]) -> str | None:
        """The first text of a pair is followed by the second."""
        return "first text" if len(self.task.columns) > 1 and self.source is None else None

    @cached_property
    def table(self) -> pa.Table:
        """The prompt rows; see `labelbridge.lightning_app.generation.prompts.prompt_rows`."""
        if self.source is not None and self._spec.of_each is None:
            raise InputError(
                f"data.source {self.source.path}: the prompt file {self.prompts} takes no texts, expected one with "
                "`of_each`; choose another --data.prompts, or leave data.source out"
            )
        rows = prompt_rows(self._spec, self.task, self.count, self.seed, self._source_rows(self._spec.of_each))
        if not rows.num_rows:
            raise InputError(f"data.source {self.source and self.source.path}: no rows, expected one at least")
        return rows

    @cached_property
    def _spec(self) -> PromptSpec:
        return read_spec(self.prompts, self.task, self.language)

    def inputs(self, subcommand: str) -> dict[str, Reference]:
        """What a run reads through this module: by name."""
        read = {"prompts": artifacts.reference(self.prompts, fingerprint.of_table(self.table))}
        if (rows := self._source_rows(self._spec.of_each)) is not None:
            read["source"] = rows.reference
        return read

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this module determines the rows that a run writes; JSON values."""
        return {"class": type(self).__name__, "prompts": fingerprint.of_table(self.table)}

    def output_rows(self, subcommand: str) -> pa.Table:
        """The prompts themselves, so that every generation carries its own."""
        return self.table

    def predict_dataloader(self) -> DataLoader[PromptBatch]:
        """This rank's batches, without rows that are finished already."""
        assert self.trainer is not None, "loaders are made for a Trainer"
        prompts = self.table.select(["system", "user", "completion"]).to_pylist()
        # Which of the two a model gets is the module's business; the longer one fits the budget either way.
        characters = [max(len(row["system"]) + len(row["user"]), len(row["completion"] or "")) for row in prompts]
        lengths = np.array(characters) // CHARACTERS_PER_TOKEN + self.max_new_tokens
        sampler = self.budget_sampler(lengths)
        finished = np.zeros(len(lengths), dtype=bool)
        if self.finished_rows is not None:
            finished[self.finished_rows] = True
        return DataLoader(_PromptBatches(self.table, lengths, finished), batch_size=None, sampler=sampler)

    def _source_rows(self, column: str | None) -> Rows | None:
        if self.source is None or column is None:
            return None
        keep = {**(self.source.keep if isinstance(self.source.keep, dict) else dict.fromkeys(self.source.keep))}
        keep.setdefault("domain", None)
        task = Task(self.task.name, [column], self.task.labels)
        try:
            rows = load_rows(Source(**{**vars(self.source), "keep": keep}), task, None)
        except InputError as error:
            if "'domain'" not in str(error):
                raise
            rows = load_rows(self.source, task, None)
        self.lineage = rows.lineage
        return rows


class _PromptBatches(Dataset[PromptBatch]):
    """A planned batch as texts."""

    def __init__(self, table: pa.Table, lengths: np.ndarray, finished: np.ndarray) -> None:
        self.table = table
        self.lengths = lengths
        self.finished = finished

    def __getitem__(self, planned: MicroBatch) -> PromptBatch:
        rows = planned.rows if len(planned.rows) else np.zeros(1, dtype=np.int64)
        picked = self.table.take(rows)
        return {
            "row": torch.from_numpy(rows),
            "real": torch.full((len(rows),), bool(len(planned.rows))),
            "id": picked["id"].to_pylist(),
            "system": picked["system"].to_pylist(),
            "user": picked["user"].to_pylist(),
            "completion": picked["completion"].to_pylist(),
            "prompt_label": picked["prompt_label"].to_pylist(),
            "finished": self.finished[rows].tolist(),
            "n_rows": len(planned.rows),
            "n_tokens": int(self.lengths[planned.rows].sum()),
            "n_cells": int(self.lengths[rows].max()) * len(rows),
        }
