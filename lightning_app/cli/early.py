"""Mistakes in a Trainer command that can be found before torch is imported, which takes seconds.

A wrong key, a path that is not there and a label outside the task are reported in the words that the full parser, the
model or the rows would use: the functions that find them are the same. Whatever is not certain here is left to these.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..core import artifacts, ranges
from ..core.errors import InputError
from ..core.paths import find
from ..core.ranges import Range, range_of
from ..core.task import Task
from ..core.yaml_files import YamlError, load_mapping, load_yaml
from ..data.readers import Source, check_path
from ..data.sources import load_rows
from ..models.locate import BUNDLED, MINILM, card_facts
from .plain_sources import DEFAULTS, in_config
from .signatures import CLASS_KEYS, Setting, parser_keys, settings_of

CLASSES = ("model", "data")  # the keys that name a class, whose arguments follow
# The sources of rows that every DataModule with such an argument reads, by subcommand.
READ = {
    "fit": ("train", "dev", "pool"),
    "validate": ("dev",),
    "test": ("targets",),
    "predict": ("pool", "rows", "source"),
}
# The label column of those of GoldDataModule and MixedDataModule.
LABELS = {"train": "label", "dev": "label", "targets": "label", "pool": "prompt_label"}
GOLD = ("GoldDataModule", "MixedDataModule")
# Classes whose `model` is a folder or a Hub id, by subcommand.
CLASSIFIERS = ("TeacherModule", "StudentModule", "ClassifierModule")
LOADING = {
    "fit": (*CLASSIFIERS, "Seq2SeqModule"),
    "validate": (*CLASSIFIERS, "Seq2SeqModule"),
    "test": CLASSIFIERS,
    "predict": (*CLASSIFIERS, "EmbedderModule", "TransformersGenerator", "TransformersTranslator"),
}
# What Lightning itself takes without a word, and stumbles over later.
TRAINER_RANGES: Mapping[str, Range] = {
    "accumulate_grad_batches": Range(least=1, most=ranges.MOST),
    "gradient_clip_val": Range(least=0),
    "val_check_interval": Range(above=0),
    "check_val_every_n_epoch": Range(least=1),
    "limit_train_batches": Range(least=0),
    "limit_val_batches": Range(least=0),
}
MOST_BYTES = 8_000_000  # larger files are read once, in the run itself

Describe = Callable[[str, set[str]], str]


@dataclass
class Layer:
    """The settings of one config file, or of the words between two of them.

    Args:
        settings: Nested mappings.
        keys: Each key, as its parts, and its value in the order in which they apply; the class before its arguments.
    """

    settings: dict[str, Any]
    keys: list[tuple[list[str], Any]] = field(default_factory=list)


def check_early(words: Sequence[str], callbacks: Mapping[str, str], describe: Describe) -> None:
    """Raise the first mistake that can be found without torch.

    Args:
        words: The command line after `main.py`, configs looked up.
        callbacks: The key and the class of each callback that every run has.
        describe: The error line for a key that is not known, from the key and the keys that are.

    Raises:
        InputError: The mistake.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return  # rank 0 says it
    asks = any(word in ("-h", "--help") or word.split("=")[0].endswith((".help", "--print_config")) for word in words)
    layers = None if asks else read_layers(words[1:])
    if layers is None:
        return
    settings = merged(layers)
    _check_keys(words[0], layers, callbacks, describe)
    _check_values(settings)
    logging.disable(logging.CRITICAL)  # the run says it all again
    try:
        _check_places(words[0], layers, settings)
    finally:
        logging.disable(logging.NOTSET)


def read_layers(options: Sequence[str]) -> list[Layer] | None:
    """Config files and other settings in the order of the words; None if there is anything else among these."""
    layers: list[Layer] = []
    line = Layer({})
    words = list(options)
    while words:
        word = words.pop(0)
        if word == "-c":
            word = "--config"
        if not word.startswith("--"):
            return None
        key, has_value, value = word.removeprefix("--").partition("=")
        if not has_value:
            if not words:
                return None
            value = words.pop(0)
        if key == "config":
            settings = in_config(_expanded(load_mapping(Path(value))))
            layers += [line, Layer(settings, list(_paths(settings)))]
            line = Layer({})
            continue
        key = key.removesuffix("+")
        try:
            parsed = load_yaml(value)
        except YamlError:
            parsed = value
        line.keys.append((key.split("."), parsed))
        line.settings = _overlaid(line.settings, _nested(key, parsed))
    return [*layers, line]


