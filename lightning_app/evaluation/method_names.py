"""What a method's name means, in a sentence."""

import re

from ..selection.strategies import BUILT_IN

_LABELS = {
    "T": "the teacher's probabilities",
    "T_pl": "prompt labels",
    "T-hard": "the teacher's most likely class",
}
_ROWS = {strategy.short: strategy.rows for strategy in BUILT_IN.values()}
_FIXED = {
    "SRC": "Trained on gold only; this model is the teacher.",
    "GEN": "Trained on generations only, drawn at random, with prompt labels.",
    "LLM": "No model of this project: the labels that a zero-shot language model gave to the target rows.",
    "SRC+GEN": "Trained on gold and on generations drawn at random, with prompt labels.",
}
_NAME = re.compile(rf"(T_pl|T-hard|T)-({'|'.join(map(re.escape, _ROWS))})(?:-(\w+))?$")


def meaning(method: str) -> str | None:
    """A sentence for one of the names in `docs/glossary.md`; None for another name."""
    if method in _FIXED:
        return _FIXED[method]
    # T-hard-k is the strategy `hard`, T-hard-top-k hard labels.
    match = re.fullmatch(r"(T)-(hard)-(k|\d\w*)", method) or _NAME.fullmatch(method)
    if match is None:
        return None
    labels, rows, quota = match.groups()
    count = f" ({quota} per class)" if quota and quota != "k" else ""
    return f"Trained on gold and on {_ROWS[rows]}{count}, with {_LABELS[labels]}."
