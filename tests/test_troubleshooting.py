"""The messages that docs/troubleshooting.md quotes are those of the program."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest
from conftest import PROJECT

ROOMS = ("lightning_app", "datamodules", "modules", "callbacks")
PAGE = (PROJECT / "docs/troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = [
    quoted[3:-3] if quoted.startswith("``") else quoted[1:-1] for quoted in re.findall("^> (`.*`)$", PAGE, re.MULTILINE)
]


def _messages(tree: ast.AST) -> Iterator[str]:
    """Every text in a file, with … for what is filled in: `{value}` of an f-string, `%s` of a log line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[-.\d]*[sdfg]", "…", node.value).replace("%%", "%")


@cache
def _all_messages() -> str:
    files = [file for room in ROOMS for file in sorted((PROJECT / room).rglob("*.py"))]
    return "\0".join(text for file in files for text in _messages(ast.parse(file.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_in_the_code(message: str):
    assert message in _all_messages()


def test_the_page_explains_many_messages_each_once():
    assert len(MESSAGES) == len(set(MESSAGES)) > 25
