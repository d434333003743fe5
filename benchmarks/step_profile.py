"""Where a training step goes, before and after: the Hugging Face Trainer with its defaults, and a fit of ours.

Writes a table of operators in Markdown, `runs/benchmarks/step_profile.md`.
"""

# V = the vocabulary, K = its rows that are trained, D = width

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch.profiler import ProfilerActivity, profile
from transformers import AutoTokenizer, DataCollatorWithPadding, TrainerCallback, TrainingArguments, set_seed
from transformers import Trainer as HuggingFaceTrainer

from benchmarks import training
from benchmarks._rows import SENTIMENT, rows_of
from labelbridge.datamodules import GoldDataModule
from labelbridge.lightning_app.cli.memory import keep_freed_memory
from labelbridge.lightning_app.models.locate import locate
from labelbridge.modules import TeacherModule
from labelbridge.modules.trained_rows import trained_embeddings

WARM = 2  # steps before the profile
TABLE = Path("runs/benchmarks/step_profile.md")
SHOWN = 12  # operators of each side
# What an operator belongs to, by parts of its name; the first that fits.
KINDS: dict[str, tuple[str, ...]] = {
    "AdamW": ("adam",),
    "attention": ("attention",),
    "matrix products": ("mm", "linear", "matmul"),
    "gradient norm and scaling": ("norm_except", "foreach_norm", "vector_norm", "foreach_mul", "clip_grad"),
    "normalisation, softmax, GELU": ("layer_norm", "softmax", "gelu", "tanh"),
    "dropout": ("dropout", "_Dropped", "bernoulli", "random_"),
    "embeddings": ("embedding",),
    "filling with zeros": ("zero", "fill_"),
    "copies and casts": ("copy", "clone", "_to_"),
}


@dataclass(frozen=True)
class Profile:
    """What some steps took.

    Args:
        step_ms: Milliseconds of a step by the clock, the batch's preparation included.
        operators: Operator -> milliseconds of a step that it took itself: of the CPU's threads, or of the GPU.
        embeddings: Rows and columns of the trained word embeddings.
    """

    step_ms: float
    operators: dict[str, float]
    embeddings: tuple[int, int]

    @property
    def total_ms(self) -> float:
        """Of all operators."""
        return sum(self.operators.values())


