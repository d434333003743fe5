"""Settings beyond Eq. 1 of how rows are fitted: label priors, robust losses, weighted and thresholded labels.

All are off by default. Every one is a weight, a loss or a shift of the logits of a single row, computed from that row
and from constants of the whole set, so that a window's gradient does not depend on how the window is cut.
"""

# B = rows of a micro-batch, C = classes

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.ranges import Clip, Part, Rate, Strength, check_fields


@dataclass(frozen=True)
class Corrections:
    """How rows are fitted, beyond plain cross-entropy and KL.

    Args:
        logit_adjustment: tau of gold rows: their loss is CE(y, softmax(z + tau log pi)), where pi are the class shares
            of gold (Menon et al., arXiv 2007.07314, eq. 10). At tau 1 it is the balanced softmax of Ren et al. (arXiv
            2007.10740, eq. 4). The exported model predicts from z alone, as for equally frequent classes.
        synthetic_logit_adjustment: tau of synthetic rows. With hard labels, pi are the class shares of these labels in
            the selection; with the teacher's probabilities, pi are those of its own gold, which it has learned: the
            loss is KL(p || softmax((z + tau log pi) / T)).
        class_weighting: gamma: a row of class c weighs pi_c^-gamma / sum_j pi_j^(1-gamma), for gold and for synthetic
            rows with hard labels, each by the shares of its own set. The mean weight over a set is 1; gamma 1 gives
            each class the same total, 1/(C pi_c).
        label_smoothing: epsilon: labels become (1-epsilon) onehot + epsilon/C (Szegedy et al., arXiv 1512.00567).
        gce_q: If above 0, synthetic rows with hard labels get the generalised cross-entropy (1 - p_y^q) / q (Zhang and
            Sabuncu, arXiv 1805.07836, eq. 6) instead of CE, to which it tends for q -> 0.
        importance_clip: If given, synthetic rows with prompt labels are weighted by the teacher's probability of the
            label over the student's (Kuo et al., arXiv 2410.21526, DIMP-Loss), clipped at this number; see
            `importance_weights`.
        min_confidence: Synthetic rows whose largest teacher probability is below this weigh 0 (as in FixMatch, Sohn et
            al., arXiv 2001.07685, eq. 4); |D'| still counts them.

    Raises:
        InputError: If a number is out of its range.
    """

    logit_adjustment: Strength = 0.0
    synthetic_logit_adjustment: Strength = 0.0
    class_weighting: Strength = 0.0
    label_smoothing: Rate = 0.0
    gce_q: Part = 0.0
    importance_clip: Clip | None = None
    min_confidence: Part = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "model.")
        if self.gce_q and self.label_smoothing:
            raise InputError(
                f"model.gce_q is {self.gce_q} and model.label_smoothing is {self.label_smoothing}, expected one of the "
                "two; set the other to 0"
            )

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that are on."""
        return {name: value for name, value in asdict(self).items() if value}

    @property
    def removes_prior(self) -> bool:
        """Whether the trained model no longer predicts under the class shares of gold."""
        return bool(self.logit_adjustment or self.synthetic_logit_adjustment or self.class_weighting)

    def label_losses(self, logits_BC: Tensor, label_B: Tensor, synthetic_B: Tensor) -> Tensor:
        """Loss of every row against its label, weights not yet applied; shape (B,).

        Args:
            logits_BC: Logits, adjusted already.
            label_B: Label of every row.
            synthetic_B: Which rows are synthetic: only these get the generalised cross-entropy.
        """
        ce_B = functional.cross_entropy(logits_BC, label_B, reduction="none", label_smoothing=self.label_smoothing)
        if not self.gce_q:
            return ce_B
        return torch.where(synthetic_B, generalised_cross_entropy(ce_B, self.gce_q), ce_B)


def generalised_cross_entropy(ce_B: Tensor, q: float) -> Tensor:
    """(1 - p_y^q) / q from CE = -log p_y (Zhang and Sabuncu, arXiv 1805.07836, eq. 6), without cancellation."""
    return -torch.expm1(-q * ce_B) / q


def log_shares(counts_C: Tensor, place: str) -> Tensor:
    """Log of class shares; shape (C,).

    Raises:
        InputError: If a class has no row, so that its share has no logarithm.
    """
    if not bool((counts_C > 0).all()):
        raise InputError(
            f"{place}: rows per class {counts_C.long().tolist()}, expected at least one row of each class for logit "
            "adjustment or class weighting; add rows, or set model.logit_adjustment and model.class_weighting to 0"
        )
    return (counts_C / counts_C.sum()).log()


def class_weights(log_share_C: Tensor, gamma: float) -> Tensor:
    """pi_c^-gamma / sum_j pi_j^(1-gamma): weights whose mean over the rows of the set is 1; shape (C,)."""
    return torch.exp(-gamma * log_share_C - torch.logsumexp((1 - gamma) * log_share_C, dim=0))


def importance_weights(logits_BC: Tensor, label_B: Tensor, probs_BC: Tensor, clip: float) -> Tensor:
    """min(p_teacher(y|x) / p_student(y|x), clip), without gradient; shape (B,).

    Args:
        logits_BC: Student logits, unadjusted.
        label_B: The prompt label.
        probs_BC: Teacher probabilities.
        clip: The largest weight.
    """
    index_B1 = label_B.unsqueeze(1)
    log_student_B = functional.log_softmax(logits_BC.detach(), dim=1).gather(1, index_B1).squeeze(1)
    log_teacher_B = probs_BC.to(log_student_B.dtype).gather(1, index_B1).squeeze(1).log()
    return torch.exp((log_teacher_B - log_student_B).clamp_max(math.log(clip)))
