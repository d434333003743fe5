"""The report as one HTML page that needs no network: tables, figures, and the pool row by row."""

# N = rows, C = classes

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from . import figures
from .costs import Cost, energy_is_known
from .detail_tables import certainty_table, p_value
from .entries import AVERAGE, Cell, Comparison, Results, column_ranks
from .leakage_limit import NOTE, not_compared, overlaps_of
from .method_names import meaning
from .metrics import METRICS
from .pool_view import PoolView
from .predictions import DIVIDED, Tested
from .published import Beside, published_rows
from .tables import MAJORITY
from .training_curves import Training

MOST_BYTES = 12_000_000
MOST_ROWS = 150_000
_TEXT_LIMITS = (2_000, 400, 200, 120, 80, 40)  # characters of a text, tried in turn until the page is small enough
_TEMPLATES = Path(__file__).parent / "templates"
_NONE = 255  # a class or domain that is not known


def page(
    results: Results,
    metrics: Sequence[str],
    priors: Sequence[str],
    trainings: Sequence[Training],
    views: Sequence[PoolView],
    tested: Sequence[Tested] = (),
    costs: Sequence[Cost] = (),
    published: Sequence[Beside] = (),
) -> str:
    """The page's HTML; texts of the pool are shortened until it has at most 12 MB.

    Args:
        results: What the tables show.
        metrics: The metrics to show.
        priors: The priors to show.
        trainings: How the runs went.
        views: The pools behind them.
        tested: The runs, for near duplicates of their training data.
        costs: What the methods cost.
        published: Numbers of others beside ours.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    methods = list(dict.fromkeys(cell.method for cell in results.cells))
    common = {
        "css": (_TEMPLATES / "page.css").read_text(encoding="utf-8"),
        "js": (_TEMPLATES / "page.js").read_text(encoding="utf-8"),
        "answers": list(_answers(results)),
        "sections": list(_sections(results, metrics, priors)),
        "details": list(_details(results, priors)),
        "curves": list(_curves(trainings)),
        "slices": list(_slices(results, priors)),
        "overlaps": overlaps_of(tested),
        "not_compared": not_compared(tested),
        "overlap_note": NOTE,
        "costs": costs,
        "published": published_rows(published),
        "energy_is_known": energy_is_known(costs),
        "pools": [_pool(view) for view in views],
        "methods": [(method, meaning(method) or "A name of this grid's own; see its grid file.") for method in methods],
        "trainings": trainings,
        "average": AVERAGE,
    }
    for limit in _TEXT_LIMITS:
        data = [_packed(_data(view, limit)) for view in views]
        shortened = limit if any(len(text or "") > limit for view in views for text in view.texts) else None
        html = environment.get_template("page.html").render(**common, data=data, shortened=shortened)
        if len(html.encode("utf-8", "replace")) <= MOST_BYTES:
            break
    return html


def _answers(results: Results) -> Iterator[dict[str, Any]]:
    """For each task and setting: did it help, by how much, and is that more than chance?"""
    for task, setting in dict.fromkeys((cell.task, cell.setting) for cell in results.cells):
        first = next(cell for cell in results.cells if (cell.task, cell.setting) == (task, setting))
        gains = [
            one
            for one in results.comparisons
            if (one.task, one.setting, one.metric, one.prior) == (task, setting, first.metric, first.prior)
        ]
        dev = {key[2]: value for key, value in results.dev.items() if key[:2] == (task, setting)}
        answer: dict[str, Any] = {"task": task, "setting": setting, "metric": METRICS[first.metric].title, "gains": []}
        if gains:
            base = gains[0].baseline
            chosen = max(dev, key=lambda method: dev[method]) if dev else None
            answer["baseline"] = base
            answer["chosen"] = None if chosen is None else (chosen, 100 * dev[chosen])
            answer["gains"] = [_gain(one) for one in gains if (one.method, one.baseline) == (chosen, base)]
            own = [one for one in gains if one.baseline == base and one.target != AVERAGE]
            better = 1 if METRICS[first.metric].higher_is_better else -1
            answer["better"] = sum(one.p_holm < 0.05 and better * one.difference.mean > 0 for one in own)
            answer["worse"] = sum(one.p_holm < 0.05 and better * one.difference.mean < 0 for one in own)
            answer["compared"] = len(own)
            answer["unit"] = METRICS[first.metric].difference_unit
            answer["best"] = _gain(max(own, key=lambda one: better * one.difference.mean))
        yield answer


def _gain(one: Comparison) -> dict[str, Any]:
    scale = METRICS[one.metric].scale
    difference = one.difference
    return {
        "method": one.method, "target": one.target, "mean": scale * difference.mean, "low": scale * difference.low,
        "high": scale * difference.high, "p": p_value(one.p_holm), "sure": one.p_holm < 0.05,
        "detectable": scale * difference.detectable,
    }  # fmt: skip


def _sections(results: Results, metrics: Sequence[str], priors: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A section for each task, setting, metric and prior."""
    for task, setting in dict.fromkeys((cell.task, cell.setting) for cell in results.cells):
        for metric in metrics:
            for prior in priors:
                key = (task, setting, metric, prior)
                cells = [cell for cell in results.cells if (cell.task, cell.setting, cell.metric, cell.prior) == key]
                whole = [cell for cell in cells if cell.part is None]
                parts = [cell for cell in cells if cell.part is not None]
                yield {
                    "title": f"{task}, {setting}: {METRICS[metric].title}"
                    + (", gold prior divided out" if prior == DIVIDED else ""),
                    "unit": METRICS[metric].unit,
                    "tables": [_table(group, results) for group in (whole, parts) if group],
                    "comparisons": list(_comparisons(results, key)),
                }


