"""Labels that a zero-shot LLM gave to the target rows, as a method of the report."""

import json
from pathlib import Path

import pytest
from test_report import row_of, write_rows

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.report import make_report


def write_answered(folder: Path, task: Task, answers: list[str | None]) -> str:
    """Positive rows that the model gets right; the LLM answers as it does."""
    rows = [
        {"id": f"hi/{n}", "target": "hi", "label": "positive", "probs": [0.1, 0.1, 0.8], "llm_label": answer}
        for n, answer in enumerate(answers)
    ]
    return write_rows(folder, task, rows, method="SRC", seed=0, setting="zero-shot", gold_counts={"positive": 1})


def test_the_llm_is_a_method_with_an_interval_and_a_comparison(tmp_path: Path, task: Task):
    run = write_answered(tmp_path / "a", task, ["Positive"] * 6 + ["negative"] * 4)
    made = make_report(run, str(tmp_path / "report"), metric=["accuracy", "macro_f1"], llm_labels="llm_label")
    assert row_of(made.markdown, "| LLM |").startswith("| LLM | - |  | _60.0_ [30.0, 90.0]")
    [compared] = [one for one in made.summary["comparisons"] if one["metric"] == "accuracy"]
    assert (compared["method"], compared["baseline"]) == ("LLM", "SRC")
    assert compared["difference"]["mean"] == pytest.approx(-0.4)
    assert [one["method"] for one in made.summary["runs"]] == ["SRC"]
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert "zero-shot language model gave" in page
    assert "Reliability of SRC on hi" in page
    assert "Reliability of LLM on hi" not in page
    json.loads((tmp_path / "report/report.json").read_text())


def test_without_the_setting_the_column_is_left_alone(tmp_path: Path, task: Task):
    made = make_report(write_answered(tmp_path / "a", task, ["positive"] * 10))
    assert "LLM" not in made.markdown


@pytest.mark.parametrize(
    ("answers", "settings", "said"),
    [
        (["positive", "great"], {}, "target hi row 'hi/1' has 'great', expected one of"),
        (["positive", None], {}, "target hi row 'hi/1' has None, expected one of"),
        (["positive"], {"metric": "ce"}, "labels have no probabilities, so metric 'ce' does not apply"),
        (["positive"], {"llm_labels": "other"}, "no test run holds this column; add `keep: \\[other\\]`"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, task: Task, answers: list[str | None], settings: dict[str, str], said: str
):
    with pytest.raises(InputError, match=said):
        make_report(write_answered(tmp_path / "a", task, answers), **{"llm_labels": "llm_label", **settings})
