"""How long each command takes until it is at work: help, a small selection, a fit up to its first step, the demo."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labelbridge.lightning_app.core.paths import PROJECT
from labelbridge.lightning_app.models.locate import MINILM
from labelbridge.lightning_app.stages import COMMANDS

GOALS = {"help_s": 0.1, "select_s": 1.0, **{f"{command}_help_s": 1.0 for command in COMMANDS}}  # seconds


def run(full: bool = False) -> dict[str, Any]:
    """Medians over three runs (`full`: nine), in seconds; `above_goal` names what takes longer than its goal.

    `ratio`: importing torch, lightning and transformers alone, over a whole fit of one step. `fit_first_step_s`: until
    the weights have moved once. `full` also runs `make demo`: `environment_s` in a new clone with an empty cache
    (what pip downloads included), `demo_cold_s` there for the first time, and `demo_warm_s` again, its runs removed.
    """
    with tempfile.TemporaryDirectory() as folder:
        commands = _commands(folder)
        took: dict[str, list[float]] = {name: [] for name in (*commands, "fit_first_step", "imports")}
        for number in range(9 if full else 3):
            for name, words in commands.items():
                began = time.time()
                took[name].append(_seconds("main.py", *(word.format(number) for word in words)))
                if name == "fit_one_step":
                    took["fit_first_step"].append(float(Path(folder, f"step-{number}").read_text()) - began)
            took["imports"].append(_seconds("-c", "import torch, lightning, transformers, torchmetrics"))
    figures = {f"{name}_s": statistics.median(values) for name, values in took.items()}
    above = sorted(name.removesuffix("_s") for name, goal in GOALS.items() if figures[name] > goal)
    ratio = figures["imports_s"] / figures["fit_one_step_s"]
    return {"ratio": ratio, **figures, "above_goal": above, **(demo() if full else {})}


def _commands(folder: str) -> dict[str, tuple[str, ...]]:
    """Name -> words; `{}` is the number of the run."""
    fit = (
        "fit", "--config", "teacher.yaml", "--model.model", MINILM, "--trainer.max_steps", "1",
        "--trainer.limit_val_batches", "1", "--trainer.enable_progress_bar", "false",
        "--trainer.callbacks+=benchmarks._first_step.FirstStep", f"--trainer.callbacks.path={folder}/step-{{}}",
    )  # fmt: skip
    select = (
        "select", "--strategy", "random", "--class_from", "prompt", "--task", "sentiment",
        "--pool", "samples/sentiment/pool/train.jsonl", "--quota", "60",
    )  # fmt: skip
    return {
        "help": ("--help",),
        **{f"{command}_help": (command, "--help") for command in COMMANDS},
        "select": (*select, "--out", f"{folder}/select-{{}}"),
        "fit_one_step": (*fit, "--out", f"{folder}/fit-{{}}"),
    }


def demo() -> dict[str, float]:
    """Seconds of `make demo` in a clone of what is committed, with an environment and a cache of its own."""
    with tempfile.TemporaryDirectory() as folder:
        clone, cache = Path(folder) / "clone", Path(folder) / "cache"
        cache.mkdir()
        _run(["git", "clone", "--quiet", str(PROJECT), str(clone)], Path(folder), os.environ)
        own = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": ""}
        make = ["make", f"PYTHON={sys.executable}"]
        environment = _run([*make, ".venv/.demo"], clone, own)
        cold = _run([*make, "demo"], clone, own)
        shutil.rmtree(clone / "runs")
        return {"environment_s": environment, "demo_cold_s": cold, "demo_warm_s": _run([*make, "demo"], clone, own)}


def _seconds(*words: str) -> float:
    return _run([sys.executable, *words], PROJECT, os.environ)


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - our own words
        command, cwd=folder, env=dict(environment), capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return took
