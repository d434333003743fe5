"""How the source and the target language are set in a translation model."""

from collections.abc import Container
from typing import Any

from ..core.errors import InputError
from ..core.languages import Language


class Lead:
    """How a model is told the target language: by text before the source, or by the first token it writes."""

    def __init__(self, text: str = "", first_token: int | None = None) -> None:
        self.text = text
        self.first_token = first_token


def set_languages(
    tokenizer: Any,
    source: Language,
    target: Language,
    source_code: str | None,
    target_code: str | None,
    name: str,
) -> Lead:
    """Tell a tokenizer the languages, in the model's own codes.

    Args:
        tokenizer: The model's tokenizer; its `src_lang` and `tgt_lang` are set where it has them.
        source: The source language.
        target: The target language.
        source_code: The model's code for it, or None to work it out.
        target_code: As for the source.
        name: The model's name, for the error.

    Raises:
        InputError: If the model names languages and knows neither the code given nor one worked out.
    """
    # M2M100's tokenizer has tokens for the languages that it does not list.
    vocabulary = {**tokenizer.get_vocab(), **getattr(tokenizer, "lang_token_to_id", {})}
    if not hasattr(tokenizer, "src_lang"):
        # OPUS-MT models with several targets want >>code<<; others, and the T5 family, have one target or a prefix.
        if target_code is None:
            return Lead()
        known_token(vocabulary, [target_code], "target_code", name)
        return Lead(text=f"{target_code} ")
    tokenizer.src_lang, _ = _code(vocabulary, source, source_code, "source_code", name)
    tokenizer.tgt_lang, token = _code(vocabulary, target, target_code, "target_code", name)
    return Lead(first_token=vocabulary[token])


def known_token(vocabulary: Container[str], codes: list[str], setting: str, name: str) -> tuple[str, str]:
    """The first of the codes that a model has a token for.

    Args:
        vocabulary: The model's tokens.
        codes: Codes, the best first.
        setting: The setting that gives the code by hand, for the error.
        name: The model's name, for the error.

    Returns:
        The code and its token.

    Raises:
        InputError: If there is a token for none of them.
    """
    for code in codes:
        for token in (f"__{code}__", code):  # M2M100 writes __hi__ for what it calls hi
            if token in vocabulary:
                return code.strip("_"), token
    raise InputError(
        f"model {name}: no token for the language {' or '.join(codes)}; give its own code with --model.{setting}"
    )


def _code(
    vocabulary: dict[str, int], language: Language, given: str | None, setting: str, name: str
) -> tuple[str, str]:
    """The model's code and its token: FLORES for NLLB, ISO 639-1 for M2M100, ISO with a region for mBART."""
    if given is not None:
        return known_token(vocabulary, [given], setting, name)
    regions = [token for token in vocabulary if token.startswith(f"{language.base}_") and len(token) == 5]
    found = [code for code in (language.flores, f"__{language.base}__", *regions) if code in vocabulary]
    return known_token(vocabulary, found or [language.flores or language.code], setting, name)
