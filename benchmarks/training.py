"""Rows a second of a fit: the teacher against the Hugging Face Trainer on the same model, rows, batch and optimizer."""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Timer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    TrainingArguments,
    set_seed,
)
from transformers import Trainer as HuggingFaceTrainer

from labelbridge.datamodules import GoldDataModule
from labelbridge.lightning_app.cli.memory import keep_freed_memory
from labelbridge.lightning_app.core.paths import PROJECT
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.lightning_app.models.locate import MINILM, locate
from labelbridge.modules import TeacherModule

TASK = Task("sentiment", ["text"], ["negative", "neutral", "positive"])
ROWS, MICRO_ROWS, RATE = 32, 16, 5e-5  # rows of an optimizer step; of a micro-batch of ours


def run(full: bool = False) -> dict[str, Any]:
    """One epoch each, in turn, twice (`full`: four times), after a short one that warms up; the dev set stays out.

    The Trainer runs with its defaults, among them the fused AdamW, and pads every batch to its longest row. Ours cuts
    as many rows, sorted by length, into two micro-batches, as `fit --config teacher.yaml` does; the gradient is that
    of the whole.
    """
    rows = sample_rows()
    keep_freed_memory()  # as a fit does on a CPU; in one process the Trainer has it too
    with tempfile.TemporaryDirectory() as folder:
        gold = Path(folder) / "gold.jsonl"
        ours_s, peer_s = [], []
        for count in [2 * ROWS, *[len(rows)] * (4 if full else 2)]:
            gold.write_text("".join(json.dumps(row) + "\n" for row in rows[:count]), encoding="utf-8")
            ours_s.append(ours(gold))
            peer_s.append(peer(rows[:count], folder))
    ours_rate, peer_rate = (len(rows) / statistics.median(took[1:]) for took in (ours_s, peer_s))
    return {"ratio": ours_rate / peer_rate, "rows_per_s": ours_rate, "peer_rows_per_s": peer_rate, "rows": len(rows)}


def sample_rows() -> list[dict[str, str]]:
    """The bundled sample's labelled rows: gold, and the pool with its prompt labels."""
    rows = []
    for name, label in (
        ("gold/train", "label"),
        ("gold/dev", "label"),
        ("gold/test", "label"),
        ("pool/train", "prompt_label"),
    ):
        lines = (PROJECT / f"samples/sentiment/{name}.jsonl").read_text(encoding="utf-8").splitlines()
        rows += [{"text": row["text"], "label": row[label]} for row in map(json.loads, lines)]
    return rows


def ours(gold: Path) -> float:
    """Seconds of an epoch of the teacher."""
    seed_everything(0, verbose=False)
    source, clock = Source(path=str(gold)), Timer()
    data = GoldDataModule(task=TASK, model=MINILM, train=source, dev=source, batch_size=MICRO_ROWS)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, accumulate_grad_batches=ROWS // MICRO_ROWS, gradient_clip_val=1.0,
        callbacks=[clock], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(TeacherModule(task=TASK, model=MINILM, learning_rate=RATE), datamodule=data)
    return clock.time_elapsed("train")


def peer(rows: list[dict[str, str]], folder: str) -> float:
    """Seconds of an epoch of the Hugging Face Trainer."""
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(locate(MINILM))
    encoded = [
        {**tokenizer(row["text"], truncation=True, max_length=128), "labels": TASK.labels.index(row["label"])}
        for row in rows
    ]
    model = AutoModelForSequenceClassification.from_pretrained(locate(MINILM), num_labels=len(TASK.labels))
    settings = TrainingArguments(
        folder, per_device_train_batch_size=ROWS, learning_rate=RATE, num_train_epochs=1, save_strategy="no",
        report_to=[], disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    collator = DataCollatorWithPadding(tokenizer)
    trainer = HuggingFaceTrainer(model=model, args=settings, train_dataset=encoded, data_collator=collator)
    return float(trainer.train().metrics["train_runtime"])
