"""Sentence pairs: to fine-tune a translator on, to choose its checkpoint by, and to score translators with."""

import logging
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader

from labelbridge.lightning_app.core.contracts import Reference
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.languages import language
from labelbridge.lightning_app.core.ranges import Length, PositiveInt, Seed, check_ranges
from labelbridge.lightning_app.data.sources import Rows, Source, load_texts
from labelbridge.lightning_app.evaluation.translation import bleu_of, translation_metrics
from labelbridge.lightning_app.protocols import EncodedBatch, PairBatch, TextBatch
from labelbridge.lightning_app.translation.model_languages import set_languages

from .base import TokenizedDataModule
from .batches import Padding, RowBatches
from .encoding import Encoded
from .texts import TextBatches
from .windows import MicroBatch

log = logging.getLogger(__name__)
COLUMNS = ["source", "target"]
NO_TOKEN = -100


class PairsDataModule(TokenizedDataModule):
    """Pairs with the text columns `source` and `target`; `columns: {source: en, target: tgt}` names a file's own.

    Fit reads `train` and `dev`; test reads `tests`, as texts, for any engine.

    Args:
        target_language: The language of the targets; linked to the module's, like the four settings that follow.
        source_language: The language of the sources.
        source_code: What the model calls it, where that cannot be worked out.
        target_code: What the model calls the target language.
        prefix: Text before every source.
        train: Pairs to train on.
        dev: Pairs to choose the checkpoint by.
        tests: Name -> held-out pairs; read by test alone.
        batch_size: Rows that a device passes through the model at once. With `trainer.accumulate_grad_batches` and
            the number of devices it gives the rows of an optimizer step, which are sorted by length and cut.
        seed: Seed of the order of rows; linked to `seed_everything`.
        model: The model whose tokenizer is used; linked to the module's `model`.
        max_length: Longer sources, and longer targets, are cut to this many tokens.
        **tokenized: As for `TokenizedDataModule`.
    """

    NEEDS_FAST: ClassVar[bool] = False  # M2M100's and OPUS-MT's are in plain Python, and there is no other
    ENCODES_TEXT_ALONE: ClassVar[bool] = False

    @check_ranges("data.")
    def __init__(
        self,
        target_language: str,
        source_language: str = "en",
        source_code: str | None = None,
        target_code: str | None = None,
        prefix: str | None = None,
        train: Source | list[Source] | None = None,
        dev: Source | list[Source] | None = None,
        tests: dict[str, Source] | None = None,
        batch_size: PositiveInt = 16,
        seed: Seed = 0,
        model: str = "",
        max_length: Length = 256,
        **tokenized: Any,
    ) -> None:
        super().__init__(model=model, max_length=max_length, **tokenized)
        self.source_language = language(source_language, "model.source_language")
        self.target_language = language(target_language, "model.target_language")
        self.source_code = source_code
        self.target_code = target_code
        self.prefix = prefix or ""
        self.train = train
        self.dev = dev
        self.tests = tests or {}
        self.batch_size = batch_size
        self.seed = seed
        self.encoded: dict[str, tuple[Encoded, Encoded]] = {}

    @cached_property
    def train_rows(self) -> Rows:
        """The pairs to train on."""
        return self._pairs("train", self.train)

    @cached_property
    def dev_rows(self) -> Rows:
        """The pairs to choose the checkpoint by."""
        return self._pairs("dev", self.dev)

    @cached_property
    def test_sets(self) -> dict[str, Rows]:
        """The held-out pairs."""
        if not self.tests:
            raise InputError("data.tests: empty, expected one or more named sources of pairs; see codemix_test.yaml")
        return {name: self._pairs(f"tests.{name}", source) for name, source in self.tests.items()}

    def check(self, subcommand: str) -> None:
        """See `TokenizedDataModule.check`; in test the engine brings its own tokenizer."""
        if subcommand != "test":
            super().check(subcommand)

    def inputs(self, subcommand: str) -> dict[str, Reference]:
        """See `TokenizedDataModule.inputs`."""
        if subcommand == "test":
            return {f"test.{name}": rows.reference for name, rows in self.test_sets.items()}
        named = {"train": self.train_rows} if subcommand == "fit" else {}
        return {name: rows.reference for name, rows in {**named, "dev": self.dev_rows}.items()}

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `TokenizedDataModule.identity`."""
        identity = super().identity(subcommand)
        if subcommand == "test":
            return {**identity, "tests": list(self.tests), "max_length": None}  # the engine cuts, not this module
        return {**identity, "seed": self.seed}

    def output_rows(self, subcommand: str) -> pa.Table:
        """See `TokenizedDataModule.output_rows`; asks for BLEU now, not when everything has been translated."""
        bleu_of(self.target_language.base)
        tables = [
            pa.table(
                {
                    "id": rows.table["id"],
                    "set": pa.array([name] * rows.table.num_rows, pa.string()),
                    "source": rows.table["source"],
                    "reference": rows.table["target"],
                }
            )
            for name, rows in self.test_sets.items()
        ]
        return pa.concat_tables(tables)

    def metrics(self, table: pa.Table) -> dict[str, dict[str, Any]]:
        """BLEU and chrF of each test set, from the rows that a test has written."""
        return translation_metrics(table, self.target_language.base)

    def setup(self, stage: str) -> None:
        """Encode what the stage needs."""
        if stage == "test":
            return
        self.encoded["dev"] = self._encode(self.dev_rows, "dev")
        if stage == "fit":
            self.encoded["train"] = self._encode(self.train_rows, "train")
            self._tell_overlap()

    def train_dataloader(self) -> DataLoader[EncodedBatch]:
        """This rank's micro-batches, window by window."""
        pairs = PairBatches(*self.encoded["train"], self.padding)
        return self.windows_of(pairs, pairs.lengths, len(pairs.lengths), self.batch_size, self.seed)

    def val_dataloader(self) -> DataLoader[EncodedBatch]:
        """The dev pairs."""
        pairs = PairBatches(*self.encoded["dev"], self.padding)
        return self.budget_batches(pairs, pairs.lengths)

    def test_dataloader(self) -> DataLoader[TextBatch]:
        """This rank's sources of all test sets, without those that are finished already."""
        assert self.trainer is not None, "loaders are made for a Trainer"
        texts = TextBatches(self.output_rows("test")["source"].to_pylist())
        sampler = self.budget_sampler(texts.lengths)
        return DataLoader(texts, batch_size=None, sampler=sampler)

    def _pairs(self, name: str, source: Source | list[Source] | None) -> Rows:
        if not source:
            raise InputError(
                f"data.{name}: not given, expected a source of sentence pairs, such as `path: my.jsonl` with "
                "`columns: {source: en, target: hi}`"
            )
        rows = load_texts(source, COLUMNS)
        rows.check_any(f"data.{name}")
        self.lineage.update(rows.lineage)
        return rows

    def _encode(self, rows: Rows, name: str) -> tuple[Encoded, Encoded]:
        """Sources as the model reads them, with the languages told and the prefix before them, and targets."""
        lead = set_languages(
            self.tokenizer, self.source_language, self.target_language, self.source_code, self.target_code,
            self.model_name,
        )  # fmt: skip
        before = f"{lead.text}{self.prefix}"
        sources = pa.table({"source": [before + text for text in rows.table["source"].to_pylist()]})
        return (
            self.encode_texts(sources, f"{name} sources", ["source"]),
            self.encode_texts(rows.table, f"{name} targets", ["target"], as_target=True),
        )

    def _tell_overlap(self) -> None:
        known = set(self.train_rows.table["source"].to_pylist())
        seen = sum(text in known for text in self.dev_rows.table["source"].to_pylist())
        if seen:
            log.warning(
                "data.dev: %d of %d sources stand in data.train too, so its loss says less about other sentences",
                seen, self.dev_rows.table.num_rows,
            )  # fmt: skip


