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


def save_m2m100(folder: Path) -> Path:
    """An M2M100 of one layer a side with its own tokenizer, which is in plain Python."""
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration, M2M100Tokenizer

    pieces, spm = _save_pieces(folder)
    vocab = folder / "vocab.json"
    vocab.write_text(json.dumps({token: at for at, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *pieces])}))
    tokenizer = M2M100Tokenizer(str(vocab), str(spm))
    tokenizer.save_pretrained(folder)
    size = max(tokenizer.lang_token_to_id.values()) + 9
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = M2M100Config(**_settings(size), decoder_start_token_id=2)
        M2M100ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def save_marian(folder: Path) -> Path:
    """An OPUS-MT of one layer a side with its own tokenizer, which is in plain Python."""
    import torch
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    pieces, spm = _save_pieces(folder)
    tokens = ["</s>", "<unk>", *pieces, "<pad>"]
    vocab = folder / "vocab.json"
    vocab.write_text(json.dumps({token: at for at, token in enumerate(tokens)}))
    MarianTokenizer(str(spm), str(spm), str(vocab)).save_pretrained(folder)
    pad = len(tokens) - 1
    special = {"pad_token_id": pad, "eos_token_id": 0, "decoder_start_token_id": pad, "forced_eos_token_id": 0}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        MarianMTModel(MarianConfig(**_settings(len(tokens)), **special)).save_pretrained(folder)
    return folder


def _save_pieces(folder: Path) -> tuple[list[str], Path]:
    """A SentencePiece model of both languages, and its pieces without special ones."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pieces.spm"
    texts = [row[side] for row in pairs(200) for side in ("source", "target")]
    with file.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=stream, vocab_size=60, hard_vocab_limit=False,
            character_coverage=1.0, minloglevel=2,
        )  # fmt: skip
    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    return [model.id_to_piece(at) for at in range(3, model.get_piece_size())], file


def _settings(size: int) -> dict[str, Any]:
    return {
        "vocab_size": size, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 128,
        "init_std": 0.5,
    }  # fmt: skip
