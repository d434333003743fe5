"""Translations by a sequence-to-sequence model on the Trainer's device."""

# B = texts of a batch, L = tokens of a translation with padding

import copy
import logging
from typing import Any, Literal

import torch
from transformers import AutoTokenizer

from lightning_app.errors import InputError
from lightning_app.models import card_facts, check_base, locate, model_fingerprint
from lightning_app.translation.codes import Lead, set_languages
from modules.sequence_models import load_seq2seq
from modules.translator import Translations, TranslatorModule

log = logging.getLogger(__name__)


class TransformersTranslator(TranslatorModule):
    """Any sequence-to-sequence model of the Hub: NLLB, M2M100, mBART, OPUS-MT, and the T5 family by a prefix.

    Args:
        model: A model's folder (also a LoRA adapter's) or Hub id.
        source_code: What the model calls the source language, where that cannot be worked out (`en_XX`); by default
            what it was fine-tuned with here.
        target_code: What it calls the target language (`hi_IN`, `>>hin<<`); by default as for the source.
        prefix: Text before every source, as the T5 family wants it; by default what the model was fine-tuned with here.
        num_beams: Beam size; 1 takes the most likely token.
        max_new_tokens: Longest translation; a longer one is marked as cut.
        max_length: Longest source in tokens; what is longer is cut, and so marked.
        no_repeat_ngram_size: Bans an n-gram from coming twice in a translation; 0 for no ban.
        dtype: Type of the weights.
        trust_remote_code: Whether to run code that comes with the model.
        revision: The Hub model's commit, tag or branch.
        **translator: As for `TranslatorModule`.
    """

    def __init__(
        self,
        model: str,
        source_code: str | None = None,
        target_code: str | None = None,
        prefix: str | None = None,
        num_beams: int = 4,
        max_new_tokens: int = 256,
        max_length: int = 256,
        no_repeat_ngram_size: int = 0,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        trust_remote_code: bool = False,
        revision: str | None = None,
        **translator: Any,
    ) -> None:
        super().__init__(**translator)
        if min(num_beams, max_new_tokens, max_length) < 1:
            raise InputError(
                f"model: num_beams {num_beams}, max_new_tokens {max_new_tokens}, max_length {max_length}; expected at "
                "least 1"
            )
        self.model_name = model
        self.source_code = source_code
        self.target_code = target_code
        self.prefix = prefix
        self.num_beams = num_beams
        self.max_new_tokens = max_new_tokens
        self.max_length = max_length
        self.no_repeat_ngram_size = no_repeat_ngram_size
        self.dtype_name = dtype
        self.trust_remote_code = trust_remote_code
        self.revision = revision
        self.network: Any = None
        self._tokenizer: Any = None

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `TranslatorModule.identity`."""
        names = (
            "num_beams", "max_new_tokens", "max_length", "no_repeat_ngram_size",
            "dtype_name",
        )  # fmt: skip
        own = {name: getattr(self, name) for name in names}
        told = {"prefix": self.source_prefix, "codes": self.language_codes}
        model = {"model": model_fingerprint(self.model_name), **told}
        return {**super().identity(subcommand), **own, **model}

    def check(self, subcommand: str) -> None:
        """See `TranslatorModule.check`.

        Raises:
            InputError: If there is no such model, or it does not know a language.
        """
        check_base(self.model_name)
        self._set_languages()
        known = card_facts(self.model_name)
        trained = (known.get("source_language"), known.get("target_language"))
        asked = (self.source.code, self.target.code)
        if None not in trained and trained != asked:
            log.warning("model %s: fine-tuned from %s into %s, asked for %s into %s", self.model_name, *trained, *asked)

    @property
    def source_prefix(self) -> str:
        """What is put before every source."""
        return str(card_facts(self.model_name).get("prefix", "")) if self.prefix is None else self.prefix

    @property
    def language_codes(self) -> tuple[str | None, str | None]:
        """What the model calls source and target, where that is not to be worked out."""
        known = card_facts(self.model_name)
        return self.source_code or known.get("source_code"), self.target_code or known.get("target_code")

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        if self._tokenizer is None:
            try:
                self._tokenizer = AutoTokenizer.from_pretrained(
                    locate(self.model_name), trust_remote_code=self.trust_remote_code, revision=self.revision
                )
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split())[:160]
                raise InputError(
                    f"model {self.model_name}: cannot be loaded ({reason}); give a local folder or a Hub id"
                ) from None
        return self._tokenizer

    def configure_model(self) -> None:
        """Load the weights, once."""
        if self.network is None:
            self.network = load_seq2seq(
                self.model_name, trust_remote_code=self.trust_remote_code, revision=self.revision,
                dtype=getattr(torch, self.dtype_name),
            ).eval()  # fmt: skip

    def translate(self, texts: list[str]) -> Translations:
        """See `TranslatorModule.translate`."""
        lead = self._set_languages()
        prefixed = [f"{lead.text}{self.source_prefix}{text}" for text in texts]
        inputs = self.tokenizer(
            prefixed, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        cut = [len(ids) > self.max_length for ids in self.tokenizer(prefixed)["input_ids"]]
        config = copy.deepcopy(
            self.network.generation_config
        )  # decoder start, banned and forced tokens are the model's
        config.update(
            num_beams=self.num_beams, max_new_tokens=self.max_new_tokens, max_length=None, do_sample=False,
            no_repeat_ngram_size=self.no_repeat_ngram_size, temperature=None, top_p=None, top_k=None,
        )  # fmt: skip
        if lead.first_token is not None:
            config.forced_bos_token_id = lead.first_token
        with torch.no_grad():
            written_BL = self.network.generate(**inputs.to(self.device), generation_config=config)
        return self._read(written_BL.tolist(), cut)

    def _set_languages(self) -> Lead:
        return set_languages(self.tokenizer, self.source, self.target, *self.language_codes, self.model_name)

    def _read(self, written: list[list[int]], cut: list[bool]) -> Translations:
        """Tokens to texts; a row without an end token was cut."""
        ends = self.network.generation_config.eos_token_id
        end = set(ends if isinstance(ends, list) else [ends])
        found: Translations = {"translation": [], "finish": [], "error": [], "n_tokens": []}
        for row, source_cut in zip(written, cut, strict=True):
            body = row[1:]  # the decoder's start token may be the end token
            stop = next((place for place, token in enumerate(body) if token in end), None)
            own = body if stop is None else body[:stop]
            found["translation"].append(self.tokenizer.decode(own, skip_special_tokens=True).strip())
            found["finish"].append("length" if stop is None or source_cut else "stop")
            found["error"].append(None)
            found["n_tokens"].append(len(own))
        return found
