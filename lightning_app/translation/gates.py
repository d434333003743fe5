"""Quality gates: what is wrong with a translation, if anything. A row that fails is kept aside with its reason."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import regex

from ..core.errors import InputError
from ..core.languages import Language
from ..core.ranges import NonNegativeFloat, Range, Share, check_fields
from ..core.task import is_blank
from ..generation.filters import is_detected, other_language

# What tokenizers write for a piece that they do not know.
_UNKNOWN = re.compile(r"<unk>|\[UNK\]|⁇|�", re.IGNORECASE)
# Thousands, and the lakhs of India, parted by one and the same sign: 1,250 or 1.250 or 1,25,000.
_THOUSANDS = re.compile(r"(?<!\d)\d{1,3}([.,٬'’])(?:\d{2,3}\1){0,9}\d{3}(?!\d)")
_SPACED = re.compile(r"(?<!\d)\d{1,3}(?:[ \u00a0\u202f]\d{3}){1,9}(?!\d)")  # 1 250, as in French
_DATE = re.compile(r"(?<!\d)(?:\d{1,2}([/.-])\d{1,2}\1(?:\d{4}|\d{2})|\d{4}([/.-])\d{1,2}\2\d{1,2})(?!\d)")
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")  # `re` would take vowel signs for the ends of words
# The same few characters over and over, for text without spaces.
_CHARACTER_LOOP = re.compile(r"(.{1,12}?)\1{9,}", re.DOTALL)
LONGEST_LOOP = 8  # words
# At this confidence 1 to 6 in 1,000 sentences that people wrote in Hindi, Marathi and Urdu (Tatoeba) are taken for
# another language; much less would let Hindi pass for Marathi.
NEIGHBOUR = 0.2
SHORT = 12  # characters up to which a length says nothing


@dataclass(frozen=True)
class Gates:
    """Which translations are let through; `null` or false switches a gate off.

    An empty translation, one that failed and one that was cut at the token limit never pass.

    Args:
        unknown: Refuse text with the tokenizer's mark for unknown pieces.
        repetition: Refuse text in which the same one to eight words come so many times in a row, and the source's do
            not.
        script: Least share of letters in the target language's script, where that is known.
        language: Refuse text that the detector is sure is in another language, where it knows the target (and not for
            transliterated targets).
        shortest: Least length in characters, as a multiple of the source's.
        longest: Most.
        copy: Refuse the source itself, where it has four or more words and the engine did not mean to leave it alone.
        numbers: Refuse text that lacks a number of the source of two or more digits, in whatever digits.
    """

    unknown: bool = True
    repetition: Annotated[int, Range(least=2)] | None = 4
    script: Share | None = 0.5
    language: bool = True
    shortest: NonNegativeFloat | None = 0.3
    longest: NonNegativeFloat | None = 3.0
    copy: bool = True
    numbers: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "gates.")
        if self.shortest is not None and self.longest is not None and self.shortest > self.longest:
            raise InputError(
                f"gates.shortest is {self.shortest}, above gates.longest {self.longest}, expected shortest <= longest"
            )


def judge(
    sources: Sequence[str],
    translations: Sequence[str | None],
    gates: Gates,
    target: Language,
    finishes: Sequence[str | None] | None = None,
    errors: Sequence[str | None] | None = None,
    left_alone: Sequence[bool | None] | None = None,
) -> list[str | None]:
    """Why each translation fails, or None: the first gate that it does not pass.

    Args:
        sources: N texts.
        translations: Their translations; None where the engine gave none.
        gates: Which gates there are.
        target: The language that the translations are in.
        finishes: `length` where a translation was cut at the token limit.
        errors: The engine's own reason, where it failed.
        left_alone: True where the engine meant to write the source itself, as a dictionary does under a ratio below 1.

    Returns:
        N reasons: `failed`, `empty`, `cut`, `unknown`, `repetition`, `copy`, `length`, `numbers`, `script`, `language`.
    """
    count = len(sources)
    nothing = [None] * count
    told = zip(
        sources, translations, finishes or nothing, errors or nothing, left_alone or nothing, strict=True
    )  # fmt: skip
    reasons = [_reason(*one, gates, target) for one in told]
    if gates.language and target.is_usual_script and is_detected(target.base):
        texts = [without_names(source, text or "") for source, text in zip(sources, translations, strict=True)]
        for row, hit in enumerate(other_language(texts, reasons, target.base, doubt=NEIGHBOUR)):
            if hit and reasons[row] is None:
                reasons[row] = "language"
    return reasons


def left_out(gates: Gates, target: Language) -> list[str]:
    """What to tell of gates that are on and can say nothing of a language, one line each."""
    lines = []
    if gates.script is not None and target.script is None:
        lines.append(
            f"gates.script: left out, the script of '{target.code}' is not known; add it to the code, as in mai-Deva"
        )
    if gates.language and target.is_usual_script and not is_detected(target.base):
        lines.append(f"gates.language: left out, the detector does not know '{target.base}'")
    return lines


def _reason(
    source: str,
    text: str | None,
    finish: str | None,
    error: str | None,
    left_alone: bool | None,
    gates: Gates,
    target: Language,
) -> str | None:
    if error is not None:
        return "failed"
    if text is None or is_blank(text):
        return "empty"
    if finish == "length":
        return "cut"
    checks = (
        ("unknown", gates.unknown and has_unknown(text) and not has_unknown(source)),
        ("repetition", gates.repetition is not None and loops(text, source, gates.repetition)),
        ("copy", gates.copy and not left_alone and is_copy(source, text)),
        ("length", is_out_of_proportion(source, text, gates.shortest, gates.longest)),
        ("numbers", gates.numbers and bool(lost_numbers(source, text))),
        ("script", gates.script is not None and is_in_other_script(source, text, target, gates.script)),
    )  # fmt: skip
    return next((name for name, hit in checks if hit), None)


def has_unknown(text: str) -> bool:
    """Whether a tokenizer's mark for an unknown piece, or Unicode's replacement character, is in the text."""
    return _UNKNOWN.search(text) is not None


def loops(text: str, source: str, times: int) -> bool:
    """Whether a few words come `times` times in a row more often than anything does in the source."""
    if _CHARACTER_LOOP.search(text) and not _CHARACTER_LOOP.search(source):
        return True
    words = _WORD.findall(text.casefold())
    if len(words) - len(set(words)) < times - 1:
        return False  # too few repeats to look any closer, as for nearly every text
    return _longest_run(words) >= times > _longest_run(_WORD.findall(source.casefold()))


def is_copy(source: str, text: str) -> bool:
    """Whether the translation is the source, which is fair for a name or a title but not for a sentence."""
    words = _WORD.findall(source.casefold())
    return len(words) >= 4 and words == _WORD.findall(text.casefold())


def is_out_of_proportion(source: str, text: str, shortest: float | None, longest: float | None) -> bool:
    """Whether the translation is much shorter or longer than its source; the first dozen characters are free."""
    if shortest is not None and len(text) + SHORT < shortest * len(source) + SHORT * shortest:
        return True
    return longest is not None and len(text) > longest * len(source) + SHORT


def is_in_other_script(source: str, text: str, target: Language, share: float) -> bool:
    """Whether too few letters are the target's; names may stay as they are."""
    found = target.share_of_script(without_names(source, text))
    return found is not None and found < share


