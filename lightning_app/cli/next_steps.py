"""The command that comes after each stage, filled in with what the stage has just written."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path, PurePath
from typing import Any

from ..core.paths import find
from ..core.task import Task
from ..core.yaml_files import load_mapping
from ..data.readers import Source
from ..stages import BY_NAME, PROGRAM
from .named_tasks import with_definition


@dataclass(frozen=True)
class Finished:
    """A stage that is complete.

    Args:
        stage: The stage's name, such as `pseudolabel`.
        out: Its output folder.
        task: The task, if it has one.
        pool: The pool it read, if it read one.
        model: The model folder of a fit that it used, if it used one.
        facts: The manifest's facts.
        variant: Which of the stage's next steps applies, where it has several.
    """

    stage: str
    out: str
    task: Task | None = None
    pool: Source | list[Source] | None = None
    model: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    variant: str | None = None


def next_command(finished: Finished) -> str | None:
    """The command to run after a stage.

    Settings that equal the default of the next configuration are left out. Outputs go beside those of the stage, unless
    these are where they are by default.

    Args:
        finished: The stage.

    Returns:
        A command line, or None if nothing comes next.
    """
    stage = BY_NAME.get(finished.stage)
    step = stage.next.get(finished.variant) if stage is not None else None
    if step is None:
        return None
    values = _values(finished)
    words = [_fill(word, values) for word in step.words]
    if words[0] != "hf":
        words = [*PROGRAM.split(), *words]
    if step.config is None:
        return shlex.join([*words, *_flags({key: _fill(value, values) for key, value in step.settings.items()})])
    defaults = _defaults(step.config)
    settings: dict[str, Any] = {}
    is_own_task = finished.task is not None and asdict(finished.task) != defaults.get("task")
    if is_own_task and "task" in defaults:
        settings["task"] = asdict(finished.task)  # type: ignore[arg-type] # checked above
    for key, value in step.settings.items():
        if value != "{pool}":
            settings[key] = _fill(value, values)
        elif finished.pool is not None:
            settings.update(_source_settings(key, finished.pool))
    if is_own_task:
        settings.update({key: value for key, value in step.of_own_task.items() if key not in settings})
    settings.setdefault("out", _beside(finished, PurePath(str(defaults.get("out", "runs/next"))).name))
    changed = {key: value for key, value in settings.items() if not _is_default(value, _look_up(defaults, key))}
    return shlex.join([*words, "--config", step.config, *_flags(changed)])


def next_line(finished: Finished) -> str | None:
    """The line with which a command ends: the next command, or, after a report, the file to open."""
    if finished.stage == "report":
        pages = [Path(finished.out) / name for name in ("report.html", "report.md")]
        page = next((page for page in pages if page.is_file()), None)
        return f"next: open {page}" if page is not None else None
    command = next_command(finished)
    return f"next: {command}" if command is not None else None


def _values(finished: Finished) -> dict[str, str]:
    """What stands for the names in braces."""
    out = PurePath(finished.out)
    facts = {key: value for key, value in finished.facts.items() if isinstance(value, str)}
    first = finished.task.columns[0] if finished.task is not None else ""
    own = {"out": str(out), "folder": str(out.parent), "name": out.name, "model": finished.model or ""}
    return {"setting": "translate-train", **facts, **own, "first_column": first}


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Replace `{name}`; other braces, as those of JSON, stay."""
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template.removeprefix("./")


def _flags(settings: Mapping[str, Any]) -> list[str]:
    return [
        word
        for key, value in settings.items()
        for word in (f"--{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    ]


def _source_settings(key: str, pool: Source | list[Source]) -> dict[str, Any]:
    """A source as a setting: its path alone, if nothing else of it is set."""
    sources = [_as_json(source) for source in (pool if isinstance(pool, list) else [pool])]
    if len(sources) == 1 and set(sources[0]) == {"path"}:
        return {key: sources[0]["path"]}
    return {key: sources if isinstance(pool, list) else sources[0]}


def _as_json(source: Source) -> dict[str, Any]:
    """The fields that differ from their defaults."""
    defaults = {
        one.name: one.default_factory() if one.default_factory is not MISSING else one.default for one in fields(source)
    }
    return {name: value for name, value in asdict(source).items() if value != defaults[name]}


def _beside(finished: Finished, name: str) -> str:
    """The next output folder: beside this one, and named alike (`runs/select-easy` -> `runs/student-easy`)."""
    out = PurePath(finished.out)
    rest = out.name.removeprefix(finished.stage)
    if rest != out.name and (not rest or rest.startswith("-")):
        return str(out.parent / f"{name}{rest}")
    return str(out.parent / f"{name}-{out.name}")


def _defaults(config: str) -> dict[str, Any]:
    """What the configuration file says, found as `--config` finds it."""
    file = find(config, "configs")
    content: dict[str, Any] = with_definition(load_mapping(file)) if file is not None else {}
    return content


def _look_up(defaults: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; settings of a class are under `init_args`."""
    value: Any = defaults
    for part in key.split("."):
        if isinstance(value, Mapping) and part not in value:
            value = value.get("init_args")
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _is_default(value: Any, default: Any) -> bool:
    """Whether a setting is what the configuration has anyway; a list of one is that one, a path alone a source."""
    if isinstance(default, list) and len(default) == 1 and isinstance(value, str):
        default = default[0]
    if isinstance(default, Mapping) and set(default) == {"path"}:
        default = default["path"]
    if isinstance(value, str) and isinstance(default, str):
        return PurePath(value) == PurePath(default)
    return bool(value == default)
