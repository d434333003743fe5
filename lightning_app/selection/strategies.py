"""How the pool rows of a class are chosen.

A strategy is a function from `Candidates` to one number a row, higher is better: the best are kept, ties go by a seeded
hash of the id. One that must see the quota (a cluster at a time, a stratum at a time) returns a `Choice` instead. Its
further parameters are what `options` may set. To add one, write such a function in a file of your own and name it in
YAML: `strategy: my_file.my_function`.
"""

# N = rows of the class, C = classes, E = epochs, D = dimensions, M = target rows

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from ..core.errors import InputError
from ..core.hashing import seeded_hash
from ..core.ranges import PositiveInt, Range, Seed, check_ranges
from ..dynamics.statistics import Moments
from .coverage import adaptive_cover, lots
from .kmeans import kmeans
from .quotas import Choice, best_first

BLOCK_ROWS = 4_096

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidates:
    """The pool rows of one class.

    Nothing of it can be changed in place: the rows are looked up by it afterwards.

    Args:
        ids: N row ids.
        label: The class, as a number in the task's order.
        log_probs_NC: The teacher's log-probabilities, float32; None where the run was given no pseudolabels.
        seed: Seed of the selection.
        quota: How many rows are to be kept.
        variant: `paper` or `released`, where the two differ.
        dynamics_ENC: The teacher's log-probabilities after every epoch, float32; None where none were given.
        embeddings_ND: Unit embeddings, float32; None where none were given.
        target_MD: Unit embeddings of unlabelled target text; None where none were given.
        deviations_NC: Standard deviation of the teacher's probabilities under dropout; None where it was not measured.
    """

    ids: Sequence[str]
    label: int
    log_probs_NC: np.ndarray | None
    seed: int
    quota: int = 0
    variant: Literal["paper", "released"] = "paper"
    dynamics_ENC: np.ndarray | None = None
    embeddings_ND: np.ndarray | None = None
    target_MD: np.ndarray | None = None
    deviations_NC: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))  # the class is frozen
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                fixed = value.view()
                fixed.flags.writeable = False
                object.__setattr__(self, name, fixed)

    def log_prob(self) -> np.ndarray:
        """Log p of the class itself; shape (N,).

        Raises:
            InputError: If there is no teacher.
        """
        own: np.ndarray = self._given(self.log_probs_NC, "the teacher; give --pseudolabels")[:, self.label]
        return own

    def all_log_probs(self) -> np.ndarray:
        """Log-probabilities of all classes; shape (N, C).

        Raises:
            InputError: If there is no teacher.
        """
        return self._given(self.log_probs_NC, "the teacher; give --pseudolabels")

    def log_probs_by_epoch(self) -> Iterator[np.ndarray]:
        """Log-probabilities after every epoch, one in memory at a time; float64 of shape (N, C).

        Raises:
            InputError: If there are no training dynamics, or of fewer than two epochs.
        """
        dynamics = self._given(self.dynamics_ENC, "training dynamics; give --dynamics (RUN/dynamics of a teacher)")
        if len(dynamics) < 2:
            raise InputError(f"dynamics: {len(dynamics)} epochs, expected two or more; train the teacher for longer")
        return (log_probs_NC.astype(np.float64) for log_probs_NC in dynamics)

    def probs_over_epochs(self) -> np.ndarray:
        """Probabilities after every epoch, all at once; float64 of shape (E, N, C).

        Raises:
            InputError: As for `log_probs_by_epoch`.
        """
        return np.stack([np.exp(log_probs_NC) for log_probs_NC in self.log_probs_by_epoch()])

    def embeddings(self) -> np.ndarray:
        """Unit embeddings; shape (N, D).

        Raises:
            InputError: If there are none.
        """
        return self._given(
            self.embeddings_ND, 'embeddings; give --embeddings (the artifact of "predict --config embed")'
        )

    def target_embeddings(self) -> np.ndarray:
        """Unit embeddings of the target's unlabelled text; shape (M, D).

        Raises:
            InputError: If there are none.
        """
        return self._given(self.target_MD, "unlabelled target text; give --target_embeddings")

    def deviation(self) -> np.ndarray:
        """Standard deviation of the class's probability under dropout; shape (N,).

        Raises:
            InputError: If it was not measured.
        """
        what = "pseudolabels with deviations under dropout; make them with --model.dropout_passes 10"
        own: np.ndarray = self._given(self.deviations_NC, what)[:, self.label]
        return own

    @staticmethod
    def _given(value: np.ndarray | None, what: str) -> np.ndarray:
        if value is None:
            raise InputError(f"this strategy needs {what}")
        return value


