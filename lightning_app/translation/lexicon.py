"""Word-by-word translation by a bilingual dictionary: code-switching augmentation, and a setting without any MT model.

After CoSDA-ML (Qin et al., arXiv 2006.06402): some texts, and some words of each, are replaced by a translation drawn
from a dictionary. With both ratios at 1 every word that the dictionary knows is replaced.
"""

import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import regex

from ..core import fingerprint
from ..core.errors import InputError, closest
from ..core.files import filled_lines, opened, suffix_of
from ..data.readers import check_path
from ..data.sources import Source, read_table

log = logging.getLogger(__name__)

# Words with inner apostrophes and hyphens, and letters parted by dots (a.m.); everything between them stays as it is.
_TOKEN = regex.compile(r"\p{L}(?:\.\p{L})+(?![\p{L}\p{M}\p{N}])|[\p{L}\p{M}\p{N}]+(?:['’\-][\p{L}\p{M}\p{N}]+)*")
_PLAIN = regex.compile(r"[\p{L}\p{M}\p{Zs}'’\-.()]+")
# Stands for the translation of a word that the target language has none for, such as an article.
_LEFT_OUT = "-"
# What dictionaries put before a word's second sense, and write for the visarga (वस्तुत:).
_SENSE = regex.compile(r"^\d+\.\s*")
_VISARGA = regex.compile(r"(?<=\p{Script=Devanagari}):")
_IN_BRACKETS = regex.compile(r"\s{0,9}\([^()]*\)")
# The first letters of a dictionary's part of speech, and of a Penn Treebank tag -> one name for both.
_PARTS = {"adj": "adjective", "a": "adjective", "adv": "adverb", "n": "noun", "v": "verb", "vt": "verb", "vi": "verb"}
_PENN = {"J": "adjective", "R": "adverb", "N": "noun", "V": "verb"}

Tagger = Callable[[list[str]], list[str | None]]


@dataclass(frozen=True)
class Entry:
    """One translation of a dictionary's headword, empty where the word is left out.

    `part` is `noun`, `verb`, `adjective`, `adverb`, or None.
    """

    text: str
    part: str | None = None


