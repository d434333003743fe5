"""The table of methods and targets."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.report import report


def write_run(
    folder: Path,
    task: Task,
    method: str,
    seed: int,
    right: dict[str, int],
    setting: str = "zero-shot",
    **facts: object,
) -> str:
    """A test artifact of ten positive rows a target, of which `right` are right and the others called negative."""
    rows = [
        {
            "id": f"{target}/{n}",
            "target": target,
            "label": "positive",
            "probs": np.eye(3)[2 if n < count else 0].tolist(),
        }
        for target, count in right.items()
        for n in range(10)
    ]
    return write_rows(folder, task, rows, method=method, seed=seed, setting=setting, **facts)


def write_rows(folder: Path, task: Task, rows: list[dict[str, Any]], **facts: object) -> str:
    artifacts.write(folder, pa.Table.from_pylist(rows), stage="test", facts={"task": asdict(task), **facts})
    return str(folder)


def text_of(folder: Path) -> str:
    return (folder / "report.md").read_text()


def json_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def row_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_seeds_are_averaged_and_shown(tmp_path: Path, task: Task, capsys: pytest.CaptureFixture[str]):
    runs = [
        write_run(tmp_path / "a0", task, "SRC", 0, {"hi": 6, "sw": 5}),
        write_run(tmp_path / "b0", task, "T-top-k", 0, {"hi": 7, "sw": 5}),
        write_run(tmp_path / "b1", task, "T-top-k", 1, {"hi": 9, "sw": 5}),
    ]
    report(runs, out=str(tmp_path / "report"))
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| method | seeds | dev | hi (10) | sw (10) | mean over targets |" in text
    assert row_of(text, "| SRC |").startswith("| SRC | 0 |  | _60.0_ [30.0, 90.0]")
    assert row_of(text, "| T-top-k |").startswith("| T-top-k | 0, 1 |  | **80.0** ± 14.1 [")
    assert "over resampled rows and seeds (of a single seed: rows)." in text
    assert text in capsys.readouterr().out
    cells = json.loads((tmp_path / "report" / "report.json").read_text())["cells"]
    assert next(cell["by_seed"] for cell in cells if cell["method"] == "T-top-k") == {"0": 0.7, "1": 0.9}


def test_settings_have_tables_of_their_own(tmp_path: Path, task: Task):
    runs = [
        write_run(tmp_path / "a", task, "SRC", 0, {"hi": 6}),
        write_run(tmp_path / "b", task, "SRC", 0, {"hi": 8}, setting="translate-train"),
    ]
    report(runs, out=str(tmp_path / "report"))
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.index("## sentiment, zero-shot") < text.index("60.0") < text.index("## sentiment, translate-train")


def test_patterns_find_runs(tmp_path: Path, task: Task):
    for seed in (0, 1):
        write_run(tmp_path / f"seed{seed}" / "test", task, "SRC", seed, {"hi": 6 + seed})
    report([f"{tmp_path}/*/test"], out=str(tmp_path / "report"))
    assert "| SRC | 0, 1 |  | 65.0 ± 7.1 [" in text_of(tmp_path / "report")


def test_a_folder_that_looks_like_a_pattern_is_itself(tmp_path: Path, task: Task):
    for name, right in (("test[1]", 6), ("test1", 9)):
        write_run(tmp_path / name, task, "SRC", 0, {"hi": right})
    report([f"{tmp_path}/test[1]"], out=str(tmp_path / "report"))
    assert "60.0" in text_of(tmp_path / "report")


@pytest.mark.parametrize(("runs", "said"), [([], "runs: empty"), (["nothing/*"], "nothing matches nothing")])
def test_nothing_to_report(tmp_path: Path, runs: list[str], said: str):
    with pytest.raises(InputError, match=said):
        report(runs, out=str(tmp_path / "report"))
    assert not (tmp_path / "report").exists()


def test_a_refused_report_leaves_nothing(tmp_path: Path, task: Task):
    runs = [write_run(tmp_path / name, task, "SRC", 0, {"hi": 6}) for name in ("a", "b")]
    with pytest.raises(InputError, match="was also read from"):
        report(runs, out=str(tmp_path / "report"))
    assert not artifacts.is_whole(tmp_path / "report")


def test_another_metric(tmp_path: Path, task: Task):
    report([write_run(tmp_path / "a", task, "SRC", 0, {"hi": 5})], out=str(tmp_path / "report"), metric="macro_f1")
    assert "| SRC | 0 |  | 33.3 [" in text_of(tmp_path / "report")


def test_methods_are_tested_against_the_baseline(tmp_path: Path, task: Task):
    runs = [
        write_run(tmp_path / "a", task, "SRC", 0, {"hi": 1, "sw": 5}),
        write_run(tmp_path / "b", task, "T-top-k", 0, {"hi": 9, "sw": 5}),
        write_run(tmp_path / "c", task, "T-rand-k", 0, {"hi": 2, "sw": 5}),
    ]
    report(runs, out=str(tmp_path / "one"))
    text = (tmp_path / "one" / "report.md").read_text()
    assert "accuracy against SRC" in text
    row = next(line for line in text.splitlines() if line.startswith("| T-top-k | +80.0"))
    assert "* | +0.0 [+0.0, +0.0] | +40.0 [" in row
    report(runs, out=str(tmp_path / "two"), baseline="T-rand-k")
    assert "accuracy against T-rand-k" in (tmp_path / "two" / "report.md").read_text()
    with pytest.raises(
        InputError, match="baseline 'T-best': no method of this name, expected one of SRC, T-top-k, T-rand-k"
    ):
        report(runs, out=str(tmp_path / "three"), baseline="T-best")


def test_each_baseline_has_a_table(tmp_path: Path, task: Task):
    runs = [write_run(tmp_path / name, task, name, 0, {"hi": count}) for name, count in (("A", 3), ("B", 6), ("C", 9))]
    report(runs, out=str(tmp_path / "report"), baseline=["C", "A"])
    text = text_of(tmp_path / "report")
    assert text.index("accuracy against C") < text.index("accuracy against A")
    assert "| B | -30.0 [" in text
    assert "| B | +30.0 [" in text
    assert len(json_of(tmp_path / "report")["comparisons"]) == 4


def test_cells_that_reach_the_majority_class_are_marked(tmp_path: Path, task: Task):
    """60 of 100 rows are positive: 60 %, and an F1 of 2 * 60 / 160 over two labels."""
    labels = ["positive"] * 60 + ["negative"] * 40

    def rows(right: int) -> list[dict[str, Any]]:
        return [
            {
                "id": str(n),
                "target": "hi",
                "label": label,
                "probs": np.eye(3)[task.labels.index(label) if n % 100 < right else 1].tolist(),
            }
            for n, label in enumerate(labels)
        ]

    runs = [
        write_rows(tmp_path / name, task, rows(right), method=name, seed=0) for name, right in (("A", 65), ("B", 90))
    ]
    report(runs, out=str(tmp_path / "report"), metric=["accuracy", "macro_f1"])
    text = text_of(tmp_path / "report")
    assert "| majority class | | | 60.0 |" in text
    assert "| majority class | | | 37.5 |" in text
    assert row_of(text, "| A | 0 |").endswith("] † |")
    assert row_of(text, "| B | 0 |").endswith("] |")
    assert "† the interval reaches the majority class." in text
    assert json_of(tmp_path / "report")["majorities"] == [
        {
            "task": "sentiment", "setting": "zero-shot", "target": "hi", "part": None, "rows": 100,
            "label": "positive", "accuracy": 0.6, "macro_f1": pytest.approx(0.375),
        }
    ]  # fmt: skip


def prior_runs(tmp_path: Path, task: Task) -> list[str]:
    """One row that the gold's prior of 8 : 1 : 1 decides, one that it does not."""
    rows = [
        {"id": "a", "target": "hi", "label": "positive", "probs": [0.6, 0.1, 0.3]},  # divided: 0.75 : 1 : 3
        {"id": "b", "target": "hi", "label": "negative", "probs": [0.98, 0.01, 0.01]},
    ]
    gold = {"negative": 80, "neutral": 10, "positive": 10}
    none = dict.fromkeys(task.labels, 0)
    return [
        write_rows(tmp_path / "SRC", task, rows, method="SRC", seed=0, gold_counts=gold),
        write_rows(tmp_path / "GEN", task, rows, method="GEN", seed=0, gold_counts=none),
    ]


