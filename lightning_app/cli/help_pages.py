"""`COMMAND --help`: one page of the settings that people change; `--help all` is the parser's own, with every key."""

import inspect
import re
import shutil
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import docstring_parser

from ..stages import STAGES, TRAINER_COMMANDS
from .early import class_of, merged, read_layers
from .signatures import Setting, added_options, settings_of, trainer_settings

# Command -> its settings by group. What it does is in the table of stages, what they mean in the classes' docstrings.
PAGES: dict[str, dict[str, tuple[str, ...]]] = {
    "fit": {
        "Model": ("model", "model.model", "model.objective", "model.synthetic_labels"),
        "Data": (
            "task", "data.train", "data.dev", "data.selection", "data.pool", "data.batch_size",
            "data.max_length",
        ),
        "Training": (
            "model.learning_rate", "model.optimizer", "model.lr_scheduler", "trainer.max_epochs",
            "trainer.accumulate_grad_batches", "trainer.devices", "trainer.precision", "seed_everything",
        ),
        "Output": ("out", "method", "setting", "overwrite"),
    },
    "validate": {"Model": ("model", "model.model"), "Data": ("task", "data.dev", "data.max_length")},
    "test": {
        "Model": ("model", "model.model", "model.label_map"),
        "Data": ("task", "data.targets", "data.tests", "data.max_length", "data.tokens_per_batch"),
        "Hardware": ("trainer.devices", "trainer.precision"),
        "Output": ("out", "method", "setting", "overwrite", "shard"),
    },
    "predict": {
        "Model": ("model", "model.model", "model.max_new_tokens", "model.temperature", "model.target_language"),
        "Data": (
            "task", "data.pool", "data.rows", "data.prompts", "data.count", "data.target_language",
            "data.tokens_per_batch",
        ),
        "Hardware": ("trainer.devices", "trainer.precision"),
        "Output": ("out", "overwrite", "shard"),
    },
    "select": {
        "Rows": ("task", "pool", "pseudolabels"),
        "Strategy": ("strategy", "quota", "class_from", "options", "agreement", "min_words", "seed"),
        "Required by some strategies": ("dynamics", "embeddings", "target_embeddings"),
        "Output": ("out", "overwrite"),
    },
}  # fmt: skip
# Whose docstrings describe a command's settings, where no configuration says.
USUAL = {
    "fit": ("StudentModule", "TeacherModule", "MixedDataModule", "GoldDataModule"),
    "validate": ("ClassifierModule", "GoldDataModule"),
    "test": ("ClassifierModule", "GoldDataModule", "PairsDataModule"),
    "predict": (
        "TransformersGenerator", "TransformersTranslator", "PoolDataModule", "PromptDataModule", "TextDataModule",
    ),
}  # fmt: skip
# What is told of some settings in place of Lightning's own, longer words.
TOLD = {
    "data.max_length": "Longer rows are cut to this many tokens.",
    "model.optimizer": "Another optimizer, such as torch.optim.SGD, with settings of its own.",
    "model.lr_scheduler": "Another schedule than the linear one.",
    "seed_everything": "Seed of the head, of the order of rows and of dropout.",
    "trainer.max_epochs": "Number of epochs.",
    "trainer.accumulate_grad_batches": "Batches that make up one optimizer step.",
    "trainer.devices": "Number of devices, or a list of them.",
    "trainer.precision": "bf16-mixed, 16-mixed, 32-true and others; bf16 on a device that has it.",
}
CLASSES = {"model": "The class of the model", "data": "The class of the data"}
WIDTH = 34  # of the column of keys


def asks_for_page(words: Sequence[str]) -> bool:
    """Whether a command line asks for help, and not for all of it."""
    asked = [number for number, word in enumerate(words) if word in ("-h", "--help")]
    return bool(asked) and words[0] in PAGES and words[asked[0] + 1 : asked[0] + 2] != ["all"]


def without_all(words: Sequence[str]) -> list[str]:
    """`--help all` as the parser knows it: `--help`."""
    return [word for number, word in enumerate(words) if not (word == "all" and words[number - 1] in ("-h", "--help"))]


def page(words: Sequence[str], function: Callable[..., Any] | None = None) -> str:
    """The page of a command.

    Args:
        words: The command line after `main.py`, configs looked up; the values of its configs are shown.
        function: What the command calls, if it is a plain function.
    """
    command = words[0]
    options = [word for word in words[1:] if word not in ("-h", "--help")]
    values = merged(read_layers(options) or [])
    known = _of_function(function) if function is not None else _of_classes(command, values)
    lines = [f"usage: python main.py {command} --config FILE [--config FILE ...] [--KEY VALUE ...]", ""]
    lines += [*_stages(command), ""]
    for group, keys in PAGES[command].items():
        shown = [key for key in keys if _setting(key, known) is not None]
        lines += [f"{group}:", *(line for key in shown for line in _lines(key, known, values)), ""] if shown else []
    lines += _more(command, [] if function is not None else _named(values) or _one_of_each(USUAL[command]))
    return "\n".join(lines) + "\n"


