"""Figures of the report's page, as SVG text: intervals of differences, reliability, and curves.

Colours are CSS variables of the page, so that figures follow its light and dark themes.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from .class_scores import Bin

COLOURS = 8  # --c0 to --c7 in page.css


def intervals(rows: Sequence[tuple[str, float, float, float, bool]], unit: str, label: str) -> str:
    """A row for each method: the difference, its interval, and a filled mark where it is significant.

    Args:
        rows: Method, difference, its lower and upper end, and whether it is significant.
        unit: The unit of the axis.
        label: What the figure shows, for readers who do not see it.
    """
    ends = [0.0, *(value for row in rows for value in row[1:4])]
    low, high = min(ends), max(ends)
    pad = max(0.05 * (high - low), 1e-3)
    low, high = low - pad, high + pad
    left, width, step = max(150, 14 + _width(name for name, *_ in rows)), 430, 22
    height = step * len(rows) + 34

    def x(value: float) -> float:
        return left + width * (value - low) / (high - low)

    parts = [_open(left + width + 20, height, label)]
    for tick in _ticks(low, high):
        kind = "zero" if abs(tick) < 1e-9 else "grid"
        parts.append(f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="4" y2="{height - 30}"/>')
        parts.append(
            f'<text class="tick" x="{x(tick):.1f}" y="{height - 16}" text-anchor="middle">{_signed(tick)}</text>'
        )
    for number, (name, mean, lower, upper, is_significant) in enumerate(rows):
        y = step * number + 16
        title = f"{name}: {mean:+.1f} [{lower:+.1f}, {upper:+.1f}] {unit}{', significant' if is_significant else ''}"
        parts.append(
            f"<g><title>{escape(title)}</title>"
            f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
            f'<line class="bar" x1="{x(lower):.1f}" x2="{x(upper):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="{"sure" if is_significant else "unsure"}" cx="{x(mean):.1f}" cy="{y}" r="4.5"/></g>'
        )
    parts.append(
        f'<text class="tick" x="{left + width}" y="{height - 2}" text-anchor="end">{escape(unit)}</text></svg>'
    )
    return "".join(parts)


def reliability(bins: Sequence[Bin], label: str) -> str:
    """Accuracy against the largest probability, by bins; marks grow with the rows of their bin."""
    size, left = 150, 30

    def x(value: float) -> float:
        return left + size * value

    def y(value: float) -> float:
        return 8 + size * (1 - value)

    most = max((bin_.rows for bin_ in bins), default=1)
    parts = [_open(left + size + 10, size + 32, label)]
    parts.append(f'<rect class="frame" x="{left}" y="8" width="{size}" height="{size}"/>')
    parts.append(f'<line class="zero" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>')
    for tick in (0, 0.5, 1):
        parts.append(f'<text class="tick" x="{x(tick)}" y="{size + 22}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text class="tick" x="{left - 4}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>')
    for bin_ in bins:
        accuracy = bin_.accuracy
        title = (
            f"{bin_.rows:.0f} rows: largest probability {bin_.confidence:.2f}, "
            f"accuracy {accuracy.mean:.2f} [{accuracy.low:.2f}, {accuracy.high:.2f}]"
        )
        at, radius = x(bin_.confidence), 1.5 + 4 * (bin_.rows / most) ** 0.5
        parts.append(
            f"<g><title>{title}</title>"
            f'<line class="bar" x1="{at:.1f}" x2="{at:.1f}" y1="{y(accuracy.low):.1f}" y2="{y(accuracy.high):.1f}"/>'
            f'<circle class="sure" cx="{at:.1f}" cy="{y(accuracy.mean):.1f}" r="{radius:.1f}"/>'
            "</g>"
        )
    return "".join(parts) + "</svg>"


def curves(lines: Mapping[str, Sequence[Mapping[int, float]]], label: str, axis: str = "optimizer step") -> str:
    """Shares by a whole number, such as dev accuracy by optimizer step: a colour for each method, a line for each seed.

    Args:
        lines: Method -> curves.
        label: What the figure shows, for readers who do not see it.
        axis: What the number is.
    """
    points = [point for seeds in lines.values() for curve in seeds for point in curve.items()]
    last = max(step for step, _ in points) or 1
    low, high = min(value for _, value in points), max(value for _, value in points)
    low, high = max(0.0, low - 0.02), min(1.0, high + 0.02)
    left, width, height = 46, 480, 230

    def at(step: int, value: float) -> str:
        return f"{left + width * step / last:.1f},{8 + height * (1 - (value - low) / (high - low)):.1f}"

    parts = [_open(left + width + max(170, 44 + _width(lines)), max(height + 44, 20 + 16 * len(lines)), label)]
    parts.append(f'<rect class="frame" x="{left}" y="8" width="{width}" height="{height}"/>')
    for tick in _ticks(100 * low, 100 * high):
        y = at(0, tick / 100).split(",")[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(0, last):
        x = at(round(tick), low).split(",")[0]
        parts.append(f'<text class="tick" x="{x}" y="{height + 24}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text class="tick" x="{left + width}" y="{height + 40}" text-anchor="end">{escape(axis)}</text>')
    for number, (name, seeds) in enumerate(lines.items()):
        style = f"stroke:var(--c{number % COLOURS})" + (";stroke-dasharray:5 3" if number >= COLOURS else "")
        parts.append(f"<g><title>{escape(name)}</title>")
        for curve in seeds:
            path = " ".join(at(*point) for point in sorted(curve.items()))
            parts.append(f'<polyline class="curve" style="{style}" points="{path}"/>')
            if len(curve) == 1:
                x, y = path.split(",")
                parts.append(f'<circle style="fill:var(--c{number % COLOURS})" cx="{x}" cy="{y}" r="3"/>')
        y_key = 18 + 16 * number
        parts.append(f'<line class="curve" style="{style}" x1="{left + width + 12}" x2="{left + width + 32}" ')
        parts.append(f'y1="{y_key}" y2="{y_key}"/>')
        parts.append(f'<text x="{left + width + 38}" y="{y_key + 4}">{escape(name)}</text></g>')
    return "".join(parts) + "</svg>"


def _open(width: float, height: float, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" role="img" '
        f'aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">'
    )


def _width(names: Iterable[str]) -> int:
    """Room for the longest of these names, in units of the drawing."""
    return 7 * max((len(name) for name in names), default=0)


def _signed(tick: float) -> str:
    return f"{tick:+g}" if abs(tick) > 1e-9 else "0"


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between two ends."""
    span = high - low
    power = 10.0
    while power * 5 > span:
        power /= 10
    while power * 50 <= span:
        power *= 10
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 7)
    first = int(low / step) - 1
    return [number * step for number in range(first, first + 12) if low <= number * step <= high]