_RANKS = {0: "best", 1: "second"}  # classes of the style sheet


def _table(cells: Sequence[Cell], results: Results) -> dict[str, Any]:
    """Methods by targets, the best bold and the second underlined."""
    metric, prior = cells[0].metric, cells[0].prior
    place = (cells[0].task, cells[0].setting)
    columns = list(dict.fromkeys((cell.target, cell.part, cell.rows) for cell in cells))
    ranks = column_ranks(cells)
    averages = {
        one.method: one
        for one in results.averages
        if (one.task, one.setting, one.metric, one.prior) == (*place, metric, prior) and cells[0].part is None
    }
    of_averages = METRICS[metric].ranks({method: one.mean for method, one in averages.items()})
    majority = []
    if metric in ("accuracy", "macro_f1"):
        constant = {
            (one.target, one.part): getattr(one, metric)
            for one in results.majorities
            if (one.task, one.setting) == place
        }
        majority = [METRICS[metric].scale * constant[target, part] for target, part, _ in columns]
    rows = []
    for method in dict.fromkeys(cell.method for cell in cells):
        own = {(cell.target, cell.part): cell for cell in cells if cell.method == method}
        rows.append(
            {
                "method": method,
                "seeds": max(len(cell.by_seed) for cell in own.values()),
                "dev": results.dev.get((*place, method)),
                "cells": [
                    _shown(own[target, part], ranks[method, target, part]) if (target, part) in own else None
                    for target, part, _ in columns
                ],
                "average": METRICS[metric].scale * averages[method].mean if method in averages else None,
                "average_class": _RANKS.get(of_averages.get(method, len(_RANKS)), ""),
            }
        )
    heads = [(target if part is None else f"{target}: {part}", count) for target, part, count in columns]
    return {
        "columns": heads, "rows": rows, "majority": majority, "majority_name": MAJORITY, "averages": bool(averages),
        "digits": METRICS[metric].digits,
    }  # fmt: skip


def _shown(cell: Cell, rank: int) -> dict[str, Any]:
    scale = METRICS[cell.metric].scale
    return {
        "mean": scale * cell.mean,
        "deviation": None if cell.deviation is None else scale * cell.deviation,
        "low": scale * cell.low,
        "high": scale * cell.high,
        "class": _RANKS.get(rank, ""),
        "reaches": cell.reaches_majority,
        "by_seed": ", ".join(f"seed {seed}: {scale * value:.1f}" for seed, value in cell.by_seed.items()),
    }


def _comparisons(results: Results, key: tuple[str, str, str, str]) -> Iterator[dict[str, Any]]:
    found = [one for one in results.comparisons if (one.task, one.setting, one.metric, one.prior) == key]
    for base, target in dict.fromkeys((one.baseline, one.target) for one in found):
        gains = [_gain(one) for one in found if (one.baseline, one.target) == (base, target)]
        unit = METRICS[key[2]].difference_unit
        yield {
            "title": f"{target}: difference from {base}",
            "figure": figures.intervals(
                [(gain["method"], gain["mean"], gain["low"], gain["high"], gain["sure"]) for gain in gains],
                unit, f"Differences from {base} on {target} with 95 % intervals; the table below has the numbers.",
            ),
            "gains": gains,
            "unit": unit,
        }  # fmt: skip


