"""Rows a second of a fit against the Hugging Face Trainer, plain and at its best, and against a live teacher."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Timer
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    TrainingArguments,
    set_seed,
)
from transformers import Trainer as HuggingFaceTrainer

from benchmarks._rows import NLI, SENTIMENT, rows_of
from labelbridge.datamodules import GoldDataModule, MixedDataModule
from labelbridge.lightning_app.cli.lightning_cli import bf16_device
from labelbridge.lightning_app.cli.memory import keep_freed_memory
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.paths import PROJECT
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.lightning_app.models.locate import locate
from labelbridge.modules import StudentModule, TeacherModule

ROWS, RATE, TEMPERATURE = 32, 1e-4, 1.5  # rows of an optimizer step
PAD_TO = 128  # tokens of every row in the code published with the paper
HAS_BF16 = bf16_device("auto") is not None


def run(full: bool = False) -> dict[str, Any]:
    """An epoch of the bundled encoder over rows as long as those of SST5 and SNLI; the dev set stays out.

    They take turns, twice (`full`: four times, and four times as many rows), after a short epoch that warms up.
    Ours and the Trainer's best take bfloat16 where the device has it. The code published with the paper pads every row
    to 128 tokens and asks the teacher for its probabilities in every step; ours is the student then, which reads them.

    `full` also measures `lazy_ratio`, our time over that with `model.lazy_embeddings`, and `decayed_lazy_ratio`, both
    with a weight decay of 0.01, with which AdamW trains every word embedding; `lazy_results` compares what they learn.
    """
    contestants = CONTESTANTS | (OPTIONS if full else {})
    keep_freed_memory()  # as a fit does on a CPU; in one process the peers have it too
    figures: dict[str, Any] = {}
    for task, likeness in ((SENTIMENT, "sst5"), (NLI, "snli")):
        rows = rows_of(task, 512 if full else 128)
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for turn in range(5 if full else 3):
            for name, contestant in contestants.items():
                with tempfile.TemporaryDirectory() as folder:
                    took = contestant(task, rows if turn else rows[: 2 * ROWS], Path(folder))
                print(f"{likeness} {name}: {took:.1f} s", flush=True)
                if turn:
                    seconds[name].append(took)

        def times(peer: str, ours: str = "ours", seconds: dict[str, list[float]] = seconds) -> float:
            return statistics.median(a / b for a, b in zip(seconds[peer], seconds[ours], strict=True))

        figures |= {
            f"{likeness}_ratio": times("trainer"),
            f"{likeness}_ratio_best_trainer": times("best_trainer"),
            f"{likeness}_ratio_live_teacher": times("live_teacher", "our_student"),
            f"{likeness}_rows_per_s": len(rows) / statistics.median(seconds["ours"]),
        }
        if full:
            figures[f"{likeness}_lazy_ratio"] = times("ours", "lazy")
            figures[f"{likeness}_decayed_lazy_ratio"] = times("decayed", "decayed_lazy")
    if full:
        figures |= lazy_results("bundled", range(3))
    return {"ratio": figures["sst5_ratio"], **figures, "rows": 512 if full else 128, "bf16": HAS_BF16}


def _teacher(task: Task, rows: list[dict[str, str]], folder: Path, **recipe: Any) -> float:
    """Seconds of an epoch of the teacher."""
    gold = _write(rows, folder)
    data = GoldDataModule(task=task, model="bundled", train=gold, dev=gold, batch_size=ROWS)
    return _fit(TeacherModule(task=task, model="bundled", learning_rate=RATE, **recipe), data, folder)


def lazy_results(model: str, seeds: Iterable[int], epochs: int = 3) -> dict[str, float]:
    """Accuracy and loss on the sample's test rows after the same steps on its gold: AdamW, and lazy embeddings.

    Means over the seeds, which give order, head and dropout; without and with weight decay.
    """
    gold, test = (Source(path=str(PROJECT / f"samples/sentiment/gold/{name}.jsonl")) for name in ("train", "test"))
    scores: dict[str, list[float]] = {}
    for seed in seeds:
        for decay, kind in ((0.0, ""), (0.01, "decayed_")):
            for lazy, name in ((False, "adamw"), (True, "lazy")):
                data = GoldDataModule(task=SENTIMENT, model=model, train=gold, dev=test, batch_size=ROWS, seed=seed)
                module = TeacherModule(
                    task=SENTIMENT, model=model, learning_rate=RATE, weight_decay=decay, lazy_embeddings=lazy, seed=seed
                )
                with tempfile.TemporaryDirectory() as folder:
                    _fit(module, data, Path(folder), seed, max_epochs=epochs)
                    judge = Trainer(default_root_dir=folder, logger=False, enable_progress_bar=False)
                    found = judge.validate(module, datamodule=data, verbose=False)[0]
                for metric in ("accuracy", "loss"):
                    scores.setdefault(f"{kind}{name}_{metric}", []).append(found[f"dev/{metric}"])
    return {name: statistics.mean(values) for name, values in scores.items()}


def student(
    task: Task,
    rows: list[dict[str, str]],
    folder: Path,
    model: str = "bundled",
    batch_size: int = ROWS,
    recipe: dict[str, Any] | None = None,
    **settings: Any,
) -> float:
    """Seconds of an epoch of the student; half of the rows are synthetic, with the teacher's probabilities."""
    gold = _write(rows[::2], folder)
    uniform = [1 / len(task.labels)] * len(task.labels)
    synthetic = [
        {**row, "prompt_label": row["label"], "id": str(number), "probs": uniform}
        for number, row in enumerate(rows[1::2])
    ]
    facts = {"labels": task.labels, "task": asdict(task)}
    artifacts.write(folder / "selection", pa.Table.from_pylist(synthetic), stage="select", facts=facts)
    data = MixedDataModule(
        task=task, model=model, train=gold, dev=gold, batch_size=batch_size, selection=str(folder / "selection")
    )
    module = StudentModule(task=task, model=model, learning_rate=RATE, temperature=TEMPERATURE, **recipe or {})
    return _fit(module, data, folder, **settings)