Strategy = Callable[..., np.ndarray | Choice]


def random(candidates: Candidates) -> np.ndarray:
    """rand-k (paper, section 2.3): a seeded hash of the id, 0 to 1."""
    return seeded_hash(candidates.ids, candidates.seed, "random") / 2.0**64


def top(candidates: Candidates) -> np.ndarray:
    """top-k (paper, section 2.3): the teacher's log-probability of the class."""
    return candidates.log_prob()


def certain(candidates: Candidates) -> np.ndarray:
    """The rows whose probabilities have the least entropy; for self-training (arXiv 2109.00194)."""
    log_probs_NC = candidates.all_log_probs().astype(np.float64)
    finite_NC = np.where(np.isfinite(log_probs_NC), log_probs_NC, 0.0)
    negative_entropy: np.ndarray = (np.exp(log_probs_NC) * finite_NC).sum(axis=1)
    return negative_entropy


def steady(candidates: Candidates) -> np.ndarray:
    """The rows whose probability varies least under dropout; for self-training (arXiv 2006.15315)."""
    return -candidates.deviation()


def hard(candidates: Candidates) -> np.ndarray:
    """The least certain rows of the class: the negated log-probability."""
    return -candidates.log_prob()


def ambiguous(candidates: Candidates) -> np.ndarray:
    """amb-k (paper, section 2.3; Swayamdipta et al., arXiv 2009.10795): variability over the teacher's epochs.

    `paper`: the population standard deviation of the class's own probability; `released`: the largest over classes.
    """
    deviation: np.ndarray = _mean_and_deviation(candidates)[1].max(axis=1)
    return deviation


def easy(candidates: Candidates) -> np.ndarray:
    """easy-k (paper, section 2.3): confidence, the mean over epochs; variants as for `ambiguous`."""
    confidence: np.ndarray = _mean_and_deviation(candidates)[0].max(axis=1)
    return confidence


@check_ranges("options.")
def diverse(
    candidates: Candidates,
    *,
    clusters: PositiveInt = 25,
    backend: Literal["torch", "nltk"] = "torch",
    avoid_empty: bool = True,
    repeats: PositiveInt = 1,
    max_iter: PositiveInt = 1000,
    kmeans_seed: Seed = 42,
    device: str = "cpu",
) -> Choice:
    """div-k (paper, section 2.3): the most certain rows of each of 25 clusters of embeddings.

    `paper`: floor(k/25) rows of each cluster, and one more from each of the largest until k; a cluster that is short
    is a shortfall. `released`: round-robin over the clusters in order of p until the quota is full. The options are
    those of `kmeans`; a class with fewer rows than clusters has as many clusters as rows.
    """
    score = candidates.log_prob()
    embeddings_ND = candidates.embeddings()
    clusters = min(clusters, len(score))
    if not clusters or not candidates.quota:
        return Choice(np.empty(0, dtype=np.int64), score, np.zeros(len(score), dtype=np.int64))
    order = _by_id(candidates)  # the draw of initial means must not depend on the file's order
    found = kmeans(
        embeddings_ND[order],
        clusters,
        seed=kmeans_seed,
        backend=backend,
        avoid_empty=avoid_empty,
        repeats=repeats,
        max_iter=max_iter,
        device=device,
    )
    cluster_N = np.empty(len(order), dtype=np.int64)
    cluster_N[order] = found.assignment_N
    ranked = [
        members[best_first(score[members], [candidates.ids[int(row)] for row in members], candidates.seed)]
        for members in (np.flatnonzero(cluster_N == one) for one in range(clusters))
    ]
    take = _shares if candidates.variant == "paper" else _rounds
    kept = take(ranked, candidates.quota)
    kept = kept[best_first(score[kept], [candidates.ids[row] for row in kept], candidates.seed)]
    return Choice(kept, score, cluster_N, _ties(ranked, kept, score))


