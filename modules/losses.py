"""Equation 1 of the paper, as a sum over rows that can be cut into any micro-batches.

The paper (Fazili, Agrawal and Jyothi) minimises, for gold D and selection D' over classes C,

    L = 1/|D| sum_D CE(y, softmax(z)) + 1/(|C| |D'|) sum_D' KL(p || softmax(z / T)),    T = 1.5

where z are the student's logits and p the teacher's probabilities. One optimizer step sees a window of W rows and
minimises `sum_i w_i loss_i / W` with `w = N/|D|` for gold rows and `w = N/(|C| |D'|)` for synthetic ones, N = |D| +
|D'|. Rows are dealt in proportion, so this is an unbiased estimate of L whatever the window holds.
"""

# B = rows of a micro-batch, C = classes

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.ranges import NonNegativeFloat, PositiveFloat, check_fields

from .corrections import Corrections, class_weights, importance_weights, log_shares

SyntheticLabels = Literal["teacher", "teacher_hard", "prompt"]
PriorOf = Literal["gold", "synthetic", "teacher"]  # of which rows class shares are


@dataclass(frozen=True)
class Objective:
    """What a student minimises.

    Args:
        objective: `paper` weighs the two sets as Eq. 1 does; `released` weighs every row 1, as the paper's code does.
        synthetic_labels: What a synthetic row is fitted to: the teacher's probabilities (KL), the teacher's most
            likely class (CE), or the class its prompt asked for (CE). The last two are plain CE over both sets:
            weight 1, T = 1, no 1/|C|.
        temperature: T, the divisor of the student's logits in the KL term; the teacher's side is not divided.
        teacher_temperature: t: the teacher's probabilities become p^(1/t), renormalised.
        kl_weight: A further factor on the KL term.
        t_squared: Multiply the KL term by T^2, as Hinton et al. (arXiv 1503.02531) do and the paper does not.

    Raises:
        InputError: If a temperature is not above 0, or the weight is negative.
    """

    objective: Literal["paper", "released"] = "paper"
    synthetic_labels: SyntheticLabels = "teacher"
    temperature: PositiveFloat = 1.5
    teacher_temperature: PositiveFloat = 1.0
    kl_weight: NonNegativeFloat = 1.0
    t_squared: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "model.")

    @property
    def is_soft(self) -> bool:
        """Whether synthetic rows are fitted to probabilities."""
        return self.synthetic_labels == "teacher"

    def synthetic_weight(self, n_gold: int, n_synthetic: int, n_classes: int) -> float:
        """`w_i` of a synthetic row."""
        if not self.is_soft:
            return 1.0
        scale = self.kl_weight * (self.temperature**2 if self.t_squared else 1.0)
        if self.objective == "released":
            return scale
        return scale * (n_gold + n_synthetic) / (n_classes * max(n_synthetic, 1))

    def gold_weight(self, n_gold: int, n_synthetic: int) -> float:
        """`w_i` of a gold row."""
        if not self.is_soft or self.objective == "released":
            return 1.0
        return (n_gold + n_synthetic) / max(n_gold, 1)


@dataclass(frozen=True)
class RowLosses:
    """Losses of a micro-batch, row by row; each shape (B,), zero where it does not apply.

    Args:
        ce_B: Cross-entropy, weight not yet applied.
        kl_B: Kullback-Leibler divergence, weight not yet applied.
        weight_B: `w_i`; zero for rows that only stand in.
        soft_B: Which rows are fitted to probabilities rather than to a label.
        ratio_B: Importance weights before normalisation, where rows are weighted by them.
    """

    ce_B: Tensor
    kl_B: Tensor
    weight_B: Tensor
    soft_B: Tensor
    ratio_B: Tensor | None = None

    @property
    def weighted_sum(self) -> Tensor:
        """`sum_i w_i loss_i` over this micro-batch; a scalar."""
        return (self.weight_B * (self.ce_B + self.kl_B)).sum()


NO_CORRECTIONS = Corrections()


