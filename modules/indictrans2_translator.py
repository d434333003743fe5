"""IndicTrans2 from its official CTranslate2 weights."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.packages import require
from labelbridge.lightning_app.core.paths import find
from labelbridge.lightning_app.models.locate import CONVERTED
from labelbridge.lightning_app.translation.indic import IndicText, check_installed
from labelbridge.lightning_app.translation.model_languages import Lead, known_token

from .ctranslate2_translator import CTranslate2Translator

PIECES = "model.SRC"  # the source's SentencePiece model; its folder, `vocab`, lies beside the released weights


class IndicTrans2Translator(CTranslate2Translator):
    """IndicTrans2 (arXiv 2305.16307): English and 22 languages of India, in both directions.

    `model` is the folder `ct2_fp16_model` or `ct2_int8_model` of a release (`en-indic`, `indic-en`, `indic-indic`),
    with `model.bin`, both vocabularies, and `vocab/model.SRC`; `tokenizer` names the folder of `model.SRC` if it lies
    elsewhere. Languages are FLORES codes, worked out from the settings (`hi`, `mai-Deva`); `source_code` and
    `target_code` name what cannot be. The model was trained on up to 256 tokens.

    """

    @property
    def pieces_folder(self) -> Path:
        """Where the SentencePiece model is."""
        if self.tokenizer_source is None:
            return self.folder / "vocab"
        return find(self.tokenizer_source) or Path(self.tokenizer_source)

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `TranslatorModule.identity`."""
        return {**super().identity(subcommand), "codes": [self.texts.source, self.texts.target]}

    def check(self, subcommand: str) -> None:
        """See `TranslatorModule.check`.

        Raises:
            InputError: If a package is not installed, or a file of the release is missing, or it lacks a language.
        """
        check_installed()
        super().check(subcommand)
        self.tokenizer  # noqa: B018 - reads it

    @cached_property
    def lead(self) -> Lead:
        """Nothing: the tags of both languages are the first tokens of the source."""
        vocabulary = set(_vocabulary(self.folder))
        for code, setting in ((self.texts.source, "source_code"), (self.texts.target, "target_code")):
            known_token(vocabulary, [code], setting, self.model_name)
        return Lead()

    @cached_property
    def texts(self) -> IndicText:
        """The processing of texts in this pair of languages."""
        source = self.source_code or self.source.flores or self.source.code
        return IndicText(source, self.target_code or self.target.flores or self.target.code)

    @property
    def tokenizer(self) -> Any:
        """The source's SentencePiece model."""
        if self._tokenizer is None:
            sentencepiece = require("sentencepiece", "indic", "IndicTrans2Translator")
            try:
                self._tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(self.pieces_folder / PIECES))
            except (OSError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:160]
                raise InputError(
                    f"{self.pieces_folder / PIECES}: not a SentencePiece model ({reason}); take it from the release"
                ) from None
        return self._tokenizer

    def encode(self, texts: list[str]) -> tuple[list[list[str]], list[bool]]:
        """Texts to tagged pieces, and whether they had to be cut; the tags and the end count."""
        room = max(self.max_length - 3, 1)
        pieces: list[list[str]] = self.tokenizer.encode(self.texts.prepare(self.prefixed(texts)), out_type=str)
        tags = [self.texts.source, self.texts.target]
        return [[*tags, *own[:room]] for own in pieces], [len(own) > room for own in pieces]

    def decode_tokens(self, texts: list[str], written: list[list[str]]) -> list[str]:
        """Pieces to translations of the texts."""
        joined = ["".join(pieces).replace("▁", " ").strip() for pieces in written]
        return self.texts.finish(self.prefixed(texts), joined)

    def _check_folder(self) -> None:
        if not (self.folder / CONVERTED).is_file():
            raise InputError(
                f"model {self.model_name}: no {CONVERTED}; expected the folder ct2_fp16_model or ct2_int8_model of an "
                "IndicTrans2 release"
            )
        if not (self.pieces_folder / PIECES).is_file():
            raise InputError(
                f"model {self.model_name}: no {self.pieces_folder / PIECES}; give the folder of {PIECES} with "
                "--model.tokenizer"
            )


def _vocabulary(folder: Path) -> list[str]:
    """The source's tokens, as either version of the converter writes them."""
    for name in ("source_vocabulary", "shared_vocabulary"):
        if (folder / f"{name}.json").is_file():
            tokens: list[str] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            return tokens
        if (folder / f"{name}.txt").is_file():
            return (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    raise InputError(f"{folder}: no source_vocabulary.json or .txt; expected a converted model's folder")
