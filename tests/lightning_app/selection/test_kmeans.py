"""The fast K-means against NLTK's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.selection.kmeans import kmeans


def clouds(rows: int, dimensions: int, seed: int, unit: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, dimensions))
    vectors = (centres[rng.integers(0, 6, rows)] + 0.5 * rng.normal(size=(rows, dimensions))).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if unit else vectors


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(30, 200), st.integers(2, 24), st.integers(0, 99), st.booleans(), st.booleans(), st.integers(1, 9))
def test_it_is_nltks_to_the_bit(rows: int, dimensions: int, seed: int, unit: bool, avoid_empty: bool, k: int):
    vectors = clouds(rows, dimensions, seed, unit)
    try:
        theirs = kmeans(vectors, k, seed=seed, backend="nltk", avoid_empty=avoid_empty, max_iter=50)
    except AssertionError:  # NLTK without the flag gives up on an empty cluster
        with pytest.raises(InputError, match="became empty"):
            kmeans(vectors, k, seed=seed, avoid_empty=avoid_empty, max_iter=50)
        return
    ours = kmeans(vectors, k, seed=seed, avoid_empty=avoid_empty, max_iter=50)
    assert np.array_equal(ours.assignment_N, theirs.assignment_N)
    assert np.array_equal(ours.means_KD, theirs.means_KD)
    assert (ours.iterations, ours.converged) == (theirs.iterations, theirs.converged)


def test_rows_that_are_as_near_to_two_means_go_to_the_first():
    """Doubled rows and mirror images make exact ties."""
    vectors = np.array([[1, 0], [0, 1], [1, 1], [1, 1], [2, 2], [-1, 1], [1, -1]] * 5, dtype=np.float32)
    for seed in range(8):
        ours, theirs = (kmeans(vectors, 3, seed=seed, backend=backend) for backend in ("torch", "nltk"))
        assert np.array_equal(ours.assignment_N, theirs.assignment_N)


def test_one_update_by_hand():
    """The new mean is (old mean + sum of members) / (1 + n)."""
    vectors = np.array([[1, 0], [0.8, 0.2], [0, 1]], dtype=np.float32)
    found = kmeans(vectors, 2, seed=0, max_iter=1)
    initial = {0: [(0, 2), (1, 2)], 1: []}
    assert found.iterations == 1
    near_x = found.means_KD[found.assignment_N[0]]
    starts = [np.array([1, 0]), np.array([0.8, 0.2])]
    expected = [(start + np.array([1.8, 0.2])) / 3 for start in starts]
    assert any(np.allclose(near_x, one) for one in expected), (near_x, initial)


def test_no_more_rows_than_clusters_leaves_the_means():
    vectors = clouds(5, 3, 0, True)
    found = kmeans(vectors, 5)
    assert found.iterations == 0
    assert found.converged
    assert sorted(found.assignment_N.tolist()) == [0, 1, 2, 3, 4]


def test_it_stops_with_a_warning(caplog: pytest.LogCaptureFixture):
    found = kmeans(clouds(300, 8, 1, True), 9, max_iter=1)
    assert not found.converged
    assert "not converged after 1 iterations; raise max_iter" in caplog.text


def test_repeats_are_independent_and_the_tightest_wins():
    vectors = clouds(200, 8, 2, True)

    def spread(found) -> float:
        means = found.means_KD[found.assignment_N]
        cosine = (vectors * means).sum(axis=1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(means, axis=1)
        return float((1 - cosine).sum())

    several = kmeans(vectors, 6, repeats=6)
    assert spread(several) <= spread(kmeans(vectors, 6, repeats=1)) + 1e-6


@pytest.mark.parametrize(("k", "vectors"), [(9, np.ones((4, 2))), (0, np.ones((4, 2))), (2, np.zeros((4, 2)))])
def test_what_cannot_be_clustered(k: int, vectors: np.ndarray):
    with pytest.raises(InputError, match="expected 1 to 4|all zeros"):
        kmeans(vectors, k)


@pytest.mark.parametrize(
    ("settings", "said"), [({"repeats": 0}, "repeats is 0"), ({"device": "gpu"}, "device 'gpu': ")]
)
def test_settings_that_make_no_sense(settings: dict, said: str):
    with pytest.raises(InputError, match=said):
        kmeans(clouds(9, 3, 0, True), 2, **settings)
