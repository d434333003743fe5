"""Each strategy on rows small enough to check by hand, and what holds for all of them."""

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.selection.lookup import find_strategy
from labelbridge.lightning_app.selection.quotas import cut
from labelbridge.lightning_app.selection.strategies import (
    BUILT_IN,
    Candidates,
    Choice,
    ambiguous,
    ccs,
    diverse,
    easy,
    near_target,
    random,
)

SMALL = {"diverse": {"clusters": 3}, "ccs": {"strata": 4}}


def candidates(rows: int, seed: int = 0, quota: int = 5, ids: list[str] | None = None, **more: Any) -> Candidates:
    """Rows of class 0 with everything a strategy may look at; some probabilities are equal."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet([4, 1, 1], size=rows).round(2) + 0.001
    epochs = rng.dirichlet([3, 1, 1], size=(4, rows)).round(2) + 0.001
    vectors = rng.normal(size=(rows, 6)).astype(np.float32)
    targets = rng.normal(size=(12, 6)).astype(np.float32)
    given = {
        "ids": ids or [f"row{number}" for number in range(rows)],
        "label": 0,
        "log_probs_NC": np.log(probs).astype(np.float32),
        "seed": 0,
        "quota": quota,
        "dynamics_ENC": np.log(epochs / epochs.sum(axis=2, keepdims=True)).astype(np.float32),
        "embeddings_ND": vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        "target_MD": targets / np.linalg.norm(targets, axis=1, keepdims=True),
        "deviations_NC": probs * (1 - probs) / 4,  # equal where the probabilities are
    }
    return Candidates(**{**given, **more})


def kept_ids(name: str, given: Candidates) -> list[str]:
    choice = find_strategy(name, SMALL.get(name))(given)
    kept = choice.kept if isinstance(choice, Choice) else cut(choice, given.ids, given.quota, given.seed).kept
    return [given.ids[row] for row in kept]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(BUILT_IN)), st.integers(0, 30), st.integers(0, 40), st.sampled_from(["paper", "released"]),
    st.randoms(),
)  # fmt: skip
def test_quotas_hold_no_row_comes_twice_and_the_order_of_the_pool_changes_nothing(name, rows, quota, variant, rng):
    if not rows and name == "near_target":
        return
    given = candidates(rows, quota=quota, variant=variant)
    kept = kept_ids(name, given)
    assert len(kept) == len(set(kept)) <= min(quota, rows)
    refills = variant == "released" or name != "diverse"
    if refills and name != "ccs":  # which leaves the hardest share out
        assert len(kept) == min(quota, rows)
    order = list(range(rows))
    rng.shuffle(order)
    shuffled = candidates(
        rows, quota=quota, variant=variant, ids=[given.ids[row] for row in order],
        log_probs_NC=given.log_probs_NC[order], dynamics_ENC=given.dynamics_ENC[:, order],
        embeddings_ND=given.embeddings_ND[order], deviations_NC=given.deviations_NC[order],
    )  # fmt: skip
    assert kept_ids(name, shuffled) == kept


def dynamics(*epochs: list[list[float]]) -> np.ndarray:
    return np.log(np.array(epochs, dtype=np.float64)).astype(np.float32)


TWO_EPOCHS = dynamics(
    [[0.8, 0.1, 0.1], [0.5, 0.4, 0.1], [0.3, 0.6, 0.1]],
    [[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.5, 0.2, 0.3]],
)


def test_ambiguity_by_hand():
    """Population deviations of the class's own probability: 0.1, 0, 0.1; the largest over classes: 0.1, 0.15, 0.2."""
    paper = ambiguous(candidates(3, dynamics_ENC=TWO_EPOCHS, variant="paper"))
    released = ambiguous(candidates(3, dynamics_ENC=TWO_EPOCHS, variant="released"))
    assert paper == pytest.approx([0.1, 0.0, 0.1], abs=1e-6)
    assert released == pytest.approx([0.1, 0.15, 0.2], abs=1e-6)


