"""Rows a second of `predict` against the pipeline of transformers and against a plain loop over sorted batches."""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from benchmarks._rows import SENTIMENT, rows_of
from labelbridge.callbacks import RowWriter
from labelbridge.datamodules import PoolDataModule
from labelbridge.lightning_app.cli.lightning_cli import bf16_device
from labelbridge.lightning_app.data.sources import Source
from labelbridge.lightning_app.models.locate import MINILM, locate
from labelbridge.modules import TeacherModule

TOKENS, MAX_LENGTH = 4096, 256  # as in predict: positions of a batch at most, tokens of a row at most
HAS_BF16 = bf16_device("auto") is not None
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def run(full: bool = False) -> dict[str, Any]:
    """Class probabilities of 4,000 rows as long as SST5's (`full`: 10,000), three turns; medians of the ratios.

    The model is MiniLM with a new head. The pipeline has batches of 32 rows as they come, in float32, as it has by
    default; the loop sorts all rows by length, has as many positions in a batch as ours, and bfloat16 by autocast where
    the device has it. Ours reads the file, checks the model, and writes every row to the disk as well. Everybody
    tokenizes; loading the weights is not counted for the peers.
    """
    rows = rows_of(SENTIMENT, 10_000 if full else 4_000)
    texts = [row["text"] for row in rows]
    seconds: dict[str, list[float]] = {"ours": [], "pipeline": [], "sorted loop": []}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        seed_everything(0, verbose=False)
        network = AutoModelForSequenceClassification.from_pretrained(
            locate(MINILM), id2label=dict(enumerate(SENTIMENT.labels)),
            label2id={label: number for number, label in enumerate(SENTIMENT.labels)},
        )  # fmt: skip
        network.save_pretrained(model)
        AutoTokenizer.from_pretrained(locate(MINILM)).save_pretrained(model)
        pool = Path(folder) / "pool.jsonl"
        pool.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        classify = pipeline(
            "text-classification", str(model), top_k=None, batch_size=32, dtype=torch.float32, device=DEVICE
        )
        for turn in range(3):
            for name, took in (
                ("ours", _ours(str(model), pool, Path(folder) / f"out{turn}")),
                ("pipeline", _timed(lambda: classify(texts, truncation=True, max_length=MAX_LENGTH))),
                ("sorted loop", _timed(lambda: _sorted_loop(model, texts))),
            ):
                print(f"{name}: {took:.1f} s", flush=True)
                seconds[name].append(took)
    ratios = {
        peer: statistics.median(a / b for a, b in zip(seconds[peer], seconds["ours"], strict=True))
        for peer in ("pipeline", "sorted loop")
    }
    rate = len(rows) / statistics.median(seconds["ours"])
    return {
        "ratio": ratios["pipeline"], "ratio_sorted_loop": ratios["sorted loop"], "rows_per_s": rate, "rows": len(rows),
        "bf16": HAS_BF16,
    }  # fmt: skip


def _ours(model: str, pool: Path, out: Path) -> float:
    data = PoolDataModule(
        task=SENTIMENT, model=model, pool=Source(path=str(pool)), prompt_labels=False, tokens_per_batch=TOKENS,
        max_length=MAX_LENGTH,
    )  # fmt: skip
    trainer = Trainer(
        default_root_dir=out, callbacks=[RowWriter(str(out))], logger=False, enable_progress_bar=False,
        enable_model_summary=False, precision="bf16-true" if HAS_BF16 else "32-true",
    )  # fmt: skip
    module = TeacherModule(task=SENTIMENT, model=model)
    return _timed(lambda: trainer.predict(module, datamodule=data, return_predictions=False))


def _sorted_loop(model: Path, texts: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForSequenceClassification.from_pretrained(model).to(DEVICE).eval()
    encoded = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row]))
    probs_NC = np.zeros((len(texts), len(SENTIMENT.labels)))
    first = 0
    with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16, enabled=HAS_BF16):
        while first < len(order):
            batch = order[first : first + max(TOKENS // len(encoded[order[first]]), 1)]
            inputs = tokenizer.pad({"input_ids": [encoded[row] for row in batch]}, return_tensors="pt").to(DEVICE)
            probs_NC[batch] = network(**inputs).logits.float().softmax(dim=1).cpu().numpy()
            first += len(batch)


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
