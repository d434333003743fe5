"""How long each command takes until it is at work: help, a small selection, a fit up to its first step."""

import statistics
import subprocess
import sys
import tempfile
import time

from labelbridge.lightning_app.core.paths import PROJECT
from labelbridge.lightning_app.models.locate import MINILM


def run(full: bool = False) -> dict[str, float]:
    """Medians over three runs (`full`: nine), in seconds.

    `ratio`: importing torch, lightning and transformers alone, over a whole fit of one step.
    """
    with tempfile.TemporaryDirectory() as folder:
        fit = (
            "fit", "--config", "teacher.yaml", "--model.model", MINILM, "--trainer.max_steps", "1",
            "--trainer.limit_val_batches", "1", "--trainer.enable_progress_bar", "false",
        )  # fmt: skip
        select = (
            "select", "--strategy", "random", "--class_from", "prompt", "--task", "sentiment",
            "--pool", "samples/sentiment/pool/train.jsonl", "--quota", "60",
        )  # fmt: skip
        commands = {
            "help": ("--help",),
            "fit_help": ("fit", "--help"),
            "select": (*select, "--out", f"{folder}/select-{{}}"),
            "fit_one_step": (*fit, "--out", f"{folder}/fit-{{}}"),
        }
        took: dict[str, list[float]] = {name: [] for name in (*commands, "imports")}
        for number in range(9 if full else 3):
            for name, words in commands.items():
                took[name].append(_seconds("main.py", *(word.format(number) for word in words)))
            took["imports"].append(_seconds("-c", "import torch, lightning, transformers, torchmetrics"))
    figures = {f"{name}_s": statistics.median(values) for name, values in took.items()}
    return {"ratio": figures["imports_s"] / figures["fit_one_step_s"], **figures}


def _seconds(*words: str) -> float:
    began = time.perf_counter()
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: {done.stderr[-2000:]}")
    return took
