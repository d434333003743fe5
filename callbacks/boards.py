"""What a board shows beside the curves: confusion matrices, precision and recall, samples of the selection."""

# N = dev rows, C = classes

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from labelbridge.lightning_app.boards.confusion import confusion_figure
from labelbridge.lightning_app.boards.samples import sample_rows
from labelbridge.lightning_app.boards.show import show_curves, show_figure, show_table
from labelbridge.lightning_app.core.ranges import NonNegativeInt, check_ranges
from labelbridge.lightning_app.models.correction import dev_confusion
from labelbridge.lightning_app.protocols import HasSelection, KeepsDevRows, datamodule_of


class ShowOnBoards(Callback):
    """Shows a confusion matrix and the precision-recall curves of every dev check, and texts that were selected.

    Args:
        figures: Show them; false leaves the numbers alone.
        samples: Rows of each class of the selection that are shown.
    """

    @check_ranges("boards.")
    def __init__(self, figures: bool = True, samples: NonNegativeInt = 5) -> None:
        self.figures = figures
        self.samples = samples

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what was selected; a resumed run has shown it."""
        data = datamodule_of(trainer)
        if not trainer.is_global_zero or trainer.global_step or not self.samples or not isinstance(data, HasSelection):
            return
        if data.selected.table.num_rows:
            labels = data.selected.manifest.facts.get("labels", data.task.labels)
            columns, rows = sample_rows(data.selected.table, data.task, labels, self.samples)
            show_table(trainer.loggers, "selection", columns, rows, 0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the dev check that has just ended."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or not trainer.is_global_zero:
            return
        if not self.figures or not trainer.loggers or not isinstance(pl_module, KeepsDevRows) or not pl_module.dev_rows:
            return
        logits_NC, label_N = pl_module.dev_rows
        labels, step = pl_module.task.labels, trainer.global_step
        title = f"dev, after {step} step{'s' * (step != 1)}"
        figure = confusion_figure(np.array(dev_confusion(logits_NC, label_N)), labels, title)
        show_figure(trainer.loggers, "figures/confusion/dev", figure, step)
        probs_NC = logits_NC.float().softmax(dim=1).numpy()
        show_curves(trainer.loggers, "dev", probs_NC, label_N.numpy(), labels, step)