class ClassCounts:
    """Rows per class of the training sets, as they are dealt; their log shares are checked and computed once.

    Args:
        gold_C: Of gold; shape (C,), None where not known.
        synthetic_C: Of the selection, by the label that is fitted.
        teacher_C: Of the teacher's gold, zeros where its probabilities no longer have their label prior; None takes
            `gold_C`.
    """

    def __init__(
        self, gold_C: Tensor | None = None, synthetic_C: Tensor | None = None, teacher_C: Tensor | None = None
    ) -> None:
        self.counts = {"gold": gold_C, "synthetic": synthetic_C, "teacher": gold_C if teacher_C is None else teacher_C}
        self._log_shares: dict[str, Tensor] = {}

    def log_shares(self, of: PriorOf, like: Tensor) -> Tensor:
        """Log class shares of a set, in the type of `like`; shape (C,).

        Raises:
            InputError: If the DataModule counts no classes, or a class has no row.
        """
        if of not in self._log_shares:
            counts_C = self.counts[of]
            if counts_C is None:
                raise InputError(
                    f"{of} rows: no class counts in the batches, expected the `{of}_counts` of GoldDataModule and "
                    "MixedDataModule (data.class_balanced leaves no shares of gold to correct); set "
                    "model.logit_adjustment and model.class_weighting to 0, or give them"
                )
            if of == "teacher" and not counts_C.any():
                raise InputError(
                    "data.selection: the teacher's probabilities do not have the label prior of its gold (trained "
                    "against it, corrected, or without gold), so model.synthetic_logit_adjustment has nothing to "
                    "adjust; set it to 0, or select with pseudolabels as the teacher gives them"
                )
            place = {"gold": "data.train", "synthetic": "data.selection", "teacher": "data.selection's teacher"}[of]
            self._log_shares[of] = log_shares(counts_C.double(), place)
        return self._log_shares[of].to(like.dtype)


def cross_entropy_rows(
    logits_BC: Tensor,
    label_B: Tensor,
    real_B: Tensor,
    corrections: Corrections = NO_CORRECTIONS,
    counts: ClassCounts | None = None,
) -> RowLosses:
    """Cross-entropy of gold rows, every row of weight 1 unless `corrections` say otherwise: the teacher's loss."""
    weight_B, gold_B = real_B.to(logits_BC.dtype), torch.zeros_like(real_B)
    if corrections.logit_adjustment or corrections.class_weighting:
        log_share_C = (counts or ClassCounts()).log_shares("gold", logits_BC)
        weight_B = weight_B * class_weights(log_share_C, corrections.class_weighting)[label_B]
        logits_BC = logits_BC + corrections.logit_adjustment * log_share_C
    ce_B = corrections.label_losses(logits_BC, label_B, gold_B)
    return RowLosses(ce_B, torch.zeros_like(ce_B), weight_B, gold_B)


