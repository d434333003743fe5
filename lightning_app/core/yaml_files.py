"""YAML as configurations and prompt files are written in: no key twice, keys as they are written, no bombs."""

import re
from pathlib import Path
from typing import Any

import yaml

from .errors import InputError, is_unicode, shorten
from .files import read_text

MOST_CHARACTERS = 10_000_000
MOST_NODES = 100_000  # aliases counted as what they stand for
DEEPEST = 50
_MERGE, _TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(yaml.YAMLError):
    """What is wrong, in one line."""


class _StrictLoader(_Loader):  # type: ignore[misc] # PyYAML's loaders are untyped
    """Takes dates, times and `007` as texts."""

    yaml_implicit_resolvers: dict[Any, Any] = {  # noqa: RUF012 - PyYAML's attribute
        first: [
            (tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("timestamp", "int", "float")
        ]
        for first, resolvers in _Loader.yaml_implicit_resolvers.items()
    }


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]{0,400}|0x[0-9a-fA-F_]{1,400})$"), list("-+0123456789")
)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def load_yaml(text: str) -> Any:
    """Read YAML.

    Raises:
        YamlError: If it is no YAML, has a key twice, or is larger or deeper than a configuration can be.
    """
    try:
        _check_bounds(text)
        loader = _StrictLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _settle_keys(root, set())
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except YamlError:
        raise
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from None
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:  # such as `!!int abc`
        raise YamlError(" ".join(str(error).split())) from None


def load_mapping(file: Path, expected: str = "keys and values, as in configs/") -> dict[str, Any]:
    """Read a YAML file that holds a map.

    Raises:
        InputError: If it cannot be read, or holds anything else.
    """
    try:
        content = load_yaml(read_text(file))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not YAML ({shorten(str(error), 300)[1:-1]}); fix this file") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: holds {shorten(content)}, expected {expected}; fix this file")
    return content


def _check_bounds(text: str) -> None:
    """Refuse what would take for ever to walk, from the parser's events alone: no node is made yet."""
    if len(text) > MOST_CHARACTERS:
        raise YamlError(f"{len(text)} characters, expected {MOST_CHARACTERS} at most")
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the nodes before it
    nodes = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_nodes}:
                raise YamlError(f"line {line}: *{event.anchor} is inside of what it names; write it out")
            nodes += sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.NodeEvent):
            nodes += 1
            open_nodes.append((event.anchor, nodes - 1))
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes.update({anchor: nodes - before} if anchor is not None else {})
        if len(open_nodes) > DEEPEST:
            raise YamlError(f"line {line}: nested more than {DEEPEST} deep")
        if nodes > MOST_NODES:
            raise YamlError(f"line {line}: more than {MOST_NODES} values, aliases written out")


def _settle_keys(node: Any, done: set[int]) -> None:
    """Refuse a key that occurs twice, take keys as they are written (-1, 0, no and true are names), and merge maps.

    PyYAML's own merge of a map that is itself merged prefers the wrong one of two values.
    """
    if id(node) in done:
        return
    done.add(id(node))
    if isinstance(node, yaml.ScalarNode) and ("\0" in node.value or not is_unicode(node.value)):
        raise YamlError(f"line {node.start_mark.line + 1}: {shorten(node.value)} holds NUL or half of a sign")
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _settle_keys(item, done)
    elif isinstance(node, yaml.MappingNode):
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError(f"line {line}: a key is a list or a map, expected a text")
            _settle_keys(value, done)
            if key.tag == _MERGE:
                merged = {**_to_merge(value, line), **merged}
            elif key.value in own:
                raise YamlError(f"line {line}: duplicate key {shorten(key.value)}; remove one")
            else:
                key.tag = _TEXT
                own[key.value] = (key, value)
        node.value = list({**merged, **own}.values())


def _to_merge(value: Any, line: int) -> dict[str, Any]:
    """What `<<` brings; of several maps the first wins."""
    brought: dict[str, Any] = {}
    for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
        if not isinstance(source, yaml.MappingNode):
            raise YamlError(f"line {line}: << names something that is no map; name a map with *")
        brought = {**{key.value: (key, own) for key, own in source.value}, **brought}
    return brought
