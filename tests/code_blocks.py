"""The code blocks of the documentation, for the tests that execute them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conftest import PROJECT

PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md"), PROJECT / "samples/README.md"])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line it begins at, its language, the heading above, and its text."""

    page: str
    line: int
    language: str
    heading: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that the first line, a comment, or of a diff the line `--- PATH`, names."""
        named = re.match(r"(?:#|---) ([\w./-]+\.(?:py|yaml))\b", self.text)
        return named.group(1) if named else None

    def commands(self) -> list[list[str]]:
        """The command lines of a shell block as words, with the variables that the page sets filled in."""
        set_there = re.findall(r"""^(\w+)=(["'])(.*?)\2$""", _joined((PROJECT / self.page).read_text()), re.MULTILINE)
        variables = {f"${name}": value.split() for name, _, value in set_there}
        lines = [shlex.split(line, comments=True) for line in _joined(self.text).splitlines()]
        return [
            [part for word in words for part in variables.get(word, [word])]
            for words in lines
            if words and f"${words[0].split('=')[0]}" not in variables
        ]


def _joined(text: str) -> str:
    """Lines that end with a backslash, joined to the next."""
    return text.replace("\\\n", " ")


def blocks(page: Path) -> Iterator[Block]:
    """All blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        headings = re.findall(r"^##+ (.+)$", before, re.MULTILINE)  # one sign may begin a comment in a block
        line, heading = before.count("\n") + 1, headings[-1] if headings else ""
        yield Block(page.relative_to(PROJECT).as_posix(), line, match.group(1), heading, match.group(2))


ALL = [block for page in PAGES for block in blocks(page)]


def of_language(language: str) -> list[Block]:
    """All blocks in a language."""
    return [block for block in ALL if block.language == language]


def apply_diff(text: str, diff: str) -> str:
    """Apply a block of context, removed and added lines; the first line names the file.

    Raises:
        AssertionError: If the lines are not in the text exactly once.
    """
    lines = diff.splitlines()[1:]
    old = "".join(line[1:] + "\n" for line in lines if line[0] in " -")
    new = "".join(line[1:] + "\n" for line in lines if line[0] in " +")
    assert text.count(old) == 1, f"{diff.splitlines()[0]}: {text.count(old)} places for\n{old}"
    return text.replace(old, new)
