"""What a method's name means, in a sentence."""

import re

_LABELS = {
    "T": "the teacher's probabilities",
    "T_pl": "prompt labels",
    "T-hard": "the teacher's most likely class",
}
_ROWS = {
    "rand": "rows drawn at random",
    "top": "the rows of each class with the highest teacher probability",
    "div": "the most certain rows of each of 25 clusters of embeddings",
    "amb": "the rows whose probability varies most over the teacher's epochs",
    "easy": "the rows with the highest mean probability over the teacher's epochs",
    "hard": "the rows with the lowest teacher probability of their class",
    "ccs": "equal shares of strata of difficulty",
    "near-target": "the rows nearest to unlabelled target text",
    "certain": "the rows whose probabilities have the least entropy",
    "coverage": "the fewest rows that stand for most of the others",
}
_FIXED = {
    "SRC": "Trained on gold only; this model is the teacher.",
    "GEN": "Trained on generations only, drawn at random, with prompt labels.",
    "LLM": "No model of this project: the labels that a zero-shot language model gave to the target rows.",
    "SRC+GEN": "Trained on gold and on generations drawn at random, with prompt labels.",
}
_NAME = re.compile(r"(T_pl|T-hard|T)-(rand|top|div|amb|easy|hard|ccs|near-target|certain|coverage)(?:-(\w+))?$")


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
