"""A user's own batches give the gradients that Equation 1 asks for, and what lacks something is refused in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LABELS, labelled
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

import labelbridge
from labelbridge import Collate, InputError, StudentModule, Task, TeacherModule

QUIET: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
    "enable_checkpointing": False, "num_sanity_val_steps": 0,
}  # fmt: skip
GOLD = [{"text": row["text"], "label": row["label"]} for row in labelled(8, 1)]
SELECTED = [
    {
        "text": row["text"],
        "probs": [0.7 if label == row["prompt_label"] else 0.15 for label in LABELS],
        "prompt_label": row["prompt_label"],
    }
    for row in labelled(8, 2, "prompt_label")
]


@pytest.fixture
def tokenizer(tiny_bert: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_bert)


class Gradients(StudentModule):
    """Keeps the gradients of every optimizer step."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.steps = [*getattr(self, "steps", []), [p.grad.clone() for p in self.parameters() if p.grad is not None]]


def gradients(rows: list[dict[str, Any]], collate: Collate, model: Path, task: Task, **cut: int) -> list[list[Any]]:
    student = Gradients(task=task, model=str(model), dropout=0.0, learning_rate=0.0)
    loader = DataLoader(rows, batch_size=cut["batch_size"], collate_fn=collate)
    accumulate = cut.get("accumulate", 1)
    Trainer(max_epochs=1, accumulate_grad_batches=accumulate, precision="64-true", **QUIET).fit(student, loader)
    return student.steps


def test_one_batch_of_all_rows_gives_equation_1(tiny_bert: Path, task: Task, tokenizer: Any):
    collate = Collate(tokenizer, task, n_gold=8, n_synthetic=8)
    (found,) = gradients(GOLD + SELECTED, collate, tiny_bert, task, batch_size=16)
    student = StudentModule(task=task, model=str(tiny_bert), dropout=0.0)
    student.trainer = Trainer(**QUIET)
    student.trainer.state.fn = "fit"
    student.configure_model()
    texts = [row["text"] for row in GOLD + SELECTED]
    logits = student.double().network(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    ce = torch.nn.functional.cross_entropy(logits[:8], torch.tensor([LABELS.index(row["label"]) for row in GOLD]))
    p = torch.tensor([row["probs"] for row in SELECTED])
    kl = (p * (p.log() - (logits[8:] / 1.5).log_softmax(dim=1))).sum(dim=1).sum()
    (ce + kl / (3 * 8)).backward()
    expected = [parameter.grad for parameter in student.parameters() if parameter.grad is not None]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


def test_accumulated_batches_give_the_gradient_of_one_large_batch(tiny_bert: Path, task: Task, tokenizer: Any):
    collate = Collate(tokenizer, task, n_gold=8, n_synthetic=8)
    rows = [row for pair in zip(GOLD, SELECTED, strict=True) for row in pair]
    large = gradients(rows, collate, tiny_bert, task, batch_size=8)
    small = gradients(rows, collate, tiny_bert, task, batch_size=2, accumulate=4)
    assert len(large) == len(small) == 2
    for step, other in zip(large, small, strict=True):
        for one, two in zip(step, other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("teacher", 0),
        ("teacher_hard", LABELS.index(SELECTED[1]["prompt_label"])),
        ("prompt", LABELS.index(SELECTED[1]["prompt_label"])),
    ],
)
def test_selected_rows_are_fitted_to_what_was_asked_for(kind: Any, expected: int, task: Task, tokenizer: Any):
    batch = Collate(tokenizer, task, synthetic_labels=kind)([GOLD[0], SELECTED[1]])
    assert batch["label"].tolist() == [LABELS.index(GOLD[0]["label"]), expected]
    assert batch["synthetic"].tolist() == [False, True]
    assert bool(batch["probs"][1].any()) == (kind != "prompt")


class Mine(LightningDataModule):
    """A user's own DataModule."""

    def __init__(self, collate: Any) -> None:
        super().__init__()
        self.collate = collate

    def train_dataloader(self) -> Any:
        return DataLoader(GOLD + SELECTED, batch_size=4, shuffle=True, collate_fn=self.collate)

    def val_dataloader(self) -> Any:
        return DataLoader(GOLD, batch_size=4, collate_fn=self.collate)

    def predict_dataloader(self) -> Any:
        return DataLoader([{"text": row["text"]} for row in GOLD], batch_size=3, collate_fn=self.collate)


def test_a_datamodule_of_ones_own_trains_validates_and_predicts(tiny_bert: Path, task: Task, tokenizer: Any):
    data = Mine(Collate(tokenizer, task, n_gold=8, n_synthetic=8))
    student = StudentModule(task=task, model=str(tiny_bert), learning_rate=0.005, dropout=0.0)
    trainer = Trainer(max_epochs=30, **QUIET)
    trainer.fit(student, data)
    assert trainer.callback_metrics["dev/accuracy"] > 0.7
    predicted = [name for batch in trainer.predict(student, data) for name in batch["columns"]["prediction"]]
    assert len(predicted) == 8
    assert sum(name == row["label"] for name, row in zip(predicted, GOLD, strict=True)) > 5


def test_a_teacher_needs_no_sizes(tiny_bert: Path, task: Task, tokenizer: Any):
    loader = DataLoader(GOLD, batch_size=4, collate_fn=Collate(tokenizer, task))
    trainer = Trainer(max_epochs=1, **QUIET)
    trainer.fit(TeacherModule(task=task, model=str(tiny_bert)), loader)
    assert trainer.global_step == 2


@pytest.mark.parametrize(
    ("collate", "told"),
    [
        (None, r"StudentModule: a batch with the keys \['label', 'text'\], expected also inputs.*labelbridge.Collate"),
        ({}, "expected also n_gold, n_synthetic; make batches with labelbridge.Collate"),
    ],
)
def test_a_batch_that_lacks_something_is_refused_in_one_line(
    collate: Any, told: str, tiny_bert: Path, task: Task, tokenizer: Any
):
    loader = DataLoader(GOLD, batch_size=4, collate_fn=None if collate is None else Collate(tokenizer, task))
    student = StudentModule(task=task, model=str(tiny_bert))
    with pytest.raises(InputError, match=told):
        Trainer(max_epochs=1, **QUIET).fit(student, loader)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"text": None, "label": "positive"}, "text is None, expected a text"),
        ({"text": "a", "label": "good"}, "row 0: label 'good' is not one of"),
        ({"text": "a", "probs": [0.5, 0.5]}, r"probs is \[0.5, 0.5\], expected the teacher's probability of each"),
        ({"text": "a", "prompt_label": "positive"}, "probs is None, expected the teacher's probability"),
    ],
)
def test_a_bad_row_is_named(row: dict[str, Any], told: str, task: Task, tokenizer: Any):
    with pytest.raises(InputError, match=told):
        labelbridge.Collate(tokenizer, task)([row])