def mixed_rows(
    logits_BC: Tensor,
    label_B: Tensor,
    probs_BC: Tensor,
    synthetic_B: Tensor,
    real_B: Tensor,
    n_gold: int,
    n_synthetic: int,
    objective: Objective,
    corrections: Corrections = NO_CORRECTIONS,
    counts: ClassCounts | None = None,
    mean_ratio: Tensor | float = 1.0,
) -> RowLosses:
    """The student's row losses and weights.

    Args:
        logits_BC: Student logits.
        label_B: Gold label of gold rows; of synthetic rows the hard label to fit, if any is.
        probs_BC: Teacher probabilities of synthetic rows; unused for gold rows.
        synthetic_B: Which rows are synthetic.
        real_B: False for rows that only stand in.
        n_gold: |D|.
        n_synthetic: |D'|.
        objective: What to minimise.
        corrections: What to change in it.
        counts: Rows per class, where `corrections` need them.
        mean_ratio: What importance weights are divided by.
    """
    soft_B = synthetic_B if objective.is_soft else torch.zeros_like(synthetic_B)
    # Rows that are not fitted to a label get label 0 before they are masked, so that none is out of range.
    hard_label_B = label_B.masked_fill(soft_B, 0)
    weight_B, adjusted_BC = torch.ones_like(logits_BC[:, 0]), logits_BC
    if n_gold:
        weight_B, adjusted_BC = _prior_corrected(
            weight_B, adjusted_BC, hard_label_B, ~synthetic_B, "gold", corrections.logit_adjustment, corrections, counts
        )
    if n_synthetic:
        # A soft label carries the prior that the teacher has learned, which is that of its gold.
        weight_B, adjusted_BC = _prior_corrected(
            weight_B, adjusted_BC, hard_label_B, synthetic_B, "teacher" if objective.is_soft else "synthetic",
            corrections.synthetic_logit_adjustment, corrections, counts, is_soft=objective.is_soft,
        )  # fmt: skip
    ratio_B = None
    if corrections.importance_clip is not None:
        ratio_B = importance_weights(logits_BC, hard_label_B, probs_BC, corrections.importance_clip)
        weight_B = torch.where(synthetic_B, weight_B * ratio_B / mean_ratio, weight_B)
    if corrections.min_confidence:
        weight_B = weight_B.masked_fill(synthetic_B & (probs_BC.amax(dim=1) < corrections.min_confidence), 0.0)
    ce_B = corrections.label_losses(adjusted_BC, hard_label_B, synthetic_B).masked_fill(soft_B, 0.0)
    kl_B = kl_rows(adjusted_BC, probs_BC, objective.temperature, objective.teacher_temperature)
    kl_B = kl_B.masked_fill(~soft_B, 0.0)
    gold = objective.gold_weight(n_gold, n_synthetic)
    synthetic = objective.synthetic_weight(n_gold, n_synthetic, logits_BC.shape[1])
    set_weight_B = torch.where(synthetic_B, ce_B.new_full((), synthetic), ce_B.new_full((), gold)) * real_B
    return RowLosses(ce_B, kl_B, set_weight_B * weight_B, soft_B, ratio_B)


def _prior_corrected(
    weight_B: Tensor,
    logits_BC: Tensor,
    label_B: Tensor,
    rows_B: Tensor,
    prior_of: PriorOf,
    tau: float,
    corrections: Corrections,
    counts: ClassCounts | None,
    is_soft: bool = False,
) -> tuple[Tensor, Tensor]:
    """Weights and logits, those of `rows_B` corrected for a set's class shares; soft labels have no class to weigh."""
    gamma = 0.0 if is_soft else corrections.class_weighting
    if not tau and not gamma:
        return weight_B, logits_BC
    log_share_C = (counts or ClassCounts()).log_shares(prior_of, logits_BC)
    weight_B = torch.where(rows_B, class_weights(log_share_C, gamma)[label_B], weight_B) if gamma else weight_B
    return weight_B, torch.where(rows_B.unsqueeze(1), logits_BC + tau * log_share_C, logits_BC)


def kl_rows(logits_BC: Tensor, probs_BC: Tensor, temperature: float, teacher_temperature: float = 1.0) -> Tensor:
    """KL(p || softmax(z / T)) of every row, with 0 log 0 = 0; shape (B,), in nats."""
    probs_BC = soften(probs_BC.to(logits_BC.dtype), teacher_temperature)
    log_student_BC = functional.log_softmax(logits_BC / temperature, dim=1)
    divergence_BC: Tensor = torch.special.xlogy(probs_BC, probs_BC) - probs_BC * log_student_BC
    return divergence_BC.sum(dim=1)


def soften(probs_BC: Tensor, teacher_temperature: float) -> Tensor:
    """p^(1/t), renormalised: what dividing the teacher's logits by t would have given.

    Rows are scaled by their largest entry first, so that small powers do not underflow; a row of zeros (a gold row,
    which has no teacher) stays as it is.
    """
    if teacher_temperature == 1.0:
        return probs_BC
    largest_B1 = probs_BC.amax(dim=1, keepdim=True).clamp_min(torch.finfo(probs_BC.dtype).tiny)
    powers_BC = (probs_BC / largest_B1) ** (1.0 / teacher_temperature)
    return powers_BC / powers_BC.sum(dim=1, keepdim=True).clamp_min(torch.finfo(probs_BC.dtype).tiny)
