"""Modules that translate: the contract that all engines share."""

# B = texts of a batch

import logging
from typing import Any, ClassVar

import torch

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.languages import language
from labelbridge.lightning_app.core.ranges import Seed, check_ranges
from labelbridge.lightning_app.protocols import StepRows, TextBatch, batch_rows

from .base import StageModuleBase
from .generator import completed, written_counts

log = logging.getLogger(__name__)
MOST_FAILURES = 8  # texts, one after the other, until it is the engine that is broken

Translations = dict[str, list[Any]]


class TranslatorModule(StageModuleBase):
    """What all engines share: `predict` gives each text its `translation`, `finish`, `error` and `n_tokens`.

    An engine of your own subclasses this and gives `translate`; nothing else is required.

    `test` does the same with the sources of sentence pairs, and their translations are scored.
    `finish` is `stop` or `length` (cut at the limit). A text that the engine fails on has no translation, and its
    reason in `error`; it never takes its batch along, and never gets a neighbour's translation.

    Args:
        target_language: Code of the language to translate into: ISO 639, perhaps with a script (`hi`, `hi-Latn`).
        source_language: Code of the language of the texts.
        seed: Seed of whatever an engine draws; linked to `seed_everything`.
    """

    HAS_FILES: ClassVar[bool] = False

    @check_ranges("model.")
    def __init__(self, target_language: str, source_language: str = "en", seed: Seed = 0) -> None:
        super().__init__()
        self.source = language(source_language, "model.source_language")
        self.target = language(target_language, "model.target_language")
        if (self.source.base, self.source.script) == (self.target.base, self.target.script):
            raise InputError(
                f"model.target_language is {target_language}, expected another language or script than "
                f"model.source_language, which is {source_language}; change one of the two"
            )
        self.seed = seed
        self.model_name = type(self).__name__  # an engine without a model is named by its class
        self._failed_in_a_row = 0

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this module determines the rows that a run writes; JSON values."""
        languages = {"source": self.source.code, "target": self.target.code}
        return {**super().identity(subcommand), **languages}

    def facts(self) -> dict[str, Any]:
        """What the manifest says of the engine."""
        return {"source_language": self.source.code, "target_language": self.target.code}

    def predict_step(self, batch: TextBatch, batch_idx: int) -> StepRows:
        """Translations of a batch of texts."""
        translations = self.translate_or_say_why(batch["text"])
        return batch_rows(batch, translations, written_counts(batch, translations["n_tokens"]))

    def test_step(self, batch: TextBatch, batch_idx: int) -> StepRows:
        """Rows out, as in predict; the scores are computed from the written rows."""
        return self.predict_step(batch, batch_idx)

    def translate_or_say_why(self, texts: list[str]) -> Translations:
        """Translate a batch; where that fails, its halves, down to the texts that are to blame.

        Raises:
            InputError: If every text of a larger batch fails, or `MOST_FAILURES` texts one after the other: then it is
                not the texts.
        """
        failures: list[str] = []
        found = self._in_halves(texts, failures)
        if len(failures) == len(texts) > 1:
            raise InputError(
                f"{type(self).__name__}: all {len(texts)} texts of a batch failed, the first with {failures[0]}; mend "
                "that and run the same command again, it resumes"
            )
        return found

    def translate(self, texts: list[str]) -> Translations:
        """Translate texts; given by the engines.

        Args:
            texts: The texts.

        Returns:
            `translation`, a text or None for each, and columns of the engine's own. `finish`, `error` and `n_tokens`
            are optional: by default a translation is finished, and its words are counted.
        """
        raise NotImplementedError

    def _in_halves(self, texts: list[str], failures: list[str]) -> Translations:
        try:
            found = completed(self.translate(texts), "translation", len(texts))
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an engine raises
            reason = _one_line(error)
        else:
            self._failed_in_a_row = 0
            return found
        # Outside `except`: the traceback of the failed attempt, which holds the tensors of all its texts, is gone now.
        torch.cuda.empty_cache()  # does nothing where CUDA is not in use
        if len(texts) > 1:
            middle = len(texts) // 2
            return _joined(*(self._in_halves(half, failures) for half in (texts[:middle], texts[middle:])))
        failures.append(reason)
        self._failed_in_a_row += 1
        log.warning("a text of %d characters failed: %s", len(texts[0]), reason)
        if self._failed_in_a_row >= MOST_FAILURES:
            raise InputError(
                f"{type(self).__name__}: {self._failed_in_a_row} texts in a row failed, the last with {reason}; mend "
                "that and run the same command again, it resumes (--overwrite=true tries the failed texts again)"
            )
        return {"translation": [None], "finish": ["error"], "error": [reason], "n_tokens": [0]}


def _joined(first: Translations, second: Translations) -> Translations:
    names = dict.fromkeys([*first, *second])
    return {
        name: [one for half in (first, second) for one in half.get(name, [None] * len(half["error"]))] for name in names
    }


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
