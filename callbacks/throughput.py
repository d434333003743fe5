"""How fast a run goes, how much of it is padding, and the memory and energy that it takes."""

import logging
import sys
import time
from collections import Counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from labelbridge.lightning_app.core.ranges import NonNegativeFloat, check_ranges
from labelbridge.lightning_app.protocols import Counts, PlansBatches, StepRows

from .energy import EnergyMeter, counters_of

log = logging.getLogger(__name__)


class Throughput(Callback):
    """Logs rows/s, tokens/s, the share of padding and the learning rate; in predict and test, rows done and ETA.

    Rates count this process's rows times the number of ranks, over the time between reports that was spent on
    batches (validations are left out). `throughput/peak_memory_gb` is the most that torch has allocated on this
    process's GPU so far or, on a CPU, the most memory that this process has held, in units of 2^30 bytes. Where the
    machine counts it, `throughput/energy_wh` is the energy in watt-hours since this start of the fit, validations
    included, of everything that runs on the device: of this process's GPU times the number of ranks, or of this
    machine's processors times the number of nodes.

    Args:
        report_seconds: Time between two lines in predict and test.
    """

    @check_ranges("throughput.")
    def __init__(self, report_seconds: NonNegativeFloat = 30.0) -> None:
        self.report_seconds = report_seconds
        self._meter = EnergyMeter([])
        self._reset()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the energy counters."""
        self._meter = EnergyMeter(counters_of(trainer.strategy.root_device))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock."""
        self._batch_started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch, and log at the Trainer's `log_every_n_steps`."""
        counts = Counts(batch["n_rows"], batch["n_tokens"], batch["n_cells"])
        self._count(counts, time.perf_counter() - self._batch_started)
        self._meter.keep_up()
        if batch["ends_window"] and trainer.global_step % self._every(trainer) == 0:
            device = trainer.strategy.root_device
            rates = {**self._rates(trainer.world_size), **_peak_memory(device), **self._energy(trainer)}
            rates["train/learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
            pl_module.log_dict(rates, batch_size=1)
            self._reset()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Keep up with the energy counters, which start over during a long validation."""
        self._meter.keep_up()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the memory and energy of the fit, with its last validation."""
        taken = {**_peak_memory(trainer.strategy.root_device), **self._energy(trainer)}
        for logger in trainer.loggers if taken else []:
            logger.log_metrics(taken, step=trainer.global_step)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start(trainer.predict_dataloaders)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start(trainer.test_dataloaders)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Count a batch."""
        self._progress(trainer, outputs)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Count a batch."""
        self._progress(trainer, outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how it went."""
        self._say(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how it went."""
        self._say(trainer)

    @staticmethod
    def _every(trainer: Trainer) -> int:
        return max(int(trainer.log_every_n_steps), 1)  # type: ignore[attr-defined] # the Trainer's __init__ sets it

    def _energy(self, trainer: Trainer) -> dict[str, float]:
        watt_hours = self._meter.watt_hours()
        devices = trainer.num_nodes if trainer.strategy.root_device.type == "cpu" else trainer.world_size
        return {} if watt_hours is None else {"throughput/energy_wh": devices * watt_hours}

    def _start(self, loader: Any) -> None:
        self._reset()
        self._began = self._said = time.perf_counter()
        sampler = loader.sampler if isinstance(loader, DataLoader) else None
        self._expected = sum(len(rows) for rows in sampler.batches) if isinstance(sampler, PlansBatches) else 0

    def _progress(self, trainer: Trainer, step: StepRows) -> None:
        now = time.perf_counter()
        self._count(step["counts"], 0.0)
        self._seconds = now - self._began
        if now - self._said >= self.report_seconds:
            self._say(trainer)
            self._said = now

    def _say(self, trainer: Trainer) -> None:
        if trainer.global_rank or not self._rows:
            return
        rates = self._rates(trainer.world_size)
        left = (self._expected - self._rows) * self._seconds / self._rows
        classes = "".join(f", {label} {count}" for label, count in sorted(self._classes.items()))
        log.info(
            "%d of %d rows, %.0f rows/s, %.0f tokens/s, %.0f %% padding, %d s to go%s",
            self._rows, self._expected, rates["throughput/rows_per_s"], rates["throughput/tokens_per_s"],
            100 * rates["throughput/padding_share"], round(left), classes,
        )  # fmt: skip

    def _count(self, counts: Counts, seconds: float) -> None:
        self._rows += counts.rows
        self._tokens += counts.tokens
        self._cells += counts.cells
        self._seconds += seconds
        self._classes.update(counts.labels)

    def _rates(self, world_size: int) -> dict[str, float]:
        seconds = max(self._seconds, 1e-9)
        return {
            "throughput/rows_per_s": world_size * self._rows / seconds,
            "throughput/tokens_per_s": world_size * self._tokens / seconds,
            "throughput/padding_share": 1 - self._tokens / max(self._cells, 1),
        }

    def _reset(self) -> None:
        self._rows = self._tokens = self._cells = self._expected = 0
        self._seconds = self._batch_started = self._began = self._said = 0.0
        self._classes: Counter[str] = Counter()  # where the rows are prompts


def _peak_memory(device: torch.device) -> dict[str, float]:
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    elif sys.platform == "win32":  # its Python has no `resource`
        return {}
    else:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)
    return {"throughput/peak_memory_gb": peak / 2**30}
