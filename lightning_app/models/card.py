"""The model card that travels with an exported model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .. import __version__
from ..core.contracts import Reference
from ..core.markup import code, inline
from ..core.paths import find
from . import bundled
from .lineage import lineage_table
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
    title = f"{facts.get('method', 'classifier')} for {task.get('name', 'text classification')}"
    return _fill(
        "classifier",
        metadata=front_matter(_metadata(facts, title)),
        title=inline(title),
        version=__version__,
        task=inline(task.get("name", "text")),
        labels=inline(", ".join(task.get("labels", []))),
        method=inline(facts.get("method", "unknown")),
        setting=inline(facts.get("setting", "unknown")),
        columns=inline(", ".join(columns)),
        monitor=inline(facts.get("monitor", "dev/accuracy").removeprefix("dev/")),
        synthetic=_fill("synthetic") + "\n" if "selection" in facts.get("inputs", {}) else "",
        example=example,
        languages=inline(", ".join(facts.get("languages", [])) or "not recorded"),
        license=inline(facts.get("license") or "not stated; that of the encoder, of the data and of the LLM apply"),
        lineage=_lineage(facts),
        calibration=_calibration(facts),
        results=_correction_note(facts)
        + _results(facts, "target", {"accuracy": "accuracy", "macro_f1": "macro-F1", "ece": "ECE"}, ".4f")
        + "".join(f"\n{line}\n" for line in facts.get("near_duplicates", []))
        + _onnx(facts),
        **_common(facts),
    )


def front_matter(metadata: Mapping[str, Any]) -> str:
    """The block of YAML at the head of a card, by which the Hub files it; empty values are left out."""
    known = {name: value for name, value in metadata.items() if value not in (None, [], "")}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True, width=1000)}---"


def _metadata(facts: Mapping[str, Any], title: str) -> dict[str, Any]:
    """What the Hub reads of a classifier's card: https://huggingface.co/docs/hub/model-cards#model-card-metadata."""
    base = str(facts.get("base", ""))
    is_on_hub = find(base) is None and base.count("/") == 1 and not base.startswith((".", "/", "~"))
    return {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "language": facts.get("languages"),
        "license": facts.get("license"),
        "base_model": bundled.HUB_ID if base == BUNDLED else base if is_on_hub else None,
        "tags": ["labelbridge", facts["setting"]] if "setting" in facts else [],
        "model-index": _model_index(facts, title),
    }


def _model_index(facts: Mapping[str, Any], title: str) -> list[dict[str, Any]]:
    """The results as the Hub shows them beside a model."""
    task = {"type": "text-classification", "name": facts.get("task", {}).get("name", "text classification")}
    shown = (
        ("accuracy", "accuracy", "accuracy"),
        ("macro_f1", "f1", "macro-F1"),
        ("ece", "ece", "expected calibration error"),
    )
    results = [
        {
            "task": task,
            "dataset": {"name": target, "type": target},
            "metrics": [
                {"type": kind, "name": name, "value": round(float(scores[key]), 4)}
                for key, kind, name in shown
                if isinstance(scores.get(key), int | float)
            ],
        }
        for target, scores in facts.get("results", {}).items()
    ]
    return [{"name": title, "results": results}] if results else []


def _lineage(facts: Mapping[str, Any]) -> str:
    table = lineage_table(facts.get("lineage", []))
    return f"\n{table}\n" if table else ""


def _calibration(facts: Mapping[str, Any]) -> str:
    if facts.get("temperature") is not None:
        return "Its probabilities were calibrated on the source dev set, not on other languages."
    return "Its probabilities are not calibrated: a large one need not be right as often as it says."


def _onnx(facts: Mapping[str, Any]) -> str:
    """What was measured of the ONNX files."""
    files = facts.get("onnx", {})
    if not files:
        return ""
    lines = ["", "## ONNX", "", "Compared with the network, row by row:", ""]
    lines += [
        "| file | rows | largest difference of a probability | other predictions | accuracy |",
        "|---|---|---|---|---|",
    ]
    for name, one in files.items():
        accuracy = (
            "" if one["accuracy"] is None else f"{one['accuracy']:.4f} (network {one['accuracy_of_network']:.4f})"
        )
        lines.append(
            f"| `{code(name)}` | {one['rows']} | {one['largest_difference']:.2g} | {one['other_predictions']} "
            f"| {accuracy} |"
        )
    return "\n".join([*lines, ""])


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
    counts = {"gold": facts.get("gold_counts"), "selection": facts.get("synthetic_counts")}
    inputs = [
        f"- {inline(name)}: {_paths(one)} ({code(one['fingerprint'][:19])}…){_counted(counts.get(name))}"
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


def _counted(counts: Mapping[str, int] | None) -> str:
    if not counts:
        return ""
    classes = ", ".join(f"{inline(label)} {count:,}" for label, count in counts.items())
    return f", {sum(counts.values()):,} rows: {classes}"


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