def merged(layers: Sequence[Layer]) -> dict[str, Any]:
    """All layers over one another, with the arguments of classes beside their `class_path`."""
    settings: dict[str, Any] = {}
    for layer in layers:
        settings = _overlaid(settings, _flat_classes(layer.settings))
    return settings


def class_of(settings: Mapping[str, Any], key: str) -> str | None:
    """The class that `model` or `data` names."""
    value = settings.get(key)
    name = value.get("class_path") if isinstance(value, dict) else value
    return name if isinstance(name, str) else None


def _check_keys(subcommand: str, layers: Sequence[Layer], callbacks: Mapping[str, str], describe: Describe) -> None:
    known = parser_keys(subcommand, tuple(callbacks.items()))
    tops = {key.split(".")[0] for key in known}
    groups = {key.split(".")[0] for key in known if "." in key} - set(CLASSES)
    classes: dict[str, str] = {}  # what `model` and `data` are at this point
    for layer in layers:
        for path, value in layer.keys:
            if path[0] in CLASSES and isinstance(value, str) and (len(path) == 1 or path[1:] == ["class_path"]):
                classes[path[0]] = value
            if any("." in part for part in path[1:]):
                continue
            if path[0] not in tops or (path[0] in groups and len(path) > 1 and ".".join(path[:2]) not in known):
                raise InputError(describe(".".join(path), set(known)))
            settings = settings_of(classes.get(path[0], "")) if path[0] in CLASSES else None
            if settings is not None:
                _check_argument(path, settings, known, describe)


def _check_values(settings: Mapping[str, Any]) -> None:
    """Refuse null where a class expects a value, and numbers outside of their range."""
    seed = settings.get("seed_everything")
    if isinstance(seed, int) and not isinstance(seed, bool):
        Range(least=0, below=2**32).check("seed_everything", seed)
    trainer = settings.get("trainer")
    for name, allowed in TRAINER_RANGES.items():
        number = trainer.get(name) if isinstance(trainer, dict) else None
        if isinstance(number, int | float) and not isinstance(number, bool):
            allowed.check(f"trainer.{name}", number)
    for key in CLASSES:
        given, known = settings.get(key), settings_of(str(class_of(settings, key)))
        if not isinstance(given, dict):
            continue
        for name, setting in (known or {}).items():
            named = vars(ranges).get(setting.annotation.removesuffix(" | None"))  # such as PositiveInt
            limits, value = range_of(named), given.get(name)
            if name in given and value is None and setting.annotation and "None" not in setting.annotation:
                plain = setting.annotation.removeprefix("Annotated[").partition(", Range")[0]
                said = limits.of(name) if limits is not None else plain
                raise InputError(f"{key}.{name} is null, expected {said}")
            if limits is not None and isinstance(value, int | float) and not isinstance(value, bool):
                limits.check(f"{key}.{name}", value)


def _check_argument(
    path: Sequence[str], settings: Mapping[str, Setting], known: frozenset[str], describe: Describe
) -> None:
    """Check a key such as `data.init_args.train.path`."""
    rest = list(path[1:])
    if rest[:1] == ["init_args"]:
        rest = rest[1:]
    elif not rest or rest[0] in CLASS_KEYS:
        return
    if not rest:
        return
    if rest[0] not in settings:
        raise InputError(describe(".".join(rest), {*known, *settings}))
    is_source = settings[rest[0]].annotation.startswith("Source")
    if is_source and len(rest) > 1 and rest[1] not in (names := {one.name for one in fields(Source)}):
        raise InputError(describe(".".join(rest[1:]), {*known, *settings, *names}))


