"""Metrics against scikit-learn and sums by hand."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.metrics import (
    classification_metrics,
    majority_metrics,
    mean_and_deviation,
    target_metrics,
)


@pytest.fixture
def predictions() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 3, 500), rng.dirichlet([1, 2, 3], size=500)


def test_metrics_agree_with_scikit_learn(predictions: tuple[np.ndarray, np.ndarray]):
    label, probs = predictions
    found = classification_metrics(label, probs)
    best = probs.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(accuracy_score(label, best))
    assert found["macro_f1"] == pytest.approx(f1_score(label, best, average="macro"))
    assert found["ce"] == pytest.approx(log_loss(label, probs))
    assert found["rows"] == 500


def test_calibration_error_by_hand(predictions: tuple[np.ndarray, np.ndarray]):
    label, probs = predictions
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == label
    bins = np.ceil(confidence * 15)
    error = sum(
        (bins == one).mean() * abs(right[bins == one].mean() - confidence[bins == one].mean())
        for one in np.unique(bins)
    )
    assert classification_metrics(label, probs)["ece"] == pytest.approx(error, abs=1e-6)


def test_a_certain_mistake_costs_a_finite_amount():
    assert classification_metrics(np.array([0]), np.array([[0.0, 1.0]]))["ce"] == pytest.approx(-np.log(1e-12))


def test_targets_are_told_apart(task: Task):
    table = pa.table({
        "target": ["hi", "sw", "hi"],
        "label": ["negative", "neutral", "positive"],
        "probs": [[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0]],
    })  # fmt: skip
    found = target_metrics(table, task)
    assert {name: (one["rows"], one["accuracy"]) for name, one in found.items()} == {"hi": (2, 1.0), "sw": (1, 0.0)}


def test_the_deviation_over_seeds_is_the_samples():
    assert mean_and_deviation([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, np.std([1, 2, 4], ddof=1)))
    assert mean_and_deviation([1.0]) == (1.0, None)


def test_the_majority_class_by_hand():
    """Three of five rows: precision 0.6 and recall 1 give an F1 of 0.75, over two labels that occur."""
    found = majority_metrics(np.array([2, 2, 0, 2, 0]), 3)
    assert found == {"label": 2, "accuracy": pytest.approx(0.6), "macro_f1": pytest.approx(0.375)}
