"""Training dynamics as they happen: the model's probabilities for the same rows after every epoch."""

# N = rows, C = classes, B = rows of a batch

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import SequentialSampler

from labelbridge.lightning_app.boards.show import show_figure
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.ranges import PositiveInt, check_ranges
from labelbridge.lightning_app.core.runs import command_line
from labelbridge.lightning_app.dynamics import store
from labelbridge.lightning_app.dynamics.data_map import data_map
from labelbridge.lightning_app.dynamics.statistics import statistics
from labelbridge.lightning_app.dynamics.store import ScoredRows
from labelbridge.lightning_app.protocols import HasScoredRows, ScoresRows, datamodule_of

log = logging.getLogger(__name__)

Score = Callable[[LightningModule, Any], tuple[Tensor, Tensor]]


class CartographyCallback(Callback):
    """Scores sets of rows with the current weights at the end of every epoch, and keeps the log-probabilities.

    It changes nothing in the training: no gradient, no dropout, no draw from the run's random numbers; the weights at
    the end have the same bits with and without it. A resumed run discards epochs recorded after its checkpoint.

    In a Lightning project of your own, give `rows` and `score`:

        CartographyCallback(
            out="runs/mine",
            rows={"pool": ScoredRows(loader, ids, labels)},
            score=lambda module, batch: (batch["row"], module(batch["x"]).log_softmax(dim=1)),
        )

    The loader gives every row once. On several devices each takes its share of the batches of a plain loader; one with
    a sampler of its own, such as a `DistributedSampler`, is taken as it is. `read_dynamics` in
    `labelbridge.lightning_app.dynamics.store` reads what was written, and `statistics` beside it what that says.

    Args:
        out: The run's output folder; set NAME is written to `out/dynamics` (pool) or `out/dynamics-NAME`.
        rows: Set name -> rows; by default what the DataModule's `cartography_rows()` gives (none: nothing happens).
        score: From module and batch to row numbers (B,) and log-probabilities (B, C); by default the module's
            `score_rows(batch)`.
        every_n_steps: Score also after so many optimizer steps; statistics are then over checks, not epochs. Weights
            are never scored twice: where an epoch ends with such a step, there is one check.
        before_training: Score also before the first step.
        dtype: `float16` halves the files.
        figure: Draw the data map after every epoch (also on the board; `data_map.png` and `.svg` in `out`, for set NAME
            `data_map-NAME`).
    """

    @check_ranges("cartography.")
    def __init__(
        self,
        out: str,
        rows: Any = None,
        score: Any = None,
        every_n_steps: PositiveInt | None = None,
        before_training: bool = False,
        dtype: Literal["float32", "float16"] = "float32",
        figure: bool = True,
    ) -> None:
        self.out = Path(out)
        self.rows: dict[str, ScoredRows] | None = rows
        self.score: Score = score or _score_rows
        self.every_n_steps = every_n_steps
        self.before_training = before_training
        self.dtype = dtype
        self.figure = figure
        self._steps: list[int] = []
        self._epochs = 0

    def identity(self) -> dict[str, Any]:
        """What of this callback determines the dynamics and is not as usual; JSON values."""
        own = {"every_n_steps": self.every_n_steps, "before_training": self.before_training, "dtype": self.dtype}
        usual = {"every_n_steps": None, "before_training": False, "dtype": "float32"}
        return {name: value for name, value in own.items() if value != usual[name]}

    def folder(self, name: str) -> Path:
        """Where a set's dynamics are written."""
        return self.out / ("dynamics" if name == "pool" else f"dynamics-{name}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the rows, discard what a killed run wrote after its checkpoint, and score once if asked to."""
        if trainer.global_step == 0:
            self._steps, self._epochs = [], 0  # a callback may be used for one fit after another
        if trainer.is_global_zero:
            for name, rows in self._rows(trainer).items():
                folder = self.folder(name)
                folder.mkdir(parents=True, exist_ok=True)
                (folder / artifacts.MANIFEST).unlink(missing_ok=True)
                store.discard_from(folder, len(self._steps))
                store.write_ids(folder, rows)
        # Lightning leaves the hooks at an epoch's end out when it resumes from a checkpoint of the last step.
        missed = trainer.current_epoch > self._epochs
        self._epochs = trainer.current_epoch
        if missed or (self.before_training and trainer.global_step == 0):
            self._check(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Score after every `every_n_steps` steps."""
        if self.every_n_steps is not None and trainer.global_step and trainer.global_step % self.every_n_steps == 0:
            self._check(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score after the epoch."""
        self._epochs += 1
        self._check(trainer, pl_module)
        if self.figure and trainer.is_global_zero:
            self._draw(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the manifests: the dynamics are whole.

        A run that was killed after its last checkpoint comes here without training.
        """
        if not trainer.is_global_zero or not self._steps:
            return
        for name, rows in self._rows(trainer).items():
            facts = {
                "labels": list(rows.labels), "dtype": self.dtype, "rows": len(rows.ids), "reference": rows.says,
                "steps": self._steps,
            }  # fmt: skip
            store.finish(self.folder(name), facts, inputs=rows.inputs, command=command_line())
            log.info("%s: %d checks of %d rows", self.folder(name), len(self._steps), len(rows.ids))

    def state_dict(self) -> dict[str, Any]:
        """After which optimizer steps the checks on the disk were made."""
        return {"steps": list(self._steps), "epochs": self._epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume after them."""
        self._steps, self._epochs = list(state_dict["steps"]), state_dict["epochs"]

    def _rows(self, trainer: Trainer) -> dict[str, ScoredRows]:
        """The sets that were given, or those of the DataModule."""
        if self.rows is None:
            data = datamodule_of(trainer)
            given = data.cartography_rows() if isinstance(data, HasScoredRows) else {}
            self.rows = {name: ScoredRows(**one) for name, one in given.items()}
        return self.rows

    def _check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._steps and self._steps[-1] == trainer.global_step:
            return  # a later micro-batch of the same step, or the end of an epoch right behind it
        for name, rows in self._rows(trainer).items():
            self._score(trainer, pl_module, self.folder(name), rows)
        self._steps.append(trainer.global_step)

    def _score(self, trainer: Trainer, pl_module: LightningModule, folder: Path, rows: ScoredRows) -> None:
        """Score one set; each rank its own rows, put together by rank 0."""
        numbers, log_probs = [], []
        precision = trainer.precision_plugin
        # A DataLoader draws a number when it is begun, and more if it shuffles.
        with isolate_rng(), _at_rest(pl_module), torch.no_grad(), precision.forward_context():
            for batch in _own_batches(rows.loader, trainer):
                moved = trainer.strategy.batch_to_device(precision.convert_input(batch))
                row_B, log_probs_BC = self.score(pl_module, moved)
                numbers.append(row_B.cpu().numpy())
                log_probs.append(log_probs_BC.float().cpu().numpy())
        row_N = np.concatenate(numbers) if numbers else np.empty(0, dtype=np.int64)
        log_probs_NC = np.concatenate(log_probs) if log_probs else np.empty((0, len(rows.labels)), dtype=np.float32)
        if trainer.world_size > 1:
            row_N, log_probs_NC = _from_all_ranks(trainer, folder, row_N, log_probs_NC)
        if trainer.is_global_zero:
            if not np.array_equal(np.sort(row_N), np.arange(len(rows.ids))):
                raise ValueError(f"{folder}: {len(row_N)} rows scored, expected each of {len(rows.ids)} once")
            ordered = np.empty_like(log_probs_NC)
            ordered[row_N] = log_probs_NC
            _check_log_probs(ordered, rows)
            store.write_epoch(folder, len(self._steps), ordered, list(rows.labels), self.dtype)

    def _draw(self, trainer: Trainer) -> None:
        for name, rows in self._rows(trainer).items():
            folder = self.folder(name)
            checks = store.read_checks(folder, list(rows.labels))
            reference_N = store.last_check(folder, list(rows.labels)).argmax(axis=1)
            reference_N = reference_N if rows.reference is None else np.asarray(rows.reference)
            figure = data_map(statistics(checks, reference_N), reference_N, list(rows.labels), name, rows.says)
            for suffix in ("png", "svg"):  # not in the folder, where a Parquet reader would stumble over them
                figure.savefig(self.out / f"{folder.name.replace('dynamics', 'data_map')}.{suffix}", dpi=150)
            show_figure(trainer.loggers, f"figures/data_map/{name}", figure, trainer.global_step)


def _score_rows(module: LightningModule, batch: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(module, ScoresRows):
        raise TypeError(
            f"{type(module).__name__} has no score_rows(batch); give CartographyCallback a `score`, from module and "
            "batch to row numbers and log-probabilities"
        )
    return module.score_rows(batch)


def _own_batches(loader: Any, trainer: Trainer) -> Iterable[Any]:
    """This rank's batches: all that the loader gives, unless it is a plain one, which gives all ranks the same."""
    if trainer.world_size > 1 and isinstance(getattr(loader, "sampler", None), SequentialSampler):
        return islice(loader, trainer.global_rank, None, trainer.world_size)
    batches: Iterable[Any] = loader
    return batches


def _check_log_probs(log_probs_NC: np.ndarray, rows: ScoredRows) -> None:
    """Refuse what is not log-probabilities.

    Raises:
        ValueError: If a row's exponentials do not sum to 1, or there are more or fewer classes than labels.
    """
    if log_probs_NC.shape[1:] != (len(rows.labels),):
        raise ValueError(f"score gave {log_probs_NC.shape[1:]} numbers a row, expected one for each of {rows.labels}")
    with np.errstate(over="ignore"):
        sums_N = np.exp(log_probs_NC).sum(axis=1)
    wrong = ~(np.abs(sums_N - 1) <= store.SUM_TOLERANCE)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"row '{rows.ids[row]}': score gave {log_probs_NC[row].tolist()}, whose exponentials sum to "
            f"{sums_N[row]:.4g}, expected 1; return log-probabilities, such as logits.log_softmax(dim=1)"
        )


@contextmanager
def _at_rest(module: LightningModule) -> Iterator[None]:
    """Every submodule in evaluation mode, and back in its own."""
    training = {one: one.training for one in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for one, mode in training.items():
            one.training = mode


def _from_all_ranks(
    trainer: Trainer, folder: Path, row_N: np.ndarray, log_probs_NC: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rank 0 gets the rows of all ranks, through files; the others keep their own.

    A `DistributedSampler` evens the ranks out with rows that another has too: of those the first is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mine = folder / f".rank-{trainer.global_rank}.parquet"
    columns = {f"c{one}": log_probs_NC[:, one] for one in range(log_probs_NC.shape[1])}
    artifacts.write_parquet(mine, pa.table({"row": row_N, **columns}))
    trainer.strategy.barrier()
    if trainer.is_global_zero:
        files = [folder / f".rank-{rank}.parquet" for rank in range(trainer.world_size)]
        merged = pa.concat_tables([artifacts.read_parquet(file) for file in files])
        row_N = merged["row"].to_numpy()
        log_probs_NC = np.column_stack([merged[name].to_numpy() for name in columns])
        row_N, first = np.unique(row_N, return_index=True)
        log_probs_NC = log_probs_NC[first]
        for file in files:
            file.unlink()
    trainer.strategy.barrier()
    return row_N, log_probs_NC