def _check_places(subcommand: str, layers: Sequence[Layer], settings: Mapping[str, Any]) -> None:
    """Check the model's folder, then the sources, then the selection, as the run does."""
    model, data = settings.get("model"), settings.get("data")
    name = model.get("model") if isinstance(model, dict) and _is_named(model, LOADING.get(subcommand, ())) else None
    if isinstance(name, str) and name not in (BUNDLED, MINILM):
        card_facts(name)
    arguments = settings_of(str(class_of(settings, "data")))
    if not isinstance(data, dict) or arguments is None:
        return
    task = _task(settings.get("task"))
    for name in READ.get(subcommand, ()):
        column = LABELS[name] if name in LABELS and _is_named(data, GOLD) else None
        for source in _sources(layers, name, data.get(name) if name in arguments else None):
            _check_source(source, task, column)
    selection = data.get("selection")
    if subcommand == "fit" and "selection" in arguments and isinstance(selection, str):
        folder = find(selection) or Path(selection)
        artifacts.check_fresh(folder, artifacts.read_manifest(folder, artifacts.selection_stage(folder)))


def _check_source(source: Source, task: Task | None, label_column: str | None) -> None:
    if source.hub is not None:
        return
    found = check_path(source)
    if found.is_dir():
        artifacts.check_fresh(found, artifacts.read_manifest(found))
    elif task is not None and label_column is not None and found.stat().st_size <= MOST_BYTES:
        load_rows(source, task, label_column)


def _sources(layers: Sequence[Layer], name: str, value: Any) -> Iterator[Source]:
    """The sources of one argument."""
    if name == "targets":
        # A later mapping of targets replaces an earlier one, so those of earlier layers may be gone.
        given = [_inside(_flat_classes(layer.settings).get("data"), [name]) for layer in layers]
        last: Mapping[str, Any] = next((targets for targets in reversed(given) if targets), {})
        value = [source for target, source in value.items() if target in last] if isinstance(value, dict) else []
    for source in value if isinstance(value, list) else [value]:
        if isinstance(source, dict) and isinstance(source.get("path"), str):
            settings: dict[str, Any] = {key: None if setting == "null" else setting for key, setting in source.items()}
            with suppress(TypeError):  # a setting of the wrong type
                yield Source(**settings)


def _inside(value: Any, keys: Sequence[str]) -> Mapping[str, Any]:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _task(value: Any) -> Task | None:
    """The task, written out or by its name in `configs/tasks`; None if it is neither."""
    if isinstance(value, str):
        file = find(f"{value}.yaml", "configs/tasks")
        value = load_mapping(file).get("task") if file is not None else None
    try:
        return Task(**value) if isinstance(value, dict) else None
    except TypeError:
        return None


def _is_named(settings: Mapping[str, Any], classes: Sequence[str]) -> bool:
    return (
        str(settings.get("class_path")).rpartition(".")[-1] in classes
        and settings_of(settings["class_path"]) is not None
    )


def _paths(settings: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[list[str], Any]]:
    """The keys down to each value that is no mapping, or an empty one."""
    for key, value in sorted(settings.items(), key=lambda item: item[0] != "class_path"):
        path = (*before, str(key))
        if isinstance(value, dict) and value:
            yield from _paths(value, path)
        else:
            yield list(path), value


def _flat_classes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`init_args` lifted beside `class_path`, where the command line may put them too."""
    flat = dict(settings)
    for key in CLASSES:
        value = flat.get(key)
        if isinstance(value, str):
            flat[key] = {"class_path": value}
        elif isinstance(value, dict):
            arguments = value.get("init_args")
            flat[key] = {
                **{k: v for k, v in value.items() if k != "init_args"},
                **(arguments if isinstance(arguments, dict) else {}),
            }
    return flat


def _expanded(settings: Mapping[Any, Any]) -> dict[str, Any]:
    """Dotted keys of a file as nested ones."""
    expanded: dict[str, Any] = {}
    for key, value in settings.items():
        expanded = _overlaid(expanded, _nested(str(key).removesuffix("+"), value))
    return expanded


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged, everything else is replaced."""
    both = dict(below)
    for key, value in above.items():
        under = both.get(key)
        if isinstance(value, dict) and DEFAULTS.keys() <= value.keys():
            both[key] = value  # a source that is spelled out, its columns and all
        elif isinstance(under, dict) and isinstance(value, dict):
            both[key] = _overlaid(under, value)
        elif isinstance(under, str) and isinstance(value, dict) and key in CLASSES:
            both[key] = _overlaid({"class_path": under}, value)
        elif isinstance(under, dict) and isinstance(value, str) and key in CLASSES:
            both[key] = {**under, "class_path": value}
        else:
            both[key] = value
    return both
