"""Classifiers of the transformers library that take no time, with random weights."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

PADDING = 1  # the token


def network_of(kind: str, **settings: Any) -> Any:
    """A classifier of a type, of two layers, that knows 60 tokens and 40 positions; the same weights in every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(
            kind, vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=40, type_vocab_size=2, num_labels=3, pad_token_id=PADDING,
            **{"initializer_range": 0.5, **settings},
        )  # fmt: skip
        return AutoModelForSequenceClassification.from_config(config).eval()