def test_ease_by_hand():
    """Means of the second class's probability: 0.2, 0.25, 0.4; the largest over classes: 0.7, 0.5, 0.4."""
    paper = easy(replace(candidates(3, dynamics_ENC=TWO_EPOCHS, variant="paper"), label=1))
    released = easy(replace(candidates(3, dynamics_ENC=TWO_EPOCHS, variant="released"), label=1))
    assert paper == pytest.approx([0.2, 0.25, 0.4], abs=1e-6)
    assert released == pytest.approx([0.7, 0.5, 0.4], abs=1e-6)


def test_what_streams_over_epochs_is_what_all_at_once_would_give():
    given = candidates(200, seed=3)
    probs = given.probs_over_epochs()[:, :, given.label]
    assert ambiguous(given) == pytest.approx(probs.std(axis=0), abs=1e-12)
    assert easy(given) == pytest.approx(probs.mean(axis=0), abs=1e-12)


@pytest.mark.parametrize("name", ["ambiguous", "easy", "ccs"])
def test_memory_does_not_grow_with_the_epochs(name: str):
    """All rows in one class: at most 56 bytes a row and class beside what was given, as docs/selection.md says."""
    rows = 20_000
    given = candidates(rows, dynamics_ENC=np.full((60, rows, 3), np.log(1 / 3), dtype=np.float32), variant="released")
    tracemalloc.start()
    find_strategy(name)(given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < rows * 3 * 56 + 1e6


# Two clusters along the axes: rows 0-4 along x, rows 5-6 along y; row 0 is the most certain.
AXES = np.array([[1, 0.01 * row] for row in range(5)] + [[0, 1], [0.01, 1]], dtype=np.float32)
CERTAIN = np.log(np.array([[p, (1 - p) / 2, (1 - p) / 2] for p in (0.9, 0.8, 0.7, 0.6, 0.5, 0.55, 0.45)])).astype(
    np.float32
)


def two_clusters(quota: int, variant: str) -> Candidates:
    units = AXES / np.linalg.norm(AXES, axis=1, keepdims=True)
    return candidates(
        7, quota=quota, variant=variant, log_probs_NC=CERTAIN, embeddings_ND=units
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "quota", "expected"),
    [
        ("paper", 4, ["row0", "row1", "row5", "row6"]),  # two of each
        ("paper", 5, ["row0", "row1", "row2", "row5", "row6"]),  # the remainder to the larger cluster
        ("paper", 6, ["row0", "row1", "row2", "row5", "row6"]),  # the smaller one is short: not refilled
        ("released", 6, ["row0", "row1", "row2", "row3", "row5", "row6"]),  # round-robin until the quota is full
        ("released", 3, ["row0", "row1", "row5"]),
    ],
)  # fmt: skip
def test_div_k_by_hand(variant: str, quota: int, expected: list[str]):
    choice = diverse(two_clusters(quota, variant), clusters=2, kmeans_seed=1)
    assert choice.cluster is not None
    assert len({choice.cluster[0], choice.cluster[5]}) == 2
    assert sorted(f"row{row}" for row in choice.kept) == expected
    certainty = CERTAIN[choice.kept, 0]
    assert certainty.tolist() == sorted(certainty.tolist(), reverse=True)  # best first


def test_ccs_leaves_the_hardest_out_and_draws_from_every_stratum():
    p = np.linspace(0.01, 0.99, 100)
    log_probs = np.log(np.column_stack([p, (1 - p) / 2, (1 - p) / 2])).astype(np.float32)
    given = candidates(100, quota=20, log_probs_NC=log_probs, dynamics_ENC=None)
    choice = ccs(given, strata=4, beta=0.1)
    assert len(choice.kept) == 20
    by_lot = cut(random(given), given.ids, 20, 0).kept
    assert len(set(by_lot) & set(choice.kept)) < 12  # not rand-k's own draw
    assert p[choice.kept].min() > p[9]
    assert set(choice.cluster[choice.kept]) == set(choice.cluster[choice.cluster >= 0])


