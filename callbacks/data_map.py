"""The data map of Swayamdipta et al. (arXiv 2009.10795): confidence against variability."""

from typing import Any

import numpy as np

from lightning_app.dynamics import Statistics

MOST_POINTS = 20_000


def data_map(found: Statistics, reference_N: np.ndarray, labels: list[str], name: str) -> Any:
    """Draw the rows twice: coloured by correctness, and by class.

    Args:
        found: Statistics of N rows.
        reference_N: The label that they refer to.
        labels: Label names.
        name: The set's name, for the title.

    Returns:
        A matplotlib `Figure`; a seeded sample of 20,000 rows stands for a larger set.
    """
    from matplotlib.figure import Figure

    shown = np.arange(len(reference_N))
    if len(shown) > MOST_POINTS:
        shown = np.sort(np.random.default_rng(0).choice(shown, MOST_POINTS, replace=False))
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    x, y = found.variability[shown], found.confidence[shown]
    points = {"s": 7, "alpha": 0.6, "linewidths": 0, "rasterized": True}
    painted = left.scatter(x, y, c=found.correctness[shown], cmap="viridis", vmin=0, vmax=1, **points)
    figure.colorbar(painted, ax=left, label="correctness")
    for number, label in enumerate(labels):
        own = reference_N[shown] == number
        right.scatter(
            x[own], y[own], color=f"C{number}", label=f"{label} ({int((reference_N == number).sum())})", **points
        )
    right.legend(loc="lower right", markerscale=2.5)
    for axes in (left, right):
        axes.set(xlabel="variability", xlim=(-0.01, 0.51), ylim=(-0.02, 1.02))
    left.set_ylabel("confidence")
    figure.suptitle(f"{name}: {len(reference_N)} rows, {found.epochs} checks")
    return figure
