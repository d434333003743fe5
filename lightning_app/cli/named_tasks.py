"""Names in configs that stand for more: `task: sentiment` for `configs/tasks/sentiment.yaml`, rooms for their classes.

`--task sentiment` on the command line stands for the same file. A path that stands for a source of rows is spelled out
here too, in configuration files alone; see `plain_sources`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from jsonargparse import get_loader, set_loader

from ..core.errors import InputError, closest, shorten
from ..core.paths import PROJECT, find
from ..core.yaml_files import YamlError, load_mapping
from .plain_sources import in_config

# The parsers' mode: YAML in which a task may be a name, and a source of rows a path.
MODE = "yaml_with_names"
_ROOMS = ("modules.", "datamodules.", "callbacks.")
_configuration: ContextVar[str | None] = ContextVar("_configuration", default=None)


@contextmanager
def reading(content: str) -> Iterator[None]:
    """While a parser reads this configuration; any other text that it reads is the value of a setting."""
    token = _configuration.set(content)
    try:
        yield
    finally:
        _configuration.reset(token)


def load(text: str) -> Any:
    """Read YAML as jsonargparse does, and put what names stand for in their place."""
    value = _with_full_classes(with_definition(get_loader("yaml")(text)))
    return in_config(value) if isinstance(value, dict) and text == _configuration.get() else value


def with_definition(content: Any) -> Any:
    """A configuration with its task written out."""
    if isinstance(content, dict) and isinstance(content.get("task"), str):
        return {**content, "task": _definition(content["task"])}
    return content


def _with_full_classes(value: Any) -> Any:
    """A configuration whose `class_path: modules.X` is `labelbridge.modules.X`: only so does each class exist once."""
    if isinstance(value, list):
        return [_with_full_classes(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    full = {key: _with_full_classes(inner) for key, inner in value.items()}
    path = full.get("class_path")
    if isinstance(path, str) and path.startswith(_ROOMS):
        full["class_path"] = f"labelbridge.{path}"
    return full


def replace_named_tasks(options: Sequence[str]) -> list[str]:
    """Replace each `--task NAME` by `--config FILE`; a task that is written out stays."""
    replaced: list[str] = []
    for word in options:
        name = word.removeprefix("--task=") if word.startswith("--task=") else None
        if replaced and replaced[-1] == "--task":
            name = word
        if name is None or name.lstrip().startswith("{"):
            replaced.append(word)
            continue
        if replaced and replaced[-1] == "--task":
            replaced.pop()
        replaced += ["--config", str(_file(name))]
    return replaced


def _definition(name: str) -> Any:
    file = _file(name)
    content = load_mapping(file)
    if not isinstance(content.get("task"), dict):
        raise InputError(f"{file}: expected a mapping `task` with name, columns and labels, got {shorten(content)}")
    return content["task"]


def _file(name: str) -> Path:
    file = find(f"{name}.yaml", "configs/tasks")
    if file is None:
        known = sorted(path.stem for path in (PROJECT / "configs/tasks").glob("*.yaml"))
        remedy = closest(name, known, f"expected one of {', '.join(known)}, or a file of yours")
        raise InputError(f"task: no task {shorten(name)} in configs/tasks, {remedy}")
    return file


set_loader(MODE, load, exceptions=(YamlError,))