def test_the_golds_prior_divided_out_flips_the_row_that_it_decided(tmp_path: Path, task: Task):
    report(prior_runs(tmp_path, task), out=str(tmp_path / "report"), prior="both")
    trained, divided = text_of(tmp_path / "report").split("## sentiment, zero-shot: accuracy, gold prior divided out")
    assert "| SRC | 0 |  | **50.0** [" in trained
    assert "| SRC | 0 |  | **100.0** [" in divided
    runs = {run["method"]: run for run in json_of(tmp_path / "report")["runs"]}
    assert runs["SRC"]["gold_counts"] == {"negative": 80, "neutral": 10, "positive": 10}
    assert runs["SRC"]["metrics"]["divided"]["hi"]["accuracy"] == 1.0


def test_a_model_without_gold_stays_as_it_was_trained(tmp_path: Path, task: Task):
    report(prior_runs(tmp_path, task), out=str(tmp_path / "report"), prior="divided")
    text = text_of(tmp_path / "report")
    assert row_of(text, "| GEN | 0 |  | _50.0_ [").endswith("‡ |")
    assert "‡ trained without gold, so there is no prior to divide out: shown as trained." in text


def test_json_holds_both_priors_whatever_the_tables_show(tmp_path: Path, task: Task):
    report(prior_runs(tmp_path, task), out=str(tmp_path / "report"))
    assert "divided" not in text_of(tmp_path / "report")
    assert {cell["prior"] for cell in json_of(tmp_path / "report")["cells"]} == {"as_trained", "divided"}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "label counts of the model's gold are not recorded.*fit and test the model again"),
        ({"gold_counts": {"negative": 1, "neutral": 1}}, "no row of 'positive'"),
    ],
)
def test_a_prior_that_is_not_known_is_not_divided_out(tmp_path: Path, task: Task, facts: dict[str, Any], said: str):
    runs = [write_run(tmp_path / "a", task, "SRC", 0, {"hi": 6}, **facts)]
    with pytest.raises(InputError, match=f"a: .*{said}"):
        report(runs, out=str(tmp_path / "report"), prior="divided")
    report(runs, out=str(tmp_path / "report"))


