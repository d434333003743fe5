"""Errors by coverage, and what a test measured of the exported head, in a report."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from test_class_scores import drawn
from test_report import write_rows

from labelbridge.lightning_app.calibration.temperature import without_temperature
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.certainty import certainties_of
from labelbridge.lightning_app.evaluation.metrics import classification_metrics, head_metrics
from labelbridge.lightning_app.evaluation.predictions import AS_TRAINED, DIVIDED
from labelbridge.lightning_app.evaluation.report import make_report


def test_the_curve_is_the_mean_over_seeds_and_ends_at_the_error_rate(task: Task):
    runs = [drawn(task, seed) for seed in (0, 1)]
    found, divided = certainties_of(runs, "hi", [AS_TRAINED, DIVIDED])
    scores = [classification_metrics(run.by_target["hi"].label_N, run.by_target["hi"].probs_NC) for run in runs]
    assert found.coverage[-1] == 1
    assert found.risk[-1] == pytest.approx(1 - np.mean([one["accuracy"] for one in scores]))
    assert found.aurc == pytest.approx(np.mean([one["aurc"] for one in scores]))
    surest = []  # by hand: errors among the surest tenth, 20 of 200 rows
    for run in runs:
        rows = run.by_target["hi"]
        best = np.argsort(-rows.probs_NC.max(axis=1))[:20]
        surest.append((rows.probs_NC[best].argmax(axis=1) != rows.label_N[best]).mean())
    assert found.risk[found.coverage.index(0.1)] == pytest.approx(np.mean(surest))
    assert divided.risk[-1] != found.risk[-1]
    assert found.conformal_coverage is None


def test_a_temperature_is_taken_out_again_under_any_prior():
    rng = np.random.default_rng(0)
    z_NC, shift_C, temperature = rng.normal(size=(50, 3)) * 3, np.log([0.2, 0.3, 0.5]), 1.7

    def softmax(logits_NC: np.ndarray) -> np.ndarray:
        weights_NC = np.exp(logits_NC)
        return weights_NC / weights_NC.sum(axis=1, keepdims=True)

    head_NC = softmax(z_NC / temperature + shift_C)
    np.testing.assert_allclose(without_temperature(head_NC, temperature, shift_C), softmax(z_NC + shift_C))


def test_a_card_of_other_labels_says_nothing_of_the_predictions(task: Task):
    table = pa.table({"target": ["hi"], "label": ["positive"], "probs": [[0.1, 0.1, 0.8]]})
    card = {"task": {"labels": task.labels}, "conformal": {"threshold": 0.5}, "temperature": 2.0}
    found = head_metrics(table, task, card, "probs")["hi"]
    assert (found["conformal_coverage"], found["conformal_size"]) == (1, 1)
    cold = np.array([0.1, 0.1, 0.8]) ** 2
    assert found["ece_without_temperature"] == pytest.approx(1 - cold.max() / cold.sum())
    assert head_metrics(table, task, {**card, "task": {"labels": ["a", "b"]}}, "probs") == {}


def test_the_report_shows_curves_sets_and_the_error_without_the_temperature(tmp_path: Path, task: Task):
    measured = {"conformal_coverage": 0.875, "conformal_size": 1.25, "ece_without_temperature": 0.333}
    rows = [
        {"id": f"hi/{n}", "target": "hi", "label": "positive", "probs": [0.1, 0.1, 0.8] if n < 6 else [0.5, 0.3, 0.2]}
        for n in range(10)
    ]
    runs = [
        write_rows(tmp_path / method, task, rows, method=method, seed=0, setting="zero-shot", **facts)
        for method, facts in (("SRC", {}), ("calibrated", {"metrics": {"hi": measured}}))
    ]
    make_report(runs, str(tmp_path / "report"))
    details = (tmp_path / "report/details.md").read_text()
    assert "## sentiment, zero-shot, hi: when not to answer" in details
    assert "| calibrated | 0.0 | 0.0 | 25.0 | 40.0 |" in details
    assert "| 33.3 | 87.5 | 1.25 |" in details
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert "Error rate by the share of rows answered on hi" in page
    assert "sets hold the label" in page
    plain, calibrated = json.loads((tmp_path / "report/report.json").read_text())["certainties"]
    assert (plain["conformal_coverage"], calibrated["conformal_coverage"]) == (None, 0.875)
    assert calibrated["risk"][-1] == pytest.approx(0.4)
