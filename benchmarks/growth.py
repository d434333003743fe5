"""How the time and the memory of each stage grow with the rows; every stage is a command in a process of its own."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cleaning import write_raw
from labelbridge.lightning_app.core import fingerprint
from labelbridge.lightning_app.core.artifacts import versions
from labelbridge.lightning_app.core.paths import PROJECT
from labelbridge.lightning_app.models.locate import MINILM, locate

LABELS = ["negative", "neutral", "positive"]
START, SIZES, FULL = 100, (10_000, 100_000), (10_000, 100_000, 1_000_000)
FOLDER = Path("runs/benchmarks/growth")  # of a run that is going on; gone at its end
ROOMS = ("labelbridge", "lightning_app", "datamodules", "modules", "callbacks", "benchmarks")
LIMIT = 1_800.0  # seconds of a stage at most
# What a stage reads beside the rows; without it, it is not run.
NEEDS = {
    "predict": ("clean",), "embed": ("clean",), "translate": ("clean",), "select random": ("clean", "predict"),
    "select top": ("clean", "predict"), "select diverse": ("clean", "predict", "embed"), "report": ("test",),
}  # fmt: skip
FULL_ALONE = ("translate", "embed", "select diverse", "fit")  # so that all benchmarks take 20 minutes together
Measured = dict[str, tuple[float, float] | None]  # stage -> seconds and gigabytes; None if it was not through in time


def run(full: bool = False) -> dict[str, Any]:
    """Seconds and peak memory of each stage at 10,000 and 100,000 rows (`full`: a million too, and more stages).

    The model is a BERT of one layer, 32 wide, with random weights: what is measured is all but the network. Seconds and
    rows of the smallest size are subtracted; `exponent` is then the slope of their logarithms, by least squares.
    `ms_a_row` and `kb_a_row` are those of the last tenfold.

    What is measured is kept in `runs/benchmarks/growth` until all is through: an interrupted run goes on where it was,
    unless code, versions or the number of cores have changed.
    """
    sizes = (START, *(FULL if full else SIZES))
    FOLDER.mkdir(parents=True, exist_ok=True)
    machine = {
        **versions(), "cores": os.cpu_count(), "full": full,
        "code": fingerprint.of_files([file for room in ROOMS for file in sorted((PROJECT / room).rglob("*.py"))]),
    }  # fmt: skip
    state = FOLDER / "machine.json"
    if not state.exists() or json.loads(state.read_text(encoding="utf-8")) != machine:
        shutil.rmtree(FOLDER)
        FOLDER.mkdir()
        state.write_text(json.dumps(machine), encoding="utf-8")
    model = FOLDER / "model"
    _make_model(model)
    _stages(FOLDER / "warm", START, model, full)  # so that the next does not wait for the disk
    measured = {rows: _stages(FOLDER / str(rows), rows, model, full) for rows in sizes}
    shutil.rmtree(FOLDER)
    return {stage: growth({rows: measured[rows].get(stage) for rows in sizes}) for stage in measured[START]}


def growth(measured: Mapping[int, tuple[float, float] | None]) -> dict[str, Any]:
    """What a stage's seconds and gigabytes at several numbers of rows amount to.

    Args:
        measured: Rows -> seconds and gigabytes, the smallest number first, which stands for the start-up; None where
            the stage was not through in time.
    """
    through = {rows: both for rows, both in measured.items() if both is not None}
    shown = {
        f"{rows} rows": f"{both[0]:.1f} s, {both[1]:.2f} GB" if both is not None else "not through in time"
        for rows, both in list(measured.items())[1:]
    }
    if min(measured) not in through:
        return shown
    smallest = min(measured)
    start_s, _ = through.pop(smallest)
    # What is lost in the variation of the start-up says nothing of growth.
    beyond = {rows: seconds - start_s for rows, (seconds, _) in through.items()}
    clear = {rows: seconds for rows, seconds in beyond.items() if seconds > max(0.2, 0.1 * start_s)}
    figures: dict[str, Any] = {"start_s": round(start_s, 1), "exponent": None, **shown}
    if len(clear) > 1:
        more_rows = [rows - smallest for rows in clear]
        slope = np.polyfit(np.log(more_rows), np.log(list(clear.values())), 1)[0]
        figures["exponent"] = round(float(slope), 2)
    if len(through) > 1:
        (before, (seconds, gb)), (last, (last_s, last_gb)) = list(through.items())[-2:]
        figures["ms_a_row"] = round(1e3 * (last_s - seconds) / (last - before), 4)
        figures["kb_a_row"] = round(2**20 * (last_gb - gb) / (last - before), 2)
    return figures


def _stages(folder: Path, rows: int, model: Path, full: bool) -> Measured:
    """Measure each stage that has not been measured yet; what it wrote before it was interrupted is removed."""
    kept = folder / "measured.json"
    measured: Measured = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    commands = _commands(folder, rows, model)
    if not full:
        commands = {stage: words for stage, words in commands.items() if stage not in FULL_ALONE}
    if set(commands) <= set(measured):
        return measured
    print(f"{folder.name}: {rows} rows", flush=True)
    _write_rows(folder, rows)
    for stage, words in commands.items():
        if stage in measured:
            continue
        if any(measured[other] is None for other in NEEDS.get(stage, ())):
            measured[stage] = None
        else:
            shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
            measured[stage] = _measure(words)
        temporary = kept.with_suffix(".part")
        temporary.write_text(json.dumps(measured), encoding="utf-8")
        temporary.replace(kept)
    for path in folder.iterdir():  # a million rows are a few gigabytes
        if path != kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return measured


def _write_rows(folder: Path, rows: int) -> None:
    """Raw generations, and the same texts as labelled rows."""
    if (folder / "rows.done").exists():
        return
    folder.mkdir(exist_ok=True)
    write_raw(folder / "raw.jsonl", rows)
    with (
        (folder / "raw.jsonl").open(encoding="utf-8") as raw,
        (folder / "gold.jsonl").open("w", encoding="utf-8") as gold,
    ):
        for number, line in enumerate(raw):
            gold.write(json.dumps({"text": json.loads(line)["text"], "label": LABELS[number % 3]}) + "\n")
    (folder / "rows.done").touch()


def _commands(folder: Path, rows: int, model: Path) -> dict[str, list[str]]:
    """The command of each stage, in the order in which they read one another."""
    folder, model = folder.absolute(), model.absolute()
    gold, pool, pseudolabels = folder / "gold.jsonl", folder / "pool", folder / "pseudolabels"
    quiet = ("--trainer.enable_progress_bar", "false")
    inference = ("--model.model", model, *quiet)
    select = (
        "select", "--config", "select.yaml", "--pool", pool, "--pseudolabels", pseudolabels,
        "--class_from", "prompt", "--quota", max(1, rows // 10),
    )  # fmt: skip
    commands: dict[str, tuple[Any, ...]] = {
        "clean": ("clean", "--config", "clean.yaml", "--raw", folder / "raw.jsonl", "--out", pool),
        "translate": (
            "predict", "--config", "translate.yaml", *quiet, "--data.rows", json.dumps({"path": str(pool)}),
            "--data.label_column", "prompt_label", "--out", folder / "translated",
        ),
        "predict": (
            "predict", "--config", "pseudolabel.yaml", *inference, "--data.pool", pool, "--out", pseudolabels,
        ),
        "embed": ("predict", "--config", "embed.yaml", *inference, "--data.pool", pool, "--out", folder / "embedded"),
        "select random": (*select, "--strategy", "random", "--out", folder / "random"),
        "select top": (*select, "--strategy", "top", "--out", folder / "top"),
        "select diverse": (
            *select, "--strategy", "diverse", "--embeddings", folder / "embedded", "--out", folder / "diverse",
        ),
        "fit": (
            "fit", "--config", "teacher.yaml", *inference, "--data.train", json.dumps({"path": str(gold)}),
            "--data.batch_size", 256, "--trainer.max_epochs", 1, "--out", folder / "teacher",
        ),
        "test": (
            "test", "--config", "test.yaml", *inference, "--data.targets", json.dumps({"en": str(gold)}),
            "--out", folder / "test", "--method", "tiny",
        ),
        "report": ("report", "--config", "report.yaml", "--runs", folder / "test", "--out", folder / "report"),
    }  # fmt: skip
    return {name: [str(word) for word in words] for name, words in commands.items()}


def _measure(words: list[str]) -> tuple[float, float] | None:
    """Seconds of a command, and the most memory that it has held; None if it was not through in time."""
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "main.py", *words], cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    clock = threading.Timer(LIMIT, process.kill)
    clock.start()
    assert process.stderr is not None
    try:
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()  # nothing runs on after an interruption
        raise
    finally:
        clock.cancel()
    took = time.perf_counter() - began
    named = f"{words[0]} {Path(words[words.index('--out') + 1]).name}"
    if took >= LIMIT:
        print(f"{named}: not through after {LIMIT:.0f} s", flush=True)
        return None
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(words)}: {said[-2000:]}")
    print(f"{named}: {took:.1f} s, {usage.ru_maxrss / 2**20:.2f} GB", flush=True)
    return took, usage.ru_maxrss / 2**20


def _make_model(folder: Path) -> None:
    """In a process of its own: a command is charged with the memory of the process that started it."""
    if (folder / "done").exists():
        return
    maker = multiprocessing.get_context("spawn").Process(target=_save_tiny_model, args=(folder,))
    maker.start()
    maker.join()
    if maker.exitcode != 0:
        raise SystemExit("the model could not be made; see above")


def _save_tiny_model(folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(locate(MINILM))
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        id2label=dict(enumerate(LABELS)), label2id={label: number for number, label in enumerate(LABELS)},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "done").touch()
