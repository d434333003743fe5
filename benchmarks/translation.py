"""Sentences translated a second: CTranslate2 against transformers on the same weights, and two ways to cut batches."""

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from ctranslate2.converters import TransformersConverter
from tokenizers import SentencePieceBPETokenizer
from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

from labelbridge.datamodules.texts import CHARACTERS_PER_TOKEN
from labelbridge.datamodules.windows import plan_by_budget
from labelbridge.lightning_app.core.paths import PROJECT
from labelbridge.modules import CTranslate2Translator, TransformersTranslator
from labelbridge.modules.sequence_translator import SequenceTranslator

SAMPLES = ("gold/train", "gold/dev", "gold/test", "pool/train")
BUDGET = 1024  # characters / 3 of a batch, padding included
NEW_TOKENS, STEPS, ROUNDS = 64, 300, 4
SHAPES = {"600m": (12, 4096), "1.3b": (24, 8192)}  # NLLB-200's layers a side and feed-forward width
SYLLABLES = ["का", "मे", "रि", "तो"]
Plan = list[np.ndarray]


def run(full: bool = False) -> dict[str, Any]:
    """Greedy, float32, the same batches; then the transformers engine alone, on two plans of the same memory.

    With CUDA also NLLB's shapes in float16 with random weights, which never end by themselves: 64 tokens each.
    """
    texts = sample_texts()
    texts = random.Random(0).sample(texts, len(texts))  # noqa: S311 - an order
    chosen = texts[:800] if full else texts[:240]
    with tempfile.TemporaryDirectory() as folder:
        model, converted = Path(folder) / "model", Path(folder) / "converted"
        save_model(model, texts)
        TransformersConverter(str(model)).convert(str(converted))
        peer = load_peer(model, torch.device("cpu"))
        ours = load_ours(converted, model, torch.device("cpu"))
        lengths = np.array([1 + len(text) // CHARACTERS_PER_TOKEN for text in chosen])
        plan = plan_by_budget(lengths, BUDGET)
        figures = {**compare(ours, peer, chosen, plan), **compare_plans(peer, chosen, plan, lengths)}
        if torch.cuda.is_available():
            for name, shape in SHAPES.items():
                figures |= on_cuda(Path(folder) / name, name, shape, texts)
    return figures


def compare(ours: SequenceTranslator, peer: SequenceTranslator, texts: list[str], plan: Plan) -> dict[str, Any]:
    """Both translate the same batches, in turn; `identical`: text, tokens and finish of every one."""
    found, written = translate(ours, texts, plan), translate(peer, texts, plan)  # warms up
    ours_s, peer_s = timed(lambda: translate(ours, texts, plan), lambda: translate(peer, texts, plan))
    return {
        "ratio": peer_s / ours_s,
        "identical": found == written,
        "sentences_per_s": len(texts) / ours_s,
        "peer_sentences_per_s": len(texts) / peer_s,
        "sentences": len(texts),
        "tokens_per_sentence": statistics.mean(one[1] for one in found),
        "ended": statistics.mean(one[2] == "stop" for one in found),
    }


def compare_plans(engine: SequenceTranslator, texts: list[str], plan: Plan, lengths: np.ndarray) -> dict[str, float]:
    """A budget of tokens, against as many texts a batch, in file order, as the longest text leaves room for."""
    size = max(1, BUDGET // int(lengths.max()))
    fixed = [np.arange(start, min(start + size, len(texts))) for start in range(0, len(texts), size)]
    ours_s, peer_s = timed(lambda: translate(engine, texts, plan), lambda: translate(engine, texts, fixed))
    return {"budget_ratio": peer_s / ours_s, "budget_batches": len(plan), "fixed_batches": len(fixed)}


def on_cuda(folder: Path, name: str, shape: tuple[int, int], texts: list[str]) -> dict[str, float]:
    """A random model of NLLB's shape in float16 on the first GPU: sentences/s of both engines, and their ratio."""
    layers, width = shape
    save_model(
        folder / "model", texts, steps=0, vocab_size=256_206, d_model=1024, encoder_layers=layers,
        decoder_layers=layers, encoder_attention_heads=16, decoder_attention_heads=16, encoder_ffn_dim=width,
        decoder_ffn_dim=width, max_position_embeddings=1024,
    )  # fmt: skip
    TransformersConverter(str(folder / "model")).convert(str(folder / "converted"), quantization="float16")
    device = torch.device("cuda", 0)
    peer = load_peer(folder / "model", device, dtype="float16")
    ours = load_ours(folder / "converted", folder / "model", device, compute_type="float16")
    plan = plan_by_budget(np.array([1 + len(text) // CHARACTERS_PER_TOKEN for text in texts]), 4 * BUDGET)
    for engine in (ours, peer):
        translate(engine, texts, plan[:1])
    ours_s, peer_s = timed(lambda: translate(ours, texts, plan), lambda: translate(peer, texts, plan))
    return {
        f"ratio_{name}": peer_s / ours_s,
        f"sentences_per_s_{name}": len(texts) / ours_s,
        f"peer_sentences_per_s_{name}": len(texts) / peer_s,
    }


def translate(engine: SequenceTranslator, texts: list[str], plan: Plan) -> list[tuple[str, int, str]]:
    """Translation, its tokens and its finish, of each planned text, in the order of the texts."""
    found: dict[int, tuple[str, int, str]] = {}
    for rows in plan:
        done = engine.translate([texts[row] for row in rows])
        told = zip(done["translation"], done["n_tokens"], done["finish"], strict=True)
        found |= dict(zip(rows.tolist(), told, strict=True))
    return [found[row] for row in sorted(found)]


def timed(*works: Callable[[], object]) -> list[float]:
    """Seconds of each work: the best of rounds in which all take turns, so that a busy machine disturbs least."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for own, work in zip(seconds, works, strict=True):
            began = time.perf_counter()
            work()
            own.append(time.perf_counter() - began)
    return [min(own) for own in seconds]


def load_ours(converted: Path, model: Path, device: torch.device, **settings: Any) -> CTranslate2Translator:
    """The ctranslate2 engine, with the original model's tokenizer."""
    engine = CTranslate2Translator(
        model=str(converted), tokenizer=str(model), target_language="hi", num_beams=1, max_new_tokens=NEW_TOKENS,
        **settings,
    )  # fmt: skip
    engine.check("predict")
    engine.load(device)
    return engine


def load_peer(model: Path, device: torch.device, **settings: Any) -> TransformersTranslator:
    """The transformers engine."""
    engine = TransformersTranslator(
        model=str(model), target_language="hi", num_beams=1, max_new_tokens=NEW_TOKENS, **settings
    )
    engine.check("predict")
    engine.configure_model()
    engine.to(device)
    return engine


def sample_texts() -> list[str]:
    """The different texts of the bundled sample."""
    files = [PROJECT / "samples/sentiment" / f"{name}.jsonl" for name in SAMPLES]
    rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return list(dict.fromkeys(row["text"] for row in rows))


def save_model(folder: Path, texts: Sequence[str], steps: int = STEPS, **shape: Any) -> None:
    """An NLLB of a given shape, small by default, taught for some steps to write a syllable for every word."""
    tokenizer = _tokenizer(texts)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer), "d_model": 128, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 512, "decoder_ffn_dim": 512,
        "max_position_embeddings": 256, **shape,
    }  # fmt: skip
    torch.manual_seed(0)
    network = M2M100ForConditionalGeneration(
        M2M100Config(
            **settings, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, encoder_layerdrop=0.0,
            decoder_layerdrop=0.0, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
        )
    )  # fmt: skip
    _teach(network, tokenizer, texts, steps)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(texts: Sequence[str]) -> NllbTokenizer:
    inner = SentencePieceBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    told = [*texts, *map(_syllables, texts)]
    inner.train_from_iterator(told, vocab_size=2000, special_tokens=special, show_progress=False)
    model = json.loads(inner._tokenizer.to_str())["model"]
    tokenizer = NllbTokenizer(
        vocab=model["vocab"], merges=[tuple(one) for one in model["merges"]],
        additional_special_tokens=["eng_Latn", "hin_Deva"], src_lang="eng_Latn",
    )  # fmt: skip
    tokenizer.tgt_lang = "hin_Deva"
    return tokenizer


def _syllables(text: str) -> str:
    """What the model is taught to write: one of four syllables for each word."""
    return " ".join(SYLLABLES[crc32(word.encode()) % len(SYLLABLES)] for word in text.split())


def _teach(network: Any, tokenizer: NllbTokenizer, texts: Sequence[str], steps: int) -> None:
    sources = tokenizer(list(texts))["input_ids"]
    targets = tokenizer(text_target=[_syllables(text) for text in texts])["input_ids"]
    rng = random.Random(0)  # noqa: S311 - an order
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, max(steps, 1))
    network.train()
    for _ in range(steps):
        rows = rng.sample(range(len(texts)), 16)
        inputs, labels = (
            torch.nn.utils.rnn.pad_sequence([torch.tensor(side[row]) for row in rows], True, value)
            for side, value in ((sources, 1), (targets, -100))
        )
        network(input_ids=inputs, attention_mask=(inputs != 1).long(), labels=labels).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    network.eval()
