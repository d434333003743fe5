"""The model card that travels with an exported model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.contracts import Reference
from ..core.markup import code, inline
from . import bundled
from .locate import BUNDLED

# Markdown with fields in braces.
TEMPLATES = Path(__file__).parent / "templates"


def model_card(facts: Mapping[str, Any]) -> str:
    """Fill the card from what is known about a run: a classifier's, or a translator's.

    Args:
        facts: What `labelbridge.json` holds: `seed`, `base`, `inputs`, `dev`, `step`, `monitor`,
            `max_length`; of a classifier
            `task`, `method`, `setting`; of a translator `source_language`, `target_language`, `prefix`, `lora`; and
            `results` (set of rows -> metrics) where the model has been tested.
    """
    return _translator_card(facts) if is_translator(facts) else _classifier_card(facts)


def is_translator(facts: Mapping[str, Any]) -> bool:
    """Whether the facts are those of a model that writes text."""
    return "target_language" in facts


def _classifier_card(facts: Mapping[str, Any]) -> str:
    task = facts.get("task", {})
    columns = task.get("columns", ["text"])
    example = '"A text."' if len(columns) == 1 else '{"text": "A premise.", "text_pair": "A hypothesis."}'
    return _fill(
        "classifier",
        title=inline(f"{facts.get('method', 'classifier')} for {task.get('name', 'text classification')}"),
        version=__version__,
        task=inline(task.get("name", "text")),
        labels=inline(", ".join(task.get("labels", []))),
        method=inline(facts.get("method", "unknown")),
        setting=inline(facts.get("setting", "unknown")),
        columns=inline(", ".join(columns)),
        monitor=inline(facts.get("monitor", "dev/accuracy").removeprefix("dev/")),
        synthetic=_fill("synthetic") + "\n" if "selection" in facts.get("inputs", {}) else "",
        example=example,
        results=_correction_note(facts)
        + _results(facts, "target", {"accuracy": "accuracy", "macro_f1": "macro-F1"}, ".4f"),
        **_common(facts),
    )


def _correction_note(facts: Mapping[str, Any]) -> str:
    """What was changed in the head after training, or in the training, about the label prior."""
    prior, temperature = facts.get("label_prior"), facts.get("temperature")
    sentences = []
    if "averaged" in facts:
        runs = ", ".join(f"`{code(run['path'])}`" for run in facts["averaged"])
        sentences.append(f"Its weights are the mean of the weights of {len(facts['averaged'])} runs: {runs}.")
    if temperature is not None:
        sentences.append(f"Its logits are divided by a temperature of {temperature:.4f}, fitted on the source dev set.")
    if prior is not None and "target" in prior:
        shares = {name: ", ".join(f"{inline(label)} {share:.3f}" for label, share in prior[name].items())
                  for name in ("source", "target")}  # fmt: skip
        sentences.append(
            f"Its gold had the class shares {shares['source']}; its output bias is corrected to {shares['target']} "
            f"({prior['how']}). Figures on the source dev set are those before the correction."
        )
        if prior.get("transductive"):
            sentences.append("These shares were estimated on unlabelled target text (transductive).")
    elif prior is not None:
        sentences.append(f"It was trained against the label prior of its gold ({prior['how']}).")
    return "\n## After training\n\n" + "\n".join(sentences) + "\n" if sentences else ""


def _translator_card(facts: Mapping[str, Any]) -> str:
    lora = facts.get("lora")
    kind = "A translator" if lora is None else f"LoRA adapters (r {lora['r']}, alpha {lora['alpha']}) of a translator"
    return _fill(
        "translator",
        library="transformers" if lora is None else "peft",
        version=__version__,
        kind=kind,
        source=code(facts["source_language"]),
        target=code(facts["target_language"]),
        base_as_yaml=json.dumps(str(facts.get("base", "unknown")), ensure_ascii=False),
        prefix=code(facts.get("prefix") or ""),
        results=_results(facts, "set", {"bleu": "BLEU", "chrf": "chrF"}, ".2f"),
        **_common(facts),
    )


def _common(facts: Mapping[str, Any]) -> dict[str, Any]:
    inputs = [
        f"- {inline(name)}: {_paths(one)} ({code(one['fingerprint'][:19])}…)"
        for name, one in facts.get("inputs", {}).items()
    ]
    dev = ", ".join(f"{inline(name.removeprefix('dev/'))} {value:.4f}" for name, value in facts.get("dev", {}).items())
    plain = {name: code(facts.get(name, "unknown")) for name in ("seed", "base", "step")}
    base_note = f", {bundled.SOURCE}" if plain["base"] == BUNDLED else ""
    return {
        **plain,
        "base_note": base_note,
        "dev": dev,
        "max_length": facts.get("max_length", 128),
        "inputs": "\n".join(inputs) or "Not recorded.",
    }


def _paths(reference: Reference) -> str:
    return ", ".join(f"`{code(path)}`" for path in reference["paths"])


def _results(facts: Mapping[str, Any], rows_of: str, metrics: Mapping[str, str], digits: str) -> str:
    results: Mapping[str, Mapping[str, float]] = facts.get("results", {})
    if not results:
        return ""
    rows = [
        f"| {inline(name)} | {_number(scores, 'rows', '.0f')} | "
        + " | ".join(_number(scores, metric, digits) for metric in metrics)
        + " |"
        for name, scores in results.items()
    ]
    rule = "|---" * (2 + len(metrics)) + "|"
    return _fill("results", rows_of=rows_of, metrics=" | ".join(metrics.values()), rule=rule, rows="\n".join(rows))


def _number(scores: Mapping[str, Any], name: str, digits: str) -> str:
    """A metric, or nothing where a test did not write it."""
    value = scores.get(name)
    return format(value, digits) if isinstance(value, int | float) else ""


def _fill(template: str, **fields: object) -> str:
    return (TEMPLATES / f"{template}.md").read_text(encoding="utf-8").format(**fields)
