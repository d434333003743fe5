"""Texts to token ids, and what the tokenizer made of them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property, reduce
from itertools import chain
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa

log = logging.getLogger(__name__)

UNKNOWN_WARNING = 0.1
CHUNK_ROWS = 10_000


@dataclass(frozen=True)
class TokenStats:
    """How well a tokenizer fits a set of rows.

    Args:
        rows: Number of rows.
        truncated: Rows that were longer than `max_length` tokens.
        tokens: Tokens that stand for text.
        unknown: Those of them that are `[UNK]`.
        words: Whitespace-separated words.
    """

    rows: int
    truncated: int
    tokens: int
    unknown: int
    words: int

    def __add__(self, other: "TokenStats") -> "TokenStats":
        return TokenStats(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    @property
    def unknown_rate(self) -> float:
        """Share of `[UNK]` among the tokens that stand for text, 0 to 1."""
        return self.unknown / max(self.tokens, 1)

    @property
    def tokens_per_word(self) -> float:
        """Tokens that stand for text, per word."""
        return self.tokens / max(self.words, 1)

    def report(self, name: str) -> None:
        """Log the numbers, and warn where the tokenizer does not know the language."""
        log.info(
            "%s: %d rows, %d truncated, %.1f %% unknown tokens, %.2f tokens a word",
            name, self.rows, self.truncated, 100 * self.unknown_rate, self.tokens_per_word,
        )  # fmt: skip
        if self.unknown_rate > UNKNOWN_WARNING:
            log.warning(
                "%s: %.0f %% of its tokens are unknown to the tokenizer, which hides much of the text from the model; "
                "use an encoder trained on this language",
                name, 100 * self.unknown_rate,
            )  # fmt: skip

    def as_metrics(self, name: str) -> dict[str, float]:
        """The numbers by name."""
        shown = ("rows", "truncated", "unknown_rate", "tokens_per_word")
        return {f"{name}/{key}": float(getattr(self, key)) for key in shown}


@dataclass(frozen=True)
class Encoded:
    """Token ids of every row, unpadded and end to end.

    Args:
        features: Feature name (`input_ids`, perhaps `token_type_ids`) -> all rows' values, int32 of shape (sum of
            lengths,).
        lengths: Tokens of every row; int64 of shape (N,).
        stats: What the tokenizer made of the texts.
    """

    features: dict[str, np.ndarray]
    lengths: np.ndarray
    stats: TokenStats

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each row begins in the features; int64 of shape (N + 1,)."""
        return np.concatenate([[0], np.cumsum(self.lengths)])


def token_columns(encoded: Encoded, tokenizer: Any) -> dict[str, pa.Array]:
    """Each row's length in tokens, as the model reads it, and the share of `[UNK]` among those that stand for text."""
    ids = encoded.features["input_ids"]
    row_of_token = np.repeat(np.arange(len(encoded.lengths)), encoded.lengths)
    is_unknown = ids == tokenizer.unk_token_id
    is_text = is_unknown | ~np.isin(ids, tokenizer.all_special_ids)
    unknown_N, text_N = (np.bincount(row_of_token, mark, len(encoded.lengths)) for mark in (is_unknown, is_text))
    return {"tokens": pa.array(encoded.lengths), "unknown_rate": pa.array(unknown_N / np.maximum(text_N, 1))}


def joined(sets: Sequence[Encoded]) -> Encoded:
    """The rows of several sets, end to end."""
    filled = [one for one in sets if len(one.lengths)]
    features = {key: np.concatenate([one.features[key] for one in filled]) for key in (filled or sets)[0].features}
    stats = reduce(add, (one.stats for one in sets))
    return Encoded(features, np.concatenate([one.lengths for one in sets]), stats)


def encode(
    table: pa.Table,
    columns: Sequence[str],
    tokenizer: Any,
    max_length: int,
    *,
    as_target: bool = False,
    text_alone: bool = False,
) -> Encoded:
    """Tokenize all rows, without padding.

    Args:
        table: Rows with these text columns.
        columns: One text column is encoded alone, two as a pair.
        tokenizer: A Hugging Face tokenizer.
        max_length: Longer rows are cut, of a pair the longer side first.
        as_target: Encode as what a sequence-to-sequence model is to write, not as what it reads.
        text_alone: Take a special token that a text spells out for text.
    """
    features: dict[str, list[np.ndarray]] = {}
    lengths: list[int] = []
    truncated = unknown = content = words = 0
    for start in range(0, table.num_rows, CHUNK_ROWS):
        texts = [table[name].slice(start, CHUNK_ROWS).to_pylist() for name in columns]
        given = {"text_target": texts[0]} if as_target else dict(zip(("text", "text_pair"), texts, strict=False))
        batch = tokenizer(
            **given, truncation=True, max_length=max_length, return_special_tokens_mask=True,
            **({"split_special_tokens": True} if text_alone else {}),
        )  # fmt: skip
        special = batch.pop("special_tokens_mask")
        batch.pop("attention_mask", None)
        for key, rows in batch.items():
            features.setdefault(key, []).append(np.fromiter(chain.from_iterable(rows), dtype=np.int32))
        lengths += [len(ids) for ids in batch["input_ids"]]
        truncated += _count_truncated(batch, tokenizer, given, max_length)
        unknown += sum(ids.count(tokenizer.unk_token_id) for ids in batch["input_ids"])
        content += sum(len(mask) - sum(mask) for mask in special)
        words += sum(len(text.split()) for column in texts for text in column)
    stats = TokenStats(table.num_rows, truncated, content, unknown, words)
    flat = {key: np.concatenate(chunks) for key, chunks in features.items()}
    return Encoded(flat, np.array(lengths, dtype=np.int64), stats)


def _count_truncated(batch: Any, tokenizer: Any, given: Mapping[str, Any], max_length: int) -> int:
    """How many rows were cut; a tokenizer in plain Python (M2M100's, Marian's) does not tell, so it is asked again."""
    if batch.encodings is not None:
        return sum(bool(encoding.overflowing) for encoding in batch.encodings)
    return sum(len(ids) > max_length for ids in tokenizer(**given, verbose=False)["input_ids"])
