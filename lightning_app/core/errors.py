"""The one exception that stands for a mistake in the user's input."""

from .program import as_called


class InputError(Exception):
    """Something the user can put right: a bad row, a wrong key, a missing artifact.

    The message is one line: the place, the value found, what was expected, and what to do next. Commands print it
    without a traceback and exit with status 2.
    """

    def __str__(self) -> str:
        return as_called(super().__str__())


def shorten(value: object, width: int = 60) -> str:
    """Show a value inside an error line: quoted, on one line, cut to `width` characters."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"
