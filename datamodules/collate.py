"""Batches of a user's loader, as the classifiers of this project take them."""

# B = rows of a batch, L = its longest row in tokens, C = classes

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from labelbridge.lightning_app.core.errors import InputError, shorten
from labelbridge.lightning_app.core.ranges import Length, NonNegativeInt, check_ranges
from labelbridge.lightning_app.core.task import Task


class Collate:
    """Makes a batch for `TeacherModule` and `StudentModule` of rows: a `collate_fn` for any DataLoader.

    A row is a dictionary with the task's text columns and

    - `label`, a gold row (or a row to validate on), or
    - `probs`, a selected row with the teacher's probabilities in the task's label order, and `prompt_label` if the
      student is fitted to that. Rows of a selection (`labelbridge.read("runs/select").table.to_pylist()`) are these.

    Rows without either can be scored by `trainer.predict`. Other keys are passed over.

    A batch is a dictionary: `inputs` (what the network takes, of shape (B, L) each), `row` (numbers in the batch),
    `real`, `label`, `synthetic`, `probs` (B, C), `n_gold`, `n_synthetic`, and the counts `n_rows`, `n_tokens`,
    `n_cells`. It does not say which window (optimizer step) it belongs to, so the module averages over batches as
    Lightning does: exact where all batches of a step have the same size. `MixedDataModule`, which also deals gold and
    selected rows in proportion, is always exact.

    Args:
        tokenizer: The model's Hugging Face tokenizer.
        task: Text columns and labels.
        max_length: Longer rows are cut to this many tokens.
        n_gold: |D| of Equation 1, the number of gold rows; the student needs both numbers.
        n_synthetic: |D'|, the number of selected rows.
        synthetic_labels: What the student is fitted to; the same as the module's.

    Examples:
        >>> collate = Collate(tokenizer, task, n_gold=len(gold), n_synthetic=len(selected))
        >>> loader = DataLoader(gold + selected, batch_size=32, shuffle=True, collate_fn=collate)
        >>> trainer.fit(StudentModule(task=task, model="FacebookAI/xlm-roberta-base"), loader)
    """

    @check_ranges("collate.")
    def __init__(
        self,
        tokenizer: Any,
        task: Task,
        max_length: Length = 128,
        n_gold: NonNegativeInt | None = None,
        n_synthetic: NonNegativeInt | None = None,
        synthetic_labels: Literal["teacher", "teacher_hard", "prompt"] = "teacher",
    ) -> None:
        self.tokenizer = tokenizer
        self.task = task
        self.max_length = max_length
        self.sizes = {"n_gold": n_gold, "n_synthetic": n_synthetic}
        self.synthetic_labels = synthetic_labels

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch of these rows.

        Raises:
            InputError: If a row lacks a text, or what the student is fitted to.
        """
        inputs = dict(
            self.tokenizer(
                *([_text(row, name) for row in rows] for name in self.task.columns),
                padding=True,
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            )
        )
        batch = {
            "inputs": inputs,
            "row": torch.arange(len(rows)),
            "real": torch.ones(len(rows), dtype=torch.bool),
            "n_rows": len(rows),
            "n_tokens": int(inputs["attention_mask"].sum()),
            "n_cells": inputs["input_ids"].numel(),
            **{name: size for name, size in self.sizes.items() if size is not None},
        }
        return batch | self._targets(rows)

    def _targets(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """What the rows are fitted to; nothing for rows that are only to be scored."""
        synthetic = [row.get("label") is None for row in rows]
        if all(synthetic) and all(row.get("probs") is None and row.get("prompt_label") is None for row in rows):
            return {}
        n_classes = len(self.task.labels)
        probs_BC = torch.zeros(len(rows), n_classes)
        label_B = torch.zeros(len(rows), dtype=torch.int64)
        for number, row in enumerate(rows):
            if synthetic[number] and self.synthetic_labels != "prompt":
                probs_BC[number] = torch.tensor(self._probs(row))
                label_B[number] = probs_BC[number].argmax() if self.synthetic_labels == "teacher_hard" else 0
            else:
                name = row.get("prompt_label" if synthetic[number] else "label")
                label_B[number] = self.task.index(str(name), f"row {_name(row, number)}")
        return {"label": label_B, "probs": probs_BC, "synthetic": torch.tensor(synthetic)}

    def _probs(self, row: Mapping[str, Any]) -> list[float]:
        probs = row.get("probs")
        if probs is None or len(probs) != len(self.task.labels):
            raise InputError(
                f"row {shorten(dict(row))}: probs is {shorten(probs)}, expected the teacher's probability of each of "
                f"{self.task.labels} (or a `label` for a gold row)"
            )
        return [float(prob) for prob in probs]


def _text(row: Mapping[str, Any], column: str) -> str:
    text = row.get(column)
    if not isinstance(text, str):
        raise InputError(f"row {shorten(dict(row))}: {column} is {shorten(text)}, expected a text")
    return text


def _name(row: Mapping[str, Any], number: int) -> str:
    return str(row.get("id", number))
