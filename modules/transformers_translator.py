"""Translations by a sequence-to-sequence model on the Trainer's device."""

# B = texts of a batch, L = tokens of a translation with padding

import copy
from typing import Any, Literal

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from lightning_app.errors import InputError
from lightning_app.models import card_facts, locate, model_fingerprint
from lightning_app.translation.languages import Language
from modules.translator import Translations, TranslatorModule


class TransformersTranslator(TranslatorModule):
    """Any sequence-to-sequence model of the Hub: NLLB, M2M100, mBART, OPUS-MT, and the T5 family by a prefix.

    Args:
        model: A model's folder (also a LoRA adapter's) or Hub id.
        source_code: What the model calls the source language, where that cannot be worked out (`en_XX`).
        target_code: What it calls the target language (`hi_IN`, `>>hin<<`).
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
            "source_code", "target_code", "num_beams", "max_new_tokens", "max_length", "no_repeat_ngram_size",
            "dtype_name",
        )  # fmt: skip
        own = {name: getattr(self, name) for name in names}
        model = {"model": model_fingerprint(self.model_name), "prefix": self.source_prefix}
        return {**super().identity(subcommand), **own, **model}

    def check(self, subcommand: str) -> None:
        """See `TranslatorModule.check`.

        Raises:
            InputError: If there is no such model, or it does not know a language.
        """
        set_languages(self.tokenizer, self.source, self.target, self.source_code, self.target_code, self.model_name)

    @property
    def source_prefix(self) -> str:
        """What is put before every source."""
        return str(card_facts(self.model_name).get("prefix", "")) if self.prefix is None else self.prefix

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
            self.network = AutoModelForSeq2SeqLM.from_pretrained(
                locate(self.model_name), trust_remote_code=self.trust_remote_code, revision=self.revision,
                dtype=getattr(torch, self.dtype_name),
            ).eval()  # fmt: skip

    def translate(self, texts: list[str]) -> Translations:
        """See `TranslatorModule.translate`."""
        lead = set_languages(
            self.tokenizer, self.source, self.target, self.source_code, self.target_code, self.model_name
        )
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
        tokenizer: The model's tokenizer; its `src_lang` is set where it has one.
        source: The source language.
        target: The target language.
        source_code: The model's code for it, or None to work it out.
        target_code: As for the source.
        name: The model's name, for the error.

    Raises:
        InputError: If the model names languages and knows neither the code given nor one worked out.
    """
    vocabulary = tokenizer.get_vocab()
    if not hasattr(tokenizer, "src_lang"):
        # OPUS-MT models with several targets want >>code<<; others, and the T5 family, have one target or a prefix.
        if target_code is None:
            return Lead()
        _known(vocabulary, [target_code], "target_code", name)
        return Lead(text=f"{target_code} ")
    tokenizer.src_lang, _ = _code(vocabulary, source, source_code, "source_code", name)
    _, token = _code(vocabulary, target, target_code, "target_code", name)
    return Lead(first_token=vocabulary[token])


def _code(
    vocabulary: dict[str, int], language: Language, given: str | None, setting: str, name: str
) -> tuple[str, str]:
    """The model's code and its token: FLORES for NLLB, ISO 639-1 for M2M100, ISO with a region for mBART."""
    if given is not None:
        return _known(vocabulary, [given], setting, name)
    regions = [token for token in vocabulary if token.startswith(f"{language.base}_") and len(token) == 5]
    found = [code for code in (language.flores, f"__{language.base}__", *regions) if code in vocabulary]
    return _known(vocabulary, found or [language.flores or language.code], setting, name)


def _known(vocabulary: dict[str, int], codes: list[str], setting: str, name: str) -> tuple[str, str]:
    for code in codes:
        for token in (f"__{code}__", code):  # M2M100 writes __hi__ for what it calls hi
            if token in vocabulary:
                return code.strip("_"), token
    raise InputError(
        f"model {name}: no token for the language {' or '.join(codes)}; give its own code with --model.{setting}"
    )
