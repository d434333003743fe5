"""Classes, confusions and bins of one method on one target."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.class_scores import Details, details_of, flat
from labelbridge.lightning_app.evaluation.metrics import classification_metrics
from labelbridge.lightning_app.evaluation.predictions import AS_TRAINED, DIVIDED, Predictions
from labelbridge.lightning_app.evaluation.predictions import Tested as Run  # pytest takes names with Test for tests


def drawn(task: Task, seed: int, rows: int = 200, **columns: list) -> Run:
    """A model that is right more often than not, on the same rows for every seed."""
    label_N = np.random.default_rng(0).integers(0, 3, rows)
    rng = np.random.default_rng(seed + 1)
    probs_NC = rng.dirichlet([1, 1, 1], size=rows) + 0.7 * np.eye(3)[label_N]
    probs_NC /= probs_NC.sum(axis=1, keepdims=True)
    predictions = Predictions([str(n) for n in range(rows)], label_N, probs_NC, columns)
    return Run("run", task, "zero-shot", "SRC", str(seed), None, [1, 2, 3], {"hi": predictions})


def only(runs: list[Run], prior: str = AS_TRAINED) -> Details:
    (found,) = details_of(runs, "hi", [prior], None)
    return found


def test_classes_and_confusions_agree_with_scikit_learn(task: Task):
    run = drawn(task, 0)
    found, predictions = only([run]), run.by_target["hi"]
    best_N = predictions.probs_NC.argmax(axis=1)
    precision, recall, f1, rows = precision_recall_fscore_support(predictions.label_N, best_N)
    assert [score.precision.mean for score in found.classes] == pytest.approx(precision)
    assert [score.recall.mean for score in found.classes] == pytest.approx(recall)
    assert [score.f1.mean for score in found.classes] == pytest.approx(f1)
    assert [score.rows for score in found.classes] == rows.tolist()
    assert found.confusion == confusion_matrix(predictions.label_N, best_N).tolist()


def test_bins_add_up_to_the_calibration_error(task: Task):
    run = drawn(task, 0)
    predictions = run.by_target["hi"]
    gaps = [bin_.rows / 200 * abs(bin_.confidence - bin_.accuracy.mean) for bin_ in only([run]).bins]
    assert sum(gaps) == pytest.approx(
        classification_metrics(predictions.label_N, predictions.probs_NC)["ece"], abs=1e-6
    )


def test_scores_are_means_over_seeds_inside_their_intervals(task: Task):
    runs = [drawn(task, seed) for seed in (0, 1, 2)]
    found = only(runs)
    alone = [only([run]) for run in runs]
    for number, score in enumerate(found.classes):
        assert score.recall.mean == pytest.approx(np.mean([one.classes[number].recall.mean for one in alone]))
        for name in ("precision", "recall", "f1"):
            estimate = getattr(score, name)
            assert estimate.low < estimate.mean < estimate.high
    assert np.array(found.confusion) == pytest.approx(np.mean([one.confusion for one in alone], axis=0))
    assert sum(bin_.rows for bin_ in found.bins) == pytest.approx(200)


def test_an_interval_of_recall_is_as_wide_as_the_binomial_says(task: Task):
    score = only([drawn(task, 0, rows=900)]).classes[0]
    error = (score.recall.mean * (1 - score.recall.mean) / score.rows) ** 0.5
    assert score.recall.high - score.recall.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_a_class_that_is_never_predicted_scores_zero(task: Task):
    run = drawn(task, 0)
    run.by_target["hi"].probs_NC[:] = [0.1, 0.2, 0.7]
    score = only([run]).classes[0]
    assert (score.predicted, score.precision.mean, score.recall.mean, score.f1.high) == (0, 0, 0, 0)


def test_a_divided_prior_changes_the_confusions(task: Task):
    found = details_of([drawn(task, 0)], "hi", [AS_TRAINED, DIVIDED], None)
    assert [one.prior for one in found] == [AS_TRAINED, DIVIDED]
    assert found[0].confusion != found[1].confusion


def test_rows_of_a_table_hold_every_number(task: Task):
    rows = flat(only([drawn(task, 0)]))
    assert [row["label"] for row in rows] == task.labels
    assert {"precision", "precision_low", "precision_high", "recall", "f1", "rows", "predicted"} < set(rows[0])


def test_a_task_of_many_classes_stays_small():
    """With terms for each pair of classes these would be 62,500 columns a run, gigabytes."""
    task = Task("intents", ["text"], [f"intent {number}" for number in range(250)])
    label_N = np.arange(500) % 250
    predictions = Predictions([str(n) for n in range(500)], label_N, np.eye(250)[(label_N + (label_N < 25)) % 250])
    found = only([Run("run", task, "zero-shot", "SRC", "0", None, None, {"hi": predictions})])
    assert [score.recall.mean for score in found.classes] == [0] * 25 + [1] * 225
    assert np.array(found.confusion).sum() == 500
