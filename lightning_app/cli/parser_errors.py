"""What jsonargparse says over a dozen lines about a value of the wrong kind, in one."""

import re

from ..core.errors import shorten
from ..stages import STAGES

_KEY = re.compile(r'Parser key "([\w.\-]+)"')
_EXPECTED = re.compile(r"Expected an? (<class '[\w.]+'>|typing\.Literal\[.*?\])")
_GOT = re.compile(r"Expected an? (.+?)\. Got value: (.*)")
_GIVEN = re.compile(r"Given value: (.*?)(?:\. Got value: .*)?$", re.MULTILINE)
_NESTED = re.compile(r"NestedArg\(key='[\w.]+', val=(.*)\)$")
_NO_CLASS = re.compile(r"Expected a dot import path string: (\S+)")
_CALLABLE_FAILS = re.compile(
    r"expects a function or a callable class: (?!Parser key)(.+?)\.*(?: Got value: .*)?$", re.MULTILINE
)
_CLASS_FAILS = re.compile(r"Problem with given class_path '(\S+)':\s+(\S.*)")
_REQUIRED = re.compile(r"the following arguments are required: ([\w.\-, ]+)")
_SOURCE = "labelbridge.lightning_app.data.readers.Source"


def missing_settings(message: str, command: str) -> str | None:
    """The error for settings that a command requires, with a way to begin; None for any other mistake.

    Args:
        message: The parser's message.
        command: The command's name.
    """
    required = _REQUIRED.search(message)
    if required is None:
        return None
    keys = [key.removeprefix(f"{command}.").split(".")[0] for key in required.group(1).split(", ")]
    inside = [*dict.fromkeys(_KEY.findall(message))]
    if len(inside) > 1:  # an argument of a class inside another one, such as model.lr_scheduler.T_max
        return f"{'.'.join([*inside, keys[0]])} is not given; give it on the command line, or in a config file"
    return not_given(list(dict.fromkeys(keys)), command)


def not_given(keys: list[str], command: str) -> str:
    """Say that keys are not given, and how the command is usually begun."""
    if command == "peek":
        return f"{keys[0]} is not given; name the artifact's folder, such as: python main.py peek runs/select"
    configs = (stage.config for stage in STAGES if stage.command == command and stage.config is not None)
    config = next(configs, f"{command}.yaml")
    names = " and ".join(keys)
    verb, them = ("is", "it") if len(keys) == 1 else ("are", "them")
    begin = f"begin with python main.py {command} --config {config}"
    return f"{names} {verb} not given; {begin}, or give {them} on the command line"


def wrong_value(message: str, command: str) -> tuple[str, str] | None:
    """The key at fault, and what is wrong with it.

    Args:
        message: The parser's message: nested, with one branch for each type that a value might have had.
        command: The command's name.

    Returns:
        The key in full, and `is VALUE, expected TYPES` with a remedy where there is one; None for any other mistake.
    """
    keys = list(dict.fromkeys(_KEY.findall(message)))
    value = _value(message)
    if not keys or value is None:
        return None
    key = ".".join(keys)
    got = _GOT.search(message)
    types = [got.group(1)] if got is not None else _EXPECTED.findall(message)
    expected = " or ".join(dict.fromkeys(_plain(one) for one in types if "NoneType" not in one))
    if (wrong := _wrong_class(message, value, can_be_another=bool(expected))) is not None:
        return key, wrong
    if _SOURCE in message and got is None:
        return key, f"is {shorten(value)}, expected a source of rows: a path, a map with `path`, or a list of these"
    if value == "None":
        return key, not_given([key], command).removeprefix(f"{key} ")
    if expected:
        return key, f"is {shorten(value)}, expected {expected}"
    fails = _CLASS_FAILS.search(message)
    return (
        (key, f"is {fails.group(1)}, which cannot be made ({fails.group(2)}); name a class that is there")
        if fails
        else None
    )


def _wrong_class(message: str, value: str, can_be_another: bool) -> str | None:
    """What is wrong with the name of a class, where one is expected and nothing else."""
    if (fails := _CALLABLE_FAILS.search(message)) is not None:
        return f"is {shorten(value)}: {fails.group(1)}; name a class in full, such as torch.optim.SGD"
    no_class = _NO_CLASS.search(message)
    if no_class is None or _SOURCE in message or can_be_another:
        return None
    return f"is {shorten(no_class.group(1))}, expected a class; see python main.py COMMAND --help"


def _value(message: str) -> str | None:
    """The value, as it was given."""
    found = _GOT.search(message) or next(iter(_GIVEN.finditer(message)), None)
    if found is None:
        return None
    value = found.groups()[-1]
    nested = _NESTED.match(value)
    return nested.group(1).strip("'\"") if nested is not None else value


def _plain(expected: str) -> str:
    """`<class 'int'>` and `typing.Literal['a', 'b']` as one would say them."""
    return re.sub(r"<class '([\w.]+)'>", r"\1", re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", expected))
