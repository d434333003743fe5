"""What the parts of a Trainer command may rely on in each other: modules, DataModules, callbacks, batches and rows.

The command line (`cli/lightning_cli.py`) uses nothing of a module or DataModule that is not here; the base classes
`modules.base.StageModuleBase` and `datamodules.stage.StageDataBase` have defaults for most of it. An engine of your own
subclasses `GeneratorModule` or `TranslatorModule` and adds one method.
"""

# B = rows of a batch, L = its longest row in tokens, C = classes, M = views of a batch

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NotRequired, Protocol, TypedDict, runtime_checkable

import numpy as np
import pyarrow as pa
from typing_extensions import TypedDict as ExtensibleDict

from .core.artifacts import Artifact
from .core.contracts import Reference
from .core.run_parts import Shard
from .core.task import Task
from .data.readers import Source

if TYPE_CHECKING:
    from torch import Tensor

HandOver = Callable[[Sequence[int], Mapping[str, Any]], None]


# Batches: what a DataModule gives, and a module takes.


class Batch(TypedDict):
    """What every batch has.

    Attributes:
        row: Numbers of the rows in the input table; shape (B,).
        real: False for the one row that stands in for an empty batch; shape (B,).
        n_rows: Rows, the stand-in not counted.
        n_tokens: Their tokens, estimated where the tokenizer belongs to an engine.
        n_cells: Tokens with padding.
    """

    row: "Tensor"
    real: "Tensor"
    n_rows: int
    n_tokens: int
    n_cells: int


class ViewsOfBatch(TypedDict):
    """Translations, or other views, of rows of a batch: token ids, and the position of the row of each; shape (M,)."""

    inputs: "dict[str, Tensor]"
    of: "Tensor"


class EncodedBatch(Batch):
    """Token ids, for a classifier or an encoder.

    Attributes:
        inputs: What the network takes: feature -> shape (B, L).
        window_rows: Rows of the window, which is all that one optimizer step sees, over micro-batches and ranks; a
            user's own loader leaves it out.
        ends_window: Whether the optimizer steps after this batch.
        label: Label numbers; shape (B,).
        probs: The teacher's probabilities, zeros for gold rows; shape (B, C).
        synthetic: Which rows are synthetic; shape (B,).
        n_gold: Rows of the gold set.
        n_synthetic: Rows of the selection.
        has_probs: 1 where the selection has the teacher's probabilities, else 0.
        n_dealt: Rows of an epoch.
        gold_counts: Gold rows per class; shape (C,).
        synthetic_counts: Rows of the selection per class; shape (C,).
        teacher_counts: Gold rows per class of the teacher, zeros where its probabilities no longer have their label
            prior; shape (C,).
        n_views: Views of an epoch.
        views: Those of this batch, if any.
        packed: The inputs as one row of tokens, where a training batch is packed; see `modules/packing.py`.
    """

    inputs: "dict[str, Tensor]"
    window_rows: NotRequired[int]
    ends_window: NotRequired[bool]
    label: NotRequired["Tensor"]
    probs: NotRequired["Tensor"]
    synthetic: NotRequired["Tensor"]
    n_gold: NotRequired[int]
    n_synthetic: NotRequired[int]
    has_probs: NotRequired[int]
    n_dealt: NotRequired[int]
    gold_counts: NotRequired["Tensor"]
    synthetic_counts: NotRequired["Tensor"]
    teacher_counts: NotRequired["Tensor"]
    n_views: NotRequired[int]
    views: NotRequired[ViewsOfBatch]
    packed: NotRequired[Any]


class PairBatch(EncodedBatch):
    """Sentence pairs: `inputs` are the sources, and `label` the targets.

    `label` holds token ids, -100 for padding and the stand-in, of shape (B, longest target).

    Attributes:
        n_target_tokens: Target tokens of the batch.
        window_tokens: Target tokens of the window.
    """

    n_target_tokens: int
    window_tokens: int


class TextBatch(Batch):
    """Texts to translate."""

    text: list[str]


class PromptBatch(Batch):
    """Prompts to answer.

    Attributes:
        id: Row ids, which seed the sampling.
        system: Rules, for a chat.
        user: Requests, for a chat.
        completion: The same requests for a base model; None where the prompt file has no examples.
        prompt_label: The class that each prompt asks for.
        finished: Which rows are on the disk already: a batch is computed again where its rows depend on each other's
            bits, and row by row where they do not.
    """

    id: list[str]
    system: list[str]
    user: list[str]
    completion: list[str | None]
    prompt_label: list[str | None]
    finished: list[bool]


# Rows: what a module gives back, and RowWriter takes.


class Counts(NamedTuple):
    """What a step has done, for the log.

    Attributes:
        rows: Rows that are finished.
        tokens: Tokens that were read, or, by an engine that writes text, written.
        cells: The same with padding, or with what the longest text made the others wait for.
        labels: The classes that the prompts of the finished rows asked for, where they are generations.
    """

    rows: int
    tokens: int
    cells: int
    labels: tuple[str, ...] = ()


class StepRows(TypedDict):
    """What `predict_step` and `test_step` return: finished rows, which need not be those of the batch.

    Attributes:
        rows: Their numbers in the input table; none for a batch of the stand-in alone, or where `hand_over` has had
            them.
        columns: Column -> one value for each row.
        counts: What the step has done.
    """

    rows: Sequence[int]
    columns: Mapping[str, Any]
    counts: Counts


def batch_rows(batch: Batch, columns: Mapping[str, Any], counts: Counts | None = None) -> StepRows:
    """The rows of a batch that is finished as one.

    Args:
        batch: The batch.
        columns: Column -> one value for each of its rows.
        counts: What the step has done; by default what the batch says of itself.
    """
    if not bool(batch["real"].all()):  # the stand-in
        return {"rows": [], "columns": {}, "counts": counts or Counts(0, 0, 0)}
    counts = counts or Counts(batch["n_rows"], batch["n_tokens"], batch["n_cells"])
    return {"rows": batch["row"].tolist(), "columns": columns, "counts": counts}


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


class ModuleIdentity(ExtensibleDict, extra_items=Any):  # type: ignore[call-arg] # PEP 728
    """What of a module determines what a run writes; `model` is the fingerprint of its weights, or the model's name."""

    model: str


class StageModule(Protocol):
    """The module of a stage."""

    HAS_FILES: ClassVar[bool]
    """Whether the model's name stands for files, not for a server's model or an engine without weights."""
    TRAINING_ALONE: ClassVar[tuple[str, ...]]
    """Arguments that have no say in the rows of predict and test."""
    HALF_WEIGHTS: ClassVar[bool]
    """Whether the weights are in bfloat16, too, in predict and test, where that is the device's precision."""

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

    def identity(self, subcommand: str) -> ModuleIdentity:
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


class FitData(StageData, Protocol):
    """The DataModule of a fit."""

    @property
    def longest_input(self) -> int:
        """How many tokens of a row the module reads at most."""
        ...

    def training_facts(self) -> dict[str, Any]:
        """What a model trained on these rows records about them, for the report; JSON values."""
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
class PreparesBatches(Protocol):
    """A module that does something with each batch of `EncodedBatch` while it is on the host."""

    def on_host(self, batch: EncodedBatch) -> EncodedBatch:
        """The batch as it goes to the device."""


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
