"""The model card that travels with an exported model."""

from collections.abc import Mapping
from typing import Any

from lightning_app import __version__

TEMPLATE = """---
library_name: transformers
pipeline_tag: text-classification
---

# {title}

A {task} classifier ({labels}), trained with Labelbridge {version} by the method **{method}**
(setting: {setting}, seed {seed}) from `{base}`.

| | |
|---|---|
| text columns | {columns} |
| best check | optimizer step {step}, chosen by {monitor} on the source dev set |
| source dev | {dev} |
| longest input | {max_length} tokens |

## Use

```python
from transformers import pipeline

classify = pipeline("text-classification", model="PATH_OR_ID")
classify({example}, truncation=True, max_length={max_length})
```

## What it learned from

{inputs}

The method is described in "Boosting Zero-Shot Crosslingual Performance using LLM-Based Augmentations with Effective
Data Selection" (Fazili, Agrawal and Jyothi). {synthetic}Accuracy on languages
other than those tested is unknown.
"""
SYNTHETIC = """Synthetic training text was written by a language model; look at the
selection it was trained on before you rely on it. """


def model_card(facts: Mapping[str, Any]) -> str:
    """Fill the card from what is known about a run.

    Args:
        facts: What `labelbridge.json` holds: `task`, `method`, `setting`, `seed`, `base`, `inputs`, `dev`, `step`,
            `monitor`, and `results` (target -> metrics) where the model has been tested.
    """
    task = facts.get("task", {})
    columns = task.get("columns", ["text"])
    example = '"A text."' if len(columns) == 1 else '{"text": "A premise.", "text_pair": "A hypothesis."}'
    inputs = [
        f"- {name}: `{one['path']}` ({one['fingerprint'][:19]}…)" for name, one in facts.get("inputs", {}).items()
    ]
    results = facts.get("results", {})
    card = TEMPLATE.format(
        title=f"{facts.get('method', 'classifier')} for {task.get('name', 'text classification')}",
        version=__version__,
        task=task.get("name", "text"),
        labels=", ".join(task.get("labels", [])),
        method=facts.get("method", "unknown"),
        setting=facts.get("setting", "unknown"),
        seed=facts.get("seed", "unknown"),
        base=facts.get("base", "unknown"),
        columns=", ".join(columns),
        step=facts.get("step", "unknown"),
        monitor=facts.get("monitor", "dev/accuracy").removeprefix("dev/"),
        synthetic=SYNTHETIC if "selection" in facts.get("inputs", {}) else "",
        dev=", ".join(f"{name.removeprefix('dev/')} {value:.4f}" for name, value in facts.get("dev", {}).items()),
        max_length=facts.get("max_length", 128),
        example=example,
        inputs="\n".join(inputs) or "Not recorded.",
    )
    return card + _results_table(results)


def _results_table(results: Mapping[str, Mapping[str, float]]) -> str:
    if not results:
        return ""
    lines = ["", "## Results", "", "| target | rows | accuracy | macro-F1 |", "|---|---|---|---|"]
    for target, one in results.items():
        lines.append(f"| {target} | {one['rows']:.0f} | {one['accuracy']:.4f} | {one['macro_f1']:.4f} |")
    return "\n".join(lines) + "\n"
