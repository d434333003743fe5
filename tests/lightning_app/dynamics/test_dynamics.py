"""Statistics of training dynamics against independent computations, and their files."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.dynamics import store
from labelbridge.lightning_app.dynamics.statistics import statistics
from labelbridge.lightning_app.selection.diversity import diversity_score


def made_up(epochs: int, rows: int, seed: int = 0) -> np.ndarray:
    logits = 2 * np.random.default_rng(seed).normal(size=(epochs, rows, 3))
    return logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 20), st.integers(0, 9))
def test_statistics_are_those_of_the_whole_table(epochs: int, rows: int, seed: int):
    log_probs = made_up(epochs, rows, seed)
    label = np.random.default_rng(seed).integers(0, 3, rows)
    found = statistics(iter(log_probs), label)
    own = np.exp(log_probs)[:, np.arange(rows), label]
    right = log_probs.argmax(axis=2) == label
    assert found.confidence == pytest.approx(own.mean(axis=0))
    assert found.variability == pytest.approx(own.std(axis=0), abs=1e-9)
    assert found.correctness == pytest.approx(right.mean(axis=0))
    assert found.forgetting.tolist() == [sum(a and not b for a, b in pairwise(r)) for r in right.T.tolist()]
    for row in range(rows):
        others = [one for one in range(3) if one != label[row]]
        margins = [epoch[row, label[row]] - max(epoch[row, others]) for epoch in log_probs]
        assert found.aum[row] == pytest.approx(np.mean(margins))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 2e-3)])
def test_dynamics_come_back_in_the_tasks_order(tmp_path: Path, task: Task, dtype: str, tolerance: float):
    log_probs = made_up(3, 5)
    labels = ["Positive", "negative", "NEUTRAL"]
    for epoch, one in enumerate(log_probs):
        store.write_epoch(tmp_path / "d", epoch, one, labels, dtype)
    store.write_ids(tmp_path / "d", store.ScoredRows(None, "abcde", labels))
    with pytest.raises(InputError, match="incomplete"):
        store.read_dynamics(tmp_path / "d", task)
    store.finish(tmp_path / "d", {"labels": labels})
    read = store.read_dynamics(tmp_path / "d", task)
    assert read.ids == list("abcde")
    np.testing.assert_allclose(read.log_probs_ENC, log_probs[:, :, [1, 2, 0]], rtol=tolerance, atol=tolerance)


def test_impossible_stays_finite_on_the_disk(tmp_path: Path, task: Task):
    store.write_epoch(tmp_path, 0, np.array([[-np.inf, 0.0, -1e9]]), task.labels, "float16")
    table = artifacts.read_parquet(store.epoch_file(tmp_path, 0))
    assert np.isfinite([table[label][0].as_py() for label in task.labels]).all()


def test_a_changed_epoch_is_noticed(tmp_path: Path, task: Task):
    store.write_epoch(tmp_path, 0, made_up(1, 2)[0], task.labels, "float32")
    store.write_ids(tmp_path, store.ScoredRows(None, "ab", task.labels))
    store.finish(tmp_path, {"labels": task.labels})
    store.write_epoch(tmp_path, 1, made_up(1, 2)[0], task.labels, "float32")
    with pytest.raises(InputError, match="2 epochs that do not match the manifest"):
        store.read_dynamics(tmp_path, task)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(0, 9))
def test_diversity_is_the_mean_distance_of_all_pairs(rows: int, seed: int):
    vectors = np.random.default_rng(seed).normal(size=(rows, 5))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = [1 - units[a] @ units[b] for a in range(rows) for b in range(rows) if a != b]
    assert diversity_score(vectors.astype(np.float32)) == pytest.approx(np.mean(distances), abs=1e-6)


def test_one_row_has_no_diversity():
    assert diversity_score(np.ones((1, 3))) is None
