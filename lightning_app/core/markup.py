"""Texts on their way into Markdown: a name is shown as it is, whatever signs it has."""

import re

from .errors import printable

# Signs that begin markup, end a cell of a table, or open a tag.
_MARKUP = re.compile(r"([\\`*|\[\]])")
_TAGS = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def inline(text: object) -> str:
    """A text for a line, a heading or a cell of a table: on one line, its markup escaped."""
    plain = _MARKUP.sub(r"\\\1", " ".join(str(text).split()))
    return printable(plain.translate(_TAGS))


def code(text: object) -> str:
    """A text for between two backticks, in which nothing can be escaped; a backtick becomes an apostrophe."""
    return printable(" ".join(str(text).split())).replace("`", "'").replace("|", "¦")
