"""Sequence classifiers whose logits stand in the task's order."""

import copy
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task, fold
from labelbridge.lightning_app.models.loading import loading
from labelbridge.lightning_app.models.locate import locate
from labelbridge.lightning_app.models.networks import (
    check_complete,
    check_single_label,
    dropout_keys,
    probe_logits,
    quiet_transformers,
)

log = logging.getLogger(__name__)

_POOLABLE = ("bert", "roberta", "xlm-roberta", "camembert")
_MEAN_WEIGHT = 4.0  # how much the mean counts beside the first token
# What a classifier's configuration may say of its own head, which does not hold for ours.
_OF_ANOTHER_HEAD = (
    "function_to_apply", "task_specific_params", "finetuning_task", "sentence_transformers",
    "sbert_ce_default_activation_function",
)  # fmt: skip
_HEAD_SCALE = 0.5  # keeps the head's tanh nearly linear at the start


def load_config(name: str, trust_remote_code: bool = False, revision: str | None = None) -> PretrainedConfig:
    """Read a model's configuration.

    Raises:
        InputError: If there is no such model, or the Hub cannot be reached.
    """
    with loading(name):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            locate(name), trust_remote_code=trust_remote_code, revision=revision
        )
        [config.id2label[number] for number in range(config.num_labels)]
    return config


def label_outputs(
    config: PretrainedConfig, task: Task, label_map: Mapping[str, str | None] | None, name: str
) -> list[list[int]] | None:
    """Where the task's labels are among a model's outputs.

    Args:
        config: The model's configuration.
        task: The task.
        label_map: Model label -> task label, where they differ; null leaves an output out.
        name: The model's name, for the error.

    Returns:
        For every task label the numbers of the model's outputs that mean it, or None for a bare encoder (labels
        `LABEL_0` ... and no `label_map`).

    Raises:
        InputError: If the model has named labels that do not cover the task, or the map names others.
    """
    renames = {fold(key): value for key, value in (label_map or {}).items()}
    names = [str(config.id2label[number]) for number in range(config.num_labels)]
    unknown = sorted(set(renames) - set(map(fold, names)))
    wrong = sorted(value for value in renames.values() if value is not None and task.match(value) is None)
    if unknown or wrong:
        expected = f"its labels {names}" if unknown else f"the task's labels {task.labels}"
        raise InputError(f"model {name}: label_map names {(unknown or wrong)[0]!r}, expected {expected}; fix the map")
    targets = [renames.get(fold(own), own) for own in names]
    matched = [None if target is None else task.match(target) for target in targets]
    outputs = [[number for number, own in enumerate(matched) if own == label] for label in task.labels]
    if all(outputs):
        return outputs
    if not renames and all(own.startswith("LABEL_") for own in names):
        return None
    raise InputError(
        f"model {name}: its labels {names} do not cover the task's {task.labels}; "
        "rename them with `label_map`, or choose another model"
    )


def load_classifier(
    name: str,
    task: Task,
    label_map: Mapping[str, str | None] | None = None,
    *,
    new_head: bool,
    seed: int = 0,
    trust_remote_code: bool = False,
    revision: str | None = None,
    dropout: float | None = None,
    pooling: Literal["first", "mean"] | None = None,
) -> PreTrainedModel:
    """Load a classifier with its logits in the task's order.

    Where several of the model's labels mean one of the task's, their probabilities are added.

    Args:
        name: A folder, a Hub id, or `bundled`.
        task: The task.
        label_map: Model label -> task label, where they differ.
        new_head: Whether a bare encoder may be given a new head (in fit), seeded by `seed`.
        seed: Seed of a new head.
        trust_remote_code: Whether to run code that comes with the model.
        revision: The Hub model's commit, tag or branch.
        dropout: If given, replaces every dropout rate of the model.
        pooling: What a new head reads; see `pooling_of` and `append_mean_pooling`.

    Raises:
        InputError: If the labels do not cover the task, weights are missing that may not be made anew, or are not
            finite.
    """
    config = load_config(name, trust_remote_code, revision)
    outputs = label_outputs(config, task, label_map, name)
    if outputs is None and not new_head:
        raise InputError(
            f"model {name}: a bare encoder, or a classifier whose labels have no names, where one for {task.labels} is "
            "needed; give a fine-tuned classifier (RUN/model), name its labels with `label_map`, or train one with "
            '"python main.py fit --config teacher.yaml"'
        )
    if not new_head:
        check_single_label(config, name)
    overrides = dict.fromkeys(dropout_keys(config), dropout) if dropout is not None else {}
    fresh = {"num_labels": len(task.labels), **_label_names(task)} if outputs is None else {}
    with torch.random.fork_rng(), quiet_transformers(), loading(name):
        torch.manual_seed(seed)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            locate(name),
            trust_remote_code=trust_remote_code,
            revision=revision,
            output_loading_info=True,
            ignore_mismatched_sizes=outputs is None,
            dtype=torch.float32,
            **fresh,
            **overrides,
        )
        _check_weights(model, info, name, has_new_head=outputs is None)
        if outputs is None and (pooling or pooling_of(name)) == "mean":
            append_mean_pooling(model, name)
    probe_logits(model, name)
    if outputs is not None:
        _put_in_order(model, outputs, name, is_trained=new_head)
    _as_ours(model.config, task)
    classifier: PreTrainedModel = model
    return classifier