def run(full: bool = False) -> dict[str, Any]:
    """Profile 4 steps of 32 rows as long as SST5's (`full`: 12), in float32 on a CPU both, after 2 that warm up.

    The Trainer pads random batches of 32 and moves every word embedding; a fit of ours packs the batch, on a CPU in a
    part for each thread, and moves those that occur. Operators are those of all threads together. `ratio`: a step there
    over a step of ours, by the clock, under the profiler. For the word embeddings alone, what filling their gradient
    with zeros, its norm and scaling, and AdamW take is measured by itself (`plain_embeddings_ms`,
    `our_embeddings_ms`).
    """
    keep_freed_memory()
    plain, ours = compare("bundled", steps=12 if full else 4)
    costs = {name: embedding_costs(*side.embeddings) for name, side in (("plain", plain), ("our", ours))}
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(table(plain, ours, costs["plain"], costs["our"]), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"), flush=True)
    return {
        "ratio": plain.step_ms / ours.step_ms, "plain_step_ms": plain.step_ms, "our_step_ms": ours.step_ms,
        **{f"{name}_embeddings_ms": sum(cost.values()) for name, cost in costs.items()},
        "our_preparation_ms": preparation_ms("bundled", batches=64 if full else 16),
    }  # fmt: skip


def compare(model: str, steps: int) -> tuple[Profile, Profile]:
    """Profiles of the Trainer and of ours."""
    rows = rows_of(SENTIMENT, training.ROWS * (WARM + steps))
    with tempfile.TemporaryDirectory() as folder:
        return _plain(rows, model, steps, Path(folder)), _ours(rows, model, steps, Path(folder))


class _Clock:
    """A profile between two steps, and the time between them."""

    def __init__(self, steps: int) -> None:
        on_gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        every_thread = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
        self.profile = profile(activities=[ProfilerActivity.CPU, *on_gpu], experimental_config=every_thread)
        self.steps = steps
        self.step_ms = 0.0
        self._began = 0.0

    def after_step(self, number: int) -> None:
        """Begin after the steps that warm up, and end after the others."""
        if number == WARM:
            self.profile.start()
            self._began = time.perf_counter()
        elif number == WARM + self.steps:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.step_ms = 1e3 * (time.perf_counter() - self._began) / self.steps
            self.profile.stop()

    def result(self, embeddings: torch.Tensor) -> Profile:
        """What has been seen."""
        name = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        taken = {event.key: getattr(event, name) / 1e3 / self.steps for event in self.profile.key_averages()}
        rows, width = embeddings.shape
        # `Optimizer.step#AdamW.step` is a span, to which Lightning's Python in the forward pass counts, and `_InParts`
        # waits for threads; they are no operators.
        operators = {key: ms for key, ms in taken.items() if ms > 0 and "#" not in key and "_InParts" not in key}
        return Profile(self.step_ms, operators, (rows, width))


def _plain(rows: list[dict[str, str]], model: str, steps: int, folder: Path) -> Profile:
    set_seed(0)
    clock = _Clock(steps)

    class After(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.after_step(state.global_step)

    tokenizer = AutoTokenizer.from_pretrained(locate(model))
    longest = min(128, tokenizer.model_max_length)
    encoded = [
        {**tokenizer(row["text"], truncation=True, max_length=longest), "labels": SENTIMENT.labels.index(row["label"])}
        for row in rows
    ]
    settings = TrainingArguments(
        str(folder), per_device_train_batch_size=training.ROWS, num_train_epochs=1, save_strategy="no", report_to=[],
        disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    network = training._classifier(SENTIMENT, model)
    HuggingFaceTrainer(
        model=network, args=settings, train_dataset=encoded, data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[After()],
    ).train()  # fmt: skip
    return clock.result(network.get_input_embeddings().weight)


def _ours(rows: list[dict[str, str]], model: str, steps: int, folder: Path) -> Profile:
    seed_everything(0, verbose=False)
    clock = _Clock(steps)

    class After(Callback):
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            clock.after_step(trainer.global_step)
            self.embeddings = trained_embeddings(pl_module.network, model)

    after = After()
    gold = training._write(rows, folder)
    data = GoldDataModule(task=SENTIMENT, model=model, train=gold, dev=gold, batch_size=training.ROWS)
    module = TeacherModule(task=SENTIMENT, model=model)
    Trainer(
        default_root_dir=folder, max_epochs=1, gradient_clip_val=1.0, callbacks=[after], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, limit_val_batches=0,
    ).fit(module, datamodule=data)  # fmt: skip
    return clock.result(after.embeddings)


def embedding_costs(rows: int, width: int, times: int = 5) -> dict[str, float]:
    """Milliseconds of what a step does with word embeddings beside the lookup; medians.

    Args:
        rows: Trained rows.
        width: D.
        times: How often each is measured.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    matrix = torch.nn.Parameter(torch.randn(rows, width, device=device))
    matrix.grad = torch.randn_like(matrix)
    optimizer = torch.optim.AdamW([matrix], fused=True)
    work: dict[str, Callable[[], Any]] = {
        "filling with zeros": lambda: torch.zeros_like(matrix),
        "gradient norm and scaling": lambda: torch.nn.utils.clip_grad_norm_([matrix], 1.0),
        "AdamW": optimizer.step,
    }
    return {name: statistics.median(_ms(one) for _ in range(times + 1)) for name, one in work.items()}


def preparation_ms(model: str, batches: int) -> float:
    """Milliseconds in which the main process cuts, pads and makes the tensors of a training batch of 32 rows."""
    with tempfile.TemporaryDirectory() as folder:
        gold = training._write(rows_of(SENTIMENT, training.ROWS * batches), Path(folder))
        data = GoldDataModule(task=SENTIMENT, model=model, train=gold, dev=gold, batch_size=training.ROWS)
        data.trainer = Trainer(default_root_dir=folder, logger=False, accelerator="cpu", enable_progress_bar=False)
        data.setup("fit")
        loader = data.train_dataloader()
        began = time.perf_counter()
        count = sum(1 for _ in loader)
        return 1e3 * (time.perf_counter() - began) / count


def _ms(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - began)


def kind_of(operator: str) -> str:
    """What an operator belongs to."""
    return next((kind for kind, parts in KINDS.items() if any(part in operator for part in parts)), "others")


def table(plain: Profile, ours: Profile, plain_costs: Mapping[str, float], our_costs: Mapping[str, float]) -> str:
    """Both profiles as two tables in Markdown: kinds of work with the embeddings' part, and operators."""
    sides = (plain, ours)
    kinds = [dict.fromkeys((*KINDS, "others"), 0.0) for _ in sides]
    for side, sums in zip(sides, kinds, strict=True):
        for operator, ms in side.operators.items():
            sums[kind_of(operator)] += ms
    lines = ["| | Hugging Face Trainer, ms | share | ours, ms | share |", "|---|---|---|---|---|"]
    lines.append(_line("a step, by the clock", [(side.step_ms, None) for side in sides]))
    for kind in sorted(kinds[0], key=lambda kind: -kinds[0][kind]):
        lines.append(_line(kind, [(sums[kind], side.total_ms) for sums, side in zip(kinds, sides, strict=True)]))
        if kind in plain_costs:
            costs = ((plain_costs[kind], plain.total_ms), (our_costs[kind], ours.total_ms))
            lines.append(_line(f"{kind}: word embeddings alone, by themselves", costs))
    rows = [f"{side.embeddings[0]:,} x {side.embeddings[1]}" for side in sides]
    lines.append(f"| trained word embeddings | {rows[0]} | | {rows[1]} | |")
    lines += ["", "| operator, time of its own | Hugging Face Trainer, ms | share | ours, ms | share |"]
    lines.append("|---|---|---|---|---|")
    top = [sorted(side.operators, key=lambda name, side=side: -side.operators[name])[:SHOWN] for side in sides]
    for name in dict.fromkeys([*top[0], *top[1]]):
        lines.append(_line(f"`{name}`", [(side.operators.get(name, 0.0), side.total_ms) for side in sides]))
    return "\n".join([*lines, ""])


def _line(name: str, values: Any) -> str:
    cells = [
        cell
        for ms, total in values
        for cell in (f"{ms:.3g}" if ms < 100 else f"{ms:.0f}", "" if total is None else f"{100 * ms / total:.1f} %")
    ]
    return f"| {name} | {' | '.join(cells)} |"