def _details(results: Results, priors: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Classes, confusions and calibration of every method on a target."""
    shown = [one for one in results.details if one.prior in priors]
    for key in dict.fromkeys((one.task, one.setting, one.target, one.prior) for one in shown):
        group = [one for one in shown if (one.task, one.setting, one.target, one.prior) == key]
        certain = [one for one in results.certainties if (one.task, one.setting, one.target, one.prior) == key]
        heads, lines = certainty_table(certain)
        curves = {one.method: [_by_percent(one.coverage, one.risk)] for one in certain}
        yield {
            "risk": figures.curves(curves, f"Error rate by the share of rows answered on {key[2]}", "% answered")
            if curves
            else "",
            "certainty_heads": heads,
            "certainty": [(one.method, line) for one, line in zip(certain, lines, strict=True)],
            "title": ", ".join(key[:3]) + (", gold prior divided out" if key[3] == DIVIDED else ""),
            "labels": [score.label for score in group[0].classes],
            "methods": [
                {
                    "method": one.method,
                    "classes": one.classes,
                    "confusion": [
                        [(count, count / max(sum(counts), 1)) for count in counts] for counts in one.confusion
                    ],
                    "figure": figures.reliability(one.bins, f"Reliability of {one.method} on {key[2]}")
                    if one.bins
                    else "",
                }
                for one in group
            ],
        }


def _by_percent(coverage: Sequence[float], risk: Sequence[float]) -> dict[int, float]:
    return {round(100 * share): value for share, value in zip(coverage, risk, strict=True)}


def _slices(results: Results, priors: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A table for each target, metric and prior: the slices by the methods."""
    shown = [one for one in results.slices if one.prior in priors]
    for key in dict.fromkeys((one.task, one.setting, one.target, one.metric, one.prior) for one in shown):
        own = [one for one in shown if (one.task, one.setting, one.target, one.metric, one.prior) == key]
        methods = list(dict.fromkeys(one.method for one in own))
        scale = METRICS[key[3]].scale
        scores = {(one.by, one.name, one.method): one for one in own}
        yield {
            "title": f"{', '.join(key[:3])}: {METRICS[key[3]].title}"
            + (", gold prior divided out" if key[4] == DIVIDED else ""),
            "methods": methods,
            "digits": METRICS[key[3]].digits,
            "unit": METRICS[key[3]].unit,
            "rows": [
                {
                    "by": by, "name": name, "rows": rows,
                    "cells": [
                        (scale * one.mean, scale * one.low, scale * one.high)
                        for one in (scores[by, name, method] for method in methods)
                    ],
                }
                for by, name, rows in dict.fromkeys((one.by, one.name, one.rows) for one in own)
            ],
        }  # fmt: skip


def _curves(trainings: Sequence[Training]) -> Iterator[dict[str, Any]]:
    for task, setting in dict.fromkeys((one.task, one.setting) for one in trainings if one.curve):
        lines: dict[str, list[Mapping[int, float]]] = {}
        for one in trainings:
            if (one.task, one.setting) == (task, setting) and one.curve:
                lines.setdefault(one.method, []).append(one.curve)
        label = f"Accuracy on the source dev set by optimizer step, {task}, {setting}"
        yield {"title": f"{task}, {setting}", "figure": figures.curves(lines, label)}


def _pool(view: PoolView) -> dict[str, Any]:
    """The tables of a pool: what each selection kept, and what two of them share."""
    class_of, domain_of = _class_numbers(view), dict(zip(view.ids, view.domains, strict=True))
    prompt_of = dict(zip(view.ids, view.prompt_labels, strict=True))
    domains = sorted({domain for domain in view.domains if domain is not None})
    selections = []
    for one in view.selections:
        kept = [row for row in one.ids if row in prompt_of]
        counts = one.manifest.facts.get("classes", {})
        known = [domain_of[row] for row in kept if domain_of[row] is not None]
        agreeing = [
            view.task.labels[class_of[row]] == prompt_of[row]
            for row in kept
            if row in class_of and prompt_of[row] is not None
        ]
        selections.append(
            {
                "name": one.name, "methods": one.methods, "path": str(one.path), "rows": len(one.ids),
                "classes": [counts.get(label, {}) for label in view.task.labels],
                "agreement": float(np.mean(agreeing)) if agreeing else None,
                "diversity": one.diversity, "richness": one.richness,
                "domains": [known.count(domain) / len(known) if known else None for domain in domains],
            }
        )  # fmt: skip
    ids = {one.name: set(one.ids) for one in view.selections}
    overlap = {(a, b): len(ids[a] & ids[b]) / max(min(len(ids[a]), len(ids[b])), 1) for a, b in combinations(ids, 2)}
    overlap |= {(b, a): share for (a, b), share in overlap.items()}
    return {
        "path": view.path, "task": view.task.name, "rows": len(view.ids), "labels": view.task.labels,
        "selections": selections, "domains": domains, "is_rich": any(one["richness"] for one in selections),
        "overlap": [[overlap.get((a, b)) for b in ids] for a in ids],
        "layouts": [axes.name for axes in view.axes],
        "shown": min(len(view.ids), MOST_ROWS),
    }  # fmt: skip


def _class_numbers(view: PoolView) -> dict[str, int]:
    if view.probs_NC is None:
        return {}
    return dict(zip(view.ids, view.probs_NC.argmax(axis=1).tolist(), strict=True))


def _data(view: PoolView, limit: int) -> dict[str, Any]:
    """What the script draws: texts as lines, numbers as base64 of little-endian arrays."""
    shown = np.arange(len(view.ids))
    if len(shown) > MOST_ROWS:  # a seeded sample; rows that a selection kept stay
        kept = {row for one in view.selections for row in one.ids}
        is_kept = np.array([row in kept for row in view.ids])
        order = np.argsort(~is_kept + np.random.default_rng(0).random(len(shown)), kind="stable")
        shown = np.sort(order[:MOST_ROWS])
    labels = {label: number for number, label in enumerate(view.task.labels)}
    domains = sorted({domain for domain in view.domains if domain is not None})[: _NONE - 1]
    numbers = {domain: number for number, domain in enumerate(domains)}
    prompt = np.array([labels.get(one or "", _NONE) for one in view.prompt_labels], dtype=np.uint8)[shown]
    domain = np.array([numbers.get(one or "", _NONE) for one in view.domains], dtype=np.uint8)[shown]
    probs = None if view.probs_NC is None else np.round(view.probs_NC[shown] * 65535).astype("<u2")
    kept_by = [set(one.ids) for one in view.selections]
    return {
        "rows": len(shown), "labels": view.task.labels, "domains": domains,
        "ids": "\n".join(_line(view.ids[row], limit) for row in shown),
        "texts": "\n".join(_line(view.texts[row], limit) for row in shown),
        "prompt": _base64(prompt), "domain": _base64(domain), "probs": None if probs is None else _base64(probs),
        "axes": [
            {"name": one.name, "x_label": one.x_label, "y_label": one.y_label, **_scaled("x", one.x_N[shown]),
             **_scaled("y", one.y_N[shown])}
            for one in view.axes
        ],
        "selections": [
            {"name": one.name, "path": str(one.path),
             "kept": _base64(np.packbits([view.ids[row] in ids for row in shown], bitorder="little"))}
            for one, ids in zip(view.selections, kept_by, strict=True)
        ],
        "ancestry": [
            f"{stage}: {', '.join(folder for other, folder in view.ancestry if other == stage)}"
            for stage in dict.fromkeys(stage for stage, _ in view.ancestry)
        ],
    }  # fmt: skip


def _scaled(name: str, value_N: np.ndarray) -> dict[str, Any]:
    low, high = (float(value_N.min()), float(value_N.max())) if len(value_N) else (0.0, 1.0)
    span = (high - low) or 1.0
    return {name: _base64(np.round((value_N - low) / span * 65535).astype("<u2")), f"{name}_range": [low, low + span]}


def _line(text: str | None, limit: int) -> str:
    plain = " ".join((text or "").split())
    return plain if len(plain) <= limit else f"{plain[:limit]}…"


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _packed(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False).encode("utf-8", "replace")
    return base64.b64encode(gzip.compress(text, 6, mtime=0)).decode("ascii")
