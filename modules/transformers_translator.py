"""Translations by a sequence-to-sequence model on the Trainer's device."""

# B = texts of a batch, L = tokens of a translation with padding

import copy
from functools import cached_property
from typing import Any, Literal

import torch

from labelbridge.lightning_app.models.fingerprints import check_base, model_fingerprint
from labelbridge.lightning_app.models.loading import check_vocabulary, longest_sequence
from labelbridge.lightning_app.models.seq2seq import load_seq2seq, load_seq2seq_config

from .sequence_translator import SequenceTranslator
from .translator import Translations


class TransformersTranslator(SequenceTranslator):
    """Any sequence-to-sequence model of the Hub: NLLB, M2M100, mBART, OPUS-MT, and the T5 family by a prefix.

    `model` may also be a LoRA adapter's folder.

    Args:
        dtype: Type of the weights.
        **sequence: As for `SequenceTranslator`.
    """

    def __init__(self, dtype: Literal["float32", "bfloat16", "float16"] = "float32", **sequence: Any) -> None:
        super().__init__(**sequence)
        self.dtype_name = dtype

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `TranslatorModule.identity`."""
        own = {"dtype_name": self.dtype_name, "model": model_fingerprint(self.model_name, self.revision)}
        return {**super().identity(subcommand), **own}

    def check(self, subcommand: str) -> None:
        """See `SequenceTranslator.check`.

        Raises:
            InputError: Also if the base of an adapter has been made anew since it was trained, or the network does not
                know all of the tokenizer's words.
        """
        check_base(self.model_name)
        config = self._config  # before the tokenizer, which reads it too and would be blamed for it
        super().check(subcommand)
        check_vocabulary(self.tokenizer, config, self.model_name)

    @cached_property
    def _config(self) -> Any:
        """The network's configuration."""
        return load_seq2seq_config(self.model_name, self.trust_remote_code, self.revision)

    @property
    def longest_input(self) -> int:
        """See `SequenceTranslator.longest_input`."""
        longest = longest_sequence(self._config)
        return super().longest_input if longest is None else min(super().longest_input, longest)

    def configure_model(self) -> None:
        """Load the weights, once."""
        if self.network is None:
            self.network = load_seq2seq(
                self.model_name, trust_remote_code=self.trust_remote_code, revision=self.revision,
                dtype=getattr(torch, self.dtype_name),
            ).eval()  # fmt: skip
            # OPUS-MT and mBART force an end at the limit, which would hide that a translation was cut.
            self.network.generation_config.forced_eos_token_id = None

    def translate(self, texts: list[str]) -> Translations:
        """See `TranslatorModule.translate`."""
        prefixed = self.prefixed(texts)
        inputs = self.tokenizer(
            prefixed, padding=True, truncation=True, max_length=self.longest_input, return_tensors="pt"
        )
        cut = self.is_cut(prefixed)
        config = copy.deepcopy(self.network.generation_config)  # decoder start, banned and forced tokens are its own
        config.update(
            num_beams=self.num_beams, max_new_tokens=self.max_new_tokens, max_length=None, do_sample=False,
            no_repeat_ngram_size=self.no_repeat_ngram_size, temperature=None, top_p=None, top_k=None,
        )  # fmt: skip
        if self.lead.first_token is not None:
            config.forced_bos_token_id = self.lead.first_token
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
            found["translation"].append(self.decode(own))
            found["finish"].append("length" if stop is None or source_cut else "stop")
            found["error"].append(None)
            found["n_tokens"].append(len(own))
        return found
