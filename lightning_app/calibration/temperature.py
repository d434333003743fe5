"""Temperature scaling."""

# N = rows, C = classes

import math

import numpy as np

from ..core.errors import InputError

LOG_RANGE = 5.0  # temperatures between e^-5 and e^5


def fit_temperature(logits_NC: np.ndarray, label_N: np.ndarray) -> float:
    """The temperature t > 0 that minimises the cross-entropy of softmax(z / t) (Guo et al., arXiv 1706.04599).

    The cross-entropy is convex in 1/t, so its slope is bisected; float64 throughout. Where every row is right the
    minimum lies at t = 0; then, as where labels say nothing, the end of the range e^-5 to e^5 is returned.

    Args:
        logits_NC: Logits, or log-probabilities.
        label_N: True class numbers.

    Raises:
        InputError: If there are no rows.
    """
    if not len(label_N):
        raise InputError("temperature: no labelled rows to fit it on, expected the source dev set")
    z_NC = np.asarray(logits_NC, dtype=np.float64)
    own_N = z_NC[np.arange(len(label_N)), label_N]

    def slope(inverse: float) -> float:
        """Derivative of the mean cross-entropy with respect to 1/t."""
        scaled_NC = inverse * (z_NC - z_NC.max(axis=1, keepdims=True))
        weights_NC = np.exp(scaled_NC)
        expected_N = (weights_NC * z_NC).sum(axis=1) / weights_NC.sum(axis=1)
        return float((expected_N - own_N).mean())

    low, high = -LOG_RANGE, LOG_RANGE  # of log(1/t)
    if slope(math.exp(low)) >= 0:
        return math.exp(-low)
    if slope(math.exp(high)) <= 0:
        return math.exp(-high)
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)


def without_temperature(probs_NC: np.ndarray, temperature: float, shift_C: np.ndarray) -> np.ndarray:
    """The probabilities softmax(z + shift) of a head that gives softmax(z / t + shift).

    Args:
        probs_NC: What the head gives.
        temperature: t.
        shift_C: What is added after the division: a change of the label prior, zeros for none.
    """
    # Logits are known up to a constant a row, which softmax takes out again.
    log_NC = np.log(np.maximum(probs_NC, np.finfo(np.float64).tiny))
    z_NC = temperature * (log_NC - shift_C) + shift_C
    weights_NC = np.exp(z_NC - z_NC.max(axis=1, keepdims=True))
    plain_NC: np.ndarray = weights_NC / weights_NC.sum(axis=1, keepdims=True)
    return plain_NC
