"""Models at the door: what cannot be loaded is one line, and tokenizer and network are checked against each other."""

import inspect
import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.errors import InputError, shorten
from ..core.hub import prepare_hub
from ..core.paths import find
from .locate import locate

# Files of which a tokenizer is made; without any, the transformers library makes an empty one without a word.
TOKENIZER_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.spm", "*.tiktoken", "tokenizer.model.v*", "*.vocab",
    "tekken.json", "*.bpe.codes",
)  # fmt: skip
# Types of networks that number positions from the padding token on, so that they take fewer tokens than they have
# positions, and read a token with the padding's number as padding.
_POSITIONS_AFTER_PADDING = (
    "camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mluke", "mpnet", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
_FLOATS = ("F64", "F32", "F16", "BF16")


@contextmanager
def loading(name: str, what: str = "", remedy: str = "give a local folder or a Hub id") -> Iterator[None]:
    """Load a model or a part of it, and turn whatever a library raises meanwhile into one line.

    Args:
        name: The model's name.
        what: The part of it that is loaded, such as `its tokenizer`.
        remedy: The end of the line.

    Raises:
        InputError: If anything else is raised inside.
    """
    is_elsewhere = find(locate(name)) is None and not prepare_hub()
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - the libraries raise a score of unrelated types
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        if "ignore_mismatched_sizes" in str(error):  # an option of the library's, which is no help here
            kind, error = "", ValueError("its weights are of other shapes than its config.json says")
        reason = shorten(kind + (" ".join(str(error).split()) or type(error).__name__), 160)[1:-1]
        offline = "; the Hub cannot be reached" if is_elsewhere else ""
        raise InputError(
            f"model {name}: {what + ' ' if what else ''}cannot be loaded ({reason}){offline}; {remedy}"
        ) from None


def has_tokenizer(folder: Path) -> bool:
    """Whether a model's folder holds files that a tokenizer is made of."""
    return any(any(folder.glob(pattern)) for pattern in TOKENIZER_FILES)


def load_tokenizer(name: str, **options: Any) -> Any:
    """Load a model's tokenizer.

    Args:
        name: A folder, a Hub id, or `bundled`.
        **options: As for `AutoTokenizer.from_pretrained`.

    Raises:
        InputError: If it has none, or one without words.
    """
    from transformers import AutoTokenizer

    folder = Path(locate(name))
    if folder.is_dir() and not has_tokenizer(folder):
        raise InputError(
            f"model {name}: no tokenizer in its folder, expected tokenizer.json or the like; save the tokenizer into "
            "the same folder"
        )
    with loading(name, "its tokenizer", "save it into the same folder"):
        tokenizer = AutoTokenizer.from_pretrained(options.pop("pretrained_model_name_or_path", locate(name)), **options)
        words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    longest: Any = tokenizer.model_max_length
    if not isinstance(longest, int | float) or not -math.inf < longest < math.inf:
        raise InputError(
            f"model {name}: model_max_length in its tokenizer_config.json is {shorten(longest)}, expected a number; "
            "fix that file"
        )
    if not words:
        raise InputError(
            f"model {name}: its tokenizer knows no words; save the tokenizer that the model was trained with"
        )
    return tokenizer


def read_weights(file: Path) -> dict[str, Any]:
    """The tensors of a safetensors file, by name.

    Raises:
        InputError: If it cannot be read, or holds a number that is not finite.
    """
    from safetensors.torch import load_file

    from .finite import not_finite

    remedy = "copy the model folder again from its run"
    with loading(str(file.parent), file.name, remedy):
        weights: dict[str, Any] = load_file(file)
    wrong = not_finite(weights.items())
    if wrong:
        raise InputError(f"{file}: {len(wrong)} weights hold nan or inf, the first is {wrong[0]}; {remedy}")
    return weights


def absent_weights(folder: Path, names: Iterable[str]) -> list[str]:
    """Weights of a network that the safetensors files of a folder do not hold; empty where there is no such file.

    Args:
        folder: The model's folder.
        names: Names of the network's weights, which the files may write after a prefix (`bert.`).
    """
    stored = _stored_types(folder)
    return sorted(name for name in names if stored and name not in stored)


def unused_weights(folder: Path, names: Collection[str]) -> list[str]:
    """Weights that the safetensors files of a folder hold and a network lacks; arguments as for `absent_weights`."""
    stored = _stored_types(folder, is_short=False)
    return sorted(name for name in stored if name not in names and name.partition(".")[2] not in names)


def coarse_weights(folder: Path, network: Any) -> list[str]:
    """Weights that a folder's safetensors files hold as whole numbers or bytes, and the network as they stand there.

    Without the scales that a quantized model brings, they are not the numbers that were trained.

    Args:
        folder: The model's folder.
        network: What was made of it.
    """
    from transformers import PreTrainedModel

    if isinstance(network, PreTrainedModel) and network.config.to_dict().get("quantization_config") is not None:
        return []
    stored = _stored_types(folder)
    names = [name for name, weight in network.named_parameters() if weight.is_floating_point()]
    kinds = {name: stored.get(name) or stored.get(name.partition(".")[2]) for name in names}
    return sorted(f"{name} ({kind})" for name, kind in kinds.items() if kind not in (None, *_FLOATS))


def _stored_types(folder: Path, is_short: bool = True) -> dict[str, str]:
    """Name -> type of the tensors in a folder's safetensors files; also by their names without the first part."""
    from safetensors import safe_open

    types: dict[str, str] = {}
    for file in sorted(folder.glob("*.safetensors")) if folder.is_dir() else []:
        with safe_open(file, framework="numpy") as opened:
            for key in opened.keys():  # noqa: SIM118 - no map
                kind = str(opened.get_slice(key).get_dtype())
                types |= {key: kind, **({key.partition(".")[2]: kind} if is_short else {})}
    return types


def longest_sequence(config: Any) -> int | None:
    """How many tokens a network takes, by its configuration; None where that sets no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    if config.model_type in _POSITIONS_AFTER_PADDING:
        return positions - 1 - (config.pad_token_id if config.pad_token_id is not None else 1)
    return positions


def unknown_window(config: Any) -> int | None:
    """The sliding window that a configuration sets for a kind of network that has none; None where there is no such.

    The cache of such a network forgets tokens that it still looks at, so that it takes no more than these.
    """
    window: int | None = getattr(config, "sliding_window", None)
    return None if "sliding_window" in inspect.signature(type(config)).parameters else window


def _reads_both_ways(model_type: str) -> bool:
    """Whether every token of a network sees all others, so that the first one may stand for the text."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def _looks_for_padding(model_type: str) -> bool:
    """Whether a network finds positions, or the last token of a row, by the number of the padding token."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    is_decoder = model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not _reads_both_ways(model_type)
    return is_decoder or model_type in _POSITIONS_AFTER_PADDING


def check_vocabulary(tokenizer: Any, config: Any, name: str) -> None:
    """Refuse a tokenizer of more tokens than its network has; arguments and error as for `check_together`."""
    size = getattr(config.get_text_config(), "vocab_size", None)
    if isinstance(size, int):
        used = {tokenizer.pad_token, tokenizer.unk_token, tokenizer.cls_token, tokenizer.sep_token, tokenizer.eos_token}
        unused = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens} - used
        word, number = max(
            ((word, number) for word, number in tokenizer.get_vocab().items() if word not in unused),
            key=lambda one: one[1],
        )
        if number >= size:
            raise InputError(
                f"model {name}: its tokenizer has a token {shorten(word)} with number {number}, but its network knows "
                f"{size} tokens only; save the tokenizer that it was trained with"
            )


def check_together(tokenizer: Any, config: Any, name: str) -> None:
    """Refuse a tokenizer that its network cannot follow.

    Args:
        tokenizer: The tokenizer.
        config: The network's configuration.
        name: The model's name.

    Raises:
        InputError: If the tokenizer has tokens or types of tokens that the network lacks, or another padding token, or
            what the first token sees would depend on the other rows of its batch.
    """
    check_vocabulary(tokenizer, config, name)
    text_config = config.get_text_config()
    if _reads_both_ways(config.model_type):
        ways = {
            "padding_side in its tokenizer_config.json": (tokenizer.padding_side, "right"),
            "is_decoder in its config.json": (bool(getattr(config, "is_decoder", False)), False),
        }
        for place, (value, expected) in ways.items():
            if value != expected:
                raise InputError(
                    f"model {name}: {place} is {value}, expected {expected} for a {config.model_type} network, whose "
                    "first token stands for the text; set it to that"
                )
    types = getattr(text_config, "type_vocab_size", None)
    emitted = max([0, *tokenizer("a", "b").get("token_type_ids", [])])
    if isinstance(types, int) and 0 < types <= emitted:
        raise InputError(
            f"model {name}: its tokenizer marks the second text of a pair with {emitted}, but its network knows "
            f"{types} type of tokens only; save the tokenizer that it was trained with"
        )
    own = getattr(text_config, "pad_token_id", None)
    if isinstance(own, int) and own >= 0 and tokenizer.pad_token_id != own and _looks_for_padding(config.model_type):
        raise InputError(
            f"model {name}: its tokenizer pads with token {tokenizer.pad_token_id} ({tokenizer.pad_token}), its "
            f"network expects {own}; set pad_token_id in its config.json, or the tokenizer's pad token, to what it was "
            "trained with"
        )
