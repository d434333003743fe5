"""How the time and the memory of each stage grow with the rows; every stage is a command in a process of its own."""

import json
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.cleaning import write_raw
from labelbridge.lightning_app.core.paths import PROJECT
from labelbridge.lightning_app.models.locate import MINILM, locate

LABELS = ["negative", "neutral", "positive"]
START, SIZES, FULL = 100, (10_000, 100_000), (10_000, 100_000, 1_000_000)


def run(full: bool = False) -> dict[str, Any]:
    """Seconds and peak memory of each stage at 10,000 and 100,000 rows (`full`: a million too).

    The model is a BERT of one layer, 32 wide, with random weights: what is measured is all but the network. `exponent`
    is that of the last tenfold of rows, after the seconds that 100 rows take have been subtracted.
    """
    sizes = (START, *(FULL if full else SIZES))
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        # In a process of its own: a command is charged with the memory of the process that started it.
        maker = multiprocessing.get_context("spawn").Process(target=_save_tiny_model, args=(model,))
        maker.start()
        maker.join()
        if maker.exitcode != 0:
            raise SystemExit("the model could not be made; see above")
        _stages(Path(folder) / "warm", START, model)  # so that the next does not wait for the disk
        measured = {rows: _stages(Path(folder) / str(rows), rows, model) for rows in sizes}
    before, last = sizes[-2:]
    for stage, (at_start, _) in measured[START].items():
        seconds = [measured[rows][stage][0] - at_start for rows in (before, last)]
        exponent = math.log(max(seconds[1], 0.01) / max(seconds[0], 0.01)) / math.log(last / before)
        figures[stage] = {
            "exponent": round(exponent, 2),
            "start_s": round(at_start, 1),
            **{f"{rows} rows": _shown(*measured[rows][stage]) for rows in sizes[1:]},
        }
    return figures


def _shown(seconds: float, peak_gb: float) -> str:
    return f"{seconds:.1f} s, {peak_gb:.2f} GB"


def _stages(folder: Path, rows: int, model: Path) -> dict[str, tuple[float, float]]:
    """Seconds and peak gigabytes of each stage."""
    folder.mkdir()
    write_raw(folder / "raw.jsonl", rows)
    targets = folder / "targets.jsonl"
    with targets.open("w", encoding="utf-8") as stream:
        for number, line in enumerate((folder / "raw.jsonl").read_text(encoding="utf-8").splitlines()):
            stream.write(json.dumps({"text": json.loads(line)["text"], "label": LABELS[number % 3]}) + "\n")
    pool, pseudolabels = folder / "pool", folder / "pseudolabels"
    inference = ("--model.model", model, "--trainer.enable_progress_bar", "false")
    select = (
        "select", "--config", "select.yaml", "--pool", pool, "--pseudolabels", pseudolabels,
        "--class_from", "prompt", "--quota", rows // 10,
    )  # fmt: skip
    commands = {
        "clean": ("clean", "--config", "clean.yaml", "--raw", folder / "raw.jsonl", "--out", pool),
        "predict": (
            "predict", "--config", "pseudolabel.yaml", *inference, "--data.pool", pool, "--out", pseudolabels,
        ),
        "select random": (*select, "--strategy", "random", "--out", folder / "random"),
        "select top": (*select, "--strategy", "top", "--out", folder / "top"),
        "test": (
            "test", "--config", "test.yaml", *inference, "--data.targets", json.dumps({"en": str(targets)}),
            "--out", folder / "test", "--method", "tiny",
        ),
        "report": ("report", "--config", "report.yaml", "--runs", folder / "test", "--out", folder / "report"),
    }  # fmt: skip
    return {name: _measure([str(word) for word in words]) for name, words in commands.items()}


def _measure(words: list[str]) -> tuple[float, float]:
    """Seconds of a command, and the most memory that it has held."""
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "main.py", *words], cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(words)}: {said[-2000:]}")
    print(f"{words[0]}: {took:.1f} s, {usage.ru_maxrss / 2**20:.2f} GB", flush=True)
    return took, usage.ru_maxrss / 2**20


def _save_tiny_model(folder: Path) -> None:
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(locate(MINILM))
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        id2label=dict(enumerate(LABELS)), label2id={label: number for number, label in enumerate(LABELS)},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
