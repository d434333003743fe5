"""Networks at the door: missing weights, and numbers that are none, are one line."""

import inspect
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.utils import logging as transformers_logging

from ..core.errors import InputError
from .finite import not_finite
from .loading import coarse_weights, loading
from .locate import locate

# Layers that a model has beyond those that its text is computed with: they foresee the tokens after the next.
_FORESEEING = ("num_nextn_predict_layers", "num_mtp_layers")


def check_single_label(config: PretrainedConfig, name: str) -> None:
    """Refuse a classifier that judges every label alone, by a sigmoid: its outputs are no probabilities of classes.

    Raises:
        InputError: If the model's configuration says so.
    """
    problem = getattr(config, "problem_type", None)
    if problem not in (None, "single_label_classification"):
        raise InputError(
            f"model {name}: its problem_type is {problem}, expected a classifier with one label a row; choose another "
            'model, or train one with "python main.py fit --config teacher.yaml"'
        )


def check_complete(missing: Collection[str], unused: Collection[str], model: Any, name: str, expected: str) -> None:
    """Refuse a network of which weights were made at random or left out, or hold numbers that are none.

    Args:
        missing: The weights that its files lack.
        unused: The weights of its files that it lacks; those of its layers are refused, other heads and poolers not.
        model: The network.
        name: Its name.
        expected: What to give instead.

    Raises:
        InputError: Names the weights.
    """
    if missing:
        first = sorted(missing)[:3]
        raise InputError(f"model {name}: weights missing for {first}, they would be made at random; give {expected}")
    if left_out := sorted(key for key in unused if _is_of_layers(key, model)):
        raise InputError(
            f"model {name}: {len(left_out)} weights have no place in its network, the first is {left_out[0]}; set its "
            "config.json to what the weights are of, the number of layers first"
        )
    if coarse := coarse_weights(Path(locate(name)), model):
        raise InputError(
            f"model {name}: {len(coarse)} of its weights are whole numbers or bytes, the first is {coarse[0]}, "
            f"expected floating-point numbers of 16 bits or more; give {expected}"
        )
    wrong = not_finite(model.state_dict().items())
    if wrong:
        raise InputError(
            f"model {name}: {len(wrong)} of its weights hold nan or inf, the first is {wrong[0]}; take the model from "
            "an earlier check, or another one"
        )


def _is_of_layers(key: str, model: Any) -> bool:
    """Whether a weight that a network lacks belongs to one of its stacks of layers: to a further layer, or inside one.

    Without it the network would compute something else. Layers that foresee tokens come after the others where the
    configuration counts them (DeepSeek, GLM); no command uses them. Nor does a network lack the buffers of old files.
    """
    config, prefix = model.config.get_text_config(), f"{model.base_model_prefix}."
    counts = [getattr(config, field, None) for field in _FORESEEING]
    foreseeing = max([0, *(count for count in counts if isinstance(count, int))])
    weights = model.state_dict().keys()
    stacks: dict[str, int] = {}
    for path, stack in model.named_modules():
        if isinstance(stack, nn.ModuleList):
            stacks[path] = stacks[f"{prefix}{path}"] = stacks[path.removeprefix(prefix)] = len(stack)
    for number in re.finditer(r"\.(\d+)\.", key):
        size = stacks.get(key[: number.start()])
        if size is None:
            continue
        if int(number[1]) >= size:
            return int(number[1]) >= size + foreseeing
        module, _, kind = key.rpartition(".")
        beside = {f"{module}.weight", f"{prefix}{module}.weight", f"{module.removeprefix(prefix)}.weight"}
        return kind == "weight" or (kind == "bias" and not beside.isdisjoint(weights))
    return False


@torch.no_grad()
def probe_logits(model: Any, name: str) -> Tensor:
    """A network's logits for a few tokens: of shape (1, C), or (1, L, V) where it writes text.

    Raises:
        InputError: If it gives none, or such as hold nan or inf; -inf alone stands for tokens that cannot be written.
    """
    was_training = model.training
    with loading(name, "its logits", "copy the model's folder again, with its own config.json"):
        inputs = {"input_ids": probe_tokens(model.config).to(model.device)}
        # Classifiers make these of the others; some networks that write text do not.
        if model.config.is_encoder_decoder and "decoder_input_ids" in inspect.signature(model.forward).parameters:
            inputs["decoder_input_ids"] = inputs["input_ids"]
        logits: Tensor = model.eval()(**inputs).logits
        if bool((logits.isnan() | (logits == torch.inf)).any()):
            raise ValueError("they hold nan or inf")
    model.train(was_training)
    return logits


def probe_tokens(config: PretrainedConfig) -> Tensor:
    """Token ids that any text classifier takes: a few ordinary ones, then an end token where there is one.

    BART and T5 classify by the last end token; shape (1, L).
    """
    text = config.get_text_config()
    special = {getattr(text, f"{kind}_token_id", None) for kind in ("pad", "bos", "cls", "sep", "decoder_start")}
    end = getattr(text, "eos_token_id", None)
    ends = end if isinstance(end, list) else [] if end is None else [end]
    ordinary = [number for number in range(getattr(text, "vocab_size", 16)) if number not in {*special, *ends}]
    return torch.tensor([[*ordinary[-4:], *ends[:1]]])


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Missing weights are judged here, so the library's own report and progress bars are left out."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()


def dropout_keys(config: PretrainedConfig) -> list[str]:
    """The settings of a model's configuration that are dropout rates, of activations or of whole layers."""
    values = config.to_dict().items()
    return [key for key, value in values if ("dropout" in key or "layerdrop" in key) and type(value) in (int, float)]
