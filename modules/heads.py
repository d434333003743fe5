"""Sequence classifiers whose logits stand in the task's order."""

import copy
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.models.locate import locate

log = logging.getLogger(__name__)

_POOLABLE = ("bert", "roberta", "xlm-roberta", "camembert")
_MEAN_WEIGHT = 4.0  # how much the mean counts beside the first token
_HEAD_SCALE = 0.5  # keeps the head's tanh nearly linear at the start


def load_config(name: str, trust_remote_code: bool = False, revision: str | None = None) -> PretrainedConfig:
    """Read a model's configuration.

    Raises:
        InputError: If there is no such model, or the Hub cannot be reached.
    """
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            locate(name), trust_remote_code=trust_remote_code, revision=revision
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"model {name}: cannot be loaded ({reason}); give a local folder or a Hub id") from None
    return config


def label_order(
    config: PretrainedConfig, task: Task, label_map: Mapping[str, str] | None, name: str
) -> list[int] | None:
    """Where the task's labels stand among a model's outputs.

    Args:
        config: The model's configuration.
        task: The task.
        label_map: Model label -> task label, where they differ.
        name: The model's name, for the error.

    Returns:
        For every task label the model's output number, or None for a bare encoder (labels `LABEL_0` ... and no
        `label_map`).

    Raises:
        InputError: If the model has named labels that do not cover the task.
    """
    renames = {key.casefold(): value for key, value in (label_map or {}).items()}
    names = [str(config.id2label[number]) for number in range(config.num_labels)]
    own = [task.match(renames.get(one.casefold(), one)) for one in names]
    if all(label in own for label in task.labels):
        return [own.index(label) for label in task.labels]
    if not renames and all(one.startswith("LABEL_") for one in names):
        return None
    raise InputError(
        f"model {name}: its labels {names} do not cover the task's {task.labels}; "
        "rename them with `label_map`, or choose another model"
    )


def load_classifier(
    name: str,
    task: Task,
    label_map: Mapping[str, str] | None = None,
    *,
    new_head: bool,
    seed: int = 0,
    trust_remote_code: bool = False,
    revision: str | None = None,
    dropout: float | None = None,
    pooling: Literal["first", "mean"] | None = None,
) -> PreTrainedModel:
    """Load a classifier with its logits in the task's order.

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
        InputError: If the labels do not cover the task, or weights are missing that may not be made anew.
    """
    config = load_config(name, trust_remote_code, revision)
    order = label_order(config, task, label_map, name)
    if order is None and not new_head:
        raise InputError(
            f"model {name}: a bare encoder, or a classifier whose labels have no names, where one for {task.labels} is "
            "needed; give a fine-tuned classifier (RUN/model), name its labels with `label_map`, or train one with "
            '"python main.py fit --config teacher.yaml"'
        )
    overrides = dict.fromkeys(dropout_keys(config), dropout) if dropout is not None else {}
    fresh = {"num_labels": len(task.labels), **_label_names(task)} if order is None else {}
    with torch.random.fork_rng(), quiet_transformers():
        torch.manual_seed(seed)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            locate(name),
            trust_remote_code=trust_remote_code,
            revision=revision,
            output_loading_info=True,
            ignore_mismatched_sizes=order is None,
            dtype=torch.float32,
            **fresh,
            **overrides,
        )
        if order is None and (pooling or pooling_of(name)) == "mean":
            append_mean_pooling(model, name)
    if order is not None:
        missing = sorted(info["missing_keys"])
        if missing:
            raise InputError(
                f"model {name}: weights missing for {missing[:3]}, they would be made at random; "
                "give a folder that holds the fine-tuned classifier"
            )
        if order != list(range(config.num_labels)):
            log.info("model %s: outputs reordered to %s", name, task.labels)
            reorder_outputs(model, order, name)
        for key, value in _label_names(task).items():
            setattr(model.config, key, value)
    classifier: PreTrainedModel = model
    return classifier


def reorder_outputs(model: Any, order: list[int], name: str) -> None:
    """Permute (or cut down) a classifier's last layer so that output i becomes the old output `order[i]`.

    The change is checked by a forward pass before and after.

    Raises:
        InputError: If the model's outputs do not come from one linear layer.
    """
    heads = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    heads = [layer for layer in heads if layer.out_features == model.config.num_labels]
    probe = torch.arange(5, 9).unsqueeze(0)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        before_1C: Tensor = model(input_ids=probe).logits
        if heads:
            head, index = heads[-1], torch.tensor(order)
            head.weight = nn.Parameter(head.weight[index].clone())
            if head.bias is not None:
                head.bias = nn.Parameter(head.bias[index].clone())
            head.out_features = len(order)
        model.config.num_labels = model.num_labels = len(order)
        after_1C: Tensor = model(input_ids=probe).logits
    model.train(was_training)
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
    stacks = [
        (prefix, stack)
        for prefix, stack in base.named_modules()
        if isinstance(stack, nn.ModuleList) and len(stack) == model.config.num_hidden_layers
    ]
    if not stacks or not 0 <= count <= len(stacks[0][1]):
        raise InputError(
            f"model.frozen_layers is {count}, expected 0 to {len(stacks[0][1]) if stacks else 'the number of layers'}, "
            f"the layers of {name}"
        )
    prefix, stack = stacks[0]
    for path, parameter in base.named_parameters():
        if "embed" in path and not path.startswith(f"{prefix}."):
            parameter.requires_grad_(False)
    for layer in stack[:count]:
        layer.requires_grad_(False)


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


def _label_names(task: Task) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: number for number, label in enumerate(task.labels)},
    }


def dropout_keys(config: PretrainedConfig) -> list[str]:
    """The settings of a model's configuration that are dropout rates, of activations or of whole layers."""
    values = config.to_dict().items()
    return [key for key, value in values if ("dropout" in key or "layerdrop" in key) and type(value) in (int, float)]
