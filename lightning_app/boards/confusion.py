"""A confusion matrix as a figure."""

# C = classes

from collections.abc import Sequence
from typing import Any

import numpy as np


def confusion_figure(counts_CC: np.ndarray, labels: Sequence[str], title: str) -> Any:
    """Draw a confusion matrix: counts, coloured by their share of the true class.

    Args:
        counts_CC: Rows by true class (first axis) and predicted class.
        labels: Label names.
        title: What was predicted.

    Returns:
        A matplotlib `Figure`.
    """
    from matplotlib.figure import Figure

    shares_CC = counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1)
    size = 1.6 + 0.6 * len(labels)  # small, so that numbers can be read where TensorBoard shrinks the figure
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares_CC, cmap="Blues", vmin=0, vmax=1)
    numbers = range(len(labels))
    axes.set(xticks=numbers, yticks=numbers, xlabel="predicted", ylabel="true", title=title)
    axes.set_xticklabels(labels, rotation=45, ha="right")
    axes.set_yticklabels(labels)
    for true in numbers:
        for predicted in numbers:
            colour = "white" if shares_CC[true, predicted] > 0.5 else "black"
            count = int(counts_CC[true, predicted])
            axes.text(predicted, true, f"{count:,}", ha="center", va="center", color=colour)
    return figure
