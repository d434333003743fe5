"""Text for IndicTrans2 and back: its authors' own processing, with placeholders that are ours.

IndicTrans2 (Gala et al., arXiv 2305.16307) reads text whose punctuation and digits are normalised, tokenized, and, but
for Perso-Arabic and a few other scripts, written in Devanagari. IndicTransToolkit's compiled `processor` does all of
that. It also puts placeholders for addresses and the like, but numbers them in the order of a Python set, which differs
from process to process, and remembers them in a queue that a failed batch would leave out of step; so that part is done
here: in order of appearance, and worked out from the text itself when it is needed again.
"""

import importlib.machinery
import importlib.util
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

import regex

from ..core.errors import InputError

# What comes through a translation as it is: mail and web addresses, handles and hashtags, and numbers of four or more
# digits with signs among them (dates, times, sums, ranges). Plain numbers are left to the model.
_ENTITY = regex.compile(
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|(?:https?://|ftp://|www\.)[^\s<>\"]*[\w/]"
    # Without a scheme it needs a path, or an ending that is no English word: "food.in the end" lacks a space.
    r"|(?<![\w.])(?:[\w-]+\.)+(?:com|org|net|edu|gov|info|io|in|pk|uk)/[^\s<>\"]*[\w/]"
    r"|(?<![\w.])(?:[\w-]+\.)+(?:com|org|edu|gov|io|(?:com?|org|net|edu|gov|ac)\.(?:in|pk|uk))(?![\w-]|\.\w)"
    r"|(?<!\w)[@#]\w+"
    r"|(?<!\w)(?=(?:\D?\d){4})\d+(?:[.,:/'’+-]\d+)+%?(?!\w)"
)
# How a placeholder comes back: its brackets are mostly kept, its letters and spaces not.
_BRACKETED = regex.compile(r"[<\[]\s*(?=\p{L})[^\d<>\[\]]{1,16}(\d{1,3})\s*[>\]]")
_BARE = regex.compile(r"(?<!\p{L})(?:ID|id|आई\s?\.?\s?डी\s?\.?|आयडी|آئی\s?ڈی)\s?(\d{1,3})")


class IndicText:
    """Text of one pair of languages, for the model and back.

    Args:
        source: FLORES code of the language of the texts.
        target: FLORES code of the language that they are translated into.
    """

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target

    def prepare(self, texts: Sequence[str]) -> list[str]:
        """Texts as the model reads them, without tags."""
        told = [protect(text)[0] for text in texts]
        tagged = _processor()(inference=False).preprocess_batch(told, self.source, self.target)
        tags = len(f"{self.source} {self.target} ")
        return [text[tags:] for text in tagged]

    def finish(self, texts: Sequence[str], written: Sequence[str]) -> list[str]:
        """What the model wrote for the texts, detokenized and in the target's own script, placeholders filled."""
        filled = [restore(one, protect(text)[1]) for text, one in zip(texts, written, strict=True)]
        processor = _processor()(inference=True)
        # It waits for as many notes of placeholders as it has texts: these say that there are none.
        processor.preprocess_batch([""] * len(filled), self.source, self.target)
        return [text.strip() for text in processor.postprocess_batch(filled, self.target)]


def protect(text: str) -> tuple[str, list[str]]:
    """Put placeholders (`<ID1>`, `<ID2>`, ...) for what must not be translated; white space becomes one space.

    Returns:
        The text, and what the placeholders stand for, in order, with digits in ASCII; the same stands for the same.
    """
    entities: list[str] = []

    def put(match: "regex.Match[str]") -> str:
        entity = _ascii_digits(match[0])
        if entity not in entities:
            entities.append(entity)
        return f"<ID{entities.index(entity) + 1}>"

    return _ENTITY.sub(put, " ".join(text.split())), entities


def restore(text: str, entities: Sequence[str]) -> str:
    """Fill placeholders, in whatever brackets, letters and digits the model wrote them."""

    def fill(match: "regex.Match[str]") -> str:
        number = int(match[1])
        return entities[number - 1] if 0 < number <= len(entities) else str(match[0])

    if not entities:
        return text
    text = _BRACKETED.sub(fill, text)
    # Without brackets only where one is still to be filled: the text may speak of an ID of its own.
    return text if all(entity in text for entity in entities) else _BARE.sub(fill, text)


def _ascii_digits(text: str) -> str:
    return "".join(str(unicodedata.decimal(one)) if one.isdecimal() else one for one in text)


@cache
def _processor() -> Any:
    """The compiled processor's class, without its package's own start, which fails under transformers 5.

    Raises:
        InputError: If IndicTransToolkit, or something that it needs, is not installed.
    """
    try:
        package = importlib.util.find_spec("IndicTransToolkit")
        places = package.submodule_search_locations if package is not None else None
        found = importlib.machinery.PathFinder.find_spec("IndicTransToolkit.processor", places) if places else None
        if found is None or found.loader is None:
            raise ModuleNotFoundError("IndicTransToolkit")
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"IndicTrans2Translator: {error.name or error} is not installed; pip install 'labelbridge[indic]'"
        ) from None
    return module.IndicProcessor


def check_installed() -> None:
    """Load the processor.

    Raises:
        InputError: If IndicTransToolkit, or something that it needs, is not installed.
    """
    _processor()