@check_ranges("options.")
def ccs(
    candidates: Candidates, *, strata: PositiveInt = 50, beta: Annotated[float, Range(least=0, below=1)] = 0.1
) -> Choice:
    """Coverage-centric selection (Zheng et al., arXiv 2210.15809): equal shares of strata of a difficulty score.

    The hardest share `beta` of the class is left out; the rest is cut into `strata` bins of equal width, and each, the
    smallest first, gives at random an equal share of what is left of the quota. The score is the mean margin of the
    class over the teacher's epochs (AUM) where training dynamics are given, else the log-probability.
    """
    score = _margin(candidates) if candidates.dynamics_ENC is not None else candidates.log_prob().astype(np.float64)
    order = best_first(score, candidates.ids, candidates.seed)
    pool = order[: len(order) - int(beta * len(order))]
    finite = np.maximum(score[pool], np.finfo(np.float32).min)
    edges = np.linspace(finite.min(), finite.max(), strata + 1) if len(pool) else np.zeros(2)
    stratum_N = np.full(len(score), -1)
    stratum_N[pool] = np.clip(np.searchsorted(edges, finite, side="right") - 1, 0, strata - 1)
    lot = seeded_hash(candidates.ids, candidates.seed, "ccs")  # another draw than rand-k's, which it is compared with
    groups = sorted((np.flatnonzero(stratum_N == one) for one in np.unique(stratum_N[pool])), key=len)
    kept: list[int] = []
    for number, members in enumerate(groups):
        share = (candidates.quota - len(kept)) // (len(groups) - number)
        kept += members[np.argsort(lot[members], kind="stable")][:share].tolist()
    return Choice(np.asarray(kept, dtype=np.int64), score, stratum_N)


@check_ranges("options.")
def near_target(candidates: Candidates, *, neighbours: PositiveInt = 10) -> np.ndarray:
    """Nearest to unlabelled target text: the mean cosine to the `neighbours` closest target rows. Transductive."""
    embeddings_ND, target_MD = candidates.embeddings(), candidates.target_embeddings()
    count = min(neighbours, len(target_MD))
    wide_MD = target_MD.astype(np.float64)
    nearest = np.empty(len(embeddings_ND), dtype=np.float32)
    # A cosine's last bits depend on where its row stands in a block. Blocks are cut in order of id, and what is summed
    # in double precision is rounded, so that neither the file's order nor a row's place tells equal rows apart.
    order = _by_id(candidates)
    for start in range(0, len(nearest), BLOCK_ROWS):  # N x M cosines at once would not fit
        block = order[start : start + BLOCK_ROWS]
        cosines = np.sort(np.partition(embeddings_ND[block] @ wide_MD.T, -count, axis=1)[:, -count:], axis=1)
        nearest[block] = cosines.mean(axis=1)
    return nearest


@check_ranges("options.")
def coverage(candidates: Candidates, *, coverage: Annotated[float, Range(above=0, most=1)] = 0.9) -> Choice:
    """Adaptive coverage sampling (arXiv 2504.14508): the rows whose neighbours are the share `coverage` of the class.

    See `coverage.adaptive_cover`. The score is the number of rows that a kept row newly covered. Exact for up to 50,000
    rows a class; beyond, neighbours come from an approximate index.
    """
    embeddings_ND = candidates.embeddings()
    score = np.zeros(len(embeddings_ND))
    order = _by_id(candidates)
    quota = min(candidates.quota, len(order))
    if not quota:
        return Choice(np.empty(0, dtype=np.int64), score)
    ids = [candidates.ids[row] for row in order]
    cover = adaptive_cover(embeddings_ND[order], lots(ids, candidates.seed), quota, coverage)
    log.info("class %d: %.1f %% covered at cosine %.4f", candidates.label, 100 * cover.coverage, cover.threshold)
    score[order[cover.kept]] = cover.gains
    return Choice(order[cover.kept], score, ties=cover.ties)


