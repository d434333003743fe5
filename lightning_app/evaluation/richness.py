"""Sentiment richness: how much sentiment the words of English rows carry, by SentiWordNet (paper, Table 9)."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import InputError, shorten
from ..core.files import filled_lines, opened
from ..core.packages import require
from .pool_view import PoolView, Richness

Tagger = Callable[[list[str]], list[str | None]]
Scores = Mapping[tuple[str | None, str], tuple[float, float]]

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_NOT = re.compile(r"(?<=[a-z])n't\b", re.IGNORECASE)  # a word of its sentence, as the tagger was trained: `do n't`
_OFFICIAL = ("pos", "ID", "PosScore", "NegScore", "SynsetTerms", "Gloss")  # the columns of SentiWordNet_3.0.0.txt
_REQUIRED = ("pos", "PosScore", "NegScore", "SynsetTerms")
_PARTS = {"J": "a", "N": "n", "V": "v", "R": "r"}  # by the first letter of a Penn tag; RP, a particle, is none


@dataclass(frozen=True)
class Lexicon:
    """SentiWordNet's scores of words.

    Args:
        scores: Part of speech (`a`, `n`, `r`, `v`) and word -> positive and negative score, the mean over its senses.
            The part None stands for all senses of the word, whatever their part.
        base: A word -> its base form, for words that have no entry.
    """

    scores: Scores
    base: Callable[[str], str]

    def of(self, word: str, part: str | None) -> tuple[float, float]:
        """A word's positive and negative score; 0 where there is no entry."""
        key = (part, word)
        return self.scores[key] if key in self.scores else self.scores.get((part, self.base(word)), (0.0, 0.0))


def read_lexicon(file: str) -> Lexicon:
    """Read SentiWordNet's file, or a TSV file with a header that has its columns.

    Raises:
        InputError: If it cannot be read, or is something else.
    """
    senses: dict[tuple[str | None, str], list[tuple[float, float]]] = {}
    for part, terms, score in _synsets(Path(file)):
        for term in terms.split():
            word = term.rpartition("#")[0].lower()
            senses.setdefault((part, word), []).append(score)
            senses.setdefault((None, word), []).append(score)
    if not senses:
        raise InputError(f"sentiwordnet {file}: no word in it, expected SentiWordNet's file; give that")
    means = {
        key: (sum(one[0] for one in each) / len(each), sum(one[1] for one in each) / len(each))
        for key, each in senses.items()
    }
    simplemma = require("simplemma", "translation", "sentiwordnet")
    return Lexicon(means, lambda word: str(simplemma.lemmatize(word, "en")).lower())


def _synsets(file: Path) -> Iterator[tuple[str, str, tuple[float, float]]]:
    """Part of speech, terms and scores, line by line."""
    with opened(file) as opened_file:
        lines = (line for _, line in filled_lines(opened_file, file) if not line.startswith("#"))
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        names: Sequence[str] = _OFFICIAL
        for number, cells in enumerate(rows, start=1):
            if number == 1 and "SynsetTerms" in cells:
                names = cells
                if missing := next((name for name in _REQUIRED if name not in names), None):
                    raise InputError(f"sentiwordnet {file}: no column '{missing}' among {shorten(names)}; add it")
                continue
            row = dict(zip(names, cells, strict=False))
            if not row.get("pos", "").strip():  # the official file ends with a line of tabs
                continue
            try:
                score = (float(row["PosScore"]), float(row["NegScore"]))
                if not all(0 <= one <= 1 for one in score):
                    raise ValueError
                terms = row["SynsetTerms"]
            except (KeyError, ValueError):
                raise InputError(
                    f"sentiwordnet {file}: line {shorten(cells)} after comments, expected {', '.join(_REQUIRED)}; give "
                    "SentiWordNet's own file, such as SentiWordNet_3.0.0.txt, with scores from 0 to 1"
                ) from None
            yield ("a" if row["pos"] == "s" else row["pos"]), terms, score


def nltk_tagger() -> Tagger:
    """Parts of speech by NLTK's tagger, as SentiWordNet names them; None for other parts.

    Raises:
        InputError: If NLTK or the tagger's data is not installed.
    """
    pos_tag = require("nltk", "selection", "sentiwordnet_tagger").pos_tag

    def tagged(words: list[str]) -> list[str | None]:
        return [None if tag == "RP" else _PARTS.get(tag[:1]) for _, tag in pos_tag(words)]

    try:
        tagged(["words"])
    except LookupError:
        raise InputError(
            "sentiwordnet_tagger: the data of NLTK's tagger is missing; python -m nltk.downloader "
            "averaged_perceptron_tagger_eng, or use --sentiwordnet_tagger null (a word's senses of all parts of speech)"
        ) from None
    return tagged


def richness(texts: Sequence[str], lexicon: Lexicon, tagger: Tagger | None) -> Richness | None:
    """The sums of the words' positive and negative scores over the number of words; None for texts without words.

    The `n't` of a contraction is a word, and its base form `not`.

    Args:
        texts: English texts.
        lexicon: The scores.
        tagger: Words -> parts of speech, whose senses alone count; words of other parts score 0. None counts the senses
            of all parts.
    """
    positive = negative = 0.0
    count = 0
    for text in texts:
        words = _WORD.findall(_NOT.sub(" n't", text.replace("\u2019", "'")))
        count += len(words)
        parts = tagger(words) if tagger is not None and words else [None] * len(words)
        for word, part in zip(words, parts, strict=True):
            if tagger is None or part is not None:
                scores = lexicon.of(word.lower(), part)
                positive += scores[0]
                negative += scores[1]
    return Richness(positive / count, negative / count) if count else None


def with_richness(view: PoolView, lexicon: Lexicon, tagger: Tagger | None) -> PoolView:
    """A pool whose selections have their richness: those whose texts are known and English."""
    text_of = dict(zip(view.ids, view.texts, strict=True))
    language_of = dict(zip(view.ids, view.languages, strict=True))
    selections = []
    for one in view.selections:
        texts = [text for row in one.ids if (text := text_of.get(row)) is not None]
        is_english = all(language_of.get(row) in (None, "en") for row in one.ids)
        known = is_english and len(texts) == len(one.ids)
        selections.append(replace(one, richness=richness(texts, lexicon, tagger) if known else None))
    return replace(view, selections=selections)
