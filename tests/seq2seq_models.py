"""Tiny sequence-to-sequence models with random weights, and sentence pairs, for the tests of translators."""

import json
import random
from pathlib import Path
from typing import Any

NOUNS = {"dog": "kutta", "cat": "billi", "boy": "ladka", "girl": "ladki", "man": "aadmi", "cook": "bawarchi"}
VERBS = {"sees": "dekhta", "hears": "sunta", "calls": "bulata", "likes": "chahta", "feeds": "khilata"}


def pairs(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Sentences of two to six words in a made-up language, word for word with the verb at the end."""
    rng = random.Random(seed)
    rows = []
    for row in range(count):
        one, other, verb = rng.choice(list(NOUNS)), rng.choice(list(NOUNS)), rng.choice(list(VERBS))
        more = rng.randint(0, 2)
        source = " ".join([one, verb, other, *["and", one] * more])
        target = " ".join([NOUNS[one], NOUNS[other], *["aur", NOUNS[one]] * more, VERBS[verb], "hai"])
        rows.append({"id": f"pair/{seed}/{row}", "source": source, "target": target})
    return rows


def write_pairs(path: Path, count: int, seed: int = 0, **names: str) -> Path:
    """Pairs as JSON lines, their columns under other names if asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{names.get(key, key): value for key, value in row.items()} for row in pairs(count, seed)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def save_t5(folder: Path, **config: Any) -> Path:
    """A T5 of one layer a side, with a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    words = ["and", "aur", "hai", "mix", ":", *NOUNS, *NOUNS.values(), *VERBS, *VERBS.values()]
    vocab = ["<pad>", "</s>", "<unk>", *words]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(vocab)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip
    settings = {
        "vocab_size": len(vocab), "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2,
        "decoder_start_token_id": 0, "dropout_rate": 0.1, "initializer_factor": 3.0, **config,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        T5ForConditionalGeneration(T5Config(**settings)).save_pretrained(folder)
    return folder


def save_nllb(folder: Path) -> Path:
    """An NLLB of one layer a side, one token a letter, that knows English, Hindi and Marathi."""
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    letters = dict.fromkeys("abcdefghijklmnopqrstuvwxyz▁:")
    vocab = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters])}
    codes = ["eng_Latn", "hin_Deva", "mar_Deva"]
    tokenizer = NllbTokenizer(vocab=vocab, merges=[], src_lang="eng_Latn", additional_special_tokens=codes)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = M2M100Config(
            vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=128,
            decoder_start_token_id=2, init_std=0.5,
        )  # fmt: skip
        M2M100ForConditionalGeneration(config).save_pretrained(folder)
    return folder
