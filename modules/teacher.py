"""The teacher: a classifier fitted to gold rows."""

from torch import Tensor

from labelbridge.lightning_app.protocols import EncodedBatch

from .classifier import ClassifierModule
from .losses import RowLosses, cross_entropy_rows


class TeacherModule(ClassifierModule):
    """A classifier trained on gold with cross-entropy; its `predict` writes pseudolabels.

    The paper calls the same model SRC where it is tested itself.
    """

    def row_losses(self, logits_BC: Tensor, batch: EncodedBatch) -> RowLosses:
        """Cross-entropy of every row, weight 1, unless `corrections` say otherwise."""
        return cross_entropy_rows(logits_BC, batch["label"], batch["real"], self.corrections, self.class_counts(batch))
