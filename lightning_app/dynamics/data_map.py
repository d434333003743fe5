"""The data map of Swayamdipta et al. (arXiv 2009.10795): confidence against variability."""

from typing import Any

import numpy as np

from .statistics import Statistics

MOST_POINTS = 20_000
# The paper's names for the corners of the map: text, variability, confidence, alignment.
REGIONS = (("easy", 0.09, 0.985, "left"), ("ambiguous", 0.5, 0.5, "right"), ("hard", 0.0, 0.02, "left"))
SEED = 0


def data_map(found: Statistics, reference_N: np.ndarray, labels: list[str], name: str, reference: str) -> Any:
    """Draw the rows twice: coloured by correctness, and by class.

    Rows are painted in a seeded random order, so that no class and no value lies on top of the others.

    Args:
        found: Statistics of N rows.
        reference_N: The label that they refer to.
        labels: Label names.
        name: The set's name, for the title.
        reference: What the reference label is, in words.

    Returns:
        A matplotlib `Figure`; a sample of 20,000 rows stands for a larger set.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    shown = np.random.default_rng(SEED).permutation(len(reference_N))[:MOST_POINTS]
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    x, y = found.variability[shown], found.confidence[shown]
    points = {"s": 7, "alpha": 0.6, "linewidths": 0, "rasterized": True}
    left.scatter(x, y, c=found.correctness[shown], cmap="viridis", vmin=0, vmax=1, **points)
    figure.colorbar(ScalarMappable(Normalize(0, 1), "viridis"), ax=left, label="correctness")
    colours = np.array([f"C{number % 10}" for number in range(len(labels))])
    right.scatter(x, y, c=colours[reference_N[shown]], **points)
    counts = np.bincount(reference_N, minlength=len(labels))
    marks = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=f"{label} ({count:,})")
        for label, colour, count in zip(labels, colours, counts, strict=True)
    ]
    right.legend(handles=marks, loc="lower right", title="reference label")
    for axes in (left, right):
        axes.set(xlabel="variability", xlim=(-0.01, 0.51), ylim=(-0.02, 1.02))
    left.set_ylabel("confidence")
    for text, at_x, at_y, side in REGIONS:
        left.text(at_x, at_y, text, color="dimgrey", ha=side, va="center")
    drawn = f", {MOST_POINTS:,} drawn" if len(reference_N) > MOST_POINTS else ""
    checks = f"{found.epochs} check{'s' * (found.epochs > 1)}"
    figure.suptitle(f"{name}: {len(reference_N):,} rows{drawn}, {checks}; reference label: {reference}", fontsize=11)
    return figure