def test_near_target_by_hand():
    """Mean cosine to the two nearest of three target rows."""
    given = candidates(
        2, embeddings_ND=np.eye(2, dtype=np.float32), target_MD=np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32),
    )  # fmt: skip
    assert near_target(given, neighbours=2) == pytest.approx([0.8, 0.9])


@pytest.mark.parametrize(
    ("name", "missing", "said"),
    [
        ("top", "log_probs_NC", "--pseudolabels"),
        ("ambiguous", "dynamics_ENC", "--dynamics"),
        ("easy", "dynamics_ENC", "--dynamics"),
        ("diverse", "embeddings_ND", "--embeddings"),
        ("near_target", "target_MD", "--target_embeddings"),
    ],
)
def test_what_a_strategy_needs_is_named(name: str, missing: str, said: str):
    with pytest.raises(InputError, match=said):
        BUILT_IN[name].function(candidates(4, **{missing: None}))


def test_one_epoch_is_no_dynamics():
    with pytest.raises(InputError, match="1 epochs, expected two or more"):
        ambiguous(candidates(3, dynamics_ENC=TWO_EPOCHS[:1]))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ccs", {"strata": 0}, "options.strata is 0, expected 1 <= strata"),
        ("ccs", {"beta": 1.0}, "strategy 'ccs', options.beta is 1.0, expected 0 <= beta < 1"),
        ("ccs", {"beta": -0.1}, "options.beta is -0.1, expected 0 <= beta < 1"),
        ("coverage", {"coverage": 0.0}, "options.coverage is 0.0, expected 0 < coverage <= 1"),
        ("diverse", {"clusters": 0}, "options.clusters is 0, expected 1 <= clusters"),
        ("diverse", {"repeats": 0}, "options.repeats is 0, expected 1 <= repeats"),
        ("diverse", {"max_iter": 0}, "options.max_iter is 0, expected 1 <= max_iter"),
        ("near_target", {"neighbours": 0}, "options.neighbours is 0, expected 1 <= neighbours"),
        ("diverse", {"cluster": 9}, "strategy 'diverse', options: .*'cluster' is not known, did you mean 'clusters'"),
        ("diverse", {"clusters": "many"}, "options.clusters is 'many', expected 1 <= clusters"),
        ("top", {"beta": 0.1}, "strategy 'top', options: .*'beta' is not known"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(name: str, options: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said):
        find_strategy(name, options)(candidates(9))


def test_ties_in_a_cluster_are_counted():
    """Rows 0 to 4 make one cluster; rows 1 to 4 are equally certain, and two of five are kept."""
    even = np.log(np.array([[p, 1 - p, 0.01] for p in (0.9, 0.8, 0.8, 0.8, 0.8, 0.55, 0.45)])).astype(np.float32)
    given = replace(two_clusters(4, "paper"), log_probs_NC=even)
    assert diverse(given, clusters=2, kmeans_seed=1).ties == 3


@pytest.mark.parametrize("block_rows", [5, 4096])
def test_equal_rows_are_equally_near_wherever_they_stand(monkeypatch: pytest.MonkeyPatch, block_rows: int):
    """More rows than a block, every vector twice: the last bits of a product depend on where its row stands."""
    monkeypatch.setattr("labelbridge.lightning_app.selection.strategies.BLOCK_ROWS", block_rows)
    rng = np.random.default_rng(0)
    rows, target = (rng.normal(size=(count, 384)).astype(np.float32) for count in (2_100, 40))
    rows, target = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (rows, target))
    ids = [f"{row:05d}" for row in range(4_200)]
    given = replace(candidates(4_200), ids=ids, embeddings_ND=np.concatenate([rows, rows]), target_MD=target)
    near = near_target(given)
    assert np.array_equal(near[:2_100], near[2_100:])
    order = rng.permutation(4_200)
    turned = replace(given, ids=[ids[row] for row in order], embeddings_ND=given.embeddings_ND[order])
    assert np.array_equal(near_target(turned), near[order])
