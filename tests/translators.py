"""Tiny sequence-to-sequence models that tests train and convert: an NLLB, and one of IndicTrans2's shape."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conftest import FILLERS, WORDS, labelled

LATIN = [*FILLERS, *(word for words in WORDS.values() for word in words)]
_SYLLABLES = ["का", "मे", "रु", "ती", "सो", "नप", "दि", "ले"]
# A made-up word of two syllables for every English one.
HINDI = {word: _SYLLABLES[at % 8] + _SYLLABLES[at // 8] for at, word in enumerate(LATIN)}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
Pairs = list[tuple[str, str]]


def pairs(count: int, seed: int) -> Pairs:
    """English sentences with their made-up translations, word by word."""
    texts = [row["text"] for row in labelled(count, seed)]
    return [(text, " ".join(HINDI[word] for word in text.split())) for text in texts]


def save_nllb(folder: Path, steps: int = 120) -> Path:
    """An NLLB with its own kind of tokenizer, trained until it ends by itself."""
    from tokenizers import SentencePieceBPETokenizer
    from transformers import NllbTokenizer

    inner = SentencePieceBPETokenizer()
    texts = [text for pair in pairs(400, 11) for text in pair]
    inner.train_from_iterator(texts, vocab_size=300, special_tokens=SPECIAL, show_progress=False)
    model = json.loads(inner._tokenizer.to_str())["model"]
    merges = [tuple(one) for one in model["merges"]]
    codes = ["eng_Latn", "hin_Deva"]
    tokenizer = NllbTokenizer(vocab=model["vocab"], merges=merges, additional_special_tokens=codes, src_lang="eng_Latn")
    tokenizer.tgt_lang = "hin_Deva"
    told = pairs(300, 12)
    sources = tokenizer([source for source, _ in told])["input_ids"]
    targets = tokenizer(text_target=[target for _, target in told])["input_ids"]
    network = _m2m(len(tokenizer))
    train(network, sources, targets, steps)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def convert(folder: Path, out: Path, *, tokenizer: bool = True, **options: Any) -> Path:
    """The same model for CTranslate2, with its tokenizer beside it unless told otherwise."""
    from ctranslate2.converters import TransformersConverter

    files = ["tokenizer.json", "tokenizer_config.json"] if tokenizer else []
    TransformersConverter(str(folder), copy_files=files).convert(str(out), **options)
    return out


def save_indictrans2(folder: Path, told: Pairs, tags: Sequence[str], steps: int = 0) -> Any:
    """A folder laid out like IndicTrans2's official weights: separate vocabularies, and SentencePiece models in `vocab`.

    Returns:
        The network that was converted, and the tokens of both sides, to compare with.
    """
    import sentencepiece
    from ctranslate2.converters.transformers import M2M100Loader

    (folder / "vocab").mkdir(parents=True)
    sides = []
    for name, texts in (("SRC", [one for one, _ in told]), ("TGT", [one for _, one in told])):
        file = folder / "vocab" / f"model.{name}"
        with file.open("wb") as stream:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts), model_writer=stream, vocab_size=120, hard_vocab_limit=False,
                character_coverage=1.0, minloglevel=2,
            )  # fmt: skip
        model = sentencepiece.SentencePieceProcessor(model_file=str(file))
        pieces = [model.id_to_piece(number) for number in range(3, model.get_piece_size())]
        sides.append((model, [*SPECIAL, *(tags if name == "SRC" else []), *pieces]))
    size = max(len(tokens) for _, tokens in sides)
    (source, source_tokens), (target, target_tokens) = (
        (model, [*tokens, *(f"madeupword{number}" for number in range(size - len(tokens)))]) for model, tokens in sides
    )
    network = _m2m(size)
    if steps:
        numbers = [{token: number for number, token in enumerate(tokens)} for tokens in (source_tokens, target_tokens)]
        train(
            network,
            [
                [numbers[0].get(one, 3) for one in [*tags, *source.encode(text, out_type=str), "</s>"]]
                for text, _ in told
            ],
            [[numbers[1].get(one, 3) for one in [*target.encode(text, out_type=str), "</s>"]] for _, text in told],
            steps,
        )
    spec = M2M100Loader().get_model_spec(network)
    spec.register_source_vocabulary(source_tokens)
    spec.register_target_vocabulary(target_tokens)
    spec.config.add_source_eos = True
    spec.config.decoder_start_token = "</s>"
    spec.validate()
    spec.optimize(quantization=None)
    spec.save(str(folder))
    return network, source_tokens, target_tokens


def _m2m(size: int) -> Any:
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    config = M2M100Config(
        vocab_size=size, d_model=48, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=96, decoder_ffn_dim=96, dropout=0.0, attention_dropout=0.0,
        activation_dropout=0.0, encoder_layerdrop=0.0, decoder_layerdrop=0.0, max_position_embeddings=128,
        pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return M2M100ForConditionalGeneration(config).eval()


def train(network: Any, sources: list[list[int]], targets: list[list[int]], steps: int) -> None:
    """A few steps of teacher forcing."""
    import torch

    def padded(rows: list[list[int]], value: int) -> Any:
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, value)

    rng, optimizer = random.Random(0), torch.optim.Adam(network.parameters(), lr=5e-3)
    network.train()
    for _ in range(steps):
        batch = rng.sample(range(len(sources)), 16)
        inputs = padded([sources[row] for row in batch], 1)
        labels = padded([targets[row] for row in batch], -100)
        network(input_ids=inputs, attention_mask=(inputs != 1).long(), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    network.eval()
