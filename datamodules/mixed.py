"""Gold and selection, dealt in proportion into micro-batches (`windows.deal`)."""

import logging
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.contracts import Reference
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.paths import find
from labelbridge.lightning_app.data.probabilities import read_probs
from labelbridge.lightning_app.data.sources import Rows, Source, load_rows
from labelbridge.lightning_app.protocols import EncodedBatch

from .batches import RowBatches
from .encoding import joined
from .gold import GoldDataModule

log = logging.getLogger(__name__)

REMEDY = 'rebuild it with "python main.py select --config select.yaml"'


class MixedDataModule(GoldDataModule):
    """Gold rows and selected synthetic rows for the student.

    Each window holds gold and synthetic rows in the proportion of the two sets, within one row. A batch adds to
    `label`: `synthetic` (which rows are), `probs` (the teacher's; zeros for gold), and the sizes `n_gold`,
    `n_synthetic`.

    Args:
        selection: The selection artifact, or its translation.
        synthetic_labels: What the student fits synthetic rows to; linked to the module's.
        allow_empty: Train on gold alone where the selection has no rows.
        **gold: As for `GoldDataModule`; `train: []` trains on the selection alone.
    """

    def __init__(
        self,
        selection: str,
        synthetic_labels: Literal["teacher", "teacher_hard", "prompt"] = "teacher",
        allow_empty: bool = False,
        **gold: Any,
    ) -> None:
        super().__init__(**gold)
        self.selection = selection
        self.allow_empty = allow_empty
        self.synthetic_labels = synthetic_labels

    @cached_property
    def selected(self) -> artifacts.Artifact:
        """The selection artifact, or its translation."""
        folder = find(self.selection) or Path(self.selection)
        artifact = artifacts.read(folder, artifacts.selection_stage(folder))
        artifacts.check_fresh(artifact.path, artifact.manifest)
        return artifact

    @cached_property
    def selected_rows(self) -> Rows:
        """The selection's rows under the task's names.

        Raises:
            InputError: If there are none, and `allow_empty` is not set.
        """
        artifact = self.selected
        rows = load_rows(
            Source(path=str(artifact.path)), self.task, "prompt_label" if self._has_prompt_labels else None
        )
        if not len(rows.table):
            said = f"data.selection {artifact.path}: no rows, so only gold is trained on, as a teacher would"
            remedy = 'loosen the filters and quotas of "python main.py select"'
            if not self.allow_empty:
                raise InputError(f"{said}; {remedy}, or accept it with --data.allow_empty true")
            log.warning("%s; %s", said, remedy)
        self.lineage = artifact.manifest.lineage
        return rows

    def trained_tables(self) -> list[pa.Table]:
        """See `GoldDataModule`."""
        return [*super().trained_tables(), self.selected_rows.table]

    @property
    def source_rows(self) -> Rows:
        """See `GoldDataModule`; without gold the selection says which language is learned from."""
        return self.train_rows if len(self.train_rows.table) else self.selected_rows

    @cached_property
    def probs_NC(self) -> Tensor:
        """The teacher's probabilities of the selection; shape (|D'|, C).

        Raises:
            InputError: If the selection was made without a teacher, or a row is not a probability vector.
        """
        artifact = self.selected
        labels = artifact.manifest.facts.get("labels", self.task.labels)
        return torch.from_numpy(read_probs(artifact.table, labels, self.task, str(artifact.path), REMEDY)).float()

    def inputs(self, subcommand: str) -> dict[str, Reference]:
        """See `RowsDataModule.inputs`."""
        read = super().inputs(subcommand)
        if subcommand == "fit":
            self._synthetic_columns()
            read["selection"] = artifacts.reference(self.selected.path, self.selected.manifest)
            self.lineage = self.selected.manifest.lineage
        return read

    def setup(self, stage: str) -> None:
        """Encode what the stage needs; gold rows come first, the selection after them."""
        super().setup(stage)
        if stage == "fit":
            self.encoded["train"] = joined([self.encoded["train"], self.encode(self.selected_rows, "selection")])

    def train_dataloader(self) -> DataLoader[EncodedBatch]:
        """This rank's micro-batches, window by window."""
        gold_label = self.labels(self.train_rows)
        hard_label, probs_NC = self._synthetic_columns()
        n_gold, n_synthetic = len(gold_label), len(hard_label)
        columns = {
            "label": torch.cat([gold_label, hard_label]),
            "probs": torch.cat([torch.zeros(n_gold, len(self.task.labels)), probs_NC]),
            "synthetic": torch.arange(n_gold + n_synthetic) >= n_gold,
        }
        gold = self.gold_sizes(gold_label)
        sizes: dict[str, int | Tensor] = {
            **gold,
            "n_gold": gold["n_dealt"],
            "n_synthetic": n_synthetic,
            "n_dealt": gold["n_dealt"] + n_synthetic,
            "synthetic_counts": self.synthetic_counts(),
            "teacher_counts": self.teacher_counts(),
            "has_probs": int(self._has_probs),
        }
        sets = (self.train_rows.table, self.selected_rows.table)
        views = self.train_views(pa.concat_tables([rows.select(["id", *self.task.columns, "lang"]) for rows in sets]))
        return self.window_loader(RowBatches(self.encoded["train"], self.padding, columns, sizes, views), gold_label)

    def training_facts(self) -> dict[str, Any]:
        """See `GoldDataModule.training_facts`; with the selection's rows per class, by the label that is fitted."""
        counts = dict(zip(self.task.labels, self.synthetic_counts().tolist(), strict=True))
        return {**super().training_facts(), "synthetic_counts": counts}

    def synthetic_counts(self) -> Tensor:
        """The selection's rows per class, by the label that is fitted, or the teacher's most likely one; shape (C,)."""
        hard_label, probs_NC = self._synthetic_columns()
        label = probs_NC.argmax(dim=1) if self.synthetic_labels == "teacher" else hard_label
        return torch.bincount(label, minlength=len(self.task.labels))

    def teacher_counts(self) -> Tensor:
        """The teacher's gold rows per class, by which its probabilities are adjusted; int64 of shape (C,).

        All zero where they no longer have the label prior of its gold. A selection that was made before it told of the
        teacher counts as one from a teacher with this gold.
        """
        facts = self.selected.manifest.facts
        if "label_prior" in facts:
            return torch.zeros(len(self.task.labels), dtype=torch.int64)
        counts = facts.get("gold_counts")
        if counts is None:
            return torch.bincount(self.labels(self.train_rows), minlength=len(self.task.labels))
        return torch.tensor([counts.get(label, 0) for label in self.task.labels])

    @property
    def _has_prompt_labels(self) -> bool:
        """Whether the selection's rows were written for a class; unlabelled target text was not."""
        return self.selected.manifest.facts.get("prompt_labels", True) is not False

    @property
    def _has_probs(self) -> bool:
        """Whether the selection holds the teacher's probabilities."""
        return "probs" in self.selected.table.column_names

    def _synthetic_columns(self) -> tuple[Tensor, Tensor]:
        """The hard label and the probabilities of every selected row, as `synthetic_labels` asks.

        Raises:
            InputError: If the selection does not hold them.
        """
        rows = self.selected_rows
        if self.synthetic_labels == "prompt":
            if not self._has_prompt_labels:
                raise InputError(
                    f"{self.selected.path}: selected from unlabelled text, so it has no labels for synthetic_labels "
                    "'prompt', expected 'teacher' or 'teacher_hard'"
                )
            none = torch.zeros(rows.table.num_rows, len(self.task.labels))
            return self.labels(rows, "prompt_label"), self.probs_NC if self._has_probs else none
        if not self._has_probs:
            raise InputError(
                f"{self.selected.path}: selected without a teacher, so it has no probabilities for synthetic_labels "
                f"'{self.synthetic_labels}'; select with --pseudolabels, or fit to `prompt` labels"
            )
        is_hard = self.synthetic_labels == "teacher_hard"
        hard = self.probs_NC.argmax(dim=1) if is_hard else torch.zeros(rows.table.num_rows, dtype=torch.int64)
        return hard, self.probs_NC
