"""Parsers of the commands: a value as it is written, and what is wrong with one in a line."""

import argparse
import difflib
import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, set_loader

from ..core import runs
from ..core.errors import InputError
from ..core.paths import find
from ..core.yaml_files import YamlError, load_mapping, load_yaml
from .named_tasks import MODE, reading
from .parser_errors import missing_settings, wrong_value

_UNKNOWN_KEY = (
    re.compile(r"[Oo]ption '([\w.\-]+)' is not accepted"),
    re.compile(r"does not accept option '([\w.\-]+)'"),
    re.compile(r"unrecognized arguments: --([\w.\-]+)"),
    re.compile(r"Key '([\w.\-]+)' is not expected"),
)


def _load_value(text: str) -> Any:
    """A configuration file, or a value of the command line; `--raw.keep name:` and `{a, b}` are texts there."""
    value = load_yaml(text)
    if isinstance(value, dict) and value and all(one is None for one in value.values()):
        names = text.strip().strip("{}").replace(" ", "")
        if names == f"{next(iter(value))}:" or set(names.split(",")) == set(value):
            return text
    return value


set_loader("yaml", _load_value, exceptions=(YamlError,))


class OneLineErrors:
    """Mix-in for parsers: an error is raised as one `InputError` instead of a usage text, and keys are spelled out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "parser_mode": MODE, **kwargs})

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Any:
        """Parse a configuration, in which a path stands for a source of rows."""
        with reading(content):
            return super().parse_string(content, *args, **kwargs)  # type: ignore[misc] # jsonargparse's

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Turn the parser's message into one line; nested parsers keep their own way."""
        if not self.exit_on_error:  # type: ignore[attr-defined] # argparse sets it
            super().error(message, ex)  # type: ignore[misc] # jsonargparse's signature
        raise InputError(_one_line(message, self))


class Parser(OneLineErrors, ArgumentParser):
    """The parser of the function commands."""


def _one_line(message: str, parser: Any) -> str:
    for pattern in _UNKNOWN_KEY:
        match = pattern.search(message)
        if match:
            return unknown_key(match.group(1), _known_keys(message, parser))
    command = runs.typed_words[0] if runs.typed_words else ""
    if (missing := missing_settings(message, command)) is not None:
        return missing
    wrong = wrong_value(message, command)
    if wrong is not None:
        return f"{_place(wrong[0])}{wrong[0]} {wrong[1]}"
    inner = [line.strip(" -") for line in message.splitlines() if line.strip()]
    text = " ".join(line for line in inner if not line.startswith(("Given value", "Subtypes", "Errors:")))
    told = text if len(text) < 400 else text[:399] + "…"
    return told if ";" in told else f"{told}; see python main.py {command or 'COMMAND'} --help"


def unknown_key(key: str, known: set[str]) -> str:
    """The error for a key that no class and no command has; names the closest one that is known."""
    close = _closest(key, known)
    remedy = meant(close) or "; see the keys with --help"
    return f"{_place(key)}key '{key}' is not known{remedy}"


def _place(key: str) -> str:
    """The config file that holds the key, or the command line."""
    words = runs.typed_words
    if any(word.startswith("--") and _is_key(word.split("=")[0].strip("-+"), key) for word in words):
        return "command line: "
    files = [words[number + 1] for number, word in enumerate(words[:-1]) if word in ("--config", "-c")]
    files += [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
    for file in reversed(files):  # the last one wins
        found = find(file, "configs") or find(f"{file}.yaml", "configs")
        if found is not None and any(_is_key(name, key) for name in _keys(load_mapping(found))):
            return f"{file}: "
    return "command line: "


def _is_key(path: str, key: str) -> bool:
    """Whether a dotted path ends with the key; the parser leaves out what stands before a class's arguments."""
    return f".{path}".replace(".init_args.", ".").endswith("." + key.replace(".init_args.", "."))


def _keys(value: object, before: str = "") -> Iterator[str]:
    """The dotted paths of all keys, at every depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{before}{key}"
            yield from _keys(inner, f"{before}{key}.")
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner, before)


def _known_keys(message: str, parser: Any) -> set[str]:
    """The command's keys, and those of the class that the unknown one was meant for."""
    known = {action.dest for action in parser._actions}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            known |= {inner.dest for subparser in action.choices.values() for inner in subparser._actions}
    for path in re.findall(r"class_path '([\w.]+)'", message):
        module, _, name = path.rpartition(".")
        for base in getattr(importlib.import_module(module), name).__mro__:
            known |= set(inspect.signature(base.__init__).parameters) - {"self", "args", "kwargs"}
    return known


def _closest(key: str, known: set[str]) -> list[str]:
    """The known key that is most like this one."""
    whole = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.75)
    head, _, rest = key.partition(".")
    if rest and not whole and head not in known and (near := difflib.get_close_matches(head, sorted(known), n=1)):
        return [f"{near[0]}.{rest}"]
    last = {one.split(".")[-1]: one for one in sorted(known)}
    return whole or [last[one] for one in difflib.get_close_matches(key.rsplit(".", maxsplit=1)[-1], sorted(last), n=1)]


def meant(close: Sequence[str]) -> str:
    """The end of an error about a word that is like another one."""
    return f", did you mean '{close[0]}'?" if close else ""