def _check_weights(model: Any, info: Mapping[str, Any], name: str, has_new_head: bool) -> None:
    """Refuse weights that would be made at random where the model should bring them, and numbers that are none.

    A new head may be; so may a pooler, which many encoders are published without.

    Raises:
        InputError: Names the weights.
    """
    prefix = f"{model.base_model_prefix}."
    made = [key if isinstance(key, str) else key[0] for key in (*info["missing_keys"], *info["mismatched_keys"])]
    missing = sorted(key for key in made if not has_new_head or (key.startswith(prefix) and "pooler" not in key))
    what = "an encoder with all of its weights" if has_new_head else "a folder that holds the fine-tuned classifier"
    check_complete(missing, info["unexpected_keys"], model, name, what)


def _put_in_order(model: Any, outputs: list[list[int]], name: str, is_trained: bool) -> None:
    """Have a classifier's outputs in the task's order, one for each label.

    Raises:
        InputError: If several outputs mean one label in a model that is to be trained.
    """
    left_out = sorted(set(range(model.config.num_labels)) - {number for numbers in outputs for number in numbers})
    if left_out:
        log.info("model %s: outputs left out: %s", name, [model.config.id2label[number] for number in left_out])
    if all(len(numbers) == 1 for numbers in outputs):
        order = [numbers[0] for numbers in outputs]
        if order != list(range(model.config.num_labels)):
            log.info("model %s: outputs reordered", name)
            reorder_outputs(model, order, name)
        return
    if is_trained:
        raise InputError(
            f"model {name}: several of its labels mean one of the task's, which is for predict and test alone; fit a "
            "bare encoder, or a classifier with one label for each of the task's"
        )
    log.info("model %s: probabilities of labels that mean the same are added", name)

    def add(_module: Any, _arguments: Any, output: Any) -> Any:
        logits_BC = output.logits.float()
        output.logits = torch.stack([logits_BC[:, numbers].logsumexp(dim=1) for numbers in outputs], dim=1)
        return output

    model.register_forward_hook(add)


def _as_ours(config: PretrainedConfig, task: Task) -> None:
    """The task's labels and a single label a row, whatever the base said; pipelines believe these settings."""
    for key, value in _label_names(task).items():
        setattr(config, key, value)
    config.problem_type = "single_label_classification"
    for leftover in _OF_ANOTHER_HEAD:
        config.__dict__.pop(leftover, None)


def reorder_outputs(model: Any, order: list[int], name: str) -> None:
    """Permute (or cut down) a classifier's last layer so that output i becomes the old output `order[i]`.

    The change is checked by a forward pass before and after.

    Raises:
        InputError: If the model's outputs do not come from one linear layer.
    """
    heads = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    heads = [layer for layer in heads if layer.out_features == model.config.num_labels]
    before_1C = probe_logits(model, name)
    with torch.no_grad():
        if heads:
            head, index = heads[-1], torch.tensor(order)
            head.weight = nn.Parameter(head.weight[index].clone())
            if head.bias is not None:
                head.bias = nn.Parameter(head.bias[index].clone())
            head.out_features = len(order)
        model.config.num_labels = model.num_labels = len(order)
    after_1C = probe_logits(model, name)
    if after_1C.shape[1] != len(order) or not torch.allclose(after_1C, before_1C[:, order], atol=1e-5):
        raise InputError(
            f"model {name}: its outputs cannot be reordered to the task's labels; rename them in its config"
        )