def test_the_dev_set_chooses_a_method(tmp_path: Path, task: Task):
    runs = [
        write_run(tmp_path / "a", task, "SRC", 0, {"hi": 6}, dev={"dev/accuracy": 0.7}),
        write_run(tmp_path / "b0", task, "T-top-k", 0, {"hi": 7}, dev={"dev/accuracy": 0.70}),
        write_run(tmp_path / "b1", task, "T-top-k", 1, {"hi": 8}, dev={"dev/accuracy": 0.75}),
        write_run(tmp_path / "c", task, "hub", 0, {"hi": 9}),
    ]
    report(runs, out=str(tmp_path / "report"))
    text = text_of(tmp_path / "report")
    assert "| T-top-k | 0, 1 | 72.5 | _75.0_" in text
    assert "| hub | 0 |  | **90.0**" in text
    assert "Chosen on the source dev set: T-top-k (dev 72.5); on the targets hi +15.0 points against SRC." in text


def test_targets_are_split_by_a_column(tmp_path: Path, task: Task):
    rows = [
        {
            "id": str(n),
            "target": "hi",
            "label": "positive",
            "probs": [0.0, 0.0, 1.0] if n < 3 else [1.0, 0.0, 0.0],
            "domain": "news" if n < 4 else "tweets",
        }
        for n in range(10)
    ]
    run = write_rows(tmp_path / "a", task, rows, method="SRC", seed=0)
    report(run, out=str(tmp_path / "report"), by="domain")
    text = text_of(tmp_path / "report")
    assert "| SRC | 0 |  | 30.0 [" in text
    assert "## sentiment, zero-shot: accuracy by domain" in text
    assert "| method | seeds | dev | hi: news (4) | hi: tweets (6) |" in text
    assert "| SRC | 0 |  | 75.0 [25.0, 100.0] † | 0.0 [0.0, 0.0] † |" in text
    with pytest.raises(InputError, match=r"by 'source'.*keep: \[source\]"):
        report(run, out=str(tmp_path / "report"), by="source")


def test_another_report_in_the_same_folder_is_replaced(tmp_path: Path, task: Task):
    runs = write_run(tmp_path / "a", task, "SRC", 0, {"hi": 5})
    for metric in ("accuracy", "macro_f1", "accuracy"):
        report(runs, out=str(tmp_path / "report"), metric=metric)
        assert json_of(tmp_path / "report")["metric"] == metric


def test_runs_of_a_target_must_hold_the_same_rows_and_labels(tmp_path: Path, task: Task):
    first = write_run(tmp_path / "a", task, "SRC", 0, {"hi": 5})
    row = {"target": "hi", "probs": [1.0, 0.0, 0.0]}
    fewer = write_rows(tmp_path / "b", task, [{"id": "hi/0", "label": "positive", **row}], method="B", seed=0)
    others = [{"id": f"hi/{n}", "label": "neutral", **row} for n in range(10)]
    relabelled = write_rows(tmp_path / "c", task, others, method="C", seed=0)
    for run, what in ((fewer, "rows"), (relabelled, "labels")):
        with pytest.raises(InputError, match=f"target hi has other {what}"):
            report([first, run], out=str(tmp_path / "report"))


