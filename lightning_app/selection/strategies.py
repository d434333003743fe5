"""How each pool row is scored within its class; the best are kept.

A strategy is a function from `Candidates` to one number a row, higher is better. To add one, write such a function in
a file of your own and name it in YAML: `strategy: my_file.my_function`.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lightning_app.errors import InputError
from lightning_app.hashing import seeded_hash


@dataclass(frozen=True)
class Candidates:
    """The pool rows of one class.

    Args:
        ids: N row ids.
        label: The class, as a number in the task's order.
        log_probs_NC: The teacher's log-probabilities, float32; None where the run was given no pseudolabels.
        seed: Seed of the selection.
    """

    ids: list[str]
    label: int
    log_probs_NC: np.ndarray | None
    seed: int

    def log_prob(self) -> np.ndarray:
        """Log p of the class itself; shape (N,).

        Raises:
            InputError: If there is no teacher.
        """
        if self.log_probs_NC is None:
            raise InputError('this strategy needs the teacher; give --pseudolabels (the artifact of "predict")')
        own: np.ndarray = self.log_probs_NC[:, self.label]
        return own


Strategy = Callable[[Candidates], np.ndarray]


def random(candidates: Candidates) -> np.ndarray:
    """rand-k (paper, section 2.3): a seeded hash of the id, 0 to 1."""
    return seeded_hash(candidates.ids, candidates.seed, "random") / 2.0**64


def top(candidates: Candidates) -> np.ndarray:
    """top-k (paper, section 2.3): the teacher's log-probability of the class."""
    return candidates.log_prob()


BUILT_IN: dict[str, Strategy] = {"random": random, "top": top}


def find_strategy(name: str) -> Strategy:
    """A built-in strategy by its name, or `module.function` from the current folder.

    Raises:
        InputError: If there is none.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    module, _, function = name.rpartition(".")
    try:
        strategy: Strategy = getattr(importlib.import_module(module), function)
    except (ImportError, ValueError, AttributeError) as error:
        raise InputError(
            f"strategy '{name}': not one of {', '.join(BUILT_IN)}, and cannot be imported ({error}); "
            "name a built-in one, or module.function of your own file"
        ) from None
    return strategy