def without_names(source: str, text: str) -> str:
    """The translation's words, but for those that the source writes with a capital in the same way."""
    names = {word for word in _WORD.findall(source) if word[0].isupper()}
    return " ".join(word for word in _WORD.findall(text) if word not in names)


def lost_numbers(source: str, text: str) -> list[str]:
    """Numbers of two or more digits that the translation lacks, whichever digits it writes them in.

    A single digit is often spelled out, and so is a date's month: neither is asked for. Whatever stands between groups
    of digits is left out of account (`10:30`, `24/7`); groups of thousands are one number, across spaces where that
    helps.
    """
    source, text = _ascii_digits(source), _ascii_digits(text)
    asked = _DATE.sub(_without_month, source)
    answers = (
        _lost(_numbers(asked, spaces), _numbers(text, others)) for spaces in (False, True) for others in (False, True)
    )
    found = next(answers)
    return min([found, *answers], key=len) if found else found


def _lost(asked: list[str], found: list[str]) -> list[str]:
    have = Counter(found)
    return [number for number, count in Counter(asked).items() if have[number] < count]


def _ascii_digits(text: str) -> str:
    return "".join(str(unicodedata.digit(one)) if one.isdigit() and not one.isascii() else one for one in text)


def _without_month(date: "re.Match[str]") -> str:
    """A date's groups of digits but those that may be its month: which one is, day or month, cannot be told."""
    return " / ".join(one for one in re.findall(r"\d+", date[0]) if int(one) > 12)


def _numbers(plain: str, across_spaces: bool) -> list[str]:
    joined = _THOUSANDS.sub(lambda found: re.sub(r"\D", "", found[0]), plain)
    if across_spaces:
        joined = _SPACED.sub(lambda found: re.sub(r"\D", "", found[0]), joined)
    groups = (found.lstrip("0") for found in re.findall(r"\d+", joined))
    return [digits for digits in groups if len(digits) >= 2]


def _longest_run(words: Sequence[str]) -> int:
    """How many times in a row the same one to eight words come, at most."""
    longest = 1 if words else 0
    for size in range(1, min(LONGEST_LOOP, len(words) // 2) + 1):
        for start in range(size):
            run = 1
            for at in range(start + size, len(words) - size + 1, size):
                run = run + 1 if words[at : at + size] == words[at - size : at] else 1
                longest = max(longest, run)
    return longest