def test_the_mean_over_targets_has_an_interval_and_stays_out_of_the_correction(tmp_path: Path, task: Task):
    runs = [
        write_run(tmp_path / "a", task, "SRC", 0, {"hi": 2, "sw": 5}),
        write_run(tmp_path / "b", task, "T-top-k", 0, {"hi": 9, "sw": 5}),
    ]
    report(runs, out=str(tmp_path / "report"))
    assert "| _35.0_ [" in row_of(text_of(tmp_path / "report"), "| SRC |")
    found = {one["target"]: one for one in json_of(tmp_path / "report")["comparisons"]}
    assert found["mean over targets"]["difference"]["mean"] == pytest.approx(0.35)
    assert found["mean over targets"]["p_holm"] == found["mean over targets"]["difference"]["p"]
    assert found["hi"]["p_holm"] == pytest.approx(2 * found["hi"]["difference"]["p"])  # of two targets, not three


def test_each_seed_of_a_comparison_has_mcnemars_test(tmp_path: Path, task: Task):
    runs = [
        write_run(tmp_path / f"{method}{seed}", task, method, seed, {"hi": right})
        for method, right in (("SRC", 2), ("T-top-k", 9))
        for seed in (0, 1)
    ]
    report(runs, out=str(tmp_path / "report"))
    (comparison,) = json_of(tmp_path / "report")["comparisons"]
    assert set(comparison["mcnemar"]) == {"0", "1"}
    assert comparison["mcnemar"]["0"]["only_method"] == 7
    assert comparison["mcnemar"]["0"]["p"] == pytest.approx(2 / 2**7)
    assert comparison["seeds"]["pairs"] == 2
    assert "| T-top-k | SRC | hi | 0 | 7 | 0 | 0.016 |" in (tmp_path / "report" / "details.md").read_text()


def test_wilcoxons_test_takes_the_targets_of_all_settings(tmp_path: Path, task: Task):
    targets = {name: 2 + number for number, name in enumerate(("hi", "mr", "ur"))}
    runs = []
    for setting in ("zero-shot", "translate-train"):
        runs.append(write_run(tmp_path / f"a-{setting}", task, "SRC", 0, dict.fromkeys(targets, 1), setting))
        runs.append(write_run(tmp_path / f"b-{setting}", task, "T-top-k", 0, targets, setting))
    report(runs, out=str(tmp_path / "report"))
    (found,) = json_of(tmp_path / "report")["over_targets"]
    assert found["test"]["pairs"] == 6
    assert 0.02 < found["test"]["p"] < 0.05
    assert found["test"]["least_p"] == pytest.approx(2 / 2**6)


def test_rows_of_one_group_are_resampled_together(tmp_path: Path, task: Task):
    """Ten premises of three hypotheses each, all three right or all three wrong: 10 independent rows, not 30."""
    rows = [
        {
            "id": f"{n}-{k}",
            "target": "hi",
            "label": "positive",
            "premise_id": n,
            "probs": np.eye(3)[2 * (n % 2)].tolist(),
        }
        for n in range(10)
        for k in range(3)
    ]
    run = write_rows(tmp_path / "a", task, rows, method="SRC", seed=0)
    report(run, out=str(tmp_path / "rows"))
    report(run, out=str(tmp_path / "groups"), groups="premise_id")
    (alone,), (together,) = (json_of(tmp_path / name)["cells"] for name in ("rows", "groups"))
    assert alone["mean"] == together["mean"] == 0.5
    width = [cell["high"] - cell["low"] for cell in (alone, together)]
    assert width[1] == pytest.approx(3**0.5 * width[0], rel=0.2)


def test_groups_need_their_column(tmp_path: Path, task: Task):
    run = write_run(tmp_path / "a", task, "SRC", 0, {"hi": 6})
    with pytest.raises(
        InputError, match=r"target hi: groups 'premise': no test run holds this column; add `keep: \[pre"
    ):
        report(run, out=str(tmp_path / "report"), groups="premise")
    rows = [{"id": "1", "target": "hi", "label": "neutral", "premise": None, "probs": [0.0, 1.0, 0.0]}]
    empty = write_rows(tmp_path / "b", task, rows, method="SRC", seed=0)
    with pytest.raises(InputError, match="groups 'premise': the test rows|row '1' has no value"):
        report(empty, out=str(tmp_path / "report"), groups="premise")
