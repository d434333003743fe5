"""The one exception that stands for a mistake in the user's input, or for what the operating system refuses."""

import difflib
import errno
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .program import as_called


class InputError(Exception):
    """Something the user can put right: a bad row, a wrong key, a missing artifact.

    The message is one line: the place, the value found, what was expected, and what to do next. Commands print it
    without a traceback and exit with status 2.
    """

    def __str__(self) -> str:
        return as_called(super().__str__())


def printable(text: str) -> str:
    """A text without what a terminal would obey: control signs and marks that turn the writing direction, escaped."""
    return "".join(
        sign.encode("unicode_escape").decode() if sign in _TURNING or _is_control(sign) else sign for sign in text
    )


def _is_control(sign: str) -> bool:
    return sign not in "\n\t" and unicodedata.category(sign) in ("Cc", "Cs")


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded: one with half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shorten(value: object, width: int = 60) -> str:
    """Show a value inside an error line: quoted, on one line, cut to `width` characters."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"


def closest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of an error about a name that is not known: `did you mean 'top'?`, or what is expected.

    Args:
        name: What was given.
        known: The names that there are.
        otherwise: What to say if none of them is like it, in the place of their list.
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return otherwise or (f"expected one of {', '.join(known)}" if known else "expected none")


# Marks that turn the writing direction of what follows, and could have a line read as another.
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
# What to do about an error of the operating system; what is finished stays on the disk, so most runs can go on.
_REMEDIES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some of your quota and run the same command again",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) and run the same command again",
    errno.EMFILE: "raise the limit on open files (ulimit -n) and run the same command again",
    errno.ENFILE: "close other programs and run the same command again",
    errno.EROFS: "choose another folder",
    errno.EACCES: "change its permissions, or choose another path",
    errno.EPERM: "change its permissions, or choose another path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of this path is a file; choose another path",
    errno.EISDIR: "a folder is in the place of a file; remove it, or choose another path",
    errno.EEXIST: "something else is in its place; remove it, or choose another path",
    errno.ELOOP: "a link leads back to itself; remove it, or choose another path",
    errno.EIO: "check the disk",
    errno.ENOMEM: "free some memory and run the same command again",
}


@contextmanager
def system_errors(path: Path | str) -> Iterator[None]:
    """Have what the operating system refuses inside told with a path, also where a library tells it in its own words.

    Args:
        path: What is being written or read, if the error itself does not say.

    Raises:
        InputError: If the operating system refuses.
    """
    try:
        yield
    except Exception as error:
        if (refusal := refusal_in(error)) is None:
            raise
        raise system_error(refusal, path) from error


def refusal_in(error: BaseException | None) -> OSError | None:
    """What the operating system has refused, in a chain of exceptions; None where it is something else.

    Libraries written in Rust say `(os error 28)` in errors of other types.
    """
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, InputError):
            return None
        if isinstance(error, OSError) and error.errno is not None:
            return error
        if (told := _IN_WORDS.search(str(error))) is not None:
            return OSError(int(told[1]), os.strerror(int(told[1])))
        error = error.__cause__ or error.__context__
    return None


_IN_WORDS = re.compile(r"\(os error (\d{1,3})\)")


def system_error(error: OSError, path: Path | str | None = None) -> InputError:
    """An error of the operating system as one line: the path, what is wrong with it, and what to do.

    Args:
        error: The error.
        path: What was being read or written, if the error itself does not say.
    """
    place = error.filename if error.filename is not None else path
    if isinstance(place, bytes):
        place = place.decode(errors="replace")
    reason = (error.strerror or str(error) or type(error).__name__).split("\n")[0]
    named = f"{shorten(str(place), 200)[1:-1]}: " if place is not None else ""
    return InputError(f"{named}{reason}; {_REMEDIES.get(error.errno or 0, 'check the path and the disk')}")
