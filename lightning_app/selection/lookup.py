"""From a strategy's name and options to the function that scores rows."""

import difflib
import inspect
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from ..core.errors import InputError, shorten
from ..core.fingerprint import of_files
from ..core.user_code import file_of, import_file
from .strategies import BUILT_IN, Strategy


def find_strategy(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """A built-in strategy by its name, or `module.function` from the current folder, with its options set.

    Raises:
        InputError: If there is none, or it has no such option, or an option is of another type.
    """
    strategy = BUILT_IN[name] if name in BUILT_IN else _imported(name)
    try:
        parameters = list(inspect.signature(strategy).parameters.values())
    except (TypeError, ValueError):
        raise InputError(f"strategy '{name}': {shorten(strategy)}, expected a function of the class's rows") from None
    candidates = parameters[0].name if parameters else "candidates"
    parser = ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(strategy, skip={candidates}, fail_untyped=False)
    known = {parameter.name for parameter in parameters[1:] if parameter.kind is not parameter.VAR_KEYWORD}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    settings: dict[str, Any] = {}
    for option, value in (options or {}).items():
        if option not in known and not takes_any:
            close = difflib.get_close_matches(option, known, n=1)
            meant = f"did you mean '{close[0]}'?" if close else f"expected one of {sorted(known)}"
            remedy = meant if known else "expected none; this strategy has no options"
            raise InputError(f"strategy '{name}', options: '{option}' is not known, {remedy}")
        try:
            settings[option] = (
                parser.parse_object({option: value}, defaults=False)[option] if option in known else value
            )
        except (ArgumentError, TypeError, ValueError):
            expected = _plain(next(parameter.annotation for parameter in parameters if parameter.name == option))
            raise InputError(f"strategy '{name}', options: {option} is {shorten(value)}, expected {expected}") from None
    return partial(strategy, **settings)


def code_of(name: str) -> str | None:
    """The fingerprint of the file that holds a strategy of one's own: another version of it is another method."""
    return None if name in BUILT_IN else of_files([_file(name)])


def _plain(annotation: Any) -> str:
    """A type as it is written."""
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).removeprefix("typing.")


def _file(name: str) -> Path:
    """The file of a strategy of one's own.

    Raises:
        InputError: If the name is neither a built-in strategy's nor that of a file in the current folder.
    """
    module = name.rpartition(".")[0]
    file = file_of(module)
    if file is None:
        close = difflib.get_close_matches(name, BUILT_IN, n=1)
        meant = f", did you mean '{close[0]}'?" if close else ";"
        there = f" (there is no {module.replace('.', '/')}.py here)" if module else ""
        raise InputError(
            f"strategy '{name}': not one of {', '.join(BUILT_IN)}{there}{meant} "
            "Or name module.function of your own file"
        )
    return file


def _imported(name: str) -> Strategy:
    file, function = _file(name), name.rpartition(".")[2]
    strategy: Strategy | None = vars(import_file(file, f"strategy '{name}'")).get(function)
    if not callable(strategy):
        raise InputError(
            f"strategy '{name}': {file.name} has {shorten(strategy)} under this name, expected a function of the "
            "class's rows"
        )
    return strategy
