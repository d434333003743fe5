"""A temperature and a label prior for an exported classifier, and what its card says of them."""

# N = dev rows, C = classes

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..calibration.abstention import conformal_threshold
from ..calibration.priors import Estimate, bbse_prior, em_prior, prior_vector
from ..calibration.temperature import fit_temperature
from ..core import artifacts
from ..core.errors import InputError
from ..core.paths import find
from ..core.task import Task
from ..data.probabilities import read_probs
from .fingerprints import model_fingerprint
from .head import corrected_head, output_layer
from .loading import read_weights
from .locate import WEIGHTS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Correction:
    """What a head is changed by: its logits z become z / temperature + shift.

    Args:
        temperature: The divisor.
        shift_C: log(target prior) - log(source prior); zeros for a temperature alone.
        facts: What `labelbridge.json` says of it.
    """

    temperature: float
    shift_C: np.ndarray
    facts: dict[str, Any]


def fit_correction(
    facts: Mapping[str, Any],
    prior: str | Mapping[str, float] | None,
    place: str,
    logits_NC: Any = None,
    label_N: Any = None,
    how: str | None = None,
) -> Correction:
    """Work a correction out.

    The temperature t minimises the cross-entropy of softmax(z / t) on the source dev set, whose label prior is that of
    the gold; then the prior is changed: softmax(z / t - log pi_gold + log pi_target). (For calibration before a
    correction of the prior see Alexandari et al., arXiv 1901.06852.)

    Args:
        facts: What is known of the model: `task` and `gold_counts`.
        prior: The label prior that is assumed: `uniform`, a map, or None to leave it.
        place: The setting's name, for errors.
        logits_NC: Logits on the source dev set, if a temperature is wanted.
        label_N: Their labels.
        how: Where the prior comes from; `uniform` or `given` by default.

    Raises:
        InputError: See `gold_prior`.
    """
    source_C = gold_prior(facts, prior, place)
    task = Task(**facts["task"])
    temperature, shift_C = 1.0, np.zeros(len(task.labels))
    said: dict[str, Any] = {}
    if logits_NC is not None:
        temperature = fit_temperature(np.asarray(logits_NC, dtype=np.float64), np.asarray(label_N))
        said["temperature"] = temperature
    if prior is not None:
        target_C = prior_vector(prior, task, place)
        shift_C = np.log(target_C) - np.log(source_C)
        said["label_prior"] = {
            "how": how or ("uniform" if prior == "uniform" else "given"),
            "source": dict(zip(task.labels, source_C.tolist(), strict=True)),
            "target": dict(zip(task.labels, target_C.tolist(), strict=True)),
        }
    return Correction(temperature, shift_C, said)


def gold_prior(facts: Mapping[str, Any], prior: object, place: str) -> np.ndarray:
    """Class shares of a model's gold; of shape (C,), and ones where `prior` is None.

    Raises:
        InputError: If it is no classifier, its prior is corrected already, or its gold lacks a class.
    """
    counts: dict[str, int] | None = facts.get("gold_counts")
    if counts is None or "task" not in facts:
        raise InputError(f"{place} is {prior}: the model is no classifier trained here, expected one; set it to null")
    task = Task(**facts["task"])
    if prior is None:
        return np.ones(len(task.labels))
    if "label_prior" in facts:
        raise InputError(
            f"{place} is {prior}, but the model no longer predicts under the label prior of its gold "
            f"({facts['label_prior'].get('how')}), so it would be divided out twice; set one of the two to null or 0"
        )
    missing = next((label for label in task.labels if not counts.get(label)), None)
    if missing is not None:
        raise InputError(
            f"{place} is {prior}, but gold has no row of '{missing}', so there is no label prior to divide out; add "
            f"gold rows of that class, or set {place} to null"
        )
    return prior_vector(counts, task, "gold_counts")


