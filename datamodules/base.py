"""What all DataModules share: a tokenizer, evaluation batches by token budget, and slices per rank."""

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoConfig

from labelbridge.lightning_app.boards.show import ONCE
from labelbridge.lightning_app.cli.memory import give_freed_memory_back
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.ranges import FEWEST_TOKENS, Length, PositiveInt, Threads, check_ranges
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Rows
from labelbridge.lightning_app.models.loading import (
    check_together,
    load_tokenizer,
    loading,
    longest_sequence,
)
from labelbridge.lightning_app.models.locate import locate
from labelbridge.lightning_app.protocols import EncodedBatch, PreparesBatches

from .batches import Padding, RowBatches, WindowLoader
from .encoding import Encoded, encode
from .stage import StageDataBase
from .windows import WindowSampler, WindowShape

log = logging.getLogger(__name__)


class TokenizedDataModule(StageDataBase):
    """Encodes texts and serves them; the Trainer's own sampler stays off.

    Every loader brings the exact slice of its rank: nothing is repeated to even out the ranks.

    Args:
        model: The model whose tokenizer is used; linked to the module's `model`.
        trust_remote_code: Whether to run code that comes with the tokenizer; linked to the module's.
        revision: The Hub model's commit, tag or branch; linked to the module's.
        max_length: Longer rows are cut to this many tokens, or to what the model can take.
        tokens_per_batch: Rows times longest row of an inference batch, at most.
        num_workers: Worker processes of a loader.
    """

    NEEDS_FAST: ClassVar[bool] = True  # one in plain Python is slow on many rows
    ENCODES_TEXT_ALONE: ClassVar[bool] = True  # not what puts a code such as >>hin<< before a text

    @check_ranges("data.")
    def __init__(
        self,
        model: str,
        trust_remote_code: bool = False,
        revision: str | None = None,
        max_length: Length = 128,
        tokens_per_batch: PositiveInt = 4096,
        num_workers: Threads = 0,
    ) -> None:
        super().__init__()
        self.model_name = model
        self.trust_remote_code = trust_remote_code
        self.revision = revision
        self.max_length = max_length
        self.tokens_per_batch = tokens_per_batch
        self.num_workers = num_workers
        self._tokenizer: Any = None

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this module determines the rows or weights that a run writes; JSON values."""
        prints = {name: one["fingerprint"] for name, one in self.inputs(subcommand).items()}
        return {"class": type(self).__name__, "inputs": prints, "max_length": self.max_length}

    def training_facts(self) -> dict[str, Any]:
        """What a model trained on these rows records about them, for the report; JSON values."""
        return {}

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer.

        Raises:
            InputError: If the model has no tokenizer.
        """
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(
                self.model_name, trust_remote_code=self.trust_remote_code, revision=self.revision
            )
            if self.NEEDS_FAST and not self._tokenizer.is_fast:
                raise InputError(
                    f"model {self.model_name}: its tokenizer is a slow one, expected a fast one (tokenizer.json); "
                    "convert it, or choose another model"
                )
            if self._tokenizer.pad_token is None:
                raise InputError(f"model {self.model_name}: its tokenizer has no pad token; set one and save it again")
        return self._tokenizer

    @cached_property
    def padding(self) -> Padding:
        """How batches are padded."""
        return Padding.of(self.tokenizer)

    def free_tokenizer(self) -> None:
        """Give the tokenizer's memory back (0.3 GB where it has 250,000 pieces), once all rows are token ids.

        The weights, loaded next, then have room; whoever asks for the tokenizer after that has it loaded anew.
        """
        self.padding  # noqa: B018 - kept, for the batches
        self._tokenizer = None
        give_freed_memory_back()

    @cached_property
    def _config(self) -> Any:
        """The network's configuration."""
        with loading(self.model_name):
            return AutoConfig.from_pretrained(
                locate(self.model_name), trust_remote_code=self.trust_remote_code, revision=self.revision
            )

    def check(self, subcommand: str) -> None:
        """Refuse a tokenizer and a network that do not fit together, before any row is read.

        Raises:
            InputError: See `models.loading.check_together`.
        """
        config = self._config  # before the tokenizer, which reads it too and would be blamed for it
        check_together(self.tokenizer, config, self.model_name)
        if self.longest_input < FEWEST_TOKENS:
            raise InputError(
                f"model {self.model_name}: takes {self.longest_input} tokens, expected at least {FEWEST_TOKENS}; check "
                "model_max_length in its tokenizer_config.json, and max_position_embeddings in its config.json"
            )

    @property
    def longest_input(self) -> int:
        """`max_length`, or what tokenizer and network can take where that is less."""
        limits = (int(self.tokenizer.model_max_length), longest_sequence(self._config))
        return min(self.max_length, *(limit for limit in limits if limit is not None))

    def encode_texts(self, texts: pa.Table, name: str, columns: list[str], *, as_target: bool = False) -> Encoded:
        """Tokenize text columns and log what the tokenizer made of them.

        Special tokens that a text spells out (`</s>`) are taken as text, where `ENCODES_TEXT_ALONE`.
        """
        encoded = self.tokenize(texts, columns, as_target=as_target)
        self.report_tokens(encoded, name)
        return encoded

    def tokenize(self, texts: pa.Table, columns: list[str], *, as_target: bool = False) -> Encoded:
        """Tokenize text columns."""
        return encode(
            texts, columns, self.tokenizer, self.longest_input, as_target=as_target, text_alone=self.ENCODES_TEXT_ALONE
        )

    def report_tokens(self, encoded: Encoded, name: str) -> None:
        """Log what the tokenizer made of texts."""
        encoded.stats.report(name)
        logger = getattr(self.trainer, "logger", None)
        if logger is not None:
            numbers = {f"{ONCE}/{key}": value for key, value in encoded.stats.as_metrics(name).items()}
            logger.log_metrics(numbers, step=0)

    def windows_of(
        self,
        dataset: RowBatches,
        lengths: np.ndarray,
        n_gold: int,
        batch_size: int,
        seed: int,
        balance: np.ndarray | None = None,
    ) -> WindowLoader:
        """This rank's training batches, window by window; of the rows, the gold ones come first."""
        assert self.trainer is not None, "loaders are made for a Trainer"
        shape = WindowShape(batch_size, self.trainer.accumulate_grad_batches, self.trainer.world_size)
        sampler = WindowSampler(lengths, n_gold, shape, self.trainer.global_rank, seed, balance)
        return WindowLoader(dataset, sampler, self.num_workers, self.pins_memory)

    def budget_batches(self, dataset: RowBatches, lengths: np.ndarray) -> DataLoader[EncodedBatch]:
        """Batches by token budget, this rank's share, without rows that are finished already."""
        assert self.trainer is not None, "loaders are made for a Trainer"
        sampler = self.budget_sampler(lengths)
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.num_workers,
            pin_memory=self.pins_memory,
            generator=torch.Generator().manual_seed(0),
        )

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Let the module prepare a batch on the host; Lightning asks the DataModule alone."""
        module = None if self.trainer is None else self.trainer.lightning_module
        if module is None:
            return batch
        batch = module.on_before_batch_transfer(batch, dataloader_idx)
        return module.on_host(batch) if isinstance(module, PreparesBatches) else batch

    @property
    def pins_memory(self) -> bool:
        """Whether batches go to an accelerator."""
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


class RowsDataModule(TokenizedDataModule):
    """Rows of a task, encoded and served for inference.

    Args:
        task: Text columns and labels.
        **tokenized: As for `TokenizedDataModule`.
    """

    def __init__(self, task: Task, **tokenized: Any) -> None:
        super().__init__(**tokenized)
        self.task = task

    @property
    def stage_task(self) -> Task | None:
        """The task."""
        return self.task

    def encode(self, rows: Rows, name: str, columns: list[str] | None = None) -> Encoded:
        """Tokenize rows, the task's columns unless others are named."""
        return self.encode_texts(rows.table, name, columns or self.task.columns)

    def labels(self, rows: Rows, column: str = "label") -> Tensor:
        """Label numbers of rows; int64 of shape (N,)."""
        numbers = {label: number for number, label in enumerate(self.task.labels)}
        return torch.tensor([numbers[label] for label in rows.table[column].to_pylist()], dtype=torch.int64)

    def inference_loader(
        self, encoded: Encoded, columns: Mapping[str, Tensor] | None = None
    ) -> DataLoader[EncodedBatch]:
        """Batches by token budget; see `TokenizedDataModule.budget_batches`."""
        return self.budget_batches(RowBatches(encoded, self.padding, columns), encoded.lengths)
