"""Generated tokens per second: our engine and batches against a plain loop as the paper's code runs it.

And one sampling step over a vocabulary of 262,144 tokens, against the library's nucleus, which sorts all of them.
"""

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import SentencePieceUnigramTokenizer
from torch import Tensor
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from labelbridge.datamodules.windows import BudgetSampler
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.generation.prompts import prompt_rows, read_spec
from labelbridge.modules import TransformersGenerator
from labelbridge.modules.sampling import DrawPerRow

TASK = Task("sentiment", ["text"], ["negative", "neutral", "positive"])
NEW_TOKENS, TEMPERATURE, TOP_P = 48, 1.5, 0.9


def run(full: bool = False) -> dict[str, float | int]:
    """Both write answers to the same prompts, of unequal length, with the same sampling settings and length limit."""
    count, size = (512, 64) if full else (96, 16)
    prompts = [*_prompts("product_reviews", count // 2), *_prompts("no_domain", count - count // 2)]
    with tempfile.TemporaryDirectory() as folder:
        model = _model(Path(folder))
        engine = TransformersGenerator(
            task=TASK,
            model=str(model),
            max_new_tokens=NEW_TOKENS,
            temperature=TEMPERATURE,
            top_p=TOP_P,
            dtype="float32",
        )
        engine.network = LlamaForCausalLM.from_pretrained(model).eval()
        _ours(engine, prompts[:8], size)  # warm up
        ours_tokens, ours = _ours(engine, prompts, size)
        peer_tokens, peer = _peer(engine, prompts, size)
    return {
        "ratio": (ours_tokens / ours) / (peer_tokens / peer), "tokens_per_s": ours_tokens / ours,
        "peer_tokens_per_s": peer_tokens / peer, "prompts": count, **_sampling_step(32),
    }  # fmt: skip


def _sampling_step(rows: int, vocabulary: int = 262_144, repeats: int = 5) -> dict[str, float | int]:
    """Seconds of one step for both, and how many of their draws are equal.

    Logits fall off with the logarithm of a token's rank, as those of a language model do: 0.9 of the probability takes
    a few hundred tokens.
    """
    rng = torch.Generator().manual_seed(0)
    ranks_BV = torch.stack([torch.randperm(vocabulary, generator=rng) for _ in range(rows)]) + 1.0
    scores_BV = -1.3 * ranks_BV.log() + 0.3 * torch.randn(rows, vocabulary, generator=rng)
    ids = [str(row) for row in range(rows)]
    draw = DrawPerRow(ids, 0, 1 + repeats, 1.0, 0, TOP_P)

    def peer(scores_BV: Tensor, uniform_B: Tensor) -> Tensor:
        kept_BV = TopPLogitsWarper(TOP_P)(None, TemperatureLogitsWarper(1.0)(None, scores_BV))
        cumulated_BV = kept_BV.softmax(dim=1).double().cumsum(dim=1)
        return torch.searchsorted(cumulated_BV, uniform_B[:, None] * cumulated_BV[:, -1:], right=True)[:, 0]

    seconds, equal = {"ours": 0.0, "peer": 0.0}, 0
    for step in range(1 + repeats):  # the first warms up
        began = time.perf_counter()
        ours_B = draw.draw(scores_BV)
        middle = time.perf_counter()
        peer_B = peer(scores_BV, draw.uniform_BT[:, step])
        if step:
            seconds["ours"] += (middle - began) / repeats
            seconds["peer"] += (time.perf_counter() - middle) / repeats
            equal += int((ours_B == peer_B).sum())
    return {
        "step_ratio": seconds["peer"] / seconds["ours"], "step_s": seconds["ours"], "peer_step_s": seconds["peer"],
        "equal_draws": equal / (repeats * rows),
    }  # fmt: skip


def _prompts(name: str, count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = prompt_rows(read_spec(name, TASK), TASK, count, 0).to_pylist()
    return rows


def _ours(engine: TransformersGenerator, prompts: list[dict[str, Any]], size: int) -> tuple[int, float]:
    """Batches of like length under a token budget that holds `size` of the longest."""
    lengths = np.array([(len(row["system"]) + len(row["user"])) // 3 + NEW_TOKENS for row in prompts])
    began, tokens = time.perf_counter(), 0
    for planned in BudgetSampler(lengths, int(lengths.max()) * size):
        batch = [prompts[row] for row in planned.rows]
        answers = engine.answer(*([row[name] for row in batch] for name in ("id", "system", "user", "completion")))
        tokens += sum(answers["n_tokens"])
    return tokens, time.perf_counter() - began


def _peer(engine: TransformersGenerator, prompts: list[dict[str, Any]], size: int) -> tuple[int, float]:
    """Random order, fixed batches padded to their longest prompt, the library's sampling and bigram block."""
    shuffled = random.Random(0).sample(prompts, len(prompts))  # noqa: S311 - an order
    config = GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=50,
        no_repeat_ngram_size=2, pad_token_id=3, eos_token_id=1, bos_token_id=0,
    )  # fmt: skip
    began, tokens = time.perf_counter(), 0
    for start in range(0, len(shuffled), size):
        batch = shuffled[start : start + size]
        inputs = engine.encode([row["system"] for row in batch], [row["user"] for row in batch])
        with torch.no_grad():
            written = engine.network.generate(**inputs, generation_config=config)[:, inputs["input_ids"].shape[1] :]
        engine.tokenizer.batch_decode(written, skip_special_tokens=True)
        for row in written.tolist():
            tokens += row.index(1) if 1 in row else len(row)
    return tokens, time.perf_counter() - began


def _model(folder: Path) -> Path:
    inner = SentencePieceUnigramTokenizer()
    texts = [row[name] for row in _prompts("product_reviews", 300) for name in ("system", "user")]
    special = ["<s>", "</s>", "<unk>", "<pad>"]
    inner.train_from_iterator(texts, vocab_size=300, special_tokens=special, unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner._tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )  # fmt: skip
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32_000,
            hidden_size=256,
            num_hidden_layers=4,
            num_attention_heads=8,
            intermediate_size=688,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=3,
        )
    ).save_pretrained(folder)
    return folder