@dataclass(frozen=True)
class Lexicon:
    """A bilingual dictionary.

    Args:
        entries: Headword, in lower case and words parted by one space -> its translations, in the dictionary's order.
        dropped: How many pairs were left out, by reason.
    """

    entries: Mapping[str, Sequence[Entry]]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def longest(self) -> int:
        """Words of the longest headword."""
        return max((len(head.split()) for head in self.entries), default=0)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all entries."""
        return fingerprint.of_value({head: [vars(one) for one in own] for head, own in self.entries.items()})


@dataclass(frozen=True)
class Replaced:
    """A text with words replaced.

    Args:
        text: The new text.
        words: How many words the old one had.
        known: How many of them the dictionary covers.
        missing: Those that it does not, in lower case.
        left_alone: Whether no word was replaced because the draws had it so, not because the dictionary knows none.
    """

    text: str
    words: int
    known: int
    missing: list[str]
    left_alone: bool = False


def read_lexicon(sources: Sequence[Source], source: str, target: str) -> Lexicon:
    """Read a dictionary from one or more files, the first file's translations first.

    A file has a column for each language, named by the language's code, or `source` and `target` (`tgt`), or as its
    `columns` say; a column `pos` if it knows parts of speech. A `.txt` file holds a pair a line, parted by a tab or a
    space, as MUSE's dictionaries do; `columns` `{source: second, target: first}` reads it in the other
    direction. The translation `-` has the word left out, as articles are in languages without.

    Args:
        sources: The files.
        source: Code of the language of the headwords.
        target: Code of the language of the translations.

    Raises:
        InputError: If a file or a column is missing, or no pair is left.
    """
    entries: dict[str, list[Entry]] = {}
    dropped: Counter[str] = Counter()
    for one in sources:
        for head, text, part in _pairs(one, source, target):
            cleaned_head, cleaned = _headword(head), _translation(text)
            if cleaned_head is None or cleaned is None:
                dropped["not a word (digits, signs of a dictionary's own)"] += 1
                continue
            own = entries.setdefault(cleaned_head, [])
            entry = Entry(cleaned, _PARTS.get((part or "").strip(" .").casefold()))
            if entry in own:
                dropped["doubled"] += 1
            else:
                own.append(entry)
    places = ", ".join(one.place for one in sources)
    if not entries:
        raise InputError(f"lexicon {places or 'none given'}: no pair of words in it; name files with `lexicon`")
    log.info("lexicon %s: %d headwords, %d pairs, dropped %s", places, len(entries), sum(map(len, entries.values())),
             dict(dropped) or "none")  # fmt: skip
    return Lexicon(entries, dict(dropped))


def replace_words(
    text: str,
    lexicon: Lexicon,
    *,
    ratio: float = 1.0,
    sentence_ratio: float = 1.0,
    choice: Literal["first", "random"] = "first",
    seed: int = 0,
    lemma: Callable[[str], str] | None = None,
    tagger: Tagger | None = None,
) -> Replaced:
    """Replace words of a text by their translations; punctuation stays, and so do spaces but beside words left out.

    The longest headword that stands at a place, with spaces alone between its words, is taken, as it is written or,
    failing that, its words' lemmas. What is drawn depends on the text and the seed alone, so the same text is always
    replaced in the same way.

    Args:
        text: The text.
        lexicon: The dictionary.
        ratio: Chance of a covered word or phrase to be replaced.
        sentence_ratio: Chance of the text to be touched at all.
        choice: Take the dictionary's first translation, or draw one.
        seed: Seed of the draws.
        lemma: Word -> its base form.
        tagger: Words -> their parts of speech; translations of the same part come first.
    """
    rng = random.Random(blake2b(f"{seed}:{text}".encode(), digest_size=8).digest())  # noqa: S311 - augmentation
    spans = [match.span() for match in _TOKEN.finditer(text)]
    words = [text[start:end] for start, end in spans]
    touched = rng.random() < sentence_ratio
    parts = tagger(words) if tagger is not None and words else [None] * len(words)
    ends = _ends_of_phrases(text, spans)
    pieces: list[str] = []
    missing: list[str] = []
    known = replaced_words = at = end = 0
    while at < len(words):
        size, found = _longest_match(words[at : min(ends[at], at + lexicon.longest)], lexicon, lemma)
        pieces.append(text[end : spans[at][0]])
        end = spans[at + size - 1][1]
        if found:
            known += size
            chosen = _choose(found, parts[at + size - 1], choice, rng)
            replaced = touched and rng.random() < ratio
            replaced_words += size * replaced
            pieces.append(chosen if replaced else text[spans[at][0] : end])
            if replaced and not chosen:
                end = _close_gap(pieces, text, end)
        else:
            missing.append(words[at].casefold())
            pieces.append(words[at])
        at += size
    left_alone = not touched or bool(known and not replaced_words)
    return Replaced("".join([*pieces, text[end:]]), len(words), known, missing, left_alone)


def _close_gap(pieces: list[str], text: str, end: int) -> int:
    """Take away the spaces after a word left out at `end` or, with none there, those before it; gives the new end."""
    after = len(text) - len(text[end:].lstrip(" "))
    if after == end:
        pieces[:] = ["".join(pieces).rstrip(" ")]
    return after


def _ends_of_phrases(text: str, spans: Sequence[tuple[int, int]]) -> list[int]:
    """For each word the index after the last one that spaces alone part from it: no phrase goes over a full stop."""
    ends = [len(spans)] * len(spans)
    for at in range(len(spans) - 2, -1, -1):
        ends[at] = ends[at + 1] if text[spans[at][1] : spans[at + 1][0]].isspace() else at + 1
    return ends


def _longest_match(
    words: Sequence[str], lexicon: Lexicon, lemma: Callable[[str], str] | None
) -> tuple[int, Sequence[Entry]]:
    for size in range(len(words), 0, -1):
        folded = [_folded(word) for word in words[:size]]
        found = lexicon.entries.get(" ".join(folded))
        if not found and lemma is not None:
            found = lexicon.entries.get(" ".join(lemma(word) for word in folded).casefold())
        if found:
            return size, found
    return 1, ()


def _folded(word: str) -> str:
    """A word as it is looked up; "don't" and its like carry their meaning in the negation."""
    plain = word.casefold().replace("’", "'")
    return "not" if plain.endswith("n't") else plain


def _choose(found: Sequence[Entry], part: str | None, choice: str, rng: random.Random) -> str:
    fitting = [one for one in found if part is not None and one.part == part] or list(found)
    return (rng.choice(fitting) if choice == "random" else fitting[0]).text


def penn_part(tag: str) -> str | None:
    """The part of speech behind a Penn Treebank tag, where dictionaries know it."""
    return _PENN.get(tag[:1])


def _pairs(source: Source, from_code: str, to_code: str) -> list[tuple[str, str, str | None]]:
    known = ("source", "target", "pos")
    unknown = next((name for name in source.columns if name not in known), None)
    if unknown is not None:
        raise InputError(
            f"{source.place}: columns has '{unknown}', expected one of {', '.join(known)}; "
            f"{closest(unknown, known, 'take it out')}"
        )
    if source.hub is None and suffix_of(Path(source.path)) == ".txt":
        return _muse(source)

    def names(columns: Sequence[str]) -> list[str]:
        # A language's code comes first: a dictionary may use a column "source" for where a pair was found.
        head = _named(columns, source, "source", [from_code, "source"])
        text = _named(columns, source, "target", [to_code, "target", "tgt"])
        has_pos = "pos" in source.columns or "pos" in columns
        return [head, text, *([_named(columns, source, "pos", ["pos"])] if has_pos else [])]

    table, _, _ = read_table(replace(source, columns={}), names)
    head, text, *pos = (table[name].to_pylist() for name in names(table.column_names))
    return list(zip(head, text, pos[0] if pos else [None] * table.num_rows, strict=True))


def _named(columns: Sequence[str], source: Source, ours: str, usual: Sequence[str]) -> str:
    names = [source.columns[ours]] if ours in source.columns else usual
    found = next((name for name in names if name in columns), None)
    if found is None:
        what = "part of speech" if ours == "pos" else f"{ours} language"
        raise InputError(
            f"{source.place}: no column {' or '.join(names)} among {[name for name in columns if name != 'id']}; "
            f"say which one holds the {what} with `columns: {{{ours}: ...}}`"
        )
    return found


def _muse(source: Source) -> list[tuple[str, str, str | None]]:
    names = [source.columns.get("source", "first"), source.columns.get("target", "second")]
    if sorted(names) != ["first", "second"]:
        raise InputError(
            f"{source.path}: columns {source.columns}, expected in a .txt {{source: first, target: second}} or, in "
            "the other direction, {source: second, target: first}"
        )
    pairs: list[tuple[str, str, str | None]] = []
    path = check_path(source)
    with opened(path) as stream:
        for number, line in filled_lines(stream, path):
            parts = line.strip("\r\n").split("\t") if "\t" in line else line.split()
            if len(parts) != 2:
                raise InputError(
                    f"{source.path} line {number}: {len(parts)} parts, expected a word and its translation; "
                    "fix the line"
                )
            own = dict(zip(("first", "second"), parts, strict=True))
            pairs.append((own[names[0]], own[names[1]], None))
    return pairs


def _spelled(value: object) -> str:
    bare = _IN_BRACKETS.sub("", _SENSE.sub("", str(value or "")))
    return str(_VISARGA.sub("ः", bare))


def _headword(value: object) -> str | None:
    """A headword as it is looked up, or None where it is no word (such as `1 sg.`)."""
    text = " ".join(_spelled(value).strip(" ?!.").split()).casefold().replace("’", "'")
    text = text.removeprefix("to ") if text.startswith("to ") and len(text) > 3 else text
    return text if text and text != _LEFT_OUT and _PLAIN.fullmatch(text) else None


def _translation(value: object) -> str | None:
    """A translation as it is written, empty for a word that is left out, or None where it is no word.

    Dictionaries mark stems with a hyphen (`-kubwa`), which is taken off; other marks (`gamb~a`, `%damu`, `ukuCa`) stand
    for sounds that the usual spelling, which stands beside them, writes otherwise.
    """
    if str(value or "").strip() == _LEFT_OUT:
        return ""
    text = " ".join(_spelled(value).split()).strip("- .")
    if not text or not _PLAIN.fullmatch(text):
        return None
    has_inner_capital = any(one.isupper() for word in text.split() for one in word[1:]) and not text.isupper()
    return None if has_inner_capital else text