def _stages(command: str) -> list[str]:
    """What the command does, stage by stage."""
    stages = [stage for stage in STAGES if stage.command == command]
    resumes = any(stage.writes is not None and stage.command in TRAINER_COMMANDS for stage in stages)
    return [
        *(f"  {stage.does:<40} --config {stage.config}" for stage in stages),
        *(["", "After a stop or a kill the same command resumes."] if resumes else []),
    ]


def _lines(key: str, known: Mapping[str, Setting], values: Mapping[str, Any]) -> list[str]:
    setting = _setting(key, known) or Setting(key, "", None, "")
    value = _value(key, values)
    default = (setting.default or "").strip("'") if value is None else str(value)
    told = TOLD.get(key) or _first_sentence(setting.help)
    choices = _choices(setting.annotation)
    told += f" One of {choices}." if choices and choices not in told else ""
    told += f" [{default}]" if default not in ("", "None") else ""
    head = f"  --{key}"
    wrapped = textwrap.wrap(told, max(_width() - WIDTH, 30)) or [""]
    first = [f"{head:<{WIDTH}}{wrapped[0]}"] if len(head) < WIDTH else [head, " " * WIDTH + wrapped[0]]
    return [*first, *(" " * WIDTH + line for line in wrapped[1:])]


def _setting(key: str, known: Mapping[str, Setting]) -> Setting | None:
    """What is known of a key; None for one that the class does not have, or that follows from another."""
    setting = known.get(key)
    return None if setting is None or "linked to" in setting.help else setting


def _named(values: Mapping[str, Any]) -> list[str]:
    """The classes that the configurations name."""
    return [name for key in CLASSES if (name := class_of(values, key)) is not None]


def _more(command: str, classes: Sequence[str]) -> list[str]:
    program = f"python main.py {command}"
    titles = ["All settings:", *["The settings of one class:", *[""] * len(classes)][: len(classes)], "All values:"]
    commands = ["--help all", *(f"--{_kind(name)}.help {name}" for name in classes), "--config FILE --print_config"]
    return [f"{title:<28}{program} {rest}" for title, rest in zip(titles, commands, strict=True)]


def _one_of_each(classes: Sequence[str]) -> list[str]:
    """The first model and the first DataModule."""
    return list({_kind(name): name for name in reversed(classes)}.values())[::-1]


def _kind(name: str) -> str:
    return "data" if name.endswith("DataModule") else "model"


def _of_classes(command: str, values: Mapping[str, Any]) -> dict[str, Setting]:
    """What is known of a Trainer command's settings, by key."""
    known = {key: Setting(key, "", None, told) for key, told in added_options().items()}
    known |= {f"trainer.{name}": setting for name, setting in trainer_settings(described=True).items()}
    for name in _named(values) or USUAL[command]:
        for setting, told in (settings_of(name, described=True) or {}).items():
            known.setdefault(f"{_kind(name)}.{setting}", told)
    return known | {key: Setting(key, "", None, f"{told}; its settings follow.") for key, told in CLASSES.items()}


def _of_function(function: Callable[..., Any]) -> dict[str, Setting]:
    told = docstring_parser.parse(inspect.getdoc(function) or "").params
    described = {one.arg_name: " ".join((one.description or "").split()) for one in told}
    return {
        name: Setting(
            name,
            "Literal" + str(list(typing.get_args(parameter.annotation)))
            if typing.get_origin(parameter.annotation) is typing.Literal
            else "",
            None if parameter.default is inspect.Parameter.empty else str(parameter.default),
            described.get(name, ""),
        )
        for name, parameter in inspect.signature(function).parameters.items()
    }


def _value(key: str, values: Mapping[str, Any]) -> Any:
    """What the configurations say; of a task or a class its name, of a source its path."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if isinstance(found, list) and found and all(isinstance(item, dict) and "path" in item for item in found):
        return ", ".join(item["path"] for item in found)
    if isinstance(found, dict):
        return next((found[name] for name in ("class_path", "name", "path") if name in found), ", ".join(found))
    return found


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\w\.)\s+(?=[A-Z`])", " ".join(text.split()))[0].replace("``", "`")


def _choices(annotation: str) -> str:
    """The words of a `Literal`, without the quotation marks."""
    match = re.match(r"Literal\[(.*)\]$", annotation)
    return match.group(1).strip("[]").replace("'", "") if match is not None else ""


def _width() -> int:
    return min(shutil.get_terminal_size((120, 24)).columns, 120)
