"""Filters over rows: each says which of the rows that are still in are hit; `reasons` holds why the others are out."""

# N = rows, D = dimensions

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.hashing import seeded_hash
from ..data.near_duplicates import NearDuplicates, sketch

CHUNK = 5_000
MOST_SUSPECTED = 12
SURELY_OTHER = 0.05  # a text may be in the language from this probability on
_LINKS = re.compile(r"https?://\S+|[@#]\w+")
_NAMES = re.compile(r"(?<=[\w,;)] )[A-ZÀ-Þ][\w'’.-]*")  # noqa: RUF001
LOOKED_AT = 200  # characters: more tell little more of a text's language, and cost in proportion
# Languages with many speakers or much text on the web, in every common script. A quick look among these is three times
# as fast as one among all that lingua knows, and suspects half as many rows wrongly: the rare ones (Latin, Tswana,
# Esperanto ...) are mostly found where there are only names.
LIKELY = (
    "ar", "bn", "cs", "de", "el", "en", "es", "fa", "fi", "fr", "gu", "he", "hi", "hu", "id", "it", "ja", "ko", "mr",
    "nl", "pa", "pl", "pt", "ro", "ru", "sv", "sw", "ta", "te", "th", "tr", "uk", "ur", "vi", "zh",
)  # fmt: skip


def reject(reasons: list[str | None], reason: str, hit: Sequence[bool]) -> None:
    """Give rows that are hit, and still in, this reason."""
    for row, is_hit in enumerate(hit):
        if is_hit and reasons[row] is None:
            reasons[row] = reason


def alive(reasons: Sequence[str | None]) -> list[int]:
    """Numbers of the rows that are still in."""
    return [row for row, reason in enumerate(reasons) if reason is None]


def doubled(keys: Sequence[Sequence[str]], reasons: Sequence[str | None]) -> list[bool]:
    """Rows of which an earlier row has all keys already."""
    seen: set[tuple[str, ...]] = set()
    hit = [False] * len(keys)
    for row in alive(reasons):
        key = tuple(keys[row])
        hit[row] = key in seen
        seen.add(key)
    return hit


def near_duplicates_of(keys: Sequence[Sequence[str]], reasons: Sequence[str | None], threshold: float) -> list[bool]:
    """Rows that an earlier kept row nearly repeats: of each side (premise and hypothesis) the word triples."""
    kept = NearDuplicates(threshold)
    hit = [False] * len(keys)
    for row in alive(reasons):
        own = sketch(keys[row])
        hit[row] = next(kept.like(own), None) is not None
        if not hit[row]:
            kept.add(row, own)
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


def is_detected(language: str) -> bool:
    """Whether the detector knows a language by its ISO 639-1 code."""
    from lingua import IsoCode639_1

    return hasattr(IsoCode639_1, language.upper())


def other_language(
    texts: Sequence[str], reasons: Sequence[str | None], language: str, doubt: float = SURELY_OTHER
) -> list[bool]:
    """Rows that are in another language; where little tells, as in texts under four words, a row has the benefit.

    A quick look at every row finds those under suspicion; a closer look at these decides.

    Args:
        texts: N texts.
        reasons: Why rows are out already; those are not looked at.
        language: The ISO 639-1 code that texts should have.
        doubt: The detector's confidence in that language, 0 to 1, from which a text has the benefit of the doubt.

    Raises:
        InputError: If there is no such language code.
    """
    return surely_other(texts, suspected_languages(texts, reasons, language), language, doubt)


def suspected_languages(texts: Sequence[str], reasons: Sequence[str | None], language: str) -> list[str | None]:
    """The other language that each text seems to be in at a quick look: its ISO 639-1 code, or None.

    What is said of a text does not depend on the others. Most texts under suspicion are only full of names.

    Args:
        texts: N texts.
        reasons: Why rows are out already; those are not looked at.
        language: The ISO 639-1 code that texts should have.

    Raises:
        InputError: If there is no such language code.
    """
    from lingua import LanguageDetectorBuilder

    code = _iso_code(language)
    likely = {code, *map(_iso_code, LIKELY)}
    quick = LanguageDetectorBuilder.from_iso_codes_639_1(*likely).with_low_accuracy_mode().build()
    words = {row: _LINKS.sub("", texts[row]) for row in alive(reasons)}
    suspected: list[str | None] = [None] * len(texts)
    for chunk in _chunks([row for row, text in words.items() if _tells_language(text)]):
        found = quick.detect_languages_in_parallel_of([words[row][:LOOKED_AT] for row in chunk])
        for row, one in zip(chunk, found, strict=True):
            if one is not None and one.iso_code_639_1 != code:
                suspected[row] = one.iso_code_639_1.name.lower()
    return suspected


def surely_other(
    texts: Sequence[str], suspected: Sequence[str | None], language: str, doubt: float = SURELY_OTHER
) -> list[bool]:
    """Rows under suspicion that a closer look finds in another language.

    It leaves out names, and compares the languages that are suspected most often among all rows. How the other
    languages share the rest says nothing: between Hindi and Marathi the detector is rarely sure, and yet sure that
    neither is English.

    Args:
        texts: N texts.
        suspected: What `suspected_languages` says of each.
        language: The ISO 639-1 code that texts should have.
        doubt: As for `other_language`.

    Raises:
        InputError: If there is no such language code.
    """
    from lingua import LanguageDetectorBuilder

    code = _iso_code(language)
    hit = [False] * len(texts)
    counts = Counter(one for one in suspected if one is not None)
    if not counts:
        return hit
    common = [_iso_code(one) for one, _ in counts.most_common(MOST_SUSPECTED)]
    close = LanguageDetectorBuilder.from_iso_codes_639_1(code, *common).build()
    for chunk in _chunks([row for row, one in enumerate(suspected) if one is not None]):
        bare = [_without_names(_LINKS.sub("", texts[row])) for row in chunk]
        for row, values in zip(chunk, close.compute_language_confidence_values_in_parallel(bare), strict=True):
            hit[row] = next(one.value for one in values if one.language.iso_code_639_1 == code) < doubt
    return hit


def _iso_code(language: str) -> Any:
    """Lingua's name of a language.

    Raises:
        InputError: If it has none.
    """
    from lingua import IsoCode639_1

    code = getattr(IsoCode639_1, language.upper(), None)
    if code is None:
        raise InputError(f"language '{language}': expected an ISO 639-1 code such as en, hi, sw, or null")
    return code


def _tells_language(text: str) -> bool:
    """Four words, or some letters of a script that is not Latin: Chinese and Thai set no spaces."""
    return len(text.split()) >= 4 or sum(char > "\u024f" and char.isalpha() for char in text) >= 4


def _without_names(text: str) -> str:
    """The words that are not capitalised in mid-sentence; all, if few are left."""
    bare = _NAMES.sub(" ", text)
    return bare if len(bare.split()) >= 4 else text


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
