"""XLM-R large on a GPU: rows a second of a student, share of the matrix units' rate, and the Trainer at its best."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.profilers import PyTorchProfiler
from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaForSequenceClassification

from benchmarks import training
from benchmarks._rows import NLI, SENTIMENT, rows_of
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.models.locate import locate

EPOCHS = 15  # of the paper's student
SETS = ((SENTIMENT, 16_044), (NLI, 22_500))  # rows of the paper's students
# XLM-R large; its vocabulary is the bundled encoder's.
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
SIZE = 8_192  # of the square matrices by which the rate of the matrix units is measured


def run(full: bool = False) -> dict[str, Any]:
    """A student of XLM-R large with random weights over an epoch, in turn with the Trainer, in bfloat16, by length.

    Rows are as long as those of SST5 and SNLI; `full` takes all 16,044 and 22,500 rows, twice, the default 2,048,
    once. Without a CUDA GPU nothing is run.
    """
    if not torch.cuda.is_available():
        return {"not_run": "no CUDA GPU"}
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name()}
    peak = matrix_rate()
    for task, count in SETS:
        name = "sst5" if task is SENTIMENT else "snli"
        measured = compare(task, rows_of(task, count if full else 2_048), LARGE, turns=2 if full else 1)
        figures |= {f"{name}_{key}": value for key, value in measured.items()}
        figures[f"{name}_share_of_peak"] = measured["operations_per_s"] / peak
        figures[f"{name}_minutes_of_{EPOCHS}_epochs"] = EPOCHS * count / measured["rows_per_s"] / 60
    return {"ratio": figures["sst5_ratio"], **figures}


def compare(task: Task, rows: list[dict[str, str]], config: dict[str, int], turns: int) -> dict[str, float]:
    """Our student and the Trainer in turn, after a short epoch each that warms up, and a profile of our first steps.

    Args:
        task: The task.
        rows: Labelled rows.
        config: What makes the network's size.
        turns: How often.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model"
        operations = _save_random(task, model, config) * _tokens(task, rows)
        seconds: dict[str, list[float]] = {"ours": [], "trainer": []}
        for turn in range(turns + 1):
            used = rows if turn else rows[: 4 * training.ROWS]
            profiler = None if turn else PyTorchProfiler(dirpath="runs/benchmarks", filename=f"large_{task.name}")
            ours = training.student(task, used, _new(folder, f"o{turn}"), str(model), profiler=profiler)
            peer = training.trainer(task, used, _new(folder, f"t{turn}"), best=True, model=str(model))
            print(f"ours: {ours:.1f} s, trainer: {peer:.1f} s", flush=True)
            if turn:
                seconds["ours"].append(ours)
                seconds["trainer"].append(peer)
    ours = statistics.median(seconds["ours"])
    return {
        "ratio": statistics.median(a / b for a, b in zip(seconds["trainer"], seconds["ours"], strict=True)),
        "rows_per_s": len(rows) / ours,
        "operations_per_s": operations / ours,
    }


def matrix_rate(size: int = SIZE) -> float:
    """Operations a second of products of large matrices in bfloat16, on the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    left @ right
    began, times = time.perf_counter(), 20
    for _ in range(times):
        product = left @ right
    float(product[0, 0])  # waits for all of them
    return times * 2 * size**3 / (time.perf_counter() - began)


def _save_random(task: Task, folder: Path, config: dict[str, int]) -> int:
    """Save a network with random weights; returns the operations that training costs for a token.

    Six for a weight of the layers and a token (Kaplan et al., 2020, arXiv 2001.08361, table 1); attention is left out.
    """
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(locate("bundled"))
    network = XLMRobertaForSequenceClassification(
        XLMRobertaConfig(
            vocab_size=len(tokenizer), max_position_embeddings=514, type_vocab_size=1, num_labels=len(task.labels),
            pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, layer_norm_eps=1e-5, **config,
        )
    )  # fmt: skip
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return 6 * sum(weights.numel() for weights in network.roberta.encoder.parameters())


def _tokens(task: Task, rows: list[dict[str, str]]) -> int:
    """Tokens of the rows, without padding."""
    tokenizer = AutoTokenizer.from_pretrained(locate("bundled"))
    encoded = tokenizer(*([row[column] for row in rows] for column in task.columns), truncation=True, max_length=128)
    return sum(map(len, encoded["input_ids"]))


def _new(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name
