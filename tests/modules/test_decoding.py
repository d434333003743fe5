"""Rows that have ended leave the batch, and nothing of what is written changes."""

from typing import Any

import pytest
import torch
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from labelbridge.modules.decoding import generate
from labelbridge.modules.sampling import BigramBlock, DrawPerRow

ROWS, VOCABULARY, NEW = 24, 40, 30
END = [1, 7]
COMMON = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0, "eos_token_id": 1}
ATTENTION = {**COMMON, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
NETWORKS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**ATTENTION)),
    "sliding window": (MistralForCausalLM, MistralConfig(**ATTENTION, sliding_window=6)),
    "no key-value cache": (MambaForCausalLM, MambaConfig(**COMMON, state_size=4)),
}


def network_of(kind: str) -> Any:
    made, config = NETWORKS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return made(config).eval().double()


def inputs_of(rows: int = ROWS) -> dict[str, torch.Tensor]:
    """Prompts of two to nine tokens, padded on the left."""
    ids = torch.randint(8, VOCABULARY, (rows, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for row in range(rows):
        mask[row, : row % 8] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def config_of() -> GenerationConfig:
    return GenerationConfig(max_new_tokens=NEW, do_sample=False, pad_token_id=0, eos_token_id=END)


def processors(rows: list[int], so_far: int) -> LogitsProcessorList:
    draw = DrawPerRow([str(row) for row in rows], 0, NEW, temperature=1.5, top_p=0.95, step=so_far)
    return LogitsProcessorList([BigramBlock(9), draw])


def up_to_the_end(tokens: list[int]) -> list[int]:
    stop = next((place for place, token in enumerate(tokens) if token in END), len(tokens))
    return tokens[: stop + 1]


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_texts_are_those_of_one_call_of_generate(kind: str):
    network, inputs = network_of(kind), inputs_of()
    with torch.no_grad():
        expected = network.generate(
            **inputs, generation_config=config_of(), logits_processor=processors(list(range(ROWS)), 0)
        )[:, 9:].tolist()
        written = generate(network, inputs, processors, config_of())
    lengths = {len(up_to_the_end(row)) for row in expected}
    assert len(lengths) > 5
    assert max(lengths) == NEW
    assert [up_to_the_end(row) for row in written] == [up_to_the_end(row) for row in expected]


def test_rows_that_have_ended_are_not_computed():
    network, inputs = network_of("llama"), inputs_of()
    rows: list[int] = []
    network.register_forward_pre_hook(lambda _, __, named: rows.append(len(named["input_ids"])), with_kwargs=True)
    with torch.no_grad():
        written = generate(network, inputs, processors, config_of())
    needed = sum(len(up_to_the_end(row)) for row in written)
    assert rows == sorted(rows, reverse=True)
    assert needed <= sum(rows) <= 2 * needed
    assert sum(rows) < ROWS * NEW


def test_a_single_row_is_written():
    network, inputs = network_of("llama"), inputs_of(1)
    with torch.no_grad():
        (written,) = generate(network, inputs, processors, config_of())
    assert 1 <= len(written) <= NEW
