"""What engines that run a sequence-to-sequence model share: its settings, its tokenizer, its languages."""

import logging
from functools import cached_property
from typing import Annotated, Any, ClassVar

from labelbridge.lightning_app.core.ranges import NonNegativeInt, Range, Tokens, check_ranges
from labelbridge.lightning_app.models.loading import load_tokenizer
from labelbridge.lightning_app.models.locate import card_facts
from labelbridge.lightning_app.translation.model_languages import Lead, set_languages

from .translator import TranslatorModule

log = logging.getLogger(__name__)

MOST_BEAMS = 100  # each is a copy of what the decoder keeps; nothing has been found to gain from more


class SequenceTranslator(TranslatorModule):
    """A sequence-to-sequence model with its Hugging Face tokenizer; engines add how its weights are run.

    Args:
        model: A model's folder or Hub id.
        source_code: What the model calls the source language, where that cannot be worked out (`en_XX`); by default
            what it was fine-tuned with here.
        target_code: What it calls the target language (`hi_IN`, `>>hin<<`); by default as for the source.
        prefix: Text before every source, as the T5 family wants it; by default what the model was fine-tuned with here.
        num_beams: Beam size; 1 takes the most likely token.
        max_new_tokens: Longest translation; a longer one is marked as cut.
        max_length: Longest source in tokens; what is longer is cut, and so marked.
        no_repeat_ngram_size: Bans an n-gram from coming twice in a translation; 0 for no ban.
        trust_remote_code: Whether to run code that comes with the model.
        revision: The Hub model's commit, tag or branch.
        **translator: As for `TranslatorModule`.
    """

    HAS_FILES: ClassVar[bool] = True

    @check_ranges("model.")
    def __init__(
        self,
        model: str,
        source_code: str | None = None,
        target_code: str | None = None,
        prefix: str | None = None,
        num_beams: Annotated[int, Range(least=1, most=MOST_BEAMS)] = 4,
        max_new_tokens: Tokens = 256,
        max_length: Tokens = 256,
        no_repeat_ngram_size: NonNegativeInt = 0,
        trust_remote_code: bool = False,
        revision: str | None = None,
        **translator: Any,
    ) -> None:
        super().__init__(**translator)
        self.model_name = model
        self.source_code = source_code
        self.target_code = target_code
        self.prefix = prefix
        self.num_beams = num_beams
        self.max_new_tokens = max_new_tokens
        self.max_length = max_length
        self.no_repeat_ngram_size = no_repeat_ngram_size
        self.trust_remote_code = trust_remote_code
        self.revision = revision
        self.network: Any = None
        self._tokenizer: Any = None

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `TranslatorModule.identity`."""
        names = ("num_beams", "max_new_tokens", "max_length", "no_repeat_ngram_size")
        own = {name: vars(self)[name] for name in names}
        return {**super().identity(subcommand), **own, "prefix": self.source_prefix, "codes": self.language_codes}

    def check(self, subcommand: str) -> None:
        """See `TranslatorModule.check`.

        Raises:
            InputError: If there is no such model, or it does not know a language.
        """
        self.lead  # noqa: B018 - asks the tokenizer for both languages
        known = self._known
        trained = (known.get("source_language"), known.get("target_language"))
        asked = (self.source.code, self.target.code)
        if None not in trained and trained != asked:
            log.warning("model %s: fine-tuned from %s into %s, asked for %s into %s", self.model_name, *trained, *asked)

    @property
    def source_prefix(self) -> str:
        """What is put before every source."""
        return str(self._known.get("prefix", "")) if self.prefix is None else self.prefix

    @property
    def language_codes(self) -> tuple[str | None, str | None]:
        """What the model calls source and target, where that is not to be worked out."""
        known = self._known
        return self.source_code or known.get("source_code"), self.target_code or known.get("target_code")

    @cached_property
    def _known(self) -> dict[str, Any]:
        """What was written down when the model was fine-tuned here."""
        return card_facts(self.model_name)

    @property
    def tokenizer_name(self) -> str:
        """Where the tokenizer is."""
        return self.model_name

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(
                self.tokenizer_name, trust_remote_code=self.trust_remote_code, revision=self.revision
            )
        return self._tokenizer

    @cached_property  # a large vocabulary takes a while to list
    def lead(self) -> Lead:
        """Tell the tokenizer the source language; how the model is told the target language is returned."""
        return set_languages(self.tokenizer, self.source, self.target, *self.language_codes, self.model_name)

    def prefixed(self, texts: list[str]) -> list[str]:
        """The texts as the model wants them, before they become tokens."""
        return [f"{self.lead.text}{self.source_prefix}{text}" for text in texts]

    @property
    def longest_input(self) -> int:
        """`max_length`, or what the network can take where that is less."""
        return self.max_length

    def is_cut(self, prefixed: list[str]) -> list[bool]:
        """Whether each source has more tokens than the model is given."""
        return [len(ids) > self.longest_input for ids in self.tokenizer(prefixed)["input_ids"]]

    def decode(self, ids: list[int]) -> str:
        """Tokens to a text without special tokens, but for that of unknown pieces, which a gate looks for."""
        own = [token for token in ids if token not in self._left_out]
        return str(self.tokenizer.decode(own, skip_special_tokens=False)).strip()

    @cached_property
    def _left_out(self) -> set[int]:
        return {*self.tokenizer.all_special_ids, self.lead.first_token} - {self.tokenizer.unk_token_id}
