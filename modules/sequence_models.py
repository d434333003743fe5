"""LoRA adapters over sequence-to-sequence models."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.packages import require
from labelbridge.lightning_app.core.ranges import PositiveInt, Rate, check_fields
from labelbridge.lightning_app.models.networks import quiet_transformers
from labelbridge.lightning_app.models.seq2seq import load_seq2seq_config


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
    dropout: Rate = 0.05
    targets: list[str] = field(default_factory=lambda: ["q", "k", "v"])

    def __post_init__(self) -> None:
        check_fields(self, "model.lora.")
        if not self.targets:
            raise InputError("model.lora.targets is [], expected one or more names of layers")


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
