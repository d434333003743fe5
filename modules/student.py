"""The student: a classifier fitted to gold rows and to the selection."""

from dataclasses import asdict
from typing import Any, ClassVar, Literal

from torch import Tensor

from .classifier import Batch, ClassifierModule
from .losses import Objective, RowLosses, SyntheticLabels, mixed_rows


class StudentModule(ClassifierModule):
    """A classifier trained on gold (CE) and on a selection (temperature-scaled KL); see `losses.py`.

    Args:
        objective: `paper` (Eq. 1) or `released` (every row weighs 1).
        synthetic_labels: `teacher` (probabilities), `teacher_hard` (argmax) or `prompt`.
        temperature: T in Eq. 1.
        teacher_temperature: Softens (> 1) or sharpens (< 1) the teacher's probabilities.
        kl_weight: A further factor on the KL term.
        t_squared: Multiply the KL term by T^2.
        **classifier: As for `ClassifierModule`.
    """

    FIT_BATCH: ClassVar[tuple[str, ...]] = ("label", "probs", "synthetic", "n_gold", "n_synthetic")
    STAGES: ClassVar[dict[str, str]] = {**ClassifierModule.STAGES, "fit": "student"}

    def __init__(
        self,
        objective: Literal["paper", "released"] = "paper",
        synthetic_labels: SyntheticLabels = "teacher",
        temperature: float = 1.5,
        teacher_temperature: float = 1.0,
        kl_weight: float = 1.0,
        t_squared: bool = False,
        **classifier: Any,
    ) -> None:
        super().__init__(**classifier)
        self.objective = Objective(objective, synthetic_labels, temperature, teacher_temperature, kl_weight, t_squared)

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `ClassifierModule.identity`."""
        extra = {"objective": asdict(self.objective)} if subcommand == "fit" else {}
        return {**super().identity(subcommand), **extra}

    def row_losses(self, logits_BC: Tensor, batch: Batch) -> RowLosses:
        """Eq. 1, row by row."""
        return mixed_rows(
            logits_BC,
            batch["label"],
            batch["probs"],
            batch["synthetic"],
            batch["real"],
            batch["n_gold"],
            batch["n_synthetic"],
            self.objective,
        )
