"""Fields in braces, as prompt files have them: names alone, without the widths and attributes of `str.format`."""

import re
from collections.abc import Mapping

_FIELD = re.compile(r"\{\{|\}\}|\{(\w+)\}|[{}]")


def names_in(template: str) -> set[str]:
    """The names that a template asks for.

    Raises:
        ValueError: If a brace is neither part of `{name}` nor written twice.
    """
    names = set()
    for found in _FIELD.finditer(template):
        if found[0] in ("{", "}"):
            raise ValueError(f"a lone '{found[0]}' before {template[found.end() : found.end() + 20]!r}")
        if found[1] is not None:
            names.add(found[1])
    return names


def fill(template: str, values: Mapping[str, object]) -> str:
    """Put values in the place of `{name}`; `{{` and `}}` become single braces."""

    def value_of(found: re.Match[str]) -> str:
        return found[0][0] if found[1] is None else str(values[found[1]])

    return _FIELD.sub(value_of, template)
