"""`python main.py report`: tables of methods and targets from any number of tested runs."""

import glob
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa

from ..core import artifacts
from ..core.errors import InputError, closest
from ..core.pairings import With, check_pairings
from ..core.paths import find
from ..core.ranges import Share, check_ranges
from ..core.results import Result
from ..core.runs import Run, command_line, output_folder
from ..stages import BY_NAME
from .bootstrap import RESAMPLES
from .class_shares import class_shares as shares_of
from .class_shares import share_lines
from .comparison import results_of
from .costs import costs_of
from .detail_tables import details
from .entries import Results
from .exports import csv_tables, latex, write_csv
from .leakage_limit import check_overlaps, overlap_lines, overlaps_of
from .metrics import METRICS, classification_metrics
from .page import page
from .pool_view import PoolView, pool_views
from .predictions import AS_TRAINED, DIVIDED, Tested, check_priors, read
from .published import beside, published_lines, published_rows, read_published
from .references import llm_runs, without_calibration
from .richness import nltk_tagger, read_lexicon, with_richness
from .tables import markdown
from .training_curves import trainings

log = logging.getLogger(__name__)

FILES = (
    "report.md",
    "details.md",
    "report.json",
    "report.tex",
    "cells.csv",
    "comparisons.csv",
    "classes.csv",
    "slices.csv",
    "costs.csv",
    "published.csv",
)
PAGE = "report.html"
CELLS = "cells"  # the artifact of the tables' cells, inside the report


@dataclass(frozen=True)
class Report(Result):
    """One row a cell of the tables; `summary` is what `report.json` holds.

    Args:
        markdown: The tables as text.
    """

    markdown: str = ""


@check_ranges()
@check_pairings
def report(
    runs: str | list[str],
    out: str | None = "runs/report",
    metric: str | list[str] = "accuracy",
    baseline: str | list[str] | None = None,
    prior: Literal["as_trained", "divided", "both"] = "as_trained",
    by: str | None = None,
    groups: str | None = None,
    class_shares: bool = False,
    max_leakage: Share | None = None,
    html: bool = True,
    sentiwordnet: str | None = None,
    sentiwordnet_tagger: Annotated[Literal["nltk"] | None, With("sentiwordnet")] = "nltk",
    umap: Annotated[bool, With("html"), With("out")] = False,
    llm_labels: str | None = None,
    published: str | None = None,
    overwrite: Annotated[bool, With("out")] = False,
) -> Report:
    """Write tables of methods and targets, and one HTML page with all of it; an earlier report in `out` is replaced.

    Args:
        runs: A folder of `test`, a pattern such as `runs/*/test`, or a list of them; rows are in this order.
        out: The output folder: the report as Markdown, LaTeX, CSV, JSON and one HTML page, and `cells`, an artifact
            with a row for each cell; null writes nothing.
        metric: `accuracy`, `macro_f1`, `ece`, `ce`, or a list of them: one table each.
        baseline: The method, or a list of methods, that all others are compared with (paired bootstrap over rows and
            seeds, Holm's correction within a table); the first method by default.
        prior: Show predictions `as_trained`, with the label prior of the model's gold `divided` out, or `both`.
        by: A column of the test rows, such as `domain`, by which a further table splits the targets; the sources of the
            test must `keep` it.
        groups: A column of the test rows, such as the id of a premise: rows with one value of it are resampled
            together, and so are targets with the same values. The sources of the test must `keep` it.
        class_shares: Show the class shares of gold, selection, predictions and target side by side.
        max_leakage: The largest share of a target's rows that may nearly repeat rows of gold, pool or selection, 0 to
            1; above it nothing is reported.
        html: Also write `report.html`: all of it as one page that needs no network, with the pool row by row.
        sentiwordnet: SentiWordNet's file; the page and `report.json` then have the sentiment richness of each selection
            of English rows.
        sentiwordnet_tagger: `nltk` counts a word's senses of its part of speech in the text; null those of all parts.
        umap: The page's map also lays out embeddings by UMAP; requires the extra `umap`.
        llm_labels: A column of the test rows with the labels that a zero-shot LLM has given them: shown and compared as
            the method `LLM`. The sources of the test must `keep` it.
        published: A YAML file with numbers that others have published, shown beside those of the same method and
            target; see samples/published.yaml.
        overwrite: Replace the artifact of another stage in `out`.
    """
    made = make_report(
        runs, out, metric, baseline, prior, by, groups, class_shares, max_leakage, html, sentiwordnet,
        sentiwordnet_tagger, umap, llm_labels, published, overwrite,
    )  # fmt: skip
    print(made.markdown)
    if out is not None:
        log.info("%s: %s", out, ", ".join(_files(html)))
    return made