def write_prior(
    folder: Path, facts: Mapping[str, Any], prior: str | Mapping[str, float], target: str | None, model: str
) -> dict[str, Any]:
    """Write a label prior into the head of a model folder.

    Args:
        folder: The folder to change: a copy of the model's.
        facts: What its `labelbridge.json` holds.
        prior: `uniform`, a map, or `em` or `bbse` to estimate it on `target`.
        target: The model's predictions for unlabelled target text.
        model: The model's own folder, which those predictions must come from.

    Returns:
        What `labelbridge.json` holds of it.

    Raises:
        InputError: If the prior is corrected already, cannot be estimated, or cannot be written into the head.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForSequenceClassification

    place, extra = f"prior {prior}", dict[str, Any]()
    if prior in ("em", "bbse"):
        gold_prior(facts, prior, "prior")
        estimate, extra = estimate_prior(facts, str(prior), target, model)
        task = Task(**facts["task"])
        smallest = 1e-6  # a class that is ruled out would need a bias of minus infinity
        shares = np.maximum(estimate.prior_C, smallest)
        prior, place = dict(zip(task.labels, shares.tolist(), strict=True)), "prior"
        if estimate.warning is not None:
            log.warning("%s", estimate.warning)
    correction = fit_correction(facts, prior, place, how=extra.get("how"))
    network = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    layer = output_layer(network, model)
    name = next(name for name, module in network.named_modules() if module is layer)
    weights = read_weights(folder / WEIGHTS)
    with corrected_head(network, correction.temperature, correction.shift_C, model):
        for key, value in ((f"{name}.weight", layer.weight), (f"{name}.bias", layer.bias)):
            weights[key] = value.detach().clone().to(weights[key].dtype)
    save_file(weights, folder / f".{WEIGHTS}", metadata={"format": "pt"})
    (folder / f".{WEIGHTS}").replace(folder / WEIGHTS)
    label_prior = {**correction.facts["label_prior"], **extra}
    log.info("label prior: %s", ", ".join(f"{label} {share:.3f}" for label, share in label_prior["target"].items()))
    return {"label_prior": label_prior}


def estimate_prior(
    facts: Mapping[str, Any], method: str, target: str | None, model: str
) -> tuple[Estimate, dict[str, Any]]:
    """Estimate the label prior of unlabelled target text from a model's predictions for it; transductive.

    Raises:
        InputError: If there are no predictions, they are another model's, or were corrected already.
    """
    if target is None:
        raise InputError(
            f"prior {method}: target is not given, expected the model's predictions for unlabelled target text; make "
            f'them with "python main.py predict --config pseudolabel.yaml --model.model {model} --data.prompt_labels '
            'false --data.pool.path FILE"'
        )
    artifact = artifacts.read(find(target) or Path(target), "pseudolabel")
    if artifact.manifest.inputs["teacher"]["fingerprint"] != model_fingerprint(model):
        raise InputError(
            f"target {target}: predictions of {artifact.manifest.inputs['teacher']['paths'][0]}, expected those of "
            f"{model}; run predict with it"
        )
    task = Task(**facts["task"])
    if "raw_probs" in artifact.table.column_names:
        raise InputError(f"target {target}: predictions with model.prior set, expected null; run predict again")
    labels = artifact.manifest.facts.get("labels", task.labels)
    probs_NC = read_probs(artifact.table, labels, task, target, "run predict again")
    if method == "em":
        estimate = em_prior(probs_NC, gold_prior(facts, method, "prior"), task.labels)
    else:
        if "dev_confusion" not in facts:
            raise InputError(f"prior bbse: {model} records no dev_confusion, expected one; fit it again, or use em")
        predicted_C = np.bincount(probs_NC.argmax(axis=1), minlength=len(task.labels))
        estimate = bbse_prior(np.array(facts["dev_confusion"], dtype=np.float64), predicted_C, task.labels)
    text = {"path": str(artifact.path), "fingerprint": artifact.manifest.fingerprint}
    return estimate, {"how": method, "transductive": True, "target_text": text, "rows": len(probs_NC)}


def conformal_facts(logits_NC: Any, label_N: Any, correction: Correction | None, alpha: float) -> dict[str, float]:
    """The threshold of conformal sets under the exported head; see `calibration.abstention.conformal_threshold`."""
    z_NC = np.asarray(logits_NC, dtype=np.float64)
    if correction is not None:
        z_NC = z_NC / correction.temperature + correction.shift_C
    weights_NC = np.exp(z_NC - z_NC.max(axis=1, keepdims=True))
    probs_NC = weights_NC / weights_NC.sum(axis=1, keepdims=True)
    return {"alpha": alpha, "threshold": conformal_threshold(probs_NC, np.asarray(label_N), alpha)}


def dev_confusion(logits_NC: Any, label_N: Any) -> list[list[int]]:
    """How often each class (row) of the source dev set was predicted as each class (column)."""
    logits, labels = np.asarray(logits_NC), np.asarray(label_N)
    classes = logits.shape[1]
    counts = np.bincount(labels * classes + logits.argmax(axis=1), minlength=classes * classes)
    confusion: list[list[int]] = counts.reshape(classes, classes).tolist()
    return confusion
