"""Ranges of numbers: written into the annotation of an argument, checked where a value is given."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_origin

from .errors import InputError, shorten

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Range:
    """Which numbers an argument takes, as part of its annotation: `Annotated[float, Range(least=0, below=1)]`.

    Args:
        least: The smallest allowed number.
        above: A number that it must exceed.
        most: The largest allowed number.
        below: A number that it must stay under.
        remedy: The end of the error line, where the range does not say it all.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    remedy: str = ""

    def __repr__(self) -> str:
        return self.of("x")

    def of(self, name: str) -> str:
        """The range of a setting, as in `0 < top_p <= 1`."""
        low = f"{self.least} <= " if self.least is not None else f"{self.above} < " if self.above is not None else ""
        high = f" <= {self.most}" if self.most is not None else f" < {self.below}" if self.below is not None else ""
        return f"{low}{name}{high}"

    def check(self, name: str, value: Any) -> None:
        """Refuse a number outside of the range, or one that is none.

        Args:
            name: The setting's name, such as `model.top_p`, or `gold.csv: stop`.
            value: The number; null is not checked.

        Raises:
            InputError: Names the setting, its value and the range, as in `model.top_p is 1.4, expected 0 < top_p <= 1`.
        """
        if value is None:
            return
        fits = (
            isinstance(value, int | float)
            and math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )
        if not fits:
            remedy = f"; {self.remedy}" if self.remedy else ""
            bare = name.rpartition(" ")[2].rpartition(".")[2]
            raise InputError(f"{name} is {shorten(value)}, expected {self.of(bare)}{remedy}")


# What no run reaches, and what is still a number to every library.
MOST, MOST_TOKENS = 1_000_000_000, 1_000_000
FEWEST_TOKENS = 4  # of a row: two texts of a token each, and what is put around them
PositiveInt = Annotated[int, Range(least=1, most=MOST)]
NonNegativeInt = Annotated[int, Range(least=0, most=MOST)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(least=0)]
Share = Annotated[float, Range(least=0, most=1)]
Seed = Annotated[int, Range(least=0, below=2**32)]
Threads = Annotated[int, Range(least=0, most=1024)]
Tokens = Annotated[int, Range(least=1, most=MOST_TOKENS)]
Length = Annotated[int, Range(least=FEWEST_TOKENS, most=MOST_TOKENS)]
Rate = Annotated[float, Range(least=0, below=1, remedy="0 turns it off")]
Epsilon = Annotated[float, Range(above=0, most=1)]
Strength = Annotated[float, Range(least=0, most=100, remedy="0 turns it off")]
Part = Annotated[float, Range(least=0, most=1, remedy="0 turns it off")]
Clip = Annotated[float, Range(above=0, remedy="null turns it off")]
Turn = Annotated[float, Range(above=0, below=1)]


def range_of(annotation: Any) -> Range | None:
    """The range in an annotation, also in that of an argument that may be null; None where there is none."""
    annotated = (part for part in (annotation, *get_args(annotation)) if get_origin(part) is Annotated)
    found = (mark for part in annotated for mark in part.__metadata__ if isinstance(mark, Range))
    return next(found, None)


def check_ranges(place: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: numbers are checked against the ranges in the annotations whenever the function is called.

    Args:
        place: What stands before an argument's name in a configuration, such as `model.`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        ranges = {name: range_of(argument.annotation) for name, argument in signature.parameters.items()}

        @wraps(function)
        def checking(*args: P.args, **kwargs: P.kwargs) -> R:
            for name, value in signature.bind_partial(*args, **kwargs).arguments.items():
                if (limits := ranges[name]) is not None:
                    limits.check(f"{place}{name}", value)
            return function(*args, **kwargs)

        return checking

    return decorate


def check_fields(of: Any, place: str) -> None:
    """The same for the fields of a dataclass, in its `__post_init__`."""
    for field in fields(of):
        if (limits := range_of(field.type)) is not None:
            limits.check(f"{place}{field.name}", getattr(of, field.name))
