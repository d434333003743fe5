"""Fine-tuning a sequence-to-sequence model on sentence pairs, with all weights or by LoRA."""

# B = rows of a micro-batch, L = the longest target in tokens, V = vocabulary

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanMetric

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.languages import language
from labelbridge.lightning_app.core.ranges import (
    Epsilon,
    NonNegativeFloat,
    Rate,
    Seed,
    Share,
    check_ranges,
)
from labelbridge.lightning_app.models.fingerprints import model_fingerprint
from labelbridge.lightning_app.models.seq2seq import load_seq2seq, load_seq2seq_config
from labelbridge.lightning_app.protocols import PairBatch

from .base import StageModuleBase
from .heads import save_network
from .optimizers import check_optimizer, optimizer_and_schedule
from .sequence_models import Lora, add_lora, check_targets

NO_TOKEN = -100


class Seq2SeqModule(StageModuleBase):
    """A translator in the making: `fit` on sentence pairs, `validate` on their dev set.

    The loss of an optimizer step is the mean cross-entropy over all target tokens of its window, whatever the rows it
    was cut into; `dev/loss` is the same mean over the dev set. `TransformersTranslator` uses what is exported.

    Args:
        model: A model's folder or Hub id.
        target_language: Code of the language to translate into: ISO 639, perhaps with a script (`hi-Latn`).
        source_language: Code of the language of the sources.
        source_code: What the model calls the source language, where that cannot be worked out.
        target_code: What it calls the target language; for one that it has no name for, the code of its nearest.
        prefix: Text before every source, in training and ever after.
        lora: Train adapters and leave the model's own weights as they are; null trains all weights.
        dtype: Type of the model's own weights; `bfloat16` for frozen ones alone, to save memory.
        dropout: If given, replaces every dropout rate of the model itself.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: AdamW's weight decay.
        adam_epsilon: AdamW's epsilon.
        warmup_ratio: Share of the optimizer steps in which the rate rises from zero; then it falls linearly to zero.
        optimizer: Another optimizer; see `ClassifierModule`.
        lr_scheduler: Another schedule; see `ClassifierModule`.
        gradient_checkpointing: Recompute activations to save memory.
        trust_remote_code: Whether to run code that comes with the model.
        revision: The Hub model's commit, tag or branch.
        seed: Seed of the adapters and of dropout; linked to `seed_everything`.
    """

    @check_ranges("model.")
    def __init__(
        self,
        model: str,
        target_language: str,
        source_language: str = "en",
        source_code: str | None = None,
        target_code: str | None = None,
        prefix: str = "",
        lora: Lora | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
        dropout: Rate | None = None,
        learning_rate: NonNegativeFloat = 2e-4,
        weight_decay: NonNegativeFloat = 0.0,
        adam_epsilon: Epsilon = 1e-8,
        warmup_ratio: Share = 0.03,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
        gradient_checkpointing: bool = False,
        trust_remote_code: bool = False,
        revision: str | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        if dtype != "float32" and lora is None:
            raise InputError(f"model.dtype {dtype}: too coarse for weights that are trained; set lora, or float32")
        self.model_name = model
        self.source = language(source_language, "model.source_language")
        self.target = language(target_language, "model.target_language")
        self.source_code = source_code
        self.target_code = target_code
        self.prefix = prefix
        self.lora = lora
        self.dtype_name = dtype
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.adam_epsilon = adam_epsilon
        self.warmup_ratio = warmup_ratio
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.gradient_checkpointing = gradient_checkpointing
        self.trust_remote_code = trust_remote_code
        self.revision = revision
        self.seed = seed
        self.network: Any = None
        self.dev_loss = MeanMetric()
        self._window_loss: Tensor | None = None
        # The frozen weights come from their own folder, whose fingerprint is part of the run's identity.
        self.strict_loading = lora is None

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this module determines the weights that a run writes; JSON values."""
        recipe = (
            "dtype_name", "dropout", "learning_rate", "weight_decay", "adam_epsilon", "warmup_ratio", "seed",
        )  # fmt: skip
        own = {name: getattr(self, name) for name in recipe} if subcommand == "fit" else {}
        return {
            "class": type(self).__name__,
            "model": model_fingerprint(self.model_name, self.revision),
            **self.facts(),
            **own,
        }

    def check(self, subcommand: str) -> None:
        """Refuse a model that cannot serve, before any row is read or any weight is loaded.

        Raises:
            InputError: If it writes no text from text, or lacks the layers that are to be adapted.
        """
        if subcommand == "fit":
            check_optimizer(self)
        load_seq2seq_config(self.model_name, self.trust_remote_code, self.revision)
        if self.lora is not None:
            check_targets(self.model_name, self.lora, self.trust_remote_code, self.revision)

    def facts(self) -> dict[str, Any]:
        """What a translator must know of its training."""
        return {
            "source_language": self.source.code,
            "target_language": self.target.code,
            "source_code": self.source_code,
            "target_code": self.target_code,
            "prefix": self.prefix,
            "lora": asdict(self.lora) if self.lora is not None else None,
        }

    def configure_model(self) -> None:
        """Load the weights, once, when the Trainer is ready for them."""
        if self.network is not None:
            return
        network: Any = load_seq2seq(
            self.model_name, trust_remote_code=self.trust_remote_code, revision=self.revision,
            dtype=getattr(torch, self.dtype_name), dropout=self.dropout,
        )  # fmt: skip
        if self.gradient_checkpointing:
            network.gradient_checkpointing_enable({"use_reentrant": False})
        if self.lora is not None and self.trainer.state.fn == "fit":
            network = add_lora(network, self.lora, self.model_name, self.revision, self.seed)
        self.network = network.train()

    def on_fit_start(self) -> None:
        """Give each rank dropout of its own; weights are already the same on all."""
        torch.manual_seed(self.seed + 7919 * self.global_rank)

    def token_loss_sum(self, batch: PairBatch) -> Tensor:
        """Cross-entropy summed over the real target tokens; float32 or wider, whatever the network's precision."""
        label_BL = batch["label"]
        logits_BLV = self.network(
            **batch["inputs"], decoder_input_ids=decoder_inputs(self.network, label_BL), use_cache=False
        ).logits
        wide = logits_BLV.to(torch.promote_types(logits_BLV.dtype, torch.float32)).flatten(0, 1)
        total: Tensor = functional.cross_entropy(wide, label_BL.flatten(), ignore_index=NO_TOKEN, reduction="sum")
        return total

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """A window's loss, as far as this micro-batch goes.

        Lightning divides by `accumulate_grad_batches`, also in a shorter last window, and DDP averages over ranks;
        both are undone here, so that the gradients of a window add up to that of the mean over its target tokens.
        """
        share: Tensor = self.token_loss_sum(batch) / batch["window_tokens"]
        self._log_window(share.detach(), batch)
        scale: int = self.trainer.accumulate_grad_batches * self.trainer.world_size
        return share * scale

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Update the loss on the dev pairs."""
        n_tokens = batch["n_target_tokens"]
        self.dev_loss.update(self.token_loss_sum(batch) / max(n_tokens, 1), weight=n_tokens)
        # A torchmetrics object adds up over ranks of unequal size; `sync_dist` of plain numbers would not.
        self.log("dev/loss", self.dev_loss, prog_bar=True, batch_size=max(batch["n_rows"], 1))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with linear decay, on the adapters or on all weights, unless the configuration says otherwise."""
        return optimizer_and_schedule(self, self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave frozen weights out: a checkpoint of an adapter has a few megabytes, not the model's many gigabytes."""
        if self.lora is None:
            return
        trained = {name for name, one in self.named_parameters() if one.requires_grad}
        checkpoint["state_dict"] = {name: one for name, one in checkpoint["state_dict"].items() if name in trained}

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write the model, or the adapter with its base's name and configuration, into a folder, as safetensors.

        The weights are written in `dtype`; those of an adapter, which are few, in their own.
        """
        if self.lora is None:
            save_network(self.network, folder, dtype)
            return
        self.network.save_pretrained(folder, save_embedding_layers=False)
        base = self.network.get_base_model()
        base.config.save_pretrained(folder)
        base.generation_config.save_pretrained(folder)

    def _log_window(self, share: Tensor, batch: PairBatch) -> None:
        """Log a window's loss, once, when its last micro-batch has been seen."""
        self._window_loss = share if self._window_loss is None else self._window_loss + share
        if batch["ends_window"]:
            total = self.trainer.strategy.reduce(self._window_loss, reduce_op="sum")
            self._window_loss = None
            self.log("train/loss", total, prog_bar=True, batch_size=1)


def decoder_inputs(network: Any, label_BL: Tensor) -> Tensor:
    """What the decoder reads while it is to write the labels: the labels, moved one place on as the model wants it."""
    prepare = getattr(network, "prepare_decoder_input_ids_from_labels", None)
    if prepare is not None:
        shifted_BL: Tensor = prepare(labels=label_BL)
        return shifted_BL
    # M2M100 and NLLB have no such function of their own.
    config = network.config
    start_B1 = torch.full_like(label_BL[:, :1], config.decoder_start_token_id)
    before_BL = label_BL[:, :-1].masked_fill(label_BL[:, :-1] == NO_TOKEN, config.pad_token_id)
    return torch.cat([start_B1, before_BL], dim=1)
