"""Training dynamics as they happen: the model's probabilities for the same rows after every epoch."""

# N = rows, C = classes, B = rows of a batch

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from callbacks.data_map import data_map
from lightning_app import artifacts, dynamics
from lightning_app.dynamics import ScoredRows
from lightning_app.runs import command_line

log = logging.getLogger(__name__)

Score = Callable[[LightningModule, Any], tuple[Tensor, Tensor]]


class CartographyCallback(Callback):
    """Scores sets of rows with the current weights at the end of every epoch, and keeps the log-probabilities.

    It changes nothing in the training: no gradient, no dropout, no draw from the run's random numbers; the weights at
    the end have the same bits with and without it. A resumed run discards the epochs behind its checkpoint.

    In a Lightning project of your own, give `rows` and `score`:

        CartographyCallback(
            out="runs/mine",
            rows={"pool": ScoredRows(loader, ids, labels)},
            score=lambda module, batch: (batch["row"], module(batch["x"]).log_softmax(dim=1)),
        )

    The loader must give every row once over all ranks. `lightning_app.dynamics.read_dynamics` and `statistics` read
    what it wrote.

    Args:
        out: The run's output folder; set NAME is written to `out/dynamics` (pool) or `out/dynamics-NAME`.
        rows: Set name -> rows; by default what the DataModule's `cartography_rows()` gives (none: nothing happens).
        score: From module and batch to row numbers (B,) and log-probabilities (B, C); by default the module's
            `score_rows(batch)`.
        every_n_steps: Score also after so many optimizer steps; statistics are then over checks, not epochs.
        before_training: Score also before the first step.
        dtype: `float16` halves the files.
        figure: Draw the data map after every epoch (TensorBoard, `data_map.png` and `.svg` beside the dynamics).
    """

    def __init__(
        self,
        out: str,
        rows: Any = None,
        score: Any = None,
        every_n_steps: int | None = None,
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
        self._checks = 0

    def folder(self, name: str) -> Path:
        """Where a set's dynamics are written."""
        return self.out / ("dynamics" if name == "pool" else f"dynamics-{name}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the rows, discard what a killed run wrote behind its checkpoint, and score once if asked to."""
        if trainer.is_global_zero:
            for name, rows in self._rows(trainer).items():
                folder = self.folder(name)
                folder.mkdir(parents=True, exist_ok=True)
                (folder / artifacts.MANIFEST).unlink(missing_ok=True)
                dynamics.discard_from(folder, self._checks)
                artifacts.write_parquet(folder / dynamics.IDS, pa.table({"id": pa.array(rows.ids, pa.string())}))
        if self.before_training and self._checks == 0:
            self._check(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Score after every `every_n_steps` steps, once for each."""
        stepped = not trainer.fit_loop._should_accumulate()
        if self.every_n_steps is not None and stepped and trainer.global_step % self.every_n_steps == 0:
            self._check(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score after the epoch."""
        self._check(trainer, pl_module)
        if self.figure and trainer.is_global_zero:
            self._draw(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the manifests: the dynamics are whole.

        A run that was killed after its last checkpoint comes here without training.
        """
        if not trainer.is_global_zero or self._checks == 0:
            return
        for name, rows in self._rows(trainer).items():
            facts = {"labels": list(rows.labels), "dtype": self.dtype, "rows": len(rows.ids), "reference": rows.says}
            dynamics.finish(self.folder(name), facts, inputs=rows.inputs, command=command_line())
            log.info("%s: %d checks of %d rows", self.folder(name), self._checks, len(rows.ids))

    def state_dict(self) -> dict[str, Any]:
        """How many checks are on the disk."""
        return {"checks": self._checks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind them."""
        self._checks = state_dict["checks"]

    def _rows(self, trainer: Trainer) -> dict[str, ScoredRows]:
        """The sets that were given, or those of the DataModule."""
        if self.rows is None:
            given: dict[str, Any] = getattr(getattr(trainer, "datamodule", None), "cartography_rows", dict)()
            self.rows = {name: ScoredRows(**one) for name, one in given.items()}
        return self.rows

    def _check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, rows in self._rows(trainer).items():
            self._score(trainer, pl_module, self.folder(name), rows)
        self._checks += 1

    def _score(self, trainer: Trainer, pl_module: LightningModule, folder: Path, rows: ScoredRows) -> None:
        """Score one set; each rank its own rows, put together by rank 0."""
        numbers, log_probs = [], []
        precision = trainer.precision_plugin
        # A DataLoader draws a number when it is begun, and more if it shuffles.
        with isolate_rng(), _at_rest(pl_module), torch.no_grad(), precision.forward_context():
            for batch in rows.loader:
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
            dynamics.write_epoch(folder, self._checks, ordered, list(rows.labels), self.dtype)

    def _draw(self, trainer: Trainer) -> None:
        for name, rows in self._rows(trainer).items():
            folder = self.folder(name)
            checks = [artifacts.read_parquet(file) for file in sorted(folder.glob("epoch-*.parquet"))]
            log_probs = [np.column_stack([table[label].to_numpy() for label in rows.labels]) for table in checks]
            reference_N = log_probs[-1].argmax(axis=1) if rows.reference is None else rows.reference
            figure = data_map(dynamics.statistics(log_probs, reference_N), reference_N, list(rows.labels), name)
            for suffix in ("png", "svg"):
                figure.savefig(folder / f"data_map.{suffix}", dpi=150)
            for logger in trainer.loggers:
                add_figure = getattr(getattr(logger, "experiment", None), "add_figure", None)
                if add_figure is not None:
                    add_figure(f"data_map/{name}", figure, global_step=trainer.global_step)


def _score_rows(module: LightningModule, batch: Any) -> tuple[Tensor, Tensor]:
    score_rows: Score = type(module).score_rows  # type: ignore[attr-defined] # the caller gives `score` where it lacks
    return score_rows(module, batch)


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
    """Rank 0 gets the rows of all ranks, through files; the others keep their own."""
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
        for file in files:
            file.unlink()
    trainer.strategy.barrier()
    return row_N, log_probs_NC
