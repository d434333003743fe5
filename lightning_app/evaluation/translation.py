"""Scores of written translations against their references."""

from typing import Any

import numpy as np
import pyarrow as pa

from ..core.errors import InputError
from ..core.packages import require


def translation_metrics(table: pa.Table, target: str) -> dict[str, dict[str, Any]]:
    """BLEU and chrF (sacrebleu's, 0 to 100) of each set of pairs.

    A row without a translation counts as an empty one. BLEU cuts words as sacrebleu does for the target language (13a
    for most), which knows nothing of the danda or of scripts without spaces; chrF counts characters and needs no words.

    Args:
        table: Columns `set`, `reference`, `translation`.
        target: ISO 639-1 code of the target language.

    Returns:
        Set -> `rows`, `bleu`, `chrf`, `empty` (rows without a translation), and the signatures that say how they were
        computed; sets in order of first appearance.
    """
    metrics = import_sacrebleu().metrics
    sets = np.asarray(table["set"].to_pylist())
    written = np.asarray([text or "" for text in table["translation"].to_pylist()], dtype=object)
    references = np.asarray(table["reference"].to_pylist(), dtype=object)
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(sets.tolist()):
        own = sets == name
        bleu, chrf = bleu_of(target), metrics.CHRF()
        texts, truth = written[own].tolist(), [references[own].tolist()]
        found[name] = {
            "rows": float(len(texts)),
            "bleu": float(bleu.corpus_score(texts, truth).score),
            "chrf": float(chrf.corpus_score(texts, truth).score),
            "empty": float(sum(not text.strip() for text in texts)),
            "bleu_signature": str(bleu.get_signature()),
            "chrf_signature": str(chrf.get_signature()),
        }
    return found


def bleu_of(target: str) -> Any:
    """BLEU of sacrebleu, with the words that it cuts the target language into.

    Args:
        target: ISO 639 code of the target language.

    Raises:
        InputError: If sacrebleu is not installed, or what cuts this language's words is not.
    """
    try:
        return import_sacrebleu().metrics.BLEU(trg_lang=target)
    except (RuntimeError, ImportError):
        raise InputError(
            f"BLEU: sacrebleu lacks what cuts '{target}' into words; pip install 'sacrebleu[{target}]'"
        ) from None


def import_sacrebleu() -> Any:
    """The package that computes the scores.

    Raises:
        InputError: If it is not installed.
    """
    return require("sacrebleu", "translation", "BLEU and chrF")
