"""Near duplicates: texts that share most of their word triples, found by MinHash."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.contracts import LeakageFacts
from ..core.errors import shorten

SHINGLE = 3  # words
PERMUTATIONS = 128
BANDS = 32  # of 4: at a similarity of 0.7 a pair is missed once in 6,000
SIMILARITY = 0.7  # of word triples, from which texts are near duplicates unless the user says otherwise
DOUBT = 0.15  # over three standard errors of a similarity by 128 permutations
_PLAIN_QUOTES = {**dict.fromkeys(map(ord, "‘’`"), "'"), **dict.fromkeys(map(ord, "“”„«»"), '"')}  # noqa: RUF001
_END_MARKS = " .!?।۔…。！？\"'"  # noqa: RUF001


def key_of(text: str) -> str:
    """Texts that differ in case, spaces, kind of quotes or end marks alone are the same."""
    plain = unicodedata.normalize("NFKC", text).translate(_PLAIN_QUOTES)
    return " ".join(plain.split()).strip(_END_MARKS).casefold()


@dataclass(frozen=True)
class Sketch:
    """A row as it is compared: the `key_of` each side (premise and hypothesis), and the MinHash of their word triples.

    The triples themselves would take many times the memory of the texts; few rows come so near that they are needed.
    """

    key: tuple[str, ...]
    min_hash: Any

    @property
    def sides(self) -> list[set[str]]:
        """The word triples of each side."""
        return [_shingles(text) for text in self.key]


def sketch(key: Sequence[str]) -> Sketch:
    """A row's sketch.

    Args:
        key: The `key_of` each of its texts.
    """
    from rensa import RMinHash

    made = Sketch(tuple(key), RMinHash(num_perm=PERMUTATIONS, seed=42))
    made.min_hash.update([f"{side} {one}" for side, shingles in enumerate(made.sides) for one in sorted(shingles)])
    return made


class NearDuplicates:
    """Rows among which the near duplicates of others are looked up.

    MinHash (rensa) finds the candidates by all sides together, whose similarity is no smaller than the smallest of the
    sides; the Jaccard similarity of every side decides.

    Args:
        threshold: Similarity of each side from which rows are near duplicates.
    """

    def __init__(self, threshold: float = SIMILARITY) -> None:
        from rensa import RMinHashLSH

        self.threshold = threshold
        self._index = RMinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, num_bands=BANDS)
        self._rows: dict[int, Sketch] = {}

    def add(self, row: int, own: Sketch) -> None:
        """Add a row under its number."""
        self._index.insert(row, own.min_hash)
        self._rows[row] = own

    def like(self, own: Sketch) -> Iterator[int]:
        """Numbers of the rows that nearly repeat this one."""
        for row in self._index.query(own.min_hash):
            other = self._rows[row]
            # The estimate is fast, and rules out nearly all.
            if own.min_hash.jaccard(other.min_hash) >= self.threshold - DOUBT and all(
                _jaccard(one, two) >= self.threshold for one, two in zip(own.sides, other.sides, strict=True)
            ):
                yield row


def leakage_lines(found: LeakageFacts) -> Iterator[str]:
    """What a test says of near duplicates: a line for each set that was not compared, or that repeats rows."""
    for one in found["sets"]:
        if "not_compared" in one:
            yield f"near duplicates: {one['name']} {', '.join(one['paths'])}: not compared, {one['not_compared']}"
    for target, sets in found["targets"].items():
        for name, of_set in sets.items():
            if of_set["near"]:
                own, other = of_set["pairs"][0]
                yield (
                    f"near duplicates: {of_set['near']} of {of_set['rows']} rows of {target} nearly repeat rows of the "
                    f"{name} (such as {shorten(own)} and {shorten(other)})"
                )


def _shingles(key: str) -> set[str]:
    words = key.split()
    return {" ".join(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))}


def _jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)
