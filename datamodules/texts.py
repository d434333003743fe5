"""Texts to be translated."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, Dataset

from labelbridge.lightning_app.core.artifacts import is_selection
from labelbridge.lightning_app.core.contracts import OF_LABEL_PRIOR, Reference
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.languages import language
from labelbridge.lightning_app.core.ranges import PositiveInt, check_ranges
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Rows, Source, load_rows
from labelbridge.lightning_app.protocols import TextBatch, Written
from labelbridge.lightning_app.translation.gates import Gates, left_out
from labelbridge.lightning_app.translation.rows import (
    Failing,
    Translated,
    kept_by_class,
    segments,
    summary_lines,
    translated_rows,
)

from .stage import StageDataBase
from .windows import MicroBatch

log = logging.getLogger(__name__)
CHARACTERS_PER_TOKEN = 3
MOST_REJECTED = 0.2  # of the rows by the gates, without a warning
LEAST_COVERAGE = 0.05  # of the words by a dictionary: below, it is hardly one for these texts


class TextDataModule(StageDataBase):
    """Rows whose text columns are translated: gold, pool, selection, or targets.

    Every different text is translated once, whichever rows and columns it stands in; then the rows are put together
    again with everything else that they hold. Batches hold texts of like length, longest first; lengths are estimated
    (three characters a token), because the tokenizer belongs to the engine.

    Args:
        task: Text columns and labels.
        rows: The rows, one source or several: files or an artifact.
        target_language: The language of the translations; linked to the module's.
        source_language: The language of the rows; linked to the module's.
        label_column: `label` (gold, targets), `prompt_label` (pool, selection), or null for rows without.
        gates: What a translation must pass.
        failing: `aside` puts rows that fail into `out/_rejected`; `keep` leaves them in, marked, for test sets.
        tokens_per_batch: Texts times the longest text of a batch, at most.
        allow_empty: Write the translation even if no row passes the gates.
    """

    @check_ranges("data.")
    def __init__(
        self,
        task: Task,
        rows: Source | list[Source],
        target_language: str,
        source_language: str = "en",
        label_column: Literal["label", "prompt_label"] | None = "label",
        gates: Gates | None = None,
        failing: Failing = "aside",
        tokens_per_batch: PositiveInt = 4096,
        allow_empty: bool = False,
    ) -> None:
        super().__init__()
        self.allow_empty = allow_empty
        self.task = task
        self.rows = rows
        self.target = language(target_language, "model.target_language")
        self.source = language(source_language, "model.source_language")
        self.label_column = label_column
        self.gates = gates or Gates()
        self.failing: Failing = failing
        self.tokens_per_batch = tokens_per_batch

    @property
    def stage_task(self) -> Task | None:
        """The task."""
        return self.task

    @cached_property
    def source_rows(self) -> Rows:
        """The rows, with all of their columns."""
        listed = [self.rows] if isinstance(self.rows, Source) else self.rows
        rows = load_rows([replace(one, keep=one.keep or ["*"]) for one in listed], self.task, self.label_column)
        rows.check_any("data.rows")
        said = set(rows.table["lang"].drop_null().to_pylist())
        wrong = sorted(one for one in said if one.partition("-")[0].casefold() != self.source.base)
        if wrong:
            raise InputError(
                f"data.rows {', '.join(rows.places)}: rows in {wrong}, expected {self.source.code}; say what they are "
                "in with --model.source_language"
            )
        self.lineage = rows.lineage
        return rows

    @cached_property
    def segments(self) -> pa.Table:
        """The different texts."""
        return segments(self.source_rows.table, self.task.columns)

    def inputs(self, subcommand: str) -> dict[str, Reference]:
        """What a run reads through this module: by name."""
        return {"rows": self.source_rows.reference}

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this module determines the rows that a run writes; JSON values."""
        return {
            "class": type(self).__name__,
            "rows": self.source_rows.fingerprint,
            "columns": self.task.columns,
            "gates": vars(self.gates),
            "failing": self.failing,
        }

    def output_rows(self, subcommand: str) -> pa.Table:
        """The different texts; see `finish` for the rows."""
        return self.segments

    def next_variant(self, facts: Mapping[str, Any]) -> str | None:
        """Translated rows take the place of the originals."""
        if facts.get("setting") == "translate-test":
            return "targets"
        column = "selection" if facts.get("selection") else self.label_column
        return {"selection": "selection", "label": "gold", "prompt_label": "pool"}.get(str(column), "no labels")

    def finish(self, done: pa.Table) -> Written:
        """Put translated texts back into rows; those that fail a gate are rejected."""
        found = translated_rows(self.source_rows.table, self.task.columns, done, self.gates, self.target, self.failing)
        if self.failing == "keep" and not found.facts["gates"].get("passed") and not self.allow_empty:
            raise InputError(
                f"data.rows {', '.join(self.source_rows.places)}: no row passes the gates, {found.facts['gates']}; "
                "change gates or engine, or accept it with --data.allow_empty true, and --overwrite true"
            )
        of_selection = self._of_selection()
        # A selection has a quota for each of its own classes, which need not be those that the prompts asked for.
        column = "class" if of_selection and "class" in found.kept.column_names else self.label_column
        if column is not None:
            found.facts["classes"] = kept_by_class(found, column, self.task.labels)
        for line in summary_lines(found.facts):
            log.info("%s", line)
        self._warn(found, bool(of_selection))
        return Written(found.kept, found.rejected, {**of_selection, **found.facts}, self.allow_empty)

    def _warn(self, found: Translated, is_selection: bool) -> None:
        places = ", ".join(self.source_rows.places)
        if found.facts.get("coverage", 1) < LEAST_COVERAGE:
            log.warning(
                "model.lexicon: it knows %.1f %% of the words of %s; a dictionary in the other direction is told so by "
                "`columns`, see docs/languages.md",
                100 * found.facts["coverage"], places,
            )  # fmt: skip
        if found.rejected.num_rows > MOST_REJECTED * self.source_rows.table.num_rows:
            log.warning(
                "%s: %d of %d rows were rejected, by gate %s; look at them with peek", places, found.rejected.num_rows,
                self.source_rows.table.num_rows, found.facts["gates"],
            )  # fmt: skip
        for label, one in found.facts.get("classes", {}).items():
            if is_selection and one["rejected"]:
                log.warning(
                    "%s: %s: the selection's %d rows are %d in translation; for as many as before, translate the pool "
                    "and select then",
                    places, label, one["kept"] + one["rejected"], one["kept"],
                )  # fmt: skip

    def _of_selection(self) -> dict[str, Any]:
        """What a student must know of a selection, whose translation stands in its place."""
        made = [one for one in self.source_rows.manifests if one is not None]
        if len(self.source_rows.manifests) == len(made) == 1 and is_selection(made[0]):
            facts = made[0].facts
            handed_on = {name: facts[name] for name in OF_LABEL_PRIOR if name in facts}
            return {"selection": True, "labels": facts.get("labels", self.task.labels), **handed_on}
        return {}

    def predict_dataloader(self) -> DataLoader[TextBatch]:
        """This rank's batches, without texts that are finished already."""
        assert self.trainer is not None, "loaders are made for a Trainer"
        for line in left_out(self.gates, self.target):
            log.warning("%s", line)
        texts = TextBatches(self.segments["text"].to_pylist())
        sampler = self.budget_sampler(texts.lengths)
        return DataLoader(texts, batch_size=None, sampler=sampler)


class TextBatches(Dataset[TextBatch]):
    """A planned batch as texts, whose lengths in tokens are estimated, because the tokenizer belongs to the engine."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.lengths = np.array([1 + len(text) // CHARACTERS_PER_TOKEN for text in texts], dtype=np.int64)

    def __getitem__(self, planned: MicroBatch) -> TextBatch:
        rows = planned.rows if len(planned.rows) else np.zeros(1, dtype=np.int64)
        return {
            "row": torch.from_numpy(rows),
            "real": torch.full((len(rows),), bool(len(planned.rows))),
            "text": [self.texts[row] for row in rows],
            "n_rows": len(planned.rows),
            "n_tokens": int(self.lengths[planned.rows].sum()),
            "n_cells": int(self.lengths[rows].max()) * len(rows),
        }
