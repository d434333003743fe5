"""Loading sequence-to-sequence models, also those that are a LoRA adapter over another."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel

from ..core.errors import InputError
from ..core.packages import require
from .fingerprints import check_base
from .loading import loading, read_weights
from .locate import ADAPTER, ADAPTER_WEIGHTS, adapter_base, adapter_base_revision, locate
from .networks import check_complete, dropout_keys, probe_logits, quiet_transformers


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
        InputError: If it cannot be loaded, weights are missing or are no numbers, or an adapter's base is missing or
            another one than it was trained on.
    """
    base = adapter_base(name)
    if base is not None:
        check_base(name)
        network = load_seq2seq(
            base, trust_remote_code=trust_remote_code, revision=adapter_base_revision(name), dtype=dtype,
            dropout=dropout,
        )  # fmt: skip
        return _with_adapter(network, name)
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


def _with_adapter(network: PreTrainedModel, name: str) -> PreTrainedModel:
    """Add an adapter's weights into those of its base.

    Args:
        network: The base.
        name: The adapter's folder.

    Raises:
        InputError: If the adapter's configuration and its weights do not belong together: the library leaves out what
            it does not know, and makes anew what is missing.
    """
    peft = require("peft", "translation", "model.lora")
    file, remedy = Path(locate(name)) / ADAPTER_WEIGHTS, "copy the adapter again from its run"
    if not file.is_file():
        raise InputError(f"{file}: no such file, expected the adapter's weights; {remedy}")
    stored = read_weights(file)
    with loading(name, "its adapter", remedy):
        adapted = peft.PeftModel.from_pretrained(network, locate(name))
        expected = set(peft.get_peft_model_state_dict(adapted))
    if missing := sorted(expected - stored.keys()):
        raise InputError(f"{file}: {len(missing)} weights are missing, the first is {missing[0]}; {remedy}")
    if left_out := sorted(stored.keys() - expected):
        raise InputError(
            f"{file}: {len(left_out)} weights have no place in the network, the first is {left_out[0]}; set "
            f"target_modules in {ADAPTER} to what it was trained with"
        )
    if coarse := sorted(key for key, weight in stored.items() if not weight.is_floating_point()):
        raise InputError(
            f"{file}: {len(coarse)} weights are whole numbers or bytes, the first is {coarse[0]}, expected "
            f"floating-point numbers; {remedy}"
        )
    merged: PreTrainedModel = adapted.merge_and_unload()
    check_complete((), (), merged, name, "an adapter of finite weights")
    probe_logits(merged, name)
    return merged.requires_grad_(True)
