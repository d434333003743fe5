"""What classes of the rooms and Lightning's Trainer accept, read from their source: importing them takes seconds."""

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from ..core.task import Task

PACKAGE = Path(__file__).parents[2]  # `labelbridge`, which holds the rooms
ROOMS = ("modules", "datamodules", "callbacks")
# What a setting that names a class may be followed by.
CLASS_KEYS = ("class_path", "init_args", "dict_kwargs", "help")
TRAINER = "trainer/trainer.py"
CLI = "cli.py"


@dataclass(frozen=True)
class Setting:
    """One argument of a class.

    Args:
        name: Its name.
        annotation: Its type, as it is written.
        default: Its default, as it is written; None for a required argument.
        help: What the class's docstring says of it.
    """

    name: str
    annotation: str
    default: str | None
    help: str


@cache
def settings_of(name: str, *, described: bool = False) -> dict[str, Setting] | None:
    """The arguments of a class of the rooms, those that it passes on to its base classes included.

    Args:
        name: The class's name, such as `TeacherModule`, or its full path.
        described: Read the docstrings too, which takes longer than all the rest.

    Returns:
        Name -> setting; None for a class from elsewhere.
    """
    parts = name.split(".")
    if len(parts) > 1 and (parts[0] != "labelbridge" or len(parts) != 3):
        return None
    for room in ROOMS if len(parts) == 1 else (parts[1],):
        tree = _parse(PACKAGE / room / "__init__.py")
        file = _imported(tree, PACKAGE / room).get(parts[-1]) if tree is not None else None
        if file is not None:
            return _settings(file, parts[-1], described)
    return None


@cache
def trainer_settings(*, described: bool = False) -> dict[str, Setting]:
    """The arguments of Lightning's Trainer; see `settings_of`."""
    return _settings(_lightning(TRAINER), "Trainer", described)


@cache
def parser_keys(subcommand: str, callbacks: tuple[tuple[str, str], ...]) -> frozenset[str]:
    """Every key that a Trainer command's parser knows, but for those of the model and the data.

    Args:
        subcommand: `fit`, `validate`, `test` or `predict`.
        callbacks: The key and the class of each callback that every run has.
    """
    keys = {"help", "print_config", "model", "model.help", "data", "data.help", "trainer", *added_options()}
    keys |= {f"task.{field.name}" for field in fields(Task)}
    keys |= {f"trainer.{name}" for name in trainer_settings()}
    for key, name in callbacks:
        settings = settings_of(name) or {}
        keys |= {key, *(f"{key}.{setting}" for setting in settings)} if settings else set()
    return frozenset(keys | (_arguments(_lightning(TRAINER), "Trainer", subcommand) - _skipped(subcommand)))


@cache
def added_options() -> dict[str, str]:
    """The options that Lightning's CLI and ours add one by one, and what their help says."""
    files = [_lightning(CLI), *(PACKAGE / "lightning_app/cli").glob("*.py")]
    calls = (node for file in files for node in ast.walk(_parse(file) or ast.Module([], [])))
    return {
        argument.value.removeprefix("--"): _help(call)
        for call in calls
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and argument.value.startswith("--")
    }


def _help(call: ast.Call) -> str:
    words = next((keyword.value for keyword in call.keywords if keyword.arg == "help"), None)
    return str(words.value) if isinstance(words, ast.Constant) else ""


def _skipped(subcommand: str) -> set[str]:
    """The arguments of a Trainer's method that LightningCLI fills in itself."""
    for node in ast.walk(_parse(_lightning(CLI)) or ast.Module([], [])):
        if isinstance(node, ast.FunctionDef) and node.name == "subcommands":
            returned = next(part for part in node.body if isinstance(part, ast.Return) and part.value is not None)
            table: dict[str, set[str]] = ast.literal_eval(returned.value) if returned.value is not None else {}
            return table.get(subcommand, set())
    return set()


def _lightning(file: str) -> Path:
    spec = importlib.util.find_spec("lightning")  # imports nothing
    folders = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(folders or [""]))) / "pytorch" / file


def _settings(file: Path, name: str, described: bool) -> dict[str, Setting]:
    tree = _parse(file)
    node = _class(tree, name)
    if tree is None or node is None:
        return {}
    settings: dict[str, Setting] = {}
    function = _function(node, "__init__")
    if function is not None:
        docstring = ast.get_docstring(node) or ast.get_docstring(function) or ""
        told = descriptions(docstring) if described else {}
        settings = {one.name: one for one in _of_function(function, told)}
        if function.args.kwarg is None:
            return settings
    for base in (base.id for base in node.bases if isinstance(base, ast.Name)):
        elsewhere = _imported(tree, file.parent).get(base)
        inherited = _settings(elsewhere or file, base, described)
        settings = {**inherited, **settings}
    return settings


def _arguments(file: Path, name: str, method: str) -> set[str]:
    node = _class(_parse(file), name)
    function = _function(node, method) if node is not None else None
    return {one.name for one in _of_function(function, {})} if function is not None else set()


def _of_function(function: ast.FunctionDef, told: dict[str, str]) -> Iterator[Setting]:
    plain, named = function.args.args[1:], function.args.kwonlyargs  # without `self`
    defaults: list[ast.expr | None] = [*[None] * (len(plain) - len(function.args.defaults)), *function.args.defaults]
    pairs = [*zip(plain, defaults, strict=True), *zip(named, function.args.kw_defaults, strict=True)]
    for argument, default in pairs:
        annotation = ast.unparse(argument.annotation) if argument.annotation is not None else ""
        written = ast.unparse(default) if default is not None else None
        yield Setting(argument.arg, annotation, written, told.get(argument.arg, ""))


def descriptions(docstring: str) -> dict[str, str]:
    """What the `Args` of a docstring say of each argument."""
    import docstring_parser

    return {one.arg_name: " ".join((one.description or "").split()) for one in docstring_parser.parse(docstring).params}


def _imported(tree: ast.Module | None, folder: Path) -> dict[str, Path]:
    """The files of the project that a module's names come from."""
    found: dict[str, Path] = {}
    for node in tree.body if tree is not None else []:
        if not isinstance(node, ast.ImportFrom):
            continue
        parts = (node.module or "").split(".")
        if node.level == 0 and parts[0] != "labelbridge":
            continue
        start = folder.joinpath(*[".."] * (node.level - 1)) if node.level else PACKAGE
        file = start.joinpath(*(parts if node.level else parts[1:])).with_suffix(".py")
        found.update({alias.asname or alias.name: file for alias in node.names})
    return found


def _class(tree: ast.Module | None, name: str) -> ast.ClassDef | None:
    body = tree.body if tree is not None else []
    return next((node for node in body if isinstance(node, ast.ClassDef) and node.name == name), None)


def _function(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == name), None)


@cache
def _parse(file: Path) -> ast.Module | None:
    return ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else None
