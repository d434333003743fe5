"""When not to answer: risk against coverage, and sets of labels that hold the true one often enough."""

# N = rows, C = classes

import math

import numpy as np

from ..core.ranges import Turn, check_ranges


def risk_coverage(probs_NC: np.ndarray, label_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Error rate among the rows that are answered, from the most certain row alone to all of them.

    Rows are answered in order of their largest probability (El-Yaniv and Wiener, 2010, JMLR 11; Geifman and El-Yaniv,
    arXiv 1705.08500). Rows of equal certainty count by their mean error, so that their order makes no difference.

    Args:
        probs_NC: Predicted probabilities.
        label_N: True class numbers.

    Returns:
        Coverage, 1/N to 1, and risk at it; shape (N,) each.
    """
    certainty_N = probs_NC.max(axis=1)
    wrong_N = (probs_NC.argmax(axis=1) != label_N).astype(np.float64)
    order = np.argsort(-certainty_N, kind="stable")
    _, group_N, size = np.unique(-certainty_N[order], return_inverse=True, return_counts=True)
    mean_N = (np.bincount(group_N, weights=wrong_N[order]) / size)[group_N]
    answered_N = np.arange(1, len(order) + 1)
    return answered_N / len(order), np.cumsum(mean_N) / answered_N


def area_under_risk_coverage(probs_NC: np.ndarray, label_N: np.ndarray) -> float:
    """Mean risk over all coverages (AURC); the lower, the better certainty tells right from wrong."""
    return float(risk_coverage(probs_NC, label_N)[1].mean())


@check_ranges()
def conformal_threshold(probs_NC: np.ndarray, label_N: np.ndarray, alpha: Turn) -> float:
    """The least probability of a label in a set, so that sets hold the true label with probability 1 - alpha.

    Split conformal prediction with the score 1 - p_y (Sadinle, Lei and Wasserman, arXiv 1609.00451; Angelopoulos and
    Bates, arXiv 2107.07511, section 1): of n calibration rows it takes the ceil((n + 1)(1 - alpha))-th smallest score.
    The promise holds for rows exchangeable with these, so not across languages: there the coverage is measured.

    Args:
        probs_NC: Probabilities of the calibration rows.
        label_N: Their true class numbers.
        alpha: How often the true label may be missing.

    Returns:
        A probability; 0, so that sets hold every label, where n is too small.

    Raises:
        InputError: If alpha is not between 0 and 1.
    """
    score_N = np.sort(1 - probs_NC[np.arange(len(label_N)), label_N])
    rank = math.ceil((len(score_N) + 1) * (1 - alpha))
    return float(1 - score_N[rank - 1]) if rank <= len(score_N) else 0.0


def conformal_sets(probs_NC: np.ndarray, threshold: float) -> np.ndarray:
    """Which labels a row's set holds; bool of shape (N, C). A set may be empty."""
    return np.asarray(probs_NC >= threshold)
