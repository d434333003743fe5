"""What teacher and student share: the encoder, the optimizer, the dev metrics, and rows out of batches."""

# B = rows of a micro-batch, C = classes

import inspect
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import ModuleList, functional
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)
from transformers import PreTrainedModel

from labelbridge.lightning_app.calibration.priors import prior_vector
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.ranges import (
    Epsilon,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Rate,
    Seed,
    Share,
    Strength,
    check_ranges,
)
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.probabilities import DEVIATIONS
from labelbridge.lightning_app.evaluation.predicted_classes import one_class_warning
from labelbridge.lightning_app.models.fingerprints import check_different, model_fingerprint, tokenizer_fingerprint
from labelbridge.lightning_app.models.locate import card_facts
from labelbridge.lightning_app.models.networks import check_single_label
from labelbridge.lightning_app.protocols import (
    EncodedBatch,
    HasTokenizer,
    HasTrainingTokens,
    StepRows,
    batch_rows,
    datamodule_of,
)

from .base import StageModuleBase
from .cast_linear import make_castable
from .compiled import Backend, compile_networks
from .consistency import ViewLosses, view_losses
from .corrections import Corrections
from .cuda_graphs import GraphedNetwork
from .dev_scores import DevScores
from .dropout import FastDropout, make_fast
from .frozen_cache import FrozenCache
from .heads import freeze_lower_layers, label_outputs, load_classifier, load_config, save_network
from .length_groups import in_groups
from .losses import ClassCounts, RowLosses
from .optimizers import check_optimizer, optimizer_and_schedule
from .packing import is_known, make_packable, obstacle, pack, pack_sorted, packed_logits
from .thinned import deviations_under_dropout
from .threads import ThreadedNetwork, by_rows, default_threads
from .trained_rows import train_all_rows, train_rows_that_occur, trained_embeddings

log = logging.getLogger(__name__)

NO_LABEL = -100
BATCH = ("inputs", "real", "n_rows")  # what every step reads


