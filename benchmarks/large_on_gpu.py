"""XLM-R large on a GPU: rows a second of a student, share of the matrix units' rate, and the Trainer at its best."""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaForSequenceClassification

from benchmarks import training
from benchmarks._rows import NLI, SENTIMENT, rows_of
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.models.locate import locate

EPOCHS = 15  # of the paper's student
STEP = 128  # rows of an optimizer step of the paper's student
SETS = ((SENTIMENT, 16_044, 15), (NLI, 22_500, 5))  # rows of the paper's students, and epochs of ours with `full`
# XLM-R large; its vocabulary is the bundled encoder's.
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
SIZE = 8_192  # of the square matrices by which the rate of the matrix units is measured
PROFILED = range(60, 64)  # steps, when batches of nearly all shapes have been seen


def run(full: bool = False) -> dict[str, Any]:
    """A student of XLM-R large with random weights, beside the Trainer at its best, in bfloat16, 128 rows a step.

    Rows are as long as those of SST5 and SNLI. `full` takes all 16,044 and 22,500 rows, and 15 and 5 epochs of ours,
    the default 8,192 rows and one epoch; of the Trainer it is one epoch in either. Before them comes an epoch of each
    that is not counted, with a profile of some of our steps. Without a CUDA GPU nothing is run.
    """
    if not torch.cuda.is_available():
        return {"not_run": "no CUDA GPU"}
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name(), "matrix_rate": matrix_rate()}
    for number, (task, count, measured_epochs) in enumerate(SETS):
        rows = rows_of(task, count if full else 64 * STEP)
        epochs = {"ours": measured_epochs if full else 1, "trainer": 1}
        measured = compare(task, rows, LARGE, epochs, warms_up=number == 0)
        name = "sst5" if task is SENTIMENT else "snli"
        figures |= {f"{name}_{key}": value for key, value in measured.items()}
        figures[f"{name}_share_of_matrix_rate"] = measured["operations_per_s"] / figures["matrix_rate"]
        figures[f"{name}_minutes_of_{EPOCHS}_epochs"] = EPOCHS * count / measured["rows_per_s"] / 60
    return {"ratio": figures["sst5_ratio"], **figures}


def compare(
    task: Task, rows: list[dict[str, str]], config: dict[str, int], epochs: dict[str, int], warms_up: bool
) -> dict[str, float]:
    """Our student and the Trainer, one after the other.

    Args:
        task: The task.
        rows: Labelled rows.
        config: What makes the network's size.
        epochs: Of `ours` and the `trainer`.
        warms_up: Whether an epoch of each comes first, ours with a profile.
    """
    measured: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = folder / "model"
        operations = _save_random(task, model, config) * _tokens(task, rows)
        contestants = {
            "ours": partial(training.student, batch_size=STEP),
            "trainer": partial(training.trainer, best=True, batch_size=STEP),
        }
        for name, fit in contestants.items():
            is_ours = name == "ours"
            if warms_up:
                settings: dict[str, Any] = {"callbacks": [StepProfile(Path("runs/benchmarks"))]} if is_ours else {}
                fit(task, rows, _new(folder, f"{name}_first"), model=str(model), **settings)
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            settings = {"max_epochs" if is_ours else "num_train_epochs": epochs[name]}
            seconds = fit(task, rows, _new(folder, name), model=str(model), **settings)
            print(f"{task.name}, {name}: {epochs[name]} epochs in {seconds:.1f} s", flush=True)
            measured[f"{name}_seconds_of_an_epoch"] = seconds / epochs[name]
            measured[f"{name}_peak_gb"] = torch.cuda.max_memory_allocated() / 2**30
    ours, trainer = (measured[f"{name}_seconds_of_an_epoch"] for name in ("ours", "trainer"))
    return {
        "ratio": trainer / ours, "rows_per_s": len(rows) / ours, "operations_per_s": operations / ours, **measured,
    }  # fmt: skip


class StepProfile(Callback):
    """Profiles some steps of a fit; writes what their kernels take.

    Args:
        folder: Where the table is put, as `large_step.txt`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._profile: Any = None

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Begin after the step before the first of these, and end after the last."""
        if trainer.global_step == PROFILED.start:
            _wait()
            self._profile = torch.profiler.profile()
            self._profile.start()
        elif trainer.global_step == PROFILED.stop:
            _wait()
            self._profile.stop()
            table = self._profile.key_averages().table("self_device_time_total", row_limit=60)
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "large_step.txt").write_text(f"{len(PROFILED)} steps\n{table}", encoding="utf-8")


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


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