def pooling_of(name: str) -> Literal["first", "mean"]:
    """How an encoder was trained to be read: `mean` if its sentence-transformers configuration says so, else `first`.

    Models that cannot be given a pooling layer are read by their first token.
    """
    from transformers.utils import cached_file

    try:
        settings = json.loads(Path(cached_file(locate(name), "1_Pooling/config.json")).read_text(encoding="utf-8"))
        config = load_config(name)
    except (OSError, ValueError, TypeError):
        return "first"
    is_mean = settings.get("pooling_mode_mean_tokens") or settings.get("pooling_mode") == "mean"
    return "mean" if is_mean and config.model_type in _POOLABLE else "first"


def append_mean_pooling(model: Any, name: str) -> None:
    """Give a classifier whose head reads the first token a layer that brings the mean of all tokens there.

    Encoders trained with mean pooling (E5 and most sentence encoders) keep little of a sentence in their first token,
    and classifiers of the transformers library read nothing else. The layer is one of the network's own kind. Its
    queries and keys are zero, so attention is uniform over the tokens that are not padding; values pass through, and
    the feed-forward part adds nothing. So its first output is LayerNorm(first + `_MEAN_WEIGHT` * mean), independent of
    padding, and the exported folder is an ordinary one with one more layer. All of it can be trained. The head's dense
    layer starts as a multiple of the identity instead of at random.

    Raises:
        InputError: If the network's layers are not of BERT's kind.
    """
    if model.config.model_type not in _POOLABLE:
        raise InputError(
            f"model.pooling mean: {name} is of type {model.config.model_type}, expected one of {', '.join(_POOLABLE)}; "
            "use --model.pooling first"
        )
    layers = model.base_model.encoder.layer
    layer = copy.deepcopy(layers[-1])
    attention, output = layer.attention, layer.output
    with torch.no_grad():
        for linear in (attention.self.query, attention.self.key, attention.self.value, attention.output.dense):
            linear.weight.zero_()
            linear.bias.zero_()
        attention.self.value.weight.fill_diagonal_(1.0)
        attention.output.dense.weight.fill_diagonal_(_MEAN_WEIGHT)
        output.dense.weight.zero_()
        output.dense.bias.zero_()
        for norm in (attention.output.LayerNorm, output.LayerNorm):
            norm.weight.fill_(1.0)
            norm.bias.zero_()
        pooler = getattr(model.base_model, "pooler", None)
        dense = pooler.dense if pooler is not None else model.classifier.dense
        dense.weight.zero_()
        dense.weight.fill_diagonal_(_HEAD_SCALE)
        dense.bias.zero_()
    layers.append(layer)
    model.config.num_hidden_layers += 1


def save_network(network: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write a network of the transformers library into a folder, its floating-point weights in `dtype`."""
    weights = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    network.save_pretrained(folder, state_dict=weights)
    config = copy.deepcopy(network.config)
    config.dtype = dtype  # `save_pretrained` writes that of the network itself
    config.save_pretrained(folder)


def freeze_lower_layers(model: Any, count: int, name: str) -> None:
    """Exclude a network's embeddings and its lowest layers from training.

    Args:
        model: A classifier of the transformers library.
        count: How many layers; 0 freezes the embeddings alone.
        name: The model's name, for the error.

    Raises:
        InputError: If the network has fewer layers, or none that can be found.
    """
    base = model.base_model
    prefix, stack = layer_stack(model, name)
    if not 0 <= count <= len(stack):
        raise InputError(f"model.frozen_layers is {count}, expected 0 to {len(stack)}, the layers of {name}")
    for path, parameter in base.named_parameters():
        if "embed" in path and not path.startswith(f"{prefix}."):
            parameter.requires_grad_(False)
    for layer in stack[:count]:
        layer.requires_grad_(False)


def layer_stack(model: Any, name: str) -> tuple[str, nn.ModuleList]:
    """The layers of a network of the transformers library, and their path in its base model.

    Raises:
        InputError: If none can be found.
    """
    for prefix, stack in model.base_model.named_modules():
        if isinstance(stack, nn.ModuleList) and len(stack) == model.config.num_hidden_layers:
            return prefix, stack
    raise InputError(
        f"{name}: no list of {model.config.num_hidden_layers} layers is found in {type(model).__name__}, expected one, "
        "to freeze some; set model.frozen_layers to null"
    )


def _label_names(task: Task) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: number for number, label in enumerate(task.labels)},
    }
