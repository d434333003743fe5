"""The student: a classifier fitted to gold rows and to the selection."""

from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.ranges import (
    Clip,
    NonNegativeFloat,
    Part,
    PositiveFloat,
    Strength,
    Turn,
    check_ranges,
)
from labelbridge.lightning_app.protocols import EncodedBatch

from .classifier import ClassifierModule
from .losses import Objective, RowLosses, SyntheticLabels, mixed_rows
from .schedules import Schedules, SetSchedule


class StudentModule(ClassifierModule):
    """A classifier trained on gold (CE) and on a selection (temperature-scaled KL); see `losses.py`.

    Args:
        objective: `paper` (Eq. 1) or `released` (every row weighs 1).
        synthetic_labels: `teacher` (probabilities), `teacher_hard` (argmax) or `prompt`.
        temperature: T in Eq. 1.
        teacher_temperature: Softens (> 1) or sharpens (< 1) the teacher's probabilities.
        kl_weight: A further factor on the KL term.
        t_squared: Multiply the KL term by T^2.
        synthetic_logit_adjustment: tau of synthetic rows; see `corrections.Corrections`.
        gce_q: Generalised cross-entropy of hard synthetic rows; see `corrections.Corrections`.
        importance_clip: Weighs prompt labels by the teacher's probability over the student's; see
            `corrections.Corrections`.
        min_confidence: Least teacher probability of synthetic rows; see `corrections.Corrections`.
        schedule: How the weights of gold and selection change in training; see `schedules.Schedules`.
        schedule_turn: Where `synthetic_first` turns, as a share of the optimizer steps.
        temperature_end: T at the end of the training; null keeps it.
        kl_weight_end: `kl_weight` at the end; null keeps it.
        **classifier: As for `ClassifierModule`.
    """

    FIT_BATCH: ClassVar[tuple[str, ...]] = ("label", "probs", "synthetic", "n_gold", "n_synthetic")

    @check_ranges("model.")
    def __init__(
        self,
        objective: Literal["paper", "released"] = "paper",
        synthetic_labels: SyntheticLabels = "teacher",
        temperature: PositiveFloat = 1.5,
        teacher_temperature: PositiveFloat = 1.0,
        kl_weight: NonNegativeFloat = 1.0,
        t_squared: bool = False,
        synthetic_logit_adjustment: Strength = 0.0,
        gce_q: Part = 0.0,
        importance_clip: Clip | None = None,
        min_confidence: Part = 0.0,
        schedule: SetSchedule | None = None,
        schedule_turn: Turn = 0.5,
        temperature_end: PositiveFloat | None = None,
        kl_weight_end: NonNegativeFloat | None = None,
        **classifier: Any,
    ) -> None:
        super().__init__(**classifier)
        self.objective = Objective(objective, synthetic_labels, temperature, teacher_temperature, kl_weight, t_squared)
        self.corrections = replace(
            self.corrections,
            synthetic_logit_adjustment=synthetic_logit_adjustment,
            gce_q=gce_q,
            importance_clip=importance_clip,
            min_confidence=min_confidence,
        )
        self.schedules = Schedules(schedule, schedule_turn, temperature_end, kl_weight_end)
        self._check_labels()
        # The mean importance weight of the window before, by which those of a window are divided.
        self.mean_ratio: Tensor
        self.register_buffer("mean_ratio", torch.ones((), dtype=torch.float64))
        self._ratio_sums: Tensor | None = None

    def _check_labels(self) -> None:
        """Refuse settings that the kind of synthetic labels leaves without effect."""
        labels, own = self.objective.synthetic_labels, self.corrections
        ends = {name: value for name, value in self.schedules.changed.items() if name.endswith("_end")}
        if ends and not self.objective.is_soft:
            raise InputError(
                f"model.{next(iter(ends))} is {next(iter(ends.values()))} with model.synthetic_labels {labels}, "
                "expected teacher; hard labels have no temperature and no KL term"
            )
        if own.gce_q and self.objective.is_soft:
            raise InputError(
                f"model.gce_q is {own.gce_q} with model.synthetic_labels {labels}, expected prompt or teacher_hard; "
                "the generalised cross-entropy takes hard labels"
            )
        if own.importance_clip is not None and labels != "prompt":
            raise InputError(
                f"model.importance_clip is {own.importance_clip} with model.synthetic_labels {labels}, expected "
                "prompt; the weights are those of prompt labels"
            )

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `ClassifierModule.identity`."""
        extra = {"objective": asdict(self.objective), **self.schedules.changed} if subcommand == "fit" else {}
        return {**super().identity(subcommand), **extra}

    def row_losses(self, logits_BC: Tensor, batch: EncodedBatch) -> RowLosses:
        """Eq. 1, row by row, with the corrections that are on."""
        if (self.corrections.importance_clip or self.corrections.min_confidence) and self._counts is None:
            self._check_probs(batch)
        progress = self._progress()
        losses = mixed_rows(
            logits_BC,
            batch["label"],
            batch["probs"],
            batch["synthetic"],
            batch["real"],
            batch["n_gold"],
            batch["n_synthetic"],
            self.schedules.objective(self.objective, progress),
            self.corrections,
            self.class_counts(batch),
            self.mean_ratio.to(logits_BC.dtype),
        )
        if losses.ratio_B is not None:
            self._add_ratios(losses.ratio_B[batch["synthetic"] & batch["real"]], bool(batch["ends_window"]))
        gold, synthetic = self.schedules.set_factors(progress)
        weight_B = losses.weight_B
        factor_B = torch.where(batch["synthetic"], weight_B.new_full((), synthetic), weight_B.new_full((), gold))
        return replace(losses, weight_B=weight_B * factor_B)

    def _progress(self) -> float:
        """Optimizer steps made over all there will be; 0 where nothing depends on it."""
        if not self.schedules.changed:
            return 0.0
        return self.trainer.global_step / float(self.trainer.estimated_stepping_batches)

    def _check_probs(self, batch: EncodedBatch) -> None:
        """Refuse a selection without the teacher's probabilities, where a setting looks at them."""
        if batch["n_synthetic"] and not batch["has_probs"]:
            raise InputError(
                "data.selection: selected without a teacher, expected its probabilities for model.importance_clip and "
                "model.min_confidence; select with --pseudolabels"
            )

    def _add_ratios(self, ratio_B: Tensor, ends_window: bool) -> None:
        """Sum the importance weights of a window over micro-batches and ranks; their mean serves the next window.

        A window's own mean is known only when all of its rows have passed through the network, so dividing by it would
        make the gradient depend on the cut. The first window is not normalised.
        """
        sums = torch.stack([ratio_B.double().sum(), ratio_B.new_full((), len(ratio_B), dtype=torch.float64)])
        self._ratio_sums = sums if self._ratio_sums is None else self._ratio_sums + sums
        if not ends_window:
            return
        total, rows = self.trainer.strategy.reduce(self._ratio_sums, reduce_op="sum").unbind()
        self._ratio_sums = None
        self.mean_ratio = torch.where((rows > 0) & (total > 0), total / rows.clamp_min(1), self.mean_ratio)