@dataclass(frozen=True)
class BuiltIn:
    """A strategy that comes with Labelbridge, and what others say of it.

    Args:
        function: See `Strategy`.
        short: Its part of a method's name: `rand` in T-rand-k.
        rows: What it keeps, for a report's list of methods.
        needs: What it looks at in addition to the teacher's probabilities: `dynamics`, `embeddings`, `target`.
        has_variants: Whether the paper's text and its code differ.
    """

    function: Strategy
    short: str
    rows: str
    needs: frozenset[str] = frozenset()
    has_variants: bool = False


BUILT_IN = {
    "random": BuiltIn(random, "rand", "rows drawn at random"),
    "top": BuiltIn(top, "top", "the rows of each class with the highest teacher probability"),
    "diverse": BuiltIn(
        diverse,
        "div",
        "the most certain rows of each of 25 clusters of embeddings",
        frozenset({"embeddings"}),
        has_variants=True,
    ),
    "ambiguous": BuiltIn(
        ambiguous,
        "amb",
        "the rows whose probability varies most over the teacher's epochs",
        frozenset({"dynamics"}),
        has_variants=True,
    ),
    "easy": BuiltIn(
        easy,
        "easy",
        "the rows with the highest mean probability over the teacher's epochs",
        frozenset({"dynamics"}),
        has_variants=True,
    ),
    "hard": BuiltIn(hard, "hard", "the rows with the lowest teacher probability of their class"),
    "ccs": BuiltIn(ccs, "ccs", "equal shares of strata of difficulty", frozenset({"dynamics"})),
    "certain": BuiltIn(certain, "certain", "the rows whose probabilities have the least entropy"),
    "steady": BuiltIn(steady, "steady", "the rows whose probability varies least under dropout"),
    "near_target": BuiltIn(
        near_target, "near-target", "the rows nearest to unlabelled target text", frozenset({"embeddings", "target"})
    ),
    "coverage": BuiltIn(
        coverage, "coverage", "the fewest rows that stand for most of the others", frozenset({"embeddings"})
    ),
}


def _by_id(candidates: Candidates) -> np.ndarray:
    """Positions in the order of the ids."""
    return np.argsort(np.asarray(candidates.ids, dtype=object), kind="stable")


def _mean_and_deviation(candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation of probabilities over epochs: of the class's own, or `released`, of all.

    Returns:
        Two arrays of shape (N, 1) or (N, C); a few numbers a row in memory, however many the epochs.
    """
    classes = slice(None) if candidates.variant == "released" else slice(candidates.label, candidates.label + 1)
    moments = Moments()
    for log_probs_NC in candidates.log_probs_by_epoch():
        moments.add(np.exp(log_probs_NC[:, classes]))
    return moments.mean, moments.deviation


def _margin(candidates: Candidates) -> np.ndarray:
    """AUM: mean over epochs of the class's log-probability minus the largest other one (a logit margin)."""
    margin = np.zeros(len(candidates.ids))
    for count, log_probs_NC in enumerate(candidates.log_probs_by_epoch(), start=1):
        own = log_probs_NC[:, candidates.label].copy()
        log_probs_NC[:, candidates.label] = -np.inf
        margin += (own - log_probs_NC.max(axis=1) - margin) / count
    return margin


def _shares(ranked: list[np.ndarray], quota: int) -> np.ndarray:
    """floor(k/K) of each cluster, one more from each of the largest (the first of equals) for the remainder."""
    share, remainder = divmod(quota, len(ranked))
    largest = sorted(range(len(ranked)), key=lambda one: -len(ranked[one]))[:remainder]
    return np.concatenate([members[: share + (one in largest)] for one, members in enumerate(ranked)])


def _rounds(ranked: list[np.ndarray], quota: int) -> np.ndarray:
    """One of each cluster in turn until the quota is full or the rows are used up."""
    depth = max(map(len, ranked))
    turns = [members[turn] for turn in range(depth) for members in ranked if turn < len(members)]
    return np.asarray(turns[:quota], dtype=np.int64)


def _ties(ranked: list[np.ndarray], kept: np.ndarray, score: np.ndarray) -> int:
    """Rows of the clusters that were left out with the score of the last one kept from there."""
    chosen = np.isin(np.arange(len(score)), kept)
    ties = 0
    for members in ranked:
        taken = int(chosen[members].sum())
        if taken:
            ties += int((score[members[taken:]] == score[members[taken - 1]]).sum())
    return ties
