"""Counts of predicted classes, and the warning for a model that predicts one class only."""

import numpy as np
import pytest
from conftest import LABELS

from labelbridge.lightning_app.evaluation.predicted_classes import (
    count_classes,
    one_class_warning,
    one_class_warnings,
    table_lines,
)

PROBS = np.array([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.2, 0.2, 0.6]])


def test_the_mean_is_of_the_rows_predicted_as_the_class():
    counts = count_classes(["negative", "negative", "positive"], PROBS, LABELS)
    assert counts == {
        "negative": {"rows": 2, "mean_probability": pytest.approx(0.7)},
        "neutral": {"rows": 0},
        "positive": {"rows": 1, "mean_probability": pytest.approx(0.6)},
    }


def test_the_table_is_aligned():
    lines = table_lines(count_classes(["negative", "negative", "positive"], PROBS, LABELS))
    assert lines == [
        "class         rows  mean probability",
        "negative         2            0.7000",
        "neutral          0                 -",
        "positive         1            0.6000",
    ]


def test_one_class_is_warned_of():
    warning = one_class_warning("dev", {"negative": 0, "positive": 96}, LABELS, "train longer")
    assert warning == (
        "dev: all 96 rows were predicted 'positive'; the model has collapsed to one class: train longer"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("predicted", "true"),
    [
        ({"negative": 1, "positive": 95}, LABELS),
        ({"negative": 0, "positive": 9}, LABELS),
        ({"negative": 0, "positive": 96}, ["positive"]),
        ({}, LABELS),
    ],
    ids=["two classes", "few rows", "rows of one class", "no rows"],
)
def test_nothing_is_said_where_nothing_is_wrong(predicted: dict[str, int], true: list[str]):
    assert one_class_warning("dev", predicted, true, "train longer") is None


def test_every_target_is_judged_by_itself():
    places = ["en"] * 12 + ["hi"] * 12
    predictions = LABELS * 4 + ["neutral"] * 12
    warnings = one_class_warnings(places, predictions, LABELS * 8, "look")
    assert [warning.split(";")[0] for warning in warnings] == ["hi: all 12 rows were predicted 'neutral'"]
    assert len(one_class_warnings(places, predictions, None, "look")) == 1
