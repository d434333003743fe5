"""Label priors: changed, and estimated."""

import numpy as np
import pytest

from labelbridge.lightning_app.calibration.priors import bbse_prior, em_prior, prior_vector, under_prior
from labelbridge.lightning_app.calibration.temperature import fit_temperature
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task

LABELS = ["negative", "neutral", "positive"]
TASK = Task("sentiment", ["text"], LABELS)
SOURCE = np.array([0.4, 0.2, 0.4])


def drawn(prior: np.ndarray, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the exact posteriors under SOURCE of a one-dimensional mixture of three Gaussians."""
    rng = np.random.default_rng(seed)
    label = rng.choice(3, rows, p=prior)
    x = rng.normal(np.array([-1.5, 0, 1.5])[label], 1)
    joint = SOURCE * np.exp(-((x[:, None] - np.array([-1.5, 0, 1.5])) ** 2) / 2)
    return label, joint / joint.sum(axis=1, keepdims=True)


def test_a_prior_is_divided_out_by_hand():
    """0.6 / 0.8, 0.1 / 0.1 and 0.3 / 0.1 are 0.75, 1 and 3."""
    uniform = prior_vector("uniform", TASK, "x")
    found = under_prior(np.array([[0.6, 0.1, 0.3]]), np.array([0.8, 0.1, 0.1]), uniform)
    np.testing.assert_allclose(found, np.array([[0.75, 1, 3]]) / 4.75)


def test_a_uniform_prior_changes_nothing():
    probs = np.random.default_rng(0).dirichlet([1, 1, 1], 20)
    uniform = prior_vector("uniform", TASK, "x")
    np.testing.assert_allclose(under_prior(probs, uniform, uniform), probs)


def test_a_prior_there_and_back_changes_nothing():
    probs, target = np.random.default_rng(0).dirichlet([1, 1, 1], 20), np.array([0.1, 0.8, 0.1])
    np.testing.assert_allclose(under_prior(under_prior(probs, SOURCE, target), target, SOURCE), probs)


def test_a_map_of_counts_is_normalised_in_the_tasks_order():
    prior = prior_vector({"positive": 1, "Negative": 2, "neutral": 1}, TASK, "x")
    assert prior.tolist() == [0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ("even", "export.prior is 'even', expected 'uniform' or a share"),
        ({"negative": 1, "neutral": 1}, "share of 'positive' is missing, expected a number above 0"),
        ({"negative": 1, "neutral": 0, "positive": 1}, "share of 'neutral' is 0"),
        ({"sad": 1}, "label 'sad' is not one of"),
    ],
)
def test_a_prior_that_is_none_is_refused(prior, said: str):
    with pytest.raises(InputError, match=said):
        prior_vector(prior, TASK, "export.prior")


@pytest.mark.parametrize("prior", [[0.1, 0.6, 0.3], [0.7, 0.1, 0.2]])
def test_em_finds_the_prior_of_unlabelled_rows(prior: list[float]):
    _, probs = drawn(np.array(prior), 20_000)
    found = em_prior(probs, SOURCE, LABELS)
    np.testing.assert_allclose(found.prior_C, prior, atol=0.02)
    assert found.warning is None


def test_bbse_finds_the_prior_of_unlabelled_rows():
    prior = np.array([0.1, 0.6, 0.3])
    label, dev = drawn(SOURCE, 20_000, seed=1)
    _, probs = drawn(prior, 20_000)
    confusion = np.zeros((3, 3))
    np.add.at(confusion, (label, dev.argmax(axis=1)), 1)
    found = bbse_prior(confusion, np.bincount(probs.argmax(axis=1), minlength=3), LABELS)
    np.testing.assert_allclose(found.prior_C, prior, atol=0.03)


def test_an_estimate_that_collapses_is_warned_of():
    """Overconfident probabilities: EM drives the weakest class out."""
    _, probs = drawn(np.array([0.49, 0.02, 0.49]), 2000)
    sharp = probs**3 / (probs**3).sum(axis=1, keepdims=True)
    warning = em_prior(sharp, SOURCE, LABELS).warning
    assert warning is not None
    assert "collapsed (neutral" in warning
    assert "export.temperature" in warning
    warning = bbse_prior(np.array([[8, 1, 1], [1, 8, 1], [1, 1, 8]]), np.array([9, 0, 9]), LABELS).warning
    assert warning is not None  # hard predictions: a temperature would change nothing
    assert "a larger dev set" in warning


def test_bbse_refuses_what_cannot_be_inverted():
    with pytest.raises(InputError, match="condition number"):
        bbse_prior(np.array([[5, 0, 5], [5, 0, 5], [0, 0, 9]]), np.array([1, 1, 1]), LABELS)
    with pytest.raises(InputError, match="no row of 'neutral'"):
        bbse_prior(np.array([[5, 0, 0], [0, 0, 0], [0, 0, 5]]), np.array([1, 1, 1]), LABELS)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_temperature_is_found_again(temperature: float):
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(40_000, 3))
    label = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # drawn from softmax(logits)
    assert fit_temperature(logits * temperature, label) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_has_the_least_cross_entropy():
    rng = np.random.default_rng(1)
    logits, label = 3 * rng.normal(size=(200, 3)), rng.integers(0, 3, 200)
    label[:120] = logits[:120].argmax(axis=1)

    def cross_entropy(t: float) -> float:
        scaled = logits / t
        return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(200), label]).mean())

    best = fit_temperature(logits, label)
    assert cross_entropy(best) < min(cross_entropy(best * 1.01), cross_entropy(best / 1.01))


def test_a_dev_set_without_mistakes_gives_the_end_of_the_range():
    logits = np.eye(3)
    assert fit_temperature(logits, np.arange(3)) == pytest.approx(np.exp(-5))
    assert fit_temperature(logits, np.array([1, 2, 0])) == pytest.approx(np.exp(5))
