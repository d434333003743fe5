"""From a strategy's name and options to the function that scores rows."""

import inspect
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from ..core.errors import InputError, closest, shorten
from ..core.fingerprint import of_files
from ..core.ranges import range_of
from ..core.user_code import file_of, import_file
from .strategies import BUILT_IN, Strategy

EXPECTED = "a function of the class's rows that returns a number for each"


def find_strategy(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """A built-in strategy by its name, or `module.function` from the current folder, with its options set.

    Raises:
        InputError: If there is none, or see `with_options`.
    """
    return with_options(BUILT_IN[name].function if name in BUILT_IN else _imported(name), name, options or {})


def with_options(strategy: Strategy, name: str, options: Mapping[str, Any]) -> Strategy:
    """A strategy with its options set.

    Args:
        strategy: A function of a class's rows.
        name: What an error calls it.
        options: Values of its further parameters.

    Raises:
        InputError: If it has no such option, or an option is of another type or outside of the range in its
            annotation, or it cannot be called with the rows of a class and these options.
    """
    try:
        signature = inspect.signature(strategy)
    except (TypeError, ValueError):
        raise InputError(f"strategy '{name}': {shorten(strategy)}, expected {EXPECTED}") from None
    parameters = list(signature.parameters.values())
    parser = ArgumentParser(exit_on_error=False)
    if options:  # the parser finds nothing to check in a function that was made without a module
        parser.add_function_arguments(
            strategy.func if isinstance(strategy, partial) else strategy, nested_key="options", fail_untyped=False,
            skip={parameter.name for parameter in parameters[:1]},
        )  # fmt: skip
    known = {parameter.name for parameter in parameters[1:] if parameter.kind is not parameter.VAR_KEYWORD}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    settings: dict[str, Any] = {}
    for option, value in options.items():
        if option not in known and not takes_any:
            raise InputError(f"strategy '{name}', options: {shorten(option)} is not known, {_remedy(option, known)}")
        try:
            parsed = parser.parse_object({"options": {option: value}}, defaults=False) if option in known else None
            settings[option] = value if parsed is None else parsed["options"][option]
        except (ArgumentError, TypeError, ValueError):
            annotation = signature.parameters[option].annotation
            limits = range_of(annotation)
            expected = _plain(annotation) if limits is None else limits.of(option)
            raise InputError(f"strategy '{name}', options.{option} is {shorten(value)}, expected {expected}") from None
        if option in known and (limits := range_of(signature.parameters[option].annotation)) is not None:
            limits.check(f"strategy '{name}', options.{option}", settings[option])
    try:
        signature.bind(None, **settings)
    except TypeError as error:
        raise InputError(f"strategy '{name}': {error}; expected {EXPECTED}, the rest in `options`") from None
    return partial(strategy, **settings)


def _remedy(option: str, known: set[str]) -> str:
    """What to do about an option that a strategy does not have."""
    having = [name for name, known in BUILT_IN.items() if option in inspect.signature(known.function).parameters]
    theirs = f"it is an option of {', '.join(having)}; choose that strategy, or leave this option out"
    return closest(option, sorted(known), theirs if having else "")


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
        there = f" (there is no {module.replace('.', '/')}.py here)" if module else ""
        remedy = closest(name, BUILT_IN, "for your own, give module.function of a file in this folder")
        raise InputError(f"strategy {shorten(name)}: not one of {', '.join(BUILT_IN)}; {remedy}{there}")
    return file


def _imported(name: str) -> Strategy:
    file, function = _file(name), name.rpartition(".")[2]
    strategy: Strategy | None = vars(import_file(file, f"strategy '{name}'")).get(function)
    if not callable(strategy):
        raise InputError(f"strategy '{name}': {file.name} has {shorten(strategy)} under this name, expected {EXPECTED}")
    return strategy
