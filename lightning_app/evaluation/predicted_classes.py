"""How often a classifier predicted each class, and a warning if it predicted only one."""

# N = rows, C = classes

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

MIN_ROWS = 10  # with fewer rows, one class may well be right


def count_classes(
    predictions: Sequence[str], probs_NC: np.ndarray, labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Count the rows predicted as each class.

    Args:
        predictions: The predicted label of every row.
        probs_NC: The class probabilities of every row, in the order of `labels`.
        labels: The task's labels.

    Returns:
        Label -> `rows`, and `mean_probability`: the mean probability of the predicted class over these rows. A class
        that no row was predicted as has no mean.
    """
    predicted_N = np.asarray(predictions, dtype=object)
    counts: dict[str, dict[str, float]] = {}
    for number, label in enumerate(labels):
        rows = predicted_N == label
        counts[label] = {"rows": int(rows.sum())}
        if rows.any():
            counts[label]["mean_probability"] = float(probs_NC[rows, number].mean())
    return counts


def table_lines(counts: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The counts as aligned lines, with a header."""
    width = max(len("class"), *map(len, counts))
    lines = [f"{'class':<{width}}  {'rows':>8}  mean probability"]
    for label, count in counts.items():
        mean = f"{count['mean_probability']:.4f}" if "mean_probability" in count else "-"
        lines.append(f"{label:<{width}}  {count['rows']:>8}  {mean:>16}")
    return lines


def one_class_warning(place: str, predicted: Mapping[str, int], true_classes: Iterable[str], remedy: str) -> str | None:
    """The warning for a set of rows that were all predicted as one class, or None if there is nothing to warn of.

    Args:
        place: The name of the set, such as `dev` or a target.
        predicted: Label -> number of rows.
        true_classes: The labels that the rows really have, or their prompts asked for. If this is a single class, the
            model may be right; if it is empty, nothing is known of them.
        remedy: What to do about it.
    """
    rows = sum(predicted.values())
    classes = [label for label, count in predicted.items() if count]
    if rows < MIN_ROWS or len(classes) != 1 or len(set(true_classes)) == 1:
        return None
    return f"{place}: all {rows} rows were predicted '{classes[0]}'; the model has collapsed to one class: {remedy}"


def one_class_warnings(
    places: Sequence[str], predictions: Sequence[str], true_labels: Sequence[str] | None, remedy: str
) -> list[str]:
    """The warnings for rows of several places, such as the targets of a test; see `one_class_warning`.

    Args:
        places: The place of every row.
        predictions: The predicted label of every row.
        true_labels: The true or prompted label of every row, if known.
        remedy: What to do about it.
    """
    predicted: dict[str, Counter[str]] = {}
    true: dict[str, set[str]] = {}
    for place, prediction, label in zip(places, predictions, true_labels or [""] * len(places), strict=True):
        predicted.setdefault(place, Counter())[prediction] += 1
        true.setdefault(place, set()).add(label)
    warnings = [
        one_class_warning(place, counts, true[place] if true_labels else (), remedy)
        for place, counts in predicted.items()
    ]
    return [warning for warning in warnings if warning is not None]
