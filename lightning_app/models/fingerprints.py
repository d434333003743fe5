"""What a model is, in one line: the SHA-256 of its files, or its commit on the Hub; and whether it is up to date."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ..core import fingerprint
from ..core.artifacts import check_fresh, is_whole, read_manifest
from ..core.errors import InputError
from ..core.files import check_regular
from ..core.paths import find
from ..stages import BY_NAME
from .loading import loading
from .locate import ADAPTER, CONVERTED, adapter_base, adapter_base_revision, card_facts, gguf_file, locate

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", CONVERTED)
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model",
    "sentencepiece*.model", "*.spm", "*vocabulary.json", "*vocabulary.txt", "vocab/model.SRC", "model.SRC",
)  # fmt: skip


def model_fingerprint(name: str, revision: str | None = None) -> str:
    """SHA-256 of a local model's weights, configuration and tokenizer; a Hub model is named by its commit.

    Args:
        name: A local folder, a GGUF file, a Hub id, or `bundled`.
        revision: The Hub model's commit, tag or branch.
    """
    file = gguf_file(name)
    if file is not None:
        check_regular(file)
        with file.open("rb") as stream:
            return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    located = Path(locate(name))
    if located.is_dir():
        own = fingerprint.of_files(model_files(located))
        base = adapter_base(name)
        return (
            own if base is None else fingerprint.of_value([own, model_fingerprint(base, adapter_base_revision(name))])
        )
    from transformers import AutoConfig

    with loading(name, remedy="check the name, or give a local folder"):
        config = AutoConfig.from_pretrained(name, revision=revision)
    return f"hub:{name}@{getattr(config, '_commit_hash', None)}"


def check_different(names: Sequence[str], place: str, revision: str | None = None) -> None:
    """Refuse models of which two are one and the same, wherever they lie: a copy adds nothing to a mean.

    Args:
        names: As for `model_fingerprint`.
        place: The setting that names them.
        revision: The Hub revision of the first one.

    Raises:
        InputError: Names the two.
    """
    first: dict[str, str] = {}
    for number, name in enumerate(names):
        print_ = model_fingerprint(name, None if number else revision)
        if print_ in first:
            raise InputError(
                f"{place}: {name} is the same model as {first[print_]}, expected different ones; leave one of them out"
            )
        first[print_] = name


def model_files(folder: Path) -> list[Path]:
    """The files that a local model consists of: weights, configuration and tokenizer."""
    return _matching(folder, (*_WEIGHTS, "config.json", ADAPTER, *_TOKENIZER))


def tokenizer_fingerprint(name: str, revision: str | None = None) -> str:
    """SHA-256 of a local tokenizer's files, without a model's weights; a Hub tokenizer is named by its commit."""
    folder = find(name)
    return model_fingerprint(name, revision) if folder is None else fingerprint.of_files(_matching(folder, _TOKENIZER))


def check_base(name: str) -> None:
    """Refuse a LoRA adapter whose base model, a local folder, has been made anew since the adapter was trained on it.

    Raises:
        InputError: If the weights, configuration or tokenizer of the base are others.
    """
    base, recorded = adapter_base(name), card_facts(name).get("base_fingerprint")
    if base is not None and recorded is not None and find(base) is not None and model_fingerprint(base) != recorded:
        raise InputError(
            f"{name}: its base model {base} is another one than it was trained on; put that back, or train again with "
            f'"{BY_NAME["codemix"].line}"'
        )


def check_model_fresh(name: str) -> None:
    """Refuse the model of a fit whose gold, selection or base has been made anew since.

    Raises:
        InputError: See `core.artifacts.check_fresh`.
    """
    folder = Path(locate(name)).parent
    if Path(locate(name)).name == "model" and is_whole(folder):
        check_fresh(folder, read_manifest(folder))


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return [file for pattern in patterns for file in folder.glob(pattern)]
