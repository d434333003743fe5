"""Options that mean something only beside others: declared in their annotations, checked when a command is called."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar, get_origin

from .errors import InputError, shorten

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class With:
    """An option that has an effect only with another: `Annotated[bool, With("html")]`.

    Args:
        option: The other option.
    """

    option: str

    def check(self, name: str, value: Any, values: Mapping[str, Any]) -> None:
        """Refuse the option where the other is not given.

        Raises:
            InputError: Names the two.
        """
        if values[self.option] in (None, False):
            raise InputError(
                f"{name} is {shorten(value)} without {self.option}, so that it has no effect; give {self.option} too, "
                f"or leave {name} out"
            )


@dataclass(frozen=True)
class Without:
    """An option that has no effect beside another.

    Args:
        option: The other option.
        why: What the other one does, for the error.
    """

    option: str
    why: str

    def check(self, name: str, value: Any, values: Mapping[str, Any]) -> None:
        """Refuse the option where the other is given.

        Raises:
            InputError: Names the two.
        """
        if values[self.option] not in (None, False):
            raise InputError(
                f"{name} is {shorten(value)} with {self.option}, which {self.why}; leave one of the two out"
            )


def check_pairings(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator: an option that differs from its default is checked by `With` and `Without` in its annotation."""
    signature = inspect.signature(function)
    marks = {
        name: [mark for mark in argument.annotation.__metadata__ if isinstance(mark, With | Without)]
        for name, argument in signature.parameters.items()
        if get_origin(argument.annotation) is Annotated
    }

    @wraps(function)
    def checking(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind_partial(*args, **kwargs)
        bound.apply_defaults()
        for name, ways in marks.items():
            value = bound.arguments.get(name)
            for way in ways if value != signature.parameters[name].default else ():
                way.check(name, value, bound.arguments)
        return function(*args, **kwargs)

    return checking
