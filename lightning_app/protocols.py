"""What the parts of a Trainer command may rely on in each other: modules, DataModules, callbacks.

The command line (`cli/lightning_cli.py`) uses nothing of a module or DataModule that is not here; the base classes
`modules.base.StageModuleBase` and `datamodules.stage.StageDataBase` have defaults for most of it. An engine of your own
subclasses `GeneratorModule` or `TranslatorModule` and adds one method.
"""

# B = rows of a batch, C = classes

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from .core.artifacts import Artifact
from .core.contracts import Reference
from .core.shards import Shard
from .core.task import Task
from .data.readers import Source

if TYPE_CHECKING:
    from torch import Tensor

HandOver = Callable[[Sequence[int], Mapping[str, Any]], None]


@dataclass(frozen=True)
class Written:
    """The rows of an artifact.

    Args:
        table: The rows.
        rejected: Rows that are written beside them, in an artifact of their own; None where a stage rejects none.
        facts: What the manifest says about them; JSON values.
        allow_empty: Whether all rows may be rejected.
    """

    table: pa.Table
    rejected: pa.Table | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    allow_empty: bool = False


class StageModule(Protocol):
    """The module of a stage. Its identity has the key `model`: the fingerprint of its weights, or the model's name."""

    HAS_FILES: ClassVar[bool]
    """Whether the model's name stands for files, not for a server's model or an engine without weights."""
    TRAINING_ALONE: ClassVar[tuple[str, ...]]
    """Arguments that have no say in the rows of predict and test."""

    @property
    def model_name(self) -> str:
        """The model's folder, Hub id or name."""
        ...

    @property
    def model_paths(self) -> list[str]:
        """Where the model is read from: its name, or the files of a dictionary."""
        ...

    @property
    def further_models(self) -> list[str]:
        """The names of models whose outputs are averaged with this one's."""
        ...

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this module determines the rows or weights that a run writes; JSON values."""
        ...

    def check(self, subcommand: str) -> None:
        """Refuse a model that cannot serve, before any row is read.

        Raises:
            InputError: Says what is wrong with it.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """What the manifest says about the model; JSON values."""
        ...


class StageData(Protocol):
    """The DataModule of a stage."""

    finished_rows: np.ndarray | None
    """Rows that are on the disk already, and need no computing."""
    shard: Shard
    """The part of the rows that this run computes."""
    lineage: dict[str, str]
    """The fingerprints of what the rows descend from, by name."""

    @property
    def stage_task(self) -> Task | None:
        """The task; None for sentence pairs, which need none."""
        ...

    @property
    def pool_source(self) -> Source | list[Source] | None:
        """Where the pool is read from, for the next command; None where there is none."""
        ...

    def check(self, subcommand: str) -> None:
        """Refuse settings that cannot serve, before any row is read."""
        ...

    def inputs(self, subcommand: str) -> dict[str, Reference]:
        """What a run reads through this DataModule, by name."""
        ...

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this DataModule determines the rows or weights that a run writes; JSON values."""
        ...

    def output_rows(self, subcommand: str) -> pa.Table:
        """The columns that an artifact carries over from its input, one row for each input row."""
        ...

    def finish(self, done: pa.Table) -> Written:
        """The artifact's rows, from the finished input rows with the columns that the module has added."""
        ...

    def metrics(self, table: pa.Table) -> dict[str, dict[str, Any]]:
        """The metrics of each target, from the rows that a test has written."""
        ...

    def test_texts(self) -> pa.Table | None:
        """The rows that a test scores, with their texts; None where no selection can have seen them."""
        ...

    def known_labels(self, table: pa.Table) -> list[str] | None:
        """The label that each of the written rows is known to have, to judge the predictions by; None if unknown."""
        ...

    def next_variant(self, facts: Mapping[str, Any]) -> str | None:
        """Which of the stage's next steps applies, given the manifest's facts; see `stages.Stage.next`."""
        ...


@runtime_checkable
class HandsOver(Protocol):
    """A module whose rows end one by one: it gives them to `hand_over`, which RowWriter replaces."""

    hand_over: HandOver


@runtime_checkable
class ScoresRows(Protocol):
    """A module whose training dynamics can be recorded."""

    def score_rows(self, batch: Any) -> "tuple[Tensor, Tensor]":
        """Row numbers (B,) and log-probabilities (B, C) of the real rows."""
        ...


@runtime_checkable
class HasTokenizer(Protocol):
    """A DataModule that encodes texts for the module."""

    tokenizer: Any


@runtime_checkable
class HasTrainingTokens(Protocol):
    """A DataModule that knows all tokens of its training set ahead."""

    def training_tokens(self) -> np.ndarray | None:
        """All tokens that a training batch can hold, each once; None where they are not known yet."""
        ...


@runtime_checkable
class KeepsDevRows(Protocol):
    """A classifier that keeps what its last check on the source dev set has computed."""

    task: Task
    dev_rows: "tuple[Tensor, ...]"
    """Logits (N, C) and labels (N,), on the CPU; empty before the first check."""


@runtime_checkable
class HasSelection(Protocol):
    """A DataModule whose training set holds a selection."""

    task: Task

    @property
    def selected(self) -> Artifact:
        """The selection."""
        ...


@runtime_checkable
class HasScoredRows(Protocol):
    """A DataModule that names rows whose training dynamics are to be recorded."""

    def cartography_rows(self) -> dict[str, dict[str, Any]]:
        """The sets of rows: name -> the settings of its `ScoredRows`."""
        ...


@runtime_checkable
class PlansBatches(Protocol):
    """A sampler that knows all batches of its pass ahead."""

    batches: Sequence[np.ndarray]


@runtime_checkable
class Windows(Protocol):
    """The windows of an epoch; `skip` is the number of micro-batches that the next pass leaves out."""

    skip: int


@runtime_checkable
class CutsWindows(Protocol):
    """A loader whose micro-batches lie in windows."""

    windows: Windows


def datamodule_of(trainer: Any) -> Any:
    """A Trainer's DataModule; None where it was given loaders, as Lightning sets the attribute only with one."""
    return getattr(trainer, "datamodule", None)