def make_report(
    runs: str | list[str],
    out: str | None = None,
    metric: str | list[str] = "accuracy",
    baseline: str | list[str] | None = None,
    prior: Literal["as_trained", "divided", "both"] = "as_trained",
    by: str | None = None,
    groups: str | None = None,
    class_shares: bool = False,
    max_leakage: float | None = None,
    html: bool = True,
    sentiwordnet: str | None = None,
    sentiwordnet_tagger: Literal["nltk"] | None = "nltk",
    umap: bool = False,
    llm_labels: str | None = None,
    published: str | None = None,
    overwrite: bool = False,
) -> Report:
    """The tables of `report`, without printing them."""
    metrics = _metrics(metric)
    lexicon = None if sentiwordnet is None else read_lexicon(sentiwordnet)
    tagger = nltk_tagger() if lexicon is not None and sentiwordnet_tagger == "nltk" else None
    numbers_of_others = [] if published is None else read_published(published)
    folders = _folders(_listed(runs))
    tested = [read(folder) for folder in folders]
    shown = [AS_TRAINED, DIVIDED] if prior == "both" else [prior]
    if DIVIDED in shown:
        check_priors(tested)
    check_overlaps(tested, max_leakage)
    # JSON holds both wherever they are known, whatever the tables show.
    priors = [AS_TRAINED, *([DIVIDED] if DIVIDED in shown or _all_priors_known(tested) else [])]
    references = [] if llm_labels is None else llm_runs(tested, llm_labels, metrics)
    results = results_of([*tested, *references], metrics, priors, _listed(baseline or []), by, groups)
    without_calibration(results)
    numbers = [] if published is None else beside(numbers_of_others, results, published)
    shares = shares_of(tested)
    text = markdown(results, metrics, shown, by)
    if class_shares:
        text += "\n".join(share_lines(shares, {run.task.name: run.task.labels for run in tested})) + "\n"
    text += "\n".join([*published_lines(numbers), *overlap_lines(tested), ""])
    inputs = {f"run.{folder}": artifacts.reference(folder, artifacts.read_manifest(folder)) for folder in folders}
    views = pool_views(tested, umap) if (html and out is not None) or lexicon is not None else []
    if lexicon is not None:
        views = [with_richness(view, lexicon, tagger) for view in views]
    trained = trainings(tested)
    costs = costs_of(trained)
    settings = {"metric": metric, "baseline": baseline, "prior": prior, "by": by, "groups": groups}
    summary = {
        **settings, **_as_json(results, tested, priors), "class_shares": shares,
        "leakage": [{**asdict(one), "share": one.share} for one in overlaps_of(tested)],
        "costs": [asdict(one) for one in costs], "published": published_rows(numbers),
        **({"richness": _richness(views)} if lexicon is not None else {}),
    }  # fmt: skip
    made = Report(_table(results), summary, markdown=text)
    if out is None:
        return made
    with Run(output_folder(out), "report", {}) as run:
        run.begin(overwrite or run.replaces("report"), [str(folder) for folder in folders], [*_files(html), CELLS])
        artifacts.write_json(Path(out) / "report.json", made.summary)
        (Path(out) / "report.md").write_text(text, encoding="utf-8")
        (Path(out) / "details.md").write_text(details(results, shown, costs), encoding="utf-8")
        (Path(out) / "report.tex").write_text(latex(results, metrics, shown, numbers), encoding="utf-8")
        for name, rows in csv_tables(results, made.table, costs, numbers).items():
            write_csv(Path(out) / name, rows)
        if html:
            text_of_page = page(results, metrics, shown, trained, views, tested, costs, numbers)
            (Path(out) / PAGE).write_text(text_of_page, encoding="utf-8", errors="backslashreplace")
        shared: dict[str, Any] = {
            "inputs": inputs, "config": {"runs": runs, **settings}, "command": command_line(),
        }  # fmt: skip
        cells = artifacts.write(Path(out) / CELLS, made.table, stage="cells", **shared)
        files = [*(Path(out) / name for name in _files(html)), *artifacts.files_of(Path(out) / CELLS)]
        artifacts.write(Path(out), None, stage="report", fingerprint_of_files=cells.fingerprint, files=files, **shared)
    return replace(made, path=Path(out))


