"""Filters over rows: each says which of the rows that are still in are hit; `reasons` holds why the others are out."""

# N = rows, D = dimensions

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lightning_app.errors import InputError
from lightning_app.hashing import seeded_hash

SHINGLE = 3  # words
PERMUTATIONS = 128
CHUNK = 5_000
MOST_SUSPECTED = 12


def reject(reasons: list[str | None], reason: str, hit: Sequence[bool]) -> None:
    """Give rows that are hit, and still in, this reason."""
    for row, is_hit in enumerate(hit):
        if is_hit and reasons[row] is None:
            reasons[row] = reason


def alive(reasons: Sequence[str | None]) -> list[int]:
    """Numbers of the rows that are still in."""
    return [row for row, reason in enumerate(reasons) if reason is None]


def key_of(text: str) -> str:
    """Texts that differ in case, spaces or end marks alone are the same."""
    return re.sub(r"\s+", " ", text).strip(" .!?।").casefold()


def doubled(texts: Sequence[str], reasons: Sequence[str | None]) -> list[bool]:
    """Rows whose text an earlier row has already."""
    seen: set[str] = set()
    hit = [False] * len(texts)
    for row in alive(reasons):
        key = key_of(texts[row])
        hit[row] = key in seen
        seen.add(key)
    return hit


def near_duplicates_of(texts: Sequence[str], reasons: Sequence[str | None], threshold: float) -> list[bool]:
    """Rows that an earlier row nearly repeats, by MinHash of word triples (rensa)."""
    from rensa import RMinHash, RMinHashLSH

    bands = 32
    index = RMinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, num_bands=bands)
    kept: dict[int, Any] = {}
    hit = [False] * len(texts)
    for row in alive(reasons):
        words = key_of(texts[row]).split()
        shingles = [" ".join(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))]
        sketch = RMinHash(num_perm=PERMUTATIONS, seed=42)
        sketch.update(shingles)
        if any(sketch.jaccard(kept[other]) >= threshold for other in index.query(sketch)):
            hit[row] = True
            continue
        index.insert(row, sketch)
        kept[row] = sketch
    return hit


def same_meaning(units_ND: np.ndarray, reasons: Sequence[str | None], threshold: float) -> list[bool]:
    """Rows whose cosine to an earlier kept row reaches the threshold."""
    hit = [False] * len(reasons)
    kept: list[int] = []
    for chunk in _chunks(alive(reasons)):
        block = units_ND[chunk]
        near_earlier = np.zeros(len(chunk), dtype=bool)
        for start in range(0, len(kept), 4 * CHUNK):
            near_earlier |= (block @ units_ND[kept[start : start + 4 * CHUNK]].T >= threshold).any(axis=1)
        within = block @ block.T >= threshold
        fresh: list[int] = []
        for position, row in enumerate(chunk):
            hit[row] = bool(near_earlier[position] or within[position, fresh].any())
            if not hit[row]:
                fresh.append(position)
        kept += [chunk[position] for position in fresh]
    return hit


def other_language(
    texts: Sequence[str], reasons: Sequence[str | None], language: str, doubt: float = 0.05
) -> list[bool]:
    """Rows that the detector is sure are in another language; texts under four words have the benefit of the doubt.

    A quick look at every row finds those under suspicion, most of which are only full of names; a closer look, among
    the languages suspected most often, decides.

    Args:
        texts: N texts.
        reasons: Why rows are out already; those are not looked at.
        language: The ISO 639-1 code that texts should have.
        doubt: The detector's confidence in that language, 0 to 1, from which a text has the benefit of the doubt.

    Raises:
        InputError: If there is no such language code.
    """
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    code = getattr(IsoCode639_1, language.upper(), None)
    if code is None:
        raise InputError(f"language '{language}': expected an ISO 639-1 code such as en, hi, sw, or null")
    quick = LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()
    left = [row for row in alive(reasons) if len(texts[row].split()) >= 4]
    suspects: dict[int, Any] = {}
    for chunk in _chunks(left):
        found = quick.detect_languages_in_parallel_of([texts[row] for row in chunk])
        suspects |= {row: one for row, one in zip(chunk, found, strict=True) if one and one.iso_code_639_1 != code}
    hit = [False] * len(texts)
    if not suspects:
        return hit
    common = [one.iso_code_639_1 for one, _ in Counter(suspects.values()).most_common(MOST_SUSPECTED)]
    close = LanguageDetectorBuilder.from_iso_codes_639_1(code, *common).build()
    for chunk in _chunks(list(suspects)):
        judged = close.compute_language_confidence_values_in_parallel([texts[row] for row in chunk])
        for row, values in zip(chunk, judged, strict=True):
            own = next(one.value for one in values if one.language.iso_code_639_1 == code)
            hit[row] = values[0].value > 0.8 and own < doubt
    return hit


def beyond_size(ids: Sequence[str], reasons: Sequence[str | None], size: int, seed: int) -> list[bool]:
    """Rows that a seeded draw of `size` leaves out."""
    left = alive(reasons)
    order = np.argsort(seeded_hash([ids[row] for row in left], seed, "size"), kind="stable")
    hit = [False] * len(reasons)
    for position in order[size:]:
        hit[left[position]] = True
    return hit


def _chunks(rows: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]
