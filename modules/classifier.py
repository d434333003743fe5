"""What teacher and student share: the encoder, the optimizer, the dev metrics, and rows out of batches."""

# B = rows of a micro-batch, C = classes

import inspect
import logging
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)
from transformers import PreTrainedModel

from labelbridge.lightning_app.core.ranges import check_range
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.predicted_classes import one_class_warning
from labelbridge.lightning_app.models.fingerprints import model_fingerprint

from .heads import check_single_label, freeze_lower_layers, label_outputs, load_classifier, load_config, save_network
from .losses import RowLosses
from .optimizers import adamw_with_linear_decay

log = logging.getLogger(__name__)

Batch = dict[str, Any]
NO_LABEL = -100


class ClassifierModule(LightningModule):
    """A Hugging Face sequence classifier: scores rows in validate, test and predict.

    `TeacherModule` and `StudentModule` add a loss. `predict` and `test` give each row its probability vector `probs`
    (temperature 1, the task's label order) and its `prediction`.

    Args:
        task: Text columns and labels.
        model: A model folder, a Hub id, or `bundled` (multilingual-e5-small).
        label_map: The model's label -> the task's, where the names differ; null leaves an output out. In predict and
            test several may mean one of the task's, and their probabilities are added.
        trust_remote_code: Whether to run code that comes with the model.
        revision: The Hub model's commit, tag or branch.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: AdamW's weight decay.
        adam_epsilon: AdamW's epsilon.
        warmup_ratio: Share of the optimizer steps in which the rate rises from zero; then it falls linearly to zero.
        dropout: If given, replaces every dropout rate of the model.
        gradient_checkpointing: Recompute activations to save memory.
        pooling: What a new head reads: the `first` token, as classifiers of the transformers library do, or the `mean`
            of all, by a further layer (see `heads.append_mean_pooling`); null takes `mean` for encoders whose
            sentence-transformers configuration says so, as the bundled one's does.
        frozen_layers: If given, the embeddings and this many of the lowest layers stay as they were pretrained; 0
            freezes the embeddings alone (82 % of the bundled encoder's weights). Saves time and memory, and can help
            transfer (Wu and Dredze, 2019, arXiv 1904.09077, section 4.3).
        seed: Seed of a new head and of dropout; linked to `seed_everything`.
    """

    STAGES: ClassVar[dict[str, str]] = {"validate": "validate", "test": "test", "predict": "pseudolabel"}
    # Arguments that play no part in scoring rows.
    TRAINING_ALONE: ClassVar[tuple[str, ...]] = (
        "learning_rate", "weight_decay", "adam_epsilon", "warmup_ratio", "dropout", "pooling", "frozen_layers", "seed",
        "objective", "synthetic_labels", "temperature", "teacher_temperature", "kl_weight", "t_squared",
    )  # fmt: skip

    def __init__(
        self,
        task: Task,
        model: str,
        label_map: dict[str, str | None] | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        learning_rate: float = 5e-5,
        weight_decay: float = 0.0,
        adam_epsilon: float = 1e-8,
        warmup_ratio: float = 0.0,
        dropout: float | None = None,
        gradient_checkpointing: bool = False,
        pooling: Literal["first", "mean"] | None = None,
        frozen_layers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_range("model.learning_rate", learning_rate, least=0)
        check_range("model.weight_decay", weight_decay, least=0)
        check_range("model.adam_epsilon", adam_epsilon, above=0)  # 0 divides by zero for weights without a gradient
        check_range("model.warmup_ratio", warmup_ratio, least=0, most=1)
        check_range("model.dropout", dropout, least=0, most=1)
        check_range("model.seed", seed, least=0, below=2**32)
        self.task = task
        self.model_name = model
        self.label_map = label_map
        self.trust_remote_code = trust_remote_code
        self.revision = revision
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.adam_epsilon = adam_epsilon
        self.warmup_ratio = warmup_ratio
        self.dropout = dropout
        self.gradient_checkpointing = gradient_checkpointing
        self.pooling = pooling
        self.frozen_layers = frozen_layers
        self.seed = seed
        self.network: PreTrainedModel | None = None
        self._features: set[str] = set()  # what its forward takes
        self._window_sums: Tensor | None = None
        n_classes = len(task.labels)
        self.dev_metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(n_classes, average="micro", ignore_index=NO_LABEL),
                "macro_f1": MulticlassF1Score(n_classes, average="macro", ignore_index=NO_LABEL),
                "ece": MulticlassCalibrationError(n_classes, ignore_index=NO_LABEL),
            },
            prefix="dev/",
        )
        self.dev_loss = MeanMetric()
        self.dev_confusion = MulticlassConfusionMatrix(n_classes, ignore_index=NO_LABEL)

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this module determines the rows or weights that a run writes; JSON values."""
        shared = {
            "class": type(self).__name__,
            "task": vars(self.task),
            "model": model_fingerprint(self.model_name, self.revision),
            "label_map": self.label_map,
        }
        return {**shared, **self._recipe()} if subcommand == "fit" else shared

    def check(self, subcommand: str) -> None:
        """Refuse a model that cannot serve, before any row is read or any weight is loaded.

        Raises:
            InputError: See `heads.label_outputs` and `heads.check_single_label`.
        """
        config = load_config(self.model_name, self.trust_remote_code, self.revision)
        outputs = label_outputs(config, self.task, self.label_map, self.model_name)
        if subcommand != "fit":
            check_single_label(config, self.model_name)
            if outputs is None:
                self._load(new_head=False)

    def configure_model(self) -> None:
        """Load the weights, once, when the Trainer is ready for them."""
        if self.network is not None:
            return
        # `from_pretrained` leaves dropout off, and Lightning keeps each submodule's mode.
        self.network = self._load(new_head=self.trainer.state.fn == "fit").train()
        self._features = set(inspect.signature(self.network.forward).parameters)
        tokenizer = getattr(getattr(self.trainer, "datamodule", None), "tokenizer", None)
        if tokenizer is not None and self.network.config.get_text_config().pad_token_id is None:
            # A decoder looks for the last token before the padding.
            self.network.config.pad_token_id = tokenizer.pad_token_id
            self.network.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        if self.gradient_checkpointing:
            self.network.gradient_checkpointing_enable()
        if self.frozen_layers is not None:
            freeze_lower_layers(self.network, self.frozen_layers, self.model_name)

    def on_fit_start(self) -> None:
        """Give each rank dropout of its own; weights are already the same on all."""
        torch.manual_seed(self.seed + 7919 * self.global_rank)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits in the task's order; float32 or wider, whatever the precision of the network. Shape (B, C)."""
        assert self.network is not None, "configure_model loads the network"
        logits_BC: Tensor = self.network(**self._known(inputs)).logits
        wide_BC: Tensor = logits_BC.to(torch.promote_types(logits_BC.dtype, torch.float32))
        return wide_BC

    def _known(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the network takes: some tokenizers mark the texts of a pair for networks that make no use of it."""
        return {name: value for name, value in inputs.items() if not self._features or name in self._features}

    def row_losses(self, logits_BC: Tensor, batch: Batch) -> RowLosses:
        """Loss and weight of every row; given by the subclasses that can be fitted."""
        raise TypeError(f"{type(self).__name__} cannot be fitted; use TeacherModule or StudentModule")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """A window's loss, as far as this micro-batch goes.

        Lightning divides by `accumulate_grad_batches`, also in a shorter last window, and DDP averages over ranks;
        both are undone here, so that the gradients of a window add up to that of `sum_i w_i loss_i / W`.
        """
        losses = self.row_losses(self(batch["inputs"]), batch)
        share: Tensor = losses.weighted_sum / batch["window_rows"]
        self._log_window(losses, share.detach(), batch)
        scale: int = self.trainer.accumulate_grad_batches * self.trainer.world_size
        return share * scale

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Free the gradients that the optimizer has used: dev checks and exports then need no memory beside them."""
        if batch["ends_window"]:
            for parameter in self.parameters():
                parameter.grad = None

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the metrics on the source dev set."""
        logits_BC = self(batch["inputs"])
        label_B = batch["label"].masked_fill(~batch["real"], NO_LABEL)
        loss = functional.cross_entropy(logits_BC, label_B, ignore_index=NO_LABEL, reduction="sum")
        n_rows = batch["n_rows"]
        self.dev_metrics.update(logits_BC.softmax(dim=1), label_B)
        self.dev_loss.update(loss / max(n_rows, 1), weight=n_rows)
        self.dev_confusion.update(logits_BC, label_B)
        # torchmetrics objects add up over ranks of unequal size; `sync_dist` of plain numbers would not.
        self.log_dict(self.dev_metrics, prog_bar=True, batch_size=max(n_rows, 1))
        self.log("dev/loss", self.dev_loss, batch_size=max(n_rows, 1))

    def on_validation_epoch_end(self) -> None:
        """Warn if every row of the source dev set was predicted as one class; counted over all ranks."""
        confusion_CC = self.dev_confusion.compute()  # rows: true class, columns: predicted class
        self.dev_confusion.reset()
        if self.trainer.sanity_checking or not self.trainer.is_global_zero:
            return
        predicted = dict(zip(self.task.labels, confusion_CC.sum(dim=0).tolist(), strict=True))
        true = [label for label, count in zip(self.task.labels, confusion_CC.sum(dim=1).tolist(), strict=True) if count]
        warning = one_class_warning("dev", predicted, true, "lower model.learning_rate or train longer")
        if warning is not None:
            log.warning("%s", warning)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Rows out, as in predict; the metrics are computed from the written rows."""
        return self.predict_step(batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Probabilities of every row, float64 so that the log of a near-certain one keeps its digits."""
        log_probs_BC = functional.log_softmax(self(batch["inputs"]), dim=1)
        best_B = log_probs_BC.argmax(dim=1).tolist()
        return {
            "prediction": [self.task.labels[best] for best in best_B],
            "probs": log_probs_BC.double().exp().cpu().numpy(),
        }

    def score_rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Row numbers and log-probabilities of the real rows; for training dynamics. Shapes (B,), (B, C)."""
        log_probs_BC = functional.log_softmax(self(batch["inputs"]), dim=1)
        return batch["row"][batch["real"]], log_probs_BC[batch["real"]]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with linear decay, as in the paper's code."""
        return adamw_with_linear_decay(
            self, self.learning_rate, self.weight_decay, self.adam_epsilon, self.warmup_ratio
        )

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write the network into a folder, as safetensors, its weights in `dtype`."""
        assert self.network is not None, "configure_model loads the network"
        save_network(self.network, folder, dtype)

    def _load(self, new_head: bool) -> PreTrainedModel:
        return load_classifier(
            self.model_name,
            self.task,
            self.label_map,
            new_head=new_head,
            seed=self.seed,
            trust_remote_code=self.trust_remote_code,
            revision=self.revision,
            dropout=self.dropout,
            pooling=self.pooling,
        )

    def _recipe(self) -> dict[str, Any]:
        names = (
            "learning_rate",
            "weight_decay",
            "adam_epsilon",
            "warmup_ratio",
            "dropout",
            "pooling",
            "frozen_layers",
            "seed",
        )
        return {name: getattr(self, name) for name in names}

    def _log_window(self, losses: RowLosses, share: Tensor, batch: Batch) -> None:
        """Log what the window amounts to, once, when its last micro-batch has been seen."""
        real_B = batch["real"]
        synthetic_B = batch.get("synthetic", torch.zeros_like(real_B))
        soft_B = losses.soft_B
        parts = (
            share,
            losses.ce_B[real_B & ~soft_B].sum().detach(),
            losses.kl_B[real_B & soft_B].sum().detach(),
            (real_B & soft_B).sum(),
            (real_B & ~synthetic_B).sum(),
            (real_B & synthetic_B).sum(),
        )
        sums = torch.stack([part.to(share.dtype) for part in parts])
        self._window_sums = sums if self._window_sums is None else self._window_sums + sums
        if not batch["ends_window"]:
            return
        total = self.trainer.strategy.reduce(self._window_sums, reduce_op="sum")
        self._window_sums = None
        loss, ce, kl, n_soft, n_gold, n_synthetic = total.unbind()
        self.log("train/loss", loss, prog_bar=True, batch_size=1)
        self.log("train/ce", ce / (n_gold + n_synthetic - n_soft).clamp_min(1), batch_size=1)
        self.log("train/kl", kl / n_soft.clamp_min(1), batch_size=1)
        self.log("train/gold_rows", n_gold, batch_size=1)
        self.log("train/synthetic_rows", n_synthetic, batch_size=1)
