"""Word-by-word translation by a dictionary."""

from functools import cache, cached_property
from typing import Any, Literal

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.packages import require
from labelbridge.lightning_app.core.ranges import Share, check_ranges
from labelbridge.lightning_app.data.sources import Source
from labelbridge.lightning_app.translation.lexicon import (
    Lexicon,
    Replaced,
    Tagger,
    penn_part,
    read_lexicon,
    replace_words,
)

from .translator import Translations, TranslatorModule


class LexiconTranslator(TranslatorModule):
    """Replaces words by their translations in bilingual dictionaries (CoSDA-ML, arXiv 2006.06402); needs no weights.

    It writes no sentence that a speaker would: it brings a language's words into training, for languages that no model
    translates into and for code-switching (`ratio` below 1).

    Args:
        lexicon: Dictionary files; see `labelbridge.lightning_app.translation.lexicon.read_lexicon`.
        ratio: Chance of a word that the dictionary covers to be replaced.
        sentence_ratio: Chance of a text to be touched at all.
        choice: `first` takes a word's first translation, `random` draws one.
        lemmatize: Look a word up by its base form (simplemma) where the dictionary lacks it as it is written.
        tagger: `nltk` has translations of the word's part of speech come first, if the dictionary tells them. Needs
            `python -m nltk.downloader averaged_perceptron_tagger_eng`, English sources alone.
        **translator: As for `TranslatorModule`.
    """

    @check_ranges("model.")
    def __init__(
        self,
        lexicon: Source | list[Source],
        ratio: Share = 1.0,
        sentence_ratio: Share = 1.0,
        choice: Literal["first", "random"] = "first",
        lemmatize: bool = True,
        tagger: Literal["nltk"] | None = None,
        **translator: Any,
    ) -> None:
        super().__init__(**translator)
        self.files = [lexicon] if isinstance(lexicon, Source) else lexicon
        self.model_name = ", ".join(source.place for source in self.files)
        self.ratio = ratio
        self.sentence_ratio = sentence_ratio
        self.choice: Literal["first", "random"] = choice
        self.lemmatize = lemmatize
        self.tagger = tagger

    @property
    def model_paths(self) -> list[str]:
        """The dictionaries, which stand for a model here."""
        return [source.place for source in self.files]

    @cached_property
    def lexicon(self) -> Lexicon:
        """The dictionary."""
        return read_lexicon(self.files, self.source.base, self.target.base)

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `TranslatorModule.identity`."""
        names = ("ratio", "sentence_ratio", "choice", "lemmatize", "tagger", "seed")
        own = {name: vars(self)[name] for name in names}
        return {**super().identity(subcommand), **own, "model": self.lexicon.fingerprint}

    def check(self, subcommand: str) -> None:
        """See `TranslatorModule.check`.

        Raises:
            InputError: If a package or the tagger's data is not installed, or the dictionary cannot be read.
        """
        if self.lemmatize:
            _lemma(self.source.base)("words")
        if self.tagger is not None:
            _nltk_tagger()(["words"])
        self.lexicon  # noqa: B018 - reads it

    def facts(self) -> dict[str, Any]:
        """See `TranslatorModule.facts`."""
        return {**super().facts(), "headwords": len(self.lexicon.entries), "pairs_dropped": dict(self.lexicon.dropped)}

    def translate(self, texts: list[str]) -> Translations:
        """See `TranslatorModule.translate`; adds `words`, `known`, `missing` and `left_alone` of each text."""
        lemma = _lemma(self.source.base) if self.lemmatize else None
        tagger = _nltk_tagger() if self.tagger else None
        found: list[Replaced] = [
            replace_words(
                text, self.lexicon, ratio=self.ratio, sentence_ratio=self.sentence_ratio, choice=self.choice,
                seed=self.seed, lemma=lemma, tagger=tagger,
            )
            for text in texts
        ]  # fmt: skip
        return {
            "translation": [one.text for one in found],
            "finish": ["stop"] * len(found),
            "error": [None] * len(found),
            "n_tokens": [one.words for one in found],
            "words": [one.words for one in found],
            "known": [one.known for one in found],
            "missing": [one.missing for one in found],
            "left_alone": [one.left_alone for one in found],
        }


@cache  # the lemmatizer remembers the words that it has seen
def _lemma(code: str) -> Any:
    simplemma = require("simplemma", "translation", "LexiconTranslator", otherwise="set lemmatize to false")
    lemmatizer = simplemma.Lemmatizer()
    try:
        lemmatizer.lemmatize("word", lang=code)
    except ValueError:
        raise InputError(f"model.lemmatize: simplemma has no base forms for '{code}'; set it to false") from None
    return lambda word: lemmatizer.lemmatize(word, lang=code)


def _nltk_tagger() -> Tagger:
    pos_tag = require("nltk", "selection", "model.tagger").pos_tag

    def tag(words: list[str]) -> list[str | None]:
        try:
            return [penn_part(one) for _, one in pos_tag(words)]
        except LookupError:
            raise InputError(
                "model.tagger: its data is missing; python -m nltk.downloader averaged_perceptron_tagger_eng"
            ) from None

    return tag