class ClassifierModule(StageModuleBase):
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
        lazy_embeddings: Let AdamW move and decay only those word embeddings that have a gradient in a step; another
            method than AdamW, and less work where weights decay or many tokens occur. See `lazy_adamw.py`.
        optimizer: Another optimizer, with settings of its own: `{class_path: torch.optim.SGD, init_args: {lr: 0.1}}`;
            null takes AdamW.
        lr_scheduler: Another schedule, stepped after every optimizer step, of `torch.optim.lr_scheduler` or your own;
            null takes the linear one.
        dropout: If given, replaces every dropout rate of the model.
        gradient_checkpointing: Recompute activations to save memory.
        pooling: What a new head reads: the `first` token, as classifiers of the transformers library do, or the `mean`
            of all, by a further layer (see `heads.append_mean_pooling`); null takes `mean` for encoders whose
            sentence-transformers configuration says so, as the bundled one's does.
        frozen_layers: If given, the embeddings and this many of the lowest layers stay as they were pretrained; 0
            freezes the embeddings alone (82 % of the bundled encoder's weights). Saves time and memory, and can help
            transfer (Wu and Dredze, 2019, arXiv 1904.09077, section 4.3).
        frozen_cache: A file on a local disk, shared by any runs, in which the outputs of the frozen layers are kept:
            each row passes through them once, then only the other layers are computed. They have no dropout then.
            See `frozen_cache.py`.
        length_groups: How a batch of fit saves padding: `packed`, or null, as one row of tokens (`packing.py`), true in
            groups of rows of similar length (`length_groups.py`), false not at all. What cannot be packed (other
            networks, a `frozen_cache`) is computed in groups on a CPU, and padded elsewhere.
        threads: How many threads compute parts of a batch on a CPU, and in fit the number of parts; see `threads.py`.
            null takes as many as torch has, at most 4. Networks that cannot be packed have 1, and so has a fit with
            `gradient_checkpointing`, `torch_compile` or a `frozen_cache`.
        cuda_graphs: Run the forward and backward passes of packed batches as CUDA graphs, which takes the launching of
            their kernels off the host. null does so on one GPU, without `gradient_checkpointing`. See `cuda_graphs.py`.
        torch_compile: Compile the network by torch.compile, with this backend; `inductor` is the usual one. On a CPU
            batches are not packed then. Numbers differ from those of the network as it is by rounding. See
            `compiled.py`.
        head_seed: Seed of a new head alone; null takes `seed`. Weights of several runs can be averaged only if their
            heads began alike.
        logit_adjustment: tau of gold rows; see `corrections.Corrections`.
        class_weighting: gamma; see `corrections.Corrections`.
        label_smoothing: epsilon; see `corrections.Corrections`.
        consistency: lambda of the consistency between a row and its translations, `data.views`; see `consistency.py`.
        prior: In test and predict: `uniform`, or a map from label to share; gives the probabilities under this label
            prior (p * prior / source prior, renormalised) as `probs`, and the model's own as `raw_probs`.
        source_prior: The label prior that the model was trained under: a map from label to share or count; null takes
            the gold rows per class recorded with the model.
        ensemble: In test and predict: further models, whose probabilities are averaged with this one's, each under
            `prior` by its own gold; they must have the same tokenizer.
        dropout_passes: In predict: how many networks with some units dropped score every row, for `dropout_deviations`,
            the standard deviation of each class's probability; see `thinned.py`. 0 for none.
        seed: Seed of a new head and of dropout; linked to `seed_everything`.
    """

    FIT_BATCH: ClassVar[tuple[str, ...]] = ("label",)
    HALF_WEIGHTS: ClassVar[bool] = True
    # Arguments that play no part in scoring rows.
    TRAINING_ALONE: ClassVar[tuple[str, ...]] = (
        "learning_rate", "weight_decay", "adam_epsilon", "warmup_ratio", "lazy_embeddings", "optimizer",
        "lr_scheduler", "dropout", "pooling", "frozen_layers", "frozen_cache", "length_groups", "cuda_graphs",
        "seed", "objective", "synthetic_labels", "temperature", "teacher_temperature", "kl_weight",
        "t_squared",
    )  # fmt: skip

    @check_ranges("model.")
    def __init__(
        self,
        task: Task,
        model: str,
        label_map: dict[str, str | None] | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        learning_rate: NonNegativeFloat = 5e-5,
        weight_decay: NonNegativeFloat = 0.0,
        adam_epsilon: Epsilon = 1e-8,  # 0 would divide by zero for weights without a gradient
        warmup_ratio: Share = 0.0,
        lazy_embeddings: bool = False,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
        dropout: Rate | None = None,
        gradient_checkpointing: bool = False,
        pooling: Literal["first", "mean"] | None = None,
        frozen_layers: int | None = None,
        frozen_cache: str | None = None,
        length_groups: bool | Literal["packed"] | None = None,
        threads: PositiveInt | None = None,
        cuda_graphs: bool | None = None,
        torch_compile: Backend | None = None,
        head_seed: Seed | None = None,
        logit_adjustment: Strength = 0.0,
        class_weighting: Strength = 0.0,
        label_smoothing: Rate = 0.0,
        consistency: NonNegativeFloat = 0.0,
        prior: Literal["uniform"] | dict[str, float] | None = None,
        source_prior: dict[str, float] | None = None,
        ensemble: list[str] | None = None,
        dropout_passes: NonNegativeInt = 0,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.task = task
        self.model_name = model
        self.label_map = label_map
        self.trust_remote_code = trust_remote_code
        self.revision = revision
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.adam_epsilon = adam_epsilon
        self.warmup_ratio = warmup_ratio
        self.lazy_embeddings = lazy_embeddings
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.dropout = dropout
        self.gradient_checkpointing = gradient_checkpointing
        self.pooling = pooling
        self.frozen_layers = frozen_layers
        self.frozen_cache = frozen_cache
        self.length_groups = length_groups
        self.threads = threads
        self.cuda_graphs = cuda_graphs
        self.torch_compile = torch_compile
        self.head_seed = head_seed
        self.corrections = Corrections(
            logit_adjustment=logit_adjustment, class_weighting=class_weighting, label_smoothing=label_smoothing
        )
        self.consistency = consistency
        self.prior = prior
        self.source_prior = source_prior
        self.ensemble = ensemble or []
        self.members = ModuleList()
        self.dropout_passes = dropout_passes
        self.seed = seed
        self.network: PreTrainedModel | None = None
        self._features: set[str] = set()  # what its forward takes
        self._frozen_outputs: FrozenCache | None = None
        self._packs = False
        self._parts = 1  # of a training batch, at most
        self._threaded: ThreadedNetwork | None = None
        self._graphs: GraphedNetwork | None = None
        self._window_sums: Tensor | None = None
        self._counts: ClassCounts | None = None
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
        self.dev_scores = DevScores(n_classes)
        self.dev_rows: tuple[Tensor, ...] = ()  # logits and labels of the last check, on the CPU

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this module determines the rows or weights that a run writes; JSON values."""
        shared = {
            "class": type(self).__name__,
            "task": vars(self.task),
            "model": model_fingerprint(self.model_name, self.revision),
            "label_map": self.label_map,
        }
        if subcommand == "fit":
            return {**shared, **self._recipe()}
        members = [model_fingerprint(name, None) for name in self.ensemble] or None
        thinned = {"passes": self.dropout_passes, "seed": self.seed} if self.dropout_passes else None
        more = {"prior": self.prior, "source_prior": self.source_prior, "ensemble": members, "dropout": thinned}
        return {**shared, **{name: value for name, value in more.items() if value is not None}}

    @property
    def further_models(self) -> list[str]:
        """The models of `ensemble`."""
        return self.ensemble

    def facts(self) -> dict[str, Any]:
        """What the report must know of the label prior under which the model, or its rows, predict."""
        if self.prior is not None:
            return {"label_prior": {"how": "divided in test or predict", "target": self.prior}}
        facts: dict[str, Any] = {} if self.head_seed is None else {"head_seed": self.head_seed}
        if self.corrections.removes_prior:
            facts["label_prior"] = {"how": "training", **self.corrections.changed}
        return facts

    def check(self, subcommand: str) -> None:
        """Refuse a model that cannot serve, before any row is read or any weight is loaded.

        Raises:
            InputError: See `heads.label_outputs` and `heads.check_single_label`; or if a label prior cannot be divided
                out, or models not averaged.
        """
        if self.frozen_cache is not None and (not self.frozen_layers or self.gradient_checkpointing):
            raise InputError(
                f"model.frozen_cache is {self.frozen_cache} with model.frozen_layers {self.frozen_layers} and "
                f"model.gradient_checkpointing {str(self.gradient_checkpointing).lower()}, expected at least one "
                "frozen layer and no gradient checkpointing; set these, or model.frozen_cache to null"
            )
        self._check_compiles()
        if subcommand == "fit":
            check_optimizer(self)
            self._check_lazy_embeddings()
        config = load_config(self.model_name, self.trust_remote_code, self.revision)
        outputs = label_outputs(config, self.task, self.label_map, self.model_name)
        if subcommand != "fit":
            check_single_label(config, self.model_name)
            if outputs is None:
                self._load(new_head=False)
        if self.dropout_passes and subcommand != "predict":
            raise InputError(
                f"model.dropout_passes is {self.dropout_passes} in {subcommand}, expected 0; it serves predict"
            )
        self._check_prior(subcommand)
        for name in self.ensemble:
            self._check_member(name, subcommand)
        if self.ensemble:
            check_different([self.model_name, *self.ensemble], "model.ensemble", self.revision)

    def _check_compiles(self) -> None:
        """Refuse torch.compile beside what reaches into the network while it runs."""
        for name in ("frozen_cache", "gradient_checkpointing", "dropout_passes"):
            if self.torch_compile is not None and getattr(self, name):
                raise InputError(
                    f"model.torch_compile is {self.torch_compile} and model.{name} is given, expected one of the two; "
                    f"set model.torch_compile to null, or leave model.{name} out"
                )

    def _check_lazy_embeddings(self) -> None:
        """Refuse them where the embeddings are frozen, or another optimizer moves them."""
        for name, value in (("optimizer", self.optimizer), ("frozen_layers", self.frozen_layers)):
            if self.lazy_embeddings and value is not None:
                raise InputError(
                    f"model.lazy_embeddings is true and model.{name} is given, expected embeddings that AdamW trains; "
                    f"set model.{name} to null, or model.lazy_embeddings to false"
                )

    def _check_prior(self, subcommand: str) -> None:
        """Refuse a label prior that cannot be divided out."""
        if self.prior is None and self.source_prior is None:
            return
        if subcommand in ("fit", "validate"):
            raise InputError(
                f"model.prior is {self.prior} in {subcommand}, expected null; it serves test and predict, and "
                "export.prior writes a label prior into the model that fit exports"
            )
        for name in (self.model_name, *self.ensemble):
            self.log_shift(name)

    def _check_member(self, name: str, subcommand: str) -> None:
        """Refuse a further model that cannot read this one's tokens, or does not cover the task."""
        if subcommand in ("fit", "validate"):
            raise InputError(
                f"model.ensemble is {self.ensemble} in {subcommand}, expected none; it serves predict and test"
            )
        config = load_config(name, self.trust_remote_code)
        check_single_label(config, name)
        if label_outputs(config, self.task, self.label_map, name) is None:
            raise InputError(
                f"model.ensemble {name}: a bare encoder, expected a fine-tuned classifier, such as RUN/model"
            )
        if tokenizer_fingerprint(name) != tokenizer_fingerprint(self.model_name, self.revision):
            raise InputError(
                f"model.ensemble {name}: another tokenizer than {self.model_name}, expected the same, as batches are "
                "shared; write pseudolabels of each by itself"
            )

    def log_shift(self, name: str) -> Tensor:
        """log(prior / source prior) of a model, which is added to its logits; float64 of shape (C,).

        Raises:
            InputError: If the prior under which the model was trained is not known, or is divided out already.
        """
        if self.prior is None:
            raise InputError("model.source_prior is given without model.prior; set model.prior to uniform or to a map")
        known = card_facts(name)
        if "label_prior" in known and self.source_prior is None:
            raise InputError(
                f"model.prior is {self.prior}, but {name} no longer predicts under the label prior of its "
                f"gold ({known['label_prior'].get('how')}); set model.prior to null, or give model.source_prior"
            )
        source = self.source_prior or known.get("gold_counts")
        if not source or not any(source.values()):
            raise InputError(
                f"model.prior is {self.prior}, but {name} records no gold rows per class; give the label "
                "prior that it was trained under as model.source_prior"
            )
        target_C = prior_vector(self.prior, self.task, "model.prior")
        return (
            torch.from_numpy(target_C).log()
            - torch.from_numpy(prior_vector(source, self.task, "model.source_prior")).log()
        )

    def configure_model(self) -> None:
        """Load the weights, once, when the Trainer is ready for them."""
        if self.network is not None:
            return
        # `from_pretrained` leaves dropout off, and Lightning keeps each submodule's mode.
        self.network = self._load(new_head=self.trainer.state.fn == "fit").train()
        self._features = set(inspect.signature(self.network.forward).parameters)
        data, config = datamodule_of(self.trainer), self.network.config
        # Asked for only where it is needed, as it may have been freed. A decoder looks for the last token before the
        # padding.
        if config.get_text_config().pad_token_id is None and isinstance(data, HasTokenizer):
            config.pad_token_id = config.get_text_config().pad_token_id = data.tokenizer.pad_token_id
        self.members.extend(self._load_member(name) for name in self.ensemble)
        if self.gradient_checkpointing:
            self.network.gradient_checkpointing_enable()
        if self.frozen_layers is not None:
            freeze_lower_layers(self.network, self.frozen_layers, self.model_name)
        if self.frozen_cache is not None:
            layers = self.frozen_layers or 0
            self._frozen_outputs = FrozenCache(Path(self.frozen_cache), self.network, layers, self.model_name)
        if self.trainer.state.fn == "fit":
            self._prepare_batches(self.network)
        if self._moves_no_other_rows:
            train_rows_that_occur(self.network, self._training_tokens())
        if self.lazy_embeddings and self.trainer.state.fn == "fit":
            trained_embeddings(self.network, self.model_name)  # refuses what has none
        compile_networks([self.network, *self.members], self.torch_compile, self.model_name)
        if self.trainer.state.fn == "fit" and self._takes_cuda_graphs():
            self._graphs = GraphedNetwork(self.network)

    def _takes_cuda_graphs(self) -> bool:
        """Whether passes are recorded as CUDA graphs.

        Raises:
            InputError: If they are asked for where they cannot be.
        """
        strategy, why_not = self.trainer.strategy, None
        if strategy.root_device.type != "cuda" or not isinstance(strategy, SingleDeviceStrategy):
            why_not = "the fit is not on one GPU"
        elif not self._packs:
            why_not = "batches are not packed"
        elif self.gradient_checkpointing:
            why_not = "model.gradient_checkpointing is true, which draws dropout anew"
        if self.cuda_graphs and why_not is not None:
            raise InputError(f"model.cuda_graphs is true, but {why_not}; set it to null")
        return why_not is None and self.cuda_graphs is not False

    def _prepare_batches(self, network: PreTrainedModel) -> None:
        """Let training batches be packed, and computed in threads.

        Raises:
            InputError: If threads are asked for where there can be none.
        """
        self._packs, why_not = self._prepared_to_pack(network), None
        if self.trainer.strategy.root_device.type != "cpu":
            why_not = "the fit is not on a CPU"
        elif self.torch_compile is None:
            make_fast(network)
        if not self._packs:
            why_not = why_not or "batches are not packed"
        elif self.gradient_checkpointing:
            why_not = why_not or "model.gradient_checkpointing is true, which draws dropout anew"
        if self.threads is not None and self.threads > 1 and why_not is not None:
            raise InputError(f"model.threads is {self.threads}, but {why_not}; set it to null")
        self._parts = 1 if why_not is not None else self.threads or default_threads()

    def _prepared_to_pack(self, network: PreTrainedModel) -> bool:
        on_cpu = self.trainer.strategy.root_device.type == "cpu"
        if isinstance(self.length_groups, bool):
            return False
        why_not = obstacle(network) if self.frozen_cache is None else "model.frozen_cache keeps outputs of padded rows"
        if self.torch_compile is not None and on_cpu:
            why_not = "model.torch_compile compiles padded batches on a CPU"
        if why_not is None:
            make_packable(network)
        else:
            log.info("%s: batches are not packed (%s), but %s", self.model_name, why_not,
                     "cut into groups of similar length" if on_cpu else "padded to their longest row")  # fmt: skip
        return why_not is None

    @property
    def _moves_no_other_rows(self) -> bool:
        """Whether a fit leaves embeddings as they are that never have a gradient; other optimizers may move them."""
        is_ours = type(self).configure_optimizers is ClassifierModule.configure_optimizers and self.optimizer is None
        return self.trainer.state.fn == "fit" and is_ours and (self.weight_decay == 0 or self.lazy_embeddings)

    def _training_tokens(self) -> np.ndarray | None:
        data = datamodule_of(self.trainer)
        return data.training_tokens() if isinstance(data, HasTrainingTokens) else None

    def on_fit_start(self) -> None:
        """Give each rank dropout of its own; weights are already the same on all."""
        torch.manual_seed(self.seed + 7919 * self.global_rank)
        if self._parts > 1 and self.network is not None:
            self._cut_batches(self.network)

    def _cut_batches(self, network: PreTrainedModel) -> None:
        """Let threads compute the parts of a training batch, unless something in the network draws for all of them."""
        make_fast(network)
        dropouts = [layer for layer in network.modules() if isinstance(layer, _DropoutNd)]
        others = sorted({type(layer).__name__ for layer in dropouts if layer.p and not isinstance(layer, FastDropout)})
        if network.is_gradient_checkpointing or others:
            why_not = f"dropout layers of another kind: {', '.join(others)}" if others else "gradient checkpointing"
            log.info("%s: one thread computes a training batch (%s)", self.model_name, why_not)
            return
        make_castable(network)
        self._threaded = ThreadedNetwork(network, self._parts)
        log.info("%s: %d threads compute the parts of a training batch", self.model_name, self._parts)

    def on_fit_end(self) -> None:
        """Leave a network of the usual kind."""
        self._graphs = self._threaded = None
        train_all_rows(self.network)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits in the task's order; float32 or wider, whatever the precision of the network. Shape (B, C)."""
        known = self._known(inputs)
        logits_BC = self._training_logits(known) if self.training else self._logits(known)
        return _wide(logits_BC)

    def _training_logits(self, known: dict[str, Tensor]) -> Tensor:
        if self._threaded is not None:
            return self._threaded(known)
        if self._packs:
            return packed_logits(self.network, known)
        grouped = self.length_groups if isinstance(self.length_groups, bool) else self.device.type == "cpu"
        return in_groups(self._logits, known) if grouped else self._logits(known)

    def _logits(self, known: dict[str, Tensor]) -> Tensor:
        assert self.network is not None, "configure_model loads the network"
        with nullcontext() if self._frozen_outputs is None else self._frozen_outputs.outputs_given(known):
            return self._logits_of(self.network, known)

    def _logits_of(self, network: PreTrainedModel, known: dict[str, Tensor]) -> Tensor:
        """Logits of a network; in evaluation on a CPU by several threads."""

        def logits(inputs: dict[str, Tensor]) -> Tensor:
            logits_BC: Tensor = network(**inputs).logits
            return logits_BC

        plain = self.training or torch.is_grad_enabled() or self.device.type != "cpu"
        if plain or self._frozen_outputs is not None or self.torch_compile is not None or not is_known(network):
            return logits(known)
        return by_rows(logits, known, self.threads or default_threads())

    def _known(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the network takes: some tokenizers mark the texts of a pair for networks that make no use of it."""
        return {name: value for name, value in inputs.items() if not self._features or name in self._features}

    def row_losses(self, logits_BC: Tensor, batch: EncodedBatch) -> RowLosses:
        """Loss and weight of every row; given by the subclasses that can be fitted."""
        raise TypeError(f"{type(self).__name__} cannot be fitted; use TeacherModule or StudentModule")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Check a batch of a user's own loader, and say which window it belongs to; ours say so themselves."""
        self._check_batch(batch, self.FIT_BATCH)
        if self._graphs is not None:
            self._graphs.begin_batch()
        if "window_rows" not in batch:
            accumulate = int(self.trainer.accumulate_grad_batches)
            batch["window_rows"] = batch["n_rows"] * accumulate * self.trainer.world_size
            batch["ends_window"] = (batch_idx + 1) % accumulate == 0 or self.trainer.is_last_batch

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Check a batch of a user's own loader."""
        self._check_batch(batch, ("label",))

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Check a batch of a user's own loader."""
        self._check_batch(batch)

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Check a batch of a user's own loader."""
        self._check_batch(batch)

    def on_host(self, batch: EncodedBatch) -> EncodedBatch:
        """Pack a training batch before it goes to the device, which then need not be waited for."""
        inputs = batch.get("inputs") if isinstance(batch, dict) else None
        if not self._packs or not self.trainer.training or not isinstance(inputs, dict) or self._threaded is not None:
            return batch
        if any(value.device.type != "cpu" for value in inputs.values()):
            return batch
        known, graphs = self._known(inputs), self._graphs is not None
        on_cpu = self.device.type == "cpu" and not graphs
        packed = pack_sorted(self.network, known) if on_cpu else pack(self.network, known, filled=graphs)
        if packed is None:
            return batch
        return {**batch, "packed": packed.pinned() if self.device.type == "cuda" else packed}

    def training_step(self, batch: EncodedBatch, batch_idx: int) -> Tensor:
        """A window's loss, as far as this micro-batch goes.

        Lightning divides by `accumulate_grad_batches`, also in a shorter last window, and DDP averages over ranks;
        both are undone here, so that the gradients of a window add up to that of `sum_i w_i loss_i / W`.
        """
        logits_BC = self._batch_logits(batch)
        losses = self.row_losses(logits_BC, batch)
        views = view_losses(self, logits_BC, batch, self.consistency)
        share: Tensor = (losses.weighted_sum + views.weighted_sum) / batch["window_rows"]
        self._log_window(losses, views, share.detach(), batch)
        scale: int = self.trainer.accumulate_grad_batches * self.trainer.world_size
        return share * scale

    def _batch_logits(self, batch: EncodedBatch) -> Tensor:
        """Logits of a training batch; shape (B, C)."""
        packed = batch.get("packed")
        if packed is None and self._graphs is not None:  # of a user's own loader
            packed = pack(self.network, self._known(batch["inputs"]), filled=True)
        if packed is None:
            logits_BC: Tensor = self(batch["inputs"])
            return logits_BC
        return _wide(packed_logits(self.network, packed) if self._graphs is None else self._graphs(packed))

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Forget the gradients of the last window; those that CUDA graphs add to stay where they are."""
        optimizer.zero_grad(set_to_none=not self._holds_gradients)

    @property
    def _holds_gradients(self) -> bool:
        return self._graphs is not None and self._graphs.holds_gradients

    def class_counts(self, batch: EncodedBatch) -> ClassCounts:
        """Rows per class of the training sets, taken from the first batch."""
        if self._counts is None:
            self._counts = ClassCounts(
                batch.get("gold_counts"), batch.get("synthetic_counts"), batch.get("teacher_counts")
            )
        return self._counts

    def on_train_batch_end(self, outputs: Any, batch: EncodedBatch, batch_idx: int) -> None:
        """Free the gradients that the optimizer has used: dev checks and exports then need no memory beside them."""
        if batch["ends_window"] and not self._holds_gradients:
            for parameter in self.parameters():
                parameter.grad = None

    def validation_step(self, batch: EncodedBatch, batch_idx: int) -> None:
        """Update the metrics on the source dev set."""
        logits_BC = self(batch["inputs"])
        label_B = batch["label"].masked_fill(~batch["real"], NO_LABEL)
        loss = functional.cross_entropy(logits_BC, label_B, ignore_index=NO_LABEL, reduction="sum")
        n_rows = batch["n_rows"]
        self.dev_metrics.update(logits_BC.softmax(dim=1), label_B)
        self.dev_loss.update(loss / max(n_rows, 1), weight=n_rows)
        self.dev_confusion.update(logits_BC, label_B)
        self.dev_scores.update(logits_BC[batch["real"]], label_B[batch["real"]])
        # torchmetrics objects add up over ranks of unequal size; `sync_dist` of plain numbers would not.
        self.log_dict(self.dev_metrics, prog_bar=True, batch_size=max(n_rows, 1))
        self.log("dev/loss", self.dev_loss, batch_size=max(n_rows, 1))

    def on_validation_epoch_end(self) -> None:
        """Warn if every row of the source dev set was predicted as one class; counted over all ranks."""
        confusion_CC = self.dev_confusion.compute()  # rows: true class, columns: predicted class
        self.dev_confusion.reset()
        self.dev_rows = tuple(scores.cpu() for scores in self.dev_scores.compute())
        self.dev_scores.reset()
        if self.trainer.sanity_checking or not self.trainer.is_global_zero:
            return
        predicted = dict(zip(self.task.labels, confusion_CC.sum(dim=0).tolist(), strict=True))
        true = [label for label, count in zip(self.task.labels, confusion_CC.sum(dim=1).tolist(), strict=True) if count]
        warning = one_class_warning("dev", predicted, true, "lower model.learning_rate or train longer")
        if warning is not None:
            log.warning("%s", warning)

    def test_step(self, batch: EncodedBatch, batch_idx: int) -> StepRows:
        """Rows out, as in predict; the metrics are computed from the written rows."""
        return self.predict_step(batch, batch_idx)

    def predict_step(self, batch: EncodedBatch, batch_idx: int) -> StepRows:
        """Probabilities of every row, float64 so that the log of a near-certain one keeps its digits."""
        raw = self._raw_log_probs(batch)
        corrected = self._corrected(raw)
        columns = self._predicted(corrected)
        if self.prior is not None:
            columns["raw_probs"] = self._predicted(raw)["probs"]
        if self.dropout_passes:
            columns[DEVIATIONS] = deviations_under_dropout(
                self, lambda: _mean_probs(self._corrected(self._raw_log_probs(batch))), self.dropout_passes, self.seed
            ).numpy()
        return batch_rows(batch, columns)

    def _raw_log_probs(self, batch: EncodedBatch) -> list[Tensor]:
        """Log-probabilities of each model, on the CPU; float64 of shape (B, C)."""
        inputs = self._known(batch["inputs"])
        logits = [self(batch["inputs"]), *(self._logits_of(member, inputs) for member in self.members)]
        wide = [_wide(logits_BC) for logits_BC in logits]
        return [functional.log_softmax(logits_BC, dim=1).cpu().double() for logits_BC in wide]

    def _corrected(self, raw: list[Tensor]) -> list[Tensor]:
        """Each model's log-probabilities under `prior`, if one is given."""
        if self.prior is None:
            return raw
        names = (self.model_name, *self.ensemble)
        return [
            functional.log_softmax(raw_BC + self.log_shift(name), dim=1)
            for raw_BC, name in zip(raw, names, strict=True)
        ]

    def _predicted(self, log_probs: list[Tensor]) -> dict[str, Any]:
        """The mean of the models' probabilities, and its most likely class."""
        probs_BC = _mean_probs(log_probs)
        return {
            "prediction": [self.task.labels[best] for best in probs_BC.argmax(dim=1).tolist()],
            "probs": probs_BC.numpy(),
        }

    def score_rows(self, batch: EncodedBatch) -> tuple[Tensor, Tensor]:
        """Row numbers and log-probabilities of the real rows; for training dynamics. Shapes (B,), (B, C)."""
        log_probs_BC = functional.log_softmax(self(batch["inputs"]), dim=1)
        return batch["row"][batch["real"]], log_probs_BC[batch["real"]]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with linear decay, as in the paper's code, unless the configuration says otherwise."""
        lazy = [trained_embeddings(self.network, self.model_name)] if self.lazy_embeddings else []
        return optimizer_and_schedule(self, self, lazy)

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write the network into a folder, as safetensors, its weights in `dtype`."""
        assert self.network is not None, "configure_model loads the network"
        save_network(self.network, folder, dtype)

    def _check_batch(self, batch: Any, reads: Sequence[str] = ()) -> None:
        """Refuse what a loader of a user's own may give.

        Raises:
            InputError: If the batch lacks what this module reads.
        """
        has = set(batch) if isinstance(batch, dict) else set()
        missing = [name for name in (*BATCH, *reads) if name not in has]
        if missing:
            shown = f"the keys {sorted(has)}" if has else f"no keys ({type(batch).__name__})"
            raise InputError(
                f"{type(self).__name__}: a batch with {shown}, expected also {', '.join(missing)}; make batches with "
                "labelbridge.Collate, the collate_fn of your DataLoader"
            )

    def _load_member(self, name: str) -> PreTrainedModel:
        return load_classifier(
            name, self.task, self.label_map, new_head=False, trust_remote_code=self.trust_remote_code
        )

    def _load(self, new_head: bool) -> PreTrainedModel:
        return load_classifier(
            self.model_name,
            self.task,
            self.label_map,
            new_head=new_head,
            seed=self.seed if self.head_seed is None else self.head_seed,
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
        without_dropout = None if self.frozen_cache is None else True  # in the frozen layers
        more = {
            "frozen_cache": without_dropout,
            "length_groups": self.length_groups,
            "threads": self.threads,
            "cuda_graphs": self.cuda_graphs,
            "lazy_embeddings": self.lazy_embeddings or None,
            "head_seed": self.head_seed,
            "consistency": self.consistency or None,
        }
        changed = {name: value for name, value in more.items() if value is not None}
        return {**{name: getattr(self, name) for name in names}, **changed, **self.corrections.changed}

    def _log_window(self, losses: RowLosses, views: ViewLosses, share: Tensor, batch: EncodedBatch) -> None:
        """Log what the window amounts to, once, when its last micro-batch has been seen."""
        real_B = batch["real"]
        synthetic_B = batch.get("synthetic", torch.zeros_like(real_B))
        soft_B = losses.soft_B
        parts = (
            share,
            losses.ce_B.where(real_B & ~soft_B, 0.0).sum().detach(),
            losses.kl_B.where(real_B & soft_B, 0.0).sum().detach(),
            (real_B & soft_B).sum(),
            (real_B & ~synthetic_B).sum(),
            (real_B & synthetic_B).sum(),
            views.divergence_P.sum().detach(),
            share.new_full((), len(views.divergence_P)),
        )
        # No number goes to the GPU as a tensor of its own: the host would wait until it is there.
        sums = torch.stack([part.to(share.dtype) for part in parts])
        self._window_sums = sums if self._window_sums is None else self._window_sums + sums
        if not batch["ends_window"]:
            return
        total = self.trainer.strategy.reduce(self._window_sums, reduce_op="sum")
        self._window_sums = None
        loss, ce, kl, n_soft, n_gold, n_synthetic, divergence, n_views = total.unbind()
        self.log("train/loss", loss, prog_bar=True, batch_size=1)
        self.log("train/ce", ce / (n_gold + n_synthetic - n_soft).clamp_min(1), batch_size=1)
        self.log("train/kl", kl / n_soft.clamp_min(1), batch_size=1)
        if self.consistency:
            self.log("train/consistency", divergence / n_views.clamp_min(1), batch_size=1)
        self.log("train/gold_rows", n_gold, batch_size=1)
        self.log("train/synthetic_rows", n_synthetic, batch_size=1)


def _wide(logits_BC: Tensor) -> Tensor:
    """Logits in float32, or wider if they are."""
    return logits_BC.to(torch.promote_types(logits_BC.dtype, torch.float32))


def _mean_probs(log_probs: list[Tensor]) -> Tensor:
    """The mean of the models' probabilities; float64 of shape (B, C)."""
    return log_probs[0].exp() if len(log_probs) == 1 else torch.stack(log_probs).exp().mean(dim=0)
