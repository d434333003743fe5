"""The logits of a complete check on the source dev set, gathered over ranks."""

# N = dev rows, C = classes

import torch
from torch import Tensor
from torchmetrics import Metric


class DevScores(Metric):
    """Logits and labels of every dev row, for what is fitted on them: a temperature, a confusion matrix, a threshold.

    Ranks may hold different numbers of rows; the order of rows is of no consequence.

    Args:
        n_classes: C.
    """

    full_state_update = False
    logits: list[Tensor]
    labels: list[Tensor]

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.add_state("logits", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def update(self, logits_BC: Tensor, label_B: Tensor) -> None:
        """Add the rows of a batch."""
        self.logits.append(logits_BC.detach())
        self.labels.append(label_B)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Logits (N, C) and labels (N,) of all rows."""
        logits = self.logits if isinstance(self.logits, list) else [self.logits]
        labels = self.labels if isinstance(self.labels, list) else [self.labels]
        empty_BC, empty_B = torch.empty(0, self.n_classes), torch.empty(0, dtype=torch.int64)
        return torch.cat(logits) if logits else empty_BC, torch.cat(labels) if labels else empty_B