def _fit(
    module: TeacherModule | StudentModule, data: GoldDataModule, folder: Path, seed: int = 0, **settings: Any
) -> float:
    seed_everything(seed, verbose=False)
    clock = Timer()
    callbacks = [clock, *settings.pop("callbacks", [])]
    trainer = Trainer(
        default_root_dir=folder, gradient_clip_val=1.0, callbacks=callbacks, logger=False,
        precision="bf16-mixed" if HAS_BF16 else "32-true", enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0, **{"max_epochs": 1, **settings},
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return clock.time_elapsed("train")


def trainer(
    task: Task,
    rows: list[dict[str, str]],
    folder: Path,
    *,
    best: bool,
    model: str = "bundled",
    batch_size: int = ROWS,
    callbacks: list[Any] | None = None,
    **more: Any,
) -> float:
    """Seconds of an epoch of the Hugging Face Trainer: with its defaults, or with all that makes it fast."""
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(locate(model))
    encoded = [
        {
            **tokenizer(*(row[column] for column in task.columns), truncation=True, max_length=128),
            "labels": task.labels.index(row["label"]),
        }
        for row in rows
    ]
    flags = {"bf16": HAS_BF16, "train_sampling_strategy": "group_by_length", **more} if best else more
    settings = TrainingArguments(
        str(folder), per_device_train_batch_size=batch_size, learning_rate=RATE, save_strategy="no", report_to=[],
        disable_tqdm=True, use_cpu=not torch.cuda.is_available(), **{"num_train_epochs": 1, **flags},
    )  # fmt: skip
    collator = DataCollatorWithPadding(tokenizer)
    peer = HuggingFaceTrainer(
        model=_classifier(task, model), args=settings, train_dataset=encoded, data_collator=collator,
        callbacks=callbacks,
    )  # fmt: skip
    return float(peer.train().metrics["train_runtime"])


def _live_teacher(task: Task, rows: list[dict[str, str]], _: Path) -> float:
    """Seconds of an epoch of a student that pads all rows alike, while a teacher computes the probabilities it fits."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(locate("bundled"))
    student, teacher = _classifier(task).to(device).train(), _classifier(task).to(device).eval()
    optimizer = torch.optim.AdamW(student.parameters(), RATE)
    began = time.perf_counter()
    for first in range(0, len(rows), ROWS):
        batch = rows[first : first + ROWS]
        texts = [[row[column] for row in batch] for column in task.columns]
        inputs = tokenizer(*texts, truncation=True, max_length=PAD_TO, padding="max_length", return_tensors="pt")
        inputs = inputs.to(device)
        logits_BC = student(**inputs).logits
        label_b = torch.tensor([task.labels.index(row["label"]) for row in batch[::2]], device=device)
        with torch.no_grad():
            probs_BC = teacher(**{name: value[1::2] for name, value in inputs.items()}).logits.softmax(dim=1)
        loss = functional.cross_entropy(logits_BC[::2], label_b, reduction="sum") + functional.kl_div(
            functional.log_softmax(logits_BC[1::2] / TEMPERATURE, dim=1), probs_BC, reduction="sum"
        )
        (loss / len(batch)).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - began


def _classifier(task: Task, model: str = "bundled") -> Any:
    return AutoModelForSequenceClassification.from_pretrained(locate(model), num_labels=len(task.labels))


def _write(rows: list[dict[str, str]], folder: Path) -> Source:
    path = folder / "gold.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Source(path=str(path))


CONTESTANTS: dict[str, Callable[[Task, list[dict[str, str]], Path], float]] = {
    "ours": _teacher,
    "trainer": partial(trainer, best=False),
    "best_trainer": partial(trainer, best=True),
    "our_student": student,
    "live_teacher": _live_teacher,
}
OPTIONS: dict[str, Callable[[Task, list[dict[str, str]], Path], float]] = {
    "lazy": partial(_teacher, lazy_embeddings=True),
    "decayed": partial(_teacher, weight_decay=0.01),
    "decayed_lazy": partial(_teacher, weight_decay=0.01, lazy_embeddings=True),
}