def _richness(views: Sequence[PoolView]) -> list[dict[str, Any]]:
    """The sentiment richness of every selection; null where its rows are not English, or their texts not known."""
    return [
        {
            "selection": one.name,
            "path": str(one.path),
            "methods": one.methods,
            **dict.fromkeys(("positive", "negative", "overall")),
            **({} if one.richness is None else {**asdict(one.richness), "overall": one.richness.overall}),
        }
        for view in views
        for one in view.selections
    ]


def _files(html: bool) -> list[str]:
    return [*FILES, *([PAGE] if html else [])]


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(dict.fromkeys(names))


def _metrics(metric: str | list[str]) -> list[str]:
    metrics = _listed(metric)
    unknown = next((name for name in metrics or [""] if name not in METRICS), None)
    if unknown is not None:
        raise InputError(f"metric '{unknown}': no metric of this name, {closest(unknown, METRICS)}")
    return metrics


def _folders(runs: Sequence[str]) -> list[Path]:
    """Expand patterns; keep the order given, each folder once."""
    found: dict[Path, None] = {}
    for pattern in runs:
        is_pattern = glob.has_magic(pattern) and find(pattern) is None  # a folder may have brackets in its name
        matches = sorted(glob.glob(pattern)) if is_pattern else [pattern]  # noqa: PTH207 - may be absolute
        if not matches:
            raise InputError(f'runs: nothing matches {pattern}; test a model first: "{BY_NAME["test"].line}"')
        found.update(dict.fromkeys(map(Path, matches)))
    if not found:
        raise InputError("runs: empty, expected folders of `test`, such as --runs '[runs/test]'")
    return list(found)


def _all_priors_known(tested: Sequence[Tested]) -> bool:
    try:
        check_priors(tested)
    except InputError:
        return False
    return True


def _table(results: Results) -> pa.Table:
    """One row a cell of the tables."""
    return pa.Table.from_pylist([{**asdict(cell), "by_seed": list(cell.by_seed.values())} for cell in results.cells])


def _as_json(results: Results, tested: Sequence[Tested], priors: Sequence[str]) -> dict[str, Any]:
    """Everything that was computed, the metrics of each run among it."""

    def counts(run: Tested) -> dict[str, int] | None:
        return None if run.gold_counts is None else dict(zip(run.task.labels, run.gold_counts, strict=True))

    return {
        "resamples": RESAMPLES,
        "cells": [asdict(cell) for cell in results.cells],
        "majorities": [asdict(majority) for majority in results.majorities],
        "comparisons": [asdict(comparison) for comparison in results.comparisons],
        "averages": [asdict(average) for average in results.averages],
        "over_targets": [asdict(one) for one in results.over_targets],
        "details": [asdict(one) for one in results.details],
        "slices": [asdict(one) for one in results.slices],
        "certainties": [asdict(one) for one in results.certainties],
        "dev": [
            {"task": task, "setting": setting, "method": method, "accuracy": accuracy}
            for (task, setting, method), accuracy in results.dev.items()
        ],
        "runs": [
            {
                "path": run.path,
                "task": run.task.name,
                "setting": run.setting,
                "method": run.method,
                "seed": run.seed,
                "dev": run.dev,
                "gold_counts": None
                if run.gold_counts is None
                else dict(zip(run.task.labels, run.gold_counts, strict=True)),
                "metrics": {
                    prior: {
                        target: classification_metrics(one.label_N, run.probs(target, prior))
                        for target, one in run.by_target.items()
                    }
                    for prior in priors
                },
            }
            for run in tested
        ],
    }
