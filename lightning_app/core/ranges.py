"""Numbers of a configuration, checked where they are given."""

import math

from .errors import InputError, shorten


def check_range(
    name: str,
    value: float | None,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> None:
    """Refuse a number outside of its range, or one that is none.

    Args:
        name: The setting's name, such as `model.top_p`.
        value: The number; null is not checked.
        least: The smallest allowed number.
        above: A number that it must exceed.
        most: The largest allowed number.
        below: A number that it must stay under.

    Raises:
        InputError: Names the setting, its value and the range, as in `model.top_p is 1.4, expected 0 < top_p <= 1`.
    """
    if value is None:
        return
    fits = (
        isinstance(value, int | float)
        and math.isfinite(value)
        and (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and (below is None or value < below)
    )
    if not fits:
        low = f"{least:g} <= " if least is not None else f"{above:g} < " if above is not None else ""
        high = f" <= {most:g}" if most is not None else f" < {below:g}" if below is not None else ""
        last = name.rpartition(".")[2]
        raise InputError(f"{name} is {shorten(value)}, expected {low}{last}{high}")
