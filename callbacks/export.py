"""The best model of a run, as a Hugging Face folder."""

import math
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from transformers.utils import logging as transformers_logging

from labelbridge.lightning_app.calibration.priors import prior_vector
from labelbridge.lightning_app.core.artifacts import follow_umask, write_json
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.ranges import Range, check_ranges
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.models.card import model_card
from labelbridge.lightning_app.models.correction import (
    Correction,
    conformal_facts,
    dev_confusion,
    fit_correction,
    gold_prior,
)
from labelbridge.lightning_app.models.head import corrected_head
from labelbridge.lightning_app.models.locate import CARD_FACTS


class ExportBest(Callback):
    """Exports the model after each check on the source dev set that beats all earlier ones; of equals the first.

    The folder holds what the module's `save` writes (safetensors, `id2label` in the task's order), the tokenizer, a
    model card and `labelbridge.json`; it loads in `transformers.pipeline`.

    Args:
        out: The run's output folder; linked to `out`. The model lies in `out/model`.
        monitor: The metric to choose by.
        mode: Whether more or less of it is better.
        dtype: Type of the weights in the folder: `bfloat16` halves its size, and rounds each weight to 8 bits of
            precision; training continues in the network's own type.
        choose: `best`, or `last`: every check is exported, so that the last one stays, whatever its value.
        temperature: Fit a temperature on the source dev set at every export, and divide the head's weights by it.
        prior: A label prior for the exported model: `uniform`, or a map from label to share. The head's bias gets
            -log(gold's class shares) + log(prior), after the temperature, so that `pipeline` gives corrected
            probabilities. The metrics on the source dev set are those before the correction.
        conformal_alpha: Calibrate split-conformal sets on the source dev set, under the exported head, that may miss
            the true label this often; a test then reports how often they do on each target, and how large they are.
    """

    @check_ranges("export.")
    def __init__(
        self,
        out: str,
        monitor: str = "dev/accuracy",
        mode: Literal["max", "min"] = "max",
        dtype: Literal["float32", "bfloat16"] = "float32",
        choose: Literal["best", "last"] = "best",
        temperature: bool = False,
        prior: Literal["uniform"] | dict[str, float] | None = None,
        conformal_alpha: Annotated[float, Range(above=0, below=1)] | None = None,
    ) -> None:
        if mode not in ("max", "min"):
            raise InputError(f"export.mode is {mode!r}, expected max or min")
        self.folder = Path(out) / "model"
        self.monitor = monitor
        self.mode = mode
        self.dtype = dtype
        self.choose = choose
        self.temperature = temperature
        self.prior = prior
        self.conformal_alpha = conformal_alpha
        self.facts: dict[str, Any] = {}
        self._best = -math.inf if mode == "max" else math.inf
        self._record: dict[str, Any] = {}

    def identity(self) -> dict[str, Any]:
        """What of this callback determines the exported weights."""
        more = {
            "choose": self.choose, "temperature": self.temperature, "prior": self.prior,
            "conformal_alpha": self.conformal_alpha,
        }  # fmt: skip
        usual = {"choose": "best", "temperature": False, "prior": None, "conformal_alpha": None}
        changed = {name: value for name, value in more.items() if value != usual[name]}
        return {"monitor": self.monitor, "mode": self.mode, "dtype": self.dtype, **changed}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take up a folder whose exchange was cut short; refuse a label prior that cannot be written."""
        if stage == "fit" and (self.prior is not None or self.temperature or self.conformal_alpha is not None):
            gold_prior(self.facts, self.prior, "export.prior")
            if self.prior is not None:
                prior_vector(self.prior, Task(**self.facts["task"]), "export.prior")
        if stage == "fit" and trainer.is_global_zero and self._previous.is_dir():
            if self.folder.is_dir():
                shutil.rmtree(self._previous)
            else:
                self._previous.rename(self.folder)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a metric that the first dev check does not log, before an epoch is lost."""
        self._check_monitor([name for name in trainer.callback_metrics if name.startswith("dev/")])

    def _check_monitor(self, logged: Collection[str]) -> None:
        if logged and self.monitor not in logged:
            names = ", ".join(sorted(logged))
            raise InputError(f"export.monitor '{self.monitor}': not logged, expected one of {names}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Have the last of `max_steps` checked wherever in an epoch it falls: Lightning checks before it stops."""
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export, if this is the best check so far."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("dev/")}
        self._check_monitor(metrics)
        value = metrics[self.monitor]
        better = value > self._best if self.mode == "max" else value < self._best
        if better or self.choose == "last":
            self._best = value
            self._record = {
                "step": trainer.global_step,
                "epoch": trainer.current_epoch,
                "monitor": self.monitor,
                "dev": metrics,
            }
            self.export(trainer, pl_module)
            kind = "best so far" if better else "the last so far"
            rank_zero_info(f"step {trainer.global_step}: {self.monitor} {value:.4f}, {kind} -> {self.folder}")

    def state_dict(self) -> dict[str, Any]:
        """The best check so far."""
        return {"best": self._best, "record": self._record}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from the best check so far."""
        self._best, self._record = state_dict["best"], state_dict["record"]

    @rank_zero_only
    def export(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folder under another name, then exchange the two."""
        temporary = self.folder.with_name(".model.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        module: Any = pl_module
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined] # `fit` sets it
        transformers_logging.disable_progress_bar()
        facts = {**self.facts, **self._record}
        if "gold_counts" in facts:  # a classifier's
            facts["dev_confusion"] = dev_confusion(*module.dev_rows)
        correction = self._correction(module)
        if correction is None:
            module.save(temporary, getattr(torch, self.dtype))
        else:
            with corrected_head(module.network, correction.temperature, correction.shift_C, str(self.folder)):
                module.save(temporary, getattr(torch, self.dtype))
            facts.update(correction.facts)
        if self.conformal_alpha is not None:
            logits_NC, labels_N = module.dev_rows
            facts["conformal"] = conformal_facts(logits_NC, labels_N, correction, self.conformal_alpha)
        datamodule.tokenizer.save_pretrained(temporary)
        write_json(temporary / CARD_FACTS, facts)
        (temporary / "README.md").write_text(model_card(facts), encoding="utf-8")
        follow_umask(temporary)
        if self.folder.exists():
            self.folder.rename(self._previous)
        temporary.rename(self.folder)
        shutil.rmtree(self._previous, ignore_errors=True)

    def _correction(self, module: Any) -> Correction | None:
        """What the exported head is corrected by; fitted on the check that has just ended."""
        if self.prior is None and not self.temperature:
            return None
        return fit_correction(
            self.facts, self.prior, "export.prior", *(module.dev_rows if self.temperature else (None, None))
        )

    @property
    def _previous(self) -> Path:
        return self.folder.with_name(".model.previous")
