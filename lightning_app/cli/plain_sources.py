"""Sources of rows as people write them: a path stands for a source, and a new path starts a fresh one.

Configurations are merged key by key, so that a later `train: {path: mine.jsonl}` would inherit the `columns` and
`label_map` of the file that it replaces. Each source that names a `path` is therefore spelled out in full, with every
other setting at its default, before it is merged: in configuration files by `in_config`, on the command line by
`spell_out`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Literal

from ..core.errors import InputError
from ..core.yaml_files import YamlError, load_yaml
from ..data.readers import Source

# Part of the configuration -> its settings that hold a source or a list of sources; "" is the top level, which function
# commands use. A test compares all of this with the annotations of the commands, modules and DataModules.
SOURCES: Mapping[str, frozenset[str]] = {
    "": frozenset({"pool", "raw", "compare_on", "exclude", "exclude_targets"}),
    "data": frozenset({"train", "dev", "pool", "rows", "source"}),
    "model": frozenset({"lexicon"}),
}
# Settings of `data` that map names to sources.
MAPS = frozenset({"targets", "tests"})
# Settings of a source that are maps or lists.
MAPPINGS = frozenset({"columns", "label_map", "keep"})
DEFAULTS: dict[str, Any] = {
    one.name: one.default if one.default_factory is MISSING else one.default_factory()
    for one in fields(Source)
    if one.name != "path"
}


def in_config(config: Mapping[str, Any], part: str = "") -> dict[str, Any]:
    """A configuration with its sources spelled out.

    Args:
        config: What a file holds.
        part: `data` or `model` for what is inside of these.
    """
    spelled: dict[str, Any] = {}
    for key, value in config.items():
        name = key.removesuffix(".path")
        if key == "init_args" and isinstance(value, dict):
            spelled[key] = in_config(value, part)
        elif not part and key in SOURCES and isinstance(value, dict):
            spelled[key] = in_config(value, key)
        elif (kind := kind_of(f"{part}.{name}" if part else name)) is not None:
            spelled[name if isinstance(value, str) else key] = _spelled(value, is_map=kind == "map")
        else:
            spelled[key] = value
    return spelled


def spell_out(words: Sequence[str]) -> list[str]:
    """Spell out the sources on a command line: `--pool my.jsonl`, `--data.train.path my.csv`.

    Further settings of the same source (`--data.train.language hi`) may come before or after its path.

    Returns:
        The words, each such pair as one `--KEY={...}`.
    """
    spelled: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, has_value, value = word.partition("=")
        above, _, setting = option.rpartition(".")
        owner = kind_of(above.removeprefix("--")) if setting in MAPPINGS and (has_value or rest) else None
        if owner == "source":
            # By the setting's own name, jsonargparse would read a null inside as the text "None".
            inside = _parsed(value if has_value else rest.pop(0))
            spelled.append(f"{above}={json.dumps({setting: inside}, ensure_ascii=False)}")
            continue
        if owner == "entry":
            _refuse_null_inside(above, {setting: _parsed(value if has_value else rest[0])})
        elif has_value or rest:
            _refuse_null_alone(option, value if has_value else rest[0])
        key = option.removesuffix(".path")
        kind = kind_of(key.removeprefix("--")) if option.startswith("--") else None
        if kind is None or not (has_value or rest):
            spelled.append(word)
            continue
        typed = value if has_value else rest.pop(0)
        source = _spelled(typed if key != option else _parsed(typed), is_map=kind == "map" and key == option)
        if kind == "entry":
            _refuse_null_inside(key, source)
        # jsonargparse parses the entry of a map a second time, as text, where null would be read as "None".
        text = json.dumps(_nulls_as_text(source) if kind == "entry" else source, ensure_ascii=False)
        spelled.insert(_first_setting_of(key, spelled), f"{key}={text}")
    return spelled


def kind_of(key: str) -> Literal["source", "map", "entry"] | None:
    """What a key of the command line names: `pool`, `data.targets`, `data.init_args.targets.hi`, or something else."""
    names = [name for name in key.rstrip("+").split(".") if name != "init_args"]
    part = names.pop(0) if names and names[0] in ("data", "model") else ""
    if len(names) == 1 and names[0] in SOURCES[part]:
        return "source"
    if part == "data" and len(names) in (1, 2) and names[0] in MAPS:
        return "map" if len(names) == 1 else "entry"
    return None


def _spelled(value: Any, is_map: bool = False) -> Any:
    """A source, or several, with every setting; what has no path is left as it is, to be merged or refused."""
    if is_map:
        return {name: _spelled(source) for name, source in value.items()} if isinstance(value, dict) else value
    if isinstance(value, str):
        return {**DEFAULTS, "path": value}
    if isinstance(value, dict):
        return {**DEFAULTS, **value} if "path" in value else value
    return [_spelled(source) for source in value] if isinstance(value, list) else value


def _refuse_null_inside(key: str, source: Any) -> None:
    """Refuse a null inside of a setting of one entry of a map, which jsonargparse would turn into a text.

    Raises:
        InputError: Names the setting, and where it can be written.
    """
    settings = source if isinstance(source, dict) else {}
    held = (name for name in MAPPINGS if isinstance(settings.get(name), dict) and None in settings[name].values())
    if (name := next(held, None)) is not None:
        every, _, entry = key.rpartition(".")
        raise InputError(
            f"{key}.{name} holds null, expected texts in an entry that is given by itself; write it into a "
            f"configuration file, or give all entries together as {every}={{{entry}: {{...}}}}"
        )


def _refuse_null_alone(option: str, value: str) -> None:
    """Refuse a null for one name of a map (`--data.train.label_map.spam=null`), which would become a text as well.

    Raises:
        InputError: Names the map, and how to write it.
    """
    for setting in MAPPINGS:
        above, found, name = option.removeprefix("--").partition(f".{setting}.")
        if not found or (kind := kind_of(above)) is None or _parsed(value) is not None:
            continue
        if kind == "entry":
            _refuse_null_inside(f"--{above}", {setting: {name: None}})
        if kind == "source":
            raise InputError(
                f"{above}.{setting}.{name} is null, expected a text; give the map as a whole, "
                f"--{above}.{setting}={{{name}: null}}, or write it into a configuration file"
            )


def _nulls_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nulls_as_text(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_nulls_as_text(inner) for inner in value]
    return "null" if value is None else value


def _parsed(text: str) -> Any:
    """A value of the command line; what is no list, map or null is a path."""
    try:
        value = load_yaml(text)
    except YamlError:
        return text
    return value if value is None or isinstance(value, (dict, list)) else text


def _first_setting_of(key: str, words: Sequence[str]) -> int:
    """Where the settings of this source begin among the words after the last configuration file."""
    start = max((n for n, word in enumerate(words) if word.partition("=")[0] in ("--config", "-c")), default=-1) + 1
    settings = (f"{key}.", *(f'{key}={{"{name}": ' for name in MAPPINGS))
    return next((n for n in range(start, len(words)) if words[n].startswith(settings)), len(words))
