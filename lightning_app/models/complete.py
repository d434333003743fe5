"""Whether the folder of a trained model is complete, and its parts belong together."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from ..core.errors import InputError
from .card import is_translator
from .loading import check_together, check_vocabulary, load_tokenizer, loading
from .locate import CARD_FACTS, locate
from .networks import check_complete, check_single_label, probe_logits, quiet_transformers
from .seq2seq import load_seq2seq, load_seq2seq_config

log = logging.getLogger(__name__)

_REMEDY = "copy the model folder again from its run"


def check_model_folder(folder: Path, facts: Mapping[str, Any]) -> None:
    """Load a trained model as its users will: network, tokenizer, and a few logits.

    A network with code of its own is not loaded, as nobody has said here that the code may run.

    Args:
        folder: The model folder of a fit run.
        facts: What its `labelbridge.json` holds.

    Raises:
        InputError: If a part is missing or damaged, or two of them do not belong together.
    """
    name = str(folder)
    if not is_translator(facts) and "task" not in facts:
        raise InputError(
            f"{folder / CARD_FACTS}: names neither task nor languages, expected what a fit writes; {_REMEDY}"
        )
    tokenizer = load_tokenizer(name)
    if is_translator(facts):
        check_vocabulary(tokenizer, load_seq2seq_config(name), name)
        load_seq2seq(name)
        return
    with loading(name, remedy=_REMEDY):
        config = AutoConfig.from_pretrained(locate(name))
    if "auto_map" in config.to_dict():
        log.warning("%s: its network comes with code of its own, so that it is exported without being loaded", folder)
        return
    check_together(tokenizer, config, name)
    check_single_label(config, name)
    labels = [config.id2label.get(number) for number in range(config.num_labels)]
    if labels != facts["task"]["labels"]:
        raise InputError(
            f"{folder / 'config.json'}: its labels are {labels}, expected those of the task in {CARD_FACTS}, "
            f"{facts['task']['labels']}; {_REMEDY}"
        )
    with quiet_transformers(), loading(name, remedy=_REMEDY):
        network, info = AutoModelForSequenceClassification.from_pretrained(
            locate(name), dtype=torch.float32, output_loading_info=True
        )
    missing = sorted(info["missing_keys"])
    check_complete(missing, info["unexpected_keys"], network, name, "a folder that holds the fine-tuned classifier")
    probe_logits(network, name)
