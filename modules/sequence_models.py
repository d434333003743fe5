"""Loading sequence-to-sequence models, and LoRA adapters over them."""

import warnings
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.packages import require
from labelbridge.lightning_app.core.ranges import PositiveInt, Range, check_fields
from labelbridge.lightning_app.models.fingerprints import check_base
from labelbridge.lightning_app.models.loading import loading
from labelbridge.lightning_app.models.locate import adapter_base, adapter_base_revision, locate

from .heads import check_complete, dropout_keys, probe_logits, quiet_transformers


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al., arXiv 2106.09685): W x becomes W x + alpha / r B A x, and W stays as it is.

    Args:
        r: Rank of B A.
        alpha: Scale of what is added, times r.
        dropout: Dropout rate of what A reads.
        targets: The layers that get one, by the last part of their names: `q`, `k`, `v` in the T5 family (mT5, mt0);
            `q_proj`, `k_proj`, `v_proj` in NLLB, M2M100, BART and OPUS-MT.
    """

    r: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: Annotated[float, Range(least=0, below=1)] = 0.05
    targets: list[str] = field(default_factory=lambda: ["q", "k", "v"])

    def __post_init__(self) -> None:
        check_fields(self, "model.lora.")
        if not self.targets:
            raise InputError("model.lora.targets is [], expected one or more names of layers")


def load_seq2seq(
    name: str,
    *,
    trust_remote_code: bool = False,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    dropout: float | None = None,
) -> PreTrainedModel:
    """Load a sequence-to-sequence model; an adapter is added into the weights of its base.

    Args:
        name: A folder, also an adapter's, or a Hub id.
        trust_remote_code: Whether to run code that comes with the model.
        revision: The Hub model's commit, tag or branch.
        dtype: Type of the weights.
        dropout: If given, replaces every dropout rate of the model.

    Raises:
        InputError: If it cannot be loaded, or an adapter's base is missing or another one than it was trained on.
    """
    base = adapter_base(name)
    if base is not None:
        check_base(name)
        peft = require("peft", "translation", "model.lora")
        network = load_seq2seq(
            base, trust_remote_code=trust_remote_code, revision=adapter_base_revision(name), dtype=dtype,
            dropout=dropout,
        )  # fmt: skip
        with loading(name):
            merged: PreTrainedModel = peft.PeftModel.from_pretrained(network, locate(name)).merge_and_unload()
        return merged.requires_grad_(True)
    config = load_seq2seq_config(name, trust_remote_code, revision)
    overrides = dict.fromkeys(dropout_keys(config), dropout) if dropout is not None else {}
    with quiet_transformers(), loading(name):
        loaded, info = AutoModelForSeq2SeqLM.from_pretrained(
            locate(name), trust_remote_code=trust_remote_code, revision=revision, dtype=dtype, output_loading_info=True,
            **overrides,
        )  # fmt: skip
    check_complete(info["missing_keys"], info["unexpected_keys"], loaded, name, "a complete sequence-to-sequence model")
    probe_logits(loaded, name)
    return loaded


def load_seq2seq_config(name: str, trust_remote_code: bool = False, revision: str | None = None) -> Any:
    """Read a model's configuration, an adapter's from its base.

    Raises:
        InputError: If there is no such model, or it does not write text from text.
    """
    base = adapter_base(name)
    if base is not None:
        return load_seq2seq_config(base, trust_remote_code, adapter_base_revision(name))
    with loading(name):
        config = AutoConfig.from_pretrained(locate(name), trust_remote_code=trust_remote_code, revision=revision)
    if not config.is_encoder_decoder:
        raise InputError(
            f"model {name}: a {config.model_type} model, expected one that writes text from text (mT5, mt0, NLLB, "
            "M2M100, mBART, OPUS-MT)"
        )
    return config


def check_targets(name: str, lora: Lora, trust_remote_code: bool = False, revision: str | None = None) -> None:
    """Refuse targets that the model does not have; no weights are loaded.

    Raises:
        InputError: Lists the layers that the model has.
    """
    require("peft", "translation", "model.lora")
    config = load_seq2seq_config(name, trust_remote_code, revision)
    with torch.device("meta"), quiet_transformers():
        skeleton = AutoModelForSeq2SeqLM.from_config(config, trust_remote_code=trust_remote_code)
    layers = {path.rsplit(".", 1)[-1] for path, one in skeleton.named_modules() if isinstance(one, nn.Linear)}
    missing = [target for target in lora.targets if target.rsplit(".", 1)[-1] not in layers]
    if missing:
        raise InputError(
            f"model.lora.targets {missing}: not in {name}, whose layers are {sorted(layers)}; set --model.lora.targets"
        )


def add_lora(network: PreTrainedModel, lora: Lora, name: str, revision: str | None, seed: int) -> Any:
    """Freeze a model and put adapters beside the targets, A at random and B zero.

    Args:
        network: The model.
        lora: The adapters.
        name: The model's name, which the exported adapter gives as its base.
        revision: The Hub model's commit, tag or branch.
        seed: Seed of A.
    """
    peft = require("peft", "translation", "model.lora")
    settings = peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM", r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout,
        target_modules=list(lora.targets), revision=revision,
    )  # fmt: skip
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(seed)
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")  # peft's own call
        adapted = peft.get_peft_model(network, settings)
    written = adapted.peft_config["default"]
    written.base_model_name_or_path = name
    written.target_modules = list(lora.targets)  # peft makes a set of it, whose order differs from run to run
    return adapted