class PairBatches(RowBatches):
    """Maps a planned micro-batch of pairs to its tensors.

    Beside what `RowBatches` gives, a batch holds `label` (target tokens, -100 for padding and stand-ins), the counts
    `n_target_tokens` and `window_tokens` (target tokens of the whole window); `n_tokens`, `n_cells` count both sides.

    Args:
        sources: Token ids of every source.
        targets: Token ids of every target.
        padding: How to pad.
    """

    def __init__(self, sources: Encoded, targets: Encoded, padding: Padding) -> None:
        super().__init__(sources, padding)
        self.targets = RowBatches(targets, padding)
        self.targets.pad_values["input_ids"] = NO_TOKEN
        self.targets.pad_left = False
        self.lengths: np.ndarray = sources.lengths + targets.lengths

    def __getitem__(self, planned: MicroBatch) -> PairBatch:
        batch = super().__getitem__(planned)
        label = self.targets.pad(batch["row"].numpy())["input_ids"]
        n_target_tokens = int(self.targets.encoded.lengths[planned.rows].sum())
        window_tokens = int(self.targets.encoded.lengths[planned.window].sum())
        return {
            **batch,
            "label": label if n_target_tokens else torch.full_like(label, NO_TOKEN),
            "n_target_tokens": n_target_tokens,
            "window_tokens": max(window_tokens, 1),
            "n_tokens": batch["n_tokens"] + n_target_tokens,
            "n_cells": batch["n_cells"] + label.numel(),
        }
